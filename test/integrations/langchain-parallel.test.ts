// Several tools in one turn of a model: as many start as their counter allows, each call is answered, and the next turn
// is one that a provider takes.

import { AIMessage, HumanMessage, type BaseMessage, type ToolMessage } from '@langchain/core/messages'
import { tool, type StructuredToolInterface } from '@langchain/core/tools'
import { Command, END, MemorySaver, MessagesAnnotation, Send, START, StateGraph } from '@langchain/langgraph'
import { ToolNode } from '@langchain/langgraph/prebuilt'
import {
  humanInTheLoopMiddleware,
  modelCallLimitMiddleware,
  modelRetryMiddleware,
  toolCallLimitMiddleware,
  type ReactAgent,
} from 'langchain'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardGraph, guardTools } from '../../integrations/langgraph.ts'
import { errorOf, type Bench } from '../../src/testing/integration-bench.ts'
import type { ProviderAnswer, ProviderRequest } from '../../src/testing/provider.ts'
import { onBench } from './bench.ts'
import { agentOn, DONE, HI } from './langchain-bench.ts'
import { openGraphKernel, sentOn } from './langgraph-bench.ts'

const schema = z.object({ id: z.number() })
const THREAD = { configurable: { thread_id: 'harbour' } }

/** A turn of a model that calls `send` so many times at once. */
const sends = (many: number, name = 'send'): ProviderAnswer => ({
  toolCalls: Array.from({ length: many }, (_, id) => ({ name, arguments: { id } })),
})
const EIGHT = { answers: [sends(8), DONE], counters: { sends: 6 } } as const
const COUNTED = { holdfast: { toolAmounts: { send: { sends: 1 } } } } as const

/** A tool `send`, and the calls of it that began. */
function sending(run: (id: number, signal?: AbortSignal) => unknown = (id) => `sent ${id}`): {
  tools: StructuredToolInterface[]
  began: number[]
} {
  const began: number[] = []
  const send = tool(
    async ({ id }, config: { signal?: AbortSignal }) => {
      began.push(id)
      return run(id, config.signal)
    },
    { name: 'send', description: 'sends', schema },
  )
  return { tools: [send], began }
}

const answersOf = ({ messages }: { readonly messages: readonly BaseMessage[] }): ToolMessage[] =>
  messages.filter((message) => message.getType() === 'tool') as ToolMessage[]

/** Every call of a turn has one answer before the next message of the model: what a provider insists on. */
function assertValid(request: ProviderRequest): void {
  const messages = request.body['messages'] as readonly { role: string; tool_calls?: { id: string }[]; tool_call_id?: string }[]
  for (const [index, { role, tool_calls: calls = [] }] of messages.entries()) {
    if (role !== 'assistant' || calls.length === 0) continue
    const answered = messages.slice(index + 1, index + 1 + calls.length).map((message) => message.tool_call_id)
    expect(new Set(answered)).toEqual(new Set(calls.map(({ id }) => id)))
  }
}

const invoke = (agent: ReactAgent, config: object = {}) => agent.invoke(HI, config) as Promise<{ messages: BaseMessage[] }>
const lastOf = ({ provider }: Bench): ProviderRequest => provider.requests().at(-1)!

describe('eight calls in one turn of an agent, of which its budget allows six', () => {
  test('start six times, and two are answered with what to do', () =>
    onBench(EIGHT, async (bench) => {
      const { tools, began } = sending()
      const result = await invoke(agentOn(bench, { tools, ...COUNTED }))
      expect(began).toHaveLength(6)
      expect(answersOf(result).filter(({ status }) => status === 'error')).toHaveLength(2)
      expect(answersOf(result)).toHaveLength(8)
      expect(result.messages.at(-1)!.text).toBe('done')
      assertValid(lastOf(bench))
      expect(await bench.spent('suite/run', 'sends')).toBe(6)
    }))

  test('start six times when all of them wait for each other', () =>
    onBench(EIGHT, async (bench) => {
      let open!: () => void
      const all = new Promise<void>((resolve) => (open = resolve))
      const { tools, began } = sending(async (id) => {
        if (began.length === 6) open()
        await all
        return `sent ${id}`
      })
      const result = await invoke(agentOn(bench, { tools, ...COUNTED }))
      expect([began.length, answersOf(result).length]).toEqual([6, 8])
    }))

  test('of which one throws, and one returns 5 MB: the next turn is held for all of it, and refused when it does not fit', () =>
    onBench({ ...EIGHT, limit: 500_000_000 }, async (bench) => {
      const { tools, began } = sending((id) => {
        if (id === 1) throw new Error('the line is dead')
        return id === 2 ? 'x'.repeat(5_000_000) : `sent ${id}`
      })
      const error = await errorOf(() => invoke(agentOn(bench, { tools, ...COUNTED })))
      expect(began).toHaveLength(6)
      expect(error).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
      expect(bench.provider.bill().requests).toBe(1)
      expect(await bench.spent('suite/run', 'sends')).toBe(6)
    }))

  test('of which one hangs end with the caller’s abort, and nothing stays held', () =>
    onBench(EIGHT, async (bench) => {
      const leave = new AbortController()
      const { tools, began } = sending(async (id, signal) => {
        if (id !== 3) return `sent ${id}`
        queueMicrotask(() => leave.abort())
        return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)))
      })
      const error = await errorOf(() => invoke(agentOn(bench, { tools, ...COUNTED }), { signal: leave.signal }))
      expect(error).toBeInstanceOf(Error)
      expect(began.length).toBeGreaterThan(0)
      expect(await bench.spent('suite/run', 'sends')).toBeLessThanOrEqual(6)
    }))

  test('of which two are asked about and one is denied leave the five running', () =>
    onBench(
      {
        answers: [
          { toolCalls: ['send', 'send', 'send', 'send', 'send', 'ask', 'ask', 'drop'].map((name, id) => ({ name, arguments: { id } })) },
          DONE,
        ],
        rules: [
          { effect: 'allow', tool: 'send' },
          { effect: 'ask', tool: 'ask' },
          { effect: 'deny', tool: 'drop' },
        ],
      },
      async (bench) => {
        const { tools, began } = sending()
        const never = (name: string) => tool(async () => expect.unreachable(), { name, description: name, schema })
        const result = await invoke(agentOn(bench, { tools: [...tools, never('ask'), never('drop')] }))
        expect(began).toHaveLength(5)
        expect(answersOf(result).map(({ status }) => status)).toEqual([...Array<string>(5).fill('success'), 'error', 'error', 'error'])
        assertValid(lastOf(bench))
      },
    ))

  test('beside humanInTheLoopMiddleware are counted when they were approved, and each is answered', () =>
    onBench(EIGHT, async (bench) => {
      const { tools, began } = sending()
      const middleware = [humanInTheLoopMiddleware({ interruptOn: { send: { allowedDecisions: ['approve', 'reject'] } } } as never)]
      const agent = agentOn(bench, { tools, middleware, checkpointer: new MemorySaver(), ...COUNTED })
      await invoke(agent, THREAD)
      expect(began).toEqual([])
      const decisions = Array.from({ length: 8 }, () => ({ type: 'approve' }))
      const result = (await agent.invoke(new Command({ resume: { decisions } }) as never, THREAD)) as { messages: BaseMessage[] }
      expect(began).toHaveLength(6)
      expect(answersOf(result)).toHaveLength(8)
      assertValid(lastOf(bench))
    }))
})

describe('a limit of LangChain beside the budget', () => {
  test('on tools: what it blocks is not counted, and each call is answered', () =>
    onBench({ answers: [sends(8), DONE], counters: { sends: 2 } }, async (bench) => {
      const { tools, began } = sending()
      const middleware = [toolCallLimitMiddleware({ runLimit: 4 } as never)]
      const result = await invoke(agentOn(bench, { tools, middleware, ...COUNTED }))
      expect(began).toHaveLength(2)
      expect(answersOf(result)).toHaveLength(8)
      assertValid(lastOf(bench))
      expect(await bench.spent('suite/run', 'sends')).toBe(2)
    }))

  test('on calls of the model: the budget, when it is used up at the same time, has nothing left to refuse', () =>
    onBench({ answers: [sends(1), sends(1), DONE], counters: { calls: 2 } }, async (bench) => {
      const middleware = [modelCallLimitMiddleware({ runLimit: 2 } as never)]
      const result = await invoke(agentOn(bench, { tools: sending().tools, middleware }))
      expect(result.messages.at(-1)!.text).toContain('Model call limits exceeded')
      expect([bench.provider.bill().requests, bench.records('refused').length]).toEqual([2, 0])
    }))

  test('on calls of the model that is higher than the budget leaves the refusal to the budget, also under retries', () =>
    onBench({ answers: [sends(1), sends(1), DONE], counters: { calls: 2 } }, async (bench) => {
      const middleware = [modelCallLimitMiddleware({ runLimit: 9 } as never), modelRetryMiddleware({ maxRetries: 3, initialDelayMs: 1 })]
      const error = await errorOf(() => invoke(agentOn(bench, { tools: sending().tools, middleware })))
      expect(error).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
      expect(bench.provider.bill().requests).toBe(2)
    }))

  test('on steps ends the run with its own error, and nothing stays held', () =>
    onBench({ answers: [sends(2)], counters: { sends: 100 } }, async (bench) => {
      const error = await errorOf(() => invoke(agentOn(bench, { tools: sending().tools, ...COUNTED }), { recursionLimit: 6 }))
      expect((error as Error).name).toBe('GraphRecursionError')
      expect(await bench.spent('suite/run', 'sends')).toBe(2 * bench.provider.bill().requests)
    }))
})

describe('eight calls in one turn of a graph, of which its budget allows six', () => {
  const calls = Array.from({ length: 8 }, (_, id) => ({ name: 'send', args: { id }, id: `call-${id}`, type: 'tool_call' as const }))
  const asking = () => ({ messages: [new AIMessage({ content: '', tool_calls: calls })] })

  const forms = {
    'one tool node': (tools: ToolNode) =>
      new StateGraph(MessagesAnnotation)
        .addNode('tools', tools)
        .addNode('ask', asking)
        .addEdge(START, 'ask')
        .addEdge('ask', 'tools')
        .addEdge('tools', END)
        .compile(),
    'a Send for each call': (tools: ToolNode) =>
      new StateGraph(MessagesAnnotation)
        .addNode('tools', tools)
        .addNode('ask', asking)
        .addEdge(START, 'ask')
        .addConditionalEdges('ask', () => calls.map((call) => new Send('tools', { lg_tool_call: call })), ['tools'])
        .addEdge('tools', END)
        .compile(),
  }

  test.each(Object.entries(forms))('start six times, and each is answered, in %s', async (_name, graphOf) => {
    const { scope, kernel } = await openGraphKernel({ budgets: { acme: { sends: 100 }, 'acme/run': { sends: 6 } } })
    const { tools, began } = sending((id) => {
      if (id === 1) throw new Error('the line is dead')
      return `sent ${id}`
    })
    const graph = guardGraph(graphOf(new ToolNode(guardTools(tools, scope, { amounts: { send: { sends: 1 } } }))), scope)
    const result = (await graph.invoke({ messages: [new HumanMessage('go')] })) as { messages: BaseMessage[] }
    expect(began).toHaveLength(6)
    expect(new Set(answersOf(result).map((message) => message.tool_call_id))).toEqual(new Set(calls.map(({ id }) => id)))
    expect(answersOf(result).filter(({ text }) => text.startsWith('sent'))).toHaveLength(5)
    expect(await sentOn(kernel)).toBe(6)
  })
})
