// Rows of docs/escapes.md that no guard of holdfast holds: sockets, tools of MCP servers, graphs and agents that run
// elsewhere. The alarm reports them where it is told of their hosts; what not even the alarm sees is shown as well.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { GoogleGenAI } from '@google/genai'
import { RemoteGraph } from '@langchain/langgraph/remote'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { OpenAITracingExporter, Trace } from '@openai/agents'
import { RealtimeAgent, RealtimeSession } from '@openai/agents/realtime'
import { createGateway, generateText } from 'ai'
import OpenAI from 'openai'
import { OpenAIRealtimeWS } from 'openai/realtime/ws'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { findRefusal } from '../../integrations/ai-sdk.ts'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { errorOf } from '../../src/testing/integration-bench.ts'
import { escapesOf, onSite, watched, withServer } from './escape-site.ts'

const SOCKETS: readonly { readonly name: string; readonly path: RegExp; readonly open: (host: string) => Promise<() => void> }[] = [
  {
    name: 'the realtime client of the OpenAI SDK',
    path: /^A WebSocket to \/v1\/realtime went to/,
    open: async (host) => {
      const client = new OpenAI({ apiKey: 'none', baseURL: `http://${host}/v1` })
      const realtime = new OpenAIRealtimeWS({ model: 'gpt-realtime' }, client)
      // It insists on TLS, which the server does not speak: by then the request has been made.
      realtime.on('error', () => undefined)
      return () => realtime.close()
    },
  },
  {
    name: 'a realtime session of the Agents SDK',
    path: /^A WebSocket to \/v1\/realtime went to/,
    open: async (host) => {
      const session = new RealtimeSession(new RealtimeAgent({ name: 'harbour' }), { transport: 'websocket', tracingDisabled: true })
      session.on('error', () => undefined)
      await session.connect({ apiKey: 'ek_none', url: `ws://${host}/v1/realtime` }).catch(() => undefined)
      return () => session.close()
    },
  },
  {
    name: 'a live session of Gemini',
    path: /^A WebSocket to \/+ws\/google\.ai\.generativelanguage\.v1beta\.GenerativeService\.BidiGenerateContent went to/,
    open: async (host) => {
      const client = new GoogleGenAI({ apiKey: 'none', httpOptions: { baseUrl: `http://${host}` } })
      const ended = new Promise((resolve) => {
        const callbacks = { onmessage: () => undefined, onclose: resolve, onerror: resolve }
        client.live.connect({ model: 'gemini-2.5-flash', callbacks }).catch(resolve)
      })
      await ended
      return () => undefined
    },
  },
]

test.each(SOCKETS)('a WebSocket that no guard sees is reported: $name', ({ path, open }) =>
  onSite((site) =>
    withServer(
      () => undefined,
      async (host) => {
        await watched(site, async () => {
          const close = await open(host)
          await vi.waitFor(() => expect(escapesOf(site)).toHaveLength(1), { timeout: 10_000 })
          close()
        }, [host])
        expect(escapesOf(site)[0]).toMatch(path)
      },
    ),
  ),
)

describe('at a gateway', () => {
  afterEach(() => {
    globalThis.AI_SDK_DEFAULT_PROVIDER = undefined
  })

  /** Calls the default provider by a name, on a gateway that answers nothing useful; how often that was asked. */
  async function asked(host: string, fetch?: typeof globalThis.fetch): Promise<unknown> {
    globalThis.AI_SDK_DEFAULT_PROVIDER = createGateway({
      apiKey: 'none',
      baseURL: `http://${host}/v4/ai`,
      ...(fetch === undefined ? {} : { fetch }),
    })
    return errorOf(() => generateText({ model: 'openai/gpt-4o-mini', prompt: 'hello', maxOutputTokens: 9, maxRetries: 0 }))
  }

  test('a model that is only a name is reported on its way to a gateway', () =>
    onSite((site) =>
      withServer(
        (_, response) => response.writeHead(404).end('{}'),
        async (host) => {
          const escapes = await watched(site, () => asked(host), [host])
          expect(escapes).toEqual([expect.stringMatching(/^POST \/v4\/ai\/language-model went to/)])
        },
      ),
    ))

  test('a model that is only a name is refused before it is sent where its gateway has guardFetch', () =>
    onSite((site) => {
      let count = 0
      return withServer(
        (_, response) => {
          count += 1
          response.writeHead(404).end('{}')
        },
        async (host) => {
          const escapes = await watched(
            site,
            async () => expect(findRefusal(await asked(host, guardFetch(site.scope)))?.code).toBe('ERR_UNMETERED'),
            [host],
          )
          expect([escapes, count]).toEqual([[], 0])
        },
      )
    }))
})

describe('what runs elsewhere', () => {
  test('a remote graph that nobody guarded is reported', () =>
    onSite((site) =>
      withServer(
        (_, response) => response.writeHead(422, { 'content-type': 'application/json' }).end('{}'),
        async (host) => {
          const remote = new RemoteGraph({ graphId: 'harbour', url: `http://${host}` })
          const escapes = await watched(site, () => errorOf(() => remote.invoke({})), [host])
          expect(escapes).toEqual([expect.stringMatching(/^POST \/\S*runs\/stream went to/)])
        },
      ),
    ))

  test('a tool of an MCP server that is called by a raw request is reported', () =>
    onSite((site) =>
      withServer(answerMcp, async (host) => {
        const client = new Client({ name: 'app', version: '1' })
        await client.connect(new StreamableHTTPClientTransport(new URL(`http://${host}/mcp`)))
        const call = () => client.request({ method: 'tools/call', params: { name: 'wipe', arguments: {} } })
        const escapes = await watched(
          site,
          async () => expect(await call()).toMatchObject({ content: [{ type: 'text', text: 'wiped' }] }),
          [host],
        )
        await client.close()
        expect(escapes).toEqual([expect.stringMatching(/^POST \/mcp went to/)])
      }),
    ))

  test('the traces that the Agents SDK sends are reported, though they cost nothing', () =>
    onSite((site) =>
      withServer(
        (_, response) => response.writeHead(204).end(),
        async (host) => {
          const exporter = new OpenAITracingExporter({ apiKey: 'none', endpoint: `http://${host}/v1/traces/ingest` })
          const escapes = await watched(site, () => exporter.export([new Trace({ name: 'harbour' })]), [host])
          expect(escapes).toEqual([expect.stringMatching(/^POST \/v1\/traces\/ingest went to/)])
        },
      ),
    ))

  test.each([
    ['a worker', (code: string) => new Worker(code, { eval: true })],
    ['another process', (code: string) => spawn(process.execPath, ['-e', code], { stdio: 'ignore' })],
  ])('%s is on the bill and nowhere else: not even the alarm sees what other threads and processes send', (_, start) =>
    onSite(async (site) => {
      const body = JSON.stringify({ model: 'gpt-4o-mini', max_completion_tokens: 9, messages: [{ role: 'user', content: 'hello' }] })
      const url = `${site.provider.baseURL}/chat/completions`
      const code = `fetch(${JSON.stringify(url)}, { method: 'POST', body: ${JSON.stringify(body)} }).then((response) => response.text())`
      const escapes = await watched(site, () => once(start(code), 'exit'))
      const [line] = await site.kernel.budgets('acme')
      expect(site.provider.bill().requests).toBe(1)
      expect([escapes, line!.spent]).toEqual([[], 0])
    }),
  )
})

/** A server of MCP over HTTP with one tool, which does what it is asked to. */
const answerMcp: Parameters<typeof withServer>[0] = (request, response) => {
  let text = ''
  request.on('data', (chunk: Buffer) => (text += chunk.toString()))
  request.on('end', () => {
    if (request.method !== 'POST') return response.writeHead(405).end()
    const { id, method } = JSON.parse(text) as { id?: number; method: string }
    if (id === undefined) return response.writeHead(202).end()
    const initialized = { protocolVersion: '2025-06-18', capabilities: { tools: {} }, serverInfo: { name: 'harbour', version: '1' } }
    const result = method === 'initialize' ? initialized : { content: [{ type: 'text', text: 'wiped' }] }
    return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ jsonrpc: '2.0', id, result }))
  })
}
