// Two agents of the OpenAI Agents SDK, the second on a budget that is moved for it, with a tool that it may not use, until
// the money runs out. The provider is simulated and bills like gpt-4o-mini, so this needs no key. Run it: node examples/openai-agents.ts

import { Agent, OpenAIProvider, Runner, tool } from '@openai/agents'
import OpenAI from 'openai'
import { findRefusal, guardRunner } from '../integrations/openai-agents.ts'
import { formatUsd, memoryStore, openKernel } from '../src/index.ts'
import { startProvider } from '../src/testing/provider.ts'

// Triage hands over; billing asks for one tool, then for the other, then answers; each answer uses 300 output tokens.
const turns = ['transfer_to_billing', 'look_up', 'refund']
const provider = await startProvider({
  script: ({ body }) => {
    const answered = (body['input'] as { type?: string }[]).filter(({ type }) => type === 'function_call_output').length
    const name = turns[answered]
    const usage = { inputTokens: 200, outputTokens: 300 }
    const offered = ((body['tools'] ?? []) as { name: string }[]).some((one) => one.name === name)
    return name === undefined || !offered
      ? { text: 'A refund needs a person, I have told them.', usage }
      : { toolCalls: [{ name, arguments: {} }], usage }
  },
})
await using kernel = await openKernel({
  store: memoryStore(),
  budgets: { acme: { usd: '0.005' } },
  rules: [
    { effect: 'allow', tool: 'look_up' },
    { effect: 'deny', tool: 'refund' },
  ],
})
const scope = kernel.scope({ agent: 'triage', task: 'ticket-7', budget: 'acme' })

const ran: string[] = []
const parameters = { type: 'object' as const, properties: {}, required: [], additionalProperties: true as const }
const named = (name: string) =>
  tool({ name, description: name, strict: false, parameters, execute: async () => (ran.push(name), 'paid twice') })
const model = 'gpt-4o-mini'
// A call that does not fit is refused. Without a cap of its own it would be narrowed, and the SDK takes an answer that was cut for a failure.
const modelSettings = { maxTokens: 400 }
const billing = new Agent({ name: 'billing', model, modelSettings, tools: [named('look_up'), named('refund')] })
const triage = new Agent({ name: 'triage', model, modelSettings, handoffs: [billing] })

const modelProvider = new OpenAIProvider({ openAIClient: new OpenAI({ apiKey: 'none', baseURL: provider.baseURL }) })
const runner = guardRunner(new Runner({ modelProvider, tracingDisabled: true }), scope, {
  handoffs: { billing: { budget: { usd: '0.003', calls: 5 } } },
})

let asked = 0
for (; asked < 100; asked++) {
  try {
    const { finalOutput, lastAgent } = await runner.run(triage, 'I was charged twice.')
    if (asked === 0) console.log(`${lastAgent?.name} answers: ${finalOutput}`)
    console.log(`Ticket ${asked + 1} is done, ${formatUsd(provider.bill().nanoUsd)} are billed.`)
  } catch (error) {
    const refusal = findRefusal(error)
    if (refusal === undefined) throw error
    console.log(`Ticket ${asked + 1} is refused: ${refusal.message}`)
    break
  }
}

const { nanoUsd } = provider.bill()
const lines = await kernel.budgets('acme')
const acme = lines.find(({ dimension }) => dimension === 'usd')!
console.log(
  `${asked} tickets. Tools that ran: ${[...new Set(ran)].join(', ')}. Billed ${formatUsd(nanoUsd)}, counted ${formatUsd(acme.spent)} of ${formatUsd(acme.limit)}.`,
)
process.exitCode = asked > 0 && asked < 100 && !ran.includes('refund') && acme.spent === nanoUsd && nanoUsd <= acme.limit ? 0 : 1
await provider.close()
