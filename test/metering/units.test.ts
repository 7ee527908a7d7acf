// What is billed by another measure than tokens, and what is said to have cost: `Usage.units`, image tokens, stated costs.

import * as fc from 'fast-check'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { modelCall, type ModelCall } from '../../integrations/common/model-call.ts'
import { memoryStore, openKernel } from '../../src/index.ts'
import { costNanoUsd, costSource, loadPrices, unitFees, unknownPriceFix, type PriceOverride } from '../../src/metering/prices.ts'
import { paidKey, worstAmounts, type RequestBound } from '../../src/metering/worst-case/bound.ts'
import type { ModelPrice, Prices, Unit } from '../../src/waist/price.ts'
import { NOTHING_USED } from '../../src/metering/usage/totals.ts'

/** A request that is billed by units only. */
const byUnit = (units: Readonly<Partial<Record<Unit, number>>>): RequestBound => ({
  model: 'mine',
  inputTokens: 0,
  outputTokensPerChoice: 0,
  choices: 1,
  named: false,
  hostedTools: [],
  capSet: true,
  units,
})

let prices: Prices
beforeAll(async () => {
  prices = await loadPrices()
})

async function own(override: PriceOverride): Promise<ModelPrice> {
  return (await loadPrices({ overrides: { mine: override } })).find('mine')!
}

describe('a unit', () => {
  test.each<[Unit, PriceOverride, number, bigint]>([
    ['images', { usdPerImage: '0.04' }, 3, 120_000_000n],
    ['audioMs', { usdPerAudioMinute: '0.006' }, 61_001, (6_000_000n * 61_001n + 59_999n) / 60_000n],
    ['videoMs', { usdPerVideoSecond: '0.1' }, 8_000, 800_000_000n],
    ['characters', { usdPerMillionCharacters: 15 }, 4_096, 61_440_000n],
    ['pages', { usdPerThousandPages: 1 }, 7, 7_000_000n],
    ['searches', { usdPerThousandSearches: 2 }, 5, 10_000_000n],
  ])('%s costs what its field says, to the nano-dollar', async (unit, override, count, nano) => {
    const price = await own(override)
    expect(costNanoUsd(price, { ...NOTHING_USED, units: { [unit]: count } })).toBe(Number(nano))
    expect(worstAmounts(byUnit({ [unit]: count }), price).fixed.usd).toBe(Number(nano))
  })

  test('without a price leaves the call unpriced, before and after it', async () => {
    const price = await own({ usdPerImage: 1 })
    expect(costNanoUsd(price, { ...NOTHING_USED, units: { images: 1, pages: 1 } })).toBeUndefined()
    expect(worstAmounts(byUnit({ pages: 1 }), price).fixed).toEqual({ tokens: 0, calls: 1 })
    expect(costNanoUsd(price, { ...NOTHING_USED, units: { pages: 0, images: 1 } })).toBe(1_000_000_000)
    expect(unitFees(price.rates.units, { toString: 1 } as object)).toBeUndefined()
  })

  test('priced alone leaves tokens unpriced', async () => {
    const price = await own({ usdPerImage: 1 })
    expect(costNanoUsd(price, { ...NOTHING_USED, inputTokens: 1, units: { images: 1 } })).toBeUndefined()
    expect(worstAmounts({ ...byUnit({ images: 1 }), inputTokens: 1 }, price).fixed.usd).toBeUndefined()
    expect(worstAmounts({ ...byUnit({ images: 1 }), outputTokensPerChoice: 1 }, price).fixed.usd).toBeUndefined()
  })

  test('is paid beside tokens where a price has both', async () => {
    const price = await own({ inputUsdPerMillion: 1, outputUsdPerMillion: 0, usdPerThousandPages: 4 })
    expect(costNanoUsd(price, { ...NOTHING_USED, inputTokens: 10, units: { pages: 2 } })).toBe(10_000 + 8_000_000)
  })

  test('of the list is exact: an hour of whisper-large-v3 at Groq costs $0.111, and whisper-1 $0.006 a minute', () => {
    const groq = prices.find('whisper-large-v3', 'groq')!
    expect(costNanoUsd(groq, { ...NOTHING_USED, units: { audioMs: 3_600_000 } })).toBe(111_000_000)
    expect(costNanoUsd(groq, { ...NOTHING_USED, units: { audioMs: 1 } })).toBe(31)
    expect(costNanoUsd(prices.find('whisper-1', 'openai')!, { ...NOTHING_USED, units: { audioMs: 60_000 } })).toBe(6_000_000)
  })

  test('with two prices in the list costs the dearer: annotated pages', () => {
    expect(costNanoUsd(prices.find('mistral-ocr-2505', 'mistral')!, { ...NOTHING_USED, units: { pages: 1_000 } })).toBe(3_000_000_000)
  })

  test('never costs less than its exact share, and not a nano-dollar more', async () => {
    const price = await own({ usdPerAudioMinute: '0.0061' })
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e12 }), (ms) => {
        const cost = BigInt(costNanoUsd(price, { ...NOTHING_USED, units: { audioMs: ms } })!)
        const exact = 6_100_000n * BigInt(ms)
        expect(cost * 60_000n >= exact && (cost - 1n) * 60_000n < exact).toBe(true)
      }),
    )
  })

  test('costs a nano-dollar more as soon as its share is beyond one, by however little', async () => {
    const price = await own({ usdPerMillionCharacters: '0.0000000005' })
    const costs = [2_000_000, 2_000_001].map((characters) => costNanoUsd(price, { ...NOTHING_USED, units: { characters } }))
    expect(costs).toEqual([1, 2])
  })

  test('has the line to paste when its model has no price', () => {
    expect(unknownPriceFix('dall-e-3', ['images'])).toBe("Add it: openKernel({ prices: { 'dall-e-3': { usdPerImage: 1 } } })")
  })

  test.each([
    [{}, 'inputUsdPerMillion'],
    [{ usdPerImage: -1 }, 'usdPerImage'],
    [{ usdPerAudioMinute: '1 USD' }, 'usdPerAudioMinute'],
    [{ inputUsdPerMillion: 1, usdPerImage: 1 }, 'outputUsdPerMillion'],
    [{ cacheReadUsdPerMillion: 1, usdPerImage: 1 }, 'outputUsdPerMillion'],
    [{ usdPerPicture: 1 }, 'usdPerPicture'],
  ])('in a price like %j is refused, naming the field', async (override, field) => {
    await expect(own(override as PriceOverride)).rejects.toThrow(field)
  })
})

describe('image tokens', () => {
  const both = { inputUsdPerMillion: 5, outputUsdPerMillion: 20, inputImageUsdPerMillion: 10, outputImageUsdPerMillion: 40 }

  test('cost their own rate where the provider tells them from text', async () => {
    const price = await own(both)
    const told = { ...NOTHING_USED, inputTokens: 100, inputImageTokens: 10, outputTokens: 7, outputImageTokens: 3 }
    expect(costNanoUsd(price, told)).toBe(100 * 5_000 + 10 * 10_000 + 7 * 20_000 + 3 * 40_000)
    expect(costNanoUsd(price, { ...NOTHING_USED, inputTokens: 100, inputImageTokens: 0, outputTokens: 7, outputImageTokens: 0 })).toBe(
      640_000,
    )
  })

  test('are assumed where it does not', async () => {
    const price = await own(both)
    expect(costNanoUsd(price, { ...NOTHING_USED, inputTokens: 100, outputTokens: 7 })).toBe(100 * 10_000 + 7 * 40_000)
    expect(price.rates.tokens.cacheReadTokens?.pico).toBe(10_000_000n)
    expect(price.rates.tokens.reasoningTokens?.pico).toBe(20_000_000n)
  })

  test('cost what text does where a price does not tell them apart', async () => {
    const price = await own({ inputUsdPerMillion: 5, outputUsdPerMillion: 20 })
    expect(costNanoUsd(price, { ...NOTHING_USED, inputImageTokens: 10, outputImageTokens: 3 })).toBe(110_000)
  })

  test('count for the tier of a long context', () => {
    const price = prices.find('gpt-5.5', 'openai')!
    expect(costNanoUsd(price, { ...NOTHING_USED, inputTokens: 1, inputImageTokens: 271_999 })).toBe(272_000 * 10_000)
  })

  test('have their own rates in the list: gpt-image-1.5', () => {
    const price = prices.find('gpt-image-1.5', 'openai')!
    const told = { ...NOTHING_USED, inputTokens: 50, inputImageTokens: 40, outputTokens: 20, outputImageTokens: 10 }
    expect(costNanoUsd(price, told)).toBe(50 * 5_000 + 40 * 8_000 + 20 * 10_000 + 10 * 32_000)
  })
})

describe('a cost that the provider states', () => {
  test('is the bill, and the record says so', () => {
    const price = prices.find('gpt-4o', 'openai')!
    const stated = { ...NOTHING_USED, inputTokens: 1_000_000, toolCalls: { unknown: 1 }, statedNanoUsd: 17 }
    expect(costNanoUsd(price, stated)).toBe(17)
    expect(costSource(price, stated)).toBe('stated by the provider (genai-prices 0.1.8 openai/gpt-4o)')
    expect(costSource(price, NOTHING_USED)).toBe('genai-prices 0.1.8 openai/gpt-4o')
  })
})

describe('tiers at a discount', () => {
  test.each(['flex', 'batch'])('%s costs the standard price, and the record says so', (tier) => {
    const standard = prices.find('gpt-5.5', 'openai')!
    const price = prices.find(paidKey('gpt-5.5', tier), 'openai')!
    expect(price.rates).toEqual(standard.rates)
    expect(price.source).toBe(`${standard.source} (no price for ${tier}: standard)`)
    expect(prices.find(`nobody-knows-me@${tier}`)).toBeUndefined()
  })

  test.each(['flex', 'batch'])('%s costs its own price where there is one', async (tier) => {
    const half = { inputUsdPerMillion: '2.5', outputUsdPerMillion: 15, asOf: '2026-11-20' }
    const list = await loadPrices({ overrides: { [`gpt-5.5@${tier}`]: half } })
    const price = list.find(paidKey('gpt-5.5', tier), 'openai')!
    expect(costNanoUsd(price, { ...NOTHING_USED, inputTokens: 2, outputTokens: 2 })).toBe(35_000)
    expect(price.source).toBe('override 2026-11-20')
    expect(list.find('gpt-5.5', 'openai')!.source).toContain('genai-prices')
  })

  test('are no reason to take a dearer tier for the standard one', () => {
    expect(prices.find(paidKey('gpt-5.5', 'priority'), 'openai')).toBeUndefined()
    expect(prices.find(paidKey('gpt-5.5', 'scale'), 'openai')).toBeUndefined()
    expect(prices.find(paidKey('llama-3.3-70b-versatile', 'on_demand'), 'groq')).toBeDefined()
  })
})

describe('a call that is billed by units', () => {
  const images = async (prices: Readonly<Record<string, PriceOverride>>): Promise<ModelCall> => {
    const kernel = await openKernel({ store: memoryStore(), budgets: { acme: { usd: 1 } }, prices, onEvent: () => undefined })
    onTestFinished(() => kernel.close())
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
    return (await modelCall(scope, { id: 'dall-e-3' }, 'a ship', () => byUnit({ images: 2 }), {}))!
  }

  test('is held at its units, needs no price of tokens, and is settled by what came', async () => {
    const call = await images({ 'dall-e-3': { usdPerImage: '0.12', asOf: '2026-11-20' } })
    expect(call.action).toMatchObject({
      worst: { usd: 240_000_000, tokens: 0, calls: 1 },
      smallest: { usd: 240_000_000, tokens: 0, calls: 1 },
      priceSource: 'override 2026-11-20',
    })
    expect(call.used({ ...NOTHING_USED, units: { images: 1 } })).toEqual({
      amounts: { usd: 120_000_000, tokens: 0, calls: 1 },
      priceSource: 'override 2026-11-20',
    })
  })

  test('is unpriced without one, and says which field to add', async () => {
    const call = await images({})
    expect(call.action.worst).not.toHaveProperty('usd')
    expect(call.action.unpriced).toContain("{ 'dall-e-3': { usdPerImage: 1 } }")
  })
})

describe('the tier that answered', () => {
  test('is the one that is paid, and a discounted one is held at the standard price', async () => {
    const half = { inputUsdPerMillion: '2.5', outputUsdPerMillion: 15 }
    const prices = { 'gpt-5.5@flex': half, 'gpt-5.5@priority': { inputUsdPerMillion: '12.5', outputUsdPerMillion: 75 } }
    const kernel = await openKernel({ store: memoryStore(), budgets: { acme: { usd: 1 } }, prices })
    onTestFinished(() => kernel.close())
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
    const bound = { ...byUnit({}), model: 'gpt-5.5', inputTokens: 100, outputTokensPerChoice: 10 }
    const call = (await modelCall(scope, { id: 'gpt-5.5', serviceTier: 'flex' }, 'hi', () => bound, { provider: 'openai' }))!
    const usage = { ...NOTHING_USED, inputTokens: 100, outputTokens: 10 }
    expect(call.action.worst?.['usd']).toBe(100 * 5_000)
    expect(call.used(usage, 'flex')).toEqual({
      amounts: { usd: 100 * 2_500 + 10 * 15_000, tokens: 110, calls: 1 },
      priceSource: 'override',
    })
    expect(call.used(usage, 'default')?.amounts['usd']).toBe(100 * 5_000 + 10 * 30_000)
    expect(call.used(usage)?.amounts['usd']).toBe(100 * 5_000 + 10 * 30_000)
    expect(call.used(usage, 'scale')).toBeUndefined()
    const fast = 100 * 12_500 + 10 * 75_000
    expect(['priority', 'fast'].map((tier) => call.used(usage, tier)?.amounts['usd'])).toEqual([fast, fast])
  })
})
