// What `openKernel` is told of a budget, read into the record that lies in the store.

import { assertAmount, toNanoUsd, type Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import { assertName, parsePath } from '../lib/names.ts'
import { LEDGER_FORMAT, type BudgetRecord } from './record.ts'
import { windowName, windowOf, type WindowDeclaration, type WindowRecord } from './windows/window.ts'

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
  /** When so much of a limit is used or set aside, an event tells the operator and a notice the model: 0.8, or several. @default never */
  readonly warnAt?: number | readonly number[]
  /** Kept for a last answer: only actions of `scope.wrapUp()` may use it. `{ usd: 0.05 }` @default nothing */
  readonly wrapUp?: Readonly<Record<string, number | string>>
  /** Counters of your own, in whole units; 30 dimensions in all at most, those of windows included. */
  readonly [counter: string]:
    | number
    | string
    | undefined
    | readonly WindowDeclaration[]
    | readonly number[]
    | Readonly<Record<string, number | string>>
}

/** Most dimensions of one budget: an action ends in one batch, and that has to take all dimensions of eight levels. */
const MAX_DIMENSIONS = 30
/** Most dimensions of a rolling window: a new part takes over from all others in one batch. */
const MAX_ROLLING = 8
/** Most thresholds of one budget. */
const MAX_SHARES = 10

/**
 * Reads a declaration into a record.
 *
 * @throws {TypeError} {RangeError} Naming the field, or the budget with more than 30 dimensions.
 */
export function toRecord(path: string, declaration: BudgetDeclaration): BudgetRecord {
  const { revision = 1, windows: declared = [], warnAt, wrapUp, ...counters } = declaration
  const field = `budgets[${path}]`
  assertAmount(`${field}.revision`, revision)
  if (Object.hasOwn(counters, 'window')) throw new TypeError(`\`${field}.window\`: write \`windows\`, a list.`)
  const limits = toAmounts(field, counters as Readonly<Record<string, number | string | undefined>>)
  const windows = toWindows(`${field}.windows`, declared)
  const limited = [limits, ...Object.values(windows).map((window) => window.limits)]
  const dimensions = limited.flatMap((all) => Object.keys(all)).length
  if (dimensions === 0) throw new TypeError(`\`${field}\` limits nothing; give it \`usd\`, \`tokens\`, \`calls\` or a counter.`)
  if (dimensions > MAX_DIMENSIONS)
    throw new RangeError(`\`${field}\` limits ${dimensions} dimensions; a budget and its windows have at most ${MAX_DIMENSIONS}.`)
  return {
    format: LEDGER_FORMAT,
    revision,
    limits,
    ...(declared.length === 0 ? {} : { windows }),
    ...(warnAt === undefined ? {} : { warnAt: toShares(`${field}.warnAt`, warnAt) }),
    ...(wrapUp === undefined ? {} : { wrapUp: toSlice(`${field}.wrapUp`, wrapUp, limited) }),
  }
}

function toShares(field: string, given: number | readonly number[]): readonly number[] {
  const shares = typeof given === 'number' ? [given] : given
  if (!Array.isArray(shares) || shares.length === 0 || shares.length > MAX_SHARES)
    throw new TypeError(`\`${field}\` must be a share such as 0.8, or a list of up to ${MAX_SHARES}.`)
  for (const share of shares as readonly unknown[])
    if (typeof share !== 'number' || !(share > 0 && share < 1))
      throw new RangeError(`\`${field}\` must lie between 0 and 1, got ${JSON.stringify(share)}.`)
  return [...shares].sort((one, other) => one - other)
}

function toSlice(field: string, given: Readonly<Record<string, number | string>>, limited: readonly Amounts[]): Amounts {
  if (typeof given !== 'object' || given === null) throw new TypeError(`\`${field}\` must be amounts such as { usd: 0.05 }.`)
  const slice = toAmounts(field, given)
  for (const [dimension, amount] of Object.entries(slice)) {
    const limits = limited.filter((one) => Object.hasOwn(one, dimension)).map((one) => one[dimension]!)
    if (limits.length === 0) throw new RangeError(`\`${field}.${dimension}\`: the budget does not limit it.`)
    if (amount >= Math.min(...limits))
      throw new RangeError(`\`${field}.${dimension}\` must be less than the limit: nothing else could be done.`)
  }
  return slice
}

function toWindows(field: string, declared: readonly WindowDeclaration[]): Readonly<Record<string, WindowRecord>> {
  if (!Array.isArray(declared)) throw new TypeError(`\`${field}\` must be a list, got ${typeof declared}.`)
  const windows: Record<string, WindowRecord> = {}
  for (const [index, declaration] of declared.entries()) {
    if (typeof declaration !== 'object' || declaration === null)
      throw new TypeError(`\`${field}[${index}]\` must be a window such as { per: 'day', usd: 5 }.`)
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
    assertNoSlip(name, dimension)
    if (value === undefined) continue
    if (dimension === 'usd') amounts[dimension] = toNanoUsd(name, value)
    else {
      assertAmount(name, value)
      amounts[dimension] = value
    }
  }
  return amounts
}

/** What can stand beside counters. */
const SETTINGS = ['revision', 'windows', 'warnat', 'wrapup', 'timezone', 'rolling']

/** A counter that is nearly called like a setting is a slip, and would bind nothing. */
function assertNoSlip(field: string, name: string): void {
  const meant = SETTINGS.find((setting) => isNearly(name.toLowerCase(), setting))
  if (meant !== undefined) throw new TypeError(`\`${field}\`: did you mean ${meant}? A counter of yours needs another name.`)
}

/** Whether at most one letter is more, less or another one. */
function isNearly(name: string, word: string): boolean {
  let same = 0
  while (same < name.length && name[same] === word[same]) same++
  const [left, right] = [name.slice(same), word.slice(same)]
  return [left.slice(1) === right.slice(1), left.slice(1) === right, left === right.slice(1)].includes(true)
}

/** Checks that a declared path is well formed and stands on declared parents. `*` stands for any name. */
export function assertDeclaredPath(path: string, declared: ReadonlySet<string>): void {
  const names = parsePath(`budgets[${path}]`, path.replaceAll(/(?<=^|\/)\*(?=\/|$)/g, 'any'))
  const parent = path.split('/').slice(0, -1).join('/')
  if (path.split('/')[0] === '*') throw new TypeError(`\`budgets[${path}]\`: the first name of a path cannot be \`*\`.`)
  if (names.length > 1 && !declared.has(parent)) {
    throw new HoldfastError('ERR_BUDGET_DECLARATION', `Budget \`${path}\` needs its parent: declare \`${parent}\` too.`)
  }
}
