// LangChain as the integration suite sees it: agents and models on a site, as a user of LangChain would write them.

import type { BaseChatModel } from '@langchain/core/language_models/chat_models'
import { AIMessageChunk, type BaseMessage } from '@langchain/core/messages'
import { ChatOpenAI, type ChatOpenAIFields } from '@langchain/openai'
import { createAgent, tool, type ReactAgent } from 'langchain'
import { guardAgent, guardModel, holdfastMiddleware } from '../../integrations/langchain.ts'
import {
  SUITE_MODEL,
  type CallOptions,
  type Calls,
  type IntegrationAdapter,
  type Site,
  type SuiteTools,
} from '../../src/testing/integration-bench.ts'
import { collect, defined } from './adapters.ts'

/** How LangChain is put under holdfast. */
export interface LangChainForm {
  readonly wire: 'chat' | 'responses'
  /** `agent` is `guardAgent`, `middleware` the middleware in `createAgent`, `model` a guarded model without an agent. */
  readonly by: 'agent' | 'middleware' | 'model'
}

const OBJECT = { type: 'object' as const, properties: {}, additionalProperties: true }

/** LangChain repeats a 429 only when its answer says after how long; the real ones say it. */
export const hinting: typeof fetch = async (input, init) => {
  const response = await fetch(input, init)
  if (response.status !== 429) return response
  const headers = { ...Object.fromEntries(response.headers), 'retry-after': '0' }
  return new Response(response.body, { status: 429, headers })
}

/** A model of LangChain on a site, without holdfast. */
export function chatModel(
  { baseURL, maxRetries, timeoutMs }: Pick<Site, 'baseURL' | 'maxRetries' | 'timeoutMs'>,
  { model = SUITE_MODEL, maxOutputTokens }: Partial<CallOptions>,
  more: ChatOpenAIFields = {},
): ChatOpenAI {
  return new ChatOpenAI({
    model,
    apiKey: 'test',
    maxRetries,
    configuration: { baseURL, logLevel: 'off', fetch: hinting },
    ...defined({ maxTokens: maxOutputTokens, timeout: timeoutMs }),
    ...more,
  })
}

/** Tools of the suite as those of LangChain. */
export function langChainTools(tools: SuiteTools) {
  return Object.entries(tools).map(([name, run]) =>
    tool(async (args: unknown) => run(args as Readonly<Record<string, unknown>>), { name, description: name, schema: OBJECT }),
  )
}

/** The text of the last message. */
export const lastText = ({ messages }: { readonly messages: readonly BaseMessage[] }): string => messages.at(-1)!.text

function agentOn(site: Site, form: LangChainForm, options: CallOptions & { readonly tools?: SuiteTools }): ReactAgent {
  const { guarded, scope, drainMs, toolAmounts } = site
  const model = chatModel(site, options, { useResponsesApi: form.wire === 'responses' })
  const tools = langChainTools(options.tools ?? {})
  const holdfast = defined({ drainMs, toolAmounts })
  if (!guarded) return createAgent({ model, tools })
  if (form.by === 'agent') return guardAgent({ model, tools, scope, holdfast })
  const middleware = [holdfastMiddleware(scope, { ...holdfast, tools: tools.length > 0 })]
  return createAgent({ model, tools, middleware })
}

/** Agents of LangChain. */
export function agentCalls(site: Site, form: LangChainForm): Calls {
  const input = ({ prompt }: CallOptions) => ({ messages: [{ role: 'user' as const, content: prompt }] })
  const run = (options: CallOptions & { readonly tools?: SuiteTools }) =>
    agentOn(site, form, options).invoke(input(options), defined({ signal: options.signal }))
  async function* chunks(options: CallOptions): AsyncGenerator<AIMessageChunk> {
    const settings = { ...defined({ signal: options.signal }), streamMode: 'messages' as const }
    for await (const [message] of await agentOn(site, form, options).stream(input(options), settings)) {
      if (message instanceof AIMessageChunk) yield message
    }
  }
  return {
    async generate(options) {
      const { messages } = await run(options)
      return { text: lastText({ messages }), raw: messages.map((message) => message.toDict()) }
    },
    async *stream(options) {
      for await (const chunk of chunks(options)) yield chunk.text
    },
    async parts(options) {
      return (await collect(chunks(options))).map((chunk) => chunk.toDict())
    },
    async runTools(options) {
      return lastText(await run(options))
    },
  }
}

/** Models of LangChain by themselves. */
export function modelCalls(modelOf: (options: CallOptions) => BaseChatModel): Calls {
  const open = (options: CallOptions) => modelOf(options).stream(options.prompt, defined({ signal: options.signal }))
  return {
    async generate(options) {
      const message = await modelOf(options).invoke(options.prompt, defined({ signal: options.signal }))
      return { text: message.text, raw: message.toDict() }
    },
    async *stream(options) {
      for await (const chunk of await open(options)) yield chunk.text
    },
    async parts(options) {
      return (await collect(await open(options))).map((chunk) => chunk.toDict())
    },
  }
}

function guardedModel(site: Site, { wire }: LangChainForm, options: CallOptions): ChatOpenAI {
  const model = chatModel(site, options, { useResponsesApi: wire === 'responses' })
  return site.guarded ? guardModel(model, site.scope, { drainMs: site.drainMs }) : model
}

/** The adapter of one way to use LangChain. */
export function langChainAdapter(name: string, form: LangChainForm): IntegrationAdapter {
  const byHand = form.by === 'model'
  return {
    name,
    streamRefusal: 'error',
    drains: true,
    leavesByBreak: true,
    ...(byHand ? { withoutTools: 'a model runs no tools; an agent does' } : {}),
    connect: (site) => (byHand ? modelCalls((options) => guardedModel(site, form, options)) : agentCalls(site, form)),
  }
}
