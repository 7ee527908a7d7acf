// The world that is paid for: a model provider over real HTTP and a print shop beside it. Each keeps a bill of its own
// that only grows, and charges before it answers; whatever happens to the answer then, the money is gone. That is the
// truth which the ledger is held against, for every team and in every dimension.

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { seededRandom } from '../src/testing/faulty-store.ts'
import { startProvider, type ProviderAnswer, type ProviderRequest } from '../src/testing/provider.ts'

/** The budget above all. */
export const ROOT = 'acme'
/** Those who share it. */
export const TEAMS = ['red', 'green', 'blue'] as const
/** What is limited: three that every model call uses, and a counter of our own. */
export const DIMENSIONS = ['usd', 'tokens', 'calls', 'pages'] as const
/** Output cap of every call. */
export const OUTPUT_TOKENS = 80
/** Dearest price of a call that was ever answered, in nano-USD: input at most, output at most. */
export const DEAREST_CALL = 60 * 150 + OUTPUT_TOKENS * 600
/** Names the team in the text of a request. */
export const teamMark = (team: string): string => `team:${team};`

/** What was billed by now: by budget and dimension, `usd/acme/red`. */
export type Truth = Readonly<Record<string, number>>

/** The world. */
export interface Market {
  readonly baseURL: string
  readonly printURL: string
  truth(): Truth
  /** Calls that arrived, and those that were billed. */
  readonly requests: number
  readonly billed: number
  /** Billed ones whose client could not learn what they cost, and what that was; nano-USD. */
  readonly unknown: { readonly calls: number; readonly nanoUsd: number }
  /** Whether the provider's own sum is what was added up here. */
  agrees(): boolean
  close(): Promise<void>
}

const FAULTS = ['drop-before-headers', 'drop-mid-stream', 'error-but-billed', 'malformed-sse'] as const

/** Opens the market. `slowness` stretches the answers. */
export async function openMarket(seed: number, slowness = 1): Promise<Market> {
  const random = seededRandom(seed)
  const truth: Record<string, number> = {}
  const unknown = { calls: 0, nanoUsd: 0 }
  const add = (team: string, dimension: string, amount: number): void => {
    for (const budget of [ROOT, `${ROOT}/${team}`]) truth[`${dimension}/${budget}`] = (truth[`${dimension}/${budget}`] ?? 0) + amount
  }

  /** The provider charges for an answer in the very turn that this decides it in. */
  function script({ body }: ProviderRequest): ProviderAnswer {
    const chance = random()
    if (chance < 0.03) return { status: 429 }
    const team = teamOf(JSON.stringify(body))
    const inputTokens = 20 + Math.floor(random() * 40)
    const outputTokens = 1 + Math.floor(random() * OUTPUT_TOKENS)
    add(team, 'usd', inputTokens * 150 + outputTokens * 600)
    add(team, 'tokens', inputTokens + outputTokens)
    add(team, 'calls', 1)
    const answer = { text: 'one', usage: { inputTokens, outputTokens }, delayMs: Math.floor(random() * random() * 120 * slowness) }
    if (chance > 0.16) return answer
    unknown.calls += 1
    unknown.nanoUsd += inputTokens * 150 + outputTokens * 600
    return { ...answer, fault: chance < 0.035 ? 'hang' : FAULTS[Math.floor(random() * FAULTS.length)]! }
  }

  const provider = await startProvider({ script })
  const printer = createServer((incoming, outgoing) => {
    const url = new URL(incoming.url!, 'http://printer')
    add(url.searchParams.get('team')!, 'pages', Number(url.searchParams.get('pages')))
    incoming.resume()
    if (random() < 0.1) outgoing.destroy()
    else setTimeout(() => outgoing.end('printed'), random() * 30 * slowness)
  })
  printer.keepAliveTimeout = 0
  printer.listen(0, '127.0.0.1')
  await once(printer, 'listening')
  return {
    baseURL: provider.baseURL,
    printURL: `http://127.0.0.1:${(printer.address() as AddressInfo).port}/`,
    truth: () => ({ ...truth }),
    get requests() {
      return provider.bill().requests
    },
    get billed() {
      return truth[`calls/${ROOT}`] ?? 0
    },
    unknown,
    agrees() {
      const { nanoUsd, billed } = provider.bill()
      return nanoUsd === (truth[`usd/${ROOT}`] ?? 0) && billed === (truth[`calls/${ROOT}`] ?? 0)
    },
    async close() {
      printer.close()
      printer.closeAllConnections()
      await provider.close()
    },
  }
}

function teamOf(text: string): string {
  const team = TEAMS.find((name) => text.includes(teamMark(name)))
  if (team === undefined) throw new Error('A request without a team.')
  return team
}
