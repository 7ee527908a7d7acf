// Streams of Gemini models under the transport guard: in events and in arrays, cut anywhere.

import { describe, expect, test } from 'vitest'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { replaying } from './bench.ts'
import { BODY, CHUNKS, COST, MODEL, ROOT, openGemini, usageOf } from './google-bench.ts'
import type { WireSite } from './wire-site.ts'

const FORMS = [
  ['events', '?alt=sse', 'text/event-stream', CHUNKS.map((one) => `data: ${JSON.stringify(one)}\r\n\r\n`).join('')],
  ['an array', '', 'application/json; charset=UTF-8', `[${CHUNKS.map((one) => JSON.stringify(one, null, 2)).join('\n,\r\n')}\n]\n`],
  ['an array on one line without a type', '', '', JSON.stringify(CHUNKS)],
] as const

/** Streams these bytes through a guard; what came out, and how the hold ended. */
async function stream(site: WireSite, query: string, type: string, chunks: readonly Uint8Array[], body: unknown = BODY) {
  const send = guardFetch(site.scope, { fetch: replaying(chunks, type) })
  const response = await send(`${ROOT}/v1beta/models/${MODEL}:streamGenerateContent${query}`, {
    method: 'POST',
    body: JSON.stringify(body),
  })
  return response.text()
}

describe.each(FORMS)('a stream of Gemini as %s', (_, query, type, text) => {
  const bytes = new TextEncoder().encode(text)

  test('is passed on byte for byte and settled at its last count, however it is cut into chunks', async () => {
    for (const size of [1, 2, 3, 7, 64, 1_000]) {
      const site = await openGemini()
      const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, at) => bytes.slice(at * size, (at + 1) * size))
      expect(await stream(site, query, type, chunks)).toBe(text)
      expect(site.ends()).toEqual([['settled', COST]])
    }
  })

  test('that ends too early is charged at worst, since a count before the end is none', async () => {
    const site = await openGemini()
    const last = text.lastIndexOf('"STOP"')
    const worst = new Set<unknown>()
    for (let cut = 0; cut < last; cut += 41) await stream(site, query, type, [bytes.slice(0, Buffer.byteLength(text.slice(0, cut)))])
    for (const [outcome, usd] of site.ends()) worst.add(`${String(outcome)} ${Number(usd) > COST}`)
    expect([...worst]).toEqual(['charged true'])
  })

  test('that breaks off before its end is charged at worst, and after it settled', async () => {
    const breaking =
      (upTo: number): typeof fetch =>
      async () => {
        let sent = false
        const body = new ReadableStream<Uint8Array>({
          pull(controller) {
            if (sent) controller.error(new TypeError('terminated'))
            else controller.enqueue(bytes.slice(0, upTo))
            sent = true
          },
        })
        return new Response(body, { headers: type === '' ? {} : { 'content-type': type } })
      }
    const site = await openGemini()
    for (const upTo of [bytes.length - 80, bytes.length]) {
      const send = guardFetch(site.scope, { fetch: breaking(upTo) })
      const response = await send(`${ROOT}/v1beta/models/${MODEL}:streamGenerateContent${query}`, {
        method: 'POST',
        body: JSON.stringify(BODY),
      })
      await expect(response.text()).rejects.toThrow('terminated')
    }
    expect(site.ends()).toEqual([
      ['charged', expect.any(Number)],
      ['settled', COST],
    ])
  })
})

describe('a stream of Gemini', () => {
  const events = (...parts: readonly object[]) => parts.map((part) => new TextEncoder().encode(`data: ${JSON.stringify(part)}\r\n\r\n`))
  const sse = ['?alt=sse', 'text/event-stream'] as const

  test('of two candidates is settled when both have ended', async () => {
    const body = { ...BODY, generationConfig: { maxOutputTokens: 50, candidateCount: 2 } }
    const first = { candidates: [{ index: 0, finishReason: 'STOP' }], usageMetadata: usageOf(9) }
    const second = { candidates: [{ index: 1, finishReason: 'MAX_TOKENS' }], usageMetadata: usageOf(30) }
    const site = await openGemini()
    await stream(site, ...sse, events(first, second), body)
    await stream(site, ...sse, events(first), body)
    expect(site.ends()).toEqual([
      ['settled', 20 * 150 + 30 * 600],
      ['charged', expect.any(Number)],
    ])
  })

  test('counts what comes after its end', async () => {
    const site = await openGemini()
    await stream(site, ...sse, events(...CHUNKS, { usageMetadata: usageOf(14, 5) }))
    expect(site.ends()).toEqual([['settled', 20 * 150 + 19 * 600]])
  })

  test('whose prompt is blocked is settled at the prompt', async () => {
    const site = await openGemini()
    const blocked = { promptFeedback: { blockReason: 'SAFETY' }, usageMetadata: { promptTokenCount: 20, totalTokenCount: 20 } }
    await stream(site, ...sse, events(blocked))
    expect(site.ends()).toEqual([['settled', 20 * 150]])
  })

  test('that ends with a count that does not add up is charged at worst', async () => {
    const site = await openGemini()
    await stream(site, ...sse, events(...CHUNKS, { usageMetadata: { ...usageOf(12), totalTokenCount: 20 } }))
    expect(site.ends()).toEqual([['charged', expect.any(Number)]])
  })
})
