// The usage that Amazon Bedrock reports: of Converse in the answer, of InvokeModel beside it.

import type { Usage } from '../../waist/price.ts'
import { NOTHING_BESIDE, asFields, count, makeDisjoint, required } from './disjoint.ts'

/**
 * Reads the `usage` of Converse, or of the `metadata` event of ConverseStream. What was read from or written to the cache is
 * not in `inputTokens`; whether it is in `totalTokens` has changed, so both are taken.
 *
 * @returns `undefined` for no usable usage: absent, all zero, or a total that neither reading gives.
 * @see https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html (looked up 2026-11-22)
 */
export function readConverseUsage(usage: unknown): Usage | undefined {
  const fields = asFields(usage)
  if (fields === undefined) return undefined
  const writes = count(fields['cacheWriteInputTokens'])
  const parts = { input: fields['inputTokens'], output: fields['outputTokens'], reads: fields['cacheReadInputTokens'] }
  const { total, uncached } = sumsOf(parts, writes)
  const stated = fields['totalTokens']
  if (stated != null && stated !== total && stated !== uncached) return undefined
  const long = longWrites(fields['cacheDetails'], writes)
  return long === undefined ? undefined : readParts(parts, writes - long, long)
}

/**
 * Reads `amazon-bedrock-invocationMetrics`, which the last event of a streamed InvokeModel has. How long a write to the cache
 * lives is not said there, so it counts as the dearer, long one: prefer the usage of the model's own format where it has one.
 *
 * @returns `undefined` for no usable usage.
 * @see https://docs.aws.amazon.com/bedrock/latest/userguide/inference-invoke.html
 */
export function readInvocationMetrics(metrics: unknown): Usage | undefined {
  const fields = asFields(metrics)
  if (fields === undefined) return undefined
  const { inputTokenCount: input, outputTokenCount: output, cacheReadInputTokenCount: reads } = fields
  return readParts({ input, output, reads }, 0, count(fields['cacheWriteInputTokenCount']))
}

/**
 * Reads the headers of an answer to InvokeModel, as {@link readInvocationMetrics}.
 *
 * @returns `undefined` without them, or for one that is no count.
 */
export function readInvocationHeaders(headers: { get(name: string): string | null }): Usage | undefined {
  const countOf = (name: string): unknown => {
    const text = headers.get(`x-amzn-bedrock-${name}-token-count`)
    return text === null ? undefined : /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
  }
  return readInvocationMetrics({
    inputTokenCount: countOf('input'),
    outputTokenCount: countOf('output'),
    cacheReadInputTokenCount: countOf('cache-read-input'),
    cacheWriteInputTokenCount: countOf('cache-write-input'),
  })
}

interface Parts {
  readonly input: unknown
  readonly output: unknown
  readonly reads: unknown
}

function sumsOf({ input, output, reads }: Parts, writes: number): { readonly total: number; readonly uncached: number } {
  const uncached = required(input) + required(output)
  return { total: uncached + count(reads) + writes, uncached }
}

function readParts(parts: Parts, short: number, long: number): Usage | undefined {
  const reads = count(parts.reads)
  return makeDisjoint({
    ...NOTHING_BESIDE,
    input: required(parts.input) + reads + short + long,
    output: required(parts.output),
    cacheRead: reads,
    cacheWrite5m: short,
    cacheWrite1h: long,
  })
}

/** Of the writes, those that live an hour: `[{ ttl: '1h', inputTokens: 20 }]`. What is not said to be short is long, once anything is said. */
function longWrites(details: unknown, writes: number): number | undefined {
  if (details == null) return 0
  if (!Array.isArray(details)) return undefined
  let short = 0
  let told = 0
  for (const one of details as readonly unknown[]) {
    const fields = asFields(one)
    const tokens = required(fields?.['inputTokens'])
    told += tokens
    if (fields?.['ttl'] === '5m') short += tokens
  }
  if (details.length === 0) return 0
  return told <= writes ? writes - short : undefined
}
