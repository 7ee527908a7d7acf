import type { Amounts } from '../lib/amounts.ts'
import type { Caps } from './gate.ts'
import type { ScopeIdentity } from './scope.ts'

/** How a hold ends. None of these throws because the store is away: the outcome is on disk, and is retried. */
export interface Settlement {
  /**
   * It used this much. A held dimension that is not named counts as used up to its worst case. More than
   * was held is an overrun: recorded, taken from free money, else the tree freezes.
   *
   * @throws {HoldfastError} `ERR_HOLD_STATE` when the hold ended otherwise, or with other amounts.
   */
  settle(usage: Amounts, answer?: Answer): Promise<void>
  /** Provably not billed: everything goes back. @throws {HoldfastError} `ERR_HOLD_STATE`, as `settle` */
  release(reason: string): Promise<void>
  /** Nobody knows what it used: the worst case counts as spent, marked *assumed*. A later `settle` corrects it. */
  charge(reason: string): Promise<void>
}

/** What is known of the answer that a hold paid for. */
export interface Answer {
  /** The provider's id of the response, so that one answer is never paid from two holds. */
  readonly responseId?: string
  /** Where the price that the amounts were computed with comes from, with its version: as in `ModelPrice.source`. */
  readonly priceSource?: string
}

/** Money set aside for one action. */
export interface Hold extends Settlement {
  readonly id: string
  /** Whose it is. */
  readonly owner: ScopeIdentity & { readonly boot: string }
  /** What is set aside, by dimension. */
  readonly amounts: Amounts
  /** What the action was narrowed to. */
  readonly caps: Caps
  /** What the model should be told with this call: that most of its budget is used up. Absent as long as there is enough. */
  readonly notice: string | undefined
  /** Unix ms; past it the hold is charged at worst. */
  readonly deadlineAtMs: number
  readonly state: 'held' | 'settled' | 'released' | 'charged'
  /**
   * Aborts, with a `Refusal` as its reason, when the action should not go on: a stop covers it, a budget that it counts on
   * is frozen, or a gate withdraws what it allowed. Never after the hold has ended. Listened to from the first time that
   * it is asked for: by what can be cut, a stream; what cannot be cut has been paid for anyway.
   */
  readonly cut: AbortSignal
  /**
   * Hands the hold to the one HTTP attempt that it pays for. From then on that attempt alone decides what was
   * spent; `settle` of the hold itself only compares.
   *
   * @returns `undefined` when it was handed out before, or has ended.
   */
  claim(): Settlement | undefined
}
