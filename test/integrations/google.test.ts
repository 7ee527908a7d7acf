// Gemini models under the transport guard: which endpoints are metered, free and refused, and what a request is held at.

import { describe, expect, test } from 'vitest'
import { guardFetch, type GuardOptions } from '../../integrations/transport/guard-fetch.ts'
import type { PriceOverride } from '../../src/index.ts'
import { BODY, CHUNKS, COST, MODEL, ROOT, openGemini, usageOf } from './google-bench.ts'
import { PRICE, attempt, openSite } from './wire-site.ts'

describe('an endpoint of Google', () => {
  const vertex = '/v1/projects/acme/locations/europe-west1/publishers/google'
  test.each([
    [`/v1beta/models/${MODEL}:generateContent`, MODEL],
    [`/v1beta/models/${MODEL}:streamGenerateContent?alt=sse`, MODEL],
    [`/v1beta/models/${MODEL}:streamGenerateContent`, MODEL],
    [`/gateway/v1/models/${MODEL}:generateContent`, MODEL],
    [`${vertex}/models/${MODEL}:generateContent`, MODEL],
    [`${vertex}/models/${MODEL}:streamGenerateContent?alt=sse`, MODEL],
    ['/v1beta/tunedModels/ships-7:generateContent', 'tunedModels/ships-7'],
    ['/v1/projects/acme/locations/europe-west1/endpoints/42:generateContent', 'endpoints/42'],
  ])('%s is held for %s', async (path, model) => {
    const site = await openSite({ [model]: PRICE })
    const { reached, refusal } = await attempt(site, ROOT + path, BODY)
    expect([refusal, reached.length]).toEqual([undefined, 1])
    expect(site.records('intent')).toMatchObject([{ resource: model, outputTokens: 50 }])
    expect(site.ends()).toMatchObject([['charged', expect.any(Number)]])
  })

  test('is refused for a tuned model without a price, before it is asked', async () => {
    const { reached, refusal } = await attempt(await openGemini(), ROOT + '/v1beta/tunedModels/ships-7:generateContent', BODY)
    expect([refusal?.code, reached]).toEqual(['ERR_UNKNOWN_PRICE', []])
    expect(refusal!.message).toContain("'tunedModels/ships-7'")
  })

  test.each([
    `/v1beta/models/${MODEL}:countTokens`,
    `${vertex}/models/${MODEL}:countTokens`,
    `${vertex}/models/${MODEL}:computeTokens`,
    '/upload/v1beta/files?uploadType=resumable',
    '/v1beta/files:register',
    '/v1beta/batches/7:cancel',
    `${vertex}/models/veo-3.0:fetchPredictOperation`,
  ])('%s costs nothing, and passes without a hold', async (path) => {
    const site = await openGemini()
    expect((await attempt(site, ROOT + path, BODY)).reached).toEqual([JSON.stringify(BODY)])
    expect(site.records('intent')).toEqual([])
  })

  test.each([
    '/v1beta/models/imagen-4.0:predict',
    '/v1beta/models/veo-3.0:predictLongRunning',
    `/v1beta/models/${MODEL}:batchGenerateContent`,
    '/v1beta/models/gemini-embedding-001:asyncBatchEmbedContent',
    '/v1beta/cachedContents',
    '/v1beta/interactions',
    '/v1alpha/auth_tokens',
    '/v1beta/tunedModels',
    '/upload/v1beta/fileSearchStores/1:uploadToFileSearchStore',
    '/v1/projects/acme/locations/eu/publishers/anthropic/models/claude-sonnet-4:rawPredict',
    '/v1/projects/acme/locations/eu/publishers/anthropic/models/claude-sonnet-4:streamRawPredict',
    `/v1beta/models/${MODEL}%3AgenerateContent`,
    `/v1beta/models/${MODEL}:generateContentLater`,
  ])('%s is refused before it is asked, unless it is let through by name', async (path) => {
    const site = await openGemini()
    const { reached, refusal } = await attempt(site, ROOT + path, BODY)
    expect([refusal?.code, reached]).toEqual(['ERR_UNMETERED', []])
    expect((await attempt(site, ROOT + path, BODY, { passthrough: [path.split('/').at(-1)!] })).reached.length).toBe(1)
  })

  test('that lets a cache live on is refused, though nothing is posted; one that ends it passes', async () => {
    const site = await openGemini()
    const { reached, refusal } = await attempt(site, ROOT + '/v1beta/cachedContents/7', { ttl: '86400s' }, {}, 'PATCH')
    expect([refusal?.code, reached]).toEqual(['ERR_UNMETERED', []])
    expect(refusal!.message).toMatch(/^PATCH \/v1beta\/cachedContents\/7 /)
    expect((await attempt(site, ROOT + '/v1beta/cachedContents/7', {}, {}, 'DELETE')).reached.length).toBe(1)
  })

  test('that speaks the format of OpenAI is metered as a chat completion', async () => {
    const site = await openGemini()
    const body = { model: MODEL, messages: [{ role: 'user', content: 'hello' }], max_tokens: 30 }
    expect((await attempt(site, ROOT + '/v1beta/openai/chat/completions', body)).reached.length).toBe(1)
    expect(site.records('intent')).toMatchObject([{ resource: MODEL, outputTokens: 30 }])
  })
})

describe('the output cap of a request to Gemini', () => {
  const path = `/v1beta/models/${MODEL}:generateContent`
  const { contents } = BODY

  test('is added where there is none', async () => {
    expect((await attempt(await openGemini(), ROOT + path, { contents })).sent).toEqual({
      contents,
      generationConfig: { maxOutputTokens: 8_192 },
    })
  })

  test('joins what the request configures, in its own spelling', async () => {
    const body = { contents, generation_config: { temperature: 0, max_output_tokens: null } }
    const { sent } = await attempt(await openGemini(), ROOT + path, body, { defaultMaxOutputTokens: 77 })
    expect(sent).toEqual({ contents, generation_config: { temperature: 0, maxOutputTokens: 77 } })
  })

  test('of the caller is sent as it is', async () => {
    expect((await attempt(await openGemini(), ROOT + path, BODY)).sent).toEqual(BODY)
  })

  test('in two spellings is refused', async () => {
    const body = { contents, generationConfig: { maxOutputTokens: 1, max_output_tokens: 65_536 } }
    const { reached, refusal } = await attempt(await openGemini(), ROOT + path, body)
    expect([refusal?.code, reached]).toEqual(['ERR_UNMETERED', []])
  })
})

describe('a tier of service', () => {
  const path = `/v1beta/models/${MODEL}:generateContent`
  const priority = { ...BODY, serviceTier: 'priority' }
  const answering =
    (usageMetadata: object): typeof fetch =>
    async () =>
      Response.json({ ...CHUNKS[2], usageMetadata })

  test('that costs more needs a price of its own, in the body of Gemini and in the header of Vertex AI', async () => {
    const site = await openGemini()
    expect((await attempt(site, ROOT + path, priority)).refusal?.code).toBe('ERR_UNKNOWN_PRICE')
    const headers = { 'X-Vertex-AI-LLM-Shared-Request-Type': 'priority' }
    const send = guardFetch(site.scope, { fetch: answering({}) })
    expect((await send(`${ROOT}${path}`, { method: 'POST', headers, body: JSON.stringify(BODY) })).status).toBe(402)
    for (const serviceTier of ['standard', 'flex'])
      expect((await attempt(site, ROOT + path, { ...BODY, serviceTier })).refusal).toBeUndefined()
  })

  test('that answered is the one that is paid', async () => {
    const dear: PriceOverride = { ...PRICE, inputUsdPerMillion: '0.3', outputUsdPerMillion: '1.2' }
    const cheap: PriceOverride = { ...PRICE, inputUsdPerMillion: '0.075', outputUsdPerMillion: '0.3' }
    const site = await openSite({ [MODEL]: PRICE, [`${MODEL}@priority`]: dear, [`${MODEL}@flex`]: cheap })
    for (const trafficType of ['ON_DEMAND_PRIORITY', 'ON_DEMAND', 'PROVISIONED_THROUGHPUT', 'ON_DEMAND_FLEX']) {
      const send = guardFetch(site.scope, { fetch: answering({ ...usageOf(12, 5), trafficType }) })
      await send(`${ROOT}${path}`, { method: 'POST', body: JSON.stringify(priority) })
    }
    expect(site.ends()).toEqual([
      ['settled', 2 * COST],
      ['settled', COST],
      ['settled', COST],
      ['settled', COST / 2],
    ])
  })
})

describe('searching with Google', () => {
  const body = { ...BODY, tools: [{ googleSearch: {} }] }
  const fees: PriceOverride = { ...PRICE, toolUsdPerThousand: { web_search: 35 } }
  const answer = (modelVersion: string) => ({
    candidates: [{ finishReason: 'STOP', groundingMetadata: { webSearchQueries: ['ships', 'tides', 'ships', ''] } }],
    usageMetadata: usageOf(12, 5),
    modelVersion,
  })
  async function search(model: string, price: PriceOverride, options: GuardOptions) {
    const site = await openSite({ [model]: price })
    const send = guardFetch(site.scope, { ...options, fetch: async () => Response.json(answer(model)) })
    const response = await send(`${ROOT}/v1beta/models/${model}:generateContent`, { method: 'POST', body: JSON.stringify(body) })
    return { status: response.status, ends: site.ends(), message: await response.text() }
  }

  test('costs one fee before Gemini 3, and one for each query from then on', async () => {
    const two = await search(MODEL, fees, { maxInputTokens: 10_000 })
    expect(two.ends).toEqual([['settled', COST + 35_000_000]])
    const three = await search('gemini-3-flash-preview', fees, { maxInputTokens: 10_000, maxToolCalls: 4 })
    expect(three.ends).toEqual([['settled', COST + 2 * 35_000_000]])
  })

  test.each([
    ['no limit of tokens', MODEL, fees, {}, 'maxInputTokens'],
    ['no fee', MODEL, PRICE, { maxInputTokens: 10_000 }, 'web_search'],
    ['no limit of searches', 'gemini-3-flash-preview', fees, { maxInputTokens: 10_000 }, 'maxToolCalls'],
  ])('is refused with %s, saying what to set', async (_, model, price, options, fix) => {
    const { status, ends, message } = await search(model, price, options)
    expect([status, ends]).toEqual([402, []])
    expect(message).toContain(fix)
  })
})

describe('embeddings of Gemini', () => {
  const EMBEDDER = 'gemini-embedding-001'
  const url = `${ROOT}/v1beta/models/${EMBEDDER}`
  const openEmbedder = () => openSite({ [EMBEDDER]: { inputUsdPerMillion: '0.15', outputUsdPerMillion: 0, contextWindow: 2_048 } })
  const content = { parts: [{ text: 'Neun Schiffe.' }] }
  const request = { model: `models/${EMBEDDER}`, content }
  const answering =
    (answer: object): typeof fetch =>
    async () =>
      Response.json(answer)

  test.each([
    [':embedContent', { ...request, taskType: 'RETRIEVAL_QUERY' }],
    [':batchEmbedContents', { requests: [request, request] }],
  ])('by %s are held by their bytes, and count as held where the answer says nothing', async (method, body) => {
    const site = await openEmbedder()
    const { sent } = await attempt(site, url + method, body)
    expect(sent).toEqual(body)
    const usd = Buffer.byteLength(JSON.stringify(body)) * 150
    expect(site.records('intent')).toMatchObject([{ resource: EMBEDDER, amounts: { usd } }])
    expect(site.ends()).toEqual([['charged', usd]])
  })

  test('are settled where the answer has their usage', async () => {
    const site = await openEmbedder()
    const fetch = answering({ embedding: { values: [0.1] }, usageMetadata: { promptTokenCount: 4 } })
    await guardFetch(site.scope, { fetch })(`${url}:embedContent`, { method: 'POST', body: JSON.stringify(request) })
    expect(site.ends()).toEqual([['settled', 600]])
  })

  test.each([
    ['an image', { content: { parts: [{ inlineData: { mimeType: 'image/png', data: 'aGk=' } }] } }],
    ['a file in a batch', { requests: [request, { content: { parts: [{ file_data: { file_uri: 'files/1' } }] } }] }],
    ['nothing that is known', { document: 'files/1' }],
  ])('of %s are refused without a limit of the caller', async (_, body) => {
    const { reached, refusal } = await attempt(await openEmbedder(), `${url}:embedContent`, body)
    expect([refusal?.code, reached]).toEqual(['ERR_UNMETERED', []])
    const limited = await attempt(await openEmbedder(), `${url}:embedContent`, body, { maxInputTokens: 4_096 })
    expect(limited.reached.length).toBe(1)
  })
})
