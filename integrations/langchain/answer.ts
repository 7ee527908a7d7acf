// What an answer of a LangChain model says of its cost. LangChain's usage is the provider's, in other words; where a
// transport guard read the wire, this only compares.

import { readChatUsage } from '../../src/metering/usage/openai.ts'
import type { Usage } from '../../src/waist/price.ts'

type Fields = Readonly<Record<string, unknown>>

/** What is known of an answer. */
export interface LangChainAnswer {
  /** `undefined` for no usable usage. */
  readonly usage: Usage | undefined
  readonly responseId: string | undefined
  readonly serviceTier: string | undefined
  /** True for an answer that no provider gave: out of LangChain's cache, or written by other middleware. */
  readonly isLocal: boolean
}

/**
 * Reads what the handler of `wrapModelCall` returned, or a model.
 *
 * @param result - An `AIMessage`, or messages around a structured response (the model's own is the first), or the
 *   result of a chat model.
 */
export function readAnswer(result: unknown): LangChainAnswer {
  const fields = asFields(result)
  const message = firstOf(fields?.['messages']) ?? asFields(firstOf(fields?.['generations'])?.['message']) ?? fields
  const metadata = asFields(message?.['response_metadata'])
  const reported = asFields(message?.['usage_metadata'])
  const ids = [metadata?.['id'], message?.['id']]
  return {
    usage: readLangChainUsage(reported),
    responseId: ids.find((id) => typeof id === 'string'),
    serviceTier: tierOf(metadata?.['service_tier']),
    // The cache says that it used nothing; other middleware says nothing at all.
    isLocal: reported === undefined ? Object.keys(metadata ?? {}).length === 0 : reported['total_tokens'] === 0,
  }
}

/**
 * Reads the `usage_metadata` of a message.
 *
 * @returns `undefined` for no usable usage, as `readChatUsage`.
 */
export function readLangChainUsage(reported: unknown): Usage | undefined {
  const fields = asFields(reported)
  if (fields === undefined) return undefined
  const input = asFields(fields['input_token_details'])
  const output = asFields(fields['output_token_details'])
  return readChatUsage({
    prompt_tokens: fields['input_tokens'],
    completion_tokens: fields['output_tokens'],
    total_tokens: fields['total_tokens'],
    prompt_tokens_details: {
      cached_tokens: input?.['cache_read'],
      cache_write_tokens: input?.['cache_creation'],
      audio_tokens: input?.['audio'],
    },
    completion_tokens_details: { reasoning_tokens: output?.['reasoning'], audio_tokens: output?.['audio'] },
  })
}

/** It is the provider's text, and goes into messages. */
function tierOf(tier: unknown): string | undefined {
  return typeof tier === 'string' ? tier.slice(0, 64).toWellFormed() : undefined
}

function firstOf(list: unknown): Fields | undefined {
  return Array.isArray(list) ? asFields((list as readonly unknown[])[0]) : undefined
}

function asFields(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined
}
