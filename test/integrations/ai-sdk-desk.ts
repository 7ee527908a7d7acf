// A kernel, a simulated provider and the AI SDK's provider for it, with nothing between them: what a test puts there is
// what it is about. At the end every budget balances, nothing is out, and nothing was billed that was not counted.

import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createOpenAI, type OpenAIProvider } from '@ai-sdk/openai'
import { expect } from 'vitest'
import { memoryStore, openKernel, type Kernel, type KernelOptions, type Scope } from '../../src/index.ts'
import { scriptOf, startProvider, type ProviderAnswer, type ProviderRequest, type SimulatedProvider } from '../../src/testing/provider.ts'

export const MODEL = 'gpt-4o-mini'
/** The price that the simulated provider bills. */
export const PRICES = { [MODEL]: { inputUsdPerMillion: '0.15', cacheReadUsdPerMillion: '0.075', outputUsdPerMillion: '0.6' } }

type Json = Readonly<Record<string, unknown>>

export interface Desk {
  readonly kernel: Kernel
  readonly scope: Scope
  readonly provider: SimulatedProvider
  readonly openai: OpenAIProvider
  /** Types of the events of the kernel. */
  readonly events: string[]
  /** How the holds of model calls ended, oldest first. */
  readonly ends: () => readonly unknown[]
  readonly records: (kind: string) => readonly Json[]
  readonly spent: (dimension?: string) => Promise<number>
}

type DeskOptions = Partial<KernelOptions> & {
  readonly answers?: readonly ProviderAnswer[] | ((request: ProviderRequest) => ProviderAnswer)
}

/** Runs a test at a desk whose budget is `acme`. */
export async function atDesk({ answers = [{}], ...options }: DeskOptions, run: (desk: Desk) => Promise<void>): Promise<void> {
  const provider = await startProvider({ script: typeof answers === 'function' ? answers : scriptOf(answers) })
  const events: string[] = []
  const kernel = await openKernel({
    store: memoryStore(),
    budgets: { acme: { usd: 1, tokens: 1_000_000 } },
    prices: PRICES,
    onEvent: ({ type }) => void events.push(type),
    waitMs: 0,
    ...options,
  })
  const records: Desk['records'] = (kind) =>
    kernel.auditLines.map((line) => JSON.parse(line) as Json).filter((record) => record['kind'] === kind)
  const spent: Desk['spent'] = async (dimension = 'usd') => {
    const lines = await kernel.budgets('acme')
    return lines.find((line) => line.budget === 'acme' && line.dimension === dimension)!.spent
  }
  try {
    await run({
      kernel,
      scope: kernel.scope({ agent: 'writer', task: 'post', budget: 'acme' }),
      provider,
      openai: createOpenAI({ apiKey: 'test', baseURL: provider.baseURL }),
      events,
      ends: () => {
        const models = new Set(records('intent').flatMap(({ hold, action }) => (action === 'model' ? [hold] : [])))
        return records('outcome').flatMap(({ hold, outcome }) => (models.has(hold) ? [outcome] : []))
      },
      records,
      spent,
    })
    await kernel.flush()
    for (const { out, balanced, ...line } of await kernel.budgets())
      expect({ ...line, out, balanced }).toMatchObject({ out: 0, balanced: true })
  } finally {
    await kernel.close()
    await provider.close()
  }
}

/** A server that answers with JSON by path, and keeps what it was asked. */
export async function startServer(
  answerOf: (path: string, body: Json) => unknown,
): Promise<{ baseURL: string; paths: string[]; close: () => Promise<void> }> {
  const paths: string[] = []
  const server: Server = createServer((incoming, outgoing) => {
    const respond = async (): Promise<void> => {
      const body = await bodyOf(incoming)
      paths.push(incoming.url!)
      const answer = answerOf(incoming.url!, body)
      outgoing.writeHead(answer === undefined ? 404 : 200, { 'content-type': 'application/json' }).end(JSON.stringify(answer ?? {}))
    }
    void respond()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    baseURL: `http://127.0.0.1:${port}/v1`,
    paths,
    close: () => new Promise((resolve) => (server.closeAllConnections(), server.close(() => resolve()))),
  }
}

async function bodyOf(incoming: IncomingMessage): Promise<Json> {
  let text = ''
  for await (const piece of incoming) text += String(piece)
  try {
    return JSON.parse(text) as Json
  } catch {
    // A form with an audio file; no test looks into it.
    return {}
  }
}
