// How budgets lie in the store. The record says what is allowed; the counters, one key each, say what became
// of it: `free/usd/acme/report-7`. In every budget and dimension, at every instant:
//
//   limit = free + spent + suspense + out + kids        (each >= 0)
//
// A missing `free` counts as 0, so a lost key refuses; it never means that nothing was spent.

import { assertAmount, toNanoUsd, type Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import { assertName, parsePath } from '../lib/names.ts'
import { windowName, windowOf, type WindowDeclaration, type WindowRecord } from './windows/window.ts'

/** Format of everything the budgets write. */
export const LEDGER_FORMAT = 1

/** Columns of the equation, and two beside it: `assumed` is a part of `spent`, `over` is what observe mode let through. */
export const COLUMNS = ['free', 'spent', 'suspense', 'out', 'kids', 'assumed', 'over'] as const
/** A column of the ledger. */
export type Column = (typeof COLUMNS)[number]

/** What `openKernel` is told of a budget. */
export interface BudgetDeclaration {
  /** US dollars: a number, or a decimal string such as `'0.50'`. */
  readonly usd?: number | string
  readonly tokens?: number
  readonly calls?: number
  /** Rises with every change of the declaration. @default 1 */
  readonly revision?: number
  /** So much a minute, a day, a month, beside what there is in all; one of a kind. @default none */
  readonly windows?: readonly WindowDeclaration[]
  /** Counters of your own, in whole units; 30 dimensions in all at most, those of windows included. */
  readonly [counter: string]: number | string | undefined | readonly WindowDeclaration[]
}

/** A budget in the store. A name of `*` is the shape of every child that is not named. */
export interface BudgetRecord {
  readonly format: typeof LEDGER_FORMAT
  readonly revision: number
  /** In force, by dimension; `usd` in nano-USD. */
  readonly limits: Amounts
  /** Its windows by name, such as `day` or `rolling-hour`. */
  readonly windows?: Readonly<Record<string, WindowRecord>>
  /** What was declared, where an operator has set another limit since. */
  readonly declaration?: Amounts
  /** What a lowered limit still waits for, by dimension: nothing is taken of it, and it goes off the limit when it is free. */
  readonly cut?: Amounts
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
  /** The operator who froze it: only an operator thaws it again. */
  readonly frozenBy?: string
  /** The shape that its first take created it from. */
  readonly shape?: string
  /** True when it was declared by name after that: from then on its limits are its own. */
  readonly declared?: true
}

/** Most dimensions of one budget: an action ends in one batch, and that has to take all dimensions of eight levels. */
const MAX_DIMENSIONS = 30
/** Most dimensions of a rolling window: a new part takes over from all others in one batch. */
const MAX_ROLLING = 8

/** How long a charge can be corrected, ms: until the provider's bill of the month is there. */
export const CORRECTABLE_MS: number = 30 * 24 * 3_600_000

/** The key of a budget's record. */
export const budgetKey = (path: string): string => `budget/${path}`
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

/**
 * Reads a declaration into a record.
 *
 * @throws {TypeError} {RangeError} Naming the field, or the budget with more than 30 dimensions.
 */
export function toRecord(path: string, declaration: BudgetDeclaration): BudgetRecord {
  const { revision = 1, windows: declared = [], ...counters } = declaration
  const field = `budgets[${path}]`
  assertAmount(`${field}.revision`, revision)
  if (Object.hasOwn(counters, 'window')) throw new TypeError(`\`${field}.window\`: write \`windows\`, a list.`)
  const limits = toAmounts(field, counters as Readonly<Record<string, number | string | undefined>>)
  const windows = toWindows(`${field}.windows`, declared)
  const dimensions = [limits, ...Object.values(windows).map((window) => window.limits)].flatMap((all) => Object.keys(all)).length
  if (dimensions === 0) throw new TypeError(`\`${field}\` limits nothing; give it \`usd\`, \`tokens\`, \`calls\` or a counter.`)
  if (dimensions > MAX_DIMENSIONS)
    throw new RangeError(`\`${field}\` limits ${dimensions} dimensions; a budget and its windows have at most ${MAX_DIMENSIONS}.`)
  return { format: LEDGER_FORMAT, revision, limits, ...(declared.length === 0 ? {} : { windows }) }
}

function toWindows(field: string, declared: readonly WindowDeclaration[]): Readonly<Record<string, WindowRecord>> {
  if (!Array.isArray(declared)) throw new TypeError(`\`${field}\` must be a list, got ${typeof declared}.`)
  const windows: Record<string, WindowRecord> = {}
  for (const [index, declaration] of declared.entries()) {
    const { per: _, timeZone: __, rolling: ___, ...counters } = declaration
    const one = { ...windowOf(`${field}[${index}]`, declaration), limits: toAmounts(`${field}[${index}]`, counters) }
    const name = windowName(one)
    if (Object.keys(one.limits).length === 0) throw new TypeError(`\`${field}[${index}]\` limits nothing.`)
    if (one.rolling !== undefined && Object.keys(one.limits).length > MAX_ROLLING)
      throw new RangeError(`\`${field}[${index}]\`: a rolling window has at most ${MAX_ROLLING} dimensions.`)
    if (windows[name] !== undefined) throw new TypeError(`\`${field}\` has two windows \`${name}\`; put their limits into one.`)
    windows[name] = one
  }
  return windows
}

/**
 * Reads amounts as a person writes them, `usd` in dollars and the rest in whole units, into amounts as they are kept.
 *
 * @throws {TypeError} {RangeError} Naming the field.
 */
export function toAmounts(field: string, given: Readonly<Record<string, number | string | undefined>>): Amounts {
  const amounts: Record<string, number> = {}
  for (const [dimension, value] of Object.entries(given)) {
    const name = `${field}.${dimension}`
    assertName(name, dimension)
    if (value === undefined) continue
    if (dimension === 'usd') amounts[dimension] = toNanoUsd(name, value)
    else {
      assertAmount(name, value)
      amounts[dimension] = value
    }
  }
  return amounts
}

/** `acme/*` is a shape: it has a record, and its children have the counters. */
export const isShape = (path: string): boolean => path.split('/').includes('*')

/** Checks that a declared path is well formed and stands on declared parents. `*` stands for any name. */
export function assertDeclaredPath(path: string, declared: ReadonlySet<string>): void {
  const names = parsePath(`budgets[${path}]`, path.replaceAll(/(?<=^|\/)\*(?=\/|$)/g, 'any'))
  const parent = path.split('/').slice(0, -1).join('/')
  if (path.split('/')[0] === '*') throw new TypeError(`\`budgets[${path}]\`: the first name of a path cannot be \`*\`.`)
  if (names.length > 1 && !declared.has(parent)) {
    throw new HoldfastError('ERR_BUDGET_DECLARATION', `Budget \`${path}\` needs its parent: declare \`${parent}\` too.`)
  }
}

/** Every path from the root down to this one: `a/b/c` gives `a`, `a/b`, `a/b/c`. */
export function levelsOf(path: string): readonly string[] {
  const names = path.split('/')
  return names.map((_, index) => names.slice(0, index + 1).join('/'))
}
