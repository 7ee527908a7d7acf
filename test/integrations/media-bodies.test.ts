// Bodies in every form that `fetch` takes: metered, or refused before anything is sent. And what providers say of the
// statuses that they bill.

import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { BILLING_RULES, isUnbilledByDefault, unbilledStatusesOf } from '../../integrations/transport/unbilled-statuses.ts'
import { chatBody } from './bench.ts'
import { onMedia } from './media-bench.ts'

const PRICES = { 'gpt-4o-mini': { inputUsdPerMillion: 1, outputUsdPerMillion: 10 } }
const bytes = new TextEncoder().encode(chatBody())

async function* pieces(): AsyncGenerator<Uint8Array> {
  yield bytes
}

const edit = (): FormData => {
  const form = new FormData()
  form.set('model', 'gpt-image-1')
  form.set('prompt', 'a cat')
  form.set('size', '1024x1024')
  form.set('quality', 'low')
  form.append('image[]', new Blob([new Uint8Array(9)], { type: 'image/png' }), 'one.png')
  form.append('image[]', new Blob([new Uint8Array(9)], { type: 'image/png' }), 'two.png')
  return form
}

describe('a body of JSON', () => {
  test.each([
    ['a Blob that names its type', new Blob([bytes], { type: 'application/json' }), 'application/json'],
    ['a Blob that names none', new Blob([bytes]), 'text/plain;charset=UTF-8'],
    ['bytes', bytes, 'application/json'],
  ])('as %s is metered, and sent as what it was', (_, body, type) =>
    onMedia({ kernel: { prices: PRICES } }, async ({ guarded, provider, ends }) => {
      const headers = body instanceof Blob ? {} : { headers: { 'content-type': 'application/json' } }
      const response = await guarded(`${provider.baseURL}/chat/completions`, { method: 'POST', body, ...headers })
      expect([response.status, ends().map(({ outcome }) => outcome)]).toEqual([200, ['settled']])
      expect(provider.requests()[0]!.headers['content-type']).toBe(type)
    }),
  )

  test.each([
    ['a stream', () => new Blob([bytes]).stream(), {}, 'Send it as a JSON string'],
    ['an iterable', () => pieces(), {}, 'Send it as a JSON string'],
    ['parameters of a URL', () => new URLSearchParams({ model: 'gpt-4o-mini' }), {}, 'Send it as a JSON string'],
    ['a form', () => edit(), {}, 'Send it as a JSON string'],
    ['nothing', () => null, {}, 'Send it as a JSON string'],
    ['packed bytes', () => gzipSync(bytes), { headers: { 'content-encoding': 'gzip' } }, 'Send it uncompressed'],
    ['text that says it is packed', () => chatBody(), { headers: { 'Content-Encoding': 'br' } }, 'Send it uncompressed'],
  ])('as %s is refused with what to do, and nothing is sent', (_, body, more, fix) =>
    onMedia({ kernel: { prices: PRICES } }, async ({ guarded, provider, held }) => {
      const init = { method: 'POST', body: body(), duplex: 'half', ...more } as RequestInit
      const response = await guarded(`${provider.baseURL}/chat/completions`, init)
      expect([response.status, await response.text()]).toEqual([402, expect.stringContaining(fix)])
      expect([provider.bill().requests, held()]).toEqual([0, []])
    }),
  )

  test('that says it is not packed is read', () =>
    onMedia({ kernel: { prices: PRICES } }, async ({ guarded, provider, ends }) => {
      const headers = { 'content-encoding': 'identity' }
      await guarded(`${provider.baseURL}/chat/completions`, { method: 'POST', body: chatBody(), headers })
      expect(ends().map(({ outcome }) => outcome)).toEqual(['settled'])
    }))
})

type FetchArguments = readonly [input: string | Request, init?: RequestInit]

describe('a form', () => {
  test.each<[string, (url: string) => Promise<FetchArguments>]>([
    ['as such', async (url: string) => [url, { method: 'POST', body: edit() }]],
    ['in a Request', async (url: string) => [new Request(url, { method: 'POST', body: edit() })]],
    [
      'as the bytes of one',
      async (url: string) => {
        const made = new Response(edit())
        return [url, { method: 'POST', body: await made.bytes(), headers: { 'content-type': made.headers.get('content-type')! } }]
      },
    ],
  ])('is metered and arrives whole: %s', (_, make) => {
    const seen: Readonly<Record<string, unknown>>[] = []
    const media = ({ body }: { readonly body: Readonly<Record<string, unknown>> }) => (seen.push(body), {})
    return onMedia({ media, guard: { maxInputTokens: 100 } }, async ({ guarded, provider, ends, held }) => {
      const response = await guarded(...(await make(`${provider.baseURL}/images/edits`)))
      expect([response.status, ends().map(({ outcome }) => outcome)]).toEqual([200, ['settled']])
      expect(held()[0]!['usd']).toBe(100 * 10_000 + 272 * 40_000)
      expect(seen).toEqual([{ model: 'gpt-image-1', prompt: 'a cat', size: '1024x1024', quality: 'low', 'image[]': 9 }])
    })
  })

  test.each([
    ['JSON where a form belongs', { body: '{"model":"gpt-4o-transcribe"}' }],
    ['bytes that are no form though they say so', { body: bytes, headers: { 'content-type': 'multipart/form-data; boundary=x' } }],
    [
      'a stream of one',
      { body: new Response(edit()).body, duplex: 'half', headers: { 'content-type': 'multipart/form-data; boundary=x' } },
    ],
  ])('that cannot be read is refused, and nothing is sent: %s', (_, init) =>
    onMedia({}, async ({ guarded, provider, held }) => {
      const response = await guarded(`${provider.baseURL}/audio/transcriptions`, { method: 'POST', ...init } as RequestInit)
      expect([response.status, await response.text()]).toEqual([402, expect.stringContaining('FormData')])
      expect([provider.bill().requests, held()]).toEqual([0, []])
    }),
  )
})

describe('a status of an error', () => {
  const HOSTS = {
    azure: 'mine.openai.azure.com',
    vertex: 'us-east1-aiplatform.googleapis.com',
    gemini: 'generativelanguage.googleapis.com',
    openrouter: 'openrouter.ai',
    novita: 'api.novita.ai',
  } as const
  const ROWS = [
    ['azure', [401, 403, 404, 429], [400, 408, 500, 503]],
    ['vertex', [400, 408, 429, 500, 503, 504], []],
    ['gemini', [400, 403, 429, 500], [408, 503, 504]],
    ['openrouter', [400, 402, 408, 429, 502, 503], []],
    ['novita', [400, 401, 403, 429, 500, 503, 504], [408, 499, 502]],
  ] as const

  test.each(ROWS)('is billed as %s documents it', (provider, unbilled, billed) => {
    const rule = BILLING_RULES.find((one) => one.provider === provider)!
    expect(rule.hosts.test(HOSTS[provider])).toBe(true)
    const statuses = unbilledStatusesOf(HOSTS[provider])
    expect([unbilled.filter((status) => !statuses.includes(status)), billed.filter((status) => statuses.includes(status))]).toEqual([
      [],
      [],
    ])
    expect([rule.source.startsWith('https://'), /^\d{4}-\d{2}-\d{2}$/.test(rule.asOf), rule.says.length > 20]).toEqual([true, true, true])
  })

  test('has a row here for each rule', () =>
    expect(ROWS.map(([provider]) => provider)).toEqual(BILLING_RULES.map(({ provider }) => provider)))

  test.each([
    'api.openai.com',
    'api.anthropic.com',
    '127.0.0.1',
    'openrouter.ai.evil.example',
    'xopenai.azure.com.example',
    'fakeaiplatform.googleapis.com',
  ])('of a host that says nothing, or is another one, follows the default: %s', (host) =>
    expect(unbilledStatusesOf(host)).toEqual(Array.from({ length: 200 }, (_, at) => 400 + at).filter(isUnbilledByDefault)),
  )

  test.each([
    [HOSTS.azure, 400, 'charged'],
    [HOSTS.azure, 429, 'released'],
    [HOSTS.gemini, 500, 'released'],
    [HOSTS.gemini, 503, 'charged'],
    ['api.openai.com', 500, 'charged'],
    ['api.openai.com', 400, 'released'],
  ])('of %s, %i, ends its hold so: %s', (host, status, outcome) => {
    const fetch = async (): Promise<Response> => new Response('no', { status })
    return onMedia({ kernel: { prices: PRICES }, guard: { fetch } }, async ({ guarded, ends }) => {
      await guarded(`https://${host}/v1/chat/completions`, { method: 'POST', body: chatBody() })
      expect(ends().map((end) => end.outcome)).toEqual([outcome])
    })
  })
})
