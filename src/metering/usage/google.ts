// The usage that Gemini models report, in the Gemini API and in Vertex AI.

import type { Usage } from '../../waist/price.ts'
import { NOTHING_BESIDE, asFields, count, makeDisjoint, required } from './disjoint.ts'

/**
 * Reads the `usageMetadata` of a Gemini answer.
 *
 * `promptTokenCount` has the cached tokens in it, implicitly cached ones too; what tools brought
 * (`toolUsePromptTokenCount`) and thoughts stand beside prompt and candidates. Images and videos in are counted as
 * text, whose price they have; images out are told apart where the answer does.
 *
 * @param hostedCalls Calls of hosted tools by name, which stand elsewhere in the answer; see {@link countGoogleSearches}.
 * @returns `undefined` for no usable usage: absent, all zero, a number that is not whole and positive, or parts whose
 *   sum is not `totalTokenCount`. The caller then charges the worst case.
 * @see https://googleapis.github.io/js-genai/release_docs/classes/types.GenerateContentResponseUsageMetadata.html
 *   (2026-11-22; for Vertex AI, where the total is the sum of these four, too)
 */
export function readGoogleUsage(usageMetadata: unknown, hostedCalls: Readonly<Record<string, number>> = {}): Usage | undefined {
  const fields = asFields(usageMetadata)
  if (fields === undefined) return undefined
  const input = count(fields['promptTokenCount']) + count(fields['toolUsePromptTokenCount'])
  const thoughts = count(fields['thoughtsTokenCount'])
  const output = count(fields['candidatesTokenCount']) + thoughts
  if (input + output !== required(fields['totalTokenCount'])) return undefined
  return makeDisjoint({
    ...NOTHING_BESIDE,
    input,
    output,
    total: fields['totalTokenCount'],
    cacheRead: count(fields['cachedContentTokenCount']),
    reasoning: thoughts,
    inputAudio: tokensOf('AUDIO', fields['promptTokensDetails']) + tokensOf('AUDIO', fields['toolUsePromptTokensDetails']),
    cachedAudio: tokensOf('AUDIO', fields['cacheTokensDetails']),
    outputAudio: tokensOf('AUDIO', fields['candidatesTokensDetails']),
    ...(fields['candidatesTokensDetails'] == null ? {} : { outputImage: tokensOf('IMAGE', fields['candidatesTokensDetails']) }),
    toolCalls: hostedCalls,
  })
}

/** Tokens of a modality in a list such as `[{ modality: 'AUDIO', tokenCount: 40 }]`; `NaN` for what is no such list. */
function tokensOf(modality: 'AUDIO' | 'IMAGE', details: unknown): number {
  if (details == null) return 0
  if (!Array.isArray(details)) return Number.NaN
  let tokens = 0
  for (const detail of details as readonly unknown[]) {
    const entry = asFields(detail)
    if (entry === undefined) return Number.NaN
    if (entry['modality'] === modality) tokens += count(entry['tokenCount'])
  }
  return tokens
}

/** Gemini models before 3 pay for a prompt that was grounded, however often it searched. */
const PAYS_BY_PROMPT = /(?:^|\/)gemini-[12][.-]/

/** Whether a model pays for a grounded prompt rather than for each search. An unknown model pays for each search. */
export function paysByPrompt(model: unknown): boolean {
  return typeof model === 'string' && PAYS_BY_PROMPT.test(model)
}

/**
 * The distinct queries that an answer, or one chunk of it, says it searched for, added to those that are known.
 *
 * @see https://ai.google.dev/gemini-api/docs/google-search (2026-11-22: empty and repeated queries are not billed)
 */
export function addGoogleSearches(queries: Set<string>, candidates: unknown): void {
  for (const candidate of Array.isArray(candidates) ? (candidates as readonly unknown[]) : []) {
    const grounding = asFields(asFields(candidate)?.['groundingMetadata'])
    for (const field of ['webSearchQueries', 'imageSearchQueries']) {
      const searched = grounding?.[field]
      for (const query of Array.isArray(searched) ? (searched as readonly unknown[]) : [])
        if (typeof query === 'string' && query !== '') queries.add(`${field} ${query}`)
    }
  }
}

/** What these searches count as: one for the whole prompt, or one for each query. */
export function countGoogleSearches(queries: ReadonlySet<string>, modelVersion: unknown): Readonly<Record<string, number>> {
  if (queries.size === 0) return {}
  return { web_search: paysByPrompt(modelVersion) ? 1 : queries.size }
}
