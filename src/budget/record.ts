// How budgets lie in the store. The record says what is allowed; the counters, one key each, say what became
// of it: `free/usd/acme/report-7`. In every budget and dimension, at every instant:
//
//   limit = free + spent + suspense + out + kids        (each >= 0)
//
// A missing `free` counts as 0, so a lost key refuses; it never means that nothing was spent.

import type { Amounts } from '../lib/amounts.ts'
import type { Raise } from './raise.ts'
import type { WindowRecord } from './windows/window.ts'

/** Format of everything the budgets write. */
export const LEDGER_FORMAT = 1

/** Columns of the equation, and two beside it: `assumed` is a part of `spent`, `over` is what observe mode let through. */
export const COLUMNS = ['free', 'spent', 'suspense', 'out', 'kids', 'assumed', 'over'] as const
/** A column of the ledger. */
export type Column = (typeof COLUMNS)[number]

/** A budget in the store. A name of `*` is the shape of every child that is not named. */
export interface BudgetRecord {
  readonly format: typeof LEDGER_FORMAT
  readonly revision: number
  /** In force, by dimension; `usd` in nano-USD. */
  readonly limits: Amounts
  /** Its windows by name, such as `day` or `rolling-hour`. */
  readonly windows?: Readonly<Record<string, WindowRecord>>
  /** Shares of a limit, from 0 to 1, that are told of. */
  readonly warnAt?: readonly number[]
  /** What is kept for a last answer, by dimension. */
  readonly wrapUp?: Amounts
  /** What was declared, where an operator has set another limit since. */
  readonly declaration?: Amounts
  /** What a lowered limit still waits for, by dimension: nothing is taken of it, and it goes off the limit when it is free. */
  readonly cut?: Amounts
  /** Raises that are not over, see raise.ts; `limits` has them in it. */
  readonly raises?: readonly Raise[]
  /**
   * An allotment: its money was moved out of the budgets above, so that what it limits is not counted there again.
   * `from`: by leg above, the column that has it; `over` is that of observe mode, where it did not fit.
   * `boot`: the process that made it. `about`: key of the record that says what it is for.
   */
  readonly allotment?: { readonly from: Readonly<Record<string, 'kids' | 'over'>>; readonly boot: string; readonly about?: string }
  /** Of an allotment that was closed: what has gone up since. What comes back to it goes up too. */
  readonly closed?: { readonly returned: Amounts; readonly spent: Amounts }
  /** Why nothing may be taken any more. */
  readonly frozen?: string
  /** Nothing is taken until then, Unix ms by the store's clock: somebody was told to slow down. */
  readonly pausedUntilMs?: number
  /** The operator who froze it: only an operator thaws it again. */
  readonly frozenBy?: string
  /** The shape that its first take created it from. */
  readonly shape?: string
  /** True when it was declared by name after that: from then on its limits are its own. */
  readonly declared?: true
}

/** How long a charge can be corrected, ms: until the provider's bill of the month is there. */
export const CORRECTABLE_MS: number = 30 * 24 * 3_600_000

/** The key of a budget's record. */
export const budgetKey = (path: string): string => `budget/${path}`
/** The path that the key of a budget's record is about. */
export const pathOfBudgetKey = (key: string): string => key.slice(budgetKey('').length)
/** Begins the keys of allotments that have not come back whole. */
export const ALLOTTED = 'allotted/'
/** The key of one, by the process that made it. */
export const allottedKey = (boot: string, path: string): string => `${ALLOTTED}${boot}/${path}`
/** Begins the keys of budgets whose limit was lowered by more than was free. */
export const CUT = 'cut/'
/** The key of one. */
export const cutKey = (path: string): string => `${CUT}${path}`
/** The key of a counter; `leg` is `<dimension>/<path>`. */
export const counterKey = (column: Column, leg: string): string => `${column}/${leg}`

/** `acme/*` is a shape: it has a record, and its children have the counters. */
export const isShape = (path: string): boolean => path.split('/').includes('*')

/** Every path from the root down to this one: `a/b/c` gives `a`, `a/b`, `a/b/c`. */
export function levelsOf(path: string): readonly string[] {
  const names = path.split('/')
  return names.map((_, index) => names.slice(0, index + 1).join('/'))
}
