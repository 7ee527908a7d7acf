// Agents of LangChain on a bench of the integration suite, for tests of one part.

import { type ChatOpenAI, type ChatOpenAIFields } from '@langchain/openai'
import { tool, type ReactAgent } from 'langchain'
import { z } from 'zod'
import { guardAgent, type GuardAgentOptions } from '../../integrations/langchain.ts'
import type { Bench } from '../../src/testing/integration-bench.ts'
import type { ProviderAnswer } from '../../src/testing/provider.ts'
import { chatModel } from './langchain-adapters.ts'

/** A message to an agent. */
export const HI = { messages: [{ role: 'user' as const, content: 'hello there' }] }
/** The model asks for `add` once, then answers. */
export const ASKS: ProviderAnswer = { toolCalls: [{ name: 'add', arguments: { a: 1, b: 2 } }] }
export const DONE: ProviderAnswer = { text: 'done' }
export const TURNS: readonly ProviderAnswer[] = [ASKS, DONE]

/** A model on the provider of a bench, without holdfast. */
export function rawModel({ provider }: Bench, more: ChatOpenAIFields = {}): ChatOpenAI {
  return chatModel({ baseURL: provider.baseURL, maxRetries: 0 }, { maxOutputTokens: 50 }, more)
}

/** The fields that a model was made of. */
export const fieldsOf = (model: ChatOpenAI): ChatOpenAIFields => (model as unknown as { readonly fields: ChatOpenAIFields }).fields

/** A tool `add`. */
export function adding(run: (args: { a: number; b: number }) => unknown = ({ a, b }) => String(a + b)) {
  return tool(async (args) => run(args), { name: 'add', description: 'adds', schema: z.object({ a: z.number(), b: z.number() }) })
}

/** A guarded agent on a bench. */
export function agentOn(bench: Bench, options: Partial<GuardAgentOptions> = {}): ReactAgent {
  return guardAgent({ model: rawModel(bench), scope: bench.scope, ...options })
}

/** Types and texts of messages. */
export const texts = ({
  messages,
}: {
  readonly messages: readonly { getType(): string; readonly text: string }[]
}): readonly (readonly [string, string])[] => messages.map((message) => [message.getType(), message.text] as const)
