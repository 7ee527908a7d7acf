// The usage that Anthropic reports, and whoever speaks its Messages format.

import type { Usage } from '../../waist/price.ts'
import { NOTHING_BESIDE, asFields, count, countServerTools, makeDisjoint, required, splitWrites, type Fields } from './disjoint.ts'

/**
 * Reads the `usage` object of an answer of the Messages API.
 *
 * Unlike OpenAI's, its `input_tokens` has neither cache reads nor cache writes in it. What a compaction read and
 * wrote stands in `iterations` only, and is added. A web search is a call with a fee; a fetched page has none.
 *
 * @returns `undefined` for no usable usage: absent, all zero, a number that is not whole and positive, parts that do
 *   not fit their totals, or iterations of another model, which has prices of its own. The caller then charges the
 *   worst case.
 * @see https://platform.claude.com/docs/en/api/messages (looked up 2026-11-22)
 */
export function readAnthropicUsage(usage: unknown): Usage | undefined {
  const fields = asFields(usage)
  const toolCalls = countServerTools(fields?.['server_tool_use'])
  const samplings = fields === undefined ? undefined : samplingsOf(fields)
  if (samplings === undefined || toolCalls === undefined) return undefined
  const total = { input: 0, output: 0, read: 0, short: 0, long: 0, reasoning: 0 }
  for (const sampling of samplings) {
    const writes = count(sampling['cache_creation_input_tokens'])
    const read = count(sampling['cache_read_input_tokens'])
    const { short, long } = splitWrites(writes, sampling, {})
    total.input += required(sampling['input_tokens']) + read + writes
    total.output += required(sampling['output_tokens'])
    total.read += read
    total.short += short
    total.long += long
    total.reasoning += count((asFields(sampling['output_tokens_details'] ?? {}) ?? { thinking_tokens: Number.NaN })['thinking_tokens'])
  }
  return makeDisjoint({
    ...NOTHING_BESIDE,
    input: total.input,
    output: total.output,
    cacheRead: total.read,
    cacheWrite5m: total.short,
    cacheWrite1h: total.long,
    reasoning: total.reasoning,
    toolCalls,
  })
}

/**
 * The answer itself, whose numbers sum up all turns of its server tools, and each compaction, which they leave out.
 *
 * @see https://platform.claude.com/docs/en/build-with-claude/compaction (looked up 2026-11-22)
 */
function samplingsOf(usage: Fields): readonly Fields[] | undefined {
  const { iterations } = usage
  if (iterations == null) return [usage]
  if (!Array.isArray(iterations)) return undefined
  const samplings = [usage]
  for (const iteration of iterations as readonly unknown[]) {
    const fields = asFields(iteration)
    if (fields?.['type'] === 'compaction') samplings.push(fields)
    // Of an advisor, or of a model that took over: neither is billed at the price of the model that was asked.
    else if (fields?.['type'] !== 'message') return undefined
  }
  return samplings
}
