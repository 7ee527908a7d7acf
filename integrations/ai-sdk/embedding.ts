// Embedding models of the AI SDK: held at the bytes of what is embedded, settled from the tokens that came back.

import type { EmbeddingModelV4, EmbeddingModelV4CallOptions, EmbeddingModelV4Middleware } from '@ai-sdk/provider'
import { assertAmount } from '../../src/lib/amounts.ts'
import { sha256 } from '../../src/lib/ids.ts'
import { NOTHING_USED } from '../../src/metering/usage/totals.ts'
import { unmetered } from '../../src/metering/worst-case/bound.ts'
import { boundInput } from '../../src/metering/worst-case/openai-texts.ts'
import type { Hold } from '../../src/waist/hold.ts'
import type { Scope, ScopeSource } from '../../src/waist/scope.ts'
import { answerOf, modelCall, type ModelCall } from '../common/model-call.ts'
import { scopeOf } from '../common/scope-source.ts'
import { attempt, type AttemptOptions } from './attempt.ts'
import { wireBytes } from './prompt.ts'

/** Options of {@link holdfastEmbeddingMiddleware}. */
export interface EmbeddingOptions extends AttemptOptions {
  /** Most input tokens of a call whose provider options add what cannot be counted here; your word for it. */
  readonly maxInputTokens?: number | undefined
}

interface Held {
  readonly scope: Scope
  readonly hold: Hold
  readonly call: ModelCall
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
  // What is added counts as much as its caller says, whatever else is sent.
  const most = added ? maxInputTokens! : wireBytes(Buffer.byteLength(text))
  assertAmount('maxInputTokens', most)
  const call = await modelCall(scope, { id: modelId }, sha256(text), (known) => boundInput(modelId, most, known), { provider })
  if (call === undefined) return undefined
  const hold = await scope.begin(call.action, { signal: abortSignal })
  return { scope, hold, call }
}

async function settle({ scope, hold, call }: Held, tokens: number | undefined): Promise<void> {
  // Zero is what a server says that does not count: no text has none.
  const isCount = typeof tokens === 'number' && Number.isSafeInteger(tokens) && tokens > 0
  const used = isCount ? call.used({ ...NOTHING_USED, inputTokens: tokens }) : undefined
  if (used !== undefined) return hold.settle(used.amounts, answerOf(used))
  if (hold.state !== 'held') return
  await hold.charge('the answer has no usage that could be priced')
  const { resource } = call.action
  scope.report({ type: 'assumed', message: `An embedding by \`${resource}\` came without usage and was charged at its worst case.` })
}
