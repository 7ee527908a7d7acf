// The endpoints of the simulated provider beside chat and Responses: embeddings, legacy completions, images, audio,
// moderation, and responses in the background. Answers are as short as they can be; what they cost is exact.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import { newId } from '../lib/ids.ts'
import { createBatches, type BatchResult } from './provider-batches.ts'

/** A request to one of these endpoints. */
export interface MediaRequest {
  /** 0 for the first one of the provider, or of its last reset. */
  readonly index: number
  /** Path below `/v1/`, such as `images/generations`; `responses` is one in the background. */
  readonly path: string
  /** The parsed JSON, or the fields of the form; of a file its size in bytes. */
  readonly body: Readonly<Record<string, unknown>>
}

/** What the provider does with one such request. */
export interface MediaAnswer {
  /** Billed and reported tokens. @default by the endpoint: a quarter of the input's bytes, 272 for an image, 10 for the rest */
  readonly usage?: { readonly inputTokens: number; readonly outputTokens: number }
  /** False: it is billed all the same, and the answer says nothing of it. @default true */
  readonly told?: boolean
  /** Anything but 200 is an error and bills nothing. @default 200 */
  readonly status?: number
  /** How often a response in the background is seen running, its first answer included. @default 2 */
  readonly runs?: number
  /** How a response in the background ends. @default 'completed' */
  readonly ends?: 'completed' | 'failed' | 'incomplete'
  /** After how many events the socket of a stream is destroyed. @default never */
  readonly cutAfter?: number
  /** How each request of a batch ends, by its `custom_id` and place. @default all succeed */
  readonly results?: (customId: string, at: number) => BatchResult
}

/** One answer, ready to be written. */
export interface MediaReply {
  readonly status: number
  readonly type: string
  readonly body: string | Uint8Array<ArrayBuffer>
  /** Events of a stream, in place of `body`. */
  readonly frames?: readonly string[]
  readonly cutAfter?: number
}

/** What one request costs. */
export interface MediaCharge {
  readonly id: string
  readonly endpoint: string
  readonly model: string
  readonly inputTokens: number
  readonly outputTokens: number
}

/** The media side of a provider. */
export interface Media {
  /** Answers a request; nothing for a path that is not served here, or for a body that is none. */
  reply(incoming: IncomingMessage, bytes: Uint8Array | undefined): Promise<MediaReply | undefined>
  reset(): void
}

interface Running {
  readonly model: string
  readonly answer: MediaAnswer
  readonly tokens: { readonly inputTokens: number; readonly outputTokens: number }
  seen: number
  cancelled: boolean
}

const POSTS: ReadonlySet<string> = new Set([
  'embeddings',
  'completions',
  'images/generations',
  'images/edits',
  'audio/transcriptions',
  'audio/speech',
  'moderations',
])
const MAX_RUNNING = 20_000

/** Makes the media side. `charge` is called in full before the first byte of an answer. */
export function createMedia(script: (request: MediaRequest) => MediaAnswer, charge: (line: MediaCharge) => void): Media {
  let next = 0
  const running = new Map<string, Running>()
  const batches = createBatches((request) => script({ index: next++, ...request }), charge)

  function start(body: Fields, answer: MediaAnswer): MediaReply {
    const id = `resp_${newId()}`
    const tokens = answer.usage ?? { inputTokens: quarter(body['input']), outputTokens: 10 }
    charge({ id, endpoint: 'responses', model: modelOf(body), ...tokens })
    if (running.size < MAX_RUNNING) running.set(id, { model: modelOf(body), answer, tokens, seen: 0, cancelled: false })
    return body['stream'] === true ? stream(id, 0) : look(id)
  }

  function look(id: string): MediaReply {
    const run = running.get(id)
    if (run === undefined) return json({ error: { message: 'No such response.' } }, 404)
    run.seen += 1
    return json(shown(id, run))
  }

  function stream(id: string, from: number): MediaReply {
    const run = running.get(id)!
    const last = shown(id, { ...run, seen: Infinity })
    const events = [
      { type: 'response.created', response: { ...last, status: 'queued', usage: null } },
      { type: 'response.in_progress', response: { ...last, status: 'in_progress', usage: null } },
      { type: 'response.output_text.delta', delta: 'ok' },
      { type: `response.${last.status}`, response: last },
    ]
    const frames = events.map((event, at) => `event: ${event.type}\ndata: ${JSON.stringify({ ...event, sequence_number: at })}\n\n`)
    const cutAfter = from === 0 ? run.answer.cutAfter : undefined
    return { status: 200, type: 'text/event-stream', body: '', frames: frames.slice(from), ...(cutAfter === undefined ? {} : { cutAfter }) }
  }

  return {
    async reply({ method = '', url: target = '/', headers }, bytes = new Uint8Array()) {
      const url = new URL(target, `http://${headers.host ?? 'provider'}`)
      const batch = batches.reply(method, url, bytes)
      if (batch !== undefined) return batch
      const path = url.pathname.replace(/^\/v1\//, '')
      const [, id, cancel] = /^responses\/([^/]+)(\/cancel)?$/.exec(path) ?? []
      if (id !== undefined && running.has(id)) {
        if (cancel !== undefined) running.get(id)!.cancelled = true
        const from = Number(url.searchParams.get('starting_after') ?? -1) + 1
        return method === 'GET' && url.searchParams.get('stream') === 'true' ? stream(id, from) : look(id)
      }
      const isBackground = path === 'responses' && method === 'POST'
      if (method !== 'POST' || !(POSTS.has(path) || isBackground)) return undefined
      const body = await fieldsOf(new Uint8Array(bytes), headers['content-type'] ?? '')
      if (body === undefined) return undefined
      if (isBackground && body['background'] !== true) return undefined
      const answer = script({ index: next++, path, body })
      if ((answer.status ?? 200) !== 200) return json({ error: { message: 'A simulated failure.' } }, answer.status)
      return isBackground ? start(body, answer) : finish(path, body, answer, charge)
    },
    reset() {
      next = 0
      running.clear()
      batches.reset()
    },
  }
}

type Fields = Readonly<Record<string, unknown>>

/** A response in the background as it stands. */
function shown(id: string, { model, answer, tokens, seen, cancelled }: Running) {
  const { runs = 2, ends = 'completed', told = true } = answer
  const status = cancelled ? 'cancelled' : seen <= runs ? (seen <= 1 ? 'queued' : 'in_progress') : ends
  const isOver = cancelled || seen > runs
  const usage = isOver && told ? responsesUsage(tokens) : null
  return { id, object: 'response', created_at: 0, model, status, background: true, output: [], error: null, usage }
}

function finish(path: string, body: Fields, answer: MediaAnswer, charge: (line: MediaCharge) => void): MediaReply {
  const id = `${path.replace('/', '_')}_${newId()}`
  if (path === 'moderations') return json({ id, model: modelOf(body), results: [{ flagged: false }] })
  const count = path.startsWith('images/') ? Number(body['n'] ?? 1) : 1
  const tokens = answer.usage ?? {
    inputTokens: quarter(body['input'] ?? body['prompt'] ?? body),
    outputTokens: path === 'embeddings' ? 0 : path.startsWith('images/') ? 272 * count : 10,
  }
  charge({ id, endpoint: path, model: modelOf(body), ...tokens })
  const usage =
    answer.told === false ? {} : { usage: path === 'embeddings' || path === 'completions' ? chatUsage(tokens) : responsesUsage(tokens) }
  switch (path) {
    case 'embeddings':
      return json({ object: 'list', model: modelOf(body), data: vectorsOf(body), ...usage })
    case 'completions':
      return json({
        id,
        object: 'text_completion',
        model: modelOf(body),
        choices: [{ index: 0, text: 'ok', finish_reason: 'stop' }],
        ...usage,
      })
    case 'audio/speech':
      return { status: 200, type: 'audio/mpeg', body: new Uint8Array([255, 251, 0, 128, 254]) }
    case 'audio/transcriptions':
      return body['stream'] === 'true'
        ? events(
            [
              { type: 'transcript.text.delta', delta: 'ok' },
              { type: 'transcript.text.done', text: 'ok', ...usage },
            ],
            answer,
          )
        : json({ text: 'ok', ...usage })
    default:
      return body['stream'] === true || body['stream'] === 'true'
        ? events(
            [
              { type: `${nameOf(path)}.partial_image`, b64_json: 'AA==' },
              { type: `${nameOf(path)}.completed`, b64_json: 'AA==', ...usage },
            ],
            answer,
          )
        : json({ created: 0, data: Array.from({ length: count }, () => ({ b64_json: 'AA==' })), ...usage })
  }
}

function nameOf(path: string): string {
  return path === 'images/edits' ? 'image_edit' : 'image_generation'
}

function events(list: readonly Readonly<{ type: string } & Record<string, unknown>>[], { cutAfter }: MediaAnswer): MediaReply {
  const frames = list.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`)
  return { status: 200, type: 'text/event-stream', body: '', frames, ...(cutAfter === undefined ? {} : { cutAfter }) }
}

function json(body: object, status = 200): MediaReply {
  return { status, type: 'application/json', body: JSON.stringify(body) }
}

/** One vector for each input, in the encoding that was asked for. */
function vectorsOf({ input, encoding_format: format }: Fields): readonly object[] {
  const count = Array.isArray(input) && typeof input[0] !== 'number' ? input.length : 1
  const embedding = format === 'base64' ? Buffer.from(new Float32Array([0.5, -0.5]).buffer).toString('base64') : [0.5, -0.5]
  return Array.from({ length: count }, (_, index) => ({ object: 'embedding', index, embedding }))
}

function chatUsage({ inputTokens, outputTokens }: { inputTokens: number; outputTokens: number }): object {
  const completion = outputTokens === 0 ? {} : { completion_tokens: outputTokens }
  return { prompt_tokens: inputTokens, ...completion, total_tokens: inputTokens + outputTokens }
}

function responsesUsage({ inputTokens, outputTokens }: { inputTokens: number; outputTokens: number }): object {
  return { input_tokens: inputTokens, output_tokens: outputTokens, total_tokens: inputTokens + outputTokens }
}

function modelOf({ model }: Fields): string {
  return typeof model === 'string' ? model : ''
}

function quarter(value: unknown): number {
  return Math.max(1, Math.ceil(Buffer.byteLength(typeof value === 'string' ? value : (JSON.stringify(value) ?? '')) / 4))
}

async function fieldsOf(bytes: Uint8Array<ArrayBuffer>, type: string): Promise<Fields | undefined> {
  try {
    if (!type.startsWith('multipart/form-data')) return JSON.parse(Buffer.from(bytes).toString('utf8')) as Fields
    const form = await new Response(bytes, { headers: { 'content-type': type } }).formData()
    return Object.fromEntries([...form].map(([name, value]) => [name, typeof value === 'string' ? value : value.size]))
  } catch {
    // What is neither JSON nor a form is answered like any other request that cannot be parsed.
    return undefined
  }
}

/** Writes an answer, each event of a stream in a turn of its own. */
export async function sendReply(outgoing: ServerResponse, { status, type, body, frames = [], cutAfter }: MediaReply): Promise<void> {
  outgoing.writeHead(status, { 'content-type': type })
  for (const [at, frame] of frames.entries()) {
    await turn()
    if (at === cutAfter) return void outgoing.destroy()
    outgoing.write(frame)
  }
  outgoing.end(body)
}
