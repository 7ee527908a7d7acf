// Where a soak takes place: a store of each kind, with its server and the wire to it, and the data directory that all
// processes share. Each server promises as much as a hard budget needs, since what a soak proves stands on that.

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { Pool } from 'pg'
import { sleep } from '../src/lib/clock.ts'
import { HoldfastError } from '../src/lib/errors.ts'
import { fileStore } from '../src/stores/file.ts'
import { migratePostgres, postgresStore } from '../src/stores/postgres.ts'
import { redisStore } from '../src/stores/redis.ts'
import { sqliteStore } from '../src/stores/sqlite.ts'
import type { Store } from '../src/stores/store.ts'
import { startPostgres } from '../test/stores/postgres-server.ts'
import { DURABLE, startRedis } from '../test/stores/redis-server.ts'
import { startWire, type Wire } from './wire.ts'

/** The stores that can be soaked. */
export const STORES = ['file', 'sqlite', 'redis', 'postgres'] as const
/** One of them. */
export type StoreName = (typeof STORES)[number]

/** What a process has to know to open the store; it travels as JSON. */
export interface Address {
  readonly store: StoreName
  /** Of this soak alone. */
  readonly directory: string
  /** Of the server, or of the wire to it. */
  readonly port?: number
}

/** A place with a store. */
export interface Site {
  /** For who must not be cut off: the parent, who looks. */
  readonly direct: Address
  /** For the processes. */
  readonly wired: Address
  readonly wire?: Wire
  /** Kills the server as a crash does, and starts it again after a while. */
  readonly restart?: (downMs: number) => Promise<void>
  stop(): Promise<void>
}

/** How long a process tries to open a store whose server is away, ms. */
const OPEN_MS = 30_000
/** Answers that take longer are unknown; short, so that a wire that is held has consequences. */
const TIMEOUT_MS = 1_500
/** Small, so that the journal is sealed and folded all the time. */
const SEGMENT_BYTES = 262_144

/** The data directory of a soak: chains, and what a file store has. */
export const dataOf = ({ directory }: Address): string => join(directory, 'data')

/** Makes a place. */
export async function openSite(store: StoreName): Promise<Site> {
  const directory = mkdtempSync(join(tmpdir(), `holdfast-soak-${store}-`))
  mkdirSync(dataOf({ store, directory }))
  const remove = (): void => rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
  if (store === 'file' || store === 'sqlite') {
    const here: Address = { store, directory }
    return { direct: here, wired: here, stop: async () => remove() }
  }
  const server = store === 'redis' ? await startRedisSite() : await startPostgresSite()
  const wire = await startWire(server.port)
  return {
    direct: { store, directory, port: server.port },
    wired: { store, directory, port: wire.port },
    wire,
    restart: (downMs) => server.restart(downMs),
    async stop() {
      await wire.stop()
      await server.stop()
      remove()
    },
  }
}

async function startRedisSite() {
  const server = await startRedis(DURABLE)
  return {
    port: server.port,
    async restart(downMs: number) {
      await server.kill()
      await sleep(downMs)
      await server.start()
    },
    stop: () => server.stop(),
  }
}

async function startPostgresSite() {
  const server = await startPostgres({ fsync: 'on', max_connections: '300' })
  const pool = new Pool({ connectionString: server.url })
  await migratePostgres(pool)
  await pool.end()
  return {
    port: server.port,
    async restart(downMs: number) {
      await server.kill('SIGQUIT')
      await sleep(downMs)
      await server.start()
    },
    stop: () => server.stop(),
  }
}

/** Opens the store of a place, and waits for a server that is away; closing it ends the client too. */
export async function openStore(address: Address): Promise<Store> {
  const until = performance.now() + OPEN_MS
  for (;;) {
    try {
      return await openOnce(address)
    } catch (error) {
      if (!HoldfastError.isInstance(error) || error.code !== 'ERR_STORE' || performance.now() > until) throw error
    }
    await sleep(100)
  }
}

async function openOnce({ store, directory, port }: Address): Promise<Store> {
  if (store === 'file') return fileStore(join(directory, 'data'), { segmentBytes: SEGMENT_BYTES })
  if (store === 'sqlite') return sqliteStore(join(directory, 'state.db'))
  return store === 'redis' ? openRedis(port!) : openPostgres(port!)
}

async function openRedis(port: number): Promise<Store> {
  const client = new Redis(port, '127.0.0.1')
  // A server that is away is what this is about; the store says what came of it.
  client.on('error', () => undefined)
  const end = async (): Promise<void> => client.disconnect()
  return closing(() => redisStore(client, { timeoutMs: TIMEOUT_MS }), end)
}

async function openPostgres(port: number): Promise<Store> {
  const pool = new Pool({ connectionString: `postgres://postgres@127.0.0.1:${port}/postgres`, max: 4 })
  pool.on('error', () => undefined)
  return closing(
    () => postgresStore(pool, { timeoutMs: TIMEOUT_MS }),
    () => pool.end(),
  )
}

async function closing(open: () => Promise<Store>, end: () => Promise<void>): Promise<Store> {
  try {
    const store = await open()
    const close = async (): Promise<void> => {
      await store.close()
      await end()
    }
    return { ...store, close }
  } catch (error) {
    await end()
    throw error
  }
}
