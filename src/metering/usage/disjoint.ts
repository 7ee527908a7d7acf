// What a provider reported, made into buckets that do not overlap. Every reader ends here, and gets `undefined` rather
// than a guess, since a number that does not add up is not a measurement.

import type { Usage } from '../../waist/price.ts'
import { INPUT_BUCKETS, OUTPUT_BUCKETS, totalTokens } from './totals.ts'

/** An object of a provider's JSON, of which nothing is known yet. */
export type Fields = Readonly<Record<string, unknown>>

/** What a provider reported, before it is made disjoint. A number that was unusable is `NaN` here. */
export interface Report {
  /** Everything on the input side, as reported. */
  input: number
  /** Everything on the output side, as reported; see {@link reconcile} for who leaves reasoning out. */
  output: number
  /** The provider's own sum of both, where it gives one. */
  total: unknown
  cacheRead: number
  cacheWrite5m: number
  cacheWrite1h: number
  reasoning: number
  text: number
  inputAudio: number
  /** How much of `cacheRead` is also in `inputAudio`. */
  cachedAudio: number
  outputAudio: number
  /** Where the provider tells images from text, be it 0; absent where it does not. */
  inputImage?: number
  outputImage?: number
  /** What it says that it charged; see {@link Usage.statedNanoUsd}. */
  statedNanoUsd?: number
  inputDetails: Fields
  outputDetails: Fields
  toolCalls: Readonly<Record<string, number>>
}

/** A report of nothing beside the two sides, to be filled in. */
export const NOTHING_BESIDE: Omit<Report, 'input' | 'output'> = {
  total: undefined,
  cacheRead: 0,
  cacheWrite5m: 0,
  cacheWrite1h: 0,
  reasoning: 0,
  text: 0,
  inputAudio: 0,
  cachedAudio: 0,
  outputAudio: 0,
  inputDetails: {},
  outputDetails: {},
  toolCalls: {},
}

/** Turns totals and their parts into buckets; `undefined` as soon as one of them cannot be. */
export function makeDisjoint(report: Report): Usage | undefined {
  const whole = reconcile(report)
  if (whole === undefined || !(report.text + report.reasoning <= whole.output)) return undefined
  // Cached audio is counted as audio: that is the dearer of its two prices, and the sum stays the total.
  const cacheReadTokens = whole.cacheRead - report.cachedAudio
  const { inputImage, outputImage, statedNanoUsd } = report
  const usage: Usage = {
    inputTokens: whole.input - cacheReadTokens - report.cacheWrite5m - report.cacheWrite1h - report.inputAudio - (inputImage ?? 0),
    cacheReadTokens,
    cacheWrite5mTokens: report.cacheWrite5m,
    cacheWrite1hTokens: report.cacheWrite1h,
    outputTokens: whole.output - report.reasoning - report.outputAudio - (outputImage ?? 0),
    reasoningTokens: report.reasoning,
    inputAudioTokens: report.inputAudio,
    outputAudioTokens: report.outputAudio,
    ...(inputImage !== undefined && { inputImageTokens: inputImage }),
    ...(outputImage !== undefined && { outputImageTokens: outputImage }),
    toolCalls: report.toolCalls,
    ...(statedNanoUsd !== undefined && { statedNanoUsd }),
  }
  const counts = [...INPUT_BUCKETS, ...OUTPUT_BUCKETS].map((bucket) => usage[bucket] ?? 0)
  const sound = [...counts, ...Object.values(report.toolCalls), statedNanoUsd ?? 0].every(isCount)
  const total = totalTokens(usage)
  // A call cannot use nothing, so a report of zeros is a provider or a framework that did not measure.
  return sound && (total > 0 || statedNanoUsd !== undefined) && Number.isSafeInteger(total) ? usage : undefined
}

/**
 * Squares both sides with the provider's own total. Two providers bill more than their two sides say, and
 * show it in the total: xAI leaves reasoning out of `completion_tokens`, and Sakana reports the tokens of
 * its orchestration beside them. A total that neither explains is not a measurement.
 *
 * @see https://docs.cloud.google.com/vertex-ai/generative-ai/docs/partner-models/grok/capabilities/reasoning
 * @see https://github.com/vercel/ai/pull/16290
 */
function reconcile(report: Report): { input: number; output: number; cacheRead: number } | undefined {
  const { input, output, cacheRead, reasoning } = report
  const extraInput = count(report.inputDetails['orchestration_input_tokens'])
  const extraOutput = count(report.outputDetails['orchestration_output_tokens'])
  const extra = report.total == null ? extraInput + extraOutput : count(report.total) - input - output
  if (extra === extraInput + extraOutput) {
    const extraRead = count(report.inputDetails['orchestration_input_cached_tokens'])
    return { input: input + extraInput, output: output + extraOutput, cacheRead: cacheRead + (extra === 0 ? 0 : extraRead) }
  }
  if (extra === 0) return { input, output, cacheRead }
  return extra === reasoning ? { input, output: output + reasoning, cacheRead } : undefined
}

/** Short- and long-lived cache writes. A write whose lifetime is not said is long if any other one is: that is dearer. */
export function splitWrites(writes: number, raw: Fields, inputDetails: Fields): { short: number; long: number } {
  const anthropic = asFields(raw['cache_creation'] ?? {})
  const openai = asFields(inputDetails['cache_write_tokens_details'] ?? {})
  if (anthropic === undefined || openai === undefined) return { short: Number.NaN, long: Number.NaN }
  const short = count(anthropic['ephemeral_5m_input_tokens']) + count(openai['ttl_30m_tokens'])
  const long = count(anthropic['ephemeral_1h_input_tokens']) + count(openai['ttl_12h_tokens'])
  if (!(short + long <= writes)) return { short: Number.NaN, long: Number.NaN }
  return long === 0 ? { short: writes, long: 0 } : { short, long: writes - short }
}

/** Anthropic's (and OpenRouter's) `server_tool_use`: `web_search_requests` is `web_search`. */
export function countServerTools(value: unknown): Readonly<Record<string, number>> | undefined {
  const fields = asFields(value ?? {})
  if (fields === undefined) return undefined
  const calls = new Map<string, number>()
  for (const [key, requests] of Object.entries(fields)) {
    // Anthropic bills a fetched page by its tokens only: docs.anthropic.com, "Web fetch tool", usage and pricing.
    if (!key.endsWith('_requests') || key === 'web_fetch_requests' || requests === 0) continue
    const number = count(requests)
    if (Number.isNaN(number)) return undefined
    if (number > 0) calls.set(key.slice(0, -'_requests'.length), number)
  }
  return Object.fromEntries(calls)
}

/** Of the cached tokens in OpenAI's details, those that are audio. */
export function cachedAudioOf(inputDetails: Fields): number {
  return count(asFields(inputDetails['cached_tokens_details'])?.['audio_tokens'])
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}

/** The count, 0 where it is absent, and `NaN` where it is anything but a whole number >= 0. */
export function count(value: unknown): number {
  return value == null ? 0 : required(value)
}

/** The count, and `NaN` where it is absent or anything but a whole number >= 0. */
export function required(value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) return Number.NaN
  return value === 0 ? 0 : value
}

/** The value, if it is an object that is no list. */
export function asFields(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined
}
