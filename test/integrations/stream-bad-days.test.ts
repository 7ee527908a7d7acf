// What a network and a server can do to a stream, over real sockets: broken after every event, split at every byte, read
// too slowly, an event too long for one read, usage that comes twice or too early.

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { sleep } from '../../src/lib/clock.ts'
import { until, type Bench } from '../../src/testing/integration-bench.ts'
import { chatBody, endsOf, onBench, poster, replaying } from './bench.ts'
import { DONE, deltaEvent, openTap, usageEvent } from './tap.ts'

const MEGABYTE = 1024 * 1024
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)
const post = (bench: Bench, url: string): Promise<Response> =>
  guardFetch(bench.scope)(`${url}/chat/completions`, { method: 'POST', body: chatBody({ stream: true }) })
const costOf = (outputTokens: number): number => 5 * 150 + outputTokens * 600

describe('a stream', () => {
  const last = deltaEvent('.').replace('"finish_reason":null', '"finish_reason":"stop"')
  const events = [deltaEvent('nine 🚢'), deltaEvent(' und ein Kutter'), last, usageEvent(2), DONE]

  test.each(events.map((_, index) => index))('whose socket is destroyed after event %i of 5 ends its hold once', (index) =>
    onBench({}, async (bench) => {
      const tap = await openTap()
      const response = await post(bench, tap.baseURL)
      const { response: answer } = tap.answers[0]!
      for (const event of events.slice(0, index + 1)) await new Promise((resolve) => answer.write(event, resolve))
      // So that the client has read it all: a reset throws away what it has not.
      const reader = response.body!.getReader()
      const seen = events.slice(0, Math.min(index + 1, 3)).join('')
      for (let bytes = 0; bytes < Buffer.byteLength(seen);) bytes += (await reader.read()).value!.length
      if (index >= 4) await until('it is settled', () => bench.records('outcome').length === 1)
      else await sleep(100)
      answer.destroy()
      const rest = (async () => {
        while (!(await reader.read()).done);
      })()
      await expect(rest).rejects.toThrow(TypeError)
      expect(await endsOf(bench)).toEqual([index >= 3 ? 'settled' : 'charged'])
      expect((await bench.spent()) === costOf(2)).toBe(index >= 3)
    }),
  )

  test.each(['\n', '\r\n'])('split in two at every byte, inside characters and line ends too (%j), reads and costs the same', (newline) =>
    onBench({}, async (bench) => {
      const sent = bytesOf(events.join('').replaceAll('\n', newline))
      const seen = events.toSpliced(3, 1).join('').replaceAll('\n', newline)
      for (let at = 0; at <= sent.length; at++) {
        const response = await poster(bench, { fetch: replaying([sent.subarray(0, at), sent.subarray(at)]) })(chatBody({ stream: true }))
        expect(await response.text()).toBe(seen)
      }
      expect(await bench.spent()).toBe((sent.length + 1) * costOf(2))
    }),
  )

  test('with an event of 5 MB over a real socket is passed on whole, and settled', () =>
    onBench({}, async (bench) => {
      const tap = await openTap()
      const response = await post(bench, tap.baseURL)
      const huge = 'x'.repeat(5 * MEGABYTE)
      tap.answers[0]!.say(huge)
      tap.answers[0]!.finish()
      expect((await response.text()).length).toBeGreaterThan(huge.length)
      expect(await bench.spent()).toBe(costOf(2))
    }))

  test('with its usage twice is settled at the last one', () =>
    onBench({}, async (bench) => {
      const sent = [deltaEvent('a'), usageEvent(1), usageEvent(3), DONE].map(bytesOf)
      const response = await poster(bench, { fetch: replaying(sent) })(chatBody({ stream: true }))
      expect(await response.text()).toBe(deltaEvent('a') + DONE)
      expect(await bench.spent()).toBe(costOf(3))
    }))

  test('with text after its usage is passed on to the end, and settled at what came last', () =>
    onBench({}, async (bench) => {
      const sent = [deltaEvent('a'), usageEvent(1), deltaEvent('b'), usageEvent(2), DONE].map(bytesOf)
      const response = await poster(bench, { fetch: replaying(sent) })(chatBody({ stream: true }))
      expect(await response.text()).toBe(deltaEvent('a') + deltaEvent('b') + DONE)
      expect(await bench.spent()).toBe(costOf(2))
    }))
})

/** A server that writes events as fast as its socket takes them, and counts the bytes. */
async function startFlood(megabytes: number) {
  const event = bytesOf(deltaEvent('x'.repeat(65_536 - 200)))
  let written = 0
  const server = createServer((request, response) => {
    request.resume()
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const write = (): void => {
      while (written < megabytes * MEGABYTE) {
        written += event.length
        if (!response.write(event)) return void response.once('drain', write)
      }
      response.end(usageEvent(2) + DONE)
    }
    write()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    get written() {
      return written
    },
  }
}

describe('a reader that is slow', () => {
  test('stalls the server, as it would without a guard: nothing is gathered for it', () =>
    onBench({}, async (bench) => {
      const flood = await startFlood(200)
      const response = await post(bench, flood.url)
      const reader = response.body!.getReader()
      await reader.read()
      let before = -1
      await until('the server stands still', async () => {
        const standsStill = flood.written === before
        before = flood.written
        await sleep(100)
        return standsStill && flood.written === before
      })
      // What the two sockets and the streams between them hold.
      expect(flood.written).toBeLessThan(40 * MEGABYTE)
      while (!(await reader.read()).done);
      expect(flood.written).toBeGreaterThanOrEqual(200 * MEGABYTE)
      expect(await bench.spent()).toBe(costOf(2))
    }))
})
