// Tools of LangChain behind the gates, in a graph. A denial is the tool's answer to the model, so every tool call is
// answered and the loop goes on. In a graph with a checkpointer a tool runs under a receipt that names its task:
// LangGraph runs a resumed node from its top, and its effects must not happen again.

import { findRefusal } from '../../src/lib/errors.ts'
import { sha256 } from '../../src/lib/ids.ts'
import type { Action } from '../../src/waist/action.ts'
import type { Hold } from '../../src/waist/hold.ts'
import type { Scope, ScopeSource } from '../../src/waist/scope.ts'
import { toolWorst, type ToolAmounts } from '../common/guard-function.ts'
import { askedArguments, isGuardedTool, markGuardedTool } from '../langchain/shared.ts'
import { ask, canPause, settleQuestion } from './approval.ts'
import { conclude, keep, restore, type Ending } from './result.ts'
import { executionOf, isBubbleUp, isParentCommand, isPause, type Saver } from './task.ts'
import { answer, withCalls, type AnyTool, type ToolCall } from './twin.ts'
import { scopeOf } from '../common/scope-source.ts'

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
 * @throws {TypeError} For a tool that is behind the gates already: its approval would be used up by the first of them.
 */
export function guardTools<const T extends readonly object[]>(
  tools: T,
  source?: ScopeSource,
  options: GuardToolsOptions = {},
): { -readonly [K in keyof T]: T[K] } {
  return tools.map((tool) => guardTool(tool as AnyTool, source, options)) as never
}

function guardTool(tool: AnyTool, source: ScopeSource, options: GuardToolsOptions): AnyTool {
  if (isGuardedTool(tool)) throw new TypeError(`The tool \`${tool.name}\` is guarded already: guard the one that it was made of.`)
  const copy = withCalls(tool, (call) => guarded(call, source, options))
  return copy === undefined ? tool : markGuardedTool(copy)
}

async function guarded(call: ToolCall, source: ScopeSource, options: GuardToolsOptions): Promise<unknown> {
  const { config, tool } = call
  const { signal } = config
  signal?.throwIfAborted()
  const execution = executionOf(config)
  const [args, text] = askedArguments(call)
  const argsHash = sha256(text)
  // Counted before anything is awaited: the order of the calls is what a resumed task repeats.
  const nth = execution.nth(JSON.stringify([tool.name, argsHash]))
  const receipt = JSON.stringify(['langgraph', execution.name, tool.name, argsHash, nth])
  const question = { tool: tool.name, args, argsHash, ...(nth === 1 ? {} : { nth }), call: sha256(receipt) }
  let started = false
  const body = (hold: Hold): Promise<Ending> => {
    started = true
    return ended(call, hold)
  }
  return execution.working(async () => {
    try {
      await settleQuestion(question.call, execution, config)
      const action: Action = { kind: 'tool', resource: tool.name, args, worst: toolWorst(tool.name, options.amounts) }
      const scope = scopeOf(source)
      if (execution.name === undefined) return conclude(await scope.run(action, body, undefined, undefined, { signal }))
      return await onceInTask(scope, call, { action, receipt, body, saver: execution.saver! }, options)
    } catch (error) {
      const refusal = isBubbleUp(error) ? undefined : findRefusal(error)
      if (refusal === undefined) throw error
      if (!started && refusal.code === 'ERR_APPROVAL_REQUIRED' && canPause(execution)) {
        const { agent = '' } = refusal.details
        await ask({ ...question, agent, reason: refusal.message }, execution, config)
      }
      return answer(call, refusal.toModelMessage(), 'error')
    }
  })
}

/** An effect that a resumed graph must not repeat. */
interface Effect {
  readonly action: Action
  readonly receipt: string
  readonly body: (hold: Hold) => Promise<Ending>
  readonly saver: Saver
}

async function onceInTask(
  scope: Scope,
  call: ToolCall,
  { action, receipt, body, saver }: Effect,
  { idempotent = [] }: GuardToolsOptions,
): Promise<unknown> {
  const { callId, config } = call
  let ending: Ending | undefined
  const effect = async (hold: Hold): Promise<unknown> => {
    ending = await body(hold)
    return keep(ending, callId, saver)
  }
  const options = { idempotent: idempotent.includes(action.resource), undone: isPause, signal: config.signal }
  const once = await scope.once(receipt, action, effect, options)
  if (once.outcome === 'ran') return conclude(ending!)
  if (once.outcome === 'unknown') return answer(call, UNKNOWN, 'error')
  const restored = await restore(once.result, callId, saver)
  return restored === undefined ? answer(call, NOT_KEPT, 'success') : conclude(restored)
}

/**
 * Runs the tool. An interrupt inside of it means that it will run again, from its top, so nothing of this time is
 * charged; a command for a graph further out is a result of it.
 */
async function ended({ body }: ToolCall, hold: Hold): Promise<Ending> {
  try {
    return { result: await body() }
  } catch (error) {
    if (isParentCommand(error)) return { command: error }
    if (isPause(error)) await hold.release('the graph was interrupted inside of it, and will run it again')
    throw error
  }
}
