// A process that has just begun: `node cold-start.ts <options as JSON>`. It makes a few calls, leaves some under way,
// says so, and waits to be killed.

import { openKernel } from '../../src/kernel/open-kernel.ts'
import { fileStore } from '../../src/stores/file.ts'
import type { ColdStart } from './stranded.test.ts'

const { directory, data, budget, calls, open, worst, used } = JSON.parse(process.argv[2]!) as ColdStart
process.once('disconnect', () => process.exit(1))
const store = fileStore(directory, { durability: 'os' })
// Reports come so late that what is in the store is what the takes have put there.
const kernel = await openKernel({ store, data, leaseTtlMs: 600_000, onEvent: () => undefined })
const scope = kernel.scope({ agent: 'starter', task: 'start', budget })
const begin = () => scope.begin({ kind: 'tool', resource: 'spend', worst: { tokens: worst } })
for (let call = 0; call < calls; call++) await (await begin()).settle({ tokens: used })
for (let call = 0; call < open; call++) await begin()
process.send!('done')
setInterval(() => undefined, 60_000)
