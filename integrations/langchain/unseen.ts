// A chat model whose HTTP cannot be seen: it is made anew with the cap that was granted, and notes when its call
// begins, so that a hold whose call never began goes back.

import { BaseChatModel } from '@langchain/core/language_models/chat_models'
import { withAmbient } from '../../src/lib/ambient.ts'
import type { Hold } from '../../src/waist/hold.ts'
import { HELD_MODEL } from './observer.ts'

/**
 * Makes a model like this one with at most this output cap, by the name that LangChain has for it; without a cap, with
 * its own.
 */
export type Recap = (most?: number) => object

type Model = new (fields: object) => { readonly maxTokens?: unknown }

/** Whether a model can be made anew is found out by doing it, which may cost something, so once. */
const recaps = new WeakMap<object, Recap | null>()

/** How to make a model anew; `undefined` when its constructor is not known to take an output cap. */
export function recapOf(model: object): Recap | undefined {
  let known = recaps.get(model)
  if (known === undefined) recaps.set(model, (known = findRecap(model) ?? null))
  return known ?? undefined
}

function findRecap(model: object): Recap | undefined {
  const {
    lc_kwargs: fields,
    lc_serializable_keys: kept,
    maxTokens: own,
  } = model as {
    readonly lc_kwargs?: object
    readonly lc_serializable_keys?: unknown
    readonly maxTokens?: unknown
  }
  // With a list of keys LangChain has kept those only, and the new model would lack the others, such as its address.
  if (fields === undefined || kept !== undefined || !('maxTokens' in model)) return undefined
  const make = (cap: object): { readonly maxTokens?: unknown } =>
    // Retries of LangChain would run under one hold, which pays for one attempt.
    new (model.constructor as Model)({ ...fields, maxRetries: 0, ...cap })
  try {
    if (make({ maxTokens: 77 }).maxTokens !== 77 || !Object.is(make({}).maxTokens, own)) return undefined
  } catch {
    // A constructor that wants something else.
    return undefined
  }
  // In LangChain -1 stands for no limit.
  const isWithin = (most: number): boolean => typeof own === 'number' && own > 0 && own <= most
  return (most) => make(most === undefined || isWithin(most) ? {} : { maxTokens: most })
}

/** Where chat models of LangChain keep how they answer, and how they stream. */
const GENERATE = '_generate'
const STREAM = '_streamResponseChunks'

/** The members of a chat model that are used. */
interface Answering {
  readonly [GENERATE]?: (...args: unknown[]) => unknown
  readonly [STREAM]?: (...args: unknown[]) => AsyncGenerator
  readonly bindTools?: (...args: unknown[]) => unknown
}

/**
 * Gives the calls of a model their hold: a guard of the user's may be under it, and would hold for itself.
 *
 * @param onBegin - Called when a call may have begun.
 */
export function carrying(model: object, hold: Hold, onBegin: () => void): object {
  const { [GENERATE]: generate, [STREAM]: stream, bindTools } = model as Answering
  const inHold = <T>(fn: () => T): T => withAmbient({ hold }, fn)
  if (typeof bindTools === 'function') {
    define(model, 'bindTools', (...args: unknown[]) => {
      const bound = bindTools.apply(model, args)
      // A new model, which is not known here, has none of what follows: it may begin at any time.
      if (bound !== model && (bound as { readonly bound?: unknown } | undefined)?.bound !== model) onBegin()
      return bound
    })
  }
  if (typeof generate === 'function') {
    define(model, GENERATE, (...args: unknown[]) => {
      onBegin()
      return inHold(() => generate.apply(model, args))
    })
  }
  // LangChain knows by this member whether a model can stream, so one that cannot has to stay without its own.
  if (typeof stream !== 'function' || stream === BaseChatModel.prototype[STREAM]) return model
  define(model, STREAM, async function* (...args: unknown[]) {
    onBegin()
    const chunks = inHold(() => stream.apply(model, args))
    try {
      for (let step = await inHold(() => chunks.next()); step.done !== true; step = await inHold(() => chunks.next())) yield step.value
    } finally {
      await chunks.return(undefined)
    }
  })
  return model
}

/** Asks a model that carries its hold, with these settings on top of the options of the call. */
export type Ask = (ready: object, settings: object | undefined) => unknown

/**
 * The model as other middleware gets it: what that asks it by itself is a call of its own.
 *
 * @param call - Makes one call: its messages, its options, and what asks a model.
 */
export function callingAlone(model: object, call: (messages: unknown, options: unknown, ask: Ask) => unknown): void {
  define(model, GENERATE, (messages: unknown, options: object | undefined, manager: unknown) =>
    call(messages, options, (ready, settings) => (ready as Answering)[GENERATE]!(messages, { ...options, ...settings }, manager)),
  )
  define(model, 'toJSON', () => ({ ...(Object.getPrototypeOf(model) as { toJSON(): object }).toJSON.call(model), [HELD_MODEL]: true }))
  // Without a stream of its own it answers in one piece.
  if (STREAM in model) define(model, STREAM, BaseChatModel.prototype[STREAM])
}

function define(model: object, name: string, value: unknown): void {
  Object.defineProperty(model, name, { value, configurable: true, enumerable: false, writable: true })
}
