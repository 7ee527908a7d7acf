// A process that wants approved things. Run by approvals.test.ts:
//
//   node approver.ts <directory> <calls> <callers>
//
// Says that it is ready, waits for a line, then begins every call from many callers at once. Prints how many of them
// passed, by call.

import { once } from 'node:events'
import { openKernel } from '../../src/kernel/open-kernel.ts'
import { fileStore } from '../../src/stores/file.ts'

const [directory, calls, callers] = process.argv.slice(2) as [string, string, string]
const store = fileStore(directory, { durability: 'os' })
const kernel = await openKernel({ store, budgets: { acme: { calls: 1_000_000 } }, rules: [{ effect: 'ask', tool: 'pay' }] })
const scope = kernel.scope({ agent: 'ann', task: 't', budget: 'acme' })

async function passes(call: number): Promise<number> {
  const begun = Array.from({ length: Number(callers) }, async () => {
    try {
      await scope.begin({ kind: 'tool', resource: 'pay', args: { call }, worst: { calls: 1 } })
      return 1
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_APPROVAL_REQUIRED') throw error
      return 0
    }
  })
  return (await Promise.all(begun)).reduce<number>((sum, one) => sum + one, 0)
}

process.stdout.write('ready\n')
await once(process.stdin, 'data')
const passed: number[] = []
for (let call = 0; call < Number(calls); call++) passed.push(await passes(call))
process.stdout.write(`${JSON.stringify(passed)}\n`)
await kernel.close()
await store.close()
process.stdin.destroy()
