// The equation, looked at while the kernel runs: limit = free + spent + suspense + out + kids. No batch of ours can
// break it, so where it is broken the store was changed by something else; then nothing more is taken from that tree.

import type { Committer } from '../stores/group.ts'
import { readBudget } from './report.ts'
import { budgetKey, levelsOf, type BudgetRecord } from './record.ts'

/** A budget whose columns do not add up. */
export interface Imbalance {
  readonly budget: string
  readonly dimension: string
  /** The root of its tree, which is frozen now. */
  readonly root: string
  readonly limit: number
  readonly sum: number
}

/** Most budgets of one look; the next look goes on behind them. */
const MAX_BUDGETS = 200

/**
 * Makes the look at the budgets that this process uses. Each call freezes the trees of those that do not balance,
 * and returns them; those that were frozen already are not told again.
 */
export function createBalanceCheck(committer: Committer, used: () => readonly string[]): () => Promise<readonly Imbalance[]> {
  const { store } = committer
  let next = 0

  async function freeze(budget: string, dimension: string): Promise<boolean> {
    const key = budgetKey(levelsOf(budget)[0]!)
    const [entry] = await store.read([key])
    const record = entry?.value as unknown as BudgetRecord | undefined
    if (entry === null || entry === undefined || record!.frozen !== undefined) return false
    const frozen = `the books of \`${budget}\` do not balance in ${dimension}: something else has changed this store`
    const result = await committer.commit({
      check: [{ key, version: entry.version }],
      set: [{ key, value: { ...(entry.value as object), frozen } }],
    })
    return result.outcome === 'ok'
  }

  return async () => {
    const paths = used()
    const found: Imbalance[] = []
    if (next >= paths.length) next = 0
    for (const budget of paths.slice(next, next + MAX_BUDGETS))
      for (const { dimension, limit, balanced, free, spent, suspense, out, kids } of await readBudget(store, budget)) {
        if (balanced || !(await freeze(budget, dimension))) continue
        found.push({ budget, dimension, root: levelsOf(budget)[0]!, limit, sum: free + spent + suspense + out + kids })
      }
    next += MAX_BUDGETS
    return found
  }
}
