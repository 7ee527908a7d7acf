// Usage that comes before the end of an answer: it says what was used so far, and settles nothing.

import { describe, expect, test } from 'vitest'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { PRICE, openSite } from './wire-site.ts'

const sse = (...events: readonly unknown[]): string => events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join('')

/** Answers with these events, one by one, and then the connection breaks, or ends. */
async function endOf(path: string, body: Record<string, unknown>, answer: string, breaks: boolean) {
  const site = await openSite({ 'm-1': PRICE })
  const events = answer.split(/(?<=\n\n)/)
  const stream = new ReadableStream<Uint8Array>({
    pull(controller) {
      const event = events.shift()
      if (event !== undefined) controller.enqueue(new TextEncoder().encode(event))
      else if (breaks) controller.error(new TypeError('terminated'))
      else controller.close()
    },
  })
  const fetch: typeof globalThis.fetch = async () => new Response(stream, { headers: { 'content-type': 'text/event-stream' } })
  const init = { method: 'POST', body: JSON.stringify({ model: 'm-1', stream: true, ...body }) }
  const response = await guardFetch(site.scope, { fetch })(`http://127.0.0.1/v1/${path}`, init)
  await response.text().catch(() => '')
  return site.ends().map(([outcome]) => outcome)
}

describe('a chat', () => {
  const usage = { prompt_tokens: 10, completion_tokens: 0, total_tokens: 10 }
  const early = { id: 'c-1', choices: [], usage }
  const word = (reason: string | null) => ({ choices: [{ index: 0, delta: { content: 'hi' }, finish_reason: reason }] })
  const last = { choices: [], usage: { prompt_tokens: 10, completion_tokens: 9, total_tokens: 19 } }
  const ask = (answer: string) => endOf('chat/completions', { max_tokens: 20, messages: [] }, answer, true)

  test('whose usage of the prompt comes first, and that breaks, is charged at worst', async () =>
    expect(await ask(sse(early, word(null)))).toEqual(['charged']))

  test('with an empty reason in every event is not over with the first', async () =>
    expect(await ask(sse({ ...word(''), usage }, word('')))).toEqual(['charged']))

  test('that had ended before it broke is settled', async () =>
    expect(await ask(sse(early, word(null), word('stop'), last))).toEqual(['settled']))
})

describe('messages', () => {
  const start = { type: 'message_start', message: { id: 'msg_1', usage: { input_tokens: 10, output_tokens: 1 } } }
  const stop = (usage?: unknown) => ({
    type: 'message_delta',
    delta: { stop_reason: 'end_turn' },
    ...(usage === undefined ? {} : { usage }),
  })
  const ask = (...events: readonly unknown[]) =>
    endOf('messages', { max_tokens: 20, messages: [] }, sse(start, ...events, { type: 'message_stop' }), false)

  test('whose output was counted before it began only are charged at worst', async () => expect(await ask(stop())).toEqual(['charged']))

  test('whose output was counted at the end are settled', async () => expect(await ask(stop({ output_tokens: 9 }))).toEqual(['settled']))
})

describe('a response', () => {
  const usage = { input_tokens: 10, output_tokens: 1, total_tokens: 11 }
  const ask = (...events: readonly unknown[]) => endOf('responses', { max_output_tokens: 20, input: 'hi' }, sse(...events), false)
  const done = { type: 'response.completed', response: { id: 'resp_1', status: 'completed', usage } }

  test('that says it is still running is not settled by what it has used so far', async () => {
    const running = { id: 'resp_1', status: 'in_progress', usage }
    expect(await ask({ ...done, response: running })).toEqual(['charged'])
  })

  test('with metadata that look like its end goes on to its end', async () => {
    const metadata = { type: 'response.completed' }
    expect(await ask({ type: 'response.created', response: { status: 'in_progress', metadata } }, done)).toEqual(['settled'])
  })
})
