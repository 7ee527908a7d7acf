// The transport guard: a `fetch` under a provider client, and the net under every other integration. Each HTTP
// attempt is held before it leaves and settled from the usage on its own wire, whoever made it and why.

import { aborted } from 'node:util'
import { ambient, withAmbient } from '../../src/lib/ambient.ts'
import { findRefusal, Refusal, refusalToBody, type RefusalDetails } from '../../src/lib/errors.ts'
import { sha256 } from '../../src/lib/ids.ts'
import type { Hold, Settlement } from '../../src/waist/hold.ts'
import type { Scope, ScopeSource } from '../../src/waist/scope.ts'
import { endFailed, faultOf, isNeverSent, settleFound, type Exchange } from './exchange.ts'
import { beginning } from '../common/call-observer.ts'
import { modelCall, worstOf, type ModelCall, type ModelCallOptions } from '../common/model-call.ts'
import { scopeOf } from '../common/scope-source.ts'
import { createBackgrounds, type Backgrounds } from './backgrounds.ts'
import { withBatches } from './batches.ts'
import { parseJson, readBody, type ReadRequest } from './request-body.ts'
import { responseWith } from './response-with.ts'
import { createStepHolds, inSteps, type StepHolds } from './step-holds.ts'
import { findInStream, meteredStream, type Framing } from './stream-meter.ts'
import { streamSettings, type StreamOptions, type StreamSettings } from './stream-options.ts'
import { unbilledStatusesOf } from './unbilled-statuses.ts'
import { dialectOf } from '../wires/dialects.ts'
import { wireOf, type Classified } from '../wires/table.ts'
import { asBilled, type Body, type Finding, type Wire } from '../wires/wire.ts'

/** Options of {@link guardFetch}. */
export interface GuardOptions extends ModelCallOptions, StreamOptions {
  /** The `fetch` that sends. @default globalThis.fetch at the time of the call */
  readonly fetch?: typeof fetch
  /**
   * Field for the output cap of a chat completion; some servers know only `max_tokens`, and a cap of the caller in the
   * other field is moved there. @default that of the server's address: 'max_tokens' for Mistral, DeepSeek and Ollama,
   * else 'max_completion_tokens'
   */
  readonly outputCapField?: 'max_completion_tokens' | 'max_tokens'
  /**
   * Statuses of answers that this provider does not bill: their hold is released. Any other error is charged
   * at worst, since nobody can know. @default what the provider documents; of one that says nothing 400 to 407, 409 to 499
   */
  readonly unbilledStatuses?: readonly number[]
  /**
   * Paths, or their last segments, that are let through without a hold, such as `/v1/vector_stores`: your word that
   * they cost nothing that a budget should know of. An endpoint that can be metered is metered all the same. @default none
   */
  readonly passthrough?: readonly string[]
  /**
   * Path of the budget of the account that pays for these calls, one of the scope's: where the provider says to slow
   * down (429 with `Retry-After`), it is paused for everybody who counts on it. @default nothing is paused
   */
  readonly account?: string
  /** Most calls with `background: true`, and most batches, whose usage is looked for in later answers; beyond it the oldest is charged at worst. @default 10000 */
  readonly maxBackgrounds?: number
}

/** Marks a guarded `fetch`, and names the one that it guards. */
const GUARD_BRAND = Symbol.for('holdfast.guard')

/** The `fetch` under a guard; any other `fetch` is its own. Two guards on top of each other would hold twice. */
export function unguarded(candidate: typeof fetch | undefined): typeof fetch | undefined {
  return (candidate as { [GUARD_BRAND]?: typeof fetch } | undefined)?.[GUARD_BRAND] ?? candidate
}

/** A request in one form, whatever `fetch` was called with. */
interface OutgoingRequest {
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
 * @throws {TypeError} {RangeError} Naming an option that is none.
 */
export function guardFetch(source?: ScopeSource, options: GuardOptions = {}): typeof fetch {
  for (const path of options.passthrough ?? [])
    if (!/[^/]$/.test(path)) throw new TypeError(`\`passthrough\` takes paths such as '/v1/vector_stores', got ${JSON.stringify(path)}.`)
  const guard: Guard = {
    source,
    options,
    send: unguarded(options.fetch) ?? defaultFetch,
    streams: streamSettings(options, source),
    backgrounds: withBatches(createBackgrounds(options.maxBackgrounds ?? 10_000), options.maxBackgrounds ?? 10_000),
  }
  const guarded = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const request = await normalise(input, init)
    await beginning(async () => request.signal?.throwIfAborted())
    try {
      return await attempt(request, guard)
    } catch (error) {
      const refusal = findRefusal(error)
      if (refusal === undefined) throw error
      return refusalResponse(refusal)
    }
  }
  return Object.assign(guarded, { [GUARD_BRAND]: guard.send })
}

/** What the calls of one guard share. */
interface Guard {
  readonly source: ScopeSource
  readonly options: GuardOptions
  readonly send: typeof fetch
  readonly streams: StreamSettings
  readonly backgrounds: Backgrounds
}

/** Looked up at each call, so that a test or a tracer that replaces it is seen. */
const defaultFetch: typeof fetch = (input, init) => globalThis.fetch(input, init)

async function attempt(request: OutgoingRequest, guard: Guard): Promise<Response> {
  const { options, send, streams } = guard
  const untouched = async (): Promise<Response> => send(request.url, request.init)
  const url = new URL(request.url)
  const { pathname: path, host, hostname } = url
  // Headers that are none throw here, before anything is held or sent.
  const headers = new Headers(request.init.headers)
  const classified = isOverridden(request.method, headers) ? 'unknown' : wireOf(request.method, path, hostname)
  if (classified === 'free') return guard.backgrounds.watch(path, untouched)
  if (!isWire(classified) && isPassedThrough(path, options.passthrough)) return untouched()
  const scope = scopeOf(guard.source)
  const asked = isWire(classified) ? await read(classified, request, headers, path) : unmeterable(classified, request.method, path)
  if (Refusal.isInstance(asked)) {
    scope.refuse(asked)
    return untouched()
  }
  const { body } = asked.request
  headers.delete('content-length')
  const call = await callOf(scope, asked, hostname, options)
  if (call === undefined) return untouched()
  const stepTokens = asked.wire.isStream(asked.request) ? streams.stepTokens : undefined
  const paid = await beginning(() => holdFor(scope, call, request.signal, stepTokens))
  const { hold, settlement } = paid
  if (request.signal?.aborted === true) {
    await settlement.release('the caller left before it was sent')
    request.signal.throwIfAborted()
  }
  const prepared = asked.wire.prepare(body, capFor(call, hold), dialectOf(url, options.outputCapField))
  const { unbilledStatuses = unbilledStatusesOf(host), account } = options
  const { wire, stillRuns } = guard.backgrounds.follow(asked, { scope, call, settlement })
  const exchange: Exchange = {
    scope,
    wire,
    request: asked.request,
    call,
    ...paid,
    drains: streams.drains,
    unbilledStatuses,
    account,
    stillRuns,
  }
  const init = { ...request.init, headers, body: (prepared === body ? asked.sent : JSON.stringify(prepared)) ?? null }
  return exchangeOver(send, { ...request, init }, exchange)
}

/** Headers by which a server takes a request for one of another method; a `DELETE` may have a body, and be a `POST` then. */
const METHOD_OVERRIDES = ['x-http-method-override', 'x-http-method', 'x-method-override']

function isOverridden(method: string, headers: Headers): boolean {
  return METHOD_OVERRIDES.some((name) => (headers.get(name) ?? method).toUpperCase() !== method)
}

function isWire(classified: Classified): classified is Wire {
  return typeof classified === 'object' && 'bound' in classified
}

/** The call that this request makes; `undefined` when it has no bound, and the scope only observes. */
async function callOf(
  scope: Scope,
  { wire, text, request }: ReadRequest,
  hostname: string,
  options: GuardOptions,
): Promise<ModelCall | undefined> {
  const { maxInputTokens, maxToolCalls, defaultMaxOutputTokens, maxAudioSeconds } = options
  const model = wire.modelOf(request)
  return modelCall(scope, model, sha256(text), (known) => wire.bound(asBilled(request), known), {
    provider: options.provider ?? model.provider,
    hostname,
    maxInputTokens,
    maxToolCalls,
    defaultMaxOutputTokens,
    maxAudioSeconds,
  })
}

/**
 * The hold that pays for this attempt: the adapter's, if this task carries one of the same scope that nobody
 * claimed and that covers what is really on the wire; else one of its own. In doubt it is held twice.
 */
async function holdFor(scope: Scope, call: ModelCall, signal: AbortSignal | undefined, stepTokens: number | undefined): Promise<Paid> {
  const { action, bound } = call
  const carried = ambient().hold as Hold | undefined
  if (carried !== undefined && carried.state === 'held' && belongsTo(carried, scope)) {
    const needed = worstOf(action, Math.min(bound.outputTokensPerChoice, carried.caps.maxOutputTokens ?? Infinity))
    const covers = Object.entries(needed).every(([dimension, amount]) => amount <= (carried.amounts[dimension] ?? 0))
    const settlement = covers ? carried.claim() : undefined
    if (settlement !== undefined) return { hold: carried, settlement, steps: undefined }
  }
  if (stepTokens === undefined) {
    const hold = await scope.begin(action, { signal })
    return { hold, settlement: hold.claim()!, steps: undefined }
  }
  const hold = await scope.begin(inSteps(action, stepTokens), { signal })
  const steps = createStepHolds(scope, call, hold, stepTokens)
  return { hold, settlement: steps.settlement, steps }
}

/** What pays for an attempt. */
interface Paid {
  readonly hold: Hold
  readonly settlement: Settlement
  readonly steps: StepHolds | undefined
}

function belongsTo({ owner }: Hold, { boot, agent, task, budget, also }: Scope): boolean {
  const same = owner.boot === boot && owner.agent === agent && owner.task === task && owner.budget === budget
  return same && String(owner.also) === String(also)
}

/** The cap to send: the kernel's, where the request has none or a larger one. */
function capFor({ bound }: ModelCall, { caps }: Hold): number | undefined {
  const granted = caps.maxOutputTokens ?? bound.outputTokensPerChoice
  return bound.capSet && granted >= bound.outputTokensPerChoice ? undefined : granted
}

async function exchangeOver(send: typeof fetch, { url, init, signal }: OutgoingRequest, exchange: Exchange): Promise<Response> {
  const { hold, settlement, drains } = exchange
  // The caller's signal ends the caller's wait, not the exchange: what was sent may be billed, and only the
  // answer says how much.
  const upstream = new AbortController()
  // Inside a function, so that a `fetch` that throws at once is no different from one that rejects. Whoever watches
  // for escapes finds in the task that this request is held.
  const answer = withAmbient({ attempt: hold }, async () => send(url, { ...init, signal: upstream.signal }))
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
    else await settlement.charge(`the connection failed: ${faultOf(error)}`)
    throw error
  }
  if (!response.ok) {
    passAbortOn(signal, upstream, response.body)
    await endFailed(response, exchange)
    return response
  }
  if (exchange.wire.answersBytes?.(exchange.request) === true) return passedOn(response, upstream, signal, exchange)
  const framing = framingOf(response, exchange)
  if (response.body !== null && framing !== undefined) {
    return responseWith(response, meteredStream(response.body, upstream, signal, { ...exchange, framing }))
  }
  const whole = settleWhole(response, exchange)
  try {
    return responseWith(response, await orAborted(whole, signal))
  } catch (error) {
    if (signal?.aborted !== true) await settlement.charge(`the answer broke off: ${faultOf(error)}`)
    else
      drains.run(
        upstream,
        async () => void (await whole),
        () => settlement.charge('the caller left, and the answer broke off'),
      )
    throw error
  }
}

/** Passes an answer on that is sound or a file: with its first byte all is known that ever will be. */
async function passedOn(
  response: Response,
  upstream: AbortController,
  signal: AbortSignal | undefined,
  exchange: Exchange,
): Promise<Response> {
  passAbortOn(signal, upstream, response.body)
  const { wire, request, call } = exchange
  await settleFound(exchange, wire.findInRequest?.(request, call.bound))
  return response
}

/** Once an error has ended the hold, nothing is left to wait for without the caller: its abort is the upstream's. */
function passAbortOn(signal: AbortSignal | undefined, upstream: AbortController, body: Response['body']): void {
  // Listens only as long as there is a body: the signal may be that of a whole process, and see many answers.
  if (signal !== undefined && body !== null) void aborted(signal, body).then(() => upstream.abort(signal.reason))
}

/** Reads a whole answer and settles it. Of an error, whose hold ends by its status alone, it reads nothing. */
async function settleWhole(response: Response, exchange: Exchange): Promise<string> {
  if (!response.ok) {
    await endFailed(response, exchange)
    await response.body?.cancel()
    return ''
  }
  const text = await response.text()
  const framing = framingOf(response, exchange)
  await settleFound(exchange, framing === undefined ? findInText(exchange, text) : findInStream(text, { ...exchange, framing }))
  return text
}

/** Not every server names its streams: what was asked for as one and came as neither JSON nor a page is taken for one. */
function framingOf(response: Response, { wire, request }: Exchange): Framing | undefined {
  const type = (response.headers.get('content-type') ?? '').toLowerCase()
  if (type.includes('text/event-stream')) return 'events'
  if (!wire.isStream(request) || type.includes('html')) return undefined
  if (wire.streamsJson === true) return 'objects'
  return /\bjson\b/.test(type) ? undefined : 'events'
}

/** What is not JSON is no answer with usage: it is charged at worst, and the caller sees what came. */
function findInText({ wire, request }: Exchange, text: string): Finding | undefined {
  const answer = parseJson(text)
  return typeof answer === 'object' && answer !== null ? wire.findIn(answer as Body, request.body) : undefined
}

async function normalise(input: string | URL | Request, init: RequestInit = {}): Promise<OutgoingRequest> {
  if (!(input instanceof Request))
    return { url: String(input), method: (init.method ?? 'GET').toUpperCase(), init, signal: init.signal ?? undefined }
  const { url, method, headers, redirect, credentials } = input
  const signal = init.signal ?? input.signal
  // Taken out of its stream, which could be neither measured nor sent again.
  const body = input.body === null || init.body != null ? {} : { body: await input.arrayBuffer() }
  // A member that is there and not set is none, as for `fetch` itself.
  const given = Object.fromEntries(Object.entries(init).filter(([, value]) => value !== undefined))
  const merged: RequestInit = { method, headers, redirect, credentials, ...body, ...given, signal }
  return { url, method: (merged.method ?? 'GET').toUpperCase(), init: merged, signal }
}

/** Reads a request, or says why its worst case cannot be known. */
async function read(wire: Wire, { init }: OutgoingRequest, headers: Headers, path: string): Promise<ReadRequest | Refusal> {
  const asked = await readBody(wire, init.body, headers, path)
  return 'fault' in asked ? unmetered('POST', path, asked.fault, asked.fix) : asked
}

/** Says no to a request that no wire format knows, with the option that lets it through. */
function unmeterable(classified: Exclude<Classified, Wire>, method: string, path: string): Refusal {
  const why =
    typeof classified === 'object'
      ? `cannot be metered: ${classified.spends}`
      : 'is not an endpoint that this version can meter, so it is refused'
  const wouldPass = `guardFetch(scope, { passthrough: ['${shortened(path)}'] }) if it costs nothing`
  return unmetered(method, path, why, `To let it through: ${wouldPass}`, { wouldPass })
}

function unmetered(method: string, path: string, fault: string, fix: string, details: RefusalDetails = {}): Refusal {
  return new Refusal('ERR_UNMETERED', `${method.slice(0, 16)} ${shortened(path)} ${fault}. ${fix}.`, {
    resource: shortened(path),
    ...details,
  })
}

/** A path goes into records, which are kept for good, so it may not have any length. */
function shortened(path: string): string {
  return path.slice(0, 200)
}

/** Whole segments only: `embeddings` is not meant to open `/v1/my-embeddings`. */
function isPassedThrough(path: string, ends: readonly string[] = []): boolean {
  return ends.some((end) => path.endsWith(end.startsWith('/') ? end : `/${end}`))
}

function refusalResponse(refusal: Refusal): Response {
  return Response.json(refusalToBody(refusal), { status: refusal.status, headers: { 'x-should-retry': 'false' } })
}

/** The promise, or the reason of the signal, whichever is first. The promise goes on by itself. */
async function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise
  let abort!: () => void
  const left = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason as Error)
    if (signal.aborted) abort()
    else signal.addEventListener('abort', abort, { once: true })
  })
  try {
    return await Promise.race([promise, left])
  } finally {
    signal.removeEventListener('abort', abort)
    // It may still fail later, when nobody waits for it any more; whoever drains it deals with that.
    promise.catch(() => undefined)
  }
}
