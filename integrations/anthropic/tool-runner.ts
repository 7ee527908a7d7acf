// The tools of a tool runner, behind the gates. The runner answers every call that the model asked for: an error of a
// tool becomes a result with `is_error`, so a denial is said as one, and the loop goes on.

import { findRefusal } from '../../src/lib/errors.ts'
import type { ScopeSource } from '../../src/waist/scope.ts'
import { runTool, type AnyFunction, type ToolAmounts } from '../common/guard-function.ts'

/** What a tool runner is made of, as far as it is used here. */
export interface RunnerBody {
  readonly tools?: readonly unknown[] | undefined
}

/** A tool runner, as far as it is used here. */
export interface ToolRunner {
  setMessagesParams(params: RunnerBody | ((current: RunnerBody) => RunnerBody)): void
  addTools(...tools: readonly unknown[]): void
}

/** A tool with a function, or a toolset, which has no name and is asked for by those of its members. */
interface RunnableTool {
  readonly name?: string
  readonly type?: string
  readonly run: AnyFunction
}

/** Tools that are behind the gates already: a runner hands them back to whoever changes its parameters. */
const guarded = new WeakSet<object>()

/** The tools, each with its function behind the gates; what the caller does not run stays as it is. */
export function guardTools(
  tools: readonly unknown[] | undefined,
  source: ScopeSource,
  amounts: ToolAmounts | undefined,
): readonly unknown[] | undefined {
  return tools?.map((tool) => (isRunnable(tool) && !guarded.has(tool) ? guardTool(tool, source, amounts) : tool))
}

/** The runner, whose tools that come later pass the gates, too. */
export function guardRunner(runner: ToolRunner, source: ScopeSource, amounts: ToolAmounts | undefined): ToolRunner {
  const own = Object.getPrototypeOf(runner) as ToolRunner
  const guardBody = <T extends RunnerBody>(body: T): T =>
    body.tools === undefined ? body : { ...body, tools: guardTools(body.tools, source, amounts) }
  runner.setMessagesParams = (params) =>
    own.setMessagesParams.call(runner, typeof params === 'function' ? (current) => guardBody(params(current)) : guardBody(params))
  runner.addTools = (...tools) => own.addTools.apply(runner, [...guardTools(tools, source, amounts)!])
  return runner
}

function isRunnable(tool: unknown): tool is RunnableTool {
  return typeof tool === 'object' && tool !== null && typeof (tool as Partial<RunnableTool>).run === 'function'
}

function guardTool(tool: RunnableTool, source: ScopeSource, amounts: ToolAmounts | undefined): object {
  const run: AnyFunction = async (...args) => {
    const { name, args: asked, context } = callOf(tool, args)
    const call = { name, args: asked ?? null, amounts, signal: context?.signal ?? undefined }
    try {
      return await runTool(source, call, () => tool.run(...args), denied)
    } catch (error) {
      // Of a model that the tool itself calls: the runner would show its message, which is the operator's, to this one.
      const refusal = findRefusal(error)
      throw refusal === undefined ? error : said(refusal)
    }
  }
  // A copy would lose what a class keeps in its prototype or in private fields, and a proxy of the tool itself may not
  // say anything else than a frozen one does: so it stands in for an empty object, and looks everything up in the tool.
  const proxy = new Proxy<object>(
    {},
    {
      get(_, key) {
        const value: unknown = key === 'run' ? run : Reflect.get(tool, key)
        return typeof value === 'function' && key !== 'run' ? (value as AnyFunction).bind(tool) : value
      },
      set: (_, key, value) => Reflect.set(tool, key, value),
      has: (_, key) => Reflect.has(tool, key),
      ownKeys: () => Reflect.ownKeys(tool),
      getOwnPropertyDescriptor(_, key) {
        const descriptor = Reflect.getOwnPropertyDescriptor(tool, key)
        return descriptor && { ...descriptor, configurable: true }
      },
      getPrototypeOf: () => Reflect.getPrototypeOf(tool),
    },
  )
  guarded.add(proxy)
  return proxy
}

/** What the runner tells a tool beside its input. */
type RunContext = { readonly signal?: AbortSignal | null } | undefined

/** A tool is run with its parsed input and a context; a toolset with a context, and the call of one of its members. */
function callOf(
  tool: RunnableTool,
  args: readonly unknown[],
): { readonly name: string; readonly args: unknown; readonly context: RunContext } {
  if (typeof tool.name === 'string') return { name: tool.name, args: args[0], context: args[1] as RunContext }
  const member = args[1] as { readonly name: string; readonly toolset_name?: string | null; readonly input: unknown }
  return { name: `${member.toolset_name ?? String(tool.type)}.${member.name}`, args: member.input, context: args[0] as RunContext }
}

function denied(refusal: Parameters<typeof said>[0]): never {
  throw said(refusal)
}

/** What the runner makes a result with `is_error` of. */
function said(refusal: NonNullable<ReturnType<typeof findRefusal>>): Error {
  return new Error(refusal.toModelMessage())
}
