// The usage that OpenAI reports, and whoever speaks its format: chat completions, Responses, embeddings.

import type { Usage } from '../../waist/price.ts'
import { asFields, cachedAudioOf, count, countServerTools, makeDisjoint, splitWrites, type Fields } from './disjoint.ts'
import { audioMs } from './duration.ts'
import { statedCost } from './stated.ts'

/**
 * Reads the `usage` object of an OpenAI chat completion (also of embeddings and legacy completions), as Azure, Mistral,
 * Groq, DeepSeek, xAI, OpenRouter, Ollama, vLLM and others write it, each with fields of its own.
 *
 * @returns `undefined` for no usable usage: absent, all zero, a number that is not whole and positive, or
 *   parts that do not fit their totals. The caller then charges the worst case.
 * @see https://platform.openai.com/docs/api-reference/chat/object
 */
export function readChatUsage(usage: unknown): Usage | undefined {
  return readOpenAiUsage(usage, 'prompt_tokens', 'completion_tokens', {})
}

/**
 * Reads a whole chat completion, or the event of a stream that has the usage in it. Groq's streams had it under `x_groq`
 * only, and its compound systems bill several models in one answer, which one price cannot settle.
 *
 * @returns `undefined` as {@link readChatUsage}, and where another model than that of the answer is billed.
 * @see https://console.groq.com/docs/api-reference#chat-create
 */
export function readChatAnswer(answer: unknown): Usage | undefined {
  const fields = asFields(answer)
  const models = asFields(fields?.['usage_breakdown'])?.['models'] ?? []
  if (!Array.isArray(models) || models.some((one) => asFields(one)?.['model'] !== fields?.['model'])) return undefined
  return readChatUsage(fields?.['usage'] ?? asFields(fields?.['x_groq'])?.['usage'])
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
 * Reads the `usage` of `response.done` in OpenAI's Realtime API. Cached sound counts as sound, which is the dearer of its
 * two prices.
 *
 * @returns `undefined` for no usable usage, as {@link readChatUsage}.
 * @see https://platform.openai.com/docs/api-reference/realtime-server-events/response/done
 */
export function readRealtimeUsage(usage: unknown): Usage | undefined {
  const fields = asFields(usage)
  if (fields === undefined) return undefined
  const { input_token_details, output_token_details } = fields
  return readResponsesUsage({ ...fields, input_tokens_details: input_token_details, output_tokens_details: output_token_details })
}

function readOpenAiUsage(usage: unknown, input: string, output: string, hosted: Readonly<Record<string, number>>): Usage | undefined {
  const fields = asFields(usage)
  const inputDetails = asFields(fields?.[`${input}_details`] ?? {})
  const outputDetails = asFields(fields?.[`${output}_details`] ?? {})
  const server = countServerTools(fields?.['server_tool_use'])
  if (!fields || !inputDetails || !outputDetails || !server) return undefined
  // Embeddings report no output. Only their total tells that from an answer whose output got lost.
  if ((fields[input] == null || fields[output] == null) && fields['total_tokens'] == null) return undefined
  const audio = readAudioSeconds(fields['prompt_audio_seconds'])
  if (audio === undefined) return undefined
  const writes = count(inputDetails['cache_write_tokens'])
  const { short, long } = splitWrites(writes, fields, inputDetails)
  const stated = statedCost(fields)
  const read = makeDisjoint({
    input: count(fields[input]),
    output: count(fields[output]),
    total: fields['total_tokens'],
    cacheRead: countCacheReads(fields, input, inputDetails),
    cacheWrite5m: short,
    cacheWrite1h: long,
    reasoning: count(outputDetails['reasoning_tokens']),
    // Both kinds of predicted tokens are billed as output, and are counted in it.
    text: count(outputDetails['accepted_prediction_tokens']) + count(outputDetails['rejected_prediction_tokens']),
    inputAudio: count(inputDetails['audio_tokens']),
    cachedAudio: cachedAudioOf(inputDetails),
    outputAudio: count(outputDetails['audio_tokens']),
    inputDetails,
    outputDetails,
    toolCalls: { ...searchesOf(fields), ...server, ...hosted },
    ...(stated !== undefined && { statedNanoUsd: stated }),
  })
  return read && audio > 0 ? { ...read, units: { audioMs: audio } } : read
}

/**
 * OpenAI's `cached_tokens`, or DeepSeek's word for it, which divides the whole prompt into hits and misses.
 *
 * @see https://api-docs.deepseek.com/api/create-chat-completion
 */
function countCacheReads(usage: Fields, input: string, details: Fields): number {
  const { prompt_cache_hit_tokens: hits, prompt_cache_miss_tokens: misses } = usage
  const cached = details['cached_tokens'] ?? hits
  if (hits != null && cached !== hits) return Number.NaN
  if (hits != null && misses != null && count(hits) + count(misses) !== usage[input]) return Number.NaN
  return count(cached)
}

/** xAI's sources of a live search, each of which has a fee. */
function searchesOf(usage: Fields): Readonly<Record<string, number>> {
  const { num_sources_used: sources } = usage
  return sources == null || sources === 0 ? {} : { live_search: count(sources) }
}

/** Mistral's length of the sound in a prompt; its client writes an empty object for none. */
function readAudioSeconds(seconds: unknown): number | undefined {
  if (seconds == null || (asFields(seconds) !== undefined && Object.keys(seconds).length === 0)) return 0
  return audioMs(seconds)
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
