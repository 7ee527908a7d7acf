// What a call used, added up: the buckets of `Usage` do not overlap, so their sum is what the provider counted.

import type { TokenBucket, Usage } from '../../waist/price.ts'

/** The buckets of the input side; their sum is what the price tiers of long contexts look at. */
export const INPUT_BUCKETS: readonly TokenBucket[] = [
  'inputTokens',
  'cacheReadTokens',
  'cacheWrite5mTokens',
  'cacheWrite1hTokens',
  'inputAudioTokens',
  'inputImageTokens',
]

/** The buckets of the output side. */
export const OUTPUT_BUCKETS: readonly TokenBucket[] = ['outputTokens', 'reasoningTokens', 'outputAudioTokens', 'outputImageTokens']

/** A usage of nothing, to be filled in; by itself it is no measurement. */
export const NOTHING_USED: Usage = {
  inputTokens: 0,
  cacheReadTokens: 0,
  cacheWrite5mTokens: 0,
  cacheWrite1hTokens: 0,
  outputTokens: 0,
  reasoningTokens: 0,
  inputAudioTokens: 0,
  outputAudioTokens: 0,
  toolCalls: {},
}

/** Tokens of the input side, cached or not. */
export function totalInputTokens(usage: Usage): number {
  return INPUT_BUCKETS.reduce((sum, bucket) => sum + (usage[bucket] ?? 0), 0)
}

/** All tokens of a call, in and out, cached or not; equals the provider's own total. */
export function totalTokens(usage: Usage): number {
  return OUTPUT_BUCKETS.reduce((sum, bucket) => sum + (usage[bucket] ?? 0), totalInputTokens(usage))
}
