// Every reader of usage, on answers as their providers document them, and on what is left of those when something is wrong.
// A reader that is not in the table of endpoints is added to `readers` with one line.

import * as fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { costNanoUsd, loadPrices } from '../../src/metering/prices.ts'
import { readInvocationHeaders } from '../../src/metering/usage/bedrock.ts'
import { USAGE_READERS, type UsageEndpoint, type UsageReader } from '../../src/metering/usage/readers.ts'
import { NOTHING_USED, INPUT_BUCKETS, OUTPUT_BUCKETS, totalTokens } from '../../src/metering/usage/totals.ts'
import type { Prices, Usage } from '../../src/waist/price.ts'
import { COMPATIBLE_SAMPLES } from './samples/compatible.ts'
import { OPENAI_SAMPLES } from './samples/openai.ts'
import { OTHER_SAMPLES } from './samples/other.ts'

const samples = [...OPENAI_SAMPLES, ...COMPATIBLE_SAMPLES, ...OTHER_SAMPLES]

/** Every reader, with answers for it. One that is not in the table of endpoints is added here. */
const readers: Readonly<Record<string, { readonly read: UsageReader; readonly answers: readonly object[] }>> = Object.fromEntries(
  Object.entries(USAGE_READERS).map(([name, read]) => [
    name,
    { read, answers: samples.filter(({ reader }) => reader === name).map(({ answer }) => answer) },
  ]),
)

const everyReader = Object.entries(readers).map(([name, reader]) => ({ name, ...reader }))

let prices: Prices
beforeAll(async () => {
  prices = await loadPrices({ now: () => Date.parse('2026-11-20T12:00:00Z') })
})

describe.each(samples)('$name', ({ reader, answer, used, total, bill }) => {
  test('is read into buckets that add up to the total of the provider', () => {
    const usage = USAGE_READERS[reader](answer)
    expect(usage).toEqual({ ...NOTHING_USED, ...used })
    expect(totalTokens(usage!)).toBe(total ?? totalTokens({ ...NOTHING_USED, ...used }))
  })

  test('costs what its bill by hand says, to the nano-dollar', () => {
    const cost = bill && costNanoUsd(prices.find(bill.model, bill.provider)!, USAGE_READERS[reader](answer)!)
    expect(cost).toBe(bill && Number((bill.pico + 999n) / 1_000n))
  })
})

test('every reader has an answer to read, and its address', () => {
  expect(everyReader.filter(({ answers }) => answers.length === 0).map(({ name }) => name)).toEqual([])
  for (const { source, seen } of samples) expect([source.startsWith('https://'), seen ?? '2026-11-22']).toEqual([true, '2026-11-22'])
})

/** Whatever comes out is a measurement: whole numbers from 0 on, whose sum is one too. */
function isSound(usage: Usage | undefined): boolean {
  if (usage === undefined) return true
  const counts = [
    ...[...INPUT_BUCKETS, ...OUTPUT_BUCKETS].map((bucket) => usage[bucket] ?? 0),
    ...Object.values(usage.toolCalls),
    ...Object.values(usage.units ?? {}),
    usage.statedNanoUsd ?? 0,
    totalTokens(usage),
  ]
  const some = totalTokens(usage) + Object.values(usage.units ?? {}).reduce((sum, count) => sum + count, 0) + (usage.statedNanoUsd ?? 0)
  return some > 0 && counts.every((count) => Number.isSafeInteger(count) && count >= 0 && !Object.is(count, -0))
}

type Path = readonly (string | number)[]

/** Where the values of an object are, whole objects among them. */
function pathsOf(value: unknown, path: Path = []): readonly Path[] {
  if (typeof value !== 'object' || value === null) return [path]
  const entries = Object.entries(value).flatMap(([key, child]) => pathsOf(child, [...path, key]))
  return path.length === 0 ? entries : [path, ...entries]
}

/** The same object with another value at a path; `undefined` removes it. */
function changed(value: unknown, [key, ...rest]: Path, to: unknown): unknown {
  if (key === undefined) return to
  const copy: Record<string, unknown> = Array.isArray(value) ? ([...(value as unknown[])] as never) : { ...(value as object) }
  copy[key] = changed(copy[key], rest, to)
  if (copy[key] === undefined) delete copy[key]
  return copy
}

/** The same object with every number changed. */
function numbers(value: unknown, change: (number: number, key: string) => unknown, key = ''): unknown {
  if (typeof value === 'number') return change(value, key)
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map((child) => numbers(child, change))
  return Object.fromEntries(Object.entries(value).map(([name, child]) => [name, numbers(child, change, name)]))
}

const wrong = fc.oneof(
  fc.constantFrom(-1, Number.NaN, Infinity, 1.5, '5', '', null, undefined, true, [], {}, [[null]], 2 ** 53, 1e300, -0, 0, 10n, {
    audio_tokens: { cached: null },
  }),
  fc.integer(),
  fc.double(),
  fc.jsonValue(),
)

describe.each(everyReader)('the reader of $name', ({ read, answers }) => {
  test('makes a measurement or NOTHING_USED of an answer with wrong values in it, and never throws', () => {
    const broken = fc
      .constantFrom(...answers)
      .chain((answer) =>
        fc
          .array(fc.tuple(fc.constantFrom(...pathsOf(answer)), wrong), { minLength: 1, maxLength: 3 })
          .map((changes) =>
            changes.reduce<unknown>((result, [path, to]) => (isThere(result, path) ? changed(result, path, to) : result), answer),
          ),
      )
    fc.assert(
      fc.property(broken, (answer) => {
        expect(isSound(read(answer))).toBe(true)
      }),
      { numRuns: 400 },
    )
  })

  test('makes a measurement or NOTHING_USED of anything at all', () => {
    fc.assert(
      fc.property(fc.anything(), (thing) => {
        expect(isSound(read(thing))).toBe(true)
        expect(isSound(read({ done: true, usage: thing, 'amazon-bedrock-invocationMetrics': thing }))).toBe(true)
      }),
    )
  })

  test('counts in proportion: so many times the tokens are so many times the usage', () => {
    const money = new Set(['cost', 'cost_in_usd_ticks'])
    fc.assert(
      fc.property(fc.constantFrom(...answers), fc.integer({ min: 2, max: 10_000 }), (answer, times) => {
        const once = read(numbers(answer, (count, key) => (money.has(key) ? undefined : count)))
        const more = read(numbers(answer, (count, key) => (money.has(key) ? undefined : Number.isInteger(count) ? count * times : count)))
        const expected = numbers(once, (count) => count * times)
        // Pictures in a list, and calls in one, are not numbers in the answer.
        expect(more && { ...more, toolCalls: {}, units: {} }).toEqual(expected && { ...(expected as Usage), toolCalls: {}, units: {} })
      }),
    )
  })

  test('takes zeros for no measurement', () => {
    for (const answer of answers) {
      const zeros = read(numbers(answer, () => 0))
      // What is counted in a list is there, whatever the numbers say.
      expect(zeros === undefined || zeros.units?.images !== undefined).toBe(true)
    }
  })

  test('finds NOTHING_USED where there is no usage yet, as in the events before the last', () => {
    for (const partial of [
      undefined,
      null,
      {},
      { usage: null },
      { usage: {} },
      { choices: [{ delta: { content: 'a' } }], usage: null },
      { done: false },
    ])
      expect(read(partial)).toBeUndefined()
  })
})

function isThere(value: unknown, path: Path): boolean {
  let at = value
  for (const key of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, key)) return false
    at = (at as Record<string, unknown>)[key]
  }
  return true
}

describe('parts beyond their total', () => {
  test.each<[string, UsageEndpoint, object]>([
    ['more hits and misses than prompt', 'chat', chat({ prompt_cache_hit_tokens: 6, prompt_cache_miss_tokens: 6 })],
    ['hits that are not the cached tokens', 'chat', chat({ prompt_cache_hit_tokens: 6, prompt_tokens_details: { cached_tokens: 5 } })],
    ['more rejected tokens than completion', 'chat', chat({ completion_tokens_details: { rejected_prediction_tokens: 6 } })],
    ['a length of sound that is none', 'chat', chat({ prompt_audio_seconds: -1 })],
    ['a cost below zero, in ticks', 'chat', chat({ cost_in_usd_ticks: -1 })],
    ['a cost below zero, in dollars', 'chat', chat({ cost: -1, is_byok: false })],
    ['sources that are no number', 'chat', chat({ num_sources_used: 'two' })],
    [
      'a model that bills beside that of the answer',
      'chat',
      { ...chat({}), model: 'a', usage_breakdown: { models: [{ model: 'b', usage: {} }] } },
    ],
    ['more pictures than input', 'images', images({ input_tokens_details: { text_tokens: 1, image_tokens: 10 } })],
    ['fewer parts than output', 'images', images({ output_tokens_details: { text_tokens: 1, image_tokens: 1 } })],
    ['more cached tokens than input', 'images', images({ input_tokens_details: { text_tokens: 5, image_tokens: 5, cached_tokens: 11 } })],
    ['a total that is no sum', 'images', images({ total_tokens: 16 })],
    [
      'more sound than input',
      'transcriptions',
      { usage: { type: 'tokens', input_tokens: 1, output_tokens: 1, input_token_details: { audio_tokens: 2 } } },
    ],
    ['a length of zero', 'transcriptions', { usage: { type: 'duration', seconds: 0 } }],
    ['a measure that is new', 'transcriptions', { usage: { type: 'words', input_tokens: 1, output_tokens: 1 } }],
    ['a total that is neither sum', 'converse', { usage: { inputTokens: 1, outputTokens: 1, totalTokens: 4, cacheReadInputTokens: 1 } }],
    [
      'more said of the cache than written',
      'converse',
      { usage: { inputTokens: 1, outputTokens: 1, cacheWriteInputTokens: 1, cacheDetails: [{ ttl: '1h', inputTokens: 2 }] } },
    ],
    ['no count of a prompt that was cached', 'ollama', { done: true, eval_count: 3 }],
    ['a line that is not the last', 'ollama', { done: false, prompt_eval_count: 1, eval_count: 1 }],
    ['more cached than evaluated', 'ollama', { done: true, prompt_eval_count: 1, eval_count: 1, prompt_eval_cached_count: 2 }],
  ])('are no measurement: %s', (_, reader, answer) => {
    expect(USAGE_READERS[reader](answer)).toBeUndefined()
  })
})

describe('what is not said', () => {
  test('of cached pictures counts against text first, since pictures cost more', () => {
    const cached = (details: object) =>
      USAGE_READERS.images(images({ input_tokens_details: { text_tokens: 4, image_tokens: 6, ...details } }))
    expect(cached({ cached_tokens: 3 })).toMatchObject({ inputTokens: 1, cacheReadTokens: 3, inputImageTokens: 6 })
    expect(cached({ cached_tokens: 5 })).toMatchObject({ inputTokens: 0, cacheReadTokens: 5, inputImageTokens: 5 })
    expect(cached({ cached_tokens: 3, cached_tokens_details: { image_tokens: 3 } })).toMatchObject({ inputTokens: 4, inputImageTokens: 3 })
  })

  test('of a transcription counts as sound', () => {
    const usage = { type: 'tokens', input_tokens: 9, output_tokens: 1, total_tokens: 10 }
    expect(USAGE_READERS.transcriptions({ usage })).toMatchObject({ inputTokens: 0, inputAudioTokens: 9 })
  })

  test('of the life of a written cache is long as soon as anything is said', () => {
    const cacheDetails = [{ ttl: '5m', inputTokens: 2 }]
    const usage = { inputTokens: 1, outputTokens: 1, cacheWriteInputTokens: 5, cacheDetails }
    expect(USAGE_READERS.converse({ usage })).toMatchObject({ cacheWrite5mTokens: 2, cacheWrite1hTokens: 3 })
    expect(USAGE_READERS.converse({ usage: { ...usage, cacheDetails: [] } })).toMatchObject({
      cacheWrite5mTokens: 5,
      cacheWrite1hTokens: 0,
    })
  })

  test.each([
    ['a cost of 0', { cost: 0, is_byok: false }],
    ['0 ticks', { cost_in_usd_ticks: 0 }],
    ['a cost without OpenRouter around it', { cost: 0.5 }],
    ['a cost that is an object, as at Perplexity', { cost: { total_cost: 0.5 }, is_byok: false }],
    ['a share of a call with a key of your own', { cost: 0.5, is_byok: true, cost_details: { upstream_inference_cost: null } }],
    ['two costs that may or may not be one', { cost: 0.5, cost_details: { upstream_inference_cost: 0.4 } }],
  ])('is not stated: %s', (_, fields) => {
    expect(USAGE_READERS.chat(chat(fields))).toEqual({ ...NOTHING_USED, inputTokens: 10, outputTokens: 5 })
  })

  test('in a float is rounded up, and no further', () => {
    const stated = (cost: number) => USAGE_READERS.chat(chat({ cost, is_byok: false }))?.statedNanoUsd
    expect([stated(0.1 + 0.2), stated(1e-9), stated(1.1e-9), stated(1e-12)]).toEqual([300_000_001, 1, 2, 1])
    const ms = (seconds: number) => USAGE_READERS.transcriptions({ usage: { type: 'duration', seconds } })?.units?.audioMs
    expect([ms(8.2), ms(0.0001), ms(1.0015), ms(4.35)]).toEqual([8_200, 1, 1_002, 4_350])
  })
})

describe('the headers of InvokeModel', () => {
  const headers = (counts: Readonly<Record<string, string>>): Headers =>
    new Headers(Object.entries(counts).map(([name, count]): [string, string] => [`x-amzn-bedrock-${name}-token-count`, count]))

  test('are read as its metrics', () => {
    const counts = { input: '12', output: '34', 'cache-read-input': '56', 'cache-write-input': '78' }
    expect(readInvocationHeaders(headers(counts))).toEqual({
      ...NOTHING_USED,
      inputTokens: 12,
      cacheReadTokens: 56,
      cacheWrite1hTokens: 78,
      outputTokens: 34,
    })
  })

  test.each([
    {},
    { input: '12' },
    { input: '-1', output: '1' },
    { input: '1.5', output: '1' },
    { input: '1', output: '', 'cache-read-input': 'x' },
  ])('are no measurement as %j', (counts) => {
    expect(readInvocationHeaders(headers(counts))).toBeUndefined()
  })
})

function chat(usage: object): object {
  return { usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15, ...usage } }
}

function images(usage: object): object {
  return { usage: { input_tokens: 10, output_tokens: 5, total_tokens: 15, ...usage } }
}
