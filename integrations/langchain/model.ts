// One model call of `createAgent`: held before it starts, sent with a `fetch` of its own that carries the hold,
// settled by the HTTP attempt that the hold paid for. Where the HTTP of a model cannot be seen, settled from its usage.

import { withAmbient } from '../../src/lib/ambient.ts'
import { findRefusal, Refusal } from '../../src/lib/errors.ts'
import { sha256 } from '../../src/lib/ids.ts'
import { boundFacts } from '../../src/metering/worst-case/bound.ts'
import type { Amounts } from '../../src/lib/amounts.ts'
import type { Answer, Hold } from '../../src/waist/hold.ts'
import type { Scope, ScopeSource } from '../../src/waist/scope.ts'
import { endFailedCall } from '../common/failed-call.ts'
import { readAnswer, type LangChainAnswer } from './answer.ts'
import { isAnthropicLike } from './anthropic.ts'
import { INSIDE, type Inside, type WatchedRequest } from './inside.ts'
import { observedHeld } from './observer.ts'
import { boundCall, clampedSettings, withOwnMaximum, type BoundableRequest, type CallBound } from './request.ts'
import { contextOfNow, copyOf, isGuarded, isOpenAiLike, type GuardModelOptions, type OpenAiLikeModel } from './shared.ts'
import { callingAlone, carrying, recapOf } from './unseen.ts'
import { MAX_NOTICE_BYTES, withNotice, type EndingOptions } from './wrap-up.ts'
import { answerOf, modelCall, type ModelCall } from '../common/model-call.ts'
import { scopeOf } from '../common/scope-source.ts'
import { guardFetch, unguarded } from '../transport/guard-fetch.ts'

/** The request of `wrapModelCall`, as far as it is used. */
export interface HoldableRequest extends BoundableRequest, WatchedRequest {
  readonly model: unknown
  readonly runtime: { readonly signal?: AbortSignal | undefined; readonly configurable?: unknown }
}

/** Holds the model calls of one agent. */
export interface CallHolder {
  /**
   * Holds one call, runs it, and sees to it that its hold ends.
   *
   * @param isInnermost - Whether what it runs is the model of the request, and nothing else.
   */
  hold<Q extends HoldableRequest, T>(request: Q, handler: (request: Q) => T | PromiseLike<T>, isInnermost: boolean): Promise<T>
  /** The model, guarded: for what other middleware asks it by itself, and for {@link CallHolder.hold}. */
  guarded(model: unknown, configurable: unknown): Promise<unknown>
  /** A model whose HTTP cannot be seen, each call of which is held by itself; `undefined` when it cannot be made anew. */
  alone(model: object): object | undefined
}

interface Held {
  readonly scope: Scope
  readonly hold: Hold
  readonly call: ModelCall
  /** HTTP attempts of a model whose HTTP is seen, and calls of any other; see {@link carrying}. */
  readonly begun: { times: number }
  readonly inside: Inside
  /** Whether every HTTP attempt of the model passes a transport guard. */
  readonly seen: boolean
  /** Whether LangChain's count of a stream is known to differ from the wire, so that comparing them says nothing. */
  readonly miscounted: boolean
  readonly isInnermost: boolean
}

/** Makes the holder of an agent, with one transport guard for each `fetch` that it finds under a model. */
export function createCallHolder(source: ScopeSource, options: GuardModelOptions & Pick<EndingOptions, 'notice'>): CallHolder {
  const guards = new WeakMap<typeof fetch, typeof fetch>()
  const fallback = guardFetch(source, { provider: 'openai', ...options })
  /** Models whose HTTP cannot be seen as other middleware gets them, by what they were made of; and back. */
  const alone = new WeakMap<object, object>()
  const originals = new WeakMap<object, object>()

  function guardOver(under: typeof fetch | undefined): typeof fetch {
    if (under === undefined) return fallback
    // Somebody else's guard stays: two on top of each other would hold twice.
    if (unguarded(under) !== under) return under
    const guard = guards.get(under) ?? guardFetch(source, { provider: 'openai', ...options, fetch: under })
    guards.set(under, guard)
    return guard
  }

  async function holdOne<Q extends HoldableRequest, T>(
    request: Q,
    handler: (request: Q) => T | PromiseLike<T>,
    isInnermost: boolean,
  ): Promise<T> {
    const { signal, configurable } = request.runtime
    signal?.throwIfAborted()
    const scope = scopeOf(source)
    const given = await resolved(request.model, configurable)
    const model = originals.get(given) ?? given
    const seen = isOpenAiLike(model)
    const bound = boundCall(model, options.notice === true ? withNotice(request, 'x'.repeat(MAX_NOTICE_BYTES)) : request)
    const call = await callOf(scope, bound, seen, seen || recapOf(model) !== undefined, options)
    if (call === undefined)
      return handler({ ...request, model: seen ? copyOf(model, { fetch: guardOver(model.clientConfig.fetch) }) : model })
    const hold = await scope.begin(call.action, { signal })
    const inside = request[INSIDE] ?? { refusal: undefined }
    const told = options.notice === true ? withNotice(request, hold.notice) : request
    const held: Held = { scope, hold, call, begun: { times: 0 }, inside, seen, miscounted: isAnthropicLike(model), isInnermost }
    // Only this very model may claim the hold: what other middleware calls meanwhile has holds of its own.
    return withAmbient({ hold: undefined }, () =>
      run(held, options.unbilledStatuses, async () => {
        if (seen) return handler({ ...told, model: wired(model, held, guardOver(model.clientConfig.fetch)) })
        const modelSettings = clampedSettings(request.modelSettings, grantedTo(held))
        const ready = { ...told, model: await recapped(model, held), ...(modelSettings === undefined ? {} : { modelSettings }) }
        return observedHeld(model, () => handler(ready))
      }),
    )
  }

  /** The same model, each call of which is held by itself; `undefined` where it cannot be made anew. */
  function heldAlone(model: object): object | undefined {
    const copy = recapOf(model)?.()
    if (copy === undefined) return undefined
    callingAlone(copy, async (messages, callOptions, ask) => {
      const { tools = [], signal, ...modelSettings } = plain(callOptions) as { tools?: readonly unknown[]; signal?: AbortSignal }
      const request = { model, messages: messages as HoldableRequest['messages'], tools, modelSettings, runtime: { signal } }
      return holder.hold(request, (ready) => ask(ready.model, ready.modelSettings), true)
    })
    alone.set(model, copy)
    originals.set(copy, model)
    return copy
  }

  const holder: CallHolder = {
    alone: (model) => alone.get(model) ?? heldAlone(model),
    async guarded(given, configurable) {
      const model = await resolved(given, configurable)
      if (isOpenAiLike(model)) return isGuarded(model) ? model : copyOf(model, { fetch: guardOver(model.clientConfig.fetch) })
      return originals.has(model) ? model : (holder.alone(model) ?? model)
    },
    async hold(request, handler, isInnermost) {
      const { [INSIDE]: inside } = request
      try {
        const result = await holdOne(request, handler, isInnermost)
        if (isInnermost && inside !== undefined) inside.refusal = undefined
        return result
      } catch (error) {
        const refusal = findRefusal(error)
        if (refusal !== undefined && inside !== undefined) inside.refusal = refusal
        throw refusal ?? error
      }
    },
  }
  return holder
}

/** What of the options of a call can be sent; LangChain has its own things among them, such as a store. */
function plain(options: unknown): object {
  const isSent = (value: unknown): boolean =>
    typeof value !== 'object' ||
    value === null ||
    [Object.prototype, Array.prototype, AbortSignal.prototype].includes(Object.getPrototypeOf(value) as object)
  return Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => isSent(value)))
}

/** Models that are named by a string, or set by the configuration of a run, are made when they are first needed. */
async function resolved(model: unknown, configurable: unknown): Promise<object> {
  const { _getModelInstance: make } = model as { _getModelInstance?: (config: object) => Promise<object> }
  return typeof make === 'function' ? make.call(model, { configurable }) : (model as object)
}

function callOf(
  scope: Scope,
  { modelId, serviceTier, text, bytes, facts }: CallBound,
  seen: boolean,
  canBeRecapped: boolean,
  { provider = seen ? 'openai' : undefined, maxInputTokens, defaultMaxOutputTokens }: GuardModelOptions,
): Promise<ModelCall | undefined> {
  return modelCall(
    scope,
    { id: modelId, serviceTier },
    sha256(text),
    (known) => boundFacts(seen || canBeRecapped ? facts : withOwnMaximum(facts, known), bytes, known),
    { provider, maxInputTokens, defaultMaxOutputTokens },
  )
}

/** The model with the cap that was granted, and a `fetch` that runs in the context of this call, whoever calls it and when. */
function wired(model: OpenAiLikeModel, { hold, call, begun, inside }: Held, guard: typeof fetch): OpenAiLikeModel {
  const { capSet, outputTokensPerChoice } = call.bound
  const cap = hold.caps.maxOutputTokens ?? outputTokensPerChoice
  const here = withAmbient({ hold }, contextOfNow)
  const fetch: typeof globalThis.fetch = async (input, init) => {
    begun.times += 1
    const response = await here(guard, input, init)
    if (response.ok) inside.refusal = undefined
    else if (response.status === 402) inside.refusal = (await refusalIn(response)) ?? inside.refusal
    return response
  }
  // The guard sends through `under`; the mark tells others that there is a guard.
  const marked = Object.assign(fetch, { [Symbol.for('holdfast.guard')]: unguarded(guard) })
  // The gates have been asked: callbacks that ask them again know less of the call.
  const changes = { fetch: marked, silent: true }
  return copyOf(model, capSet && cap >= outputTokensPerChoice ? changes : { ...changes, maxTokens: cap })
}

async function refusalIn(response: Response): Promise<Refusal | undefined> {
  try {
    return findRefusal(await response.clone().json())
  } catch {
    // A 402 of the provider's own, which need not be JSON.
    return undefined
  }
}

/** Output tokens of each choice that a hold pays for. */
function grantedTo({ hold, call: { bound } }: Held): number {
  return Math.min(hold.caps.maxOutputTokens ?? bound.outputTokensPerChoice, bound.outputTokensPerChoice)
}

/** A model whose HTTP cannot be seen, with the cap that was granted; refused when a smaller one was granted than it keeps to. */
async function recapped(model: object, held: Held): Promise<object> {
  const { scope, hold, call, begun } = held
  const recap = recapOf(model)
  if (recap !== undefined) return carrying(recap(grantedTo(held)), hold, () => (begun.times += 1))
  begun.times = 1
  warnOnce(
    'unseen-model',
    `\`${model.constructor.name}\` can be given neither a guarded fetch nor an output cap: its own retries run under one hold. Set maxRetries: 0 on it.`,
  )
  if (grantedTo(held) === call.bound.outputTokensPerChoice) return model
  await hold.release('the model cannot be given the output cap that was granted')
  const wouldPass = 'set maxTokens on the model'
  scope.refuse(new Refusal('ERR_UNMETERED', `\`${call.action.resource}\` cannot be given an output cap; ${wouldPass}.`, { wouldPass }))
  return model
}

/** Runs the call with its hold in the task, and ends the hold. */
async function run<T>(held: Held, unbilledStatuses: readonly number[] | undefined, send: () => T | PromiseLike<T>): Promise<T> {
  let result: T
  try {
    result = await send()
  } catch (error) {
    if (held.seen || held.begun.times === 0) await letGo(held)
    else await endFailedCall(held.hold, error, unbilledStatuses)
    throw error
  }
  await endAnswered(held, readAnswer(result))
  return result
}

/** Lets go of a hold that nothing has claimed: what was sent was held by the transport guard itself. */
async function letGo({ hold, begun }: Held): Promise<void> {
  await hold.claim()?.release(begun.times === 0 ? 'no request was sent' : 'its HTTP attempts were held by themselves')
}

async function endAnswered(held: Held, answer: LangChainAnswer): Promise<void> {
  const { hold, begun, call, seen, isInnermost } = held
  if (begun.times === 0 && answer.isLocal) return letGo(held)
  if (!seen || begun.times === 0) return endUnseen(held, answer)
  await letGo(held)
  const used = usedOf(held, answer)
  // The attempt decided; what LangChain counted is compared with it. Of several, and of what other middleware may have
  // called, nobody knows which one answered.
  if (isInnermost && hold.state === 'settled' && begun.times === 1 && used !== undefined && call.bound.hostedTools.length === 0)
    await hold.settle(used.amounts, used.answer)
}

/** Settles from what LangChain says of the usage: all that there is, when the HTTP of a model cannot be seen. */
async function endUnseen(held: Held, answer: LangChainAnswer): Promise<void> {
  const { hold, call, scope, miscounted } = held
  // `@langchain/anthropic` adds the output tokens of `message_start` to those of `message_delta`, which have them already:
  // never too few, and more than the guard of the user's below it, which has settled, read on the wire.
  if (miscounted && hold.state === 'settled') return
  const used = usedOf(held, answer)
  if (used !== undefined) return hold.settle(used.amounts, used.answer)
  const unclaimed = hold.claim()
  if (unclaimed === undefined) return
  await unclaimed.charge('the answer has no usage that could be priced')
  const fault = answer.usage === undefined ? 'it came without usage (usage_metadata)' : 'it used something without a price'
  scope.report({ type: 'assumed', message: `An answer of \`${call.action.resource}\` was charged at its worst case: ${fault}.` })
}

function usedOf({ call }: Held, { usage, serviceTier, responseId }: LangChainAnswer): { amounts: Amounts; answer: Answer } | undefined {
  const used = usage === undefined ? undefined : call.used(usage, serviceTier)
  if (used === undefined) return undefined
  return { amounts: used.amounts, answer: answerOf(used, responseId) }
}

const warned = new Set<string>()

/** Tells the developer, once in a process. */
export function warnOnce(code: string, message: string): void {
  if (warned.has(`${code} ${message}`)) return
  warned.add(`${code} ${message}`)
  process.emitWarning(message, { code: `holdfast:${code}` })
}
