// The OpenAI SDK: the suite on both of its APIs, and what is special about its client: promises that are more than
// promises, helpers, clones, subclasses, and tools in every form that `runTools` takes.

import OpenAI, { APIError, AzureOpenAI, OpenAIError } from 'openai'
import { zodFunction, zodResponseFormat, zodTextFormat } from 'openai/helpers/zod'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { wrapOpenAI } from '../../integrations/openai.ts'
import { memoryStore, openKernel } from '../../src/index.ts'
import { Refusal, findRefusal } from '../../src/lib/errors.ts'
import { SUITE_MODEL, errorOf, type Bench, type BenchOptions } from '../../src/testing/integration-bench.ts'
import { testIntegration } from '../../src/testing/integration-suite.ts'
import { clientOf, collect, responsesCalls } from './adapters.ts'
import { OPENAI_CHAT, endsOf, onBench } from './bench.ts'

testIntegration(test.concurrent, OPENAI_CHAT)
testIntegration(test.concurrent, {
  ...OPENAI_CHAT,
  name: 'openai responses',
  connect: (site) => responsesCalls(clientOf(site), site),
})

const HELLO = { model: SUITE_MODEL, messages: [{ role: 'user' as const, content: 'hello there' }], max_completion_tokens: 50 }
const JSON_ANSWER = { text: '{"ships":9}' }
const Ships = z.object({ ships: z.number() })

/** A bench with a wrapped client on its scope. */
function withClient(options: BenchOptions, run: (bench: Bench, client: OpenAI) => Promise<void>): Promise<void> {
  return onBench(options, (bench) => {
    const { baseURL } = bench.provider
    return run(bench, wrapOpenAI(new OpenAI({ apiKey: 'test', baseURL, maxRetries: 2, logLevel: 'off' }), bench.scope))
  })
}

async function expectSettled(bench: Bench, attempts: number): Promise<void> {
  expect(await endsOf(bench)).toEqual(Array.from({ length: attempts }, () => 'settled'))
  expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
}

describe('promises stay those of the SDK', () => {
  test('asResponse gives the response, whose body is still there', () =>
    withClient({}, async (bench, client) => {
      const response = await client.chat.completions.create(HELLO).asResponse()
      expect(response.url).toBe(`${bench.provider.baseURL}/chat/completions`)
      expect(await response.json()).toMatchObject({ object: 'chat.completion' })
      await expectSettled(bench, 1)
    }))

  test('withResponse gives both, and the request id', () =>
    withClient({}, async (bench, client) => {
      const { data, response, request_id: id } = await client.responses.create({ model: SUITE_MODEL, input: 'hello' }).withResponse()
      expect(data.output_text).toBe('hello')
      expect(id).toBe(response.headers.get('x-request-id'))
      await expectSettled(bench, 1)
    }))

  test('parse reads structured output of both APIs', () =>
    withClient({ answers: [JSON_ANSWER] }, async (bench, client) => {
      const chat = await client.chat.completions.parse({ ...HELLO, response_format: zodResponseFormat(Ships, 'ships') })
      expect(chat.choices[0]!.message.parsed).toEqual({ ships: 9 })
      const response = await client.responses.parse({ model: SUITE_MODEL, input: 'count', text: { format: zodTextFormat(Ships, 'ships') } })
      expect(response.output_parsed).toEqual({ ships: 9 })
      await expectSettled(bench, 2)
    }))

  test('the stream helpers of both APIs run to their end', () =>
    withClient({ answers: [{ text: 'nine ships' }] }, async (bench, client) => {
      const chat = client.chat.completions.stream(HELLO)
      expect((await chat.finalChatCompletion()).choices[0]!.message.content).toBe('nine ships')
      expect((await client.responses.stream({ model: SUITE_MODEL, input: 'count' }).finalResponse()).output_text).toBe('nine ships')
      await expectSettled(bench, 2)
    }))

  test('a stream of a caller who asked for usage has it, once', () =>
    withClient({}, async (bench, client) => {
      const chunks = await collect(
        await client.chat.completions.create({ ...HELLO, stream: true, stream_options: { include_usage: true } }),
      )
      expect(chunks.filter(({ usage }) => usage != null)).toHaveLength(1)
      expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 3 } })
      await expectSettled(bench, 1)
    }))

  test('a stream that is torn in two is settled once', () =>
    withClient({}, async (bench, client) => {
      const [left, right] = (await client.chat.completions.create({ ...HELLO, stream: true })).tee()
      expect(await collect(left)).toEqual(await collect(right))
      await expectSettled(bench, 1)
    }))
})

describe('a refusal', () => {
  test('is thrown as itself, and is no error of the SDK', () =>
    withClient({ limit: 1 }, async (bench, client) => {
      for (const call of [
        () => client.chat.completions.create(HELLO),
        () => client.chat.completions.create({ ...HELLO, stream: true }),
        () => client.chat.completions.create(HELLO).asResponse(),
        () => client.chat.completions.parse({ ...HELLO, response_format: zodResponseFormat(Ships, 'ships') }),
        () => client.responses.create({ model: SUITE_MODEL, input: 'hello' }),
        () => client.post('/chat/completions', { body: HELLO }),
      ]) {
        const error = await errorOf(async () => call())
        expect(error).toBeInstanceOf(Refusal)
        expect(error).not.toBeInstanceOf(OpenAIError)
        expect(error).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED', details: { budget: { budget: 'suite/run' } } })
      }
      expect(bench.provider.bill().requests).toBe(0)
    }))

  test('is found in what the helpers make of it', () =>
    withClient({ limit: 1 }, async (bench, client) => {
      for (const call of [
        () => client.chat.completions.stream(HELLO).finalChatCompletion(),
        () => client.responses.stream({ model: SUITE_MODEL, input: 'hello' }).finalResponse(),
        () => client.chat.completions.runTools({ ...HELLO, tools: [] }).finalContent(),
      ]) {
        expect(findRefusal(await errorOf(call))?.code).toBe('ERR_BUDGET_EXCEEDED')
      }
      expect(bench.provider.bill().requests).toBe(0)
    }))

  test('of an endpoint that cannot be metered names the option that lets it through', () =>
    withClient({}, async (bench, client) => {
      const error = await errorOf(async () => client.vectorStores.create({ name: 'x' }))
      expect(error).toMatchObject({ code: 'ERR_UNMETERED', message: expect.stringContaining("passthrough: ['/v1/vector_stores']") })
      expect(bench.scope.refusal).toMatchObject({ code: 'ERR_UNMETERED' })
      expect(bench.records('refused')).toMatchObject([{ code: 'ERR_UNMETERED' }])
      await expect(client.models.list()).resolves.toMatchObject({ object: 'list' })
      expect(bench.provider.bill().requests).toBe(0)
    }))

  test('of such an endpoint is only an event where the kernel observes, and the SDK has its answer', async () => {
    const events: string[] = []
    const onEvent = ({ type }: { readonly type: string }): unknown => events.push(type)
    await using kernel = await openKernel({ store: memoryStore(), mode: 'observe', budgets: { acme: { usd: 1 } }, onEvent })
    const fetch = async (): Promise<Response> => Response.json({ object: 'vector_store', id: 'vs_1' })
    const client = wrapOpenAI(new OpenAI({ apiKey: 'test', fetch }), kernel.scope({ agent: 'a', task: 't', budget: 'acme' }))
    expect((await client.vectorStores.create({ name: 'x' })).id).toBe('vs_1')
    expect(events).toEqual(['would-refuse'])
  })

  test('of a call that can be metered is not avoided by a passthrough of another path', () =>
    onBench({ limit: 1 }, async (bench) => {
      const client = new OpenAI({ apiKey: 'test', baseURL: bench.provider.baseURL, maxRetries: 0 })
      const wrapped = wrapOpenAI(client, bench.scope, { passthrough: ['/completions'] })
      expect(await errorOf(async () => wrapped.chat.completions.create(HELLO))).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
      expect(bench.provider.bill().requests).toBe(0)
    }))

  test('does not take the place of an error of the provider', () =>
    withClient({ answers: [{ status: 402 }] }, async (_, client) => {
      const error = await errorOf(async () => client.chat.completions.create(HELLO))
      expect(error).toBeInstanceOf(APIError)
      expect(findRefusal(error)).toBeUndefined()
    }))
})

describe('clones and classes', () => {
  test('a clone is guarded', () =>
    withClient({}, async (bench, client) => {
      const clone = client.withOptions({ timeout: 9_000 }).withOptions({ maxRetries: 0 })
      await clone.chat.completions.create(HELLO)
      expect([clone.timeout, clone.maxRetries]).toEqual([9_000, 0])
      await expectSettled(bench, 1)
    }))

  test('a clone with a fetch of its own is guarded, and sends by it', () =>
    withClient({}, async (bench, client) => {
      const sent: unknown[] = []
      const clone = client.withOptions({ fetch: (url, init) => (sent.push(url), fetch(url, init)) })
      await clone.chat.completions.create(HELLO)
      expect(sent).toHaveLength(1)
      await expectSettled(bench, 1)
    }))

  test('tools of a clone are guarded, too', () =>
    withClient({ answers: TOOL_ANSWERS, rules: [{ effect: 'deny', tool: 'add' }] }, async (_, client) => {
      const ran: unknown[] = []
      await client
        .withOptions({ timeout: 9_000 })
        .chat.completions.runTools({ ...HELLO, tools: [plainTool(ran)] })
        .finalContent()
      expect(ran).toEqual([])
    }))

  test('a client that is wrapped again belongs to the second scope only, and so do its clones', () =>
    withClient({}, async (bench, client) => {
      const other = bench.kernel.scope({ agent: 'other', task: 't', budget: 'suite/other' })
      const again = wrapOpenAI(client, other)
      await again.chat.completions.create(HELLO)
      await again.withOptions({ timeout: 9_000 }).chat.completions.create(HELLO)
      expect([await bench.spent('suite/run'), await bench.spent('suite/other')]).toEqual([0, bench.provider.bill().nanoUsd])
      await client.chat.completions.create(HELLO)
      expect(await bench.spent('suite/run')).toBe(bench.provider.bill().nanoUsd / 3)
    }))

  test('the client that was given stays as it is', () =>
    onBench({ guarded: false }, async (bench) => {
      const client = new OpenAI({ apiKey: 'test', baseURL: bench.provider.baseURL })
      wrapOpenAI(client, bench.scope)
      await client.chat.completions.create(HELLO)
      expect(bench.records('intent')).toEqual([])
    }))

  test('a subclass stays one, with its own hooks', () =>
    onBench({}, async (bench) => {
      class Tagged extends OpenAI {
        protected override async prepareOptions(options: Parameters<OpenAI['prepareOptions']>[0]): Promise<void> {
          options.body = { ...(options.body as object), user: 'tagged' }
        }
      }
      const client = wrapOpenAI(new Tagged({ apiKey: 'test', baseURL: bench.provider.baseURL }), bench.scope)
      expect(client).toBeInstanceOf(Tagged)
      await client.chat.completions.create(HELLO)
      expect(bench.provider.requests()[0]!.body['user']).toBe('tagged')
      await expectSettled(bench, 1)
    }))

  test('a client for Azure stays one, and its deployments are metered by the model of the request', () =>
    onBench({}, async (bench) => {
      const paths: string[] = []
      const azure = new AzureOpenAI({
        apiKey: 'test',
        apiVersion: '2026-01-01',
        endpoint: 'http://azure.test',
        fetch: (url, init) => {
          const { pathname } = new URL(url)
          paths.push(pathname)
          return fetch(`${bench.provider.baseURL}/chat/completions`, init)
        },
      })
      const client = wrapOpenAI(azure, bench.scope)
      expect(client).toBeInstanceOf(AzureOpenAI)
      await client.chat.completions.create(HELLO)
      expect(paths).toEqual([`/openai/deployments/${SUITE_MODEL}/chat/completions`])
      await expectSettled(bench, 1)
    }))

  test('what is no client is refused with what was expected', () => {
    expect(() => wrapOpenAI({})).toThrow(/new OpenAI\(\)/)
  })
})

const TOOL_ANSWERS = [{ toolCalls: [{ name: 'add', arguments: { a: 1, b: 2 } }] }, { text: 'three' }]
const PARAMETERS = { type: 'object' as const, properties: { a: { type: 'number' }, b: { type: 'number' } } }

const parseObject = (text: string): object => JSON.parse(text) as object

function plainTool(ran: unknown[]) {
  const run = (args: object): string => (ran.push(args), '3')
  return {
    type: 'function' as const,
    function: { name: 'add', description: 'adds', parameters: PARAMETERS, parse: parseObject, function: run },
  }
}

function textTool(ran: unknown[]) {
  const run = (args: string): string => (ran.push(JSON.parse(args)), '3')
  return { type: 'function' as const, function: { name: 'add', description: 'adds', parameters: PARAMETERS, function: run } }
}

function namelessTool(ran: unknown[]) {
  const { name: _, ...declared } = plainTool(ran).function
  const add = declared.function
  return { type: 'function' as const, function: { ...declared, function: Object.defineProperty(add, 'name', { value: 'add' }) } }
}

function zodTool(ran: unknown[]) {
  const parameters = z.object({ a: z.number(), b: z.number() })
  return zodFunction({ name: 'add', description: 'adds', parameters, function: (args) => (ran.push(args), '3') })
}

describe('runTools guards a tool', () => {
  const FORMS = [
    ['with a parser', plainTool],
    ['that takes text', textTool],
    ['that is named by its function', namelessTool],
    ['of zodFunction', zodTool],
  ] as const

  test.each(FORMS)('%s: allowed, it runs', (_, make) =>
    withClient({ answers: TOOL_ANSWERS, rules: [{ effect: 'allow', tool: 'add', where: { a: 1 } }] }, async (bench, client) => {
      const ran: unknown[] = []
      const tools = [make(ran)] as Parameters<typeof client.chat.completions.runTools>[0]['tools']
      expect(await client.chat.completions.runTools({ ...HELLO, tools }).finalContent()).toBe('three')
      expect(ran).toEqual([{ a: 1, b: 2 }])
      expect(bench.provider.requests()[1]!.body['messages']).toMatchObject({ 2: { role: 'tool', content: '3' } })
    }),
  )

  test.each(FORMS)('%s: denied by its arguments, it does not run, and the model is told', (_, make) =>
    withClient(
      {
        answers: TOOL_ANSWERS,
        rules: [
          { effect: 'allow', tool: 'add' },
          { effect: 'deny', tool: 'add', where: { a: 1 } },
        ],
      },
      async (bench, client) => {
        const ran: unknown[] = []
        const tools = [make(ran)] as Parameters<typeof client.chat.completions.runTools>[0]['tools']
        await client.chat.completions.runTools({ ...HELLO, tools }).finalContent()
        expect(ran).toEqual([])
        const content = bench.scope.refusal!.toModelMessage()
        expect(bench.provider.requests()[1]!.body['messages']).toMatchObject({ 2: { role: 'tool', content } })
      },
    ),
  )

  test('that gets text which is no JSON: rules on arguments cannot be sure of it, so it does not run', () =>
    withClient(
      {
        answers: [{ toolCalls: [{ name: 'add', arguments: '{"a": 1,' }] }, { text: 'sorry' }],
        rules: [
          { effect: 'allow', tool: 'add' },
          { effect: 'deny', tool: 'add', where: { a: 1 } },
        ],
      },
      async (_, client) => {
        const ran: unknown[] = []
        await client.chat.completions.runTools({ ...HELLO, tools: [textTool(ran)] }).finalContent()
        expect(ran).toEqual([])
      },
    ))

  test('whose own model is refused: that is an error of the tool, which ends the run, and is found in it', () =>
    withClient({ answers: TOOL_ANSWERS }, async (bench, client) => {
      const dear = { ...HELLO, max_completion_tokens: 10_000_000 }
      const declared = { ...plainTool([]).function, function: async () => client.chat.completions.create(dear) }
      const runner = client.chat.completions.runTools({ ...HELLO, tools: [{ type: 'function', function: declared }] })
      expect(findRefusal(await errorOf(() => runner.finalContent()))?.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(bench.provider.bill().requests).toBe(1)
    }))

  test('in a streamed run as well', () =>
    withClient({ answers: TOOL_ANSWERS, rules: [] }, async (bench, client) => {
      const ran: unknown[] = []
      await client.chat.completions.runTools({ ...HELLO, stream: true, tools: [plainTool(ran)] }).finalContent()
      expect(ran).toEqual([])
      expect((await bench.outcomes()).every(({ outcome }) => outcome === 'settled')).toBe(true)
    }))

  test('and the client by itself would have run it', () =>
    onBench({ guarded: false, answers: TOOL_ANSWERS }, async (bench) => {
      for (const [, make] of FORMS) {
        bench.provider.reset()
        const ran: unknown[] = []
        const client = new OpenAI({ apiKey: 'test', baseURL: bench.provider.baseURL })
        const tools = [make(ran)] as Parameters<typeof client.chat.completions.runTools>[0]['tools']
        await client.chat.completions.runTools({ ...HELLO, tools }).finalContent()
        expect(ran).toEqual([{ a: 1, b: 2 }])
      }
    }))
})
