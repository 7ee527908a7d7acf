// An agent of the Vercel AI SDK with two tools, one of which it may not use, on a budget that keeps something for a last
// answer. The provider is simulated and bills like gpt-4o-mini, so this needs no key. Run it: node examples/ai-sdk.ts

import { createOpenAI } from '@ai-sdk/openai'
import { ToolLoopAgent, jsonSchema, tool } from 'ai'
import { countCalls, findRefusal, guardFetch, guardSettings } from '../integrations/ai-sdk.ts'
import { formatUsd, memoryStore, openKernel } from '../src/index.ts'
import { startProvider } from '../src/testing/provider.ts'

// Asks for one tool, then for the other, then answers; without tools it answers at once. Each answer uses 300 output tokens.
const turns = ['search', 'delete_files']
const provider = await startProvider({
  script: ({ body }) => {
    const answered = (body['messages'] as { role: string }[]).filter(({ role }) => role === 'tool').length
    const name = body['tool_choice'] === 'none' ? undefined : turns[answered]
    const usage = { inputTokens: 200, outputTokens: 300 }
    return name === undefined ? { text: 'Nine ships, as far as I may look.', usage } : { toolCalls: [{ name, arguments: {} }], usage }
  },
})
const escapes: string[] = []
await using kernel = await openKernel({
  store: memoryStore(),
  budgets: { acme: { usd: '0.004', wrapUp: { usd: '0.001' } } },
  rules: [
    { effect: 'allow', tool: 'search' },
    { effect: 'deny', tool: 'delete_files' },
  ],
  onEvent: ({ type, message }) => void (type === 'escape' && escapes.push(message)),
})
const scope = kernel.scope({ agent: 'researcher', task: 'ships', budget: 'acme' })
const openai = createOpenAI({ apiKey: 'none', baseURL: provider.baseURL, fetch: guardFetch(scope) })

const ran: string[] = []
const named = (name: string) =>
  tool({
    description: name,
    inputSchema: jsonSchema({ type: 'object', properties: {} }),
    execute: async () => (ran.push(name), 'nine ships'),
  })
const settings = {
  model: openai.chat('gpt-4o-mini'),
  tools: { search: named('search'), delete_files: named('delete_files') },
  maxRetries: 0,
  telemetry: { integrations: [countCalls(scope)] },
}
const agent = new ToolLoopAgent(guardSettings(scope, settings, { wrapUp: true }))

let asked = 0
let lastAnswers = 0
for (; asked < 20; asked++) {
  try {
    // A run of its own for each question, so that `scope.refusal` is of this one.
    const [answer, refusal] = await scope.enter(async () => [
      await agent.generate({ prompt: 'How many ships lie in the harbour?' }),
      scope.refusal,
    ])
    const isLast = refusal?.details.wrapUp === true
    lastAnswers += isLast ? 1 : 0
    const how = isLast ? 'from what the budget keeps for a last answer' : `in ${answer.steps.length} steps`
    console.log(`Question ${asked + 1} is answered ${how}, ${formatUsd(provider.bill().nanoUsd)} are billed: ${answer.text}`)
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
const asExpected = asked > 0 && asked < 20 && lastAnswers > 0 && !ran.includes('delete_files') && escapes.length === 0
process.exitCode = asExpected && acme!.spent === nanoUsd && nanoUsd <= acme!.limit ? 0 : 1
await provider.close()
