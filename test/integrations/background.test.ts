// Responses that go on after their answer (`background: true`): their hold stays open until a poll, a resumed stream or
// a cancellation tells what they used.

import { describe, expect, test } from 'vitest'
import { until } from '../../src/testing/integration-bench.ts'
import type { MediaAnswer } from '../../src/testing/provider-media.ts'
import { onMedia, type MediaBench, type MediaOptions } from './media-bench.ts'

const USAGE = { inputTokens: 7, outputTokens: 3 }
const PRICES = { 'gpt-4o-mini': { inputUsdPerMillion: 1, outputUsdPerMillion: 10 } }
/** Nano-USD of {@link USAGE}. */
const COST = 7 * 1_000 + 3 * 10_000
const ASK = { model: 'gpt-4o-mini', input: 'hello', max_output_tokens: 50, background: true } as const

function onBackground(answer: MediaAnswer, run: (bench: MediaBench) => Promise<void>, options: MediaOptions = {}): Promise<void> {
  return onMedia({ media: () => ({ usage: USAGE, ...answer }), ...options, kernel: { prices: PRICES, ...options.kernel } }, run)
}

const outcomes = ({ ends }: MediaBench): readonly string[] => ends().map(({ outcome }) => outcome)

describe('a response in the background', () => {
  test('stays held until a poll shows its usage, and is settled by that once', () =>
    onBackground({ runs: 3 }, async (bench) => {
      const { client, ends, kernel, events } = bench
      const { id, status } = await client.responses.create(ASK)
      expect([status, ends()]).toEqual(['queued', []])
      expect((await kernel.budgets())[0]!.out).toBeGreaterThan(0)
      const seen: unknown[] = []
      for (let polls = 0; polls < 4; polls++) seen.push((await client.responses.retrieve(id)).status)
      expect(seen).toEqual(['in_progress', 'in_progress', 'completed', 'completed'])
      expect(ends()).toMatchObject([{ outcome: 'settled', used: { usd: COST } }])
      expect(events).toEqual([])
    }))

  test('that is finished at once is settled at once', () =>
    onBackground({ runs: 0 }, async (bench) => {
      await bench.client.responses.create(ASK)
      expect(bench.ends()).toMatchObject([{ outcome: 'settled', used: { usd: COST } }])
    }))

  test('counts against the budget as long as it runs: another one does not fit', () =>
    onBackground(
      {},
      async ({ client, provider, refused }) => {
        const { id } = await client.responses.create(ASK)
        await expect(client.responses.create(ASK)).rejects.toThrow('is busy')
        expect([provider.bill().billed, refused()]).toEqual([1, ['ERR_BUDGET_BUSY']])
        await client.responses.cancel(id)
      },
      { kernel: { budgets: { acme: { usd: '0.0008' } } } },
    ))

  test('that was cancelled is settled by the answer to that', () =>
    onBackground({}, async (bench) => {
      const { id } = await bench.client.responses.create(ASK)
      expect((await bench.client.responses.cancel(id)).status).toBe('cancelled')
      expect(bench.ends()).toMatchObject([{ outcome: 'settled', used: { usd: COST } }])
    }))

  test.each(['failed', 'incomplete'] as const)('that ended as %s is settled by its usage', (ends) =>
    onBackground({ runs: 1, ends }, async (bench) => {
      const { id } = await bench.client.responses.create(ASK)
      expect((await bench.client.responses.retrieve(id)).status).toBe(ends)
      expect(outcomes(bench)).toEqual(['settled'])
    }),
  )

  test('that ended without a word of its usage is charged at worst, and the operator is told', () =>
    onBackground({ runs: 1, ends: 'failed', told: false }, async (bench) => {
      const { id } = await bench.client.responses.create(ASK)
      await bench.client.responses.retrieve(id)
      expect(bench.ends()).toMatchObject([{ outcome: 'charged', used: bench.held()[0] }])
      expect(bench.events).toEqual(['assumed'])
    }))

  test('that nobody asks for is charged at worst when its time is up, and corrected by a later answer', () =>
    onBackground(
      { runs: 1 },
      async (bench) => {
        const { id } = await bench.client.responses.create(ASK)
        await until('its time is up', () => bench.ends().length === 1)
        expect(bench.ends()).toMatchObject([{ outcome: 'charged', reason: 'its deadline passed' }])
        await bench.client.responses.retrieve(id)
        await until('it is corrected', async () => (await bench.kernel.budgets())[0]!.spent === COST)
        expect(outcomes(bench)).toEqual(['charged', 'settled'])
      },
      { kernel: { holdDeadlineMs: 50 } },
    ))

  test('that is open when its kernel closes is charged at worst', () =>
    onBackground(
      {},
      async ({ client, kernel, ends, held }) => {
        await client.responses.create(ASK)
        await kernel.close()
        expect(ends()).toMatchObject([{ outcome: 'charged', used: held()[0] }])
      },
      { closes: true },
    ))

  test('beyond the most that are kept charges the oldest, and says so', () =>
    onBackground(
      { runs: 1 },
      async (bench) => {
        const first = await bench.client.responses.create(ASK)
        const second = await bench.client.responses.create(ASK)
        await until('the oldest is charged', () => bench.ends().length === 1)
        expect(bench.ends()).toMatchObject([{ outcome: 'charged', reason: 'too many calls are open in the background' }])
        expect(bench.events).toEqual(['assumed'])
        await bench.client.responses.retrieve(first.id)
        await bench.client.responses.retrieve(second.id)
        expect(outcomes(bench)).toEqual(['charged', 'settled'])
      },
      { guard: { maxBackgrounds: 1 } },
    ))

  test('is not ended by an answer about another one, by an error, or by what is no answer', () => {
    const answers = [
      '{"id":"resp_other","status":"completed","usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2}}',
      'oops',
      '{}',
      '[]',
    ]
    const send: typeof fetch = async (_url, init) => {
      if (init?.method === 'POST') return Response.json({ id: 'resp_1', status: 'queued', usage: null })
      const text = answers.shift()
      return text === undefined ? new Response('gone', { status: 404 }) : new Response(text)
    }
    return onBackground(
      {},
      async (bench) => {
        await bench.post('responses', ASK)
        for (const text of [...answers, 'gone'])
          expect(await (await bench.guarded(`${bench.provider.baseURL}/responses/resp_1`)).text()).toBe(text)
        expect(bench.ends()).toEqual([])
      },
      { guard: { fetch: send }, kernel: { holdDeadlineMs: 200 } },
    )
  })
})

describe('a stream of a response in the background', () => {
  const read = async (events: AsyncIterable<{ readonly type: string }>): Promise<readonly string[]> => {
    const types: string[] = []
    for await (const { type } of events) types.push(type)
    return types
  }
  const ALL = ['response.created', 'response.in_progress', 'response.output_text.delta', 'response.completed']

  test('that is read to its end is settled by it', () =>
    onBackground({}, async (bench) => {
      expect(await read(await bench.client.responses.create({ ...ASK, stream: true }))).toEqual(ALL)
      expect(bench.ends()).toMatchObject([{ outcome: 'settled', used: { usd: COST } }])
    }))

  test('that breaks off leaves it held, and is settled when it is resumed', () =>
    onBackground({ cutAfter: 2 }, async (bench) => {
      const seen: unknown[] = []
      let id = ''
      const reading = async (): Promise<void> => {
        for await (const event of await bench.client.responses.create({ ...ASK, stream: true })) {
          seen.push(event.type)
          if (event.type === 'response.created') id = event.response.id
        }
      }
      await expect(reading()).rejects.toThrow('terminated')
      expect([seen, bench.ends()]).toEqual([ALL.slice(0, 2), []])
      const rest = await bench.client.responses.retrieve(id, { stream: true, starting_after: 1 })
      expect(await read(rest)).toEqual(ALL.slice(2))
      expect(bench.ends()).toMatchObject([{ outcome: 'settled', used: { usd: COST } }])
    }))

  test('that breaks off before its first event is charged at worst: nobody knows its id', () =>
    onBackground({ cutAfter: 0 }, async (bench) => {
      await expect(bench.client.responses.create({ ...ASK, stream: true }).then(read)).rejects.toThrow(/terminated|Connection error/)
      await until('it ended', () => bench.ends().length === 1)
      expect(outcomes(bench)).toEqual(['charged'])
    }))

  test('that fails without a word of its usage is charged at worst', () =>
    onBackground({ ends: 'failed', told: false }, async (bench) => {
      await read(await bench.client.responses.create({ ...ASK, stream: true }))
      expect(outcomes(bench)).toEqual(['charged'])
    }))

  test('of one that runs in the foreground is charged when it breaks off, as ever', () => {
    const created = { type: 'response.created', response: { id: 'resp_1', status: 'in_progress', usage: null } }
    const send: typeof fetch = async () =>
      new Response(`data: ${JSON.stringify(created)}\n\n`, { headers: { 'content-type': 'text/event-stream' } })
    return onBackground(
      {},
      async (bench) => {
        await read(await bench.client.responses.create({ ...ASK, background: false, stream: true }))
        expect(outcomes(bench)).toEqual(['charged'])
      },
      { guard: { fetch: send } },
    )
  })
})
