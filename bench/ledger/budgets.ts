// The same with 10 budgets in the store and with 100,000: how long it takes to open and to make the first hold, and
// holds per second on budgets at random.

import { openKernel, type Kernel } from '../../src/index.ts'
import { fileStore } from '../../src/stores/file.ts'
import type { Store } from '../../src/stores/store.ts'
import { median } from '../measure.ts'
import { dataOf, type Address, type Kind } from './address.ts'
import { USED, WORST } from './by-hand.ts'
import { markdownOf } from './holds.ts'
import { openPlace, openStore } from './places.ts'
import { sampled, together, type Figures } from './samples.ts'

/** What was measured with so many budgets. */
export interface Filled {
  readonly kind: Kind
  readonly budgets: number
  /** Store and kernel, up to the end of the first hold; ms. */
  readonly openMs: number
  readonly strict: Figures
  readonly leased: Figures
}

const CALLERS = 16
const FILLERS = 64
const OPENINGS = 3
const PLENTY = { acme: { usd: 9_000_000, calls: 9e15 }, 'acme/*': { usd: 9_000_000 } }

/** Measures a kind of store with each number of budgets, in rising order. */
export async function measureBudgets(kind: Kind, counts: readonly number[], ms: number): Promise<readonly Filled[]> {
  const { stop, ...address } = await openPlace(kind)
  const filled: Filled[] = []
  // What is in memory is gone with the store.
  const kept = kind === 'memory' ? await openStore(address) : undefined
  try {
    for (const [index, budgets] of counts.entries()) {
      await fill(address, kept, counts[index - 1] ?? 0, budgets)
      const openings: number[] = []
      for (let opening = 0; opening < OPENINGS; opening++) openings.push(await openOnce(address, kept))
      const strict = await holds(address, kept, { budgets, ms, leasing: 'off' })
      const leased = await holds(address, kept, { budgets, ms, leasing: 'auto' })
      filled.push({ kind, budgets, openMs: median(openings), strict, leased })
    }
    return filled
  } finally {
    await kept?.close()
    await stop()
  }
}

async function fill(address: Address, kept: Store | undefined, from: number, to: number): Promise<void> {
  // It is only to be there, so the disk is not asked each time, where that can be said.
  const store = kept ?? (address.kind === 'file' ? fileStore(dataOf(address), { durability: 'os' }) : await openStore(address))
  const kernel = await kernelOn(address, store, 'off')
  let next = from
  await Promise.all(
    Array.from({ length: FILLERS }, async () => {
      while (next < to) await hold(kernel, next++)
    }),
  )
  await kernel.close()
  if (kept === undefined) await store.close()
}

async function openOnce(address: Address, kept: Store | undefined): Promise<number> {
  const startedAt = performance.now()
  const store = kept ?? (await openStore(address))
  const kernel = await kernelOn(address, store, 'off')
  await hold(kernel, 0)
  const openMs = performance.now() - startedAt
  await kernel.close()
  if (kept === undefined) await store.close()
  return openMs
}

async function holds(
  address: Address,
  kept: Store | undefined,
  { budgets, ms, leasing }: { readonly budgets: number; readonly ms: number; readonly leasing: 'auto' | 'off' },
): Promise<Figures> {
  const store = kept ?? (await openStore(address))
  const kernel = await kernelOn(address, store, leasing)
  const one = () => hold(kernel, Math.floor(Math.random() * budgets))
  await sampled(ms / 5, CALLERS, one)
  const sample = await sampled(ms, CALLERS, one)
  await kernel.close()
  if (kept === undefined) await store.close()
  return together([sample])
}

const kernelOn = (address: Address, store: Store, leasing: 'auto' | 'off'): Promise<Kernel> =>
  openKernel({ store, budgets: PLENTY, leasing, ...(address.kind === 'file' ? {} : { data: dataOf(address) }) })

async function hold(kernel: Kernel, budget: number): Promise<void> {
  const scope = kernel.scope({ agent: 'bench', task: 'bench', budget: `acme/b-${budget}` })
  const held = await scope.begin({ kind: 'tool', resource: 'spend', worst: WORST })
  await held.settle(USED)
}

/** The table. */
export function budgetsTable(filled: readonly Filled[]): string {
  return markdownOf(
    ['store', 'budgets', 'opening ms', 'strict/s', 'p50 us', 'p99 us', 'leased/s', 'p50 us', 'p99 us'],
    filled.map(({ kind, budgets, openMs, strict, leased }) => [
      kind,
      ...[budgets, openMs, ...[strict, leased].flatMap(({ perSecond, p50, p99 }) => [perSecond, p50, p99])].map((value) =>
        Math.round(value).toLocaleString('en-US'),
      ),
    ]),
  )
}
