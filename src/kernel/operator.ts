// The operator's hand on the budgets of a kernel. Whatever it does is in the audit chain first, with who and why; what
// came of it, when that was nothing, is there too.

import { correctCharge, endSuspended, type HoldEnd, type HoldName } from '../budget/operator-holds.ts'
import { freezeBudget, pauseBudget, setLimits, unfreezeBudget, type LimitChange } from '../budget/operator.ts'
import { toAmounts } from '../budget/declaration.ts'
import { assertAmount } from '../lib/amounts.ts'
import type { Json } from '../lib/canonical-json.ts'
import type { StopFacts } from '../lib/errors.ts'
import { assertName, parsePath } from '../lib/names.ts'
import type { Committer } from '../stores/group.ts'
import type { Log } from '../waist/log.ts'
import { liftStop, readStops, writeStop, type StopTarget } from './stops.ts'

/** Who acts, and why; both are recorded. */
export interface Evidence {
  /** A name. */
  readonly by: string
  /** 1 to 1,000 characters: the bill, the ticket, the incident. */
  readonly reason: string
}

/** {@link Evidence}, and how long it is to last. */
export interface LimitEvidence extends Evidence {
  /** Raises for so many ms only, 1 to 31,622,400,000 (366 days), by the clock of the store. @default for good */
  readonly forMs?: number
}

/** Amounts as a person writes them: `usd` in dollars, a number or a decimal string; everything else in whole units. */
export type GivenAmounts = Readonly<Record<string, number | string | undefined>>

/** What an operator can do. */
export interface Operator {
  /**
   * Sets limits in force, `{ usd: 20 }`; the others stay. Lowering takes what is free now and the rest as it comes
   * back (`pendingCut`), never what is spent or in suspense; who must stop at once is frozen. What was declared stays
   * declared, and a declaration with a higher revision sets its own.
   *
   * With `forMs` a limit is raised now and falls again by the same amount when that is over: what is free then goes at
   * once, what is out as it comes back. Any kernel that looks after the store ends it (when it opens, and every
   * `leaseTtlMs` + 2 s), so it may last that much longer, and needs nobody who stays alive; the trail of who ended it
   * has a `raise-ended`. Raises add up, and each ends by itself. A limit that is set for good, and a higher
   * revision, win: they end the raises. Behind a clock that is ahead it ends too early; money that is out stays covered.
   *
   * @throws {HoldfastError} `ERR_UNKNOWN_BUDGET`; `ERR_BUDGET_DECLARATION` for a shape or a handoff's budget; `ERR_STORE`.
   * @throws {RangeError} For a dimension that the budget does not limit; with `forMs`, for a limit that is not higher
   *   than now, and for more than 20 raises of one budget.
   */
  setLimit(path: string, limits: GivenAmounts, evidence: LimitEvidence): Promise<readonly LimitChange[]>
  /**
   * Takes nothing from this budget and those below it for a while; calls wait for it as they wait for money.
   *
   * @param forMs - Ms, at most an hour.
   * @returns Until when, Unix ms by the store's clock.
   * @throws {HoldfastError} As {@link Operator.setLimit}.
   */
  pause(path: string, forMs: number, evidence: Evidence): Promise<number>
  /**
   * The kill switch: `begin` refuses with `ERR_STOPPED` whatever the stop covers, in every kernel on the store, before
   * anything is held, and streams under a guard are cut. In observe mode too. Each kernel knows of it when `watch` wakes
   * it, and 1 s later at most where its store answers. What runs and is no stream goes on to its end; money stays as it is.
   * A stop of the same target that is there is replaced, and never shortened.
   *
   * With `forMs` it ends by itself, 1 to 31,622,400,000 ms (366 days) later by the clock of the store.
   *
   * @throws {RangeError} When 100 stops are in force.
   * @throws {HoldfastError} `ERR_STORE`
   */
  stop(stop: StopTarget & LimitEvidence): Promise<StopFacts>
  /**
   * Lifts the stop of exactly this target; others that cover it stay.
   *
   * @returns What it was; `undefined` when there was none.
   * @throws {HoldfastError} `ERR_STORE`
   */
  resume(stop: StopTarget & Evidence): Promise<StopFacts | undefined>
  /** The stops in force, oldest first. @throws {HoldfastError} `ERR_STORE` */
  stops(): Promise<readonly StopFacts[]>
  /** Takes nothing any more from this budget and those below it. @throws {HoldfastError} As {@link Operator.setLimit}. */
  freeze(path: string, evidence: Evidence): Promise<void>
  /**
   * Ends a freeze, whoever made it. Returns why it was frozen; `undefined` when it was not.
   *
   * @throws {HoldfastError} Also `ERR_DAMAGE` when something there does not balance.
   */
  unfreeze(path: string, evidence: Evidence): Promise<string | undefined>
  /**
   * Ends a hold or a lease in suspense with what it really used, at most what it holds; a dimension that is not named
   * counts as used up. What you say here is believed: look at the bill first.
   *
   * @throws {HoldfastError} `ERR_HOLD_STATE` when it is not in suspense, or its process is alive; `ERR_STORE`.
   */
  reclaim(end: HoldName & Evidence & { readonly used: GivenAmounts }): Promise<HoldEnd>
  /** Ends one at worst, for when nobody will ever know; for 30 days it can be corrected. @throws As {@link Operator.reclaim}. */
  writeOff(end: HoldName & Evidence): Promise<HoldEnd>
  /**
   * Corrects a charge that was assumed, with what the call really used.
   *
   * @throws {HoldfastError} `ERR_HOLD_STATE` when it is not charged, or was corrected; `ERR_STORE`.
   */
  correct(charge: HoldName & Evidence & { readonly used: GivenAmounts }): Promise<HoldEnd>
}

/** Options of {@link createOperator}. */
export interface OperatorOptions {
  readonly committer: Committer
  readonly log: Log
  /** Told when this operator has changed the stops, and waited for. @default nobody */
  readonly onStops?: () => Promise<void>
  /** @throws {HoldfastError} `ERR_CLOSED` */
  readonly assertOpen: () => void
}

const MAX_REASON_LENGTH = 1_000
/** Longest raise for a while, ms. */
export const MAX_RAISE_MS: number = 366 * 24 * 3_600_000

/** Makes the operator's methods of a kernel. */
export function createOperator({ committer, log, onStops = async () => undefined, assertOpen }: OperatorOptions): Operator {
  /** Record first: what cannot be recorded does not happen. */
  async function act<T>(
    type: string,
    { by, reason }: Evidence,
    fields: Readonly<Record<string, Json>>,
    work: () => Promise<T>,
    outcome: (done: T) => Readonly<Record<string, Json>> = () => ({}),
  ): Promise<T> {
    assertOpen()
    assertEvidence(by, reason)
    log.append('event', { type, ...fields, by, reason })
    let done: T
    try {
      done = await work()
    } catch (error) {
      log.append('event', { type: `${type}-failed`, ...fields, by, message: error instanceof Error ? error.message : String(error) })
      throw error
    }
    log.append('event', { type: `${type}-done`, ...fields, ...outcome(done), by })
    return done
  }

  const ended = ({ budget, used, returned }: HoldEnd) => ({ budget, used, returned })

  return {
    async setLimit(path, given, { forMs, ...evidence }) {
      const limits = amountsOf('limits', given)
      const raise = forMs === undefined ? undefined : { forMs: durationOf(forMs), ...evidence }
      const changed = (changes: readonly LimitChange[]) => ({
        before: Object.fromEntries(changes.map(({ dimension, before }) => [dimension, before])),
        pendingCut: Object.fromEntries(changes.map(({ dimension, pendingCut }) => [dimension, pendingCut])),
        ...(changes[0]?.untilMs === undefined ? {} : { untilMs: changes[0].untilMs }),
      })
      const fields = { budget: pathOf(path), limits, ...(forMs === undefined ? {} : { forMs }) }
      return act('set-limit', evidence, fields, () => setLimits(committer, path, limits, raise), changed)
    },
    async pause(path, forMs, evidence) {
      assertAmount('forMs', forMs)
      const until = (untilMs: number) => ({ untilMs })
      return act('pause', evidence, { budget: pathOf(path), forMs }, () => pauseBudget(committer, path, forMs), until)
    },
    async stop({ forMs, by, reason, ...given }) {
      const target = targetOf(given)
      const lasting = forMs === undefined ? {} : { forMs: durationOf(forMs) }
      const write = async (): Promise<StopFacts> => {
        const stop = await writeStop(committer, { target, by, reason, ...lasting })
        await onStops()
        return stop
      }
      return act('stop', { by, reason }, { ...target, ...lasting }, write, ({ id }) => ({ stop: id }))
    },
    async resume({ by, reason, ...given }) {
      const target = targetOf(given)
      const lift = async (): Promise<StopFacts | undefined> => {
        const lifted = await liftStop(committer, target)
        await onStops()
        return lifted
      }
      return act('resume', { by, reason }, { ...target }, lift, (lifted) => ({ stop: lifted?.id ?? null }))
    },
    stops: () => readStops(committer.store),
    async freeze(path, evidence) {
      await act('freeze', evidence, { budget: pathOf(path) }, () => freezeBudget(committer, path, evidence.by, evidence.reason))
    },
    async unfreeze(path, evidence) {
      const was = (frozen: string | undefined) => ({ frozen: frozen ?? null })
      return act('unfreeze', evidence, { budget: pathOf(path) }, () => unfreezeBudget(committer, path), was)
    },
    async reclaim({ process, hold, used: given, ...evidence }) {
      const name = nameOf(process, hold)
      const used = amountsOf('used', given)
      return act('reclaim', evidence, { ...name, used }, () => endSuspended(committer, name, used), ended)
    },
    async writeOff({ process, hold, ...evidence }) {
      const name = nameOf(process, hold)
      return act('write-off', evidence, { ...name }, () => endSuspended(committer, name), ended)
    },
    async correct({ process, hold, used: given, ...evidence }) {
      const name = nameOf(process, hold)
      const used = amountsOf('used', given)
      return act('correct', evidence, { ...name, used }, () => correctCharge(committer, name, used), ended)
    },
  }
}

/** Exactly one target: a stop of everything is never one whose target was forgotten. */
function targetOf({ budget, agent, everything }: { budget?: unknown; agent?: unknown; everything?: unknown }): StopTarget {
  const given = [budget, agent, everything].filter((one) => one !== undefined)
  if (given.length !== 1 || (everything !== undefined && everything !== true))
    throw new TypeError('A stop names one of `budget`, `agent`, and `everything: true`.')
  if (budget !== undefined) parsePath('budget', budget)
  if (agent !== undefined) assertName('agent', agent)
  return {
    ...(budget === undefined ? {} : { budget }),
    ...(agent === undefined ? {} : { agent }),
    ...(everything === undefined ? {} : { everything }),
  } as StopTarget
}

function amountsOf(field: string, given: GivenAmounts) {
  const amounts = toAmounts(field, given)
  if (Object.keys(amounts).length === 0)
    throw new TypeError(`\`${field}\` names nothing; give it \`usd\`, \`tokens\`, \`calls\` or a counter.`)
  return amounts
}

function durationOf(forMs: number): number {
  assertAmount('forMs', forMs)
  if (forMs < 1 || forMs > MAX_RAISE_MS)
    throw new RangeError(`Expected \`forMs\` to be from 1 to ${MAX_RAISE_MS} (366 days), got ${forMs}.`)
  return forMs
}

/** A shape is no path, and is told so by whoever looks for its budget. */
function pathOf(path: string): string {
  parsePath('path', typeof path === 'string' ? path.replaceAll('*', 'any') : path)
  return path
}

function nameOf(process: string, hold: string): HoldName {
  assertName('process', process)
  assertName('hold', hold)
  return { process, hold }
}

function assertEvidence(by: unknown, reason: unknown): void {
  assertName('by', by)
  if (typeof reason !== 'string' || reason.trim() === '' || reason.length > MAX_REASON_LENGTH || !reason.isWellFormed())
    throw new TypeError(`Expected \`reason\` to be a text of 1 to ${MAX_REASON_LENGTH} characters: it is recorded.`)
}
