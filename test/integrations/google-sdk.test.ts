// The SDK of Google with a `fetch` of holdfast: what it makes of refusals, and what of it passes the guard.

import { GoogleGenAI } from '@google/genai'
import { describe, expect, test } from 'vitest'
import { guardFetch, type GuardOptions } from '../../integrations/transport/guard-fetch.ts'
import type { Scope } from '../../src/index.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import { errorOf } from '../../src/testing/integration-bench.ts'
import type { SimulatedProvider } from '../../src/testing/provider.ts'
import { MODEL, openGemini } from './google-bench.ts'
import { openProvider, openSite } from './wire-site.ts'

function sdkOn(provider: SimulatedProvider, scope: Scope, options?: GuardOptions): GoogleGenAI {
  const httpOptions = {
    baseUrl: `http://127.0.0.1:${provider.port}`,
    retryOptions: { attempts: 3, initialDelay: 0.001, jitter: 0 },
    fetch: guardFetch(scope, options),
  }
  return new GoogleGenAI({ apiKey: 'test', httpOptions })
}

describe('the Google Gen AI SDK', () => {
  test('throws a refusal that is found in its error, and does not retry it', async () => {
    const provider = await openProvider()
    const site = await openSite({})
    const { models } = sdkOn(provider, site.scope)
    for (const call of [models.generateContent, models.generateContentStream]) {
      const error = await errorOf(() => call({ model: 'harbour-master-1', contents: 'hello' }))
      expect(findRefusal(error)?.code).toBe('ERR_UNKNOWN_PRICE')
      expect(error).toMatchObject({ name: 'ApiError', status: 402 })
    }
    expect(provider.bill().requests).toBe(0)
    expect(site.records('refused').length).toBe(2)
  })

  test('calls functions of its own accord, and each turn is held and settled', async () => {
    const provider = await openProvider({ toolCalls: [{ name: 'look', arguments: { at: 'pier 4' } }] }, { text: 'Two ships.' })
    const site = await openGemini()
    const tool = {
      tool: async () => ({ functionDeclarations: [{ name: 'look' }] }),
      callTool: async () => [{ functionResponse: { name: 'look', response: { output: 'two ships' } } }],
    }
    const answer = await sdkOn(provider, site.scope).models.generateContent({ model: MODEL, contents: 'Look.', config: { tools: [tool] } })
    expect(answer.text).toBe('Two ships.')
    expect(site.ends().map(([outcome]) => outcome)).toEqual(['settled', 'settled'])
    const [line] = await site.kernel.budgets('acme')
    expect(line!.spent).toBe(provider.bill().nanoUsd)
  })

  test('streams a chat, and each message is held and settled', async () => {
    const provider = await openProvider({ usage: { inputTokens: 61, cachedTokens: 40, outputTokens: 77, reasoningTokens: 30 } })
    const site = await openGemini()
    const chat = sdkOn(provider, site.scope).chats.create({ model: MODEL })
    for (const message of ['How many?', 'And tomorrow?']) {
      let last: number | undefined
      for await (const { usageMetadata } of await chat.sendMessageStream({ message })) last = usageMetadata?.totalTokenCount
      expect(last).toBe(138)
    }
    expect(site.ends()).toEqual([1, 2].map(() => ['settled', 21 * 150 + 40 * 75 + 77 * 600]))
  })

  test('asks Vertex AI through the same guard', async () => {
    const provider = await openProvider()
    const site = await openGemini()
    const httpOptions = {
      baseUrl: `http://127.0.0.1:${provider.port}`,
      headers: { authorization: 'Bearer test' },
      fetch: guardFetch(site.scope),
    }
    const client = new GoogleGenAI({ vertexai: true, apiKey: 'test', httpOptions })
    const error = await errorOf(() => client.models.generateContent({ model: 'harbour-master-1', contents: 'hello' }))
    expect(findRefusal(error)?.code).toBe('ERR_UNKNOWN_PRICE')
    expect(provider.bill().requests).toBe(0)
  })

  test.each<[string, (client: GoogleGenAI) => Promise<unknown>]>([
    ['a picture', ({ models }) => models.generateContent({ model: 'gemini-2.5-flash-image', contents: 'a ship' })],
    ['a film', ({ models }) => models.generateVideos({ model: 'veo-3.0', source: { prompt: 'a ship' } })],
    ['a batch', ({ batches }) => batches.create({ model: MODEL, src: [{ contents: 'hello' }] })],
    ['a cache', ({ caches }) => caches.create({ model: MODEL, config: { contents: 'hello' } })],
    ['a longer life of a cache', ({ caches }) => caches.update({ name: 'cachedContents/7', config: { ttl: '60s' } })],
    ['an interaction', ({ interactions }) => interactions.create({ model: MODEL, input: 'hello' })],
    ['a key to speak live', ({ authTokens }) => authTokens.create({})],
  ])('has %s refused before anything is sent', async (_, ask) => {
    const provider = await openProvider()
    const site = await openGemini()
    expect(findRefusal(await errorOf(() => ask(sdkOn(provider, site.scope))))?.code).toBe('ERR_UNMETERED')
    expect([site.records('refused').length, site.records('intent').length]).toEqual([1, 0])
  })
})
