// What a tool answers, in a form that a receipt can keep. LangGraph's own serializer writes it, the one that the
// checkpointer uses for the state: messages with artifacts and commands come back as what they were.

import { Command, Send } from '@langchain/langgraph'
import type { Saver } from './langgraph-task.ts'

/** A kept result. */
export type Kept = { readonly type: string; readonly text: string } | { readonly type: string; readonly base64: string }

/** Writes a result; `undefined` for what no serializer can write, which is then not kept. */
export async function keep(result: unknown, { serde }: Saver): Promise<Kept | undefined> {
  try {
    const [type, bytes] = await serde.dumpsTyped(result)
    return type === 'json' ? { type, text: new TextDecoder().decode(bytes) } : { type, base64: Buffer.from(bytes).toString('base64') }
  } catch {
    // The call has been made, and its answer is at hand; that it cannot be kept matters only to a later one.
    return undefined
  }
}

/** Reads a kept result; `undefined` when there is none that can be read. */
export async function restore(kept: unknown, { serde }: Saver): Promise<{ readonly result: unknown } | undefined> {
  const { type, text, base64 } = (kept ?? {}) as Partial<Record<'type' | 'text' | 'base64', string>>
  if (type === undefined) return undefined
  try {
    return { result: revived(await serde.loadsTyped(type, text ?? Buffer.from(base64 ?? '', 'base64'))) }
  } catch {
    // Written by another serializer, or another key. The effect is done all the same, and must not happen again.
    return undefined
  }
}

/** Commands and sends come back as plain objects, which LangGraph takes in some places and not in others. */
function revived(result: unknown): unknown {
  if (Array.isArray(result)) return result.map(revived)
  const command = result as { lg_name?: unknown; goto?: unknown } | null
  if (typeof command !== 'object' || command?.lg_name !== 'Command') return result
  const goto = [command.goto ?? []].flat().map((target) => {
    const { node, args } = target as Partial<Send>
    return typeof target === 'string' ? target : new Send(node!, args)
  })
  return new Command({ ...(command as ConstructorParameters<typeof Command>[0]), goto })
}
