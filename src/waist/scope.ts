import type { Amounts } from '../lib/amounts.ts'
import type { Refusal } from '../lib/errors.ts'
import type { Earmark, Handoff, HandoffRequest } from './handoff.ts'
import type { Once, OnceOptions } from './once.ts'
import type { Prices } from './price.ts'
import type { Action } from './action.ts'
import type { Answer, Hold } from './hold.ts'

/** Who works on what, and from which budget. */
export interface ScopeIdentity {
  readonly agent: string
  readonly task: string
  /** Path of the budget, such as `acme/report-7`, up to 8 names. */
  readonly budget: string
  /**
   * Further budgets that count everything too, in the same step: that of a user, of a team, of an account at a
   * provider. Up to 4 paths; whoever is handed work goes on counting there. @default none
   */
  readonly also?: readonly string[]
}

/** Options of `begin`, and of what begins with it. */
export interface BeginOptions {
  /** Gives up waiting for money that others hold. */
  readonly signal?: AbortSignal | undefined
  /** Waits at most so long, ms. @default the `waitMs` of the kernel, which it never exceeds */
  readonly waitMs?: number | undefined
}

/** An agent at work on a task. */
export interface Scope extends ScopeIdentity {
  /** Identity of the kernel that it belongs to. */
  readonly boot: string
  /** What the limits of its kernel are: never exceeded, or exceeded by at most a stated sum. */
  readonly promise: 'hard' | 'bounded'
  /**
   * Asks every gate, and sets the worst case aside in one commit.
   *
   * @throws {Refusal} When the kernel says no; nothing was set aside and nothing may run.
   * @throws {HoldfastError} `ERR_STORE`, `ERR_DAMAGE`: the kernel cannot answer, so nothing may run either.
   */
  begin(action: Action, options?: BeginOptions): Promise<Hold>
  /**
   * Asks the gates, and whether a refusal has ended the run, without holding money or using anything up. A refusal is
   * recorded like any other.
   *
   * @returns The refusal, or `undefined` when the gates would let it pass.
   */
  decide(action: Action): Promise<Refusal | undefined>
  /**
   * `begin`, `fn`, `settle` in one. When `fn` throws, the worst case is charged: it may have been billed.
   *
   * @param usageOf - What it used, from the result of `fn`. @default nothing but the counters that were held
   */
  run<T>(
    action: Action,
    fn: (hold: Hold) => Promise<T>,
    usageOf?: (result: T) => Amounts,
    answerOf?: (result: T) => Answer,
    options?: BeginOptions,
  ): Promise<T>
  /**
   * `run` of an effect that may happen once, however often its caller is resumed: a receipt of this name is written
   * in the commit of its hold. An effect that ended is `ran` whatever the store does then: the receipt is completed in
   * the background, an event says so, and until then the answer to others is `unknown`.
   *
   * @param receipt - Names this one effect: the same for every resumption of it, and for nothing else.
   */
  once<T>(receipt: string, action: Action, fn: (hold: Hold) => Promise<T>, options?: OnceOptions): Promise<Once<T>>
  /**
   * Hands work to another agent: moves its budget out of this scope's, in one commit that is recorded like any
   * action, and makes a scope for it that can do less than this one, never more.
   *
   * @throws {Refusal} When the budget does not fit, or a gate says no.
   * @throws {TypeError} {RangeError} For a request that cannot be understood, or a path deeper than 8 levels.
   */
  handoff(request: HandoffRequest, options?: BeginOptions): Promise<Handoff>
  /**
   * Sets money aside for a later step of this work, so that earlier ones cannot use it up: an allotment, as in a handoff,
   * but for the same agent under the same rules. What is left comes back when it is closed, or its process is gone.
   *
   * @param step - A name, up to 100 characters.
   * @param budget - `{ usd: 0.5, calls: 3 }`, in the units of `openKernel({ budgets })`.
   * @throws {Refusal} {TypeError} {RangeError} As {@link Scope.handoff}.
   */
  earmark(step: string, budget: HandoffRequest['budget'], options?: BeginOptions): Promise<Earmark>
  /**
   * The same scope for the last answer of its work: its actions may use what budgets keep for that (`wrapUp`), so an
   * agent that was refused can still say what it has.
   */
  wrapUp(): Scope
  /** Runs `fn` with this scope as the ambient one, as one run. */
  enter<T>(fn: () => T): T
  /**
   * Says no to what an integration cannot hold, such as a request without a bound: recorded like any refusal.
   *
   * @throws {Refusal} The given one. In observe mode it returns instead, having reported it: the action may pass.
   */
  refuse(refusal: Refusal): void
  /**
   * Somebody upstream said to slow down (429, `Retry-After`): pauses a budget for all who count on it. Recorded; never
   * throws, since the answer that said so is on its way to the caller.
   *
   * @param budget - One that this scope counts on; of another one nothing is paused, and an event says so.
   * @param forMs - Ms; at most an hour counts.
   */
  pause(budget: string, forMs: number, reason: string): void
  /**
   * The `notice` of the last hold that this process took on these budgets. Whoever will tell a model of the next
   * one holds room for it beforehand, since its bytes cost as well. Never throws.
   */
  notice(): Promise<string | undefined>
  /** The last refusal of the current run; outside of a run, the scope's last one. */
  readonly refusal: Refusal | undefined
  /** The price list of the kernel, loaded when it is first asked for. */
  prices(): Promise<Prices>
  /** Reports what an integration noticed, such as an answer without usage. Never throws: somebody waits for that answer. */
  report(event: ScopeEvent): void
}

/** What an integration noticed, with what to do about it. */
export interface ScopeEvent {
  /** `assumed`: charged at worst since nobody knows. `escape`: two layers counted differently. */
  readonly type: 'assumed' | 'escape'
  readonly message: string
}

/** Where an integration takes its scope from: given, by function, or (nothing) the ambient one. */
export type ScopeSource = Scope | (() => Scope | undefined) | undefined
