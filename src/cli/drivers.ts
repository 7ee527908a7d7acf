// Stores on a server need the driver of the team's choice. It is loaded when such a store is asked for, and whoever has
// not installed it is told what to install.

import { HoldfastError } from '../lib/errors.ts'
import { migratePostgres, postgresStore, type PostgresPool } from '../stores/postgres.ts'
import { redisStore, type IoredisClient } from '../stores/redis.ts'
import type { Store } from '../stores/store.ts'
import { shownStore, type StoreAddress } from './store-address.ts'

/** How long a command waits for a server, ms. */
const TIMEOUT_MS = 5_000

interface RedisDriver {
  readonly Redis: new (
    url: string,
    options: object,
  ) => IoredisClient & {
    on(event: 'error', heard: (error: Error) => void): void
    connect(): Promise<void>
    exists(key: string): Promise<number>
    disconnect(): void
  }
}

interface PostgresDriver {
  readonly Pool: new (options: object) => PostgresPool & { on(event: 'error', heard: () => void): void; end(): Promise<void> }
}

/**
 * Opens the store of a Redis server; closing it ends the client too.
 *
 * @param create - Make it if it is not there: who only looks must not.
 * @throws {HoldfastError} `ERR_STORE`
 */
export async function openRedis(address: StoreAddress, create: boolean): Promise<Store> {
  const { Redis } = await driver<RedisDriver>('ioredis', address)
  const client = new Redis(address.at, { lazyConnect: true, connectTimeout: TIMEOUT_MS, retryStrategy: () => null })
  let cause: Error | undefined
  client.on('error', (error) => (cause = error))
  try {
    await client.connect().catch((error: unknown) => {
      throw unreachable(address, cause ?? error)
    })
    const prefix = address.part ?? 'default'
    if (!create && (await client.exists(`{holdfast:${prefix}}:meta`)) === 0) throw missing(address)
    const store = await redisStore(client, { prefix, timeoutMs: TIMEOUT_MS })
    return closing(store, async () => client.disconnect())
  } catch (error) {
    client.disconnect()
    throw error
  }
}

/**
 * Opens the store of a Postgres server; closing it ends the pool too.
 *
 * @throws {HoldfastError} `ERR_STORE`, also when its tables are not there: `holdfast store migrate` makes them.
 */
export async function openPostgres(address: StoreAddress): Promise<Store> {
  const pool = await poolOf(address)
  try {
    const store = await postgresStore(pool, { timeoutMs: TIMEOUT_MS, ...schemaOf(address) })
    return closing(store, () => pool.end())
  } catch (error) {
    await pool.end()
    throw error
  }
}

/** Makes the tables of a Postgres store, or brings them up to date. @throws {HoldfastError} `ERR_STORE` */
export async function migrate(address: StoreAddress): Promise<void> {
  const pool = await poolOf(address)
  try {
    await migratePostgres(pool, schemaOf(address))
  } finally {
    await pool.end()
  }
}

async function poolOf(address: StoreAddress) {
  const { Pool } = await driver<PostgresDriver>('pg', address)
  const pool = new Pool({ connectionString: address.at, max: 4, connectionTimeoutMillis: TIMEOUT_MS })
  // A connection that is lost while it is idle is no news to whoever uses it next.
  pool.on('error', () => undefined)
  return pool
}

const schemaOf = ({ part }: StoreAddress): { schema?: string } => (part === undefined ? {} : { schema: part })

async function driver<T>(name: string, address: StoreAddress): Promise<T> {
  try {
    const loaded = (await import(name)) as T & { readonly default?: T }
    // What CommonJS exports is found under `default` for certain, under its own names only where Node has seen them.
    return { ...loaded.default, ...loaded }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new HoldfastError('ERR_STORE', `${shownStore(address)} needs the package \`${name}\`: npm install ${name}`, { cause: error })
  }
}

function closing(store: Store, end: () => Promise<void>): Store {
  return {
    ...store,
    async close() {
      await store.close()
      await end()
    },
  }
}

/** There is a server, and it has no such store. */
function missing(address: StoreAddress): HoldfastError {
  return new HoldfastError('ERR_STORE', `There is no store in ${shownStore(address)}. A kernel makes it, or: holdfast budget init`)
}

const unreachable = (address: StoreAddress, cause: unknown): HoldfastError =>
  new HoldfastError('ERR_STORE', `${shownStore(address)} cannot be reached: ${cause instanceof Error ? cause.message : String(cause)}`, {
    cause,
  })
