// The Anthropic SDK: a client of the same class, on the same budget as everything else. Its `fetch` is the transport
// guard, so every endpoint, helper, retry and clone of the client passes it, below whatever middleware it has; on top
// of that, a refusal comes out as itself, and the tools of a tool runner ask before they run.

import '../src/lib/runtime.ts'
import { findRefusal, Refusal } from '../src/lib/errors.ts'
import type { ScopeSource } from '../src/waist/scope.ts'
import { guardRunner, guardTools, type RunnerBody, type ToolRunner } from './anthropic/tool-runner.ts'
import type { ToolAmounts } from './common/guard-function.ts'
import { scopeOf } from './common/scope-source.ts'
import { guardFetch, unguarded, type GuardOptions } from './transport/guard-fetch.ts'

export { findRefusal } from '../src/lib/errors.ts'
export { guardFunctions } from './common/guard-function.ts'
export { guardFetch } from './transport/guard-fetch.ts'
export type { GuardOptions } from './transport/guard-fetch.ts'
export type { ToolAmounts } from './common/guard-function.ts'

/** Options of {@link wrapAnthropic}. */
export interface WrapAnthropicOptions extends Omit<GuardOptions, 'fetch' | 'outputCapField'> {
  /** What calls of tools count as. @default nothing but the permission to make them */
  readonly toolAmounts?: ToolAmounts
}

/** The part of the client that is used; the package itself is not imported. */
interface Client {
  withOptions(options: object): Client
  fetch: typeof fetch
  makeStatusError(status: number, error: unknown, message: unknown, headers: unknown): Error
  readonly messages: object
  readonly beta: { readonly messages: BetaMessages }
}

interface BetaMessages {
  toolRunner(body: RunnerBody, ...rest: unknown[]): ToolRunner
  thread(...args: unknown[]): unknown
}

/**
 * Returns a client like this one whose calls are held, clamped and settled; the given client stays as it is.
 *
 * Methods, types, `APIPromise`s and streams are the SDK's own. A refusal is thrown as a `Refusal` before any
 * HTTP request leaves, and is not retried. Two things differ: a tool runner sends its whole conversation each
 * turn, as with its own `thread: false`, and `beta.messages.thread()` is refused, since a request that continues
 * what the server holds has no bound. Batches, managed agents and sessions are refused as endpoints.
 *
 * @param client - An `Anthropic` of the `@anthropic-ai/sdk` package, version 1. The clients of Bedrock and Vertex have
 *   endpoints of their own, which are refused.
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`.
 * @throws {TypeError} When `client` is not such a client.
 */
export function wrapAnthropic<T extends object>(client: T, source?: ScopeSource, options: WrapAnthropicOptions = {}): T {
  const original = client as unknown as Partial<Client>
  const isClient = typeof original.withOptions === 'function' && typeof original.fetch === 'function'
  if (!isClient || typeof original.beta?.messages?.toolRunner !== 'function')
    throw new TypeError('Expected a client of the `@anthropic-ai/sdk` package, version 1: new Anthropic().')
  const { toolAmounts, ...guardOptions } = options
  const fetch = guardFetch(source, { provider: 'anthropic', ...guardOptions, fetch: unguarded(original.fetch)! })
  // The class's own methods: those of a client that is wrapped already would wrap it for its old scope again.
  const methods = Object.getPrototypeOf(client) as Client
  const wrapped = methods.withOptions.call(client, { fetch })
  wrapped.makeStatusError = (...args) => findRefusal(args[1]) ?? methods.makeStatusError.apply(wrapped, args)
  // A clone keeps the guarded fetch, or is given another one; either way it is wrapped like this client.
  wrapped.withOptions = (clone) => wrapAnthropic(methods.withOptions.call(wrapped, clone), source, options)
  const { messages } = wrapped.beta
  const own = Object.getPrototypeOf(messages) as BetaMessages
  messages.toolRunner = (body, ...rest) => {
    const guarded = { ...body, thread: false, tools: guardTools(body.tools, source, toolAmounts) }
    return guardRunner(own.toolRunner.call(messages, guarded, ...rest), source, toolAmounts)
  }
  messages.thread = (...args) => {
    scopeOf(source).refuse(threadRefusal())
    return own.thread.apply(messages, args)
  }
  return wrapped as unknown as T
}

function threadRefusal(): Refusal {
  const wouldPass = 'beta.messages.create() or beta.messages.toolRunner(), which send the whole conversation'
  const message = `A message thread leaves its conversation and its tools to the server, so its turns have no bound. Use ${wouldPass}.`
  return new Refusal('ERR_UNMETERED', message, { resource: 'beta.messages.thread', wouldPass })
}
