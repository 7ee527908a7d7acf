// Rows of docs/escapes.md about agents of LangChain that no other test has: what goes past the agent, around its
// limits, or twice through its tools.

import { Command, MemorySaver, interrupt } from '@langchain/langgraph'
import { modelCallLimitMiddleware } from 'langchain'
import { expect, test } from 'vitest'
import { findRefusal } from '../../integrations/langchain.ts'
import { errorOf } from '../../src/testing/integration-bench.ts'
import { endsOf, onBench } from './bench.ts'
import { DONE, HI, TURNS, adding, agentOn } from './langchain-bench.ts'

test('a graph that is asked past its agent is held like the agent, and refused by the budget like it', () =>
  onBench({ answers: [DONE], counters: { calls: 1 } }, async (bench) => {
    const agent = agentOn(bench) as unknown as { readonly graph: { invoke(input: object): Promise<unknown> } }
    await agent.graph.invoke(HI)
    expect(await endsOf(bench)).toEqual(['settled'])
    expect(findRefusal(await errorOf(() => agent.graph.invoke(HI)))?.code).toBe('ERR_BUDGET_EXCEEDED')
    expect(bench.provider.bill().requests).toBe(1)
  }))

test('a tool that runs again after an interrupt of its own is counted each time', () =>
  onBench({ answers: TURNS, counters: { adds: 5 }, toolAmounts: { add: { adds: 1 } } }, async (bench) => {
    const tools = [adding(() => interrupt('how much?'))]
    const agent = agentOn(bench, { tools, checkpointer: new MemorySaver(), holdfast: { toolAmounts: { add: { adds: 1 } } } })
    const config = { configurable: { thread_id: '1' } }
    await agent.invoke(HI, config)
    await agent.invoke(new Command({ resume: 'seven' }) as never, config)
    expect(await bench.spent('suite/run', 'adds')).toBe(2)
  }))

test('a caller who raises the limits of LangChain in the context of a run does not raise the budget', () =>
  onBench({ answers: TURNS, counters: { calls: 1 } }, async (bench) => {
    const agent = agentOn(bench, { tools: [adding()], middleware: [modelCallLimitMiddleware({ runLimit: 1 } as never)] })
    const context = { runLimit: 1_000, threadLimit: 1_000, budget: 'suite', usd: 1_000 }
    expect(findRefusal(await errorOf(() => agent.invoke(HI, { context } as never)))?.code).toBe('ERR_BUDGET_EXCEEDED')
    expect(bench.provider.bill().requests).toBe(1)
  }))
