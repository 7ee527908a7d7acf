// LangChain's `createAgent`: a middleware that holds each model call and asks before each tool, outermost so that
// nothing can swallow a refusal, with gates at the tools themselves; and guards for the models that run elsewhere.

import '../src/lib/runtime.ts'
import {
  createAgent,
  createMiddleware,
  type AgentMiddleware,
  type AnyAgentMiddleware,
  type CreateAgentParams,
  type ReactAgent,
} from 'langchain'
import { findRefusal } from '../src/lib/errors.ts'
import type { ScopeSource } from '../src/waist/scope.ts'
import { createCallHolder, INSIDE, unwrapped, warnOnce, type CallHolder, type Inside } from './langchain-model.ts'
import { isOpenAiLike, type GuardModelOptions } from './langchain-shared.ts'
import { guardToolCall, overGuardedTools, type ToolGuardOptions } from './langchain-tools.ts'
import { scopeOf } from './scope-source.ts'

export { findRefusal } from '../src/lib/errors.ts'
export type { ToolAmounts } from './guard-function.ts'
export { guardModel, holdfastCallbacks } from './langchain-shared.ts'
export type { GuardModelOptions } from './langchain-shared.ts'
export { handoffTool } from './langchain-tools.ts'
export type { ApprovalRequest } from './langchain-gate.ts'
export type { HandoffAgent, HandoffToolOptions, ToolGuardOptions } from './langchain-tools.ts'
export { guardFetch } from './transport.ts'
export type { GuardOptions } from './transport.ts'

/** Options of {@link holdfastMiddleware}. */
export interface MiddlewareOptions extends GuardModelOptions, ToolGuardOptions {
  /** False for an agent without tools: `wrapToolCall` adds a node to its graph. @default true */
  readonly tools?: boolean
}

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
  const holder = createCallHolder(source, options)
  const middleware = middlewareOver(holder, source, options)
  made.set(middleware, { holder, source, options })
  return middleware
}

/** What a middleware was made of. */
interface Made {
  readonly holder: CallHolder
  readonly source: ScopeSource
  readonly options: MiddlewareOptions
}

/** So that an agent which finds one in its list holds everything where that does. */
const made = new WeakMap<object, Made>()

/** @param inAgent - Whether every other middleware is known, and guarded inside. */
function middlewareOver(
  holder: CallHolder,
  source: ScopeSource,
  { tools = true, ...options }: MiddlewareOptions,
  inAgent = false,
): AgentMiddleware {
  const middleware = createMiddleware({
    name: NAME,
    wrapModelCall: (request, handler) => holder.hold(request, handler),
    ...(tools ? { wrapToolCall: (request, handler) => guardToolCall(source, options, request, handler, inAgent) } : {}),
  })
  return middleware
}

/** A middleware as lists have it. LangChain's own type does not accept its own middleware under `exactOptionalPropertyTypes`. */
export interface ListedMiddleware {
  readonly name: string
  readonly wrapModelCall?: unknown
  readonly wrapToolCall?: unknown
  readonly tools?: readonly unknown[] | undefined
}

/** Options of {@link guardAgent}: those of `createAgent`, and of holdfast. */
export interface GuardAgentOptions extends Omit<CreateAgentParams, 'middleware' | 'responseFormat' | 'stateSchema' | 'contextSchema'> {
  /** Other middleware, outermost first; they run inside of holdfast. @default none */
  readonly middleware?: readonly ListedMiddleware[]
  readonly responseFormat?: unknown
  readonly stateSchema?: unknown
  readonly contextSchema?: unknown
  /** The scope, a function that returns one, or nothing for that of `scope.enter`. */
  readonly scope?: ScopeSource
  /** How calls are guarded; `tools` is whether the agent has any. `tools: false` leaves them to `guardTools` of `holdfast/langgraph`. */
  readonly holdfast?: MiddlewareOptions
}

/**
 * `createAgent` with holdfast as its outermost middleware. The model of a call has a guard under it, also when other
 * middleware repeats the call or takes another model of `@langchain/openai`; `invoke` and `stream` are one
 * run of the scope, so that a refusal that ends the work stands for all of it. `invoke` rejects with the `Refusal`
 * itself; from a stream `findRefusal(error)` finds it.
 *
 * @throws {TypeError} For a `holdfastMiddleware` in the list that has another scope.
 */
export function guardAgent({ scope, holdfast = {}, ...options }: GuardAgentOptions): ReactAgent {
  const { tools = [], middleware = [] } = options
  const others = middleware.filter(({ name }) => name !== NAME)
  const own = middleware.filter(({ name }) => name === NAME)
  warnOfList(middleware)
  const allTools = [...tools, ...others.flatMap((one) => one.tools ?? [])]
  const hasTools = allTools.length > 0 || others.some((one) => one.wrapToolCall !== undefined)
  const toolErrors = others.some(({ wrapToolCall }) => wrapToolCall !== undefined) ? 'throw' : 'message'
  const listed = own.length === 1 ? made.get(own[0]!) : undefined
  const source = listed?.source ?? scope
  if (scope !== undefined && source !== scope) {
    throw new TypeError('`scope` is not the one of the `holdfastMiddleware` in `middleware`. Give it once: leave the middleware out.')
  }
  const holder = listed?.holder ?? createCallHolder(source, holdfast)
  const settings = listed?.options ?? { toolErrors, tools: hasTools, ...holdfast }
  // One that is not known here, of another copy of this package, stays as it is.
  const first = own.length > 0 && listed === undefined ? own : [middlewareOver(holder, source, settings, true)]
  const innermost = others.findLast(({ wrapModelCall }) => wrapModelCall !== undefined)
  const parameters = {
    ...options,
    middleware: [...first, ...others.map((one) => overGuardedTools(overGuardedModels(one, holder, one === innermost), allTools))],
  }
  return inRuns(createAgent(parameters as unknown as Parameters<typeof createAgent>[0]) as unknown as ReactAgent, source)
}

/**
 * Every model that other middleware passes on is guarded: a fallback, or one that it chose for this call. What came
 * of it is noted, since the middleware may make something else of it.
 *
 * @param isInnermost - Whether what it gets is of a model, and not made by other middleware.
 */
function overGuardedModels(one: ListedMiddleware, holder: CallHolder, isInnermost: boolean): ListedMiddleware {
  const { wrapModelCall } = one as AnyAgentMiddleware
  if (wrapModelCall === undefined) return one
  const guarded: typeof wrapModelCall = (request, handler) => {
    const { [INSIDE]: inside } = request as { readonly [INSIDE]?: Inside }
    if (isInnermost && inside !== undefined) inside.isWatched = true
    return wrapModelCall(request, async (next) => {
      const model = await holder.guarded(next.model)
      if (!isOpenAiLike(model) && next.model !== request.model) {
        warnOnce(
          'unseen-model',
          `Middleware \`${one.name}\` takes a model whose HTTP cannot be seen: it runs under the hold of another model.`,
        )
      }
      try {
        const passed = { ...next, model: model as typeof next.model, [INSIDE]: inside }
        const result = await handler(passed)
        if (isInnermost) inside?.answers.add(result)
        return result
      } catch (error) {
        const refusal = findRefusal(error)
        if (refusal !== undefined && inside !== undefined) inside.refusal = refusal
        // As itself it says that it is not to be retried; LangChain's wrappings of it do not.
        throw refusal ?? error
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
      `${swallowing.join(', ')} run inside of holdfast: of what they repeat, each HTTP attempt and each run of a tool is held by itself, and a refusal still ends the run. Models that they are given themselves need guardModel(model, scope).`,
    )
  }
  if (middleware.findIndex(({ name }) => name === NAME) > 0) {
    warnOnce('middleware-order', 'holdfastMiddleware was not the first middleware, so others could swallow a refusal. It was put first.')
  }
}

/** Makes each invocation one run of its scope, where it is given; and `invoke` throw what a model threw, not LangChain's wrapping of it. */
function inRuns(agent: ReactAgent, source: ScopeSource): ReactAgent {
  const { invoke, stream, streamEvents, withConfig } = agent as unknown as Record<string, (...args: unknown[]) => unknown>
  const entered =
    (method: ((...args: unknown[]) => unknown) | undefined) =>
    (...args: unknown[]): unknown => {
      const call = (): unknown => method!.apply(agent, args)
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
    withConfig: (...args: unknown[]) => inRuns(withConfig!.apply(agent, args) as ReactAgent, source),
  })
}
