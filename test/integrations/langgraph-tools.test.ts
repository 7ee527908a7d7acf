// Tools under `guardTools`: every form of a tool, and tools that throw, hang, answer too much or are left.

import { RunnableLambda } from '@langchain/core/runnables'
import { StructuredTool, tool } from '@langchain/core/tools'
import { Annotation, START, StateGraph } from '@langchain/langgraph'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { findRefusal, guardGraph, guardTools } from '../../integrations/langgraph.ts'
import { errorOf, until } from '../../src/testing/integration-bench.ts'
import { collect } from './adapters.ts'
import { calling, openGraphKernel, sentOn, toolAnswers, toolGraph } from './langgraph-bench.ts'

const AMOUNTS = { amounts: { send: { sends: 1 }, constructor: { sends: 1 } } }
const TO = z.object({ to: z.string() })
const named = { name: 'send', description: 'Sends.' }
const DENY = [{ effect: 'deny', tool: '*' }] as const
const DENIED = 'You may not do this. Do not try it again; go on without it.'
const call = (args: Record<string, unknown>) => ({ name: 'send', args, id: 'call-1', type: 'tool_call' as const })

class OwnTool extends StructuredTool {
  name = 'send'
  description = 'Sends.'
  schema = TO
  #sent = 0
  protected async _call({ to }: { to: string }): Promise<string> {
    return `sent ${++this.#sent} to ${to}`
  }
}

const FORMS = {
  'of tool()': tool(async ({ to }) => `sent 1 to ${to}`, { ...named, schema: TO }),
  'of a JSON schema': tool(async (args) => `sent 1 to ${(args as { to: string }).to}`, {
    ...named,
    schema: { type: 'object', properties: { to: { type: 'string' } } },
  }),
  'of a class of its own, with private members': new OwnTool(),
  'of a runnable': RunnableLambda.from(async ({ to }: { to: string }) => `sent 1 to ${to}`).asTool({ ...named, schema: TO }),
  'that streams': tool(
    async function* ({ to }) {
      yield 'half'
      return `sent 1 to ${to}`
    },
    { ...named, schema: TO },
  ),
}

describe('a tool', () => {
  test.each(Object.entries(FORMS))('%s runs as without holdfast, and is counted', async (_, send) => {
    const { scope, kernel } = await openGraphKernel()
    const bare = await toolGraph([send]).invoke({ messages: [calling(['send', { to: 'ann' }])] })
    const fresh = send instanceof OwnTool ? new OwnTool() : send
    const [guarded] = guardTools([fresh], scope, AMOUNTS)
    expect([guarded.name, guarded.description, guarded.schema]).toEqual([send.name, send.description, send.schema])
    const state = await guardGraph(toolGraph([guarded]), scope).invoke({ messages: [calling(['send', { to: 'ann' }])] })
    expect(toolAnswers(state)).toEqual(toolAnswers(bare))
    expect(await sentOn(kernel)).toBe(1)
  })

  test.each(Object.entries(FORMS))('%s that is denied does not run, and answers with what to do', async (_, send) => {
    const { scope, kernel } = await openGraphKernel({ rules: DENY })
    const graph = guardGraph(toolGraph(guardTools([send], scope, AMOUNTS)), scope)
    expect(toolAnswers(await graph.invoke({ messages: [calling(['send', { to: 'ann' }])] }))).toEqual([`error: ${DENIED}`])
    expect(await sentOn(kernel)).toBe(0)
  })

  test('of one string shows the gates its argument by the name that the model knows', async () => {
    const { scope } = await openGraphKernel({ rules: [{ effect: 'allow', tool: 'send', where: { input: 'ann' } }] })
    const [send] = guardTools([tool(async (to: string) => `sent to ${to}`, named)], scope)
    expect(await send.invoke('ann')).toBe('sent to ann')
    expect(await send.invoke('bob')).toBe(DENIED)
  })

  test('with an artifact is denied in the form that LangChain expects of it', async () => {
    const { scope } = await openGraphKernel({ rules: DENY })
    const [send] = guardTools([tool(async () => ['sent', 1], { ...named, schema: TO, responseFormat: 'content_and_artifact' })], scope)
    const message = await send.invoke(call({ to: 'ann' }))
    expect(message).toMatchObject({ status: 'error', content: DENIED, tool_call_id: 'call-1' })
    expect(await send.invoke({ to: 'ann' })).toBe(DENIED)
  })

  test('is judged by what its schema makes of the arguments, where that is JSON', async () => {
    const { scope } = await openGraphKernel({ rules: [{ effect: 'allow', tool: 'send', where: { to: 'ann' } }] })
    const [trimming] = guardTools([tool(async ({ to }) => to, { ...named, schema: z.object({ to: z.string().trim() }) })], scope)
    expect(await trimming.invoke({ to: ' ann ' })).toBe('ann')
    const at = z.string().transform((text) => new Date(text))
    const [dated] = guardTools(
      [tool(async ({ on }) => String(on.getTime()), { ...named, schema: z.object({ to: z.string(), on: at }) })],
      scope,
    )
    expect((await dated.invoke(call({ to: 'ann', on: '1970-01-01' }))).content).toBe('0')
    expect((await dated.invoke(call({ to: 'bob', on: '1970-01-01' }))).content).toBe(DENIED)
  })

  test('that is invoked by hand is judged by what it was given, where its schema makes no JSON of that', async () => {
    const { scope } = await openGraphKernel({ rules: [{ effect: 'allow', tool: ['send', 'outer'], where: { to: 'ann' } }] })
    const schema = z.object({ to: z.string(), at: z.coerce.date() })
    const [send] = guardTools([tool(async ({ at }) => String(at.getTime()), { ...named, schema })], scope)
    expect(await send.invoke({ to: 'ann', at: '1970-01-01' })).toBe('0')
    expect(await send.invoke({ to: 'bob', at: '1970-01-01' })).toBe(DENIED)
    // A tool that hands its config on: the call of the model in it is the outer one's.
    const inner = async (_: unknown, config: object) => {
      const answer = (await send.invoke({ to: 'bob', at: '1970-01-01' }, config)) as unknown
      return String((answer as { content?: unknown }).content ?? answer)
    }
    const [outer] = guardTools([tool(inner, { name: 'outer', description: 'x', schema: TO })], scope)
    expect((await outer.invoke({ ...call({ to: 'ann' }), name: 'outer' })).content).toBe(DENIED)
  })

  test('that runs at the provider is left alone, and a name that the model invents is answered by the tool node', async () => {
    const { scope } = await openGraphKernel()
    const hosted = { type: 'web_search' }
    expect(guardTools([hosted], scope)[0]).toBe(hosted)
    const graph = guardGraph(toolGraph(guardTools([FORMS['of tool()']], scope, AMOUNTS)), scope)
    expect(toolAnswers(await graph.invoke({ messages: [calling(['constructor', {}])] }))[0]).toMatch(/^error: .*not found/)
  })

  test('outside of any scope is denied; inside of scope.enter it is that scope’s', async () => {
    const { scope, kernel } = await openGraphKernel()
    const [send] = guardTools([FORMS['of tool()']], undefined, AMOUNTS)
    expect(await send.invoke({ to: 'ann' })).toMatch(/not set up to run anything/)
    expect(await scope.enter(() => send.invoke({ to: 'ann' }))).toBe('sent 1 to ann')
    expect(await sentOn(kernel)).toBe(1)
  })
})

describe('a tool that', () => {
  test('throws is counted, and its error is the framework’s business, as it was', async () => {
    const { scope, kernel } = await openGraphKernel()
    const send = tool(() => Promise.reject(new Error('no route')), { ...named, schema: TO })
    const message = calling(['send', { to: 'ann' }])
    const bare = toolAnswers(await toolGraph([send]).invoke({ messages: [message] }))
    const graph = guardGraph(toolGraph(guardTools([send], scope, AMOUNTS)), scope)
    expect(toolAnswers(await graph.invoke({ messages: [message] }))).toEqual(bare)
    expect(await sentOn(kernel)).toBe(1)
  })

  test('is refused from inside, by a model that it calls, tells the model what to do and nothing of the operator’s', async () => {
    const { scope } = await openGraphKernel()
    const send = tool(() => scope.run({ kind: 'custom', resource: 'inner', worst: { sends: 99 } }, async () => 'done'), {
      ...named,
      schema: TO,
    })
    const graph = guardGraph(toolGraph(guardTools([send], scope)), scope)
    const [answer] = toolAnswers(await graph.invoke({ messages: [calling(['send', { to: 'ann' }])] }))
    expect(answer).toBe('error: The budget for this work is used up. Stop now and answer with what you already have.')
  })

  test('returns 5 MB returns them', async () => {
    const { scope } = await openGraphKernel()
    const send = tool(async () => 'x'.repeat(5_000_000), { ...named, schema: TO })
    const graph = guardGraph(toolGraph(guardTools([send], scope)), scope)
    expect(toolAnswers(await graph.invoke({ messages: [calling(['send', { to: 'ann' }])] }))[0]).toHaveLength(5_000_009)
  })

  test('hangs ends with the abort of its graph, and is counted at worst', async () => {
    const { scope, kernel } = await openGraphKernel()
    const leaver = new AbortController()
    let hangs = false
    const send = tool(
      () => {
        hangs = true
        return new Promise<string>(() => {})
      },
      { ...named, schema: TO },
    )
    const graph = guardGraph(toolGraph(guardTools([send], scope, AMOUNTS)), scope)
    const gone = errorOf(() => graph.invoke({ messages: [calling(['send', { to: 'ann' }])] }, { signal: leaver.signal }))
    await until('the tool hangs', () => hangs)
    leaver.abort()
    const error = await gone
    expect([error instanceof Error, findRefusal(error)]).toEqual([true, undefined])
    expect(await sentOn(kernel)).toBe(1)
  })
})

describe('a signal that is aborted', () => {
  test('before: nothing runs, nothing is held', async () => {
    const { scope, kernel } = await openGraphKernel()
    const [send] = guardTools([FORMS['of tool()']], scope, AMOUNTS)
    const signal = AbortSignal.abort()
    expect(
      await errorOf(() => guardGraph(toolGraph([send]), scope).invoke({ messages: [calling(['send', { to: 'ann' }])] }, { signal })),
    ).toBeInstanceOf(Error)
    expect(await errorOf(() => send.invoke({ to: 'ann' }, { signal }))).toBeInstanceOf(Error)
    expect([await sentOn(kernel), kernel.auditLines.filter((line) => line.includes('"intent"'))]).toEqual([0, []])
  })

  test('after: changes nothing', async () => {
    const { scope, kernel } = await openGraphKernel()
    const leaver = new AbortController()
    const graph = guardGraph(toolGraph(guardTools([FORMS['of tool()']], scope, AMOUNTS)), scope)
    await graph.invoke({ messages: [calling(['send', { to: 'ann' }])] }, { signal: leaver.signal })
    leaver.abort()
    expect(await sentOn(kernel)).toBe(1)
  })
})

test('with limits far away a graph is the same as without holdfast: its state, its parts in every mode, its drawing', async () => {
  const { scope } = await openGraphKernel()
  const State = Annotation.Root({ log: Annotation<string[]>({ reducer: (left, right) => [...left, ...right], default: () => [] }) })
  const build = (wrap: <T extends object>(tools: readonly T[]) => readonly T[]) => {
    const [send] = wrap([tool(async ({ to }) => `sent to ${to}`, { ...named, schema: TO })])
    return new StateGraph(State)
      .addNode('one', async (_, { writer }) => {
        writer?.({ at: 'one' })
        return { log: ['one'] }
      })
      .addNode('two', async (_, config) => ({ log: [await send!.invoke({ to: 'ann' }, config)] }))
      .addEdge(START, 'one')
      .addEdge('one', 'two')
      .compile({ name: 'mine' })
  }
  const bare = build((tools) => tools)
  const guarded = guardGraph(
    build((tools) => guardTools(tools, scope)),
    scope,
  )
  expect(await guarded.invoke({})).toEqual(await bare.invoke({}))
  for (const streamMode of ['values', 'updates', 'messages', 'custom'] as const) {
    expect(await collect(await guarded.stream({}, { streamMode }))).toEqual(await collect(await bare.stream({}, { streamMode })))
  }
  const draw = async (graph: typeof bare) => (await graph.getGraphAsync()).drawMermaid()
  expect(await draw(guarded)).toBe(await draw(bare))
  expect([guarded.name, guarded.getName()]).toEqual([bare.name, bare.getName()])
  const events = async (graph: typeof bare) =>
    (await collect(graph.streamEvents({}, { version: 'v2' }))).map(({ event, name, tags }) => [event, name, tags])
  expect(await events(guarded)).toEqual(await events(bare))
})
