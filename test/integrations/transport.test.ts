// The transport guard by hand: what it meters, what it refuses and lets through, and how each attempt ends.

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import { describe, expect, onTestFinished, test } from 'vitest'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import { memoryStore, openKernel } from '../../src/index.ts'
import { SUITE_MODEL, capOf, until } from '../../src/testing/integration-bench.ts'
import { startProvider } from '../../src/testing/provider.ts'
import type { Verdict } from '../../src/waist/gate.ts'
import type { Scope } from '../../src/waist/scope.ts'
import { chatBody, endsOf, onBench, poster } from './bench.ts'

async function refusalIn(response: Response) {
  expect([response.status, response.headers.get('x-should-retry')]).toEqual([402, 'false'])
  return findRefusal({ responseBody: await response.text() })
}

describe('a hold that is on its way', () => {
  test.each([
    ['of the same scope', undefined, 1],
    ['of one that counts on other budgets', ['other'], 2],
  ])('%s', async (_, also, holds) => {
    const provider = await startProvider()
    const kernel = await openKernel({ store: memoryStore(), budgets: { acme: { usd: 10 }, other: { calls: 10 } } })
    onTestFinished(async () => {
      await kernel.close()
      await provider.close()
    })
    const identity = { agent: 'a', task: 't', budget: 'acme' }
    const guarded = guardFetch(kernel.scope({ ...identity, ...(also === undefined ? {} : { also }) }))
    const worst = { usd: 1_000_000_000, tokens: 1_000_000, calls: 1 }
    await kernel
      .scope(identity)
      .run({ kind: 'model', resource: SUITE_MODEL, worst }, () =>
        guarded(`${provider.baseURL}/chat/completions`, { method: 'POST', body: chatBody() }),
      )
    expect(kernel.auditLines.filter((line) => line.includes('"kind":"intent"')).length).toBe(holds)
  })
})

describe('what costs nothing passes', () => {
  test('a GET needs no scope and no hold', () =>
    onBench({}, async (bench) => {
      const response = await guardFetch()(`${bench.provider.baseURL}/models`)
      expect(response.status).toBe(200)
      expect(bench.records('intent')).toEqual([])
    }))

  test('a GET by a Request object keeps its headers and its signal', () =>
    onBench({}, async (bench) => {
      const url = `${bench.provider.baseURL}/models`
      const response = await guardFetch(bench.scope)(new Request(url, { headers: { accept: 'application/json' } }))
      expect(await response.json()).toMatchObject({ object: 'list' })
      const leaver = new AbortController()
      let signal: AbortSignal | null | undefined
      const hanging: typeof fetch = (_url, init) => {
        signal = init?.signal
        return new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal!.reason as Error)))
      }
      const call = guardFetch(bench.scope, { fetch: hanging })(new Request(url, { signal: leaver.signal }))
      await until('it is sent', () => signal !== undefined)
      leaver.abort(new Error('I have to go'))
      await expect(call).rejects.toThrow('I have to go')
    }))

  test('a POST that only cancels is let through', () =>
    onBench({}, async (bench) => {
      const response = await guardFetch(bench.scope)(`${bench.provider.baseURL}/responses/resp_1/cancel`, { method: 'POST' })
      expect(response.status).toBe(404)
      expect(bench.records('intent')).toEqual([])
    }))

  test('a path that was declared free is let through, whatever its body, and by a Request object too', () =>
    onBench({}, async (bench) => {
      const sent: RequestInit[] = []
      const fetch: typeof globalThis.fetch = async (_url, init) => {
        sent.push(init!)
        return Response.json({})
      }
      const guarded = guardFetch(bench.scope, { passthrough: ['/vector_stores'], fetch })
      const form = new FormData()
      form.set('file', new Blob(['text']))
      await guarded('http://127.0.0.1/v1/vector_stores', { method: 'POST', body: form })
      await guarded(new Request('http://127.0.0.1/v1/vector_stores', { method: 'POST', body: '{"input":"x"}' }))
      expect(sent[0]!.body).toBe(form)
      expect(await new Response(sent[1]!.body).text()).toBe('{"input":"x"}')
    }))

  test.each(['/completions', '/v1/chat/completions', '/responses'])('but no endpoint that can be metered, by %s', (path) =>
    onBench({}, async (bench) => {
      const guarded = guardFetch(bench.scope, { passthrough: [path] })
      await guarded(`${bench.provider.baseURL}/chat/completions`, { method: 'POST', body: chatBody() })
      await guarded(`${bench.provider.baseURL}/responses`, { method: 'POST', body: JSON.stringify({ model: SUITE_MODEL, input: 'x' }) })
      expect(await endsOf(bench)).toEqual(['settled', 'settled'])
    }),
  )

  test('by whole segments: a path whose last segment only ends like the declared one is refused', () =>
    onBench({}, async (bench) => {
      const guarded = guardFetch(bench.scope, { passthrough: ['rerank'], fetch: async () => Response.json({}) })
      const post = (path: string): Promise<Response> => guarded(`http://127.0.0.1/v1/${path}`, { method: 'POST', body: '{}' })
      expect((await post('rerank')).status).toBe(200)
      expect(await refusalIn(await post('my-rerank'))).toMatchObject({ code: 'ERR_UNMETERED' })
    }))
})

describe('what cannot be metered is refused, and nothing is sent', () => {
  test('a POST to any other endpoint, with the option that lets it through', () =>
    onBench({}, async (bench) => {
      const response = await guardFetch(bench.scope)(`${bench.provider.baseURL}/rerank`, { method: 'POST', body: '{}' })
      const refusal = await refusalIn(response)
      expect(refusal).toMatchObject({
        code: 'ERR_UNMETERED',
        details: { wouldPass: expect.stringContaining("passthrough: ['/v1/rerank']") },
      })
    }))

  test('a POST of a path without end: what is recorded of it has one', () =>
    onBench({}, async (bench) => {
      const refusal = await refusalIn(await guardFetch(bench.scope)(`http://127.0.0.1/${'x'.repeat(100_000)}`, { method: 'POST' }))
      expect(refusal!.code).toBe('ERR_UNMETERED')
      expect(JSON.stringify(bench.records('refused')).length).toBeLessThan(2_000)
    }))

  const form = new FormData()
  form.set('model', SUITE_MODEL)
  test.each([
    ['a form', form],
    ['a stream', new Blob([chatBody()]).stream()],
    ['no body', null],
    ['text that is not JSON', 'model=gpt'],
    ['JSON that is no object', '[1]'],
    ['an object without a model', '{"messages":[]}'],
    ['a cap below zero', chatBody({ max_tokens: -1 })],
    ['a cap that is no whole number', chatBody({ max_tokens: 1.5 })],
  ])('%s', (_, body) =>
    onBench({}, async (bench) => {
      const init = body instanceof ReadableStream ? ({ duplex: 'half' } as RequestInit) : {}
      expect(await refusalIn(await poster(bench)(body, init))).toMatchObject({ code: 'ERR_UNMETERED' })
      expect(bench.provider.bill().requests).toBe(0)
      expect(bench.records('intent')).toEqual([])
    }),
  )

  const UNREADABLE = [
    ['a POST to another endpoint', '/rerank', '{}'],
    ['a body that is no text', '/chat/completions', form],
    ['text that is not JSON', '/responses', 'model=gpt'],
    ['JSON that is no object', '/chat/completions', '[1]'],
    ['a request without a bound', '/chat/completions', chatBody({ max_tokens: -1 })],
  ] as const

  test.each(UNREADABLE)('%s leaves a record, and is the refusal of the scope', (_, path, body) =>
    onBench({}, async (bench) => {
      await guardFetch(bench.scope)(`${bench.provider.baseURL}${path}`, { method: 'POST', body })
      expect(bench.records('refused')).toMatchObject([{ code: 'ERR_UNMETERED', budget: 'suite/run' }])
      expect(bench.scope.refusal).toMatchObject({ code: 'ERR_UNMETERED' })
    }),
  )

  test.each(UNREADABLE)('but where the kernel only observes, %s is sent as it is, and the operator is told', (_, path, body) =>
    observing(async (scope, events) => {
      const sent: unknown[][] = []
      const fetch: typeof globalThis.fetch = async (...request) => (sent.push(request), Response.json({ data: 'an answer' }))
      const init: RequestInit = { method: 'POST', body, headers: { 'content-length': '2' } }
      const response = await guardFetch(scope, { fetch })(`http://127.0.0.1/v1${path}`, init)
      expect([response.status, await response.json()]).toEqual([200, { data: 'an answer' }])
      expect(sent).toEqual([[`http://127.0.0.1/v1${path}`, init]])
      expect(sent[0]![1]).toBe(init)
      expect(events).toEqual(['would-refuse'])
    }),
  )
})

/** A scope of a kernel that refuses nothing, and the events of that kernel. */
async function observing(run: (scope: Scope, events: readonly string[]) => Promise<void>): Promise<void> {
  const events: string[] = []
  const onEvent = ({ type }: { readonly type: string }): unknown => events.push(type)
  await using kernel = await openKernel({ store: memoryStore(), mode: 'observe', budgets: { acme: { usd: 1 } }, onEvent })
  await run(kernel.scope({ agent: 'a', task: 't', budget: 'acme' }), events)
  expect(await kernel.budgets()).toMatchObject([{ spent: 0, out: 0, balanced: true }])
}

describe('a request may be given in any form that fetch takes', () => {
  const bytes = new TextEncoder().encode(chatBody())
  test.each([
    ['a string', chatBody()],
    ['bytes', bytes],
    ['a view of bytes', new Uint8Array([32, ...bytes, 32]).subarray(1, -1)],
    ['an ArrayBuffer', bytes.slice().buffer],
    ['a DataView', new DataView(bytes.slice().buffer)],
  ])('%s', (_, body) =>
    onBench({}, async (bench) => {
      expect((await poster(bench)(body)).status).toBe(200)
      expect(await endsOf(bench)).toEqual(['settled'])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }),
  )

  test('a Request object with a body, and one whose body is given beside it', () =>
    onBench({}, async (bench) => {
      const guarded = guardFetch(bench.scope)
      const url = new URL(`${bench.provider.baseURL}/chat/completions`)
      const request = (content: string) =>
        new Request(url, { method: 'POST', body: chatBody({ user: content }), headers: { 'x-mine': 'yes' } })
      await guarded(request('first'))
      await guarded(request('second'), { body: chatBody({ user: 'third' }) })
      expect(bench.provider.requests().map(({ body, headers }) => [body['user'], headers['x-mine']])).toEqual([
        ['first', 'yes'],
        ['third', 'yes'],
      ])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))

  test('a content-length of the caller does not survive a longer body', () =>
    onBench({}, async (bench) => {
      const body = chatBody({ max_tokens: undefined })
      const response = await poster(bench)(body, { headers: { 'content-length': String(body.length) } })
      expect(response.status).toBe(200)
      expect(capOf(bench.provider.requests()[0])).toBe(8_192)
    }))

  test('a server that knows only max_tokens gets its cap there', () =>
    onBench({}, async (bench) => {
      await poster(bench, { outputCapField: 'max_tokens' })(chatBody({ max_tokens: undefined }))
      expect(bench.provider.requests()[0]!.body).toMatchObject({ max_tokens: 8_192 })
    }))
})

describe('an error answer', () => {
  const UNBILLED = [400, 401, 402, 403, 404, 409, 413, 422, 429]
  const PERHAPS_BILLED = [408, 500, 502, 503, 504, 599]

  test.each([...UNBILLED, ...PERHAPS_BILLED])(
    'with status %i reaches the caller, and its hold ends by whether it may be billed',
    (status) =>
      onBench({ answers: [{ status, errorBody: 'no' }] }, async (bench) => {
        const response = await poster(bench)(chatBody())
        expect([response.status, await response.text()]).toEqual([status, 'no'])
        expect(await endsOf(bench)).toEqual([UNBILLED.includes(status) ? 'released' : 'charged'])
      }),
  )

  test('with a status that this provider does not bill costs nothing, and any other one is charged then', () =>
    onBench({ answers: [{ status: 503 }, { status: 429 }] }, async (bench) => {
      const post = poster(bench, { unbilledStatuses: [503] })
      await post(chatBody())
      await post(chatBody())
      expect(await endsOf(bench)).toEqual(['released', 'charged'])
    }))
})

describe('an answer of a dearer service tier', () => {
  const PRICE = { inputUsdPerMillion: '0.15', outputUsdPerMillion: '0.6' }
  const PRIORITY = { inputUsdPerMillion: '0.30', outputUsdPerMillion: '1.2' }
  const answer = { serviceTier: 'priority', usage: { inputTokens: 10, outputTokens: 5 } }

  test.each([
    ['is settled at the price of that tier', { [`${SUITE_MODEL}@priority`]: PRIORITY }, 10 * 300 + 5 * 1_200, []],
    [
      'that has no price is charged at worst, with what to add',
      {},
      chatBody().length * 150 + 20 * 600,
      [expect.stringContaining('prices')],
    ],
  ])('%s', (_, prices, spent, told) =>
    onBench({ answers: [answer], guarded: false }, async ({ provider }) => {
      const messages: string[] = []
      await using kernel = await openKernel({
        store: memoryStore(),
        budgets: { acme: { usd: 1 } },
        prices: { [SUITE_MODEL]: PRICE, ...prices },
        onEvent: ({ type, message }) => messages.push(type === 'assumed' ? message : type),
      })
      const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
      await guardFetch(scope)(`${provider.baseURL}/chat/completions`, { method: 'POST', body: chatBody() })
      expect(messages).toEqual(told)
      expect(await kernel.budgets()).toMatchObject([{ spent, out: 0 }])
    }),
  )
})

test('a compressed answer is passed on as what it is: text of another length', () =>
  onBench({}, async (bench) => {
    const packed = gzipSync(JSON.stringify({ id: 'x', usage: { prompt_tokens: 4, completion_tokens: 2, total_tokens: 6 } }))
    const server = createServer((_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip', 'content-length': packed.length })
      response.end(packed)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    const { port } = server.address() as AddressInfo
    const url = `http://127.0.0.1:${port}/v1/chat/completions`
    const response = await guardFetch(bench.scope)(url, { method: 'POST', body: chatBody() })
    expect([response.headers.get('content-encoding'), response.headers.get('content-length')]).toEqual([null, null])
    expect(await response.json()).toMatchObject({ id: 'x' })
    expect(await bench.spent()).toBe(4 * 150 + 2 * 600)
  }))

const emptyAnswer = async (): Promise<Response> => new Response(null, { status: 204 })

describe('nothing stays held', () => {
  test.each([
    [
      'throws at once',
      () => {
        throw new Error('no network')
      },
    ],
    [
      'rejects',
      async () => {
        throw new Error('no network')
      },
    ],
  ])('when fetch %s', (_, fetch) =>
    onBench({}, async (bench) => {
      await expect(poster(bench, { fetch })(chatBody())).rejects.toThrow('no network')
      expect(await endsOf(bench)).toEqual(['charged'])
    }),
  )

  test('when the headers are none: nothing was held at all', () =>
    onBench({}, async (bench) => {
      await expect(poster(bench)(chatBody(), { headers: { 'not a name': 'x' } })).rejects.toThrow(TypeError)
      expect(bench.records('intent')).toEqual([])
    }))

  test('when nobody listens at the port: it was never sent, so it costs nothing', () =>
    onBench({}, async (bench) => {
      const gone = await startProvider()
      await gone.close()
      const call = guardFetch(bench.scope)(`${gone.baseURL}/chat/completions`, { method: 'POST', body: chatBody() })
      await expect(call).rejects.toThrow('fetch failed')
      expect(await endsOf(bench)).toEqual(['released'])
    }))

  test('when the caller leaves while its money is set aside: nothing is sent, and nothing was spent', () =>
    onBench({}, async ({ provider }) => {
      const leaver = new AbortController()
      const decide = (): Verdict => {
        leaver.abort(new Error('I have to go'))
        return { verdict: 'allow' }
      }
      await using kernel = await openKernel({ store: memoryStore(), budgets: { acme: { usd: 1 } }, gates: [{ name: 'leaving', decide }] })
      const guarded = guardFetch(kernel.scope({ agent: 'a', task: 't', budget: 'acme' }))
      const call = guarded(`${provider.baseURL}/chat/completions`, { method: 'POST', body: chatBody(), signal: leaver.signal })
      await expect(call).rejects.toThrow('I have to go')
      expect(provider.bill().requests).toBe(0)
      expect(await kernel.budgets()).toMatchObject([{ out: 0, spent: 0, balanced: true }])
    }))

  test('when an answer has no body', () =>
    onBench({}, async (bench) => {
      expect((await poster(bench, { fetch: emptyAnswer })(chatBody())).status).toBe(204)
      expect(await endsOf(bench)).toEqual(['charged'])
    }))
})

describe('what is left open', () => {
  test.each(['', '/', '/v1/'])('a passthrough of %j would open every path with a slash at its end, and is refused', (path) =>
    expect(() => guardFetch(undefined, { passthrough: [path] })).toThrow(TypeError),
  )

  test('members of an init that are not set leave those of the request', () =>
    onBench({}, async (bench) => {
      const request = new Request(`${bench.provider.baseURL}/chat/completions`, { method: 'POST', body: chatBody() })
      const init = { method: undefined, body: undefined, headers: undefined } as unknown as RequestInit
      const response = await guardFetch(bench.scope)(request, init)
      expect(response.status).toBe(200)
      expect(await endsOf(bench)).toEqual(['settled'])
    }))
})
