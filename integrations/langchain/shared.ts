// What everything for LangChain has in common: chat models whose HTTP passes the transport guard, a callback that
// may refuse before a model starts, and a refusal as the answer of a tool.

import { AsyncLocalStorage } from 'node:async_hooks'
import { BaseCallbackHandler } from '@langchain/core/callbacks/base'
import { ToolMessage } from '@langchain/core/messages'
import { canonicalJson } from '../../src/lib/canonical-json.ts'
import type { Refusal } from '../../src/lib/errors.ts'
import type { ScopeSource } from '../../src/waist/scope.ts'
import { scopeOf } from '../common/scope-source.ts'
import { unguarded, type GuardOptions } from '../transport/guard-fetch.ts'

type Fields = Readonly<Record<string, unknown>>

/** The part of a chat model of `@langchain/openai` that is used; the package itself is not imported. */
export interface OpenAiLikeModel {
  readonly clientConfig: Fields & { readonly fetch?: typeof fetch }
  /** What `withConfig`, `bindTools` and `withStructuredOutput` make their new model of; so the guard has to be in here. */
  readonly fields?: Fields
  readonly lc_kwargs?: Fields
  readonly callbacks?: unknown
  readonly completions?: OpenAiLikeModel
  readonly responses?: OpenAiLikeModel
}

/** What a copy has otherwise. */
export interface ModelChanges {
  readonly fetch?: typeof fetch
  /** Output cap, in tokens. */
  readonly maxTokens?: number
  /** Added to the callbacks of the model. */
  readonly callback?: BaseCallbackHandler
  /** Without callbacks of holdfast. @default false */
  readonly silent?: boolean
}

/** True for `ChatOpenAI`, `AzureChatOpenAI` and everything that is built on them: models with a `fetch` to guard. */
export function isOpenAiLike(model: unknown): model is OpenAiLikeModel {
  if (typeof model !== 'object' || model === null) return false
  const { clientConfig, invocationParams } = model as Fields
  return typeof clientConfig === 'object' && clientConfig !== null && typeof invocationParams === 'function'
}

/**
 * A copy of a model, by its members rather than by its constructor: fields that the constructor was not given, the
 * user's own subclass, and the queue of `maxConcurrency` stay. The given model stays as it is.
 */
export function copyOf<M extends OpenAiLikeModel>(model: M, changes: ModelChanges): M {
  const { fetch, maxTokens, callback, silent = false } = changes
  const part = (inner: unknown): object | undefined => (isOpenAiLike(inner) ? copyOf(inner, { ...changes }) : undefined)
  const parts = { completions: part(model.completions), responses: part(model.responses) }
  const { configuration, maxCompletionTokens, completions, responses } = model.fields ?? {}
  const callbacks =
    callback === undefined && !silent ? {} : { callbacks: silent ? withoutOwn(model.callbacks) : withCallback(model.callbacks, callback!) }
  const cap = maxTokens === undefined ? {} : { maxTokens }
  const fields = {
    ...model.fields,
    ...callbacks,
    ...cap,
    ...(maxTokens !== undefined && maxCompletionTokens != null ? { maxCompletionTokens: maxTokens } : {}),
    ...(fetch === undefined ? {} : { configuration: { ...(configuration as Fields | undefined), fetch } }),
    ...(completions == null ? {} : { completions: parts.completions }),
    ...(responses == null ? {} : { responses: parts.responses }),
  }
  const members = {
    ...(model.fields === undefined ? {} : { fields }),
    // What the model says of itself to callbacks, which look for a guard in it.
    ...(fetch === undefined
      ? {}
      : { lc_kwargs: { ...model.lc_kwargs, configuration: { ...(configuration as Fields | undefined), fetch } } }),
    ...callbacks,
    ...cap,
    // The client of the model has the old `fetch`; a new one is made when it is needed.
    ...(fetch === undefined ? {} : { clientConfig: { ...model.clientConfig, fetch }, client: undefined }),
    ...Object.fromEntries(Object.entries(parts).filter(([, value]) => value !== undefined)),
  }
  return Object.assign(Object.create(Object.getPrototypeOf(model) as object) as M, model, members)
}

/** Callbacks of a model are a list, or a manager that can be copied with one more. */
function withCallback(callbacks: unknown, callback: BaseCallbackHandler): unknown {
  if (callbacks == null) return [callback]
  if (Array.isArray(callbacks)) return [...(callbacks as unknown[]), callback]
  return (callbacks as { copy(more: readonly BaseCallbackHandler[]): unknown }).copy([callback])
}

function withoutOwn(callbacks: unknown): unknown {
  return Array.isArray(callbacks) ? (callbacks as unknown[]).filter((one) => !(one instanceof RefusingCallbacks)) : callbacks
}

/** Whether the HTTP of a model passes a transport guard already. */
export function isGuarded({ clientConfig }: OpenAiLikeModel): boolean {
  return unguarded(clientConfig.fetch) !== clientConfig.fetch
}

/** Options of `guardModel`. */
export type GuardModelOptions = Omit<GuardOptions, 'fetch'>

/** The `fetch` that a guard sends through, when a client was given one. */
export function fetchUnder(given: typeof fetch | undefined): { readonly fetch?: typeof fetch } {
  const under = unguarded(given)
  return under === undefined ? {} : { fetch: under }
}

/**
 * Callbacks that refuse before a model starts, when the gates say no or the run is over: for
 * `agent.invoke(input, { callbacks: [holdfastCallbacks(scope)] })`, which reaches models inside of tools and
 * sub-agents, too. They hold no money: put `guardModel` under a model for that.
 *
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`.
 */
export function holdfastCallbacks(source?: ScopeSource): BaseCallbackHandler {
  return new RefusingCallbacks(source)
}

class RefusingCallbacks extends BaseCallbackHandler {
  readonly name = 'holdfast'
  readonly #source: ScopeSource

  constructor(source: ScopeSource) {
    super({ raiseError: true })
    // Without it LangChain would call and not wait, and the model would start meanwhile.
    this.awaitHandlers = true
    this.#source = source
  }

  /** LangChain's own makes a new one of the class, without a source. It has no state of its own, so it is its own copy. */
  override copy(): BaseCallbackHandler {
    return this
  }

  override async handleChatModelStart(
    model: unknown,
    _messages: unknown,
    _runId: unknown,
    _parent: unknown,
    extra?: Fields,
  ): Promise<void> {
    await this.#ask(model, extra)
  }

  override async handleLLMStart(model: unknown, _prompts: unknown, _runId: unknown, _parent: unknown, extra?: Fields): Promise<void> {
    await this.#ask(model, extra)
  }

  async #ask(model: unknown, extra: Fields | undefined): Promise<void> {
    const scope = scopeOf(this.#source)
    const action = { kind: 'model', resource: nameOf(model, extra) }
    const refusal = await scope.decide(action)
    if (refusal !== undefined) throw refusal
    // `decide` does not know of a run that is over. An action that holds nothing is refused then, and only then.
    if (scope.refusal?.details.endsRun === true) await (await scope.begin(action)).release('it only asked whether the run is over')
  }
}

/** The model that a callback is told of, as the provider knows it. */
export function nameOf(model: unknown, extra: Fields | undefined): string {
  const { model: named } = (extra?.['invocation_params'] as Fields | undefined) ?? {}
  const { kwargs, id } = model as { readonly kwargs?: Fields; readonly id?: readonly string[] }
  const name = [named, kwargs?.['model'], id?.at(-1)].find((candidate) => typeof candidate === 'string' && candidate !== '')
  return ((name as string | undefined) ?? 'unknown').slice(0, 200).toWellFormed()
}

/** Marks a tool whose own call asks the gates. In the registry of the process, since two copies of this package are normal. */
const GUARDED_TOOL = Symbol.for('holdfast.guarded-tool')

/** Marks a tool that asks the gates by itself, and returns it. A copy by spread has neither its call nor the mark. */
export function markGuardedTool<T extends object>(tool: T): T {
  return Object.defineProperty(tool, GUARDED_TOOL, { value: true, configurable: true })
}

/** Whether a tool asks the gates by itself: asked twice, the first gate uses up the approval that the second one wants. */
export function isGuardedTool(tool: unknown): boolean {
  return typeof tool === 'object' && tool !== null && GUARDED_TOOL in tool
}

/** The call that a tool's message answers. */
export interface AnsweredCall {
  readonly id?: string | undefined
  readonly name: string
}

/**
 * What the gates are asked about, and that as canonical JSON: what the tool gets, after its schema has read it. A
 * schema may make of it what is no JSON, such as a date; then it is what was sent, and which the rest was made from.
 */
export function askedArguments({ args = null, sent }: { readonly args?: unknown; readonly sent: unknown }): [args: unknown, text: string] {
  const asked = (given: unknown): [unknown, string] => {
    // A tool of one string is called with `{ input }`, so that rules on arguments have a name for it.
    const object = typeof given === 'string' ? { input: given } : given
    return [object, canonicalJson(object, { dropUndefined: true })]
  }
  try {
    return asked(args)
  } catch (error) {
    if (sent === undefined) throw error
    return asked(sent)
  }
}

/** A refusal as the answer of a tool: the model reads what to do, and the loop goes on. */
export function toolResult(refusal: Refusal, call: AnsweredCall): ToolMessage {
  return errorResult(refusal.toModelMessage(), call)
}

/** A failed call, as LangChain tells a model of one. */
export function errorResult(content: string, { id = '', name }: AnsweredCall): ToolMessage {
  return new ToolMessage({ content, tool_call_id: id, name, status: 'error' })
}

/** Runs functions in the asynchronous context of now, whenever they are called: LangChain queues calls. */
export const contextOfNow: () => <A extends unknown[], R>(fn: (...args: A) => R, ...args: A) => R = () => AsyncLocalStorage.snapshot()
