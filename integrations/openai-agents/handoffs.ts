// Handoffs of the Agents SDK as handoffs of holdfast: before an agent takes over, money is moved for it; its calls are
// paid from that; what is left comes back when it hands on, or the run ends. One that does not fit is not made: the
// agent that wanted it stays at work, is told why, and is not offered it again in this run.

import { findRefusal } from '../../src/lib/errors.ts'
import type { Handoff, HandoffRequest } from '../../src/waist/handoff.ts'
import type { Scope } from '../../src/waist/scope.ts'
import type { Frame } from './frame.ts'

/** What an agent is handed when it takes over. */
export interface AgentHandoff extends Omit<HandoffRequest, 'to' | 'instruction'> {
  /** What to do, for the record of the handoff. @default 'Take over from here.' */
  readonly instruction?: string
}

/** By the name of the agent that takes over. */
export type AgentHandoffs = Readonly<Record<string, AgentHandoff>>

/**
 * Puts an agent to work: one that has worked before in this run goes on with what it had, one with a budget of its own
 * gets it out of that of who hands over, any other spends from that.
 *
 * @returns False when its budget did not fit; everything is as it was.
 * @throws {TypeError} {RangeError} For an option that cannot be understood.
 */
export async function takeOver(frame: Frame, agent: string, handoffs: AgentHandoffs): Promise<boolean> {
  const before = frame.steps.findIndex((step) => step.agent === agent)
  if (before >= 0) {
    await closeFrom(frame, before + 1)
    return true
  }
  try {
    await start(frame, agent, handoffs)
    return true
  } catch (error) {
    const refusal = findRefusal(error)
    if (refusal === undefined) throw error
    frame.refused.set(agent, refusal.toModelMessage())
    return false
  }
}

/** @throws {Refusal} When its budget does not fit. */
export async function start(frame: Frame, agent: string, handoffs: AgentHandoffs): Promise<void> {
  const { scope } = frame.steps.at(-1)!
  if (!Object.hasOwn(handoffs, agent)) {
    frame.steps.push({ agent, scope, handoff: undefined })
    return
  }
  const { instruction = 'Take over from here.', ...request } = handoffs[agent]!
  const handoff = await scope.handoff({ ...request, instruction, to: agent })
  frame.steps.push({ agent, scope: handoff.scope, handoff })
}

/** Ends the work of all agents from this one on, the last first. */
export async function closeFrom({ steps }: Frame, index: number): Promise<void> {
  for (const { handoff, scope } of steps.splice(index).toReversed()) if (handoff !== undefined) await close(handoff, scope)
}

/** The answer was paid for: it is given whether the store answers now or not. */
async function close(handoff: Handoff, receiver: Scope): Promise<void> {
  try {
    await handoff.close()
  } catch (error) {
    const message = `Handoff \`${handoff.id}\` could not be closed, so its budget is still out; close it again. ${String(error)}`
    receiver.report({ type: 'escape', message })
  }
}
