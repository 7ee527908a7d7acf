// What a provider says that a call cost. Two say it beside the tokens, and both say it for all that they bill: tokens at
// the prices of whoever really answered, discounts, tools.

import { MAX_AMOUNT, parseDecimal } from '../../lib/amounts.ts'
import { asFields, count, type Fields } from './disjoint.ts'

/** 1 USD is 10,000,000,000 ticks. */
const TICKS_PER_NANO_USD = 10

/**
 * Whether a provider is one that is known to state what it charges: by the host that answers, or by its name in a framework,
 * such as `xai.chat`. Anybody can write a cost beside the tokens.
 */
export function statesCosts(provider: string | undefined, hostname: string | undefined): boolean {
  if (hostname !== undefined && /^(?:openrouter\.ai|(?:[\w-]+\.)?api\.x\.ai)$/.test(hostname)) return true
  return provider !== undefined && /^(?:openrouter|xai|x-ai)(?:\.|$)/.test(provider)
}

/**
 * The cost in nano-USD, rounded up, that a `usage` object states.
 *
 * xAI: `cost_in_usd_ticks`. OpenRouter: `cost` in US dollars, known by the fields beside it, since others write other things
 * under that name; of a call with a key of your own it is only OpenRouter's share, and the rest is `upstream_inference_cost`.
 *
 * @returns `undefined` where nothing is stated, or 0, which a free call and one that was not priced have in common; `NaN`
 *   for a number that is none.
 * @see https://docs.x.ai/developers/cost-tracking (looked up 2026-11-22)
 * @see https://openrouter.ai/docs/use-cases/usage-accounting (looked up 2026-11-22)
 */
export function statedCost(usage: Fields): number | undefined {
  const ticks = usage['cost_in_usd_ticks']
  if (ticks != null) return Math.ceil(count(ticks) / TICKS_PER_NANO_USD) || (ticks === 0 ? undefined : Number.NaN)
  const { cost, is_byok: isByok } = usage
  const details = asFields(usage['cost_details'])
  if (typeof cost !== 'number' || (details === undefined && typeof isByok !== 'boolean')) return undefined
  const upstream = details?.['upstream_inference_cost'] ?? undefined
  // Without a word on whose key it was, nobody knows whether the second is part of the first.
  if (isByok === true ? upstream === undefined : isByok !== false && upstream !== undefined) return undefined
  const parts = isByok === true ? [cost, upstream] : [cost]
  return parts.reduce((sum: number, usd) => sum + nanoOf(usd), 0) || (cost === 0 ? undefined : Number.NaN)
}

function nanoOf(usd: unknown): number {
  if (typeof usd !== 'number' || !Number.isFinite(usd) || usd < 0) return Number.NaN
  const { digits, scale } = parseDecimal('cost', usd)
  const divisor = 10n ** BigInt(scale)
  const nano = (digits * 1_000_000_000n + divisor - 1n) / divisor
  return nano > BigInt(MAX_AMOUNT) ? Number.NaN : Number(nano)
}
