// A graph of two nodes on a budget: `node examples/langgraph.ts`. A model that wants to send a letter, a person who
// approves it while the graph rests, and a budget that runs out. No key is needed: the provider is simulated.

import { ChatOpenAI } from '@langchain/openai'
import { tool } from '@langchain/core/tools'
import { Command, END, INTERRUPT, MemorySaver, MessagesAnnotation, START, StateGraph } from '@langchain/langgraph'
import { ToolNode, toolsCondition } from '@langchain/langgraph/prebuilt'
import { z } from 'zod'
import { findRefusal, guardFetch, guardGraph, guardTools, type ApprovalQuestion } from 'holdfast/langgraph'
import { formatUsd, memoryStore, openKernel } from 'holdfast'
import { startProvider } from 'holdfast/testing'

// The model calls the tool, reads its result, and says so.
const usage = { inputTokens: 200, outputTokens: 60 }
const wants = { toolCalls: [{ name: 'send_letter', arguments: { to: 'Ann' } }], usage }
const says = { text: 'The letter is on its way.', usage }
const provider = await startProvider({ script: ({ body }) => (JSON.stringify(body).includes('sent to Ann') ? says : wants) })

const kernel = await openKernel({
  store: memoryStore(),
  budgets: { acme: { usd: '0.0005' } },
  rules: [{ effect: 'ask', tool: 'send_letter' }],
})
const scope = kernel.scope({ agent: 'clerk', task: 'letters', budget: 'acme' })

const schema = z.object({ to: z.string() })
const sendLetter = tool(async ({ to }) => `sent to ${to}`, { name: 'send_letter', description: 'Sends a letter.', schema })
const configuration = { baseURL: provider.baseURL, fetch: guardFetch(scope) }
const model = new ChatOpenAI({ model: 'gpt-4o-mini', apiKey: 'no key', maxTokens: 100, configuration }).bindTools([sendLetter])

const graph = guardGraph(
  new StateGraph(MessagesAnnotation)
    .addNode('model', async ({ messages }, config) => ({ messages: [await model.invoke(messages, config)] }))
    .addNode('tools', new ToolNode(guardTools([sendLetter], scope)))
    .addEdge(START, 'model')
    .addConditionalEdges('model', toolsCondition, ['tools', END])
    .addEdge('tools', 'model')
    .compile({ checkpointer: new MemorySaver() }),
  scope,
)

const ask = { messages: [{ role: 'user' as const, content: 'Write to Ann.' }] }
const config = { configurable: { thread_id: 'letters' } }
const resting = (await graph.invoke(ask, config)) as unknown as { [INTERRUPT]: [{ value: ApprovalQuestion }] }
const { agent, tool: name, args, argsHash } = resting[INTERRUPT][0].value
console.log(`The graph rests: ${agent} wants to call ${name} with ${JSON.stringify(args)}.`)

await kernel.approve({ agent, tool: name, argsHash, by: 'a person', expiresInMs: 60_000 })
const { messages } = await graph.invoke(new Command({ resume: 'approved' }), config)
console.log(`It goes on: “${messages.at(-1)!.text}”`)

// More of the same, until the budget says no.
for (let letter = 2; ; letter++) {
  const error = await graph.invoke(ask, { configurable: { thread_id: `letters-${letter}` } }).then(() => undefined, findRefusal)
  if (error === undefined) continue
  console.log(`Letter ${letter} is refused, ${error.code}: ${error.message}`)
  break
}
const [line] = await kernel.budgets('acme')
console.log(`Spent ${formatUsd(line!.spent)} of ${formatUsd(line!.limit)}; the provider billed ${formatUsd(provider.bill().nanoUsd)}.`)
await kernel.close()
await provider.close()
