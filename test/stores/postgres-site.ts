// Where the processes of a test find their Postgres server: its address lies in their directory.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Pool } from 'pg'
import { sleep } from '../../src/lib/clock.ts'
import { HoldfastError } from '../../src/lib/errors.ts'
import { migratePostgres, postgresStore } from '../../src/stores/postgres.ts'
import type { Store } from '../../src/stores/store.ts'

/** Makes a directory lead to a server, and the tables there. */
export async function settlePostgres(directory: string, url: string): Promise<void> {
  writeFileSync(join(directory, 'postgres.url'), url)
  const pool = new Pool({ connectionString: url })
  await migratePostgres(pool)
  await pool.end()
}

/** Opens the store of a directory. While its server is down, whoever uses it waits. */
export async function openPostgres(directory: string): Promise<Store> {
  const pool = new Pool({ connectionString: readFileSync(join(directory, 'postgres.url'), 'utf8'), max: 4 })
  pool.on('error', () => {})
  const store = await patiently(async () => postgresStore(pool))
  return {
    ...store,
    async apply(batches) {
      try {
        return await store.apply(batches)
      } catch (error) {
        // Certainly not applied, so it may be sent again as it is.
        if (isAway(error)) return { outcome: 'contended' }
        throw error
      }
    },
    read: async (keys) => patiently(async () => store.read(keys)),
    list: async (prefix, range) => patiently(async () => store.list(prefix, range)),
    async close() {
      await store.close()
      await pool.end()
    },
  }
}

function isAway(error: unknown): boolean {
  return HoldfastError.isInstance(error) && error.code === 'ERR_STORE'
}

async function patiently<T>(attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      if (!isAway(error)) throw error
    }
    await sleep(50)
  }
}
