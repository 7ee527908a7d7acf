// The ledger: money is set aside at every level of a path in one batch, and moved to where it belongs in
// another. Direct form: one hold is one batch. Nothing is spent that was not held first, because an action
// starts only after its batch was acknowledged, and `free` never goes below zero at any level.

import { assertAmounts, type Amounts } from '../lib/amounts.ts'
import { HoldfastError, Refusal } from '../lib/errors.ts'
import type { Committer, CommitResult } from '../stores/group.ts'
import type { ProposedAction } from '../waist/action.ts'
import type { Batch } from '../waist/batch.ts'
import type { Fragment } from '../waist/gate.ts'
import type { Log } from '../waist/log.ts'
import { budgetRefusal, fitOf, type Fit, type Need } from './fit.ts'
import { amountsWith, endAdds, heldLegs, legsOf, takeAdds, type Ending, type Leg, type Level } from './legs.ts'
import { assertKnownDimensions, createLevels } from './levels.ts'
import type { HoldRecord, Processes } from './processes.ts'
import { budgetKey, counterKey } from './record.ts'
import { createWaitingLines } from './waiting-line.ts'

/** Options of {@link createLedger}. */
export interface LedgerOptions {
  readonly committer: Committer
  readonly processes: Processes
  readonly log: Log
  /** Observe mode: what does not fit is counted beside the equation instead of refused. */
  readonly observe: boolean
  /** How long an action waits for money that others hold, ms; 0: not at all. */
  readonly waitMs: number
  readonly now: () => number
}

/** What `begin` asks of the ledger. */
export interface TakeRequest {
  readonly holdId: string
  readonly path: string
  readonly action: ProposedAction
  /** What the gates want to happen in the same commit. */
  readonly fragment: Fragment
  readonly signal?: AbortSignal
}

/** Money that was set aside. */
export interface Grant {
  readonly holdId: string
  readonly path: string
  /** What is set aside, by dimension. */
  readonly amounts: Amounts
  readonly outputTokens: number
  readonly legs: readonly Leg[]
  /** Version of the hold's record; `undefined` when nothing had to be written. */
  readonly version: number | undefined
}

/** The gates have to be asked again: what one of them built upon has changed. */
export class FragmentConflict extends Error {}

/** The ledger of one process on one store. */
export interface Ledger {
  /**
   * @throws {Refusal} For money, or for a budget that does not exist or is frozen.
   * @throws {FragmentConflict} When a gate's part of the commit no longer holds.
   * @throws {HoldfastError} `ERR_STORE` and its kin: nothing was set aside that this process may use.
   */
  take(request: TakeRequest): Promise<Grant>
  /**
   * Ends a grant. Safe to repeat: it happens once.
   *
   * @returns Whether the real use went beyond the worst case, and whether that froze the tree.
   * @throws {HoldfastError} When the store cannot answer now; try again later.
   */
  end(grant: Grant, used: Amounts, how: 'settle' | 'charge' | 'correct'): Promise<{ readonly overrun: boolean; readonly frozen: boolean }>
}

const NO_OUTPUT = { tokens: 0, minTokens: 0, perToken: {} } as const
/** How often one take may be told that what it knew has changed. */
const MAX_ATTEMPTS = 100

/** Makes the ledger of this process. */
export function createLedger({ committer, processes, log, observe, waitMs, now }: LedgerOptions): Ledger {
  const { store } = committer
  const levels = createLevels(store)
  const lines = createWaitingLines((wake) => store.watch('free/', wake))
  const observed = new Set<string>()

  /** One try: a grant, or why it does not fit. Retries by itself whatever only needs a second look. */
  async function attempt(request: TakeRequest, need: Need, written: { intent?: string }): Promise<Grant | Exclude<Fit, { fit: 'now' }>> {
    const over = new Set<string>()
    let outputTokens = need.output.tokens
    for (let attempts = 0; attempts < MAX_ATTEMPTS; attempts++) {
      const path = await levels.of(request.path)
      assertKnownDimensions(path, amountsWith(need.fixed, need.output.perToken, 1))
      assertPriced(path, request.action, observe)
      const amounts = amountsWith(need.fixed, need.output.perToken, outputTokens)
      assertAmounts('worst', amounts)
      const legs = legsOf(path, amounts, over)
      writeIntent(request, amounts, outputTokens, written)
      const result = await commitTake(request, path, legs)
      if (result.outcome === 'ok') {
        if (observe) for (const { path: level } of path) observed.add(level)
        return { holdId: request.holdId, path: request.path, amounts, outputTokens, legs, version: result.version }
      }
      if (result.outcome === 'conflict') {
        learn(result.which, request)
        continue
      }
      if (result.outcome === 'unknown')
        throw new HoldfastError('ERR_STORE', `${store.name} did not answer; nothing may run.`, { cause: result.cause })
      const refused = legs.find(({ key }) => counterKey('free', key) === result.which)
      if (refused === undefined) throw fragmentRefused(result.which, request.action)
      if (observe) {
        over.add(refused.key)
        continue
      }
      const least = legsOf(path, amountsWith(need.fixed, need.output.perToken, need.output.minTokens), over)
      const fit = fitOf(least, await levels.standings(least), need)
      if (fit.fit !== 'now') return fit
      outputTokens = Math.min(outputTokens, fit.outputTokens)
    }
    throw new HoldfastError('ERR_STORE', `${store.name} changed ${MAX_ATTEMPTS} times under one action; nothing was set aside.`)
  }

  async function commitTake(
    { holdId, path, action, fragment }: TakeRequest,
    known: readonly Level[],
    legs: readonly Leg[],
  ): Promise<CommitResult> {
    const fragmentEmpty = Object.values(fragment).every((part) => (part as readonly unknown[] | undefined)?.length === 0)
    // Nothing to hold and nothing to write: no commit at all.
    if (legs.length === 0 && fragmentEmpty) return { outcome: 'ok', version: 0, values: [] }
    const ticket = await processes.ticket()
    const holdKey = `hold/${log.boot}/${holdId}`
    const record: HoldRecord = { path, agent: action.agent, resource: action.resource, atMs: now(), legs: heldLegs(legs) }
    const marks = observe
      ? known.filter((level) => !observed.has(level.path)).map((level) => ({ key: `observed/${log.boot}/${level.path}`, value: now() }))
      : []
    const batch: Batch = {
      check: [{ key: holdKey, version: 0 }, ...ticket.check, ...known.flatMap(levelChecks), ...(fragment.check ?? [])],
      add: [...takeAdds(legs), ...known.flatMap(birth), ...(fragment.add ?? [])],
      set: [{ key: holdKey, value: record as never }, ...ticket.set, ...known.flatMap(birthRecord), ...marks, ...(fragment.set ?? [])],
      delete: fragment.delete ?? [],
    }
    for (let attempts = 0; ; attempts++) {
      const result = await committer.commit(batch)
      // The hold's own key is its identity: found there, an earlier try was applied and its reply was lost.
      if (result.outcome === 'conflict' && result.which === holdKey && attempts > 0)
        return { outcome: 'ok', version: result.version, values: [] }
      if (result.outcome === 'ok') {
        processes.stamped(ticket)
        processes.held(1)
      }
      if (result.outcome !== 'unknown' || attempts >= 5) return result
    }
  }

  /** What a conflict teaches; the next attempt asks again. */
  function learn(which: string, { fragment }: TakeRequest): void {
    if (which.startsWith('process/')) return processes.refresh()
    if (which.startsWith('budget/')) return levels.forget(which)
    if (which.startsWith('free/')) return levels.forget(budgetKey(which.split('/').slice(2).join('/')))
    if (fragment.check?.some(({ key }) => key === which) === true) throw new FragmentConflict(which)
    throw new HoldfastError('ERR_STORE', `${store.name}: unexpected conflict on ${which}.`)
  }

  function writeIntent({ holdId, path, action }: TakeRequest, amounts: Amounts, outputTokens: number, written: { intent?: string }): void {
    const intent = JSON.stringify(amounts)
    if (written.intent === intent) return
    written.intent = intent
    const { agent, task, kind, resource, argsHash } = action
    log.append('intent', {
      hold: holdId,
      budget: path,
      agent,
      task,
      kind,
      resource,
      argsHash,
      amounts,
      ...(outputTokens > 0 ? { outputTokens } : {}),
    })
  }

  async function take(request: TakeRequest): Promise<Grant> {
    const { action } = request
    const need: Need = { fixed: action.worst ?? {}, output: action.output ?? NO_OUTPUT }
    const written: { intent?: string } = {}
    const startedAt = performance.now()
    let last: Exclude<Fit, { fit: 'now' }> | undefined
    const tryOnce = async (): Promise<Grant | undefined> => {
      let answer = await attempt(request, need, written)
      // Before it is refused for money, the holds of dead processes are looked at: they will not come back.
      if ('fit' in answer && (await processes.sweep()) > 0) answer = await attempt(request, need, written)
      if (!('fit' in answer)) return answer
      if (answer.fit === 'never') throw budgetRefusal(answer, about())
      last = answer
      return undefined
    }
    const about = () => ({
      agent: action.agent,
      resource: action.resource,
      smallest: action.smallest ?? {},
      waitedMs: Math.round(performance.now() - startedAt),
    })
    const until = startedAt + waitMs
    const ahead = lines.busy(request.path.split('/').map((_, index, names) => names.slice(0, index + 1).join('/')))
    const grant = (ahead === undefined ? await tryOnce() : undefined) ?? (waitMs > 0 ? await standInLine() : undefined)
    if (grant !== undefined) return grant
    // Nobody's turn came: what stands in the way is whatever stands there now.
    const now = last ?? (await tryOnce().then((late) => late ?? last))
    if (now !== undefined && !('fit' in now)) return now
    throw budgetRefusal(now!, about())

    async function standInLine(): Promise<Grant | undefined> {
      return lines.wait(ahead ?? last!.leg.level.path, until, tryOnce, request.signal)
    }
  }

  async function end(grant: Grant, used: Amounts, how: 'settle' | 'charge' | 'correct'): Promise<{ overrun: boolean; frozen: boolean }> {
    const overrun = grant.legs.some(({ dimension, amount }) => (used[dimension] ?? 0) > amount)
    if (grant.version === undefined || grant.version === 0) return { overrun, frozen: false }
    const holdKey = `hold/${log.boot}/${grant.holdId}`
    const suspendedKey = `suspended/${log.boot}/${grant.holdId}`
    const unabsorbed = new Set<string>()
    let source = how === 'correct' ? undefined : { key: holdKey, version: grant.version }
    for (let attempts = 0; attempts < MAX_ATTEMPTS; attempts++) {
      const from = how === 'correct' ? 'spent' : source!.key === holdKey ? 'out' : 'suspense'
      const ending: Ending = { used, assumed: how === 'charge', from, unabsorbed }
      const freeze = unabsorbed.size > 0 ? await freezing(grant.path) : undefined
      const result = await committer.commit({
        ...(how === 'correct' ? { id: `${log.boot}/correct-${grant.holdId}` } : {}),
        check: [...(source === undefined ? [] : [source]), ...(freeze?.check ?? [])],
        add: endAdds(heldLegs(grant.legs), ending),
        set: freeze?.set ?? [],
        delete: source === undefined ? [] : [source.key],
      })
      if (result.outcome === 'ok') {
        if (how !== 'correct') processes.held(-1)
        return { overrun, frozen: freeze !== undefined }
      }
      if (result.outcome === 'unknown') throw new HoldfastError('ERR_STORE', `${store.name} did not answer.`, { cause: result.cause })
      if (result.outcome === 'refused') {
        if (!result.which.startsWith('free/'))
          throw new HoldfastError('ERR_DAMAGE', `${store.name}: ${result.which} holds less than was put there.`)
        unabsorbed.add(result.which.slice('free/'.length))
        continue
      }
      if (result.which.startsWith('budget/')) continue
      // The hold is not where it was: this process was taken for dead, or an earlier try was applied.
      const [suspended] = await store.read([suspendedKey])
      if (suspended === null || suspended === undefined) {
        processes.held(-1)
        return { overrun, frozen: false }
      }
      source = { key: suspendedKey, version: suspended.version }
    }
    throw new HoldfastError('ERR_STORE', `${store.name} changed ${MAX_ATTEMPTS} times under the end of one hold.`)
  }

  /** An overrun that no free money covers: the assumption behind the limit is broken, so the whole tree stops. */
  async function freezing(path: string): Promise<Batch> {
    const key = budgetKey(path.slice(0, path.indexOf('/') < 0 ? undefined : path.indexOf('/')))
    const [entry] = await store.read([key])
    levels.forget(key)
    const frozen = 'a call used more than its worst case, and no free money covered it'
    return {
      check: [{ key, version: entry!.version }],
      set: [{ key, value: { ...(entry!.value as Record<string, never>), frozen } }],
    }
  }

  return { take, end }
}

const levelChecks = ({ path, version, record, shape, shapeVersion }: Level) => [
  { key: budgetKey(path), version },
  // The shape that it is created from must be the one that was read.
  ...(shapeVersion === undefined ? [] : [{ key: budgetKey(shape), version: shapeVersion }]),
  // A level that is about to be created must have no counters either.
  ...(version === 0
    ? Object.keys(record.limits).map((dimension) => ({ key: counterKey('free', `${dimension}/${path}`), version: 0 }))
    : []),
]

const birth = ({ path, version }: Level) => (version === 0 ? [{ key: `children/${path.slice(0, path.lastIndexOf('/'))}`, by: 1 }] : [])

const birthRecord = ({ path, version, record, shape }: Level) =>
  version === 0 ? [{ key: budgetKey(path), value: { ...record, shape } as never }] : []

function assertPriced(levels: readonly Level[], { unpriced, agent, resource }: ProposedAction, observe: boolean): void {
  if (unpriced === undefined || observe) return
  const limited = levels.find(({ record }) => 'usd' in record.limits)
  if (limited === undefined) return
  throw new Refusal('ERR_UNKNOWN_PRICE', `${unpriced} Budget \`${limited.path}\` limits usd, so it is refused.`, {
    agent,
    resource,
    wouldPass: unpriced,
  })
}

function fragmentRefused(which: string, { agent, resource }: ProposedAction): Refusal {
  return new Refusal('ERR_PERMISSION_DENIED', `A gate's counter \`${which}\` has reached its bound.`, { agent, resource })
}
