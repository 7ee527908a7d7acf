// The OpenAI SDK: a client of the same class, on the same budget as everything else. Its `fetch` is the
// transport guard, so every endpoint, helper, retry and clone of the client passes it; on top of that, a refusal
// comes out as itself, and functions of `runTools` ask before they run.

import '../src/lib/runtime.ts'
import { findRefusal } from '../src/lib/errors.ts'
import type { ScopeSource } from '../src/waist/scope.ts'
import { guardNamed, type AnyFunction, type ToolAmounts } from './common/guard-function.ts'
import { takeRetriesBack } from './common/sdk-retries.ts'
import { guardFetch, unguarded, type GuardOptions } from './transport/guard-fetch.ts'

export { findRefusal } from '../src/lib/errors.ts'
export { guardFunctions } from './common/guard-function.ts'
export { guardFetch } from './transport/guard-fetch.ts'
export type { GuardOptions } from './transport/guard-fetch.ts'
export type { ToolAmounts } from './common/guard-function.ts'

/** Options of {@link wrapOpenAI}. */
export interface WrapOpenAIOptions extends Omit<GuardOptions, 'fetch'> {
  /** What calls of tools count as. @default nothing but the permission to make them */
  readonly toolAmounts?: ToolAmounts
}

/** The part of the client that is used; the package itself is not imported. */
interface Client {
  withOptions(options: object): Client
  fetch: typeof fetch
  request(options: unknown, remainingRetries?: number | null): unknown
  makeStatusError(status: number, error: unknown, message: unknown, headers: unknown): Error
  readonly chat: { readonly completions: { runTools(body: RunToolsBody, ...rest: unknown[]): unknown } }
}

interface RunToolsBody {
  readonly tools: readonly unknown[]
}

/** The forms of a tool of `runTools`: its function is among the declared members, or is their `$callback`. */
interface RunnableTool {
  readonly function?: { readonly function?: AnyFunction; readonly name?: string; readonly parse?: unknown }
  readonly $callback?: AnyFunction
}

/**
 * Returns a client like this one whose calls are held, clamped and settled; the given client stays as it is.
 *
 * Methods, types, `APIPromise`s and streams are the SDK's own. A refusal is thrown as a `Refusal` before any
 * HTTP request leaves, and is not retried.
 *
 * @param client - An `OpenAI` (or a subclass, such as `AzureOpenAI`) of the `openai` package, version 7.
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`.
 * @throws {TypeError} When `client` is not such a client.
 */
export function wrapOpenAI<T extends object>(client: T, source?: ScopeSource, options: WrapOpenAIOptions = {}): T {
  const original = client as unknown as Partial<Client>
  if (typeof original.withOptions !== 'function' || typeof original.fetch !== 'function') {
    throw new TypeError('Expected a client of the `openai` package, version 7: new OpenAI().')
  }
  const { toolAmounts, ...guardOptions } = options
  const fetch = guardFetch(source, { provider: 'openai', ...guardOptions, fetch: unguarded(original.fetch)! })
  // The class's own methods: those of a client that is wrapped already would wrap it for its old scope again.
  const methods = Object.getPrototypeOf(client) as Client
  const wrapped = methods.withOptions.call(client, { fetch })
  wrapped.makeStatusError = (...args) =>
    findRefusal({ error: args[1] }) ?? findRefusal(args[1]) ?? methods.makeStatusError.apply(wrapped, args)
  // Each attempt is held by itself here, so the SDK may repeat what an adapter above had to forbid it to.
  wrapped.request = (request, ...rest) => methods.request.call(wrapped, takeRetriesBack() ? withOwnRetries(request) : request, ...rest)
  // A clone keeps the guarded fetch, or is given another one; either way it is wrapped like this client.
  wrapped.withOptions = (clone) => wrapOpenAI(methods.withOptions.call(wrapped, clone), source, options)
  const { completions } = wrapped.chat
  const runner = Object.getPrototypeOf(completions) as typeof completions
  completions.runTools = (body, ...rest) =>
    runner.runTools.call(completions, { ...body, tools: body.tools.map((tool) => guardRunnable(tool, source, toolAmounts)) }, ...rest)
  return wrapped as unknown as T
}

/** The options of a request, which may still be on their way, without a number of retries: the client's own counts. */
async function withOwnRetries(request: unknown): Promise<object> {
  const { maxRetries: _switchedOff, ...rest } = (await request) as { readonly maxRetries?: number }
  return rest
}

/** A tool of `runTools`: the function asks first, and a refusal is its answer to the model. */
function guardRunnable(tool: unknown, source: ScopeSource, amounts: ToolAmounts | undefined): unknown {
  const { function: declared, $callback: callback } = tool as RunnableTool
  if (typeof callback === 'function') {
    // A tool of `zodFunction` keeps its function out of sight of a spread, beside what is sent.
    const members = Object.getOwnPropertyDescriptors<Record<string, unknown>>(tool as Record<string, unknown>)
    const guarded = guardNamed(declared!.name!, callback, source, amounts)
    return Object.defineProperties({}, { ...members, $callback: { ...members['$callback'], value: guarded } })
  }
  if (typeof declared?.function !== 'function') return tool
  const name = declared.name ?? declared.function.name
  const guarded = guardNamed(name, declared.function, source, amounts, declared.parse === undefined ? fromText : undefined)
  return { ...(tool as object), function: { ...declared, name, function: guarded } }
}

/** Gates see what a text says: rules on arguments would not find them in it. */
function fromText(args: unknown): unknown {
  try {
    return JSON.parse(args as string)
  } catch {
    // Not JSON, so no rule on arguments can be sure of it; the guardian is closed to what is unclear.
    return args
  }
}

/** A function of `ResponsesToolRunner`, of `openai/helpers/responses-tool-runner`. */
export interface RunnerFunctionLike {
  readonly tool: { readonly name: string }
  // A function in any position: its parameters are the SDK's own.
  readonly execute: (...args: never[]) => unknown
}

/**
 * Puts the functions of a `ResponsesToolRunner` behind the gates; the given ones stay as they are. A refusal is the
 * output of the call, as text for the model; an error of a function is thrown as it is, which ends the run.
 *
 * The runner takes its client in `run(client, …)`: give it one of {@link wrapOpenAI}. Its `browser` and `computer` are
 * not functions: no gate is asked about what they do.
 */
export function guardRunnerFunctions<F extends RunnerFunctionLike>(
  functions: readonly F[],
  source?: ScopeSource,
  toolAmounts?: ToolAmounts,
): F[] {
  return functions.map((one) => {
    const guarded = guardNamed(one.tool.name, one.execute as AnyFunction, source, toolAmounts)
    const members = Object.getOwnPropertyDescriptors(one) as PropertyDescriptorMap
    return Object.defineProperties({}, { ...members, execute: { ...members['execute'], value: guarded } }) as F
  })
}
