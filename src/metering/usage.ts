// What a provider says a call used, as buckets that do not overlap. One reader per wire format; each
// answers `undefined` rather than a guess, since a number that does not add up is not a measurement.

import type { TokenBucket, Usage } from '../waist/price.ts'

/** The buckets of the input side; their sum is what the price tiers of long contexts look at. */
export const INPUT_BUCKETS: readonly TokenBucket[] = [
  'inputTokens',
  'cacheReadTokens',
  'cacheWrite5mTokens',
  'cacheWrite1hTokens',
  'inputAudioTokens',
]

/** The buckets of the output side. */
export const OUTPUT_BUCKETS: readonly TokenBucket[] = ['outputTokens', 'reasoningTokens', 'outputAudioTokens']

/** Tokens of the input side, cached or not. */
export function totalInputTokens(usage: Usage): number {
  return INPUT_BUCKETS.reduce((sum, bucket) => sum + usage[bucket], 0)
}

/** All tokens of a call, in and out, cached or not; equals the provider's own total. */
export function totalTokens(usage: Usage): number {
  return OUTPUT_BUCKETS.reduce((sum, bucket) => sum + usage[bucket], totalInputTokens(usage))
}

type Fields = Readonly<Record<string, unknown>>

/** What a provider reported, before it is made disjoint. A number that was unusable is `NaN` here. */
interface Report {
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
  inputDetails: Fields
  outputDetails: Fields
  toolCalls: Readonly<Record<string, number>>
}

/**
 * Reads the `usage` object of an OpenAI chat completion (also of embeddings and legacy completions).
 *
 * @returns `undefined` for no usable usage: absent, all zero, a number that is not whole and positive, or
 *   parts that do not fit their totals. The caller then charges the worst case.
 * @see https://platform.openai.com/docs/api-reference/chat/object
 */
export function readChatUsage(usage: unknown): Usage | undefined {
  return readOpenAiUsage(usage, 'prompt_tokens', 'completion_tokens', {})
}

/**
 * Reads the `usage` object of the OpenAI Responses API.
 *
 * @param output The output items of the same answer: calls of hosted tools are counted from there, by the
 *   item's type without its `_call`. Every such call counts but those that open or search a page already
 *   found, which OpenAI does not bill.
 * @returns `undefined` for no usable usage, as {@link readChatUsage}.
 * @see https://platform.openai.com/docs/api-reference/responses/object
 */
export function readResponsesUsage(usage: unknown, output?: unknown): Usage | undefined {
  const toolCalls = countHostedCalls(output)
  return toolCalls === undefined ? undefined : readOpenAiUsage(usage, 'input_tokens', 'output_tokens', toolCalls)
}

/**
 * Reads the usage that a language model of the AI SDK reports (`LanguageModelV4Usage`).
 *
 * Its totals are the SDK's; lifetimes of cache writes, audio and server tools are in `raw` only, and are
 * read from there in the formats of OpenAI, Anthropic and Google. Without `raw` audio is counted as text.
 *
 * @param hostedCalls Calls of hosted tools by name, as the content of the answer has them: OpenAI's usage does
 *   not say. Of a tool that `raw` counts, too, its number stands.
 * @returns `undefined` for no usable usage, as {@link readChatUsage}.
 */
export function readAiSdkUsage(usage: unknown, hostedCalls: Readonly<Record<string, number>> = {}): Usage | undefined {
  const fields = asFields(usage)
  const input = asFields(fields?.['inputTokens'])
  const output = asFields(fields?.['outputTokens'])
  const raw = asFields(fields?.['raw'] ?? {})
  const inputDetails = asFields(raw?.['prompt_tokens_details'] ?? raw?.['input_tokens_details'] ?? {})
  const outputDetails = asFields(raw?.['completion_tokens_details'] ?? raw?.['output_tokens_details'] ?? {})
  const toolCalls = countServerTools(raw?.['server_tool_use'])
  if (!input || !output || !raw || !inputDetails || !outputDetails || !toolCalls) return undefined

  const writes = count(input['cacheWrite'])
  const { short, long } = splitWrites(writes, raw, inputDetails)
  const cacheRead = count(input['cacheRead'])
  const reasoning = count(output['reasoning'])
  const parts = required(input['noCache']) + cacheRead + writes
  const inputTotal = input['total'] == null ? parts : required(input['total'])
  if (input['noCache'] != null && !(parts <= inputTotal)) return undefined
  return makeDisjoint({
    input: inputTotal,
    output: output['total'] == null ? required(output['text']) + reasoning : required(output['total']),
    total: raw['total_tokens'],
    cacheRead,
    cacheWrite5m: short,
    cacheWrite1h: long,
    reasoning,
    text: count(output['text']),
    inputAudio: count(inputDetails['audio_tokens']) + countAudio(raw['promptTokensDetails']),
    cachedAudio: cachedAudioOf(inputDetails) + countAudio(raw['cacheTokensDetails']),
    outputAudio: count(outputDetails['audio_tokens']) + countAudio(raw['candidatesTokensDetails']),
    inputDetails,
    outputDetails,
    toolCalls: { ...hostedCalls, ...toolCalls },
  })
}

function readOpenAiUsage(usage: unknown, input: string, output: string, hosted: Readonly<Record<string, number>>): Usage | undefined {
  const fields = asFields(usage)
  const inputDetails = asFields(fields?.[`${input}_details`] ?? {})
  const outputDetails = asFields(fields?.[`${output}_details`] ?? {})
  const server = countServerTools(fields?.['server_tool_use'])
  if (!fields || !inputDetails || !outputDetails || !server) return undefined
  // Embeddings report no output. Only their total tells that from an answer whose output got lost.
  if ((fields[input] == null || fields[output] == null) && fields['total_tokens'] == null) return undefined
  const writes = count(inputDetails['cache_write_tokens'])
  const { short, long } = splitWrites(writes, fields, inputDetails)
  return makeDisjoint({
    input: count(fields[input]),
    output: count(fields[output]),
    total: fields['total_tokens'],
    cacheRead: count(inputDetails['cached_tokens']),
    cacheWrite5m: short,
    cacheWrite1h: long,
    reasoning: count(outputDetails['reasoning_tokens']),
    text: 0,
    inputAudio: count(inputDetails['audio_tokens']),
    cachedAudio: cachedAudioOf(inputDetails),
    outputAudio: count(outputDetails['audio_tokens']),
    inputDetails,
    outputDetails,
    toolCalls: { ...server, ...hosted },
  })
}

/** Turns totals and their parts into buckets; `undefined` as soon as one of them cannot be. */
function makeDisjoint(report: Report): Usage | undefined {
  const whole = reconcile(report)
  if (whole === undefined || !(report.text + report.reasoning <= whole.output)) return undefined
  // Cached audio is counted as audio: that is the dearer of its two prices, and the sum stays the total.
  const cacheReadTokens = whole.cacheRead - report.cachedAudio
  const usage: Usage = {
    inputTokens: whole.input - cacheReadTokens - report.cacheWrite5m - report.cacheWrite1h - report.inputAudio,
    cacheReadTokens,
    cacheWrite5mTokens: report.cacheWrite5m,
    cacheWrite1hTokens: report.cacheWrite1h,
    outputTokens: whole.output - report.reasoning - report.outputAudio,
    reasoningTokens: report.reasoning,
    inputAudioTokens: report.inputAudio,
    outputAudioTokens: report.outputAudio,
    toolCalls: report.toolCalls,
  }
  const sound = [...INPUT_BUCKETS, ...OUTPUT_BUCKETS].every((bucket) => Number.isSafeInteger(usage[bucket]) && usage[bucket] >= 0)
  const total = totalTokens(usage)
  // A call cannot use nothing, so a report of zeros is a provider or a framework that did not measure.
  return sound && total > 0 && Number.isSafeInteger(total) ? usage : undefined
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
function splitWrites(writes: number, raw: Fields, inputDetails: Fields): { short: number; long: number } {
  const anthropic = asFields(raw['cache_creation'] ?? {})
  const openai = asFields(inputDetails['cache_write_tokens_details'] ?? {})
  if (anthropic === undefined || openai === undefined) return { short: Number.NaN, long: Number.NaN }
  const short = count(anthropic['ephemeral_5m_input_tokens']) + count(openai['ttl_30m_tokens'])
  const long = count(anthropic['ephemeral_1h_input_tokens']) + count(openai['ttl_12h_tokens'])
  if (!(short + long <= writes)) return { short: Number.NaN, long: Number.NaN }
  return long === 0 ? { short: writes, long: 0 } : { short, long: writes - short }
}

function countHostedCalls(output: unknown): Readonly<Record<string, number>> | undefined {
  if (output == null) return {}
  if (!Array.isArray(output)) return undefined
  const calls = new Map<string, number>()
  for (const item of output as readonly unknown[]) {
    const fields = asFields(item)
    const type = fields?.['type']
    // These two are answered by the caller's own code, so they cost tokens and nothing else.
    if (typeof type !== 'string' || !type.endsWith('_call') || type === 'function_call' || type === 'custom_tool_call') continue
    const action = asFields(fields?.['action'])?.['type']
    if (type === 'web_search_call' && (action === 'open_page' || action === 'find_in_page')) continue
    const name = type.slice(0, -'_call'.length)
    calls.set(name, (calls.get(name) ?? 0) + 1)
  }
  return Object.fromEntries(calls)
}

/** Anthropic's (and OpenRouter's) `server_tool_use`: `web_search_requests` is `web_search`. */
function countServerTools(value: unknown): Readonly<Record<string, number>> | undefined {
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

function cachedAudioOf(inputDetails: Fields): number {
  return count(asFields(inputDetails['cached_tokens_details'])?.['audio_tokens'])
}

/** Google lists tokens by modality: `[{ modality: 'AUDIO', tokenCount: 40 }]`. */
function countAudio(details: unknown): number {
  if (!Array.isArray(details)) return details == null ? 0 : Number.NaN
  return (details as readonly unknown[])
    .map(asFields)
    .filter((entry) => entry?.['modality'] === 'AUDIO')
    .reduce((sum, entry) => sum + count(entry?.['tokenCount']), 0)
}

/** The count, 0 where it is absent, and `NaN` where it is anything but a whole number >= 0. */
function count(value: unknown): number {
  return value == null ? 0 : required(value)
}

function required(value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) return Number.NaN
  return value === 0 ? 0 : value
}

function asFields(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined
}
