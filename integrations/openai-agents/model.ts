// A `Model` of the Agents SDK, held. Where its client can be seen, as that of Responses, the client is given a transport
// guard, and each HTTP attempt is held and settled by itself. Any other model is held here, one attempt for each call.

import type { Model, ModelProvider, ModelRequest, ModelResponse, StreamEvent } from '@openai/agents'
import { ambient, withAmbient, type Ambient } from '../../src/lib/ambient.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import { sha256 } from '../../src/lib/ids.ts'
import { boundFacts } from '../../src/metering/worst-case/bound.ts'
import type { Hold } from '../../src/waist/hold.ts'
import type { Scope, ScopeSource } from '../../src/waist/scope.ts'
import { endFailedCall } from '../common/failed-call.ts'
import { answerOf, modelCall, type ModelCall } from '../common/model-call.ts'
import { hadNoRetries, isGuardedBelow, markUnseen } from '../common/sdk-retries.ts'
import { wrapOpenAI, type GuardOptions } from '../openai.ts'
import { unguarded } from '../transport/guard-fetch.ts'
import { readAnswer, type AgentsAnswer } from './answer.ts'
import { payingScope } from './frame.ts'
import { noteRefusal } from './tools.ts'
import { boundRequest, cappedSettings, tierOf, type CallBound } from './request.ts'

/** Options of {@link guardModel}. */
export interface GuardModelOptions extends Omit<GuardOptions, 'fetch'> {
  /** Name of the model, of one that does not tell it. @default what the model, or whoever asked its provider for it, says */
  readonly model?: string
}

/** A client of `openai`, as far as it is used. */
interface SeenModel {
  readonly _client: object & { readonly fetch: typeof fetch }
}

const originals = new WeakMap<object, Model>()

/** Whether a model is guarded already. */
export function isGuardedModel(model: object): boolean {
  return originals.has(model)
}

/**
 * Returns a model like this one whose calls are held, clamped and settled; the given model stays as it is.
 *
 * A refusal is thrown as itself before any HTTP request leaves, and no retry policy repeats it. `OpenAIResponsesModel`
 * keeps the retries of its client, each under a hold of its own. Of other models the HTTP cannot be seen: the SDK's
 * retries below them are off, unless their client is of `wrapOpenAI`.
 *
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`.
 * @throws {TypeError} For a model that does not tell its name, where `options.model` does not say it either.
 */
export function guardModel<M extends Model>(model: M, source?: ScopeSource, options: GuardModelOptions = {}): M {
  const original = originals.get(model) ?? model
  const seen = onGuardedClient(original, options)
  const calls = seen === undefined ? heldCalls(original, source, options) : passedCalls(seen, source)
  const members: Partial<Model> = {
    ...calls,
    getRetryAdvice: (args) =>
      // The SDK asks the policy of its caller for everything but what was aborted, and repeats what that wants.
      findRefusal(args.error) === undefined
        ? original.getRetryAdvice?.(args)
        : { suggested: false, replaySafety: 'safe', normalized: { isAbort: true } },
  }
  return over(original, members, (guarded) => originals.set(guarded, original)) as M
}

/**
 * Returns a provider like this one whose models are guarded: for `new Runner({ modelProvider })` and
 * `setDefaultModelProvider`. A `Model` that is set on an agent itself does not come from it; `guardAgent` finds those.
 *
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`.
 */
export function guardModelProvider<P extends ModelProvider>(provider: P, source?: ScopeSource, options: GuardModelOptions = {}): P {
  const known = new WeakMap<Model, Model>()
  async function getModel(name?: string): Promise<Model> {
    const model = await provider.getModel(name)
    const guarded = known.get(model) ?? guardModel(model, source, name ? { model: name, ...options } : options)
    // A provider may give one model for two names only where the model knows its own.
    if (nameOf(model) !== undefined || cachesByName(provider)) known.set(model, guarded)
    return guarded
  }
  return over(provider, { getModel })
}

/** Providers of the SDK have one model for each name. */
function cachesByName({ constructor }: ModelProvider): boolean {
  return constructor.name === 'OpenAIProvider' || constructor.name === 'LazyDefaultModelProvider'
}

/** The same object with other members; what else it has is its own, private fields included. */
function over<T extends object>(original: T, members: object, remember?: (made: T) => void): T {
  const bound = new Map<PropertyKey, unknown>()
  const made = new Proxy(original, {
    get(target, key) {
      if (Object.hasOwn(members, key)) return (members as Record<PropertyKey, unknown>)[key]
      const value: unknown = Reflect.get(target, key, target)
      if (typeof value !== 'function' || key === 'constructor') return value
      if (!bound.has(key)) bound.set(key, (value as () => unknown).bind(target))
      return bound.get(key)
    },
  })
  remember?.(made)
  return made
}

function nameOf(model: Model): string | undefined {
  const { _model: name } = model as { _model?: unknown }
  return typeof name === 'string' && name !== '' ? name : undefined
}

/** The model on a client with a transport guard, if its client can be seen and has none yet. */
function onGuardedClient(model: Model, { model: _name, ...options }: GuardModelOptions): Model | undefined {
  const { _client: client } = model as Partial<SeenModel>
  // Another class, such as that of WebSockets, may have private fields, or send in other ways.
  if (model.constructor.name !== 'OpenAIResponsesModel' || client === undefined || unguarded(client.fetch) !== client.fetch)
    return undefined
  const copy = Object.create(Object.getPrototypeOf(model) as object) as Model
  return Object.assign(copy, model, { _client: wrapOpenAI(client, undefined, options) })
}

type Calls = Pick<Model, 'getResponse' | 'getStreamedResponse'>

/** Calls that the transport guard below holds, from the scope that pays now. */
function passedCalls(model: Model, source: ScopeSource): Calls {
  // Nobody's hold is for these: a tool that calls a model has one of its own.
  const here = (): Ambient => ({ ...payingScope(source).enter(ambient), hold: undefined })
  return {
    async getResponse(request) {
      try {
        return await withAmbient(here(), () => model.getResponse(request))
      } catch (error) {
        noteRefusal(error)
        throw findRefusal(error) ?? error
      }
    },
    async *getStreamedResponse(request) {
      try {
        yield* eachWithin(here(), () => model.getStreamedResponse(request))
      } catch (error) {
        noteRefusal(error)
        throw findRefusal(error) ?? error
      }
    },
  }
}

/** What a sequence yields, each step of it taken in this context: whoever reads it may be in another one. */
async function* eachWithin<T>(context: Ambient, sequence: () => AsyncIterable<T>): AsyncGenerator<T> {
  const iterator = withAmbient(context, () => sequence()[Symbol.asyncIterator]())
  let hasEnded = false
  try {
    for (;;) {
      const step = await withAmbient(context, () => iterator.next())
      hasEnded = step.done === true
      if (step.done === true) return
      yield step.value
    }
  } catch (error) {
    hasEnded = true
    throw error
  } finally {
    if (!hasEnded) await withAmbient(context, async () => iterator.return?.())
  }
}

/** A call that is held here. */
interface Held {
  readonly scope: Scope
  readonly hold: Hold
  readonly call: ModelCall
  readonly request: ModelRequest
}

function heldCalls(model: Model, source: ScopeSource, options: GuardModelOptions): Calls {
  const name = options.model ?? nameOf(model)
  if (name === undefined || name === '')
    throw new TypeError(
      `\`${model.constructor.name}\` does not tell its name: guardModel(model, scope, { model: 'gpt-…' }), or set it on the agent.`,
    )
  return {
    async getResponse(request) {
      const held = await begin(name, request, source, options)
      if (held === undefined) return model.getResponse(request)
      let response: ModelResponse
      try {
        response = await withAmbient({ hold: held.hold }, () => model.getResponse(held.request))
      } catch (error) {
        throw await endFailed(held, error, options)
      }
      await settle(held, readAnswer(response))
      return response
    },
    async *getStreamedResponse(request) {
      const held = await begin(name, request, source, options)
      yield* held === undefined ? model.getStreamedResponse(request) : metered(held, model, options)
    },
  }
}

async function* metered(held: Held, model: Model, options: GuardModelOptions): AsyncGenerator<StreamEvent> {
  let answer: AgentsAnswer | undefined
  let hasFailed = false
  try {
    for await (const event of eachWithin({ ...ambient(), hold: held.hold }, () => model.getStreamedResponse(held.request))) {
      if (event.type === 'response_done') {
        answer = readAnswer(event.response)
        // Before the end reaches the caller, so that whoever has read everything sees it in the budget.
        await settle(held, answer)
      }
      yield event
    }
  } catch (error) {
    hasFailed = true
    throw answer === undefined ? await endFailed(held, error, options) : error
  } finally {
    if (answer === undefined && !hasFailed) {
      await letGo(held.hold)
      await held.hold.charge('the stream was left, or ended without its usage')
    }
  }
}

/** `undefined` in observe mode for a call that cannot be bounded: it passes as it is, and unheld. */
async function begin(name: string, request: ModelRequest, source: ScopeSource, options: GuardModelOptions): Promise<Held | undefined> {
  const { signal, modelSettings } = request
  signal?.throwIfAborted()
  const scope = payingScope(source)
  const call = await noting(callOf(scope, name, request, options))
  if (call === undefined) return undefined
  const hold = await noting(scope.begin(call.action, { signal }))
  const { capSet, outputTokensPerChoice } = call.bound
  const cap = hold.caps.maxOutputTokens ?? outputTokensPerChoice
  const capped = capSet && cap >= outputTokensPerChoice ? modelSettings : cappedSettings(modelSettings, cap)
  return { scope, hold, call, request: withoutRetries({ ...request, modelSettings: capped }, hold) }
}

/** A refusal is noted for the tool that it happens in, if it does. */
async function noting<T>(asked: Promise<T>): Promise<T> {
  try {
    return await asked
  } catch (error) {
    noteRefusal(error)
    throw error
  }
}

function callOf(scope: Scope, name: string, request: ModelRequest, options: GuardModelOptions): Promise<ModelCall | undefined> {
  const { provider = 'openai', maxInputTokens, defaultMaxOutputTokens } = options
  let read: CallBound | undefined
  const boundOf = (): CallBound => (read ??= boundRequest(name, request))
  const text = JSON.stringify([request.systemInstructions, request.input])
  const model = { id: name, serviceTier: tierOf(name, request.modelSettings) }
  return modelCall(scope, model, sha256(text), (known) => boundFacts(boundOf().facts, boundOf().bytes, known), {
    provider,
    maxInputTokens,
    defaultMaxOutputTokens,
  })
}

/**
 * The request with the SDK's own word for no retries below. It is written into the object that is there, since the SDK
 * knows the attempt by it.
 */
function withoutRetries(request: ModelRequest, hold: Hold): ModelRequest {
  const { _internal: internal = {} } = request as { _internal?: { runnerManagedRetry?: boolean } }
  const isOff = internal.runnerManagedRetry === true
  markUnseen(hold, !isOff)
  if (isOff) return request
  return Object.assign(request, { _internal: Object.assign(internal, { runnerManagedRetry: true }) })
}

/** Lets go of a hold that no HTTP attempt has claimed, where a guarded client below held each of them by itself: on another scope, say. */
async function letGo(hold: Hold): Promise<void> {
  if (isGuardedBelow(hold)) await hold.claim()?.release('its HTTP attempts were held by themselves')
}

/** Ends the hold of a call that failed. @returns What to throw. */
async function endFailed({ hold }: Held, error: unknown, { unbilledStatuses }: GuardModelOptions): Promise<unknown> {
  noteRefusal(error)
  await letGo(hold)
  if (hadNoRetries(hold)) warnOfRetries(findRefusal(error))
  return endFailedCall(hold, error, unbilledStatuses)
}

let hasWarned = false

/** Tells the developer, once in a process, when it makes a difference. */
function warnOfRetries(refusal: unknown): void {
  if (hasWarned || refusal !== undefined) return
  hasWarned = true
  const message =
    'A model call failed, and was not repeated: the HTTP of its model cannot be seen, so the retries of its client are off. Give it a guarded client: new OpenAIProvider({ openAIClient: wrapOpenAI(new OpenAI()) }), or set modelSettings.retry.'
  process.emitWarning(message, { code: 'holdfast:unseen-retries' })
}

async function settle({ scope, hold, call }: Held, { usage, responseId, serviceTier }: AgentsAnswer): Promise<void> {
  await letGo(hold)
  // Where it was let go, there is nothing to compare.
  if (hold.state === 'released') return
  const used = usage === undefined ? undefined : call.used(usage, serviceTier)
  if (used !== undefined) {
    return hold.settle(used.amounts, answerOf(used, responseId))
  }
  // Ended already: its HTTP attempt read the usage that the SDK lost.
  if (hold.state !== 'held') return
  await hold.charge('the answer has no usage that could be priced')
  const fault =
    usage === undefined
      ? 'it came without usage. Let the server send it (stream_options.include_usage), or give the model a client of wrapOpenAI'
      : 'it used something without a price. Add the price to openKernel({ prices })'
  scope.report({ type: 'assumed', message: `An answer of \`${call.action.resource}\` was charged at its worst case: ${fault}.` })
}
