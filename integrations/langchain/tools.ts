// Tools of an agent behind the gates, and an agent as a tool of another one. What is refused becomes the answer of the
// tool, whose text is for the model; the loop goes on.

import { raceWithSignal } from '@langchain/core/runnables'
import { tool, type DynamicStructuredTool } from '@langchain/core/tools'
import type { ToolMessage } from '@langchain/core/messages'
import { isGraphBubbleUp, type Command } from '@langchain/langgraph'
import { findRefusal } from '../../src/lib/errors.ts'
import type { Handoff, HandoffRequest } from '../../src/waist/handoff.ts'
import type { Scope, ScopeSource } from '../../src/waist/scope.ts'
import type { ToolAmounts } from '../common/guard-function.ts'
import { createGate, GATE, type Gate } from './gate.ts'
import { observedTool } from './observer.ts'
import { errorResult, toolResult, type AnsweredCall } from './shared.ts'
import { scopeOf } from '../common/scope-source.ts'

/** The request of `wrapToolCall`, as far as it is used. */
export interface AskedCall {
  readonly toolCall: AnsweredCall & { readonly args: unknown }
  /** None for one that only other middleware knows, or nobody. */
  readonly tool?: unknown
  readonly runtime?: { readonly signal?: AbortSignal | undefined }
}

/** How tools are guarded. */
export interface ToolGuardOptions {
  /** What calls of tools count as. @default nothing but the permission to make them */
  readonly toolAmounts?: ToolAmounts
  /**
   * What an `ask` rule does without an approval: `message` tells the model that it needs one; `interrupt` pauses the
   * graph (it needs a checkpointer) with an `ApprovalRequest`. What the graph is resumed with decides nothing,
   * `kernel.approve` does. A tool that interrupts by itself, too, needs `guardTools` of `holdfast/langgraph`, which
   * keeps the answers to both questions apart. @default 'message'
   */
  readonly ask?: 'message' | 'interrupt'
  /**
   * What an error of a tool does: `message` shows it to the model, as LangChain does where no middleware has
   * `wrapToolCall`; `throw` ends the run, as it does where one has. @default 'message'
   */
  readonly toolErrors?: 'message' | 'throw'
}

/** Longest name of a tool that is asked for, in UTF-16 code units. */
const MAX_NAME_LENGTH = 1_024

/**
 * Runs a call of a tool behind the gates; an error of it becomes what the model may read. The gates stand at the tool
 * itself, inside of all other middleware: this is outside of it, so that nothing can swallow what they say.
 */
export async function guardToolCall<Q extends AskedCall>(
  source: ScopeSource,
  { toolErrors = 'message', ...options }: ToolGuardOptions,
  request: Q,
  handler: (request: Q) => ToolMessage | Command | PromiseLike<ToolMessage | Command>,
): Promise<ToolMessage | Command> {
  const { toolCall, tool: called } = request
  const { name, args, id } = toolCall
  // The name may be the invention of a model; of one that is none nothing can run.
  if (name === '' || name.length > MAX_NAME_LENGTH || !name.isWellFormed()) return errorResult('Error: this is not a valid tool.', toolCall)
  const gate = createGate(source, options)
  const run = async (): Promise<unknown> => observedTool(async () => handler({ ...request, tool: gate.over(called), [GATE]: gate }))
  try {
    // A tool that only other middleware has may be run by it, behind no gate in there: so they are around all of it.
    const result = await (called === undefined
      ? gate.passAround({ name, id, args, sent: args, signal: request.runtime?.signal }, run)
      : run())
    gate.throwIfEnded()
    return result as ToolMessage | Command
  } catch (error) {
    gate.throwIfEnded()
    return answerTo(error, toolCall, toolErrors)
  }
}

/** Every tool that other middleware passes on is behind the gates of the call: one that it chose, and one of its own. */
export function overGuardedTools<M extends ToolWrapping>(one: M, tools: readonly unknown[]): M {
  const { wrapToolCall } = one
  if (typeof wrapToolCall !== 'function') return one
  const guarded = (request: GatedRequest, handler: (next: GatedRequest) => unknown): unknown => {
    const gate = request[GATE]
    if (gate === undefined) return wrapToolCall(request, handler) as unknown
    return wrapToolCall(request, (next: GatedRequest) => {
      // Of a request without a tool LangChain runs the one that has the name.
      const named = tools.find((tool) => (tool as { readonly name?: unknown }).name === next.toolCall.name)
      return handler({ ...next, tool: gate.over(next.tool ?? named), [GATE]: gate })
    }) as unknown
  }
  return { ...one, wrapToolCall: guarded }
}

interface ToolWrapping {
  readonly wrapToolCall?: unknown
}

type GatedRequest = AskedCall & { readonly [GATE]?: Gate }

function answerTo(error: unknown, call: AnsweredCall, toolErrors: 'message' | 'throw'): ToolMessage {
  if (isGraphBubbleUp(error)) throw error
  // A refusal from inside of a tool, of a model that it calls, is read by the model too: its text for operators must not be.
  const refusal = findRefusal(error)
  if (refusal !== undefined) return toolResult(refusal, call)
  // LangChain has a text of its own for arguments that do not fit the schema.
  const isOfArguments = (error as { readonly '~brand'?: unknown } | null)?.['~brand'] === 'ToolInvocationError'
  if (isOfArguments || toolErrors === 'throw') throw error
  // The words of LangChain's own ToolNode, which would have said them without this middleware.
  return errorResult(`${String(error)}\n Please fix your mistakes.`, call)
}

/** What an agent that takes over is given beside its work. */
export interface HandoffOptions {
  /** Aborted when the run that handed over is. */
  readonly signal?: AbortSignal
}

/** An agent that takes over: a function, or an agent of LangChain that spends from the scope it runs in. */
export type HandoffAgent =
  | ((message: string, scope: Scope, options: HandoffOptions) => unknown)
  | { invoke(input: { messages: { role: 'user'; content: string }[] }, options?: HandoffOptions): PromiseLike<unknown> }

/** Options of {@link handoffTool}. */
export interface AgentToolOptions extends Omit<HandoffRequest, 'instruction' | 'context'> {
  readonly name: string
  /** For the model: what the other agent is good for. */
  readonly description: string
  /** Gets the handoff as text. An agent must take the ambient scope: `guardAgent` without `scope`. */
  readonly agent: HandoffAgent
  /** Who hands off. @default the scope of `scope.enter`, or of the `guardAgent` that runs it */
  readonly scope?: ScopeSource
}

/** What the model writes. */
interface HandoffArguments {
  readonly instruction: string
  readonly context?: string
}

const HANDOFF_SCHEMA = {
  type: 'object' as const,
  properties: {
    instruction: { type: 'string' as const, description: 'What to do.' },
    context: { type: 'string' as const, description: 'What has to be known for it.' },
  },
  required: ['instruction'],
}

/**
 * A tool that hands work to another agent with a budget of its own, which is moved out of this one's; what is left
 * comes back when it is done, or when the run is aborted. The answer is the last text of that agent, or what a refusal
 * tells the model.
 */
export function handoffTool({ name, description, agent, scope: source, ...request }: AgentToolOptions): DynamicStructuredTool {
  const run = async (input: unknown, config: unknown): Promise<string | ToolMessage> => {
    const { instruction, context } = input as HandoffArguments
    const { toolCall, signal } = (config ?? {}) as { readonly toolCall?: { readonly id?: string }; readonly signal?: AbortSignal }
    const options: HandoffOptions = signal === undefined ? {} : { signal }
    try {
      const giver = scopeOf(source)
      const handoff = await giver.handoff({ ...request, instruction, ...(context === undefined ? {} : { context }) }, options)
      const { scope, message } = handoff
      const work = async (): Promise<unknown> =>
        typeof agent === 'function'
          ? agent(message, scope, options)
          : agent.invoke({ messages: [{ role: 'user', content: message }] }, options)
      try {
        // Who leaves does not wait for an agent that goes on: its budget comes back, so that it can spend no more.
        return textOf(await raceWithSignal(scope.enter(work), signal))
      } finally {
        await close(handoff, giver)
      }
    } catch (error) {
      const refusal = findRefusal(error)
      if (refusal === undefined) throw error
      return toolResult(refusal, { name, id: toolCall?.id })
    }
  }
  return tool(run, { name, description, schema: HANDOFF_SCHEMA })
}

/** Closes a handoff. The answer was paid for: it is given whether the store answers now or not. */
async function close(handoff: Handoff, giver: Scope): Promise<void> {
  try {
    await handoff.close()
  } catch (error) {
    const message = `Handoff \`${handoff.id}\` could not be closed, so its budget is still out; close it again. ${String(error)}`
    giver.report({ type: 'escape', message })
  }
}

/** The last text of an agent's answer. */
function textOf(result: unknown): string {
  if (typeof result === 'string') return result
  const { messages, text, content } = (result ?? {}) as { messages?: readonly unknown[]; text?: unknown; content?: unknown }
  if (Array.isArray(messages)) return textOf(messages.at(-1))
  if (typeof text === 'string') return text
  return typeof content === 'string' ? content : (JSON.stringify(result) ?? '')
}
