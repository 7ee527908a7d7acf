// The settings of a call under holdfast: whatever model and tools they name, now or in a later step, are guarded.

import { createOpenAI } from '@ai-sdk/openai'
import type { LanguageModelV4, LanguageModelV4Middleware } from '@ai-sdk/provider'
import {
  Output,
  ToolLoopAgent,
  defaultSettingsMiddleware,
  generateObject,
  generateText,
  isStepCount,
  streamObject,
  streamText,
  tool,
  wrapLanguageModel,
} from 'ai'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { countCalls, guardFetch, guardProvider, guardSettings, guardTools, holdfastMiddleware } from '../../integrations/ai-sdk.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import { errorOf, readAll } from '../../src/testing/integration-bench.ts'
import { collect } from './adapters.ts'
import { MODEL, atDesk, type Desk } from './ai-sdk-desk.ts'

const CALL = { prompt: 'add one', maxOutputTokens: 50, maxRetries: 0 }
const ASKS = { toolCalls: [{ name: 'add', arguments: { a: 1 } }] }
const LOOP = [ASKS, { text: 'two' }]

/** A tool that keeps what it ran with. */
const adding = (ran: unknown[]) => ({
  add: tool({ inputSchema: z.object({ a: z.number() }), execute: async (input) => (ran.push(input), input.a + 1) }),
})

/** Both ways to make text, as one. */
const WAYS = [
  ['generateText', async (settings: Parameters<typeof generateText>[0]) => (await generateText(settings)).text],
  [
    'streamText',
    async (settings: Parameters<typeof generateText>[0]) => {
      const result = streamText({ ...(settings as Parameters<typeof streamText>[0]), onError: () => {} })
      const parts = await collect(result.stream)
      return parts.map((part) => (part.type === 'text-delta' ? part.text : '')).join('')
    },
  ],
] as const

const settled = async ({ ends, spent, provider }: Desk, times: number): Promise<void> => {
  expect(ends()).toEqual(Array.from({ length: times }, () => 'settled'))
  expect(provider.bill().billed).toBe(times)
  expect(await spent()).toBe(provider.bill().nanoUsd)
}

describe.each(WAYS)('guardSettings of %s', (_, run) => {
  test('guards the model and the tools', () =>
    atDesk({ answers: LOOP, rules: [{ effect: 'allow', tool: 'add' }] }, async (desk) => {
      const ran: unknown[] = []
      const settings = { ...CALL, model: desk.openai.chat(MODEL), tools: adding(ran), stopWhen: isStepCount(3) }
      expect(await run(guardSettings(desk.scope, settings))).toBe('two')
      expect(ran).toEqual([{ a: 1 }])
      await settled(desk, 2)
    }))

  test('denies a tool that no rule allows, and the model is told', () =>
    atDesk({ answers: LOOP, rules: [] }, async (desk) => {
      const ran: unknown[] = []
      const settings = { ...CALL, model: desk.openai.chat(MODEL), tools: adding(ran), stopWhen: isStepCount(3) }
      expect(await run(guardSettings(desk.scope, settings))).toBe('two')
      expect(ran).toEqual([])
      expect(JSON.stringify(desk.provider.requests()[1]!.body)).toContain(desk.scope.refusal!.toModelMessage())
    }))

  test('guards a raw model that prepareStep returns, and leaves the rest of what it returns', () =>
    atDesk({ answers: LOOP }, async (desk) => {
      const steps: number[] = []
      const model = desk.openai.chat(MODEL)
      const text = await run(
        guardSettings(desk.scope, {
          ...CALL,
          model,
          tools: adding([]),
          stopWhen: isStepCount(3),
          prepareStep: ({ stepNumber }: { stepNumber: number }) => {
            steps.push(stepNumber)
            return stepNumber === 0 ? undefined : { model, toolChoice: 'none' as const }
          },
        }),
      )
      expect([text, steps]).toEqual(['two', [0, 1]])
      expect(desk.provider.requests()[1]!.body['tool_choice']).toBe('none')
      await settled(desk, 2)
    }))

  test('NEGATIVE CONTROL: without it, that raw model is on the bill and nowhere else', () =>
    atDesk({ answers: LOOP }, async (desk) => {
      const raw = desk.openai.chat(MODEL)
      const model = wrapLanguageModel({ model: raw, middleware: holdfastMiddleware(desk.scope) })
      const prepareStep = ({ stepNumber }: { stepNumber: number }) => (stepNumber === 0 ? {} : { model: raw })
      await run({ ...CALL, model, tools: adding([]), stopWhen: isStepCount(3), prepareStep })
      expect([desk.ends(), desk.provider.bill().billed]).toEqual([['settled'], 2])
    }))

  test('guards a model that is only a name, and refuses it where no provider is there to look it up', () =>
    atDesk({}, async (desk) => {
      const settings = guardSettings(desk.scope, { ...CALL, model: MODEL })
      await run(settings).catch(() => undefined)
      expect(desk.scope.refusal).toMatchObject({
        code: 'ERR_UNMETERED',
        message: expect.stringContaining('AI_SDK_DEFAULT_PROVIDER') as string,
      })
      globalThis.AI_SDK_DEFAULT_PROVIDER = desk.openai
      try {
        await run(settings)
      } finally {
        globalThis.AI_SDK_DEFAULT_PROVIDER = undefined
      }
      await settled(desk, 1)
    }))
})

describe('guardSettings', () => {
  test('of an agent guards its model, its tools, and a raw model and raw tools out of prepareCall', () =>
    atDesk({ answers: LOOP, rules: [{ effect: 'deny', tool: 'add' }] }, async (desk) => {
      const ran: unknown[] = []
      const raw = desk.openai.chat(MODEL)
      const agent = new ToolLoopAgent(
        guardSettings(desk.scope, {
          model: raw,
          tools: adding(ran),
          maxRetries: 0,
          prepareCall: (options: object) => ({ ...options, model: raw, tools: adding(ran), toolApproval: undefined }) as never,
        }),
      )
      expect((await agent.generate({ prompt: 'add one' })).text).toBe('two')
      expect(ran).toEqual([])
      await settled(desk, 2)
    }))

  test('of structured output, old and new, streamed or not, is settled like any other', () =>
    atDesk({ answers: [{ text: '{"ships":9}' }] }, async (desk) => {
      const schema = z.object({ ships: z.number() })
      const settings = guardSettings(desk.scope, { ...CALL, model: desk.openai.chat(MODEL) })
      expect((await generateObject({ ...settings, schema })).object).toEqual({ ships: 9 })
      expect((await collect(streamObject({ ...settings, schema }).partialObjectStream)).at(-1)).toEqual({ ships: 9 })
      expect((await generateText({ ...settings, output: Output.object({ schema }) })).output).toEqual({ ships: 9 })
      expect((await collect(streamText({ ...settings, output: Output.object({ schema }) }).partialOutputStream)).at(-1)).toEqual({
        ships: 9,
      })
      await settled(desk, 4)
    }))

  test('twice is once; a model of guardProvider stays as it is', () =>
    atDesk({ answers: LOOP }, async (desk) => {
      const model = guardProvider(desk.openai, desk.scope).chat(MODEL)
      const tools = guardTools(desk.scope, adding([]))
      const once = guardSettings(desk.scope, { ...CALL, model, tools, prepareStep: () => ({}), stopWhen: isStepCount(3) })
      const twice = guardSettings(desk.scope, once)
      expect([once.model, twice.tools['add'], twice.prepareStep]).toEqual([model, once.tools['add'], once.prepareStep])
      await generateText(twice)
      await settled(desk, 2)
    }))

  test.each(WAYS)('over a model that was wrapped around a guarded one pays for %s once, whether it answers or fails', (_, run) =>
    atDesk({ answers: [{}, { status: 500 }] }, async (desk) => {
      const { openai, scope, provider } = desk
      const middleware = defaultSettingsMiddleware({ settings: {} })
      const model = wrapLanguageModel({ model: guardProvider(openai, scope).chat(MODEL), middleware })
      const settings = guardSettings(scope, { ...CALL, maxRetries: 0, model })
      await run(settings)
      expect(desk.ends()).toEqual(['settled', 'released'])
      expect(await desk.spent()).toBe(provider.bill().nanoUsd)
      await run(settings).catch(() => undefined)
      expect(desk.ends()).toEqual(['settled', 'released', 'charged', 'released'])
    }),
  )

  test('over a model that answers by itself beside a guarded one pays for both', () =>
    atDesk({}, async (desk) => {
      const { openai, scope, provider } = desk
      const guarded = guardProvider(openai, scope).chat(MODEL)
      const twice: LanguageModelV4Middleware = {
        specificationVersion: 'v4',
        wrapGenerate: async ({ doGenerate, params }) => {
          await guarded.doGenerate(params)
          return doGenerate()
        },
      }
      const model = wrapLanguageModel({ model: openai.chat(MODEL), middleware: twice })
      await generateText(guardSettings(scope, { ...CALL, maxRetries: 0, model }))
      expect(desk.ends()).toEqual(['settled', 'settled'])
      expect(await desk.spent()).toBe(provider.bill().nanoUsd)
    }))

  test('refuses when nothing fits any more, also in a later step', () =>
    atDesk({ answers: [ASKS], budgets: { acme: { usd: 1, calls: 3 } } }, async (desk) => {
      const settings = guardSettings(desk.scope, { ...CALL, model: desk.openai.chat(MODEL), tools: adding([]), stopWhen: isStepCount(9) })
      const error = await errorOf(() => generateText(settings))
      expect(findRefusal(error)?.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(desk.provider.bill().billed).toBe(3)
    }))

  test('takes the scope of scope.enter, and refuses without one', () =>
    atDesk({}, async (desk) => {
      const settings = guardSettings(undefined, { ...CALL, model: desk.openai.chat(MODEL) })
      expect(findRefusal(await errorOf(() => generateText(settings)))?.code).toBe('ERR_NO_SCOPE')
      await desk.scope.enter(() => generateText(settings))
      await settled(desk, 1)
    }))

  const OWN = [
    ['a function', () => 'denied' as const],
    ['a status for the tool', { add: 'denied' as const }],
    ['a function for the tool', { add: async ({ a }: { a: number }) => (a === 1 ? ('denied' as const) : undefined) }],
  ] as const
  test.each(OWN)('asks a toolApproval that was there, too: %s', (_, own) =>
    atDesk({ answers: LOOP, rules: [{ effect: 'allow', tool: 'add' }] }, async (desk) => {
      const ran: unknown[] = []
      const settings = { ...CALL, model: desk.openai.chat(MODEL), tools: adding(ran), stopWhen: isStepCount(3), toolApproval: own }
      await generateText(guardSettings(desk.scope, settings))
      expect(ran).toEqual([])
    }),
  )

  test('lets no toolApproval that was there allow what a rule denies', () =>
    atDesk({ answers: LOOP, rules: [{ effect: 'deny', tool: 'add' }] }, async (desk) => {
      const ran: unknown[] = []
      const settings = {
        ...CALL,
        model: desk.openai.chat(MODEL),
        tools: adding(ran),
        stopWhen: isStepCount(3),
        toolApproval: () => 'approved' as const,
      }
      await generateText(guardSettings(desk.scope, settings))
      expect(ran).toEqual([])
    }))
})

describe('countCalls', () => {
  const raw = ({ openai }: Desk): LanguageModelV4 => openai.chat(MODEL)
  const telemetry = ({ scope }: Desk) => ({ integrations: [countCalls(scope)] })

  test.each(WAYS)('reports a call of %s that nobody held', (_, run) =>
    atDesk({}, async (desk) => {
      await run({ ...CALL, model: raw(desk), telemetry: telemetry(desk) })
      expect(desk.events).toEqual(['escape'])
      expect(desk.records('event')).toMatchObject([{ type: 'escape', message: expect.stringContaining('guardFetch') as string }])
    }),
  )

  test.each(WAYS)('reports nothing of %s where every call is held: in loops, retries and refusals', (_, run) =>
    atDesk({ answers: [{ status: 500 }, ASKS, { text: 'two' }], budgets: { acme: { usd: 1, calls: 3 } } }, async (desk) => {
      const settings = { ...CALL, maxRetries: 1, model: raw(desk), tools: adding([]), stopWhen: isStepCount(3), telemetry: telemetry(desk) }
      expect(await run(guardSettings(desk.scope, settings))).toBe('two')
      await run(guardSettings(desk.scope, settings)).catch(() => undefined)
      expect(desk.scope.refusal?.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(desk.events).toEqual([])
    }),
  )

  test.each([
    ['the middleware', ({ scope, openai }: Desk) => guardSettings(scope, { model: openai.chat(MODEL) })],
    [
      'the transport guard',
      ({ scope, provider }: Desk) => ({
        model: createOpenAI({ apiKey: 'test', baseURL: provider.baseURL, fetch: guardFetch(scope) }).chat(MODEL),
      }),
    ],
  ] as const)('reports nothing of a caller who leaves before his call is sent, under %s', (_, made) =>
    atDesk({ budgets: { acme: { calls: 1 } }, waitMs: 60_000 }, async (desk) => {
      const { scope, events } = desk
      const ask = (abortSignal: AbortSignal) =>
        generateText({ ...CALL, ...made(desk), maxRetries: 0, telemetry: telemetry(desk), abortSignal })
      await expect(ask(AbortSignal.abort(new Error('left')))).rejects.toThrow('left')
      const other = await scope.begin({ kind: 'tool', resource: 'look', worst: { calls: 1 } })
      const leaving = new AbortController()
      const waiting = ask(leaving.signal)
      setTimeout(() => leaving.abort(new Error('left')), 20)
      await expect(waiting).rejects.toThrow('left')
      await other.release('not needed')
      expect([events, desk.provider.bill().requests]).toEqual([[], 0])
    }),
  )

  test.each(WAYS)('reports nothing of %s where only the transport guard holds', (_, run) =>
    atDesk({ answers: LOOP }, async (desk) => {
      const openai = createOpenAI({ apiKey: 'test', baseURL: desk.provider.baseURL, fetch: guardFetch(desk.scope) })
      await run({ ...CALL, model: openai.chat(MODEL), tools: adding([]), stopWhen: isStepCount(3), telemetry: telemetry(desk) })
      expect(desk.events).toEqual([])
      await settled(desk, 2)
    }),
  )

  test('reports the one raw model among steps that are held', () =>
    atDesk({ answers: LOOP }, async (desk) => {
      const model = wrapLanguageModel({ model: raw(desk), middleware: holdfastMiddleware(desk.scope) })
      const prepareStep = ({ stepNumber }: { stepNumber: number }) => (stepNumber === 0 ? {} : { model: raw(desk) })
      await generateText({ ...CALL, model, tools: adding([]), stopWhen: isStepCount(3), prepareStep, telemetry: telemetry(desk) })
      expect(desk.events).toEqual(['escape'])
    }))

  test('sees nothing where telemetry is switched off, and says nothing outside of any scope', () =>
    atDesk({}, async (desk) => {
      await readAll(streamText({ ...CALL, model: raw(desk), telemetry: { ...telemetry(desk), isEnabled: false } }).textStream)
      await generateText({ ...CALL, model: raw(desk), telemetry: { integrations: [countCalls()] } })
      expect(desk.events).toEqual([])
      await desk.scope.enter(() => generateText({ ...CALL, model: raw(desk), telemetry: { integrations: [countCalls()] } }))
      expect(desk.events).toEqual(['escape'])
    }))

  test('takes a hold that the call was given for its own', () =>
    atDesk({}, async (desk) => {
      const action = { kind: 'model', resource: MODEL, worst: { usd: 1_000_000, tokens: 1_000, calls: 1 } }
      await desk.scope.run(
        action,
        () => generateText({ ...CALL, model: raw(desk), telemetry: telemetry(desk) }),
        () => ({ usd: 1, tokens: 1 }),
      )
      expect(desk.events).toEqual([])
    }))
})
