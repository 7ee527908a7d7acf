// Handoffs in a run of a graph: what tools move comes back as soon as no node will start on it, what would hand off to
// nobody is an error, and nothing starts for a caller who has left.

import { RunnableLambda } from '@langchain/core/runnables'
import { tool, type StructuredToolInterface } from '@langchain/core/tools'
import { Annotation, Command, MemorySaver, MessagesAnnotation, ParentCommand, START, StateGraph } from '@langchain/langgraph'
import { ToolNode } from '@langchain/langgraph/prebuilt'
import { createHandoffTool, createSwarm } from '@langchain/langgraph-swarm'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardGraph, guardHandoffTool, guardTools } from '../../integrations/langgraph.ts'
import type { Kernel } from '../../src/kernel/open-kernel.ts'
import { ambient } from '../../src/lib/ambient.ts'
import { errorOf, until } from '../../src/testing/integration-bench.ts'
import type { Scope } from '../../src/waist/scope.ts'
import { calling, openGraphKernel, sentOn, toolAnswers } from './langgraph-bench.ts'
import { THREAD, sendTool } from './langgraph-cases.ts'

const State = Annotation.Root({
  ...MessagesAnnotation.spec,
  done: Annotation<string[]>({ reducer: (a, b) => [...a, ...b], default: () => [] }),
})
const FOUR = { budget: { sends: 4 } }
const BOB = { handoffs: { bob: FOUR } }
const FLAKY = { maxAttempts: 3, initialInterval: 1, jitter: false, logWarning: false }
const mine = (): Scope => ambient().scope as Scope
const runOf = async (kernel: Kernel) => (await kernel.budgets('acme/run')).find(({ budget }) => budget === 'acme/run')!
const jump = () => tool(async () => new Command({ goto: 'bob' }), { name: 'transfer_to_bob', description: 'x', schema: z.object({}) })

describe('what a handoff tool moved comes back', () => {
  /** A node that gets a handoff made in each attempt and then fails, but for the third. */
  const flaky = (attempt: (config: object) => Promise<object>, where: 'in the graph' | 'in a graph that is a node') => {
    let attempts = 0
    const node = async (_: unknown, config: object) => {
      const command = await attempt(config)
      if (++attempts < 3) throw new Error('flaky')
      return command
    }
    const plain = new StateGraph(State)
      .addNode('alice', node, { retryPolicy: FLAKY, ...(where === 'in the graph' ? { ends: ['bob'] } : {}) })
      .addNode('bob', async () => ({ done: ['bob'] }))
      .addEdge(START, 'alice')
    if (where === 'in the graph') return plain
    const team = new StateGraph(State).addNode('alice', node, { retryPolicy: FLAKY }).addEdge(START, 'alice').compile()
    return new StateGraph(State)
      .addNode('team', team, { ends: ['bob'] })
      .addNode('bob', async () => ({ done: ['bob'] }))
      .addEdge(START, 'team')
  }

  test.each(['in the graph', 'in a graph that is a node'] as const)(
    'when its task fails, so that each attempt finds it: %s',
    async (where) => {
      const { scope, kernel } = await openGraphKernel()
      const graph = where === 'in the graph' ? undefined : Command.PARENT
      const raw = tool(async () => new Command({ goto: 'bob', ...(graph === undefined ? {} : { graph }) }), {
        name: 'transfer_to_bob',
        description: 'x',
        schema: z.object({}),
      })
      const toBob = guardHandoffTool(raw, undefined, { to: 'bob' })
      const kids: unknown[] = []
      const attempt = async (config: object): Promise<object> => {
        const command = (await toBob.invoke({}, config)) as unknown as object
        kids.push((await runOf(kernel)).kids)
        return command
      }
      const { done } = await guardGraph(flaky(attempt, where).compile(), scope, BOB).invoke({})
      // Three at once would be twelve, of ten.
      expect([done, kids]).toEqual([['bob'], [4, 4, 4]])
      expect(await runOf(kernel)).toMatchObject({ kids: 0, free: 10 })
    },
  )

  test('when its attempt was left by a time limit, also what it moves after that', async () => {
    const { scope, kernel } = await openGraphKernel()
    const gates: (() => void)[] = []
    const slow = guardHandoffTool(
      tool(async () => new Promise<Command>((resolve) => gates.push(() => resolve(new Command({ goto: 'bob' })))), {
        name: 'ask_bob',
        description: 'x',
        schema: z.object({}),
      }),
      undefined,
      { to: 'bob' },
    )
    let attempts = 0
    const graph = new StateGraph(State)
      .addNode(
        'alice',
        async () => {
          if (++attempts === 2) return { done: ['alone'] }
          // Without its config, so that it is awaited to its end whatever the signal says.
          return await slow.invoke({}, { signal: new AbortController().signal })
        },
        { ends: ['bob'], timeout: 300, retryPolicy: { ...FLAKY, retryOn: () => true } } as object,
      )
      .addNode('bob', async () => ({}))
      .addNode('carol', async () => {
        gates[0]!()
        await until('it is back', async () => (await runOf(kernel)).kids === 0)
        return { done: ['carol'] }
      })
      .addEdge(START, 'alice')
      .addEdge('alice', 'carol')
      .compile()
    expect((await guardGraph(graph as never as ReturnType<typeof two>, scope, BOB).invoke({})).done).toEqual(['alone', 'carol'])
  })

  /** A node that asks for `bob` and may think better of it, and one after it. */
  const two = (asks: (config: object) => Promise<object>, then: () => Promise<void>) =>
    new StateGraph(State)
      .addNode('alice', async (_, config) => asks(config), { ends: ['bob'] })
      .addNode('bob', async () => {
        await then()
        return { done: ['bob'] }
      })
      .addNode('carol', async () => {
        await then()
        return { done: ['carol'] }
      })
      .addEdge(START, 'alice')
      .addEdge('alice', 'carol')
      .compile()

  test('when the next step has begun without its node', async () => {
    const { scope, kernel } = await openGraphKernel()
    const toBob = guardHandoffTool(jump(), undefined, { to: 'bob' })
    const graph = two(
      async (config) => {
        await toBob.invoke({}, config)
        expect(await runOf(kernel)).toMatchObject({ kids: 4 })
        return { done: ['changed my mind'] }
      },
      () => until('it is back', async () => (await runOf(kernel)).kids === 0),
    )
    expect((await guardGraph(graph, scope, BOB).invoke({})).done).toEqual(['changed my mind', 'carol'])
  })

  test('when its node has started once, and was asked for twice in one message', async () => {
    const { scope, kernel } = await openGraphKernel()
    const agent = (name: string, node: object) =>
      new StateGraph(MessagesAnnotation)
        .addNode('in', node as never)
        .addEdge(START, 'in')
        .compile({ name })
    const bob = agent('bob', async () => {
      await until('the second one is back', async () => (await runOf(kernel)).kids === 4)
      return {}
    })
    const alice = agent('alice', new ToolNode([createHandoffTool({ agentName: 'bob' })]))
    const swarm = createSwarm({ agents: [alice, bob] as never[], defaultActiveAgent: 'alice' }).compile()
    const asking = calling(['transfer_to_bob', {}], ['transfer_to_bob', {}])
    await guardGraph(swarm, scope, BOB).invoke({ messages: [asking] })
    expect(await runOf(kernel)).toMatchObject({ kids: 0, free: 10 })
  })

  test.each(['returned', 'thrown'])('but not when a graph that is a node ends with the command for which it was moved: %s', async (how) => {
    const { scope, kernel } = await openGraphKernel()
    const command = async () => {
      const toParent = new Command({ goto: 'bob', graph: Command.PARENT })
      if (how === 'thrown') throw new ParentCommand(toParent)
      return toParent
    }
    const raw = tool(command, { name: 'to', description: 'x', schema: z.object({}) })
    const toBob = guardHandoffTool(raw, undefined, { to: 'bob', budget: { sends: 3 } })
    const team = new StateGraph(State)
      .addNode('alice', async (_, config) => (await toBob.invoke({}, config)) as unknown as object)
      .addEdge(START, 'alice')
      .compile()
    const graph = new StateGraph(State)
      .addNode('team', team, { ends: ['bob'] })
      .addNode('bob', async () => ({ done: [String((await runOf(kernel)).kids)] }))
      .addEdge(START, 'team')
      .compile()
    // The three of the tool, rather than the four of the graph.
    expect((await guardGraph(graph, scope, BOB).invoke({})).done).toEqual(['3'])
  })

  test('but not before the nodes of a step that run one after the other have started', async () => {
    const { scope } = await openGraphKernel()
    const toBob = guardHandoffTool(jump(), undefined, { to: 'bob', budget: { sends: 3 } })
    const limits: unknown[] = []
    const graph = new StateGraph(State)
      .addNode('alice', async (_, config) => (await toBob.invoke({}, config)) as unknown as object, { ends: ['bob'] })
      .addNode('bob', async () => {
        limits.push((await errorOf(() => mine().begin({ kind: 'custom', resource: 's', worst: { sends: 4 } })))?.constructor.name)
        return {}
      })
      .addNode('aaa', async () => new Promise<object>((resolve) => setTimeout(resolve, 20, {})))
      .addNode('bbb', async () => new Promise<object>((resolve) => setTimeout(resolve, 40, {})))
      .addEdge(START, 'alice')
      .addEdge('alice', 'aaa')
      .addEdge('alice', 'bbb')
      .compile()
    await guardGraph(graph, scope, BOB).invoke({}, { maxConcurrency: 2 })
    // It started on the three of its tool, rather than on the four of the graph.
    expect(limits).toEqual(['Refusal'])
  })
})

describe('`handoffs`', () => {
  const graph = () =>
    new StateGraph(State)
      .addNode('bob', async () => ({}))
      .addEdge(START, 'bob')
      .compile()

  test('of what is no node of the graph is a TypeError: misspelt, or in a graph that is a node', async () => {
    const { scope } = await openGraphKernel()
    const around = new StateGraph(State).addNode('team', graph()).addEdge(START, 'team').compile()
    expect(() => guardGraph(graph(), scope, { handoffs: { bobb: FOUR } })).toThrow('this graph has no node `bobb`. It has `bob`;')
    expect(() => guardGraph(around, scope, BOB)).toThrow(TypeError)
    expect(() => guardGraph(graph(), scope, { handoffs: { constructor: FOUR } })).toThrow(TypeError)
  })

  test('to the agent that hands off is a TypeError, for a given scope at once', async () => {
    const { kernel } = await openGraphKernel()
    const scope = kernel.scope({ agent: 'bob', task: 't', budget: 'acme/run' })
    expect(() => guardGraph(graph(), scope, BOB)).toThrow('`bob` is the agent that hands off')
    expect(String(await errorOf(() => guardGraph(graph(), () => scope, BOB).invoke({})))).toMatch(
      /^TypeError: .*is the agent that hands off/,
    )
  })
})

describe('a handoff tool', () => {
  test.each([
    ['found by guardGraph', 2, { started: ['bob', 2], said: [] }],
    ['guarded by hand', 2, { started: ['bob', 2], said: [] }],
    ['found by guardGraph', 99, { started: [], said: [expect.stringMatching(/^error: The budget/)] }],
    ['guarded by hand', 99, { started: [], said: [expect.stringMatching(/^error: The budget/)] }],
  ])('that is a runnable moves money, and says no when it does not fit: %s, %i', async (by, sends, expected) => {
    const { scope, kernel } = await openGraphKernel()
    const raw = RunnableLambda.from(async () => new Command({ goto: 'bob' })).asTool({
      name: 'transfer_to_bob',
      description: 'x',
      schema: z.object({}),
    })
    const toBob = by === 'found by guardGraph' ? raw : guardHandoffTool(raw, undefined, { to: 'bob', budget: { sends } })
    const started: unknown[] = []
    const graph = new StateGraph(State)
      .addNode('tools', new ToolNode([toBob]), { ends: ['bob'] })
      .addNode('bob', async () => {
        started.push(mine().agent, (await runOf(kernel)).kids)
        return {}
      })
      .addEdge(START, 'tools')
      .compile()
    const guarded = guardGraph(graph, scope, { handoffs: { bob: { budget: { sends } } } })
    const state = await guarded.invoke({ messages: [calling(['transfer_to_bob', {}])] })
    expect({ started, said: toolAnswers(state) }).toEqual(expected)
  })

  test('that is no tool is a TypeError', () => {
    for (const wrong of [{}, { type: 'web_search' }, { name: 'x' }])
      expect(() => guardHandoffTool(wrong, undefined, { to: 'bob' })).toThrow('Expected a tool that hands to `bob`')
  })

  test('is found in a tool node of a class of its own, whatever its constructor takes, and that class goes on working', async () => {
    const { scope, kernel } = await openGraphKernel()
    class Own extends ToolNode {
      seen = 0
      constructor({ tools }: { tools: StructuredToolInterface[] }) {
        super(tools, { handleToolErrors: false })
      }
      protected override async runTool(...args: Parameters<ToolNode['runTool']>): ReturnType<ToolNode['runTool']> {
        this.seen++
        return super.runTool(...args)
      }
    }
    const graph = new StateGraph(State)
      .addNode('tools', new Own({ tools: [jump()] }), { ends: ['bob'] })
      .addNode('bob', async () => ({ done: [`${mine().agent} with ${(await runOf(kernel)).kids}`] }))
      .addEdge(START, 'tools')
      .compile()
    expect((await guardGraph(graph, scope, BOB).invoke({ messages: [calling(['transfer_to_bob', {}])] })).done).toEqual(['bob with 4'])
  })
})

describe('a caller who leaves while it waits for money', () => {
  test.each(['a node on a handoff', 'a handoff tool', 'a tool', 'a tool under a receipt'])('does not start %s by that', async (what) => {
    const { scope, kernel } = await openGraphKernel({ waitMs: 5_000 })
    const hold = await scope.begin({ kind: 'custom', resource: 's', worst: { sends: 8 } })
    const leaver = new AbortController()
    let ran = 0
    const run = async (): Promise<string> => `ran ${++ran}`
    const { send } = sendTool(run)
    const [guarded] = guardTools([send], scope, { amounts: { send: { sends: 4 } } })
    const toBob = guardHandoffTool(tool(run, { name: 'ask_bob', description: 'x', schema: z.object({}) }), undefined, { to: 'bob' })
    const node = async (_: unknown, config: object) => {
      if (what === 'a handoff tool') await toBob.invoke({}, config)
      else if (what !== 'a node on a handoff') await guarded.invoke({ to: 'ann' }, config)
      else await run()
      return {}
    }
    const first = what === 'a node on a handoff' ? 'bob' : 'alice'
    const graph = new StateGraph(State)
      .addNode(first, node, { ends: ['alice', 'bob'] })
      .addNode(first === 'bob' ? 'alice' : 'bob', async () => ({}))
      .addEdge(START, first as never)
      .compile(what === 'a tool under a receipt' ? { checkpointer: new MemorySaver() } : {})
    const left = errorOf(() => guardGraph(graph, scope, BOB).invoke({}, { ...THREAD, signal: leaver.signal }))
    await until('it waits', () => kernel.auditLines.some((line) => line.includes('"intent"') && !line.includes('"resource":"s"')))
    leaver.abort()
    expect(await left).toBeInstanceOf(Error)
    // It leaves the line, rather than find out when it is its turn.
    await until('it has left', () => kernel.auditLines.some((line) => line.includes('it was never taken')))
    await hold.release('over')
    await until('all is back', async () => (await runOf(kernel)).free === 10)
    expect([ran, await sentOn(kernel)]).toEqual([0, 0])
  })
})

test('a scope that was given to a graph inside of another one is passed over, and the operator is told so once', async () => {
  const events: { readonly type: string; readonly message: string }[] = []
  const budgets = { acme: { sends: 100 }, 'acme/run': { sends: 10 }, 'acme/other': { sends: 10 } }
  const { scope, kernel } = await openGraphKernel({ budgets, onEvent: (event) => events.push(event) })
  const other = kernel.scope({ agent: 'other', task: 't', budget: 'acme/other' })
  const inner = (source: Scope) =>
    guardGraph(
      new StateGraph(State)
        .addNode('x', async () => ({ done: [mine().budget] }))
        .addEdge(START, 'x')
        .compile(),
      source,
    )
  const [same, another] = [inner(scope), inner(other)]
  const outer = new StateGraph(State)
    .addNode('o', async () => ({ done: [...(await same.invoke({})).done, ...(await another.invoke({})).done] }))
    .addEdge(START, 'o')
    .compile()
  for (let turn = 0; turn < 2; turn++) expect((await guardGraph(outer, scope).invoke({})).done).toEqual(['acme/run', 'acme/run'])
  expect(events).toEqual([
    { type: 'escape', message: expect.stringContaining('was given `other` on `acme/other`, and runs as `clerk`') as string },
  ])
})
