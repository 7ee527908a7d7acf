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
import { amountsWith, dimensionOf, endAdds, heldLegs, legsOf, takeAdds, unheldLegs, type Leg, type Level } from './legs.ts'
import { assertKnownDimensions, createLevels } from './levels.ts'
import type { HoldRecord, Processes } from './processes.ts'
import { budgetKey, counterKey, levelsOf } from './record.ts'
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
  /** @throws {HoldfastError} `ERR_CLOSED` as soon as the kernel closes: nothing is taken any more. */
  readonly assertOpen: () => void
  /** Does this in the background, again and again until it succeeds. */
  readonly later: (work: () => Promise<void>) => void
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
  /** The levels of the path, as they were when it was taken. */
  readonly levels: readonly Level[]
  readonly record: HoldRecord
  /** Version of the record in the store: `0` when nothing had to be written, `undefined` when nobody knows. */
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
   * Ends a grant. Safe to repeat: it happens once. A `settle` after a `charge` corrects it, up to 30 days later.
   *
   * @returns Whether the real use went beyond the worst case, and whether that froze the tree.
   * @throws {HoldfastError} When the store cannot answer now; try again later.
   */
  end(grant: Grant, used: Amounts, how: 'settle' | 'charge'): Promise<{ readonly overrun: boolean; readonly frozen: boolean }>
}

const NO_OUTPUT = { tokens: 0, minTokens: 0, perToken: {} } as const
/** How often one take may be told that what it knew has changed. */
const MAX_ATTEMPTS = 100
/** How often a take is sent again when its reply is lost. */
const MAX_SENDS = 6
/** How long a charge can be corrected, ms: until the provider's bill of the month is there. */
const CORRECTABLE_MS = 30 * 24 * 3_600_000

/** Makes the ledger of this process. */
export function createLedger({ committer, processes, log, observe, waitMs, now, assertOpen, later }: LedgerOptions): Ledger {
  const { store } = committer
  const levels = createLevels(store)
  const lines = createWaitingLines((wake) => store.watch('free/', wake))
  const observed = new Set<string>()
  /** Holds that had nothing to write when they were taken, and used something after all. */
  const enrolled = new Map<string, Grant>()

  /** One try: a grant, or why it does not fit. Retries by itself whatever only needs a second look. */
  async function attempt(request: TakeRequest, need: Need, written: { intent?: string }): Promise<Grant | Exclude<Fit, { fit: 'now' }>> {
    const over = new Set<string>()
    let outputTokens = need.output.tokens
    for (let attempts = 0; attempts < MAX_ATTEMPTS; attempts++) {
      assertOpen()
      const path = await levels.of(request.path, observe)
      assertKnownDimensions(path, amountsWith(need.fixed, need.output.perToken, 1))
      assertPriced(path, request.action, observe)
      const amounts = amountsWith(need.fixed, need.output.perToken, outputTokens)
      assertAmounts('worst', amounts)
      const legs = legsOf(path, amounts, over)
      writeIntent(request, amounts, outputTokens, written)
      const { agent, resource } = request.action
      const record = { path: request.path, agent, resource, atMs: now(), legs: heldLegs(legs) }
      const grant = { holdId: request.holdId, path: request.path, amounts, outputTokens, levels: path, record, version: 0 }
      // Nothing to hold and nothing to write: no commit at all.
      if (legs.length === 0 && Object.values(request.fragment).every((part) => part?.length === 0)) {
        if (await levels.areCurrent(path)) return grant
        continue
      }
      const result = await place(grant, legs, request.fragment)
      if (result.outcome === 'ok') return { ...grant, version: result.version }
      if (result.outcome === 'conflict') {
        learn(result.which, request.fragment)
        continue
      }
      if (result.outcome === 'unknown') {
        giveBack(grant)
        throw new HoldfastError('ERR_STORE', `${store.name} did not answer; nothing may run.`, { cause: result.cause })
      }
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

  /** Writes a hold into the store, and what is to happen together with it. */
  async function place({ holdId, record, levels: known }: Grant, legs: readonly Leg[], fragment: Fragment): Promise<CommitResult> {
    const ticket = await processes.ticket()
    const { held, suspended } = placesOf(holdId)
    const identity = [held, suspended]
    const marks = observe
      ? known.filter((level) => !observed.has(level.path)).map((level) => ({ key: `observed/${log.boot}/${level.path}`, value: now() }))
      : []
    const batch: Batch = {
      check: [...identity.map((key) => ({ key, version: 0 })), ...ticket.check, ...known.flatMap(levelChecks), ...(fragment.check ?? [])],
      add: [...takeAdds(legs, known), ...known.flatMap(birth), ...(fragment.add ?? [])],
      set: [{ key: held, value: record as never }, ...ticket.set, ...known.flatMap(birthRecord), ...marks, ...(fragment.set ?? [])],
      delete: fragment.delete ?? [],
    }
    const result = await send(batch, identity)
    if (result.outcome === 'ok') {
      processes.stamped(ticket)
      processes.held(holdId)
      for (const { path } of observe ? known : []) observed.add(path)
    }
    return result
  }

  /**
   * Sends a batch that may happen once, again when its reply is lost. A key in `identity` that is found in the
   * store says that an earlier try was applied: by now the hold may even lie in suspense.
   */
  async function send(batch: Batch, identity: readonly string[]): Promise<CommitResult> {
    let doubt: { readonly cause: unknown } | undefined
    for (let sends = 0; sends < MAX_SENDS; sends++) {
      try {
        const result = await committer.commit(batch)
        if (result.outcome === 'conflict' && identity.includes(result.which)) return { outcome: 'ok', version: result.version, values: [] }
        if (result.outcome !== 'unknown') return result
        doubt = result
      } catch (cause) {
        // Certainly not applied this time; that says nothing about the times before.
        if (doubt === undefined) throw cause
        break
      }
    }
    return { outcome: 'unknown', cause: doubt!.cause }
  }

  /** A take that nobody acknowledged may have happened. Nothing ran on it, so it is undone as soon as the store answers. */
  function giveBack(grant: Grant): void {
    const nothing = Object.fromEntries(Object.keys(grant.amounts).map((dimension) => [dimension, 0]))
    later(async () => void (await end({ ...grant, version: undefined }, nothing, 'settle')))
    const reason = 'its take was never acknowledged, so nothing ran on it'
    log.append('outcome', { hold: grant.holdId, budget: grant.path, outcome: 'released', used: nothing, reason })
  }

  /** What a conflict teaches; the next attempt asks again. */
  function learn(which: string, { check = [] }: Fragment): void {
    const gated = check.some(({ key }) => key === which)
    if (which.startsWith('process/')) {
      // The marks of this process went with its record.
      observed.clear()
      processes.refresh()
    } else if (which.startsWith('budget/')) levels.forget(which)
    else if (which.startsWith('free/')) levels.forget(budgetKey(which.split('/').slice(2).join('/')))
    else if (!gated) throw new HoldfastError('ERR_STORE', `${store.name}: unexpected conflict on ${which}.`)
    if (gated) throw new FragmentConflict(which)
  }

  function writeIntent({ holdId, path, action }: TakeRequest, amounts: Amounts, outputTokens: number, written: { intent?: string }): void {
    const intent = JSON.stringify(amounts)
    if (written.intent === intent) return
    written.intent = intent
    const { agent, task, kind, resource, argsHash } = action
    const cap = outputTokens > 0 ? { outputTokens } : {}
    log.append('intent', { hold: holdId, budget: path, agent, task, action: kind, resource, argsHash, amounts, ...cap })
  }

  async function take(request: TakeRequest): Promise<Grant> {
    const { agent, resource, worst = {}, smallest = {}, output = NO_OUTPUT } = request.action
    // Without a single output token there is no answer to pay for, and a cap of 0 would read as none.
    const need: Need = { fixed: worst, output: { ...output, minTokens: Math.max(1, output.minTokens) } }
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
    const about = () => ({ agent, resource, smallest, waitedMs: Math.round(performance.now() - startedAt) })
    const until = startedAt + waitMs
    const ahead = lines.busy(levelsOf(request.path))
    const first = ahead === undefined ? await tryOnce() : undefined
    const grant = first ?? (waitMs > 0 ? await lines.wait(ahead ?? last!.leg.level.path, until, tryOnce, request.signal) : undefined)
    if (grant !== undefined) return grant
    // Nobody's turn came: what stands in the way is whatever stands there now.
    const now = last ?? (await tryOnce().then((late) => late ?? last))
    if (now !== undefined && !('fit' in now)) return now
    throw budgetRefusal(now!, about())
  }

  async function end(given: Grant, used: Amounts, how: 'settle' | 'charge'): Promise<{ overrun: boolean; frozen: boolean }> {
    const legs = { ...given.record.legs, ...unheldLegs(given.levels, given.record.legs, used) }
    if (given.version === 0 && Object.keys(legs).length === 0) return { overrun: false, frozen: false }
    const grant = given.version === 0 ? await enrol(given) : given
    const overrun = Object.entries(legs).some(([key, { amount }]) => (used[dimensionOf(key)] ?? 0) > amount)
    const { held, charged } = placesOf(grant.holdId)
    const unabsorbed = new Set<string>()
    let place = grant.version === undefined ? await find(grant.holdId, how) : { key: held, version: grant.version, column: 'out' as const }
    for (let attempts = 0; attempts < MAX_ATTEMPTS && place !== undefined; attempts++) {
      const freeze = unabsorbed.size > 0 && !observe ? await freezing(grant.path) : undefined
      const mark =
        how === 'charge' ? [{ key: charged, value: grant.record as never, expiresAtMs: (await store.now()) + CORRECTABLE_MS }] : []
      const result = await committer.commit({
        check: [{ key: place.key, version: place.version }, ...(freeze?.check ?? [])],
        add: endAdds(legs, { used, assumed: how === 'charge', from: place.column, unabsorbed }),
        set: [...mark, ...(freeze?.set ?? [])],
        delete: [place.key],
      })
      if (result.outcome === 'unknown') throw new HoldfastError('ERR_STORE', `${store.name} did not answer.`, { cause: result.cause })
      if (result.outcome === 'ok') {
        ended(grant.holdId)
        return { overrun, frozen: freeze !== undefined }
      }
      if (result.outcome === 'refused') {
        if (!result.which.startsWith('free/'))
          throw new HoldfastError('ERR_DAMAGE', `${store.name}: ${result.which} holds less than was put there.`)
        unabsorbed.add(result.which.slice('free/'.length))
      }
      // It is not where it was: this process was taken for dead, or an earlier try was applied.
      else if (result.which === place.key) place = await find(grant.holdId, how)
    }
    if (place !== undefined) throw new HoldfastError('ERR_STORE', `${store.name} changed ${MAX_ATTEMPTS} times under the end of one hold.`)
    ended(grant.holdId)
    return { overrun, frozen: false }
  }

  function ended(holdId: string): void {
    enrolled.delete(holdId)
    processes.ended(holdId)
  }

  /** Where a hold lies now; nowhere once it has ended. A charge is the end, unless the real use became known. */
  async function find(holdId: string, how: 'settle' | 'charge') {
    const { held, suspended, charged } = placesOf(holdId)
    const entries = await store.read([held, suspended, ...(how === 'settle' ? [charged] : [])])
    const columns = ['out', 'suspense', 'spent'] as const
    return entries.flatMap((entry, at) => (entry === null ? [] : [{ key: entry.key, version: entry.version, column: columns[at]! }]))[0]
  }

  /** Writes the record of a hold that had nothing to write: what it used has to be counted, once. */
  async function enrol(grant: Grant): Promise<Grant> {
    for (let attempts = 0; attempts < MAX_ATTEMPTS; attempts++) {
      const known = enrolled.get(grant.holdId)
      if (known !== undefined) return known
      const result = await place({ ...grant, levels: await levels.of(grant.path, true) }, [], {})
      if (result.outcome === 'ok') enrolled.set(grant.holdId, { ...grant, version: result.version })
      else if (result.outcome === 'conflict') learn(result.which, {})
      else throw new HoldfastError('ERR_STORE', `${store.name} did not answer.`, { cause: result })
    }
    throw new HoldfastError('ERR_STORE', `${store.name} changed ${MAX_ATTEMPTS} times under the end of one hold.`)
  }

  /** An overrun that no free money covers: the assumption behind the limit is broken, so the whole tree stops. */
  async function freezing(path: string): Promise<Batch> {
    const key = budgetKey(levelsOf(path)[0]!)
    const [entry] = await store.read([key])
    levels.forget(key)
    const frozen = 'a call used more than its worst case, and no free money covered it'
    return {
      check: [{ key, version: entry!.version }],
      set: [{ key, value: { ...(entry!.value as Record<string, never>), frozen } }],
    }
  }

  /** Where the record of a hold of this process can lie. */
  const placesOf = (holdId: string) => ({
    held: `hold/${log.boot}/${holdId}`,
    suspended: `suspended/${log.boot}/${holdId}`,
    charged: `charged/${log.boot}/${holdId}`,
  })

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
  const limited = levels.find(({ record }) => 'usd' in record.limits)
  if (unpriced === undefined || observe || limited === undefined) return
  const about = { agent, resource, wouldPass: unpriced }
  throw new Refusal('ERR_UNKNOWN_PRICE', `${unpriced} Budget \`${limited.path}\` limits usd, so it is refused.`, about)
}

function fragmentRefused(which: string, { agent, resource }: ProposedAction): Refusal {
  return new Refusal('ERR_PERMISSION_DENIED', `A gate's counter \`${which}\` has reached its bound.`, { agent, resource })
}
