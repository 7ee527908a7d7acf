// Image models of the AI SDK, as far as they are priced by tokens: held at the most tokens that an image may have,
// settled from the usage, charged at worst where there is none.

import type { ImageModelV4, ImageModelV4CallOptions, ImageModelV4Middleware } from '@ai-sdk/provider'
import { sha256 } from '../../src/lib/ids.ts'
import { readAiSdkUsage } from '../../src/metering/usage/ai-sdk.ts'
import { boundFacts, unmetered, type BoundOptions, type RequestBound } from '../../src/metering/worst-case/bound.ts'
import type { Hold } from '../../src/waist/hold.ts'
import type { Scope, ScopeSource } from '../../src/waist/scope.ts'
import { answerOf, modelCall, type ModelCall } from '../common/model-call.ts'
import { scopeOf } from '../common/scope-source.ts'
import { attempt, type AttemptOptions } from './attempt.ts'
import { wireBytes } from './prompt.ts'

/** Options of {@link holdfastImageMiddleware}. */
export interface ImageOptions extends AttemptOptions {
  /**
   * Most output tokens of one image in any size and quality that is asked for; no request can set it, so it is your
   * word, from the provider's page. @default `maxOutputTokens` of the price; without either, images are refused
   */
  readonly maxTokensPerImage?: number | undefined
}

interface Held {
  readonly scope: Scope
  readonly hold: Hold
  readonly call: ModelCall
}

/**
 * Middleware for `wrapImageModel`. Images from images (`files`, `mask`) are refused: the price of an image as input is
 * not that of the text beside it, and the SDK's usage does not tell them apart.
 *
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`.
 */
export function holdfastImageMiddleware(source?: ScopeSource, options: ImageOptions = {}): ImageModelV4Middleware {
  return {
    specificationVersion: 'v4',
    async wrapGenerate({ model, params, doGenerate }) {
      const held = await begin(scopeOf(source), model, params, options)
      if (held === undefined) return doGenerate()
      const result = await attempt(held.hold, options, doGenerate)
      await settle(held, result.usage)
      return result
    },
  }
}

/** `undefined` in observe mode for a call that cannot be bounded: it passes, and unheld. */
async function begin(scope: Scope, model: ImageModelV4, params: ImageModelV4CallOptions, options: ImageOptions): Promise<Held | undefined> {
  const { abortSignal, headers: _, files, mask, ...asked } = params
  abortSignal?.throwIfAborted()
  const text = JSON.stringify(asked)
  const { modelId, provider } = model
  const boundOf = (known: BoundOptions): RequestBound => {
    if ((files ?? []).length > 0 || mask !== undefined)
      throw unmetered(
        `\`${modelId}\` would read images, whose tokens cannot be told from those of the prompt`,
        'Leave out `files` and `mask`',
      )
    const each = options.maxTokensPerImage ?? known.maxOutputTokens
    if (each === undefined)
      throw unmetered(
        `How many tokens an image of \`${modelId}\` may have is not known`,
        'Set `maxTokensPerImage` of holdfastImageMiddleware, or add `maxOutputTokens` to the price of the model',
      )
    const facts = { model: modelId, caps: { maxTokensPerImage: each }, named: false, hostedTools: [], hasTools: false, choices: params.n }
    return boundFacts(facts, wireBytes(Buffer.byteLength(text)), known)
  }
  const call = await modelCall(scope, { id: modelId }, sha256(text), boundOf, { provider })
  if (call === undefined) return undefined
  const hold = await scope.begin(call.action, { signal: abortSignal })
  return { scope, hold, call }
}

async function settle({ scope, hold, call }: Held, reported: Awaited<ReturnType<ImageModelV4['doGenerate']>>['usage']): Promise<void> {
  const { inputTokens: total, outputTokens } = reported ?? {}
  const usage = readAiSdkUsage({ inputTokens: { total }, outputTokens: { total: outputTokens } })
  const used = usage === undefined ? undefined : call.used(usage)
  if (used !== undefined) return hold.settle(used.amounts, answerOf(used))
  if (hold.state !== 'held') return
  await hold.charge('the answer has no usage that could be priced')
  const message = `Images of \`${call.action.resource}\` came without usage and were charged at their worst case.`
  scope.report({ type: 'assumed', message })
}
