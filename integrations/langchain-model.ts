// One model call of `createAgent`: held before it starts, sent with a `fetch` of its own that carries the hold,
// settled by the HTTP attempt that the hold paid for. Where the HTTP of a model cannot be seen, settled from its usage.

import { BaseChatModel } from '@langchain/core/language_models/chat_models'
import { withAmbient } from '../src/lib/ambient.ts'
import { findRefusal, Refusal } from '../src/lib/errors.ts'
import { sha256 } from '../src/lib/ids.ts'
import { boundFacts } from '../src/metering/worst-case.ts'
import type { Amounts } from '../src/lib/amounts.ts'
import type { Answer, Hold } from '../src/waist/hold.ts'
import type { Scope, ScopeSource } from '../src/waist/scope.ts'
import { faultOf, isNeverSent, isUnbilled } from './exchange.ts'
import { readAnswer, type LangChainAnswer } from './langchain-answer.ts'
import { boundCall, withOwnMaximum, type BoundableRequest, type CallBound } from './langchain-request.ts'
import { contextOfNow, copyOf, isGuarded, isOpenAiLike, type GuardModelOptions, type OpenAiLikeModel } from './langchain-shared.ts'
import { modelCall, type ModelCall } from './model-call.ts'
import { scopeOf } from './scope-source.ts'
import { guardFetch, unguarded } from './transport.ts'

/** The request of `wrapModelCall`, as far as it is used. */
export interface HoldableRequest extends BoundableRequest {
  readonly model: unknown
  readonly runtime: { readonly signal?: AbortSignal | undefined; readonly configurable?: unknown }
}

/** Holds the model calls of one middleware. */
export interface CallHolder {
  /** Holds one call, runs it, and sees to it that its hold ends. */
  hold<Q extends HoldableRequest, T>(request: Q, handler: (request: Q) => T | PromiseLike<T>): Promise<T>
  /** The model with a guard under it, if it has none: for one that other middleware puts in the place of the first. */
  guarded(model: unknown): Promise<unknown>
}

/** What a held call threw, out of what LangChain made of it; any other error is itself. */
export function unwrapped(error: unknown): unknown {
  const { cause } = (error ?? {}) as { readonly cause?: unknown }
  return typeof cause === 'object' && cause !== null && thrown.has(cause) ? cause : error
}

/** What the models of one call did inside of all middleware, whatever that made of it. */
export interface Inside {
  /** Whether somebody looks there. */
  isWatched: boolean
  /** Of the model of the call, or of another one. */
  refusal: Refusal | undefined
  /** What models answered. */
  readonly answers: WeakSet<object>
}

/** The member of a request that carries its {@link Inside} to the middleware there. */
export const INSIDE: unique symbol = Symbol('holdfast.inside')

/** The HTTP of one model call. */
interface Wire {
  sent: number
  /** Of the last attempt. */
  refusal: Refusal | undefined
}

interface Held {
  readonly scope: Scope
  readonly hold: Hold
  readonly call: ModelCall
  readonly wire: Wire
  readonly inside: Inside
  /** Whether every HTTP attempt of the model passes a transport guard. */
  readonly seen: boolean
}

/** What calls threw; module-wide, since a model may be held by one middleware and its agent made by another. */
const thrown = new WeakSet()

/** Makes the holder of a middleware, with one transport guard for each `fetch` that it finds under a model. */
export function createCallHolder(source: ScopeSource, options: GuardModelOptions): CallHolder {
  const guards = new WeakMap<typeof fetch, typeof fetch>()
  const fallback = guardFetch(source, { provider: 'openai', ...options })

  function guardOver(under: typeof fetch | undefined): typeof fetch {
    if (under === undefined) return fallback
    // Somebody else's guard stays: two on top of each other would hold twice.
    if (unguarded(under) !== under) return under
    const guard = guards.get(under) ?? guardFetch(source, { provider: 'openai', ...options, fetch: under })
    guards.set(under, guard)
    return guard
  }

  async function holdOne<Q extends HoldableRequest, T>(request: Q, handler: (request: Q) => T | PromiseLike<T>): Promise<T> {
    const { signal, configurable } = request.runtime
    signal?.throwIfAborted()
    const scope = scopeOf(source)
    const model = await resolved(request.model, configurable)
    const seen = isOpenAiLike(model) ? model : undefined
    const guard = seen === undefined ? undefined : guardOver(seen.clientConfig.fetch)
    const recap = seen === undefined ? recapper(model) : undefined
    const call = await callOf(scope, boundCall(model, request), seen !== undefined, recap !== undefined, options)
    if (call === undefined) return handler({ ...request, model: seen === undefined ? model : copyOf(seen, { fetch: guard! }) })
    const hold = await scope.begin(call.action, signal === undefined ? {} : { signal })
    const wire: Wire = { sent: 0, refusal: undefined }
    const inside: Inside = { isWatched: false, refusal: undefined, answers: new WeakSet() }
    const held: Held = { scope, hold, call, wire, inside, seen: seen !== undefined }
    // Only the wire of this very model may claim the hold: what other middleware calls meanwhile has holds of its own.
    return withAmbient({ hold: undefined }, () =>
      run(held, options.unbilledStatuses, async () => {
        const ready = seen === undefined ? await recapped(model, recap, held) : wired(seen, held, guard!)
        return handler({ ...request, model: ready, [INSIDE]: inside })
      }),
    )
  }

  return {
    async guarded(model) {
      const known = await resolved(model, undefined)
      return isOpenAiLike(known) && !isGuarded(known) ? copyOf(known, { fetch: guardOver(known.clientConfig.fetch) }) : known
    },
    async hold(request, handler) {
      try {
        return await holdOne(request, handler)
      } catch (error) {
        if (typeof error === 'object' && error !== null) thrown.add(error)
        throw error
      }
    },
  }
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
function wired(model: OpenAiLikeModel, { hold, call, wire }: Held, guard: typeof fetch): OpenAiLikeModel {
  const { capSet, outputTokensPerChoice } = call.bound
  const cap = hold.caps.maxOutputTokens ?? outputTokensPerChoice
  const here = withAmbient({ hold }, contextOfNow)
  const fetch: typeof globalThis.fetch = async (input, init) => {
    wire.sent += 1
    wire.refusal = undefined
    const response = await here(guard, input, init)
    if (response.status === 402) wire.refusal = await refusalIn(response)
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

/** Makes a model like this one with another cap, when its constructor is known to take one by the name that LangChain has for it. */
type Recap = (maxTokens: number | undefined) => object

function recapper(model: object): Recap | undefined {
  const {
    lc_kwargs: fields,
    lc_serializable_keys: kept,
    maxTokens: own,
  } = model as {
    readonly lc_kwargs?: object
    readonly lc_serializable_keys?: unknown
    readonly maxTokens?: unknown
  }
  const Model = model.constructor as new (fields: object) => { readonly maxTokens?: unknown }
  // With a list of keys LangChain has kept those only, and the new model would lack the others, such as its address.
  if (fields === undefined || kept !== undefined || !('maxTokens' in model)) return undefined
  const recap = (maxTokens: unknown): { readonly maxTokens?: unknown } =>
    // Retries of LangChain would run under one hold, which pays for one attempt.
    new Model({ ...fields, maxRetries: 0, ...(maxTokens === undefined ? {} : { maxTokens }) })
  try {
    return recap(77).maxTokens === 77 && Object.is(recap(own).maxTokens, own) ? recap : undefined
  } catch {
    // A constructor that wants something else.
    return undefined
  }
}

/** A model whose HTTP cannot be seen, with the cap that was granted; refused when a smaller one was granted than it keeps to. */
async function recapped(model: object, recap: Recap | undefined, { scope, hold, call }: Held): Promise<object> {
  const { outputTokensPerChoice: asked, capSet } = call.bound
  const granted = Math.min(hold.caps.maxOutputTokens ?? asked, asked)
  if (recap !== undefined) return carrying(recap(capSet && granted === asked ? undefined : granted), hold)
  warnOnce(
    'unseen-model',
    `\`${model.constructor.name}\` can be given neither a guarded fetch nor an output cap: its own retries run under one hold. Set maxRetries: 0 on it.`,
  )
  if (granted === asked) return model
  await hold.release('the model cannot be given the output cap that was granted')
  const wouldPass = 'set maxTokens on the model'
  scope.refuse(new Refusal('ERR_UNMETERED', `\`${call.action.resource}\` cannot be given an output cap; ${wouldPass}.`, { wouldPass }))
  return model
}

/** Where chat models of LangChain keep how they stream. */
const STREAM = '_streamResponseChunks'

/** Gives the calls of a model their hold: a guard of the user's may be under it, and would hold for itself. */
function carrying(model: object, hold: Hold): object {
  const { _generate: generate, [STREAM]: stream } = model as {
    readonly _generate?: (...args: unknown[]) => unknown
    readonly [STREAM]?: (...args: unknown[]) => AsyncGenerator
  }
  const inHold = <T>(fn: () => T): T => withAmbient({ hold }, fn)
  if (typeof generate === 'function') define(model, '_generate', (...args: unknown[]) => inHold(() => generate.apply(model, args)))
  // LangChain knows by this member whether a model can stream, so one that cannot has to stay without its own.
  if (typeof stream !== 'function' || stream === BaseChatModel.prototype[STREAM]) return model
  define(model, STREAM, async function* (...args: unknown[]) {
    const chunks = inHold(() => stream.apply(model, args))
    try {
      for (let step = await inHold(() => chunks.next()); step.done !== true; step = await inHold(() => chunks.next())) yield step.value
    } finally {
      await chunks.return(undefined)
    }
  })
  return model
}

function define(model: object, name: string, value: unknown): void {
  Object.defineProperty(model, name, { value, configurable: true, enumerable: false, writable: true })
}

/** Runs the call with its hold in the task, and ends the hold. */
async function run<T>(held: Held, unbilledStatuses: readonly number[] | undefined, send: () => T | PromiseLike<T>): Promise<T> {
  const { hold, wire } = held
  let result: T
  try {
    result = await send()
  } catch (error) {
    const refusal = findRefusal(error) ?? wire.refusal
    if (held.seen) await letGo(held)
    else await endFailed(hold, error, unbilledStatuses)
    throw refusal ?? error
  }
  const answer = readAnswer(result)
  if (held.seen) await endSeen(held, answer)
  else await endUnseen(held, answer)
  const swallowed = swallowedBy(held, result, answer)
  if (swallowed !== undefined) throw swallowed
  return result
}

/**
 * The refusal of an attempt that other middleware made an answer of: nobody would learn of it. What a model answered
 * was paid for, and is the answer, whatever else was refused. Where nobody looks inside, it is known by its usage.
 */
function swallowedBy({ wire, inside }: Held, result: unknown, { usage }: LangChainAnswer): Refusal | undefined {
  const isOfModel = inside.isWatched ? inside.answers.has(result as object) : usage !== undefined
  return isOfModel ? undefined : (inside.refusal ?? wire.refusal)
}

/** Lets go of a hold that no attempt has claimed: what was sent was held by the transport guard itself. */
async function letGo({ hold, wire }: Held): Promise<void> {
  await hold.claim()?.release(wire.sent === 0 ? 'no request was sent' : 'its HTTP attempts were held by themselves')
}

async function endSeen(held: Held, answer: LangChainAnswer): Promise<void> {
  const { hold, wire, call } = held
  if (wire.sent === 0) return answer.isLocal ? letGo(held) : endUnseen(held, answer)
  await letGo(held)
  const used = usedOf(held, answer)
  // The attempt decided; what LangChain counted is compared with it. Of several, nobody knows which one answered.
  if (hold.state === 'settled' && wire.sent === 1 && used !== undefined && call.bound.hostedTools.length === 0)
    await hold.settle(used.amounts, used.answer)
}

/** Settles from what LangChain says of the usage: all that there is, when the HTTP of a model cannot be seen. */
async function endUnseen(held: Held, answer: LangChainAnswer): Promise<void> {
  const { hold, call, scope } = held
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
  const { amounts, priceSource } = used
  return { amounts, answer: { ...(responseId === undefined ? {} : { responseId }), ...(priceSource === undefined ? {} : { priceSource }) } }
}

async function endFailed(hold: Hold, error: unknown, unbilledStatuses: readonly number[] | undefined): Promise<void> {
  const { status } = (error ?? {}) as { readonly status?: unknown }
  if (findRefusal(error) !== undefined) await hold.release('it was refused')
  else if (typeof status === 'number' && isUnbilled(status, unbilledStatuses)) await hold.release(`status ${status} is not billed`)
  else if (isNeverSent(error)) await hold.release('never sent')
  else await hold.charge(`it failed: ${faultOf(error)}`)
}

const warned = new Set<string>()

/** Tells the developer, once in a process. */
export function warnOnce(code: string, message: string): void {
  if (warned.has(`${code} ${message}`)) return
  warned.add(`${code} ${message}`)
  process.emitWarning(message, { code: `holdfast:${code}` })
}
