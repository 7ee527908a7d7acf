// The SQLite store passes the store suite, on node:sqlite with and without full sync and on better-sqlite3.

import { createRequire } from 'node:module'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'vitest'
import type { SqliteDatabase } from '../../src/stores/sqlite.ts'
import { sqliteStore } from '../../src/stores/sqlite.ts'
import type { Store } from '../../src/stores/store.ts'
import { settableClock, type SettableClock, type StoreUnderTest } from '../../src/testing/store-bench.ts'
import { testStore } from '../../src/testing/store-suite.ts'

// It comes without types of its own.
const Database = createRequire(import.meta.url)('better-sqlite3') as new (file: string) => SqliteDatabase

function suite(name: string, open: (file: string, clock: SettableClock) => Store): void {
  const fileOf = ({ store }: StoreUnderTest): string => store.name.slice('sqlite '.length)
  const another = async (first: StoreUnderTest): Promise<Store> => open(fileOf(first), first.clock!)
  testStore(test, {
    name,
    async create() {
      const clock = settableClock()
      return { store: open(join(mkdtempSync(join(tmpdir(), 'holdfast-')), 'state.db'), clock), clock }
    },
    second: another,
    reopen: another,
    destroy: async (first) => rmSync(dirname(fileOf(first)), { recursive: true }),
  })
}

suite('sqlite (full)', (file, clock) => sqliteStore(file, { clock }))
suite('sqlite (os)', (file, clock) => sqliteStore(file, { clock, durability: 'os' }))
suite('sqlite (better-sqlite3)', (file, clock) => {
  const database = new Database(file)
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
  const store = sqliteStore(database, { clock })
  return {
    ...store,
    async close() {
      await store.close()
      database.close()
    },
  }
})
