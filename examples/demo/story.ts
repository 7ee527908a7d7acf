// What the demo is about: one budget, the tools, and how the simulated provider answers. The orchestrator and
// its workers share it.

import type { ProviderAnswer, ProviderRequest } from 'holdfast/testing'

/** The team's limit, and what one report may cost of it. */
export const BUDGETS = { acme: { usd: '0.006' }, 'acme/*': { usd: '0.005' } }
/** The budget that everybody in the demo works on. */
export const BUDGET = 'acme/report-7'
/** Small enough that many calls fit, large enough that their sum does not. */
export const MAX_OUTPUT_TOKENS = 300
/** The model that is asked for; with a real key it may be another one. */
export const MODEL = process.env['OPENAI_MODEL'] ?? 'gpt-4o-mini'

/** What the agents may do. Whatever is not named is denied. */
export const RULES = [
  { effect: 'allow', tool: 'search' },
  { effect: 'ask', tool: 'send_email' },
  { effect: 'deny', tool: 'delete_files' },
] as const

/** Messages of a worker to the orchestrator. */
export type WorkerMessage =
  | { readonly type: 'say'; readonly text: string }
  | { readonly type: 'ask'; readonly agent: string; readonly tool: string; readonly argsHash: string }
  /** It has read the headline, and waits until everybody has. */
  | { readonly type: 'read' }
  /** Whether it was the one that wrote the headline. */
  | { readonly type: 'wrote'; readonly first: boolean }
  | { readonly type: 'handed'; readonly spent: number; readonly returned: number }
  | { readonly type: 'refused'; readonly code: string; readonly reason: string }

/** Answers as a provider would, the odd fault included. */
export function answer({ index, body }: ProviderRequest): ProviderAnswer {
  const text = JSON.stringify(body)
  const answered = text.includes('"role":"tool"') || text.includes('function_call_output')
  if (text.includes('a very long think')) return { text: 'too late', delayMs: 25_000 }
  if (index === 2) return { status: 500, errorBody: '{"error":{"message":"the odd 500"}}' }
  if (text.includes('flaky line') && body['stream'] === true) return { text: prose(60), fault: 'drop-mid-stream' }
  if (Array.isArray(body['tools']) && !answered) return { toolCalls: [toolCall(text)] }
  return {
    text: prose(40 + (index % 5) * 40),
    usage: { inputTokens: 150 + index, cachedTokens: index % 3 === 0 ? 64 : 0, outputTokens: 90 + (index % 7) * 25 },
  }
}

function toolCall(text: string): { readonly name: string; readonly arguments: unknown } {
  if (text.includes('mail the board')) return { name: 'send_email', arguments: { to: 'board@example.com', subject: 'Report 7' } }
  if (text.includes('tidy the disk')) return { name: 'delete_files', arguments: { path: '/' } }
  return { name: 'search', arguments: { query: 'limits that hold' } }
}

function prose(words: number): string {
  return Array.from(
    { length: words },
    (_, index) => ['every', 'limit', 'holds', 'because', 'money', 'is', 'held', 'first'][index % 8],
  ).join(' ')
}
