// The worst case of an AI SDK call, from its parameters: what a provider makes of them is not visible here, so
// the bound leaves room for the wire format of any.

import type { LanguageModelV4CallOptions } from '@ai-sdk/provider'
import { boundResponsesRequest, type BoundOptions, type RequestBound } from '../src/metering/worst-case.ts'

/** Room for field names and brackets that a provider adds, in bytes, and as a part of the whole. */
const WIRE_BYTES = 1_024
const WIRE_SHARE = 0.25

/** Parts that are text on the wire; whatever is not listed may cost more tokens than it has bytes. */
const TEXT_PARTS = new Set(['text', 'reasoning', 'tool-call', 'tool-result', 'tool-approval-response'])

/** What bounds a call. */
export interface PromptBound {
  readonly text: string
  readonly bytes: number
  readonly body: { readonly serviceTier: string | undefined; bound(bytes: number, known: BoundOptions): RequestBound }
}

/** Reads the parameters of a call. */
export function boundPrompt(modelId: string, params: LanguageModelV4CallOptions): PromptBound {
  const { prompt, tools = [], responseFormat, providerOptions, maxOutputTokens } = params
  const openai = providerOptions?.['openai'] ?? {}
  const named = prompt.some((message) => typeof message.content !== 'string' && message.content.some(isOpaque))
  // Files are bounded by the context window; their bytes would only make a long text for the hash.
  const text = JSON.stringify({ prompt, tools, responseFormat, providerOptions }, (_key, value: unknown) =>
    value instanceof Uint8Array ? `${value.length} bytes` : value,
  )
  const bytes = new TextEncoder().encode(text).length
  const request = {
    model: modelId,
    max_output_tokens: maxOutputTokens,
    input: named ? [{ type: 'file' }] : [],
    previous_response_id: openai['previousResponseId'],
    conversation: openai['conversation'],
    max_tool_calls: openai['maxToolCalls'],
    tools: tools.map((tool) => ({ type: tool.type === 'function' ? 'function' : tool.id.slice(tool.id.indexOf('.') + 1) })),
  }
  const tier = openai['serviceTier']
  return {
    text,
    bytes: bytes + Math.ceil(bytes * WIRE_SHARE) + WIRE_BYTES,
    body: { serviceTier: typeof tier === 'string' ? tier : undefined, bound: (size, known) => boundResponsesRequest(request, size, known) },
  }
}

function isOpaque(part: { readonly type: string; readonly output?: { readonly type: string } }): boolean {
  if (!TEXT_PARTS.has(part.type)) return true
  // A tool's result may be made of parts itself, files among them.
  return part.type === 'tool-result' && part.output?.type === 'content'
}
