// Costs that an answer states: the bill where the provider is known for that, and no discount where it is not.

import { expect, test } from 'vitest'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { PRICE, openSite } from './wire-site.ts'

/** 100 tokens in and 10 out cost 15,000 + 6,000 nano-USD. */
const LISTED = 21_000
const TOKENS = { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 }
const cheap = { ...TOKENS, cost: 0.000_000_001, is_byok: false }
const dear = { ...TOKENS, cost: 0.001, is_byok: false }
const ticks = { ...TOKENS, cost_in_usd_ticks: 10 }

test.each([
  ['a gateway that states next to nothing', 'llm.example', cheap, LISTED],
  ['a gateway that states ticks', 'llm.example', ticks, LISTED],
  ['a host that only looks like OpenRouter', 'openrouter.ai.example', cheap, LISTED],
  ['a gateway that states more than the list', 'llm.example', dear, 1_000_000],
  ['OpenRouter', 'openrouter.ai', cheap, 1],
  ['xAI', 'api.x.ai', ticks, 1],
  ['xAI in a region', 'us-east-1.api.x.ai', ticks, 1],
])('a cost that an answer states below its price is believed only of who is known to state costs: %s', async (_, host, usage, usd) => {
  const site = await openSite({ 'm-1': PRICE })
  const fetch: typeof globalThis.fetch = async () => Response.json({ id: 'c-1', choices: [], usage })
  const body = JSON.stringify({ model: 'm-1', max_tokens: 20, messages: [] })
  await guardFetch(site.scope, { fetch })(`https://${host}/v1/chat/completions`, { method: 'POST', body })
  expect(site.ends()).toEqual([['settled', usd]])
})

test('a cost of a gateway does not stand in for a fee that nobody knows', async () => {
  const site = await openSite({ 'm-1': PRICE })
  const usage = { ...cheap, server_tool_use: { web_search_requests: 3 } }
  const fetch: typeof globalThis.fetch = async () => Response.json({ id: 'c-1', choices: [], usage })
  const body = JSON.stringify({ model: 'm-1', max_tokens: 20, messages: [] })
  await guardFetch(site.scope, { fetch })('https://llm.example/v1/chat/completions', { method: 'POST', body })
  expect(site.ends()[0]![0]).toBe('charged')
})
