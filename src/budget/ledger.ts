// The ledger: money is set aside at every level of a path in one batch, and moved to where it belongs in
// another. Direct form: one hold is one batch. Nothing is spent that was not held first, because an action
// starts only after its batch was acknowledged, and `free` never goes below zero at any level.

import { assertAmounts, zeroed, type Amounts } from '../lib/amounts.ts'
import { HoldfastError, Refusal } from '../lib/errors.ts'
import { newId } from '../lib/ids.ts'
import type { Committer } from '../stores/group.ts'
import type { HandoffClosing } from '../waist/handoff.ts'
import type { Log } from '../waist/log.ts'
import { createBalanceCheck, type Imbalance } from './balance.ts'
import { fitOf, type Misfit, type Need } from './fit.ts'
import { allotmentBatch, createAllotments, type ClosedAllotment } from './allotment.ts'
import { createEnding, type Overrun } from './ending.ts'
import { createHoldWriter, type Grant } from './hold-writer.ts'
import { createLeases, type Lease } from './lease.ts'
import { amountsWith, heldLegs, leftOf, legsLike, legsOf, type Level } from './legs.ts'
import { createLending, type Drawn } from './lending.ts'
import { assertKnownDimensions, createLevels } from './levels.ts'
import { createPace } from './pace.ts'
import type { Processes } from './processes.ts'
import { counterKey, levelsOf } from './record.ts'
import { createRefusals } from './refusal.ts'
import { createStoreTime } from './windows/store-time.ts'
import { alsoOf, assertFewLegs, assertPriced, fragmentRefused, isLeasable, joined, placeOf, type TakeRequest } from './take-request.ts'
import { createWaitingLines } from './waiting-line.ts'
import { createWarnings, type Warning } from './warnings.ts'
import { homeOf } from './windows/window.ts'

/** Options of {@link createLedger}. */
export interface LedgerOptions {
  readonly committer: Committer
  readonly processes: Processes
  readonly log: Log
  /** Observe mode: what does not fit is counted beside the equation instead of refused. */
  readonly observe: boolean
  /** How long an action waits for money that others hold, ms; 0: not at all. */
  readonly waitMs: number
  /** How long the process of an allotment may be gone before it is closed, ms. */
  readonly orphanMs: number
  readonly now: () => number
  /** @throws {HoldfastError} `ERR_CLOSED` as soon as the kernel closes: nothing is taken any more. */
  readonly assertOpen: () => void
  /** Does this in the background, again and again until it succeeds. */
  readonly later: (work: () => Promise<void>) => void
  /** Whether a budget that is used often is leased in chunks, or every action asks the store. */
  readonly leasing: boolean
  /** Between two reports of what leases have spent, ms. */
  readonly tickMs: number
  readonly onTrouble: (error: unknown) => void
  /** Told when a threshold of a budget was passed. */
  readonly onWarning: (warning: Warning) => void
  /** Puts in order what processes have left that are known to be dead. */
  readonly succeed: () => Promise<void>
}

/** The ledger of one process on one store. */
export interface Ledger {
  /**
   * @throws {Refusal} For money, or for a budget that does not exist or is frozen.
   * @throws {FragmentConflict} When a gate's part of the commit no longer holds.
   * @throws {HoldfastError} `ERR_STORE` and its kin: nothing was set aside that this process may use.
   */
  take(request: TakeRequest): Promise<Grant>
  /**
   * Ends a grant. Safe to repeat: it happens once. A `settle` after a `charge` corrects it, up to 30 days later.
   *
   * @returns What became of an overrun, if the real use went beyond the worst case.
   * @throws {HoldfastError} When the store cannot answer now; try again later.
   */
  end(grant: Grant, used: Amounts, how: 'settle' | 'charge'): Promise<Overrun | undefined>
  /** What a model should be told that works on these levels: that little is left. */
  noticeFor(levels: readonly Level[]): string | undefined
  /** The same for a path. What it cannot find out it does not tell: the next action on that path says why. */
  noticeOn(path: string, also: readonly string[]): Promise<string | undefined>
  /** Ends an allotment, such as that of a handoff: what is left goes back up. Safe to repeat. @throws {HoldfastError} `ERR_STORE` */
  closeAllotment(path: string): Promise<HandoffClosing>
  /** Ends those that this process has made. @throws {HoldfastError} `ERR_STORE` */
  closeOwnAllotments(): Promise<void>
  /** Reports what was spent from leases, so that the store knows of everything. @throws {HoldfastError} `ERR_STORE` */
  report(): Promise<void>
  /** The same, and gives back what lies idle. @throws {HoldfastError} `ERR_STORE` */
  flush(): Promise<void>
  /** Leases nothing any more. */
  stop(): void
  /** Looks whether the budgets that this process uses balance, and freezes the trees of those that do not. */
  check(): Promise<readonly Imbalance[]>
  /** Notes how much the budgets that this process uses have spent, where that is due. */
  sample(): Promise<void>
  /** Looks after processes that are silent: their holds go to suspense, later their allotments come back. Returns how many holds moved. */
  sweep(): Promise<number>
}

/** One take, from try to try. */
interface Trial {
  readonly request: TakeRequest
  readonly need: Need
  /** It was told no before, so it looks before it writes: who waits must not fill the journal. */
  refused: boolean
}

const NO_OUTPUT = { tokens: 0, minTokens: 0, perToken: {} } as const
/** How often one take may be told that what it knew has changed. */
const MAX_ATTEMPTS = 100
/** How often one try brings together what came back to parts of rolling windows: of several windows, or of one that others use too. */
const MAX_GATHERS = 8
/** Most counters that are remembered as short of money. */
const MAX_TIGHT = 10_000

/** Makes the ledger of this process. */
export function createLedger(options: LedgerOptions): Ledger {
  const { committer, processes, log, observe, waitMs, orphanMs, now, assertOpen, later } = options
  const { store } = committer
  const time = createStoreTime(store, now)
  const levels = createLevels(store, { time, commit: (batch) => committer.commit(batch) })
  const warnings = createWarnings(options.onWarning)
  const lines = createWaitingLines((wake) => store.watch('free/', wake))
  const holds = createHoldWriter({ committer, processes, levels, boot: log.boot, observe, now })
  const allotments = createAllotments(committer, levels, log.boot)
  const endHeld = createEnding({ committer, processes, levels, holds, allotments, observe })
  const { tickMs, onTrouble, succeed } = options
  const refuse = createRefusals(store, log.boot, onTrouble)
  const leases = createLeases({ committer, processes, holds, allotments, later, onTrouble })
  const lending = createLending({
    committer,
    leases,
    levels,
    time,
    warnings,
    end: endHeld,
    lease,
    overranMark: (holdId) => holds.placesOf(holdId).overran,
    tickMs,
    onTrouble,
  })
  /** Counters that were short when last asked: the next one looks before it writes. */
  const tight = new Set<string>()

  /** One try: a grant, or why it does not fit. Retries by itself whatever only needs a second look. */
  async function attempt(trial: Trial): Promise<Grant | Misfit> {
    const { request, need } = trial
    const over = new Set<string>()
    let outputTokens = need.output.tokens
    for (let attempts = 0; attempts < MAX_ATTEMPTS; attempts++) {
      assertOpen()
      const path = await levels.of(request.path, observe, request.also)
      assertKnownDimensions(path, amountsWith(need.fixed, need.output.perToken, 1))
      assertPriced(path, request.action, observe)
      const { wrapUp } = request.action
      const least = legsOf(path, amountsWith(need.fixed, need.output.perToken, need.output.minTokens), over, wrapUp)
      assertFewLegs(least, request)
      if (!observe && (trial.refused || least.some(({ key }) => tight.has(key)))) {
        const fit = fitOf(least, await levels.standings(least), need)
        // No commit will tell that these levels have changed, or were frozen.
        if (fit.fit !== 'now' && !(await levels.areCurrent(path))) continue
        if (fit.fit !== 'now') return fit
        outputTokens = Math.min(outputTokens, fit.outputTokens)
      }
      const amounts = amountsWith(need.fixed, need.output.perToken, outputTokens)
      assertAmounts('worst', amounts)
      const legs = legsOf(path, amounts, over, wrapUp)
      writeIntent(request, amounts, outputTokens)
      const { agent, resource, allot } = request.action
      // What is allotted has gone to the child with this very commit; there is nothing to end.
      const held = allot === undefined ? { amounts, legs: heldLegs(legs) } : { amounts: {}, legs: {} }
      const record = { ...placeOf(request.path, request.also), agent, resource, atMs: now(), legs: held.legs }
      const grant = { holdId: request.holdId, path: request.path, amounts: held.amounts, outputTokens, levels: path, record, version: 0 }
      // Nothing to hold and nothing to write: no commit at all.
      if (legs.length === 0 && Object.values(request.fragment).every((part) => part?.length === 0)) {
        if (await levels.areCurrent(path)) return grant
        continue
      }
      const result = await (allot === undefined
        ? holds.write(grant, legs, request.fragment)
        : holds.write(grant, legs, joined(request.fragment, allotmentBatch(allot, legs, log.boot)), 'kids'))
      if (result.outcome === 'ok') {
        for (const { key } of legs) tight.delete(key)
        for (const { level, dimension, free } of leftOf(legs, result.values)) warnings.note(path, level, dimension, free)
        if (allot !== undefined) processes.held(allot.budget)
        return { ...grant, version: result.version }
      }
      if (result.outcome === 'conflict') {
        holds.learn(result.which, request.fragment)
        continue
      }
      if (result.outcome === 'unknown') {
        giveBack(grant, allot?.budget)
        delete request.trail.intent
        throw new HoldfastError('ERR_STORE', `${store.name} did not answer; nothing may run.`, { cause: result.cause })
      }
      const refused = legs.find(({ key }) => counterKey('free', key) === result.which)
      if (refused === undefined) throw fragmentRefused(result.which, request.action)
      if (observe) over.add(refused.key)
      else {
        trial.refused = true
        if (tight.size >= MAX_TIGHT) tight.clear()
        tight.add(refused.key)
      }
    }
    throw new HoldfastError('ERR_STORE', `${store.name} changed ${MAX_ATTEMPTS} times under one action; nothing was set aside.`)
  }

  /** A take that nobody acknowledged may have happened. Nothing ran on it, so it is undone as soon as the store answers. */
  function giveBack(grant: Grant, allotment: string | undefined): void {
    const nothing = zeroed(grant.amounts)
    later(async () => {
      await endHeld({ ...grant, version: undefined }, nothing, 'settle')
      if (allotment !== undefined) await allotments.abandon(allotment)
    })
    const reason = 'its take was never acknowledged, so nothing ran on it'
    log.append('outcome', { hold: grant.holdId, budget: grant.path, outcome: 'released', used: nothing, reason })
  }

  function writeIntent({ holdId, path, also, action, trail }: TakeRequest, amounts: Amounts, outputTokens: number, lent?: Lease): void {
    const intent = JSON.stringify([amounts, lent?.id])
    if (trail.intent === intent) return
    const { agent, task, kind, resource, argsHash, priceSource } = action
    const more = {
      ...(outputTokens > 0 ? { outputTokens } : {}),
      ...(lent === undefined ? {} : { lease: lent.id }),
      ...(priceSource === undefined ? {} : { priceSource }),
    }
    log.append('intent', { hold: holdId, budget: path, ...alsoOf(also), agent, task, action: kind, resource, argsHash, amounts, ...more })
    trail.intent = intent
  }

  /** A chunk of a budget, taken as one hold; `undefined` when it is not there, or nobody knows. */
  async function lease(path: string, also: readonly string[], amounts: Amounts): Promise<Lease | undefined> {
    const known = await levels.of(path, false, also)
    const legs = legsOf(known, amounts, new Set())
    const holdId = newId()
    log.append('lease', { lease: holdId, budget: path, amounts })
    const record = {
      ...placeOf(path, also),
      agent: '',
      resource: 'lease',
      atMs: now(),
      legs: heldLegs(legs),
      reported: { used: {}, assumed: {} },
    }
    const grant = { holdId, path, amounts, outputTokens: 0, levels: known, record, version: 0 }
    const result = await holds.write(grant, legs, {})
    if (result.outcome === 'ok') return leases.open({ ...grant, version: result.version })
    if (result.outcome === 'conflict') holds.learn(result.which, {})
    if (result.outcome === 'unknown') giveBack(grant, undefined)
    return undefined
  }

  /** What this action needs, from what this process has leased; without waiting for anybody, if there is enough. */
  function draw(request: TakeRequest, { fixed, output }: Need): Grant | undefined {
    const { holdId, path, also, action } = request
    const amounts = amountsWith(fixed, output.perToken, output.tokens)
    const lent = lending.draw(path, also, holdId, amounts)
    if (lent === undefined) return undefined
    const record = {
      ...placeOf(path, also),
      agent: action.agent,
      resource: action.resource,
      atMs: now(),
      legs: legsLike(lent.grant.record.legs, amounts),
    }
    const grant: Drawn = { holdId, path, amounts, outputTokens: output.tokens, levels: lent.levels, record, version: 0, lease: lent }
    try {
      assertKnownDimensions(lent.levels, amounts)
      assertPriced(lent.levels, action, observe)
      assertAmounts('worst', amounts)
      writeIntent(request, amounts, output.tokens, lent)
    } catch (error) {
      leases.end(lent, grant, zeroed(amounts), 'settle')
      throw error
    }
    return grant
  }

  async function take(request: TakeRequest): Promise<Grant> {
    const { startedAt, action, signal } = request
    const patienceMs = Math.min(waitMs, request.waitMs ?? waitMs)
    const { agent, resource, worst = {}, allot, smallest = {}, output = NO_OUTPUT } = action
    // Without a single output token there is no answer to pay for, and a cap of 0 would read as none.
    const need: Need = { fixed: allot?.limits ?? worst, output: { ...output, minTokens: Math.max(1, output.minTokens) } }
    const trial: Trial = { request, need, refused: false }
    /** What it waits for. */
    let last: { readonly path: string; readonly refusal: () => Promise<Refusal> } | undefined
    const tryOnce = async (): Promise<Grant | undefined> => {
      const paused = (error: unknown): undefined => {
        const { retryAtMs } = Refusal.isInstance(error) ? error.details : {}
        if (retryAtMs === undefined || !isBefore(retryAtMs, until)) throw error
        last = { path: request.path, refusal: async () => error as Refusal }
      }
      let answer = await attempt(trial).catch(paused)
      if (answer === undefined) return undefined
      // Before it is refused for money, what this process has idle goes back, and the holds of dead processes are looked at: they will not come back.
      if ('fit' in answer && (await lending.giveBack(homeOf(answer.leg.level.path)))) answer = await attempt(trial)
      if ('fit' in answer) {
        const { suspended, closed } = await sweep()
        if (suspended + closed > 0) answer = await attempt(trial)
      }
      for (let looks = 0; 'fit' in answer && looks < MAX_GATHERS && (await levels.gather(answer.leg.level.path)); looks++)
        answer = await attempt(trial)
      if (!('fit' in answer)) return answer
      const found = answer
      const { leg } = found
      const refusal = (): Promise<Refusal> => refuse(found, about())
      // A window that is over soon is waited for like money that comes back.
      if (answer.fit === 'never' && !isBefore(leg.level.endsAtMs ?? Infinity, until)) throw await refusal()
      last = { path: homeOf(leg.level.path), refusal }
      if (patienceMs > 0) void lending.recall(last.path).catch(onTrouble)
      return undefined
    }
    const about = () => ({ agent, resource, smallest, waitedMs: Math.round(performance.now() - startedAt) })
    const until = startedAt + patienceMs
    const amounts = amountsWith(need.fixed, need.output.perToken, need.output.tokens)
    const ahead = lines.busy(() => [request.path, ...request.also].flatMap(levelsOf))
    if (options.leasing && !observe && ahead === undefined && isLeasable(request, amounts)) {
      assertOpen()
      const drawn = draw(request, need) ?? ((await lending.stock(request.path, request.also, amounts)) ? draw(request, need) : undefined)
      if (drawn !== undefined) return drawn
    }
    const first = ahead === undefined ? await tryOnce() : undefined
    if (first !== undefined) return first
    const grant = patienceMs > 0 ? await lines.wait(ahead ?? last!.path, until, tryOnce, signal) : undefined
    if (grant !== undefined) return grant
    // Whoever stood in line to the end was never asked: what stands in the way is whatever stands there now.
    const late = last === undefined ? await tryOnce() : undefined
    if (late !== undefined) return late
    throw await last!.refusal()
  }

  async function end(grant: Grant, used: Amounts, how: 'settle' | 'charge'): Promise<Overrun | undefined> {
    return grant.lease === undefined ? endHeld(grant, used, how) : lending.end(grant as Drawn, used, how)
  }

  async function closeAllotment(path: string): Promise<HandoffClosing> {
    await lending.giveBack(path)
    const closing = await allotments.close(path)
    processes.ended(path)
    return closing
  }

  function recordClosed(closed: readonly ClosedAllotment[]): void {
    for (const { path, boot, closing } of closed) log.append('event', { type: 'orphan-closed', budget: path, process: boot, ...closing })
  }

  async function sweep(): Promise<{ readonly suspended: number; readonly closed: number }> {
    await succeed()
    const suspended = await processes.sweep()
    const closed = await allotments.sweep(orphanMs)
    recordClosed(closed)
    return { suspended, closed: closed.length }
  }

  return {
    take,
    end,
    report: () => lending.report(),
    flush: () => lending.report(true),
    stop: () => lending.stop(),
    check: createBalanceCheck(committer, () => levels.known()),
    noticeFor: (levels) => warnings.noticeFor(levels),
    noticeOn: async (path, also) =>
      warnings.isQuiet() ? undefined : warnings.noticeFor(await levels.of(path, true, also).catch(() => [])),
    sample: createPace(committer, () => levels.known()),
    closeAllotment,
    closeOwnAllotments: async () => recordClosed(await allotments.closeOwn()),
    sweep: async () => (await sweep()).suspended,
  }

  /** Whether the store's clock comes to `atMs` before `performance.now()` comes to `until`. */
  function isBefore(atMs: number, until: number): boolean {
    return atMs - time.estimate() < until - performance.now()
  }
}
