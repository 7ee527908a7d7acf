// Every path that the OpenAI SDK can call, and what it is to the guard: metered, free, refused since it spends, or
// unknown and refused.

import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { ENDPOINTS } from '../../integrations/wires/openai-endpoints.ts'
import { wireOf } from '../../integrations/wires/table.ts'
import { onMedia } from './media-bench.ts'

const SDK = join(import.meta.dirname, '../../node_modules/openai')

interface Call {
  readonly method: string
  readonly path: string
}

/** What the SDK calls, read from its code: method and path, `*` for what it fills in. */
function callsOfSdk(): readonly Call[] {
  const files = ['resources', 'lib'].flatMap((room) =>
    readdirSync(join(SDK, room), { recursive: true, encoding: 'utf8' }).flatMap((file) => (file.endsWith('.mjs') ? join(room, file) : [])),
  )
  const calls = files.flatMap((file) => {
    const text = readFileSync(join(SDK, file), 'utf8')
    return [...text.matchAll(/client\s*\.(get|getAPIList|post|put|patch|delete)\((?:path ?)?[`']([^`']+)[`']([^;]*);/g)].map(
      ([, name, path, rest]) => {
        const listed = /method: '(\w+)'/.exec(rest!)?.[1] ?? 'get'
        return {
          method: (name === 'getAPIList' ? listed : name!).toUpperCase(),
          path: path!.replaceAll(/\$\{\w+\}/g, '*').replace(/\?.*/, ''),
        }
      },
    )
  })
  const unique = new Map(calls.map((call) => [`${call.method} ${call.path}`, call]))
  return [...unique.values()].sort((one, other) => (one.path < other.path ? -1 : 1))
}

function classOf({ method, path }: Call): string {
  const classified = wireOf(method, `/v1${path.replaceAll('*', 'abc_123')}`)
  if (typeof classified === 'string') return classified
  return 'spends' in classified ? 'spends' : `metered as ${classified.name}`
}

const CALLS = callsOfSdk()
const below = (prefix: string): readonly string[] =>
  CALLS.filter(({ method, path }) => method === 'POST' && path.startsWith(prefix)).map(({ path }) => path)

const CLASSES: Readonly<Record<string, readonly string[]>> = {
  'metered as chat': ['/chat/completions'],
  'metered as responses': ['/responses'],
  'metered as compact': ['/responses/compact'],
  'metered as completions': ['/completions'],
  'metered as embeddings': ['/embeddings'],
  'metered as images': ['/images/edits', '/images/generations', '/images/variations'],
  'metered as transcriptions': ['/audio/transcriptions', '/audio/translations'],
  'metered as speech': ['/audio/speech'],
  free: [
    '/batches/*/cancel',
    '/chat/completions/*',
    '/chatkit/sessions/*/cancel',
    '/conversations',
    '/conversations/*',
    '/conversations/*/items',
    '/evals/*/runs/*/cancel',
    '/files',
    '/fine_tuning/jobs/*/cancel',
    '/fine_tuning/jobs/*/pause',
    '/live/sessions/*/hangup',
    '/live/sessions/*/reject',
    '/moderations',
    '/realtime/calls/*/hangup',
    '/realtime/calls/*/reject',
    '/responses/*/cancel',
    '/responses/input_tokens',
    '/threads/*/runs/*',
    '/threads/*/runs/*/cancel',
    '/uploads',
    '/uploads/*/cancel',
    '/uploads/*/complete',
    '/uploads/*/parts',
    '/vector_stores/*/file_batches/*/cancel',
  ],
  spends: [
    '/agents/sessions',
    '/assistants',
    '/assistants/*',
    '/batches',
    '/chatkit/sessions',
    '/containers',
    '/containers/*/files',
    '/decisions',
    '/evals',
    '/evals/*/runs',
    '/fine_tuning/alpha/graders/run',
    '/fine_tuning/jobs',
    '/fine_tuning/jobs/*/resume',
    '/live/sessions',
    '/realtime/calls',
    '/realtime/calls/*/accept',
    '/realtime/client_secrets',
    '/realtime/sessions',
    '/realtime/transcription_sessions',
    '/realtime/translations/client_secrets',
    '/threads',
    '/threads/*',
    '/threads/*/messages',
    '/threads/*/runs',
    '/threads/*/runs/*/submit_tool_outputs',
    '/threads/runs',
    '/vector_stores',
    '/vector_stores/*',
    '/vector_stores/*/file_batches',
    '/vector_stores/*/files',
    '/vector_stores/*/files/*',
    '/vector_stores/*/search',
    '/videos',
    '/videos/*/remix',
    '/videos/edits',
    '/videos/extensions',
  ],
  // Nothing is said of these: they are refused until somebody lets them through.
  unknown: [
    ...below('/agents').filter((path) => path !== '/agents/sessions'),
    ...below('/organization'),
    ...below('/projects'),
    ...below('/skills'),
    ...below('/vaults'),
    ...below('/webhook_endpoints'),
    '/audio/voice_consents',
    '/audio/voice_consents/*',
    '/audio/voices',
    '/content_provenance_checks',
    '/evals/*',
    '/fine_tuning/alpha/graders/validate',
    '/fine_tuning/checkpoints/*/permissions',
    '/live/sessions/*/accept',
    '/live/sessions/*/fork',
    '/live/sessions/*/refer',
    '/realtime/calls/*/refer',
    '/threads/*/messages/*',
    '/videos/characters',
  ],
}

describe('of the paths that the OpenAI SDK calls', () => {
  test('there are as many as the pattern of this test should find', () => {
    expect(CALLS.filter(({ method }) => method === 'POST').length).toBeGreaterThan(140)
    expect([...new Set(CALLS.map(({ method }) => method))].sort()).toEqual(['DELETE', 'GET', 'POST'])
  })

  test('each POST has exactly the class that is written here', () => {
    const written = Object.entries(CLASSES).flatMap(([name, paths]) => paths.map((path) => `${path}: ${name}`))
    const real = CALLS.filter(({ method }) => method === 'POST').map((call) => `${call.path}: ${classOf(call)}`)
    expect(real.toSorted()).toEqual(written.toSorted())
  })

  test('each that only reads or deletes passes', () => {
    expect(CALLS.filter((call) => call.method !== 'POST' && classOf(call) !== 'free')).toEqual([])
  })
})

describe('a request', () => {
  test.each([
    ['PUT', 'files'],
    ['PATCH', 'conversations/conv_1'],
    ['PROPFIND', 'moderations'],
  ])('by %s, which no SDK sends, is refused even where a POST is free', (method, path) =>
    onMedia({}, async ({ guarded, provider, refused }) => {
      const response = await guarded(`${provider.baseURL}/${path}`, { method })
      expect([response.status, refused(), provider.bill().requests]).toEqual([402, ['ERR_UNMETERED'], 0])
    }),
  )

  test.each([
    ['below another base', '/v1/vector_stores/vs_1/moderations'],
    ['of another service with the same ending', '/v1/internal/uploads'],
    ['of a tool of its owner', '/tools/files'],
  ])('that only ends like a free one is refused: %s', (_, path) => expect(wireOf('POST', path)).toBe('unknown'))

  test.each([
    '/v1/moderations',
    '/openai/v1/moderations',
    '/proxy/openai/moderations',
    '/api/moderations',
    '/moderations',
    '/v1/moderations/',
  ])('is free below the base URLs that servers have: %s', (path) => expect(wireOf('POST', path)).toBe('free'))

  test.each(['/x/y/chat/completions', '/openai/deployments/mine/embeddings', '/v1/responses/', '/gateway/v1/audio/speech'])(
    'that can be metered is, whatever its base URL: %s',
    (path) => expect(wireOf('POST', path)).toHaveProperty('bound'),
  )

  test('that spends is refused with why, and passes at the word of its owner', () =>
    onMedia({}, async ({ scope, guarded, ends }) => {
      const sent: unknown[] = []
      const send = async (url: unknown): Promise<Response> => (sent.push(url), Response.json({}))
      const post = { method: 'POST', body: '{}' }
      const refusal = await guarded('http://127.0.0.1/v1/vector_stores', post)
      expect([refusal.status, await refusal.text()]).toEqual([402, expect.stringContaining('fee for each GB and day')])
      const told = guardFetch(scope, { passthrough: ['/v1/vector_stores'], fetch: send })
      expect((await told('http://127.0.0.1/v1/vector_stores', post)).status).toBe(200)
      expect([sent.length, ends()]).toEqual([1, []])
    }))

  test('for moderation passes without a hold', () =>
    onMedia({}, async ({ client, held }) => {
      await client.moderations.create({ input: 'hello' })
      expect(held()).toEqual([])
    }))
})

test('every endpoint says why it costs what it costs, and stands here once', () => {
  expect(ENDPOINTS.filter(({ because }) => because.length < 15)).toEqual([])
  expect(new Set(ENDPOINTS.map(({ path }) => path)).size).toBe(ENDPOINTS.length)
})
