// The tool runner of the Anthropic SDK with two tools, one of which it may not use, on a budget that runs out. The
// provider is simulated and bills 1 and 5 USD per million tokens, so this needs no key. Run it: node examples/anthropic.ts

import Anthropic from '@anthropic-ai/sdk'
import { findRefusal, wrapAnthropic } from '../integrations/anthropic.ts'
import { formatUsd, memoryStore, openKernel } from '../src/index.ts'
import { startProvider } from '../src/testing/provider.ts'

// Asks for both tools at once, then answers; each answer uses 300 output tokens.
const provider = await startProvider({
  prices: { input: 1_000, cachedInput: 100, output: 5_000 },
  script: ({ body }) => {
    const usage = { inputTokens: 200, outputTokens: 300 }
    const answered = (body['messages'] as unknown[]).length > 1
    const toolCalls = ['search', 'delete_files'].map((name) => ({ name, arguments: { about: 'ships' } }))
    return answered ? { text: 'Nine ships, as far as I may look.', usage } : { toolCalls, usage }
  },
})
await using kernel = await openKernel({
  store: memoryStore(),
  budgets: { acme: { usd: '0.02' } },
  rules: [
    { effect: 'allow', tool: 'search' },
    { effect: 'deny', tool: 'delete_files' },
  ],
})
const scope = kernel.scope({ agent: 'researcher', task: 'ships', budget: 'acme' })
const client = wrapAnthropic(new Anthropic({ apiKey: 'none', baseURL: `http://127.0.0.1:${provider.port}` }), scope)

const ran: string[] = []
const named = (name: string) => ({
  name,
  input_schema: { type: 'object' as const },
  parse: (input: unknown) => input,
  run: async () => (ran.push(name), 'nine ships'),
})
const tools = [named('search'), named('delete_files')]
const messages = [{ role: 'user' as const, content: 'How many ships lie in the harbour?' }]

let asked = 0
for (; asked < 20; asked++) {
  try {
    const runner = client.beta.messages.toolRunner({ model: 'claude-haiku-4-5', max_tokens: 500, messages, tools })
    for await (const { content } of runner)
      if (asked === 0)
        for (const block of content)
          console.log(block.type === 'text' ? block.text : block.type === 'tool_use' ? `(asks for ${block.name})` : block.type)
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
