// Tools of every form behind the gates: what is judged is what they get, and how they end is what counts.

import { ToolMessage } from '@langchain/core/messages'
import { RunnableLambda } from '@langchain/core/runnables'
import { StructuredTool, tool, type ToolRunnableConfig } from '@langchain/core/tools'
import { Annotation, Command, MemorySaver, ParentCommand, START, Send, StateGraph, interrupt } from '@langchain/langgraph'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardGraph, guardHandoffTool, guardTools } from '../../integrations/langgraph.ts'
import { errorOf } from '../../src/testing/integration-bench.ts'
import { calling, openGraphKernel, sentOn, toolAnswers, toolGraph } from './langgraph-bench.ts'
import { AMOUNTS, THREAD } from './langgraph-cases.ts'

const State = Annotation.Root({ done: Annotation<string[]>({ reducer: (a, b) => [...a, ...b], default: () => [] }) })
const named = { name: 'send', description: 'Sends.' }
const NONE = z.object({})

describe('a runnable as a tool', () => {
  const ROOT = 'root@harbour'
  const RULES = [
    { effect: 'allow', tool: '*' },
    { effect: 'deny', tool: 'send', where: { to: ROOT } },
  ] as const
  const runnableTool = (schema: object, ran: unknown[]) =>
    RunnableLambda.from(async (args: object) => (ran.push(args), 'sent')).asTool({ ...named, schema: schema as never })

  test.each([{ to: ' ROOT@harbour' }, {}, { to: ROOT }])('is judged by what its schema makes of the arguments: %j', async (args) => {
    const { scope } = await openGraphKernel({ rules: RULES })
    const ran: unknown[] = []
    const [send] = guardTools([runnableTool(z.object({ to: z.string().trim().toLowerCase().default(ROOT) }), ran)], scope)
    expect(toolAnswers(await toolGraph([send]).invoke({ messages: [calling(['send', args], ['send', { to: ' ANN ' }])] }))).toEqual([
      expect.stringMatching(/^error: You may not do this/),
      'success: sent',
    ])
    expect(ran).toEqual([{ to: 'ann' }])
  })

  test('gets the arguments that were judged: its schema reads them once', async () => {
    const { scope } = await openGraphKernel({ rules: RULES })
    const ran: unknown[] = []
    let reads = 0
    const schema = z.object({ to: z.string().default(() => (reads++ === 0 ? 'ann' : ROOT)), at: z.string().transform(Number) })
    const [send] = guardTools([runnableTool(schema, ran)], scope)
    expect(toolAnswers(await toolGraph([send]).invoke({ messages: [calling(['send', { at: '7' }])] }))).toEqual(['success: sent'])
    expect([ran, reads]).toEqual([[{ to: 'ann', at: 7 }], 1])
  })

  test('does not run on arguments that do not fit, nor on such as look like a call themselves', async () => {
    const { scope } = await openGraphKernel({ rules: RULES })
    const ran: unknown[] = []
    const [send] = guardTools([runnableTool(z.looseObject({}), ran), runnableTool(z.object({ to: z.string() }), ran)], scope)
    const [strict] = guardTools([runnableTool(z.object({ to: z.string() }), ran)], scope)
    const within = { type: 'tool_call', id: 'x', name: 'send', args: { to: ROOT } }
    for (const [one, args] of [
      [send, within],
      [strict, { to: 7 }],
    ] as const)
      expect(toolAnswers(await toolGraph([one]).invoke({ messages: [calling(['send', args])] }))[0]).toMatch(
        /did not match expected schema/,
      )
    expect(ran).toEqual([])
  })
})

describe('a tool that ends with a command to a graph further out', () => {
  /** A graph with a team, which is a graph with this node. */
  const around = (node: (config: object) => Promise<object>) => {
    const team = new StateGraph(State)
      .addNode('tools', async (_, config) => node(config))
      .addEdge(START, 'tools')
      .compile()
    return new StateGraph(State)
      .addNode('team', team, { ends: ['bob'] })
      .addNode('bob', async () => ({ done: ['bob'] }))
      .addEdge(START, 'team')
  }
  const FORMS = {
    throwing: async () => {
      throw new ParentCommand(new Command({ goto: 'bob', graph: Command.PARENT }))
    },
    'that runs a graph': async (config: object) =>
      new StateGraph(State)
        .addNode('x', async () => new Command({ goto: 'bob', graph: Command.PARENT }))
        .addEdge(START, 'x')
        .compile()
        .invoke({}, config),
  }

  test.each(Object.entries(FORMS))('has done what it did, and is counted: one %s', async (_, command) => {
    for (const checkpointer of [undefined, new MemorySaver()]) {
      const { scope, kernel } = await openGraphKernel()
      let sent = 0
      const work = async (_args: unknown, config: object): Promise<object> => {
        sent++
        return command(config)
      }
      const raw = tool(work, { ...named, schema: NONE })
      const [send] = guardTools([raw], scope, AMOUNTS)
      const graph = (with_: typeof raw) => around(async (config) => (await with_.invoke({}, config), {}))
      const guarded = guardGraph(graph(send).compile(checkpointer === undefined ? {} : { checkpointer }), scope)
      expect(await guarded.invoke({}, THREAD)).toEqual(await graph(raw).compile().invoke({}))
      // Once more by the graph without holdfast.
      expect([sent, await sentOn(kernel)]).toEqual([2, 1])
      expect(kernel.auditLines.some((line) => line.includes('"charged"'))).toBe(false)
    }
  })

  test.each(['thrown', 'returned'])('gives the same command again when its task is run again: %s', async (how) => {
    const { scope, kernel } = await openGraphKernel()
    let sent = 0
    const command = () => new Command({ goto: 'bob', graph: Command.PARENT })
    const commanding = tool(
      async () => {
        sent++
        if (how === 'thrown') throw new ParentCommand(command())
        return command()
      },
      { ...named, schema: NONE },
    )
    const [send] = guardTools([commanding], scope, AMOUNTS)
    const graph = around(async (config) => {
      try {
        return await send.invoke({}, config)
      } finally {
        // Before the command gets out of the node: the task rests, and is run again from its top.
        interrupt('go on?')
      }
    })
    const guarded = guardGraph(graph.compile({ checkpointer: new MemorySaver() }), scope)
    await guarded.invoke({}, THREAD)
    expect(await guarded.invoke(new Command({ resume: 'yes' }), THREAD)).toEqual({ done: ['bob'] })
    expect([sent, await sentOn(kernel)]).toEqual([1, 1])
  })
})

test.each([
  ['an update', (message: ToolMessage) => new Command({ update: { done: [], messages: [message] } })],
  ['an update as pairs', (message: ToolMessage) => new Command({ update: [['messages', [message]]] })],
  ['what it sends', (message: ToolMessage) => new Command({ goto: new Send('a', { messages: [message] }) })],
])('a command that is given again answers the call of now, wherever its message lies: in %s', async (_, command) => {
  const { scope } = await openGraphKernel()
  const answering = tool(
    async (_args, config) => {
      const { id } = (config as ToolRunnableConfig).toolCall!
      return command(new ToolMessage({ content: 'ok', tool_call_id: id! }))
    },
    { ...named, schema: NONE },
  )
  const [send] = guardTools([answering], scope)
  const got: unknown[] = []
  const node = async () => {
    const given = (await send.invoke({ name: 'send', args: {}, id: `call-${got.length}`, type: 'tool_call' })) as unknown
    got.push(JSON.parse(JSON.stringify(given, (key, value: unknown) => (key === 'lc_kwargs' ? undefined : value))))
    interrupt('?')
    return {}
  }
  const graph = guardGraph(new StateGraph(State).addNode('a', node).addEdge(START, 'a').compile({ checkpointer: new MemorySaver() }), scope)
  await graph.invoke({}, THREAD)
  await graph.invoke(new Command({ resume: 1 }), THREAD)
  expect(got.map((one) => /"tool_call_id":"(call-\d)"/.exec(JSON.stringify(one))?.[1])).toEqual(['call-0', 'call-1'])
})

describe('a tool', () => {
  test('that is behind the gates already is not put behind them again', async () => {
    const { scope } = await openGraphKernel()
    const guarded = guardTools([tool(async () => 'sent', { ...named, schema: NONE })], scope)
    expect(() => guardTools(guarded, scope)).toThrow('The tool `send` is guarded already')
    const handing = guardHandoffTool(guarded[0], scope, { to: 'bob' })
    expect(() => guardTools([handing], scope)).toThrow('is guarded already')
  })

  test('of a class whose schema comes from a private member has that schema', async () => {
    const { scope } = await openGraphKernel()
    class Private extends StructuredTool {
      name = 'send'
      description = 'Sends.'
      #schema = z.object({ to: z.string() })
      get schema() {
        return this.#schema
      }
      protected async _call({ to }: { to: string }): Promise<string> {
        return `sent to ${to}`
      }
    }
    const [send] = guardTools([new Private()], scope)
    expect(await send.invoke({ to: 'ann' })).toBe('sent to ann')
  })

  test('of a class whose own `invoke` uses private members says so, with what to do', async () => {
    const { scope } = await openGraphKernel()
    class Logging extends StructuredTool {
      name = 'send'
      description = 'Sends.'
      schema = NONE
      #log: string[] = []
      protected async _call(): Promise<string> {
        return 'sent'
      }
      override async invoke(...args: Parameters<StructuredTool['invoke']>): Promise<unknown> {
        this.#log.push('invoked')
        return super.invoke(...args)
      }
    }
    const [send] = guardTools([new Logging()], scope)
    const error = await errorOf(() => send.invoke({}))
    expect(String(error)).toMatch(/^TypeError: The tool `send` uses private members .* Use them in `_call` only/)
  })
})
