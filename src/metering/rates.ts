// Rates in pico-USD: reading them from dollars, comparing them, and filling the gaps that a price leaves. Where a price
// is silent the dearer reading is taken, or none at all.

import { parseDecimal } from '../lib/amounts.ts'
import type { Rate, RateName, Rates, Unit, UnitRate } from '../waist/price.ts'

/** The rates of a price as it was written, before {@link withFallbacks}. */
export type KnownRates = Partial<Record<RateName, Rate>>

/** The field of a price of your own for each unit, and how many units its amount buys. */
export const UNIT_FIELDS: Readonly<Record<Unit, { readonly field: string; readonly per: number }>> = {
  images: { field: 'usdPerImage', per: 1 },
  audioMs: { field: 'usdPerAudioMinute', per: 60_000 },
  videoMs: { field: 'usdPerVideoSecond', per: 1_000 },
  characters: { field: 'usdPerMillionCharacters', per: 1_000_000 },
  pages: { field: 'usdPerThousandPages', per: 1_000 },
  searches: { field: 'usdPerThousandSearches', per: 1_000 },
}

/** The rate per token in pico-USD for a request of so many input tokens. */
export function rateAt(rate: Rate, inputTokens: number): bigint {
  return rate.tiers.findLast((tier) => inputTokens > tier.above)?.pico ?? rate.pico
}

/** The dearest rate that a request of at most so many input tokens can meet, in pico-USD per token. */
export function dearestRate(rate: Rate, inputTokens: number): bigint {
  return rate.tiers.reduce((most, tier) => (inputTokens > tier.above && tier.pico > most ? tier.pico : most), rate.pico)
}

/** The dearer of two rates at every number of input tokens. */
export function dearer(a: Rate | undefined, b: Rate): Rate {
  if (a === undefined) return b
  const most = (inputTokens: number): bigint =>
    rateAt(a, inputTokens) > rateAt(b, inputTokens) ? rateAt(a, inputTokens) : rateAt(b, inputTokens)
  const bounds = new Set([...a.tiers, ...b.tiers].map((tier) => tier.above).sort((x, y) => x - y))
  return { pico: most(0), tiers: [...bounds].map((above) => ({ above, pico: most(above + 1) })) }
}

/** The dearer of two prices of the same unit. */
export function dearerUnit(a: UnitRate | undefined, b: UnitRate): UnitRate {
  return a !== undefined && a.pico * BigInt(b.per) > b.pico * BigInt(a.per) ? a : b
}

function twice(rate: Rate): Rate {
  return { pico: rate.pico * 2n, tiers: rate.tiers.map((tier) => ({ above: tier.above, pico: tier.pico * 2n })) }
}

/**
 * Fills the gaps with the dearer sensible rate; none where a price has no tokens at all.
 *
 * A provider that charges for short cache writes charges more for long ones: 2 x input is Anthropic's price on every
 * model of the list that has one. A provider without any write rate (OpenAI before gpt-5.6, most others) bills a write
 * as the input it is. Images without a rate are tokens like any other, and reasoning is text. Audio has no such
 * neighbour, being many times dearer than text, so it stays unpriced.
 */
export function withFallbacks(known: KnownRates): Rates['tokens'] {
  const { inputTextTokens: text, outputTextTokens: outputText, outputImageTokens = outputText } = known
  if (text === undefined) return {}
  const inputImageTokens = known.inputImageTokens ?? text
  const input = dearer(text, inputImageTokens)
  const output = outputImageTokens === undefined ? undefined : dearer(outputText, outputImageTokens)
  const write = known.cacheWrite5mTokens ?? known.cacheWrite1hTokens
  const short = dearer(write, input)
  const reasoning = known.reasoningTokens ?? outputText ?? output
  return {
    ...known,
    inputTokens: input,
    inputImageTokens,
    cacheReadTokens: known.cacheReadTokens ?? input,
    cacheWrite5mTokens: short,
    cacheWrite1hTokens: known.cacheWrite1hTokens ?? (write === undefined ? input : dearer(short, twice(input))),
    ...(output !== undefined && { outputTokens: output, outputImageTokens: outputImageTokens! }),
    ...(reasoning !== undefined && { reasoningTokens: reasoning }),
  }
}

/** USD per 10^`per` of something, as pico-USD for one, rounded up. */
export function toPico(name: string, usd: number | string, per: number): bigint {
  const { digits, scale } = parseDecimal(name, usd)
  const divisor = 10n ** BigInt(scale)
  return (digits * 10n ** BigInt(12 - per) + divisor - 1n) / divisor
}
