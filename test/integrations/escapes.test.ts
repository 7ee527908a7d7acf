// The escape alarm on real sockets: a provider, a kernel, and clients with and without holdfast beside each other.

import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { request, type IncomingMessage, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import OpenAI from 'openai'
import { describe, expect, test } from 'vitest'
import { watchEscapes } from '../../integrations/escapes.ts'
import { wrapOpenAI } from '../../integrations/openai.ts'
import { guardFetch } from '../../integrations/fetch.ts'
import type { DoctorJson } from '../../src/cli/doctor.ts'
import { cliJson } from '../cli/cli-bench.ts'
import { escapesOf, onSite, watched, withServer, type EscapeSite } from './escape-site.ts'

const BODY = { model: 'gpt-4o-mini', max_completion_tokens: 9, messages: [{ role: 'user' as const, content: 'hello' }] }

const rawClient = ({ provider }: EscapeSite): OpenAI => new OpenAI({ apiKey: 'none', baseURL: provider.baseURL, maxRetries: 0 })

describe('the escape alarm', () => {
  test('reports a client without holdfast, as an event and in the audit chain, and says what to do', async () => {
    await onSite(async (site) => {
      const escapes = await watched(site, () => rawClient(site).chat.completions.create(BODY))
      expect(escapes).toEqual([
        `POST /v1/chat/completions went to ${site.host} without a hold: no budget knows of it. Put guardFetch(scope) under the client that sent it.`,
      ])
      const records = site.kernel.auditLines.map((line) => JSON.parse(line) as Record<string, unknown>)
      expect(records.filter(({ type }) => type === 'escape')).toMatchObject([{ kind: 'event', agent: 'watcher', message: escapes[0] }])
    })
  })

  test('says nothing of calls that were held, streamed, in parallel and from several clients', async () => {
    await onSite(async (site) => {
      const client = wrapOpenAI(rawClient(site), site.scope)
      const escapes = await watched(site, async () => {
        await Promise.all(Array.from({ length: 20 }, () => client.chat.completions.create(BODY)))
        for await (const _ of await client.chat.completions.create({ ...BODY, stream: true })) void _
        await client.responses.create({ model: 'gpt-4o-mini', max_output_tokens: 20, input: 'hello' })
        await site.scope.run({ kind: 'model', resource: 'gpt-4o-mini', worst: { usd: 100 } }, () =>
          rawClient(site).chat.completions.create(BODY),
        )
      })
      expect(site.provider.bill().requests).toBe(23)
      expect(escapes).toEqual([])
    })
  })

  test('finds the one raw call among many held ones, and not what costs nothing', async () => {
    await onSite(async (site) => {
      const client = wrapOpenAI(rawClient(site), site.scope)
      const escapes = await watched(site, async () => {
        const held = Array.from({ length: 10 }, () => client.chat.completions.create(BODY))
        await Promise.all([...held, rawClient(site).chat.completions.create(BODY), fetch(`${site.provider.baseURL}/models`)])
      })
      expect(escapes).toHaveLength(1)
    })
  })

  test('counts a second request under one hold: a retry below an adapter, and a fetch that sends twice', async () => {
    await onSite(async (site) => {
      const raw = rawClient(site)
      const below = await watched(site, () =>
        site.scope.run({ kind: 'model', resource: 'gpt-4o-mini', worst: { usd: 100 } }, async () => {
          await raw.chat.completions.create(BODY)
          await raw.chat.completions.create(BODY)
        }),
      )
      expect(below).toHaveLength(1)
      const twice: typeof fetch = async (url, init) => {
        await (await fetch(url, init)).text()
        return fetch(url, init)
      }
      const client = new OpenAI({ apiKey: 'none', baseURL: site.provider.baseURL, fetch: guardFetch(site.scope, { fetch: twice }) })
      expect(await watched(site, () => client.chat.completions.create(BODY))).toHaveLength(2)
    })
  })

  test('reports a free request that its server sends on to a model, since fetch follows it', async () => {
    await onSite(async (site) => {
      const headers = { 'content-type': 'application/json', location: `${site.provider.baseURL}/chat/completions` }
      let escapes: readonly string[] = []
      const sendsOn = (incoming: IncomingMessage, outgoing: ServerResponse): void =>
        void incoming.resume().on('end', () => outgoing.writeHead(307, headers).end())
      await withServer(sendsOn, async (host) => {
        const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(BODY) }
        escapes = await watched(site, () => guardFetch(site.scope)(`http://${host}/v1/moderations`, init))
      })
      expect(site.provider.bill().billed).toBe(1)
      expect(escapes).toEqual([expect.stringMatching(/^POST \/v1\/chat\/completions went to/)])
    })
  })

  test('sees node:http as well, and belongs to the scope of the task that called', async () => {
    await onSite(async (site) => {
      const other = site.kernel.scope({ agent: 'other', task: 'watch', budget: 'acme' })
      await watched(site, () =>
        other.enter(async () => {
          const sent = request(`${site.provider.baseURL}/chat/completions?key=secret`, { method: 'POST' })
          sent.end(JSON.stringify(BODY))
          const [response] = (await once(sent, 'response')) as [NodeJS.ReadableStream]
          response.resume()
          await once(response, 'end')
        }),
      )
      expect(escapesOf(site)).toHaveLength(1)
      expect(escapesOf(site)[0]).not.toContain('secret')
      expect(site.kernel.auditLines.filter((line) => line.includes('"escape"')).map((line) => JSON.parse(line) as object)).toMatchObject([
        { agent: 'other' },
      ])
    })
  })

  test('reports a WebSocket to a provider, which nothing can hold', async () => {
    await onSite(async (site) => {
      await withServer(
        () => undefined,
        async (host) => {
          const stop = watchEscapes(site.scope, { hosts: [host] })
          const socket = new WebSocket(`ws://${host}/v1/realtime?model=gpt-realtime`)
          await once(socket, 'open')
          socket.close()
          stop()
        },
      )
      expect(escapesOf(site)).toHaveLength(1)
      expect(escapesOf(site)[0]).toMatch(/^A WebSocket to \/v1\/realtime went to/)
    })
  })

  test('reports a place with its 1st, 10th and 100th request, so that an alarm does not become a flood', async () => {
    await onSite(async (site) => {
      const raw = rawClient(site)
      const escapes = await watched(site, async () => {
        for (let sent = 0; sent < 100; sent++) await raw.chat.completions.create(BODY)
      })
      expect(escapes).toHaveLength(3)
      expect(escapes[2]).toContain('It is the 100th of this process.')
    })
  })

  test('is silent about hosts that are no provider’s, and after it was ended', async () => {
    await onSite(async (site) => {
      const stop = watchEscapes(site.scope)
      await rawClient(site).chat.completions.create(BODY)
      stop()
      await watched(site, async () => undefined)
      await rawClient(site).chat.completions.create(BODY)
      expect(escapesOf(site)).toEqual([])
    })
  })

  test('is a line of `holdfast doctor`, with the last report and what to do', async () => {
    const data = mkdtempSync(join(tmpdir(), 'holdfast-escapes-'))
    const looks = async () => (await cliJson<DoctorJson>(['doctor', '--data', data])).checks.find(({ id }) => id === 'escapes')
    try {
      await onSite(async () => undefined, { data })
      expect(await looks()).toMatchObject({ result: 'ok' })
      await onSite((site) => watched(site, () => rawClient(site).chat.completions.create(BODY)).then(() => undefined), { data })
      expect(await looks()).toMatchObject({
        result: 'warn',
        message: expect.stringMatching(/^1 report of calls.*\n.*POST \/v1\/chat\/completions/) as string,
      })
    } finally {
      rmSync(data, { recursive: true, force: true })
    }
  })
})

describe('a raw request beside a held one', () => {
  test('is reported while the answer that the hold pays for is still on its way', async () => {
    await onSite(async (site) => {
      const worst = { usd: 1_000_000_000, tokens: 1_000_000, calls: 1 }
      const url = `${site.provider.baseURL}/chat/completions`
      const escapes = await watched(site, () =>
        site.scope.run({ kind: 'model', resource: BODY.model, worst }, async () => {
          const held = await guardFetch(site.scope)(url, { method: 'POST', body: JSON.stringify({ ...BODY, stream: true }) })
          await rawClient(site).chat.completions.create(BODY)
          await held.text()
        }),
      )
      expect(site.kernel.auditLines.filter((line) => line.includes('"kind":"intent"')).length).toBe(1)
      expect(escapes.length).toBe(1)
    })
  })
})

describe('a host that is written in another way', () => {
  const ways = ['LLM.Example', 'llm.example.', 'llm.example:80']

  test.each(ways)('is known all the same: %s', async (host) => {
    await onSite(async (site) => {
      const stop = watchEscapes(site.scope, { hosts: ['llm.example'] })
      try {
        await sendRaw(site.provider.port, { host })
      } finally {
        stop()
      }
      expect(escapesOf(site)).toEqual([expect.stringContaining('went to llm.example without a hold')])
    })
  })

  test('is known by whom it dials, whatever it names', async () => {
    await onSite(async (site) => {
      const stop = watchEscapes(site.scope, { hosts: ['127.0.0.1'] })
      try {
        await sendRaw(site.provider.port, { host: 'innocent.example' })
      } finally {
        stop()
      }
      expect(escapesOf(site)).toEqual([expect.stringContaining('went to 127.0.0.1 without a hold')])
    })
  })

  async function sendRaw(port: number, headers: Record<string, string>): Promise<void> {
    const sent = request({ host: '127.0.0.1', port, method: 'POST', path: '/v1/chat/completions', headers })
    sent.end(JSON.stringify(BODY))
    const [answer] = (await once(sent, 'response')) as [AsyncIterable<unknown>]
    for await (const _ of answer) void _
  }
})
