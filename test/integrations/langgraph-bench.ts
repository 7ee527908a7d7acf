// LangGraph as its users write it: graphs over a real ChatOpenAI, on the provider of a bench, with and without
// holdfast; and what the tests of graphs share.

import { ChatOpenAI } from '@langchain/openai'
import { AIMessage, HumanMessage, type BaseMessage, type ToolMessage } from '@langchain/core/messages'
import { tool, type StructuredToolInterface } from '@langchain/core/tools'
import { END, MessagesAnnotation, START, StateGraph, type BaseCheckpointSaver } from '@langchain/langgraph'
import { ToolNode, toolsCondition } from '@langchain/langgraph/prebuilt'
import { expect } from 'vitest'
import { guardModel } from '../../integrations/langchain/guard-model.ts'
import { guardFetch, guardGraph, guardTools } from '../../integrations/langgraph.ts'
import { openKernel, type Kernel, type KernelOptions } from '../../src/kernel/open-kernel.ts'
import type { Scope } from '../../src/waist/scope.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import {
  SUITE_MODEL,
  until,
  type CallOptions,
  type Calls,
  type IntegrationAdapter,
  type Site,
} from '../../src/testing/integration-bench.ts'
import { collect, defined } from './adapters.ts'

const OBJECT = { type: 'object' as const, properties: {}, additionalProperties: true }

/** A chat model on a site. */
export function chatModelOf(
  { guarded, scope, baseURL, timeoutMs, drainMs }: Site,
  { model = SUITE_MODEL, maxOutputTokens }: CallOptions,
): ChatOpenAI {
  return new ChatOpenAI({
    model,
    apiKey: 'test',
    // The graph retries; a retry of the client below it would be one more.
    maxRetries: 0,
    ...defined({ maxTokens: maxOutputTokens, timeout: timeoutMs }),
    configuration: { baseURL, logLevel: 'off', ...(guarded ? { fetch: guardFetch(scope, { drainMs }) } : {}) },
  })
}

/** Makes the model of a graph. */
type ModelOf = (site: Site, options: CallOptions) => ChatOpenAI

/** Two nodes, model and tools, with a retry policy around the model. */
function graphOf(site: Site, options: CallOptions, modelOf: ModelOf, tools: StructuredToolInterface[] = []) {
  const { guarded, scope, maxRetries, toolAmounts } = site
  const chat = modelOf(site, options)
  const model = tools.length === 0 ? chat : chat.bindTools(tools)
  const known = guarded ? guardTools(tools, scope, defined({ amounts: toolAmounts })) : tools
  const retryPolicy = { maxAttempts: maxRetries + 1, initialInterval: 1, jitter: false, logWarning: false }
  const graph = new StateGraph(MessagesAnnotation)
    .addNode('model', async ({ messages }, config) => ({ messages: [await model.invoke(messages, config)] }), { retryPolicy })
    .addNode('tools', new ToolNode(known))
    .addEdge(START, 'model')
    .addConditionalEdges('model', toolsCondition, ['tools', END])
    .addEdge('tools', 'model')
    .compile()
  return guarded ? guardGraph(graph, scope) : graph
}

/** A compiled graph as the integration suite sees it. */
function graphCalls(site: Site, modelOf: ModelOf): Calls {
  const asked = ({ prompt }: CallOptions): { messages: BaseMessage[] } => ({ messages: [new HumanMessage(prompt)] })
  const streamed = async (options: CallOptions) =>
    graphOf(site, options, modelOf).stream(asked(options), { streamMode: 'messages', ...defined({ signal: options.signal }) })
  return {
    async generate(options) {
      const { messages } = await graphOf(site, options, modelOf).invoke(asked(options), defined({ signal: options.signal }))
      return { text: messages.at(-1)!.text, raw: messages.map((message) => message.toDict()) }
    },
    async *stream(options) {
      for await (const [message] of await streamed(options)) yield message.text
    },
    async parts(options) {
      return (await collect(await streamed(options))).map(([message, { langgraph_node }]) => [message.toDict(), langgraph_node])
    },
    async runTools({ tools, ...options }) {
      const made = Object.entries(tools).map(([name, run]) =>
        tool(async (args) => run(args as Record<string, unknown>), { name, description: name, schema: OBJECT }),
      )
      const { messages } = await graphOf(site, options, modelOf, made).invoke(asked(options), defined({ signal: options.signal }))
      return messages.at(-1)!.text
    },
  }
}

const adapter = (name: string, modelOf: ModelOf): IntegrationAdapter => ({
  name,
  streamRefusal: 'error',
  drains: true,
  leavesByBreak: true,
  connect: (site) => graphCalls(site, modelOf),
})

/** LangGraph over a model whose `fetch` is guarded. */
export const LANGGRAPH: IntegrationAdapter = adapter('langgraph', chatModelOf)

/** LangGraph over a model of `guardModel`. */
export const LANGGRAPH_MODEL: IntegrationAdapter = adapter('langgraph over guardModel', (site, options) => {
  const model = chatModelOf({ ...site, guarded: false }, options)
  return site.guarded ? guardModel(model, site.scope, { drainMs: site.drainMs }) : model
})

/** A kernel with a budget of counters, `acme/run`, and a scope on it. */
export async function openGraphKernel(options: Partial<KernelOptions> = {}): Promise<{ kernel: Kernel; scope: Scope }> {
  const kernel = await openKernel({
    store: memoryStore(),
    budgets: { acme: { sends: 1_000_000 }, 'acme/run': { sends: 10 } },
    waitMs: 0,
    onEvent: () => {},
    ...options,
  })
  return { kernel, scope: kernel.scope({ agent: 'clerk', task: 'letters', budget: 'acme/run' }) }
}

/** What was spent on a counter, once nothing is held any more: branches that were aborted may still settle. */
export async function sentOn(kernel: Kernel, budget = 'acme/run'): Promise<number> {
  const lineOf = async () => (await kernel.budgets(budget)).find((one) => one.budget === budget && one.dimension === 'sends')!
  await until(`nothing is held on ${budget}`, async () => (await lineOf()).out === 0)
  expect((await lineOf()).balanced).toBe(true)
  return (await lineOf()).spent
}

let calls = 0

/** One message of a model that calls these tools, each by name and arguments. */
export function calling(...wanted: readonly (readonly [name: string, args: Record<string, unknown>])[]): AIMessage {
  return new AIMessage({
    content: '',
    // A tool node leaves out a call whose id has been answered in the thread before.
    tool_calls: wanted.map(([name, args]) => ({ name, args, id: `call-${++calls}`, type: 'tool_call' as const })),
  })
}

/** A graph that only runs the tools that a message calls. */
export function toolGraph(tools: readonly object[], checkpointer?: BaseCheckpointSaver) {
  return new StateGraph(MessagesAnnotation)
    .addNode('tools', new ToolNode(tools as StructuredToolInterface[]))
    .addEdge(START, 'tools')
    .addEdge('tools', END)
    .compile(checkpointer === undefined ? {} : { checkpointer })
}

/** The answers of the tools in a state, as `status: text`. */
export function toolAnswers({ messages }: { readonly messages: readonly BaseMessage[] }): string[] {
  return messages.filter((message) => message.type === 'tool').map((message) => `${(message as ToolMessage).status}: ${message.text}`)
}
