// What the transport guard has to know of a wire format: how to bound a request, what to add to it, and where in an
// answer the usage stands. One file per format; `table.ts` finds the one of a request.

import type { BoundOptions, RequestBound } from '../../src/metering/worst-case/bound.ts'
import type { Usage } from '../../src/waist/price.ts'
import type { Dialect } from './dialects.ts'

/** JSON, as far as it is known to be an object. */
export type Body = Readonly<Record<string, unknown>>

/** A request, read once. */
export interface WireRequest {
  /** Of the URL. */
  readonly path: string
  readonly headers: Headers
  readonly body: Body
  /** Length of the body as it is sent, in UTF-8 bytes; of a form without its files. */
  readonly bytes: number
}

/** The usage of an answer, and what else tells its price. */
export interface Finding {
  readonly usage: Usage
  readonly responseId?: string
  readonly serviceTier?: string
}

/** Reads the events of one streamed answer as they pass. */
export interface EventReader {
  /** What is known so far, `undefined` as long as it could not be settled. */
  readonly found: Finding | undefined
  /** True once nothing that matters can come any more: many callers stop reading here, so here it is settled. */
  readonly ended: boolean
  /**
   * Whether these bytes, of one event or of several whole ones, have to be looked at at all. What is not looked at is
   * passed on, so this may err on one side only; it is asked for every chunk, and has to be cheap.
   *
   * @default every event is looked at
   */
  mayMatter?(events: Buffer): boolean
  /**
   * UTF-8 bytes of the output that has come: text, reasoning, refusals, arguments of tools. Counted only where
   * `countOutput` was asked for. @default the bytes of all events count, which is more
   */
  readonly outputBytes?: number
  /**
   * Looks at the data of an event, `''` for one without.
   *
   * @returns Whether it is passed on; what is there only because `prepare` asked for it is not.
   */
  look(data: string): boolean
}

/** The model that a request asks for. */
export interface RequestedModel {
  readonly id: string
  readonly serviceTier?: string | undefined
  /** Whose it is, where the price list does not tell that from its name. */
  readonly provider?: string | undefined
}

/** A wire format. */
export interface Wire {
  readonly name: string
  /** The model of a request, and the service tier that it asks for. */
  modelOf(request: WireRequest): RequestedModel
  /** @throws {Refusal} {TypeError} {RangeError} For a request without a bound. */
  bound(request: WireRequest, options: BoundOptions): RequestBound
  /** The same request with this output cap, and asking for its usage. `cap` undefined: the request has a cap of its own. */
  prepare(body: Body, cap: number | undefined, dialect: Dialect): Body
  /** What a request may come as; the fields of a form are its body then. @default 'json' */
  readonly accepts?: 'json' | 'form' | 'either'
  /** Whether the answer is sound or a file: it is passed on unread, since it says nothing of its usage. @default false */
  answersBytes?(request: WireRequest): boolean
  /** The usage, where the request alone determines it, so that an answer without any is none the worse. @default never */
  findInRequest?(request: WireRequest, bound: RequestBound): Finding | undefined
  /** Whether the request asks for a stream. */
  isStream(request: WireRequest): boolean
  /** Whether a stream that is no event stream is JSON objects, one after the other, in lines or in one array. @default false */
  readonly streamsJson?: boolean
  /** Finds the usage in the JSON body of an answer. `original`: the body of the request as the caller wrote it. */
  findIn(answer: Body, original: Body): Finding | undefined
  /** Reads a streamed answer. `original`: the body as the caller wrote it. `countOutput`: see {@link EventReader.outputBytes}. */
  events(original: Body, options?: { readonly countOutput?: boolean }): EventReader
}

/** The reader of a format that has no streams. */
export function noEvents(): EventReader {
  return { found: undefined, ended: false, look: () => true }
}

/** UTF-8 bytes of all text in what an event adds to an answer, however deep; names of its members not. */
export function textBytesIn(value: unknown, depth = 0): number {
  if (typeof value === 'string') return Buffer.byteLength(value)
  if (typeof value !== 'object' || value === null || depth > MAX_TEXT_DEPTH) return 0
  let bytes = 0
  for (const part of Object.values(value)) bytes += textBytesIn(part, depth + 1)
  return bytes
}

/** Deltas of providers are a few levels deep. */
const MAX_TEXT_DEPTH = 16

/** Longest id of a response, in UTF-16 code units. It goes into a record, and an endless one identifies nothing. */
const MAX_ID_LENGTH = 256

/** A finding, with id and tier where they are what they should be. */
export function finding(usage: Usage | undefined, id: unknown, tier: unknown): Finding | undefined {
  if (usage === undefined) return undefined
  const isId = typeof id === 'string' && id.length <= MAX_ID_LENGTH && id.isWellFormed()
  return { usage, ...(isId ? { responseId: id } : {}), ...(typeof tier === 'string' ? { serviceTier: tier } : {}) }
}

/** The data of an event as an object; `undefined` for what is none, which is the caller's to see and has no usage. */
export function eventOf(data: string): Body | undefined {
  try {
    const parsed: unknown = JSON.parse(data)
    return typeof parsed === 'object' && parsed !== null ? (parsed as Body) : undefined
  } catch {
    // The error would quote the answer; that it is no JSON says enough.
    return undefined
  }
}

/** In upper or lower case, in case a server does not tell them apart. */
const DEPLOYMENT = /\/deployments\/([^/]+)\//i

/**
 * The deployment of Azure that a path names. It is what is billed, whatever model the body names.
 *
 * @see https://learn.microsoft.com/azure/ai-foundry/openai/reference (2026-11-22)
 */
export function deploymentIn(path: string): string | undefined {
  const name = DEPLOYMENT.exec(path)?.[1]
  try {
    return name && decodeURIComponent(name)
  } catch {
    // No deployment has such a name; Azure will say so.
    return name
  }
}

/** The same request, naming the model that is billed. */
export function asBilled(request: WireRequest): WireRequest {
  const model = deploymentIn(request.path)
  return model === undefined ? request : { ...request, body: { ...request.body, model } }
}

/** What the path or the body says of its model, as most formats have it. */
export function modelInBody({ path, body }: WireRequest): RequestedModel {
  const { model, service_tier: tier } = body
  return { id: deploymentIn(path) ?? String(model), serviceTier: typeof tier === 'string' ? tier : undefined }
}
