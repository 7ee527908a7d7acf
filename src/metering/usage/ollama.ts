// The usage that Ollama reports in its own formats, `/api/chat` and `/api/generate`.

import type { Usage } from '../../waist/price.ts'
import { NOTHING_BESIDE, asFields, count, makeDisjoint, required } from './disjoint.ts'

/**
 * Reads an answer of Ollama, or the last line of a streamed one: only that has `done`, and the counts.
 *
 * @returns `undefined` for no usable usage. Versions that left `prompt_eval_count` out when the whole prompt was cached did
 *   not say how long that was.
 * @see https://docs.ollama.com/api/usage (looked up 2026-11-22)
 */
export function readOllamaAnswer(answer: unknown): Usage | undefined {
  const fields = asFields(answer)
  if (fields?.['done'] !== true) return undefined
  return makeDisjoint({
    ...NOTHING_BESIDE,
    input: required(fields['prompt_eval_count']),
    output: required(fields['eval_count']),
    cacheRead: count(fields['prompt_eval_cached_count']),
  })
}
