// A tool loop of the OpenAI SDK with a tool that it may not use, on a budget that runs out. The provider is simulated
// and bills like gpt-4o-mini, so this needs no key. Run it: node examples/openai.ts

import OpenAI from 'openai'
import { findRefusal, wrapOpenAI } from '../integrations/openai.ts'
import { formatUsd, memoryStore, openKernel } from '../src/index.ts'
import { startProvider } from '../src/testing/provider.ts'

// Asks for one tool, then for the other, then answers; each answer uses 300 output tokens.
const turns = ['search', 'delete_files']
const provider = await startProvider({
  script: ({ body }) => {
    const answered = (body['messages'] as { role: string }[]).filter(({ role }) => role === 'tool').length
    const name = turns[answered]
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
const client = wrapOpenAI(new OpenAI({ apiKey: 'none', baseURL: provider.baseURL }), scope)

const ran: string[] = []
const named = (name: string) => ({
  type: 'function' as const,
  function: { name, description: name, parameters: { type: 'object', properties: {} }, function: () => (ran.push(name), 'nine ships') },
})

let asked = 0
for (; asked < 20; asked++) {
  try {
    const runner = client.chat.completions.runTools({
      model: 'gpt-4o-mini',
      // A call that does not fit is refused. Without a cap of its own it would be narrowed, and runTools takes an answer that was cut for a failure.
      max_completion_tokens: 400,
      messages: [{ role: 'user', content: 'How many ships lie in the harbour?' }],
      tools: [named('search'), named('delete_files')],
    })
    const answer = await runner.finalContent()
    if (asked === 0) console.log(`The model answers: ${answer}`)
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
