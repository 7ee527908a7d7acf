// Agents of LangChain on a bench of the integration suite, for tests of one part.

import { BaseChatModel, type BaseChatModelParams } from '@langchain/core/language_models/chat_models'
import { AIMessage, type BaseMessage } from '@langchain/core/messages'
import type { ChatResult } from '@langchain/core/outputs'
import { type ChatOpenAI, type ChatOpenAIFields } from '@langchain/openai'
import { tool, type ReactAgent } from 'langchain'
import { z } from 'zod'
import { guardAgent, type GuardAgentOptions } from '../../integrations/langchain.ts'
import { SUITE_MODEL, type Bench } from '../../src/testing/integration-bench.ts'
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
  return guardAgent({ model: rawModel(bench), scope: bench.scope, ...options }) as unknown as ReactAgent
}

/** Types and texts of messages. */
export const texts = ({
  messages,
}: {
  readonly messages: readonly { getType(): string; readonly text: string }[]
}): readonly (readonly [string, string])[] => messages.map((message) => [message.getType(), message.text] as const)

/** An answer that says what it used. */
export function answerUsing(input: number, output: number): AIMessage {
  return Object.assign(new AIMessage('done'), {
    usage_metadata: { input_tokens: input, output_tokens: output, total_tokens: input + output },
  })
}

/** Fields of {@link UnseenModel}. */
export interface UnseenFields extends BaseChatModelParams {
  readonly model?: string
  readonly maxTokens?: number
  /** What it answers to these messages, or throws. */
  readonly answer?: (messages: readonly BaseMessage[], options: Readonly<Record<string, unknown>>) => AIMessage
}

/** A model of somebody else: no HTTP of it is seen. */
export class UnseenModel extends BaseChatModel {
  static made = 0
  readonly model: string
  readonly maxTokens: number | undefined
  readonly fields: UnseenFields
  constructor(fields: UnseenFields = {}) {
    super(fields)
    UnseenModel.made += 1
    this.fields = fields
    this.model = fields.model ?? SUITE_MODEL
    this.maxTokens = fields.maxTokens
  }
  override bindTools(_tools: unknown, options?: object): ReturnType<BaseChatModel['withConfig']> {
    return this.withConfig(options ?? {})
  }
  override _llmType(): string {
    return 'unseen'
  }
  override async _generate(messages: BaseMessage[], options: this['ParsedCallOptions']): Promise<ChatResult> {
    const answer = this.fields.answer ?? (() => answerUsing(20, 50))
    const message = answer(messages, options)
    return { generations: [{ message, text: message.text }] }
  }
}

/** What such a model throws when it was answered with this status. */
export function failing(status: number): () => never {
  return () => {
    throw Object.assign(new Error('it failed'), { status })
  }
}
