// An `ask` in a graph: it rests until a person decides, and the yes is a record of the kernel, whatever the graph is
// resumed with.

import { HumanMessage, type BaseMessage } from '@langchain/core/messages'
import { tool } from '@langchain/core/tools'
import { Annotation, Command, END, INTERRUPT, MemorySaver, MessagesAnnotation, START, StateGraph, interrupt } from '@langchain/langgraph'
import { ToolNode, createReactAgent, toolsCondition } from '@langchain/langgraph/prebuilt'
import { createAgent } from 'langchain'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardGraph, guardTools, type ApprovalQuestion } from '../../integrations/langgraph.ts'
import { onBench } from './bench.ts'
import { LANGGRAPH, calling, chatModelOf, openGraphKernel, sentOn, toolAnswers, toolGraph } from './langgraph-bench.ts'
import { AMOUNTS, THREAD, confirm, idOf, questionOf, sendTool } from './langgraph-cases.ts'

describe('an `ask`', () => {
  const RULES = [
    { effect: 'ask', tool: 'send' },
    { effect: 'allow', tool: ['note', 'confirm'] },
  ] as const
  const note = tool(async () => 'noted', { name: 'note', description: 'Notes.', schema: z.object({}) })
  const asking = async (rules: typeof RULES = RULES) => {
    const { scope, kernel } = await openGraphKernel({ rules })
    const { send, sent } = sendTool()
    const graph = guardGraph(toolGraph(guardTools([send, note, confirm], scope, AMOUNTS), new MemorySaver()), scope)
    const approve = ({ agent, tool: name, argsHash }: ApprovalQuestion) =>
      kernel.approve({ agent, tool: name, argsHash, by: 'boss', expiresInMs: 60_000 })
    return { scope, kernel, graph, sent, approve }
  }

  test('interrupts the graph with what there is to approve, and runs once when that is approved', async () => {
    const { graph, sent, approve, kernel } = await asking()
    const question = questionOf(await graph.invoke({ messages: [calling(['send', { to: 'ann' }], ['note', {}])] }, THREAD))
    expect(question).toMatchObject({ tool: 'send', args: { to: 'ann' }, agent: 'clerk' })
    expect(question.reason).toContain('needs an approval')
    expect(sent).toEqual([])
    await approve(question)
    expect(toolAnswers(await graph.invoke(new Command({ resume: 'anything' }), THREAD))).toEqual(['success: sent to ann', 'success: noted'])
    expect(await sentOn(kernel)).toBe(1)
  })

  // LangGraph does not resume with a falsy value: it takes `false` and 0 for an empty command.
  test.each([true, 'yes', { approved: true }, 'no'])('is not opened by resuming with %j: the model is told no', async (resume) => {
    const { graph, sent } = await asking()
    await graph.invoke({ messages: [calling(['send', { to: 'ann' }])] }, THREAD)
    const [answer] = toolAnswers(await graph.invoke(new Command({ resume }), THREAD))
    expect(answer).toMatch(/^error: This needs the approval of a person first/)
    expect(sent).toEqual([])
  })

  test('is not opened by an approval of other arguments', async () => {
    const { graph, sent, approve, scope } = await asking()
    const question = questionOf(await graph.invoke({ messages: [calling(['send', { to: 'ann' }])] }, THREAD))
    const other = await scope.decide({ kind: 'tool', resource: 'send', args: { to: 'bob' } })
    await approve({ ...question, argsHash: other!.details.argsHash! })
    expect(toolAnswers(await graph.invoke(new Command({ resume: true }), THREAD))[0]).toMatch(/^error: /)
    expect(sent).toEqual([])
  })

  test('is asked again when the graph is only run again, and nobody answered', async () => {
    const { graph, approve } = await asking()
    const question = questionOf(await graph.invoke({ messages: [calling(['send', { to: 'ann' }])] }, THREAD))
    expect(questionOf(await graph.invoke(null, THREAD))).toEqual(question)
    await approve(question)
    expect(toolAnswers(await graph.invoke(null, THREAD))).toEqual(['success: sent to ann'])
  })

  test.each([
    ['both approved', true, true],
    ['only the first approved', true, false],
    ['only the second approved', false, true],
    ['neither approved', false, false],
  ])('of two calls in one message is asked for each, one after the other: %s', async (_, first, second) => {
    for (const byId of [false, true]) {
      const { graph, sent, approve } = await asking()
      const answerTo = (state: object) => (byId ? { [idOf(state)]: 'go on' } : 'go on')
      const one = await graph.invoke({ messages: [calling(['send', { to: 'ann' }], ['send', { to: 'bob' }])] }, THREAD)
      if (first) await approve(questionOf(one))
      const two = await graph.invoke(new Command({ resume: answerTo(one) }), THREAD)
      expect([questionOf(one).args, questionOf(two).args]).toEqual([{ to: 'ann' }, { to: 'bob' }])
      if (second) await approve(questionOf(two))
      const answers = toolAnswers(await graph.invoke(new Command({ resume: answerTo(two) }), THREAD))
      expect(answers.map((answer) => answer.startsWith('success'))).toEqual([first, second])
      expect(sent).toEqual([...(first ? ['ann'] : []), ...(second ? ['bob'] : [])])
    }
  })

  test.each([false, true])('takes the answer that is its own, and leaves the next to an interrupt after it (by id: %s)', async (byId) => {
    const { scope, kernel } = await openGraphKernel({ rules: RULES })
    const { send } = sendTool()
    const [guarded] = guardTools([send], scope)
    const graph = new StateGraph(Annotation.Root({ said: Annotation<string>() }))
      .addNode('work', async (_, config) => {
        const sent = (await guarded.invoke({ to: 'ann' }, config)) as string
        return { said: `${sent}, and then: ${String(interrupt('then?'))}` }
      })
      .addEdge(START, 'work')
      .compile({ checkpointer: new MemorySaver() })
    const run = guardGraph(graph, scope)
    const answerTo = (state: object, value: string) => (byId ? { [idOf(state)]: value } : value)
    const asked = await run.invoke({}, THREAD)
    const { agent, tool: name, argsHash } = questionOf(asked)
    await kernel.approve({ agent, tool: name, argsHash, by: 'boss', expiresInMs: 60_000 })
    const then = await run.invoke(new Command({ resume: answerTo(asked, 'for send') }), THREAD)
    expect(questionOf(then)).toBe('then?')
    expect(await run.invoke(new Command({ resume: answerTo(then, 'home') }), THREAD)).toEqual({ said: 'sent to ann, and then: home' })
  })

  test('and an interrupt of the tool’s own in one message each get the answer that is theirs', async () => {
    const { graph, approve } = await asking()
    const first = await graph.invoke({ messages: [calling(['send', { to: 'ann' }], ['confirm', { what: 'x' }])] }, THREAD)
    expect(questionOf(first)).toEqual({ what: 'x' })
    const second = questionOf(await graph.invoke(new Command({ resume: 'for confirm' }), THREAD))
    expect(second).toMatchObject({ tool: 'send' })
    await approve(second)
    const answers = toolAnswers(await graph.invoke(new Command({ resume: 'for send' }), THREAD))
    expect(answers).toEqual(['success: sent to ann', 'success: confirmed x: for confirm'])
  })

  test('is asked also after an interrupt of the tool’s own was answered, whose answer is not taken for it', async () => {
    const { graph } = await asking()
    const calls = calling(['confirm', { what: 'x' }], ['send', { to: 'ann' }], ['send', { to: 'bob' }])
    const asked: unknown[] = [questionOf(await graph.invoke({ messages: [calls] }, THREAD))]
    for (const resume of [1, 2]) asked.push(questionOf(await graph.invoke(new Command({ resume }), THREAD)))
    expect(asked).toMatchObject([{ what: 'x' }, { args: { to: 'ann' } }, { args: { to: 'bob' } }])
    const [first, ...others] = toolAnswers(await graph.invoke(new Command({ resume: 3 }), THREAD))
    expect(first).toBe('success: confirmed x: 1')
    expect(others.map((answer) => answer.startsWith('error'))).toEqual([true, true])
  })

  test('is answered by the id of its interrupt as well', async () => {
    const { graph } = await asking()
    const state = await graph.invoke({ messages: [calling(['send', { to: 'ann' }])] }, THREAD)
    expect(toolAnswers(await graph.invoke(new Command({ resume: { [idOf(state)]: 'no' } }), THREAD))[0]).toMatch(/^error: /)
  })

  test('waits for what runs beside it, so that nothing is in doubt when the graph is resumed', async () => {
    const { scope } = await openGraphKernel({ rules: RULES })
    const { send } = sendTool()
    let ended = false
    const slow = tool(
      async () => {
        for (let turns = 0; turns < 20; turns++) await new Promise(setImmediate)
        ended = true
        return 'noted'
      },
      { name: 'note', description: 'Notes slowly.', schema: z.object({}) },
    )
    const graph = guardGraph(toolGraph(guardTools([send, slow], scope), new MemorySaver()), scope)
    await graph.invoke({ messages: [calling(['send', { to: 'ann' }], ['note', {}])] }, THREAD)
    expect(ended).toBe(true)
    const answers = toolAnswers(await graph.invoke(new Command({ resume: 'no' }), THREAD))
    expect(answers[1]).toBe('success: noted')
  })

  test('inside of another tool waits as well, though all that the other tool called waits with it', async () => {
    const { scope } = await openGraphKernel({ rules: [...RULES, { effect: 'allow', tool: 'both' }] })
    const { send } = sendTool()
    const [inner] = guardTools([send], scope)
    const both = tool(
      async (_, config) => (await Promise.all(['ann', 'bob'].map((to) => inner.invoke({ to }, config as object)))).join(' '),
      { name: 'both', description: 'Sends twice.', schema: z.object({}) },
    )
    let ended = false
    const slow = tool(
      async () => {
        for (let turns = 0; turns < 20; turns++) await new Promise(setImmediate)
        ended = true
        return 'noted'
      },
      { name: 'note', description: 'Notes slowly.', schema: z.object({}) },
    )
    const graph = guardGraph(toolGraph(guardTools([both, slow], scope), new MemorySaver()), scope)
    const state = await graph.invoke({ messages: [calling(['both', {}], ['note', {}])] }, THREAD)
    expect([questionOf(state).tool, ended]).toEqual(['send', true])
  })

  test('without a checkpointer, or without a thread, is a denial', async () => {
    const { scope } = await openGraphKernel({ rules: RULES })
    const { send } = sendTool()
    const graph = guardGraph(toolGraph(guardTools([send], scope)), scope)
    expect(toolAnswers(await graph.invoke({ messages: [calling(['send', { to: 'ann' }])] }))[0]).toMatch(/^error: This needs the approval/)
  })
})

describe('an `ask` inside of', () => {
  const RULES = [
    { effect: 'ask', tool: 'send' },
    { effect: 'allow', tool: 'delegate' },
  ] as const
  const open = async () => {
    const { scope, kernel } = await openGraphKernel({ rules: RULES })
    const { send, sent } = sendTool()
    const inner = toolGraph(guardTools([send], scope, AMOUNTS))
    const answer = async (graph: ReturnType<typeof toolGraph>, yes: boolean, messages: BaseMessage[]) => {
      const { agent, tool: name, argsHash } = questionOf(await graph.invoke({ messages }, THREAD))
      if (yes) await kernel.approve({ agent, tool: name, argsHash, by: 'boss', expiresInMs: 60_000 })
      return toolAnswers(await graph.invoke(new Command({ resume: 'go on' }), THREAD))
    }
    return { scope, kernel, sent, inner, answer }
  }

  test.each([true, false])('a subgraph pauses the whole graph (approved: %s)', async (yes) => {
    const { scope, kernel, sent, inner, answer } = await open()
    const graph = new StateGraph(MessagesAnnotation)
      .addNode('sub', inner)
      .addEdge(START, 'sub')
      .compile({ checkpointer: new MemorySaver() })
    const answers = await answer(guardGraph(graph, scope) as never, yes, [calling(['send', { to: 'ann' }])])
    expect(answers.join()).toMatch(yes ? /^success: sent to ann$/ : /^error: This needs the approval/)
    expect([sent.length, await sentOn(kernel)]).toEqual(yes ? [1, 1] : [0, 0])
  })

  test.each([true, false])(
    'an agent that is a tool pauses the whole graph, and that tool goes on where it was (approved: %s)',
    async (yes) => {
      const { scope, kernel, sent, inner, answer } = await open()
      const delegate = tool(
        async ({ to }, config) => toolAnswers(await inner.invoke({ messages: [calling(['send', { to }])] }, config)).join(),
        { name: 'delegate', description: 'Delegates.', schema: z.object({ to: z.string() }) },
      )
      const graph = guardGraph(toolGraph(guardTools([delegate], scope), new MemorySaver()), scope)
      const answers = await answer(graph, yes, [calling(['delegate', { to: 'ann' }])])
      expect(answers.join()).toMatch(yes ? /^success: success: sent to ann$/ : /^success: error: This needs the approval/)
      expect([sent.length, await sentOn(kernel)]).toEqual(yes ? [1, 1] : [0, 0])
    },
  )
})

test.each([
  ['both approved', true],
  ['one approved', false],
])('tools that are tasks of their own, as those of createReactAgent, ask together and are resumed together: %s', (_, both) =>
  onBench(
    {
      rules: [{ effect: 'ask', tool: 'send' }],
      answers: [{ toolCalls: ['ann', 'bob'].map((to) => ({ name: 'send', arguments: { to } })) }, { text: 'Done.' }],
    },
    async (bench) => {
      const { send, sent } = sendTool()
      const site = {
        guarded: true,
        scope: bench.scope,
        baseURL: bench.provider.baseURL,
        provider: bench.provider,
        maxRetries: 0,
        drainMs: 1_000,
      }
      const llm = chatModelOf(site, { prompt: '' })
      const agent = createReactAgent({ llm, tools: guardTools([send], bench.scope), version: 'v2', checkpointSaver: new MemorySaver() })
      const guarded = guardGraph(agent, bench.scope)
      const asked = (await guarded.invoke({ messages: [new HumanMessage('Send.')] }, THREAD)) as unknown as {
        [INTERRUPT]: { value: ApprovalQuestion }[]
      }
      expect(asked[INTERRUPT].map(({ value }) => value.args)).toEqual([{ to: 'ann' }, { to: 'bob' }])
      for (const { value } of asked[INTERRUPT].slice(0, both ? 2 : 1))
        await bench.kernel.approve({ agent: value.agent, tool: value.tool, argsHash: value.argsHash, by: 'boss', expiresInMs: 60_000 })
      const state = await guarded.invoke(new Command({ resume: 'go on' }), THREAD)
      expect(sent).toEqual(both ? ['ann', 'bob'] : ['ann'])
      expect(toolAnswers(state).map((answer) => answer.startsWith('success'))).toEqual([true, both])
      expect(state.messages.at(-1)!.text).toBe('Done.')
    },
    LANGGRAPH,
  ),
)

test('an agent of createAgent asks and is resumed in the same way', () =>
  onBench(
    { rules: [{ effect: 'ask', tool: 'send' }], answers: [{ toolCalls: [{ name: 'send', arguments: { to: 'ann' } }] }, { text: 'Done.' }] },
    async (bench) => {
      const { send, sent } = sendTool()
      const site = {
        guarded: true,
        scope: bench.scope,
        baseURL: bench.provider.baseURL,
        provider: bench.provider,
        maxRetries: 0,
        drainMs: 1_000,
      }
      const agent = createAgent({
        model: chatModelOf(site, { prompt: '' }),
        tools: guardTools([send], bench.scope),
        checkpointer: new MemorySaver(),
      })
      const guarded = guardGraph(agent.graph, bench.scope)
      const {
        agent: who,
        tool: name,
        argsHash,
      } = questionOf(await guarded.invoke({ messages: [new HumanMessage('Send.')] } as never, THREAD))
      await bench.kernel.approve({ agent: who, tool: name, argsHash, by: 'boss', expiresInMs: 60_000 })
      const { messages } = (await guarded.invoke(new Command({ resume: true }), THREAD)) as typeof MessagesAnnotation.State
      expect(messages.map((message) => message.text).slice(1)).toEqual(['', 'sent to ann', 'Done.'])
      expect(sent).toEqual(['ann'])
    },
    LANGGRAPH,
  ))

test('a loop of model and tools goes on after an approval, and the model reads the result', () =>
  onBench(
    { rules: [{ effect: 'ask', tool: 'send' }], answers: [{ toolCalls: [{ name: 'send', arguments: { to: 'ann' } }] }, { text: 'Done.' }] },
    async (bench) => {
      const { send } = sendTool()
      const site = {
        guarded: true,
        scope: bench.scope,
        baseURL: bench.provider.baseURL,
        provider: bench.provider,
        maxRetries: 0,
        drainMs: 1_000,
      }
      const model = chatModelOf(site, { prompt: '' }).bindTools([send])
      const graph = new StateGraph(MessagesAnnotation)
        .addNode('model', async ({ messages }, config) => ({ messages: [await model.invoke(messages, config)] }))
        .addNode('tools', new ToolNode(guardTools([send], bench.scope)))
        .addEdge(START, 'model')
        .addConditionalEdges('model', toolsCondition, ['tools', END])
        .addEdge('tools', 'model')
        .compile({ checkpointer: new MemorySaver() })
      const guarded = guardGraph(graph, bench.scope)
      const { agent, tool: name, argsHash } = questionOf(await guarded.invoke({ messages: [{ role: 'user', content: 'Send.' }] }, THREAD))
      await bench.kernel.approve({ agent, tool: name, argsHash, by: 'boss', expiresInMs: 60_000 })
      const { messages } = await guarded.invoke(new Command({ resume: true }), THREAD)
      expect(messages.map((message) => message.text).slice(1)).toEqual(['', 'sent to ann', 'Done.'])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    },
    LANGGRAPH,
  ))
