// The most that a model call can use and cost, from its request alone. Everything is rounded against the
// caller: what cannot be counted here counts as the whole context window, and what has no bound is refused.

import { amountOf, assertAmount, type Amounts } from '../../lib/amounts.ts'
import { Refusal } from '../../lib/errors.ts'
import type { ModelPrice, Rates, TokenBucket, Unit } from '../../waist/price.ts'
import { picoToNanoUsd, unitFees } from '../cost.ts'
import { dearestRate } from '../rates.ts'
import { CHEAPER_TIERS, STANDARD_TIERS } from '../tiers.ts'
import { INPUT_BUCKETS } from '../usage/totals.ts'

/** Output tokens for each choice of a request that sets no cap; the caller then sends this as the cap. */
export const DEFAULT_MAX_OUTPUT_TOKENS = 8_192

// Anthropic puts a system prompt of its own before a request with tools, several hundred tokens long by its
// page "Tool use with Claude". A short request has fewer bytes than that.
const CLAUDE_TOOL_PROMPT_TOKENS = 1_024

/** Models of chat completions that always search. */
const SEARCHING_MODEL = /-search-(?:preview|api)\b|:online$/

/** What bounds a request besides its body. Token counts are whole numbers. */
export interface BoundOptions {
  /** Most input tokens of a request that refers to something the client cannot count, over all turns of its hosted tools; your word for it. */
  readonly maxInputTokens?: number | undefined
  /** Most calls of hosted tools in a request whose format has no limit for them, as that of Gemini; your word for it. */
  readonly maxToolCalls?: number | undefined
  /** The model's, as in {@link ModelPrice}. */
  readonly contextWindow?: number | undefined
  /** @default 8192 */
  readonly defaultMaxOutputTokens?: number | undefined
  /** The most the model can put out, as in {@link ModelPrice}. */
  readonly maxOutputTokens?: number | undefined
  /** What the model's price counts beside tokens. @default nothing */
  readonly units?: readonly Unit[] | undefined
  /** Longest audio of one request that the client cannot measure, in seconds; your word for it. */
  readonly maxAudioSeconds?: number | undefined
}

/** The most that a request can use. */
export interface RequestBound {
  /** At least the tokens of the input: the UTF-8 bytes of the whole body, or see `named`. */
  readonly inputTokens: number
  /** Reasoning included; the request's own cap, or the one to send with it. */
  readonly outputTokensPerChoice: number
  readonly choices: number
  /** True when the request refers to what the client cannot count (an id, a file, an image, a hosted tool). */
  readonly named: boolean
  /** Names of the hosted tools it may use, as in `Usage.toolCalls`. */
  readonly hostedTools: readonly string[]
  /** True when the request set its output cap itself. */
  readonly capSet: boolean
  readonly model: string
  /** Most calls of hosted tools, all together. @default 0 */
  readonly maxToolCalls?: number
  /** Output tokens for each choice on top of the cap: rejected tokens of a `prediction` are billed as output. @default 0 */
  readonly predictedTokens?: number
  /** @default false */
  readonly inputAudio?: boolean
  /** @default false */
  readonly outputAudio?: boolean
  /** The most of what is billed by another measure than tokens: `{ images: 4 }`. @default nothing is */
  readonly units?: Readonly<Partial<Record<Unit, number>>>
  /** The bounds of the requests that are sent in this one, each with its cap: together they cost what they cost one by one. */
  readonly parts?: readonly RequestBound[] | undefined
}

/** What a request has in it, as far as its worst case depends on it; whoever reads a format makes one. */
export interface RequestFacts {
  readonly model: string
  /** Its output caps by field, as it has them. The largest counts, since a provider may look at any of them. */
  readonly caps: Readonly<Record<string, unknown>>
  /** Its limit for calls of hosted tools, as it has it. */
  readonly maxToolCalls?: unknown
  /** True when it refers to what the client cannot count. */
  readonly named: boolean
  /** Names of the hosted tools it may use, each once. */
  readonly hostedTools: readonly string[]
  /** Whether it has tools of any kind: some providers write a prompt of their own for them. */
  readonly hasTools: boolean
  /** Whether it predicts its answer; rejected tokens are billed as output. @default false */
  readonly predicts?: boolean
  /** @default 1 */
  readonly choices?: number
  /** Tokens that the provider adds to the input itself. @default those of the tool prompt of Claude, where it has tools */
  readonly addedTokens?: number
  /** Most times that the context is read. @default one for each call of a hosted tool, and one more */
  readonly turns?: number
  /** @default false */
  readonly inputAudio?: boolean
  /** @default false */
  readonly outputAudio?: boolean
}

/**
 * Bounds a request that was read already: what the bound of every wire format does
 * with what it finds in a body.
 *
 * @param bytes At least as many as it has when it is sent, in UTF-8 bytes.
 * @throws {Refusal} `ERR_UNMETERED` when something in it has no bound, saying what to set.
 * @throws {TypeError | RangeError} When a cap is not one that a provider accepts.
 */
export function boundFacts(facts: RequestFacts, bytes: number, options: BoundOptions = {}): RequestBound {
  const { model, hostedTools, maxToolCalls: limit, choices = 1, predicts = false, inputAudio = false, outputAudio = false } = facts
  assertAmount('bytes', bytes)
  for (const name of ['maxInputTokens', 'maxToolCalls', 'contextWindow', 'defaultMaxOutputTokens', 'maxOutputTokens'] as const)
    if (options[name] !== undefined) assertAmount(name, options[name])
  if (model === '') throw unmetered('The request names no model, so it has no price', 'Set `model` in the request')
  if (SEARCHING_MODEL.test(model)) throw uncounted(model, ['web_search'])
  const caps = Object.entries(facts.caps).flatMap(([field, cap]) => readCap(field, cap))
  if (limit != null) assertAmount('max_tool_calls', limit)
  const hosted = hostedTools.length > 0
  if (hosted && limit == null)
    throw unmetered(
      `\`${model}\` may use hosted tools (${hostedTools.join(', ')}) without a limit, so its cost has no bound`,
      'Set `max_tool_calls` in the request (in the AI SDK: `providerOptions.openai.maxToolCalls`)',
    )
  const maxToolCalls = hosted && limit != null ? limit : 0
  const named = facts.named || hosted
  // A prompt that Anthropic writes itself comes on top of what is sent.
  const hidden = facts.addedTokens ?? (facts.hasTools && /claude/i.test(model) ? CLAUDE_TOOL_PROMPT_TOKENS : 0)
  return {
    model,
    inputTokens: named ? boundNamed(model, bytes, options, facts.turns ?? maxToolCalls + 1) : bytes + hidden,
    outputTokensPerChoice:
      caps.length > 0
        ? Math.max(...caps)
        : Math.min(options.maxOutputTokens ?? Infinity, options.defaultMaxOutputTokens ?? DEFAULT_MAX_OUTPUT_TOKENS),
    capSet: caps.length > 0,
    choices,
    named,
    hostedTools: [...hostedTools].sort(),
    inputAudio,
    outputAudio,
    ...(hosted && { maxToolCalls }),
    ...(predicts && { predictedTokens: bytes }),
  }
}

/**
 * What to hold for a request: `fixed` plus `perOutputToken` times its `outputTokensPerChoice`. `usd` is in
 * nano-USD, at the dearest rate and tier that the bound can meet; every part is rounded up.
 *
 * @returns Without `usd` when the price is not known, or lacks a rate for something the request uses
 *   (audio, any output, a unit): refuse that with `ERR_UNKNOWN_PRICE`.
 * @throws {Refusal} `ERR_UNMETERED` when the price has no fee for a hosted tool, saying what to add.
 * @throws {RangeError} When an amount is beyond 2^53 - 1.
 */
export function worstAmounts(
  bound: RequestBound,
  price: ModelPrice | undefined,
): { readonly fixed: Amounts; readonly perOutputToken: Amounts } {
  if (bound.parts !== undefined) return { fixed: worstOfParts(bound.parts, price), perOutputToken: {} }
  const predicted = (bound.predictedTokens ?? 0) * bound.choices
  const tokens = bound.inputTokens + predicted
  assertAmount('tokens', tokens)
  const choices = bound.outputTokensPerChoice === 0 ? 0 : bound.choices
  const unpriced = { fixed: { tokens, calls: 1 }, perOutputToken: { tokens: choices } }
  if (price === undefined) return unpriced
  const rates = price.dearest ?? price.rates
  const fees = worstFees(bound, rates)
  const units = unitFees(rates.units, bound.units ?? {})
  // An image or a file that is only named may be a video, whose sound is billed as audio.
  const inputs: TokenBucket[] = INPUT_BUCKETS.filter(
    (bucket) => bucket !== 'inputAudioTokens' || (bound.named && rates.tokens[bucket] !== undefined),
  )
  // What is billed by the piece or the minute has no tokens, and its price may have no rate for any.
  const input = bound.inputTokens === 0 ? 0n : dearestOf(rates, bound.inputAudio === true ? INPUT_BUCKETS : inputs, bound.inputTokens)
  const outputs: TokenBucket[] = ['outputTokens', 'reasoningTokens']
  const output =
    bound.outputTokensPerChoice === 0 && predicted === 0
      ? 0n
      : dearestOf(rates, bound.outputAudio === true ? [...outputs, 'outputAudioTokens'] : outputs, bound.inputTokens)
  if (input === undefined || output === undefined || units === undefined) return unpriced
  const fixed = rates.request + fees + units + input * BigInt(bound.inputTokens) + output * BigInt(predicted)
  return {
    fixed: { usd: picoToNanoUsd(fixed), tokens, calls: 1 },
    perOutputToken: { usd: picoToNanoUsd(output * BigInt(choices)), tokens: choices },
  }
}

/** Each request at its own worst case, since the price of a token may depend on the length of its request. */
function worstOfParts(parts: readonly RequestBound[], price: ModelPrice | undefined): Amounts {
  const total = { usd: 0, tokens: 0, calls: 0 }
  let isPriced = true
  for (const part of parts) {
    const { fixed, perOutputToken } = worstAmounts(part, price)
    isPriced &&= 'usd' in fixed
    for (const dimension of ['usd', 'tokens', 'calls'] as const)
      total[dimension] += amountOf(fixed, dimension) + amountOf(perOutputToken, dimension) * part.outputTokensPerChoice
  }
  const { usd, ...counted } = total
  return isPriced ? { usd, ...counted } : counted
}

/**
 * The name under which a request's price is looked up: the model, or `model@priority` for a service tier
 * that costs more. `fast` is OpenAI's other name for `priority`. `auto` means what the project is set to:
 * for a project set to a dearer tier, override the price of the model itself. Tiers that cost less are held at the
 * standard price, since the answer may come from the standard tier after all; {@link paidKey} settles them.
 */
export function priceKey(model: string, serviceTier?: string | null): string {
  if (serviceTier == null || STANDARD_TIERS.has(serviceTier) || CHEAPER_TIERS.has(serviceTier)) return model
  return `${model}@${serviceTier === 'fast' ? 'priority' : serviceTier}`
}

/**
 * The name under which the price of an answer is looked up, from the tier that it says it came from. `model@flex` and
 * `model@batch` are found as the standard price where nobody has given them one of their own.
 */
export function paidKey(model: string, serviceTier?: string | null): string {
  return serviceTier != null && CHEAPER_TIERS.has(serviceTier) ? `${model}@${serviceTier}` : priceKey(model, serviceTier)
}

function boundNamed(model: string, bytes: number, options: BoundOptions, turns: number): number {
  if (options.maxInputTokens !== undefined) return options.maxInputTokens
  if (options.contextWindow === undefined)
    throw unmetered(
      `The request to \`${model}\` refers to something that cannot be counted here, and the model's context window is not known`,
      'Set `maxInputTokens`, or add `contextWindow` to the price of the model',
    )
  const tokens = Math.max(options.contextWindow, bytes) * turns
  assertAmount('inputTokens', tokens)
  return tokens
}

function dearestOf(rates: Rates, buckets: readonly TokenBucket[], inputTokens: number): bigint | undefined {
  let dearest = 0n
  for (const bucket of buckets) {
    const rate = rates.tokens[bucket]
    if (rate === undefined) return undefined
    const pico = dearestRate(rate, inputTokens)
    if (pico > dearest) dearest = pico
  }
  return dearest
}

/** Which tool takes the calls is the model's choice, so all of them cost the dearest fee. */
function worstFees(bound: RequestBound, rates: Rates): bigint {
  let fee = 0n
  for (const tool of bound.hostedTools) {
    if (!Object.hasOwn(rates.tools, tool))
      throw unmetered(
        `No fee is known for the hosted tool \`${tool}\` on \`${bound.model}\``,
        `Add it to the price of the model: toolUsdPerThousand: { '${tool}': 0 }`,
      )
    if (rates.tools[tool]! > fee) fee = rates.tools[tool]!
  }
  if (fee > 0n && bound.maxToolCalls === undefined)
    throw unmetered(`\`${bound.model}\` may call hosted tools that have a fee, without a limit`, 'Set `maxToolCalls`')
  return fee * BigInt(bound.maxToolCalls ?? 0)
}

function readCap(field: string, cap: unknown): readonly number[] {
  if (cap == null) return []
  assertAmount(field, cap)
  // Some servers take 0 for "no limit".
  if (cap === 0) throw new RangeError(`Expected \`${field}\` to be at least 1, got 0.`)
  return [cap]
}

/** Says no to hosted tools whose calls no answer counts. */
export function uncounted(model: string, tools: readonly string[]): Refusal {
  return unmetered(
    `\`${model}\` would use hosted tools (${tools.join(', ')}), and a chat completion does not say how often it did`,
    'Use the Responses API with `max_tool_calls`',
  )
}

/** Says no to what has no bound, and how it would have one. */
export function unmetered(fault: string, fix: string): Refusal {
  return new Refusal('ERR_UNMETERED', `${fault}. ${fix}.`, { wouldPass: fix })
}
