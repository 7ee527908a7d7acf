// A process that is killed in the middle of an action. Run by trail.test.ts:
//
//   node killed.ts <directory> <where>
//
// `begun`: right after `begin` has returned. `running`: inside the function that `run` calls. `settled`: right
// after `settle` has returned. `refused`: right after a refusal.

import { openKernel } from '../../src/kernel/open-kernel.ts'
import { fileStore } from '../../src/stores/file.ts'

const [directory, where] = process.argv.slice(2) as [string, string]
const kernel = await openKernel({
  store: fileStore(directory),
  budgets: { acme: { calls: 10 } },
  rules: [{ effect: 'allow', tool: 'send' }],
})
const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
const action = { kind: 'tool', resource: 'send', args: { to: 'bob' }, worst: { calls: 1 } }

function die(): never {
  process.kill(process.pid, 'SIGKILL')
  // Not one line of this process runs any more.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  throw new Error('SIGKILL did not arrive.')
}

if (where === 'running') await scope.run(action, async () => die())
if (where === 'refused') await scope.begin({ ...action, resource: 'other' }).catch(die)
const hold = await scope.begin(action)
if (where === 'begun') die()
await hold.settle({ calls: 1 })
die()
