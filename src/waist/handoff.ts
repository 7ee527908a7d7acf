import type { Amounts } from '../lib/amounts.ts'
import type { Rule } from './rule.ts'
import type { Scope } from './scope.ts'

/** Work that one agent hands to another, with what that one may spend and do. */
export interface HandoffRequest {
  /** The agent that takes over. */
  readonly to: string
  /**
   * What it may spend: `{ usd: 0.5, calls: 20 }`, in the units of `openKernel({ budgets })`. Moved out of the budget
   * of who hands off; a dimension that is not named stays counted there.
   */
  readonly budget: Readonly<Record<string, number | string>>
  /** Rules on tools for the receiver, beside those that bind who hands off: an action has to pass both. @default no further ones */
  readonly rules?: readonly Rule[]
  /** What to do. */
  readonly instruction: string
  readonly context?: string
  readonly constraints?: string
  readonly expectedOutput?: string
}

/** What became of the money of a handoff, by dimension; `usd` in nano-USD. */
export interface HandoffClosing {
  /** Went back to who handed off. */
  readonly returned: Amounts
  readonly spent: Amounts
  /** Still held by actions, or handed on; it goes up when those end. */
  readonly stillOut: Amounts
  /** Held by processes that died: counts as spent until somebody knows better. */
  readonly inSuspense: Amounts
}

/** Money that was set aside for a later step of one's own. `await using` gives back what is left. */
export type Earmark = Omit<Handoff, 'message'>

/** A handoff that was made. `await using` closes it. */
export interface Handoff extends AsyncDisposable {
  readonly id: string
  /** The receiver at work. Of what was moved it spends that and no more; what was not is counted above, as for the giver. */
  readonly scope: Scope
  /** The handoff as text for the receiver, written by `formatHandoff`. */
  readonly message: string
  /**
   * Ends it: nothing more is spent, and what is left goes back. Safe to repeat; later calls tell how things stand.
   *
   * @throws {HoldfastError} `ERR_STORE` when the store does not answer; nothing was lost, close again.
   */
  close(): Promise<HandoffClosing>
}
