// The Messages format of the simulated provider, as the SDK of Anthropic reads it, and as it stands on the wire.

import Anthropic from '@anthropic-ai/sdk'
import { afterEach, describe, expect, test } from 'vitest'
import { startProvider, type ProviderAnswer, type SimulatedProvider } from '../../src/testing/provider.ts'

const HELLO = { model: 'claude-haiku-4-5', max_tokens: 50, messages: [{ role: 'user' as const, content: 'hello there' }] }
const CALLS: ProviderAnswer = {
  text: 'I look.',
  toolCalls: [{ name: 'look', arguments: { at: 'pier 4' } }],
  usage: { inputTokens: 61, cachedTokens: 40, outputTokens: 9, reasoningTokens: 2 },
}

let provider: SimulatedProvider
afterEach(() => provider.close())

async function clientOf(answer: ProviderAnswer): Promise<Anthropic> {
  provider = await startProvider({ script: () => answer })
  return new Anthropic({ apiKey: 'test', baseURL: `http://127.0.0.1:${provider.port}`, maxRetries: 0, logLevel: 'off' })
}

describe('an answer', () => {
  test('has its text, its calls, and the cached tokens beside the others', async () => {
    const message = await (await clientOf(CALLS)).messages.create(HELLO)
    expect(message).toMatchObject({
      type: 'message',
      role: 'assistant',
      stop_reason: 'tool_use',
      content: [
        { type: 'text', text: 'I look.' },
        { type: 'tool_use', name: 'look', input: { at: 'pier 4' } },
      ],
      usage: { input_tokens: 21, cache_read_input_tokens: 40, output_tokens: 9, output_tokens_details: { thinking_tokens: 2 } },
    })
    expect(provider.bill().lines).toMatchObject([
      { id: message.id, endpoint: 'messages', inputTokens: 61, cachedTokens: 40, completed: true },
    ])
  })

  test('is the same as a stream, whose output is known at its end', async () => {
    const client = await clientOf(CALLS)
    const events: Anthropic.RawMessageStreamEvent[] = []
    for await (const event of await client.messages.create({ ...HELLO, stream: true })) events.push(event)
    const whole = { stop_reason: 'tool_use', content: [{ text: 'I look.' }, { input: { at: 'pier 4' } }] }
    expect(await client.messages.stream(HELLO).finalMessage()).toMatchObject(whole)
    expect(events[0]).toMatchObject({ type: 'message_start', message: { content: [], usage: { input_tokens: 21, output_tokens: 1 } } })
    expect(events.slice(-2)).toMatchObject([{ type: 'message_delta', usage: { output_tokens: 9 } }, { type: 'message_stop' }])
  })

  test('is cut at the cap of its request', async () => {
    const message = await (await clientOf({ text: 'nine ships lie in the harbour' })).messages.create({ ...HELLO, max_tokens: 2 })
    expect(message).toMatchObject({ stop_reason: 'max_tokens', content: [{ text: 'nine shi' }], usage: { output_tokens: 2 } })
  })

  test('that tells no usage has zeros for it, and is billed all the same', async () => {
    const message = await (await clientOf({ usage: 'omit' })).messages.create(HELLO)
    expect(message.usage).toMatchObject({ input_tokens: 0, output_tokens: 0, cache_read_input_tokens: 0 })
    expect(provider.bill()).toMatchObject({ billed: 1, lines: [{ completed: false }] })
  })
})

describe('an error', () => {
  test('has the form and the type of its status', async () => {
    const client = await clientOf({ status: 529 })
    await expect(client.messages.create(HELLO)).rejects.toMatchObject({
      status: 529,
      type: 'overloaded_error',
      error: { type: 'error', error: { type: 'overloaded_error' } },
    })
    expect(provider.bill()).toMatchObject({ requests: 1, billed: 0 })
  })

  test('is what a request without messages, or with a cap of none, gets', async () => {
    const client = await clientOf({})
    for (const body of [
      { ...HELLO, messages: 'hello' },
      { ...HELLO, max_tokens: 0 },
    ])
      await expect(client.post('/v1/messages', { body })).rejects.toMatchObject({ status: 400, type: 'invalid_request_error' })
    expect(provider.bill().billed).toBe(0)
  })
})
