// The law of the ledger, read from the keys of the store and nothing else: not with the code that is being judged.

import type { Batch } from '../../src/stores/store.ts'
import type { Cell } from '../../src/stores/table.ts'
import { levelsOf, type Books } from './books.ts'

/** What a key of the store holds. */
export type Look = (key: string) => Cell | undefined

/** The record of a budget, as far as the law needs it. */
export interface Budget {
  readonly limits: Readonly<Record<string, number>>
  readonly frozen?: string
  readonly frozenBy?: string
  readonly cut?: Readonly<Record<string, number>>
  readonly windows?: Readonly<
    Record<string, { readonly per: string; readonly current?: string; readonly limits: Readonly<Record<string, number>> }>
  >
  readonly closed?: { readonly spent: Readonly<Record<string, number>> }
  readonly allotment?: { readonly boot: string }
}

/** Columns that a limit is the sum of. */
const PARTS = ['free', 'spent', 'suspense', 'out', 'kids'] as const
const COUNTER = /^(?:free|spent|suspense|out|kids|assumed|over)\//

/** The `<dimension>/<path>` of a counter's key; `undefined` for other keys. */
export const legOf = (key: string): string | undefined => (COUNTER.test(key) ? key.slice(key.indexOf('/') + 1) : undefined)
/** Dimension and path of a leg. */
export const partsOf = (leg: string): readonly [string, string] => [leg.slice(0, leg.indexOf('/')), leg.slice(leg.indexOf('/') + 1)]
/** What a counter says; absent is 0. */
export const count = (look: Look, column: string, leg: string): number => Number(look(`${column}/${leg}`)?.value ?? 0)
/** The record of a budget. */
export const budgetOf = (look: Look, path: string): Budget | undefined => look(`budget/${path}`)?.value as unknown as Budget | undefined

/** What is wrong with `limit = free + spent + suspense + out + kids`, each at least 0, in one leg. */
export function equationFault(leg: string, look: Look): string | undefined {
  const [dimension, path] = partsOf(leg)
  const limit = budgetOf(look, path)?.limits[dimension] ?? 0
  const parts = PARTS.map((column) => count(look, column, leg))
  const assumed = count(look, 'assumed', leg)
  if (parts.reduce((sum, part) => sum + part, 0) === limit && parts.every((part) => part >= 0) && assumed >= 0) return undefined
  const columns = PARTS.map((column, at) => `${column} ${parts[at]}`).join(' + ')
  return `the equation does not hold: ${dimension} of ${path}: limit ${limit}, ${columns} (assumed ${assumed})`
}

/** Whether the provider has billed more than the ledger knows of in one leg; so the limit holds too, which is that and what is free. */
export function billFault(leg: string, look: Look, books: Books): string | undefined {
  const billed = books.billed.get(leg) ?? 0
  if (billed === 0) return undefined
  const [dimension, path] = partsOf(leg)
  const budget = budgetOf(look, path)
  if (budget?.limits[dimension] === undefined) return undefined
  // What was spent in an allotment that was closed has gone up.
  const known =
    count(look, 'spent', leg) +
    count(look, 'suspense', leg) +
    count(look, 'out', leg) +
    count(look, 'kids', leg) +
    (budget.closed?.spent[dimension] ?? 0)
  const beyond = billed - known - (books.excess.get(leg) ?? 0) - (books.lost.get(leg) ?? 0)
  return beyond <= 0 ? undefined : `the bill is beyond what the ledger knows of: ${dimension} of ${path}: billed ${billed}, known ${known}`
}

/** Whether a batch takes money from a budget that is frozen. It moves money from `free` to `out` or `kids` there. */
export function auditTakes({ add = [] }: Batch, look: Look): string | undefined {
  const taken = new Set(add.filter(({ key, by }) => by < 0 && key.startsWith('free/')).map(({ key }) => key.slice('free/'.length)))
  for (const { key, by } of add) {
    const leg = legOf(key)
    if (by <= 0 || leg === undefined || !taken.has(leg) || !/^(?:out|kids)\//.test(key)) continue
    const frozen = levelsOf(partsOf(leg)[1]).find((level) => budgetOf(look, level)?.frozen !== undefined)
    if (frozen !== undefined) return `money was taken from ${leg}, and ${frozen} is frozen`
  }
  return undefined
}
