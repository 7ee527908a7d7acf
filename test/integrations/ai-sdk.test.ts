// The Vercel AI SDK: the suite on each way to put a model under holdfast, and what is special: errors that are
// swallowed, retries around the middleware, other middleware above and below, models out of sight.

import { createOpenAI } from '@ai-sdk/openai'
import type { LanguageModelV4Middleware } from '@ai-sdk/provider'
import {
  NoOutputGeneratedError,
  Output,
  RetryError,
  ToolLoopAgent,
  generateObject,
  generateText,
  isStepCount,
  streamText,
  tool,
  wrapLanguageModel,
  wrapProvider,
  type ModelMessage,
} from 'ai'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardFetch, guardTools, holdfastMiddleware } from '../../integrations/ai-sdk.ts'
import { Refusal, findRefusal } from '../../src/lib/errors.ts'
import { INPUT_PRICE, OUTPUT_PRICE, SUITE_MODEL, capOf, errorOf, readAll } from '../../src/testing/integration-bench.ts'
import { testIntegration } from '../../src/testing/integration-suite.ts'
import { aiSdkAdapter, collect } from './adapters.ts'
import { CALL, endsOf, guardedModel, modelOn, onBench } from './bench.ts'

const FORMS = [
  ['ai-sdk chat', { wire: 'chat', by: 'middleware', guard: false, approval: false }],
  ['ai-sdk responses', { wire: 'responses', by: 'middleware', guard: false, approval: true }],
  ['ai-sdk chat over the guard', { wire: 'chat', by: 'middleware', guard: true, approval: false }],
  ['ai-sdk responses over the guard', { wire: 'responses', by: 'middleware', guard: true, approval: true }],
  ['ai-sdk on the guard alone', { wire: 'chat', by: 'guard', guard: true, approval: true }],
  ['ai-sdk by its provider', { wire: 'chat', by: 'provider', guard: false, approval: true }],
  ['ai-sdk by its provider over the guard', { wire: 'responses', by: 'provider', guard: true, approval: false }],
  ['ai-sdk by its settings', { wire: 'responses', by: 'settings', guard: false, approval: true }],
  ['ai-sdk openai-compatible', { wire: 'compatible', by: 'provider', guard: false, approval: false }],
  ['ai-sdk openai-compatible over the guard', { wire: 'compatible', by: 'settings', guard: true, approval: true }],
] as const

for (const [name, form] of FORMS) testIntegration(test.concurrent, aiSdkAdapter(name, form))

/** Other people's middleware. */
const other = (hooks: Omit<LanguageModelV4Middleware, 'specificationVersion'>): LanguageModelV4Middleware => ({
  specificationVersion: 'v4',
  ...hooks,
})

describe('errors that the SDK swallows', () => {
  test('a refusal of streamText is in scope.refusal of its run, and onError gets it as itself', () =>
    onBench({ limit: 1 }, (bench) =>
      bench.scope.enter(async () => {
        const seen: unknown[] = []
        const result = streamText({ ...CALL, model: guardedModel(bench), onError: ({ error }) => void seen.push(error) })
        expect(await readAll(result.textStream)).toBe('')
        expect(await errorOf(async () => result.text)).toBeInstanceOf(NoOutputGeneratedError)
        expect(seen).toEqual([bench.scope.refusal])
        expect(bench.scope.refusal).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
      }),
    ))

  test('a run that was refused nothing has no refusal, though the run before it had', () =>
    onBench({ limit: 1 }, async (bench) => {
      const model = guardedModel(bench)
      await bench.scope.enter(async () => readAll(streamText({ ...CALL, model, onError: () => {} }).textStream))
      expect(bench.scope.enter(() => bench.scope.refusal)).toBeUndefined()
    }))

  test('generateText rejects with the refusal itself', () =>
    onBench({ limit: 1 }, async (bench) => {
      const error = await errorOf(() => generateText({ ...CALL, maxRetries: 2, model: guardedModel(bench) }))
      expect(error).toBeInstanceOf(Refusal)
    }))

  test('a retry that does not fit any more ends in a RetryError, and the refusal is found in it', () =>
    onBench({ limit: 700_000, answers: [{ status: 500 }, {}] }, async (bench) => {
      // Fits once: its bytes with room for a wire format, at 150 nano-USD each, and 50 tokens of output.
      const prompt = 'x'.repeat(2_500)
      const error = await errorOf(() => generateText({ ...CALL, prompt, maxRetries: 1, model: guardedModel(bench) }))
      expect(RetryError.isInstance(error)).toBe(true)
      expect(findRefusal(error)?.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(bench.provider.bill().requests).toBe(1)
    }))
})

describe('structured output', () => {
  test('of generateObject, Output.object and a streamed object is settled like any other', () =>
    onBench({ answers: [{ text: '{"ships":9}' }] }, async (bench) => {
      const schema = z.object({ ships: z.number() })
      const model = guardedModel(bench)
      expect((await generateObject({ ...CALL, model, schema })).object).toEqual({ ships: 9 })
      expect((await generateText({ ...CALL, model, output: Output.object({ schema }) })).output).toEqual({ ships: 9 })
      const parts = await collect(streamText({ ...CALL, model, output: Output.object({ schema }) }).partialOutputStream)
      expect(parts.at(-1)).toEqual({ ships: 9 })
      expect(await endsOf(bench)).toEqual(['settled', 'settled', 'settled'])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))
})

describe('other middleware', () => {
  test.each(['above', 'below'])('%s leaves the sums right', (where) =>
    onBench({}, async (bench) => {
      const neighbour = other({ transformParams: async ({ params }) => ({ ...params, temperature: 0.5 }) })
      const mine = holdfastMiddleware(bench.scope)
      await generateText({ ...CALL, model: modelOn(bench, where === 'above' ? [neighbour, mine] : [mine, neighbour]) })
      expect(bench.provider.requests()[0]!.body['temperature']).toBe(0.5)
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }),
  )

  test('below that makes the request larger is seen by the guard: it holds by itself, and the first hold goes back', () =>
    onBench({}, async (bench) => {
      const long = { role: 'system' as const, content: 'x'.repeat(20_000) }
      const larger = other({ transformParams: async ({ params }) => ({ ...params, prompt: [long, ...params.prompt] }) })
      const model = modelOn(bench, [holdfastMiddleware(bench.scope), larger], guardFetch(bench.scope))
      await generateText({ ...CALL, model })
      expect(await endsOf(bench)).toEqual(['settled', 'released'])
      await readAll(streamText({ ...CALL, model }).textStream)
      expect(await endsOf(bench)).toEqual(['settled', 'released', 'settled', 'released'])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))

  test('below that makes the request larger than the budget is refused by the guard, as the refusal itself', () =>
    onBench({ limit: 1_500_000 }, async (bench) => {
      const long = { role: 'system' as const, content: 'x'.repeat(20_000) }
      const larger = other({ transformParams: async ({ params }) => ({ ...params, prompt: [long, ...params.prompt] }) })
      const model = modelOn(bench, [holdfastMiddleware(bench.scope), larger], guardFetch(bench.scope))
      const error = await errorOf(() => generateText({ ...CALL, model }))
      expect(error).toBeInstanceOf(Refusal)
      expect(await endsOf(bench)).toEqual(['released'])
      expect(bench.provider.bill().requests).toBe(0)
    }))

  test('below that raises the output cap is seen by the guard: the cap that was granted is what is sent', () =>
    onBench({}, async (bench) => {
      const raising = other({ transformParams: async ({ params }) => ({ ...params, maxOutputTokens: 4_000 }) })
      await generateText({ ...CALL, model: modelOn(bench, [holdfastMiddleware(bench.scope), raising], guardFetch(bench.scope)) })
      expect(capOf(bench.provider.requests()[0])).toBe(50)
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))

  test('below that counts otherwise is an escape event over the guard, and the wire counts', () =>
    onBench({ expected: ['escape'] }, async (bench) => {
      const halving = other({
        async wrapGenerate({ doGenerate }) {
          const result = await doGenerate()
          const inputTokens = { ...result.usage.inputTokens, total: 1, noCache: 1 }
          return { ...result, usage: { ...result.usage, inputTokens, raw: {} } }
        },
      })
      await generateText({ ...CALL, model: modelOn(bench, [holdfastMiddleware(bench.scope), halving], guardFetch(bench.scope)) })
      expect(bench.events.map(({ type }) => type)).toEqual(['escape'])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))

  test('holdfast twice counts once, over the guard and without it', () =>
    onBench({}, async (bench) => {
      const twice = [holdfastMiddleware(bench.scope), holdfastMiddleware(bench.scope)]
      await generateText({ ...CALL, model: modelOn(bench, twice, guardFetch(bench.scope)) })
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
      bench.provider.reset()
      const before = await bench.spent()
      await generateText({ ...CALL, model: modelOn(bench, twice) })
      expect((await bench.spent()) - before).toBe(bench.provider.bill().nanoUsd)
    }))
})

const TOOL_ANSWERS = [{ toolCalls: [{ name: 'add', arguments: { a: 1 } }] }, { text: 'three' }]
const ADDING = { add: tool({ inputSchema: z.object({ a: z.number() }), execute: async () => 3 }) }

describe('models that come from elsewhere', () => {
  test('a provider that is wrapped as a whole, under an agent', () =>
    onBench({ answers: TOOL_ANSWERS }, async (bench) => {
      const openai = createOpenAI({ apiKey: 'test', baseURL: bench.provider.baseURL })
      const provider = wrapProvider({ provider: openai, languageModelMiddleware: holdfastMiddleware(bench.scope) })
      const tools = guardTools(bench.scope, ADDING)
      const agent = new ToolLoopAgent({ model: provider.languageModel(SUITE_MODEL), tools })
      expect((await agent.generate({ prompt: 'add' })).text).toBe('three')
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))

  test('a raw model out of prepareStep passes the middleware by, and not the guard', () =>
    onBench({ answers: TOOL_ANSWERS }, async (bench) => {
      const openai = createOpenAI({ apiKey: 'test', baseURL: bench.provider.baseURL, fetch: guardFetch(bench.scope) })
      const raw = openai.chat(SUITE_MODEL)
      await generateText({
        ...CALL,
        model: wrapLanguageModel({ model: raw, middleware: holdfastMiddleware(bench.scope) }),
        tools: guardTools(bench.scope, ADDING),
        stopWhen: isStepCount(3),
        prepareStep: ({ stepNumber }) => (stepNumber === 0 ? {} : { model: raw }),
      })
      expect(bench.provider.bill().billed).toBe(2)
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))
})

describe('a prompt that cannot be counted here', () => {
  const image = { type: 'file' as const, mediaType: 'image/png', data: new Uint8Array([137, 80, 78, 71]) }
  const messages: ModelMessage[] = [{ role: 'user', content: [{ type: 'text', text: 'what is this?' }, image] }]

  test('is refused when the context window of its model is not known, with the option to set', () =>
    onBench({}, async (bench) => {
      const error = await errorOf(() => generateText({ maxRetries: 0, maxOutputTokens: 50, messages, model: guardedModel(bench) }))
      expect(findRefusal(error)).toMatchObject({ code: 'ERR_UNMETERED', message: expect.stringContaining('maxInputTokens') })
      expect(bench.provider.bill().requests).toBe(0)
    }))

  test('is held at the most that its user gives his word for', () =>
    onBench({}, async (bench) => {
      const model = modelOn(bench, holdfastMiddleware(bench.scope, { maxInputTokens: 2_000 }))
      await generateText({ maxRetries: 0, maxOutputTokens: 50, messages, model })
      expect(bench.records('intent')).toMatchObject([{ amounts: { usd: 2_000 * INPUT_PRICE + 50 * OUTPUT_PRICE } }])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))
})
