// A kernel and requests by hand, for tests of one wire format: what is held, what leaves, how each hold ends.

import { onTestFinished } from 'vitest'
import { guardFetch, type GuardOptions } from '../../integrations/transport/guard-fetch.ts'
import { memoryStore, openKernel, type Kernel, type PriceOverride, type Scope } from '../../src/index.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import { scriptOf, startProvider, type ProviderAnswer, type SimulatedProvider } from '../../src/testing/provider.ts'

/** What the simulated provider bills. */
export const PRICE: PriceOverride = {
  inputUsdPerMillion: '0.15',
  cacheReadUsdPerMillion: '0.075',
  outputUsdPerMillion: '0.6',
  contextWindow: 1_048_576,
}
/** A kernel with one budget, `acme`, and what happened on it. */
export interface WireSite {
  readonly kernel: Kernel
  readonly scope: Scope
  records(kind: string): readonly Readonly<Record<string, unknown>>[]
  /** The ends of all holds, and what each counted in nano-USD. */
  ends(): readonly (readonly [unknown, unknown])[]
}

/** Opens one, until the test is over. */
export async function openSite(prices: Readonly<Record<string, PriceOverride>>): Promise<WireSite> {
  const kernel = await openKernel({ store: memoryStore(), budgets: { acme: { usd: 10 } }, prices, onEvent: () => {} })
  onTestFinished(() => kernel.close())
  const records = (kind: string) =>
    kernel.auditLines.map((line) => JSON.parse(line) as Record<string, unknown>).filter((record) => record['kind'] === kind)
  return {
    kernel,
    scope: kernel.scope({ agent: 'a', task: 't', budget: 'acme' }),
    records,
    ends: () => records('outcome').map(({ outcome, used }) => [outcome, (used as { usd?: number }).usd]),
  }
}

/** Starts a provider, until the test is over. */
export async function openProvider(...answers: readonly ProviderAnswer[]): Promise<SimulatedProvider> {
  const provider = await startProvider({ script: scriptOf(answers.length === 0 ? [{}] : answers) })
  onTestFinished(() => provider.close())
  return provider
}

/** Posts to an address that is never reached, unless the guard lets it through. */
export async function attempt({ scope }: WireSite, url: string, body: unknown, options: GuardOptions = {}, method = 'POST') {
  const reached: string[] = []
  const fetch: typeof globalThis.fetch = async (_, init) => {
    reached.push(init?.body as string)
    return Response.json({})
  }
  const response = await guardFetch(scope, { ...options, fetch })(url, { method, body: JSON.stringify(body) })
  const refusal = findRefusal({ responseBody: await response.text() })
  return { reached, refusal, sent: reached[0] === undefined ? undefined : (JSON.parse(reached[0]) as Record<string, unknown>) }
}
