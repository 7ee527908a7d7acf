// The Vercel AI SDK: a language model middleware that holds each call, tool approval that asks the gates, and
// tools that cannot run past them. Works above the transport guard (`createOpenAI({ fetch: guardFetch(scope) })`)
// or alone; with both, the guard settles what it claimed and this layer compares.

import '../src/lib/runtime.ts'
import type { LanguageModelV4, LanguageModelV4CallOptions, LanguageModelV4Middleware, LanguageModelV4StreamPart } from '@ai-sdk/provider'
import type { ModelMessage, Tool, ToolApprovalStatus, ToolSet } from 'ai'
import { withAmbient } from '../src/lib/ambient.ts'
import { findRefusal, type Refusal } from '../src/lib/errors.ts'
import { sha256 } from '../src/lib/ids.ts'
import { readAiSdkUsage } from '../src/metering/usage/ai-sdk.ts'
import { boundFacts } from '../src/metering/worst-case/bound.ts'
import type { Hold } from '../src/waist/hold.ts'
import type { Scope, ScopeSource } from '../src/waist/scope.ts'
import { createCallCounter, tierOf, type CallCounter } from './ai-sdk/answer.ts'
import { boundPrompt, capped } from './ai-sdk/prompt.ts'
import { faultOf, isNeverSent, isUnbilled } from './transport/exchange.ts'
import { cutWith } from './common/cut-with.ts'
import { runTool, type ToolAmounts } from './common/guard-function.ts'
import { modelCall, type ModelCall, type ModelCallOptions } from './common/model-call.ts'
import { scopeOf } from './common/scope-source.ts'

export { findRefusal } from '../src/lib/errors.ts'
export { guardFetch } from './transport/guard-fetch.ts'
export type { GuardOptions } from './transport/guard-fetch.ts'
export type { ToolAmounts } from './common/guard-function.ts'

/** Options of {@link holdfastMiddleware}. */
export interface MiddlewareOptions extends Omit<ModelCallOptions, 'provider'> {
  /** Statuses of errors that the provider does not bill. @default 400 to 407, 409 to 499 */
  readonly unbilledStatuses?: readonly number[]
}

interface Held {
  readonly scope: Scope
  readonly hold: Hold
  readonly call: ModelCall
  readonly params: LanguageModelV4CallOptions
  readonly counter: CallCounter
}

/** What an answer says of itself. */
interface Answer {
  readonly usage: unknown
  readonly responseId: string | undefined
  readonly serviceTier: string | undefined
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
      const held = await begin(source, model, params, options)
      if (held === undefined) return model.doGenerate(params)
      const result = await attempt(held, options, () => model.doGenerate(held.params))
      const { content, usage, response, providerMetadata } = result
      for (const part of content) held.counter.see(part)
      await settle(held, { usage, responseId: response?.id, serviceTier: tierOf(providerMetadata, response?.body) })
      return result
    },
    async wrapStream({ model, params }) {
      const held = await begin(source, model, params, options)
      if (held === undefined) return model.doStream(params)
      const result = await attempt(held, options, () => model.doStream(held.params))
      return { ...result, stream: result.stream.pipeThrough(meter(held)) }
    },
  }
}

/** `undefined` in observe mode for a call that cannot be bounded: it passes as it is, and unheld. */
async function begin(
  source: ScopeSource,
  model: LanguageModelV4,
  params: LanguageModelV4CallOptions,
  { maxInputTokens, defaultMaxOutputTokens }: MiddlewareOptions,
): Promise<Held | undefined> {
  params.abortSignal?.throwIfAborted()
  const scope = scopeOf(source)
  const { facts, bytes, text, serviceTier } = boundPrompt(model, params)
  const call = await modelCall(scope, { id: model.modelId, serviceTier }, sha256(text), (known) => boundFacts(facts, bytes, known), {
    provider: model.provider,
    maxInputTokens,
    defaultMaxOutputTokens,
  })
  if (call === undefined) return undefined
  const hold = await scope.begin(call.action, params.abortSignal === undefined ? {} : { signal: params.abortSignal })
  const cap = hold.caps.maxOutputTokens ?? call.bound.outputTokensPerChoice
  return { scope, hold, call, params: capped(model, params, cap), counter: createCallCounter(params.tools ?? []) }
}

/** Sends the call with its hold in the task, so that a transport guard below finds it. */
async function attempt<T>({ hold }: Held, { unbilledStatuses }: MiddlewareOptions, send: () => PromiseLike<T>): Promise<T> {
  try {
    return await withAmbient({ hold }, send)
  } catch (error) {
    const refusal = findRefusal(error)
    const status = (error as { statusCode?: unknown } | undefined)?.statusCode
    if (refusal !== undefined) await hold.release('the transport guard refused it')
    else if (typeof status === 'number' && isUnbilled(status, unbilledStatuses)) await hold.release(`status ${status} is not billed`)
    else if (isNeverSent(error)) await hold.release('never sent')
    else await hold.charge(`it failed: ${faultOf(error)}`)
    throw refusal ?? error
  }
}

async function settle({ scope, hold, call, counter }: Held, { usage: reported, responseId, serviceTier }: Answer): Promise<void> {
  const calls = call.bound.hostedTools.length === 0 ? {} : counter.calls(reported)
  const usage = readAiSdkUsage(reported, calls)
  const used = usage === undefined || calls === undefined ? undefined : call.used(usage, serviceTier)
  if (used !== undefined) {
    const { amounts, priceSource } = used
    return hold.settle(amounts, {
      ...(responseId === undefined ? {} : { responseId }),
      ...(priceSource === undefined ? {} : { priceSource }),
    })
  }
  // Ended already: its HTTP attempt read the usage that the framework lost.
  if (hold.state !== 'held') return
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
      if (part.type === 'finish') answer = { usage: part.usage, responseId, serviceTier: tierOf(part.providerMetadata) }
      controller.enqueue(part)
    },
    // Before the end reaches the caller, so that whoever has read everything sees it in the budget.
    flush: () => end('the stream ended without a finish part'),
    cancel: () => end('the stream was left or broke off'),
  })
}

/** What the AI SDK tells of a tool call that may need approval. */
export interface ApprovalOptions {
  readonly toolCall: { readonly toolName: string; readonly toolCallId: string; readonly input: unknown }
  readonly tools?: ToolSet | undefined
  readonly toolsContext?: unknown
  readonly messages?: ModelMessage[]
}

/**
 * The `toolApproval` of `generateText`, `streamText` and agents: `deny` is `denied`, `ask` is `user-approval`,
 * `allow` is what the tool itself says in `needsApproval`, as it would be without this.
 *
 * The user's yes in the AI SDK is not enough for an `ask` rule: `kernel.approve` is, and a tool of
 * {@link guardTools} runs only with it. So a forged approval message in the history opens nothing.
 */
export function toolApproval(source?: ScopeSource): (options: ApprovalOptions) => Promise<ToolApprovalStatus> {
  return async (options) => {
    const { toolName, input } = options.toolCall
    const refusal = await scopeOf(source).decide({ kind: 'tool', resource: toolName, args: input })
    if (refusal === undefined) return ownApproval(options)
    if (refusal.code === 'ERR_APPROVAL_REQUIRED') return { type: 'user-approval', reason: refusal.message }
    return { type: 'denied', reason: refusal.toModelMessage() }
  }
}

/** A function as `toolApproval` makes the SDK ignore `needsApproval` of its tools, so it is asked here. */
async function ownApproval({ toolCall, tools = {}, toolsContext, messages = [] }: ApprovalOptions): Promise<ToolApprovalStatus> {
  const { toolName, toolCallId, input } = toolCall
  const own: unknown = Object.hasOwn(tools, toolName) ? tools[toolName]!.needsApproval : undefined
  const context = (toolsContext as Readonly<Record<string, unknown>> | undefined)?.[toolName]
  const needed: unknown = typeof own === 'function' ? await own(input, { toolCallId, messages, context }) : own
  return needed === true ? 'user-approval' : undefined
}

/**
 * Puts the `execute` of every tool behind the gates. A refusal becomes a tool error whose text is for the model
 * and whose `cause` is the refusal; the loop goes on. Tools that run elsewhere (no `execute`) stay as they are.
 *
 * @param toolAmounts - What calls of tools count as. @default nothing but the permission to make them
 */
export function guardTools<T extends ToolSet>(source: ScopeSource, tools: T, toolAmounts?: ToolAmounts): T {
  const guarded = Object.entries(tools).map(([name, tool]) => [
    name,
    typeof tool.execute === 'function' ? guardTool(name, tool, source, toolAmounts) : tool,
  ])
  return Object.fromEntries(guarded) as T
}

function guardTool(name: string, tool: Tool, source: ScopeSource, amounts: ToolAmounts | undefined): Tool {
  const execute = tool.execute as (this: unknown, input: unknown, options: unknown) => unknown
  const run = (input: unknown, fn: () => unknown): Promise<unknown> =>
    runTool(source, { name, args: input, amounts }, () => forModel(fn), refuse)
  if (execute.constructor.name !== 'AsyncGeneratorFunction') {
    return {
      ...tool,
      execute: (input: unknown, options: unknown) => run(input, async () => last(await execute.call(tool, input, options))),
    }
  }
  return {
    ...tool,
    async *execute(input: unknown, options: unknown) {
      // Asked before the first step; what was held for it is settled then, and its results pass on as they come.
      const steps = (await run(input, () => execute.call(tool, input, options))) as AsyncIterable<unknown>
      try {
        yield* steps
      } catch (error) {
        rethrowForModel(error)
      }
    },
  }
}

/** What the model reads of a tool error is its message; what the caller finds in it is its cause. */
function refuse(refusal: Refusal): never {
  throw new Error(refusal.toModelMessage(), { cause: refusal })
}

/** A refusal from inside of a tool, of a model that it calls, is read by the model too: its text for operators must not be. */
function rethrowForModel(error: unknown): never {
  const refusal = findRefusal(error)
  if (refusal === undefined) throw error
  refuse(refusal)
}

async function forModel(fn: () => unknown): Promise<unknown> {
  try {
    return await fn()
  } catch (error) {
    return rethrowForModel(error)
  }
}

/** A tool may answer with a sequence, whose last element is its result. */
async function last(result: unknown): Promise<unknown> {
  if (typeof result !== 'object' || result === null || !(Symbol.asyncIterator in result)) return result
  let latest: unknown
  for await (const value of result as AsyncIterable<unknown>) latest = value
  return latest
}
