// What other middleware, and the schema of a tool, make of a call inside of holdfast: the gates and the holds are at
// the tool and at the model themselves, and what was answered is told from what was made up.

import { BaseChatModel, type BaseChatModelParams } from '@langchain/core/language_models/chat_models'
import { AIMessage } from '@langchain/core/messages'
import { RunnableLambda } from '@langchain/core/runnables'
import { ChatGenerationChunk, type ChatResult } from '@langchain/core/outputs'
import { INTERRUPT, MemorySaver } from '@langchain/langgraph'
import { createAgent, createMiddleware, modelFallbackMiddleware, modelRetryMiddleware, tool, toolRetryMiddleware } from 'langchain'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardAgent, guardModel, handoffTool, holdfastMiddleware, type ListedMiddleware } from '../../integrations/langchain.ts'
import { SUITE_MODEL, errorOf } from '../../src/testing/integration-bench.ts'
import { assertSettled } from '../../src/testing/integration-money.ts'
import { endsOf, onBench } from './bench.ts'
import { adding, agentOn, DONE, HI, rawModel, texts, TURNS } from './langchain-bench.ts'

const ROOT = { effect: 'deny', tool: 'send', where: { to: 'root@harbour' } } as const
const RULES = [{ effect: 'allow', tool: '*' }, ROOT] as const
const sends = (args: object) => [{ toolCalls: [{ name: 'send', arguments: args }] }, DONE]
const described = { name: 'send', description: 'sends' }
const schema = z.object({ to: z.string().trim().toLowerCase().default('root@harbour') })

interface ToolCall {
  readonly name: string
  readonly args: object
}
type Wrap = (
  request: { readonly toolCall: ToolCall; readonly tool?: unknown },
  handler: (request: { toolCall: ToolCall; tool?: unknown }) => unknown,
) => unknown
const wrapping = (wrapToolCall: Wrap, tools: readonly unknown[] = []): ListedMiddleware => ({ name: 'neighbour', wrapToolCall, tools })

describe('the gates of a tool', () => {
  test.each([{}, { to: ' ROOT@harbour' }])('see the arguments that its schema made of those of the model (%j)', (args) =>
    onBench({ answers: sends(args), rules: RULES }, async (bench) => {
      const ran: string[] = []
      const run = async ({ to }: { to: string }): Promise<string> => (ran.push(to), 'sent')
      const runnable = RunnableLambda.from(run).asTool({ ...described, schema: schema as never })
      for (const send of [tool(run, { ...described, schema }), runnable]) {
        bench.provider.reset()
        expect(texts(await agentOn(bench, { tools: [send] }).invoke(HI))[2]![1]).toContain('You may not do this')
        const bare = createAgent({ model: rawModel(bench), tools: [send], middleware: [holdfastMiddleware(bench.scope)] })
        bench.provider.reset()
        await bare.invoke(HI)
      }
      expect([ran, bench.records('refused').length]).toEqual([[], 4])
    }),
  )

  test('see what the model sent, where a schema makes of it what is no JSON', () =>
    onBench(
      { answers: sends({ on: '2026-01-02' }), rules: [{ effect: 'allow', tool: 'send', where: { on: '2026-01-02' } }] },
      async (bench) => {
        const send = tool(async ({ on }) => `on ${on.getUTCFullYear()}`, {
          ...described,
          schema: z.object({ on: z.string().transform((text) => new Date(text)) }),
        })
        expect(texts(await agentOn(bench, { tools: [send] }).invoke(HI))[2]).toEqual(['tool', 'on 2026'])
      },
    ))

  test('see the arguments that other middleware made of them, and the tool that it took', () =>
    onBench({ answers: sends({ to: 'ann@harbour' }), rules: RULES }, async (bench) => {
      const ran: string[] = []
      const named = (name: string) => tool(async ({ to }) => (ran.push(`${name} ${to}`), 'sent'), { name, description: name, schema })
      const args = { to: 'root@harbour' }
      const rewritten: Wrap = (request, handler) => handler({ ...request, toolCall: { ...request.toolCall, args } })
      const other: Wrap = ({ toolCall }, handler) => handler({ toolCall: { ...toolCall, args }, tool: named('send') })
      // Of a request without a tool LangChain takes that of the name.
      const bare: Wrap = ({ toolCall, ...rest }, handler) => handler({ ...rest, toolCall: { ...toolCall, args }, tool: undefined })
      for (const wrap of [rewritten, other, bare]) {
        bench.provider.reset()
        const result = texts(await agentOn(bench, { tools: [named('send')], middleware: [wrapping(wrap)] }).invoke(HI))
        expect(result[2]![1]).toContain('You may not do this')
      }
      expect(ran).toEqual([])
    }))

  test('stand before a tool that only other middleware knows', () =>
    onBench({ answers: sends({ to: 'root@harbour' }), rules: RULES }, async (bench) => {
      let ran = 0
      const send = tool(async () => String(++ran), { ...described, schema })
      const known = createMiddleware({
        name: 'knows',
        wrapModelCall: (request, handler) => handler({ ...request, tools: [...request.tools, send] }),
        wrapToolCall: (request, handler) => handler({ ...request, tool: send }),
      })
      expect(texts(await agentOn(bench, { middleware: [known] }).invoke(HI))[2]![1]).toContain('You may not do this')
      const bare = createAgent({ model: rawModel(bench), middleware: [holdfastMiddleware(bench.scope), known] })
      bench.provider.reset()
      expect(texts(await bare.invoke(HI))[2]![1]).toContain('You may not do this')
      expect(ran).toBe(0)
    }))

  test('count each run of one that a middleware repeats, and stop it when they are used up', () =>
    onBench({ answers: TURNS, counters: { sums: 3 } }, async (bench) => {
      let ran = 0
      const flaky = adding(() => {
        ran += 1
        throw new Error('the desk is on fire')
      })
      const middleware = [toolRetryMiddleware({ maxRetries: 9, initialDelayMs: 1, backoffFactor: 0 })]
      const agent = agentOn(bench, { tools: [flaky], middleware, holdfast: { toolAmounts: { add: { sums: 1 } } } })
      expect(texts(await agent.invoke(HI))[2]![1]).toContain('is used up')
      expect([ran, await bench.spent('suite/run', 'sums')]).toEqual([3, 3])
    }))

  test('pause the graph once, whoever repeats or swallows what pauses it', () =>
    onBench({ answers: TURNS, rules: [{ effect: 'ask', tool: 'add' }] }, async (bench) => {
      const middleware = [toolRetryMiddleware({ maxRetries: 2, initialDelayMs: 1, retryOn: () => true })]
      const agent = agentOn(bench, { tools: [adding()], middleware, checkpointer: new MemorySaver(), holdfast: { ask: 'interrupt' } })
      const paused = await agent.invoke(HI, { configurable: { thread_id: '1' } })
      expect((paused as unknown as { [INTERRUPT]: unknown[] })[INTERRUPT]).toHaveLength(1)
      expect(bench.records('refused')).toHaveLength(1)
    }))

  test('answer in the form that the tool answers in', () =>
    onBench({ answers: sends({ to: 'root@harbour' }), rules: RULES }, async (bench) => {
      const send = tool(async () => ['sent', 1], { ...described, schema, responseFormat: 'content_and_artifact' })
      const [, , answer] = (await agentOn(bench, { tools: [send] }).invoke(HI)).messages
      expect(answer).toMatchObject({ content: expect.stringMatching(/^You may not do this/), status: 'error', name: 'send' })
    }))

  test('hold for a tool that streams until its last piece', () =>
    onBench({ answers: TURNS, counters: { sums: 1 } }, async (bench) => {
      const ended: number[] = []
      const add = tool(
        async function* () {
          yield 'one'
          await new Promise((resolve) => setTimeout(resolve, 20))
          ended.push(bench.records('outcome').length)
          return 'two'
        },
        { name: 'add', description: 'adds', schema: z.object({}) },
      )
      const agent = agentOn(bench, { tools: [add], holdfast: { toolAmounts: { add: { sums: 1 } } } })
      expect(texts(await agent.invoke(HI))[2]).toEqual(['tool', 'two'])
      expect([ended, bench.records('outcome').length]).toEqual([[1], 3])
    }))
})

describe('what a middleware makes of the answers of models', () => {
  test('is no answer when a fallback was refused', () =>
    onBench({ answers: [{ status: 400 }, DONE], limit: 300_000 }, async (bench) => {
      const fallback = modelFallbackMiddleware(rawModel(bench, { maxTokens: 4_000 }))
      const middleware = [modelRetryMiddleware({ maxRetries: 2, initialDelayMs: 1 }), fallback]
      expect(await errorOf(() => agentOn(bench, { middleware }).invoke(HI))).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
      expect(bench.provider.bill().requests).toBe(1)
    }))

  const hedge = createMiddleware({
    name: 'hedge',
    wrapModelCall: (request, handler) => Promise.any([handler(request), handler(request)]),
  })

  test.each(['guardAgent', 'holdfastMiddleware'])('is the one that was paid for, though another one was refused (%s)', (by) =>
    onBench({ answers: [{ text: 'done', delayMs: 50 }], limit: 250_000 }, async (bench) => {
      const model = rawModel(bench)
      const bare = (): ReturnType<typeof agentOn> => createAgent({ model, middleware: [holdfastMiddleware(bench.scope), hedge] }) as never
      const agent = by === 'guardAgent' ? agentOn(bench, { middleware: [hedge] }) : bare()
      expect(texts(await agent.invoke(HI)).at(-1)).toEqual(['ai', 'done'])
      expect([bench.provider.bill().requests, bench.records('refused').length]).toEqual([1, 1])
      await assertSettled(bench)
    }),
  )
})

/** A model of somebody else; what it uses, nobody sees. Its own part may be a guarded model. */
class Unseen extends BaseChatModel {
  readonly model = SUITE_MODEL
  readonly maxTokens: number
  readonly inner: BaseChatModel | undefined
  constructor(fields: BaseChatModelParams & { readonly maxTokens: number; readonly inner?: BaseChatModel }) {
    super(fields)
    this.maxTokens = fields.maxTokens
    this.inner = fields.inner
  }
  override bindTools(): this {
    return this
  }
  override _llmType(): string {
    return 'unseen'
  }
  override async _generate(): Promise<ChatResult> {
    const usage_metadata = { input_tokens: 20, output_tokens: 50, total_tokens: 70 }
    const message = (await this.inner?.invoke('hello there')) ?? Object.assign(new AIMessage('done'), { usage_metadata })
    return { generations: [{ message, text: message.text }] }
  }
}

class UnseenStream extends Unseen {
  override async *_streamResponseChunks(): AsyncGenerator<ChatGenerationChunk> {
    for await (const message of await this.inner!.stream('hello there')) yield new ChatGenerationChunk({ message, text: message.text })
  }
}

describe('the hold of a model whose HTTP cannot be seen', () => {
  test('pays for nothing that other middleware calls meanwhile', () =>
    onBench({ limit: 10_000_000 }, async (bench) => {
      const selector = guardModel(rawModel(bench), bench.scope)
      const selecting = createMiddleware({
        name: 'selector',
        wrapModelCall: async (request, handler) => (await selector.invoke('which?'), handler(request)),
      })
      await agentOn(bench, { model: new Unseen({ maxTokens: 500 }), middleware: [selecting] }).invoke(HI)
      expect(bench.records('intent')).toHaveLength(2)
      expect(await endsOf(bench)).toEqual(['settled', 'settled'])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd + 20 * 150 + 50 * 600)
    }))

  test.each([Unseen, UnseenStream])('pays for its own request, which a guard of the user sees (%o)', (Model) =>
    onBench({}, async (bench) => {
      const inner = guardModel(rawModel(bench), bench.scope)
      const agent = agentOn(bench, { model: new Model({ maxTokens: 500, inner }) })
      for await (const _ of await agent.stream(HI, { streamMode: 'messages' }));
      expect(bench.provider.bill().requests).toBe(1)
      expect(await endsOf(bench)).toEqual(['settled'])
      await assertSettled(bench)
    }),
  )
})

describe('holdfastMiddleware in the list of guardAgent', () => {
  test('says where the models of other middleware are held', () =>
    onBench({ answers: [{ status: 400 }, DONE] }, async (bench) => {
      const middleware = [holdfastMiddleware(bench.scope), modelFallbackMiddleware(rawModel(bench))]
      expect(texts(await guardAgent({ model: rawModel(bench), middleware }).invoke(HI)).at(-1)).toEqual(['ai', 'done'])
      expect(await endsOf(bench)).toEqual(['released', 'settled'])
    }))

  test('is refused with another scope', () =>
    onBench({}, async (bench) => {
      const scope = bench.kernel.scope({ agent: 'other', task: 'other', budget: 'suite/run' })
      expect(() => agentOn(bench, { middleware: [holdfastMiddleware(scope)] })).toThrow(TypeError)
    }))
})

test('the answer of an agent that was handed to stays when its handoff cannot be closed, and the operator is told', () =>
  onBench({ expected: ['escape'] }, async (bench) => {
    const failing = async (...args: Parameters<typeof bench.scope.handoff>) => {
      const handoff = await bench.scope.handoff(...args)
      const close = async (): Promise<never> => {
        await handoff.close()
        throw new Error('the store is away')
      }
      return { ...handoff, close, [Symbol.asyncDispose]: close }
    }
    const scope = { ...bench.scope, handoff: failing }
    const fields = { name: 'ask_child', description: 'asks', to: 'child', budget: { usd: '0.0001' }, scope }
    expect(await handoffTool({ ...fields, agent: () => 'nine ships' }).invoke({ instruction: 'Count.' })).toBe('nine ships')
    expect(bench.events).toMatchObject([{ type: 'escape', message: expect.stringContaining('the store is away') }])
    const broken = handoffTool({
      ...fields,
      agent: () => {
        throw new Error('the desk is on fire')
      },
    })
    await expect(broken.invoke({ instruction: 'Count.' })).rejects.toThrow('the desk is on fire')
  }))
