// A provider of the AI SDK under holdfast: every kind of model that comes out of it is held, or refused; by whatever
// function, name or registry it comes.

import { createAnthropic } from '@ai-sdk/anthropic'
import { createOpenAI, type OpenAIProvider } from '@ai-sdk/openai'
import type { LanguageModelV4 } from '@ai-sdk/provider'
import {
  createProviderRegistry,
  customProvider,
  embed,
  embedMany,
  transcribe,
  generateImage,
  generateSpeech,
  generateText,
  rerank,
  wrapEmbeddingModel,
  wrapImageModel,
} from 'ai'
import { describe, expect, test } from 'vitest'
import {
  guardFetch,
  guardProvider,
  guardSettings,
  holdfastEmbeddingMiddleware,
  holdfastImageMiddleware,
} from '../../integrations/ai-sdk.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import { errorOf } from '../../src/testing/integration-bench.ts'
import { MODEL, PRICES, atDesk, startServer, type Desk } from './ai-sdk-desk.ts'

const CALL = { prompt: 'hello', maxOutputTokens: 50, maxRetries: 0 }
const EMBEDDER = 'text-embedding-3-small'
const PAINTER = 'gpt-image-1'
/** Nano-USD for each token in. */
const EMBEDDING_PRICE = 20
const KINDS = {
  ...PRICES,
  [EMBEDDER]: { inputUsdPerMillion: '0.02', outputUsdPerMillion: 0 },
  [PAINTER]: { inputUsdPerMillion: 5, outputUsdPerMillion: 40, maxOutputTokens: 6_240 },
}
const VECTOR = { object: 'embedding', index: 0, embedding: [0.1, 0.2] }

interface Named {
  languageModel(id: string): LanguageModelV4
}

/** A desk, and a server for the kinds of models that the simulated provider does not have. */
async function withKinds(
  answer: (path: string) => unknown,
  run: (desk: Desk & { openai: OpenAIProvider; paths: string[] }) => Promise<void>,
  options = {},
) {
  const server = await startServer(answer)
  try {
    await atDesk({ prices: KINDS, ...options }, (desk) =>
      run({ ...desk, openai: createOpenAI({ apiKey: 'test', baseURL: server.baseURL }), paths: server.paths }),
    )
  } finally {
    await server.close()
  }
}

const embeddings = (tokens: number | undefined) => () => ({
  object: 'list',
  data: [VECTOR],
  model: EMBEDDER,
  ...(tokens === undefined ? {} : { usage: { prompt_tokens: tokens, total_tokens: tokens } }),
})

describe('guardProvider', () => {
  test.each([
    ['the provider itself', (provider: OpenAIProvider) => provider(MODEL)],
    ['languageModel', (provider: OpenAIProvider) => provider.languageModel(MODEL)],
    ['chat', (provider: OpenAIProvider) => provider.chat(MODEL)],
    ['responses', (provider: OpenAIProvider) => provider.responses(MODEL)],
    ['a function that was taken from it', (provider: OpenAIProvider) => Reflect.get(provider, 'chat').call(undefined, MODEL)],
    ['bind', (provider: OpenAIProvider) => provider.bind(undefined)(MODEL)],
    ['call', (provider: OpenAIProvider) => provider.chat.call(undefined, MODEL)],
    ['a registry', (openai: OpenAIProvider) => createProviderRegistry({ openai }).languageModel(`openai:${MODEL}`)],
    ['a custom provider', (openai: OpenAIProvider) => customProvider({ fallbackProvider: openai }).languageModel(MODEL)],
  ])('holds and settles a model from %s', (_, modelFrom) =>
    atDesk({}, async ({ scope, provider, openai, ends, spent }) => {
      await generateText({ ...CALL, model: modelFrom(guardProvider(openai, scope)) })
      expect(ends()).toEqual(['settled'])
      expect(await spent()).toBe(provider.bill().nanoUsd)
    }),
  )

  test.each([
    ['a registry', (openai: OpenAIProvider) => createProviderRegistry({ openai }), `openai:${MODEL}`],
    ['a custom provider', (openai: OpenAIProvider) => customProvider({ languageModels: { mine: openai.chat(MODEL) } }), 'mine'],
  ])('around %s guards what comes out of it', (_, around, name) =>
    atDesk({}, async ({ scope, provider, openai, ends, spent }) => {
      await generateText({ ...CALL, model: guardProvider(around(openai) as Named, scope).languageModel(name) })
      expect(ends()).toEqual(['settled'])
      expect(await spent()).toBe(provider.bill().nanoUsd)
    }),
  )

  test('refuses what does not fit before anything is sent', () =>
    atDesk({ budgets: { acme: { usd: '0.000001' } } }, async ({ scope, provider, openai }) => {
      const error = await errorOf(() => generateText({ ...CALL, model: guardProvider(openai, scope)(MODEL) }))
      expect(findRefusal(error)?.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(provider.bill().requests).toBe(0)
    }))

  test('twice is once, and does not mark the provider below it', () =>
    atDesk({}, async ({ scope, openai, ends }) => {
      const once = guardProvider(openai, scope)
      expect(guardProvider(once, scope)).toBe(once)
      await generateText({ ...CALL, model: guardProvider(once, scope)(MODEL) })
      await generateText({ ...CALL, model: guardProvider(openai, scope)(MODEL) })
      expect(ends()).toEqual(['settled', 'settled'])
    }))

  test('as the default provider guards models that are only a name', () =>
    atDesk({}, async ({ scope, provider, openai, ends, spent }) => {
      globalThis.AI_SDK_DEFAULT_PROVIDER = guardProvider(openai, scope)
      try {
        await generateText({ ...CALL, model: MODEL })
      } finally {
        globalThis.AI_SDK_DEFAULT_PROVIDER = undefined
      }
      expect(ends()).toEqual(['settled'])
      expect(await spent()).toBe(provider.bill().nanoUsd)
    }))

  test('leaves hosted tools as they are, and works over the transport guard with one hold', () =>
    atDesk({}, async ({ scope, provider, openai, ends }) => {
      expect(guardProvider(openai, scope).tools.webSearch({})).toMatchObject({ type: 'provider', id: 'openai.web_search' })
      const below = createOpenAI({ apiKey: 'test', baseURL: provider.baseURL, fetch: guardFetch(scope) })
      await generateText({ ...CALL, model: guardProvider(below, scope)(MODEL) })
      expect(ends()).toEqual(['settled'])
    }))
})

describe('an embedding', () => {
  test('is held at its bytes and settled from its tokens, in usd and in tokens', () =>
    withKinds(embeddings(7), async ({ scope, openai, records, spent, ends }) => {
      const { embedding } = await embed({ model: guardProvider(openai, scope).embeddingModel(EMBEDDER), value: 'ships in the harbour' })
      expect(embedding).toEqual(VECTOR.embedding)
      const [held] = records('intent').map(({ amounts }) => amounts as { usd: number; tokens: number })
      expect(held!.tokens).toBeGreaterThanOrEqual(Buffer.byteLength('ships in the harbour'))
      expect(held!.usd).toBe(held!.tokens * EMBEDDING_PRICE)
      expect([await spent(), await spent('tokens'), ends()]).toEqual([7 * EMBEDDING_PRICE, 7, ['settled']])
    }))

  test('in guarded settings is held, too', () =>
    withKinds(embeddings(7), async ({ scope, openai, ends }) => {
      await embed(guardSettings(scope, { model: openai.embeddingModel(EMBEDDER), value: 'ships' }))
      expect(ends()).toEqual(['settled'])
    }))

  test('of many values is held for each call that the SDK makes', () =>
    withKinds(embeddings(7), async ({ scope, openai, ends, paths }) => {
      const guarded = guardProvider(openai, scope).embeddingModel(EMBEDDER)
      const model = wrapEmbeddingModel({
        model: guarded,
        middleware: { specificationVersion: 'v4', overrideMaxEmbeddingsPerCall: () => 1 },
      })
      await embedMany({ model, values: ['one', 'two', 'three'] })
      expect([ends(), paths.length]).toEqual([['settled', 'settled', 'settled'], 3])
    }))

  test('that does not fit is refused before anything is sent', () =>
    withKinds(
      embeddings(7),
      async ({ scope, openai, paths }) => {
        const error = await errorOf(() =>
          embed({ model: guardProvider(openai, scope).embeddingModel(EMBEDDER), value: 'x'.repeat(5_000), maxRetries: 0 }),
        )
        expect(findRefusal(error)?.code).toBe('ERR_BUDGET_EXCEEDED')
        expect(paths).toEqual([])
      },
      { budgets: { acme: { usd: 1, tokens: 5_000 } } },
    ))

  test.each([
    ['without usage', undefined],
    ['with a usage of zero, as servers say that do not count', 0],
  ])('%s is charged at worst, and the operator is told', (_, tokens) =>
    withKinds(embeddings(tokens), async ({ scope, openai, ends, events, spent }) => {
      await embed({ model: guardProvider(openai, scope).embeddingModel(EMBEDDER), value: 'ships' })
      expect([ends(), events]).toEqual([['charged'], ['assumed']])
      expect(await spent()).toBeGreaterThan(0)
    }),
  )

  test('by middleware is the same, and a model without a price is refused', () =>
    withKinds(embeddings(7), async ({ scope, openai, ends, paths }) => {
      const wrapped = (id: string) =>
        wrapEmbeddingModel({ model: openai.embeddingModel(id), middleware: holdfastEmbeddingMiddleware(scope) })
      await embed({ model: wrapped(EMBEDDER), value: 'ships' })
      const error = await errorOf(() => embed({ model: wrapped('nobody-knows-it'), value: 'ships', maxRetries: 0 }))
      expect(findRefusal(error)?.code).toBe('ERR_UNKNOWN_PRICE')
      expect([ends(), paths.length]).toEqual([['settled'], 1])
    }))

  test('whose options may add what is not text is refused, or held at the most that its user gives his word for', () =>
    withKinds(embeddings(7), async ({ scope, openai, records, paths }) => {
      const call = { value: 'ships', maxRetries: 0, providerOptions: { google: { content: [[{ inlineData: 'aGk=' }]] } } }
      const error = await errorOf(() => embed({ ...call, model: guardProvider(openai, scope).embeddingModel(EMBEDDER) }))
      expect(findRefusal(error)).toMatchObject({ code: 'ERR_UNMETERED', message: expect.stringContaining('maxInputTokens') as string })
      expect(paths).toEqual([])
      await embed({ ...call, model: guardProvider(openai, scope, { maxInputTokens: 2_000 }).embeddingModel(EMBEDDER) })
      expect(records('intent')).toMatchObject([{ amounts: { tokens: 2_000 } }])
    }))
})

const image = (usage?: object) => () => ({ created: 1, data: [{ b64_json: 'aGk=' }], ...(usage === undefined ? {} : { usage }) })
const PAINT = { prompt: 'a harbour', maxRetries: 0 }

describe('an image', () => {
  test('of a model with token prices is held at the most that one may have, and settled from its usage', () =>
    withKinds(image({ input_tokens: 10, output_tokens: 1_056, total_tokens: 1_066 }), async ({ scope, openai, records, spent, ends }) => {
      await generateImage({ ...PAINT, model: guardProvider(openai, scope).imageModel(PAINTER) })
      expect(records('intent')).toMatchObject([{ outputTokens: 6_240 }])
      expect([await spent(), ends()]).toEqual([10 * 5_000 + 1_056 * 40_000, ['settled']])
    }))

  test('without usage is charged at worst, for each image that was asked for', () =>
    withKinds(image(), async ({ scope, openai, spent, ends }) => {
      await generateImage({ ...PAINT, n: 2, model: guardProvider(openai, scope).imageModel(PAINTER) })
      expect(ends()).toEqual(['charged'])
      expect(await spent()).toBeGreaterThan(2 * 6_240 * 40_000)
    }))

  test.each([
    ['of a model without a token price', 'dall-e-3', {}, {}, 'ERR_UNKNOWN_PRICE'],
    ['of a model that says nowhere how many tokens it may have', MODEL, {}, {}, 'ERR_UNMETERED'],
    [
      'that is made from an image',
      PAINTER,
      { prompt: { text: 'a harbour', images: [new Uint8Array([137, 80, 78, 71])] } },
      {},
      'ERR_UNMETERED',
    ],
  ])('%s is refused before anything is sent', (_, id, more, __, code) =>
    withKinds(image({}), async ({ scope, openai, paths }) => {
      const options = id === 'dall-e-3' ? { maxTokensPerImage: 100 } : {}
      const model = wrapImageModel({ model: openai.imageModel(id), middleware: holdfastImageMiddleware(scope, options) })
      const error = await errorOf(() => generateImage({ ...PAINT, ...more, model }))
      expect(findRefusal(error)?.code).toBe(code)
      expect(paths).toEqual([])
    }),
  )

  test('is bounded by the word of its user', () =>
    withKinds(image(), async ({ scope, openai, records }) => {
      await generateImage({ ...PAINT, model: guardProvider(openai, scope, { maxTokensPerImage: 300 }).imageModel(PAINTER) })
      expect(records('intent')).toMatchObject([{ outputTokens: 300 }])
    }))
})

describe('a kind that has no bound', () => {
  const USES: Readonly<Record<string, (provider: OpenAIProvider) => Promise<unknown>>> = {
    speech: (provider) => generateSpeech({ model: provider.speech('tts-1'), text: 'hello', maxRetries: 0 }),
    transcription: (provider) =>
      transcribe({ model: provider.transcription('whisper-1'), audio: new Uint8Array([1, 2, 3]), maxRetries: 0 }),
    'a realtime token': async (provider) =>
      (provider as unknown as { experimental_realtime: { getToken(o: object): Promise<unknown> } }).experimental_realtime.getToken({
        model: 'm',
      }),
    reranking: (provider) => rerank({ model: ranking(provider), query: 'q', documents: ['d'], maxRetries: 0 }),
    'a model of an old specification': (provider) => generateText({ ...CALL, model: old(provider) }),
  }
  const asked: string[] = []
  const ranking = (provider: OpenAIProvider) =>
    (provider as unknown as { rerankingModel(id: string): Parameters<typeof rerank>[0]['model'] }).rerankingModel('ranker')
  const old = (provider: OpenAIProvider) => (provider as unknown as { old(): Parameters<typeof generateText>[0]['model'] }).old()
  /** OpenAI's provider with kinds that it does not have. */
  const wider = (openai: OpenAIProvider) =>
    Object.assign((id: string) => openai(id), openai, {
      rerankingModel: (modelId: string) => ({
        specificationVersion: 'v4',
        provider: 'own',
        modelId,
        doRerank: async () => (asked.push('rerank'), { ranking: [{ index: 0, relevanceScore: 1 }] }),
      }),
      old: () => ({
        specificationVersion: 'v2',
        provider: 'own',
        modelId: 'old',
        supportedUrls: {},
        doGenerate: async () => asked.push('old'),
        doStream: async () => asked.push('old'),
      }),
    }) as unknown as OpenAIProvider

  test.each(Object.entries(USES))('(%s) is refused when it is used, and nothing is sent', (_, use) =>
    withKinds(
      () => ({}),
      async ({ scope, openai, paths }) => {
        asked.length = 0
        const error = await errorOf(() => use(guardProvider(wider(openai), scope)))
        expect(findRefusal(error)?.code).toBe('ERR_UNMETERED')
        expect(scope.refusal?.code).toBe('ERR_UNMETERED')
        expect([paths, asked]).toEqual([[], []])
      },
    ),
  )

  test('passes in observe mode, and an event says that it would not have', () =>
    withKinds(
      () => ({}),
      async ({ scope, openai, events }) => {
        asked.length = 0
        await USES['reranking']!(guardProvider(wider(openai), scope))
        expect([asked, events]).toEqual([['rerank'], ['would-refuse']])
      },
      { mode: 'observe' },
    ))
})

/** What sends, in whatever a provider makes: methods that begin with `do`. */
function sendersOf(made: object): readonly string[] {
  const names = new Set<string>()
  for (let level = made; level !== Object.prototype; level = Object.getPrototypeOf(level) as object)
    for (const name of Object.getOwnPropertyNames(level)) if (/^do[A-Z]/.test(name)) names.add(name)
  return [...names]
}

/** Enough for any method to start with. */
const ANYTHING = {
  prompt: [{ role: 'user', content: [{ type: 'text', text: 'x' }] }],
  values: ['x'],
  text: 'x',
  n: 1,
  audio: new Uint8Array([1]),
  mediaType: 'audio/wav',
  requests: [],
  providerOptions: {},
}

describe('whatever a function of a provider makes', () => {
  test.each([
    ['OpenAI', createOpenAI],
    ['Anthropic', createAnthropic],
  ] as const)('sends nothing that is not held, by any of its methods: %s', (_, create) =>
    atDesk({}, async ({ scope }) => {
      let sent = 0
      const fetch: typeof globalThis.fetch = async () => (sent++, new Response('{}', { status: 400 }))
      const provider = guardProvider(create({ apiKey: 'test', fetch }), scope) as unknown as Readonly<Record<string, unknown>>
      const tried: string[] = []
      for (const [name, make] of Object.entries(provider)) {
        if (typeof make !== 'function') continue
        let made: Readonly<Record<string, (options: object) => Promise<unknown>>>
        try {
          made = make('no-model-has-this-name') as typeof made
        } catch (error) {
          // A provider that does not have this kind.
          if ((error as Error).name === 'AI_NoSuchModelError') continue
          throw error
        }
        for (const sender of sendersOf(made)) {
          const refusal = findRefusal(await errorOf(() => made[sender]!(ANYTHING)))
          tried.push(`${name}.${sender}`)
          expect([name, sender, refusal?.code]).toEqual([name, sender, expect.stringMatching(/^ERR_(?:UNMETERED|UNKNOWN_PRICE)$/)])
        }
      }
      expect([sent, tried.length > 10]).toEqual([0, true])
    }),
  )
})
