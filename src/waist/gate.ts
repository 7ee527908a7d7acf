import type { RefusalCode } from '../lib/errors.ts'
import type { Batch } from './batch.ts'
import type { ProposedAction } from './action.ts'

/** What an action is narrowed to. */
export interface Caps {
  /** Most output tokens of a model call, per choice. */
  readonly maxOutputTokens?: number
}

/** A gate's no. */
export interface Denial {
  readonly verdict: 'deny'
  readonly reason: string
  /** @default 'ERR_PERMISSION_DENIED' */
  readonly code?: RefusalCode
  /** The smallest change that would pass, for the operator. */
  readonly wouldPass?: string
  /** What the model is told. @default a sentence that fits the code */
  readonly modelMessage?: string
}

/** A gate's answer. */
export type Verdict =
  /** `fragment` is its part of the one commit of `begin`: it happens together with the money, or not at all. */
  | { readonly verdict: 'allow'; readonly caps?: Caps; readonly fragment?: Batch }
  /** A person has to approve first. */
  | { readonly verdict: 'ask'; readonly reason: string }
  | Denial

/** One question that every action must pass. The kernel knows this shape, not the gates. */
export interface Gate {
  /** For records and messages. */
  readonly name: string
  /** Decides. A gate that throws refuses: nothing runs past a gate that cannot answer. */
  decide(action: ProposedAction): Verdict | Promise<Verdict>
  /**
   * Watches an action that it let pass and that can still be cut, a stream: `cut` ends it with this denial, once. Returns
   * the stop function, which is called when the action has ended. One that throws cuts at once. @default it never cuts
   */
  watch?(action: ProposedAction, cut: (denial: Denial) => void): () => void
}
