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

/** Tokens of the input side, cached or not. */
export function totalInputTokens(usage: Usage): number {
  return INPUT_BUCKETS.reduce((sum, bucket) => sum + (usage[bucket] ?? 0), 0)
}

/** All tokens of a call, in and out, cached or not; equals the provider's own total. */
export function totalTokens(usage: Usage): number {
  return OUTPUT_BUCKETS.reduce((sum, bucket) => sum + (usage[bucket] ?? 0), totalInputTokens(usage))
}
