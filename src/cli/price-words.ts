// Prices in words: exact, however small they are.

import { rateAt } from '../metering/rates.ts'
import type { ModelPrice, Prices, Rate, Unit, UnitRate } from '../waist/price.ts'

const UNIT_WORDS: Readonly<Record<Unit, readonly (readonly [per: number, words: string])[]>> = {
  images: [[1, 'image']],
  audioMs: [
    [60_000, 'minute of audio'],
    [3_600_000, 'hour of audio'],
  ],
  videoMs: [[1_000, 'second of video']],
  characters: [[1_000_000, 'million characters']],
  pages: [[1_000, 'thousand pages']],
  searches: [[1_000, 'thousand searches']],
}

/** Pico-USD as dollars: `2500000` of 10^-6 is `2.50`; at least two decimals, none of them rounded. */
export function usdOf(pico: bigint, scale = 12): string {
  const digits = pico.toString().padStart(scale + 1, '0')
  const fraction = digits.slice(-scale).replace(/0+$/, '').padEnd(2, '0')
  return `${digits.slice(0, -scale)}.${fraction}`
}

/** US dollars for a million tokens at a rate per token. */
export const perMillion = (pico: bigint): string => usdOf(pico, 6)

/** `$5.00, above 272,000: $10.00`. */
export function rateWords(rate: Rate): string {
  const tiers = rate.tiers.map(({ above }) => `, above ${above.toLocaleString('en-US')}: $${perMillion(rateAt(rate, above + 1))}`)
  return `$${perMillion(rate.pico)}${tiers.join('')}`
}

/** `$0.36 per hour of audio`. */
export function unitWords(unit: Unit, { pico, per }: UnitRate): string {
  const words = UNIT_WORDS[unit].find(([size]) => size === per)?.[1] ?? `${per.toLocaleString('en-US')} ${unit}`
  return `$${usdOf(pico)} per ${words}`
}

/** Prices by other units than tokens, and per request. */
export function otherWords({ units, request }: ModelPrice['rates']): readonly string[] {
  const named = Object.entries(units).map(([unit, rate]) => unitWords(unit as Unit, rate))
  return request === 0n ? named : [...named, `$${usdOf(request)} per request`]
}

/** The price of a model, as `prices list` names it: `gpt-4o`, or `openai/gpt-4o`. */
export function findNamed(prices: Prices, name: string, provider?: string): ModelPrice | undefined {
  if (provider !== undefined) return prices.find(name, provider)
  const slash = name.indexOf('/')
  const split = slash < 1 ? undefined : prices.find(name.slice(slash + 1), name.slice(0, slash))
  // What stands in for everything must not hide what is known under the whole name.
  return split === undefined || split.source.startsWith('pessimistic') ? prices.find(name) : split
}
