// A process of its own that spends from a lease until it is killed: `node worker.ts <options as JSON>`. It says what
// it knows itself to have spent, before and after each call, so that its parent has a bill of its own.

import { cpSync } from 'node:fs'
import { openKernel } from '../../src/kernel/open-kernel.ts'
import { sleep } from '../../src/lib/clock.ts'
import { fileStore } from '../../src/stores/file.ts'
import type { WorkerOptions } from './workers.ts'

const { directory, budget, calls, open, handoff, reads = false } = JSON.parse(process.argv[2]!) as WorkerOptions
process.once('disconnect', () => process.exit(1))
const store = fileStore(directory, { durability: 'os' })
const kernel = await openKernel({ store, waitMs: 2_000, leaseTtlMs: 400, leasing: 'auto', onEvent: () => undefined })
const giver = kernel.scope({ agent: 'worker', task: 'work', budget })
const scope =
  handoff === undefined ? giver : (await giver.handoff({ to: 'helper', budget: { tokens: handoff }, instruction: 'Work.' })).scope
const begin = () => scope.begin({ kind: 'tool', resource: 'spend', worst: { tokens: 10 } })
for (let call = 0; call < calls; call++) {
  const hold = await begin()
  if (call % 10 === 9) await hold.release('not sent')
  else await hold.settle({ tokens: 7 })
}
// Nobody will know what these have used.
for (let call = 0; call < open; call++) await begin()
if (reads) cpSync(directory, `${directory}-copy`, { recursive: true })
process.send!('done')
await sleep(600_000)
