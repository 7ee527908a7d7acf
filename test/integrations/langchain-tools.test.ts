// Tools of LangChain's agents: who may run, what the model reads, who is asked, and an agent as a tool of another.

import { BaseChatModel, type BaseChatModelParams } from '@langchain/core/language_models/chat_models'
import { AIMessage, HumanMessage, type BaseMessage } from '@langchain/core/messages'
import type { ChatResult } from '@langchain/core/outputs'
import { Command, INTERRUPT, interrupt, MemorySaver } from '@langchain/langgraph'
import { createAgent, toolErrorMiddleware, toolRetryMiddleware } from 'langchain'
import { describe, expect, test } from 'vitest'
import { guardAgent, guardModel, handoffTool, type ApprovalRequest } from '../../integrations/langchain.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import { OUTPUT_PRICE, SUITE_MODEL, errorOf, until } from '../../src/testing/integration-bench.ts'
import { assertSettled } from '../../src/testing/integration-money.ts'
import { endsOf, onBench } from './bench.ts'
import { langChainTools } from './langchain-adapters.ts'
import { adding, agentOn, ASKS, DONE, HI, rawModel, texts, TURNS } from './langchain-bench.ts'

const DENIED = 'You may not do this. Do not try it again; go on without it.'
const USED_UP = 'The budget for this work is used up. Stop now and answer with what you already have.'

describe('a tool', () => {
  test('that is denied does not run, retried or not, and the model reads so', () =>
    onBench({ answers: TURNS, rules: [{ effect: 'deny', tool: 'add' }] }, async (bench) => {
      let ran = 0
      const middleware = [toolRetryMiddleware({ maxRetries: 2, initialDelayMs: 1 }), toolErrorMiddleware({ onError: () => 'never' })]
      const result = await agentOn(bench, { tools: [adding(() => ran++)], middleware }).invoke(HI)
      expect([ran, texts(result)[2], bench.records('refused').length]).toEqual([0, ['tool', DENIED], 1])
      expect(result.messages[2]).toMatchObject({ status: 'error', name: 'add' })
    }))

  test('that throws is told to the model in the words of LangChain, as without holdfast', () =>
    onBench({ answers: TURNS }, async (bench) => {
      const tools = [
        adding(() => {
          throw new Error('the desk is on fire')
        }),
      ]
      const guarded = texts(await agentOn(bench, { tools }).invoke(HI))
      bench.provider.reset()
      expect(guarded).toEqual(texts(await createAgent({ model: rawModel(bench), tools }).invoke(HI)))
      expect(guarded[2]![1]).toContain('the desk is on fire')
    }))

  test('that throws ends the run where other middleware wraps tools, as without holdfast', () =>
    onBench({ answers: TURNS }, async (bench) => {
      const tools = [
        adding(() => {
          throw new Error('the desk is on fire')
        }),
      ]
      const middleware = [{ name: 'neighbour', wrapToolCall: (request: unknown, handler: (r: unknown) => unknown) => handler(request) }]
      expect(String(await errorOf(() => agentOn(bench, { tools, middleware }).invoke(HI)))).toContain('the desk is on fire')
    }))

  test('with arguments that do not fit its schema is told to the model, as without holdfast', () =>
    onBench({ answers: [{ toolCalls: [{ name: 'add', arguments: { a: 'one' } }] }, DONE] }, async (bench) => {
      const result = texts(await agentOn(bench, { tools: [adding()] }).invoke(HI))
      expect(result[2]![1]).toContain('Error invoking tool')
    }))

  test('that does not exist is no tool, as without holdfast', () =>
    onBench({ answers: [{ toolCalls: [{ name: 'constructor', arguments: {} }] }, DONE] }, async (bench) => {
      const tools = [adding()]
      const guarded = texts(await agentOn(bench, { tools }).invoke(HI))
      bench.provider.reset()
      expect(guarded).toEqual(texts(await createAgent({ model: rawModel(bench), tools }).invoke(HI)))
    }))

  test('that answers with 5 MB has the next turn held for it, and is refused when that does not fit', () =>
    onBench({ answers: TURNS, limit: 100_000_000 }, async (bench) => {
      const error = await errorOf(() => agentOn(bench, { tools: [adding(() => 'x'.repeat(5_000_000))] }).invoke(HI))
      expect(error).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
      expect(bench.provider.bill().requests).toBe(1)
    }))

  test('that hangs ends with the abort of its run, and its count stays', () =>
    onBench({ answers: TURNS, counters: { sums: 5 } }, async (bench) => {
      const leaver = new AbortController()
      let started = false
      const tools = [
        adding(
          () => ((started = true), new Promise((_, reject) => leaver.signal.addEventListener('abort', () => reject(new Error('left'))))),
        ),
      ]
      const agent = agentOn(bench, { tools, holdfast: { toolAmounts: { add: { sums: 1 } } } })
      const call = errorOf(() => agent.invoke(HI, { signal: leaver.signal }))
      await until('the tool runs', () => started)
      leaver.abort()
      expect(await call).not.toBeUndefined()
      expect(await bench.spent('suite/run', 'sums')).toBe(1)
    }))

  test('of eight at once runs as often as its counter says', () =>
    onBench(
      { answers: [{ toolCalls: Array.from({ length: 8 }, () => ASKS.toolCalls![0]!) }, DONE], counters: { sums: 6 } },
      async (bench) => {
        let ran = 0
        const agent = agentOn(bench, { tools: [adding(() => ++ran)], holdfast: { toolAmounts: { add: { sums: 1 } } } })
        const answers = texts(await agent.invoke(HI)).filter(([type]) => type === 'tool')
        expect([ran, await bench.spent('suite/run', 'sums')]).toEqual([6, 6])
        expect(answers.filter(([, text]) => text.startsWith('The budget is held by other work'))).toHaveLength(2)
      },
    ))

  test('whose counter is used up says so to the model, and the run goes on without it', () =>
    onBench({ answers: [ASKS, ASKS, DONE], counters: { sums: 1 } }, async (bench) => {
      const agent = agentOn(bench, { tools: [adding()], holdfast: { toolAmounts: { add: { sums: 1 } } } })
      expect(texts(await agent.invoke(HI)).slice(-2)).toEqual([
        ['tool', USED_UP],
        ['ai', 'done'],
      ])
    }))

  test('with a model inside that is refused tells the model what to do, and nothing for operators', () =>
    onBench({ answers: TURNS, limit: 2_000_000 }, async (bench) => {
      const inner = guardModel(rawModel(bench, { maxTokens: 8_000 }), bench.scope)
      const result = texts(await agentOn(bench, { tools: [adding(async () => (await inner.invoke('inside')).text)] }).invoke(HI))
      expect(result.slice(2)).toEqual([
        ['tool', USED_UP],
        ['ai', 'done'],
      ])
    }))
})

describe('an ask rule', () => {
  const ASKED = [{ effect: 'ask', tool: 'add' }] as const

  test('without more is told to the model', () =>
    onBench({ answers: TURNS, rules: ASKED }, async (bench) => {
      expect(texts(await agentOn(bench, { tools: [adding()] }).invoke(HI))[2]![1]).toContain('approval of a person')
    }))

  test.each([true, false])(
    'pauses the graph when it is told to, and kernel.approve decides, not the resume value (approved: %s)',
    (approved) =>
      onBench({ answers: TURNS, rules: ASKED }, async (bench) => {
        const agent = agentOn(bench, { tools: [adding()], checkpointer: new MemorySaver(), holdfast: { ask: 'interrupt' } })
        const config = { configurable: { thread_id: '1' } }
        const { [INTERRUPT]: paused } = (await agent.invoke(HI, config)) as unknown as { [INTERRUPT]: { value: ApprovalRequest }[] }
        const question = paused[0]!.value
        expect(question).toMatchObject({ tool: 'add', args: { a: 1, b: 2 } })
        expect(bench.provider.bill().requests).toBe(1)
        const { argsHash } = question
        if (approved) await bench.kernel.approve({ agent: 'suite-agent', tool: 'add', argsHash, by: 'ann', expiresInMs: 60_000 })
        const resumed = texts(await agent.invoke(new Command({ resume: { approved: !approved } }) as never, config))
        expect(resumed[2]![1]).toContain(approved ? '3' : 'approval of a person')
        expect(resumed.at(-1)).toEqual(['ai', 'done'])
      }),
  )

  test('leaves the interrupts of tools alone', () =>
    onBench({ answers: TURNS }, async (bench) => {
      const agent = agentOn(bench, { tools: [adding(() => interrupt('how much?'))], checkpointer: new MemorySaver() })
      const config = { configurable: { thread_id: '1' } }
      expect(await agent.invoke(HI, config)).toMatchObject({ __interrupt__: [{ value: 'how much?' }] })
      expect(texts(await agent.invoke(new Command({ resume: 'seven' }) as never, config))[2]).toEqual(['tool', 'seven'])
    }))
})

describe('an agent as a tool', () => {
  /** A parent whose tool hands off to a child on the ambient scope. */
  const family = (bench: Parameters<typeof rawModel>[0], usd: string, child = guardAgent({ model: rawModel(bench), tools: [adding()] })) =>
    agentOn(bench, { tools: [handoffTool({ name: 'ask_child', description: 'asks', to: 'child', budget: { usd }, agent: child })] })
  const HANDS_OFF = { toolCalls: [{ name: 'ask_child', arguments: { instruction: 'Count the ships.', context: 'At night.' } }] }

  test('spends from a budget of its own, and what is left comes back', () =>
    onBench({ answers: [HANDS_OFF, { text: 'nine ships' }, DONE] }, async (bench) => {
      const result = texts(await family(bench, '0.01').invoke(HI))
      expect(result.slice(2)).toEqual([
        ['tool', 'nine ships'],
        ['ai', 'done'],
      ])
      const child = bench.records('intent').filter(({ agent, action }) => agent === 'child' && action === 'model')
      expect(child).toHaveLength(1)
      expect(JSON.stringify(bench.provider.requests()[1]!.body)).toContain('Count the ships.')
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))

  test('that its budget is too small for is refused inside; the one above reads so and goes on', () =>
    onBench({ answers: [HANDS_OFF, DONE] }, async (bench) => {
      const result = texts(await family(bench, '0.00001').invoke(HI))
      expect(result.slice(2)).toEqual([
        ['tool', USED_UP],
        ['ai', 'done'],
      ])
      await assertSettled(bench)
    }))

  test('for which there is not enough money is never started', () =>
    onBench({ answers: [HANDS_OFF, DONE], limit: 5_000_000 }, async (bench) => {
      const result = texts(await family(bench, '0.01').invoke(HI))
      expect(result[2]![1]).toBe(USED_UP)
      expect(bench.provider.bill().requests).toBe(2)
    }))

  test('may be a function, whose scope can do no more than the one above', () =>
    onBench({ answers: [HANDS_OFF, DONE] }, async (bench) => {
      const tool = handoffTool({
        name: 'ask_child',
        description: 'asks',
        to: 'child',
        budget: { usd: '0.001' },
        rules: [{ effect: 'deny', tool: 'delete' }],
        agent: async (message, scope) =>
          `${message.includes('Count the ships.')} ${(await scope.decide({ kind: 'tool', resource: 'delete' }))?.code}`,
      })
      expect(texts(await agentOn(bench, { tools: [tool] }).invoke(HI))[2]).toEqual(['tool', 'true ERR_PERMISSION_DENIED'])
    }))
})

/** A model of somebody else: its HTTP is its own. */
class OtherModel extends BaseChatModel {
  readonly model = SUITE_MODEL
  readonly maxTokens: number | undefined
  readonly baseURL: string
  constructor(fields: BaseChatModelParams & { readonly baseURL: string; readonly maxTokens?: number }) {
    super(fields)
    this.baseURL = fields.baseURL
    this.maxTokens = fields.maxTokens
  }
  override bindTools(): this {
    return this
  }
  override _llmType(): string {
    return 'other'
  }
  override async _generate(messages: BaseMessage[]): Promise<ChatResult> {
    const body = JSON.stringify({
      model: this.model,
      messages: messages.map(({ text }) => ({ role: 'user', content: text })),
      ...(this.maxTokens === undefined ? {} : { max_tokens: this.maxTokens }),
    })
    const response = await fetch(`${this.baseURL}/chat/completions`, {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json' },
    })
    if (!response.ok) throw Object.assign(new Error('failed'), { status: response.status })
    const { id, choices, usage } = (await response.json()) as {
      id: string
      choices: { message: { content: string } }[]
      usage?: { prompt_tokens: number; completion_tokens: number; total_tokens: number }
    }
    const text = choices[0]!.message.content
    const message: AIMessage = new AIMessage({ id, content: text, response_metadata: { model_name: this.model } })
    if (usage !== undefined) {
      const { prompt_tokens, completion_tokens, total_tokens } = usage
      Object.assign(message, { usage_metadata: { input_tokens: prompt_tokens, output_tokens: completion_tokens, total_tokens } })
    }
    return { generations: [{ text, message }] }
  }
}

describe('a model whose HTTP cannot be seen', () => {
  test('is held, given the cap that was granted, and settled from its usage', () =>
    onBench({ limit: 1_000_000 }, async (bench) => {
      await agentOn(bench, { model: new OtherModel({ baseURL: bench.provider.baseURL }) }).invoke(HI)
      const { body } = bench.provider.requests()[0]!
      expect(body['max_tokens']).toBe(bench.records('intent').at(-1)!['outputTokens'])
      expect(body['max_tokens']).toBeLessThan(1_000_000 / OUTPUT_PRICE)
      await assertSettled(bench)
    }))

  test('and that cannot be made anew is held at the most that it may put out, or refused when nobody knows that', () =>
    onBench({}, async (bench) => {
      class Stubborn extends OtherModel {
        override get lc_serializable_keys(): string[] {
          return ['model']
        }
      }
      await agentOn(bench, { model: new Stubborn({ baseURL: bench.provider.baseURL, maxTokens: 40 }) }).invoke(HI)
      expect(bench.records('intent')).toMatchObject([{ outputTokens: 40 }])
      const error = await errorOf(() => agentOn(bench, { model: new Stubborn({ baseURL: bench.provider.baseURL }) }).invoke(HI))
      expect(findRefusal(error)).toMatchObject({ code: 'ERR_UNMETERED', message: expect.stringContaining('maxOutputTokens') })
      expect(bench.provider.bill().requests).toBe(1)
    }))

  test('that says nothing of its usage is charged at worst, and the operator is told', () =>
    onBench({ answers: [{ usage: 'omit' }] }, async (bench) => {
      await agentOn(bench, { model: new OtherModel({ baseURL: bench.provider.baseURL, maxTokens: 50 }) }).invoke(HI)
      expect(await endsOf(bench)).toEqual(['charged'])
      expect(bench.events).toMatchObject([{ type: 'assumed' }])
    }))

  test.each([
    [500, 'charged'],
    [400, 'released'],
  ] as const)('that fails with a %s is %s, after one attempt', (status, end) =>
    onBench({ answers: [{ status }] }, async (bench) => {
      const model = new OtherModel({ baseURL: bench.provider.baseURL, maxTokens: 50 })
      expect(await errorOf(() => agentOn(bench, { model }).invoke(HI))).toMatchObject({ status })
      expect(await endsOf(bench)).toEqual([end])
      expect(bench.provider.bill().requests).toBe(1)
    }),
  )
})

test('with limits far away an agent gives what it gives without holdfast', () =>
  onBench(
    {
      answers: [
        {
          toolCalls: [
            { name: 'look', arguments: { at: 'pier 4' } },
            { name: 'look', arguments: { at: 'pier 5' } },
          ],
        },
        DONE,
      ],
    },
    async (bench) => {
      const tools = langChainTools({ look: async ({ at }) => `two ships at ${String(at)}` })
      const input = { messages: [new HumanMessage({ id: 'first', content: 'look' })] }
      const guarded = await agentOn(bench, { tools, systemPrompt: 'You look.' }).invoke(input)
      const bodies = bench.provider.requests().map(({ body }) => JSON.stringify(body).replaceAll(/call_[\w-]+/g, 'call'))
      bench.provider.reset()
      const bare = await createAgent({ model: rawModel(bench), tools, systemPrompt: 'You look.' }).invoke(input)
      expect(texts(guarded)).toEqual(texts(bare))
      expect(bodies).toEqual(bench.provider.requests().map(({ body }) => JSON.stringify(body).replaceAll(/call_[\w-]+/g, 'call')))
      expect(findRefusal(guarded)).toBeUndefined()
    },
  ))
