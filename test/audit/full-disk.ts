// A process that fills the disk of its audit chain, gets room again and goes on. Run by trail.test.ts:
//
//   node full-disk.ts <directory> <command that makes room>
//
// Its store is in memory, so that nothing but the chain needs the disk. Prints what it was told, as JSON.

import { execFileSync } from 'node:child_process'
import { HoldfastError } from '../../src/lib/errors.ts'
import { openKernel } from '../../src/kernel/open-kernel.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { verifyAudit } from '../../src/audit/verify.ts'

const [directory, makeRoom] = process.argv.slice(2) as [string, string]
const store = memoryStore()
const events: string[] = []
const kernel = await openKernel({
  store,
  data: directory,
  leasing: 'off',
  budgets: { acme: { calls: 1_000_000 } },
  onEvent: ({ type }) => events.push(type),
})
const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
// Not a power of two, so that the last record of a full disk is one that was cut short.
const action = { kind: 'model', resource: `m${'x'.repeat(700)}`, worst: { calls: 1 } }
const failures: Record<string, number> = {}
const open = [await scope.begin(action)]

async function attempts(count: number): Promise<number> {
  let begun = 0
  for (let index = 0; index < count; index++) {
    try {
      open.push(await scope.begin(action))
      begun += 1
    } catch (error) {
      if (!HoldfastError.isInstance(error)) throw error
      const kind = /\d+ of \d+ bytes/.test(error.message) ? 'cut short' : 'nothing written'
      failures[`${error.code}: ${kind}`] = (failures[`${error.code}: ${kind}`] ?? 0) + 1
    }
  }
  return begun
}

const heldInStore = async (): Promise<number> => (await store.list('hold/', { limit: 10_000 })).length
const begunBefore = await attempts(600)
const whenFull = { held: await heldInStore(), verdicts: await verifyAudit(directory, store), failures: { ...failures } }
const answered = open.shift()!
// Larger than what is left, so that it does not fit either.
await answered.settle({ calls: 1 }, { responseId: 'r'.repeat(10_000) })
const settled = { state: answered.state, events: [...events], spent: (await kernel.budgets())[0]?.spent }
execFileSync('/bin/sh', ['-c', makeRoom], { env: { ...process.env, TARGET: String(process.pid) }, stdio: 'inherit' })
const begunLater = await attempts(10)
await kernel.close()
const verdicts = await verifyAudit(directory, store)
process.stdout.write(JSON.stringify({ begunBefore, whenFull, settled, begunLater, failures, verdicts }))
