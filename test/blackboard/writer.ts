// One of many processes on one blackboard: withdraws one from a shared balance until it has done so often enough, and
// says after each one that it did. In `careless` mode it writes over whatever is there, as a framework without a
// kernel would.

import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileStore } from '../../src/stores/file.ts'
import { openKernel } from '../../src/kernel/open-kernel.ts'

const [directory = '', name = '', times = '0', mode = ''] = process.argv.slice(2)
const kernel = await openKernel({ store: fileStore(directory, { durability: 'os' }) })
const board = kernel.blackboard(kernel.scope({ agent: name, task: 'withdraw', budget: 'bank' }))
// All begin at the same moment, whenever each of them has started.
process.stdout.write('ready\n')
await once(process.stdin, 'data')
for (let done = 0; done < Number(times); done++) {
  if (mode === 'careless') {
    const entry = await board.read('balance')
    await sleep(5)
    await board
      .commit(await board.propose({ set: { balance: ('value' in entry ? Number(entry.value) : 0) - 1 }, overwrite: true }))
      .catch(() => undefined)
  } else {
    await board.transact(
      async (tx) => {
        tx.write('balance', Number(await tx.read('balance')) - 1)
        // Several keys of one commit: the books of this process have to agree with the balance.
        tx.write(`withdrawn/${name}`, Number((await tx.read(`withdrawn/${name}`)) ?? 0) + 1)
      },
      { attempts: 1_000 },
    )
  }
  process.stdout.write('1\n')
}
await kernel.close()
process.stdin.destroy()
