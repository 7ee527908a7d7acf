// Answers on the wire of Anthropic: where their usage stands, what makes them dearer, and what ends without any.

import { describe, expect, test } from 'vitest'
import { guardFetch } from '../../integrations/ai-sdk.ts'
import { messageBatches } from '../../integrations/wires/anthropic-batches.ts'
import { messages } from '../../integrations/wires/anthropic.ts'
import { wireOf } from '../../integrations/wires/table.ts'
import type { Finding } from '../../integrations/wires/wire.ts'
import { memoryStore, openKernel, type Kernel } from '../../src/index.ts'
import { readAnthropicUsage } from '../../src/metering/usage/anthropic.ts'
import { replaying } from './bench.ts'

const MODEL = 'claude-opus-4-8'
const HELLO = { model: MODEL, max_tokens: 1024, messages: [{ role: 'user', content: 'Hello' }] }

// Typed from https://platform.claude.com/docs/en/build-with-claude/streaming (looked up 2026-11-22).
const HELLO_STREAM = [
  {
    type: 'message_start',
    message: { id: 'msg_1', type: 'message', role: 'assistant', content: [], model: MODEL, usage: { input_tokens: 25, output_tokens: 1 } },
  },
  { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
  { type: 'ping' },
  { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Hello!' } },
  { type: 'content_block_stop', index: 0 },
  { type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: null }, usage: { output_tokens: 15 } },
  { type: 'message_stop' },
]
const SEARCH_USAGE = {
  input_tokens: 10682,
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: 0,
  output_tokens: 510,
  server_tool_use: { web_search_requests: 1 },
}
const SEARCH_STREAM = [
  { type: 'message_start', message: { id: 'msg_2', usage: { input_tokens: 2679, cache_read_input_tokens: 0, output_tokens: 3 } } },
  { type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: null }, usage: SEARCH_USAGE },
  { type: 'message_stop' },
]
const OVERLOADED = { type: 'error', error: { type: 'overloaded_error', message: 'Overloaded' } }

/** What a reader has found after these events, and whether it waits for more. */
function read(events: readonly object[], original: object = HELLO): { found: Finding | undefined; ended: boolean } {
  const reader = messages.events(original as never)
  for (const event of events) expect(reader.look(JSON.stringify(event))).toBe(true)
  return { found: reader.found, ended: reader.ended }
}

describe('the events of a stream', () => {
  test('have the input at their start and the output at their end', () => {
    const usage = readAnthropicUsage({ input_tokens: 25, output_tokens: 15 })
    expect(read(HELLO_STREAM)).toEqual({ found: { usage, responseId: 'msg_1', serviceTier: 'standard' }, ended: true })
  })

  test('restate what a search has added; the last number of each stands, and none is added up', () => {
    expect(read(SEARCH_STREAM).found?.usage).toEqual(readAnthropicUsage(SEARCH_USAGE))
  })

  test('leave numbers that the last one has no value for as they were', () => {
    const delta = { ...HELLO_STREAM[5], usage: { input_tokens: null, output_tokens: 15, server_tool_use: null } }
    expect(read([HELLO_STREAM[0]!, delta]).found?.usage).toMatchObject({ inputTokens: 25, outputTokens: 15 })
  })

  test('say nothing before the one with the reason to stop, whatever they count before', () => {
    const early = { type: 'message_delta', delta: { stop_reason: null }, usage: { output_tokens: 7 } }
    expect(read(HELLO_STREAM.slice(0, 5))).toEqual({ found: undefined, ended: false })
    expect(read([...HELLO_STREAM.slice(0, 5), early])).toEqual({ found: undefined, ended: false })
    expect(read([...HELLO_STREAM.slice(0, 5), early, ...HELLO_STREAM.slice(5)]).found?.usage.outputTokens).toBe(15)
    expect(read([HELLO_STREAM[0]!, { type: 'message_stop' }])).toEqual({ found: undefined, ended: true })
  })

  test('with an error among them are as much as stood there before it', () => {
    expect(read([...HELLO_STREAM.slice(0, 4), OVERLOADED])).toEqual({ found: undefined, ended: false })
    expect(read([...HELLO_STREAM.slice(0, 6), OVERLOADED]).found?.usage.outputTokens).toBe(15)
  })

  test('are not misread where a model quotes them', () => {
    const quoted = { type: 'content_block_delta', delta: { type: 'text_delta', text: JSON.stringify(HELLO_STREAM[6]) } }
    const nested = { type: 'content_block_start', content_block: { input: { type: 'message_stop' } } }
    expect(read([quoted, nested])).toEqual({ found: undefined, ended: false })
  })
})

describe('an answer', () => {
  const usage = { input_tokens: 25, output_tokens: 15 }
  const tierOf = (more: object, original: object = HELLO): string | undefined =>
    messages.findIn({ id: 'msg_1', usage: { ...usage, ...more } }, original as never)?.serviceTier

  test('is settled at the tier, the speed and the place that it says it had', () => {
    expect(tierOf({ service_tier: 'standard', speed: 'standard', inference_geo: 'not_available' })).toBe('standard')
    expect(tierOf({ service_tier: 'standard', inference_geo: 'global' })).toBe('standard')
    expect(tierOf({ service_tier: 'priority' })).toBe('priority')
    expect(tierOf({ speed: 'fast' })).toBe('fast-mode')
    expect(tierOf({ inference_geo: 'us' })).toBe('us')
    expect(tierOf({ service_tier: 'batch', speed: 'fast', inference_geo: 'us' })).toBe('batch+fast-mode+us')
    expect(tierOf({ inference_geo: { place: 'us' } })).toBe('unknown')
  })

  test('that does not say had those that its request asked for', () => {
    const fast = { ...HELLO, speed: 'fast', inference_geo: 'us' }
    expect(tierOf({}, fast)).toBe('fast-mode+us')
    expect(tierOf({ service_tier: 'standard' }, fast)).toBe('fast-mode+us')
    expect(tierOf({ speed: 'standard', inference_geo: 'global' }, fast)).toBe('standard')
  })

  test('of a request that pays for the execution of code has one call of it, and no other has', () => {
    const callsOf = (tools: readonly object[]): unknown =>
      messages.findIn({ usage: { ...usage, server_tool_use: { code_execution_requests: 4 } } }, { ...HELLO, tools })?.usage.toolCalls
    expect(callsOf([{ type: 'code_execution_20260521' }])).toEqual({ code_execution: 1 })
    expect(callsOf([{ type: 'code_execution_20260521' }, { type: 'web_fetch_20260209' }])).toEqual({})
    expect(callsOf([])).toEqual({})
  })
})

describe('a request', () => {
  const requestOf = (body: object) => ({ path: '/v1/messages', headers: new Headers(), body: { ...HELLO, ...body }, bytes: 100 })

  test('has the price of the speed and the place that it asks for; whom it lets serve it is no price', () => {
    expect(messages.modelOf(requestOf({ service_tier: 'auto' }))).toEqual({ id: MODEL, serviceTier: undefined })
    expect(messages.modelOf(requestOf({ speed: 'fast' })).serviceTier).toBe('fast-mode')
    expect(messages.modelOf(requestOf({ speed: 'standard', inference_geo: 'us' })).serviceTier).toBe('us')
  })

  test('is known by its path, and what is beside it is free or unknown', () => {
    expect(wireOf('POST', '/v1/messages')).toBe(messages)
    expect(wireOf('POST', '/anthropic/v1/messages')).toBe(messages)
    for (const path of ['/v1/messages/count_tokens', '/v1/messages/batches/msgbatch_1/cancel', '/v1/files', '/v1/oauth/token'])
      expect(wireOf('POST', path)).toBe('free')
    expect(wireOf('GET', '/v1/messages/batches/msgbatch_1/results')).toBe('free')
    const vertex = '/v1/projects/p/locations/l/publishers/anthropic/models/claude-opus-5:rawPredict'
    const bedrock = '/model/anthropic.claude-opus-5/invoke'
    for (const path of ['/v1/complete', '/v1/sessions', vertex, bedrock]) expect(wireOf('POST', path)).toBe('unknown')
    expect(wireOf('POST', '/v1/messages/batches')).toBe(messageBatches)
    expect(wireOf('POST', '/v1/threads/thread_1/messages')).toEqual({ spends: expect.any(String) as string })
  })
})

/** A kernel with one budget, and a guarded `fetch` whose provider answers with this. */
async function answeredWith(body: string, type: string, prices: Parameters<typeof openKernel>[0]['prices'] = {}) {
  const kernel = await openKernel({ store: memoryStore(), budgets: { acme: { usd: 1_000 } }, prices, onEvent: () => {} })
  const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
  const fetch = guardFetch(scope, { provider: 'anthropic', fetch: replaying([new TextEncoder().encode(body)], type) })
  const post = async (more: object = {}): Promise<{ readonly status: number; readonly text: string }> => {
    const init = { method: 'POST', body: JSON.stringify({ ...HELLO, ...more }) }
    const response = await fetch('https://api.example.org/v1/messages', init)
    return { status: response.status, text: await response.text() }
  }
  return { kernel, post }
}

const streamed = (events: readonly object[]): string => events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join('')
const spentOf = async (kernel: Kernel): Promise<number> => (await kernel.budgets('acme'))[0]!.spent
const holdsOf = (kernel: Kernel): readonly Record<string, unknown>[] =>
  kernel.auditLines.map((line) => JSON.parse(line) as Record<string, unknown>).filter(({ kind }) => kind === 'outcome')

const SEARCHING = { tools: [{ type: 'web_search_20250305', name: 'web_search', max_uses: 2 }] }
// 5 and 25 USD per million tokens, 10 USD per thousand searches: 2026-11-22.
const SEARCH_COST = 10682 * 5_000 + 510 * 25_000 + 10_000_000

describe('money', () => {
  test('of a search has its fee, streamed or not', async () => {
    for (const [body, type] of [
      [JSON.stringify({ id: 'msg_2', usage: SEARCH_USAGE }), 'application/json'],
      [streamed(SEARCH_STREAM), 'text/event-stream'],
    ] as const) {
      const { kernel, post } = await answeredWith(body, type)
      expect((await post(SEARCHING)).status).toBe(200)
      expect(await spentOf(kernel)).toBe(SEARCH_COST)
      expect(holdsOf(kernel)).toMatchObject([{ outcome: 'settled' }])
      await kernel.close()
    }
  })

  test('of a search without a limit is refused before it is sent', async () => {
    const { kernel, post } = await answeredWith('{}', 'application/json')
    const response = await post({ tools: [{ type: 'web_search_20250305', name: 'web_search' }] })
    expect(response.status).toBe(402)
    expect(await spentOf(kernel)).toBe(0)
    await kernel.close()
  })

  test('of a stream that ends in an error is the worst case, and of one whose usage stood there before, that', async () => {
    const cut = await answeredWith(streamed([...HELLO_STREAM.slice(0, 5), OVERLOADED]), 'text/event-stream')
    await cut.post({ stream: true })
    expect(holdsOf(cut.kernel)).toMatchObject([{ outcome: 'charged', assumed: true }])
    expect(await spentOf(cut.kernel)).toBeGreaterThan(1024 * 25_000)
    await cut.kernel.close()

    const whole = await answeredWith(streamed([...HELLO_STREAM.slice(0, 6), OVERLOADED]), 'text/event-stream')
    await whole.post({ stream: true })
    expect(await spentOf(whole.kernel)).toBe(25 * 5_000 + 15 * 25_000)
    await whole.kernel.close()
  })

  test('of a place or a speed without a price is refused where it is asked for, with the line that mends it', async () => {
    const { kernel, post } = await answeredWith('{}', 'application/json')
    for (const [more, key] of [
      [{ inference_geo: 'us' }, 'claude-opus-4-8@us'],
      [{ speed: 'fast' }, 'claude-opus-4-8@fast-mode'],
    ] as const) {
      const { status, text } = await post(more)
      expect(status).toBe(402)
      expect(text).toContain(`openKernel({ prices: { '${key}': {`)
      expect(kernel.auditLines.at(-1)).toContain('ERR_UNKNOWN_PRICE')
    }
    await kernel.close()
  })

  test('of a place that only the answer tells is the worst case without a price for it, and that price with one', async () => {
    const body = JSON.stringify({ id: 'msg_1', usage: { input_tokens: 25, output_tokens: 15, inference_geo: 'us' } })
    const unpriced = await answeredWith(body, 'application/json')
    await unpriced.post()
    expect(holdsOf(unpriced.kernel)).toMatchObject([{ outcome: 'charged', assumed: true }])
    await unpriced.kernel.close()

    const us = { inputUsdPerMillion: '5.5', outputUsdPerMillion: '27.5', cacheWriteUsdPerMillion: '6.875' }
    const priced = await answeredWith(body, 'application/json', { 'claude-opus-4-8@us': us })
    await priced.post()
    expect(await spentOf(priced.kernel)).toBe(25 * 5_500 + 15 * 27_500)
    await priced.kernel.close()
  })
})
