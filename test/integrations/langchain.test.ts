// Model calls of LangChain: what is held and sent, whoever repeats, replaces, streams or aborts them.

import type { AIMessage } from '@langchain/core/messages'
import {
  createAgent,
  createMiddleware,
  llmToolSelectorMiddleware,
  modelFallbackMiddleware,
  modelRetryMiddleware,
  providerStrategy,
  summarizationMiddleware,
  toolStrategy,
  type AnyAgentMiddleware,
} from 'langchain'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardFetch, guardModel, holdfastCallbacks, holdfastMiddleware } from '../../integrations/langchain.ts'
import { findRefusal, Refusal } from '../../src/lib/errors.ts'
import { OUTPUT_PRICE, SUITE_MODEL, capOf, errorOf, until } from '../../src/testing/integration-bench.ts'
import { assertSettled } from '../../src/testing/integration-money.ts'
import { endsOf, onBench } from './bench.ts'
import { langChainTools } from './langchain-adapters.ts'
import { adding, agentOn, ASKS, DONE, fieldsOf, HI, rawModel, texts, TURNS } from './langchain-bench.ts'

const LONG = 'Nine ships lie in the harbour, and a tenth one waits far out until the tide comes in again.'

describe('a refusal', () => {
  test('rejects agent.invoke with itself, before any HTTP', () =>
    onBench({ limit: 1 }, async (bench) => {
      expect(await errorOf(() => agentOn(bench).invoke(HI))).toBeInstanceOf(Refusal)
      expect(bench.provider.bill().requests).toBe(0)
    }))

  test('is found in what the middleware alone makes LangChain throw', () =>
    onBench({ limit: 1 }, async (bench) => {
      const agent = createAgent({ model: rawModel(bench), middleware: [holdfastMiddleware(bench.scope, { tools: false })] })
      const error = await errorOf(() => agent.invoke(HI))
      expect(error).not.toBeInstanceOf(Refusal)
      expect(findRefusal(error)?.code).toBe('ERR_BUDGET_EXCEEDED')
    }))

  test('is thrown by every way to stream', () =>
    onBench({ limit: 1 }, async (bench) => {
      for (const streamMode of ['messages', 'values', 'updates', 'custom'] as const) {
        const error = await errorOf(async () => {
          for await (const _ of await agentOn(bench).stream(HI, { streamMode }));
        })
        expect(findRefusal(error)?.code).toBe('ERR_BUDGET_EXCEEDED')
      }
      const error = await errorOf(async () => {
        for await (const _ of agentOn(bench).streamEvents(HI, { version: 'v2' }));
      })
      expect(findRefusal(error)?.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(bench.provider.bill().requests).toBe(0)
    }))

  test('stays out of the hands of retry and fallback middleware, wherever it stands in the list', () =>
    onBench({ limit: 1 }, async (bench) => {
      const others = [modelRetryMiddleware({ maxRetries: 2, initialDelayMs: 1 }), modelFallbackMiddleware(rawModel(bench))]
      const mine = holdfastMiddleware(bench.scope, { tools: false })
      for (const middleware of [others, [...others, mine], [mine, ...others]]) {
        expect(findRefusal(await errorOf(() => agentOn(bench, { middleware }).invoke(HI)))?.code).toBe('ERR_BUDGET_EXCEEDED')
      }
      expect(bench.provider.bill().requests).toBe(0)
      expect(bench.records('refused')).toHaveLength(3)
    }))

  test('that a retry middleware outside of the bare middleware swallows stands for the rest of the run', () =>
    onBench({ limit: 1 }, async (bench) => {
      const middleware = [
        modelRetryMiddleware({ maxRetries: 2, initialDelayMs: 1, retryOn: () => true }),
        holdfastMiddleware(bench.scope, { tools: false }),
      ]
      const agent = createAgent({ model: rawModel(bench), middleware: middleware as AnyAgentMiddleware[] })
      await bench.scope.enter(async () => {
        expect(texts(await agent.invoke(HI)).at(-1)![1]).toContain('failed after')
        expect(bench.scope.refusal).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED', details: { endsRun: true } })
        expect(findRefusal(await errorOf(() => guardModel(rawModel(bench), bench.scope).invoke('hi')))?.details.latched).toBe(true)
      })
      expect(bench.provider.bill().requests).toBe(0)
      expect(bench.records('refused')).toHaveLength(1)
    }))

  test.each(['stream', 'streamEvents'] as const)('that ends the run ends it in %s, too', (method) =>
    onBench({ answers: [ASKS, ASKS, DONE], counters: { calls: 3 } }, async (bench) => {
      const agent = agentOn(bench, { tools: [adding()], holdfast: { toolAmounts: { add: { calls: 1 } } } })
      const error = await errorOf(async () => {
        const parts: AsyncIterable<unknown> = method === 'stream' ? await agent.stream(HI) : agent.streamEvents(HI, { version: 'v2' })
        for await (const _ of parts);
      })
      expect(findRefusal(error)?.details.latched).toBe(true)
      expect(bench.provider.bill().requests).toBe(2)
    }),
  )

  test('of an attempt that a retry middleware made an answer of is thrown all the same', () =>
    onBench({ answers: [{ status: 500 }, DONE], limit: 450_000 }, async (bench) => {
      // The first attempt is charged at worst; the second does not fit any more.
      const model = rawModel(bench, { maxTokens: 400 })
      let attempts = 0
      const counting = createMiddleware({ name: 'counting', wrapModelCall: (request, handler) => (attempts++, handler(request)) })
      const middleware = [modelRetryMiddleware({ maxRetries: 5, initialDelayMs: 1 }), counting]
      const error = await errorOf(() => agentOn(bench, { model, middleware }).invoke(HI))
      expect(error).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
      expect([bench.provider.bill().requests, bench.records('refused').length, attempts]).toEqual([1, 1, 2])
      expect(await endsOf(bench)).toEqual(['charged'])
    }))
})

describe('what other middleware does inside', () => {
  test('retries are held one by one', () =>
    onBench({ answers: [{ status: 500 }, DONE] }, async (bench) => {
      const middleware = [modelRetryMiddleware({ maxRetries: 2, initialDelayMs: 1 })]
      expect(texts(await agentOn(bench, { middleware }).invoke(HI)).at(-1)).toEqual(['ai', 'done'])
      expect(await endsOf(bench)).toEqual(['charged', 'settled'])
    }))

  test('a fallback is held, though it is another model that nobody guarded', () =>
    onBench({ answers: [{ status: 500 }, DONE] }, async (bench) => {
      const middleware = [modelFallbackMiddleware(rawModel(bench, { temperature: 1 }))]
      expect(texts(await agentOn(bench, { middleware }).invoke(HI)).at(-1)).toEqual(['ai', 'done'])
      expect(await endsOf(bench)).toEqual(['charged', 'settled'])
      expect(bench.provider.requests()[1]!.body['temperature']).toBe(1)
    }))

  test('a fallback that does not fit is refused, and the caller learns of it', () =>
    onBench({ answers: [{ status: 500 }, DONE], limit: 300_000 }, async (bench) => {
      const middleware = [modelFallbackMiddleware(rawModel(bench, { maxTokens: 4_000 }))]
      const error = await errorOf(() => agentOn(bench, { middleware }).invoke(HI))
      expect(error).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
      expect(bench.provider.bill().requests).toBe(1)
    }))

  test.each([true, false])('a call of its own beside the agent is held by itself (its own model: %s)', (own) =>
    onBench({ answers: [{ text: '{"tools":["add"]}' }, DONE] }, async (bench) => {
      const model = own ? { model: guardModel(rawModel(bench), bench.scope) } : {}
      const middleware = [llmToolSelectorMiddleware({ maxTools: 1, ...model } as never)]
      const result = await agentOn(bench, { tools: [adding(), ...langChainTools({ look: async () => 'x' })], middleware }).invoke(HI)
      expect(texts(result).at(-1)).toEqual(['ai', 'done'])
      expect(bench.provider.bill().billed).toBe(2)
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }),
  )

  test('a model that a middleware calls by itself is held under guardModel', () =>
    onBench({ answers: [{ text: 'a summary' }, DONE] }, async (bench) => {
      const model = guardModel(rawModel(bench), bench.scope)
      const middleware = [summarizationMiddleware({ model, trigger: { messages: 2 }, keep: { messages: 1 } } as never)]
      const messages = [...HI.messages, { role: 'assistant' as const, content: LONG }, ...HI.messages]
      await agentOn(bench, { model, middleware }).invoke({ messages })
      expect(bench.provider.bill().billed).toBe(2)
      await assertSettled(bench)
    }))
})

test('middleware that may swallow a refusal is named in a warning, and so is holdfast where it is not first', () =>
  onBench({}, async (bench) => {
    const seen: (Error & { code?: string })[] = []
    const listen = (warning: Error): void => void seen.push(warning)
    process.on('warning', listen)
    const mine = holdfastMiddleware(bench.scope, { tools: false })
    for (let times = 0; times < 2; times++) agentOn(bench, { middleware: [createMiddleware({ name: 'harbour-retry' }), mine] })
    await new Promise(setImmediate)
    process.off('warning', listen)
    const own = seen.filter(({ message }) => message.includes('harbour-retry'))
    expect(own.map(({ code }) => code)).toEqual(['holdfast:middleware-inside'])
  }))

describe('the output cap', () => {
  test.each([false, true])('that was granted is what reaches the wire (responses: %s)', (useResponsesApi) =>
    onBench({ limit: 500_000 }, async (bench) => {
      await agentOn(bench, { model: rawModel(bench, { useResponsesApi, maxTokens: -1 }) }).invoke(HI)
      // As much as was asked for first, then as much as fits.
      const intent = bench.records('intent').at(-1)
      const { body } = bench.provider.requests()[0]!
      expect(intent!['outputTokens']).toBeLessThan(8_192)
      expect(useResponsesApi ? body['max_output_tokens'] : body['max_tokens']).toBe(intent!['outputTokens'])
      await assertSettled(bench)
    }),
  )

  test('of the model is held as it is, also when it stands in modelKwargs', () =>
    onBench({}, async (bench) => {
      await agentOn(bench, { model: rawModel(bench, { maxTokens: -1, modelKwargs: { max_completion_tokens: 33 } }) }).invoke(HI)
      expect(bench.records('intent')).toMatchObject([{ outputTokens: 33 }])
      expect(capOf(bench.provider.requests()[0])).toBe(33)
    }))

  test('counts for every choice of n', () =>
    onBench({}, async (bench) => {
      await agentOn(bench, { model: rawModel(bench) }).invoke(HI)
      await agentOn(bench, { model: rawModel(bench, { n: 3 }) }).invoke(HI)
      const [one, three] = bench.records('intent').map(({ amounts }) => (amounts as { usd: number }).usd)
      expect(three! - one!).toBeGreaterThanOrEqual(2 * 50 * OUTPUT_PRICE)
    }))
})

describe('a guarded model', () => {
  test('stays guarded in what withConfig, bindTools, withStructuredOutput and batch make of it', () =>
    onBench({ answers: [{ text: '{"ships":9}' }] }, async (bench) => {
      const model = guardModel(rawModel(bench), bench.scope)
      await model.withConfig({ stop: ['x'] }).invoke('hi')
      await model.bindTools([adding()]).invoke('hi')
      expect(await model.withStructuredOutput(z.object({ ships: z.number() })).invoke('hi')).toEqual({ ships: 9 })
      await model.batch(['hi', 'ho'])
      expect(bench.provider.bill().billed).toBe(5)
      await assertSettled(bench)
    }))

  test('is not the given one, which stays as it is', () =>
    onBench({}, async (bench) => {
      const model = rawModel(bench)
      const { fetch } = fieldsOf(model).configuration!
      guardModel(model, bench.scope)
      await agentOn(bench, { model }).invoke(HI)
      expect([fieldsOf(model).configuration!.fetch, model.callbacks]).toEqual([fetch, undefined])
    }))

  test('keeps fields that LangChain does not count among those of a model', () =>
    onBench({}, async (bench) => {
      await guardModel(rawModel(bench, { service_tier: 'flex', modelKwargs: { seed: 7 } }), bench.scope).invoke('hi')
      expect(bench.provider.requests()[0]!.body).toMatchObject({ service_tier: 'flex', seed: 7 })
    }))

  test('with maxConcurrency pays from its own hold in an agent, whose context ever its call is run in', () =>
    onBench({}, async (bench) => {
      const agent = agentOn(bench, { model: rawModel(bench, { maxConcurrency: 1 }) })
      await Promise.all(Array.from({ length: 4 }, () => agent.invoke(HI)))
      expect(await endsOf(bench)).toEqual(['settled', 'settled', 'settled', 'settled'])
      await assertSettled(bench)
    }))

  test('of another kind is refused by name', () => {
    expect(() => guardModel({ invoke: () => 'x' })).toThrow(/@langchain\/openai/)
  })

  test('may stand on a guard of the user, who then pays once', () =>
    onBench({}, async (bench) => {
      const { configuration } = fieldsOf(rawModel(bench))
      const model = rawModel(bench, { configuration: { ...configuration, fetch: guardFetch(bench.scope) } })
      await agentOn(bench, { model }).invoke(HI)
      expect(await endsOf(bench)).toEqual(['settled'])
      await assertSettled(bench)
    }))
})

describe('models elsewhere', () => {
  test('in a tool are held under guardModel', () =>
    onBench({ answers: TURNS, rules: [{ effect: 'allow', tool: 'add' }] }, async (bench) => {
      const inner = guardModel(rawModel(bench), bench.scope)
      await agentOn(bench, { tools: [adding(async () => (await inner.invoke('inside')).text)] }).invoke(HI)
      expect(bench.provider.bill().billed).toBe(3)
      await assertSettled(bench)
    }))

  test('do not start once the run is over, when the callbacks of holdfast are with them', () =>
    onBench({ limit: 1 }, (bench) =>
      bench.scope.enter(async () => {
        const model = rawModel(bench)
        const callbacks = [holdfastCallbacks(bench.scope)]
        await errorOf(() => agentOn(bench).invoke(HI))
        expect(findRefusal(await errorOf(() => model.invoke('hi', { callbacks })))?.details.endsRun).toBe(true)
        expect(bench.provider.bill().requests).toBe(0)
      }),
    ))

  test('start under the callbacks as long as nothing speaks against it, and hold nothing there', () =>
    onBench({ guarded: false }, (bench) =>
      bench.scope.enter(async () => {
        await rawModel(bench).invoke('hi', { callbacks: [holdfastCallbacks()] })
        expect(bench.records('intent')).toEqual([])
      }),
    ))
})

describe('usage', () => {
  test('is read from the wire under streamUsage: false, and the caller sees none of it, as without holdfast', () =>
    onBench({}, async (bench) => {
      const agent = agentOn(bench, { model: rawModel(bench, { streamUsage: false }) })
      const seen: unknown[] = []
      for await (const [message] of await agent.stream(HI, { streamMode: 'messages' })) seen.push((message as AIMessage).usage_metadata)
      expect(seen.every((usage) => usage === undefined)).toBe(true)
      await assertSettled(bench)
    }))

  test('of structured output by tool and by provider is settled like any other', () =>
    onBench(
      {
        answers: ({ body }) =>
          body['tools'] === undefined ? { text: '{"ships":9}' } : { toolCalls: [{ name: 'extract-1', arguments: { ships: 9 } }] },
      },
      async (bench) => {
        const schema = z.object({ ships: z.number() })
        const byProvider = await agentOn(bench, { responseFormat: providerStrategy(schema) }).invoke(HI)
        expect(byProvider.structuredResponse).toEqual({ ships: 9 })
        expect(bench.provider.bill().billed).toBe(1)
        await assertSettled(bench)
        expect(toolStrategy(schema)).toBeDefined()
      },
    ))

  test('out of the cache of LangChain costs nothing', () =>
    onBench({}, async (bench) => {
      const model = guardModel(rawModel(bench, { cache: true, user: bench.provider.baseURL }), bench.scope)
      expect((await model.invoke('hi')).text).toBe((await model.invoke('hi')).text)
      expect(bench.provider.bill().billed).toBe(1)
      expect(await endsOf(bench)).toEqual(['settled'])
    }))
})

describe('who leaves', () => {
  test('before it begins has sent and held nothing', () =>
    onBench({}, async (bench) => {
      await errorOf(() => agentOn(bench).invoke(HI, { signal: AbortSignal.abort() }))
      expect(bench.records('intent')).toEqual([])
    }))

  test('while a stream runs leaves a hold that is settled from the rest of the answer', () =>
    onBench({ answers: [{ text: LONG, chunkDelayMs: 5 }] }, async (bench) => {
      const leaver = new AbortController()
      await errorOf(async () => {
        for await (const _ of await agentOn(bench).stream(HI, { streamMode: 'messages', signal: leaver.signal })) leaver.abort()
      })
      await until('the provider has sent all', () => bench.provider.bill().lines[0]?.completed === true)
      expect(await endsOf(bench)).toEqual(['settled'])
      await assertSettled(bench)
    }))

  test('after the answer changes nothing', () =>
    onBench({}, async (bench) => {
      const leaver = new AbortController()
      await agentOn(bench).invoke(HI, { signal: leaver.signal })
      leaver.abort()
      expect(await endsOf(bench)).toEqual(['settled'])
      await assertSettled(bench)
    }))
})

test('a model that is named by a string is made, guarded and held', () =>
  onBench({}, async (bench) => {
    const { OPENAI_BASE_URL: url, OPENAI_API_KEY: key } = process.env
    Object.assign(process.env, { OPENAI_BASE_URL: bench.provider.baseURL, OPENAI_API_KEY: 'test' })
    try {
      await agentOn(bench, { model: `openai:${SUITE_MODEL}` }).invoke(HI)
    } finally {
      for (const [name, value] of Object.entries({ OPENAI_BASE_URL: url, OPENAI_API_KEY: key })) {
        if (value === undefined) delete process.env[name]
        else process.env[name] = value
      }
    }
    expect(bench.provider.requests()[0]!.endpoint).toBe('responses')
    expect(capOf(bench.provider.requests()[0])).toBe(8_192)
    await assertSettled(bench)
  }))
