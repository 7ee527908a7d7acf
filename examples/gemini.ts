// Gemini by the Google Gen AI SDK, on a budget that runs out: the SDK takes a `fetch`, and holdfast is one. The provider
// is simulated and bills like gpt-4o-mini, so this needs no key. Run it: node examples/gemini.ts

import { GoogleGenAI } from '@google/genai'
import { findRefusal, guardFetch } from '../integrations/fetch.ts'
import { formatUsd, memoryStore, openKernel } from '../src/index.ts'
import { startProvider } from '../src/testing/provider.ts'

const MODEL = 'gemini-2.5-flash'
// Of 300 tokens of output 200 are thoughts, which cost the same and end at the same cap.
const provider = await startProvider({
  script: () => ({ text: 'Nine ships lie in the harbour.', usage: { inputTokens: 20, outputTokens: 300, reasoningTokens: 200 } }),
})
await using kernel = await openKernel({
  store: memoryStore(),
  budgets: { acme: { usd: '0.002' } },
  prices: { [MODEL]: { inputUsdPerMillion: '0.15', outputUsdPerMillion: '0.6' } },
})
const scope = kernel.scope({ agent: 'harbour-master', task: 'ships', budget: 'acme' })

const httpOptions = { baseUrl: `http://127.0.0.1:${provider.port}`, fetch: guardFetch(scope) }
const { models } = new GoogleGenAI({ apiKey: 'none', httpOptions })

let asked = 0
for (; asked < 20; asked++) {
  try {
    let text = ''
    for await (const chunk of await models.generateContentStream({ model: MODEL, contents: 'How many ships are there?' }))
      text += chunk.text ?? ''
    console.log(`Question ${asked + 1} is answered: ${text} ${formatUsd(provider.bill().nanoUsd)} are billed.`)
  } catch (error) {
    const refusal = findRefusal(error)
    if (refusal === undefined) throw error
    console.log(`Question ${asked + 1} is refused: ${refusal.message}`)
    break
  }
}

const { nanoUsd, requests } = provider.bill()
const [acme] = await kernel.budgets('acme')
console.log(
  `Sent ${requests} of ${asked + 1}. Billed ${formatUsd(nanoUsd)}, counted ${formatUsd(acme!.spent)} of ${formatUsd(acme!.limit)}.`,
)
const caps = provider.requests().map(({ body }) => (body['generationConfig'] as { maxOutputTokens: number }).maxOutputTokens)
console.log(`Each was sent with the output cap that the rest of the budget could pay: ${caps.join(', ')}.`)
const shrinking = caps.every((cap, at) => at === 0 || cap < caps[at - 1]!)
process.exitCode = asked === requests && asked > 0 && shrinking && acme!.spent === nanoUsd && nanoUsd <= acme!.limit ? 0 : 1
await provider.close()
