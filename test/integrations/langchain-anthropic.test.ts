// ChatAnthropic in an agent, with a guard of the user's under it: the wire counts, and LangChain's own count of a stream,
// which has the tokens of its first event twice, alarms nobody.

import { ChatAnthropic } from '@langchain/anthropic'
import { describe, expect, test } from 'vitest'
import { guardFetch, guardModel } from '../../integrations/langchain.ts'
import { SUITE_MODEL, type Bench } from '../../src/testing/integration-bench.ts'
import { assertSettled } from '../../src/testing/integration-money.ts'
import { collect } from './adapters.ts'
import { onBench } from './bench.ts'
import { agentOn, HI } from './langchain-bench.ts'

const claude = ({ provider }: Bench, fetch?: typeof globalThis.fetch): ChatAnthropic =>
  new ChatAnthropic({
    model: SUITE_MODEL,
    apiKey: 'test',
    anthropicApiUrl: provider.baseURL.replace(/\/v1$/, ''),
    maxRetries: 0,
    maxTokens: 50,
    clientOptions: { logLevel: 'off', ...(fetch === undefined ? {} : { fetch }) },
  })

const WAYS = [
  ['guardFetch', (bench: Bench) => claude(bench, guardFetch(bench.scope))],
  ['guardModel', (bench: Bench) => guardModel(claude(bench), bench.scope)],
] as const

describe('an agent on ChatAnthropic', () => {
  test.each(WAYS)('under %s is settled from the wire, streamed or not, and no difference is reported', (_, made) =>
    onBench({}, async (bench) => {
      const agent = agentOn(bench, { model: made(bench) as never })
      await agent.invoke(HI)
      await collect(await agent.stream(HI, { streamMode: 'messages' }))
      await assertSettled(bench)
      expect(bench.provider.bill().billed).toBe(2)
      expect(bench.events).toEqual([])
    }),
  )

  test('without a guard under it is settled from what LangChain counts, which is never less than the bill', () =>
    onBench({}, async (bench) => {
      await collect(await agentOn(bench, { model: claude(bench) as never }).stream(HI, { streamMode: 'messages' }))
      const [outcome] = await bench.outcomes()
      expect(outcome).toMatchObject({ outcome: 'settled' })
      expect(outcome!.used['usd']).toBeGreaterThanOrEqual(bench.provider.bill().nanoUsd)
    }))
})
