// A second count of model calls, beside the holds: what a framework says it called, by its own callbacks. A call that it
// made and nobody held is an escape. Only an alarm: where a framework is told to keep silent, nothing is seen.

import { ambient, withAmbient } from '../../src/lib/ambient.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import type { Hold } from '../../src/waist/hold.ts'
import type { ScopeSource } from '../../src/waist/scope.ts'
import { findScope } from './scope-source.ts'

/** Most calls that one observer tells apart; further ones are not seen. */
const MAX_SEEN = 10_000

/** Compares the calls that a framework reports with the holds that were taken for them. */
export interface CallObserver {
  /** The framework says that it makes a call. The same id again is the same call. */
  saw(kind: string, id: string): void
  /** Runs `fn`, in which the calls are made: the holds that are taken in it, however deep, are counted. */
  run<T>(fn: () => T): T
  /** What was called and not held, up to now; above zero, it is reported as an `escape`, once. */
  compare(): number
}

/** Makes an observer; one for each piece of work whose calls can be counted by themselves. */
export function createCallObserver(source: ScopeSource): CallObserver {
  const seen = new Map<string, string>()
  let holds = 0
  let reported = 0
  return {
    saw(kind, id) {
      if (seen.size < MAX_SEEN) seen.set(`${kind}/${id}`, kind)
    },
    run(fn) {
      const { hold, onModelHold: outer } = ambient()
      // A call that carries a hold already is paid from that one.
      if ((hold as Hold | undefined)?.state === 'held') holds++
      const onModelHold = (): void => {
        holds++
        outer?.()
      }
      return withAmbient({ onModelHold }, fn)
    },
    compare() {
      const missing = Math.max(0, seen.size - holds)
      if (missing <= reported) return missing
      reported = missing
      const kinds = [...new Set(seen.values())].map((kind) => kind.slice(0, 64)).slice(0, 4)
      // Outside of any scope there is nobody to tell.
      findScope(source)?.report({
        type: 'escape',
        message: `The framework made ${missing} more call(s) (${kinds.join(', ')}) than were held: a model out of sight of holdfast. Put guardFetch(scope) under its provider, or guard the model.`,
      })
      return missing
    },
  }
}

/**
 * Begins a call of a model. One that fails here is never sent, such as that of a caller who leaves while it waits for
 * money: whoever compares calls with holds has nothing to miss.
 */
export async function beginning<T>(begin: () => Promise<T>): Promise<T> {
  try {
    return await begin()
  } catch (error) {
    ambient().onModelHold?.()
    throw error
  }
}

/**
 * One call as a framework makes it, observed by itself.
 *
 * @param call - What makes it. That it was refused is no escape; that it failed otherwise may be one.
 */
export async function observeCall<T>(source: ScopeSource, kind: string, call: () => PromiseLike<T>): Promise<T> {
  const observer = createCallObserver(source)
  let refused = false
  try {
    return await observer.run(call)
  } catch (error) {
    refused = findRefusal(error) !== undefined
    throw error
  } finally {
    if (!refused) {
      observer.saw(kind, 'only')
      observer.compare()
    }
  }
}
