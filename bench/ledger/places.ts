// Where holds are measured: a store of each kind, as durable as a hard budget needs it, with a server of its own where
// it needs one. Everything a process has to know travels as JSON.

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { Pool } from 'pg'
import { fileStore } from '../../src/stores/file.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { migratePostgres, postgresStore } from '../../src/stores/postgres.ts'
import { redisStore } from '../../src/stores/redis.ts'
import { sqliteStore } from '../../src/stores/sqlite.ts'
import type { Store } from '../../src/stores/store.ts'
import { postgresBinaries, startPostgres } from '../../test/stores/postgres-server.ts'
import { DURABLE, startRedis } from '../../test/stores/redis-server.ts'
import { findProgram } from '../../test/stores/servers.ts'
import { CONNECTIONS, dataOf, urlOf, type Address, type Kind } from './address.ts'
import { makeByHand } from './by-hand.ts'

/** A place that exists until it is stopped. */
export interface Place extends Address {
  readonly stop: () => Promise<void>
}

/** Whether a store of this kind can be measured here. */
export function isHere(kind: Kind): boolean {
  if (kind === 'redis') return findProgram('redis-server') !== undefined
  return kind !== 'postgres' || postgresBinaries() !== undefined
}

/** Makes a place, with what the yardstick by hand needs. */
export async function openPlace(kind: Kind): Promise<Place> {
  const directory = mkdtempSync(join(process.env['HOLDFAST_BENCH_DIR'] ?? tmpdir(), `holdfast-bench-${kind}-`))
  mkdirSync(dataOf({ kind, directory }))
  const server = await serverOf(kind)
  const address: Address = { kind, directory, ...(server === undefined ? {} : { port: server.port }) }
  if (kind === 'postgres') {
    const pool = new Pool({ connectionString: urlOf(address) })
    pool.on('error', () => undefined)
    await migratePostgres(pool)
    await pool.end()
  }
  await makeByHand(address)
  return {
    ...address,
    async stop() {
      await server?.stop()
      rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

async function serverOf(kind: Kind): Promise<{ readonly port: number; stop(): Promise<void> } | undefined> {
  if (kind === 'redis') return startRedis(DURABLE)
  return kind === 'postgres' ? startPostgres({ fsync: 'on', max_connections: '300' }) : undefined
}

/** Opens the store of a place; closing it ends its client too. */
export async function openStore(address: Address): Promise<Store> {
  const { kind, directory, port } = address
  if (kind === 'memory') return memoryStore()
  if (kind === 'file') return fileStore(dataOf(address))
  if (kind === 'sqlite') return sqliteStore(join(directory, 'state.db'))
  if (kind === 'redis') {
    const client = new Redis(port!, '127.0.0.1')
    return closing(await redisStore(client), async () => client.disconnect())
  }
  const pool = new Pool({ connectionString: urlOf(address), max: CONNECTIONS })
  // The server ends when all is measured, and may be faster than its connections.
  pool.on('error', () => undefined)
  return closing(await postgresStore(pool), () => pool.end())
}

const closing = (store: Store, end: () => Promise<void>): Store => ({
  ...store,
  async close() {
    await store.close()
    await end()
  },
})
