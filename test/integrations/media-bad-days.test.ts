// Bad days of the transport guard: a crowd on a small budget, providers that lie about their usage, callers that leave.

import { describe, expect, test } from 'vitest'
import { until } from '../../src/testing/integration-bench.ts'
import { chatBody } from './bench.ts'
import { onMedia, type MediaOptions } from './media-bench.ts'

const PRICES = { 'gpt-4o-mini': { inputUsdPerMillion: 1, outputUsdPerMillion: 10 } }
const WORST = chatBody().length * 1_000 + 20 * 10_000

test('of 1,000 calls at once on a budget for 10, exactly 10 leave', () => {
  const kernel = { prices: PRICES, budgets: { acme: { usd: 100, calls: 10 } } }
  return onMedia({ kernel }, async ({ post, provider, ends }) => {
    const responses = await Promise.all(Array.from({ length: 1_000 }, () => post('chat/completions', chatBody())))
    expect(responses.filter(({ status }) => status === 200)).toHaveLength(10)
    expect(responses.filter(({ status }) => status === 402)).toHaveLength(990)
    expect([provider.bill().requests, ends().length]).toEqual([10, 10])
  })
})

describe('a provider that says of its usage', () => {
  const answering = (usage: unknown, stream: boolean): MediaOptions => ({
    kernel: { prices: PRICES },
    guard: {
      fetch: async () =>
        stream
          ? new Response(`data: ${JSON.stringify({ id: 'x', choices: [], usage })}\n\ndata: [DONE]\n\n`, {
              headers: { 'content-type': 'text/event-stream' },
            })
          : Response.json({ id: 'x', choices: [], usage }),
    },
  })
  const LIES = [
    ['that it was nothing', { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 }],
    ['less than nothing', { prompt_tokens: -5, completion_tokens: 2, total_tokens: -3 }],
    ['a part of a token', { prompt_tokens: 5.5, completion_tokens: 2, total_tokens: 7.5 }],
    ['what is no number', { prompt_tokens: 'NaN', completion_tokens: null, total_tokens: null }],
    ['a text', 'a lot'],
    ['a list', [1, 2, 3]],
    ['parts that are more than their sum', { prompt_tokens: 5, completion_tokens: 5, total_tokens: 7 }],
  ] as const

  test.each(LIES.flatMap(([name, usage]) => [false, true].map((stream) => [name, stream ? ', in a stream' : '', usage, stream] as const)))(
    '%s%s is charged at worst, and its operator is told',
    (_, __, usage, stream) =>
      onMedia(answering(usage, stream), async ({ post, ends, events }) => {
        const body = chatBody({ stream })
        await (await post('chat/completions', body)).text()
        expect(ends()).toMatchObject([{ outcome: 'charged', used: { usd: WORST + (body.length - chatBody().length) * 1_000 } }])
        expect(events).toEqual(['assumed'])
      }),
  )

  test.each([false, true])('more than was held is believed, recorded, and taken from free money (streamed: %s)', (stream) =>
    onMedia(
      answering({ prompt_tokens: 50_000, completion_tokens: 9_000, total_tokens: 59_000 }, stream),
      async ({ post, ends, events }) => {
        await (await post('chat/completions', chatBody({ stream }))).text()
        expect(ends()).toMatchObject([{ outcome: 'settled', used: { usd: 50_000 * 1_000 + 9_000 * 10_000 } }])
        expect(events).toContain('overrun')
      },
    ),
  )

  test('the same twice is counted once', () => {
    const chunk = `data: ${JSON.stringify({ id: 'x', choices: [], usage: { prompt_tokens: 5, completion_tokens: 2, total_tokens: 7 } })}\n\n`
    const fetch = async (): Promise<Response> =>
      new Response(`${chunk}${chunk}data: [DONE]\n\n`, { headers: { 'content-type': 'text/event-stream' } })
    return onMedia({ kernel: { prices: PRICES }, guard: { fetch } }, async ({ post, ends }) => {
      await (await post('chat/completions', chatBody({ stream: true }))).text()
      expect(ends()).toMatchObject([{ outcome: 'settled', used: { usd: 5 * 1_000 + 2 * 10_000 } }])
    })
  })

  test('of several images in one stream what each used alone, is not believed for all of them', () => {
    const done = { type: 'image_generation.completed', usage: { input_tokens: 1, output_tokens: 9, total_tokens: 10 } }
    const fetch = async (): Promise<Response> =>
      new Response(`data: ${JSON.stringify(done)}\n\n`.repeat(2), { headers: { 'content-type': 'text/event-stream' } })
    return onMedia({ guard: { fetch } }, async ({ post, ends, held }) => {
      await (await post('images/generations', { model: 'gpt-image-1', prompt: 'x', n: 2, stream: true })).text()
      expect(ends()).toMatchObject([{ outcome: 'charged', used: held()[0] }])
    })
  })
})

describe('a caller of an embedding who leaves', () => {
  const ASK = { model: 'text-embedding-3-small', input: 'hello there' }

  test('before it is sent pays nothing', () =>
    onMedia({}, async ({ post, provider, held }) => {
      await expect(post('embeddings', ASK, { signal: AbortSignal.abort(new Error('I left')) })).rejects.toThrow('I left')
      expect([provider.bill().requests, held()]).toEqual([0, []])
    }))

  test('while it waits leaves the answer to be read, and is settled by that', () => {
    const leaver = new AbortController()
    const media = () => (leaver.abort(new Error('I left')), { usage: { inputTokens: 5, outputTokens: 0 } })
    return onMedia({ media }, async ({ post, ends }) => {
      await expect(post('embeddings', ASK, { signal: leaver.signal })).rejects.toThrow('I left')
      await until('it is settled', () => ends().length === 1)
      expect(ends()).toMatchObject([{ outcome: 'settled', used: { usd: 100 } }])
    })
  })

  test('after the answer changes nothing', () => {
    const leaver = new AbortController()
    return onMedia({}, async ({ post, ends }) => {
      const response = await post('embeddings', ASK, { signal: leaver.signal })
      leaver.abort()
      expect(await response.json()).toMatchObject({ object: 'list' })
      expect(ends()).toMatchObject([{ outcome: 'settled' }])
    })
  })
})

test('a caller of a spoken text who leaves in the middle of it ends its connection, and has paid for it', () => {
  let cut = false
  const fetch: typeof globalThis.fetch = async (_url, init) =>
    new Response(
      new ReadableStream({
        start(controller) {
          controller.enqueue(new Uint8Array([1]))
          init!.signal!.addEventListener('abort', () => {
            cut = true
            controller.error(init!.signal!.reason)
          })
        },
      }),
      { headers: { 'content-type': 'audio/mpeg' } },
    )
  const leaver = new AbortController()
  const kernel = { prices: { 'tts-1': { usdPerMillionCharacters: 15 } } }
  return onMedia({ kernel, guard: { fetch } }, async ({ post, ends }) => {
    const response = await post('audio/speech', { model: 'tts-1', input: 'hello', voice: 'alloy' }, { signal: leaver.signal })
    expect(ends()).toMatchObject([{ outcome: 'settled', used: { usd: 75_000 } }])
    const reading = response.arrayBuffer()
    leaver.abort(new Error('I left'))
    await expect(reading).rejects.toThrow('I left')
    expect(cut).toBe(true)
  })
})
