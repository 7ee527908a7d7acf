// One process of the benchmark: `node worker.ts <address as JSON>`. Told what to do, it opens that and warms up, says
// that it is ready, waits for the word, works, and answers with what it measured.

import { once } from 'node:events'
import { openKernel } from '../../src/index.ts'
import { dataOf, type Address } from './address.ts'
import { openByHand, USED, WORST, type ByHand } from './by-hand.ts'
import { openStore } from './places.ts'
import { sampled, type Order, type Sample } from './samples.ts'

const address = JSON.parse(process.argv[2]!) as Address
const PLENTY = { acme: { usd: 9_000_000, calls: 9e15 }, 'acme/*': { usd: 9_000_000 } }

process.once('disconnect', () => process.exit(1))
process.send!('here')
for (;;) {
  const [order] = (await once(process, 'message')) as [Order]
  const { hold, close } = await opened(order.how)
  await sampled(Math.max(20, order.ms / 5), order.callers, hold)
  process.send!('ready')
  await once(process, 'message')
  const sample: Sample = await sampled(order.ms, order.callers, hold)
  process.send!(sample)
  await once(process, 'message')
  await close()
  process.send!('closed')
}

async function opened(how: Order['how']): Promise<ByHand> {
  if (how === 'by hand') return openByHand(address)
  const store = await openStore(address)
  const leasing = how === 'leased' ? 'auto' : 'off'
  const data = address.kind === 'file' ? {} : { data: dataOf(address) }
  const kernel = await openKernel({ store, budgets: PLENTY, leasing, ...data })
  const scope = kernel.scope({ agent: 'bench', task: 'bench', budget: 'acme/bench' })
  return {
    async hold() {
      const held = await scope.begin({ kind: 'tool', resource: 'spend', worst: WORST })
      await held.settle(USED)
    },
    async close() {
      await kernel.close()
      await store.close()
    },
  }
}
