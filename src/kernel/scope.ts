// `begin`: the one question that every action passes. Latch, gates in order, money; then the hold.

import { assertAmounts } from '../lib/amounts.ts'
import { canonicalJson, type Json } from '../lib/canonical-json.ts'
import { HoldfastError, Refusal, findRefusal } from '../lib/errors.ts'
import { newId, sha256 } from '../lib/ids.ts'
import { ambient, withAmbient } from '../lib/ambient.ts'
import { assertName, parsePath } from '../lib/names.ts'
import { FragmentConflict, type Grant } from '../budget/hold-writer.ts'
import { levelsOf } from '../budget/record.ts'
import { pauseBudget } from '../budget/operator.ts'
import type { TakeRequest } from '../budget/take-request.ts'
import { openEarmark, openHandoff } from '../handoff/handoff.ts'
import type { Prices } from '../waist/price.ts'
import type { Committer } from '../stores/group.ts'
import type { Store } from '../stores/store.ts'
import type { Action, ProposedAction } from '../waist/action.ts'
import type { Batch } from '../waist/batch.ts'
import type { Gate } from '../waist/gate.ts'
import type { Hold } from '../waist/hold.ts'
import type { LogKind } from '../waist/log.ts'
import type { BeginOptions, Scope, ScopeIdentity } from '../waist/scope.ts'
import { watchGates, type Cuts } from './cuts.ts'
import { createHold, type HoldContext } from './hold.ts'
import type { Promised } from './promise.ts'
import { runOnce } from '../effects/once.ts'
import { createRun, currentRun, latch, latchedRefusal, repeated, type Run } from './run.ts'
import { assertSteps, outputOf, stepped } from './steps.ts'
import type { Stops } from './stops.ts'
import { capped, refusalOf } from './verdict.ts'

/** What all scopes of a kernel share. */
export interface ScopeContext extends HoldContext {
  readonly gates: readonly Gate[]
  readonly observe: boolean
  readonly promise: Promised
  readonly stops: Stops
  readonly cuts: Cuts
  readonly store: Store
  readonly committer: Committer
  readonly prices: () => Promise<Prices>
  /** @throws {HoldfastError} `ERR_CLOSED` */
  readonly assertOpen: () => void
  /** Calls of `begin` that have not been answered; `close` waits for them. */
  readonly beginning: Set<Promise<Hold>>
}

type Trail = TakeRequest['trail']
/** What was set aside, and for what, as the gates have narrowed it. */
interface Taken {
  readonly granted: Grant
  readonly narrowed: ProposedAction
}
/** What is recorded of an action that was refused. */
type Refused = Pick<ProposedAction, 'kind' | 'resource' | 'argsHash'>

/** How often the gates are asked again because something that they built upon has changed. */
const MAX_ROUNDS = 20
/** Most budgets beside that of a scope. */
const MAX_ALSO = 4
/** Longest name of a model or tool, in UTF-16 code units. */
const MAX_RESOURCE_LENGTH = 1_024

/**
 * Makes the scope of an agent at work on a task.
 *
 * @param ownGates - Asked after those of the kernel: they can only narrow what these allow.
 * @param wrapUp - Its actions are the last answer, for which a budget may have kept something.
 */
export function createScope(identity: ScopeIdentity, context: ScopeContext, ownGates: readonly Gate[] = [], wrapUp = false): Scope {
  assertName('agent', identity.agent)
  assertName('task', identity.task)
  parsePath('budget', identity.budget)
  const { agent, task, budget, also = [] } = identity
  if (!Array.isArray(also) || also.length > MAX_ALSO) throw new TypeError(`\`also\` must be a list of up to ${MAX_ALSO} budget paths.`)
  for (const path of also as readonly unknown[]) parsePath('also', path)
  const paths: readonly string[] = [budget, ...also]
  const owner = { agent, task, budget, ...(also.length === 0 ? {} : { also }) }
  const { ledger, log, emit, observe, store } = context
  const gates = [...context.gates, ...ownGates]
  let latest: Refusal | undefined

  function propose(action: Action): ProposedAction {
    assertName('action.kind', action.kind)
    assertResource('action.resource', action.resource)
    assertWorst(action)
    assertSteps(action, context.promise)
    const args = canonicalJson(action.args ?? null, { dropUndefined: true })
    return { ...action, ...(wrapUp && action.allot === undefined ? { wrapUp } : {}), agent, task, argsHash: sha256(args) }
  }

  async function begin(action: Action, options?: BeginOptions): Promise<Hold> {
    context.assertOpen()
    const answer = ask(propose(action), options)
    context.beginning.add(answer)
    try {
      return await answer
    } finally {
      context.beginning.delete(answer)
    }
  }

  async function ask(proposed: ProposedAction, options: BeginOptions = {}): Promise<Hold> {
    const run = currentRun()
    const holdId = newId()
    try {
      if (context.stops.isStale) await context.stops.look()
      const standing = standingRefusal(run)
      if (standing !== undefined) throw standing
      const hold = await grant(holdId, proposed, options)
      if (proposed.kind === 'model') ambient().onModelHold?.()
      try {
        // A write that came with the hold has happened, and its caller has to know that it did.
        if (proposed.with === undefined) assertGoesOn()
      } catch (ended) {
        await hold.release('the kernel was closed, or it was stopped, before it ran')
        throw ended
      }
      return hold
    } catch (error) {
      const refusal = findRefusal(error)
      if (refusal !== undefined) note(refusal, proposed, holdId)
      throw error
    }
  }

  /** What is known without asking anybody: a stop, before all else, or a refusal that ended this run. */
  function standingRefusal(run: Run | undefined): Refusal | undefined {
    const stopped = context.stops.refusalFor({ agent, paths })
    if (stopped === undefined) return run === undefined ? undefined : latchedRefusal(run, store.id, paths)
    return run?.refusal?.details.stop?.id === stopped.details.stop!.id ? repeated(stopped) : stopped
  }

  /** While it waited for money its kernel may have been closed, or somebody may have stopped it. */
  function assertGoesOn(): void {
    context.assertOpen()
    const stopped = context.stops.refusalFor({ agent, paths })
    if (stopped !== undefined) throw stopped
  }

  async function grant(holdId: string, action: ProposedAction, options: BeginOptions): Promise<Hold> {
    const trail: Trail = {}
    const run = currentRun()
    const listen = (cut: (refusal: Refusal) => void): (() => void) => listenForCuts(holdId, action, run, cut)
    try {
      const { granted, narrowed } = await takeInRounds(holdId, action, trail, options)
      return createHold(granted, { boot: log.boot, ...owner }, context, { listen, outputTokens: outputOf(granted, narrowed) })
    } catch (error) {
      const own = error instanceof FragmentConflict
      // A refusal is recorded where it is found. Else the trail would have an intent without an end.
      if (trail.intent !== undefined && !own && findRefusal(error) === undefined)
        record('outcome', { hold: holdId, budget, outcome: 'released', used: {}, reason: 'it was never taken' })
      if (!own) throw error
      throw new Refusal('ERR_CONFLICT', `${error.message} is not as it was read; nothing was written.`, {
        agent,
        resource: action.resource,
      })
    }
  }

  /** Asks the gates and the ledger, again when something that a gate built upon has changed. @throws {FragmentConflict} When it is the action's own. */
  async function takeInRounds(holdId: string, action: ProposedAction, trail: Trail, { signal, waitMs }: BeginOptions): Promise<Taken> {
    const startedAt = performance.now()
    for (let round = 0; ; round++) {
      signal?.throwIfAborted()
      const { narrowed, fragment } = await passGates(action)
      const take = async (part: Batch): Promise<Taken> => {
        const request = { holdId, path: budget, also, action: stepped(narrowed), fragment: part, startedAt, trail, waitMs }
        return { granted: await ledger.take({ ...request, ...(signal === undefined ? {} : { signal }) }), narrowed }
      }
      try {
        return await take(fragment)
      } catch (error) {
        if (observe && Refusal.isInstance(error) && error.code === 'ERR_PERMISSION_DENIED') {
          wouldRefuse('a gate', error, action.resource)
          return take(action.with ?? {})
        }
        if (!(error instanceof FragmentConflict) || action.with?.check?.some(({ key }) => key === error.message) === true) throw error
        if (round >= MAX_ROUNDS)
          throw new HoldfastError(
            'ERR_STORE',
            `A gate's part of the commit (${error.message}) changed ${round} times; nothing was set aside.`,
          )
      }
    }
  }

  /** Records what has happened already: a trail that cannot be written does not undo it, but must be known. */
  function record(kind: LogKind, fields: { readonly [key: string]: Json }): void {
    try {
      log.append(kind, fields)
    } catch (error) {
      emit({ type: 'audit-gap', message: `A record (${kind}) of \`${agent}\` could not be written: ${String(error)}` })
    }
  }

  /** Observe mode: it passes, and the operator learns that it would not have. */
  function wouldRefuse(gate: string, refusal: Refusal, resource: string): void {
    emit({ type: 'would-refuse', message: `${gate}: ${refusal.message}` })
    log.append('event', { type: 'would-refuse', gate, code: refusal.code, agent, task, resource })
  }

  async function passGates(action: ProposedAction): Promise<{ narrowed: ProposedAction; fragment: Batch }> {
    const parts: Required<{ -readonly [K in keyof Batch]: unknown[] }> = { check: [], add: [], set: [], delete: [] }
    const join = (batch: Batch | undefined): void => {
      for (const [name, operations] of Object.entries(batch ?? {})) {
        // Two gates may use up the same approval: once is what both mean.
        const known = new Set(parts.delete)
        parts[name as keyof Batch].push(...(operations as unknown[]).filter((operation) => !known.has(operation)))
      }
    }
    join(action.with)
    let narrowed = action
    for (const gate of gates) {
      const verdict = await gate.decide(narrowed)
      if (verdict.verdict !== 'allow') {
        const refusal = refusalOf(verdict, action)
        if (!observe) throw refusal
        wouldRefuse(gate.name, refusal, action.resource)
        continue
      }
      narrowed = capped(narrowed, verdict.caps?.maxOutputTokens)
      join(verdict.fragment)
    }
    return { narrowed, fragment: parts as Batch }
  }

  async function decide(action: Action): Promise<Refusal | undefined> {
    context.assertOpen()
    const proposed = propose(action)
    const standing = standingRefusal(currentRun())
    if (standing !== undefined) note(standing, proposed)
    if (standing !== undefined) return standing
    for (const gate of gates) {
      const verdict = await gate.decide(proposed)
      if (verdict.verdict === 'allow' || observe) continue
      const refusal = refusalOf(verdict, proposed)
      note(refusal, proposed)
      return refusal
    }
    return undefined
  }

  /** What cuts an action that is under way: a stop, a freeze, or a gate that withdraws what it allowed. */
  function listenForCuts(hold: string, action: ProposedAction, run: Run | undefined, cut: (refusal: Refusal) => void): () => void {
    let isCut = false
    const cutOnce = (refusal: Refusal): void => {
      if (isCut) return
      isCut = true
      latest = refusal
      if (run !== undefined) run.refusal = refusal
      record('event', { type: 'cut', hold, code: refusal.code, agent, task, budget, resource: action.resource, reason: refusal.message })
      cut(refusal)
    }
    const stops = [
      context.cuts.listen({ agent, paths }, observe, cutOnce),
      watchGates(gates, action, (gate, denial) => {
        const refusal = refusalOf(denial, action)
        if (observe) wouldRefuse(gate, refusal, action.resource)
        else cutOnce(refusal)
      }),
    ]
    return () => stops.forEach((stop) => stop())
  }

  /** Remembers a refusal where it will be looked for: in the run, in the scope, in the trail. */
  function note(refusal: Refusal, { kind, resource, argsHash }: Refused, hold?: string): void {
    const run = currentRun()
    // A conflict of its own write is between the action and its caller, who may well try again and succeed.
    if (refusal.code !== 'ERR_CONFLICT') {
      latest = refusal
      if (run !== undefined) run.refusal = refusal
    }
    if (refusal.details.latched === true) return
    const facts = { code: refusal.code, ...owner, action: kind, resource, argsHash, reason: refusal.message }
    // Nothing runs, whether that is on record or not; the caller must know why.
    record('refused', { ...facts, ...(hold === undefined ? {} : { hold }) })
    // A stop is remembered for everybody, and no longer than it stands.
    if (run === undefined || refusal.details.endsRun !== true || refusal.code === 'ERR_STOPPED') return
    const bound = refusal.details.budget
    latch(run, refusal, { storeId: store.id, budget: bound?.budget ?? budget }, (wake) =>
      store.watch(
        bound === undefined ? 'budget/' : `free/${bound.dimension}/${bound.budget}${bound.window === undefined ? '' : '/*'}`,
        wake,
      ),
    )
  }

  const run: Scope['run'] = async (action, fn, usageOf, answerOf, options) => {
    return inRun(async () => {
      const hold = await begin(action, options)
      if (options?.signal?.aborted === true) {
        await hold.release('the caller left before it ran')
        throw options.signal.reason
      }
      let result, used, answer
      try {
        // A model call inside of a tool is not what the tool's hold pays for.
        result = await withAmbient({ hold: action.kind === 'model' ? hold : undefined }, () => fn(hold))
        used = usageOf?.(result) ?? hold.amounts
        answer = answerOf?.(result)
        assertAmounts('usage', used)
      } catch (error) {
        // Its function may have ended it already, and knows better.
        if (hold.state === 'held') await hold.charge(`it failed: ${error instanceof Error ? error.name : typeof error}`)
        throw error
      }
      // Who was told of no usage has nothing to compare with what an HTTP attempt said.
      if (usageOf === undefined && answer === undefined) await hold.claim()?.settle(used)
      else await hold.settle(used, answer)
      return result
    })
  }

  const scopeFor = (of: ScopeIdentity, narrower: readonly Gate[]): Scope => createScope(of, context, narrower)
  const shares = { store, ledger, record, scopeOf: scopeFor }

  const scope: Scope = {
    boot: log.boot,
    promise: context.promise,
    ...owner,
    begin,
    decide,
    run,
    once(receipt, action, fn, options) {
      const onDelayed = (message: string): void => emit({ type: 'trouble', message })
      const { committer, reports } = context
      return runOnce(scope, { committer, reports, onDelayed }, receipt, action, fn, options)
    },
    handoff: (request, options) => openHandoff(scope, ownGates, request, shares, options),
    earmark: (step, allotted, options) => openEarmark(scope, ownGates, step, allotted, shares, options),
    wrapUp: () => createScope(identity, context, ownGates, true),
    enter: (fn) => inRun(() => withAmbient({ scope }, fn)),
    notice: () => ledger.noticeOn(budget, also),
    get refusal() {
      return currentRun() === undefined ? latest : currentRun()!.refusal
    },
    prices: context.prices,
    refuse(refusal) {
      const { resource = 'unknown', argsHash = sha256(canonicalJson(null)) } = refusal.details
      if (observe) return wouldRefuse('an integration', refusal, resource)
      note(refusal, { kind: 'model', resource, argsHash })
      throw refusal
    },
    pause(path, forMs, reason) {
      if (!paths.flatMap(levelsOf).includes(path)) {
        emit({
          type: 'trouble',
          message: `Budget \`${path}\` is none of those that \`${agent}\` counts on, so it was not paused: name it in \`also\`.`,
        })
        return
      }
      const failed = (error: unknown): void =>
        emit({ type: 'trouble', message: `Budget \`${path}\` could not be paused: ${String(error)}` })
      record('event', { type: 'paused', agent, task, budget: path, forMs, reason })
      void pauseBudget(context.committer, path, forMs).catch(failed)
    },
    report(event) {
      emit({ type: event.type, message: event.message })
      record('event', { type: event.type, agent, task, budget, message: event.message })
    },
  }
  return scope
}

/** A tool's name may be the invention of a model, and it goes into records and messages: any text, but not any length. */
export function assertResource(field: string, resource: unknown): void {
  if (typeof resource === 'string' && resource.length > 0 && resource.length <= MAX_RESOURCE_LENGTH && resource.isWellFormed()) return
  throw new TypeError(`Expected \`${field}\` to be well-formed text of 1 to ${MAX_RESOURCE_LENGTH} characters.`)
}

/** Amounts that are none would be held as something else than what is used. */
function assertWorst({ worst = {}, allot, smallest = {}, output }: Action): void {
  if (allot !== undefined && (output !== undefined || Object.keys(worst).length > 0))
    throw new TypeError('An action has `allot`, or `worst` and `output`; not both.')
  assertAmounts('action.allot', allot?.limits ?? {})
  const { tokens = 0, minTokens = 0, perToken = {} } = output ?? {}
  assertAmounts('action.worst', worst)
  assertAmounts('action.smallest', smallest)
  assertAmounts('action.output', { tokens, minTokens })
  assertAmounts('action.output.perToken', perToken)
}

/** Runs `fn` in the current run, or in a new one when there is none. */
function inRun<T>(fn: () => T): T {
  return currentRun() === undefined ? withAmbient({ run: createRun() }, fn) : fn()
}
