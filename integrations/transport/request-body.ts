// The body of a request, in whatever form `fetch` takes it: read once, without using it up, or not at all. What cannot
// be read is never sent.

import { AUDIO_HEAD_BYTES, longestAudioMs } from '../../src/metering/worst-case/audio-length.ts'
import type { FormFile } from '../../src/metering/worst-case/openai-forms.ts'
import type { Body, Wire, WireRequest } from '../wires/wire.ts'
import { ambiguityOf } from './ambiguous-json.ts'

/** A request that can be bounded, as far as its form goes. */
export interface ReadRequest {
  readonly wire: Wire
  /** What was asked, for its hash. */
  readonly text: string
  /** What to send as long as the wire changes nothing. */
  readonly sent: RequestInit['body']
  readonly request: WireRequest
}

/** Why a body cannot be bounded, and what to send in its place. */
export interface Unreadable {
  readonly fault: string
  readonly fix: string
}

const NOT_TEXT: Unreadable = { fault: 'has a body that is not text, so its worst case is not known', fix: 'Send it as a JSON string' }
const NOT_JSON: Unreadable = { fault: 'has a body that is not a JSON object, so its worst case is not known', fix: 'Send a JSON object' }
const AMBIGUOUS: Readonly<Record<'twice' | 'case' | 'deep', Unreadable>> = {
  deep: { fault: 'has a body that is nested too deeply to be written again', fix: 'Send a flatter one' },
  twice: { fault: 'has a field twice in its body, and which one counts depends on the server', fix: 'Send each field once' },
  case: {
    fault: 'has a field in another case than its format does, which some servers take for it all the same',
    fix: 'Send `model`, `max_tokens`, `n` and the like in lower case',
  },
}
const NOT_FORM: Unreadable = {
  fault: 'has a body that is no form, so its worst case is not known',
  fix: 'Send it as FormData, as the SDKs do',
}
const STREAMED: Unreadable = {
  fault: 'has a body that can be read only once, by whoever sends it, so its worst case is not known',
  fix: 'Send it as a JSON string, or as FormData for files',
}
const PACKED: Unreadable = {
  fault: 'has a compressed body, in which nothing can be read, so its worst case is not known',
  fix: 'Send it uncompressed',
}

/** Reads the body of a request. A type that the body itself names is added to its headers. */
export async function readBody(wire: Wire, body: RequestInit['body'], headers: Headers, path: string): Promise<ReadRequest | Unreadable> {
  const accepts = wire.accepts ?? 'json'
  if (!['identity', ''].includes((headers.get('content-encoding') ?? '').trim().toLowerCase())) return PACKED
  if (body instanceof ReadableStream) return STREAMED
  const form = accepts === 'json' ? undefined : await formOf(body, headers)
  if (form !== undefined) {
    const { fields, bytes } = await fieldsOf(form)
    return { wire, text: JSON.stringify(fields), sent: body, request: { path, headers, body: fields, bytes } }
  }
  if (accepts === 'form') return NOT_FORM
  const text = await textOf(body)
  if (text === undefined) return NOT_TEXT
  const parsed = parseJson(text)
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return NOT_JSON
  const ambiguity = ambiguityOf(text, parsed)
  if (ambiguity !== undefined) return AMBIGUOUS[ambiguity]
  // A Blob names its own type, which the text that is sent in its place would not.
  if (body instanceof Blob && body.type !== '' && !headers.has('content-type')) headers.set('content-type', body.type)
  return { wire, text, sent: text, request: { path, headers, body: parsed as Body, bytes: Buffer.byteLength(text) } }
}

/** JSON, or `undefined`, which no JSON stands for. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // The error would quote the prompt; that it is no JSON says enough.
    return undefined
  }
}

async function textOf(body: RequestInit['body']): Promise<string | undefined> {
  if (typeof body === 'string') return body
  if (body instanceof Blob) return body.text()
  return isBytes(body) ? new TextDecoder().decode(body) : undefined
}

/** A form as such, or as the bytes that a `Request` made of it. */
async function formOf(body: RequestInit['body'], headers: Headers): Promise<FormData | undefined> {
  if (body instanceof FormData) return body
  const type = headers.get('content-type') ?? ''
  if (!isBytes(body) || !type.toLowerCase().startsWith('multipart/form-data')) return undefined
  try {
    return await new Response(body as Uint8Array<ArrayBuffer>, { headers: { 'content-type': type } }).formData()
  } catch {
    // Bytes that are no form are refused like any other body that is none.
    return undefined
  }
}

/** The fields of a form: texts as they are, files by name and size, and a list of what stands there more than once. */
async function fieldsOf(form: FormData): Promise<{ fields: Body; bytes: number }> {
  const fields = new Map<string, unknown[]>()
  let bytes = 0
  for (const [key, value] of form) {
    const name = key.replace(/\[\w*\]$/, '')
    bytes += Buffer.byteLength(name) + (typeof value === 'string' ? Buffer.byteLength(value) : 0)
    fields.set(name, [...(fields.get(name) ?? []), typeof value === 'string' ? value : await fileOf(value)])
  }
  return { fields: Object.fromEntries([...fields].map(([name, items]) => [name, items.length === 1 ? items[0] : items])), bytes }
}

async function fileOf(file: File): Promise<FormFile> {
  const head = new Uint8Array(await file.slice(0, AUDIO_HEAD_BYTES).arrayBuffer())
  const longestMs = longestAudioMs(head, file.size)
  return { file: file.name, type: file.type, bytes: file.size, ...(longestMs !== undefined && { longestMs }) }
}

function isBytes(body: unknown): body is ArrayBuffer | NodeJS.ArrayBufferView {
  return body instanceof ArrayBuffer || ArrayBuffer.isView(body)
}
