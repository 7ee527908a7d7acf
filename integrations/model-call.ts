// One model call of an SDK that has no adapter and takes no `fetch`, such as that of AWS: held before it is sent, and
// settled from the answer.

import '../src/lib/runtime.ts'
import { withAmbient } from '../src/lib/ambient.ts'
import { canonicalJson } from '../src/lib/canonical-json.ts'
import { sha256 } from '../src/lib/ids.ts'
import { USAGE_READERS, type UsageEndpoint, type UsageReader } from '../src/metering/usage/readers.ts'
import { boundFacts } from '../src/metering/worst-case/bound.ts'
import type { Hold } from '../src/waist/hold.ts'
import type { Scope, ScopeSource } from '../src/waist/scope.ts'
import { endFailedCall } from './common/failed-call.ts'
import { answerOf, modelCall, type ModelCall } from './common/model-call.ts'
import { scopeOf } from './common/scope-source.ts'

export { findRefusal } from '../src/lib/errors.ts'
export type { UsageEndpoint, UsageReader } from '../src/metering/usage/readers.ts'
export type { Usage } from '../src/waist/price.ts'

/** Options of {@link heldCall}. */
export interface HeldCallOptions {
  /** As the price list names it, or your own price of it. */
  readonly model: string
  /** Provider id for the price list, such as `aws`. @default any */
  readonly provider?: string
  /** What is sent, as JSON: its UTF-8 bytes bound the input, since a token has at least one. */
  readonly request: unknown
  /** The output cap that the request has, tokens. Nothing is added to it. */
  readonly maxOutputTokens: number
  /** Most input tokens, where the request names what is not in it: files, images, earlier turns. @default the bytes of the request */
  readonly maxInputTokens?: number
  /** How the answer says what it used: the format of its endpoint, or a reader of your own. */
  readonly usage: UsageEndpoint | UsageReader
  /** Gives up waiting for money that others hold. */
  readonly signal?: AbortSignal
  /** Statuses of errors (`status`, `statusCode`) that the provider does not bill. @default 400 to 407, 409 to 499 */
  readonly unbilledStatuses?: readonly number[]
}

/**
 * Holds the worst case of a model call, makes it, and settles it from its answer. Without a usable usage, and when it
 * fails, the worst case is charged.
 *
 * Each call is one attempt: switch the retries of the SDK off, or they run under one hold.
 *
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`.
 * @param send - Makes the call, with nothing but what `request` says.
 * @throws {Refusal} Before anything is sent.
 */
export async function heldCall<T>(source: ScopeSource, options: HeldCallOptions, send: () => PromiseLike<T>): Promise<T> {
  const { signal, unbilledStatuses } = options
  signal?.throwIfAborted()
  const scope = scopeOf(source)
  const call = await callOf(scope, options)
  // In observe mode what has no bound passes, unheld.
  if (call === undefined) return send()
  const hold = await scope.begin(call.action, { signal })
  let answer: T
  try {
    answer = await withAmbient({ hold }, send)
  } catch (error) {
    throw await endFailedCall(hold, error, unbilledStatuses)
  }
  const read = typeof options.usage === 'function' ? options.usage : USAGE_READERS[options.usage]
  await settle(scope, hold, call, read(answer))
  return answer
}

async function callOf(scope: Scope, options: HeldCallOptions): Promise<ModelCall | undefined> {
  const { model, provider, request, maxOutputTokens, maxInputTokens } = options
  const text = canonicalJson(request, { dropUndefined: true })
  const named = maxInputTokens !== undefined
  const facts = { model, caps: { maxOutputTokens }, named, hostedTools: [], hasTools: true }
  return modelCall(scope, { id: model }, sha256(text), (known) => boundFacts(facts, Buffer.byteLength(text), known), {
    provider,
    maxInputTokens,
  })
}

async function settle(scope: Scope, hold: Hold, call: ModelCall, usage: ReturnType<UsageReader>): Promise<void> {
  const used = usage === undefined ? undefined : call.used(usage)
  if (used !== undefined) return hold.settle(used.amounts, answerOf(used))
  // Ended already: a guarded `fetch` below has read the usage.
  if (hold.state !== 'held') return
  await hold.charge('the answer has no usage that could be priced')
  const message = `An answer of \`${call.action.resource}\` has no usage that its reader understands, and was charged at its worst case. Give heldCall({ usage }) a reader for it.`
  scope.report({ type: 'assumed', message })
}
