// Refusals in graphs: whatever LangGraph does with errors, a refusal reaches the caller, is not repeated, and what
// runs beside it settles.

import { Annotation, Command, END, GraphBubbleUp, MemorySaver, START, Send, StateGraph } from '@langchain/langgraph'
import { describe, expect, test } from 'vitest'
import { findRefusal, guardGraph } from '../../integrations/langgraph.ts'
import { Refusal } from '../../src/lib/errors.ts'
import { errorOf } from '../../src/testing/integration-bench.ts'
import type { Scope } from '../../src/waist/scope.ts'
import { collect } from './adapters.ts'
import { openGraphKernel, sentOn } from './langgraph-bench.ts'

const State = Annotation.Root({
  sum: Annotation<number>({ reducer: (left, right) => left + right, default: () => 0 }),
  handled: Annotation<string>(),
})

/** A node that sends, and counts how often it began and how often it was let. */
function sender(scope: Scope, sends = 1, work: () => Promise<void> = async () => {}) {
  const count = { begun: 0, sent: 0 }
  const node = async (): Promise<{ sum: number }> => {
    count.begun++
    await scope.run({ kind: 'custom', resource: 'send', worst: { sends } }, async () => {
      count.sent++
      await work()
    })
    return { sum: 1 }
  }
  return { node, count }
}

const IMPATIENT = { maxAttempts: 3, initialInterval: 1, jitter: false, logWarning: false }

/** The refusal that a call ends with. */
async function refusalOf(call: () => Promise<unknown>): Promise<Refusal> {
  const refusal = findRefusal(await errorOf(call))
  expect(refusal).toBeInstanceOf(Refusal)
  return refusal!
}

describe('a retry policy', () => {
  test.each<[string, object]>([
    ['of the defaults', IMPATIENT],
    ['that retries everything', { ...IMPATIENT, retryOn: () => true }],
  ])('%s does not retry a refusal, also one that is wrapped, and its caller gets the refusal itself', async (_, retryPolicy) => {
    const { scope } = await openGraphKernel()
    const { node, count } = sender(scope, 11)
    const wrapping = () => node().catch((cause: unknown) => Promise.reject(new Error('wrapped', { cause })))
    for (const refused of [node, wrapping]) {
      count.begun = 0
      const graph = new StateGraph(State).addNode('a', refused, { retryPolicy }).addEdge(START, 'a').addEdge('a', END).compile()
      expect(await errorOf(() => guardGraph(graph, scope).invoke({}))).toBeInstanceOf(Refusal)
      expect(count).toEqual({ begun: 1, sent: 0 })
    }
  })

  test('still retries everything else, and each attempt is held', async () => {
    const { scope, kernel } = await openGraphKernel()
    let attempts = 0
    const { node } = sender(scope, 1, async () => {
      if (++attempts < 3) throw new Error('flaky')
    })
    const graph = new StateGraph(State)
      .addNode('a', node, { retryPolicy: { ...IMPATIENT, retryOn: (error: Error) => error.message === 'flaky' } })
      .addEdge(START, 'a')
      .addEdge('a', END)
      .compile()
    expect(await guardGraph(graph, scope).invoke({})).toEqual({ sum: 1 })
    expect(await sentOn(kernel)).toBe(3)
  })

  test('set for all nodes does not retry a refusal either', async () => {
    const { scope } = await openGraphKernel()
    const { node, count } = sender(scope, 11)
    const graph = new StateGraph(State).addNode('a', node).addEdge(START, 'a').addEdge('a', END)
    graph.setNodeDefaults({ retryPolicy: { ...IMPATIENT, retryOn: () => true } })
    await refusalOf(() => guardGraph(graph.compile(), scope).invoke({}))
    expect(count.begun).toBe(1)
  })
})

describe('an error handler', () => {
  const handled: string[] = []
  const errorHandler = (_: unknown, { error }: { error: Error }) => {
    handled.push(error.message)
    return { handled: error.message }
  }
  const build = (node: () => Promise<{ sum: number }>, byDefault: boolean, checkpointer?: MemorySaver) => {
    handled.length = 0
    const graph = byDefault ? new StateGraph(State).addNode('a', node) : new StateGraph(State).addNode('a', node, { errorHandler })
    if (byDefault) graph.setNodeDefaults({ errorHandler })
    return graph
      .addEdge(START, 'a')
      .addEdge('a', END)
      .compile(checkpointer === undefined ? {} : { checkpointer })
  }

  test.each([false, true])('does not swallow a refusal (for all nodes: %s)', async (byDefault) => {
    const { scope } = await openGraphKernel()
    const { node } = sender(scope, 11)
    expect(await build(node, byDefault).invoke({})).toHaveProperty('handled')
    expect(await errorOf(() => guardGraph(build(node, byDefault), scope).invoke({}))).toBeInstanceOf(Refusal)
    expect(handled).toEqual([])
  })

  test('handles every other error, as before', async () => {
    const { scope } = await openGraphKernel()
    const { node } = sender(scope, 1, () => Promise.reject(new Error('broken')))
    expect(await guardGraph(build(node, false), scope).invoke({})).toEqual({ sum: 0, handled: 'broken' })
  })

  test('does not swallow it when the graph is resumed, either: its node runs again', async () => {
    const { scope } = await openGraphKernel()
    let fits = false
    const node = async () => {
      await scope.run({ kind: 'custom', resource: 'send', worst: { sends: fits ? 1 : 11 } }, async () => {})
      return { sum: 5 }
    }
    const graph = guardGraph(build(node, false, new MemorySaver()), scope)
    const config = { configurable: { thread_id: 't' } }
    await refusalOf(() => graph.invoke({}, config))
    await refusalOf(() => graph.invoke(null, config))
    fits = true
    expect(await graph.invoke(null, config)).toEqual({ sum: 5 })
    expect(handled).toEqual([])
  })

  test('handles an error of somebody else’s that is named like a refusal, also when the graph is resumed', async () => {
    const { scope } = await openGraphKernel()
    class Refusal extends Error {
      override name = 'Refusal'
    }
    let runs = 0
    const graph = (isBroken: () => boolean, checkpointer?: MemorySaver) =>
      new StateGraph(State)
        .addNode('a', () => (runs++, Promise.reject(new Refusal('the model refused'))), {
          errorHandler: (_: unknown, { error }: { error: Error }) => {
            if (isBroken()) throw new Error('no disk')
            return { handled: error.message }
          },
        })
        .addEdge(START, 'a')
        .compile(checkpointer === undefined ? {} : { checkpointer })
    const handled = { sum: 0, handled: 'the model refused' }
    expect(
      await guardGraph(
        graph(() => false),
        scope,
      ).invoke({}, { recursionLimit: 5 }),
    ).toEqual(handled)
    let broken = true
    const resumed = guardGraph(
      graph(() => broken, new MemorySaver()),
      scope,
    )
    const config = { configurable: { thread_id: 't' }, recursionLimit: 5 }
    expect(String(await errorOf(() => resumed.invoke({}, config)))).toBe('Error: no disk')
    broken = false
    expect(await resumed.invoke(null, config)).toEqual(handled)
    // Each node once: the error is what it was, and its handler is all that was missing.
    expect(runs).toBe(2)
  })
})

describe('parallel branches', () => {
  test('of which one is refused: the others settle, their signal is aborted, and nothing stays held', async () => {
    const { scope, kernel } = await openGraphKernel()
    let signal: AbortSignal | undefined
    const started = Promise.withResolvers<void>()
    const slow = async (_: unknown, config: { signal?: AbortSignal }) => {
      signal = config.signal
      const waits = new Promise<void>((resolve) => config.signal?.addEventListener('abort', () => resolve()))
      await scope.run({ kind: 'custom', resource: 'send', worst: { sends: 2 } }, () => {
        started.resolve()
        return waits
      })
      return { sum: 1 }
    }
    const refused = async () => {
      await started.promise
      return sender(scope, 11).node()
    }
    const graph = new StateGraph(State)
      .addNode('refused', refused)
      .addNode('slow', slow)
      .addEdge(START, 'slow')
      .addEdge(START, 'refused')
      .addEdge('refused', END)
      .addEdge('slow', END)
      .compile()
    await refusalOf(() => guardGraph(graph, scope).invoke({}))
    expect(signal?.aborted).toBe(true)
    expect(await sentOn(kernel)).toBe(2)
  })

  test('that are all refused at once are found in what the graph throws', async () => {
    const { scope } = await openGraphKernel()
    const graph = new StateGraph(State)
      .addNode('a', sender(scope, 11).node)
      .addNode('b', sender(scope, 12).node)
      .addEdge(START, 'a')
      .addEdge(START, 'b')
      .compile()
    expect((await refusalOf(() => guardGraph(graph, scope).invoke({}))).code).toBe('ERR_BUDGET_EXCEEDED')
  })

  test('of a fan-out of 1,000 on a budget for 10: exactly 10 run', async () => {
    const { scope, kernel } = await openGraphKernel({ waitMs: 5_000 })
    const { node, count } = sender(scope)
    const graph = new StateGraph(State)
      .addNode('each', node)
      .addConditionalEdges(START, () => Array.from({ length: 1_000 }, () => new Send('each', {})), ['each'])
      .compile()
    expect((await refusalOf(() => guardGraph(graph, scope).invoke({}))).code).toBe('ERR_BUDGET_EXCEEDED')
    expect(count.sent).toBe(10)
    expect(await sentOn(kernel)).toBe(10)
  })
})

describe('a subgraph', () => {
  const inner = (node: () => Promise<{ sum: number }>) =>
    new StateGraph(State)
      .addNode('in', node, { retryPolicy: { ...IMPATIENT, retryOn: () => true }, errorHandler: () => ({ sum: 100 }) })
      .addEdge(START, 'in')
      .addEdge('in', END)
      .compile()

  test('that is a node is guarded like the graph around it, and is still found by getSubgraphs', async () => {
    const { scope } = await openGraphKernel()
    const { node, count } = sender(scope, 11)
    const graph = new StateGraph(State).addNode('sub', inner(node)).addEdge(START, 'sub').addEdge('sub', END).compile()
    const guarded = guardGraph(graph, scope)
    await refusalOf(() => guarded.invoke({}))
    expect(count.begun).toBe(1)
    expect([...guarded.getSubgraphs()].map(([name]) => name)).toEqual(['sub'])
  })

  test('that a function calls keeps its own error handlers, unless it is guarded as well', async () => {
    const { scope } = await openGraphKernel()
    const build = (sub: ReturnType<typeof inner>) =>
      new StateGraph(State)
        .addNode('call', async () => sub.invoke({}))
        .addEdge(START, 'call')
        .addEdge('call', END)
        .compile()
    const { node } = sender(scope, 11)
    expect(await guardGraph(build(inner(node)), scope).invoke({})).toEqual({ sum: 100 })
    // It was swallowed, and the scope has it.
    expect(scope.refusal?.code).toBe('ERR_BUDGET_EXCEEDED')
    await refusalOf(() => guardGraph(build(guardGraph(inner(node), scope)), scope).invoke({}))
  })

  test('that is guarded by itself belongs to the run of the graph around it', async () => {
    const { scope } = await openGraphKernel()
    const seen: unknown[] = []
    const looking = async () => {
      seen.push(scope.refusal)
      return { sum: 1 }
    }
    const sub = guardGraph(inner(looking), scope)
    const graph = new StateGraph(State)
      .addNode('swallow', async () => {
        await errorOf(sender(scope, 11).node)
        return sub.invoke({})
      })
      .addEdge(START, 'swallow')
      .compile()
    await guardGraph(graph, scope).invoke({})
    expect(seen[0]).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
  })
})

describe('what the caller sees', () => {
  const refusing = (scope: Scope) =>
    guardGraph(
      new StateGraph(State)
        .addNode('fine', async (_, { writer }) => {
          writer?.('working')
          return { sum: 1 }
        })
        .addNode('refused', sender(scope, 11).node)
        .addEdge(START, 'fine')
        .addEdge('fine', 'refused')
        .addEdge('refused', END)
        .compile(),
      scope,
    )

  test.each<['values' | 'updates' | 'messages' | 'custom' | 'debug', number]>([
    ['values', 1],
    ['updates', 1],
    ['messages', 0],
    ['custom', 1],
    ['debug', 4],
  ])('of a stream of %s are the parts until then, and the refusal as an error', async (streamMode, parts) => {
    const { scope } = await openGraphKernel()
    const seen: unknown[] = []
    const refusal = await refusalOf(async () => {
      for await (const part of await refusing(scope).stream({}, { streamMode })) seen.push(part)
    })
    expect(refusal.code).toBe('ERR_BUDGET_EXCEEDED')
    expect(seen.length).toBeGreaterThanOrEqual(parts)
  })

  test('of streamEvents, of several modes, of batch and of a copy with another config is the refusal', async () => {
    const { scope } = await openGraphKernel()
    const graph = refusing(scope)
    const ways = [
      async () => collect(await graph.stream({}, { streamMode: ['values', 'custom'], subgraphs: true })),
      () => collect(graph.streamEvents({}, { version: 'v2' })),
      async () => collect(await graph.streamEvents({}, { version: 'v3' })),
      () => graph.batch([{}, {}]),
      () => graph.withConfig({ tags: ['mine'] }).invoke({}),
      () => graph.pipe((state: unknown) => state).invoke({}),
    ]
    for (const way of ways) expect((await refusalOf(way)).code).toBe('ERR_BUDGET_EXCEEDED')
  })

  test('of a node that caught the refusal is what it made of it; scope.refusal has the refusal, and the run stays refused', async () => {
    const { scope } = await openGraphKernel({ budgets: { acme: { calls: 100 }, 'acme/run': { calls: 10 } } })
    const call = (calls: number) => scope.run({ kind: 'custom', resource: 'call', worst: { calls } }, async () => ({ sum: calls }))
    const graph = new StateGraph(State)
      .addNode('full', () => call(10))
      .addNode('caught', async () => {
        expect(findRefusal(await errorOf(() => call(1)))?.details.endsRun).toBe(true)
        expect(findRefusal(await errorOf(() => call(1)))?.details.latched).toBe(true)
        return { handled: 'went on without' }
      })
      .addEdge(START, 'full')
      .addEdge('full', 'caught')
      .addEdge('caught', END)
      .compile()
    await scope.enter(async () => {
      expect(await guardGraph(graph, scope).invoke({})).toEqual({ sum: 10, handled: 'went on without' })
      expect(scope.refusal?.details.endsRun).toBe(true)
    })
  })

  test('of a graph outside of any scope is a refusal with the line to add', async () => {
    const { scope } = await openGraphKernel()
    const graph = guardGraph(new StateGraph(State).addNode('a', sender(scope).node).addEdge(START, 'a').compile())
    expect((await refusalOf(() => graph.invoke({}))).code).toBe('ERR_NO_SCOPE')
    expect(await scope.enter(() => graph.invoke({}))).toEqual({ sum: 1 })
  })

  test('LangGraph’s own signals pass untouched', async () => {
    const { scope } = await openGraphKernel()
    class Mine extends GraphBubbleUp {}
    const sub = new StateGraph(State)
      .addNode('jump', async () => new Command({ graph: Command.PARENT, goto: 'there', update: { sum: 7 } }))
      .addEdge(START, 'jump')
      .compile()
    const graph = new StateGraph(State)
      .addNode('sub', sub, { ends: ['there'] })
      .addNode('there', async () => ({ handled: 'there' }))
      .addEdge(START, 'sub')
      .compile()
    expect(await guardGraph(graph, scope).invoke({})).toEqual({ sum: 7, handled: 'there' })
    const bubbling = new StateGraph(State)
      .addNode('a', () => Promise.reject(new Mine('up')))
      .addEdge(START, 'a')
      .compile()
    expect(await guardGraph(bubbling, scope).invoke({})).toEqual(await bubbling.invoke({}))
  })

  test('the graph that was given stays as it is, and what is no compiled graph, or a guarded one, is a TypeError', async () => {
    const { scope } = await openGraphKernel()
    const builder = new StateGraph(State)
      .addNode('a', sender(scope, 11).node, { errorHandler: () => ({ handled: 'bare' }) })
      .addEdge(START, 'a')
    const graph = builder.compile()
    guardGraph(graph, scope)
    expect(await graph.invoke({})).toEqual({ sum: 0, handled: 'bare' })
    for (const wrong of [builder, {}, async () => {}, guardGraph(graph, scope)]) expect(() => guardGraph(wrong, scope)).toThrow(TypeError)
  })
})
