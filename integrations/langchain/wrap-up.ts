// The end of a budget, said to the model: a notice while most of it is used, and one last answer from what the budget
// keeps for that, so that an agent which runs out still says what it has.

import { AsyncLocalStorage } from 'node:async_hooks'
import { HumanMessage, type BaseMessage } from '@langchain/core/messages'
import { findRefusal, type Refusal } from '../../src/lib/errors.ts'
import type { ScopeSource } from '../../src/waist/scope.ts'
import { scopeOf } from '../common/scope-source.ts'
import { copyOf, isOpenAiLike } from './shared.ts'
import { recapOf } from './unseen.ts'

/** What an agent is told of its budget. */
export interface EndingOptions {
  /**
   * Whether the model is told when most of a budget is used (`warnAt` of the budget): a message at the end of the
   * request of that call, which no later one keeps. Each call is held for its bytes, too. @default false
   */
  readonly notice?: boolean
  /**
   * One last answer, of at most so many tokens, from what budgets keep for that (`wrapUp` of the budget), once a call of
   * the model is refused for money: without tools, with what to do as its last message. The run then ends like any
   * other. Agents with a `responseFormat` get none. @default none: the refusal is thrown
   */
  readonly wrapUp?: { readonly maxTokens: number }
}

/** Longest notice that a request is held for, in UTF-8 bytes. */
export const MAX_NOTICE_BYTES = 500

const lasts = new AsyncLocalStorage<true>()

/** The scope of an agent, which is that of its last answer while it gives it. */
export function sourceWithLast(source: ScopeSource): ScopeSource {
  return () => (lasts.getStore() === true ? scopeOf(source).wrapUp() : scopeOf(source))
}

/** A request of `wrapModelCall`, as far as it is used. */
interface EndableRequest {
  readonly model: unknown
  readonly messages: readonly BaseMessage[]
  readonly tools?: readonly unknown[]
  readonly responseFormat?: unknown
}

/**
 * Makes a call, and the last one when it is refused for money that is kept for that.
 *
 * @throws {Refusal} The first one, when there is no last answer; that of the last answer, when it does not fit either.
 */
export async function withLast<Q extends EndableRequest, T>(
  request: Q,
  wrapUp: EndingOptions['wrapUp'],
  call: (request: Q) => Promise<T>,
): Promise<T> {
  try {
    return await call(request)
  } catch (error) {
    const refusal = findRefusal(error)
    if (wrapUp === undefined || refusal?.details.wrapUp !== true || request.responseFormat != null) throw error
    return lasts.run(true, () => call(lastOf(request, refusal, wrapUp.maxTokens)))
  }
}

function lastOf<Q extends EndableRequest>(request: Q, refusal: Refusal, maxTokens: number): Q {
  const { model, messages, tools = [] } = request
  const told = [...messages, new HumanMessage(refusal.toModelMessage())]
  // Some providers want to know the tools that a history speaks of: there they stay, and may not be called.
  if (isOpenAiLike(model)) return { ...request, messages: told, tools: [], toolChoice: undefined, model: copyOf(model, { maxTokens }) }
  const less = recapOf(model as object)?.(maxTokens) ?? model
  return { ...request, messages: told, model: less, ...(tools.length > 0 ? { toolChoice: 'none' } : {}) }
}

/** The request with a notice at its end; without one, and with one that it is not held for, as it is. */
export function withNotice<Q extends { readonly messages: readonly BaseMessage[] }>(request: Q, notice: string | undefined): Q {
  if (notice === undefined || Buffer.byteLength(notice) > MAX_NOTICE_BYTES) return request
  return { ...request, messages: [...request.messages, new HumanMessage(notice)] }
}
