// Where histories happen: a store with a wire between each client and its server, on which bad things happen to the
// next group. Stores without a server have no wire; there the answer, or the request, is lost above the store.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { Pool } from 'pg'
import { createClient } from 'redis'
import { sleep } from '../../src/lib/clock.ts'
import { HoldfastError } from '../../src/lib/errors.ts'
import { fileStore } from '../../src/stores/file.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { migratePostgres, postgresStore } from '../../src/stores/postgres.ts'
import { redisStore, type RedisClient } from '../../src/stores/redis.ts'
import { sqliteStore } from '../../src/stores/sqlite.ts'
import type { GroupResult, Store } from '../../src/stores/store.ts'
import { startPostgresProxy } from '../stores/postgres-proxy.ts'
import { postgresBinaries, startPostgres } from '../stores/postgres-server.ts'
import { startProxy } from '../stores/redis-proxy.ts'
import { DURABLE, startRedis } from '../stores/redis-server.ts'
import { requireServer } from '../stores/servers.ts'

/** The stores that histories are recorded from. */
export const STORES = ['redis', 'postgres', 'sqlite', 'file', 'memory'] as const
/** One of them. */
export type StoreName = (typeof STORES)[number]

/** Where a store is, for any process of this machine. */
export interface Address {
  readonly store: StoreName
  /** Of a server. */
  readonly port?: number
  readonly directory?: string
}

/**
 * What happens to the next group. `cut`: its connection ends between its work and its answer; `mute`: its answer
 * stays out, and then the connection ends; `hold`: it arrives late, perhaps after its client gave up; `orphan`: it
 * arrives after its connection was lost; `lose-reply` and `lose-request`: above a store without a server.
 */
export type Fault = 'cut' | 'mute' | 'hold' | 'orphan' | 'lose-reply' | 'lose-request'

/** What can happen to one client. */
export interface Wire {
  readonly faults: readonly Fault[]
  /** Lets it happen, and resolves when all is well again. @param share - Of the longest time, from 0 to 1. */
  strike(fault: Fault, share: number): Promise<void>
}

/** A client of a store. */
export interface SiteClient {
  readonly store: Store
  readonly wire: Wire
  close(): Promise<void>
}

/** A store that histories are recorded from. */
export interface Site {
  readonly address: Address
  /** Ends the server as a crash of its process does, and starts it again. Stores without a server have none. */
  crash?(): Promise<void>
  stop(): Promise<void>
}

/** How long a client waits for an answer, ms: short, since each lost one takes that long. */
const TIMEOUT_MS = 300
/** Faults last up to this part of it, so that some clients give up and some do not. */
const LONGEST_FAULT = 1.4
const PATIENCE_MS = 30_000

/** Whether the histories of a store can be recorded here; says so where they cannot. @throws Where `CI` is set. */
export function available(store: StoreName): boolean {
  if (store === 'redis') return requireServer('redis-server', 'histories of the Redis store')
  if (store === 'postgres') return requireServer('postgres', 'histories of the Postgres store', postgresBinaries() !== undefined)
  return true
}

/** Starts a store. */
export async function startSite(store: StoreName): Promise<Site> {
  if (store === 'redis') {
    const server = await startRedis(DURABLE)
    const crash = async (): Promise<void> => {
      await server.kill()
      await server.start()
    }
    return { address: { store, port: server.port }, crash, stop: () => server.stop() }
  }
  if (store === 'postgres') {
    const server = await startPostgres()
    const pool = new Pool({ connectionString: server.url, max: 1 })
    await migratePostgres(pool)
    await pool.end()
    const crash = async (): Promise<void> => {
      await server.kill('SIGQUIT')
      await server.start()
    }
    return { address: { store, port: server.port }, crash, stop: () => server.stop() }
  }
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-histories-'))
  return { address: { store, directory }, stop: async () => rmSync(directory, { recursive: true, force: true }) }
}

/** Opens a client. @param index - Of the client: those of Redis take turns with the driver. */
export async function openClient(address: Address, index: number): Promise<SiteClient> {
  if (address.store === 'redis') return redisSiteClient(address.port!, index)
  if (address.store === 'postgres') return postgresSiteClient(address.port!)
  const path = address.directory!
  if (address.store === 'sqlite') return localClient(sqliteStore(join(path, 'state.db')))
  if (address.store === 'file') return localClient(fileStore(path))
  return localClient(sharedMemory(path))
}

/** Tries for as long as a busy machine may need: the time that clients are given is short. */
export async function patiently<T>(attempt: () => Promise<T>): Promise<T> {
  const until = performance.now() + PATIENCE_MS
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      if (!HoldfastError.isInstance(error) || error.code !== 'ERR_STORE' || performance.now() > until) throw error
      await sleep(50)
    }
  }
}

async function redisSiteClient(port: number, index: number): Promise<SiteClient> {
  const proxy = await startProxy(port)
  const { client, end } = index % 2 === 0 ? ioredis(proxy.port) : await nodeRedis(proxy.port)
  const store = await patiently(async () => redisStore(client, { prefix: 'histories', timeoutMs: TIMEOUT_MS }))
  const strike = async (fault: Fault, share: number): Promise<void> => {
    if (fault === 'cut') return proxy.cutNextAnswer()
    if (fault === 'mute') proxy.mute(true)
    else proxy.hold(true)
    await sleep(share * LONGEST_FAULT * TIMEOUT_MS)
    if (fault === 'hold') return proxy.hold(false)
    if (fault === 'mute') {
      // Bytes that are gone must not be followed by others on the same connection.
      await proxy.down()
      proxy.mute(false)
      return proxy.up()
    }
    const late = proxy.orphan()
    // The wire keeps what it holds only if it still holds when its client's end is seen.
    await sleep(20)
    proxy.hold(false)
    await sleep(share * TIMEOUT_MS)
    late.deliver()
  }
  return {
    store,
    wire: { faults: ['cut', 'mute', 'hold', 'orphan'], strike },
    async close() {
      await store.close()
      end()
      await proxy.stop()
    },
  }
}

interface Driver {
  readonly client: RedisClient
  readonly end: () => void
}

function ioredis(port: number): Driver {
  const client = new Redis(port, '127.0.0.1')
  client.on('error', () => {})
  return { client, end: () => client.disconnect() }
}

async function nodeRedis(port: number): Promise<Driver> {
  const client = createClient({ url: `redis://127.0.0.1:${port}` })
  client.on('error', () => {})
  await client.connect()
  return { client, end: () => client.destroy() }
}

async function postgresSiteClient(port: number): Promise<SiteClient> {
  const proxy = await startPostgresProxy(port)
  const pool = new Pool({ connectionString: `postgres://postgres@127.0.0.1:${proxy.port}/postgres`, max: 4 })
  pool.on('error', () => {})
  const store = await patiently(async () => postgresStore(pool, { timeoutMs: TIMEOUT_MS }))
  const strike = async (fault: Fault, share: number): Promise<void> => {
    if (fault === 'cut') return proxy.cutNextAnswer()
    proxy.holdNextGroup()
    await sleep(share * LONGEST_FAULT * TIMEOUT_MS)
    await proxy.letGo()
  }
  return {
    store,
    wire: { faults: ['cut', 'hold'], strike },
    async close() {
      await store.close()
      const ended = pool.end()
      await proxy.stop()
      await ended
    },
  }
}

const memories = new Map<string, { readonly store: Store; users: number }>()

/** The memory store of a directory, so that the clients of a process share one. */
function sharedMemory(directory: string): Store {
  const memory = memories.get(directory) ?? { store: memoryStore(), users: 0 }
  memory.users += 1
  memories.set(directory, memory)
  return {
    ...memory.store,
    async close() {
      memory.users -= 1
      if (memory.users > 0) return
      memories.delete(directory)
      await memory.store.close()
    },
  }
}

function localClient(store: Store): SiteClient {
  let next: Fault | undefined
  const wire: Wire = {
    faults: ['lose-reply', 'lose-request'],
    strike: async (fault) => void (next = fault),
  }
  const unknown = (): GroupResult => ({ outcome: 'unknown', cause: new Error(`The wire of the history lost this group.`) })
  const apply: Store['apply'] = async (batches) => {
    const fault = next
    next = undefined
    if (fault === 'lose-request') return unknown()
    const answer = await store.apply(batches)
    return fault === 'lose-reply' ? unknown() : answer
  }
  return { store: { ...store, apply }, wire, close: () => store.close() }
}
