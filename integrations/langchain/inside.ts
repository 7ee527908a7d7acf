// What happens inside of all other middleware of an agent, and what those make of it: a refusal that one of them
// turned into an answer, or into another error, is thrown all the same.

import { findRefusal, type Refusal } from '../../src/lib/errors.ts'
import { readAnswer } from './answer.ts'

/** The models of one call, inside of all middleware. */
export interface Inside {
  /** Of the last one that was called; none when it answered. */
  refusal: Refusal | undefined
}

/** The member of a request that carries its {@link Inside} to where the models are called. */
export const INSIDE: unique symbol = Symbol('holdfast.inside')

/** A request of `wrapModelCall` inside of {@link watched}. */
export interface WatchedRequest {
  readonly [INSIDE]?: Inside | undefined
}

/** What calls threw; module-wide, since a model may be held by one middleware and its agent made by another. */
const thrown = new WeakSet()

/** What a held call threw, out of what LangChain made of it; any other error is itself. */
export function unwrapped(error: unknown): unknown {
  const { cause } = (error ?? {}) as { readonly cause?: unknown }
  return typeof cause === 'object' && cause !== null && thrown.has(cause) ? cause : error
}

/**
 * Runs a call through all other middleware.
 *
 * @throws {Refusal} When the last model inside was refused: nobody would learn of it. An answer with usage is that of
 *   a model, and paid for, whatever was refused after it.
 */
export async function watched<Q extends object, T>(request: Q, run: (request: Q & WatchedRequest) => T | PromiseLike<T>): Promise<T> {
  const inside: Inside = { refusal: undefined }
  try {
    const result = await run({ ...request, [INSIDE]: inside })
    if (inside.refusal !== undefined && readAnswer(result).usage === undefined) throw inside.refusal
    return result
  } catch (error) {
    const named = findRefusal(error) ?? inside.refusal ?? error
    if (typeof named === 'object' && named !== null) thrown.add(named)
    throw named
  }
}
