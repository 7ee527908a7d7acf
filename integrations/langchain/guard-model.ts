// Models of LangChain that are called outside of `createAgent`: in tools, in nodes of a graph, by other middleware, by
// hand. The guard is put where whatever LangChain makes of a model takes it along.

import { findRefusal } from '../../src/lib/errors.ts'
import type { ScopeSource } from '../../src/waist/scope.ts'
import { guardFetch } from '../transport/guard-fetch.ts'
import { anthropicCopy, isAnthropicLike } from './anthropic.ts'
import { configurableCopy, isConfigurable } from './configurable.ts'
import { createCallHolder } from './model.ts'
import { copyOf, fetchUnder, holdfastCallbacks, isOpenAiLike, type GuardModelOptions } from './shared.ts'

/**
 * Returns a model like this one whose every call is held, clamped and settled; the given model stays as it is. The
 * guard stays in what `withConfig`, `bindTools`, `withStructuredOutput`, `withRetry` and `batch` make of it, and is put
 * into what was made of a model before.
 *
 * - Models of `@langchain/openai` and `@langchain/anthropic`, version 1: a guarded `fetch` under them holds each HTTP
 *   attempt, and settles it from its wire.
 * - Models of `initChatModel`: whatever model a call makes of them.
 * - Models of other packages that can be made anew with an output cap: each call is held, without retries of its own,
 *   and settled from `usage_metadata`; streamed, its answer comes in one piece.
 *
 * A refusal is found in the error by `findRefusal(error)`, and is not retried.
 *
 * @param model - A chat model, or a runnable with one inside of it: bound tools, retries, fallbacks, structured output.
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`. With `maxConcurrency`
 *   give one: LangChain runs waiting calls in the context of another call.
 * @throws {TypeError} For what no guard can be put under: a model that cannot be made anew, or no model at all.
 */
export function guardModel<M extends object>(model: M, source?: ScopeSource, options: GuardModelOptions = {}): M {
  const one = (inner: object): object | undefined => guardOne(inner, source, options)
  const guarded = one(model) ?? guardInside(model, one, 0)
  if (guarded !== undefined) return guarded as M
  throw new TypeError(
    'No guard can be put under this model. Expected one of `@langchain/openai` or `@langchain/anthropic`, version 1, of `initChatModel`, or one of another package whose constructor takes `maxTokens`; or a runnable with such a model in it. In `createAgent` models of any package are held by `guardAgent`.',
  )
}

/** Where chat models of LangChain keep how they answer. */
const GENERATE = '_generate'

/** A model with a guard; `undefined` for what is none, or takes none. */
function guardOne(model: object, source: ScopeSource, options: GuardModelOptions): object | undefined {
  if (isOpenAiLike(model)) {
    const fetch = guardFetch(source, { provider: 'openai', ...options, ...fetchUnder(model.clientConfig.fetch) })
    return copyOf(model, { fetch, callback: holdfastCallbacks(source) })
  }
  if (isAnthropicLike(model)) {
    const given = model.clientOptions.fetch
    return anthropicCopy(model, guardFetch(source, { provider: 'anthropic', ...options, ...fetchUnder(given) }))
  }
  if (isConfigurable(model)) return configurableCopy(model, (made) => guardModel(made, source, options))
  return isChatModel(model) ? createCallHolder(source, options).alone(model) : undefined
}

function isChatModel(model: object): boolean {
  return typeof (model as Partial<Record<string, unknown>>)[GENERATE] === 'function'
}

/** Where runnables of LangChain keep the ones that they run. */
const PARTS = ['bound', 'runnable', 'fallbacks', 'first', 'middle', 'last', 'steps'] as const

/** Deepest model that is looked for: structured output of a bound model with retries is some six runnables deep. */
const MAX_DEPTH = 12

/** The runnable with guards under all models in it; `undefined` when it has none. */
function guardInside(runnable: object, one: (model: object) => object | undefined, depth: number): object | undefined {
  const { lc_runnable: isRunnable } = runnable as { readonly lc_runnable?: unknown }
  if (isRunnable !== true || depth > MAX_DEPTH) return undefined
  const guarded = (part: unknown): object | undefined => {
    if (typeof part !== 'object' || part === null) return undefined
    if ((part as { lc_runnable?: unknown }).lc_runnable === true) {
      const model = one(part)
      if (model === undefined && isChatModel(part)) throw new TypeError(`\`${part.constructor.name}\` inside of it cannot be made anew.`)
      return model ?? guardInside(part, one, depth + 1)
    }
    const each = Object.entries(part).map(([name, inner]) => [name, inner as unknown, guarded(inner)] as const)
    if (each.every(([, , changed]) => changed === undefined)) return undefined
    if (Array.isArray(part)) return each.map(([, inner, changed]) => changed ?? (inner as object))
    return Object.fromEntries(each.map(([name, inner, changed]) => [name, changed ?? inner]))
  }
  // Some show as one of these what they compute of the others.
  const own = PARTS.filter((name) => Object.hasOwn(runnable, name))
  const parts = own.map((name) => [name, guarded((runnable as Partial<Record<string, unknown>>)[name])] as const)
  const changed = parts.filter(([, part]) => part !== undefined)
  if (changed.length === 0) return undefined
  const copy = Object.create(Object.getPrototypeOf(runnable) as object, Object.getOwnPropertyDescriptors(runnable)) as object
  return Object.assign(copy, Object.fromEntries(changed), notRetryingRefusals(runnable))
}

/** A refusal stays one, however often it is tried. */
function notRetryingRefusals(runnable: object): object {
  const { onFailedAttempt } = runnable as { readonly onFailedAttempt?: (error: unknown, ...more: unknown[]) => unknown }
  if (typeof onFailedAttempt !== 'function') return {}
  return {
    onFailedAttempt: (error: unknown, ...more: unknown[]) => {
      const refusal = findRefusal(error)
      if (refusal !== undefined) throw refusal
      return onFailedAttempt.call(runnable, error, ...more)
    },
  }
}
