// LangChain's `createAgent`: a middleware that holds each model call and asks before each tool, outermost so that
// nothing can swallow a refusal, with gates at the tools themselves; and guards for the models that run elsewhere.

import '../src/lib/runtime.ts'
import type { ClientTool, ServerTool } from '@langchain/core/tools'
import type { InteropZodObject } from '@langchain/core/utils/types'
import type { StateDefinitionInit } from '@langchain/langgraph'
import { createAgent, createMiddleware, type AgentMiddleware, type AnyAgentMiddleware, type AnyAnnotationRoot } from 'langchain'
import { findRefusal } from '../src/lib/errors.ts'
import type { ScopeSource } from '../src/waist/scope.ts'
import { INSIDE, unwrapped, watched, type WatchedRequest } from './langchain/inside.ts'
import { createCallHolder, warnOnce, type CallHolder } from './langchain/model.ts'
import { isGuardedTool } from './langchain/shared.ts'
import { observed, throwIfObserved, type ObserverOptions } from './langchain/observer.ts'
import { guardToolCall, overGuardedTools } from './langchain/tools.ts'
import type { AgentOf, AnyResponseFormat, GuardAgentOptions, ListedMiddleware, MiddlewareOptions, Transformers } from './langchain/types.ts'
import { sourceWithLast, withLast } from './langchain/wrap-up.ts'
import { scopeOf } from './common/scope-source.ts'

export { findRefusal } from '../src/lib/errors.ts'
export type { ToolAmounts } from './common/guard-function.ts'
export { guardEmbeddings } from './langchain/embeddings.ts'
export type { GuardEmbeddingsOptions } from './langchain/embeddings.ts'
export { guardModel } from './langchain/guard-model.ts'
export { holdfastCallbacks } from './langchain/shared.ts'
export type { GuardModelOptions } from './langchain/shared.ts'
export { handoffTool } from './langchain/tools.ts'
export type { ObserverOptions } from './langchain/observer.ts'
export type { EndingOptions } from './langchain/wrap-up.ts'
export type { ApprovalRequest } from './langchain/gate.ts'
export type { AgentToolOptions, HandoffAgent, HandoffOptions, ToolGuardOptions } from './langchain/tools.ts'
export type { AgentOf, AnyResponseFormat, GuardAgentOptions, ListedMiddleware, MiddlewareOptions, Transformers } from './langchain/types.ts'
export { guardFetch } from './transport/guard-fetch.ts'
export type { GuardOptions } from './transport/guard-fetch.ts'

/** Name of the middleware in an agent's list. */
const NAME = 'holdfast'

/** Middleware that repeats a call or makes an answer of an error; matched by name, since that is all that a list shows. */
const SWALLOWING = /retry|fallback|error|emulator/i

/**
 * Middleware for `createAgent`, to be put first: each model call is held before it is sent, clamped to what was held,
 * and settled from the wire; each tool asks the gates.
 *
 * `agent.invoke` rejects with an error in which `findRefusal(error)` finds the refusal. A refused tool answers the
 * model instead, and the loop goes on; a refusal that ends the run then refuses the next model call. Prefer
 * {@link guardAgent}, which puts it in its place.
 *
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`.
 */
export function holdfastMiddleware(source?: ScopeSource, options: MiddlewareOptions = {}): AgentMiddleware {
  const middleware = middlewareOver(createCallHolder(sourceWithLast(source), options), source, options)
  made.set(middleware, { source, options })
  return middleware
}

/** What a middleware was made of, so that an agent which finds one in its list holds everything where that does. */
const made = new WeakMap<object, { readonly source: ScopeSource; readonly options: MiddlewareOptions }>()

/** Where the models of an agent are held, as far as its outermost middleware knows: here, or by other middleware inside. */
type HoldingPlace = 'around-others' | 'innermost' | 'inside-others'

function middlewareOver(
  holder: CallHolder,
  source: ScopeSource,
  { tools = true, ...options }: MiddlewareOptions,
  place: HoldingPlace = 'around-others',
): AgentMiddleware {
  return createMiddleware({
    name: NAME,
    wrapModelCall: (request, handler) =>
      withLast(request, options.wrapUp, (next) =>
        watched(next, async (seen) => {
          throwIfObserved()
          if (place !== 'inside-others') return holder.hold(seen, handler, place === 'innermost')
          return handler({ ...seen, model: (await holder.guarded(seen.model, seen.runtime.configurable)) as typeof seen.model })
        }),
      ),
    ...(tools ? { wrapToolCall: (request, handler) => guardToolCall(source, options, request, handler) } : {}),
  })
}

/**
 * `createAgent` with holdfast as its outermost middleware. Each call of a model is held where it is made, inside of
 * all other middleware, also when that repeats the call, enlarges it or takes another model; `invoke` and `stream`
 * are one run of the scope, so that a refusal that ends the work stands for all of it. `invoke` rejects with the
 * `Refusal` itself; from a stream `findRefusal(error)` finds it.
 *
 * @throws {TypeError} For a `holdfastMiddleware` in the list beside another scope, or beside `holdfast`.
 */
export function guardAgent<
  const F extends AnyResponseFormat = undefined,
  S extends StateDefinitionInit | undefined = undefined,
  C extends AnyAnnotationRoot | InteropZodObject = AnyAnnotationRoot,
  const M extends readonly ListedMiddleware[] = readonly [],
  const T extends readonly (ClientTool | ServerTool)[] = readonly (ClientTool | ServerTool)[],
  const X extends Transformers = readonly [],
>({ scope, holdfast, onUnguarded, ...options }: GuardAgentOptions<F, S, C, M, T, X>): AgentOf<F, S, C, M, T, X> {
  const { tools = [], middleware = [] } = options
  const others = middleware.filter(({ name }) => name !== NAME)
  const own = middleware.filter(({ name }) => name === NAME)
  warnOfList(middleware)
  const allTools = [...tools, ...others.flatMap((one) => one.tools ?? [])]
  const wrapsTools = others.some(({ wrapToolCall }) => wrapToolCall !== undefined)
  const listed = own.length === 1 ? made.get(own[0]!) : undefined
  if (listed !== undefined) assertOnce(listed.source, scope, holdfast)
  const source = listed?.source ?? scope
  const settings = {
    toolErrors: wrapsTools ? ('throw' as const) : ('message' as const),
    tools: allTools.length > 0 || wrapsTools,
    ...(listed?.options ?? holdfast),
  }
  warnOfAmounts(allTools, settings)
  const holder = createCallHolder(sourceWithLast(source), settings)
  const innermost = others.findLast(({ wrapModelCall }) => wrapModelCall !== undefined)
  // One that is not known here, of another copy of this package, stays as it is.
  const isForeign = own.length > 0 && listed === undefined
  const first = isForeign ? own : [middlewareOver(holder, source, settings, innermost === undefined ? 'innermost' : 'inside-others')]
  const over = (one: ListedMiddleware): ListedMiddleware => overGuardedTools(overHeldModels(one, holder, one === innermost), allTools)
  const parameters = { ...options, middleware: [...first, ...others.map(over)] }
  const agent = createAgent(parameters as unknown as Parameters<typeof createAgent>[0]) as unknown as AgentOf<F, S, C, M, T, X>
  return inRuns(agent, source, onUnguarded === undefined ? {} : { onUnguarded })
}

function assertOnce(listed: ScopeSource, scope: ScopeSource, holdfast: MiddlewareOptions | undefined): void {
  const once = 'Give it once: leave the middleware out.'
  if (scope !== undefined && listed !== scope)
    throw new TypeError(`\`scope\` is not the one of the \`holdfastMiddleware\` in \`middleware\`. ${once}`)
  if (holdfast !== undefined)
    throw new TypeError(`\`holdfast\` stands beside the options of the \`holdfastMiddleware\` in \`middleware\`. ${once}`)
}

/**
 * The middleware, over models that are held: each call that the innermost one lets through is held as it is then,
 * whatever was made of it and whichever model was chosen for it.
 */
function overHeldModels(one: ListedMiddleware, holder: CallHolder, isInnermost: boolean): ListedMiddleware {
  const { wrapModelCall } = one as AnyAgentMiddleware
  if (wrapModelCall === undefined) return one
  const guarded: typeof wrapModelCall = (request, handler) => {
    const { [INSIDE]: inside } = request as WatchedRequest
    return wrapModelCall(request, async (next) => {
      const passed = { ...next, runtime: next.runtime ?? request.runtime, [INSIDE]: inside }
      try {
        if (isInnermost) return await holder.hold(passed, handler, true)
        return await handler({ ...passed, model: (await holder.guarded(next.model, passed.runtime.configurable)) as typeof next.model })
      } catch (error) {
        // As itself a refusal says that it is not to be retried; LangChain's wrappings of it do not.
        throw findRefusal(error) ?? error
      }
    })
  }
  return { ...one, wrapModelCall: guarded }
}

function warnOfList(middleware: readonly ListedMiddleware[]): void {
  const swallowing = middleware.map(({ name }) => name).filter((name) => SWALLOWING.test(name))
  if (swallowing.length > 0) {
    warnOnce(
      'middleware-inside',
      `${swallowing.join(', ')} run inside of holdfast: of what they repeat, each call of a model and each run of a tool is held by itself, and a refusal still ends the run. A model that they are given themselves is refused, unless it is guarded: guardModel(model, scope).`,
    )
  }
  if (middleware.findIndex(({ name }) => name === NAME) > 0) {
    warnOnce('middleware-order', 'holdfastMiddleware was not the first middleware, so others could swallow a refusal. It was put first.')
  }
}

/** Tools of `guardTools` ask and count by themselves. */
function warnOfAmounts(tools: readonly unknown[], { toolAmounts = {} }: MiddlewareOptions): void {
  const names = tools.filter(isGuardedTool).map((tool) => (tool as { readonly name: string }).name)
  const twice = names.filter((name) => Object.hasOwn(toolAmounts, name))
  if (twice.length > 0)
    warnOnce(
      'tool-amounts',
      `${twice.join(', ')} are guarded by guardTools: what they count as is said by its \`amounts\`, and not by \`toolAmounts\`.`,
    )
}

/** Makes each invocation one run of its scope, where it is given; and `invoke` throw what a model threw, not LangChain's wrapping of it. */
function inRuns<A extends object>(agent: A, source: ScopeSource, options: ObserverOptions): A {
  const { invoke, stream, streamEvents, withConfig } = agent as unknown as Record<string, (...args: unknown[]) => unknown>
  const entered =
    (method: ((...args: unknown[]) => unknown) | undefined) =>
    (...args: unknown[]): unknown => {
      const call = (): unknown => observed(source, options, () => method!.apply(agent, args))
      return source === undefined ? call() : scopeOf(source).enter(call)
    }
  return Object.assign(agent, {
    invoke: async (...args: unknown[]) => {
      try {
        return await entered(invoke)(...args)
      } catch (error) {
        throw unwrapped(error)
      }
    },
    stream: async (...args: unknown[]) => entered(stream)(...args),
    streamEvents: entered(streamEvents),
    withConfig: (...args: unknown[]) => inRuns(withConfig!.apply(agent, args) as A, source, options),
  })
}
