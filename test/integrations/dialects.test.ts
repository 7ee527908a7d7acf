// Servers that speak the format of OpenAI, each in its own way: what they are asked, and where in their answers the
// usage stands. The answers are typed from public documentation, named beside them.

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import OpenAI, { AzureOpenAI } from 'openai'
import { describe, expect, onTestFinished, test } from 'vitest'
import { wrapOpenAI } from '../../integrations/openai.ts'
import { guardFetch, type GuardOptions } from '../../integrations/transport/guard-fetch.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import { errorOf } from '../../src/testing/integration-bench.ts'
import { replaying } from './bench.ts'
import { PRICE, attempt, openSite } from './wire-site.ts'

const MODEL = 'harbour-1'
const BODY = { model: MODEL, messages: [{ role: 'user', content: 'Count the ships.' }], max_tokens: 50 }
const STREAM = { ...BODY, stream: true }
const openHarbour = () => openSite({ [MODEL]: PRICE })

const delta = (content: string, finish: string | null = null) => ({
  id: 'c-1',
  object: 'chat.completion.chunk',
  model: MODEL,
  choices: [{ index: 0, delta: { content }, finish_reason: finish }],
})
const tokens = (prompt: number, completion: number) => ({
  prompt_tokens: prompt,
  completion_tokens: completion,
  total_tokens: prompt + completion,
})
/** What 20 tokens in and 12 out cost, nano-USD. */
const COST = 20 * 150 + 12 * 600
const USAGE = tokens(20, 12)

const sse = (...events: readonly (object | string)[]): string =>
  events.map((event) => (typeof event === 'string' ? `${event}\n\n` : `data: ${JSON.stringify(event)}\n\n`)).join('')
const DONE = 'data: [DONE]'

/** Streams made of what each server documents. */
const STREAMS: readonly (readonly [name: string, text: string])[] = [
  // https://docs.mistral.ai/api/endpoint/chat (2026-11-22): the event that ends the answer has the usage.
  ['Mistral', sse(delta('Nine'), { ...delta('', 'stop'), usage: USAGE }, DONE)],
  // https://console.groq.com/docs/api-reference (2026-11-22): without stream_options only `x_groq` has it.
  [
    'Groq',
    sse({ ...delta(''), x_groq: { id: 'req_1' } }, delta('Nine'), { ...delta('', 'stop'), x_groq: { id: 'req_1', usage: USAGE } }, DONE),
  ],
  // https://github.com/Portkey-AI/gateway/issues/1338 (2026-11-22): with stream_options both have it.
  [
    'Groq, asked for usage',
    sse(
      delta('Nine'),
      { ...delta('', 'stop'), usage: null, x_groq: { id: 'req_1', usage: USAGE } },
      { ...delta(''), choices: [], usage: USAGE },
      DONE,
    ),
  ],
  // https://api-docs.deepseek.com/api/create-chat-completion (2026-11-22): an event without choices, cache hits beside.
  [
    'DeepSeek',
    sse(
      { ...delta('Nine'), usage: null },
      { ...delta('', 'stop'), usage: null },
      { ...delta(''), choices: [], usage: { ...USAGE, prompt_cache_hit_tokens: 0, prompt_cache_miss_tokens: 20 } },
      DONE,
    ),
  ],
  // https://github.com/BerriAI/litellm/issues/17136 (2026-11-22): xAI counts up, and its last event is empty.
  [
    'xAI',
    sse(
      { ...delta('Nine'), usage: tokens(20, 1) },
      { ...delta(' ships'), usage: tokens(20, 9) },
      { ...delta('', 'stop'), usage: USAGE },
      { ...delta(''), choices: [] },
      DONE,
    ),
  ],
  // https://openrouter.ai/docs/api-reference/streaming and /use-cases/usage-accounting (2026-11-22): comments that keep
  // the connection, and the usage in one more event that has a choice.
  [
    'OpenRouter',
    sse(
      ': OPENROUTER PROCESSING',
      ': OPENROUTER PROCESSING',
      delta('Nine'),
      delta('', 'stop'),
      { ...delta(''), usage: { ...USAGE, cost: 0.95, cost_details: { upstream_inference_cost: 19 } } },
      DONE,
    ),
  ],
  // https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html (2026-11-22): `continuous_usage_stats`.
  [
    'vLLM with usage in every event',
    sse(
      { ...delta('Nine'), usage: tokens(20, 1) },
      { ...delta('', 'length'), usage: tokens(20, 12) },
      { ...delta(''), choices: [], usage: USAGE },
      DONE,
    ),
  ],
  // https://docs.ollama.com/api/openai-compatibility (2026-11-22)
  ['Ollama', sse(delta('Nine'), delta('', 'stop'), { ...delta(''), choices: [], usage: USAGE }, DONE)],
  // https://learn.microsoft.com/azure/ai-foundry/openai/reference (2026-11-22): its first event judges the prompt.
  [
    'Azure',
    sse(
      { ...delta(''), choices: [], prompt_filter_results: [{ prompt_index: 0 }] },
      delta('Nine'),
      delta('', 'stop'),
      { ...delta(''), choices: [], usage: USAGE },
      DONE,
    ),
  ],
  ['a server that sends no [DONE]', sse(delta('Nine'), { ...delta('', 'stop'), usage: USAGE })],
  ['a server that says nowhere why it stopped', sse(delta('Nine'), { ...delta(' ships'), usage: USAGE }, DONE)],
]

async function streamed(text: string, size: number, body: object = STREAM) {
  const site = await openHarbour()
  const bytes = new TextEncoder().encode(text)
  const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, at) => bytes.slice(at * size, (at + 1) * size))
  const send = guardFetch(site.scope, { fetch: replaying(chunks) })
  const response = await send('https://example.com/v1/chat/completions', { method: 'POST', body: JSON.stringify(body) })
  return { out: await response.text(), ends: site.ends() }
}

describe('a stream in the words of', () => {
  test.each(STREAMS)('%s is settled at its usage, however it is cut into chunks', async (_, text) => {
    for (const size of [1, 5, 33, 4_000]) expect((await streamed(text, size)).ends).toEqual([['settled', COST]])
  })

  test.each(STREAMS)('%s loses nothing but an event that only tells the usage', async (_, text) => {
    const { out } = await streamed(text, 33)
    const kept = text.split(/(?<=\n\n)/).filter((event) => !(event.includes('"choices":[]') && event.includes('"usage":{')))
    expect(out).toBe(kept.join(''))
    const asked = await streamed(text, 33, { ...STREAM, stream_options: { include_usage: true } })
    expect(asked.out).toBe(text)
  })

  test.each(STREAMS)('%s is charged at worst when it is cut before its usage', async (_, text) => {
    const usageAt = text.indexOf('"completion_tokens":12')
    for (let cut = 1; cut < usageAt; cut += 29) {
      const { ends } = await streamed(text.slice(0, cut), 64)
      expect(ends).toEqual([['charged', expect.any(Number)]])
      expect(ends[0]![1]).toBeGreaterThan(COST)
    }
  })
})

describe('a stream of several choices', () => {
  const of = (index: number, usage: object) => ({ ...delta(''), choices: [{ index, delta: {}, finish_reason: 'stop' }], usage })

  test('is settled when all of them have ended, and charged at worst before', async () => {
    const body = { ...STREAM, n: 2 }
    expect((await streamed(sse(of(0, tokens(20, 5)), of(1, USAGE)), 64, body)).ends).toEqual([['settled', COST]])
    expect((await streamed(sse(of(0, tokens(20, 5))), 64, body)).ends).toEqual([['charged', expect.any(Number)]])
  })
})

describe('the cap of a request', () => {
  const { max_tokens: _, ...uncapped } = BODY

  test.each([
    ['https://api.openai.com/v1', 'max_completion_tokens'],
    ['https://api.groq.com/openai/v1', 'max_completion_tokens'],
    ['https://api.x.ai/v1', 'max_completion_tokens'],
    ['https://openrouter.ai/api/v1', 'max_completion_tokens'],
    ['https://acme.openai.azure.com/openai/v1', 'max_completion_tokens'],
    ['http://127.0.0.1:8000/v1', 'max_completion_tokens'],
    ['https://api.mistral.ai/v1', 'max_tokens'],
    ['https://api.deepseek.com', 'max_tokens'],
    ['http://127.0.0.1:11434/v1', 'max_tokens'],
    ['https://ollama.com/v1', 'max_tokens'],
    ['https://notmistral.ai/v1', 'max_completion_tokens'],
  ])('to %s is %s', async (base, field) => {
    const { sent } = await attempt(await openHarbour(), `${base}/chat/completions`, uncapped)
    expect(sent).toEqual({ ...uncapped, [field]: 8_192 })
  })

  test('stands where the operator says', async () => {
    const options: GuardOptions = { outputCapField: 'max_tokens' }
    const { sent } = await attempt(await openHarbour(), 'http://127.0.0.1:8000/v1/chat/completions', uncapped, options)
    expect(sent).toEqual({ ...uncapped, max_tokens: 8_192 })
  })

  test('is moved to the field that a server knows: one that it ignored would bound nothing', async () => {
    const capped = { ...uncapped, max_completion_tokens: 70 }
    const site = await openHarbour()
    expect((await attempt(site, 'https://api.deepseek.com/chat/completions', capped)).sent).toEqual({ ...uncapped, max_tokens: 70 })
    expect((await attempt(site, 'https://api.openai.com/v1/chat/completions', capped)).sent).toEqual(capped)
  })

  test('comes without a question for usage where Mistral would refuse it', async () => {
    const site = await openHarbour()
    expect((await attempt(site, 'https://api.mistral.ai/v1/chat/completions', STREAM)).sent).toEqual(STREAM)
    const { sent } = await attempt(site, 'https://api.groq.com/openai/v1/chat/completions', STREAM)
    expect(sent).toEqual({ ...STREAM, stream_options: { include_usage: true } })
  })
})

describe('OpenRouter', () => {
  const url = 'https://openrouter.ai/api/v1/chat/completions'

  test('is refused a list of models to choose from, whose prices differ', async () => {
    const { reached, refusal } = await attempt(await openHarbour(), url, { ...BODY, models: ['harbour-1', 'harbour-master-9'] })
    expect([refusal?.code, reached]).toEqual(['ERR_UNMETERED', []])
    expect((await attempt(await openHarbour(), url, { ...BODY, models: [] })).reached.length).toBe(1)
  })

  test.each([
    ['a search by the name of its model', { model: 'harbour-1:online' }],
    ['plugins', { plugins: [{ id: 'web' }] }],
  ])('is refused %s, which no answer counts', async (_, more) => {
    const { reached, refusal } = await attempt(await openSite({ [MODEL]: PRICE, 'harbour-1:online': PRICE }), url, { ...BODY, ...more })
    expect([refusal?.code, reached]).toEqual(['ERR_UNMETERED', []])
  })

  test('is settled at the cost that it states, which is its bill', async () => {
    const site = await openHarbour()
    const fetch: typeof globalThis.fetch = async () => Response.json({ id: 'gen-1', usage: { ...USAGE, cost: 0.00002, is_byok: false } })
    await guardFetch(site.scope, { fetch })(url, { method: 'POST', body: JSON.stringify({ ...BODY, usage: { include: true } }) })
    expect(site.ends()).toEqual([['settled', 20_000]])
  })
})

/** An Azure that answers every chat completion, and remembers where it was asked. */
async function openAzure(): Promise<{ readonly endpoint: string; readonly asked: string[] }> {
  const asked: string[] = []
  const server = createServer((incoming, outgoing) => {
    asked.push(incoming.url ?? '')
    incoming.resume().on('end', () => {
      outgoing.setHeader('content-type', 'application/json')
      outgoing.end(JSON.stringify({ id: 'c-1', model: 'gpt-5.5', choices: [{ index: 0, message: { content: 'Nine.' } }], usage: USAGE }))
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return { endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked }
}

describe('Azure', () => {
  const { model: _, ...modelless } = BODY
  const path = '/openai/deployments/ships-prod/chat/completions?api-version=2024-10-21'

  test('is held and settled for the deployment in its path, whatever the body says', async () => {
    for (const body of [modelless, BODY, { ...BODY, model: 'cheap-1' }]) {
      const { endpoint, asked } = await openAzure()
      const site = await openSite({ 'ships-prod': PRICE, 'cheap-1': { inputUsdPerMillion: 0, outputUsdPerMillion: 0 } })
      await guardFetch(site.scope)(endpoint + path, { method: 'POST', body: JSON.stringify(body) })
      expect(asked).toEqual([path])
      expect(site.records('intent')).toMatchObject([{ resource: 'ships-prod', outputTokens: 50 }])
      expect(site.ends()).toEqual([['settled', COST]])
    }
  })

  test('is refused for a deployment without a price, though the body names a model that has one', async () => {
    const { reached, refusal } = await attempt(await openHarbour(), `https://acme.openai.azure.com${path}`, BODY)
    expect([refusal?.code, reached]).toEqual(['ERR_UNKNOWN_PRICE', []])
    expect(refusal!.message).toContain("'ships-prod'")
  })

  test('is asked by its own client under the same guard', async () => {
    const { endpoint, asked } = await openAzure()
    const site = await openSite({ 'ships-prod': PRICE })
    const options = { endpoint, apiKey: 'test', apiVersion: '2024-10-21', maxRetries: 0 }
    const client = wrapOpenAI(new AzureOpenAI({ ...options, deployment: 'ships-prod' }), site.scope)
    await client.chat.completions.create({ model: '', messages: [{ role: 'user', content: 'hello' }] })
    expect(asked).toEqual([path])
    expect(site.ends()).toEqual([['settled', COST]])
    const other = wrapOpenAI(new AzureOpenAI({ ...options, deployment: 'other' }), site.scope)
    const error = await errorOf(() => other.chat.completions.create({ model: '', messages: [{ role: 'user', content: 'hello' }] }))
    expect(findRefusal(error)?.code).toBe('ERR_UNKNOWN_PRICE')
  })

  test('is held for the model of the body on the paths that have none', async () => {
    const { endpoint } = await openAzure()
    const site = await openHarbour()
    const client = wrapOpenAI(new OpenAI({ baseURL: `${endpoint}/openai/v1`, apiKey: 'test', maxRetries: 0 }), site.scope)
    await client.chat.completions.create({ model: MODEL, messages: [{ role: 'user', content: 'hello' }] })
    expect(site.ends()).toEqual([['settled', COST]])
  })
})

describe('Ollama', () => {
  test.each(['/api/chat', '/api/generate'])('is refused at %s, unless it is let through: what runs here costs nothing', async (path) => {
    const url = `http://127.0.0.1:11434${path}`
    const site = await openHarbour()
    const { reached, refusal } = await attempt(site, url, BODY)
    expect([refusal?.code, reached]).toEqual(['ERR_UNMETERED', []])
    expect(refusal!.message).toContain(`passthrough: ['${path}']`)
    expect((await attempt(site, url, BODY, { passthrough: [path] })).reached.length).toBe(1)
  })
})
