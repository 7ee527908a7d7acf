// What became of every budget, read from the store without opening a kernel.

import type { Store } from '../stores/store.ts'
import { COLUMNS, budgetKey, counterKey, type BudgetRecord, type Column } from './record.ts'

/** One dimension of one budget; amounts as in the store (`usd` in nano-USD). */
export interface BudgetLine extends Readonly<Record<Column, number>> {
  readonly budget: string
  readonly dimension: string
  readonly limit: number
  /** Whether `limit = free + spent + suspense + out + kids`, each at least 0. */
  readonly balanced: boolean
  /** False when a process in observe mode uses this budget: then its limit is not enforced. */
  readonly enforced: boolean
  readonly frozen?: string
}

const PAGE = 1_000
/** Most budgets in one report. */
const MAX_BUDGETS = 10_000

/** Reads all budgets, or those at or below `path`, in order of path. At most 10,000. */
export async function readBudgets(store: Store, path?: string): Promise<readonly BudgetLine[]> {
  const observed = await observedLevels(store)
  const lines: BudgetLine[] = []
  for (let after: string | undefined, budgets = 0; budgets < MAX_BUDGETS; budgets += PAGE) {
    const page = await store.list(`budget/${path ?? ''}`, { limit: PAGE, ...(after === undefined ? {} : { after }) })
    for (const { key, value } of page) {
      const budget = key.slice('budget/'.length)
      if (budget.split('/').includes('*') || (path !== undefined && budget !== path && !budget.startsWith(`${path}/`))) continue
      lines.push(...(await linesOf(store, budget, Object.keys((value as unknown as BudgetRecord).limits), !observed.has(budget))))
    }
    if (page.length < PAGE) break
    after = page.at(-1)!.key
  }
  return lines
}

async function linesOf(store: Store, budget: string, dimensions: readonly string[], enforced: boolean): Promise<readonly BudgetLine[]> {
  // One snapshot of limits and counters: a revision may raise both between two reads.
  const counters = dimensions.flatMap((dimension) => COLUMNS.map((column) => counterKey(column, `${dimension}/${budget}`)))
  const [record, ...entries] = await store.read([budgetKey(budget), ...counters])
  if (record === null || record === undefined) return []
  const { limits, frozen } = record.value as unknown as BudgetRecord
  return dimensions.map((dimension, index) => {
    const amounts = COLUMNS.map((column, offset) => [column, Number(entries[index * COLUMNS.length + offset]?.value ?? 0)] as const)
    const columns = Object.fromEntries(amounts) as Record<Column, number>
    const { free, spent, suspense, out, kids } = columns
    const limit = limits[dimension]!
    const parts = [free, spent, suspense, out, kids]
    const balanced = parts.every((part) => part >= 0) && parts.reduce((sum, part) => sum + part, 0) === limit
    return { budget, dimension, limit, ...columns, balanced, enforced, ...(frozen === undefined ? {} : { frozen }) }
  })
}

/** Budgets that a process in observe mode uses while it lives. */
async function observedLevels(store: Store): Promise<ReadonlySet<string>> {
  const marks = await store.list('observed/', { limit: 10_000 })
  const boots = [...new Set(marks.map(({ key }) => key.split('/')[1]!))]
  const alive = await store.read(boots.map((boot) => `process/${boot}`))
  const living = new Set(boots.filter((_, index) => alive[index] !== null))
  return new Set(marks.map(({ key }) => key.split('/')).flatMap(([, boot, ...path]) => (living.has(boot!) ? [path.join('/')] : [])))
}
