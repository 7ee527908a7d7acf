// What an answer of the AI SDK says of its cost beside its tokens: how often hosted tools ran, and which service
// tier answered. The SDK's usage has neither.

import type { LanguageModelV4CallOptions } from '@ai-sdk/provider'
import { hostedNameOf } from './prompt.ts'

type Fields = Readonly<Record<string, unknown>>

/** Reads the parts of an answer, whole or streamed, as they pass. */
export interface CallCounter {
  see(part: { readonly type: string }): void
  /**
   * Calls of hosted tools by name, but those that the usage itself has.
   *
   * @param usage - As the SDK reports it.
   * @returns `undefined` when the answer does not say.
   */
  calls(usage: unknown): Readonly<Record<string, number>> | undefined
}

/** Counts what OpenAI bills: each call of a hosted tool, but those that open or search a page already found. */
export function createCallCounter(tools: NonNullable<LanguageModelV4CallOptions['tools']>): CallCounter {
  const hosted = tools.flatMap((tool) => (tool.type === 'function' ? [] : [tool]))
  const namesOf = new Map(hosted.map(({ id, name }) => [name, hostedNameOf(id)]))
  const named = new Map<string, readonly string[]>()
  return {
    see(part) {
      const { type, toolCallId, toolName, providerExecuted, result } = part as Fields
      if (typeof toolCallId !== 'string') return
      if (type === 'tool-call' && typeof toolName === 'string') {
        // Tools of an MCP server are not declared one by one.
        const names = namesOf.get(toolName) ?? (providerExecuted === true ? [toolName.replace(/^mcp\..*/s, 'mcp')] : [])
        named.set(toolCallId, names)
      } else if (type === 'tool-approval-request' || (type === 'tool-result' && isWithinPage(result))) named.delete(toolCallId)
    },
    calls(usage) {
      const raw = asFields(asFields(usage)?.['raw'])
      // Anthropic and OpenRouter have the numbers in the usage, OpenAI every call in the content; of others nobody knows.
      if (raw?.['server_tool_use'] != null) return {}
      if (hosted.some(({ id }) => !id.startsWith('openai.'))) return undefined
      const calls = new Map<string, number>()
      for (const name of [...named.values()].flat()) calls.set(name, (calls.get(name) ?? 0) + 1)
      return Object.fromEntries(calls)
    },
  }
}

function isWithinPage(result: unknown): boolean {
  const type = asFields(asFields(result)?.['action'])?.['type']
  return type === 'openPage' || type === 'findInPage'
}

/**
 * The service tier that answered, which is the one that is billed.
 *
 * @param body - Of the response, where the SDK has it: chat models tell the tier nowhere else.
 */
export function tierOf(providerMetadata: unknown, body?: unknown): string | undefined {
  const metadata = asFields(providerMetadata)
  const places = [
    asFields(metadata?.['openai'])?.['serviceTier'],
    asFields(metadata?.['azure'])?.['serviceTier'],
    asFields(body)?.['service_tier'],
  ]
  // It is the provider's text, and goes into messages.
  return places
    .find((tier) => typeof tier === 'string')
    ?.slice(0, 64)
    .toWellFormed()
}

function asFields(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null ? (value as Fields) : undefined
}
