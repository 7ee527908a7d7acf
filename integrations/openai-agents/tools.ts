// Tools of the Agents SDK behind the gates. A denial is the tool's answer to the model, so each call is answered and the
// run goes on; an `ask` is the SDK's own approval, which pauses the run, and which by itself opens nothing.

import type { ApplyPatchTool, RunContext, ShellTool, Tool } from '@openai/agents'
import { AsyncLocalStorage } from 'node:async_hooks'
import { canonicalJson } from '../../src/lib/canonical-json.ts'
import { findRefusal, type Refusal } from '../../src/lib/errors.ts'
import { sha256 } from '../../src/lib/ids.ts'
import type { ScopeSource } from '../../src/waist/scope.ts'
import { toolWorst, type ToolAmounts } from '../common/guard-function.ts'
import { payingScope } from './frame.ts'

/** What guards tools. */
export interface ToolGuard {
  readonly source: ScopeSource
  readonly toolAmounts: ToolAmounts | undefined
}

/** What `kernel.approve` takes, of one question of a run that was paused. */
export interface ApprovalRequest {
  readonly agent: string
  readonly tool: string
  readonly argsHash: string
}

type AnyFunctionTool = Extract<Tool, { readonly type: 'function' }>

const guardedTools = new WeakSet<object>()
/** Tools that `asTool` of a guarded agent has made. */
const guardedAgentTools = new WeakSet<object>()

/** The last refusal inside of the tool that this task runs: the SDK makes text of it, which is not for models. */
const inside = new AsyncLocalStorage<{ refusal: Refusal | undefined }>()

/** Notes a refusal for the tool that it happens in, if it happens in one. */
export function noteRefusal(error: unknown): void {
  const tool = inside.getStore()
  if (tool !== undefined) tool.refusal = findRefusal(error) ?? tool.refusal
}

/**
 * Reads what `kernel.approve` takes from an element of `result.interruptions`.
 *
 * @param agent - The agent of the scope that asked: `scope.agent`, or who work was handed to.
 */
export function approvalOf(
  interruption: { readonly name?: string | undefined; readonly arguments?: string | undefined },
  agent: string,
): ApprovalRequest {
  const args = argumentsOf(interruption.arguments ?? '')
  return { agent, tool: interruption.name ?? '', argsHash: sha256(canonicalJson(args, { dropUndefined: true })) }
}

/** Says that a tool was made by `asTool` of a guarded agent, whose run is guarded itself; and puts the call behind the gates. */
export function guardAgentTool<T extends object>(tool: T, guard: ToolGuard): T {
  // In place: the SDK finds the agent of a restored run by the identity of its tool.
  guardedAgentTools.add(tool)
  return Object.assign(tool, membersOf(tool as AnyFunctionTool, guard))
}

/**
 * The tool behind the gates; what runs at the provider, or is behind them already, as it is.
 *
 * @throws {TypeError} For a tool whose calls cannot be put behind them.
 */
export function guardTool(tool: Tool, guard: ToolGuard): Tool {
  if (guardedTools.has(tool) || guardedAgentTools.has(tool)) return tool
  const members = membersFor(tool, guard)
  if (members === undefined) return tool
  // With all that it has: the SDK keeps some of it under symbols.
  const copy = Object.defineProperties({}, Object.getOwnPropertyDescriptors(tool)) as Tool
  guardedTools.add(copy)
  // Defined anew, since not all of them may be assigned.
  return Object.defineProperties(copy, Object.getOwnPropertyDescriptors(members))
}

function membersFor(tool: Tool, guard: ToolGuard): object | undefined {
  switch (tool.type) {
    case 'function':
      if (typeof (tool as { on?: unknown }).on === 'function')
        throw new TypeError(
          `\`${tool.name}\` is an agent as a tool, and that agent is not guarded: make it of guardAgent(agent, scope).asTool(…).`,
        )
      return membersOf(tool, guard)
    case 'shell':
      return shellMembers(tool, guard)
    case 'apply_patch':
      return editorMembers(tool, guard)
    case 'computer':
      throw new TypeError(
        `\`${tool.name}\` acts step by step on a computer, where no rule could stop it: leave it out, or give it as a function tool.`,
      )
    default:
      return searchMembers(tool, guard)
  }
}

/** A search for tools that the application makes itself: what it finds is called by the SDK, so it is guarded when it is found. */
function searchMembers(tool: Tool, guard: ToolGuard): object | undefined {
  const key = Object.getOwnPropertySymbols(tool).find(
    (symbol) => typeof (tool as unknown as Record<symbol, unknown>)[symbol] === 'function',
  )
  if (key === undefined) return undefined
  const search = (tool as unknown as Record<symbol, (...args: unknown[]) => unknown>)[key]!
  const guarded = async (...args: unknown[]): Promise<unknown> => {
    const found = await search(...args)
    const over = (one: unknown): unknown => (typeof one === 'object' && one !== null ? guardTool(one as Tool, guard) : one)
    return Array.isArray(found) ? found.map(over) : over(found)
  }
  return { [key]: guarded }
}

function membersOf(tool: AnyFunctionTool, guard: ToolGuard): object {
  const { name, invoke, needsApproval } = tool
  return {
    async needsApproval(context: RunContext, args: unknown, callId?: string) {
      if (await needsApproval.call(tool, context, args, callId)) return true
      return asks(guard, name, args)
    },
    async invoke(context: RunContext, input: string, details?: Details) {
      const sent = argumentsOf(input)
      const refused = (refusal: Refusal): string => refusal.toModelMessage()
      return pass(
        guard,
        name,
        sent,
        () => asAsked(guard, name, sent, details, () => invoke.call(tool, context, input, details as never)),
        refused,
        details?.signal,
      )
    },
  }
}

/** What the SDK tells a tool of its call. Under a symbol it has what is to be called with the arguments once they are parsed. */
type Details = { readonly signal?: AbortSignal } & Record<symbol, unknown>

const PARSED = 'openai.agents.functionToolParsedInputCallback'

/**
 * Runs a tool on the arguments that the gates were asked about. A schema may make others of them, by a default or a
 * transform: then the body does not run before the gates were asked about those as well.
 */
async function asAsked<T>(
  guard: ToolGuard,
  name: string,
  asked: unknown,
  details: Details | undefined,
  invoke: () => Promise<T>,
): Promise<T> {
  const key = Object.getOwnPropertySymbols(details ?? {}).find(({ description }) => description === PARSED)
  const told = key === undefined ? undefined : (details![key] as ((parsed: unknown) => void) | undefined)
  if (key === undefined || typeof told !== 'function') return invoke()
  let expected = textOf(asked)
  const seen: { other: { readonly args: unknown } | undefined } = { other: undefined }
  details![key] = (parsed: unknown) => {
    if (textOf(parsed) === expected) return told(parsed)
    seen.other = { args: parsed }
    throw new Error('These are not the arguments that were asked about.')
  }
  const ended = await outcomeOf(invoke)
  if (seen.other === undefined) return ended()
  const { args } = seen.other
  expected = textOf(args)
  seen.other = undefined
  // Its counters are held around this; of the arguments alone there is nothing to count.
  return payingScope(guard.source).run({ kind: 'tool', resource: name, args: args ?? null, worst: {} }, async () => {
    const again = await outcomeOf(invoke)
    if (seen.other !== undefined)
      throw new TypeError(`\`${name}\` makes other arguments of the same ones each time, so no rule can be asked about them.`)
    return again()
  })
}

/** How a call ended, to be looked at before it counts. */
async function outcomeOf<T>(call: () => Promise<T>): Promise<() => T> {
  try {
    const result = await call()
    return () => result
  } catch (error) {
    return () => {
      throw error
    }
  }
}

/** Arguments as one text; those that have none, such as dates and functions, are never the same as others. */
function textOf(args: unknown): string | undefined {
  try {
    return canonicalJson(args, { dropUndefined: true })
  } catch {
    return undefined
  }
}

/** Whether a person has to approve a call, as far as it is known before it is made. */
async function asks({ source }: ToolGuard, name: string, args: unknown): Promise<boolean> {
  try {
    const refusal = await payingScope(source).decide({ kind: 'tool', resource: name, args: args ?? null })
    return refusal?.code === 'ERR_APPROVAL_REQUIRED'
  } catch (error) {
    // No scope, or no answer: the call itself is asked about again, and refused.
    if (findRefusal(error) !== undefined) return false
    throw error
  }
}

/** Asks the gates, runs the tool, settles what was held for it. A refusal, also from inside of it, is its answer. */
async function pass<T>(
  { source, toolAmounts }: ToolGuard,
  name: string,
  args: unknown,
  body: () => Promise<T>,
  refused: (refusal: Refusal) => T,
  signal?: AbortSignal,
): Promise<T> {
  const note: { refusal: Refusal | undefined } = { refusal: undefined }
  try {
    const action = { kind: 'tool' as const, resource: name, args: args ?? null, worst: toolWorst(name, toolAmounts) }
    const result = await payingScope(source).run(action, () => inside.run(note, body), undefined, undefined, { signal })
    return note.refusal !== undefined && isMadeOf(result, note.refusal) ? refused(note.refusal) : result
  } catch (error) {
    const refusal = findRefusal(error)
    if (refusal === undefined) throw error
    return refused(refusal)
  }
}

/** What the SDK says of any error of a tool that has no `errorFunction`: of a refusal it would be the wrong advice. */
const SDK_ERROR = 'An error occurred while running the tool. Please try again.'

/** Whether what a tool answered is the SDK's text for a refusal inside of it, and not what the tool made of that. */
function isMadeOf(result: unknown, { message }: Refusal): boolean {
  return typeof result === 'string' && (result === SDK_ERROR || result.includes(message))
}

/** Like the SDK: what the model sent. What is no JSON, no rule on arguments can be sure of. */
function argumentsOf(input: string): unknown {
  try {
    return JSON.parse(input) as unknown
  } catch {
    return input
  }
}

/** What the SDK shows of an error of these tools is its message. */
function asError(refusal: Refusal): never {
  throw new Error(refusal.toModelMessage(), { cause: refusal })
}

function shellMembers({ name, shell, needsApproval }: ShellTool, guard: ToolGuard): object | undefined {
  // A shell in a container of the provider.
  if (shell === undefined) return undefined
  return {
    shell: { run: (action: Parameters<typeof shell.run>[0]) => pass(guard, name, action, () => shell.run(action), asError) },
    needsApproval: async (...args: Parameters<typeof needsApproval>) => (await needsApproval(...args)) || asks(guard, name, args[1]),
  }
}

function editorMembers({ name, editor, needsApproval }: ApplyPatchTool, guard: ToolGuard): object {
  const gated = <R>(operation: object, edit: () => Promise<R>): Promise<R> => pass(guard, name, operation, edit, asError)
  const behind: typeof editor = {
    createFile: (operation, context) => gated(operation, () => editor.createFile(operation, context)),
    updateFile: (operation, context) => gated(operation, () => editor.updateFile(operation, context)),
    deleteFile: (operation, context) => gated(operation, () => editor.deleteFile(operation, context)),
  }
  return {
    editor: behind,
    needsApproval: async (...args: Parameters<typeof needsApproval>) => (await needsApproval(...args)) || asks(guard, name, args[1]),
  }
}
