// Tools of the AI SDK behind the gates: `toolApproval` asks before the SDK runs a call, each tool's `execute` asks
// again when it runs, so that no message in the history opens anything.

import type { ModelMessage, Tool, ToolApprovalStatus, ToolSet } from 'ai'
import { findRefusal, type Refusal } from '../../src/lib/errors.ts'
import type { ScopeSource } from '../../src/waist/scope.ts'
import { runTool, type ToolAmounts } from '../common/guard-function.ts'
import { scopeOf } from '../common/scope-source.ts'

/** What the AI SDK tells of a tool call that may need approval. */
export interface ApprovalOptions {
  readonly toolCall: { readonly toolName: string; readonly toolCallId: string; readonly input: unknown }
  readonly tools?: ToolSet | undefined
  readonly toolsContext?: unknown
  readonly runtimeContext?: unknown
  readonly messages?: ModelMessage[]
}

/** The `toolApproval` that {@link toolApproval} makes. */
export type ApprovalFunction = (options: ApprovalOptions) => Promise<ToolApprovalStatus>

/** Functions of ours: what is guarded already is not guarded twice. */
const OURS = new WeakSet<object>()

/**
 * The `toolApproval` of `generateText`, `streamText` and agents: `deny` is `denied`, `ask` is `user-approval`,
 * `allow` is what `own` or the tool itself says in `needsApproval`, as it would be without this.
 *
 * The user's yes in the AI SDK is not enough for an `ask` rule: `kernel.approve` is, and a tool of
 * {@link guardTools} runs only with it. So a forged approval message in the history opens nothing.
 *
 * @param own - A `toolApproval` of your own, in any form that the SDK takes; it can only narrow.
 */
export function toolApproval(source?: ScopeSource, own?: unknown): ApprovalFunction {
  if (typeof own === 'function' && OURS.has(own)) return own as ApprovalFunction
  const approve: ApprovalFunction = async (options) => {
    const { toolName, input } = options.toolCall
    const refusal = await scopeOf(source).decide({ kind: 'tool', resource: toolName, args: input })
    if (refusal !== undefined && refusal.code !== 'ERR_APPROVAL_REQUIRED') return { type: 'denied', reason: refusal.toModelMessage() }
    const status = await ownApproval(own, options)
    if (refusal === undefined || typeOf(status) === 'denied') return status
    return { type: 'user-approval', reason: refusal.message }
  }
  OURS.add(approve)
  return approve
}

const typeOf = (status: ToolApprovalStatus): string | undefined => (typeof status === 'object' ? status.type : status)

/** A function as `toolApproval` makes the SDK ignore all others, so what they say is asked here, in the SDK's order. */
async function ownApproval(own: unknown, options: ApprovalOptions): Promise<ToolApprovalStatus> {
  if (typeof own === 'function') return (own as ApprovalFunction)(options)
  const { toolCall, tools = {}, toolsContext, runtimeContext, messages = [] } = options
  const { toolName, toolCallId, input } = toolCall
  const context = (toolsContext as Readonly<Record<string, unknown>> | undefined)?.[toolName]
  const listed = ownOf(own as Readonly<Record<string, unknown>> | undefined, toolName)
  if (typeof listed === 'function')
    return (await listed(input, { toolCallId, messages, toolContext: context, runtimeContext })) as ToolApprovalStatus
  if (listed != null) return listed as ToolApprovalStatus
  const needs: unknown = ownOf(tools, toolName)?.needsApproval
  const needed: unknown = typeof needs === 'function' ? await needs(input, { toolCallId, messages, context }) : needs
  return needed === true ? 'user-approval' : undefined
}

/** A name may be the invention of a model, such as `constructor`. */
function ownOf<T>(record: Readonly<Record<string, T>> | undefined, name: string): T | undefined {
  return record !== undefined && Object.hasOwn(record, name) ? record[name] : undefined
}

/**
 * Puts the `execute` of every tool behind the gates. A refusal becomes a tool error whose text is for the model
 * and whose `cause` is the refusal; the loop goes on. Tools that run elsewhere (no `execute`) stay as they are: those of
 * the client are for {@link toolApproval}, those of the provider for the middleware.
 *
 * @param toolAmounts - What calls of tools count as. @default nothing but the permission to make them
 */
export function guardTools<T extends ToolSet>(source: ScopeSource, tools: T, toolAmounts?: ToolAmounts): T {
  const guarded = Object.entries(tools).map(([name, tool]) => [
    name,
    typeof tool.execute === 'function' && !OURS.has(tool.execute) ? guardTool(name, tool, source, toolAmounts) : tool,
  ])
  return Object.fromEntries(guarded) as T
}

function guardTool(name: string, tool: Tool, source: ScopeSource, amounts: ToolAmounts | undefined): Tool {
  const execute = tool.execute as (this: unknown, input: unknown, options: unknown) => unknown
  const run = (input: unknown, options: unknown, fn: () => unknown): Promise<unknown> => {
    const { abortSignal: signal } = (options ?? {}) as { readonly abortSignal?: AbortSignal }
    return runTool(source, { name, args: input, amounts, signal }, () => forModel(fn), refuse)
  }
  const whole = (input: unknown, options: unknown): Promise<unknown> =>
    run(input, options, async () => last(await execute.call(tool, input, options)))
  const inSteps = async function* (input: unknown, options: unknown): AsyncIterable<unknown> {
    // Asked before the first step; what was held for it is settled then, and its results pass on as they come.
    const steps = (await run(input, options, () => execute.call(tool, input, options))) as AsyncIterable<unknown>
    try {
      yield* steps
    } catch (error) {
      rethrowForModel(error)
    }
  }
  const guarded = execute.constructor.name === 'AsyncGeneratorFunction' ? inSteps : whole
  OURS.add(guarded)
  return { ...tool, execute: guarded }
}

/** What the model reads of a tool error is its message; what the caller finds in it is its cause. */
function refuse(refusal: Refusal): never {
  throw new Error(refusal.toModelMessage(), { cause: refusal })
}

/** A refusal from inside of a tool, of a model that it calls, is read by the model too: its text for operators must not be. */
function rethrowForModel(error: unknown): never {
  const refusal = findRefusal(error)
  if (refusal === undefined) throw error
  refuse(refusal)
}

async function forModel(fn: () => unknown): Promise<unknown> {
  try {
    return await fn()
  } catch (error) {
    return rethrowForModel(error)
  }
}

/** A tool may answer with a sequence, whose last element is its result. */
async function last(result: unknown): Promise<unknown> {
  if (typeof result !== 'object' || result === null || !(Symbol.asyncIterator in result)) return result
  let latest: unknown
  for await (const value of result as AsyncIterable<unknown>) latest = value
  return latest
}
