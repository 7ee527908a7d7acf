// Embeddings, legacy completions, images and audio under the transport guard: what each is held at, and what it is
// settled at, with the clients that people use.

import { createOpenAI } from '@ai-sdk/openai'
import { embedMany, generateSpeech, transcribe } from 'ai'
import { describe, expect, test } from 'vitest'
import { findRefusal } from '../../src/lib/errors.ts'
import { errorOf } from '../../src/testing/integration-bench.ts'
import { onMedia, type MediaBench } from './media-bench.ts'

/** Nano-USD per token by the price list: text-embedding-3-small, gpt-3.5-turbo-instruct, gpt-image-1, gpt-4o-transcribe. */
const EMBEDDING = 20
const [INSTRUCT_IN, INSTRUCT_OUT] = [1_500, 2_000]
const [IMAGE_IN, IMAGE_OUT] = [10_000, 40_000]
const [TRANSCRIBE_TEXT, TRANSCRIBE_AUDIO, TRANSCRIBE_OUT] = [2_500, 6_000, 10_000]

const mp3 = (bytes: number): Uint8Array<ArrayBuffer> => {
  const file = new Uint8Array(bytes)
  file.set([0xff, 0xfb, 0x90])
  return file
}

/** A WAV header for samples of so many bytes per second, and silence. */
function wav(bytesPerSecond: number, bytes: number): Uint8Array<ArrayBuffer> {
  const file = Buffer.alloc(bytes)
  file.write('RIFF', 0)
  file.write('WAVEfmt ', 8)
  file.writeUInt16LE(1, 20)
  file.writeUInt32LE(bytesPerSecond, 28)
  return new Uint8Array(file)
}

async function refusalOf(call: () => Promise<unknown>) {
  return findRefusal(await errorOf(call))
}

/** What came of a call that is refused: by which refusal, and what was sent and held nevertheless. */
async function refused({ provider, held }: MediaBench, call: () => Promise<unknown>) {
  const refusal = await refusalOf(call)
  return { code: refusal?.code, message: refusal?.message, requests: provider.bill().requests, held: held() }
}

const unmetered = (fix: string) => ({ code: 'ERR_UNMETERED', message: expect.stringContaining(fix) as string, requests: 0, held: [] })

describe('embeddings', () => {
  const MODEL = 'text-embedding-3-small'

  test.each([
    ['a text', 'hello there'],
    ['texts', ['hello', 'there']],
    ['tokens', [1, 2, 3]],
    ['lists of tokens', [[1, 2], [3]]],
  ])('of %s are held by bytes and settled by the tokens of the input', (_, input) =>
    onMedia({}, async ({ client, provider, held, ends }) => {
      await client.embeddings.create({ model: MODEL, input })
      const [line] = provider.bill().lines
      expect(held()[0]!['usd']! >= line!.inputTokens * EMBEDDING).toBe(true)
      expect(ends()).toMatchObject([{ outcome: 'settled', used: { usd: line!.inputTokens * EMBEDDING } }])
    }),
  )

  test('in base64, as the SDK asks by itself, come back as numbers', () =>
    onMedia({}, async ({ client }) => {
      const { data } = await client.embeddings.create({ model: MODEL, input: 'x' })
      expect(data[0]!.embedding).toEqual([0.5, -0.5])
    }))

  test('by the AI SDK, many at a time', () =>
    onMedia({}, async ({ guarded, provider, ends }) => {
      const openai = createOpenAI({ apiKey: 'test', baseURL: provider.baseURL, fetch: guarded })
      const { embeddings } = await embedMany({ model: openai.embedding(MODEL), values: ['a', 'b', 'c'] })
      expect([embeddings.length, ends().map(({ outcome }) => outcome)]).toEqual([3, ['settled']])
    }))

  test('beyond the budget are not sent', () =>
    onMedia({ kernel: { budgets: { acme: { usd: '0.000001' } } } }, async ({ client, provider }) => {
      expect((await refusalOf(async () => client.embeddings.create({ model: MODEL, input: 'x'.repeat(1_000) })))?.code).toBe(
        'ERR_BUDGET_EXCEEDED',
      )
      expect(provider.bill().requests).toBe(0)
    }))

  test('of what is no text need a bound', () =>
    onMedia({}, async (bench) =>
      expect(await refused(bench, async () => bench.client.embeddings.create({ model: MODEL, input: [{ image: 'x' }] as never }))).toEqual(
        unmetered('maxInputTokens'),
      ),
    ))

  test('without usage are charged at worst, and the operator is told', () =>
    onMedia({ media: () => ({ told: false }) }, async ({ client, ends, held, events }) => {
      await client.embeddings.create({ model: MODEL, input: 'x' })
      expect(ends()).toMatchObject([{ outcome: 'charged', used: held()[0] }])
      expect(events).toEqual(['assumed'])
    }))
})

describe('a legacy completion', () => {
  const MODEL = 'gpt-3.5-turbo-instruct'

  test('without a cap gets the one that is documented as its default', () =>
    onMedia({}, async ({ client, held, ends }) => {
      const body = { model: MODEL, prompt: 'hello' }
      await client.completions.create(body)
      expect(held()[0]!['usd']).toBe(JSON.stringify(body).length * INSTRUCT_IN + 16 * INSTRUCT_OUT)
      expect(ends()).toMatchObject([{ outcome: 'settled', used: { usd: 2 * INSTRUCT_IN + 10 * INSTRUCT_OUT } }])
    }))

  test.each([
    ['prompts', { prompt: ['a', 'b', 'c'] }, 3],
    ['n', { prompt: 'a', n: 4 }, 4],
    ['best_of, which is more than n', { prompt: 'a', n: 2, best_of: 5 }, 5],
    ['prompts in tokens, times best_of', { prompt: [[1], [2]], best_of: 3 }, 6],
    ['one prompt in tokens', { prompt: [1, 2, 3] }, 1],
  ])('is held for all that is generated: %s', (_, more, answers) =>
    onMedia({}, async ({ post, held }) => {
      const body = { model: MODEL, max_tokens: 20, ...more }
      await post('completions', body)
      expect(held()[0]!['usd']).toBe(JSON.stringify(body).length * INSTRUCT_IN + answers * 20 * INSTRUCT_OUT)
    }),
  )

  test('with echo is held for the prompt once more', () =>
    onMedia({}, async ({ post, held }) => {
      const body = { model: MODEL, max_tokens: 20, prompt: 'a', echo: true }
      await post('completions', body)
      const bytes = JSON.stringify(body).length
      expect(held()[0]!['usd']).toBe(bytes * INSTRUCT_IN + (bytes + 20) * INSTRUCT_OUT)
    }))
})

describe('images in tokens', () => {
  const ask = { model: 'gpt-image-1', prompt: 'a cat' }

  test.each([
    ['one of known size and quality', { size: '1024x1024', quality: 'low' } as const, 272],
    ['several', { size: '1024x1536', quality: 'medium', n: 3 } as const, 3 * 1_584],
    ['one whose size is left to the provider', { quality: 'high' } as const, 6_240],
    ['one of which nothing is said', {}, 6_240],
  ])('are held at the largest that they can be: %s', (_, more, tokens) =>
    onMedia({}, async ({ client, held, ends, provider }) => {
      const body = { ...ask, ...more }
      await client.images.generate(body)
      expect(held()[0]!['usd']).toBe(JSON.stringify(body).length * IMAGE_IN + tokens * IMAGE_OUT)
      const [line] = provider.bill().lines
      expect(ends()).toMatchObject([
        { outcome: 'settled', used: { usd: line!.inputTokens * IMAGE_IN + line!.outputTokens * IMAGE_OUT, calls: 1 } },
      ])
    }),
  )

  test('in a stream with partial images are held with these, and settled by the last event', () =>
    onMedia({}, async ({ client, held, ends }) => {
      const body = { ...ask, quality: 'low', size: '1024x1024', stream: true, partial_images: 2 } as const
      const types: string[] = []
      for await (const event of await client.images.generate(body)) types.push(event.type)
      expect(types).toEqual(['image_generation.partial_image', 'image_generation.completed'])
      expect(held()[0]!['usd']).toBe(JSON.stringify(body).length * IMAGE_IN + (272 + 200) * IMAGE_OUT)
      expect(ends()).toMatchObject([{ outcome: 'settled' }])
    }))

  test.each([
    ['a model without a documented size', { ...ask, model: 'gpt-image-2' }, 'maxOutputTokens'],
    ['a size that is not in the table', { ...ask, size: '2048x2048' }, 'maxOutputTokens'],
    ['a quality that is not in the table', { ...ask, quality: 'max' }, 'maxOutputTokens'],
    ['frames', { ...ask, output_format: 'gif' }, 'maxOutputTokens'],
    ['an SVG, which a second model writes', { ...ask, output_format: 'svg' }, 'png, jpeg or webp'],
    ['more images than anybody makes', { ...ask, n: 11 }, 'whole number up to 10'],
    ['an image to work on, whose tokens nobody counts', { ...ask, images: [{ image_url: 'https://x' }] }, 'maxInputTokens'],
  ])('are refused without a bound: %s', (_, body, fix) =>
    onMedia({}, async (bench) =>
      expect(await refused(bench, async () => bench.client.post('/images/generations', { body }))).toEqual(unmetered(fix)),
    ),
  )

  test('take the longest answer from the price of their model', () => {
    const prices = { 'gpt-image-2': { inputUsdPerMillion: 10, outputUsdPerMillion: 40, maxOutputTokens: 9_000 } }
    return onMedia({ kernel: { prices } }, async ({ client, held }) => {
      const body = { ...ask, model: 'gpt-image-2', n: 2 }
      await client.images.generate(body)
      expect(held()[0]!['usd']).toBe(JSON.stringify(body).length * IMAGE_IN + 2 * 9_000 * IMAGE_OUT)
    })
  })

  test('made from a file go as the form that they were, held at what was said of their input', () =>
    onMedia({ guard: { maxInputTokens: 5_000 } }, async ({ client, held, ends, provider }) => {
      const image = new File([new Uint8Array(1_000)], 'cat.png', { type: 'image/png' })
      await client.images.edit({ ...ask, image, quality: 'low', size: '1024x1024', n: 2 })
      expect(held()[0]!['usd']).toBe(5_000 * IMAGE_IN + 2 * 272 * IMAGE_OUT)
      expect([provider.bill().requests, ends()[0]!.outcome]).toEqual([1, 'settled'])
    }))

  test('made from a file without such a word are refused', () =>
    onMedia({}, async (bench) =>
      expect(await refused(bench, async () => bench.client.images.edit({ ...ask, image: new File(['x'], 'cat.png') }))).toEqual(
        unmetered('maxInputTokens'),
      ),
    ))
})

describe('images by the piece', () => {
  const PRICES = { 'dall-e-3': { usdPerImage: '0.12' }, flux: { usdPerImage: '0.05' } }

  test.each([
    ['dall-e-3', 1, 120_000_000],
    ['flux', 3, 150_000_000],
  ])('are held and settled by their number: %s', (model, n, usd) =>
    onMedia({ kernel: { prices: PRICES }, media: () => ({ told: false }) }, async ({ client, held, ends, events }) => {
      await client.images.generate({ model, n, prompt: 'a cat' })
      expect(held()).toMatchObject([{ usd }])
      expect(ends()).toMatchObject([{ outcome: 'settled', used: { usd } }])
      expect(events).toEqual([])
    }),
  )

  test('without a price are refused, with the line to add', () =>
    onMedia({}, async ({ client, provider }) => {
      const refusal = await refusalOf(async () => client.images.generate({ model: 'dall-e-3', prompt: 'a cat' }))
      expect([refusal?.code, refusal?.message]).toEqual(['ERR_UNKNOWN_PRICE', expect.stringContaining('usdPerImage')])
      expect(provider.bill().requests).toBe(0)
    }))
})

describe('a transcription', () => {
  test('in tokens is held at the window of its model, and settled by its usage', () =>
    onMedia({}, async ({ client, held, ends }) => {
      await client.audio.transcriptions.create({ model: 'gpt-4o-transcribe', file: new File([mp3(500)], 'a.mp3') })
      expect(held()[0]!['usd']).toBe(16_000 * TRANSCRIBE_AUDIO + 2_000 * TRANSCRIBE_OUT)
      expect(ends()).toMatchObject([{ outcome: 'settled' }])
      expect(ends()[0]!.used['usd']).toBeGreaterThan(10 * TRANSCRIBE_OUT + TRANSCRIBE_TEXT - 1)
    }))

  test('in a stream is settled by its last event', () =>
    onMedia({}, async ({ client, ends }) => {
      const stream = await client.audio.transcriptions.create({ model: 'gpt-4o-transcribe', file: new File(['x'], 'a.ogg'), stream: true })
      const types: string[] = []
      for await (const event of stream) types.push(event.type)
      expect([types.at(-1), ends()[0]!.outcome]).toEqual(['transcript.text.done', 'settled'])
    }))

  test('by the AI SDK is one, too', () =>
    onMedia({}, async ({ guarded, provider, ends }) => {
      const openai = createOpenAI({ apiKey: 'test', baseURL: provider.baseURL, fetch: guarded })
      const { text } = await transcribe({ model: openai.transcription('gpt-4o-mini-transcribe'), audio: mp3(500) })
      expect([text, ends()[0]!.outcome]).toEqual(['ok', 'settled'])
    }))

  test.each([
    ['cut into chunks', 'chunking_strategy', { model: 'gpt-4o-transcribe', chunking_strategy: 'auto' as const }],
    ['by a model whose longest answer is not known', 'maxOutputTokens', { model: 'gpt-4o-transcribe-diarize' }],
    ['by the minute, of a file that says nothing of its length', 'maxAudioSeconds', { model: 'whisper-1' }],
  ])('%s is refused', (_, fix, body) =>
    onMedia({}, async (bench) =>
      expect(
        await refused(bench, async () => bench.client.audio.transcriptions.create({ ...body, file: new File(['x'.repeat(99)], 'a.ogg') })),
      ).toEqual(unmetered(fix)),
    ),
  )

  // whisper-1 costs 0.006 USD a minute: 100 nano-USD a millisecond.
  test.each([
    ['an MP3 at the lowest rate of its format', mp3(4_000), {}, 400_000],
    ['one whose last second has only begun', mp3(4_001), {}, 500_000],
    ['a WAV at its own rate', wav(32_000, 64_000), {}, 200_000],
    ['any file at the word of its owner', new Uint8Array(99), { maxAudioSeconds: 60 }, 6_000_000],
  ])('by the minute is held at the longest that it can play: %s', (_, file, guard, usd) =>
    onMedia({ guard }, async ({ client, held }) => {
      await client.audio.transcriptions.create({ model: 'whisper-1', file: new File([file], 'a') })
      expect(held()).toMatchObject([{ usd }])
    }),
  )

  test.each([
    ['its usage', { usage: { type: 'duration', seconds: 3 } }, 300_000],
    ['the length that it names', { duration: 2.1 }, 300_000],
  ])('by the minute is settled by %s', (_, more, usd) => {
    const fetch = async (): Promise<Response> => Response.json({ text: 'ok', ...more })
    return onMedia({ guard: { fetch } }, async ({ client, ends }) => {
      await client.audio.transcriptions.create({ model: 'whisper-1', file: new File([mp3(9_000)], 'a.mp3') })
      expect(ends()).toMatchObject([{ outcome: 'settled', used: { usd } }])
    })
  })
})

describe('a spoken text', () => {
  const ask = { input: 'hello', voice: 'alloy' as const }

  test('by the character is exact: settled without a word of its answer, whose bytes come through', () => {
    const prices = { 'tts-1': { usdPerMillionCharacters: 15 } }
    return onMedia({ kernel: { prices } }, async ({ client, ends, events }) => {
      const sound = await client.audio.speech.create({ ...ask, model: 'tts-1' })
      expect([...new Uint8Array(await sound.arrayBuffer())]).toEqual([255, 251, 0, 128, 254])
      expect(ends()).toMatchObject([{ outcome: 'settled', used: { usd: 5 * 15_000 } }])
      expect(events).toEqual([])
    })
  })

  test('in tokens needs to know its longest answer, is charged at that, and the operator is told', () => {
    const prices = { 'gpt-4o-mini-tts': { inputUsdPerMillion: '0.6', outputUsdPerMillion: 12, maxOutputTokens: 1_000 } }
    return onMedia({ kernel: { prices } }, async ({ client, held, ends, events }) => {
      await client.audio.speech.create({ ...ask, model: 'gpt-4o-mini-tts' })
      expect(ends()).toMatchObject([{ outcome: 'charged', used: held()[0] }])
      expect(events).toEqual(['assumed'])
    })
  })

  test('in tokens, as a stream of events, is settled by the last one', () => {
    const prices = { 'gpt-4o-mini-tts': { inputUsdPerMillion: 1, outputUsdPerMillion: 10, maxOutputTokens: 1_000 } }
    const last = { type: 'speech.audio.done', usage: { input_tokens: 3, output_tokens: 7, total_tokens: 10 } }
    const fetch = async (): Promise<Response> =>
      new Response(`data: ${JSON.stringify(last)}\n\n`, { headers: { 'content-type': 'text/event-stream' } })
    return onMedia({ kernel: { prices }, guard: { fetch } }, async ({ client, ends }) => {
      await (await client.audio.speech.create({ ...ask, model: 'gpt-4o-mini-tts', stream_format: 'sse' })).text()
      expect(ends()).toMatchObject([{ outcome: 'settled', used: { usd: 3 * 1_000 + 7 * 10_000 } }])
    })
  })

  test('in tokens without that is refused', () =>
    onMedia({}, async (bench) =>
      expect(await refused(bench, async () => bench.client.audio.speech.create({ ...ask, model: 'gpt-4o-mini-tts' }))).toEqual(
        unmetered('maxOutputTokens'),
      ),
    ))

  test('by the AI SDK is one, too', () => {
    const prices = { 'tts-1': { usdPerMillionCharacters: 15 } }
    return onMedia({ kernel: { prices } }, async ({ guarded, provider, ends }) => {
      const openai = createOpenAI({ apiKey: 'test', baseURL: provider.baseURL, fetch: guarded })
      const { audio } = await generateSpeech({ model: openai.speech('tts-1'), text: 'hello', voice: 'alloy' })
      expect([audio.uint8Array.length, ends()[0]!.outcome]).toEqual([5, 'settled'])
    })
  })
})

describe('a compaction', () => {
  const body = { model: 'gpt-4o-mini', input: 'hello' }

  test('is a model call whose longest answer is held', () => {
    const prices = { 'gpt-4o-mini': { inputUsdPerMillion: 1, outputUsdPerMillion: 10, maxOutputTokens: 500 } }
    const fetch = async (): Promise<Response> =>
      Response.json({ id: 'resp_1', output: [], usage: { input_tokens: 4, output_tokens: 6, total_tokens: 10 } })
    return onMedia({ kernel: { prices }, guard: { fetch } }, async ({ post, held, ends }) => {
      await post('responses/compact', body)
      expect(held()[0]!['usd']).toBe(JSON.stringify(body).length * 1_000 + 500 * 10_000)
      expect(ends()).toMatchObject([{ outcome: 'settled', used: { usd: 4 * 1_000 + 6 * 10_000 } }])
    })
  })

  test('is refused where that is not known', () => {
    const prices = { 'gpt-4o-mini': { inputUsdPerMillion: 1, outputUsdPerMillion: 10 } }
    return onMedia({ kernel: { prices } }, async (bench) =>
      expect(await refused(bench, async () => bench.client.post('/responses/compact', { body }))).toEqual(unmetered('maxOutputTokens')),
    )
  })
})
