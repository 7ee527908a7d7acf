// Where the demo keeps its budgets: in files, or on a server that you name.
//
//   npm run demo -- --store redis://127.0.0.1:6379
//   npm run demo -- --store postgres://postgres@127.0.0.1:5432/postgres
//   npm run demo -- --store sqlite
//
// The chains of the processes lie in files in any case; each process needs a disk of its own for that, no more.

import { basename, join } from 'node:path'
import { fileStore, type Store } from 'holdfast'

/** A store that is open, and what ends it and its connection. */
export interface OpenStore {
  readonly store: Store
  close(): Promise<void>
}

/** Opens the store of this run of the demo; `data` is its directory, and names it on a server. */
export async function openStore(address: string, data: string): Promise<OpenStore> {
  const name = basename(data).replaceAll(/\W/g, '_').toLowerCase()
  if (address === '' || address === 'file') {
    const store = fileStore(data)
    return { store, close: () => store.close() }
  }
  if (address === 'sqlite') {
    const { sqliteStore } = await import('holdfast/stores/sqlite')
    const store = sqliteStore(join(data, 'demo.db'))
    return { store, close: () => store.close() }
  }
  if (/^rediss?:/.test(address)) {
    const [{ Redis }, { redisStore }] = await Promise.all([import('ioredis'), import('holdfast/stores/redis')])
    const client = new Redis(address)
    const store = await redisStore(client, { prefix: name })
    return { store, close: async () => (await store.close(), void (await client.quit())) }
  }
  if (/^postgres(ql)?:/.test(address)) {
    const [pg, { postgresStore }] = await Promise.all([import('pg'), import('holdfast/stores/postgres')])
    const pool = new pg.default.Pool({ connectionString: address })
    pool.on('error', (error) => console.error(`Postgres: ${error.message}`))
    const store = await postgresStore(pool, { schema: name, migrate: true })
    return { store, close: async () => (await store.close(), pool.end()) }
  }
  throw new Error(`The demo knows no store ${JSON.stringify(address)}: file, sqlite, redis://..., postgres://...`)
}
