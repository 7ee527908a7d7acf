// A provider of the AI SDK under holdfast: every model that comes out of it is guarded, whichever of its functions made it.

import type { ScopeSource } from '../../src/waist/scope.ts'
import { GUARDED, guardModel, isGuarded, isModel, isObject, refusing, type ModelOptions } from './models.ts'

/**
 * The same provider, whose models are guarded: language, embedding and image models are held and settled; what has no
 * bound here (speech, transcription, reranking, video, batches, realtime) is refused when it is used. Its hosted tools,
 * files and skills are those of the provider.
 *
 * For strings as models: `globalThis.AI_SDK_DEFAULT_PROVIDER = guardProvider(openai, scope)`.
 *
 * @param provider - `createOpenAI()`, `customProvider(…)`, `createProviderRegistry(…)`, or any other.
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`.
 */
export function guardProvider<P extends object>(provider: P, source?: ScopeSource, options: ModelOptions = {}): P {
  if (isGuarded(provider)) return provider
  const guarded = (made: unknown): unknown => {
    if (made instanceof Promise) return made.then(guarded)
    if (isModel(made)) return guardModel(made, source, options)
    return isObject(made) && typeof made['languageModel'] === 'function' ? guardProvider(made, source, options) : made
  }
  const factory = (make: object, provided: object): object =>
    new Proxy(make, {
      apply: (target, _this, args: readonly unknown[]) => guarded(Reflect.apply(target as () => unknown, provided, args)),
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target)
        // What hangs on a function that makes models (`experimental_realtime.getToken`) has no bound.
        const sends = typeof value === 'function' && Object.hasOwn(target, name) && name !== 'prototype'
        return sends ? (Reflect.get(refusing(target, source), name) as unknown) : value
      },
    })
  return new Proxy(provider, {
    apply: (target, _this, args: readonly unknown[]) => guarded(Reflect.apply(target as () => unknown, undefined, args)),
    get(target, name) {
      if (name === GUARDED) return true
      const value: unknown = Reflect.get(target, name, target)
      // `bind` and its like are called on the proxy, and so find the guarded function.
      if (!isObject(value) || name === 'prototype' || name === 'tools' || value === Reflect.get(Function.prototype, name)) return value
      if (isModel(value)) return guardModel(value, source, options)
      return typeof value === 'function' ? factory(value, target) : guardProvider(value, source, options)
    },
  })
}
