// Other ways to write and to run a graph: the functional API, caches, breakpoints, agents that share a model.

import { HumanMessage } from '@langchain/core/messages'
import { RemoteGraph } from '@langchain/langgraph/remote'
import {
  Annotation,
  Command,
  INTERRUPT,
  MemorySaver,
  MessagesAnnotation,
  START,
  Send,
  StateGraph,
  entrypoint,
  interrupt,
  task,
} from '@langchain/langgraph'
import { InMemoryCache } from '@langchain/langgraph-checkpoint'
import { describe, expect, test } from 'vitest'
import { findRefusal, guardFetch, guardGraph } from '../../integrations/langgraph.ts'
import { SUITE_MODEL, errorOf, type Bench } from '../../src/testing/integration-bench.ts'
import { ChatOpenAI } from '@langchain/openai'
import { onBench } from './bench.ts'
import { LANGGRAPH, openGraphKernel, sentOn } from './langgraph-bench.ts'

const State = Annotation.Root({ sum: Annotation<number>({ reducer: (left, right) => left + right, default: () => 0 }) })
const THREAD = { configurable: { thread_id: 'thread' } }
const action = { kind: 'custom', resource: 'send', worst: { sends: 1 } } as const

describe('the functional API', () => {
  test('is guarded: a refusal in a task reaches the caller and is not retried', async () => {
    const { scope, kernel } = await openGraphKernel()
    let begun = 0
    const sending = task({ name: 'sending', retry: { maxAttempts: 3, initialInterval: 1, logWarning: false } }, async (sends: number) => {
      begun++
      return scope.run({ ...action, worst: { sends } }, async () => sends)
    })
    const work = guardGraph(
      entrypoint('work', async (sends: number[]) => Promise.all(sends.map((each) => sending(each)))),
      scope,
    )
    expect(await work.invoke([1, 2])).toEqual([1, 2])
    expect(findRefusal(await errorOf(() => work.invoke([99])))?.code).toBe('ERR_BUDGET_EXCEEDED')
    expect([begun, await sentOn(kernel)]).toEqual([3, 3])
  })
})

test('a node that is answered from a cache is not paid again', async () => {
  const { scope, kernel } = await openGraphKernel()
  const graph = new StateGraph(State)
    .addNode('a', async () => ({ sum: await scope.run(action, async () => 1) }), { cachePolicy: true })
    .addEdge(START, 'a')
    .compile({ cache: new InMemoryCache() })
  const guarded = guardGraph(graph, scope)
  for (let round = 0; round < 3; round++) expect(await guarded.invoke({})).toEqual({ sum: 1 })
  expect(await sentOn(kernel)).toBe(1)
})

test('breakpoints before and after nodes work as without holdfast', async () => {
  const { scope } = await openGraphKernel()
  const graph = new StateGraph(State)
    .addNode('a', async () => ({ sum: 1 }))
    .addNode('b', async () => ({ sum: 10 }))
    .addEdge(START, 'a')
    .addEdge('a', 'b')
    .compile({ checkpointer: new MemorySaver(), interruptBefore: ['b'] })
  const guarded = guardGraph(graph, scope)
  expect(await guarded.invoke({}, THREAD)).toMatchObject({ sum: 1 })
  expect((await guarded.getState(THREAD)).next).toEqual(['b'])
  expect(await guarded.invoke(null, THREAD)).toMatchObject({ sum: 11 })
})

test('interrupts of a fan-out come together, and are resumed by their ids', async () => {
  const { scope } = await openGraphKernel()
  const graph = new StateGraph(State)
    .addNode('each', async () => ({ sum: Number(interrupt('how many?')) }))
    .addConditionalEdges(START, () => [new Send('each', {}), new Send('each', {})], ['each'])
    .compile({ checkpointer: new MemorySaver() })
  const guarded = guardGraph(graph, scope)
  const asked = (await guarded.invoke({}, THREAD)) as unknown as { [INTERRUPT]: { id: string }[] }
  const resume = Object.fromEntries(asked[INTERRUPT].map(({ id }, index) => [id, index + 1]))
  expect(await guarded.invoke(new Command({ resume }), THREAD)).toEqual({ sum: 3 })
})

test('a graph that runs elsewhere cannot be guarded here, and says so', async () => {
  const { scope } = await openGraphKernel()
  expect(() => guardGraph(new RemoteGraph({ graphId: 'there', url: 'http://127.0.0.1:9' }), scope)).toThrow('compiled graph')
})

test('money is not in the state: a budget that is used up stays used up, whatever is written into the thread', async () => {
  const { scope, kernel } = await openGraphKernel()
  const graph = new StateGraph(State)
    .addNode('a', async () => ({ sum: await scope.run({ ...action, worst: { sends: 10 } }, async () => 1) }))
    .addEdge(START, 'a')
    .compile({ checkpointer: new MemorySaver() })
  const guarded = guardGraph(graph, scope)
  await guarded.invoke({}, THREAD)
  const past = []
  for await (const state of guarded.getStateHistory(THREAD)) past.push(state)
  await guarded.updateState(THREAD, { sum: -1 })
  for (const config of [THREAD, past.at(-1)!.config, past.findLast(({ next }) => next.includes('a'))!.config])
    expect(findRefusal(await errorOf(() => guarded.invoke(config === THREAD ? {} : null, config)))?.code).toBe('ERR_BUDGET_EXCEEDED')
  expect(await sentOn(kernel)).toBe(10)
})

/** Who pays, when four agents on handoffs call at once. */
async function payersOver(bench: Bench, models: readonly [string, ChatOpenAI][]): Promise<readonly string[]> {
  const nodes = models.map(([name, model]): [string, (_: unknown, config: object) => Promise<object>] => [
    name,
    async (_, config) => ({ messages: [await model.invoke([new HumanMessage('hello')], config)] }),
  ])
  const builder = new StateGraph(MessagesAnnotation).addNode(nodes)
  for (const [name] of models) builder.addEdge(START, name)
  const handoffs = Object.fromEntries(models.map(([name]) => [name, { budget: { usd: 0.1 } }]))
  await guardGraph(builder.compile(), bench.scope, { handoffs }).invoke({ messages: [] })
  const paid = bench.records('intent').filter((record) => record['action'] === 'model')
  return paid.map(({ budget }) => (budget as string).replace(/-[\w-]{8}$/, '')).sort()
}

describe('agents on handoffs at the same time', () => {
  const NAMES = ['ann', 'bob', 'cid', 'dan']
  const each = NAMES.map((name) => `suite/run/${name}`)
  const modelOn = ({ provider }: Bench, more: object = {}): ChatOpenAI =>
    new ChatOpenAI({
      model: SUITE_MODEL,
      apiKey: 'test',
      maxTokens: 50,
      configuration: { baseURL: provider.baseURL, fetch: guardFetch() },
      ...more,
    })

  test('over one model each pay for their own calls', () =>
    onBench(
      { answers: [{ delayMs: 20 }] },
      async (bench) => {
        const model = modelOn(bench)
        expect(
          await payersOver(
            bench,
            NAMES.map((name) => [name, model]),
          ),
        ).toEqual(each)
      },
      LANGGRAPH,
    ))

  // LangChain runs what waits in the queue of a model in the context of what ran before it.
  test('over one model with maxConcurrency are mixed up, and refused rather than paid by another for long; with a model each they are not', () =>
    onBench(
      { answers: [{ delayMs: 20 }] },
      async (bench) => {
        const shared = modelOn(bench, { maxConcurrency: 1 })
        const mixed = await errorOf(() =>
          payersOver(
            bench,
            NAMES.map((name) => [name, shared]),
          ),
        )
        expect(findRefusal(mixed)?.message).toContain('its handoff was closed')
        const before = bench.records('intent').length
        await payersOver(
          bench,
          NAMES.map((name) => [name, modelOn(bench, { maxConcurrency: 1 })]),
        )
        const own = bench
          .records('intent')
          .slice(before)
          .filter(({ action }) => action === 'model')
        expect(own.map(({ agent }) => agent as string).sort()).toEqual(NAMES)
        expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
      },
      LANGGRAPH,
    ))
})
