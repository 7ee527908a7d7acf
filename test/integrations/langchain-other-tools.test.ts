// Tools that other middleware runs by itself, that are guarded already, or that are unlike those of `tool(...)`; and
// what becomes of an agent as a tool when its run is aborted.

import { ToolMessage } from '@langchain/core/messages'
import { RunnableLambda } from '@langchain/core/runnables'
import { StructuredTool } from '@langchain/core/tools'
import { Command, INTERRUPT, MemorySaver } from '@langchain/langgraph'
import { createAgent, createMiddleware, tool } from 'langchain'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardAgent, handoffTool, holdfastMiddleware, type ApprovalRequest } from '../../integrations/langchain.ts'
import { guardTools } from '../../integrations/langgraph.ts'
import { guardToolCall } from '../../integrations/langchain/tools.ts'
import { openKernel } from '../../src/kernel/open-kernel.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { errorOf, until, type Bench } from '../../src/testing/integration-bench.ts'
import { onBench } from './bench.ts'
import { adding, agentOn, DONE, HI, rawModel, texts, TURNS } from './langchain-bench.ts'

const DENIED = 'You may not do this. Do not try it again; go on without it.'
const THREAD = { configurable: { thread_id: '1' } }
const calls = (name: string, args: object) => [{ toolCalls: [{ name, arguments: args }] }, DONE]
type Asked = Awaited<ReturnType<ReturnType<typeof agentOn>['invoke']>> & { [INTERRUPT]?: { value: ApprovalRequest }[] }

/** Answers every question with an approval; how often it was asked. */
async function approving(bench: Bench, agent: ReturnType<typeof agentOn>): Promise<{ asked: number; answers: ReturnType<typeof texts> }> {
  let result = (await agent.invoke(HI, THREAD)) as Asked
  let asked = 0
  for (; result[INTERRUPT] !== undefined && asked < 5; asked++) {
    const { agent: who, tool, argsHash } = result[INTERRUPT][0]!.value
    await bench.kernel.approve({ agent: who, tool, argsHash, by: 'ann', expiresInMs: 60_000 })
    result = (await agent.invoke(new Command({ resume: 'go on' }) as never, THREAD)) as Asked
  }
  return { asked, answers: texts(result) }
}

describe('a tool that only other middleware has', () => {
  const WIRE = { type: 'function', function: { name: 'wire', description: 'wires', parameters: { type: 'object', properties: {} } } }
  const owning = (run: () => void) =>
    createMiddleware({
      name: 'owning',
      wrapModelCall: (request, handler) => handler({ ...request, tools: [...request.tools, WIRE] }),
      wrapToolCall: (request, handler) => {
        if (request.toolCall.name !== 'wire') return handler(request)
        run()
        return new ToolMessage({ content: 'wired', tool_call_id: request.toolCall.id!, name: 'wire' })
      },
    })

  test.each(['guardAgent', 'holdfastMiddleware'])('is not run by it when it is denied (%s)', (by) =>
    onBench({ answers: calls('wire', { to: 'x' }), rules: [{ effect: 'deny', tool: 'wire' }] }, async (bench) => {
      let ran = 0
      const others = owning(() => ran++)
      const bare = () => createAgent({ model: rawModel(bench), tools: [adding()], middleware: [holdfastMiddleware(bench.scope), others] })
      const agent = by === 'guardAgent' ? agentOn(bench, { tools: [adding()], middleware: [others] }) : bare()
      expect([texts(await agent.invoke(HI))[2], ran]).toEqual([['tool', DENIED], 0])
    }),
  )

  test('is run by it, and counted, when nothing speaks against it', () =>
    onBench({ answers: calls('wire', { to: 'x' }), counters: { wires: 5 } }, async (bench) => {
      const middleware = [owning(() => undefined)]
      const agent = agentOn(bench, { tools: [adding()], middleware, holdfast: { toolAmounts: { wire: { wires: 1 } } } })
      expect(texts(await agent.invoke(HI))[2]).toEqual(['tool', 'wired'])
      expect(await bench.spent('suite/run', 'wires')).toBe(1)
    }))

  test('is asked about and counted once, though its call passes the gates around that middleware and at the tool', () =>
    onBench({ answers: calls('wire', { to: 'x' }), rules: [{ effect: 'ask', tool: 'wire' }], counters: { wires: 5 } }, async (bench) => {
      let ran = 0
      const wire = tool(async () => String(++ran), { name: 'wire', description: 'wires', schema: z.object({ to: z.string() }) })
      const knowing = createMiddleware({
        name: 'knowing',
        wrapModelCall: (request, handler) => handler({ ...request, tools: [...request.tools, wire] }),
        wrapToolCall: (request, handler) => handler({ ...request, tool: wire }),
      })
      const holdfast = { ask: 'interrupt', toolAmounts: { wire: { wires: 1 } } } as const
      const { asked, answers } = await approving(
        bench,
        agentOn(bench, { middleware: [knowing], checkpointer: new MemorySaver(), holdfast }),
      )
      expect([asked, ran, answers[2]]).toEqual([1, 1, ['tool', '1']])
      expect(await bench.spent('suite/run', 'wires')).toBe(1)
    }))

  test('is counted each time that other middleware repeats its call', () =>
    onBench({ answers: calls('wire', {}), counters: { wires: 5 } }, async (bench) => {
      const wire = tool(async () => 'wired', { name: 'wire', description: 'wires', schema: z.object({}) })
      const repeating = createMiddleware({
        name: 'repeating',
        wrapModelCall: (request, handler) => handler({ ...request, tools: [...request.tools, wire] }),
        wrapToolCall: async (request, handler) => (await handler({ ...request, tool: wire }), handler({ ...request, tool: wire })),
      })
      await agentOn(bench, { middleware: [repeating], holdfast: { toolAmounts: { wire: { wires: 1 } } } }).invoke(HI)
      expect(await bench.spent('suite/run', 'wires')).toBe(2)
    }))

  test('is asked about anew when it is called with other arguments than those that were asked about', () =>
    onBench({ answers: calls('wire', { to: 'ann' }), rules: [{ effect: 'allow', tool: 'wire', where: { to: 'ann' } }] }, async (bench) => {
      const ran: string[] = []
      const wire = tool(async ({ to }) => (ran.push(to), 'wired'), {
        name: 'wire',
        description: 'wires',
        schema: z.object({ to: z.string() }),
      })
      const knowing = createMiddleware({
        name: 'knowing',
        wrapModelCall: (request, handler) => handler({ ...request, tools: [...request.tools, wire] }),
        wrapToolCall: async (request, handler) => {
          await handler({ ...request, tool: wire })
          return handler({ ...request, tool: wire, toolCall: { ...request.toolCall, args: { to: 'root' } } })
        },
      })
      expect(texts(await agentOn(bench, { middleware: [knowing] }).invoke(HI))[2]).toEqual(['tool', DENIED])
      expect(ran).toEqual(['ann'])
    }))
})

describe('a runnable as a tool', () => {
  const described = { name: 'send', description: 'sends' }

  test.each([0, 1])('gets the very arguments that were asked about, though its schema reads them otherwise each time (%i)', (start) =>
    onBench(
      {
        answers: calls('send', {}),
        rules: [
          { effect: 'allow', tool: '*' },
          { effect: 'deny', tool: 'send', where: { to: 'root' } },
        ],
      },
      async (bench) => {
        let reads = start
        const ran: string[] = []
        const schema = z.object({ to: z.string().default(() => (reads++ % 2 === 1 ? 'root' : 'anna')) })
        const send = RunnableLambda.from(async ({ to }: { to: string }) => (ran.push(to), 'sent')).asTool({
          ...described,
          schema: schema as never,
        })
        await agentOn(bench, { tools: [send] }).invoke(HI)
        expect(ran).not.toContain('root')
        const refused = bench.records('refused').length
        expect(ran.length + refused).toBe(1)
      },
    ),
  )

  test('gets what its schema makes of its arguments, once', () =>
    onBench({ answers: calls('send', { to: '7' }) }, async (bench) => {
      const schema = z.object({ to: z.string().transform(Number) })
      const send = RunnableLambda.from(async ({ to }: { to: number }) => `${typeof to} ${to}`).asTool({
        ...described,
        schema: schema as never,
      })
      expect(texts(await agentOn(bench, { tools: [send] }).invoke(HI))[2]).toEqual(['tool', 'number 7'])
    }))

  test('with arguments that do not fit is told to the model, as without holdfast', () =>
    onBench({ answers: calls('send', { to: 7 }) }, async (bench) => {
      const send = RunnableLambda.from(async () => 'sent').asTool({ ...described, schema: z.object({ to: z.string() }) })
      // What follows is the stack of the error.
      const told = (result: Parameters<typeof texts>[0]) => texts(result)[2]![1].split('\n')[0]
      const guarded = told(await agentOn(bench, { tools: [send] }).invoke(HI))
      bench.provider.reset()
      expect(guarded).toBe(told(await createAgent({ model: rawModel(bench), tools: [send] }).invoke(HI)))
      expect(guarded).toContain('Received tool input did not match expected schema')
    }))
})

describe('a tool with #private members', () => {
  class Adding extends StructuredTool {
    readonly #schema = z.object({ a: z.number(), b: z.number() })
    readonly #log: string[] = []
    readonly name = 'add'
    readonly description = 'adds'
    get schema() {
      return this.#schema
    }
    override async _call({ a, b }: { a: number; b: number }): Promise<string> {
      this.#log.push('called')
      return String(a + b)
    }
    protected noted(): void {
      this.#log.push('invoked')
    }
  }

  test('in what it does, and in its schema, works as it is', () =>
    onBench({ answers: TURNS }, async (bench) => {
      expect(texts(await agentOn(bench, { tools: [new Adding()] }).invoke(HI))[2]).toEqual(['tool', '3'])
    }))

  test('in an invoke of its own ends the run with what to change', () =>
    onBench({ answers: TURNS }, async (bench) => {
      class Noting extends Adding {
        override async invoke(...args: Parameters<StructuredTool['invoke']>): Promise<never> {
          this.noted()
          return (await super.invoke(...args)) as never
        }
      }
      const error = await errorOf(() => agentOn(bench, { tools: [new Noting()] }).invoke(HI))
      expect(String(error)).toMatch(/`add` uses private members/)
      expect(bench.provider.bill().requests).toBe(1)
    }))
})

describe('a tool of guardTools', () => {
  test('asks by itself: one approval is enough, and it counts once', () =>
    onBench({ answers: TURNS, rules: [{ effect: 'ask', tool: 'add' }], counters: { sums: 5 } }, async (bench) => {
      let ran = 0
      const tools = guardTools([adding(() => String(++ran))], bench.scope, { amounts: { add: { sums: 1 } } })
      const { asked, answers } = await approving(bench, agentOn(bench, { tools, checkpointer: new MemorySaver() }))
      expect([asked, ran, answers[2]]).toEqual([1, 1, ['tool', '1']])
      expect(await bench.spent('suite/run', 'sums')).toBe(1)
    }))

  test('that toolAmounts names is told about in a warning: what it counts as is said by guardTools', () =>
    onBench({}, async (bench) => {
      const seen: (Error & { code?: string })[] = []
      const listen = (warning: Error): void => void seen.push(warning)
      process.on('warning', listen)
      agentOn(bench, { tools: guardTools([adding()], bench.scope), holdfast: { toolAmounts: { add: { sums: 1 } } } })
      await new Promise(setImmediate)
      process.off('warning', listen)
      expect(seen.map(({ code }) => code)).toContain('holdfast:tool-amounts')
    }))
})

describe('holdfastMiddleware in the list of guardAgent', () => {
  test('is refused beside `holdfast`, of which it would know nothing', () =>
    onBench({}, async (bench) => {
      const middleware = [holdfastMiddleware(bench.scope)]
      expect(() => agentOn(bench, { middleware, holdfast: { toolAmounts: { add: { sums: 1 } } } })).toThrow(/`holdfast` stands beside/)
      expect(() => agentOn(bench, { middleware })).not.toThrow()
    }))

  test('lets an error of a tool end the run where other middleware wraps tools, as without it', () =>
    onBench({ answers: TURNS }, async (bench) => {
      const tools = [
        adding(() => {
          throw new Error('the desk is on fire')
        }),
      ]
      const neighbour = createMiddleware({ name: 'neighbour', wrapToolCall: (request, handler) => handler(request) })
      const middleware = [holdfastMiddleware(bench.scope), neighbour]
      const error = await errorOf(() => guardAgent({ model: rawModel(bench), tools, middleware }).invoke(HI))
      expect(String(error)).toContain('the desk is on fire')
    }))
})

describe('an aborted run', () => {
  const HANDS_OFF = [{ toolCalls: [{ name: 'ask_child', arguments: { instruction: 'Count.' } }] }, DONE]

  test('takes the budget back from an agent that it handed off to, which is told, and can spend no more', () =>
    onBench({ answers: HANDS_OFF }, async (bench) => {
      const leaver = new AbortController()
      let told: AbortSignal | undefined
      let late: unknown
      let goOn = (): void => undefined
      const child = handoffTool({
        name: 'ask_child',
        description: 'asks',
        to: 'child',
        budget: { usd: '0.5' },
        agent: async (_, scope, { signal }) => {
          told = signal
          await new Promise<void>((resolve) => (goOn = resolve))
          late = await errorOf(() => scope.run({ kind: 'tool', resource: 'add', worst: { usd: 1 } }, async () => 'spent'))
        },
      })
      const run = errorOf(() => agentOn(bench, { tools: [child] }).invoke(HI, { signal: leaver.signal }))
      await until('the child works', () => told !== undefined)
      leaver.abort()
      expect(await run).toBeDefined()
      expect(told!.aborted).toBe(true)
      const kidsOf = async () => (await bench.kernel.budgets('suite/run')).find(({ budget }) => budget === 'suite/run')!.kids
      for (let tries = 0; tries < 100 && (await kidsOf()) > 0; tries++) await new Promise((resolve) => setTimeout(resolve, 10))
      expect(await kidsOf()).toBe(0)
      goOn()
      await until('the child has tried', () => late !== undefined)
      expect(late).toMatchObject({ code: expect.stringMatching(/^ERR_/) as string })
    }))

  test('does not wait in line for what a tool counts as', async () => {
    const kernel = await openKernel({ store: memoryStore(), budgets: { acme: { sums: 1 } }, waitMs: 30_000 })
    const scope = kernel.scope({ agent: 'clerk', task: 'day', budget: 'acme' })
    const held = await scope.begin({ kind: 'custom', resource: 'other work', worst: { sums: 1 } })
    const leaver = new AbortController()
    const toolCall = { name: 'add', args: {}, id: '1' }
    let ran = 0
    const run = () => new ToolMessage({ content: String(++ran), tool_call_id: '1' })
    const options = { toolAmounts: { add: { sums: 1 } }, toolErrors: 'throw' } as const
    const call = errorOf(() => guardToolCall(scope, options, { toolCall, runtime: { signal: leaver.signal } }, run))
    setTimeout(() => leaver.abort(), 20)
    expect(await call).toMatchObject({ name: 'AbortError' })
    expect(ran).toBe(0)
    await held.release('done')
    await kernel.close()
  })
})
