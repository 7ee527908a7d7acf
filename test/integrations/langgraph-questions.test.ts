// Questions that are answered no: they are asked once, wherever in a graph they are asked, and their answers go to
// nobody else.

import { tool } from '@langchain/core/tools'
import { Annotation, Command, INTERRUPT, MemorySaver, START, StateGraph, entrypoint, interrupt, task } from '@langchain/langgraph'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardGraph, guardTools, type ApprovalQuestion } from '../../integrations/langgraph.ts'
import { openGraphKernel } from './langgraph-bench.ts'
import { THREAD, idOf, sendTool } from './langgraph-cases.ts'

const State = Annotation.Root({ done: Annotation<string[]>({ reducer: (a, b) => [...a, ...b], default: () => [] }) })
const RULES = [{ effect: 'ask', tool: 'send' }] as const
const NO = expect.stringMatching(/^This needs the approval of a person first/) as string

interface Runs {
  invoke(input: unknown, config: object): Promise<object>
}

/** Answers every question of a graph, the first with 'answer 1', and says what was asked, and how it ended. */
async function answering(graph: object, input: unknown, { byId = false, approve }: { byId?: boolean; approve?: Approve } = {}) {
  const runs = graph as Runs
  const asked: unknown[] = []
  let state = await runs.invoke(input, THREAD)
  while (INTERRUPT in state && asked.length < 8) {
    const [{ value }] = state[INTERRUPT] as [{ value: ApprovalQuestion | string }]
    asked.push(typeof value === 'string' ? value : (value.args as { to: string }).to)
    if (typeof value !== 'string') await approve?.(value)
    const answer = `answer ${asked.length}`
    state = await runs.invoke(new Command({ resume: byId ? { [idOf(state)]: answer } : answer }), THREAD)
  }
  return { asked, state }
}

type Approve = (question: ApprovalQuestion) => Promise<void>

async function open() {
  const { scope, kernel } = await openGraphKernel({ rules: RULES })
  const { send: raw, sent } = sendTool()
  const [send] = guardTools([raw], scope)
  const approve: Approve = ({ agent, tool: name, argsHash }) =>
    kernel.approve({ agent, tool: name, argsHash, by: 'boss', expiresInMs: 60_000 })
  return { scope, send, sent, approve }
}

// In a subgraph that saves no checkpoints LangGraph itself asks an interrupt of its own for ever.
const WHERE = [
  'in the node',
  'in a subgraph that is the node',
  'in a subgraph that the node calls',
  'in a subgraph without a checkpointer',
] as const

describe('a question that was answered no', () => {
  const build = ({ scope, send }: Awaited<ReturnType<typeof open>>, where: (typeof WHERE)[number]) => {
    const sub = (checkpointer?: false) =>
      new StateGraph(State)
        .addNode('s', async ({ done }) => ({ done: [await send.invoke({ to: done.at(-1)! })] }))
        .addEdge(START, 's')
        .compile(checkpointer === undefined ? {} : { checkpointer })
    const sending = async (to: string): Promise<string> =>
      where === 'in a subgraph that the node calls' ? (await sub().invoke({ done: [to] })).done.at(-1)! : String(await send.invoke({ to }))
    const node = async () => {
      const answers = [await sending('ann'), await sending('bob')]
      return { done: [...answers, where === 'in a subgraph without a checkpointer' ? '-' : String(interrupt('really?'))] }
    }
    const plain = new StateGraph(State).addNode('n', node).addEdge(START, 'n')
    const bound =
      where === 'in a subgraph that is the node'
        ? plain.compile()
        : where === 'in a subgraph without a checkpointer'
          ? plain.compile({ checkpointer: false })
          : node
    const graph = new StateGraph(State)
      .addNode('a', bound as typeof node)
      .addEdge(START, 'a')
      .compile({ checkpointer: new MemorySaver() })
    return guardGraph(graph, scope)
  }

  test.each(WHERE)(
    'is not asked again when an interrupt of the node comes after it, which gets an answer of its own: %s',
    async (where) => {
      const site = await open()
      const { asked, state } = await answering(build(site, where), {})
      const isUnsaved = where === 'in a subgraph without a checkpointer'
      expect(asked).toEqual(['ann', 'bob', ...(isUnsaved ? [] : ['really?'])])
      expect(state).toEqual({ done: [NO, NO, isUnsaved ? '-' : 'answer 3'] })
      expect(site.sent).toEqual([])
    },
  )

  test.each(WHERE)('leaves an approved one as it was: %s', async (where) => {
    const site = await open()
    const approve: Approve = async (question) => {
      if ((question.args as { to: string }).to === 'bob') await site.approve(question)
    }
    const { asked, state } = await answering(build(site, where), {}, { approve })
    expect(asked.slice(0, 2)).toEqual(['ann', 'bob'])
    expect(state).toMatchObject({ done: [NO, 'sent to bob', expect.anything()] })
    expect(site.sent).toEqual(['bob'])
  })

  test('names its call: equal ones are different questions, and in the next turn it is asked again', async () => {
    const { scope, send } = await open()
    const node = async () => ({ done: [await send.invoke({ to: 'ann' }), await send.invoke({ to: 'ann' })] })
    const graph = new StateGraph(State).addNode('a', node).addEdge(START, 'a').compile({ checkpointer: new MemorySaver() })
    const guarded = guardGraph(graph, scope)
    for (const turn of [1, 2]) {
      const { asked, state } = await answering(guarded, {})
      expect(asked).toEqual(['ann', 'ann'])
      expect((state as typeof State.State).done).toHaveLength(2 * turn)
    }
  })
})

describe('an `ask` inside of a `task()`', () => {
  const work = ({ scope, send }: Awaited<ReturnType<typeof open>>, form: 'entrypoint' | 'node') => {
    const sending = task('sending', async (to: string) => send.invoke({ to }))
    const other = task('other', async () => String(interrupt('other?')))
    const body = async () => [await sending('ann'), String(interrupt('really?')), await other()]
    const saver = new MemorySaver()
    if (form === 'entrypoint')
      return guardGraph(
        entrypoint({ name: 'work', checkpointer: saver }, async () => ({ done: await body() })),
        scope,
      )
    const graph = new StateGraph(State)
      .addNode('a', async () => ({ done: await body() }))
      .addEdge(START, 'a')
      .compile({ checkpointer: saver })
    return guardGraph(graph, scope)
  }

  test.each([
    ['entrypoint', false],
    ['entrypoint', true],
    ['node', false],
    ['node', true],
  ] as const)('of a %s is answered once, and its answer goes to no interrupt after it (by id: %s)', async (form, byId) => {
    for (const yes of [false, true]) {
      const site = await open()
      const { asked, state } = await answering(work(site, form), {}, { byId, ...(yes ? { approve: site.approve } : {}) })
      expect(asked).toEqual(['ann', 'really?', 'other?'])
      expect(state).toEqual({ done: [yes ? 'sent to ann' : NO, 'answer 2', 'answer 3'] })
      expect(site.sent).toEqual(yes ? ['ann'] : [])
    }
  })

  test('leaves the interrupt of the next `task()` an answer of its own', async () => {
    const { scope, send } = await open()
    const sending = task('sending', async (to: string) => send.invoke({ to }))
    const other = task('other', async () => String(interrupt('other?')))
    const both = entrypoint({ name: 'work', checkpointer: new MemorySaver() }, async () => ({
      done: [await sending('ann'), await other()],
    }))
    const { asked, state } = await answering(guardGraph(both, scope), {})
    expect([asked, state]).toEqual([['ann', 'other?'], { done: [NO, 'answer 2'] }])
  })

  test('of which several ask at once: a person sees one question at a time, so none is answered unseen', async () => {
    const site = await open()
    const sending = task('sending', async (to: string) => site.send.invoke({ to }))
    const all = entrypoint({ name: 'work', checkpointer: new MemorySaver() }, async () => ({
      done: await Promise.all(['ann', 'bob', 'cid'].map((to) => sending(to))),
    }))
    const approve: Approve = async (question) => {
      if ((question.args as { to: string }).to === 'bob') await site.approve(question)
    }
    const { asked, state } = await answering(guardGraph(all, site.scope), {}, { approve })
    expect([asked.length, new Set(asked)]).toEqual([3, new Set(['ann', 'bob', 'cid'])])
    expect(state).toEqual({ done: [NO, 'sent to bob', NO] })
    expect(site.sent).toEqual(['bob'])
  })
})

test('what is kept of an answered question stands beside the state of the graph: it is neither seen nor in the way', async () => {
  const site = await open()
  const ask = tool(async () => String(interrupt('really?')), { name: 'ask', description: 'x', schema: z.object({}) })
  const node = async () => ({ done: [await site.send.invoke({ to: 'ann' }), await ask.invoke({})] })
  const graph = new StateGraph(State).addNode('a', node).addEdge(START, 'a').compile({ checkpointer: new MemorySaver() })
  const guarded = guardGraph(graph, site.scope)
  await guarded.invoke({}, THREAD)
  await guarded.invoke(new Command({ resume: 1 }), THREAD)
  const { tasks, next, values } = await guarded.getState(THREAD)
  expect([tasks.map(({ interrupts }) => interrupts.map(({ value }) => value as unknown)), next, values]).toEqual([
    [['really?']],
    ['a'],
    { done: [] },
  ])
  await guarded.updateState(THREAD, { done: ['by hand'] }, 'a')
  expect((await guarded.getState(THREAD)).values).toEqual({ done: ['by hand'] })
})
