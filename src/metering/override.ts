// Prices of your own: what an operator writes, checked field by field, as rates.

import { assertAmount } from '../lib/amounts.ts'
import type { ModelPrice, RateName, Rates, Unit, UnitRate } from '../waist/price.ts'
import { toPico, UNIT_FIELDS, withFallbacks, type KnownRates } from './rates.ts'

/**
 * A price of your own, in US dollars: numbers, or decimal strings. It replaces the list's price as a whole. It has
 * `inputUsdPerMillion` and `outputUsdPerMillion`, or a price by another unit (`usdPer...`), or both kinds.
 */
export interface PriceOverride {
  readonly inputUsdPerMillion?: number | string
  /** For reasoning tokens too; 0 for a model that puts out none, such as one for embeddings. */
  readonly outputUsdPerMillion?: number | string
  /** @default the price of input */
  readonly cacheReadUsdPerMillion?: number | string
  /** Needed for a provider that charges for writing to its cache. @default the price of input */
  readonly cacheWriteUsdPerMillion?: number | string
  /** For caches that live an hour or more. @default twice the input where `cacheWriteUsdPerMillion` is given, else the input */
  readonly cacheWrite1hUsdPerMillion?: number | string
  /** @default none: a call with audio in it is then unpriced */
  readonly inputAudioUsdPerMillion?: number | string
  /** @default none: a call with audio in its answer is then unpriced */
  readonly outputAudioUsdPerMillion?: number | string
  /** @default the price of input */
  readonly inputImageUsdPerMillion?: number | string
  /** @default the price of output */
  readonly outputImageUsdPerMillion?: number | string
  /** One picture, whatever its size: give the dearest that you ask for. @default none: images billed by the piece are unpriced */
  readonly usdPerImage?: number | string
  /** Speech that is billed by its length, in or out; begun milliseconds count. @default none */
  readonly usdPerAudioMinute?: number | string
  /** @default none */
  readonly usdPerVideoSecond?: number | string
  /** Text that is read aloud, where characters are billed. @default none */
  readonly usdPerMillionCharacters?: number | string
  /** Pages of documents. @default none */
  readonly usdPerThousandPages?: number | string
  /** Requests to an endpoint that searches or ranks. @default none */
  readonly usdPerThousandSearches?: number | string
  /** Fees of hosted tools by name, such as `{ web_search: 10, mcp: 0 }`; a tool that is not here is unpriced. */
  readonly toolUsdPerThousand?: Readonly<Record<string, number | string>>
  readonly contextWindow?: number
  readonly maxOutputTokens?: number
  /** The day you looked, `YYYY-MM-DD`; kept in {@link ModelPrice.source}. */
  readonly asOf?: string
  /** Which edition of your prices this is, at most 128 characters; kept in {@link ModelPrice.source}. `readPrices` sets it. */
  readonly version?: string
}

const OVERRIDE_RATES: Readonly<Record<string, RateName>> = {
  inputUsdPerMillion: 'inputTextTokens',
  outputUsdPerMillion: 'outputTextTokens',
  cacheReadUsdPerMillion: 'cacheReadTokens',
  cacheWriteUsdPerMillion: 'cacheWrite5mTokens',
  cacheWrite1hUsdPerMillion: 'cacheWrite1hTokens',
  inputAudioUsdPerMillion: 'inputAudioTokens',
  outputAudioUsdPerMillion: 'outputAudioTokens',
  inputImageUsdPerMillion: 'inputImageTokens',
  outputImageUsdPerMillion: 'outputImageTokens',
}
const UNIT_OF: Readonly<Record<string, Unit>> = Object.fromEntries(
  Object.entries(UNIT_FIELDS).map(([unit, { field }]) => [field, unit as Unit]),
)

const MAX_VERSION_LENGTH = 128

/** Whether a name stands for every model that nobody knows: `*`, or `ollama/*` for those of one provider. */
export function isWildcard(name: string): boolean {
  return name === '*' || name.endsWith('/*')
}

/**
 * Reads a price of your own.
 *
 * @throws {TypeError | RangeError} Naming the field.
 */
export function readOverride(model: string, override: PriceOverride): ModelPrice {
  const field = `prices['${model}']`
  if (typeof override !== 'object' || override === null) throw new TypeError(`Expected \`${field}\` to be an object with prices.`)
  const { toolUsdPerThousand = {}, contextWindow, maxOutputTokens, asOf, version, ...usd } = override
  const { tokens, units } = readUsd(field, usd)
  if (typeof toolUsdPerThousand !== 'object' || toolUsdPerThousand === null)
    throw new TypeError(`Expected \`${field}.toolUsdPerThousand\` to be an object such as \`{ web_search: 10 }\`.`)
  const fees = Object.entries(toolUsdPerThousand).map(
    ([tool, value]) => [tool, toPico(`${field}.toolUsdPerThousand.${tool}`, value, 3)] as const,
  )
  if (asOf !== undefined && !isDay(asOf)) throw new TypeError(`Expected \`${field}.asOf\` to be a day such as '2026-11-20'.`)
  if (version !== undefined && (typeof version !== 'string' || version === '' || version.length > MAX_VERSION_LENGTH))
    throw new TypeError(`Expected \`${field}.version\` to be a text of 1 to ${MAX_VERSION_LENGTH} characters.`)
  for (const [key, value] of Object.entries({ contextWindow, maxOutputTokens })) {
    if (value === undefined) continue
    assertAmount(`${field}.${key}`, value)
    if (value === 0) throw new RangeError(`Expected \`${field}.${key}\` to be at least 1, got 0.`)
  }
  return {
    source: [isWildcard(model) ? 'pessimistic' : 'override', version, asOf].filter((part) => part !== undefined).join(' '),
    rates: { tokens: withFallbacks(tokens), request: 0n, tools: Object.fromEntries(fees), units },
    ...(contextWindow !== undefined && { contextWindow }),
    ...(maxOutputTokens !== undefined && { maxOutputTokens }),
  }
}

function readUsd(field: string, usd: Readonly<Record<string, number | string>>): { tokens: KnownRates; units: Rates['units'] } {
  const tokens: KnownRates = {}
  const units: Partial<Record<Unit, UnitRate>> = {}
  for (const [key, value] of Object.entries(usd)) {
    if (!Object.hasOwn(OVERRIDE_RATES, key) && !Object.hasOwn(UNIT_OF, key)) throw new TypeError(`Unknown field \`${field}.${key}\`.`)
    if (value === undefined) continue
    const unit = UNIT_OF[key]
    if (unit === undefined) tokens[OVERRIDE_RATES[key]!] = { pico: toPico(`${field}.${key}`, value, 6), tiers: [] }
    else units[unit] = { pico: toPico(`${field}.${key}`, value, 0), per: UNIT_FIELDS[unit].per }
  }
  const byToken = tokens.inputTextTokens !== undefined && tokens.outputTextTokens !== undefined
  const byUnit = Object.keys(tokens).length === 0 && Object.keys(units).length > 0
  if (!byToken && !byUnit)
    throw new TypeError(`Expected \`${field}\` to have \`inputUsdPerMillion\` and \`outputUsdPerMillion\`, or a price by another unit.`)
  return { tokens, units }
}

function isDay(text: unknown): boolean {
  if (typeof text !== 'string' || !/^\d{4}-\d{2}-\d{2}$/.test(text)) return false
  const date = new Date(`${text}T00:00:00Z`)
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text)
}
