// What is asked of the ledger, and what can be said about it without a store.

import type { Amounts } from '../lib/amounts.ts'
import { Refusal } from '../lib/errors.ts'
import type { ProposedAction } from '../waist/action.ts'
import type { Batch } from '../waist/batch.ts'
import type { Level } from './legs.ts'

/** What `begin` asks of the ledger. */
export interface TakeRequest {
  readonly holdId: string
  readonly path: string
  /** Further budgets that count it. */
  readonly also: readonly string[]
  readonly action: ProposedAction
  /** What is to happen in the same commit. */
  readonly fragment: Batch
  /** When the action began to wait, by `performance.now()`. */
  readonly startedAt: number
  /** How long it waits at most, ms, if that is shorter than usual. */
  readonly waitMs?: number | undefined
  /** What the trail has of this hold: its last intent, as JSON. Kept from take to take. */
  readonly trail: { intent?: string }
  readonly signal?: AbortSignal
}

/** Whether a lease can serve it: a write of its own, or money that goes to a child, needs a commit anyway. */
export function isLeasable({ fragment, action }: TakeRequest, amounts: Amounts): boolean {
  return (
    action.allot === undefined &&
    Object.values(fragment).every((part) => part?.length === 0) &&
    Object.values(amounts).some((amount) => amount > 0)
  )
}

/** What a record says of further budgets; nothing when there are none. */
export const alsoOf = (also: readonly string[]): { readonly also?: readonly string[] } => (also.length === 0 ? {} : { also })

/** Where a hold counts, as its record has it. */
export const placeOf = (path: string, also: readonly string[]): { readonly path: string; readonly also?: readonly string[] } => ({
  path,
  ...alsoOf(also),
})

/** @throws {Refusal} `ERR_UNKNOWN_PRICE` where money is limited and the price is not known. */
export function assertPriced(levels: readonly Level[], { unpriced, agent, resource }: ProposedAction, observe: boolean): void {
  const limited = levels.find(({ record }) => 'usd' in record.limits)
  if (unpriced === undefined || observe || limited === undefined) return
  const about = { agent, resource, wouldPass: unpriced }
  throw new Refusal('ERR_UNKNOWN_PRICE', `${unpriced} Budget \`${limited.path}\` limits usd, so it is refused.`, about)
}

/** Most legs of one action: its end writes up to four counters of each, in one batch. Eight levels of 30 dimensions. */
const MAX_LEGS = 240

/** @throws {RangeError} For an action that counts in so many places that no batch could end it. */
export function assertFewLegs({ length }: readonly unknown[], { path, also }: TakeRequest): void {
  if (length <= MAX_LEGS) return
  const places = [path, ...also].map((one) => `\`${one}\``).join(', ')
  throw new RangeError(`An action on ${places} counts in ${length} places, at most ${MAX_LEGS}: name fewer budgets, or count less.`)
}

/** A gate's counter does not let it pass. */
export function fragmentRefused(which: string, { agent, resource }: ProposedAction): Refusal {
  return new Refusal('ERR_PERMISSION_DENIED', `A gate's counter \`${which}\` has reached its bound.`, { agent, resource })
}

/** Two parts of one commit. */
export function joined(one: Batch, other: Batch): Batch {
  return {
    ...one,
    check: [...(one.check ?? []), ...(other.check ?? [])],
    set: [...(one.set ?? []), ...(other.set ?? [])],
  }
}
