// What a model costs. Prices are exact integers in pico-USD (1e-12): the finest that lists give, 0.005 USD
// per million tokens, is 5,000 of them. Where a list is silent the dearer reading is taken, or none at all.

import type { calcPrice, ModelPrice as ListedPrice, PriceCalculation } from '@pydantic/genai-prices'
import { assertAmount, MAX_AMOUNT, parseDecimal } from '../lib/amounts.ts'
import type { ModelPrice, Prices, Rate, Rates, TokenBucket, Usage } from '../waist/price.ts'
import { INPUT_BUCKETS, OUTPUT_BUCKETS, totalInputTokens } from './usage/totals.ts'

/** The version of `@pydantic/genai-prices` this is written for. A constant, since a bundle has no package.json; a test compares them. */
export const GENAI_PRICES_VERSION = '0.1.8'

/** A price of your own, in US dollars: numbers, or decimal strings. It replaces the list's price as a whole. */
export interface PriceOverride {
  readonly inputUsdPerMillion: number | string
  /** For reasoning tokens too. */
  readonly outputUsdPerMillion: number | string
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
  /** Fees of hosted tools by name, such as `{ web_search: 10, mcp: 0 }`; a tool that is not here is unpriced. */
  readonly toolUsdPerThousand?: Readonly<Record<string, number | string>>
  readonly contextWindow?: number
  readonly maxOutputTokens?: number
  /** The day you looked, `YYYY-MM-DD`; kept in {@link ModelPrice.source}. */
  readonly asOf?: string
}

/** The rate per token in pico-USD for a request of so many input tokens. */
export function rateAt(rate: Rate, inputTokens: number): bigint {
  return rate.tiers.findLast((tier) => inputTokens > tier.above)?.pico ?? rate.pico
}

/** The dearest rate that a request of at most so many input tokens can meet, in pico-USD per token. */
export function dearestRate(rate: Rate, inputTokens: number): bigint {
  return rate.tiers.reduce((most, tier) => (inputTokens > tier.above && tier.pico > most ? tier.pico : most), rate.pico)
}

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
 * What a call costs in nano-USD: exact, and rounded up once.
 *
 * @returns `undefined` when the price does not cover something the call used (audio, a hosted tool).
 * @throws {RangeError} Beyond 2^53 - 1 nano-USD.
 */
export function costNanoUsd(price: ModelPrice, usage: Usage): number | undefined {
  const { tokens, request, tools } = price.rates
  const inputTokens = totalInputTokens(usage)
  let pico = request
  for (const bucket of [...INPUT_BUCKETS, ...OUTPUT_BUCKETS]) {
    if (usage[bucket] === 0) continue
    const rate = tokens[bucket]
    if (rate === undefined) return undefined
    pico += rateAt(rate, inputTokens) * BigInt(usage[bucket])
  }
  for (const [tool, calls] of Object.entries(usage.toolCalls)) {
    if (calls === 0) continue
    if (!Object.hasOwn(tools, tool)) return undefined
    pico += tools[tool]! * BigInt(calls)
  }
  return picoToNanoUsd(pico)
}

/** The line that gives a model a price, for the operator to paste. */
export function unknownPriceFix(model: string): string {
  const name = JSON.stringify(model.slice(0, 128))
    .slice(1, -1)
    .replaceAll(String.raw`\"`, '"')
    .replaceAll("'", String.raw`\'`)
  return `Add it: openKernel({ prices: { '${name}': { inputUsdPerMillion: 1, outputUsdPerMillion: 2 } } })`
}

type Known = Partial<Record<TokenBucket, Rate>>

/** The dearer of two rates at every number of input tokens. */
function dearer(a: Rate | undefined, b: Rate): Rate {
  if (a === undefined) return b
  const most = (inputTokens: number): bigint =>
    rateAt(a, inputTokens) > rateAt(b, inputTokens) ? rateAt(a, inputTokens) : rateAt(b, inputTokens)
  const bounds = new Set([...a.tiers, ...b.tiers].map((tier) => tier.above).sort((x, y) => x - y))
  return { pico: most(0), tiers: [...bounds].map((above) => ({ above, pico: most(above + 1) })) }
}

function twice(rate: Rate): Rate {
  return { pico: rate.pico * 2n, tiers: rate.tiers.map((tier) => ({ above: tier.above, pico: tier.pico * 2n })) }
}

/**
 * Fills the gaps with the dearer sensible rate. A provider that charges for short cache writes charges more
 * for long ones: 2 x input is Anthropic's price on every model of the list that has one. A provider without
 * any write rate (OpenAI before gpt-5.6, most others) bills a write as the input it is. Audio has no such
 * neighbour, being many times dearer than text, so it stays unpriced.
 */
function withFallbacks(known: Known & { readonly inputTokens: Rate }): Rates['tokens'] {
  const input = known.inputTokens
  const write = known.cacheWrite5mTokens ?? known.cacheWrite1hTokens
  const short = dearer(write, input)
  const reasoning = known.reasoningTokens ?? known.outputTokens
  return {
    ...known,
    cacheReadTokens: known.cacheReadTokens ?? input,
    cacheWrite5mTokens: short,
    cacheWrite1hTokens: known.cacheWrite1hTokens ?? (write === undefined ? input : dearer(short, twice(input))),
    ...(reasoning !== undefined && { reasoningTokens: reasoning }),
  }
}

/** USD per 10^`per` of something, as pico-USD for one, rounded up. */
function toPico(name: string, usd: number | string, per: number): bigint {
  const { digits, scale } = parseDecimal(name, usd)
  const divisor = 10n ** BigInt(scale)
  return (digits * 10n ** BigInt(12 - per) + divisor - 1n) / divisor
}

const OVERRIDE_RATES: Readonly<Record<string, TokenBucket>> = {
  inputUsdPerMillion: 'inputTokens',
  outputUsdPerMillion: 'outputTokens',
  cacheReadUsdPerMillion: 'cacheReadTokens',
  cacheWriteUsdPerMillion: 'cacheWrite5mTokens',
  cacheWrite1hUsdPerMillion: 'cacheWrite1hTokens',
  inputAudioUsdPerMillion: 'inputAudioTokens',
  outputAudioUsdPerMillion: 'outputAudioTokens',
}

function readOverride(model: string, override: PriceOverride): ModelPrice {
  const field = `prices['${model}']`
  if (typeof override !== 'object' || override === null) throw new TypeError(`Expected \`${field}\` to be an object with prices.`)
  const { toolUsdPerThousand = {}, contextWindow, maxOutputTokens, asOf, ...usd } = override
  const known: Known = {}
  for (const [key, value] of Object.entries(usd)) {
    if (!Object.hasOwn(OVERRIDE_RATES, key)) throw new TypeError(`Unknown field \`${field}.${key}\`.`)
    if (value !== undefined) known[OVERRIDE_RATES[key]!] = { pico: toPico(`${field}.${key}`, value, 6), tiers: [] }
  }
  const { inputTokens, outputTokens } = known
  if (inputTokens === undefined || outputTokens === undefined)
    throw new TypeError(`Expected \`${field}\` to have \`inputUsdPerMillion\` and \`outputUsdPerMillion\`.`)
  if (typeof toolUsdPerThousand !== 'object' || toolUsdPerThousand === null)
    throw new TypeError(`Expected \`${field}.toolUsdPerThousand\` to be an object such as \`{ web_search: 10 }\`.`)
  const fees = Object.entries(toolUsdPerThousand).map(
    ([tool, value]) => [tool, toPico(`${field}.toolUsdPerThousand.${tool}`, value, 3)] as const,
  )
  if (asOf !== undefined && !isDay(asOf)) throw new TypeError(`Expected \`${field}.asOf\` to be a day such as '2026-11-20'.`)
  for (const [key, value] of Object.entries({ contextWindow, maxOutputTokens })) {
    if (value === undefined) continue
    assertAmount(`${field}.${key}`, value)
    if (value === 0) throw new RangeError(`Expected \`${field}.${key}\` to be at least 1, got 0.`)
  }
  return {
    source: asOf === undefined ? 'override' : `override ${asOf}`,
    rates: { tokens: withFallbacks({ ...known, inputTokens }), request: 0n, tools: Object.fromEntries(fees) },
    ...(contextWindow !== undefined && { contextWindow }),
    ...(maxOutputTokens !== undefined && { maxOutputTokens }),
  }
}

function isDay(text: unknown): boolean {
  if (typeof text !== 'string' || !/^\d{4}-\d{2}-\d{2}$/.test(text)) return false
  const date = new Date(`${text}T00:00:00Z`)
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text)
}

// Usage does not tell image, video or citation tokens from text, so their rates join the bucket they are
// counted in and the dearest of them stands. Cached audio is left out: it is counted as audio.
const LISTED_RATES: readonly (readonly [RegExp, TokenBucket | undefined])[] = [
  [/^cache_audio_read_mtok$/, undefined],
  [/^input_audio_mtok$/, 'inputAudioTokens'],
  [/^output_audio_mtok$/, 'outputAudioTokens'],
  [/^output_(\w+_)?reasoning_mtok$/, 'reasoningTokens'],
  [/^cache_(\w+_)?read_mtok$/, 'cacheReadTokens'],
  [/^cache_(\w+_)?write_1h_mtok$/, 'cacheWrite1hTokens'],
  [/^cache_(\w+_)?write_(5m_)?mtok$/, 'cacheWrite5mTokens'],
  [/^input_(\w+_)?mtok$/, 'inputTokens'],
  [/^output_(\w+_)?mtok$/, 'outputTokens'],
]
const LISTED_TOOLS: Readonly<Record<string, string>> = {
  web_searches_kcount: 'web_search',
  storage_searches_kcount: 'file_search',
  code_executions_kcount: 'code_interpreter',
  social_searches_kcount: 'x_search',
}

/** The list's prices of a model as rates; `undefined` when it has none per token (`{}`), or some by a unit that usage does not count. */
function readListed(listed: ListedPrice): Rates | undefined {
  const known: Known = {}
  const tools: Record<string, bigint> = {}
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
    else if (key === 'requests_kcount') request = toPico(key, price, 3)
    else return undefined
  }
  const { inputTokens } = known
  return inputTokens === undefined ? undefined : { tokens: withFallbacks({ ...known, inputTokens }), request, tools }
}

/** The dearest of several rates, bucket by bucket. */
function dearestOf(all: readonly Rates[]): Rates {
  const tokens: Known = {}
  const tools: Record<string, bigint> = {}
  let request = 0n
  for (const rates of all) {
    for (const [bucket, rate] of Object.entries(rates.tokens)) tokens[bucket as TokenBucket] = dearer(tokens[bucket as TokenBucket], rate)
    for (const [tool, pico] of Object.entries(rates.tools)) tools[tool] = pico > (tools[tool] ?? 0n) ? pico : tools[tool]!
    if (rates.request > request) request = rates.request
  }
  return { tokens, tools, request }
}

const DAY_MS = 86_400_000
// Prices by the hour change on the half-hour at the finest (deepseek: 00:30 and 16:30 UTC).
const SLOT_MS = 1_800_000
const MAX_CACHED = 1_000
const MAX_NAME_LENGTH = 256

type Calculate = (model: string, providerId: string | undefined, at: number) => PriceCalculation | null

interface Listed {
  readonly price?: ModelPrice
  /** When to look again, in Unix milliseconds. */
  readonly until: number
}

function lookUp(calculate: Calculate, model: string, provider: string | undefined, now: number): Listed {
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

/** The AI SDK names a provider with its API, such as `azure.chat`; the list knows some of these, and all by the first part. */
function namesOf(provider: string): readonly string[] {
  return [...new Set([provider, provider.split('.', 1)[0]!])]
}

function isLookUpName(name: unknown): boolean {
  return typeof name === 'string' && name.length <= MAX_NAME_LENGTH
}

/** `gpt-5.5@priority` is a tier with a price of its own; `claude-opus-4-8@20260101` is Vertex naming a version. */
function isVariant(model: string): boolean {
  return /.@(?!\d+$|latest$|default$)[^@]*$/.test(model)
}

/** The list matches some models by their beginning: that `claude-opus-4-10` is not `4-1`, and a `-fast` one is dearer, it cannot know. */
function isOtherModel(model: string, listed: string): boolean {
  return model.toLowerCase().startsWith(listed.toLowerCase()) && /^\d|\bfast\b/.test(model.toLowerCase().slice(listed.length))
}

/** Options of {@link loadPrices}. */
export interface PriceOptions {
  /** By model (`gpt-5.5`), by `provider/model`, or by model and service tier (`gpt-5.5@priority`). They win over the list. */
  readonly overrides?: Readonly<Record<string, PriceOverride>>
  /** Unix time in milliseconds, for prices that change with time. @default the wall clock */
  readonly now?: () => number
}

/**
 * Loads the price list, once per process; looking prices up is synchronous then. What was looked up is
 * remembered for at most a day, and for at most 1,000 models.
 *
 * @throws {TypeError | RangeError} For an override that is not one, naming the field.
 * @throws {Error} When the package with the list is not installed.
 */
export async function loadPrices(options: PriceOptions = {}): Promise<Prices> {
  const overrides = new Map(Object.entries(options.overrides ?? {}).map(([model, override]) => [model, readOverride(model, override)]))
  const now = options.now ?? Date.now
  const list = await importList()
  const calculate: Calculate = (model, providerId, at) =>
    list({}, model, { ...(providerId !== undefined && { providerId }), timestamp: new Date(at) })
  const cache = new Map<string, Listed & { from: number }>()
  const find = (model: string, provider?: string): ModelPrice | undefined => {
    if (!isLookUpName(model) || (provider !== undefined && !isLookUpName(provider))) return undefined
    const providers = provider === undefined ? [] : namesOf(provider)
    const own = [...providers.map((name) => `${name}/${model}`), model].find((name) => overrides.has(name))
    if (own !== undefined) return overrides.get(own)
    const at = now()
    const key = JSON.stringify([provider, model])
    const cached = cache.get(key)
    if (cached !== undefined && cached.from <= at && at < cached.until) return cached.price
    if (cache.size >= MAX_CACHED) cache.clear()
    const tries = provider === undefined ? [provider] : providers
    const found = tries.map((name) => lookUp(calculate, model, name, at))
    const fresh = { ...(found.find(({ price }) => price !== undefined) ?? found[0]!), from: at }
    cache.set(key, fresh)
    return fresh.price
  }
  return { find, version: GENAI_PRICES_VERSION }
}

async function importList(): Promise<typeof calcPrice> {
  try {
    return (await import('@pydantic/genai-prices')).calcPrice
  } catch (cause) {
    throw new Error('The price list could not be loaded. Run: npm install @pydantic/genai-prices@' + GENAI_PRICES_VERSION, { cause })
  }
}
