// The usage that OpenAI reports, and whoever speaks its format: chat completions, Responses, embeddings.

import type { Usage } from '../../waist/price.ts'
import { asFields, cachedAudioOf, count, countServerTools, makeDisjoint, splitWrites } from './disjoint.ts'

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
