// The usage that the AI SDK reports: totals of its own, and the provider's report in `raw`.

import type { Usage } from '../../waist/price.ts'
import { asFields, cachedAudioOf, count, countServerTools, makeDisjoint, required, splitWrites } from './disjoint.ts'
import { statedCost } from './stated.ts'

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
  const stated = statedCost(raw)
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
    ...(stated !== undefined && { statedNanoUsd: stated }),
  })
}

/** Google lists tokens by modality: `[{ modality: 'AUDIO', tokenCount: 40 }]`. */
function countAudio(details: unknown): number {
  if (!Array.isArray(details)) return details == null ? 0 : Number.NaN
  return (details as readonly unknown[])
    .map(asFields)
    .filter((entry) => entry?.['modality'] === 'AUDIO')
    .reduce((sum, entry) => sum + count(entry?.['tokenCount']), 0)
}
