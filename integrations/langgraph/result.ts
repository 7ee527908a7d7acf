// How a tool ended, in a form that a receipt can keep. LangGraph's own serializer writes it, the one that the
// checkpointer uses for the state: messages with artifacts and commands come back as what they were.

import { ToolMessage } from '@langchain/core/messages'
import { Command, ParentCommand, Send, isCommand } from '@langchain/langgraph'
import type { Saver } from './task.ts'

/** How a tool ended: with a result, or with a command for a graph further out, which travels as an error. */
export type Ending = { readonly result: unknown } | { readonly command: ParentCommand }

/** A kept ending. */
export type Kept = ({ readonly type: string; readonly text: string } | { readonly type: string; readonly base64: string }) & {
  readonly thrown: boolean
  /** Of the call that it answered. */
  readonly callId?: string
  /** Where the commands of it go, which LangGraph leaves out when it writes them; for each part of a list of results. */
  readonly graphs?: readonly (string | null)[]
}

/** Deepest in a result that messages are looked for. */
const MAX_DEPTH = 8

/** What the tool's caller gets. */
export function conclude(ending: Ending): unknown {
  if ('command' in ending) throw ending.command
  return ending.result
}

/** Writes an ending; `undefined` for what no serializer can write, which is then not kept. */
export async function keep(ending: Ending, callId: string | undefined, { serde }: Saver): Promise<Kept | undefined> {
  const thrown = 'command' in ending
  const result = thrown ? ending.command.command : ending.result
  try {
    const [type, bytes] = await serde.dumpsTyped(result)
    const graphs = [result].flat().map((part) => (isCommand(part) ? (part.graph ?? null) : null))
    const about = {
      type,
      thrown,
      ...(callId === undefined ? {} : { callId }),
      ...(graphs.every((graph) => graph === null) ? {} : { graphs }),
    }
    return type === 'json'
      ? { ...about, text: new TextDecoder().decode(bytes) }
      : { ...about, base64: Buffer.from(bytes).toString('base64') }
  } catch {
    // The call has been made, and its answer is at hand; that it cannot be kept matters only to a later one.
    return undefined
  }
}

/** Reads a kept ending as the answer to the call of now; `undefined` when there is none that can be read. */
export async function restore(kept: unknown, callId: string | undefined, { serde }: Saver): Promise<Ending | undefined> {
  const {
    type,
    text,
    base64,
    thrown,
    callId: before,
    graphs = [],
  } = (kept ?? {}) as Partial<Kept> & { readonly text?: string; readonly base64?: string }
  if (type === undefined) return undefined
  try {
    const result = revived(graphs, await serde.loadsTyped(type, text ?? Buffer.from(base64 ?? '', 'base64')))
    if (before !== undefined && callId !== undefined && before !== callId) readdress(result, before, callId)
    return thrown === true ? { command: new ParentCommand(result as Command) } : { result }
  } catch {
    // Written by another serializer, or another key. The effect is done all the same, and must not happen again.
    return undefined
  }
}

/** A kept message answers the call of its time, wherever it lies in a command; a provider wants an answer to the call of now. */
function readdress(value: unknown, from: string, to: string, depth = 0): void {
  if (typeof value !== 'object' || value === null || depth > MAX_DEPTH) return
  if (ToolMessage.isInstance(value)) {
    if (value.tool_call_id === from) value.tool_call_id = to
    return
  }
  for (const inner of Object.values(value)) readdress(inner, from, to, depth + 1)
}

/** Commands and sends come back as plain objects, which LangGraph takes in some places and not in others. */
function revived(graphs: readonly (string | null)[], result: unknown): unknown {
  if (Array.isArray(result)) return result.map((part, index) => revived([graphs[index] ?? null], part))
  const command = result as { lg_name?: unknown; goto?: unknown } | null
  if (typeof command !== 'object' || command?.lg_name !== 'Command') return result
  const goto = [command.goto ?? []].flat().map((target) => {
    const { node, args } = target as Partial<Send>
    return typeof target === 'string' ? target : new Send(node!, args)
  })
  const [graph] = graphs
  return new Command({ ...(command as ConstructorParameters<typeof Command>[0]), goto, ...(graph == null ? {} : { graph }) })
}
