// A provider that is simulated up to the socket: a real HTTP server on 127.0.0.1 that speaks the wire formats of
// OpenAI, Anthropic and Gemini, misbehaves on request and keeps the bill. The bill is the truth that budgets are
// tested against, so it charges at the worst moment for a budget: in full, before the first byte of an answer.

import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setImmediate as turn, setTimeout as wait } from 'node:timers/promises'
import { assertAmount } from '../lib/amounts.ts'
import { newId } from '../lib/ids.ts'
import { faultOf, openaiWriter, planAnswer, type AnswerWriter, type Plan, type WireFault } from './provider-answers.ts'
import { messagesWriter } from './provider-anthropic.ts'
import { createBook, type Book, type Line } from './provider-book.ts'
import { googleCallOf } from './provider-google.ts'
import { createMedia, sendReply, type Media, type MediaAnswer, type MediaRequest } from './provider-media.ts'

/** Tokens of one request, on every endpoint: cached tokens are part of the input, reasoning tokens part of the output. */
export interface ProviderUsage {
  /** From 0 to 1e9, as all counts here. */
  readonly inputTokens: number
  /** @default 0 */
  readonly cachedTokens?: number
  /** Of all choices together; never billed beyond the request's cap times `n`. */
  readonly outputTokens: number
  /** @default 0 */
  readonly reasoningTokens?: number
}

/** A function that the model asks for. */
export interface ProviderToolCall {
  readonly name: string
  /** Sent as JSON; a string is sent as it is, so that broken arguments can be scripted. */
  readonly arguments: unknown
}

/**
 * How the provider misbehaves. All of these are billed in full, whatever `status` and `errorBody` say:
 * - `drop-before-headers`: the socket is destroyed before any byte of the answer
 * - `drop-mid-stream`: the socket is destroyed after half of the answer
 * - `hang`: no byte ever comes; the request stays open until the client leaves or the provider is closed
 * - `malformed-sse`: an event in the middle is broken JSON, the rest follows; without streaming, half of the body
 * - `error-but-billed`: a 500 (or the scripted status) for an answer that was generated and is charged
 */
export type ProviderFault = 'drop-before-headers' | 'drop-mid-stream' | 'hang' | 'malformed-sse' | 'error-but-billed'

/** A well-formed request that reached the provider. */
export interface ProviderRequest {
  /** 0 for the first one since the start or the last reset; each retry of a client is a request of its own. */
  readonly index: number
  readonly endpoint: 'chat' | 'responses' | 'messages' | 'google'
  readonly body: Record<string, unknown>
  readonly headers: IncomingHttpHeaders
}

/** What the provider does with one request. An empty object is an echo of the last user message. */
export interface ProviderAnswer {
  /** @default an echo of the last user message, or nothing next to tool calls */
  readonly text?: string
  /** At most 128. Cut like text when the cap is reached, so arguments may end in the middle. */
  readonly toolCalls?: readonly ProviderToolCall[]
  /**
   * What is billed and reported; `omit` bills the default and reports nothing, which on `messages` are zeros.
   * @default a quarter of the UTF-8 bytes of the input and of what is sent, rounded up
   */
  readonly usage?: ProviderUsage | 'omit'
  /**
   * From 200 to 599. Anything but 200 is an error and bills nothing.
   * @default 200
   */
  readonly status?: number
  /** Body in place of an answer, such as the HTML page of a proxy; bills nothing, whatever the status. */
  readonly errorBody?: string
  /** @default application/json, or text/event-stream for a stream */
  readonly contentType?: string
  readonly fault?: ProviderFault
  /** Milliseconds between billing and the first byte, at most 600,000. */
  readonly delayMs?: number
  /** Milliseconds before each event of a stream, at most 600,000. */
  readonly chunkDelayMs?: number
  /** @default 'default' */
  readonly serviceTier?: string
}

/** Nano-USD per token; whole numbers. */
export interface ProviderPrices {
  /** Of an input token that is not cached. */
  readonly input: number
  readonly cachedInput: number
  readonly output: number
}

/** Options of {@link startProvider}. */
export interface ProviderOptions {
  /** @default those of gpt-4o-mini: 150, 75 and 600 */
  readonly prices?: ProviderPrices
  /**
   * Decides each answer. What it throws is answered as a 422, which clients do not retry, and is not billed.
   * @default an echo of the last user message
   */
  readonly script?: (request: ProviderRequest) => ProviderAnswer
  /** Decides the answers of the other endpoints, and of responses in the background. @default the defaults of {@link MediaAnswer} */
  readonly media?: (request: MediaRequest) => MediaAnswer
}

/** What one request cost. */
export interface BillLine {
  /** The id that the answer carries, such as `chatcmpl-…`, `resp_…` or `msg_…`. */
  readonly id: string
  /** That of the request, or the path of another endpoint below `/v1/`. */
  readonly endpoint: string
  readonly model: string
  readonly inputTokens: number
  readonly cachedTokens: number
  readonly outputTokens: number
  readonly nanoUsd: number
  /**
   * True once the whole answer, usage included, was written to a client that was still there. So it stays
   * false after a fault, for omitted usage, and for a chat stream without `include_usage`.
   */
  readonly completed: boolean
  /** When it was charged; Unix time in milliseconds. */
  readonly at: number
}

/** What the provider charges, since the start or the last reset. */
export interface Bill {
  /** POSTs that reached an endpoint, those that were refused included. */
  readonly requests: number
  /** Requests that were charged. */
  readonly billed: number
  readonly nanoUsd: number
  /** The last 100,000 charges, oldest first; the totals above cover all of them. */
  readonly lines: readonly BillLine[]
}

/** A running provider. */
export interface SimulatedProvider {
  /** Ends in `/v1`; give it to a client as its base URL. */
  readonly baseURL: string
  readonly port: number
  /** The bill as it stands; a copy. */
  bill(): Bill
  /** The well-formed requests, oldest first: the last 10,000, and fewer when their bodies exceed 64 MB. */
  requests(): readonly ProviderRequest[]
  /** Empties the bill and the request log and counts requests from 0 again. */
  reset(): void
  /** Destroys open connections, hanging ones too, and frees the port. May be called again. */
  close(): Promise<void>
}

const DEFAULT_PRICES: ProviderPrices = { input: 150, cachedInput: 75, output: 600 }
const ENDPOINTS: ReadonlyMap<string, ProviderRequest['endpoint']> = new Map([
  ['/v1/chat/completions', 'chat'],
  ['/v1/responses', 'responses'],
  ['/v1/messages', 'messages'],
])
const MODELS = JSON.stringify({
  object: 'list',
  data: ['gpt-4o', 'gpt-4o-mini'].map((id) => ({ id, object: 'model', created: 0, owned_by: 'holdfast' })),
})
const MAX_BODY_BYTES = 10_000_000
const MAX_DISCARDED_BYTES = 100_000_000
const MAX_CONNECTIONS = 10_000
const MAX_DELAY_MS = 600_000

/**
 * A script that gives these answers in order, one for each request, and then the last one again and again.
 *
 * @throws {RangeError} When there is none.
 */
export function scriptOf(answers: readonly ProviderAnswer[]): (request: ProviderRequest) => ProviderAnswer {
  if (answers.length === 0) throw new RangeError('Expected `answers` to hold at least one answer, got none.')
  return ({ index }) => answers[Math.min(index, answers.length - 1)]!
}

/**
 * Starts a provider on a free port of 127.0.0.1. It serves `POST /v1/chat/completions`, `POST /v1/responses`,
 * `POST /v1/messages`, `POST /v1beta/models/{model}:generateContent` (and `:streamGenerateContent`) and
 * `GET /v1/models`, takes any API key, and keeps the process alive until it is closed.
 *
 * @throws {TypeError} For a price that is not a whole number.
 * @throws {RangeError} For a negative price.
 */
export async function startProvider(options: ProviderOptions = {}): Promise<SimulatedProvider> {
  const prices = options.prices ?? DEFAULT_PRICES
  for (const field of ['input', 'cachedInput', 'output'] as const) assertAmount(`prices.${field}`, prices[field])
  const script = options.script ?? (() => ({}))
  const book = createBook(prices)
  const media = createMedia(options.media ?? (() => ({})), (line) => book.chargeMedia(line))
  const server = createServer((incoming, outgoing) => {
    // What is thrown here is a client that left; its connection is all there is to clean up.
    serve({ book, script, media }, incoming, outgoing).catch(() => outgoing.destroy())
  })
  // An idle connection that the server closes just as a client reuses it looks like a fault nobody scripted.
  server.keepAliveTimeout = 0
  server.maxConnections = MAX_CONNECTIONS
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    baseURL: `http://127.0.0.1:${port}/v1`,
    port,
    bill: () => book.bill(),
    requests: () => book.requests(),
    reset() {
      book.reset()
      media.reset()
    },
    async close() {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
}

interface Site {
  readonly book: Book
  readonly script: (request: ProviderRequest) => ProviderAnswer
  readonly media: Media
}

async function serve({ book, script, media }: Site, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const path = (incoming.url ?? '').split('?', 1)[0]!
  outgoing.setHeader('x-request-id', `req_${newId()}`)
  if (incoming.method === 'GET' && path === '/v1/models') return sendText(outgoing, 200, MODELS)
  const google = googleCallOf(incoming.method, incoming.url ?? '')
  const endpoint = google !== undefined ? 'google' : incoming.method === 'POST' ? ENDPOINTS.get(path) : undefined
  const writer = google?.writer ?? (endpoint === 'messages' ? messagesWriter : openaiWriter)
  if (endpoint === 'messages') outgoing.setHeader('request-id', `req_${newId()}`)
  const bytes = await readBody(incoming)
  const reply = await media.reply(incoming, bytes)
  if (incoming.method === 'POST' && (reply ?? endpoint) !== undefined) book.arrived()
  if (reply !== undefined) return sendReply(outgoing, reply)
  if (endpoint === undefined) return sendFault(outgoing, 404, { message: `Unknown request URL: ${incoming.method} ${path}.` })
  if (bytes === undefined) return sendFault(outgoing, 413, { message: `The body is over ${MAX_BODY_BYTES} bytes.` })
  const body = parseObject(bytes)
  if (body === undefined) return sendFault(outgoing, 400, { message: 'We could not parse the JSON body of your request.' })
  const asked = google === undefined ? { endpoint, body } : ({ endpoint: 'responses', body: google.read(body) } as const)
  const fault = faultOf(asked.endpoint, asked.body)
  if (fault !== undefined) return sendFault(outgoing, 400, fault, writer)
  const request = book.record({ endpoint, body, headers: incoming.headers }, bytes.length)
  let answer: ProviderAnswer
  let plan: Plan | undefined
  let line: Line | undefined
  try {
    answer = script(request)
    checkAnswer(answer)
    plan = isFree(answer) ? undefined : { ...planAnswer({ ...request, ...asked }, answer), endpoint }
    line = plan && book.charge(plan)
  } catch (error) {
    // A 422 is retried by no client, so a mistake in a script shows once.
    return sendFault(
      outgoing,
      422,
      { message: `The script of the simulated provider failed: ${String(error)}`, code: 'script_error' },
      writer,
    )
  }
  await respond(outgoing, answer, { plan, line, writer })
}

/** True for an answer that is an error by script, which is never charged. */
function isFree({ fault, status, errorBody }: ProviderAnswer): boolean {
  return fault === undefined && (errorBody !== undefined || (status ?? 200) !== 200)
}

function checkAnswer(answer: ProviderAnswer): void {
  const within = (field: 'status' | 'delayMs' | 'chunkDelayMs', least: number, most: number): void => {
    const value = answer[field] ?? least
    if (!(value >= least && value <= most)) throw new RangeError(`Expected \`${field}\` to be from ${least} to ${most}, got \`${value}\`.`)
  }
  within('status', 200, 599)
  within('delayMs', 0, MAX_DELAY_MS)
  within('chunkDelayMs', 0, MAX_DELAY_MS)
}

/** What an answer says, what it costs, and whose words it is in. */
type Written = { readonly plan: Plan | undefined; readonly line: Line | undefined; readonly writer: AnswerWriter }

async function respond(outgoing: ServerResponse, answer: ProviderAnswer, { plan, line, writer }: Written): Promise<void> {
  const { fault, contentType } = answer
  if (fault === 'hang') return
  const gone = new AbortController()
  outgoing.once('close', () => gone.abort())
  if (outgoing.destroyed) gone.abort()
  await pause(answer.delayMs, gone.signal)
  if (fault === 'drop-before-headers') return void outgoing.destroy()
  if (contentType !== undefined) outgoing.setHeader('content-type', contentType)
  if (plan === undefined || fault === 'error-but-billed') {
    const status = answer.status ?? (plan === undefined ? 200 : 500)
    if (answer.errorBody === undefined) return sendFault(outgoing, status, { message: 'A simulated failure.' }, writer)
    return sendText(outgoing, status, answer.errorBody)
  }
  outgoing.once('finish', () => {
    if (line !== undefined) line.completed = plan.told && fault === undefined
  })
  if (plan.body['stream'] === true) {
    if (contentType === undefined) outgoing.setHeader('content-type', writer.streamType)
    return stream(outgoing, answer, writer.framesOf(plan), gone.signal)
  }
  const text = JSON.stringify(writer.bodyOf(plan))
  const half = text.slice(0, text.length / 2)
  if (fault !== 'drop-mid-stream') return sendText(outgoing, 200, fault === 'malformed-sse' ? half : text)
  outgoing.setHeader('content-length', Buffer.byteLength(text))
  outgoing.write(half)
  await pause(0, gone.signal)
  outgoing.destroy()
}

async function stream(outgoing: ServerResponse, answer: ProviderAnswer, frames: string[], signal: AbortSignal): Promise<void> {
  const middle = Math.floor(frames.length / 2)
  outgoing.flushHeaders()
  for (const [at, frame] of frames.entries()) {
    // A turn of the event loop even without a delay: each event goes out on its own, and a client can leave.
    await pause(answer.chunkDelayMs, signal)
    if (at === middle && answer.fault === 'drop-mid-stream') return void outgoing.destroy()
    // Without its last brace the JSON of an event is broken, and the events around it stay readable.
    const sent = at === middle && answer.fault === 'malformed-sse' ? frame.replace(/\}(?=[\r\n]*$)/, '') : frame
    if (!outgoing.write(sent)) await once(outgoing, 'drain', { signal })
  }
  outgoing.end()
}

async function pause(ms: number | undefined, signal: AbortSignal): Promise<void> {
  await (ms === undefined || ms === 0 ? turn(undefined, { signal }) : wait(ms, undefined, { signal }))
}

/** The body, or nothing when it is too long. Too long is read to its end, since a client that still writes reads no answer. */
async function readBody(incoming: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MAX_DISCARDED_BYTES) throw new RangeError('The body does not end.')
    if (size <= MAX_BODY_BYTES) chunks.push(chunk)
  }
  return size > MAX_BODY_BYTES ? undefined : Buffer.concat(chunks)
}

function parseObject(bytes: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'))
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

function sendFault(outgoing: ServerResponse, status: number, fault: WireFault, writer = openaiWriter): void {
  sendText(outgoing, status, JSON.stringify(writer.faultBodyOf(status, fault)))
}

function sendText(outgoing: ServerResponse, status: number, text: string): void {
  if (!outgoing.hasHeader('content-type')) outgoing.setHeader('content-type', 'application/json')
  outgoing.writeHead(status, { 'content-length': Buffer.byteLength(text) })
  outgoing.end(text)
}
