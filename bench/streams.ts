// What the transport guard adds to a stream: time to its first token, time for each chunk, and memory while it is open.
// Bare and guarded in turn, over real HTTP, from a server in a process of its own. Both ask for usage.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { guardFetch } from '../integrations/transport/guard-fetch.ts'
import { memoryStore, openKernel } from '../src/index.ts'
import { median, type Row } from './measure.ts'

const CHUNKS = 2_000
const STREAMS = 1_000
const MEMORY_ROUNDS = 3
const PROMPT = 'word '.repeat(100)

type Post = (chunks: number, more?: object) => Promise<Response>

/** Rows of the stream meter. */
export async function streamRows(ms: number): Promise<readonly Row[]> {
  const server = fork(join(import.meta.dirname, 'streams-server.ts'), { execArgv: [] })
  const [port] = (await once(server, 'message')) as [number]
  const kernel = await openKernel({ store: memoryStore(), budgets: { acme: { usd: 9_000_000 } }, onEvent: () => undefined })
  const guard = guardFetch(kernel.scope({ agent: 'bench', task: 'bench', budget: 'acme' }), { maxDrains: 0 })
  const [bare, guarded] = [poster(fetch, port), poster(guard, port)]
  try {
    return [await firstTokenRow(ms, bare, guarded), await chunkRow(ms, bare, guarded), await memoryRow(bare, guarded)]
  } finally {
    await kernel.close()
    server.kill()
  }
}

function poster(send: typeof fetch, port: number): Post {
  return (chunks, more = {}) => {
    const request = { model: 'gpt-4o-mini', max_tokens: chunks, messages: [{ role: 'user', content: PROMPT }], stream: true }
    const body = JSON.stringify({ ...request, stream_options: { include_usage: true }, ...more })
    return send(`http://127.0.0.1:${port}/v1/chat/completions`, { method: 'POST', body })
  }
}

/** Reads a stream to its end; returns the time to its first chunk, ms. */
async function readWhole(post: Post, chunks: number): Promise<number> {
  const startedAt = performance.now()
  const reader = (await post(chunks)).body!.getReader()
  await reader.read()
  const firstMs = performance.now() - startedAt
  while (!(await reader.read()).done);
  return firstMs
}

async function firstTokenRow(ms: number, bare: Post, guarded: Post): Promise<Row> {
  const samples: { readonly bare: number[]; readonly guarded: number[] } = { bare: [], guarded: [] }
  for (const until = performance.now() + 2 * ms; performance.now() < until;) {
    samples.bare.push(await readWhole(bare, 3))
    samples.guarded.push(await readWhole(guarded, 3))
  }
  const [without, under] = [median(samples.bare), median(samples.guarded)]
  const added = under - without
  return {
    what: 'stream, time to the first token: added at p50',
    figure: `${added.toFixed(3)} ms`,
    yardstick: `${without.toFixed(3)} ms without`,
    ratio: under / without,
    target: '<= 1 ms',
    met: added <= 1,
  }
}

async function chunkRow(ms: number, bare: Post, guarded: Post): Promise<Row> {
  const samples: { readonly bare: number[]; readonly guarded: number[] } = { bare: [], guarded: [] }
  for (const post of [bare, guarded]) await cpuOf(post)
  for (const until = performance.now() + 4 * ms; performance.now() < until;) {
    samples.bare.push(await cpuOf(bare))
    samples.guarded.push(await cpuOf(guarded))
  }
  const [without, under] = [median(samples.bare), median(samples.guarded)]
  const added = under - without
  return {
    what: `stream of ${CHUNKS.toLocaleString('en-US')} chunks, processor time for each: added at p50`,
    figure: `${added.toFixed(2)} us`,
    yardstick: `${without.toFixed(2)} us without`,
    ratio: under / without,
    target: '<= 5 us',
    met: added <= 5,
  }
}

/** Microseconds of this process for each chunk of a stream; the time on the clock is that of the server. */
async function cpuOf(post: Post): Promise<number> {
  const before = process.cpuUsage()
  await readWhole(post, CHUNKS)
  const { user, system } = process.cpuUsage(before)
  return (user + system) / CHUNKS
}

async function memoryRow(bare: Post, guarded: Post): Promise<Row> {
  const samples: { readonly bare: number[]; readonly guarded: number[] } = { bare: [], guarded: [] }
  // The first of each pays for what is made once.
  for (const post of [bare, guarded]) await bytesOpen(post)
  for (let round = 0; round < MEMORY_ROUNDS; round++) {
    samples.bare.push(await bytesOpen(bare))
    samples.guarded.push(await bytesOpen(guarded))
  }
  const [without, under] = [median(samples.bare), median(samples.guarded)]
  return {
    what: `memory of a stream that is open, of ${STREAMS.toLocaleString('en-US')} at once: added`,
    figure: `${Math.round(under - without).toLocaleString('en-US')} bytes`,
    yardstick: `${Math.round(without).toLocaleString('en-US')} bytes without`,
    ratio: under / without,
    target: '<= 32,768 bytes',
    met: under - without <= 32_768,
  }
}

/** Bytes that one of many open streams holds in this process, each with a chunk read. */
async function bytesOpen(post: Post): Promise<number> {
  // Sockets of the last time are closed, and what they held is collected, in later turns of the event loop.
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  const before = used()
  const readers: ReadableStreamDefaultReader<Uint8Array>[] = []
  for (let opened = 0; opened < STREAMS; opened += 100)
    readers.push(...(await Promise.all(Array.from({ length: 100 }, async () => (await post(1, { n: 2 })).body!.getReader()))))
  await Promise.all(readers.map((reader) => reader.read()))
  const after = used()
  await Promise.all(readers.map((reader) => reader.cancel()))
  return (after - before) / STREAMS
}

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

function used(): number {
  for (let times = 0; times < 5; times++) collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}
