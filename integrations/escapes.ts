// An alarm for what goes around holdfast: it looks at every HTTP request of this process where Node itself makes
// them, below all frameworks and SDKs, and compares with what was held. It only watches: by then the request is on its way.

import '../src/lib/runtime.ts'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { ClientRequest } from 'node:http'
import { ambient } from '../src/lib/ambient.ts'
import type { Hold } from '../src/waist/hold.ts'
import type { ScopeSource } from '../src/waist/scope.ts'
import { scopeOf } from './common/scope-source.ts'
import { wireOf } from './wires/table.ts'

/** Options of {@link watchEscapes}. */
export interface WatchOptions {
  /** Further hosts whose model calls cost money: a gateway of your own, such as `llm.internal:8080`. A leading `.` takes every host below. @default none */
  readonly hosts?: readonly string[]
}

/** Hosts of providers; those with a `.` in front stand for every host below them. */
const PROVIDER_HOSTS: readonly string[] = [
  'api.openai.com',
  '.api.openai.com',
  '.openai.azure.com',
  '.cognitiveservices.azure.com',
  '.services.ai.azure.com',
  'api.anthropic.com',
  'generativelanguage.googleapis.com',
  '.aiplatform.googleapis.com',
  'aiplatform.googleapis.com',
  'api.mistral.ai',
  'api.groq.com',
  'api.deepseek.com',
  'api.x.ai',
  '.api.x.ai',
  'openrouter.ai',
  'api.together.xyz',
  'api.fireworks.ai',
  'api.cohere.com',
  'api.perplexity.ai',
  'ai-gateway.vercel.sh',
]
/** Regional endpoints of Vertex AI, `us-central1-aiplatform.googleapis.com`, and the model endpoints of AWS. */
const REGIONAL = /-aiplatform\.googleapis\.com$|^bedrock-(?:runtime|agent-runtime|mantle)\.[a-z0-9-]+\.amazonaws\.com$/
/** Most places that are told apart; beyond them an escape is counted under `other`. */
const MAX_PLACES = 1_000

/**
 * Watches the HTTP requests and WebSockets of this process that reach a provider without having been held: a client
 * without holdfast, a retry below an adapter, a realtime connection. Each place (host and path) is reported as an
 * `escape` with its 1st, 10th, 100th, … request: as an event, in the audit chain, and by `holdfast doctor`.
 *
 * It sees what goes through `fetch` and `node:http`, in this thread; programs that tools start, workers, HTTP/2 and
 * native clients it does not see.
 *
 * @param source - The scope to report to where a request has none of its own (`scope.enter`).
 * @returns Ends the watch.
 */
export function watchEscapes(source: ScopeSource, { hosts = [] }: WatchOptions = {}): () => void {
  const watched = [...PROVIDER_HOSTS, ...hosts.map(usual)]
  const counts = new Map<string, number>()
  const paid = new WeakMap<object, number>()

  /** Whether what the task carries pays for this request: one hold pays for one of them. */
  function isHeld(): boolean {
    const { attempt, hold } = ambient()
    const payer = attempt ?? ((hold as Hold | undefined)?.state === 'held' ? hold : undefined)
    if (payer === undefined) return false
    const requests = (paid.get(payer) ?? 0) + 1
    paid.set(payer, requests)
    return requests === 1
  }

  function report(host: string, what: string): void {
    const known = `${host} ${what}`
    const place = counts.has(known) || counts.size < MAX_PLACES ? known : 'other'
    const count = (counts.get(place) ?? 0) + 1
    counts.set(place, count)
    if (!/^10*$/.test(String(count))) return
    const scope = (ambient().scope as ReturnType<typeof scopeOf> | undefined) ?? scopeOf(source)
    const times = count === 1 ? '' : ` It is the ${count}th of this process.`
    const message = `${what} went to ${host} without a hold: no budget knows of it.${times} Put guardFetch(scope) under the client that sent it.`
    scope.report({ type: 'escape', message })
  }

  const isWatched = (host: string): boolean =>
    REGIONAL.test(host) || watched.some((one) => host === one || (one.startsWith('.') && host.endsWith(one)))

  function see(method: string, host: string, path: string): void {
    if (!isWatched(host) || wireOf(method, path, host.replace(/:\d+$/, '')) === 'free' || isHeld()) return
    report(host, `${method} ${path.slice(0, 200)}`)
  }

  /** Nothing holds what is said on a socket, whoever opened it. */
  function seeSocket(host: string, path: string): void {
    if (isWatched(host)) report(host, `A WebSocket to ${path.slice(0, 200)}`)
  }

  const onFetch = (message: unknown): void => {
    const { origin = '', method = 'GET', path } = (message as { request: { origin?: string | URL; method?: string; path: string } }).request
    see(method.toUpperCase(), usual(new URL(String(origin)).host), pathOf(path))
  }
  const onHttp = (message: unknown): void => {
    const { request } = message as { request: ClientRequest }
    const path = pathOf(request.path)
    const [named, dialled] = hostsOf(request)
    // A gateway is known by its name and port; whoever is dialled is not always who is named.
    const host = isWatched(named) ? named : dialled
    if (isSocket(request)) seeSocket(host, path)
    else see(request.method, host, path)
  }
  const onSocket = (message: unknown): void => {
    const url = new URL((message as { websocket: { url: string } }).websocket.url)
    seeSocket(usual(url.host), url.pathname)
  }
  const channels = [
    ['undici:request:create', onFetch],
    ['http.client.request.start', onHttp],
    ['undici:websocket:open', onSocket],
  ] as const
  for (const [channel, listener] of channels) subscribe(channel, listener)
  return () => {
    for (const [channel, listener] of channels) unsubscribe(channel, listener)
  }
}

/** The SDKs open their sockets by a package, which asks for them by a GET of `node:http`. */
function isSocket(request: ClientRequest): boolean {
  const upgrade = request.getHeader('upgrade')
  return typeof upgrade === 'string' && upgrade.toLowerCase() === 'websocket'
}

/** Whom a request names, and whom it dials. */
function hostsOf(request: ClientRequest): readonly [named: string, dialled: string] {
  const header = request.getHeader('host')
  const dialled = usual(request.host)
  return [typeof header === 'string' ? usual(header) : dialled, dialled]
}

/** The usual way to write a host, of which `API.OpenAI.com.:443` is another. */
function usual(host: string): string {
  return host
    .toLowerCase()
    .replace(/:(?:443|80)$/, '')
    .replace(/\.(?=:|$)/, '')
}

/** A path goes into records; what comes after it may be a key. */
function pathOf(path: string): string {
  return path.split('?', 1)[0]!
}
