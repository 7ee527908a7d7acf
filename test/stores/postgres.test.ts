// The Postgres store passes the store suite, on a Pool and on a single Client, each case in a schema of its own.

import { Client, Pool } from 'pg'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { migratePostgres, postgresStore } from '../../src/stores/postgres.ts'
import type { Store } from '../../src/stores/store.ts'
import type { StoreUnderTest } from '../../src/testing/store-bench.ts'
import { testStore } from '../../src/testing/store-suite.ts'
import { postgresBinaries, startPostgres, type PostgresServer } from './postgres-server.ts'
import { requireServer } from './servers.ts'

const available = requireServer('postgres', 'the Postgres store', postgresBinaries() !== undefined)

let server: PostgresServer
let pool: Pool
let schemas = 0
beforeAll(async () => {
  if (!available) return
  server = await startPostgres()
  pool = new Pool({ connectionString: server.url, max: 4 })
  pool.on('error', () => {})
})
afterAll(async () => {
  if (!available) return
  await pool.end()
  await server.stop()
})

function schemaOf({ store }: StoreUnderTest): string {
  return /\.(\w+) at /.exec(store.name)![1]!
}

/** Opens stores and remembers what to end after them. */
function suite(name: string, open: (schema: string) => Promise<Store>): void {
  const another = async (first: StoreUnderTest): Promise<Store> => open(schemaOf(first))
  testStore(test, {
    name,
    async create() {
      const schema = `case_${++schemas}`
      await migratePostgres(pool, { schema })
      return { store: await open(schema) }
    },
    second: another,
    reopen: another,
    destroy: async (first) => void (await pool.query(`DROP SCHEMA ${schemaOf(first)} CASCADE`)),
  })
}

describe.runIf(available)('postgres', () => {
  suite('pool', async (schema) => postgresStore(pool, { schema }))
  suite('client', async (schema) => {
    const client = new Client({ connectionString: server.url })
    await client.connect()
    const store = await postgresStore(client, { schema })
    let ended: Promise<void> | undefined
    return { ...store, close: () => (ended ??= store.close().then(async () => client.end())) }
  })
})
