// The LangChain half of the demo: a LangGraph graph with a tool node, and an agent of `createAgent`.

import { tool } from '@langchain/core/tools'
import { END, MessagesAnnotation, START, StateGraph } from '@langchain/langgraph'
import { ToolNode, toolsCondition } from '@langchain/langgraph/prebuilt'
import { ChatOpenAI } from '@langchain/openai'
import { z } from 'zod'
import type { Scope } from 'holdfast'
import { guardAgent } from 'holdfast/langchain'
import { guardFetch, guardGraph, guardTools } from 'holdfast/langgraph'
import { MAX_OUTPUT_TOKENS, MODEL } from './story.ts'

const search = tool(async ({ query }) => `three notes on ${query}`, {
  name: 'search',
  description: 'Search the archive',
  schema: z.object({ query: z.string() }),
})

/** Where the model of a worker is. */
export interface Endpoint {
  readonly apiKey: string
  readonly baseURL?: string
}

/** Asks a graph: a model, its tools, and back, until it asks for no more. Returns what it says. */
export async function askGraph(scope: Scope, { apiKey, ...endpoint }: Endpoint): Promise<string> {
  const tools = guardTools([search], scope)
  const model = new ChatOpenAI({
    model: MODEL,
    apiKey,
    maxTokens: MAX_OUTPUT_TOKENS,
    configuration: { ...endpoint, fetch: guardFetch(scope) },
  }).bindTools(tools)
  const graph = new StateGraph(MessagesAnnotation)
    .addNode('model', async ({ messages }) => ({ messages: [await model.invoke(messages)] }))
    .addNode('tools', new ToolNode(tools))
    .addEdge(START, 'model')
    .addConditionalEdges('model', toolsCondition, { tools: 'tools', [END]: END })
    .addEdge('tools', 'model')
    .compile()
  const { messages } = await guardGraph(graph, scope).invoke({ messages: [{ role: 'user', content: 'Look it up in a graph.' }] })
  return `${messages.length} messages, “${messages.at(-1)!.text.slice(0, 40)}…”`
}

/** Asks an agent of LangChain. Returns what it says. */
export async function askAgent(scope: Scope, { apiKey, ...endpoint }: Endpoint): Promise<string> {
  const model = new ChatOpenAI({ model: MODEL, apiKey, maxTokens: MAX_OUTPUT_TOKENS, configuration: endpoint })
  const agent = guardAgent({ model, tools: [search], scope })
  const { messages } = await agent.invoke({ messages: [{ role: 'user', content: 'Look it up as an agent.' }] })
  return `${messages.length} messages, “${messages.at(-1)!.text.slice(0, 40)}…”`
}
