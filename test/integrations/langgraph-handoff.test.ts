// Handoffs between agents of a graph: a command, a supervisor, a swarm. Each agent works on money that was moved for
// it, and what does not fit is said where it can still be heard.

import { HumanMessage } from '@langchain/core/messages'
import { tool } from '@langchain/core/tools'
import { Annotation, Command, INTERRUPT, MemorySaver, MessagesAnnotation, START, Send, StateGraph, interrupt } from '@langchain/langgraph'
import { createSupervisor } from '@langchain/langgraph-supervisor'
import { createHandoffTool, createSwarm } from '@langchain/langgraph-swarm'
import { createAgent } from 'langchain'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { findRefusal, guardGraph, guardHandoffTool, guardTools } from '../../integrations/langgraph.ts'
import { ambient } from '../../src/lib/ambient.ts'
import { errorOf, type Bench } from '../../src/testing/integration-bench.ts'
import type { ProviderRequest } from '../../src/testing/provider.ts'
import type { Scope } from '../../src/waist/scope.ts'
import { balanced } from '../budget/bench.ts'
import { onBench } from './bench.ts'
import { LANGGRAPH, chatModelOf, openGraphKernel, sentOn, toolAnswers } from './langgraph-bench.ts'

const State = Annotation.Root({
  ...MessagesAnnotation.spec,
  done: Annotation<string[]>({ reducer: (a, b) => [...a, ...b], default: () => [] }),
})
const FREE = { budget: { sends: 4 } }
const mine = (): Scope => ambient().scope as Scope
const send = (sends: number) => mine().run({ kind: 'custom', resource: 'send', worst: { sends } }, async () => {})

/** A node that decides, and hands to `bob`, who sends. */
function pair(bob: () => Promise<unknown>) {
  return new StateGraph(State)
    .addNode('alice', async () => new Command({ goto: 'bob', update: { messages: [new HumanMessage('Count the ships.')] } }), {
      ends: ['bob'],
    })
    .addNode('bob', async () => {
      await bob()
      return { done: [`${mine().agent} on ${mine().budget.split('/').slice(0, -1).join('/')}`] }
    })
    .addEdge(START, 'alice')
    .compile()
}

describe('a node with a handoff', () => {
  test('runs as its own agent on money that was moved for it, and what is left comes back', async () => {
    const { scope, kernel } = await openGraphKernel()
    let during: unknown
    const graph = guardGraph(
      pair(async () => {
        await send(3)
        during = (await kernel.budgets('acme/run')).find(({ budget }) => budget === 'acme/run')
      }),
      scope,
      { handoffs: { bob: FREE } },
    )
    expect((await graph.invoke({})).done).toEqual(['bob on acme/run'])
    expect(during).toMatchObject({ kids: 4, free: 6, spent: 0 })
    expect(await sentOn(kernel)).toBe(3)
    await balanced(kernel.store)
    const intents = kernel.auditLines.map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(intents.find(({ action }) => action === 'handoff')).toMatchObject({ agent: 'clerk', resource: 'bob' })
  })

  test('that spends more than it was given is refused, and the caller finds the refusal; the rest is back', async () => {
    const { scope, kernel } = await openGraphKernel()
    const graph = guardGraph(
      pair(() => send(5)),
      scope,
      { handoffs: { bob: FREE } },
    )
    const refusal = findRefusal(await errorOf(() => graph.invoke({})))
    expect(refusal?.details.budget?.budget).toMatch(/^acme\/run\/bob-/)
    expect(await sentOn(kernel)).toBe(0)
    expect((await kernel.budgets('acme/run')).find(({ budget }) => budget === 'acme/run')).toMatchObject({ free: 10, kids: 0 })
  })

  test('that does not fit does not start, and the caller finds the refusal', async () => {
    const { scope } = await openGraphKernel()
    let started = false
    const graph = guardGraph(
      pair(async () => void (started = true)),
      scope,
      { handoffs: { bob: { budget: { sends: 11 } } } },
    )
    expect(findRefusal(await errorOf(() => graph.invoke({})))?.code).toBe('ERR_BUDGET_EXCEEDED')
    expect(started).toBe(false)
  })

  test('may do less than the graph, never more', async () => {
    const rules = [{ effect: 'allow', tool: ['read', 'write'] }] as const
    const { scope } = await openGraphKernel({ rules })
    const codes: unknown[] = []
    const decide = async (): Promise<void> => {
      for (const resource of ['read', 'write', 'drop']) codes.push((await mine().decide({ kind: 'tool', resource }))?.code ?? 'allowed')
    }
    const narrower = [{ effect: 'allow', tool: ['read', 'drop'] }] as const
    await guardGraph(pair(decide), scope, { handoffs: { bob: { ...FREE, rules: narrower } } }).invoke({})
    expect(codes).toEqual(['allowed', 'ERR_PERMISSION_DENIED', 'ERR_PERMISSION_DENIED'])
  })

  test('to which ten are sent at once has a budget for each, as far as there is money', async () => {
    const { scope, kernel } = await openGraphKernel({ waitMs: 5_000 })
    const graph = new StateGraph(State)
      .addNode('bob', async () => {
        await send(1)
        return { done: [mine().budget] }
      })
      .addConditionalEdges(START, () => Array.from({ length: 10 }, () => new Send('bob', {})), ['bob'])
      .compile()
    const { done } = await guardGraph(graph, scope, { handoffs: { bob: { budget: { sends: 1 } } } }).invoke({})
    expect(new Set(done).size).toBe(10)
    expect(await sentOn(kernel)).toBe(10)
  })

  test('that is interrupted gives back what is left, and is handed to anew when it is resumed', async () => {
    const { scope, kernel } = await openGraphKernel()
    const graph = new StateGraph(State)
      .addNode('bob', async () => {
        await send(1)
        return { done: [String(interrupt('go on?'))] }
      })
      .addEdge(START, 'bob')
      .compile({ checkpointer: new MemorySaver() })
    const guarded = guardGraph(graph, scope, { handoffs: { bob: FREE } })
    const config = { configurable: { thread_id: 't' } }
    expect(await guarded.invoke({}, config)).toHaveProperty(INTERRUPT)
    expect((await kernel.budgets('acme/run')).find(({ budget }) => budget === 'acme/run')).toMatchObject({ kids: 0, spent: 1, free: 9 })
    expect((await guarded.invoke(new Command({ resume: 'yes' }), config)).done).toEqual(['yes'])
    expect(await sentOn(kernel)).toBe(2)
  })

  test('of a graph inside of it hands on from its own money', async () => {
    const { scope, kernel } = await openGraphKernel()
    const team = guardGraph(
      pair(() => send(2)),
      undefined,
      { handoffs: { bob: { budget: { sends: 2 } } } },
    )
    const graph = new StateGraph(State).addNode('team', team).addEdge(START, 'team').compile()
    const { done } = await guardGraph(graph, scope, { handoffs: { team: FREE } }).invoke({})
    expect(done[0]).toMatch(/^bob on acme\/run/)
    expect(await sentOn(kernel)).toBe(2)
  })
})

/** Answers by what the model was told that it is. */
const playing = (parts: Readonly<Record<string, (turn: number, request: ProviderRequest) => object>>) => {
  const turns = new Map<string, number>()
  return (request: ProviderRequest) => {
    const told = JSON.stringify(request.body['messages'])
    const name = Object.keys(parts).find((part) => told.includes(`You are ${part}.`))!
    const turn = (turns.get(name) ?? 0) + 1
    turns.set(name, turn)
    return parts[name]!(turn, request)
  }
}

const toolCall = (name: string) => ({ toolCalls: [{ name, arguments: {} }] })
const USER = { messages: [{ role: 'user' as const, content: 'How many ships?' }] }
const usd = (amount: number): number => amount * 1_000_000_000

/** A model that spends from the scope that it runs in. */
function ambientModel({ provider }: Bench) {
  const site = { guarded: true, scope: undefined, baseURL: provider.baseURL, provider, maxRetries: 0, drainMs: 1_000 }
  return chatModelOf(site, { prompt: '', maxOutputTokens: 50 })
}

const look = tool(async () => `nine, says ${mine().agent}`, { name: 'look', description: 'Looks.', schema: z.object({}) })

function agentOf(bench: Bench, name: string, tools: object[]) {
  return createAgent({ model: ambientModel(bench), name, tools: tools as (typeof look)[], systemPrompt: `You are ${name}.` }).graph
}

/** What the intents of models were charged to, by budget, without the ids of handoffs. */
const payers = ({ records }: Bench): string[] =>
  records('intent')
    .filter(({ action }) => action === 'model')
    .map(({ budget }) => (budget as string).replace(/-[\w-]{8}$/, ''))

describe('a supervisor', () => {
  const ACTORS = playing({
    boss: (turn) => (turn === 1 ? toolCall('transfer_to_bob') : { text: 'Nine ships.' }),
    bob: (turn) => (turn === 1 ? toolCall('look') : { text: 'I see nine.' }),
  })
  const build = (bench: Bench, budget: Record<string, number>) => {
    const supervisor = createSupervisor({
      agents: [agentOf(bench, 'bob', guardTools([look])) as never],
      llm: ambientModel(bench),
      prompt: 'You are boss.',
    }).compile()
    return guardGraph(supervisor, bench.scope, { handoffs: { bob: { budget } } })
  }

  test('hands to an agent that spends from its own budget, and goes on with its own', () =>
    onBench(
      { answers: ACTORS },
      async (bench) => {
        const { messages } = await build(bench, { usd: 0.2 }).invoke(USER)
        expect(messages.at(-1)!.text).toBe('Nine ships.')
        expect(payers(bench)).toEqual(['suite/run', 'suite/run/bob', 'suite/run/bob', 'suite/run'])
        expect(bench.records('intent').find(({ action }) => action === 'tool')).toMatchObject({ agent: 'bob', resource: 'look' })
        expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
        await balanced(bench.kernel.store)
      },
      LANGGRAPH,
    ))

  test('is told when a handoff does not fit, and goes on without', () =>
    onBench(
      { answers: playing({ boss: (turn) => (turn === 1 ? toolCall('transfer_to_bob') : { text: 'I do not know.' }) }), limit: usd(0.1) },
      async (bench) => {
        const state = await build(bench, { usd: 0.2 }).invoke(USER)
        expect(state.messages.at(-1)!.text).toBe('I do not know.')
        expect(toolAnswers(state)).toEqual([expect.stringMatching(/^error: The budget for this work is used up/)])
        expect(payers(bench)).toEqual(['suite/run', 'suite/run'])
      },
      LANGGRAPH,
    ))

  test('whose agent uses up its budget ends with a refusal of that budget', () =>
    onBench(
      { answers: playing({ boss: () => toolCall('transfer_to_bob'), bob: () => ({ text: 'I see nine.' }) }) },
      async (bench) => {
        const refusal = findRefusal(await errorOf(() => build(bench, { usd: 0.000_001 }).invoke(USER)))
        expect(refusal?.details.budget?.budget).toMatch(/^suite\/run\/bob-/)
        expect(bench.provider.bill().requests).toBe(1)
      },
      LANGGRAPH,
    ))
})

describe('a swarm', () => {
  const HANDOFFS = { alice: { budget: { usd: 0.2 } }, bob: { budget: { usd: 0.3 } } }
  const build = (
    bench: Bench,
    handoffs: Record<string, { budget: { usd: number } }>,
    toBob: object = createHandoffTool({ agentName: 'bob' }),
  ) => {
    const agents = [agentOf(bench, 'alice', [toBob]), agentOf(bench, 'bob', guardTools([look]))]
    return guardGraph(createSwarm({ agents: agents as never[], defaultActiveAgent: 'alice' }).compile(), bench.scope, { handoffs })
  }

  test('hands over from one agent to another, each on its own budget', () =>
    onBench(
      {
        answers: playing({
          alice: () => toolCall('transfer_to_bob'),
          bob: (turn) => (turn === 1 ? toolCall('look') : { text: 'I see nine.' }),
        }),
      },
      async (bench) => {
        const state = await build(bench, HANDOFFS).invoke(USER)
        expect(state.messages.at(-1)!.text).toBe('I see nine.')
        expect(toolAnswers(state)).toEqual([expect.stringMatching(/: Successfully transferred to bob$/), 'success: nine, says bob'])
        expect(payers(bench)).toEqual(['suite/run/alice', 'suite/run/bob', 'suite/run/bob'])
        expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
        await balanced(bench.kernel.store)
      },
      LANGGRAPH,
    ))

  test('of agents that are guarded by themselves hands over in the same way, from the budget of the graph', () =>
    onBench(
      { answers: playing({ alice: () => toolCall('transfer_to_bob'), bob: () => ({ text: 'I see nine.' }) }), limit: usd(0.5) },
      async (bench) => {
        // More than Alice has herself.
        const toBob = guardHandoffTool(createHandoffTool({ agentName: 'bob' }), undefined, { to: 'bob', ...HANDOFFS.bob })
        const agents = [guardGraph(agentOf(bench, 'alice', [toBob])), guardGraph(agentOf(bench, 'bob', guardTools([look])))]
        const swarm = createSwarm({ agents: agents as never[], defaultActiveAgent: 'alice' }).compile()
        await guardGraph(swarm, bench.scope, { handoffs: HANDOFFS }).invoke(USER)
        expect(payers(bench)).toEqual(['suite/run/alice', 'suite/run/bob'])
        await balanced(bench.kernel.store)
      },
      LANGGRAPH,
    ))

  test.each(['found by guardGraph', 'guarded by hand'])('whose handoff does not fit is told so by its tool, %s', (by) =>
    onBench(
      { answers: playing({ alice: (turn) => (turn === 1 ? toolCall('transfer_to_bob') : { text: 'Alone, then.' }) }), limit: usd(0.3) },
      async (bench) => {
        const tooMuch = { budget: { usd: 0.9 } }
        const toBob = createHandoffTool({ agentName: 'bob' })
        const state = await build(
          bench,
          { ...HANDOFFS, bob: tooMuch },
          by === 'guarded by hand' ? guardHandoffTool(toBob, undefined, { to: 'bob', ...tooMuch }) : toBob,
        ).invoke(USER)
        expect(state.messages.at(-1)!.text).toBe('Alone, then.')
        expect(toolAnswers(state)).toEqual([expect.stringMatching(/^error: The budget/)])
        await balanced(bench.kernel.store)
      },
      LANGGRAPH,
    ),
  )
})
