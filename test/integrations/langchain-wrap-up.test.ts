// An agent near the end of its budget: its model is told so, and gives a last answer from what is kept for that.

import { ChatOpenAI } from '@langchain/openai'
import { modelFallbackMiddleware, modelRetryMiddleware, tool, type ReactAgent } from 'langchain'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardAgent, type GuardAgentOptions } from '../../integrations/langchain.ts'
import { MAX_NOTICE_BYTES, withNotice } from '../../integrations/langchain/wrap-up.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import { memoryStore, openKernel, type KernelOptions } from '../../src/index.ts'
import { errorOf, INPUT_PRICE, SUITE_MODEL } from '../../src/testing/integration-bench.ts'
import { startProvider, type ProviderRequest, type SimulatedProvider } from '../../src/testing/provider.ts'
import { onBench } from './bench.ts'
import { agentOn, answerUsing, DONE, HI, texts, UnseenModel } from './langchain-bench.ts'

const look = tool(async () => 'a ship', { name: 'look', description: 'looks', schema: z.object({}) })

type Budget = NonNullable<KernelOptions['budgets']>[string]

interface Site {
  readonly provider: SimulatedProvider
  readonly agent: (options?: Partial<GuardAgentOptions>) => ReactAgent
  readonly spent: (dimension: string) => Promise<number>
}

/** An agent whose model looks again and again as long as it has a tool to look with. */
async function withAgent(budget: Budget, run: (site: Site) => Promise<void>): Promise<void> {
  const provider = await startProvider({
    script: ({ body }) => (body['tools'] === undefined ? { text: 'nine ships' } : { toolCalls: [{ name: 'look', arguments: {} }] }),
  })
  const kernel = await openKernel({ store: memoryStore(), budgets: { acme: budget }, waitMs: 0, onEvent: () => {} })
  const scope = kernel.scope({ agent: 'clerk', task: 'ships', budget: 'acme' })
  const model = new ChatOpenAI({
    model: SUITE_MODEL,
    apiKey: 'test',
    maxTokens: 100,
    maxRetries: 0,
    configuration: { baseURL: provider.baseURL },
  })
  const spent = async (dimension: string) => (await kernel.budgets('acme')).find((line) => line.dimension === dimension)!.spent
  try {
    await run({ provider, spent, agent: (options) => guardAgent({ model, tools: [look], scope, ...options }) as unknown as ReactAgent })
  } finally {
    await kernel.close()
    await provider.close()
  }
}

const THREE = { calls: 3, wrapUp: { calls: 1 } }
const LAST = { holdfast: { wrapUp: { maxTokens: 30 } } }
const messagesOf = ({ body }: ProviderRequest) => body['messages'] as readonly { role: string; content: string }[]

describe('a last answer', () => {
  test('is given without tools, from what the budget keeps for it', () =>
    withAgent(THREE, async ({ agent, provider, spent }) => {
      const result = await agent(LAST).invoke(HI)
      expect(texts(result).at(-1)).toEqual(['ai', 'nine ships'])
      expect([provider.bill().requests, await spent('calls')]).toEqual([3, 3])
      const last = provider.requests().at(-1)!
      expect([last.body['tools'], last.body['max_completion_tokens'] ?? last.body['max_tokens']]).toEqual([undefined, 30])
      expect(messagesOf(last).at(-1)).toMatchObject({ role: 'user', content: expect.stringContaining('answer with what you already have') })
      // What it was told is no part of the history.
      expect(texts(result).filter(([type]) => type === 'human')).toHaveLength(1)
    }))

  test('is refused without the option, and where the budget keeps nothing', async () => {
    await withAgent(THREE, async ({ agent, provider }) => {
      expect(findRefusal(await errorOf(() => agent().invoke(HI)))?.details.wrapUp).toBe(true)
      expect(provider.bill().requests).toBe(2)
    })
    await withAgent({ calls: 2 }, async ({ agent, provider }) => {
      expect(findRefusal(await errorOf(() => agent(LAST).invoke(HI)))?.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(provider.bill().requests).toBe(2)
    })
  })

  test('is one: the next run is refused, since nothing is left of what was kept', () =>
    withAgent(THREE, async ({ agent, provider }) => {
      const clerk = agent(LAST)
      await clerk.invoke(HI)
      expect(findRefusal(await errorOf(() => clerk.invoke(HI)))?.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(provider.bill().requests).toBe(3)
    }))

  test('is given through other middleware, and is tried once where they retry', () =>
    withAgent(THREE, async ({ agent, provider }) => {
      const model = new ChatOpenAI({ model: SUITE_MODEL, apiKey: 'test', configuration: { baseURL: provider.baseURL } })
      const middleware = [modelRetryMiddleware({ maxRetries: 2, initialDelayMs: 1 }), modelFallbackMiddleware(model)]
      expect(texts(await agent({ ...LAST, middleware }).invoke(HI)).at(-1)).toEqual(['ai', 'nine ships'])
      expect(provider.bill().requests).toBe(3)
    }))

  test('is given in a stream, and where money is what has run out', () =>
    withAgent({ usd: '0.0012', wrapUp: { usd: '0.0006' } }, async ({ agent, provider, spent }) => {
      const seen: string[] = []
      for await (const [message] of await agent(LAST).stream(HI, { streamMode: 'messages' })) seen.push(message.text)
      expect(seen.join('')).toContain('nine ships')
      expect(await spent('usd')).toBe(provider.bill().nanoUsd)
      expect(provider.requests().at(-1)!.body['tools']).toBeUndefined()
    }))

  test('is given by a model of another package, which may not call the tools that it still has', () =>
    withAgent(THREE, async ({ agent, spent }) => {
      const choices: unknown[] = []
      const model = new UnseenModel({
        maxTokens: 100,
        answer: (messages, options) => {
          choices.push(options['tool_choice'])
          if (options['tool_choice'] === 'none') return answerUsing(20, 20)
          return Object.assign(answerUsing(20, 20), {
            tool_calls: [{ name: 'look', args: {}, id: `call-${messages.length}`, type: 'tool_call' }],
          })
        },
      })
      expect(texts(await agent({ ...LAST, model: model as never }).invoke(HI)).at(-1)).toEqual(['ai', 'done'])
      expect([choices, await spent('calls')]).toEqual([[undefined, undefined, 'none'], 3])
    }))

  test('is not given by an agent with a responseFormat, which it would not have', () =>
    withAgent(THREE, async ({ agent, provider }) => {
      const options = { ...LAST, responseFormat: z.object({ ships: z.number() }) as never }
      expect(findRefusal(await errorOf(() => agent(options).invoke(HI)))?.details.wrapUp).toBe(true)
      expect(provider.bill().requests).toBe(2)
    }))
})

describe('a notice', () => {
  const FOUR = { calls: 4, usd: 1, warnAt: 0.7 }
  const noticed = (provider: SimulatedProvider): boolean[] =>
    provider.requests().map((request) => /budget/.test(messagesOf(request).at(-1)!.content))

  test('stands at the end of the requests that are made while most of the budget is used, and is no part of the history', () =>
    withAgent(FOUR, async ({ agent, provider }) => {
      await errorOf(() => agent({ holdfast: { notice: true } }).invoke(HI))
      expect(noticed(provider)).toEqual([false, false, true, true])
      expect(messagesOf(provider.requests().at(-1)!).filter(({ content }) => /budget/.test(content))).toHaveLength(1)
    }))

  test('is not given without the option', () =>
    withAgent(FOUR, async ({ agent, provider }) => {
      await errorOf(() => agent().invoke(HI))
      expect(noticed(provider)).toEqual([false, false, false, false])
    }))

  test('is held for before it is known', () =>
    onBench({ answers: [DONE] }, async (bench) => {
      for (const notice of [false, true]) await agentOn(bench, { holdfast: { notice } }).invoke(HI)
      const [without, held] = bench.records('intent').map(({ amounts }) => (amounts as { usd: number }).usd)
      expect(held! - without!).toBeGreaterThanOrEqual(MAX_NOTICE_BYTES * INPUT_PRICE)
    }))

  test('that is longer than what is held for it is not given', () => {
    const request = { messages: [] }
    expect(withNotice(request, 'x'.repeat(MAX_NOTICE_BYTES)).messages).toHaveLength(1)
    expect(withNotice(request, 'x'.repeat(MAX_NOTICE_BYTES + 1)).messages).toHaveLength(0)
  })
})
