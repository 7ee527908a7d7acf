// A bench of the integration suite for tests of one part: whatever the test does, the bench is in order at its
// end. And requests by hand, for what no SDK would send.

import { createOpenAI } from '@ai-sdk/openai'
import type { LanguageModelV4, LanguageModelV4Middleware } from '@ai-sdk/provider'
import { wrapLanguageModel } from 'ai'
import { holdfastMiddleware } from '../../integrations/ai-sdk.ts'
import type { Waiver } from '../../src/testing/store-suite.ts'
import { guardFetch, type GuardOptions } from '../../integrations/transport/guard-fetch.ts'
import {
  SUITE_MODEL,
  runCase,
  type Bench,
  type BenchOptions,
  type IntegrationAdapter,
  type Outcome,
} from '../../src/testing/integration-bench.ts'
import { testIntegration } from '../../src/testing/integration-suite.ts'
import { chatCalls, clientOf } from './adapters.ts'

/** Chat completions of a wrapped OpenAI client. */
export const OPENAI_CHAT: IntegrationAdapter = {
  name: 'openai chat',
  streamRefusal: 'error',
  drains: true,
  leavesByBreak: true,
  connect: (site) => chatCalls(clientOf(site)),
}

/** Runs a test on a bench, which must be in order when it ends. */
export function onBench(options: BenchOptions, run: (bench: Bench) => Promise<void>, adapter = OPENAI_CHAT): Promise<void> {
  return runCase({ name: adapter.name, run: async ({ open }) => run(await open(options)) }, adapter)
}

/** How the holds of a bench ended, in order. */
export async function endsOf(bench: Bench): Promise<readonly Outcome['outcome'][]> {
  return (await bench.outcomes()).map(({ outcome }) => outcome)
}

/** The cases that the suite registers for an adapter, by name, without the adapter's own. */
export function casesOf(adapter: IntegrationAdapter, waive: readonly Waiver[] = []): ReadonlyMap<string, () => Promise<void>> {
  const cases = new Map<string, () => Promise<void>>()
  testIntegration((name, run) => cases.set(name.slice(adapter.name.length + 1), run), { ...adapter, waive })
  return cases
}

/** Options of a small call of the AI SDK. */
export const CALL = { prompt: 'hello there', maxOutputTokens: 50, maxRetries: 0 }

/** A model of the AI SDK on the provider of a bench, with this middleware, outermost first. */
export function modelOn(
  { provider }: Bench,
  middleware: LanguageModelV4Middleware | LanguageModelV4Middleware[],
  fetch?: typeof globalThis.fetch,
): LanguageModelV4 {
  const openai = createOpenAI({ apiKey: 'test', baseURL: provider.baseURL, ...(fetch === undefined ? {} : { fetch }) })
  return wrapLanguageModel({ model: openai.chat(SUITE_MODEL), middleware })
}

/** Such a model with the middleware of holdfast on the scope of the bench. */
export const guardedModel = (bench: Bench): LanguageModelV4 => modelOn(bench, holdfastMiddleware(bench.scope))

/** The body of a small chat completion. */
export function chatBody(more: Readonly<Record<string, unknown>> = {}): string {
  return JSON.stringify({ model: SUITE_MODEL, messages: [{ role: 'user', content: 'hello there' }], max_tokens: 20, ...more })
}

/** Posts through a guard on the scope of a bench. */
export function poster(bench: Bench, options: GuardOptions = {}): (body: RequestInit['body'], init?: RequestInit) => Promise<Response> {
  const guarded = guardFetch(bench.scope, options)
  return (body, init) =>
    guarded(`${bench.provider.baseURL}/chat/completions`, { method: 'POST', ...(body === undefined ? {} : { body }), ...init })
}

/** A `fetch` that answers with these bytes, in these chunks; for what no server can be made to do to a socket. */
export function replaying(chunks: readonly Uint8Array[], contentType = 'text/event-stream'): typeof fetch {
  return async () => {
    let next = 0
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (next < chunks.length) controller.enqueue(chunks[next++]!)
        else controller.close()
      },
    })
    return new Response(body, { headers: { 'content-type': contentType } })
  }
}
