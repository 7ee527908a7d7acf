// The Anthropic SDK: what is special about its client. Promises that are more than promises, helpers, clones,
// middleware, and tools in every form that a tool runner takes.

import Anthropic, { APIError, AnthropicError } from '@anthropic-ai/sdk'
import { betaZodTool } from '@anthropic-ai/sdk/helpers/beta/zod'
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardFunctions, wrapAnthropic, type WrapAnthropicOptions } from '../../integrations/anthropic.ts'
import { guardTools } from '../../integrations/anthropic/tool-runner.ts'
import { memoryStore, openKernel } from '../../src/index.ts'
import { Refusal, findRefusal } from '../../src/lib/errors.ts'
import { SUITE_MODEL, errorOf, type Bench, type BenchOptions } from '../../src/testing/integration-bench.ts'
import { collect } from './adapters.ts'
import { endsOf, onBench } from './bench.ts'

const HELLO = { model: SUITE_MODEL, max_tokens: 50, messages: [{ role: 'user' as const, content: 'hello there' }] }
const Ships = z.object({ ships: z.number() })
const FORMAT = { output_config: { format: zodOutputFormat(Ships) } }
const OBJECT = { type: 'object' as const, properties: {}, additionalProperties: true }

function clientOn({ provider }: Bench, more: object = {}): Anthropic {
  return new Anthropic({ apiKey: 'test', baseURL: provider.baseURL.replace(/\/v1$/, ''), maxRetries: 2, logLevel: 'off', ...more })
}

/** A bench with a wrapped client on its scope. */
function withClient(
  options: BenchOptions,
  run: (bench: Bench, client: Anthropic) => Promise<void>,
  wrap: WrapAnthropicOptions = {},
): Promise<void> {
  return onBench(options, (bench) => run(bench, wrapAnthropic(clientOn(bench), bench.scope, wrap)))
}

async function expectSettled(bench: Bench, attempts: number): Promise<void> {
  expect(await endsOf(bench)).toEqual(Array.from({ length: attempts }, () => 'settled'))
  expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
}

describe('promises stay those of the SDK', () => {
  test('asResponse gives the response, whose body is still there', () =>
    withClient({}, async (bench, client) => {
      const response = await client.messages.create(HELLO).asResponse()
      expect(response.url).toBe(`${bench.provider.baseURL}/messages`)
      expect(await response.json()).toMatchObject({ type: 'message' })
      await expectSettled(bench, 1)
    }))

  test('withResponse gives both, and the request id', () =>
    withClient({}, async (bench, client) => {
      const { data, response, request_id: id } = await client.messages.create(HELLO).withResponse()
      expect(data.content).toMatchObject([{ type: 'text', text: 'hello there' }])
      expect(id).toBe(response.headers.get('request-id'))
      await expectSettled(bench, 1)
    }))

  test('parse reads structured output, beta or not', () =>
    withClient({ answers: [{ text: '{"ships":9}' }] }, async (bench, client) => {
      expect((await client.messages.parse({ ...HELLO, ...FORMAT })).parsed_output).toEqual({ ships: 9 })
      expect((await client.beta.messages.parse({ ...HELLO, ...FORMAT })).parsed_output).toEqual({ ships: 9 })
      await expectSettled(bench, 2)
    }))

  test('streams and their helper run to their end, beta or not', () =>
    withClient({ answers: [{ text: 'nine ships' }] }, async (bench, client) => {
      expect(await client.messages.stream(HELLO).finalText()).toBe('nine ships')
      expect(await client.beta.messages.stream(HELLO).finalText()).toBe('nine ships')
      const events = await collect(await client.beta.messages.create({ ...HELLO, stream: true }))
      expect(events.at(-1)?.type).toBe('message_stop')
      const [left, right] = (await client.messages.create({ ...HELLO, stream: true })).tee()
      expect(await collect(left)).toEqual(await collect(right))
      await expectSettled(bench, 4)
    }))

  test('a request by hand is one like any other', () =>
    withClient({}, async (bench, client) => {
      expect(await client.post('/v1/messages', { body: HELLO })).toMatchObject({ type: 'message' })
      await expectSettled(bench, 1)
    }))
})

describe('a refusal', () => {
  test('is thrown as itself, and is no error of the SDK', () =>
    withClient({ limit: 1 }, async (bench, client) => {
      for (const call of [
        () => client.messages.create(HELLO),
        () => client.messages.create({ ...HELLO, stream: true }),
        () => client.messages.create(HELLO).asResponse(),
        () => client.messages.parse({ ...HELLO, ...FORMAT }),
        () => client.beta.messages.create(HELLO),
        () => client.beta.messages.toolRunner({ ...HELLO, tools: [] }).runUntilDone(),
        () => client.post('/v1/messages', { body: HELLO }),
        () => client.withOptions({ timeout: 1_000 }).messages.create(HELLO),
      ]) {
        const error = await errorOf(async () => call())
        expect(error).toBeInstanceOf(Refusal)
        expect(error).not.toBeInstanceOf(AnthropicError)
        expect(error).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED', details: { budget: { budget: 'suite/run' } } })
      }
      expect(bench.provider.bill().requests).toBe(0)
    }))

  test('is found in what the stream helper makes of it', () =>
    withClient({ limit: 1 }, async (bench, client) => {
      for (const call of [
        () => client.messages.stream(HELLO).finalMessage(),
        () => client.beta.messages.stream(HELLO).finalText(),
        () => client.beta.messages.toolRunner({ ...HELLO, tools: [], stream: true }).runUntilDone(),
      ])
        expect(findRefusal(await errorOf(call))?.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(bench.provider.bill().requests).toBe(0)
    }))

  test('of what cannot be metered leaves no request behind, and what costs nothing is let through', () =>
    withClient({}, async (bench, client) => {
      const requests = [{ custom_id: 'a', params: { ...HELLO, thread: { type: 'continue' } } }]
      for (const call of [
        () => client.messages.batches.create({ requests }),
        () => client.post('/v1/complete', { body: { model: SUITE_MODEL, max_tokens_to_sample: 5, prompt: 'a' } }),
        () => client.beta.sessions.create({ agent: 'a', environment_id: 'e' }),
        () => client.beta.messages.create({ ...HELLO, thread: { type: 'continue', previous_message_id: 'msg_1' } }),
      ])
        expect(await errorOf(async () => call())).toMatchObject({ code: 'ERR_UNMETERED' })
      expect(bench.provider.bill().requests).toBe(0)
      // The simulated provider does not count; that it was asked shows in its own error.
      expect(await errorOf(async () => client.messages.countTokens(HELLO))).toMatchObject({ status: 404 })
      await expect(client.models.list()).resolves.toBeDefined()
    }))

  test('of a message thread comes before its first turn', () =>
    withClient({}, async (bench, client) => {
      const error = await errorOf(async () => client.beta.messages.thread(HELLO))
      expect(error).toMatchObject({ code: 'ERR_UNMETERED', message: expect.stringContaining('toolRunner()') })
      expect(bench.records('refused')).toMatchObject([{ code: 'ERR_UNMETERED' }])
    }))
})

describe('a kernel that only observes', () => {
  test('lets through what it would refuse, and says so', async () => {
    const events: string[] = []
    const onEvent = ({ type }: { readonly type: string }): unknown => events.push(type)
    await using kernel = await openKernel({ store: memoryStore(), mode: 'observe', budgets: { acme: { usd: 1 } }, onEvent })
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
    const fetch = async (): Promise<Response> => Response.json({ id: 'msgbatch_1', type: 'message_batch' })
    const client = wrapAnthropic(new Anthropic({ apiKey: 'test', fetch }), scope)
    expect(client.beta.messages.thread(HELLO)).toMatchObject({ messages: HELLO.messages })
    expect(await client.messages.batches.create({ requests: [] })).toMatchObject({ id: 'msgbatch_1' })
    expect(events).toEqual(['would-refuse', 'would-refuse'])
  })
})

describe('attempts', () => {
  test('have a hold each, also those of a middleware that calls on by itself', () =>
    onBench({ answers: [{ status: 429 }, {}, {}] }, async (bench) => {
      const twice = async (request: never, next: (request: never) => Promise<Response>): Promise<Response> => {
        await (await next(request)).text()
        return next(request)
      }
      const client = wrapAnthropic(clientOn(bench, { middleware: [twice] }), bench.scope)
      expect(await client.messages.create(HELLO)).toMatchObject({ type: 'message' })
      expect(await endsOf(bench)).toEqual(['released', 'settled'])
    }))

  test('of the SDK after an overload are held and settled by themselves', () =>
    withClient({ answers: [{ status: 529 }, {}] }, async (bench, client) => {
      await client.messages.create(HELLO)
      expect(await endsOf(bench)).toEqual(['charged', 'settled'])
    }))

  test('that fail leave the errors of the SDK as they are', () =>
    withClient({ answers: [{ status: 400 }] }, async (_, client) => {
      const error = await errorOf(async () => client.messages.create(HELLO))
      expect(error).toBeInstanceOf(APIError)
      expect(error).toMatchObject({ status: 400, message: expect.stringContaining('A simulated failure.') })
    }))
})

describe('a wrapped client', () => {
  test('is of the same class, and leaves the given one as it was', () =>
    onBench({ limit: 1 }, async (bench) => {
      const given = clientOn(bench)
      const wrapped = wrapAnthropic(given, bench.scope)
      expect(wrapped).toBeInstanceOf(Anthropic)
      expect(wrapped).not.toBe(given)
      expect(await errorOf(async () => wrapped.messages.create(HELLO))).toBeInstanceOf(Refusal)
      expect(bench.provider.bill().requests).toBe(0)
      await given.messages.create(HELLO)
      expect(bench.provider.bill().requests).toBe(1)
      bench.provider.reset()
    }))

  test('that is wrapped again holds once, on its new scope', () =>
    onBench({}, async (bench) => {
      const other = bench.kernel.scope({ agent: 'other', task: 'other', budget: 'suite/other' })
      const client = wrapAnthropic(wrapAnthropic(clientOn(bench), bench.scope), other)
      await client.messages.create(HELLO)
      expect(await endsOf(bench)).toEqual(['settled'])
      expect(await bench.spent('suite/run')).toBe(0)
      expect(await bench.spent('suite/other')).toBe(bench.provider.bill().nanoUsd)
    }))

  test('stays guarded in its clones, whatever fetch they are given', () =>
    onBench({ limit: 1 }, async (bench) => {
      const client = wrapAnthropic(clientOn(bench), bench.scope)
      for (const clone of [client.withOptions({ maxRetries: 0 }), client.withOptions({ fetch: globalThis.fetch }).withOptions({})])
        expect(await errorOf(async () => clone.messages.create(HELLO))).toBeInstanceOf(Refusal)
      expect(bench.provider.bill().requests).toBe(0)
    }))

  test('is made of an Anthropic client only', () => {
    for (const other of [{}, { withOptions: () => {}, fetch }, { withOptions: () => {}, fetch, beta: {} }])
      expect(() => wrapAnthropic(other)).toThrow(TypeError)
  })
})

const ARGS = { to: 'pier 4' }
const ASKS = { toolCalls: [{ name: 'send_note', arguments: ARGS }] }
const DONE = { text: 'Done.' }
const DENIED = [{ effect: 'deny' as const, tool: 'send_note' }]
const ALLOWED = [{ effect: 'allow' as const, tool: 'send_note' }]

/** A tool that records what it was asked. */
function noting(ran: unknown[], name = 'send_note') {
  const run = async (args: unknown): Promise<string> => (ran.push(args), 'it lies on the desk')
  return { name, input_schema: OBJECT, parse: (input: unknown) => input, run }
}

/** What the last request answered the model's calls with. */
function resultsOf({ provider }: Bench): readonly Record<string, unknown>[] {
  const messages = provider.requests().at(-1)!.body['messages'] as { content: unknown }[]
  const content = messages.findLast(({ content }) => JSON.stringify(content).includes('tool_result'))!.content
  return content as Record<string, unknown>[]
}

describe('tools of a runner', () => {
  const TWO = { toolCalls: [...ASKS.toolCalls, { name: 'look', arguments: {} }] }
  const RULES = [...DENIED, { effect: 'allow' as const, tool: 'look' }]

  test('that are denied are answered with an error, those beside them run, and the loop goes on', () =>
    withClient({ rules: RULES, answers: [TWO, DONE] }, async (bench, client) => {
      const [denied, allowed]: [unknown[], unknown[]] = [[], []]
      const tools = [noting(denied), noting(allowed, 'look')]
      const message = await client.beta.messages.toolRunner({ ...HELLO, tools }).runUntilDone()
      expect(message.content).toMatchObject([{ text: 'Done.' }])
      expect([denied, allowed]).toEqual([[], [{}]])
      const told = `Error: ${bench.scope.refusal!.toModelMessage()}`
      expect(resultsOf(bench)).toMatchObject([{ is_error: true, content: told }, { content: 'it lies on the desk' }])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))

  test('are asked for with what they parse, in the forms of the helpers, too', () =>
    withClient(
      { rules: [{ effect: 'deny', tool: 'send_note', where: { to: 'pier 4' } }, ...ALLOWED], answers: [ASKS, DONE] },
      async (bench, client) => {
        const ran: unknown[] = []
        const inputSchema = z.object({ to: z.string() })
        const tool = betaZodTool({ name: 'send_note', description: 'd', inputSchema, run: (args) => (ran.push(args), 'ok') })
        await client.beta.messages.toolRunner({ ...HELLO, tools: [tool] }).runUntilDone()
        expect(ran).toEqual([])
        expect(resultsOf(bench)).toMatchObject([{ is_error: true }])
      },
    ))

  test('keep what a class keeps in private members', () =>
    withClient({ rules: ALLOWED, answers: [ASKS, DONE] }, async (bench, client) => {
      class Desk {
        readonly name = 'send_note'
        readonly input_schema = OBJECT
        #notes = 0
        parse(input: unknown): unknown {
          this.#notes = 6
          return input
        }
        async run(): Promise<string> {
          return `note ${++this.#notes}`
        }
      }
      const desk = new Desk()
      await client.beta.messages.toolRunner({ ...HELLO, tools: [desk] }).runUntilDone()
      expect(resultsOf(bench)).toMatchObject([{ content: 'note 7' }])
    }))

  test('that nobody may change are denied like others', () =>
    withClient({ rules: DENIED, answers: [ASKS, DONE] }, async (bench, client) => {
      const ran: unknown[] = []
      const tool = Object.freeze(noting(ran))
      await client.beta.messages.toolRunner({ ...HELLO, tools: [tool] }).runUntilDone()
      expect(ran).toEqual([])
      expect(resultsOf(bench)).toMatchObject([{ is_error: true }])
    }))

  test('that begin while their answer still streams are denied before they do', () =>
    withClient({ rules: DENIED, answers: [ASKS, DONE] }, async (bench, client) => {
      const ran: unknown[] = []
      const runner = client.beta.messages.toolRunner({ ...HELLO, tools: [noting(ran)], stream: true, runToolsEagerly: true })
      expect((await runner.runUntilDone()).content).toMatchObject([{ text: 'Done.' }])
      expect(ran).toEqual([])
      expect(resultsOf(bench)).toMatchObject([{ is_error: true }])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))

  test('are behind the gates however late they come, and asked once however often they are handed on', () =>
    withClient(
      { rules: DENIED, counters: { notes: 5 }, answers: [ASKS, DONE] },
      async (bench, client) => {
        const ran: unknown[] = []
        const late = client.beta.messages.toolRunner({ ...HELLO, tools: [] })
        late.setMessagesParams({ ...HELLO, tools: [noting(ran)] })
        await late.runUntilDone()
        bench.provider.reset()
        const changed = client.beta.messages.toolRunner({ ...HELLO, tools: [] })
        changed.setMessagesParams((params) => ({ ...params, tools: [noting(ran)] }))
        await changed.runUntilDone()
        bench.provider.reset()
        const added = client.beta.messages.toolRunner({ ...HELLO, tools: [] })
        added.addTools(noting(ran))
        await added.runUntilDone()
        expect(ran).toEqual([])
        expect(bench.records('refused')).toHaveLength(3)
      },
      { toolAmounts: { send_note: { notes: 1 } } },
    ))

  test('that are handed on by a mutator are counted once for each call', () =>
    withClient(
      { counters: { notes: 5 }, answers: [ASKS, DONE] },
      async (bench, client) => {
        const ran: unknown[] = []
        const runner = client.beta.messages.toolRunner({ ...HELLO, tools: [noting(ran)] })
        runner.setMessagesParams((params) => ({ ...params, max_tokens: 40 }))
        await runner.runUntilDone()
        expect(ran).toEqual([ARGS])
        expect(await bench.spent('suite/run', 'notes')).toBe(1)
      },
      { toolAmounts: { send_note: { notes: 1 } } },
    ))

  test('that call a model which is refused tell the other model no more than what to do', () =>
    withClient({ rules: ALLOWED, answers: [ASKS, DONE] }, async (bench, client) => {
      const poor = bench.kernel.scope({ agent: 'poor', task: 'poor', budget: 'suite/poor' })
      const run = async (): Promise<string> => {
        const model = 'a-model-without-a-price'
        return JSON.stringify(await wrapAnthropic(client, poor).messages.create({ ...HELLO, model }))
      }
      await client.beta.messages.toolRunner({ ...HELLO, tools: [{ ...noting([]), run }] }).runUntilDone()
      expect(resultsOf(bench)).toMatchObject([{ is_error: true, content: `Error: ${poor.refusal!.toModelMessage()}` }])
    }))

  test('of a toolset are asked for by the names of their members', () =>
    withClient({ rules: [{ effect: 'deny', tool: 'browser.navigate' }] }, async (bench, client) => {
      const ran: string[] = []
      const toolset = {
        type: 'browser_toolset_20260801' as const,
        run: async (_: unknown, { name }: { name: string }) => (ran.push(name), [{ type: 'text' as const, text: 'done' }]),
      }
      const call = {
        type: 'tool_use' as const,
        id: 'toolu_1',
        name: 'navigate',
        toolset_name: 'browser',
        input: { url: 'https://example.org' },
      }
      const messages = [...HELLO.messages, { role: 'assistant' as const, content: [call] }]
      const runner = client.beta.messages.toolRunner({ ...HELLO, messages, tools: [toolset] })
      expect((await runner.generateToolResponse())?.content).toMatchObject([{ is_error: true, toolset_name: 'browser' }])
      expect(ran).toEqual([])
      expect(bench.scope.refusal).toMatchObject({ code: 'ERR_PERMISSION_DENIED', details: { resource: 'browser.navigate' } })
    }))

  test('send the whole conversation each turn, which can be bounded', () =>
    withClient({ answers: [ASKS, DONE] }, async (bench, client) => {
      await client.beta.messages.toolRunner({ ...HELLO, tools: [noting([])] }).runUntilDone()
      for (const { body, headers } of bench.provider.requests()) {
        expect(body).not.toHaveProperty('thread')
        expect(body).toHaveProperty('tools')
        expect(headers['anthropic-beta']).toBeUndefined()
      }
    }))

  test('in a loop by hand are those of guardFunctions', () =>
    onBench({ rules: DENIED }, async (bench) => {
      const ran: unknown[] = []
      const { send_note } = guardFunctions(bench.scope, { send_note: async (args: object) => (ran.push(args), 'sent') })
      expect(await send_note(ARGS)).toBe(bench.scope.refusal!.toModelMessage())
      expect(ran).toEqual([])
    }))

  test.each([
    ['tool', (context: object) => [{}, context]],
    ['toolset', (context: object) => [context, { name: 'look', input: {} }]],
  ] as const)('that wait for what they count as do not start once their caller has left: a %s', async (form, argsOf) => {
    await using kernel = await openKernel({ store: memoryStore(), budgets: { acme: { looks: 1 } } })
    const scope = kernel.scope({ agent: 'clerk', task: 'desk', budget: 'acme' })
    const ran: unknown[] = []
    const own = { ...(form === 'tool' ? { name: 'desk.look' } : { type: 'desk' }), run: (...args: unknown[]) => void ran.push(args) }
    const [guarded] = guardTools([own], scope, { 'desk.look': { looks: 1 } }) as [typeof own]
    const other = await scope.begin({ kind: 'tool', resource: 'desk.look', worst: { looks: 1 } })
    const leaving = new AbortController()
    const waiting = errorOf(async () => guarded.run(...argsOf({ signal: leaving.signal })))
    leaving.abort(new Error('left'))
    await other.release('not needed')
    expect(await waiting).toMatchObject({ message: 'left' })
    expect(ran).toEqual([])
  })
})
