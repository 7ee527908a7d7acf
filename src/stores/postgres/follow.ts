// How a Postgres store hears of the writes of others: notifications on a connection of its own, and a slow look at
// the version, since notifications get lost with their connection and do not pass some poolers.
//
// A NOTIFY makes commits of all databases of the server wait for one another, so groups send one only while
// somebody watches: a row says until when.

import { isPool, within, type Postgres, type PostgresClient } from './client.ts'
import { channelOf } from './schema.ts'
import { decodeNotice } from './wire.ts'
import type { Watchers } from '../watchers.ts'

/** A `Client` of pg that is not connected yet. */
export interface PostgresListener extends PostgresClient {
  connect(): Promise<unknown>
  end(): Promise<unknown>
  unref?(): void
}

/** How often the version is looked at, ms. */
const POLL_MS = 500
/** Groups notify for this long after the last word of a watcher, ms; it gives one three times as often. */
const WATCHED_MS = 60_000
/** Pause before a broken connection is made again, ms: twice as long each time. */
const RECONNECT_MS = { min: 100, max: 5_000 }
/** How long one attempt to connect may take, ms. */
const CONNECT_MS = 5_000

/** What following needs of its store. */
export interface FollowOptions {
  readonly postgres: Postgres
  readonly listen?: () => PostgresListener
  readonly schema: string
  /** Name of this client; its own notifications are old news. */
  readonly client: string
  readonly watchers: Watchers
  /** The version of the store, as the server says now. Rejects when it cannot. */
  readonly version: () => Promise<number>
  /** The latest version that this client has seen. */
  readonly seen: () => number
  /** Says that somebody watches for this long. */
  readonly watched: (forMs: number) => Promise<unknown>
}

/** Wakes watchers for what others write, without keeping the process alive. Returns the stop function. */
export function followPostgres(options: FollowOptions): () => void {
  const { postgres, schema, client, watchers } = options
  let stopped = false
  let listener: PostgresListener | undefined
  let listening = false
  let waitMs = RECONNECT_MS.min
  /** Everything up to this version was told to the watchers. */
  let told = options.seen()
  /** What the last look found: notifications of it must have come by the next one. */
  let found = told
  let watchedAt = Number.NEGATIVE_INFINITY
  let busy = false

  const onNotice = (message: unknown): void => {
    const notice = decodeNotice(String((message as { payload?: unknown }).payload))
    told = Math.max(told, notice.version)
    if (notice.client === client) return
    if (notice.keys === undefined) watchers.touchAll()
    else for (const key of notice.keys) watchers.touch(key)
  }

  async function look(): Promise<void> {
    if (busy) return
    busy = true
    try {
      if (performance.now() - watchedAt > WATCHED_MS / 3) {
        await options.watched(WATCHED_MS)
        watchedAt = performance.now()
      }
      const now = await options.version()
      if (!stopped && (listening ? found : now) > told) watchers.touchAll()
      told = Math.max(told, listening ? found : now)
      found = now
    } catch {
      // The store says what is wrong on its next use; whoever waits must wake to find that out.
      if (!stopped) watchers.touchAll()
    } finally {
      busy = false
    }
  }

  async function connect(): Promise<void> {
    const made = makeListener(postgres, options.listen)
    if (made === undefined || stopped) return
    listener = made
    const lost = (): void => {
      if (listener !== made) return
      listener = undefined
      listening = false
      made.end().catch(() => {})
      if (!stopped) timer(() => void connect(), (waitMs = Math.min(RECONNECT_MS.max, waitMs * 2)))
    }
    made.on('error', lost)
    made.on('end', lost)
    made.on('notification', onNotice)
    try {
      await within(CONNECT_MS, made.connect(), () => new Error('No connection to listen on.'))
      made.unref?.()
      await within(CONNECT_MS, made.query(`LISTEN ${channelOf(schema)}`), () => new Error('No answer to LISTEN.'))
      waitMs = RECONNECT_MS.min
      // What was written before nobody told us: the next look compares versions.
      await look()
      listening = true
    } catch {
      lost()
    }
  }

  const poll = setInterval(() => void look(), POLL_MS)
  poll.unref()
  void look()
  void connect()
  return () => {
    stopped = true
    clearInterval(poll)
    const last = listener
    listener = undefined
    last?.end().catch(() => {})
  }
}

function timer(run: () => void, ms: number): void {
  setTimeout(run, ms).unref()
}

type Constructor = new (config: unknown) => PostgresListener

/** Another connection to the same server: what the user makes, or one made as the pool and the client make theirs. */
function makeListener(postgres: Postgres, listen: (() => PostgresListener) | undefined): PostgresListener | undefined {
  if (listen !== undefined) return listen()
  if (isPool(postgres)) {
    const { Client, options } = postgres as { Client?: Constructor; options?: unknown }
    return Client === undefined ? undefined : new Client(options)
  }
  const { connectionParameters: given, constructor } = postgres as unknown as {
    connectionParameters?: Record<string, unknown>
    constructor: Constructor
  }
  if (given === undefined) return undefined
  const { host, port, user, database, password, ssl } = given
  return new constructor({ host, port, user, database, password, ssl })
}
