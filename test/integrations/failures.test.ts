// How a failed attempt ends under the transport guard: what it costs, what the caller sees, and what the records
// say of it, which is never what somebody wrote into an error.

import OpenAI, { APIError } from 'openai'
import { describe, expect, test } from 'vitest'
import { wrapOpenAI } from '../../integrations/openai.ts'
import { faultOf } from '../../integrations/transport/exchange.ts'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { memoryStore, openKernel } from '../../src/index.ts'
import { SUITE_MODEL, errorOf, type Bench } from '../../src/testing/integration-bench.ts'
import { chatBody, endsOf, onBench, poster } from './bench.ts'

const failing =
  (error: unknown): typeof fetch =>
  async () => {
    throw error
  }

const systemError = (code: string, syscall?: string): Error => Object.assign(new Error(`${syscall} ${code}`), { code, syscall })
const fetchFailed = (cause: Error): TypeError => new TypeError('fetch failed', { cause })
const ofEach = (...errors: Error[]): Error => Object.assign(new AggregateError(errors), { code: (errors[0] as { code?: string }).code })

describe('a connection that fails', () => {
  test.each([
    ['a refused one', systemError('ECONNREFUSED', 'connect'), 'released'],
    ['a name that nobody knows', systemError('ENOTFOUND', 'getaddrinfo'), 'released'],
    ['a host without a route', systemError('EHOSTUNREACH', 'connect'), 'released'],
    [
      'a host whose addresses have no route',
      ofEach(systemError('ENETUNREACH', 'connect'), systemError('ETIMEDOUT', 'connect')),
      'released',
    ],
    ['a route that is lost while the answer is read', systemError('EHOSTUNREACH', 'read'), 'charged'],
    ['a net that is lost while the request is written', systemError('ENETUNREACH', 'write'), 'charged'],
    ['a net that is lost, nobody says when', systemError('ENETUNREACH'), 'charged'],
    ['errors of which one is of a read', ofEach(systemError('EHOSTUNREACH', 'connect'), systemError('EHOSTUNREACH', 'read')), 'charged'],
    ['a reset one', systemError('ECONNRESET', 'read'), 'charged'],
  ])('%s costs nothing only where nothing can have been sent', (_, cause, end) =>
    onBench({}, async (bench) => {
      await expect(poster(bench, { fetch: failing(fetchFailed(cause)) })(chatBody())).rejects.toThrow('fetch failed')
      expect(await endsOf(bench)).toEqual([end])
    }),
  )
})

const CHATTY = `cannot process "my PRIVATE prompt" ${'x'.repeat(3_000_000)}`

/** A body that breaks off with an error that quotes the prompt. */
const breakingBody = (): ReadableStream<Uint8Array> =>
  new ReadableStream({
    pull(controller) {
      controller.error(Object.assign(new Error(CHATTY), { code: 'ECONNRESET' }))
    },
  })

const answering =
  (body: string | ReadableStream<Uint8Array>, contentType: string, status = 200): typeof fetch =>
  async () =>
    new Response(body, { status, headers: { 'content-type': contentType } })

const tokens = (count: number) => ({ prompt_tokens: 4, completion_tokens: count, total_tokens: 4 + count })
const answerOf = (more: object) => JSON.stringify({ id: 'x', choices: [], usage: tokens(2), ...more })

describe('nothing that a provider or a network wrote is in the records, whoever', () => {
  test.each([
    ['fails to connect', failing(Object.assign(new Error(CHATTY), { code: 'ECONNRESET', status: 500 })), false],
    ['fails with a name and a code that are none', failing(Object.assign(new Error(CHATTY), { name: CHATTY, code: CHATTY })), false],
    ['throws a text', failing(CHATTY), false],
    ['answers with an error', answering(CHATTY, 'text/plain', 500), false],
    ['breaks an answer off', answering(breakingBody(), 'application/json'), false],
    ['breaks a stream off', answering(breakingBody(), 'text/event-stream'), true],
    ['names its answer so', answering(answerOf({ id: CHATTY }), 'application/json'), false],
    ['names its service tier so', answering(answerOf({ service_tier: 'x'.repeat(100) + CHATTY }), 'application/json'), false],
  ])('%s', (_, fetch, stream) =>
    onBench({}, async (bench) => {
      await errorOf(async () => (await poster(bench, { fetch })(chatBody({ stream }))).text())
      expect(await endsOf(bench)).toHaveLength(1)
      const record = bench.kernel.auditLines.join('\n')
      expect([record.includes('PRIVATE'), record.includes('xxxx'.repeat(100)), record.length < 5_000]).toEqual([false, false, true])
    }),
  )

  test('but the names, codes and statuses of what failed are', () => {
    const cause = Object.assign(new Error(CHATTY), { code: 'UND_ERR_SOCKET' })
    expect(faultOf(new TypeError(CHATTY, { cause }))).toBe('TypeError Error UND_ERR_SOCKET')
    expect(faultOf(Object.assign(new Error('x'), { name: 'AI_APICallError', statusCode: 503 }))).toBe('AI_APICallError 503')
    expect(faultOf('a text')).toBe('string')
    const endless = new Error('round')
    endless.cause = endless
    expect(faultOf(endless)).toBe('Error')
  })
})

test('an answer whose id is no text that a record may hold is settled all the same', () =>
  onBench({}, async (bench) => {
    await poster(bench, {
      fetch: answering('{"id":"\\ud800","usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6}}', 'application/json'),
    })(chatBody())
    expect(await bench.spent()).toBe(4 * 150 + 2 * 600)
  }))

test('an answer whose usage is beyond any amount reaches its caller, and is charged at worst', () =>
  onBench({}, async (bench) => {
    const usage = { prompt_tokens: 4, completion_tokens: 9_000_000_000_000_000, total_tokens: 9_000_000_000_000_004 }
    for (const stream of [false, true]) {
      const fetch = stream
        ? answering(`data: ${answerOf({ usage })}\n\ndata: [DONE]\n\n`, 'text/event-stream')
        : answering(answerOf({ usage }), 'application/json')
      expect(await (await poster(bench, { fetch })(chatBody({ stream }))).text()).toContain(stream ? '[DONE]' : '9000000000000004')
    }
    expect(await endsOf(bench)).toEqual(['charged', 'charged'])
  }))

test('an answer without usage is charged before the operator hears of it', async () => {
  const charged: number[] = []
  await using kernel = await openKernel({
    store: memoryStore(),
    budgets: { acme: { usd: 1 } },
    onEvent: () => charged.push(kernel.auditLines.filter((line) => line.includes('"outcome":"charged"')).length),
  })
  const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
  await guardFetch(scope, { fetch: answering('{}', 'application/json') })('http://127.0.0.1/v1/chat/completions', {
    method: 'POST',
    body: chatBody(),
  })
  expect(charged).toEqual([1])
})

/** A `fetch` whose answer is an error with a body that never comes, as long as its signal lets it. */
const stalling =
  (status: number): typeof fetch =>
  async (_url, init) =>
    new Response(
      new ReadableStream({
        start(controller) {
          init!.signal!.addEventListener('abort', () => controller.error(init!.signal!.reason))
        },
      }),
      { status, headers: { 'content-type': 'application/json' } },
    )

describe('a caller who leaves while the body of an error is on its way', () => {
  test.each([400, 500])('is not kept waiting for it, with status %i', (status) =>
    onBench({}, async (bench) => {
      const leaver = new AbortController()
      const response = await poster(bench, { fetch: stalling(status) })(chatBody(), { signal: leaver.signal })
      const text = response.text()
      leaver.abort(new Error('I have to go'))
      await expect(text).rejects.toThrow('I have to go')
      expect(await endsOf(bench)).toEqual([status === 400 ? 'released' : 'charged'])
    }),
  )

  test('gets from a wrapped OpenAI client what the client by itself would say', () =>
    onBench({}, async (bench: Bench) => {
      const said: unknown[] = []
      for (const guarded of [false, true]) {
        const leaver = new AbortController()
        const fetch: typeof globalThis.fetch = async (url, init) => {
          setTimeout(() => leaver.abort(), 20)
          return stalling(400)(url, init)
        }
        const client = new OpenAI({ apiKey: 'test', baseURL: bench.provider.baseURL, maxRetries: 0, logLevel: 'off', fetch })
        const { chat } = guarded ? wrapOpenAI(client, bench.scope) : client
        const error = await errorOf(async () => chat.completions.create({ model: SUITE_MODEL, messages: [] }, { signal: leaver.signal }))
        expect(error).toBeInstanceOf(APIError)
        said.push((error as APIError).status)
      }
      expect(said).toEqual([400, 400])
    }))
})
