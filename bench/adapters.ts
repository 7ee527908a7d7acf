// What each integration adds to one model call, and to one call of a tool: the framework by itself and under
// holdfast in turn, on one local server over real HTTP, with a memory store.

import { createOpenAI } from '@ai-sdk/openai'
import Anthropic from '@anthropic-ai/sdk'
import { GoogleGenAI } from '@google/genai'
import { tool as langChainTool } from '@langchain/core/tools'
import { MessagesAnnotation, StateGraph } from '@langchain/langgraph'
import { ChatOpenAI } from '@langchain/openai'
import { Agent, OpenAIProvider, Runner } from '@openai/agents'
import { generateText, tool, wrapLanguageModel } from 'ai'
import { createAgent } from 'langchain'
import OpenAI from 'openai'
import { z } from 'zod'
import { guardFetch, guardTools as guardAiTools, holdfastMiddleware } from '../integrations/ai-sdk.ts'
import { wrapAnthropic } from '../integrations/anthropic.ts'
import { guardAgent } from '../integrations/langchain.ts'
import { guardGraph, guardTools } from '../integrations/langgraph.ts'
import { guardRunner } from '../integrations/openai-agents.ts'
import { guardFunctions, wrapOpenAI } from '../integrations/openai.ts'
import { memoryStore, openKernel, type Scope } from '../src/index.ts'
import { startProvider } from '../src/testing/provider.ts'
import { measure, type Row } from './measure.ts'

const MODEL = 'gpt-4o-mini'
const PROMPT = 'Say one word.'
const schema = z.object({ query: z.string() })
const search = async ({ query }: { query: string }): Promise<string> => `notes on ${query}`

type Run = () => Promise<unknown>
/** One framework by itself, and under holdfast. */
interface Pair {
  readonly name: string
  readonly bare: Run
  readonly guarded: Run
}

/** Rows of the integrations. */
export async function adapterRows(ms: number): Promise<readonly Row[]> {
  const provider = await startProvider()
  const kernel = await openKernel({
    store: memoryStore(),
    budgets: { acme: { usd: 9_000_000 } },
    prices: { [MODEL]: { inputUsdPerMillion: '0.15', outputUsdPerMillion: '0.6' } },
    rules: [{ effect: 'allow', tool: 'search' }],
  })
  const scope = kernel.scope({ agent: 'bench', task: 'bench', budget: 'acme' })
  const rows: Row[] = []
  try {
    for (const pair of modelCalls(scope, provider.baseURL)) rows.push(await row(`model call, ${pair.name}`, ms, pair))
    for (const pair of toolCalls(scope)) rows.push(await row(`tool call, ${pair.name}`, ms, pair))
  } finally {
    await kernel.close()
    await provider.close()
  }
  return rows
}

function modelCalls(scope: Scope, baseURL: string): readonly Pair[] {
  const client = new OpenAI({ apiKey: 'none', baseURL })
  const wrapped = wrapOpenAI(client, scope)
  const ask =
    (openai: OpenAI): Run =>
    () =>
      openai.chat.completions.create({ model: MODEL, max_completion_tokens: 50, messages: [{ role: 'user', content: PROMPT }] })
  const bareModel = createOpenAI({ apiKey: 'none', baseURL }).chat(MODEL)
  const model = wrapLanguageModel({
    model: createOpenAI({ apiKey: 'none', baseURL, fetch: guardFetch(scope) }).chat(MODEL),
    middleware: holdfastMiddleware(scope),
  })
  const generate =
    (of: Parameters<typeof generateText>[0]['model']): Run =>
    () =>
      generateText({ model: of, maxOutputTokens: 50, prompt: PROMPT })
  const chat = (more: object = {}) => new ChatOpenAI({ model: MODEL, apiKey: 'none', maxTokens: 50, configuration: { baseURL, ...more } })
  const question = { messages: [{ role: 'user', content: PROMPT }] }
  const graphOver = (of: ChatOpenAI) =>
    new StateGraph(MessagesAnnotation)
      .addNode('model', async ({ messages }) => ({ messages: [await of.invoke(messages)] }))
      .addEdge('__start__', 'model')
      .compile()
  const [bareAgent, agent] = [createAgent({ model: chat(), tools: [] }), guardAgent({ model: chat(), scope })]
  const [bareGraph, graph] = [graphOver(chat()), guardGraph(graphOver(chat({ fetch: guardFetch(scope) })), scope)]
  return [
    { name: 'OpenAI SDK', bare: ask(client), guarded: ask(wrapped) },
    { name: 'AI SDK, both layers', bare: generate(bareModel), guarded: generate(model) },
    { name: 'LangChain agent', bare: () => bareAgent.invoke(question), guarded: () => agent.invoke(question) },
    { name: 'LangGraph', bare: () => bareGraph.invoke(question), guarded: () => graph.invoke(question) },
    ...otherCalls(scope, baseURL),
  ]
}

/** SDKs that speak wire formats of their own, and agents. */
function otherCalls(scope: Scope, baseURL: string): readonly Pair[] {
  const host = baseURL.replace(/\/v1$/, '')
  const messages = [{ role: 'user' as const, content: PROMPT }]
  const claude =
    (client: Anthropic): Run =>
    () =>
      client.messages.create({ model: MODEL, max_tokens: 50, messages })
  const anthropic = new Anthropic({ apiKey: 'none', baseURL: host })
  const gemini = (more: object = {}): Run => {
    const { models } = new GoogleGenAI({ apiKey: 'none', httpOptions: { baseUrl: host, ...more } })
    return () => models.generateContent({ model: MODEL, contents: PROMPT, config: { maxOutputTokens: 50 } })
  }
  const writer = new Agent({ name: 'writer', model: MODEL, modelSettings: { maxTokens: 50 } })
  const openAIClient = new OpenAI({ apiKey: 'none', baseURL })
  const runner = new Runner({ modelProvider: new OpenAIProvider({ openAIClient }), tracingDisabled: true })
  const guarded = guardRunner(runner, scope)
  return [
    { name: 'Anthropic SDK', bare: claude(anthropic), guarded: claude(wrapAnthropic(anthropic, scope)) },
    { name: 'Google Gen AI SDK', bare: gemini(), guarded: gemini({ fetch: guardFetch(scope) }) },
    { name: 'OpenAI Agents SDK', bare: () => runner.run(writer, PROMPT), guarded: () => guarded.run(writer, PROMPT) },
  ]
}

function toolCalls(scope: Scope): readonly Pair[] {
  const args = { query: 'limits' }
  const options = { toolCallId: '1', messages: [], context: {} }
  const aiTools = { search: tool({ inputSchema: schema, execute: search }) }
  const guardedAi = guardAiTools(scope, aiTools)
  const functions = guardFunctions(scope, { search })
  const bareTool = langChainTool(search, { name: 'search', schema })
  const [guardedTool] = guardTools([bareTool], scope)
  return [
    { name: 'OpenAI SDK', bare: () => search(args), guarded: () => functions.search(args) },
    {
      name: 'AI SDK',
      bare: async () => aiTools.search.execute(args, options),
      guarded: async () => guardedAi.search.execute(args, options),
    },
    { name: 'LangGraph', bare: () => bareTool.invoke(args), guarded: () => guardedTool.invoke(args) },
  ]
}

async function row(what: string, ms: number, { bare, guarded }: Pair): Promise<Row> {
  const measured = await measure(ms, { bare, guarded })
  const added = (measured.guarded.p50 - measured.bare.p50) / 1_000
  const tail = (measured.guarded.p99 - measured.bare.p99) / 1_000
  return {
    what: `${what}: added at p50`,
    figure: `${added.toFixed(3)} ms (p99 ${tail.toFixed(3)} ms)`,
    yardstick: `${(measured.bare.p50 / 1_000).toFixed(3)} ms without`,
    ratio: measured.guarded.p50 / measured.bare.p50,
    target: '<= 0.2 ms',
    met: added <= 0.2,
  }
}
