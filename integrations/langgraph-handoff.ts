// Handoffs of LangGraph (a `Command` to another agent's node, supervisor, swarm) as handoffs of holdfast: the agent's
// node runs on money that was moved for it, under rules that can only narrow, and what is left comes back when the
// node ends. A handoff tool asks first, so that one that does not fit is an answer to the model and no command.

import { AsyncLocalStorage } from 'node:async_hooks'
import { ToolMessage } from '@langchain/core/messages'
import { findRefusal } from '../src/lib/errors.ts'
import type { Handoff, HandoffRequest } from '../src/waist/handoff.ts'
import type { Scope, ScopeSource } from '../src/waist/scope.ts'
import { isBubbleUp, type TaskConfig } from './langgraph-task.ts'
import { CALL, twin } from './langgraph-tools.ts'
import { scopeOf } from './scope-source.ts'

/** What an agent of a graph is handed when its node starts. The scope of the graph may not have the agent's name. */
export interface GraphHandoff extends Omit<HandoffRequest, 'to' | 'instruction'> {
  /** What to do, for the record of the handoff. @default the text of the last message that the node is given */
  readonly instruction?: string
}

/**
 * Options of {@link guardHandoffTool}: they stand before those of `handoffs`, for the handoff that this tool makes. Of
 * a node that is retried or resumed the tool does not run again, so what it starts with then is in `handoffs` alone.
 * Rules must hold then as well, so they are only there.
 */
export interface HandoffToolOptions extends Partial<Omit<GraphHandoff, 'rules'>> {
  /** Node of the agent that takes over. */
  readonly to: string
}

/** One invocation of a guarded graph. */
export interface GraphRun {
  /** Agents that it hands to, by the name of their node. */
  readonly handoffs: Readonly<Record<string, GraphHandoff>>
  /** Of the guarded graph around it. */
  readonly around: GraphRun | undefined
  /** Hands off: what its agents get comes out of this scope's budget. */
  readonly scope: Scope
  /** Made by a handoff tool, for a node that has not started yet; by the name of the node. */
  readonly made: Map<string, Handoff[]>
  /** It is over: what a tool that is still at work makes for a node will not be picked up. */
  ended: boolean
  /** Thrown to its caller: a tool node makes an answer to the model of what a tool throws, and this is not for it. */
  misuse: TypeError | undefined
}

const runs = new AsyncLocalStorage<GraphRun>()
const GUARDED = Symbol('holdfast.handoff')

/** The run of the guarded graph around the current task. */
export function currentGraphRun(): GraphRun | undefined {
  return runs.getStore()
}

/**
 * The run that a handoff tool moves money in: of the graph with that agent, which an agent of it may be inside of.
 *
 * @throws {TypeError} When none of the graphs around hands to that agent. What the tool makes is in the memory of one
 *   run: started again, by a retry or a resume, the node would work as whoever handed off, without limits of its own.
 */
function runWith(to: string): GraphRun | undefined {
  const current = currentGraphRun()
  for (let run = current; run !== undefined; run = run.around) if (Object.hasOwn(run.handoffs, to)) return run
  if (current === undefined) return undefined
  const option = `\`handoffs: { ${JSON.stringify(to)}: { budget: … } }\``
  current.misuse = new TypeError(`The guarded graph does not know what \`${to}\` gets whenever it starts: add ${option} to guardGraph.`)
  throw current.misuse
}

/** Runs `fn` as an invocation of a guarded graph. */
export function inGraphRun<T>(run: GraphRun, fn: () => T): T {
  return runs.run(run, fn)
}

/** Brings back what was moved for nodes that never started. */
export async function closeUnused(run: GraphRun): Promise<void> {
  run.ended = true
  const { made, scope } = run
  for (const handoff of [...made.values()].flat()) await close(handoff, scope)
  made.clear()
}

/**
 * Runs the node of an agent on a handoff: the one that a handoff tool made for it, or a new one.
 *
 * @throws {Refusal} When the handoff does not fit; the node did not start.
 */
export async function runOnHandoff<T>(to: string, options: GraphHandoff | undefined, input: unknown, fn: () => Promise<T>): Promise<T> {
  if (options === undefined) return fn()
  const run = currentGraphRun()
  const giver = run?.scope ?? scopeOf(undefined)
  const handoff = run?.made.get(to)?.shift() ?? (await giver.handoff(requestOf(to, options, textOf(input))))
  try {
    return await handoff.scope.enter(fn)
  } finally {
    await close(handoff, giver)
  }
}

/**
 * Puts a handoff tool (`transfer_to_…` of supervisor and swarm, or one of yours that returns a `Command`) behind the
 * budget: in a graph of `guardGraph` the money is moved before the command is given, and the agent's node starts
 * with it. What does not fit is a `ToolMessage` with `status: 'error'`, and the command is never given.
 *
 * `guardGraph({ handoffs })` does this by itself for the handoff tools that it finds in tool nodes of the graph and
 * of the subgraphs that are its nodes; by hand it is for tools with other names. It asks no rules on tools: put
 * `guardTools` around it for those. The tool throws a `TypeError` when it is called in guarded graphs of which none
 * has that agent in its `handoffs`.
 *
 * @param source - Used outside of a guarded graph, where it asks the gates and moves nothing.
 * @throws {TypeError} When the options have rules, which belong in `handoffs`.
 */
export function guardHandoffTool<T extends object>(tool: T, source: ScopeSource, { to, ...options }: HandoffToolOptions): T {
  if ('rules' in options)
    throw new TypeError(`Rules for \`${to}\` have to hold whenever it starts: put them in the \`handoffs\` of guardGraph.`)
  const given = tool as { readonly name: string; [CALL](args: unknown, manager: unknown, config?: TaskConfig): unknown }
  const guarded = twin(given, {
    async [CALL](args: unknown, manager: unknown, config?: TaskConfig) {
      const run = runWith(to)
      let handoff: Handoff | undefined
      try {
        const text = `Asked for by ${given.name}.`
        if (run === undefined) await assertAllowed(scopeOf(source), to, options.instruction ?? text)
        else handoff = await run.scope.handoff(requestOf(to, { ...run.handoffs[to]!, ...options }, text))
      } catch (error) {
        const refusal = findRefusal(error)
        if (refusal === undefined) throw error
        const id = config?.toolCall?.id
        const content = refusal.toModelMessage()
        return id === undefined ? content : new ToolMessage({ content, status: 'error', tool_call_id: id, name: given.name })
      }
      return commanding(() => given[CALL](args, manager, config), to, handoff, run)
    },
  })
  return Object.defineProperty(guarded, GUARDED, { value: true }) as unknown as T
}

async function assertAllowed(scope: Scope, to: string, instruction: string): Promise<void> {
  const refusal = await scope.decide({ kind: 'handoff', resource: to, args: { to, instruction } })
  if (refusal !== undefined) throw refusal
}

/** Gives the command, and keeps the handoff for the node; a tool that fails, or thinks better of it, gives none. */
async function commanding(fn: () => unknown, to: string, handoff: Handoff | undefined, run: GraphRun | undefined): Promise<unknown> {
  try {
    const answer = await fn()
    const commands = [answer].flat().some((part) => (part as { lg_name?: unknown } | null | undefined)?.lg_name === 'Command')
    if (handoff !== undefined && (!commands || run!.ended)) await close(handoff, run!.scope)
    else if (handoff !== undefined) run!.made.set(to, [...(run!.made.get(to) ?? []), handoff])
    return answer
  } catch (error) {
    if (handoff !== undefined) await close(handoff, run!.scope)
    throw error
  }
}

/** The agent that a tool hands off to: swarm says so in the metadata of the tool, supervisor in its name only. */
function destinationOf(tool: object, agents: readonly string[]): string | undefined {
  const { name, metadata, [CALL]: call } = tool as { name?: unknown; metadata?: Readonly<Record<string, unknown>>; [CALL]?: unknown }
  if (typeof call !== 'function' || GUARDED in tool) return undefined
  const toolName = (agent: string): string => `transfer_to_${agent.trim().replaceAll(/\s+/g, '_').toLowerCase()}`
  return agents.find((agent) => metadata?.['__handoff_destination'] === agent || name === toolName(agent))
}

/** A tool node whose handoff tools are guarded; any other runnable as it is. */
export function guardHandoffTools<T extends object>(runnable: T, handoffs: Readonly<Record<string, GraphHandoff>>): T {
  const { tools, options, name, tags, handleToolErrors } = runnable as Partial<Record<string, unknown>>
  if (!Array.isArray(tools) || typeof (runnable as { runTool?: unknown }).runTool !== 'function') return runnable
  const agents = Object.keys(handoffs)
  const guarded = (tools as object[]).map((tool) => {
    const to = destinationOf(tool, agents)
    return to === undefined ? tool : guardHandoffTool(tool, undefined, { to })
  })
  if (guarded.every((tool, index) => tool === tools[index])) return runnable
  // Made anew, since the function of a tool node is bound to the node that it was made for.
  const ToolNode = runnable.constructor as new (tools: object[], options: object) => T
  return new ToolNode(guarded, { ...(options as object | undefined), name, tags, handleToolErrors })
}

function requestOf(to: string, { instruction, ...rest }: GraphHandoff, text: string): HandoffRequest {
  return { ...rest, to, instruction: instruction ?? text }
}

/** Most of a message that is taken for the instruction, in UTF-16 code units. */
const MAX_INSTRUCTION = 10_000

function textOf(input: unknown): string {
  const messages = (input as { messages?: unknown } | null | undefined)?.messages
  const last: unknown = Array.isArray(messages) ? messages.at(-1) : undefined
  const text = (last as { text?: unknown } | undefined)?.text
  return typeof text === 'string' && text.trim() !== '' ? text.slice(0, MAX_INSTRUCTION).toWellFormed() : 'Take over from here.'
}

/** The work is done and paid for: that the store did not take the closing must not lose it. */
async function close(handoff: Handoff, giver: Scope): Promise<void> {
  try {
    await handoff.close()
  } catch (error) {
    if (isBubbleUp(error)) throw error
    const message = `The handoff to \`${handoff.scope.agent}\` could not be closed, so what is left of \`${handoff.scope.budget}\` did not come back: ${String(error)}`
    giver.report({ type: 'escape', message })
  }
}
