// Streams, cut wherever a network may cut them: what the caller reads is what the provider sent, byte for byte,
// but for the usage that only holdfast asked for; and what is settled never depends on the cuts.

import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createEventSplitter, dataOf } from '../../integrations/transport/sse.ts'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { SUITE_MODEL, readAll, type Bench } from '../../src/testing/integration-bench.ts'
import { startProvider, type SimulatedProvider } from '../../src/testing/provider.ts'
import { chatBody, endsOf, onBench, poster, replaying } from './bench.ts'

const encoder = new TextEncoder()
const bytesOf = (text: string): Uint8Array => encoder.encode(text)
const textOf = (chunks: readonly Uint8Array[]): string => Buffer.concat(chunks).toString()

/** The bytes cut at these places. */
function cutAt(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const at = [0, ...[...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b), bytes.length]
  return at.slice(1).map((end, index) => bytes.subarray(at[index], end))
}

function split(chunks: readonly Uint8Array[]): { events: string[]; rest: string } {
  const splitter = createEventSplitter()
  const events = chunks.flatMap((chunk) => splitter.push(chunk).map((event) => textOf([event])))
  return { events, rest: textOf([splitter.rest()]) }
}

describe('the splitter', () => {
  const line = fc.string({ unit: 'grapheme', maxLength: 12 }).map((text) => text.replaceAll(/[\r\n]/g, ''))
  const event = fc
    .tuple(
      fc.array(
        line.filter((text) => text !== ''),
        { minLength: 1, maxLength: 4 },
      ),
      fc.constantFrom('\n', '\r\n'),
    )
    .map(([lines, newline]) => lines.map((one) => `data: ${one}${newline}`).join('') + newline)

  test('finds the same events wherever the bytes are cut, and loses none of them', () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 6 }), line, fc.array(fc.nat(), { maxLength: 12 }), (events, rest, places) => {
        expect(split(cutAt(bytesOf(events.join('') + rest), places))).toEqual({ events, rest })
      }),
      { numRuns: 500 },
    )
  })

  test('finds them when every byte comes by itself', () => {
    const events = ['data: näher an der See 🌊\n\n', 'event: x\r\ndata: 1\r\ndata: 2\r\n\r\n', ': comment\n\n', '\n']
    const bytes = bytesOf(events.join(''))
    expect(split(Array.from(bytes, (_, at) => bytes.subarray(at, at + 1)))).toEqual({ events, rest: '' })
  })

  test('a blank line of spaces ends no event', () => {
    expect(split([bytesOf('data: 1\n \ndata: 2\n\n')])).toEqual({ events: ['data: 1\n \ndata: 2\n\n'], rest: '' })
  })

  test('takes an event of 5 MB, and refuses one that is no event of any provider', () => {
    const big = `data: ${'x'.repeat(5_000_000)}\n\n`
    const places = Array.from({ length: 300 }, (_, index) => index * 16_384)
    expect(split(cutAt(bytesOf(big), places)).events).toEqual([big])
    const splitter = createEventSplitter()
    const megabyte = new Uint8Array(1024 * 1024).fill(120)
    expect(() => {
      for (let count = 0; count < 40; count++) splitter.push(megabyte)
    }).toThrow(RangeError)
  })

  test('reads the data of an event as the standard says: lines joined, one space dropped, other fields left out', () => {
    expect(dataOf(bytesOf('event: a\ndata: one\ndata:two\r\ndata:  three\nid: 4\n\n'))).toBe('one\ntwo\n three')
    expect(dataOf(bytesOf(': ping\n\n'))).toBe('')
  })
})

/** Streams these bytes through a guard and reads them to their end. */
async function streamed(bench: Bench, chunks: readonly Uint8Array[], body = chatBody({ stream: true })): Promise<string> {
  const response = await poster(bench, { fetch: replaying(chunks) })(body)
  return readAll(response.body!.pipeThrough(new TextDecoderStream()))
}

/** A `fetch` whose answer breaks off after these bytes. */
function breakingAfter(bytes: Uint8Array): typeof fetch {
  return async () => {
    const chunks = [bytes]
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        const chunk = chunks.pop()
        if (chunk === undefined) controller.error(new Error('the line is dead'))
        else controller.enqueue(chunk)
      },
    })
    return new Response(body, { headers: { 'content-type': 'text/event-stream' } })
  }
}

const usageOf = (tokens: number) => ({ prompt_tokens: 4, completion_tokens: tokens, total_tokens: 4 + tokens })
const chunkOf = (tokens: number, choices: readonly object[]) => `data: ${JSON.stringify({ id: 'x', choices, usage: usageOf(tokens) })}\n\n`

describe('a metered stream', () => {
  let provider: SimulatedProvider
  /** A real answer with usage, as it came over the wire. */
  let recorded: Uint8Array
  let cost: number

  beforeAll(async () => {
    provider = await startProvider({
      script: () => ({ text: 'nine ships 🚢🚢 und ein Kutter', usage: { inputTokens: 9, cachedTokens: 3, outputTokens: 8 } }),
    })
    const response = await fetch(`${provider.baseURL}/chat/completions`, {
      method: 'POST',
      body: chatBody({ stream: true, stream_options: { include_usage: true } }),
    })
    recorded = new Uint8Array(await response.arrayBuffer())
    cost = provider.bill().nanoUsd
  })
  afterAll(() => provider.close())

  /** The recorded answer without the event that holds its usage. */
  const withoutUsage = (): string =>
    textOf([recorded])
      .split(/(?<=\n\n)/)
      .filter((event) => !event.includes('"usage":{'))
      .join('')

  test('reads the same and costs the same wherever it is cut, and hides the usage that nobody asked for', () =>
    onBench({}, async (bench) => {
      let runs = 0
      await fc.assert(
        fc.asyncProperty(fc.array(fc.nat(), { maxLength: 40 }), async (places) => {
          runs += 1
          expect(await streamed(bench, cutAt(recorded, places))).toBe(withoutUsage())
          expect(await bench.spent()).toBe(runs * cost)
        }),
        { numRuns: 100, endOnFailure: true },
      )
      expect(withoutUsage()).not.toBe(textOf([recorded]))
    }))

  test('is passed on byte for byte when its caller asked for the usage himself', () =>
    onBench({}, async (bench) => {
      const asked = chatBody({ stream: true, stream_options: { include_usage: true } })
      const single = Array.from(recorded, (_, at) => recorded.subarray(at, at + 1))
      expect(await streamed(bench, single, asked)).toBe(textOf([recorded]))
      expect(await bench.spent()).toBe(cost)
    }))

  test('with CRLF between its lines costs the same', () =>
    onBench({}, async (bench) => {
      const crlf = bytesOf(textOf([recorded]).replaceAll('\n', '\r\n'))
      expect(await streamed(bench, cutAt(crlf, [77, 78, 79, 500]))).toBe(withoutUsage().replaceAll('\n', '\r\n'))
      expect(await bench.spent()).toBe(cost)
    }))

  test('without a last newline is settled all the same', () =>
    onBench({}, async (bench) => {
      const end = textOf([recorded]).replace('data: [DONE]\n\n', '')
      for (const cut of [end, end.trimEnd(), `${end}data: [DONE]`]) await streamed(bench, [bytesOf(cut)])
      expect(await endsOf(bench)).toEqual(['settled', 'settled', 'settled'])
    }))

  test('with a usage that grows in every chunk is settled at the last one, and no chunk is lost', () =>
    onBench({}, async (bench) => {
      const text = [1, 2, 3].map((tokens) => chunkOf(tokens, [{ delta: {} }])).join('')
      const done = 'data: [DONE]\n\n'
      expect(await streamed(bench, [bytesOf(text + chunkOf(3, [])), bytesOf(done)])).toBe(text + done)
      expect(await bench.spent()).toBe(4 * 150 + 3 * 600)
    }))

  test('that talks about usage in its text is not mistaken for one that reports it', () =>
    onBench({}, async (bench) => {
      const content = '{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
      const chatter = bytesOf(`data: ${JSON.stringify({ id: 'x', choices: [{ delta: { content } }] })}\n\n`)
      const body = await streamed(bench, [chatter, recorded])
      expect(body).toBe(textOf([chatter]) + withoutUsage())
      expect(await bench.spent()).toBe(cost)
    }))

  test.each([
    ['after its usage is settled with it', ['settled'], (bytes: Uint8Array) => bytes.length - 'data: [DONE]\n\n'.length],
    ['before its usage is charged at worst', ['charged'], () => 300],
  ])('that breaks off %s', (_, ends, place) =>
    onBench({}, async (bench) => {
      const response = await poster(bench, { fetch: breakingAfter(recorded.subarray(0, place(recorded))) })(chatBody({ stream: true }))
      await expect(response.text()).rejects.toThrow('the line is dead')
      expect(await endsOf(bench)).toEqual(ends)
    }),
  )

  test('with an event that is longer than any is cut off there and charged, and its connection is closed', () =>
    onBench({}, async (bench) => {
      let cancelled = false
      const megabyte = new Uint8Array(1024 * 1024).fill(120)
      const fetch: typeof globalThis.fetch = async (_url, init) => {
        init!.signal!.addEventListener('abort', () => (cancelled = true))
        return replaying(Array.from({ length: 40 }, () => megabyte))('')
      }
      const response = await poster(bench, { fetch })(chatBody({ stream: true }))
      await expect(response.text()).rejects.toThrow(/longer than/)
      expect(cancelled).toBe(true)
      expect(await endsOf(bench)).toEqual(['charged'])
    }))

  test('that is left in the middle of an endless event is cut off, and its connection is closed', () =>
    onBench({}, async (bench) => {
      let closed = false
      const megabyte = new Uint8Array(1024 * 1024).fill(120)
      const fetch: typeof globalThis.fetch = async (_url, init) => {
        init!.signal!.addEventListener('abort', () => (closed = true))
        return replaying([bytesOf('data: {"choices":[]}\n\n'), ...Array.from({ length: 40 }, () => megabyte)])('')
      }
      const reader = (await poster(bench, { fetch })(chatBody({ stream: true }))).body!.getReader()
      await reader.read()
      await reader.cancel()
      expect(await endsOf(bench)).toEqual(['charged'])
      expect(closed).toBe(true)
    }))

  test('that is left is settled even when its usage comes without a last newline', () =>
    onBench({}, async (bench) => {
      const end = textOf([recorded]).replace('data: [DONE]\n\n', '').trimEnd()
      const first = end.indexOf('\n\n') + 2
      const fetch = replaying([bytesOf(end.slice(0, first)), bytesOf(end.slice(first))])
      const reader = (await poster(bench, { fetch })(chatBody({ stream: true }))).body!.getReader()
      await reader.read()
      await reader.cancel()
      expect(await endsOf(bench)).toEqual(['settled'])
      expect(await bench.spent()).toBe(cost)
    }))

  test.each(['Text/Event-Stream; Charset=UTF-8', undefined, 'text/plain', 'application/octet-stream'])(
    'is passed on as it comes, and settled, when its type is %s',
    (type) =>
      onBench({}, async (bench) => {
        let handedOut = false
        const chunks = cutAt(recorded, [recorded.indexOf(10) + 2])
        const body = new ReadableStream<Uint8Array>(
          {
            pull(controller) {
              if (chunks.length === 1 && !handedOut) controller.error(new Error('it was read to its end before its caller had it'))
              else if (chunks.length > 0) controller.enqueue(chunks.shift()!)
              else controller.close()
            },
          },
          { highWaterMark: 0 },
        )
        const fetch = async (): Promise<Response> => new Response(body, type === undefined ? {} : { headers: { 'content-type': type } })
        const response = await poster(bench, { fetch })(chatBody({ stream: true }))
        handedOut = true
        expect(await response.text()).toBe(withoutUsage())
        expect(await bench.spent()).toBe(cost)
      }),
  )

  test.each([
    ['application/json', 'settled'],
    ['Application/Problem+JSON; charset=utf-8', 'settled'],
    ['text/html', 'charged'],
  ])('that came as %s instead is no stream, and is passed on whole', (type, end) =>
    onBench({}, async (bench) => {
      const text = `{"id":"x","choices":[],"usage":${JSON.stringify(usageOf(2))}}`
      const answer = end === 'settled' ? text : `<html>${text}</html>`
      const response = await poster(bench, { fetch: replaying([bytesOf(answer)], type) })(chatBody({ stream: true }))
      expect(await response.text()).toBe(answer)
      expect(await endsOf(bench)).toEqual([end])
    }),
  )

  test.each(['completed', 'incomplete', 'failed'])('of the Responses API is settled by its response.%s event', (end) =>
    onBench({}, async (bench) => {
      const usage = { input_tokens: 5, output_tokens: 2, total_tokens: 7 }
      const events = [
        { type: 'response.created', response: { id: 'resp_1', usage: null } },
        { type: `response.${end}`, response: { id: 'resp_1', usage } },
      ]
      const text = events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join('')
      const guarded = guardFetch(bench.scope, { fetch: replaying(cutAt(bytesOf(text), [3, 80, 111])) })
      const body = JSON.stringify({ model: SUITE_MODEL, input: 'hello', stream: true })
      const response = await guarded(`${bench.provider.baseURL}/responses`, { method: 'POST', body })
      expect(await response.text()).toBe(text)
      expect(await bench.spent()).toBe(5 * 150 + 2 * 600)
    }),
  )
})
