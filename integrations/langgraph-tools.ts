// Tools of LangChain behind the gates, in a graph. A denial is the tool's answer to the model, so every tool call is
// answered and the loop goes on. In a graph with a checkpointer a tool runs under a receipt that names its task:
// LangGraph runs a resumed node from its top, and its effects must not happen again.

import { AsyncLocalStorage } from 'node:async_hooks'
import { ToolMessage } from '@langchain/core/messages'
import { canonicalJson } from '../src/lib/canonical-json.ts'
import { findRefusal } from '../src/lib/errors.ts'
import { sha256 } from '../src/lib/ids.ts'
import type { Action } from '../src/waist/action.ts'
import type { Hold } from '../src/waist/hold.ts'
import type { Scope, ScopeSource } from '../src/waist/scope.ts'
import { toolWorst, type ToolAmounts } from './guard-function.ts'
import { ask, canPause, settleQuestion } from './langgraph-approval.ts'
import { keep, restore } from './langgraph-result.ts'
import { executionOf, isBubbleUp, type Saver, type TaskConfig } from './langgraph-task.ts'
import { scopeOf } from './scope-source.ts'

/** Options of `guardTools`. */
export interface GuardToolsOptions {
  /** What calls of tools count as, by the tool's name. @default nothing but the permission to make them */
  readonly amounts?: ToolAmounts
  /**
   * Names of tools that may run twice without harm. Of any other, a call that began before its graph was resumed,
   * without a known end, does not run again; the model is told so. @default none
   */
  readonly idempotent?: readonly string[]
}

/** Where LangChain's tools keep what they do; `invoke` puts the schema, the callbacks and the message around it. */
export const CALL = '_call'

/** The members of a tool that are used. */
interface AnyTool {
  readonly name: string
  readonly responseFormat?: string
  readonly [CALL]?: (args: unknown, manager: unknown, config: TaskConfig) => unknown
  readonly invoke?: (this: AnyTool, input: unknown, config?: TaskConfig) => Promise<unknown>
}

/** One call of a tool. */
interface ToolCall {
  readonly tool: AnyTool
  readonly args: unknown
  /** As the model sent them, when that is known. */
  readonly sent: unknown
  readonly callId: string | undefined
  readonly config: TaskConfig
  readonly body: () => Promise<unknown>
}

const UNKNOWN =
  'This was begun before, and it is not known whether it went through. Do not do it again: find out first, or report this to the operator.'
const NOT_KEPT = 'This was done before, to its end. Its result is not available any more. Do not do it again.'

/**
 * Puts tools behind the gates. They keep their names, schemas and descriptions; the given ones stay as they are.
 *
 * A denial, and a refusal from inside of a tool, is a `ToolMessage` with `status: 'error'` whose text says what to
 * do now. An `ask` pauses a graph that has a checkpointer and a `thread_id`, else it is a denial. An error of the
 * tool is thrown as it is. Tools that run at the provider are left alone.
 *
 * @param tools - Made with `tool(...)`, subclasses of `StructuredTool`, or runnables as tools.
 * @param source - The scope, a function that returns one, or nothing for the one that the call runs in. With
 *   handoffs it has to be nothing, so that each agent spends from its own.
 */
export function guardTools<const T extends readonly object[]>(
  tools: T,
  source?: ScopeSource,
  options: GuardToolsOptions = {},
): { -readonly [K in keyof T]: T[K] } {
  return tools.map((tool) => guardTool(tool as AnyTool, source, options)) as never
}

function guardTool(tool: AnyTool, source: ScopeSource, options: GuardToolsOptions): AnyTool {
  if (typeof tool[CALL] === 'function') {
    const { invoke } = tool
    return twin(tool, {
      async [CALL](args: unknown, manager: unknown, config: TaskConfig = {}) {
        const body = async () => drained(await tool[CALL]!(args, manager, config), manager)
        const call = { tool, args, sent: sentTo(tool, config), callId: config.toolCall?.id, config, body }
        return guarded(call, source, options)
      },
      ...(invoke === undefined ? {} : { invoke: remembering(tool, invoke) }),
    })
  }
  if (typeof tool.invoke !== 'function' || typeof tool.name !== 'string') return tool
  return twin(tool, {
    async invoke(input: unknown, config: TaskConfig = {}) {
      const { type, args, id } = (input ?? {}) as { type?: unknown; args?: unknown; id?: string }
      const isCall = type === 'tool_call'
      const body = () => tool.invoke!(input, config)
      return guarded({ tool, args: isCall ? args : input, sent: undefined, callId: isCall ? id : undefined, config, body }, source, options)
    },
  })
}

/** What the innermost tool was invoked with, which its schema has read by the time that it is called. */
const invoked = new AsyncLocalStorage<{ readonly tool: AnyTool; readonly sent: unknown; taken: boolean }>()

function remembering(tool: AnyTool, invoke: NonNullable<AnyTool['invoke']>) {
  return function (this: AnyTool, input: unknown, config?: TaskConfig): Promise<unknown> {
    const { type, args } = (input ?? {}) as { type?: unknown; args?: unknown }
    return invoked.run({ tool, sent: type === 'tool_call' ? args : input, taken: false }, () => invoke.call(this, input, config))
  }
}

/**
 * A config is handed on to what a tool calls, so its tool call may be that of the tool around this one. What the tool
 * was invoked with goes first, once: the tool may call itself in other ways.
 */
function sentTo(tool: AnyTool, { toolCall }: TaskConfig): unknown {
  const known = invoked.getStore()
  if (known?.tool !== tool || known.taken) return toolCall?.args
  known.taken = true
  return known.sent
}

/** The same tool with other methods. Own members are copied, so that frameworks that spread a tool see them all. */
export function twin<T extends object>(tool: T, methods: object): T {
  const copy = Object.create(Object.getPrototypeOf(tool) as object, Object.getOwnPropertyDescriptors(tool)) as T
  for (const [name, value] of Object.entries(methods)) {
    Object.defineProperty(copy, name, { value, configurable: true, enumerable: false, writable: true })
  }
  return copy
}

/** A tool may stream: it is at work until its last piece, so its hold lasts until then. */
export async function drained(result: unknown, manager: unknown): Promise<unknown> {
  if (typeof result !== 'object' || result === null || !(Symbol.asyncIterator in result) || !('next' in result)) return result
  const steps = result as AsyncGenerator
  const { handleToolEvent } = (manager ?? {}) as { handleToolEvent?: (piece: unknown) => Promise<void> }
  for (;;) {
    const step = await steps.next()
    if (step.done === true) return step.value
    await handleToolEvent?.call(manager, step.value)
  }
}

async function guarded(call: ToolCall, source: ScopeSource, options: GuardToolsOptions): Promise<unknown> {
  const { config, tool } = call
  config.signal?.throwIfAborted()
  const execution = executionOf(config)
  const [args, text] = hashable(call)
  const argsHash = sha256(text)
  // Counted before anything is awaited: the order of the calls is what a resumed task repeats.
  const nth = execution.nth(JSON.stringify([tool.name, argsHash]))
  const about = { tool: tool.name, argsHash, ...(nth === 1 ? {} : { nth }) }
  let started = false
  const body = async (hold: Hold): Promise<unknown> => {
    started = true
    return released(hold, call.body)
  }
  return execution.working(async () => {
    try {
      await settleQuestion(about, execution, config)
      const action: Action = { kind: 'tool', resource: tool.name, args, worst: toolWorst(tool.name, options.amounts) }
      const scope = scopeOf(source)
      if (execution.name === undefined) return await scope.run(action, body)
      const receipt = JSON.stringify(['langgraph', execution.name, tool.name, argsHash, nth])
      return await runOnce(scope, call, { action, receipt, body, saver: execution.saver! }, options)
    } catch (error) {
      const refusal = isBubbleUp(error) ? undefined : findRefusal(error)
      if (refusal === undefined) throw error
      if (!started && refusal.code === 'ERR_APPROVAL_REQUIRED' && canPause(execution)) {
        const { agent = '' } = refusal.details
        await ask({ ...about, args, agent, reason: refusal.message }, execution, config)
      }
      return answer(call, refusal.toModelMessage(), 'error')
    }
  })
}

/** An effect that a resumed graph must not repeat. */
interface Effect {
  readonly action: Action
  readonly receipt: string
  readonly body: (hold: Hold) => Promise<unknown>
  readonly saver: Saver
}

async function runOnce(
  scope: Scope,
  call: ToolCall,
  { action, receipt, body, saver }: Effect,
  { idempotent = [] }: GuardToolsOptions,
): Promise<unknown> {
  let result: unknown
  const effect = async (hold: Hold): Promise<unknown> => {
    result = await body(hold)
    return keep(result, saver)
  }
  const once = await scope.once(receipt, action, effect, { idempotent: idempotent.includes(action.resource), undone: isBubbleUp })
  if (once.outcome === 'ran') return result
  if (once.outcome === 'unknown') return answer(call, UNKNOWN, 'error')
  const restored = await restore(once.result, saver)
  return restored === undefined ? answer(call, NOT_KEPT, 'success') : addressed(restored.result, call)
}

/** An interrupt inside of the tool means that it will run again, from its top: nothing of this time is charged. */
async function released(hold: Hold, body: () => Promise<unknown>): Promise<unknown> {
  try {
    return await body()
  } catch (error) {
    if (isBubbleUp(error)) await hold.release('the graph was interrupted inside of it, and will run it again')
    throw error
  }
}

/**
 * What the gates see is what the tool gets, after its schema has read it. A schema may make of it what is no JSON,
 * such as a date; then it is what the model or the caller sent, and which the rest was made from.
 */
function hashable({ args = null, sent }: ToolCall): [args: unknown, canonical: string] {
  // A tool of one string is called with `{ input }`, so that rules on arguments have a name for it.
  const asked = (given: unknown): [unknown, string] => {
    const object = typeof given === 'string' ? { input: given } : given
    return [object, canonicalJson(object, { dropUndefined: true })]
  }
  try {
    return asked(args)
  } catch (error) {
    if (sent === undefined) throw error
    return asked(sent)
  }
}

/** An answer that is not the tool's own, in the form that its caller expects. */
function answer({ tool, callId }: ToolCall, text: string, status: 'error' | 'success'): unknown {
  const content = callId === undefined ? text : new ToolMessage({ content: text, status, tool_call_id: callId, name: tool.name })
  return tool[CALL] !== undefined && tool.responseFormat === 'content_and_artifact' ? [content, undefined] : content
}

/** A kept message answers the call of its time; a provider wants an answer to the call of now. */
function addressed(result: unknown, { callId }: ToolCall): unknown {
  if (callId !== undefined && ToolMessage.isInstance(result)) result.tool_call_id = callId
  return result
}
