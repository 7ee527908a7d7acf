// Before a budget ends: the model is told that most of it is used, and what the budget keeps for a last answer is used
// for one. And what is paid when no request was sent, or one of another model.

import { createOpenAI } from '@ai-sdk/openai'
import type { LanguageModelV4, LanguageModelV4Middleware } from '@ai-sdk/provider'
import { customProvider, generateText, isStepCount, streamText, tool, wrapLanguageModel, type ModelMessage } from 'ai'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardFetch, guardProvider, guardSettings, holdfastMiddleware, type MiddlewareOptions } from '../../integrations/ai-sdk.ts'
import { errorOf } from '../../src/testing/integration-bench.ts'
import { collect } from './adapters.ts'
import { MODEL, atDesk, type Desk } from './ai-sdk-desk.ts'

const CALL = { prompt: 'go on', maxOutputTokens: 50, maxRetries: 0 }
const ASKS = { toolCalls: [{ name: 'look', arguments: {} }] }
const looking = { look: tool({ inputSchema: z.object({}), execute: async () => 'nine ships' }) }

const messagesOf = ({ provider }: Desk, index: number) =>
  provider.requests()[index]!.body['messages'] as { role: string; content: string }[]
const NOTICE = '50 % of the budget for this work is used up. Spend the rest on what matters most, and answer before it ends.'

describe('the notice of a budget', () => {
  /** Half of it is used up after the second call; the third is told. */
  const half = (usd: number | string) => ({
    answers: [{ usage: { inputTokens: 10, outputTokens: 50 } }],
    budgets: { acme: { usd, warnAt: 0.5 } },
  })

  test('reaches the model after the system messages that are there, once its threshold is passed', () =>
    atDesk(half('0.0006'), async (desk) => {
      const model = guardProvider(desk.openai, desk.scope).chat(MODEL)
      const messages: ModelMessage[] = [{ role: 'user', content: 'go on' }]
      const ask = () => generateText({ ...CALL, prompt: undefined, instructions: 'Be brief.', messages, model } as never)
      for (let asked = 0; asked < 10; asked++) await ask()
      expect(messagesOf(desk, 0).map(({ role }) => role)).toEqual(['system', 'user'])
      expect(messagesOf(desk, 9)).toEqual([
        { role: 'system', content: 'Be brief.' },
        { role: 'system', content: NOTICE },
        { role: 'user', content: 'go on' },
      ])
      // It is said for as long as it is so, and never of what is free again.
      const told = desk.provider.requests().map((_, index) => messagesOf(desk, index).some(({ content }) => content === NOTICE))
      expect(told).toEqual(told.toSorted((one, other) => Number(one) - Number(other)))
    }))

  test('is held with its call: what is sent is never more than was held', () =>
    atDesk(half('0.0006'), async (desk) => {
      // One token for each byte: as many as there can be.
      const model = wrapLanguageModel({ model: desk.openai.chat(MODEL), middleware: holdfastMiddleware(desk.scope) })
      for (let asked = 0; asked < 10; asked++) await generateText({ ...CALL, model })
      const held = desk.records('intent').map(({ amounts }) => (amounts as { usd: number }).usd)
      expect(held.at(-1)! - held[0]!).toBeGreaterThanOrEqual(Buffer.byteLength(NOTICE) * 150)
    }))

  test('changes no byte of any request while there is enough', () =>
    atDesk(half(1), async (desk) => {
      const ask = (model: LanguageModelV4) => generateText({ ...CALL, model, tools: looking, instructions: 'Be brief.' })
      await ask(desk.openai.chat(MODEL))
      for (let asked = 0; asked < 3; asked++) await ask(guardProvider(desk.openai, desk.scope).chat(MODEL))
      const [bare, ...guarded] = desk.provider.requests().map(({ body }) => JSON.stringify(body))
      expect(guarded).toEqual([bare, bare, bare])
    }))

  test('is read by the model of a stream and under the transport guard, with one hold for each call', () =>
    atDesk(half('0.0006'), async (desk) => {
      const openai = createOpenAI({ apiKey: 'test', baseURL: desk.provider.baseURL, fetch: guardFetch(desk.scope) })
      const model = guardProvider(openai, desk.scope).chat(MODEL)
      for (let asked = 0; asked < 10; asked++) await collect(streamText({ ...CALL, model }).textStream)
      expect(messagesOf(desk, 9).map(({ content }) => content)).toContain(NOTICE)
      expect(desk.ends()).toEqual(Array.from({ length: 10 }, () => 'settled'))
    }))
})

describe('a last answer', () => {
  const asking = {
    answers: ({ body }: { body: Readonly<Record<string, unknown>> }) => (body['tool_choice'] === 'none' ? { text: 'Nine.' } : ASKS),
  }
  const kept = { ...asking, budgets: { acme: { usd: 1, calls: 4, wrapUp: { calls: 1 } } } }
  const settings = ({ openai, scope }: Desk, options: MiddlewareOptions) =>
    guardSettings(scope, { ...CALL, model: openai.chat(MODEL), tools: looking, stopWhen: isStepCount(20) }, options)

  test('comes from what the budget keeps: without tools, and told to answer with what there is', () =>
    atDesk(kept, async (desk) => {
      const { text, steps } = await generateText(settings(desk, { wrapUp: true }))
      expect([text, steps.length, desk.provider.bill().billed]).toEqual(['Nine.', 4, 4])
      const last = messagesOf(desk, 3)
      expect(last[0]).toEqual({ role: 'system', content: desk.scope.refusal!.toModelMessage() })
      expect(desk.provider.requests()[3]!.body['tools']).toEqual(desk.provider.requests()[0]!.body['tools'])
      expect(await desk.spent('calls')).toBe(4)
    }))

  test('of a stream is the same', () =>
    atDesk(kept, async (desk) => {
      const result = streamText(settings(desk, { wrapUp: true }))
      expect((await collect(result.textStream)).join('')).toBe('Nine.')
    }))

  test.each([
    ['is not taken without the option', kept, {}],
    ['is not there when the budget keeps nothing', { ...asking, budgets: { acme: { usd: 1, calls: 3 } } }, { wrapUp: true }],
  ])('%s: the call is refused', (_, options, given) =>
    atDesk(options, async (desk) => {
      expect(await errorOf(() => generateText(settings(desk, given)))).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
      expect(desk.provider.bill().billed).toBe(3)
    }),
  )

  test('is not asked for where a call of a tool is demanded, which takes no other answer', () =>
    atDesk(kept, async (desk) => {
      const error = await errorOf(() => generateText({ ...settings(desk, { wrapUp: true }), toolChoice: 'required' }))
      expect(error).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
      expect(desk.provider.bill().billed).toBe(3)
    }))

  test('is one answer: a model that asks for tools all the same is refused after it', () =>
    atDesk({ ...kept, answers: [ASKS] }, async (desk) => {
      expect(await errorOf(() => generateText(settings(desk, { wrapUp: true })))).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
      expect(desk.provider.bill().billed).toBe(4)
    }))
})

/** Middleware of other people, below ours. */
const below = (hooks: Omit<LanguageModelV4Middleware, 'specificationVersion'>): LanguageModelV4Middleware => ({
  specificationVersion: 'v4',
  ...hooks,
})

/** A cache as the SDK's documentation has it: it remembers the last answer, and marks what it gives out again. */
function caching(mark: boolean): LanguageModelV4Middleware {
  let whole: Awaited<ReturnType<LanguageModelV4['doGenerate']>> | undefined
  const marked = mark ? { providerMetadata: { cache: { hit: true } } } : {}
  return below({
    async wrapGenerate({ doGenerate }) {
      if (whole !== undefined) return { ...whole, ...marked }
      whole = await doGenerate()
      return whole
    },
    async wrapStream({ doGenerate }) {
      whole ??= await doGenerate()
      const { content, finishReason, usage } = whole
      const text = content.flatMap((part) => (part.type === 'text' ? [part.text] : [])).join('')
      return {
        stream: new ReadableStream({
          start(controller) {
            controller.enqueue({ type: 'stream-start', warnings: [] })
            controller.enqueue({ type: 'text-start', id: '1' })
            controller.enqueue({ type: 'text-delta', id: '1', delta: text })
            controller.enqueue({ type: 'text-end', id: '1' })
            controller.enqueue({ type: 'finish', finishReason, usage, ...marked })
            controller.close()
          },
        }),
      }
    },
  })
}

const fromCache: MiddlewareOptions['fromCache'] = ({ providerMetadata }) => providerMetadata?.['cache']?.['hit'] === true

describe('an answer out of a cache', () => {
  const cached = (desk: Desk, mark: boolean, options: MiddlewareOptions, fetch?: typeof globalThis.fetch) => {
    const openai = createOpenAI({ apiKey: 'test', baseURL: desk.provider.baseURL, ...(fetch === undefined ? {} : { fetch }) })
    return wrapLanguageModel({ model: openai.chat(MODEL), middleware: [holdfastMiddleware(desk.scope, options), caching(mark)] })
  }

  test.each([false, true])('costs nothing where its user says how to know it (transport guard below: %s)', (guard) =>
    atDesk({}, async (desk) => {
      const model = cached(desk, true, { fromCache }, guard ? guardFetch(desk.scope) : undefined)
      await generateText({ ...CALL, model })
      await generateText({ ...CALL, model })
      await collect(streamText({ ...CALL, model }).textStream)
      expect(desk.ends()).toEqual(['settled', 'released', 'released'])
      expect(desk.provider.bill().billed).toBe(1)
      expect(await desk.spent()).toBe(desk.provider.bill().nanoUsd)
    }),
  )

  test('that keeps the id of its response costs nothing over the transport guard, which has paid for it', () =>
    atDesk({}, async (desk) => {
      const model = cached(desk, false, {}, guardFetch(desk.scope))
      await generateText({ ...CALL, model })
      await generateText({ ...CALL, model })
      expect(desk.ends()).toEqual(['settled', 'released'])
      expect(await desk.spent()).toBe(desk.provider.bill().nanoUsd)
    }))

  test('is paid again where nobody says so: never less than was billed', () =>
    atDesk({}, async (desk) => {
      const model = cached(desk, true, {})
      await generateText({ ...CALL, model })
      await generateText({ ...CALL, model })
      expect(await desk.spent()).toBe(2 * desk.provider.bill().nanoUsd)
    }))

  test('that was none, since the transport guard has seen a request, is paid', () =>
    atDesk({}, async (desk) => {
      const model = cached(desk, false, { fromCache: () => true }, guardFetch(desk.scope))
      await generateText({ ...CALL, model })
      expect(desk.ends()).toEqual(['settled'])
      expect(await desk.spent()).toBe(desk.provider.bill().nanoUsd)
    }))

  test('above holdfast never reaches it', () =>
    atDesk({}, async (desk) => {
      const model = wrapLanguageModel({ model: desk.openai.chat(MODEL), middleware: [caching(false), holdfastMiddleware(desk.scope)] })
      await generateText({ ...CALL, model })
      await generateText({ ...CALL, model })
      expect(desk.ends()).toEqual(['settled'])
    }))
})

describe('another model', () => {
  const OTHER = 'gpt-4o'
  const prices = {
    [MODEL]: { inputUsdPerMillion: '0.15', outputUsdPerMillion: '0.6' },
    [OTHER]: { inputUsdPerMillion: '0.15', outputUsdPerMillion: '0.6' },
  }

  test('of a custom provider with a fallback has a hold of its own', () =>
    atDesk({ prices }, async (desk) => {
      const provider = customProvider({ languageModels: { mine: desk.openai.chat(MODEL) }, fallbackProvider: desk.openai })
      const guarded = guardProvider(provider, desk.scope)
      await generateText({ ...CALL, model: guarded.languageModel('mine') })
      await generateText({ ...CALL, model: guarded.languageModel(OTHER as never) })
      expect(desk.records('intent').map(({ resource }) => resource)).toEqual([MODEL, OTHER])
      expect(await desk.spent()).toBe(desk.provider.bill().nanoUsd)
    }))

  test('that a middleware above falls back to has a hold of its own; the failed attempt is charged at worst', () =>
    atDesk({ prices, answers: [{ status: 500 }, {}] }, async (desk) => {
      const guarded = guardProvider(desk.openai, desk.scope)
      const fallback = below({
        async wrapGenerate({ doGenerate, params }) {
          try {
            return await doGenerate()
          } catch {
            return guarded.chat(OTHER).doGenerate(params)
          }
        },
      })
      await generateText({ ...CALL, model: wrapLanguageModel({ model: guarded.chat(MODEL), middleware: fallback }) })
      expect(desk.ends()).toEqual(['charged', 'settled'])
      expect(desk.provider.bill().nanoUsd).toBeLessThanOrEqual(await desk.spent())
    }))

  test('that a middleware below falls back to is held by the transport guard under it, beside the first', () =>
    atDesk({ prices, answers: [{ status: 500 }, {}] }, async (desk) => {
      const openai = createOpenAI({ apiKey: 'test', baseURL: desk.provider.baseURL, fetch: guardFetch(desk.scope) })
      const fallback = below({
        async wrapGenerate({ doGenerate, params }) {
          try {
            return await doGenerate()
          } catch {
            return openai.chat(OTHER).doGenerate(params)
          }
        },
      })
      const model = wrapLanguageModel({ model: openai.chat(MODEL), middleware: [holdfastMiddleware(desk.scope), fallback] })
      await generateText({ ...CALL, model })
      expect(desk.ends()).toEqual(['charged', 'settled'])
      expect(desk.provider.bill().nanoUsd).toBeLessThanOrEqual(await desk.spent())
    }))

  test('in a retry has a hold of its own as well: each attempt of maxRetries is held', () =>
    atDesk({ answers: [{ status: 500 }, { status: 429 }, {}] }, async (desk) => {
      await generateText({ ...CALL, maxRetries: 2, model: guardProvider(desk.openai, desk.scope).chat(MODEL) })
      expect(desk.ends()).toEqual(['charged', 'released', 'settled'])
      expect(desk.records('outcome')[0]).toMatchObject({ assumed: true, reason: expect.stringContaining('500') as string })
    }))
})
