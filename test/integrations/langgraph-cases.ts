// Tools and questions that the tests of resumed graphs have in common.

import { tool } from '@langchain/core/tools'
import { INTERRUPT, interrupt } from '@langchain/langgraph'
import { z } from 'zod'
import type { ApprovalQuestion } from '../../integrations/langgraph.ts'

/** Config of the one thread of a test. */
export const THREAD = { configurable: { thread_id: 'thread' } }
/** Options of tools that count what is sent. */
export const AMOUNTS = { amounts: { send: { sends: 1 } } }

/** A tool that sends, and counts. */
export function sendTool(work: (to: string) => unknown = (to) => `sent to ${to}`) {
  const sent: string[] = []
  const send = tool(
    async ({ to }) => {
      sent.push(to)
      return work(to)
    },
    { name: 'send', description: 'Sends.', schema: z.object({ to: z.string() }) },
  )
  return { send, sent }
}

/** A tool that asks a person by itself, as LangGraph's documentation shows it. */
export const confirm = tool(async ({ what }) => `confirmed ${what}: ${String(interrupt({ what }))}`, {
  name: 'confirm',
  description: 'Asks.',
  schema: z.object({ what: z.string() }),
})

/** What the first interrupt of a state asks. */
export const questionOf = (state: object): ApprovalQuestion => (state as { [INTERRUPT]: [{ value: ApprovalQuestion }] })[INTERRUPT][0].value

/** The id of the first interrupt of a state. */
export const idOf = (state: object): string => (state as { [INTERRUPT]: [{ id: string }] })[INTERRUPT][0].id
