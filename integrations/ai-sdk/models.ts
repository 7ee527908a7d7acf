// A model of the AI SDK under holdfast, whatever kind it is: wrapped as the SDK's `wrap…Model` does, without the SDK. A
// kind that cannot be held is refused when it is used, so that nothing runs beside the budget.

import type {
  EmbeddingModelV4,
  EmbeddingModelV4CallOptions,
  ImageModelV4,
  ImageModelV4CallOptions,
  LanguageModelV4,
  LanguageModelV4CallOptions,
} from '@ai-sdk/provider'
import type { RefusalDetails } from '../../src/lib/errors.ts'
import { Refusal } from '../../src/lib/errors.ts'
import type { ScopeSource } from '../../src/waist/scope.ts'
import { scopeOf } from '../common/scope-source.ts'
import { holdfastEmbeddingMiddleware } from './embedding.ts'
import { holdfastImageMiddleware, type ImageOptions } from './image.ts'
import { holdfastMiddleware, type MiddlewareOptions } from './language.ts'

/** Options of guarded models of every kind. */
export interface ModelOptions extends MiddlewareOptions, ImageOptions {}

/** Marks what is guarded, so that it is not held twice; shared between copies of this package. */
export const GUARDED: unique symbol = Symbol.for('holdfast.ai-sdk.guarded')

type Fields = Readonly<Record<PropertyKey, unknown>>

function markGuarded<T extends object>(made: T): T {
  return Object.defineProperty(made, GUARDED, { value: true })
}

/** Whether a model or a provider is guarded. */
export function isGuarded(value: unknown): boolean {
  return isObject(value) && value[GUARDED] === true
}

/** Whether something is a model, or another interface that sends: the SDK calls methods whose names begin with `do`. */
export function isModel(value: unknown): value is object {
  if (!isObject(value)) return false
  for (let level: object = value; level !== null && level !== Object.prototype; level = Object.getPrototypeOf(level) as object)
    if (Object.getOwnPropertyNames(level).some((name) => /^do[A-Z]/.test(name))) return true
  return false
}

/** The guarded form of a model. One that is guarded already stays as it is, with its own scope. */
export function guardModel(model: object, source: ScopeSource, options: ModelOptions): object {
  if (isGuarded(model)) return model
  const { supportedUrls, doGenerate, doStream, doEmbed, maxImagesPerCall, specificationVersion } = model as Fields
  if (typeof doEmbed === 'function') return guardEmbedding(model as EmbeddingModelV4, source, options)
  // The second version counts in another form, which the SDK's own wrapper translates.
  if (supportedUrls !== undefined && typeof doGenerate === 'function' && typeof doStream === 'function')
    return specificationVersion === 'v2' ? refusing(model, source, OLD) : guardLanguage(model as LanguageModelV4, source, options)
  if (typeof doGenerate === 'function' && (maxImagesPerCall !== undefined || 'maxImagesPerCall' in model))
    return guardImage(model as ImageModelV4, source, options)
  return refusing(model, source, UNMETERED)
}

function guardLanguage(model: LanguageModelV4, source: ScopeSource, options: ModelOptions): LanguageModelV4 {
  const { wrapGenerate, wrapStream } = holdfastMiddleware(source, options)
  const sending = (params: LanguageModelV4CallOptions) => ({
    doGenerate: () => model.doGenerate(params),
    doStream: () => model.doStream(params),
    params,
    model,
  })
  return markGuarded({
    specificationVersion: model.specificationVersion,
    provider: model.provider,
    modelId: model.modelId,
    get supportedUrls() {
      return model.supportedUrls
    },
    doGenerate: (params: LanguageModelV4CallOptions) => wrapGenerate!(sending(params)),
    doStream: (params: LanguageModelV4CallOptions) => wrapStream!(sending(params)),
  })
}

function guardEmbedding(model: EmbeddingModelV4, source: ScopeSource, options: ModelOptions): EmbeddingModelV4 {
  const { wrapEmbed } = holdfastEmbeddingMiddleware(source, options)
  return markGuarded({
    ...symbolsOf(model),
    specificationVersion: model.specificationVersion,
    provider: model.provider,
    modelId: model.modelId,
    maxEmbeddingsPerCall: model.maxEmbeddingsPerCall,
    supportsParallelCalls: model.supportsParallelCalls,
    doEmbed: (params: EmbeddingModelV4CallOptions) => wrapEmbed!({ doEmbed: () => model.doEmbed(params), params, model }),
  })
}

function guardImage(model: ImageModelV4, source: ScopeSource, options: ModelOptions): ImageModelV4 {
  const { wrapGenerate } = holdfastImageMiddleware(source, options)
  return markGuarded({
    specificationVersion: model.specificationVersion,
    provider: model.provider,
    modelId: model.modelId,
    maxImagesPerCall: model.maxImagesPerCall,
    ...(model.supportsFileInputs === undefined ? {} : { supportsFileInputs: model.supportsFileInputs }),
    ...(model.supportsMaskInputs === undefined ? {} : { supportsMaskInputs: model.supportsMaskInputs }),
    doGenerate: (params: ImageModelV4CallOptions) => wrapGenerate!({ doGenerate: () => model.doGenerate(params), params, model }),
  })
}

/** Limits that the SDK keeps under symbols, such as how many bytes one call of an embedding model may have. */
function symbolsOf(model: object): Fields {
  const found: Record<PropertyKey, unknown> = {}
  for (let level = model; level !== null && level !== Object.prototype; level = Object.getPrototypeOf(level) as object)
    for (const name of Object.getOwnPropertySymbols(level)) {
      const value: unknown = Reflect.get(model, name)
      found[name] ??= typeof value === 'function' ? value.bind(model) : value
    }
  return found
}

/** Why something is refused, and what to do about it. */
interface Fault {
  readonly why: string
  readonly fix: string
}

const OLD: Fault = {
  why: 'is of an old specification (v2), whose usage is counted in another form',
  fix: 'wrapLanguageModel({ model, middleware: holdfastMiddleware(scope) }) translates it',
}
const UNMETERED: Fault = {
  why: 'is of a kind that has no bound here (speech, transcription, reranking, video, batches, realtime), so it is refused',
  fix: 'take it from a provider without guardProvider if it costs nothing that a budget should know of',
}

/** The same thing, whose every function says no. In observe mode the function runs, and an event says that it would not have. */
export function refusing(model: object, source: ScopeSource, fault: Fault = UNMETERED): object {
  const { modelId, provider } = model as Fields
  const resource = typeof modelId === 'string' && modelId !== '' ? modelId.slice(0, 200).toWellFormed() : 'unknown'
  const of = typeof provider === 'string' ? ` of ${provider.slice(0, 100).toWellFormed()}` : ''
  const refuse = (): void => {
    const { why, fix } = fault
    const details: RefusalDetails = { resource, wouldPass: fix }
    scopeOf(source).refuse(new Refusal('ERR_UNMETERED', `\`${resource}\`${of} ${why}. To use it: ${fix}.`, details))
  }
  return new Proxy(model, {
    get(target, name) {
      if (name === GUARDED) return true
      const value: unknown = Reflect.get(target, name, target)
      if (typeof value !== 'function' || name in Object.prototype) return value
      return async (...args: readonly unknown[]): Promise<unknown> => {
        refuse()
        return Reflect.apply(value, target, args)
      }
    },
  })
}

/** Whether something can have properties. */
export function isObject(value: unknown): value is Fields {
  return (typeof value === 'object' || typeof value === 'function') && value !== null
}
