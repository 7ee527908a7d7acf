import { readFileSync } from 'node:fs'
import { calcPrice } from '@pydantic/genai-prices'
import * as fc from 'fast-check'
import { beforeAll, describe, expect, it, test } from 'vitest'
import {
  costNanoUsd,
  dearestRate,
  GENAI_PRICES_VERSION,
  loadPrices,
  picoToNanoUsd,
  rateAt,
  unknownPriceFix,
  type PriceOverride,
} from '../../src/metering/prices.ts'
import type { ModelPrice, Prices } from '../../src/waist/price.ts'
import { NOTHING_USED } from '../../src/metering/usage/totals.ts'

const DAY = 86_400_000
const at = (iso: string): (() => number) => {
  return () => Date.parse(iso)
}
const own = async (override: PriceOverride): Promise<ModelPrice> => (await loadPrices({ overrides: { mine: override } })).find('mine')!

let prices: Prices
beforeAll(async () => {
  prices = await loadPrices({ now: at('2026-11-20T12:00:00Z') })
})

describe('the price list', () => {
  it('is the version that is recorded', () => {
    const text = readFileSync(new URL('../../node_modules/@pydantic/genai-prices/package.json', import.meta.url), 'utf8')
    expect(GENAI_PRICES_VERSION).toBe((JSON.parse(text) as { version: string }).version)
    expect(prices.version).toBe(GENAI_PRICES_VERSION)
  })

  it('says where a price comes from', () => {
    expect(prices.find('gpt-4o', 'openai')?.source).toBe('genai-prices 0.1.8 openai/gpt-4o')
    expect(prices.find('gpt-4o')?.contextWindow).toBe(128_000)
  })

  it('knows the provider names of the AI SDK', () => {
    expect(prices.find('gpt-5.5', 'openai.responses')?.source).toBe('genai-prices 0.1.8 openai/gpt-5.5')
    expect(prices.find('claude-opus-4-8', 'anthropic.messages')?.source).toBe('genai-prices 0.1.8 anthropic/claude-opus-4-8')
  })

  it.each([
    ['azure.chat', 'gpt-4o-mini', 'azure/gpt-4o-mini'],
    ['azure.responses', 'gpt-4o-mini', 'azure/gpt-4o-mini'],
    ['deepseek.chat', 'deepseek-chat', 'deepseek/deepseek-chat'],
    ['groq.chat', 'llama-3.3-70b-versatile', 'groq/llama-3.3-70b-versatile'],
    ['openrouter.chat', 'openai/gpt-4o-mini', 'openrouter/openai/gpt-4o-mini'],
  ])('knows %s by its first part, as it knows overrides', (provider, model, entry) => {
    expect(prices.find(model, provider)?.source).toBe(`genai-prices 0.1.8 ${entry}`)
  })

  it.each([
    ['a model nobody knows', 'nope-9', undefined],
    ['a provider nobody knows', 'gpt-4o', 'nope'],
    ['a provider nobody knows, with its API', 'gpt-4o', 'nope.chat'],
    ['an entry without any price', 'gemma-3', 'google'],
    ['a price by messages, which usage does not count', 'grok-voice-latest', 'x-ai'],
    ['a service tier', 'gpt-4o@priority', 'openai'],
    ['a service tier of a model that the list matches by its beginning', 'claude-opus-4-8@priority', 'anthropic'],
    ['a dearer variant that the list takes for the model', 'claude-opus-4-8-fast', 'anthropic'],
    ['a later model that the list takes for an earlier one', 'claude-opus-4-10', 'anthropic'],
    ['an empty name', '', undefined],
    ['a name of 300 characters', 'gpt-4o'.padEnd(300, '-'), undefined],
    ['a name that is none', 7 as unknown as string, undefined],
    ['a provider that is none', 'gpt-4o', null as unknown as string],
  ])('has no price for %s', (_, model, provider) => {
    expect(prices.find(model, provider)).toBeUndefined()
  })

  it('takes a dated version and a Vertex version for the model they are', () => {
    expect(prices.find('claude-opus-4-8-20260101')?.source).toContain('claude-opus-4-8')
    expect(prices.find('claude-opus-4-8@20260101')?.source).toContain('claude-opus-4-8')
  })

  it('charges what is billed by the request', () => {
    expect(costNanoUsd(prices.find('sonar', 'perplexity')!, { ...NOTHING_USED, inputTokens: 1 })).toBe(12_000_000 + 1_000)
  })

  it('folds image rates into the bucket their tokens are counted in', () => {
    const { tokens } = prices.find('gpt-image-1.5', 'openai')!.rates
    expect([tokens.inputTokens?.pico, tokens.cacheReadTokens?.pico, tokens.outputTokens?.pico]).toEqual([
      8_000_000n,
      2_000_000n,
      32_000_000n,
    ])
  })
})

describe('audio rates', () => {
  it('leave cached text at its own rate: cached audio is counted as audio', () => {
    const { tokens } = prices.find('gemini-2.5-flash', 'google')!.rates
    expect([tokens.cacheReadTokens?.pico, tokens.inputAudioTokens?.pico]).toEqual([30_000n, 1_000_000n])
  })
})

describe('cost', () => {
  it('is exact, and rounded up once', async () => {
    // 3 tokens at 37.5 nano-USD are 112.5; rounding each would give 114.
    const price = await own({ inputUsdPerMillion: '0.0375', outputUsdPerMillion: 1 })
    expect(costNanoUsd(price, { ...NOTHING_USED, inputTokens: 3 })).toBe(113)
    expect(costNanoUsd(price, { ...NOTHING_USED, inputTokens: 2 })).toBe(75)
  })

  it('matches a bill worked by hand: claude-opus-4-8 with both cache lifetimes and searches', () => {
    const usage = {
      ...NOTHING_USED,
      inputTokens: 10,
      cacheReadTokens: 8000,
      cacheWrite5mTokens: 1000,
      cacheWrite1hTokens: 3000,
      outputTokens: 600,
    }
    const nano = 10 * 5_000 + 8000 * 500 + 1000 * 6_250 + 3000 * 10_000 + 600 * 25_000
    expect(costNanoUsd(prices.find('claude-opus-4-8')!, usage)).toBe(nano)
    expect(costNanoUsd(prices.find('claude-opus-4-8')!, { ...usage, toolCalls: { web_search: 3 } })).toBe(nano + 30_000_000)
  })

  it('changes tier for the whole request beyond 271,999 input tokens of gpt-5.5, cached ones included', () => {
    const price = prices.find('gpt-5.5', 'openai')!
    const below = { ...NOTHING_USED, inputTokens: 1_999, cacheReadTokens: 270_000, outputTokens: 10 }
    expect(costNanoUsd(price, below)).toBe(1_999 * 5_000 + 270_000 * 500 + 10 * 30_000)
    const above = { ...below, inputTokens: 2_000 }
    expect(costNanoUsd(price, above)).toBe(2_000 * 10_000 + 270_000 * 1_000 + 10 * 45_000)
  })

  it('is unknown for audio without a rate, and known with one', async () => {
    const spoken = { ...NOTHING_USED, inputTokens: 1, inputAudioTokens: 1 }
    expect(costNanoUsd(prices.find('gpt-4o-audio-preview', 'openai')!, spoken)).toBeUndefined()
    expect(costNanoUsd(prices.find('gpt-4o', 'openai')!, { ...NOTHING_USED, outputAudioTokens: 1 })).toBeUndefined()
    const price = await own({ inputUsdPerMillion: 1, outputUsdPerMillion: 1, inputAudioUsdPerMillion: 40 })
    expect(costNanoUsd(price, spoken)).toBe(41_000)
  })

  it('is unknown for a hosted tool without a fee, and known with one, be it 0', async () => {
    const used = { ...NOTHING_USED, inputTokens: 1, toolCalls: { mcp: 2 } }
    expect(costNanoUsd(prices.find('gpt-4o', 'openai')!, used)).toBeUndefined()
    expect(costNanoUsd(prices.find('gpt-4o', 'openai')!, { ...used, toolCalls: { toString: 1 } })).toBeUndefined()
    const price = await own({ inputUsdPerMillion: 1, outputUsdPerMillion: 1, toolUsdPerThousand: { mcp: 0 } })
    expect(costNanoUsd(price, used)).toBe(1_000)
  })

  it('throws beyond 2^53 - 1 nano-USD', async () => {
    expect(picoToNanoUsd(9_007_199_254_740_991_000n)).toBe(Number.MAX_SAFE_INTEGER)
    expect(() => picoToNanoUsd(9_007_199_254_740_991_001n)).toThrow(RangeError)
    const price = await own({ inputUsdPerMillion: 1e9, outputUsdPerMillion: 1 })
    expect(() => costNanoUsd(price, { ...NOTHING_USED, inputTokens: 10_000_000 })).toThrow(RangeError)
  })

  const count = fc.integer({ min: 0, max: 400_000 })
  test.each([
    ['openai', 'gpt-4o'],
    ['openai', 'gpt-4o-mini'],
    ['openai', 'gpt-5.5'],
    ['openai', 'o3'],
    ['anthropic', 'claude-opus-4-8'],
    ['anthropic', 'claude-sonnet-4-5'],
  ])('agrees with the float total of the list on %s/%s to within its rounding', (providerId, model) => {
    const price = prices.find(model, providerId)!
    const writes = price.rates.tokens.cacheWrite5mTokens!.pico !== price.rates.tokens.inputTokens!.pico
    fc.assert(
      fc.property(count, count, count, count, count, fc.integer({ min: 0, max: 9 }), (text, read, short, long, output, searches) => {
        const usage = {
          ...NOTHING_USED,
          inputTokens: text,
          cacheReadTokens: read,
          outputTokens: output,
          toolCalls: { web_search: searches },
        }
        const written = writes ? { cacheWrite5mTokens: short, cacheWrite1hTokens: long } : {}
        const listed = calcPrice(
          {
            input_tokens: text + read + (writes ? short + long : 0),
            cache_read_tokens: read,
            ...(writes && { cache_write_tokens: short + long, cache_write_1h_tokens: long }),
            output_tokens: output,
            web_searches: searches,
          },
          model,
          { providerId, timestamp: new Date('2026-11-20T12:00:00Z') },
        )!
        expect(Math.abs(costNanoUsd(price, { ...usage, ...written })! - listed.total_price * 1e9)).toBeLessThan(1.01)
      }),
    )
  })
})

describe('missing rates', () => {
  it('fall back to the dearer neighbour', async () => {
    const { tokens } = (await own({ inputUsdPerMillion: 4, outputUsdPerMillion: 20, cacheWriteUsdPerMillion: 5 })).rates
    expect(tokens.cacheReadTokens?.pico).toBe(4_000_000n)
    expect(tokens.cacheWrite5mTokens?.pico).toBe(5_000_000n)
    expect(tokens.cacheWrite1hTokens?.pico).toBe(8_000_000n)
    expect(tokens.reasoningTokens?.pico).toBe(20_000_000n)
    expect(tokens.inputAudioTokens).toBeUndefined()
  })

  it('take a write for input where the provider charges for no write', () => {
    const { tokens } = prices.find('gpt-4o', 'openai')!.rates
    expect(tokens.cacheWrite5mTokens).toEqual(tokens.inputTokens)
    expect(tokens.cacheWrite1hTokens).toEqual(tokens.inputTokens)
  })

  it('never make a write cheaper than the input, whatever a list says', async () => {
    const { tokens } = (await own({ inputUsdPerMillion: 4, outputUsdPerMillion: 20, cacheWriteUsdPerMillion: 1 })).rates
    expect(tokens.cacheWrite5mTokens?.pico).toBe(4_000_000n)
  })

  it('double with the tier', () => {
    const rate = prices.find('gpt-5.6-sol', 'openai')!.rates.tokens.cacheWrite1hTokens!
    expect([rateAt(rate, 271_999), rateAt(rate, 272_000)]).toEqual([8_000_000n, 16_000_000n])
  })
})

describe('rates', () => {
  const rate = {
    pico: 5n,
    tiers: [
      { above: 10, pico: 9n },
      { above: 20, pico: 3n },
    ],
  }
  it('apply a tier above its bound and not at it', () => {
    expect([10, 11, 20, 21].map((tokens) => rateAt(rate, tokens))).toEqual([5n, 9n, 9n, 3n])
  })

  it('have a dearest that a later and cheaper tier does not lower', () => {
    expect([10, 11, 21].map((tokens) => dearestRate(rate, tokens))).toEqual([5n, 9n, 9n])
  })
})

describe('time', () => {
  it('gives a dated price from its day on', async () => {
    const before = await loadPrices({ now: at('2026-08-20T12:00:00Z') })
    const after = await loadPrices({ now: at('2026-08-21T12:00:00Z') })
    expect(before.find('gpt-5.6-sol', 'openai')?.rates.tokens.inputTokens?.pico).toBe(5_000_000n)
    expect(after.find('gpt-5.6-sol', 'openai')?.rates.tokens.inputTokens?.pico).toBe(4_000_000n)
  })

  it('holds at the dearest hour of the next day, and settles at the present one', async () => {
    const night = (await loadPrices({ now: at('2026-11-20T12:00:00Z') })).find('deepseek-v4-pro', 'deepseek')!
    expect(night.rates.tokens.inputTokens?.pico).toBe(660_000n)
    expect(night.dearest?.tokens.inputTokens?.pico).toBe(1_320_000n)
    const peak = (await loadPrices({ now: at('2026-11-20T02:00:00Z') })).find('deepseek-v4-pro', 'deepseek')!
    expect(peak.rates.tokens.inputTokens?.pico).toBe(1_320_000n)
    expect(prices.find('gpt-4o', 'openai')?.dearest).toBeUndefined()
  })

  it('forgets an hourly price on the half-hour and any other after a day', async () => {
    let time = Date.parse('2026-11-20T00:45:00Z')
    const list = await loadPrices({ now: () => time })
    const hourly = list.find('deepseek-v4-pro', 'deepseek')
    const plain = list.find('gpt-4o', 'openai')
    time += 10 * 60_000
    expect(list.find('deepseek-v4-pro', 'deepseek')).toBe(hourly)
    time += 10 * 60_000
    expect(list.find('deepseek-v4-pro', 'deepseek')?.rates.tokens.inputTokens?.pico).toBe(1_320_000n)
    expect(list.find('gpt-4o', 'openai')).toBe(plain)
    time += DAY
    expect(list.find('gpt-4o', 'openai')).not.toBe(plain)
  })

  it('remembers no more than a thousand models, and answers all the same', async () => {
    const list = await loadPrices()
    for (let index = 0; index < 2_500; index++) expect(list.find(`nope-${index}`)).toBeUndefined()
    expect(list.find('gpt-4o', 'openai')).toBeDefined()
  })
})

describe('overrides', () => {
  const cheap: PriceOverride = {
    inputUsdPerMillion: '1.25',
    outputUsdPerMillion: 2,
    asOf: '2026-11-20',
    contextWindow: 1000,
    maxOutputTokens: 100,
  }

  it('win over the list, the more exact name first', async () => {
    const overrides = {
      'gpt-4o': cheap,
      'openai/gpt-4o': { ...cheap, asOf: '2026-11-21' },
      'gpt-4o@priority': { ...cheap, inputUsdPerMillion: 9 },
    }
    const list = await loadPrices({ overrides })
    expect(list.find('gpt-4o')).toMatchObject({ source: 'override 2026-11-20', contextWindow: 1000, maxOutputTokens: 100 })
    expect(list.find('gpt-4o', 'openai')?.source).toBe('override 2026-11-21')
    expect(list.find('gpt-4o', 'openai.chat')?.source).toBe('override 2026-11-21')
    expect(list.find('gpt-4o@priority', 'openai')?.rates.tokens.inputTokens?.pico).toBe(9_000_000n)
    expect(list.find('gpt-4o-mini')?.source).toBe('genai-prices 0.1.8 openai/gpt-4o-mini')
  })

  it('are exact to a pico-USD, and rounded up beyond', async () => {
    const price = await own({
      inputUsdPerMillion: '0.000001',
      outputUsdPerMillion: '0.0000011',
      toolUsdPerThousand: { web_search: '10.5' },
    })
    expect(price.source).toBe('override')
    expect(price.rates.tokens.inputTokens?.pico).toBe(1n)
    expect(price.rates.tokens.outputTokens?.pico).toBe(2n)
    expect(price.rates.tools).toEqual({ web_search: 10_500_000_000n })
  })

  it.each([
    ['an unknown field', { cachedUsdPerMillion: 1 }, TypeError, 'cachedUsdPerMillion'],
    ['no output price', { outputUsdPerMillion: undefined }, TypeError, 'outputUsdPerMillion'],
    ['a negative price', { inputUsdPerMillion: -1 }, RangeError, 'inputUsdPerMillion'],
    ['an infinite price', { inputUsdPerMillion: Infinity }, RangeError, 'inputUsdPerMillion'],
    ['NaN', { inputUsdPerMillion: Number.NaN }, TypeError, 'inputUsdPerMillion'],
    ['a price in words', { inputUsdPerMillion: '1 USD' }, TypeError, 'inputUsdPerMillion'],
    ['a price of null', { cacheReadUsdPerMillion: null }, TypeError, 'cacheReadUsdPerMillion'],
    ['a negative fee', { toolUsdPerThousand: { mcp: -1 } }, RangeError, 'toolUsdPerThousand.mcp'],
    ['fees that are no object', { toolUsdPerThousand: null }, TypeError, 'toolUsdPerThousand'],
    ['a fractional context window', { contextWindow: 1.5 }, TypeError, 'contextWindow'],
    ['an empty context window', { contextWindow: 0 }, RangeError, 'contextWindow'],
    ['a negative cap', { maxOutputTokens: -1 }, RangeError, 'maxOutputTokens'],
    ['a day that is none', { asOf: '2026-02-30' }, TypeError, 'asOf'],
  ])('are refused with %s, naming the field', async (_, change, kind, field) => {
    const override = { ...cheap, ...change } as PriceOverride
    const fault = await loadPrices({ overrides: { mine: override } }).catch((error: unknown) => error)
    expect(fault).toBeInstanceOf(kind)
    expect((fault as Error).message).toContain(`prices['mine']`)
    expect((fault as Error).message).toContain(field)
  })

  it('are refused when they are not objects', async () => {
    await expect(loadPrices({ overrides: { mine: 3 as unknown as PriceOverride } })).rejects.toThrow(TypeError)
  })
})

describe('the fix for an unknown price', () => {
  it('is a line to paste', () => {
    expect(unknownPriceFix('my-model')).toBe(
      "Add it: openKernel({ prices: { 'my-model': { inputUsdPerMillion: 1, outputUsdPerMillion: 2 } } })",
    )
  })

  it('stays one line of that string, whatever the model is called', () => {
    expect(unknownPriceFix(`it's\n"x"`)).toContain(String.raw`{ 'it\'s\n"x"': {`)
    expect(unknownPriceFix('x'.repeat(10_000)).length).toBeLessThan(300)
  })
})
