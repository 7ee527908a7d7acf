// Embeddings of LangChain on a budget. They fire no callbacks and drop the usage that a provider reports, so what is
// known of them is known below them, from their HTTP, or before them, from their texts.

import { AsyncCaller } from '@langchain/core/utils/async_caller'
import { withAmbient } from '../../src/lib/ambient.ts'
import { sha256 } from '../../src/lib/ids.ts'
import { boundInput } from '../../src/metering/worst-case/openai-texts.ts'
import type { Scope, ScopeSource } from '../../src/waist/scope.ts'
import { endFailedCall } from '../common/failed-call.ts'
import { modelCall, type ModelCall } from '../common/model-call.ts'
import { scopeOf } from '../common/scope-source.ts'
import { guardFetch } from '../transport/guard-fetch.ts'
import { contextOfNow, fetchUnder, type GuardModelOptions } from './shared.ts'
import { twin } from '../langgraph/twin.ts'

/** Options of {@link guardEmbeddings}. */
export interface GuardEmbeddingsOptions extends GuardModelOptions {
  /** Name of the model in the price list, for embeddings of other packages. @default their `model` or `modelName` */
  readonly model?: string
}

/** The members of embeddings that are used. */
interface AnyEmbeddings {
  readonly embedDocuments: (texts: string[]) => Promise<number[][]>
  readonly embedQuery: (text: string) => Promise<number[]>
  /** Retries what failed. */
  readonly caller?: { readonly maxConcurrency?: number }
  readonly clientConfig?: Readonly<Record<string, unknown>> & { readonly fetch?: typeof fetch }
  readonly model?: unknown
  readonly modelName?: unknown
}

/**
 * Returns embeddings like these on a budget; the given ones stay as they are. Vector stores, their retrievers, and a
 * `BaseStore` of LangGraph with an index are on it with the embeddings that they are given.
 *
 * - `OpenAIEmbeddings` and what is built on them, version 1: a guarded `fetch` under them holds each HTTP attempt, and
 *   settles it from its wire.
 * - Embeddings of other packages: each call is held for the bytes of its texts, at the price of the model, without
 *   retries of LangChain, and charged at that, since nothing is reported. Retries that their client makes below
 *   LangChain are not seen: switch them off there.
 *
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`.
 * @throws {TypeError} For what is none.
 */
export function guardEmbeddings<E extends object>(embeddings: E, source?: ScopeSource, options: GuardEmbeddingsOptions = {}): E {
  const given = embeddings as Partial<AnyEmbeddings>
  if (typeof given.embedDocuments !== 'function' || typeof given.embedQuery !== 'function')
    throw new TypeError('Expected embeddings of LangChain, with `embedDocuments` and `embedQuery`.')
  const known = given as AnyEmbeddings
  return (typeof known.clientConfig === 'object' ? seen(known, source, options) : held(known, source, options)) as unknown as E
}

/** Embeddings whose HTTP is seen. */
function seen(given: AnyEmbeddings, source: ScopeSource, options: GuardModelOptions): AnyEmbeddings {
  const under = fetchUnder(given.clientConfig?.fetch)
  const guard = guardFetch(source, { provider: 'openai', ...options, ...under })
  // They run two requests at a time, and waiting ones in the context of another call: each call has a fetch of its own.
  const here = (): AnyEmbeddings => {
    const run = contextOfNow()
    const fetch: typeof globalThis.fetch = async (input, init) => run(guard, input, init)
    const marked = Object.assign(fetch, { [Symbol.for('holdfast.guard')]: under.fetch ?? globalThis.fetch })
    return Object.assign(twin(given, {}), { clientConfig: { ...given.clientConfig, fetch: marked }, client: undefined })
  }
  return twin(given, {
    embedDocuments: async (texts: string[]) => here().embedDocuments(texts),
    embedQuery: async (text: string) => here().embedQuery(text),
  })
}

/** Embeddings whose HTTP is not seen. */
function held(given: AnyEmbeddings, source: ScopeSource, options: GuardEmbeddingsOptions): AnyEmbeddings {
  // Retries of LangChain would run under one hold, which pays for one attempt.
  const caller = given.caller === undefined ? {} : { caller: new AsyncCaller({ ...concurrencyOf(given), maxRetries: 0 }) }
  const once = Object.assign(twin(given, {}), caller)
  return twin(given, {
    embedDocuments: async (texts: string[]) => embed(given, texts, source, options, () => once.embedDocuments(texts)),
    embedQuery: async (text: string) => embed(given, [text], source, options, () => once.embedQuery(text)),
  })
}

function concurrencyOf({ caller }: AnyEmbeddings): { readonly maxConcurrency?: number } {
  return caller?.maxConcurrency === undefined ? {} : { maxConcurrency: caller.maxConcurrency }
}

async function embed<T>(
  given: AnyEmbeddings,
  texts: readonly string[],
  source: ScopeSource,
  options: GuardEmbeddingsOptions,
  fn: () => Promise<T>,
): Promise<T> {
  const scope = scopeOf(source)
  const call = await callOf(scope, given, texts, options)
  // In observe mode what has no bound passes, unheld.
  if (call === undefined) return fn()
  const hold = await scope.begin(call.action)
  let result: T
  try {
    // It pays for these texts; whatever else runs below takes a hold of its own.
    result = await withAmbient({ hold: undefined }, fn)
  } catch (error) {
    await endFailedCall(hold, error, options.unbilledStatuses)
    throw error
  }
  await hold.charge('its package reports no usage')
  return result
}

/** A token of text is at least one byte of it, and an empty text is one token all the same. */
async function callOf(
  scope: Scope,
  given: AnyEmbeddings,
  texts: readonly string[],
  options: GuardEmbeddingsOptions,
): Promise<ModelCall | undefined> {
  const name = [options.model, given.model, given.modelName].find((id) => typeof id === 'string' && id !== '') as string | undefined
  const id = (name ?? given.constructor.name).slice(0, 200).toWellFormed()
  const bytes = texts.reduce((total, text) => total + Math.max(1, Buffer.byteLength(text)), 0)
  const { provider } = options
  return modelCall(scope, { id }, sha256(JSON.stringify(texts)), (known) => boundInput(id, bytes, known), { provider })
}
