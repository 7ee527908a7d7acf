import type { Amounts } from '../lib/amounts.ts'
import type { Batch } from './batch.ts'

/** What an agent proposes to do, told to the kernel before it happens. */
export interface Action {
  /** `model`, `tool`, `write`, `handoff`, or a kind of your own. */
  readonly kind: string
  /** The model id or the name of the tool. */
  readonly resource: string
  /** Arguments, as JSON. They are hashed, never stored. */
  readonly args?: unknown
  /**
   * The most that it can use, by dimension: `usd` in nano-USD, the rest in units. Dimensions that no budget
   * on the path limits are not counted. @default nothing
   */
  readonly worst?: Amounts
  /**
   * Money that leaves the budget for a child, which this action makes, instead of being held: it counts in `kids`
   * until the child is closed. An action has this or `worst`. `about` is the key of a record that `with` writes and
   * that goes some time after all of the money has come back.
   */
  readonly allot?: { readonly budget: string; readonly limits: Amounts; readonly about?: string }
  /** The part of a model call's worst case that shrinks with its output cap; it comes on top of `worst`. */
  readonly output?: OutputBound
  /** The least that any action of this kind could use: when not even that is left, the run is over. */
  readonly smallest?: Amounts
  /** The last answer of its work: it may use what the budget keeps for that. @default false */
  readonly wrapUp?: boolean
  /** A write that happens in the same commit as the hold, or not at all. A check in it that fails is `ERR_CONFLICT`. */
  readonly with?: Batch
  /** Where the price of the worst case comes from, as in `ModelPrice.source`; recorded with the intent, so that a charge at worst can be traced to it. */
  readonly priceSource?: string
  /** Set when the price is not known: why, and the line that mends it. Refused wherever a budget limits `usd`. */
  readonly unpriced?: string
}

/** Output tokens of a model call, and what each may cost. */
export interface OutputBound {
  /** What is asked for. */
  readonly tokens: number
  /** The kernel may grant fewer when that makes the call fit, but not fewer than this. */
  readonly minTokens: number
  /** What one more output token adds, on every choice. */
  readonly perToken: Amounts
  /**
   * Holds only this many at first; whoever counts the output as it comes begins the rest, as actions of their own, before
   * they are used up. Only where the promise is `bounded`. @default all are held from the start
   */
  readonly stepTokens?: number
}

/** An action as the gates see it. */
export interface ProposedAction extends Action {
  readonly agent: string
  readonly task: string
  /** SHA-256 of the canonical JSON of `args`; of `null` when there are none. */
  readonly argsHash: string
}
