// Tools that hand off, by hand and found by `guardGraph`: what they move is closed whatever becomes of the command, and
// whoever starts without them starts under the same rules.

import { StructuredTool, tool } from '@langchain/core/tools'
import { Annotation, Command, END, MemorySaver, MessagesAnnotation, START, StateGraph } from '@langchain/langgraph'
import { ToolNode } from '@langchain/langgraph/prebuilt'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardGraph, guardHandoffTool } from '../../integrations/langgraph.ts'
import type { Kernel } from '../../src/kernel/open-kernel.ts'
import { ambient } from '../../src/lib/ambient.ts'
import { errorOf, until } from '../../src/testing/integration-bench.ts'
import type { Scope } from '../../src/waist/scope.ts'
import { calling, openGraphKernel, sentOn, toolGraph } from './langgraph-bench.ts'

const State = Annotation.Root({
  ...MessagesAnnotation.spec,
  done: Annotation<string[]>({ reducer: (a, b) => [...a, ...b], default: () => [] }),
})
const FREE = { budget: { sends: 4 } }
/** Where every way to run a graph ends. */
const STREAM = '_streamIterator'
interface Streaming {
  [STREAM](...args: unknown[]): AsyncGenerator
}
const mine = (): Scope => ambient().scope as Scope
const runOf = async (kernel: Kernel) => (await kernel.budgets('acme/run')).find(({ budget }) => budget === 'acme/run')

describe('a handoff tool', () => {
  const jump = () =>
    tool(async () => new Command({ goto: 'bob', graph: Command.PARENT }), {
      name: 'transfer_to_bob',
      description: 'x',
      schema: z.object({}),
    })

  test('whose node never starts gives back what it moved when the graph ends', async () => {
    const { scope, kernel } = await openGraphKernel()
    const guarded = guardHandoffTool(jump(), undefined, { to: 'bob', ...FREE })
    const graph = new StateGraph(State)
      .addNode(
        'alice',
        async (_, config) => {
          await guarded.invoke({}, config)
          expect(await runOf(kernel)).toMatchObject({ kids: 4 })
          return { done: ['changed my mind'] }
        },
        { ends: ['bob'] },
      )
      .addNode('bob', async () => ({}))
      .addEdge(START, 'alice')
      .addEdge('alice', END)
      .compile()
    await guardGraph(graph, scope, { handoffs: { bob: FREE } }).invoke({})
    expect(await runOf(kernel)).toMatchObject({ kids: 0, free: 10 })
  })

  test('still at work when its graph ends moves nothing that stays: what it made is closed with it', async () => {
    const { scope, kernel } = await openGraphKernel()
    const gone = { asked: false, release: () => {} }
    // A class of its own: LangChain leaves a `tool(…)` when the signal is aborted, and this one is awaited to its end.
    class Slow extends StructuredTool {
      name = 'transfer_to_bob'
      description = 'x'
      schema = z.object({})
      protected async _call(): Promise<Command> {
        gone.asked = true
        await new Promise<void>((resolve) => (gone.release = resolve))
        return new Command({ goto: 'bob' })
      }
    }
    const graph = new StateGraph(State)
      .addNode('tools', new ToolNode([new Slow()]), { ends: ['bob'] })
      .addNode('bob', async () => ({}))
      .addEdge(START, 'tools')
      .compile()
    const leaver = new AbortController()
    const guarded = guardGraph(graph, scope, { handoffs: { bob: FREE } })
    const left = errorOf(() => guarded.invoke({ messages: [calling(['transfer_to_bob', {}])] }, { signal: leaver.signal }))
    await until('the tool is at work', () => gone.asked)
    leaver.abort()
    await left
    gone.release()
    await until('it is closed', async () => (await runOf(kernel))?.kids === 0)
    expect(await runOf(kernel)).toMatchObject({ free: 10 })
  })

  test('gives back what it moved also when the graph fails to end', async () => {
    const { scope, kernel } = await openGraphKernel()
    const toBob = guardHandoffTool(jump(), undefined, { to: 'bob', ...FREE })
    const graph = new StateGraph(State)
      .addNode('alice', async (_, config) => void (await toBob.invoke({}, config)), { ends: ['bob'] })
      .addNode('bob', async () => ({}))
      .addNode('carol', async () => ({}))
      .addEdge(START, 'alice')
      .addEdge('alice', 'carol')
      .compile()
    class Failing extends (graph.constructor as new (fields: object) => Streaming) {
      override async *[STREAM](...args: unknown[]): AsyncGenerator {
        try {
          yield* super[STREAM](...args)
        } finally {
          // oxlint-disable-next-line no-unsafe-finally
          throw new Error('no end')
        }
      }
    }
    Object.setPrototypeOf(graph, Failing.prototype)
    // What `stream` reads from, since a stream reads ahead, and may be at its end by the time that it is left.
    const guarded = guardGraph(graph, scope, { handoffs: { bob: FREE } }) as unknown as Streaming
    const steps = guarded[STREAM]({}, { streamMode: 'updates' })
    await steps.next()
    expect(await runOf(kernel)).toMatchObject({ kids: 4 })
    expect(String(await errorOf(() => steps.return(undefined)))).toBe('Error: no end')
    expect(await runOf(kernel)).toMatchObject({ kids: 0, free: 10 })
  })

  test('by hand is for agents that a guarded graph around it knows, and has no rules of its own', async () => {
    const { scope, kernel } = await openGraphKernel()
    const toBob = guardHandoffTool(jump(), undefined, { to: 'bob', ...FREE })
    // A tool node tells the model of what a tool throws, and goes on; the caller is told all the same.
    const guarded = guardGraph(toolGraph([toBob]), scope, { handoffs: { tools: FREE } })
    const error = await errorOf(() => guarded.invoke({ messages: [calling(['transfer_to_bob', {}])] }))
    expect(error).toBeInstanceOf(TypeError)
    expect(String(error)).toContain('add `handoffs: { "bob": { budget: … } }` to guardGraph')
    expect(await runOf(kernel)).toMatchObject({ kids: 0, free: 10 })
    const rules = { to: 'bob', rules: [{ effect: 'allow', tool: '*' }] } as const
    expect(() => guardHandoffTool(jump(), undefined, rules)).toThrow('put them in the `handoffs` of guardGraph')
  })

  test.each(['retried', 'resumed'])('hands over under the rules of the graph also when the node of its agent is %s', async (how) => {
    const { scope } = await openGraphKernel({ rules: [{ effect: 'allow', tool: '*' }] })
    const seen: unknown[] = []
    const toBob = tool(async () => new Command({ goto: 'bob' }), { name: 'ask_bob', description: 'x', schema: z.object({}) })
    const graph = new StateGraph(State)
      .addNode('tools', new ToolNode([guardHandoffTool(toBob, undefined, { to: 'bob', budget: { sends: 2 } })]), { ends: ['bob'] })
      .addNode(
        'bob',
        async () => {
          seen.push([mine().agent, (await mine().decide({ kind: 'tool', resource: 'wire' }))?.code])
          if (how === 'retried' && seen.length === 1) throw new Error('flaky')
          return {}
        },
        { retryPolicy: { maxAttempts: 2, initialInterval: 1, logWarning: false } },
      )
      .addEdge(START, 'tools')
      .compile({ checkpointer: new MemorySaver(), interruptBefore: how === 'resumed' ? ['bob'] : [] })
    const rules = [{ effect: 'deny', tool: 'wire' }] as const
    const guarded = guardGraph(graph, scope, { handoffs: { bob: { ...FREE, rules } } })
    const config = { configurable: { thread_id: 't' } }
    await guarded.invoke({ messages: [calling(['ask_bob', {}])] }, config)
    if (how === 'resumed') await guarded.invoke(null, config)
    const bob = ['bob', 'ERR_PERMISSION_DENIED']
    expect(seen).toEqual(how === 'retried' ? [bob, bob] : [bob])
  })

  test('outside of a guarded graph asks the gates, and moves nothing', async () => {
    const { scope, kernel } = await openGraphKernel({
      gates: [
        { name: 'no-bob', decide: async ({ kind }) => (kind === 'handoff' ? { verdict: 'deny', reason: 'no' } : { verdict: 'allow' }) },
      ],
    })
    expect(await guardHandoffTool(jump(), scope, { to: 'bob', ...FREE }).invoke({})).toMatch(/^You may not do this/)
    const { scope: free } = await openGraphKernel()
    expect(await guardHandoffTool(jump(), free, { to: 'bob', ...FREE }).invoke({})).toBeInstanceOf(Command)
    expect(await sentOn(kernel)).toBe(0)
  })
})
