// Where prices are looked up: your own first, then the bundled list.

import type { ModelPrice, Prices, Unit } from '../waist/price.ts'
import { importList } from './import-list.ts'
import { readOverride, type PriceOverride } from './override.ts'
import { GENAI_PRICES_VERSION, isVariant, lookUp, type Calculate, type Listed } from './price-list.ts'
import { UNIT_FIELDS } from './rates.ts'
import { CHEAPER_TIERS } from './tiers.ts'

export { costNanoUsd, costSource, picoToNanoUsd, unitFees } from './cost.ts'
export type { PriceOverride } from './override.ts'
export { GENAI_PRICES_VERSION } from './price-list.ts'
export { dearestRate, rateAt } from './rates.ts'

const MAX_CACHED = 1_000
const MAX_NAME_LENGTH = 256

/**
 * The line that gives a model a price, for the operator to paste.
 *
 * @param units - What it would be billed by, where that is not tokens.
 */
export function unknownPriceFix(model: string, units: readonly Unit[] = []): string {
  const name = JSON.stringify(model.slice(0, 128))
    .slice(1, -1)
    .replaceAll(String.raw`\"`, '"')
    .replaceAll("'", String.raw`\'`)
  const fields =
    units.length === 0 ? ['inputUsdPerMillion: 1', 'outputUsdPerMillion: 2'] : units.map((unit) => `${UNIT_FIELDS[unit].field}: 1`)
  return `Add it: openKernel({ prices: { '${name}': { ${fields.join(', ')} } } })`
}

/** The AI SDK names a provider with its API, such as `azure.chat`; the list knows some of these, and all by the first part. */
function namesOf(provider: string): readonly string[] {
  return [...new Set([provider, provider.split('.', 1)[0]!])]
}

function isLookUpName(name: unknown): boolean {
  return typeof name === 'string' && name.length <= MAX_NAME_LENGTH
}

/** Options of {@link loadPrices}. */
export interface PriceOptions {
  /**
   * By model (`gpt-5.5`), by `provider/model`, or by model and service tier (`gpt-5.5@priority`); they win over the list.
   * `*`, or `ollama/*` for one provider, is for models that nobody knows, instead of refusing them: give a price that is
   * surely not too low.
   */
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
  const { calcPrice } = await importList()
  const calculate: Calculate = (model, providerId, at) =>
    calcPrice({}, model, { ...(providerId !== undefined && { providerId }), timestamp: new Date(at) })
  const cache = new Map<string, Listed & { from: number }>()
  const listed = (model: string, provider: string | undefined, providers: readonly string[]): ModelPrice | undefined => {
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
  const known = (model: string, provider: string | undefined, providers: readonly string[]): ModelPrice | undefined => {
    const own = [...providers.map((name) => `${name}/${model}`), model].find((name) => overrides.has(name))
    return own === undefined ? listed(model, provider, providers) : overrides.get(own)
  }
  const pessimistic = (providers: readonly string[]): ModelPrice | undefined => {
    const name = [...providers.map((one) => `${one}/*`), '*'].find((one) => overrides.has(one))
    return name === undefined ? undefined : overrides.get(name)
  }
  const find = (model: string, provider?: string): ModelPrice | undefined => {
    if (!isLookUpName(model) || (provider !== undefined && !isLookUpName(provider))) return undefined
    const providers = provider === undefined ? [] : namesOf(provider)
    const exact = known(model, provider, providers)
    if (exact !== undefined) return exact
    const [, base, tier] = /^(.+)@([^@]*)$/.exec(model) ?? []
    const standard = base === undefined || !isVariant(model) ? undefined : known(base, provider, providers)
    // A tier of a model that is known may cost more than any price for unknown ones says.
    if (standard === undefined) return pessimistic(providers)
    // A tier at a discount that nobody has priced is charged as if it had none.
    return CHEAPER_TIERS.has(tier!) ? { ...standard, source: `${standard.source} (no price for ${tier}: standard)` } : undefined
  }
  return { find, version: GENAI_PRICES_VERSION }
}
