// What must hold at every instant and at the end. The bill is read before the ledger: what is on it was held before, and
// stays on it whatever is settled meanwhile. Limits only rise here, so a limit that is read later is never too strict.

import { readBudgets, type BudgetLine } from '../src/budget/report.ts'
import { HoldfastError } from '../src/lib/errors.ts'
import type { Store } from '../src/stores/store.ts'
import { DIMENSIONS, ROOT, TEAMS, type Market, type Truth } from './market.ts'
import { NAIVE, type Exceeded } from './orders.ts'

/** What an account says of one budget in one dimension. */
export type Account = Pick<
  BudgetLine,
  'budget' | 'dimension' | 'limit' | 'free' | 'spent' | 'suspense' | 'out' | 'kids' | 'balanced' | 'assumed'
> & { readonly frozen?: string }

/** What was found at all looks together. */
export interface Looks {
  /** Looks that the store answered, and those that it did not. */
  done: number
  missed: number
  /** Most that the bill was ever beyond the limit of the root, nano-USD. */
  overspend: number
  /** Most that it was beyond what the ledger knew of. In calls this is sharpest: no call costs less than its worst case. */
  unknown: number
  unknownCalls: number
  /** Lines that did not add up. */
  unbalanced: number
  readonly faults: Set<string>
  /** As they were when last looked at. */
  accounts: readonly Account[]
}

/** Nothing was looked at yet. */
export function noLooks(): Looks {
  return { done: 0, missed: 0, overspend: 0, unknown: 0, unknownCalls: 0, unbalanced: 0, faults: new Set(), accounts: [] }
}

/** All accounts of a ledger. */
export const ledgerOf = (store: Store): Promise<readonly Account[]> => readBudgets(store)

/** The one account of who checks, calls and then charges. */
export async function naiveLedgerOf(store: Store): Promise<readonly Account[]> {
  const [spent, limit] = (await store.read([NAIVE.spent, NAIVE.limit])).map((entry) => Number(entry?.value ?? 0))
  const nothing = { free: 0, suspense: 0, out: 0, kids: 0, assumed: 0 }
  return [{ budget: ROOT, dimension: 'usd', limit: limit!, spent: spent!, ...nothing, balanced: true }]
}

/** Looks once. */
export async function look(market: Market, accountsOf: () => Promise<readonly Account[]>, looks: Looks): Promise<void> {
  const truth = market.truth()
  try {
    looks.accounts = await accountsOf()
  } catch (error) {
    if (HoldfastError.isInstance(error) && error.code !== 'ERR_STORE') looks.faults.add(`the ledger cannot be read: ${error.message}`)
    looks.missed += 1
    return
  }
  looks.done += 1
  for (const account of looks.accounts) judge(account, truth, looks)
}

/** What a budget accounts for; what is free is the rest. */
export const known = ({ spent, suspense, out, kids }: Account): number => spent + suspense + out + kids

/** The account of a budget, if it is there. */
export const accountOf = (accounts: readonly Account[], budget: string, dimension: string): Account | undefined =>
  accounts.find((one) => one.budget === budget && one.dimension === dimension)

function judge(account: Account, truth: Truth, looks: Looks): void {
  const { budget, dimension, limit, balanced, frozen } = account
  const where = `${dimension} of ${budget}`
  const fault = (what: string): void => void (looks.faults.size < 50 && looks.faults.add(`${what}: ${where}`))
  const billed = truth[`${dimension}/${budget}`] ?? 0
  if (budget === ROOT && dimension === 'usd') {
    looks.overspend = Math.max(looks.overspend, billed - limit)
    looks.unknown = Math.max(looks.unknown, billed - known(account))
  }
  if (budget === ROOT && dimension === 'calls') looks.unknownCalls = Math.max(looks.unknownCalls, billed - known(account))
  if (billed > limit) fault('the bill is beyond the limit')
  if (billed > known(account)) fault('the bill is beyond what the ledger knows of')
  // A handoff that was closed is frozen for good; nobody froze what all share.
  if (frozen !== undefined && budget.split('/').length <= 2) fault(`frozen (${frozen})`)
  if (balanced) return
  looks.unbalanced += 1
  fault(`the equation does not hold: ${JSON.stringify(account)}`)
}

/** A limit that was raised, and when that was acknowledged; Unix ms. */
export interface Raise {
  readonly atMs: number
  /** By budget and dimension, `usd/acme`. */
  readonly limits: Readonly<Record<string, number>>
}

/**
 * What is wrong with a refusal `EXCEEDED`, from what it says itself: too little may be left even if all that others
 * hold came back, and a limit that was raised before the call was made must be known to it. Nothing when it is right.
 */
export function faultOfRefusal(refusal: Exceeded, raises: readonly Raise[]): string | undefined {
  const { budget, dimension, limit, spent, free, out, suspense, needed, sinceMs } = refusal
  const facts = JSON.stringify(refusal)
  if (needed <= free + out) return `EXCEEDED although it could fit: ${facts}`
  if (spent + free + out + suspense > limit) return `EXCEEDED with facts that cannot be: ${facts}`
  const before = raises.findLast(({ atMs }) => atMs < sinceMs)?.limits[`${dimension}/${budget}`]
  return before !== undefined && limit < before ? `EXCEEDED under a limit that was ${before} by then: ${facts}` : undefined
}

/** What is wrong with the end of a ledger that nothing is held in any more. */
export function faultsAtTheEnd(accounts: readonly Account[], truth: Truth): string[] {
  const faults: string[] = []
  for (const { budget, dimension, out, kids } of accounts) {
    if (out !== 0) faults.push(`${out} ${dimension} of ${budget} are still out`)
    if (kids !== 0) faults.push(`${kids} ${dimension} of ${budget} are still with its children`)
  }
  for (const budget of [ROOT, ...TEAMS.map((team) => `${ROOT}/${team}`)])
    for (const dimension of DIMENSIONS) {
      const account = accountOf(accounts, budget, dimension)
      const surely = account === undefined ? 0 : account.spent - account.assumed
      // A worst case that nobody knows better is `assumed`; the rest was read from answers.
      if (surely > (truth[`${dimension}/${budget}`] ?? 0)) faults.push(`more ${dimension} of ${budget} were settled than billed`)
    }
  return faults
}
