// guardModel: models of each package, what LangChain makes of them, and what was made of them before. Each call is held
// once for each attempt, on the model that really runs; what cannot be guarded is refused with what to do.

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import Anthropic from '@anthropic-ai/sdk'
import { ChatAnthropic } from '@langchain/anthropic'
import type { BaseChatModel } from '@langchain/core/language_models/chat_models'
import type { Runnable } from '@langchain/core/runnables'
import { initChatModel, providerStrategy, toolStrategy } from 'langchain'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardModel } from '../../integrations/langchain.ts'
import { anthropicCopy } from '../../integrations/langchain/anthropic.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import { errorOf, readAll, SUITE_MODEL, type Bench } from '../../src/testing/integration-bench.ts'
import { assertSettled } from '../../src/testing/integration-money.ts'
import { endsOf, onBench } from './bench.ts'
import { adding, agentOn, answerUsing, DONE, failing, HI, rawModel, texts, TURNS, UnseenModel } from './langchain-bench.ts'

const SHIPS = z.object({ ships: z.number() })
const NINE = { answers: [{ text: '{"ships":9}' }] }

/** A model that is made when it is called. */
const initialised = ({ provider }: Bench, more: object = {}) =>
  initChatModel(`openai:${SUITE_MODEL}`, {
    apiKey: 'test',
    maxRetries: 0,
    maxTokens: 50,
    configuration: { baseURL: provider.baseURL },
    ...more,
  })

type Made = (guard: <M extends object>(model: M) => M, bench: Bench) => Runnable | Promise<Runnable>

const MADE: readonly (readonly [name: string, made: Made])[] = [
  ['bound tools', (guard, bench) => guard(rawModel(bench).bindTools([adding()]))],
  ['a config', (guard, bench) => guard(rawModel(bench).withConfig({ stop: ['x'] }))],
  ['retries', (guard, bench) => guard(rawModel(bench).withRetry({ stopAfterAttempt: 2 }))],
  ['fallbacks', (guard, bench) => guard(rawModel(bench).withFallbacks([rawModel(bench)]))],
  ['structured output', (guard, bench) => guard(rawModel(bench).withStructuredOutput(SHIPS))],
  ['structured output by a tool', (guard, bench) => guard(rawModel(bench).withStructuredOutput(SHIPS, { method: 'jsonMode' }))],
  ['structured output with the raw answer', (guard, bench) => guard(rawModel(bench).withStructuredOutput(SHIPS, { includeRaw: true }))],
  [
    'a name and a config over structured output',
    (guard, bench) =>
      guard(
        rawModel(bench)
          .withStructuredOutput(SHIPS, { name: 'ships' })
          .withConfig({ tags: ['x'] }),
      ),
  ],
  ['initChatModel', async (guard, bench) => guard(await initialised(bench))],
  ['initChatModel, on Responses', async (guard, bench) => guard(await initialised(bench, { useResponsesApi: true }))],
  ['initChatModel, bound before', async (guard, bench) => guard((await initialised(bench)).bindTools([adding()]) as Runnable)],
  ['initChatModel, bound after', async (guard, bench) => guard(await initialised(bench)).bindTools([adding()]) as Runnable],
  ['initChatModel, with a config after', async (guard, bench) => guard(await initialised(bench)).withConfig({ tags: ['x'] })],
  ['initChatModel, with structured output after', async (guard, bench) => guard(await initialised(bench)).withStructuredOutput(SHIPS)],
  ['initChatModel, with structured output before', async (guard, bench) => guard((await initialised(bench)).withStructuredOutput(SHIPS))],
  [
    'bound, structured, retried and with a fallback after',
    (guard, bench) =>
      guard(rawModel(bench))
        .withStructuredOutput(SHIPS)
        .withRetry({ stopAfterAttempt: 2 })
        .withFallbacks([guard(rawModel(bench)).withStructuredOutput(SHIPS)]),
  ],
]

describe('guardModel', () => {
  test.each(MADE)('of a model with %s holds each call once, by invoke, stream and batch', (_name, made) =>
    onBench(NINE, async (bench) => {
      const model = await made((given) => guardModel(given, bench.scope), bench)
      await model.invoke('hi')
      for await (const _ of await model.stream('hi'));
      await model.batch(['hi', 'ho'], { maxConcurrency: 1 })
      expect(bench.provider.bill().billed).toBe(4)
      expect(await endsOf(bench)).toEqual(['settled', 'settled', 'settled', 'settled'])
      await assertSettled(bench)
    }),
  )

  test.each(MADE)('of a model with %s is refused before its HTTP when it does not fit', (_name, made) =>
    onBench({ limit: 1, ...NINE }, async (bench) => {
      const model = await made((given) => guardModel(given, bench.scope), bench)
      expect(findRefusal(await errorOf(() => model.invoke('hi')))?.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(bench.provider.bill().requests).toBe(0)
    }),
  )

  test('does not try a refusal again, in what retries', () =>
    onBench({ limit: 1 }, async (bench) => {
      await errorOf(() => guardModel(rawModel(bench).withRetry({ stopAfterAttempt: 5 }), bench.scope).invoke('hi'))
      expect(bench.records('refused')).toHaveLength(1)
    }))

  test('holds each attempt of a retry, and of a fallback, on the model that really runs', () =>
    onBench({ answers: [{ status: 500 }, { status: 500 }, DONE] }, async (bench) => {
      const other = rawModel(bench, { model: 'gpt-4o' })
      const model = guardModel(rawModel(bench).withRetry({ stopAfterAttempt: 2 }).withFallbacks([other]), bench.scope)
      expect(await model.invoke('hi')).toMatchObject({ content: 'done' })
      expect(bench.records('intent').map(({ resource }) => resource)).toEqual([SUITE_MODEL, SUITE_MODEL, 'gpt-4o'])
      expect(await endsOf(bench)).toEqual(['charged', 'charged', 'settled'])
    }))

  test('of initChatModel holds the model that the configuration of a call chooses, at its price', () =>
    onBench({ answers: [DONE] }, async (bench) => {
      const given = await initialised(bench, { configurableFields: ['model'] })
      const model = guardModel(given, bench.scope)
      for (const name of [SUITE_MODEL, 'gpt-4o']) await model.invoke('hi', { configurable: { model: name } })
      expect(bench.records('intent').map(({ resource }) => resource)).toEqual([SUITE_MODEL, 'gpt-4o'])
      expect(await endsOf(bench)).toEqual(['settled', 'settled'])
    }))

  test('leaves the given one as it is', () =>
    onBench({ guarded: false, answers: [DONE] }, async (bench) => {
      const bound = rawModel(bench).withRetry({ stopAfterAttempt: 2 })
      const configurable = await initialised(bench)
      for (const given of [bound, configurable]) {
        guardModel(given, bench.scope)
        await given.invoke('hi')
      }
      expect(bench.records('intent')).toEqual([])
    }))
})

describe('guardModel of a model of another package', () => {
  test('holds each call with the cap that was granted, and settles it from its usage', () =>
    onBench({}, async (bench) => {
      const model = guardModel(new UnseenModel({ maxTokens: 50, answer: () => answerUsing(20, 50) }), bench.scope)
      await model.invoke('hi')
      await model.batch(['hi', 'ho'])
      expect(await readAll(textsOf(await model.stream('hi')))).toBe('done')
      expect(await endsOf(bench)).toEqual(['settled', 'settled', 'settled', 'settled'])
      expect(await bench.spent()).toBe(4 * (20 * 150 + 50 * 600))
    }))

  test('is refused before it is called when it does not fit', () =>
    onBench({ limit: 1 }, async (bench) => {
      const model = guardModel(new UnseenModel({ maxTokens: 50, answer: failing(500) }), bench.scope)
      expect(findRefusal(await errorOf(() => model.invoke('hi')))?.code).toBe('ERR_BUDGET_EXCEEDED')
    }))

  test('that cannot be made anew is a TypeError that says what can', () => {
    class Stubborn extends UnseenModel {
      constructor(fields: object, secret?: string) {
        super({ ...fields, maxTokens: secret === undefined ? 1 : 50 })
      }
    }
    const stubborn = new Stubborn({}, 'x')
    expect(() => guardModel(stubborn)).toThrow(/constructor takes `maxTokens`/)
    expect(() => guardModel(stubborn.withRetry())).toThrow(/Stubborn/)
    expect(() => guardModel({})).toThrow(TypeError)
  })
})

async function* textsOf(chunks: AsyncIterable<{ readonly text: string }>): AsyncGenerator<string> {
  for await (const { text } of chunks) yield text
}

describe('a string model in an agent', () => {
  test.each([
    ['chat', (bench: Bench) => initialised(bench)],
    ['Responses', (bench: Bench) => initialised(bench, { useResponsesApi: true })],
    ['guarded already', async (bench: Bench) => guardModel(await initialised(bench), bench.scope)],
  ] as const)('is held once for each call, on the model that is made of it (%s)', (_name, made) =>
    onBench({ answers: TURNS, rules: [{ effect: 'allow', tool: 'add' }] }, async (bench) => {
      const model = (await made(bench)) as unknown as BaseChatModel
      expect(texts(await agentOn(bench, { model, tools: [adding()] }).invoke(HI)).at(-1)).toEqual(['ai', 'done'])
      expect(bench.records('intent').filter(({ resource }) => resource === SUITE_MODEL)).toHaveLength(2)
      await assertSettled(bench)
    }),
  )

  test.each([
    ['by a tool', [{ toolCalls: [{ name: 'ships', arguments: { ships: 9 } }] }], toolStrategy],
    ['by the provider', [{ text: '{"ships":9}' }], providerStrategy],
  ] as const)('answers with structure %s, held once for each call', (_name, answers, strategy) =>
    onBench({ answers }, async (bench) => {
      const model = (await initialised(bench)) as unknown as BaseChatModel
      const schema = { title: 'ships', type: 'object', properties: { ships: { type: 'number' } }, required: ['ships'] }
      const result = await agentOn(bench, { model, responseFormat: strategy(schema as never) as never }).invoke(HI)
      expect((result as { structuredResponse?: unknown }).structuredResponse).toEqual({ ships: 9 })
      expect(await endsOf(bench)).toEqual(['settled'])
    }),
  )
})

describe('ChatAnthropic', () => {
  const answer = {
    id: 'msg_1',
    type: 'message',
    role: 'assistant',
    model: 'claude-sonnet-4-5',
    content: [{ type: 'text', text: 'nine' }],
    stop_reason: 'end_turn',
    stop_sequence: null,
    usage: { input_tokens: 3, cache_read_input_tokens: 100, output_tokens: 2 },
  }
  const events = [
    { type: 'message_start', message: { ...answer, content: [], stop_reason: null } },
    { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
    { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'nine' } },
    { type: 'content_block_stop', index: 0 },
    { type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: null }, usage: { output_tokens: 2 } },
    { type: 'message_stop' },
  ]

  async function withServer(run: (baseURL: string) => Promise<void>): Promise<void> {
    const server = createServer((request, response) => {
      let body = ''
      request.on('data', (chunk: Buffer) => (body += chunk.toString()))
      request.on('end', () => {
        if ((JSON.parse(body) as { stream?: boolean }).stream !== true)
          return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        return response.end(events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join(''))
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    try {
      await run(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    } finally {
      server.close()
    }
  }

  const claude = (baseURL: string, more: object = {}) =>
    new ChatAnthropic({ model: 'claude-sonnet-4-5', apiKey: 'test', maxTokens: 50, maxRetries: 0, anthropicApiUrl: baseURL, ...more })

  test.each([
    ['by itself', {}],
    ['that a client of its own sends', { createClient: (options: object) => new Anthropic({ ...options, fetch: globalThis.fetch }) }],
  ] as const)('sends through the fetch that it is given: %s', (_name, more) =>
    withServer(async (baseURL) => {
      let sent = 0
      const counting: typeof fetch = async (input, init) => {
        sent += 1
        return fetch(input, init)
      }
      const given = claude(baseURL, more)
      const model = anthropicCopy(given as never, counting) as unknown as ChatAnthropic
      expect((await model.invoke('hi')).text).toBe('nine')
      expect(await readAll(textsOf(await model.stream('hi')))).toBe('nine')
      await model.bindTools([adding()]).invoke('hi')
      await model.withConfig({ tags: ['x'] }).invoke('hi')
      await model.batch(['hi', 'ho'])
      expect(sent).toBe(6)
      await given.invoke('hi')
      expect(sent).toBe(6)
    }),
  )

  test('whose own client nobody can look into fails before it is called', async () => {
    const made = claude('http://127.0.0.1:9', { createClient: () => ({ messages: {} }) })
    const model = anthropicCopy(made as never, fetch) as unknown as ChatAnthropic
    expect(String(await errorOf(() => model.invoke('hi')))).toContain('no guard can be put under it')
  })

  test('in guardAgent is held, with the cap that was granted, and settled from its usage', () =>
    onBench({}, (bench) =>
      withServer(async (baseURL) => {
        const model = claude(baseURL, { maxTokens: 50 }) as unknown as BaseChatModel
        expect(texts(await agentOn(bench, { model }).invoke(HI)).at(-1)).toEqual(['ai', 'nine'])
        expect(bench.records('intent')).toMatchObject([{ resource: 'claude-sonnet-4-5' }])
        // 3 tokens in at 3 USD, 100 from the cache at 0.3 USD, and 2 out at 15 USD, each for a million.
        expect(await bench.spent()).toBe(3 * 3_000 + 100 * 300 + 2 * 15_000)
      }),
    ))

  test('is refused under guardModel when it does not fit, before its HTTP', () =>
    onBench({ limit: 1 }, (bench) =>
      withServer(async (baseURL) => {
        const error = await errorOf(() => guardModel(claude(baseURL), bench.scope).invoke('hi'))
        expect(findRefusal(error)).toBeDefined()
      }),
    ))
})
