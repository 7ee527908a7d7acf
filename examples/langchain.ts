// A LangChain agent with two tools, one of which it may not use, on a budget that runs out. The provider is simulated
// and bills like gpt-4o-mini, so this needs no key. Run it: node examples/langchain.ts

import { ChatOpenAI } from '@langchain/openai'
import { tool } from 'langchain'
import { findRefusal, guardAgent } from '../integrations/langchain.ts'
import { formatUsd, memoryStore, openKernel } from '../src/index.ts'
import { startProvider } from '../src/testing/provider.ts'

// Asks for one tool, then for the other, then answers; each answer uses 300 output tokens.
const turns = ['search', 'delete_files']
const provider = await startProvider({
  script: ({ body }) => {
    const answered = (body['messages'] as { role: string }[]).filter(({ role }) => role === 'tool').length
    const name = turns[answered % 3]
    const usage = { inputTokens: 200, outputTokens: 300 }
    return name === undefined
      ? { text: 'Nine ships, as far as I may look.', usage }
      : { toolCalls: [{ name, arguments: { about: 'ships' } }], usage }
  },
})
await using kernel = await openKernel({
  store: memoryStore(),
  budgets: { acme: { usd: '0.002' } },
  rules: [
    { effect: 'allow', tool: 'search' },
    { effect: 'deny', tool: 'delete_files' },
  ],
})
const scope = kernel.scope({ agent: 'researcher', task: 'ships', budget: 'acme' })

const ran: string[] = []
const named = (name: string) =>
  tool(async () => (ran.push(name), 'nine ships'), { name, description: name, schema: { type: 'object' as const, properties: {} } })
const model = new ChatOpenAI({ model: 'gpt-4o-mini', apiKey: 'none', configuration: { baseURL: provider.baseURL } })
const agent = guardAgent({ model, tools: [named('search'), named('delete_files')], scope })

let asked = 0
for (; asked < 20; asked++) {
  try {
    const { messages } = await agent.invoke({ messages: [{ role: 'user', content: 'How many ships lie in the harbour?' }] })
    if (asked === 0) for (const message of messages) console.log(`${message.getType().padEnd(6)} ${message.text || '(asks for a tool)'}`)
    console.log(`Question ${asked + 1} is answered, ${formatUsd(provider.bill().nanoUsd)} are billed.`)
  } catch (error) {
    const refusal = findRefusal(error)
    if (refusal === undefined) throw error
    console.log(`Question ${asked + 1} is refused: ${refusal.message}`)
    break
  }
}

const { nanoUsd } = provider.bill()
const [acme] = await kernel.budgets('acme')
console.log(
  `Tools that ran: ${[...new Set(ran)].join(', ')}. Billed ${formatUsd(nanoUsd)}, counted ${formatUsd(acme!.spent)} of ${formatUsd(acme!.limit)}.`,
)
process.exitCode = asked > 0 && asked < 20 && !ran.includes('delete_files') && acme!.spent === nanoUsd && nanoUsd <= acme!.limit ? 0 : 1
await provider.close()
