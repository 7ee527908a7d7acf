// A model call in the words of the waist: its worst case before it is sent, its use when the answer is there.
// The transport guard and the framework adapters share it, so that they agree.

import type { Amounts } from '../../src/lib/amounts.ts'
import { canonicalJson } from '../../src/lib/canonical-json.ts'
import { Refusal } from '../../src/lib/errors.ts'
import { sha256 } from '../../src/lib/ids.ts'
import { costNanoUsd, costSource, unknownPriceFix } from '../../src/metering/prices.ts'
import { statesCosts } from '../../src/metering/usage/stated.ts'
import { totalTokens } from '../../src/metering/usage/totals.ts'
import { paidKey, priceKey, worstAmounts, type BoundOptions, type RequestBound } from '../../src/metering/worst-case/bound.ts'
import type { Action } from '../../src/waist/action.ts'
import type { Answer } from '../../src/waist/hold.ts'
import type { ModelPrice, Prices, Unit, Usage } from '../../src/waist/price.ts'
import type { Scope } from '../../src/waist/scope.ts'

/**
 * Fewest output tokens that a call is narrowed to when its request sets no cap: providers refuse less than 16,
 * and an answer much shorter than this is money for nothing.
 */
export const MIN_OUTPUT_TOKENS = 64

/** A model call, and how to price its answer. */
export interface ModelCall {
  readonly action: Action
  readonly bound: RequestBound
  /** What an answer cost; `undefined` when it cannot be priced. */
  readonly used: (usage: Usage, serviceTier?: string) => { readonly amounts: Amounts; readonly priceSource?: string } | undefined
}

/** Options of {@link modelCall}. */
export interface ModelCallOptions extends Omit<BoundOptions, 'contextWindow' | 'maxOutputTokens' | 'units'> {
  /** Provider id for the price list, such as `openai`. */
  readonly provider?: string | undefined
}

/**
 * Prepares a model call.
 *
 * @param args - What was asked, as a hash.
 * @param boundOf - Bounds the request, given what the price list knows of the model.
 * @param hostname - The host that answers, where that is known.
 * @returns `undefined` in observe mode for a request that cannot be bounded: it is let through, unheld.
 * @throws {Refusal} `ERR_UNMETERED` for a request that cannot be bounded; recorded like any refusal.
 */
export async function modelCall(
  scope: Scope,
  model: { readonly id: string; readonly serviceTier?: string | undefined },
  args: string,
  boundOf: (known: BoundOptions) => RequestBound,
  { provider, hostname, ...given }: ModelCallOptions & { readonly hostname?: string },
): Promise<ModelCall | undefined> {
  const prices = await scope.prices()
  const priced = priceKey(model.id, model.serviceTier)
  const price = prices.find(priced, provider)
  const { contextWindow, maxOutputTokens } = price ?? {}
  const worst = boundOrRefuse(scope, model.id, args, () => {
    const bound = boundOf({ ...given, contextWindow, maxOutputTokens, units: Object.keys(price?.rates.units ?? {}) as Unit[] })
    return {
      bound,
      most: worstAmounts(bound, price),
      least: worstAmounts({ ...bound, parts: undefined, inputTokens: Math.min(1, bound.inputTokens), named: false }, price),
    }
  })
  if (worst === undefined) return undefined
  const { bound, most, least } = worst
  const { fixed, perOutputToken } = most
  const tokens = bound.outputTokensPerChoice
  const action: Action = {
    kind: 'model',
    resource: model.id,
    args,
    worst: fixed,
    output: { tokens, minTokens: bound.capSet ? tokens : Math.min(tokens, MIN_OUTPUT_TOKENS), perToken: perOutputToken },
    smallest: sum(least.fixed, least.perOutputToken),
    ...('usd' in fixed
      ? { priceSource: price!.source }
      : { unpriced: `The price of \`${priced}\` is not known. ${unknownPriceFix(priced, Object.keys(bound.units ?? {}) as Unit[])}` }),
  }
  return {
    action,
    bound,
    used: usedAt(prices, price, { id: model.id, provider, hostname }),
  }
}

/** Prices answers. A function of its own, so that what waits long for an answer keeps no request in memory for it. */
function usedAt(
  prices: Prices,
  price: ModelPrice | undefined,
  { id, provider, hostname }: { readonly id: string; readonly provider: string | undefined; readonly hostname: string | undefined },
): ModelCall['used'] {
  return (usage, serviceTier) => {
    // The tier that answered is the one that is billed, whatever was asked for.
    const paid = serviceTier === undefined ? price : prices.find(paidKey(id, serviceTier), provider)
    const counted = { tokens: totalTokens(usage), calls: 1 }
    if (price === undefined) return { amounts: counted }
    if (paid === undefined) return undefined
    const believed = statesCosts(provider, hostname) ? usage : atLeastPriced(paid, usage)
    const usd = believed && costOrNone(paid, believed)
    return usd === undefined ? undefined : { amounts: { ...counted, usd }, priceSource: costSource(paid, believed!) }
  }
}

/** What is told of an answer with its hold. */
export function answerOf({ priceSource }: { readonly priceSource?: string | undefined }, responseId?: string): Answer {
  return { ...(responseId === undefined ? {} : { responseId }), ...(priceSource === undefined ? {} : { priceSource }) }
}

/** A cost that anybody may have written beside the tokens is believed only where it is more than they cost. */
function atLeastPriced(price: ModelPrice, usage: Usage): Usage | undefined {
  const { statedNanoUsd, ...counted } = usage
  if (statedNanoUsd === undefined) return usage
  const usd = costOrNone(price, counted)
  if (usd === undefined) return undefined
  return statedNanoUsd > usd ? usage : counted
}

/** A usage that costs more than any amount can be is no measurement, and no reason to withhold the answer. */
function costOrNone(price: ModelPrice, usage: Usage): number | undefined {
  try {
    return costNanoUsd(price, usage)
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}

/** Longest name of a model in a record, in UTF-16 code units. */
const MAX_NAME_LENGTH = 1_024

/**
 * The bound, or a refusal by the scope. A request that no provider would take has none, either: its error,
 * thrown as it is, an SDK would take for a broken connection, and retry.
 */
function boundOrRefuse<T>(scope: Scope, modelId: string, args: string, bound: () => T): T | undefined {
  try {
    return bound()
  } catch (error) {
    if (!Refusal.isInstance(error) && !(error instanceof TypeError || error instanceof RangeError)) throw error
    const { code, details } = Refusal.isInstance(error) ? error : { code: 'ERR_UNMETERED' as const, details: {} }
    const about = { agent: scope.agent, resource: modelId.slice(0, MAX_NAME_LENGTH).toWellFormed(), argsHash: sha256(canonicalJson(args)) }
    scope.refuse(new Refusal(code, error.message, { ...details, ...about }, { cause: error }))
    return undefined
  }
}

/** The worst case of a call with this many output tokens. */
export function worstOf({ worst = {}, output }: Action, outputTokens: number): Amounts {
  const each = Object.entries(output?.perToken ?? {}).map(([dimension, amount]) => [dimension, amount * outputTokens] as const)
  return sum(worst, Object.fromEntries(each))
}

function sum(one: Amounts, other: Amounts): Amounts {
  const total: Record<string, number> = { ...one }
  for (const [dimension, amount] of Object.entries(other)) total[dimension] = (total[dimension] ?? 0) + amount
  return total
}
