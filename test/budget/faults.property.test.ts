// Random bad luck: three kernels work at once through stores that lose requests and replies, send twice, come late and
// let others be first, while everybody is taken for dead now and then. Proves that each hold has its effect exactly
// once, that a take which nobody acknowledged is given back, and that in the end nothing is held that no one owns.

import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { balanced, keys, needing } from './bench.ts'
import { levelsOf } from './ledger-model.ts'
import { LIMITS, RUNS, START_MS, amounts, budgetsOf, onEvent, path, scopeOf } from './property-bench.ts'
import { openKernel, type Kernel } from '../../src/kernel/open-kernel.ts'
import type { Amounts } from '../../src/lib/amounts.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { faultyStore } from '../../src/testing/faulty-store.ts'
import { settableClock } from '../../src/testing/store-bench.ts'
import type { Hold } from '../../src/waist/hold.ts'

interface Task {
  /** Which kernel. */
  readonly at: number
  readonly path: string
  readonly amounts: Amounts
  readonly how: 'settle' | 'release' | 'charge' | 'correct'
  /** Tenths of what was held. */
  readonly share: number
  /** Before its end everybody is silent for too long, and is swept. */
  readonly swept: boolean
}

const task: fc.Arbitrary<Task> = fc.record({
  at: fc.nat(2),
  path,
  amounts,
  how: fc.constantFrom<Task['how']>('settle', 'settle', 'release', 'charge', 'correct'),
  share: fc.nat(10),
  swept: fc.nat(19).map((one) => one === 0),
})

const ODDS = { 'lose-reply': 0.12, 'lose-request': 0.08, contend: 0.1, duplicate: 0.08, refuse: 0.05, delay: 0.05 }

/** What the tasks say that they spent, by leg. */
class Tally {
  readonly spent = new Map<string, number>()
  readonly assumed = new Map<string, number>()

  count(column: 'spent' | 'assumed', budget: string, used: Amounts): void {
    for (const [dimension, amount] of Object.entries(used))
      for (const level of levelsOf(budget)) this[column].set(`${dimension}/${level}`, this.of(column, `${dimension}/${level}`) + amount)
  }

  of(column: 'spent' | 'assumed', leg: string): number {
    return this[column].get(leg) ?? 0
  }
}

/** Does one task; an action that got no hold has spent nothing. Returns how its `begin` failed. */
async function work(
  kernel: Kernel,
  tally: Tally,
  { path: budget, amounts: worst, how, share, swept }: Task,
  sweep: () => Promise<void>,
): Promise<unknown> {
  let hold: Hold
  try {
    hold = await scopeOf(kernel, budget).begin(needing(worst))
  } catch (error) {
    return (error as { code?: unknown }).code ?? error
  }
  if (swept) await sweep()
  const used = Object.fromEntries(Object.entries(worst).map(([dimension, amount]) => [dimension, Math.floor((amount * share) / 10)]))
  if (how === 'release') await hold.release('property')
  if (how === 'charge' || how === 'correct') await hold.charge('property')
  if (how === 'settle' || how === 'correct') await hold.settle(used)
  if (how !== 'release') tally.count('spent', budget, how === 'charge' ? worst : used)
  if (how === 'charge') tally.count('assumed', budget, worst)
  return undefined
}

test('in random bad luck every hold has its effect exactly once, and nothing leaks', { timeout: 120_000 + RUNS * 100 }, async () => {
  const met = new Set<string>()
  const failures = new Set<unknown>()
  const history = fc.asyncProperty(fc.nat(), fc.array(task, { minLength: 10, maxLength: 40, size: 'max' }), async (seed, tasks) => {
    const clock = settableClock(START_MS)
    const real = memoryStore({ clock })
    const budgets = budgetsOf({ ...LIMITS, acme: { tokens: 200, calls: 40 } })
    const sweeper = await openKernel({ store: real, budgets, onEvent })
    const sweep = async (): Promise<void> => {
      clock.set(clock.now() + 60_000)
      await sweeper.sweep()
    }
    let healed = false
    const stores = [1, 2, 3].map((step) => faultyStore(real, { seed: seed + step, odds: ODDS }))
    const kernels = await Promise.all(
      stores.map((faulty) => {
        const apply: Store['apply'] = (batches) => (healed ? real : faulty).apply(batches)
        return openKernel({ store: { ...real, apply }, waitMs: 0, onEvent })
      }),
    )
    const tally = new Tally()
    for (const failure of await Promise.all(tasks.map((one) => work(kernels[one.at]!, tally, one, sweep)))) failures.add(failure)
    healed = true
    for (const kernel of [...kernels, sweeper]) await kernel.close()
    for (const { happened } of stores) for (const fault of happened) met.add(fault)

    const told = (await balanced(real)).map((one) => [
      `${one.dimension}/${one.budget}`,
      one.spent,
      one.assumed,
      one.out,
      one.suspense,
      one.over,
    ])
    expect(told).toEqual(told.map(([leg]) => [leg, tally.of('spent', String(leg)), tally.of('assumed', String(leg)), 0, 0, 0]))
    for (const prefix of ['hold/', 'suspended/', 'process/', 'id/']) expect(await keys(real, prefix)).toEqual([])
  })
  await fc.assert(history, { numRuns: Math.ceil(RUNS / 2) })
  expect([...met].sort()).toEqual(['none', ...Object.keys(ODDS)].sort())
  expect(failures).toEqual(new Set([undefined, 'ERR_BUDGET_BUSY', 'ERR_BUDGET_EXCEEDED', 'ERR_STORE']))
})
