// Handoffs of LangGraph (a `Command` to another agent's node, supervisor, swarm) as handoffs of holdfast: the agent's
// node runs on money that was moved for it, under rules that can only narrow, and what is left comes back when the
// node ends. A handoff tool asks first, so that one that does not fit is an answer to the model and no command.

import { ToolNode } from '@langchain/langgraph/prebuilt'
import { findRefusal } from '../../src/lib/errors.ts'
import type { Handoff, HandoffRequest } from '../../src/waist/handoff.ts'
import type { Scope, ScopeSource } from '../../src/waist/scope.ts'
import { close, currentPlace, keepForNode, startsOn, type Place } from './run.ts'
import { isParentCommand, type TaskConfig } from './task.ts'
import { answer, twin, withCalls, type AnyTool } from './twin.ts'
import { scopeOf } from '../common/scope-source.ts'

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

const GUARDED = Symbol('holdfast.handoff')

/**
 * Where a handoff tool moves money: in the run of the graph with that agent, which an agent of it may be inside of.
 *
 * @throws {TypeError} When none of the graphs around hands to that agent. What the tool makes is in the memory of one
 *   run: started again, by a retry or a resume, the node would work as whoever handed off, without limits of its own.
 */
function placeWith(to: string): Place | undefined {
  const current = currentPlace()
  for (let place = current; place !== undefined; place = place.run.around) if (Object.hasOwn(place.run.handoffs, to)) return place
  if (current === undefined) return undefined
  const option = `\`handoffs: { ${JSON.stringify(to)}: { budget: … } }\``
  current.run.misuse = new TypeError(`The guarded graph does not know what \`${to}\` gets whenever it starts: add ${option} to guardGraph.`)
  throw current.run.misuse
}

/**
 * Runs the node of an agent on a handoff: the one that a handoff tool made for it, or a new one.
 *
 * @throws {Refusal} When the handoff does not fit; the node did not start.
 */
export async function runOnHandoff<T>(
  to: string,
  options: GraphHandoff | undefined,
  input: unknown,
  { signal }: TaskConfig,
  fn: () => Promise<T>,
): Promise<T> {
  if (options === undefined) return fn()
  const place = currentPlace()
  const giver = place?.run.scope ?? scopeOf(undefined)
  signal?.throwIfAborted()
  const handoff = startsOn(place, to) ?? (await giver.handoff(requestOf(to, options, textOf(input)), { signal }))
  try {
    // Its caller may have left while it waited for money; nobody would stop it any more.
    signal?.throwIfAborted()
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
 * has that agent in its `handoffs`. What it moved comes back when its task fails or is attempted again, and when no
 * node has started on it in the next step of the graph.
 *
 * @param source - Used outside of a guarded graph, where it asks the gates and moves nothing.
 * @throws {TypeError} When the options have rules, which belong in `handoffs`, and for what is no tool.
 */
export function guardHandoffTool<T extends object>(tool: T, source: ScopeSource, { to, ...options }: HandoffToolOptions): T {
  if ('rules' in options)
    throw new TypeError(`Rules for \`${to}\` have to hold whenever it starts: put them in the \`handoffs\` of guardGraph.`)
  const guarded = withCalls(tool as AnyTool, async (call) => {
    const { tool: given, config, body } = call
    const { signal } = config
    signal?.throwIfAborted()
    const place = placeWith(to)
    let handoff: Handoff | undefined
    try {
      const text = `Asked for by ${given.name}.`
      if (place === undefined) await assertAllowed(scopeOf(source), to, options.instruction ?? text)
      else handoff = await place.run.scope.handoff(requestOf(to, { ...place.run.handoffs[to]!, ...options }, text), { signal })
    } catch (error) {
      const refusal = findRefusal(error)
      if (refusal === undefined) throw error
      return answer(call, refusal.toModelMessage(), 'error')
    }
    return handoff === undefined ? body() : commanding(body, to, handoff, place!)
  })
  if (guarded === undefined)
    throw new TypeError(`Expected a tool that hands to \`${to}\`: of \`tool(…)\`, a \`StructuredTool\`, or a runnable as a tool.`)
  return Object.defineProperty(guarded, GUARDED, { value: true }) as unknown as T
}

async function assertAllowed(scope: Scope, to: string, instruction: string): Promise<void> {
  const refusal = await scope.decide({ kind: 'handoff', resource: to, args: { to, instruction } })
  if (refusal !== undefined) throw refusal
}

/** Gives the command, and keeps the handoff for the node; a tool that fails, or thinks better of it, gives none. */
async function commanding(fn: () => unknown, to: string, handoff: Handoff, place: Place): Promise<unknown> {
  try {
    const result = await fn()
    const commands = [result].flat().some((part) => (part as { lg_name?: unknown } | null | undefined)?.lg_name === 'Command')
    if (!commands || !keepForNode(place, to, handoff)) await close(handoff, place.run.scope)
    return result
  } catch (error) {
    if (!isParentCommand(error) || !keepForNode(place, to, handoff)) await close(handoff, place.run.scope)
    throw error
  }
}

/** The agent that a tool hands off to: swarm says so in the metadata of the tool, supervisor in its name only. */
function destinationOf(tool: object, agents: readonly string[]): string | undefined {
  const { name, metadata, invoke } = tool as { name?: unknown; metadata?: Readonly<Record<string, unknown>>; invoke?: unknown }
  if (typeof invoke !== 'function' || GUARDED in tool) return undefined
  const toolName = (agent: string): string => `transfer_to_${agent.trim().replaceAll(/\s+/g, '_').toLowerCase()}`
  return agents.find((agent) => metadata?.['__handoff_destination'] === agent || name === toolName(agent))
}

/** A tool node whose handoff tools are guarded; any other runnable as it is. */
export function guardHandoffTools<T extends object>(runnable: T, handoffs: Readonly<Record<string, GraphHandoff>>): T {
  const { tools } = runnable as { readonly tools?: unknown }
  if (!Array.isArray(tools) || typeof (runnable as { runTool?: unknown }).runTool !== 'function') return runnable
  const agents = Object.keys(handoffs)
  const guarded = (tools as object[]).map((tool) => {
    const to = destinationOf(tool, agents)
    return to === undefined ? tool : guardHandoffTool(tool, undefined, { to })
  })
  if (guarded.every((tool, index) => tool === tools[index])) return runnable
  if (!(runnable instanceof ToolNode)) return remade(runnable, guarded)
  // A copy, since the constructor of a class of its own may want something else. The function of a tool node is bound
  // to the node that it was made for.
  const copy = twin(runnable, {})
  return Object.assign(copy, { tools: guarded, func: (input: unknown, config: unknown) => copy['run'](input, config as never) })
}

/** The tool node of `createAgent` cannot be copied, since it has private members. Nobody can have a class of its own of it. */
function remade<T extends object>(runnable: T, tools: readonly object[]): T {
  const { options, name, tags, handleToolErrors } = runnable as Partial<Record<string, unknown>>
  const Class = runnable.constructor as new (tools: readonly object[], options: object) => T
  const made = new Class(tools, { ...(options as object | undefined), name, tags, handleToolErrors })
  if ((made as { readonly tools?: unknown }).tools === tools) return made
  throw new TypeError(
    `The handoff tools of the tool node \`${String(name)}\` cannot be guarded: make it of the ToolNode of @langchain/langgraph.`,
  )
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
