// A model call in the words of the waist: its worst case before it is sent, its use when the answer is there.
// The transport guard and the framework adapters share it, so that they agree.

import type { Amounts } from '../src/lib/amounts.ts'
import { Refusal } from '../src/lib/errors.ts'
import { costNanoUsd, unknownPriceFix } from '../src/metering/prices.ts'
import type { ModelPrice } from '../src/waist/price.ts'
import { totalTokens } from '../src/metering/usage.ts'
import type { Usage } from '../src/waist/price.ts'
import { priceKey, worstAmounts, type BoundOptions, type RequestBound } from '../src/metering/worst-case.ts'
import type { Action } from '../src/waist/action.ts'
import type { Scope } from '../src/waist/scope.ts'

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
  used(usage: Usage, serviceTier?: string): { readonly amounts: Amounts; readonly priceSource?: string } | undefined
}

/** Options of {@link modelCall}. */
export interface ModelCallOptions extends Omit<BoundOptions, 'contextWindow' | 'maxOutputTokens'> {
  /** Provider id for the price list, such as `openai`. */
  readonly provider?: string | undefined
}

/**
 * Prepares a model call.
 *
 * @param boundOf - Bounds the request, given what the price list knows of the model.
 * @throws {Refusal} `ERR_UNMETERED` for a request that cannot be bounded.
 */
export async function modelCall(
  scope: Scope,
  model: { readonly id: string; readonly serviceTier?: string | undefined },
  args: unknown,
  boundOf: (known: BoundOptions) => RequestBound,
  { provider, ...given }: ModelCallOptions,
): Promise<ModelCall> {
  const prices = await scope.prices()
  const priceOf = (serviceTier: string | undefined): ModelPrice | undefined => prices.find(priceKey(model.id, serviceTier), provider)
  const price = priceOf(model.serviceTier)
  const bound = boundOrRefuse(() => boundOf({ ...given, contextWindow: price?.contextWindow, maxOutputTokens: price?.maxOutputTokens }))
  const { fixed, perOutputToken } = worstAmounts(bound, price)
  const tokens = bound.outputTokensPerChoice
  const least = worstAmounts({ ...bound, inputTokens: 1, named: false }, price)
  const action: Action = {
    kind: 'model',
    resource: model.id,
    args,
    worst: fixed,
    output: { tokens, minTokens: bound.capSet ? tokens : Math.min(tokens, MIN_OUTPUT_TOKENS), perToken: perOutputToken },
    smallest: sum(least.fixed, least.perOutputToken),
    ...('usd' in fixed ? {} : { unpriced: `The price of \`${model.id}\` is not known. ${unknownPriceFix(model.id)}` }),
  }
  return {
    action,
    bound,
    used(usage, serviceTier) {
      // The tier that answered is the one that is billed, whatever was asked for.
      const paid = serviceTier === undefined ? price : priceOf(serviceTier)
      const counted = { tokens: totalTokens(usage), calls: 1 }
      if (price === undefined) return { amounts: counted }
      const usd = paid === undefined ? undefined : costNanoUsd(paid, usage)
      return usd === undefined ? undefined : { amounts: { ...counted, usd }, priceSource: paid!.source }
    },
  }
}

/** A request that no provider would take has no bound. Thrown as it is, an SDK would take it for a broken connection and retry. */
function boundOrRefuse(bound: () => RequestBound): RequestBound {
  try {
    return bound()
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError)) throw error
    throw new Refusal('ERR_UNMETERED', error.message, {}, { cause: error })
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
