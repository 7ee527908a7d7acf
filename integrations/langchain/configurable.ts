// A model of `initChatModel`, which makes the model that a call really runs when it is called, from its configuration.

import { twin } from '../langgraph/twin.ts'

/** The members of a configurable model that are used. */
export interface ConfigurableModel {
  readonly _getModelInstance: (config: unknown) => Promise<object>
  /** What was done to it, by the name of the method: it is done again to each model that it makes. */
  readonly _queuedMethodOperations: Readonly<Record<string, unknown[]>>
  readonly bindTools: (...args: unknown[]) => object
  readonly withConfig: (...args: unknown[]) => object
  readonly withStructuredOutput: (...args: unknown[]) => object
}

type Method = (...args: readonly unknown[]) => unknown

/** Where a configurable model makes the model of a call. */
const MAKE = '_getModelInstance'
const QUEUE = '_queuedMethodOperations'

/** True for a model of `initChatModel`. */
export function isConfigurable(model: unknown): model is ConfigurableModel {
  const { [MAKE]: make, [QUEUE]: queue } = (model ?? {}) as Partial<ConfigurableModel>
  return typeof make === 'function' && typeof queue === 'object' && queue !== null
}

/**
 * The same configurable model, which guards each model that it makes, before anything else is done to that.
 *
 * @param guard - Throws for a model that cannot be guarded: then the call fails before its HTTP.
 */
export function configurableCopy(model: ConfigurableModel, guard: (made: object) => object): ConfigurableModel {
  // Its cache holds models with what was done to them.
  const bare = Object.assign(twin(model, {}), { [QUEUE]: {}, _modelInstanceCache: new Map<string, object>() })
  const again = (made: object): object => {
    const { bound } = made as { readonly bound?: unknown }
    if (isConfigurable(made)) return configurableCopy(made, guard)
    return isConfigurable(bound) ? Object.assign(made, { bound: configurableCopy(bound, guard) }) : made
  }
  return twin(model, {
    async [MAKE](config: unknown) {
      let made = guard(await bare[MAKE](config))
      for (const [name, args] of Object.entries(model[QUEUE])) {
        const { [name]: method } = made as Partial<Record<string, Method>>
        if (typeof method === 'function') made = (await method.apply(made, args)) as object
      }
      return made
    },
    bindTools: (...args: unknown[]) => again(model.bindTools(...args)),
    withConfig: (...args: unknown[]) => again(model.withConfig(...args)),
    withStructuredOutput: (...args: unknown[]) => again(model.withStructuredOutput(...args)),
  })
}
