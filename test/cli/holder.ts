// A process of its own that holds money and waits to be killed: `node holder.ts <data> <options as JSON>`.

import { openKernel } from '../../src/kernel/open-kernel.ts'
import { fileStore } from '../../src/stores/file.ts'
import type { HolderOptions } from './cli-bench.ts'

const [data, json] = process.argv.slice(2) as [string, string]
const { budget, worst, mode = 'enforce', behindMs = 0, settle = false, leaseTtlMs = 10_000 } = JSON.parse(json) as HolderOptions
const clock = { now: () => Date.now() - behindMs }
const kernel = await openKernel({ store: fileStore(data, { clock }), clock, mode, leaseTtlMs })
const hold = await kernel.scope({ agent: 'writer', task: 'chapter', budget }).begin({ kind: 'model', resource: 'gpt-5.5', worst })
if (settle) await hold.settle(worst)
process.stdout.write('held\n')
setInterval(() => undefined, 60_000)
