// Rows of docs/escapes.md that are open: ways around the guards that a program may take by mistake. Each is taken twice:
// as it is, where the alarm reports it, and with guardFetch under its client, where it is held and the alarm is silent.

import Anthropic from '@anthropic-ai/sdk'
import { createOpenAI } from '@ai-sdk/openai'
import { GoogleGenAI } from '@google/genai'
import { BaseRetriever } from '@langchain/core/retrievers'
import { Annotation, END, START, StateGraph } from '@langchain/langgraph'
import { Client, InMemoryTransport } from '@modelcontextprotocol/client'
import { Agent, OpenAIProvider, Runner } from '@openai/agents'
import { embed, generateText, tool as sdkTool, wrapLanguageModel } from 'ai'
import { createMiddleware, tool } from 'langchain'
import OpenAI from 'openai'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { guardSettings, holdfastMiddleware } from '../../integrations/ai-sdk.ts'
import { guardAgent } from '../../integrations/langchain.ts'
import { guardGraph } from '../../integrations/langgraph.ts'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import type { ProviderAnswer, ProviderRequest } from '../../src/testing/provider.ts'
import { escapesOf, onSite, watched, type EscapeSite } from './escape-site.ts'
import { googleRoot } from './google-bench.ts'
import { HI } from './langchain-bench.ts'
import { chatModel } from './langchain-adapters.ts'

type Fetch = typeof globalThis.fetch
/** With this `fetch` under the client that holdfast does not know, or with none. */
type Take = (site: EscapeSite, fetch?: Fetch) => Promise<unknown>
interface Way {
  readonly name: string
  readonly take: Take
  /** Of the provider. @default an echo */
  readonly script?: (request: ProviderRequest) => ProviderAnswer
}

const MODEL = 'gpt-4o-mini'
const BODY = { model: MODEL, max_completion_tokens: 9, messages: [{ role: 'user' as const, content: 'hello' }] }
const CALL = { prompt: 'hello', maxOutputTokens: 9, maxRetries: 0 }
const under = (fetch?: Fetch): { fetch?: Fetch } => (fetch === undefined ? {} : { fetch })

const post: Take = ({ provider }, fetch = globalThis.fetch) =>
  fetch(`${provider.baseURL}/chat/completions`, { method: 'POST', body: JSON.stringify(BODY) }).then((response) => response.text())
const clientOf = ({ provider }: EscapeSite, fetch?: Fetch): OpenAI =>
  new OpenAI({ apiKey: 'none', baseURL: provider.baseURL, maxRetries: 0, ...under(fetch) })
const ask: Take = (site, fetch) => clientOf(site, fetch).chat.completions.create(BODY)
const openaiOf = ({ provider }: EscapeSite, fetch?: Fetch) => createOpenAI({ apiKey: 'none', baseURL: provider.baseURL, ...under(fetch) })
const rawOf = (site: EscapeSite, fetch?: Fetch) => openaiOf(site, fetch).chat(MODEL)
const guardedOf = (site: EscapeSite) => wrapLanguageModel({ model: rawOf(site), middleware: holdfastMiddleware(site.scope) })
const agentOf = (site: EscapeSite, options: object) =>
  guardAgent({
    model: chatModel({ baseURL: site.provider.baseURL, maxRetries: 0 }, { maxOutputTokens: 50 }),
    scope: site.scope,
    ...options,
  }) as unknown as { invoke(input: object): Promise<unknown> }
const State = Annotation.Root({ sum: Annotation<number>() })
const graphOf = (run: () => Promise<unknown>) =>
  new StateGraph(State)
    .addNode('one', () => run().then(() => ({ sum: 1 })))
    .addEdge(START, 'one')
    .addEdge('one', END)
    .compile()

/** Asks for the tool `look` in its first answer, with these arguments. */
const looking =
  (args: unknown = {}) =>
  ({ index }: ProviderRequest): ProviderAnswer =>
    index === 0 ? { toolCalls: [{ name: 'look', arguments: args }] } : { text: 'done' }

/** A tool of LangChain that does this. */
const look = (run: () => Promise<unknown>) =>
  tool(() => run().then(() => 'seen'), { name: 'look', description: 'looks', schema: z.object({}) })

class Reranker extends BaseRetriever {
  lc_namespace = ['test']
  readonly #rank: () => Promise<unknown>
  constructor(rank: () => Promise<unknown>) {
    super()
    this.#rank = rank
  }
  override async _getRelevantDocuments() {
    await this.#rank()
    return []
  }
}

/** A server of MCP, up to what it sends: it asks its client to sample a message, and ends with the answer. */
async function sampled(sample: () => Promise<unknown>): Promise<unknown> {
  const [there, here] = InMemoryTransport.createLinkedPair()
  const client = new Client({ name: 'app', version: '1' }, { capabilities: { sampling: {} } })
  client.setRequestHandler('sampling/createMessage', async () => {
    await sample()
    return { role: 'assistant' as const, model: MODEL, content: { type: 'text' as const, text: 'done' } }
  })
  const answered = new Promise<unknown>((resolve) => {
    const onmessage = (message: unknown): void => {
      const { id, method } = message as { id?: number; method?: string }
      if (method === 'initialize') {
        const result = { protocolVersion: '2025-06-18', capabilities: {}, serverInfo: { name: 'harbour', version: '1' } }
        void there.send({ jsonrpc: '2.0', id: id!, result })
      } else if (id === 77) resolve(message)
    }
    Object.assign(there, { onmessage })
  })
  await there.start()
  await client.connect(here)
  const params = { messages: [{ role: 'user', content: { type: 'text', text: 'hello' } }], maxTokens: 9 }
  await there.send({ jsonrpc: '2.0', id: 77, method: 'sampling/createMessage', params })
  const answer = await answered
  await client.close()
  return answer
}

const WAYS: readonly Way[] = [
  { name: 'a framework that takes a fetch, and of which holdfast knows nothing', take: post },
  { name: 'a framework that takes a client of OpenAI', take: ask },
  {
    name: 'doGenerate of a raw model of the AI SDK',
    take: async (site, fetch) =>
      rawOf(site, fetch).doGenerate({ prompt: [{ role: 'user', content: [{ type: 'text', text: 'hello' }] }], maxOutputTokens: 9 }),
  },
  {
    name: 'a raw model of the AI SDK with telemetry switched off',
    take: (site, fetch) => generateText({ model: rawOf(site, fetch), telemetry: { isEnabled: false }, ...CALL }),
  },
  {
    name: 'an embedding of a raw provider of the AI SDK',
    take: (site, fetch) => embed({ model: openaiOf(site, fetch).embedding('text-embedding-3-small'), value: 'hello', maxRetries: 0 }),
  },
  {
    name: 'a raw model that repairs a call of a tool',
    take: (site, fetch) =>
      generateText({
        model: guardedOf(site),
        tools: { look: sdkTool({ inputSchema: z.object({}), execute: () => 'seen' }) },
        repairToolCall: async ({ toolCall }) => {
          await generateText({ model: rawOf(site, fetch), ...CALL })
          return { ...toolCall, input: '{}' }
        },
        ...CALL,
        maxOutputTokens: 50,
      }),
    script: looking('{"broken'),
  },
  {
    name: 'a raw client in a tool of the AI SDK',
    take: (site, fetch) => {
      const tools = { look: sdkTool({ inputSchema: z.object({}), execute: () => ask(site, fetch).then(() => 'seen') }) }
      return generateText(guardSettings(site.scope, { model: rawOf(site), tools, ...CALL, maxOutputTokens: 50 }))
    },
    script: looking(),
  },
  {
    name: 'a raw client in a tool of LangChain',
    take: (site, fetch) => agentOf(site, { tools: [look(() => ask(site, fetch))] }).invoke(HI),
    script: looking(),
  },
  {
    name: 'middleware of LangChain that does by itself what a tool would do',
    take: (site, fetch) => {
      const helpful = createMiddleware({
        name: 'helpful',
        wrapModelCall: async (request, handler) => (await post(site, fetch), handler(request)),
      })
      return agentOf(site, { middleware: [helpful] }).invoke(HI)
    },
  },
  {
    name: 'a model of LangChain outside of any run',
    take: ({ provider }, fetch) =>
      chatModel(
        { baseURL: provider.baseURL, maxRetries: 0 },
        { maxOutputTokens: 9 },
        { configuration: { baseURL: provider.baseURL, ...under(fetch) } },
      ).invoke('hello'),
  },
  { name: 'a reranker behind a retriever of LangChain', take: (site, fetch) => new Reranker(() => post(site, fetch)).invoke('hello') },
  {
    name: 'a raw client in a node of a graph',
    take: (site, fetch) =>
      guardGraph(
        graphOf(() => ask(site, fetch)),
        site.scope,
      ).invoke({}),
  },
  {
    name: 'fetch by itself in a node of a graph',
    take: (site, fetch) =>
      guardGraph(
        graphOf(() => post(site, fetch)),
        site.scope,
      ).invoke({}),
  },
  {
    name: 'a promise that a node leaves behind',
    take: async (site, fetch) => {
      let left: Promise<unknown> | undefined
      const leave = async () => {
        left = new Promise((resolve) => setTimeout(resolve, 1)).then(() => ask(site, fetch))
      }
      await guardGraph(graphOf(leave), site.scope).invoke({})
      await left
    },
  },
  {
    name: 'an agent of the Agents SDK on a runner that nobody guarded',
    take: (site, fetch) => {
      const modelProvider = new OpenAIProvider({ openAIClient: clientOf(site, fetch), useResponses: true })
      const agent = new Agent({ name: 'harbour', instructions: 'Count.', model: MODEL, modelSettings: { maxTokens: 50 } })
      return new Runner({ modelProvider, tracingDisabled: true }).run(agent, 'hello')
    },
  },
  {
    name: 'a client of Anthropic without holdfast',
    take: ({ provider }, fetch) =>
      new Anthropic({ apiKey: 'none', baseURL: provider.baseURL.replace(/\/v1$/, ''), maxRetries: 0, ...under(fetch) }).messages.create({
        model: 'claude-opus-4-8',
        max_tokens: 9,
        messages: [{ role: 'user', content: 'hello' }],
      }),
  },
  {
    name: 'a request of Gemini with a fetch of its own',
    take: (site, fetch) => {
      const client = new GoogleGenAI({ apiKey: 'none', httpOptions: { baseUrl: googleRoot(site.provider), fetch: guardFetch(site.scope) } })
      const httpOptions = { fetch: fetch ?? globalThis.fetch }
      return client.models.generateContent({ model: 'gemini-2.5-flash', contents: 'hello', config: { maxOutputTokens: 9, httpOptions } })
    },
  },
  { name: 'a model that answers the sampling of an MCP server', take: (site, fetch) => sampled(() => ask(site, fetch)) },
]

test.each(WAYS)('$name is reported where nothing holds it', ({ take, script }) =>
  onSite(
    async (site) => {
      const escapes = await watched(site, () => take(site))
      expect(escapes).toHaveLength(1)
      expect(escapes[0]).toMatch(/^POST \/\S+ went to 127\.0\.0\.1:\d+ without a hold: no budget knows of it\./)
      expect(site.provider.bill().nanoUsd).toBeGreaterThan(await accounted(site))
    },
    { script },
  ),
)

test.each(WAYS)('$name is held with guardFetch under it, and nothing is reported', ({ take, script }) =>
  onSite(
    async (site) => {
      await watched(site, () => take(site, guardFetch(site.scope)))
      expect(escapesOf(site)).toEqual([])
      expect(site.provider.bill().requests).toBeGreaterThan(0)
      expect(await accounted(site)).toBeGreaterThan(0)
    },
    { script },
  ),
)

/** What the budget knows of, nano-USD. */
async function accounted({ kernel }: EscapeSite): Promise<number> {
  const [line] = await kernel.budgets('acme')
  return line!.spent + line!.suspense + line!.out
}
