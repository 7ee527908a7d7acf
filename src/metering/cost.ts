// What a call costs, from what it used and the price: exact in pico-USD, and rounded up once.

import { MAX_AMOUNT } from '../lib/amounts.ts'
import type { ModelPrice, RateName, Rates, TokenBucket, Unit, Usage } from '../waist/price.ts'
import { rateAt } from './rates.ts'
import { INPUT_BUCKETS, OUTPUT_BUCKETS, totalInputTokens } from './usage/totals.ts'

/**
 * Rounds pico-USD up to nano-USD.
 *
 * @throws {RangeError} Beyond 2^53 - 1 nano-USD.
 */
export function picoToNanoUsd(pico: bigint): number {
  const nano = (pico + 999n) / 1000n
  if (nano > BigInt(MAX_AMOUNT)) throw new RangeError(`A cost of ${nano} nano-USD is beyond the largest amount, ${MAX_AMOUNT}.`)
  return Number(nano)
}

/**
 * What a call costs in nano-USD: what the provider says that it charged, else exact from the price, and rounded up once.
 *
 * @returns `undefined` when the price does not cover something the call used (audio, a hosted tool, a unit).
 * @throws {RangeError} Beyond 2^53 - 1 nano-USD.
 */
export function costNanoUsd(price: ModelPrice, usage: Usage): number | undefined {
  if (usage.statedNanoUsd !== undefined) return usage.statedNanoUsd
  const { tokens, request, tools, units } = price.rates
  const inputTokens = totalInputTokens(usage)
  let pico = request
  for (const bucket of [...INPUT_BUCKETS, ...OUTPUT_BUCKETS]) {
    const used = usage[bucket] ?? 0
    if (used === 0) continue
    const rate = tokens[rateName(bucket, usage)]
    if (rate === undefined) return undefined
    pico += rateAt(rate, inputTokens) * BigInt(used)
  }
  for (const [tool, calls] of Object.entries(usage.toolCalls)) {
    if (calls === 0) continue
    if (!Object.hasOwn(tools, tool)) return undefined
    pico += tools[tool]! * BigInt(calls)
  }
  const fees = unitFees(units, usage.units ?? {})
  return fees === undefined ? undefined : picoToNanoUsd(pico + fees)
}

/** Where the cost of a call comes from, for the record: the source of its price, and whether the provider stated the amount itself. */
export function costSource(price: ModelPrice, usage: Usage): string {
  return usage.statedNanoUsd === undefined ? price.source : `stated by the provider (${price.source})`
}

/** What so many units cost in pico-USD, each unit rounded up; `undefined` when one of them has no price. */
export function unitFees(rates: Rates['units'], units: Readonly<Partial<Record<Unit, number>>>): bigint | undefined {
  let pico = 0n
  for (const [unit, count] of Object.entries(units)) {
    if (count === 0) continue
    const rate = Object.hasOwn(rates, unit) ? rates[unit as Unit] : undefined
    if (rate === undefined) return undefined
    const per = BigInt(rate.per)
    pico += (rate.pico * BigInt(count) + per - 1n) / per
  }
  return pico
}

/** Text has a rate of its own where the provider told images from it; else nobody knows what is among it. */
function rateName(bucket: TokenBucket, usage: Usage): RateName {
  if (bucket === 'inputTokens' && usage.inputImageTokens !== undefined) return 'inputTextTokens'
  return bucket === 'outputTokens' && usage.outputImageTokens !== undefined ? 'outputTextTokens' : bucket
}
