// What became of every budget, read from the store without opening a kernel.

import { amountOf } from '../lib/amounts.ts'
import { entriesOf } from '../stores/entries.ts'
import type { Store } from '../stores/store.ts'
import { homeOf, parseWindowPath, windowPath } from './windows/window.ts'
import { COLUMNS, budgetKey, pathOfBudgetKey, counterKey, type BudgetRecord, type Column } from './record.ts'

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
  /** What a lowered limit still waits for: so much of the limit in force goes as it comes back, and nobody may take it. */
  readonly pendingCut?: number
  /** A window that is over. What is held in it is settled in it. */
  readonly past?: true
  /** Raises that are in the limit for a while; each goes as a cut once it is over. */
  readonly raises?: readonly RaisedLine[]
}

/** One raise of one dimension. */
export interface RaisedLine {
  readonly amount: number
  /** Unix ms, by the clock of the store. */
  readonly untilMs: number
  readonly by: string
  readonly reason: string
  /** Its time is over, and no kernel has looked since: the next one that does ends it. */
  readonly over?: true
}

/** A window that is over and done with: kept for who wants to look back, and of no use to who looks at what is left. */
export const isHistory = ({ past, balanced, out, suspense, kids }: BudgetLine): boolean =>
  past === true && balanced && out + suspense + kids === 0

/** Most budgets in one report. */
const MAX_BUDGETS = 10_000

/** Reads all budgets, or those at or below `path`, in order of path. At most 10,000. */
export async function readBudgets(store: Store, path?: string): Promise<readonly BudgetLine[]> {
  const observed = await observedLevels(store)
  const lines: BudgetLine[] = []
  let budgets = 0
  /** A budget comes before its windows. */
  const current = new Set<string>()
  for await (const { key, value } of entriesOf(store, budgetKey(path ?? ''))) {
    const budget = pathOfBudgetKey(key)
    if (budget.split('/').includes('*') || (path !== undefined && budget !== path && !budget.startsWith(`${path}/`))) continue
    if (++budgets > MAX_BUDGETS) break
    const { limits, closed, windows = {} } = value as unknown as BudgetRecord
    // Of one that rolls every part that still counts is part of what is current.
    for (const [name, { current: id, live = id === undefined ? [] : [id] }] of Object.entries(windows))
      for (const part of live) current.add(windowPath(budget, name, part))
    // What was handed over has gone back up, all of it: only the record is left, for who lists handoffs.
    if (closed !== undefined && Object.values(limits).every((limit) => limit === 0)) continue
    const isPast = parseWindowPath(budget) !== undefined && !current.has(budget)
    const own = await linesOf(store, budget, Object.keys(limits), !observed.has(homeOf(budget)))
    lines.push(...(isPast ? own.map((line) => ({ ...line, past: true as const })) : own))
  }
  return lines
}

/** Reads one budget, all of it in one snapshot; nothing when there is none. */
export async function readBudget(store: Store, path: string): Promise<readonly BudgetLine[]> {
  const [entry] = await store.read([budgetKey(path)])
  if (entry === null || entry === undefined) return []
  const { limits, closed } = entry.value as unknown as BudgetRecord
  return closed === undefined ? linesOf(store, path, Object.keys(limits), true) : []
}

async function linesOf(store: Store, budget: string, dimensions: readonly string[], enforced: boolean): Promise<readonly BudgetLine[]> {
  // One snapshot of limits and counters: a revision may raise both between two reads.
  const counters = dimensions.flatMap((dimension) => COLUMNS.map((column) => counterKey(column, `${dimension}/${budget}`)))
  const [record, ...entries] = await store.read([budgetKey(budget), ...counters])
  if (record === null || record === undefined) return []
  const { limits, frozen, cut = {}, raises = [] } = record.value as unknown as BudgetRecord
  const nowMs = raises.length === 0 ? 0 : await store.now()
  return dimensions.map((dimension, index) => {
    const amounts = COLUMNS.map((column, offset) => [column, Number(entries[index * COLUMNS.length + offset]?.value ?? 0)] as const)
    const columns = Object.fromEntries(amounts) as Record<Column, number>
    const { free, spent, suspense, out, kids } = columns
    const limit = limits[dimension]!
    const parts = [free, spent, suspense, out, kids]
    const balanced = parts.every((part) => part >= 0) && parts.reduce((sum, part) => sum + part, 0) === limit
    const pendingCut = amountOf(cut, dimension)
    const raised = raises
      .filter(({ amounts }) => amountOf(amounts, dimension) > 0)
      .map(({ amounts, untilMs, by, reason }) => {
        const over = untilMs <= nowMs ? ({ over: true } as const) : {}
        return { amount: amountOf(amounts, dimension), untilMs, by, reason, ...over }
      })
    const notes = {
      ...(frozen === undefined ? {} : { frozen }),
      ...(pendingCut === 0 ? {} : { pendingCut }),
      ...(raised.length === 0 ? {} : { raises: raised }),
    }
    return { budget, dimension, limit, ...columns, balanced, enforced, ...notes }
  })
}

/** Budgets that a process in observe mode uses while it lives. */
async function observedLevels(store: Store): Promise<ReadonlySet<string>> {
  const living = new Set<string>()
  for await (const { key } of entriesOf(store, 'process/')) living.add(key.slice('process/'.length))
  const levels = new Set<string>()
  for await (const { key } of entriesOf(store, 'observed/')) {
    const [, boot, ...path] = key.split('/')
    if (living.has(boot!)) levels.add(path.join('/'))
  }
  return levels
}
