// Language models of the AI SDK: each call is held at its worst case before it is sent, clamped to what was held, and
// settled from the provider's usage, by the part of the SDK that runs once for each attempt.

import type {
  LanguageModelV4,
  LanguageModelV4CallOptions,
  LanguageModelV4Middleware,
  LanguageModelV4StreamPart,
  SharedV4ProviderMetadata,
} from '@ai-sdk/provider'
import { findRefusal } from '../../src/lib/errors.ts'
import { sha256 } from '../../src/lib/ids.ts'
import { readAiSdkUsage } from '../../src/metering/usage/ai-sdk.ts'
import { boundFacts } from '../../src/metering/worst-case/bound.ts'
import type { Hold } from '../../src/waist/hold.ts'
import type { Scope, ScopeSource } from '../../src/waist/scope.ts'
import { beginning } from '../common/call-observer.ts'
import { cutWith } from '../common/cut-with.ts'
import { answerOf, modelCall, type ModelCall, type ModelCallOptions } from '../common/model-call.ts'
import { scopeOf } from '../common/scope-source.ts'
import { createCallCounter, tierOf, type CallCounter } from './answer.ts'
import { attempt, isPaidBelow, notePaid, type AttemptOptions } from './attempt.ts'
import { offered, type Offer } from './hosted-tools.ts'
import { asLastAnswer, withNotice } from './last-answer.ts'
import { boundPrompt, capped } from './prompt.ts'

/** Options of {@link holdfastMiddleware}. */
export interface MiddlewareOptions extends Omit<ModelCallOptions, 'provider'>, AttemptOptions {
  /**
   * When a call is refused but for what its budget keeps for a last answer (`wrapUp` of the budget), that answer is
   * asked for: with the tools switched off, and the model told to answer with what it has. `scope.refusal` says so.
   * @default false
   */
  readonly wrapUp?: boolean | undefined
  /**
   * Whether an answer came out of a cache below this middleware, so that nothing was sent for it: your word. Its hold
   * goes back, unless a transport guard has seen a request. Over a transport guard an answer that keeps the id of its
   * response goes back by itself. @default no answer is
   */
  readonly fromCache?: ((answer: CachedAnswer) => boolean) | undefined
}

/** What an answer says of where it came from. */
export interface CachedAnswer {
  readonly providerMetadata: SharedV4ProviderMetadata | undefined
}

interface Held {
  readonly scope: Scope
  readonly hold: Hold
  readonly call: ModelCall
  readonly params: LanguageModelV4CallOptions
  readonly counter: CallCounter
  readonly warnings: Offer['warnings']
  readonly fromCache: MiddlewareOptions['fromCache']
}

/** What an answer says of itself. */
interface Answer {
  readonly usage: unknown
  readonly responseId: string | undefined
  readonly serviceTier: string | undefined
  readonly providerMetadata: SharedV4ProviderMetadata | undefined
}

/**
 * Middleware for `wrapLanguageModel`: each call of the model is held before it is sent, clamped to what was
 * held, and settled from the provider's usage.
 *
 * `generateText` rejects with the `Refusal` itself. `streamText` swallows errors: look at `onError`, or at
 * `scope.refusal`.
 *
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`.
 */
export function holdfastMiddleware(source?: ScopeSource, options: MiddlewareOptions = {}): LanguageModelV4Middleware {
  return {
    specificationVersion: 'v4',
    async wrapGenerate({ model, params }) {
      const held = await beginning(() => begin(source, model, params, options))
      if (held === undefined) return model.doGenerate(params)
      const result = await attempt(held.hold, options, () => model.doGenerate(held.params))
      const { content, usage, response, providerMetadata } = result
      for (const part of content) held.counter.see(part)
      await settle(held, { usage, responseId: response?.id, serviceTier: tierOf(providerMetadata, response?.body), providerMetadata })
      return held.warnings.length === 0 ? result : { ...result, warnings: [...result.warnings, ...held.warnings] }
    },
    async wrapStream({ model, params }) {
      const held = await beginning(() => begin(source, model, params, options))
      if (held === undefined) return model.doStream(params)
      const result = await attempt(held.hold, options, () => model.doStream(held.params))
      return { ...result, stream: result.stream.pipeThrough(meter(held)) }
    },
  }
}

/** `undefined` in observe mode for a call that cannot be bounded: it passes as it is, and unheld. */
async function begin(
  source: ScopeSource,
  model: LanguageModelV4,
  given: LanguageModelV4CallOptions,
  options: MiddlewareOptions,
): Promise<Held | undefined> {
  given.abortSignal?.throwIfAborted()
  const scope = scopeOf(source)
  const { params, warnings } = await offered(scope, given)
  try {
    return await take(scope, model, { params, warnings }, options, await scope.notice())
  } catch (error) {
    const refusal = findRefusal(error)
    const demands = params.toolChoice?.type === 'required' || params.toolChoice?.type === 'tool'
    // Who demands a call of a tool takes no other answer.
    if (options.wrapUp !== true || demands || refusal?.details.wrapUp !== true) throw error
    return take(scope.wrapUp(), model, { params: asLastAnswer(params, refusal.toModelMessage()), warnings }, options)
  }
}

async function take(
  scope: Scope,
  model: LanguageModelV4,
  { params, warnings }: Offer,
  { maxInputTokens, defaultMaxOutputTokens, fromCache }: MiddlewareOptions,
  latest?: string,
): Promise<Held | undefined> {
  // What the last call was told takes room in this one; what this one is told is known with its hold.
  const { facts, bytes, text, serviceTier } = boundPrompt(model, withNotice(params, latest))
  const call = await modelCall(scope, { id: model.modelId, serviceTier }, sha256(text), (known) => boundFacts(facts, bytes, known), {
    provider: model.provider,
    maxInputTokens,
    defaultMaxOutputTokens,
  })
  if (call === undefined) return undefined
  const hold = await scope.begin(call.action, { signal: params.abortSignal })
  const cap = hold.caps.maxOutputTokens ?? call.bound.outputTokensPerChoice
  const counter = createCallCounter(params.tools ?? [])
  const told = latest === undefined ? params : withNotice(params, hold.notice)
  return { scope, hold, call, params: capped(model, told, cap), counter, warnings, fromCache }
}

async function settle(held: Held, { usage: reported, responseId, serviceTier, providerMetadata }: Answer): Promise<void> {
  const { scope, hold, call, counter } = held
  if (isPaidBelow(hold, responseId)) {
    notePaid(hold, responseId)
    return hold.release('a guarded model below has paid for it')
  }
  if (held.fromCache?.({ providerMetadata }) === true) return hold.release('answered from a cache')
  const calls = call.bound.hostedTools.length === 0 ? {} : counter.calls(reported)
  const usage = readAiSdkUsage(reported, calls)
  const used = usage === undefined || calls === undefined ? undefined : call.used(usage, serviceTier)
  if (used !== undefined) {
    notePaid(hold, responseId)
    return hold.settle(used.amounts, answerOf(used, responseId))
  }
  // Ended already: its HTTP attempt read the usage that the framework lost.
  if (hold.state !== 'held') return
  notePaid(hold, responseId)
  await hold.charge('the answer has no usage that could be priced')
  const fault = usage === undefined ? NO_USAGE : calls === undefined ? NO_CALLS : unpriced(serviceTier)
  scope.report({ type: 'assumed', message: `An answer of \`${call.action.resource}\` was charged at its worst case: ${fault}.` })
}

/** Why an answer could not be settled, and what to do about it. */
const NO_USAGE =
  'it came without usage. Let the provider send it (createOpenAICompatible({ includeUsage: true })), or put guardFetch(scope) under it'
const NO_CALLS = 'it does not say how often its hosted tools ran. Use tools of your own in their place'
function unpriced(serviceTier = 'default'): string {
  return `it used something without a price (service tier \`${serviceTier}\`). Add the price to openKernel({ prices })`
}

/** Passes a stream on and settles at its end; a stream that is left or breaks is charged at worst. */
function meter(held: Held): TransformStream<LanguageModelV4StreamPart, LanguageModelV4StreamPart> {
  let responseId: string | undefined
  let answer: Answer | undefined
  const end = (reason: string): Promise<void> => (answer === undefined ? held.hold.charge(reason) : settle(held, answer))
  return new TransformStream<LanguageModelV4StreamPart, LanguageModelV4StreamPart>({
    start(controller) {
      cutWith(held.hold, (refusal) => {
        controller.error(refusal)
        void end(`the stream was cut: ${refusal.code}`)
      })
    },
    transform(part, controller) {
      held.counter.see(part)
      if (part.type === 'response-metadata') responseId = part.id ?? responseId
      if (part.type === 'finish') {
        const { usage, providerMetadata } = part
        answer = { usage, responseId, serviceTier: tierOf(providerMetadata), providerMetadata }
      }
      const warned = part.type === 'stream-start' && held.warnings.length > 0
      controller.enqueue(warned ? { ...part, warnings: [...part.warnings, ...held.warnings] } : part)
    },
    // Before the end reaches the caller, so that whoever has read everything sees it in the budget.
    flush: () => end('the stream ended without a finish part'),
    cancel: () => end('the stream was left or broke off'),
  })
}
