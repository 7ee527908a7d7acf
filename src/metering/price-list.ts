// The bundled price list as rates. Prices are exact integers in pico-USD (1e-12): the finest that lists give,
// 0.005 USD per million tokens, is 5,000 of them.

import type { ModelPrice as ListedPrice, PriceCalculation } from '@pydantic/genai-prices'
import type { ModelPrice, RateName, Rates, Unit, UnitRate } from '../waist/price.ts'
import { dearer, dearerUnit, toPico, withFallbacks, type KnownRates } from './rates.ts'

/** The version of `@pydantic/genai-prices` this is written for. A constant, since a bundle has no package.json; a test compares them. */
export const GENAI_PRICES_VERSION = '0.1.8'

// Usage does not tell video, citation and cached image tokens from text, so their rates join the bucket they are
// counted in and the dearest of them stands. Cached audio is left out: it is counted as audio.
const LISTED_RATES: readonly (readonly [RegExp, RateName | undefined])[] = [
  [/^cache_audio_read_mtok$/, undefined],
  [/^input_audio_mtok$/, 'inputAudioTokens'],
  [/^output_audio_mtok$/, 'outputAudioTokens'],
  [/^output_(\w+_)?reasoning_mtok$/, 'reasoningTokens'],
  [/^cache_(\w+_)?read_mtok$/, 'cacheReadTokens'],
  [/^cache_(\w+_)?write_1h_mtok$/, 'cacheWrite1hTokens'],
  [/^cache_(\w+_)?write_(5m_)?mtok$/, 'cacheWrite5mTokens'],
  [/^input_image_mtok$/, 'inputImageTokens'],
  [/^output_image_mtok$/, 'outputImageTokens'],
  [/^input_(\w+_)?mtok$/, 'inputTextTokens'],
  [/^output_(\w+_)?mtok$/, 'outputTextTokens'],
]
const LISTED_TOOLS: Readonly<Record<string, string>> = {
  web_searches_kcount: 'web_search',
  storage_searches_kcount: 'file_search',
  code_executions_kcount: 'code_interpreter',
  social_searches_kcount: 'x_search',
}

// The list has both names where sound goes in only, and two prices of pages: the dearer stands.
const LISTED_UNITS: Readonly<Record<string, { readonly unit: Unit; readonly per: number }>> = {
  audio_hours: { unit: 'audioMs', per: 3_600_000 },
  input_audio_hours: { unit: 'audioMs', per: 3_600_000 },
  input_document_kpages: { unit: 'pages', per: 1_000 },
  input_annotated_document_kpages: { unit: 'pages', per: 1_000 },
}

/** The list's prices of a model as rates; `undefined` when it has none (`{}`), or some by a unit that usage does not count. */
function readListed(listed: ListedPrice): Rates | undefined {
  const known: KnownRates = {}
  const tools: Record<string, bigint> = {}
  const units: Partial<Record<Unit, UnitRate>> = {}
  let request = 0n
  for (const [key, price] of Object.entries(listed)) {
    if (price === undefined) continue
    const tiered = typeof price === 'number' ? { base: price, tiers: [] } : price
    const entry = LISTED_RATES.find(([pattern]) => pattern.test(key))
    if (entry !== undefined) {
      const [, bucket] = entry
      const tiers = tiered.tiers
        .map(({ start, price }) => ({ above: start, pico: toPico(key, price, 6) }))
        .sort((a, b) => a.above - b.above)
      if (bucket !== undefined) known[bucket] = dearer(known[bucket], { pico: toPico(key, tiered.base, 6), tiers })
    } else if (typeof price !== 'number') return undefined
    else if (Object.hasOwn(LISTED_TOOLS, key)) tools[LISTED_TOOLS[key]!] = toPico(key, price, 3)
    else if (Object.hasOwn(LISTED_UNITS, key)) {
      const { unit, per } = LISTED_UNITS[key]!
      units[unit] = dearerUnit(units[unit], { pico: toPico(key, price, 0), per })
    } else if (key === 'requests_kcount') request = toPico(key, price, 3)
    else return undefined
  }
  const isPriced = known.inputTextTokens !== undefined || Object.keys(units).length > 0
  return isPriced ? { tokens: withFallbacks(known), request, tools, units } : undefined
}

/** The dearest of several rates, bucket by bucket. */
function dearestOf(all: readonly Rates[]): Rates {
  const tokens: KnownRates = {}
  const tools: Record<string, bigint> = {}
  const units: Partial<Record<Unit, UnitRate>> = {}
  let request = 0n
  for (const rates of all) {
    for (const [name, rate] of Object.entries(rates.tokens)) tokens[name as RateName] = dearer(tokens[name as RateName], rate)
    for (const [unit, rate] of Object.entries(rates.units)) units[unit as Unit] = dearerUnit(units[unit as Unit], rate)
    for (const [tool, pico] of Object.entries(rates.tools)) tools[tool] = pico > (tools[tool] ?? 0n) ? pico : tools[tool]!
    if (rates.request > request) request = rates.request
  }
  return { tokens, tools, units, request }
}

const DAY_MS = 86_400_000
// Prices by the hour change on the half-hour at the finest (deepseek: 00:30 and 16:30 UTC).
const SLOT_MS = 1_800_000

/** Asks the list for a model at a time, in Unix milliseconds. */
export type Calculate = (model: string, providerId: string | undefined, at: number) => PriceCalculation | null

/** What the list says of a model. */
export interface Listed {
  readonly price?: ModelPrice
  /** When to look again, in Unix milliseconds. */
  readonly until: number
}

/** Looks a model up in the list; without a price for one that it does not know, or prices by something that usage does not count. */
export function lookUp(calculate: Calculate, model: string, provider: string | undefined, now: number): Listed {
  try {
    return readFound(calculate, model, provider, now)
  } catch {
    // The list throws on an entry that it finds inconsistent: that is an unknown price, not a crash of the caller.
    return { until: now + DAY_MS }
  }
}

function readFound(calculate: Calculate, model: string, provider: string | undefined, now: number): Listed {
  const found = isVariant(model) ? null : calculate(model, provider, now)
  if (found === null || isOtherModel(model, found.model.id)) return { until: now + DAY_MS }
  const dated = Array.isArray(found.model.prices)
  const until = dated ? (Math.floor(now / SLOT_MS) + 1) * SLOT_MS : now + DAY_MS
  const listed = new Set([found.model_price])
  const horizon = dated ? now + DAY_MS : now
  for (let at = until; at <= horizon; at += SLOT_MS) listed.add(calculate(model, provider, at)!.model_price)
  const [rates, ...later] = [...listed].map(readListed)
  if (rates === undefined) return { until }
  const contextWindow = found.model.context_window
  const price: ModelPrice = {
    source: `genai-prices ${GENAI_PRICES_VERSION} ${found.provider.id}/${found.model.id}`,
    rates,
    ...(later.length > 0 && { dearest: dearestOf([rates, ...later.filter((one) => one !== undefined)]) }),
    ...(contextWindow !== undefined && Number.isSafeInteger(contextWindow) && contextWindow > 0 && { contextWindow }),
  }
  return { price, until }
}

/** `gpt-5.5@priority` is a tier with a price of its own; `claude-opus-4-8@20260101` is Vertex naming a version. */
export function isVariant(model: string): boolean {
  return /.@(?!\d+$|latest$|default$)[^@]*$/.test(model)
}

/** The list matches some models by their beginning: that `claude-opus-4-10` is not `4-1`, and a `-fast` one is dearer, it cannot know. */
function isOtherModel(model: string, listed: string): boolean {
  return model.toLowerCase().startsWith(listed.toLowerCase()) && /^\d|\bfast\b/.test(model.toLowerCase().slice(listed.length))
}
