// Graphs that are interrupted and resumed: effects happen once, models are paid again, and what names a task stays
// what it is.

import { AIMessage, ToolMessage } from '@langchain/core/messages'
import { tool, type ToolRunnableConfig } from '@langchain/core/tools'
import { Annotation, Command, END, INTERRUPT, MemorySaver, MessagesAnnotation, START, StateGraph, interrupt } from '@langchain/langgraph'
import { ToolNode } from '@langchain/langgraph/prebuilt'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { executionOf } from '../../integrations/langgraph/task.ts'
import { guardGraph, guardTools } from '../../integrations/langgraph.ts'
import { errorOf } from '../../src/testing/integration-bench.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Scope } from '../../src/waist/scope.ts'
import { keys } from '../budget/bench.ts'
import { onBench } from './bench.ts'
import { LANGGRAPH, calling, chatModelOf, openGraphKernel, sentOn, toolAnswers, toolGraph } from './langgraph-bench.ts'
import { AMOUNTS, THREAD, confirm, sendTool } from './langgraph-cases.ts'

describe('an effect of a node that is resumed', () => {
  test.each(['async', 'sync', 'exit'] as const)(
    'happens once and is paid once, and its result is given again (durability: %s)',
    async (durability) => {
      const { scope, kernel } = await openGraphKernel()
      const { send, sent } = sendTool()
      const graph = guardGraph(toolGraph(guardTools([send, confirm], scope, AMOUNTS), new MemorySaver()), scope)
      const asked = await graph.invoke(
        { messages: [calling(['send', { to: 'ann' }], ['confirm', { what: 'all' }])] },
        { ...THREAD, durability },
      )
      expect(asked).toHaveProperty(INTERRUPT)
      const answers = toolAnswers(await graph.invoke(new Command({ resume: 'yes' }), { ...THREAD, durability }))
      expect(answers).toEqual(['success: sent to ann', 'success: confirmed all: yes'])
      expect(sent).toEqual(['ann'])
      expect(await sentOn(kernel)).toBe(1)
    },
  )

  test('happens once in another process too: another kernel on the store, another graph on the saver', async () => {
    const store = memoryStore()
    const saver = new MemorySaver()
    const { send, sent } = sendTool()
    const process = async () => {
      const { scope, kernel } = await openGraphKernel({ store })
      return { kernel, graph: guardGraph(toolGraph(guardTools([send, confirm], scope, AMOUNTS), saver), scope) }
    }
    const first = await process()
    await first.graph.invoke({ messages: [calling(['send', { to: 'ann' }], ['confirm', { what: 'all' }])] }, THREAD)
    await first.kernel.close()
    const second = await process()
    const answers = toolAnswers(await second.graph.invoke(new Command({ resume: 'yes' }), THREAD))
    expect(answers).toEqual(['success: sent to ann', 'success: confirmed all: yes'])
    expect(sent).toEqual(['ann'])
    expect(await sentOn(second.kernel)).toBe(1)
  })

  test('of a tool that asks by itself is paid when it has ended, not for each time that it asked', async () => {
    const { scope, kernel } = await openGraphKernel()
    const counted = guardTools([confirm], scope, { amounts: { confirm: { sends: 1 } } })
    const graph = guardGraph(toolGraph(counted, new MemorySaver()), scope)
    await graph.invoke({ messages: [calling(['confirm', { what: 'x' }])] }, THREAD)
    expect(await sentOn(kernel)).toBe(0)
    await graph.invoke(new Command({ resume: 'yes' }), THREAD)
    expect(await sentOn(kernel)).toBe(1)
  })

  test('is told from equal ones by its number: two equal calls are two effects, once each', async () => {
    const { scope, kernel } = await openGraphKernel()
    const { send, sent } = sendTool()
    const graph = guardGraph(toolGraph(guardTools([send, confirm], scope, AMOUNTS), new MemorySaver()), scope)
    await graph.invoke({ messages: [calling(['send', { to: 'ann' }], ['send', { to: 'ann' }], ['confirm', { what: 'x' }])] }, THREAD)
    await graph.invoke(new Command({ resume: 'yes' }), THREAD)
    expect(sent).toEqual(['ann', 'ann'])
    expect(await sentOn(kernel)).toBe(2)
  })

  test('happens again in the next turn of the thread, which is new work', async () => {
    const { scope, kernel } = await openGraphKernel()
    const { send } = sendTool()
    const graph = guardGraph(toolGraph(guardTools([send], scope, AMOUNTS), new MemorySaver()), scope)
    for (let turn = 0; turn < 3; turn++) await graph.invoke({ messages: [calling(['send', { to: 'ann' }])] }, THREAD)
    expect(await sentOn(kernel)).toBe(3)
  })

  test('that broke off is not tried again; the model is told that nobody knows', async () => {
    const { scope, kernel } = await openGraphKernel()
    const { send, sent } = sendTool(() => Promise.reject(new Error('connection lost')))
    const graph = guardGraph(toolGraph(guardTools([send, confirm], scope, AMOUNTS), new MemorySaver()), scope)
    await graph.invoke({ messages: [calling(['send', { to: 'ann' }], ['confirm', { what: 'x' }])] }, THREAD)
    const [answer] = toolAnswers(await graph.invoke(new Command({ resume: 'yes' }), THREAD))
    expect(answer).toMatch(/^error: This was begun before, and it is not known/)
    expect(sent).toEqual(['ann'])
    expect(await sentOn(kernel)).toBe(1)
  })

  test('that broke off is tried again when its tool is idempotent', async () => {
    const { scope } = await openGraphKernel()
    let calls = 0
    const { send, sent } = sendTool((to) => (++calls === 1 ? Promise.reject(new Error('connection lost')) : `sent to ${to}`))
    const guarded = guardTools([send, confirm], scope, { ...AMOUNTS, idempotent: ['send'] })
    const graph = guardGraph(toolGraph(guarded, new MemorySaver()), scope)
    await graph.invoke({ messages: [calling(['send', { to: 'ann' }], ['confirm', { what: 'x' }])] }, THREAD)
    const [answer] = toolAnswers(await graph.invoke(new Command({ resume: 'yes' }), THREAD))
    expect(answer).toBe('success: sent to ann')
    expect(sent).toHaveLength(2)
  })

  test('of a retry policy is the same effect: what ended is not repeated by the next attempt', async () => {
    const { scope, kernel } = await openGraphKernel()
    const { send, sent } = sendTool()
    const guarded = guardTools([send], scope, AMOUNTS)[0]
    let attempts = 0
    const graph = new StateGraph(Annotation.Root({ answer: Annotation<unknown>() }))
      .addNode(
        'work',
        async (_, config) => {
          const answer: unknown = await guarded.invoke({ to: 'ann' }, config)
          if (++attempts < 3) throw new Error('flaky')
          return { answer }
        },
        { retryPolicy: { maxAttempts: 3, initialInterval: 1, jitter: false, logWarning: false } },
      )
      .addEdge(START, 'work')
      .compile({ checkpointer: new MemorySaver() })
    expect(await guardGraph(graph, scope).invoke({}, THREAD)).toEqual({ answer: 'sent to ann' })
    expect([attempts, sent.length, await sentOn(kernel)]).toEqual([3, 1, 1])
  })

  test('of a graph without a checkpointer runs as often as it is asked for', async () => {
    const { scope, kernel } = await openGraphKernel()
    const { send } = sendTool()
    const graph = guardGraph(toolGraph(guardTools([send], scope, AMOUNTS)), scope)
    for (let turn = 0; turn < 2; turn++) await graph.invoke({ messages: [calling(['send', { to: 'ann' }])] }, THREAD)
    expect(await sentOn(kernel)).toBe(2)
    expect(await keys(kernel.store, 'receipt/')).toEqual([])
  })

  test.each([undefined, false] as const)('of a subgraph happens once (its checkpointer: %s)', async (checkpointer) => {
    const { scope, kernel } = await openGraphKernel()
    const { send, sent } = sendTool()
    const [guarded] = guardTools([send], scope, AMOUNTS)
    let attempts = 0
    const sub = new StateGraph(MessagesAnnotation)
      .addNode('first', new ToolNode([guarded]))
      .addNode('then', async () => {
        if (++attempts === 1) throw new Error('flaky')
        return {}
      })
      .addNode(
        'last',
        async (_, config) => {
          await guarded.invoke({ to: 'bob' }, config)
          if (++attempts === 3) throw new Error('flaky')
          return {}
        },
        { retryPolicy: { maxAttempts: 2, initialInterval: 1, jitter: false, logWarning: false } },
      )
      .addEdge(START, 'first')
      .addEdge('first', 'then')
      .addEdge('then', 'last')
      .compile(checkpointer === undefined ? {} : { checkpointer })
    const graph = new StateGraph(MessagesAnnotation).addNode('sub', sub).addEdge(START, 'sub').compile({ checkpointer: new MemorySaver() })
    const guardedGraph = guardGraph(graph, scope)
    await errorOf(() => guardedGraph.invoke({ messages: [calling(['send', { to: 'ann' }], ['send', { to: 'ann' }])] }, THREAD))
    const answers = toolAnswers(await guardedGraph.invoke(null, THREAD))
    expect([answers, sent]).toEqual([
      ['success: sent to ann', 'success: sent to ann'],
      ['ann', 'ann', 'bob'],
    ])
    expect(await sentOn(kernel)).toBe(3)
  })
})

describe('a result that is given again', () => {
  const twice = async (work: (to: string) => unknown, more: object = {}) => {
    const { scope } = await openGraphKernel()
    const sent: string[] = []
    const send = tool(
      async ({ to }) => {
        sent.push(to)
        return work(to)
      },
      { name: 'send', description: 'Sends.', schema: z.object({ to: z.string() }), ...more },
    )
    const graph = guardGraph(toolGraph(guardTools([send, confirm], scope, AMOUNTS), new MemorySaver()), scope)
    await graph.invoke({ messages: [calling(['send', { to: 'ann' }], ['confirm', { what: 'x' }])] }, THREAD)
    const { messages } = await graph.invoke(new Command({ resume: 'yes' }), THREAD)
    expect(sent).toHaveLength(1)
    return messages.find((message) => message.name === 'send') as ToolMessage | undefined
  }

  test('is the same message, with its artifact, its name and its status', async () => {
    const message = await twice(() => ['two ships', { ships: [1, 2] }], { responseFormat: 'content_and_artifact' })
    expect(message).toMatchObject({
      content: 'two ships',
      artifact: { ships: [1, 2] },
      status: 'success',
      tool_call_id: expect.stringMatching(/^call-/) as string,
    })
    const own = await twice(
      (to) => new ToolMessage({ content: `no ${to}`, status: 'error', name: 'send', tool_call_id: 'of-old', artifact: [to] }),
    )
    expect(own).toMatchObject({ content: 'no ann', status: 'error', artifact: ['ann'] })
    expect(ToolMessage.isInstance(own)).toBe(true)
    expect((await twice(() => ({ to: 'ann', at: 7 })))?.content).toBe('{"to":"ann","at":7}')
  })

  test('of 5 MB is not kept: the model is told that it was done', async () => {
    const message = await twice(() => 'x'.repeat(5_000_000))
    expect(message?.text).toMatch(/^This was done before, to its end\./)
  })

  test('is a command when it was one', async () => {
    const { scope } = await openGraphKernel()
    const jump = tool(
      async (_, config) =>
        new Command({
          goto: 'there',
          update: {
            messages: [new ToolMessage({ content: 'jumped', tool_call_id: (config as ToolRunnableConfig).toolCall!.id!, name: 'jump' })],
          },
        }),
      { name: 'jump', description: 'Jumps.', schema: z.object({}) },
    )
    const graph = new StateGraph(MessagesAnnotation)
      .addNode('tools', new ToolNode(guardTools([jump, confirm], scope)), { ends: ['there'] })
      .addNode('there', async () => ({ messages: [new AIMessage('there')] }))
      .addEdge(START, 'tools')
      .compile({ checkpointer: new MemorySaver() })
    const guarded = guardGraph(graph, scope)
    await guarded.invoke({ messages: [calling(['jump', {}], ['confirm', { what: 'x' }])] }, THREAD)
    const { messages } = await guarded.invoke(new Command({ resume: 'yes' }), THREAD)
    expect(messages.map((message) => message.text)).toEqual(['', 'jumped', 'confirmed x: yes', 'there'])
  })
})

describe('money of a graph that is resumed', () => {
  const chatting = (scope: Scope, chat: ReturnType<typeof chatModelOf>, saver: MemorySaver) =>
    guardGraph(
      new StateGraph(MessagesAnnotation)
        .addNode('model', async ({ messages }, config) => {
          const answer = await chat.invoke(messages, config)
          interrupt('go on?')
          return { messages: [answer] }
        })
        .addEdge(START, 'model')
        .compile({ checkpointer: saver }),
      scope,
    )

  test('is spent again by a model call that is made again, since the provider bills it again', () =>
    onBench(
      {},
      async (bench) => {
        const chat = chatModelOf(
          { ...bench, guarded: true, scope: bench.scope, baseURL: bench.provider.baseURL, maxRetries: 0, drainMs: 1_000 },
          { prompt: '' },
        )
        const graph = chatting(bench.scope, chat, new MemorySaver())
        await graph.invoke({ messages: [{ role: 'user', content: 'hello' }] }, THREAD)
        await graph.invoke(new Command({ resume: 'yes' }), THREAD)
        expect(bench.provider.bill().billed).toBe(2)
        expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
      },
      LANGGRAPH,
    ))

  test('does not come back by updateState, nor by going back in time; what runs again is paid again', async () => {
    const { scope, kernel } = await openGraphKernel()
    const { send, sent } = sendTool()
    const graph = guardGraph(toolGraph(guardTools([send], scope, AMOUNTS), new MemorySaver()), scope)
    await graph.invoke({ messages: [calling(['send', { to: 'ann' }])] }, THREAD)
    await graph.updateState(THREAD, { messages: [calling(['send', { to: 'ann' }])] }, START)
    expect(await sentOn(kernel)).toBe(1)
    const past = []
    for await (const state of graph.getStateHistory(THREAD)) past.push(state)
    await graph.invoke(null, past.findLast(({ next }) => next.includes('tools'))!.config)
    expect([sent.length, await sentOn(kernel)]).toEqual([2, 2])
  })
})

describe('what names a task', () => {
  test('is the same on resume, when run again and in each attempt; it is another in the next turn and in a fork', async () => {
    const names: (string | undefined)[] = []
    let attempts = 0
    const graph = new StateGraph(MessagesAnnotation)
      .addNode(
        'a',
        async (_, config) => {
          names.push(executionOf(config).name)
          if (++attempts === 1) throw new Error('flaky')
          interrupt('go on?')
          return {}
        },
        { retryPolicy: { maxAttempts: 2, initialInterval: 1, jitter: false, logWarning: false } },
      )
      .addEdge(START, 'a')
      .addEdge('a', END)
      .compile({ checkpointer: new MemorySaver() })
    await graph.invoke({ messages: [] }, THREAD)
    await graph.invoke(null, THREAD)
    await graph.invoke(new Command({ resume: 'yes' }), THREAD)
    expect([names.length, new Set(names).size]).toEqual([4, 1])
    const past = []
    for await (const state of graph.getStateHistory(THREAD)) past.push(state)
    await graph.invoke(null, past.findLast(({ next }) => next.includes('a'))!.config)
    await graph.invoke({ messages: [] }, THREAD)
    expect(new Set(names).size).toBe(3)
  })

  test('is nothing in a graph that cannot be resumed', async () => {
    const names: (string | undefined)[] = []
    const graph = new StateGraph(MessagesAnnotation)
      .addNode('a', async (_, config) => {
        names.push(executionOf(config).name)
        return {}
      })
      .addEdge(START, 'a')
      .compile()
    expect(await errorOf(() => graph.invoke({ messages: [] }, THREAD))).toBeUndefined()
    expect([names, executionOf().name]).toEqual([[undefined], undefined])
  })
})
