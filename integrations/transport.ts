// The transport guard: a `fetch` under a provider client, and the net under every other integration. Each HTTP
// attempt is held before it leaves and settled from the usage on its own wire, whoever made it and why.

import { ambient } from '../src/lib/ambient.ts'
import { findRefusal, Refusal, refusalToBody } from '../src/lib/errors.ts'
import { sha256 } from '../src/lib/ids.ts'
import type { Hold, Settlement } from '../src/waist/hold.ts'
import type { Scope, ScopeSource } from '../src/waist/scope.ts'
import { createDrains, type Drains } from './drains.ts'
import { endpointOf, type Endpoint, type Finding } from './endpoint.ts'
import { endFailed, isNeverSent, settleFound, type Exchange } from './exchange.ts'
import { modelCall, worstOf, type ModelCall, type ModelCallOptions } from './model-call.ts'
import { scopeOf } from './scope-source.ts'
import { findInEvents, meteredStream } from './stream-meter.ts'

/** Options of {@link guardFetch}. */
export interface GuardOptions extends ModelCallOptions {
  /** The `fetch` that sends. @default globalThis.fetch at the time of the call */
  readonly fetch?: typeof fetch
  /** Field for the output cap of a chat completion that has none; some servers know only `max_tokens`. @default 'max_completion_tokens' */
  readonly outputCapField?: 'max_completion_tokens' | 'max_tokens'
  /**
   * Statuses of answers that this provider does not bill: their hold is released. Any other error is charged
   * at worst, since nobody can know. @default 400 to 407, 409 to 499
   */
  readonly unbilledStatuses?: readonly number[]
  /** Paths that are let through without a hold, such as `/embeddings`: your word that they cost nothing that a budget should know of. @default none */
  readonly passthrough?: readonly string[]
  /** Most streams that are read to their usage after the caller left, at the same time. Beyond it they are cut and charged at worst. @default 16 */
  readonly maxDrains?: number
  /** How long such a stream is read on, ms. @default 30000 */
  readonly drainMs?: number
}

/** Marks a guarded `fetch`, and names the one that it guards. */
const GUARD_BRAND = Symbol.for('holdfast.guard')

/** The `fetch` under a guard; any other `fetch` is its own. Two guards on top of each other would hold twice. */
export function unguarded(candidate: typeof fetch | undefined): typeof fetch | undefined {
  return (candidate as { [GUARD_BRAND]?: typeof fetch } | undefined)?.[GUARD_BRAND] ?? candidate
}

interface Request_ {
  readonly url: string
  readonly method: string
  readonly init: RequestInit
  readonly signal: AbortSignal | undefined
}

/**
 * Makes a `fetch` that holds, clamps and settles every model call.
 *
 * A refusal is answered with a synthetic 402 that provider SDKs do not retry; `findRefusal` finds it in
 * whatever they make of it. The request differs from the caller's only by an output cap where it set none
 * and by `stream_options.include_usage`, whose extra event is taken out again.
 *
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`.
 */
export function guardFetch(source?: ScopeSource, options: GuardOptions = {}): typeof fetch {
  const drains = createDrains(options.maxDrains ?? 16, options.drainMs ?? 30_000)
  const guarded = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const request = await normalise(input, init)
    request.signal?.throwIfAborted()
    try {
      return await attempt(request, source, options, drains)
    } catch (error) {
      const refusal = findRefusal(error)
      if (refusal === undefined) throw error
      return refusalResponse(refusal)
    }
  }
  return Object.assign(guarded, { [GUARD_BRAND]: unguarded(options.fetch) ?? defaultFetch })
}

/** Looked up at each call, so that a test or a tracer that replaces it is seen. */
const defaultFetch: typeof fetch = (input, init) => globalThis.fetch(input, init)

async function attempt(request: Request_, source: ScopeSource, options: GuardOptions, drains: Drains): Promise<Response> {
  const send = unguarded(options.fetch) ?? defaultFetch
  const path = new URL(request.url).pathname
  const endpoint = endpointOf(request.method, path)
  if (endpoint === 'unbilled' || options.passthrough?.some((suffix) => path.endsWith(suffix)) === true)
    return send(request.url, request.init)
  if (endpoint === 'unknown') {
    const wouldPass = `guardFetch(scope, { passthrough: ['${path.slice(path.lastIndexOf('/'))}'] }) if it costs nothing`
    throw new Refusal(
      'ERR_UNMETERED',
      `POST ${path} is not an endpoint that this version can meter, so it is refused. To let it through: ${wouldPass}.`,
      { wouldPass },
    )
  }
  const scope = scopeOf(source)
  const text = bodyText(request, path)
  const body = parseBody(text, path)
  // Made before anything is held: headers that are none throw here.
  const headers = new Headers(request.init.headers)
  headers.delete('content-length')
  const call = await callOf(scope, endpoint, body, text, options)
  const { hold, settlement } = await holdFor(scope, call, request.signal)
  if (request.signal?.aborted === true) {
    await settlement.release('the caller left before it was sent')
    request.signal.throwIfAborted()
  }
  const prepared = endpoint.prepare(body, capFor(call, hold), options.outputCapField ?? 'max_completion_tokens')
  const exchange: Exchange = { scope, endpoint, call, settlement, original: body, drains, unbilledStatuses: options.unbilledStatuses }
  const init = { ...request.init, headers, body: prepared === body ? text : JSON.stringify(prepared) }
  return exchangeOver(send, { ...request, init }, exchange)
}

async function callOf(
  scope: Scope,
  endpoint: Endpoint,
  body: Record<string, unknown>,
  text: string,
  options: GuardOptions,
): Promise<ModelCall> {
  const model = { id: String(body['model']), serviceTier: typeof body['service_tier'] === 'string' ? body['service_tier'] : undefined }
  const bytes = new TextEncoder().encode(text).length
  const { provider, maxInputTokens, defaultMaxOutputTokens } = options
  return modelCall(scope, model, sha256(text), (known) => endpoint.bound(body, bytes, known), {
    provider,
    maxInputTokens,
    defaultMaxOutputTokens,
  })
}

/**
 * The hold that pays for this attempt: the adapter's, if this task carries one of the same scope that nobody
 * claimed and that covers what is really on the wire; else one of its own. In doubt it is held twice.
 */
async function holdFor(
  scope: Scope,
  { action, bound }: ModelCall,
  signal: AbortSignal | undefined,
): Promise<{ hold: Hold; settlement: Settlement }> {
  const carried = ambient().hold as Hold | undefined
  if (carried !== undefined && carried.state === 'held' && belongsTo(carried, scope)) {
    const needed = worstOf(action, Math.min(bound.outputTokensPerChoice, carried.caps.maxOutputTokens ?? Infinity))
    const covers = Object.entries(needed).every(([dimension, amount]) => amount <= (carried.amounts[dimension] ?? 0))
    const settlement = covers ? carried.claim() : undefined
    if (settlement !== undefined) return { hold: carried, settlement }
  }
  const hold = await scope.begin(action, signal === undefined ? {} : { signal })
  return { hold, settlement: hold.claim()! }
}

function belongsTo({ owner }: Hold, { boot, agent, task, budget }: Scope): boolean {
  return owner.boot === boot && owner.agent === agent && owner.task === task && owner.budget === budget
}

/** The cap to send: the kernel's, where the request has none or a larger one. */
function capFor({ bound }: ModelCall, { caps }: Hold): number | undefined {
  const granted = caps.maxOutputTokens ?? bound.outputTokensPerChoice
  return bound.capSet && granted >= bound.outputTokensPerChoice ? undefined : granted
}

async function exchangeOver(send: typeof fetch, { url, init, signal }: Request_, exchange: Exchange): Promise<Response> {
  const { settlement, drains } = exchange
  // The caller's signal ends the caller's wait, not the exchange: what was sent may be billed, and only the
  // answer says how much.
  const upstream = new AbortController()
  // Inside a function, so that a `fetch` that throws at once is no different from one that rejects.
  const answer = (async () => send(url, { ...init, signal: upstream.signal }))()
  let response: Response
  try {
    response = await orAborted(answer, signal)
  } catch (error) {
    if (signal?.aborted === true) {
      drains.run(
        upstream,
        async () => void (await settleWhole(await answer, exchange)),
        () => settlement.charge('the caller left before the answer came'),
      )
    } else if (isNeverSent(error)) await settlement.release('it was never sent')
    else await settlement.charge(`the connection failed: ${error instanceof Error ? error.message : String(error)}`)
    throw error
  }
  if (!response.ok) {
    await endFailed(response.status, exchange)
    return response
  }
  if (response.body !== null && isEventStream(response)) {
    return rebuilt(response, meteredStream(response.body, upstream, signal, exchange))
  }
  const whole = settleWhole(response, exchange)
  try {
    return rebuilt(response, await orAborted(whole, signal))
  } catch (error) {
    if (signal?.aborted !== true) await settlement.charge(`the answer broke off: ${String(error)}`)
    else
      drains.run(
        upstream,
        async () => void (await whole),
        () => settlement.charge('the caller left, and the answer broke off'),
      )
    throw error
  }
}

/** Reads a whole answer and settles it. */
async function settleWhole(response: Response, exchange: Exchange): Promise<string> {
  if (!response.ok) await endFailed(response.status, exchange)
  const text = await response.text()
  if (response.ok) await settleFound(exchange, isEventStream(response) ? findInEvents(text, exchange) : findInText(exchange.endpoint, text))
  return text
}

function isEventStream(response: Response): boolean {
  return (response.headers.get('content-type') ?? '').includes('text/event-stream')
}

function findInText(endpoint: Endpoint, text: string): Finding | undefined {
  try {
    const answer: unknown = JSON.parse(text)
    return typeof answer === 'object' && answer !== null ? endpoint.findIn(answer as Record<string, unknown>) : undefined
  } catch {
    // Not JSON, so not an answer with usage; it is charged at worst, and the caller sees what came.
    return undefined
  }
}

async function normalise(input: string | URL | Request, init: RequestInit = {}): Promise<Request_> {
  if (!(input instanceof Request))
    return { url: String(input), method: (init.method ?? 'GET').toUpperCase(), init, signal: init.signal ?? undefined }
  const { url, method, headers, redirect, credentials } = input
  const signal = init.signal ?? input.signal
  // Taken out of its stream, which could be neither measured nor sent again.
  const body = input.body === null || init.body != null ? {} : { body: await input.arrayBuffer() }
  const merged: RequestInit = { method, headers, redirect, credentials, ...body, ...init, signal }
  return { url, method: (merged.method ?? 'GET').toUpperCase(), init: merged, signal }
}

function bodyText({ init: { body } }: Request_, path: string): string {
  if (typeof body === 'string') return body
  if (body instanceof ArrayBuffer || ArrayBuffer.isView(body)) return new TextDecoder().decode(body)
  throw new Refusal('ERR_UNMETERED', `The body of POST ${path} is not text, so its worst case is not known. Send it as a JSON string.`)
}

function parseBody(text: string, path: string): Record<string, unknown> {
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch (error) {
    throw new Refusal('ERR_UNMETERED', `The body of POST ${path} is not JSON, so its worst case is not known.`, {}, { cause: error })
  }
  if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body as Record<string, unknown>
  throw new Refusal('ERR_UNMETERED', `The body of POST ${path} is not a JSON object, so its worst case is not known.`)
}

/** The same response with another body. Its length and encoding are those of the body it had. */
function rebuilt(response: Response, body: string | ReadableStream<Uint8Array>): Response {
  const headers = new Headers(response.headers)
  headers.delete('content-length')
  headers.delete('content-encoding')
  const copy = new Response(response.body === null ? null : body, { status: response.status, statusText: response.statusText, headers })
  Object.defineProperty(copy, 'url', { value: response.url })
  return copy
}

function refusalResponse(refusal: Refusal): Response {
  return Response.json(refusalToBody(refusal), { status: refusal.status, headers: { 'x-should-retry': 'false' } })
}

/** The promise, or the reason of the signal, whichever is first. The promise goes on by itself. */
async function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise
  let abort!: () => void
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason as Error)
    if (signal.aborted) abort()
    else signal.addEventListener('abort', abort, { once: true })
  })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', abort)
    // It may still fail later, when nobody waits for it any more; whoever drains it deals with that.
    promise.catch(() => undefined)
  }
}
