// A provider, a kernel with the real price list and a guard between them, for the endpoints beside chat.

import OpenAI from 'openai'
import { guardFetch, type GuardOptions } from '../../integrations/transport/guard-fetch.ts'
import { memoryStore, openKernel, type Kernel, type KernelOptions } from '../../src/index.ts'
import { until } from '../../src/testing/integration-bench.ts'
import { startProvider, type ProviderOptions, type SimulatedProvider } from '../../src/testing/provider.ts'
import type { Scope } from '../../src/waist/scope.ts'

/** What a test works with. */
export interface MediaBench {
  readonly provider: SimulatedProvider
  readonly kernel: Kernel
  readonly scope: Scope
  readonly guarded: typeof fetch
  readonly client: OpenAI
  readonly events: string[]
  /** The ends of all holds so far, in order. */
  readonly ends: () => readonly { readonly outcome: string; readonly used: Readonly<Record<string, number>>; readonly reason?: string }[]
  /** What was held, in order. */
  readonly held: () => readonly Readonly<Record<string, number>>[]
  /** Codes of the refusals. */
  readonly refused: () => readonly string[]
  readonly post: (path: string, body: unknown, init?: RequestInit) => Promise<Response>
}

/** Options of {@link onMedia}. */
export interface MediaOptions {
  readonly media?: ProviderOptions['media']
  readonly guard?: GuardOptions
  readonly kernel?: Partial<KernelOptions>
  /** True for a test that closes the kernel itself. @default false */
  readonly closes?: boolean
}

/** Runs a test; at its end nothing is held and every budget balances. */
export async function onMedia(options: MediaOptions, run: (bench: MediaBench) => Promise<void>): Promise<void> {
  const provider = await startProvider(options.media === undefined ? {} : { media: options.media })
  const events: string[] = []
  const kernel = await openKernel({
    store: memoryStore(),
    budgets: { acme: { usd: 100 } },
    waitMs: 0,
    ...options.kernel,
    onEvent: ({ type }) => events.push(type),
  })
  try {
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
    const guarded = guardFetch(scope, options.guard)
    const records = (kind: string) =>
      kernel.auditLines.map((line) => JSON.parse(line) as Record<string, unknown>).filter((record) => record['kind'] === kind)
    await run({
      provider,
      kernel,
      scope,
      guarded,
      client: new OpenAI({ apiKey: 'test', baseURL: provider.baseURL, maxRetries: 0, logLevel: 'off', fetch: guarded }),
      events,
      ends: () => records('outcome') as unknown as ReturnType<MediaBench['ends']>,
      held: () => records('intent').map((record) => record['amounts'] as Readonly<Record<string, number>>),
      refused: () => records('refused').map((record) => String(record['code'])),
      post: async (path, body, init) =>
        guarded(`${provider.baseURL}/${path}`, { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body), ...init }),
    })
    if (options.closes === true) return
    await until('nothing is held', async () => (await kernel.budgets()).every(({ out, balanced }) => out === 0 && balanced))
  } finally {
    await kernel.close()
    await provider.close()
  }
}
