// Embedding models of the AI SDK: held at the bytes of what is embedded, settled from the tokens that came back.

import type { EmbeddingModelV4, EmbeddingModelV4CallOptions, EmbeddingModelV4Middleware } from '@ai-sdk/provider'
import { assertAmount, type Amounts } from '../../src/lib/amounts.ts'
import { sha256 } from '../../src/lib/ids.ts'
import { costNanoUsd, unknownPriceFix } from '../../src/metering/prices.ts'
import { unmetered } from '../../src/metering/worst-case/bound.ts'
import type { Hold } from '../../src/waist/hold.ts'
import type { ModelPrice } from '../../src/waist/price.ts'
import type { Scope, ScopeSource } from '../../src/waist/scope.ts'
import { scopeOf } from '../common/scope-source.ts'
import { attempt, type AttemptOptions } from './attempt.ts'
import { wireBytes } from './prompt.ts'
import { NOTHING_USED } from '../../src/metering/usage/totals.ts'

/** Options of {@link holdfastEmbeddingMiddleware}. */
export interface EmbeddingOptions extends AttemptOptions {
  /** Most input tokens of a call whose provider options add what cannot be counted here; your word for it. */
  readonly maxInputTokens?: number | undefined
}

interface Held {
  readonly scope: Scope
  readonly hold: Hold
  readonly price: ModelPrice | undefined
  readonly modelId: string
}

/**
 * Middleware for `wrapEmbeddingModel`: each call of the model, of which `embedMany` may make several, is held at the
 * UTF-8 bytes of its values and settled from `usage.tokens`.
 *
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`.
 */
export function holdfastEmbeddingMiddleware(source?: ScopeSource, options: EmbeddingOptions = {}): EmbeddingModelV4Middleware {
  return {
    specificationVersion: 'v4',
    async wrapEmbed({ model, params, doEmbed }) {
      const held = await begin(scopeOf(source), model, params, options)
      if (held === undefined) return doEmbed()
      const result = await attempt(held.hold, options, doEmbed)
      await settle(held, result.usage?.tokens)
      return result
    },
  }
}

/** `undefined` in observe mode for a call that cannot be bounded: it passes, and unheld. */
async function begin(
  scope: Scope,
  { modelId, provider }: EmbeddingModelV4,
  { values, dimensions, providerOptions, abortSignal }: EmbeddingModelV4CallOptions,
  { maxInputTokens }: EmbeddingOptions,
): Promise<Held | undefined> {
  abortSignal?.throwIfAborted()
  const text = JSON.stringify({ values, dimensions, providerOptions })
  // Some providers take images and files in an option, next to the values.
  const added = Object.values(providerOptions ?? {}).some((fields) =>
    Object.values(fields).some((field) => typeof field === 'object' && field !== null),
  )
  if (added && maxInputTokens === undefined) {
    scope.refuse(
      unmetered(
        `The provider options of an embedding by \`${modelId}\` may add something that cannot be counted here`,
        'Set `maxInputTokens` of holdfastEmbeddingMiddleware',
      ),
    )
    return undefined
  }
  const price = (await scope.prices()).find(modelId, provider)
  const most = added ? maxInputTokens! : wireBytes(Buffer.byteLength(text))
  assertAmount('maxInputTokens', most)
  const worst = amountsOf(price === undefined ? undefined : { ...price, rates: price.dearest ?? price.rates }, most)
  const unpriced = 'usd' in worst ? {} : { unpriced: `The price of \`${modelId}\` is not known. ${unknownPriceFix(modelId)}` }
  const action = { kind: 'model', resource: modelId, args: sha256(text), worst, smallest: amountsOf(price, 1), ...unpriced }
  const hold = await scope.begin(action, { signal: abortSignal })
  return { scope, hold, price, modelId }
}

/** What so many tokens count as; without `usd` where there is no price for them. */
function amountsOf(price: ModelPrice | undefined, tokens: number): Amounts {
  const usd = price === undefined ? undefined : costNanoUsd(price, { ...NOTHING_USED, inputTokens: tokens })
  return { tokens, calls: 1, ...(usd === undefined ? {} : { usd }) }
}

async function settle({ scope, hold, price, modelId }: Held, tokens: number | undefined): Promise<void> {
  // Zero is what a server says that does not count: no text has none.
  if (typeof tokens === 'number' && Number.isSafeInteger(tokens) && tokens > 0)
    return hold.settle(amountsOf(price, tokens), price === undefined ? {} : { priceSource: price.source })
  if (hold.state !== 'held') return
  await hold.charge('the answer has no usage that could be priced')
  scope.report({ type: 'assumed', message: `An embedding by \`${modelId}\` came without usage and was charged at its worst case.` })
}
