// The tests as the deep check runs them: random histories begin at the seed of HOLDFAST_SEED.

import { join } from 'node:path'
import { mergeConfig } from 'vitest/config'
import base from '../vitest.config.ts'

export default mergeConfig(base, { root: join(import.meta.dirname, '..'), test: { setupFiles: ['checks/seed.ts'] } })
