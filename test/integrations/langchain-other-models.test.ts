// Models that other middleware chooses, repeats, enlarges or asks by itself, also those whose HTTP cannot be seen: each
// call is held where it is made, at its own price, and what was paid for is not lost.

import { AIMessage, HumanMessage } from '@langchain/core/messages'
import { interrupt, MemorySaver } from '@langchain/langgraph'
import {
  createAgent,
  createMiddleware,
  initChatModel,
  modelFallbackMiddleware,
  modelRetryMiddleware,
  type AnyAgentMiddleware,
} from 'langchain'
import { describe, expect, test } from 'vitest'
import { holdfastMiddleware } from '../../integrations/langchain.ts'
import { boundCall, clampedSettings, withOwnMaximum } from '../../integrations/langchain/request.ts'
import { errorOf, SUITE_MODEL, type Bench } from '../../src/testing/integration-bench.ts'
import { assertSettled } from '../../src/testing/integration-money.ts'
import { endsOf, onBench } from './bench.ts'
import {
  adding,
  agentOn,
  answerUsing,
  DONE,
  failing,
  fieldsOf,
  HI,
  rawModel,
  texts,
  TURNS,
  UnseenModel,
  type UnseenFields,
} from './langchain-bench.ts'

/** Its 1,000 tokens in and 100 out cost 0.0035 USD. */
const dearer = () => new UnseenModel({ model: 'gpt-4o', maxTokens: 500, answer: () => answerUsing(1_000, 100) })
const DEARER_NANO_USD = 3_500_000
const UNSEEN_NANO_USD = 20 * 150 + 50 * 600

type Model = Parameters<typeof modelFallbackMiddleware>[0]
const taking = (model: unknown) =>
  createMiddleware({ name: 'taking', wrapModelCall: (request, handler) => handler({ ...request, model: model as typeof request.model }) })
const answering = createMiddleware({ name: 'answering', wrapModelCall: () => new AIMessage('no need to ask') })
const bareOn = (bench: Bench, model: unknown, ...others: AnyAgentMiddleware[]) =>
  createAgent({ model: model as Model, middleware: [holdfastMiddleware(bench.scope, { tools: false }), ...others] })

describe('a model whose HTTP cannot be seen', () => {
  test.each([
    [400, 'released'],
    [429, 'released'],
    [500, 'charged'],
  ] as const)('is held at its own price as a fallback of one that failed with a %s', (status, first) =>
    onBench({ answers: [{ status }] }, async (bench) => {
      const middleware = [modelFallbackMiddleware(dearer() as Model)]
      expect(texts(await agentOn(bench, { middleware }).invoke(HI)).at(-1)).toEqual(['ai', 'done'])
      expect(bench.records('intent').map(({ resource }) => resource)).toEqual([SUITE_MODEL, 'gpt-4o'])
      expect(await endsOf(bench)).toEqual([first, 'settled'])
      expect(bench.records('outcome').at(-1)).toMatchObject({ used: { usd: DEARER_NANO_USD } })
    }),
  )

  test('is not run as a fallback that does not fit', () =>
    onBench({ answers: [{ status: 400 }], limit: 300_000 }, async (bench) => {
      let asked = 0
      const other = new UnseenModel({ model: 'gpt-4o', maxTokens: 5_000, answer: () => new AIMessage(String(++asked)) })
      const middleware = [modelFallbackMiddleware(other as Model)]
      expect(await errorOf(() => agentOn(bench, { middleware }).invoke(HI))).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
      expect(asked).toBe(0)
    }))

  test('is held at its own price when it is chosen at once, and nothing is held for the one that is not asked', () =>
    onBench({}, async (bench) => {
      await agentOn(bench, { middleware: [taking(dearer())] }).invoke(HI)
      expect(bench.records('intent').map(({ resource }) => resource)).toEqual(['gpt-4o'])
      expect(await bench.spent()).toBe(DEARER_NANO_USD)
    }))

  test.each([
    ['messages', { messages: [new HumanMessage('x'.repeat(400_000))] }],
    ['systemPrompt', { systemPrompt: 'x'.repeat(400_000) }],
    ['tools', { tools: [{ name: 'look', description: 'looks', input_schema: { description: 'x'.repeat(400_000) } }] }],
  ])('is held for what other middleware makes of its request (%s)', (_, more) =>
    onBench({ limit: 1_000_000 }, async (bench) => {
      let asked = 0
      const model = new UnseenModel({ maxTokens: 50, answer: () => new AIMessage(String(++asked)) })
      const larger = createMiddleware({ name: 'larger', wrapModelCall: (request, handler) => handler({ ...request, ...(more as object) }) })
      const error = await errorOf(() => agentOn(bench, { model, middleware: [larger] }).invoke(HI))
      expect(error).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
      expect(asked).toBe(0)
    }),
  )

  test('is held anew each time that other middleware repeats its call', () =>
    onBench({}, async (bench) => {
      let asked = 0
      const answer = () => (++asked < 3 ? failing(500)() : answerUsing(20, 50))
      const middleware = [modelRetryMiddleware({ maxRetries: 5, initialDelayMs: 1, backoffFactor: 0 })]
      await agentOn(bench, { model: new UnseenModel({ maxTokens: 50, answer }), middleware }).invoke(HI)
      expect(await endsOf(bench)).toEqual(['charged', 'charged', 'settled'])
    }))

  test('is charged for an unknown end, also when another model answers in its place', () =>
    onBench({}, async (bench) => {
      const middleware = [modelFallbackMiddleware(rawModel(bench))]
      await agentOn(bench, { model: new UnseenModel({ maxTokens: 500, answer: failing(500) }), middleware }).invoke(HI)
      expect(await endsOf(bench)).toEqual(['charged', 'settled'])
      expect(bench.records('outcome').at(-1)).toMatchObject({ used: { usd: bench.provider.bill().nanoUsd } })
    }))

  test('costs nothing when other middleware answers for it, in guardAgent', () =>
    onBench({}, async (bench) => {
      await agentOn(bench, { model: new UnseenModel({ maxTokens: 500 }), middleware: [answering] }).invoke(HI)
      expect([bench.records('intent'), await bench.spent()]).toEqual([[], 0])
    }))

  test('costs nothing when other middleware answers for it, interrupts it or fails, under the bare middleware', () =>
    onBench({}, async (bench) => {
      const asking = createMiddleware({ name: 'asking', wrapModelCall: (request, handler) => (interrupt('ok?'), handler(request)) })
      const breaking = createMiddleware({ name: 'breaking', wrapModelCall: failing(500) })
      const first = holdfastMiddleware(bench.scope, { tools: false })
      for (const other of [answering, asking, breaking]) {
        const model = new UnseenModel({ maxTokens: 500 }) as Model
        const agent = createAgent({ model, middleware: [first, other], checkpointer: new MemorySaver() })
        await errorOf(() => agent.invoke(HI, { configurable: { thread_id: '1' } }))
      }
      expect(await endsOf(bench)).toEqual(['released', 'released', 'released'])
    }))

  test('whose tools are bound to a new model, which is not known here, is charged when that fails', () =>
    onBench({}, async (bench) => {
      class Rebinding extends UnseenModel {
        override bindTools(): ReturnType<BaseBinding> {
          return new UnseenModel(this.fields).withConfig({})
        }
      }
      type BaseBinding = UnseenModel['bindTools']
      await errorOf(() => bareOn(bench, new Rebinding({ maxTokens: 50, answer: failing(500) })).invoke(HI))
      expect(await endsOf(bench)).toEqual(['charged'])
    }))

  test('that other middleware asks by itself is held by itself', () =>
    onBench({}, async (bench) => {
      // LangChain has things of its own among the options of a call.
      class Store {
        readonly self = this
      }
      const asking = createMiddleware({
        name: 'asking',
        wrapModelCall: async (request, handler) => {
          await (request.model as unknown as UnseenModel).withConfig({ tags: ['x'] }).invoke('which?', { store: new Store() } as never)
          return handler(request)
        },
      })
      const agent = agentOn(bench, {
        model: new UnseenModel({ maxTokens: 500 }),
        middleware: [asking, taking(new UnseenModel({ maxTokens: 70 }))],
      })
      await agent.invoke(HI)
      expect(bench.records('intent')).toMatchObject([{ outputTokens: 500 }, { outputTokens: 70 }])
      expect(await bench.spent()).toBe(2 * UNSEEN_NANO_USD)
    }))

  test('is made anew once for each call, and found out about once', () =>
    onBench({}, async (bench) => {
      const agent = agentOn(bench, { model: new UnseenModel({ maxTokens: 50 }) })
      await agent.invoke(HI)
      UnseenModel.made = 0
      await agent.invoke(HI)
      expect(UnseenModel.made).toBe(1)
    }))
})

test('a model that the configuration of a run sets is the one that is held and asked, also inside of other middleware', () =>
  onBench({}, async (bench) => {
    const { configuration } = fieldsOf(rawModel(bench))
    const model = await initChatModel(SUITE_MODEL, {
      modelProvider: 'openai',
      configurableFields: ['temperature'],
      apiKey: 'test',
      configuration,
    })
    const passing = createMiddleware({ name: 'passing', wrapModelCall: (request, handler) => handler(request) })
    const agent = agentOn(bench, { model, middleware: [passing, passing].map((one, index) => ({ ...one, name: `passing ${index}` })) })
    await agent.invoke(HI, { configurable: { temperature: 0.25 } })
    expect(bench.provider.requests()[0]!.body).toMatchObject({ temperature: 0.25 })
    await assertSettled(bench)
  }))

describe('settings of a call', () => {
  const setting = (modelSettings: Record<string, unknown>) =>
    createMiddleware({ name: 'setting', wrapModelCall: (request, handler) => handler({ ...request, modelSettings }) })

  test('have no output cap for a model of @langchain/openai, which does not send it', () =>
    onBench({}, async (bench) => {
      await agentOn(bench, {
        model: rawModel(bench, { maxTokens: -1 }),
        middleware: [setting({ service_tier: 'flex', max_tokens: 7, max_completion_tokens: 7 })],
      }).invoke(HI)
      expect(bench.provider.requests()[0]!.body).toMatchObject({ service_tier: 'flex', max_tokens: 8_192 })
      expect(bench.records('intent')).toMatchObject([{ outputTokens: 8_192 }])
      await assertSettled(bench)
    }))

  test('may name a dearer service tier, which is sent and priced: refused as long as its price is not known', () =>
    onBench({}, async (bench) => {
      const middleware = [setting({ service_tier: 'priority' })]
      for (const model of [rawModel(bench), new UnseenModel({ maxTokens: 50 })]) {
        const error = await errorOf(() => agentOn(bench, { model, middleware }).invoke(HI))
        expect(error).toMatchObject({ code: 'ERR_UNKNOWN_PRICE' })
      }
      expect(bench.provider.bill().requests).toBe(0)
    }))

  test('cap a model whose HTTP cannot be seen by its own field, and never let it put out more than was granted', () =>
    onBench({ limit: 1_000_000 }, async (bench) => {
      const caps: unknown[] = []
      const answer: UnseenFields['answer'] = (_, options) => (caps.push(options['max_tokens']), answerUsing(1, 1))
      await agentOn(bench, { model: new UnseenModel({ answer }), middleware: [setting({ max_tokens: 7 })] }).invoke(HI)
      expect([bench.records('intent')[0]!['outputTokens'], caps]).toEqual([7, [7]])
    }))

  test('that a model may not read are no cap of one that cannot be given one', () => {
    const { facts } = boundCall(new UnseenModel(), { messages: [], modelSettings: { max_tokens: 7 } })
    expect(() => withOwnMaximum(facts, {})).toThrow(/maxOutputTokens/)
    expect(withOwnMaximum(facts, { maxOutputTokens: 900 }).caps).toEqual({ maxOutputTokens: 900 })
    expect(clampedSettings({ max_tokens: 70, maxTokens: 7, top_p: 80 }, 50)).toEqual({ max_tokens: 50, maxTokens: 7, top_p: 80 })
  })
})

describe('an answer that was paid for', () => {
  const rewriting = createMiddleware({
    name: 'rewriting',
    wrapModelCall: async (request, handler) => new AIMessage((await handler(request)).text.toUpperCase()),
  })

  test('is given, though another model was refused before it, and other middleware rewrites it', () =>
    onBench({ answers: [{ status: 400 }, DONE], limit: 300_000 }, async (bench) => {
      const fallback = modelFallbackMiddleware(rawModel(bench, { maxTokens: 4_000 }), rawModel(bench))
      const result = await agentOn(bench, { middleware: [rewriting, fallback] }).invoke(HI)
      expect(texts(result).at(-1)).toEqual(['ai', 'DONE'])
      expect(bench.records('refused')).toHaveLength(1)
    }))

  test('is given also when it is that of a model whose HTTP cannot be seen', () =>
    onBench({ answers: [{ status: 400 }], limit: 300_000 }, async (bench) => {
      const fallback = modelFallbackMiddleware(rawModel(bench, { maxTokens: 4_000 }), new UnseenModel({ maxTokens: 50 }) as Model)
      expect(texts(await agentOn(bench, { middleware: [rewriting, fallback] }).invoke(HI)).at(-1)).toEqual(['ai', 'DONE'])
    }))

  test('is given, though another model was refused after it', () =>
    onBench({ limit: 300_000 }, async (bench) => {
      const doubting = createMiddleware({
        name: 'doubting',
        wrapModelCall: async (request, handler) => {
          const first = await handler(request)
          await errorOf(async () => handler({ ...request, model: rawModel(bench, { maxTokens: 4_000 }) as typeof request.model }))
          return first
        },
      })
      expect(texts(await agentOn(bench, { middleware: [doubting] }).invoke(HI)).at(-1)![0]).toBe('ai')
      expect(bench.records('refused')).toHaveLength(1)
    }))

  test('is none when the last model was refused, whatever other middleware writes', () =>
    onBench({ answers: [{ status: 400 }, DONE], limit: 300_000 }, async (bench) => {
      const retry = modelRetryMiddleware({ maxRetries: 1, initialDelayMs: 1 })
      const fallback = modelFallbackMiddleware(rawModel(bench, { maxTokens: 4_000 }))
      const error = await errorOf(() => agentOn(bench, { middleware: [rewriting, retry, fallback] }).invoke(HI))
      expect(error).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
    }))

  test.each(['guardAgent', 'holdfastMiddleware'])('is not compared with that of another model (%s)', (by) =>
    onBench({ answers: [{ text: 'weak' }, { text: 'a much longer and stronger answer than the weak one' }] }, async (bench) => {
      const verifying = createMiddleware({
        name: 'verifying',
        wrapModelCall: async (request, handler) => {
          await handler(request)
          return handler({ ...request, model: (by === 'guardAgent' ? rawModel(bench) : dearer()) as typeof request.model })
        },
      })
      await (by === 'guardAgent' ? agentOn(bench, { middleware: [verifying] }) : bareOn(bench, rawModel(bench), verifying)).invoke(HI)
      expect(bench.events).toEqual([])
      if (by === 'guardAgent') await assertSettled(bench)
    }),
  )
})

describe('a larger request', () => {
  const larger = createMiddleware({
    name: 'larger',
    wrapModelCall: (request, handler) => handler({ ...request, messages: [...request.messages, new HumanMessage('x'.repeat(20_000))] }),
  })

  test('is held as large as it is in guardAgent', () =>
    onBench({}, async (bench) => {
      await agentOn(bench, { middleware: [larger] }).invoke(HI)
      expect(await endsOf(bench)).toEqual(['settled'])
      await assertSettled(bench)
    }))

  test('is seen on the wire under the bare middleware: it is held anew, and the first hold goes back', () =>
    onBench({}, async (bench) => {
      await bareOn(bench, rawModel(bench), larger).invoke(HI)
      expect(await endsOf(bench)).toEqual(['settled', 'released'])
      await assertSettled(bench)
    }))
})

test('an answer of other middleware, without any HTTP, costs nothing', () =>
  onBench({ answers: TURNS }, async (bench) => {
    expect(texts(await agentOn(bench, { tools: [adding()], middleware: [answering] }).invoke(HI)).at(-1)).toEqual(['ai', 'no need to ask'])
    expect(bench.records('intent')).toEqual([])
    await bareOn(bench, rawModel(bench), answering).invoke(HI)
    expect(await endsOf(bench)).toEqual(['released'])
  }))
