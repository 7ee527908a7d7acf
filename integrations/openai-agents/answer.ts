// What an answer of a model of the Agents SDK says of its cost: the provider's usage, in the SDK's words.

import { readResponsesUsage } from '../../src/metering/usage/openai.ts'
import type { Usage } from '../../src/waist/price.ts'

/** What is known of an answer. */
export interface AgentsAnswer {
  /** `undefined` for no usable usage. */
  readonly usage: Usage | undefined
  readonly responseId: string | undefined
  readonly serviceTier: string | undefined
}

/** The id that the SDK gives a streamed chat completion, whose own id it does not keep. */
const FAKE_ID = 'FAKE_ID'

type Fields = Readonly<Record<string, unknown>>

/** Reads a `ModelResponse`, or the `response` of a `response_done` event. */
export function readAnswer(response: unknown): AgentsAnswer {
  const fields = asFields(response)
  const raw = asFields(fields?.['providerData'])
  const id = fields?.['responseId'] ?? fields?.['id'] ?? raw?.['id']
  const tier = raw?.['service_tier']
  return {
    usage: readAgentsUsage(fields?.['usage']),
    responseId: typeof id === 'string' && id !== FAKE_ID ? id : undefined,
    // It is the provider's text, and goes into messages.
    serviceTier: typeof tier === 'string' ? tier.slice(0, 64).toWellFormed() : undefined,
  }
}

/**
 * Reads a `Usage` of the SDK.
 *
 * @returns `undefined` for no usable usage, as `readResponsesUsage`: the SDK makes zeros of a usage that is missing.
 */
export function readAgentsUsage(usage: unknown): Usage | undefined {
  const fields = asFields(usage)
  return readResponsesUsage({
    input_tokens: fields?.['inputTokens'],
    output_tokens: fields?.['outputTokens'],
    total_tokens: fields?.['totalTokens'],
    input_tokens_details: detailsOf(fields?.['inputTokensDetails']),
    output_tokens_details: detailsOf(fields?.['outputTokensDetails']),
  })
}

/** A list has one entry for each request that was made for the answer. */
function detailsOf(details: unknown): unknown {
  if (!Array.isArray(details)) return details ?? {}
  const total: Record<string, unknown> = {}
  for (const [name, value] of (details as unknown[]).flatMap((entry) => Object.entries(asFields(entry) ?? {})))
    total[name] = typeof value === 'number' && typeof total[name] === 'number' ? total[name] + value : value
  return total
}

function asFields(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined
}
