// Batches of messages: all of their requests are held at once, and settled by the results of each.

import Anthropic from '@anthropic-ai/sdk'
import { describe, expect, test } from 'vitest'
import { createBackgrounds, type OpenCall } from '../../integrations/transport/backgrounds.ts'
import { withBatches } from '../../integrations/transport/batches.ts'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import type { ReadRequest } from '../../integrations/transport/request-body.ts'
import { messageBatches } from '../../integrations/wires/anthropic-batches.ts'
import { findRefusal } from '../../src/index.ts'
import { until } from '../../src/testing/integration-bench.ts'
import type { MediaAnswer } from '../../src/testing/provider-media.ts'
import { onMedia, type MediaBench, type MediaOptions } from './media-bench.ts'

const MODEL = 'claude-haiku-4-5'
const PRICES = {
  [MODEL]: { inputUsdPerMillion: 1, outputUsdPerMillion: 10 },
  [`${MODEL}@batch`]: { inputUsdPerMillion: '0.5', outputUsdPerMillion: 5 },
}
/** Nano-USD of 7 tokens in and 3 out, at the price of the batch tier. */
const COST = 7 * 500 + 3 * 5_000

type Request = Anthropic.Messages.BatchCreateParams.Request

const requestOf = (id: string, more: object = {}): Request => ({
  custom_id: id,
  params: { model: MODEL, max_tokens: 50, messages: [{ role: 'user', content: 'hello' }], ...more },
})
const requests = (count: number): Request[] => Array.from({ length: count }, (_, at) => requestOf(`request-${at}`))

/** The SDK over a guarded `fetch`. */
function clientOf({ provider, guarded }: MediaBench, fetch = guarded): Anthropic {
  return new Anthropic({ apiKey: 'test', baseURL: provider.baseURL.replace(/\/v1$/, ''), maxRetries: 0, logLevel: 'off', fetch })
}

async function onBatches(
  answer: MediaAnswer,
  run: (batches: Anthropic['messages']['batches'], bench: MediaBench) => Promise<void>,
  options: MediaOptions = {},
): Promise<void> {
  await onMedia({ media: () => answer, ...options, kernel: { prices: PRICES, ...options.kernel } }, (bench) =>
    run(clientOf(bench).messages.batches, bench),
  )
}

/** Reads results to their end; how many lines there were. */
async function readAll(batches: Anthropic['messages']['batches'], id: string): Promise<number> {
  let lines = 0
  for await (const _ of await batches.results(id)) lines += 1
  return lines
}

/** What kept a promise from being kept; `undefined` where it was no refusal. */
const refusalOf = async (promise: Promise<unknown>) => findRefusal(await promise.then(() => undefined).catch((error: unknown) => error))

describe('a batch of messages', () => {
  test('is held with all of its requests until its results are read, and settled with their sum', () =>
    onBatches({}, async (batches, { ends, held, kernel, events }) => {
      const { id, processing_status: status } = await batches.create({ requests: requests(3) })
      expect([status, ends()]).toEqual(['in_progress', []])
      expect(held()).toMatchObject([{ calls: 3 }])
      // Three times 50 tokens out, and at least three bodies in, at the standard price.
      const bytes = Buffer.byteLength(JSON.stringify({ requests: requests(3) }))
      expect(held()[0]!['usd']).toBe(bytes * 1_000 + 3 * 50 * 10_000)
      expect((await kernel.budgets())[0]!.out).toBeGreaterThan(0)
      await batches.retrieve(id)
      expect(ends()).toEqual([])
      expect(await readAll(batches, id)).toBe(3)
      expect(ends()).toMatchObject([{ outcome: 'settled', used: { usd: 3 * COST, tokens: 30, calls: 3 } }])
      expect(events).toEqual([])
    }))

  test('without a price of the batch tier is settled at the bill of a provider that gives no discount', () =>
    onBatches(
      { results: (_, at) => ({ usage: { inputTokens: 5 + at, outputTokens: 1 + at } }) },
      async (batches, { ends, provider }) => {
        const { id } = await batches.create({ requests: requests(4) })
        await readAll(batches, id)
        expect(ends()).toMatchObject([{ outcome: 'settled', used: { usd: provider.bill().nanoUsd } }])
        expect(provider.bill().billed).toBe(4)
      },
      { kernel: { prices: { [MODEL]: { inputUsdPerMillion: '0.15', outputUsdPerMillion: '0.6' } } } },
    ))

  test('has each request at the price of its own length, whatever the length of all', () =>
    onMedia({ media: () => ({ results: () => ({ usage: { inputTokens: 90_000, outputTokens: 1 } }) }) }, async (bench) => {
      // 3 USD for a million tokens in and 15 out, and twice as much beyond 200,000 of them in one request.
      const model = 'claude-sonnet-4-5'
      const long = (count: number): Request[] =>
        Array.from({ length: count }, (_, at) =>
          requestOf(`request-${at}`, { model, messages: [{ role: 'user', content: 'x'.repeat(90_000) }] }),
        )
      const batches = clientOf(bench).messages.batches
      for (const count of [1, 3]) await readAll(batches, (await batches.create({ requests: long(count) })).id)
      const [one, three] = bench.held().map((amounts) => amounts['usd']!)
      expect(three).toBeLessThanOrEqual(3 * one!)
      expect(bench.ends()[1]).toMatchObject({ outcome: 'settled', used: { usd: 3 * (90_000 * 3_000 + 15_000) } })
    }))

  test('pays nothing for requests that errored, were canceled or expired', () =>
    onBatches(
      { results: (_, at) => ({ type: (['succeeded', 'errored', 'canceled', 'expired'] as const)[at]! }) },
      async (batches, bench) => {
        const { id } = await batches.create({ requests: requests(4) })
        expect((await batches.cancel(id)).processing_status).toBe('canceling')
        expect(bench.ends()).toEqual([])
        await readAll(batches, id)
        expect(bench.ends()).toMatchObject([{ outcome: 'settled', used: { usd: COST, tokens: 10, calls: 1 } }])
        expect(bench.provider.bill().billed).toBe(1)
      },
    ))

  test('of which nothing succeeded costs nothing, and that is known as soon as it is looked at', () =>
    onBatches({ results: (_, at) => ({ type: (['errored', 'canceled', 'expired'] as const)[at]! }) }, async (batches, bench) => {
      const { id } = await batches.create({ requests: requests(3) })
      await batches.cancel(id)
      expect(bench.ends()).toEqual([])
      expect((await batches.retrieve(id)).processing_status).toBe('ended')
      expect(bench.ends()).toMatchObject([{ outcome: 'settled', used: { usd: 0, tokens: 0, calls: 0 } }])
      expect(await readAll(batches, id)).toBe(3)
      expect(bench.ends()).toHaveLength(1)
    }))

  test('whose results are read twice, at once or one after the other, is settled once', () =>
    onBatches({}, async (batches, bench) => {
      const { id } = await batches.create({ requests: requests(3) })
      await Promise.all([readAll(batches, id), readAll(batches, id)])
      expect(await readAll(batches, id)).toBe(3)
      expect(bench.ends()).toMatchObject([{ outcome: 'settled', used: { usd: 3 * COST } }])
    }))

  test('is settled with its last result, whether or not its reader waits for the end', () =>
    onBatches({}, async (batches, { ends }) => {
      const { id } = await batches.create({ requests: requests(3) })
      let lines = 0
      for await (const _ of await batches.results(id)) if (++lines === 3) break
      expect(ends()).toMatchObject([{ outcome: 'settled', used: { usd: 3 * COST } }])
    }))

  test.each([
    ['lack a request', { listed: false }],
    ['lack a usage', { told: false }],
  ])('whose results %s is charged at worst, and the operator is told', (_, odd) =>
    onBatches({ results: (_id, at) => (at === 1 ? odd : {}) }, async (batches, bench) => {
      const { id } = await batches.create({ requests: requests(3) })
      await readAll(batches, id)
      expect(bench.ends()).toMatchObject([{ outcome: 'charged', used: bench.held()[0] }])
      expect(bench.events).toEqual(['assumed'])
    }),
  )

  test('whose results break off stays held, and is settled by reading them again', () =>
    onBatches({ cutAfter: 2 }, async (batches, bench) => {
      const { id } = await batches.create({ requests: requests(3) })
      await expect(readAll(batches, id)).rejects.toThrow('terminated')
      expect(bench.ends()).toEqual([])
      await readAll(batches, id)
      expect(bench.ends()).toMatchObject([{ outcome: 'settled', used: { usd: 3 * COST } }])
    }))

  test('whose results break off, and that nobody reads again, is charged at worst when its time is up', () =>
    onBatches(
      { cutAfter: 2 },
      async (batches, bench) => {
        const { id } = await batches.create({ requests: requests(3) })
        await expect(readAll(batches, id)).rejects.toThrow('terminated')
        await until('its time is up', () => bench.ends().length === 1)
        expect(bench.ends()).toMatchObject([{ outcome: 'charged', used: bench.held()[0], reason: 'its deadline passed' }])
      },
      { kernel: { holdDeadlineMs: 200 } },
    ))

  test('that nobody asks for is charged at worst when its time is up, and corrected by results that are read later', () =>
    onBatches(
      {},
      async (batches, bench) => {
        const { id } = await batches.create({ requests: requests(3) })
        await until('its time is up', () => bench.ends().length === 1)
        await readAll(batches, id)
        await until('it is corrected', async () => (await bench.kernel.budgets())[0]!.spent === 3 * COST)
        expect(bench.ends().map(({ outcome }) => outcome)).toEqual(['charged', 'settled'])
      },
      { kernel: { holdDeadlineMs: 50 } },
    ))

  test('that is open when its kernel closes is charged at worst, and its results can be read all the same', () =>
    onBatches(
      {},
      async (batches, { kernel, ends, held }) => {
        const { id } = await batches.create({ requests: requests(3) })
        await kernel.close()
        expect(ends()).toMatchObject([{ outcome: 'charged', used: held()[0] }])
        expect(await readAll(batches, id)).toBe(3)
      },
      { closes: true },
    ))

  test('of another guard is none of this one', () =>
    onBatches({}, async (batches, bench) => {
      const { id } = await batches.create({ requests: requests(3) })
      const other = clientOf(bench, guardFetch(bench.scope)).messages.batches
      expect(await readAll(other, id)).toBe(3)
      expect(bench.ends()).toEqual([])
      await readAll(batches, id)
      expect(bench.ends()).toHaveLength(1)
    }))

  test('that a gate narrows has no request with a larger cap, and what else its requests say is left as it was', async () => {
    const gate = { name: 'short', decide: () => ({ verdict: 'allow', caps: { maxOutputTokens: 30 } }) as const }
    const sent: unknown[] = []
    await onMedia({ media: ({ body }) => (sent.push(body), {}), kernel: { prices: PRICES, gates: [gate] } }, async (bench) => {
      const batches = clientOf(bench).messages.batches
      const { id } = await batches.create({ requests: [requestOf('a', { max_tokens: 20 }), requestOf('b')] })
      expect(sent).toEqual([{ requests: [requestOf('a', { max_tokens: 20 }), requestOf('b', { max_tokens: 30 })] }])
      await readAll(batches, id)
    })
  })

  test('that the provider refuses to begin is released', () =>
    onBatches({ status: 400 }, async (batches, bench) => {
      await expect(batches.create({ requests: requests(3) })).rejects.toThrow('A simulated failure')
      expect(bench.ends()).toMatchObject([{ outcome: 'released' }])
    }))

  test('beyond the most that are kept charges the oldest, and says so', () =>
    onBatches(
      {},
      async (batches, bench) => {
        const first = await batches.create({ requests: requests(1) })
        const second = await batches.create({ requests: requests(1) })
        await until('the oldest is charged', () => bench.ends().length === 1)
        expect(bench.ends()).toMatchObject([{ outcome: 'charged', reason: 'too many batches are open' }])
        expect(bench.events).toEqual(['assumed'])
        await readAll(batches, first.id)
        await readAll(batches, second.id)
        expect(bench.ends().map(({ outcome }) => outcome)).toEqual(['charged', 'settled'])
        // What has ended is kept no more.
        await readAll(batches, (await batches.create({ requests: requests(1) })).id)
        expect(bench.ends().map(({ outcome }) => outcome)).toEqual(['charged', 'settled', 'settled'])
        expect(bench.events).toEqual(['assumed'])
      },
      { guard: { maxBackgrounds: 1 } },
    ))
})

describe('results', () => {
  const message = (more: object = {}) => ({ id: 'msg_1', usage: { input_tokens: 7, output_tokens: 3, service_tier: 'batch', ...more } })
  const line = (id: unknown, more: object = {}): object => ({ custom_id: id, result: { type: 'succeeded', message: message(more) } })

  /** Two requests whose results are these; with any status but 200 they are not all of them. */
  const onResults = (
    lines: readonly (object | string)[],
    run: (bench: MediaBench) => void,
    requested: Request[] = requests(2),
    status = 200,
  ) => {
    const text = lines.map((one) => (typeof one === 'string' ? one : JSON.stringify(one))).join('\n')
    const send: typeof fetch = async (_url, init) =>
      init?.method === 'POST' ? Response.json({ id: 'msgbatch_1', processing_status: 'in_progress' }) : new Response(text, { status })
    return onMedia(
      { guard: { fetch: send }, kernel: { prices: { ...PRICES, [`${MODEL}@us`]: PRICES[MODEL] }, holdDeadlineMs: 500 } },
      async (bench) => {
        await bench.post('messages/batches', { requests: requested })
        const response = await bench.guarded(`${bench.provider.baseURL}/messages/batches/msgbatch_1/results`)
        expect(await response.text()).toBe(text)
        run(bench)
      },
    )
  }

  test.each<[string, (object | string)[]]>([
    ['have one request twice and another one not', [line('request-0'), line('request-0')]],
    ['have one request twice, and all', [line('request-0'), line('request-0'), line('request-1')]],
    ['are about a request that was never sent', [line('request-0'), line('request-1 ')]],
    ['name none', [line('request-0'), line(1)]],
    ['have a line that was cut', [line('request-0'), JSON.stringify(line('request-1')).slice(0, -1)]],
    ['have an end that nobody knows', [line('request-0'), { custom_id: 'request-1', result: { type: 'postponed', message: message() } }]],
    ['have a tier without a price', [line('request-0'), line('request-1', { service_tier: 'priority' })]],
    ['are no results', ['<html>']],
  ])('that %s charge the worst case', (_, lines) =>
    onResults(lines, ({ ends, held }) => expect(ends()).toMatchObject([{ outcome: 'charged', used: held()[0] }])),
  )

  test('without an end of their last line are whole all the same', () =>
    onResults([line('request-1'), line('request-0')], ({ ends }) =>
      expect(ends()).toMatchObject([{ outcome: 'settled', used: { usd: 2 * COST } }]),
    ))

  test('that are only a part, or an error, end nothing', async () => {
    for (const status of [206, 500]) await onResults([line('request-0')], ({ ends }) => expect(ends()).toEqual([]), requests(2), status)
  })

  test('of a place without a price of its own for batches cost what it costs without', () =>
    onResults(
      [line('a', { inference_geo: 'us' })],
      ({ ends }) => expect(ends()).toMatchObject([{ outcome: 'settled', used: { usd: 7 * 1_000 + 3 * 10_000 } }]),
      [requestOf('a', { inference_geo: 'us' })],
    ))
})

describe('the memory of batches', () => {
  test('has a bound on the requests of all of them, beyond which the oldest are charged', () => {
    const charged: string[] = []
    const memory = withBatches(createBackgrounds(10), 10, 5)
    const begin = (id: string, count: number): void => {
      const settlement = { charge: async () => void charged.push(id) }
      const call = { action: { resource: MODEL, worst: {} }, used: () => undefined }
      const open = { scope: { report: () => {} }, settlement, call } as unknown as OpenCall
      const { wire, stillRuns } = memory.follow(
        { wire: messageBatches, request: { body: { requests: requests(count) } } } as unknown as ReadRequest,
        open,
      )
      expect(wire.findIn({ id, processing_status: 'in_progress' }, {})).toBeUndefined()
      expect(stillRuns?.()).toBe(true)
    }
    begin('a', 3)
    begin('b', 2)
    expect([charged, memory.size]).toEqual([[], 2])
    begin('c', 3)
    expect([charged, memory.size]).toEqual([['a'], 2])
    // One alone is kept, whatever its size.
    begin('d', 9)
    expect([charged, memory.size]).toEqual([['a', 'b', 'c'], 1])
    // Of two with one id only the last can be settled.
    begin('d', 1)
    expect([charged, memory.size]).toEqual([['a', 'b', 'c', 'd'], 1])
  })
})

describe('a look at a batch', () => {
  const counts = { processing: 0, succeeded: 0, errored: 1, canceled: 1, expired: 0 }
  const ended = { id: 'msgbatch_1', processing_status: 'ended', request_counts: counts }

  test.each<[string, object | string]>([
    ['of another id', { ...ended, id: 'msgbatch_2' }],
    ['that is not over', { ...ended, processing_status: 'canceling' }],
    ['with a request that succeeded', { ...ended, request_counts: { ...counts, errored: 0, succeeded: 1 } }],
    ['that does not count', { ...ended, request_counts: null }],
    ['that is no answer', 'oops'],
  ])('%s ends nothing', async (_, answer) => {
    const text = typeof answer === 'string' ? answer : JSON.stringify(answer)
    const send: typeof fetch = async (_url, init) =>
      init?.method === 'POST' ? Response.json({ id: 'msgbatch_1', processing_status: 'in_progress' }) : new Response(text)
    await onMedia({ guard: { fetch: send }, kernel: { prices: PRICES, holdDeadlineMs: 300 } }, async (bench) => {
      await bench.post('messages/batches', { requests: requests(2) })
      expect(await (await bench.guarded(`${bench.provider.baseURL}/messages/batches/msgbatch_1`)).text()).toBe(text)
      expect(bench.ends()).toEqual([])
    })
  })
})

describe('a batch that is refused', () => {
  test('for money is so before any of it is sent, and does not end the run', () =>
    onBatches(
      {},
      async (batches, { provider, refused }) => {
        const refusal = await refusalOf(batches.create({ requests: requests(1_000) }))
        expect([refusal?.code, refused(), provider.bill().requests]).toEqual(['ERR_BUDGET_EXCEEDED', ['ERR_BUDGET_EXCEEDED'], 0])
        expect(refusal?.details.endsRun).toBe(false)
        const { id } = await batches.create({ requests: requests(10) })
        await readAll(batches, id)
        expect(provider.bill().billed).toBe(10)
      },
      { kernel: { budgets: { acme: { usd: '0.0075' } } } },
    ))

  test.each<[string, Request[], string]>([
    ['has a request without a cap', [requestOf('a'), requestOf('b', { max_tokens: undefined })], 'Set `max_tokens` in each request'],
    ['has requests of several models', [requestOf('a'), requestOf('b', { model: 'claude-opus-4-8' })], 'one model per batch'],
    ['has requests at several prices of one model', [requestOf('a'), requestOf('b', { inference_geo: 'us' })], 'one model per batch'],
    ['has a request without a bound', [requestOf('a'), requestOf('b', { fallbacks: [{ model: MODEL }] })], 'may answer with another model'],
    ['has one id twice', [requestOf('a'), requestOf('a')], '`custom_id` of its own'],
    ['has no requests', [], 'at least one request'],
  ])('%s: it cannot be metered, and the refusal says why', (_, list, why) =>
    onBatches({}, async (batches, { provider }) => {
      const refusal = await refusalOf(batches.create({ requests: list }))
      expect([refusal?.code, provider.bill().requests]).toEqual(['ERR_UNMETERED', 0])
      expect(refusal?.message).toContain(why)
    }),
  )

  test('counts each of its requests as a call', () =>
    onBatches(
      {},
      async (batches, { provider }) => {
        expect((await refusalOf(batches.create({ requests: requests(3) })))?.code).toMatch(/^ERR_BUDGET/)
        expect(provider.bill().requests).toBe(0)
        await readAll(batches, (await batches.create({ requests: requests(2) })).id)
      },
      { kernel: { budgets: { acme: { usd: 100, calls: 2 } } } },
    ))
})
