// What a group does is written twice: as `evaluate` in table.ts, and in SQL for Postgres. Random groups must find both
// of one mind, batch by batch and key by key.

import * as fc from 'fast-check'
import { Pool } from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { memoryStore } from '../../src/stores/memory.ts'
import { migratePostgres, postgresStore } from '../../src/stores/postgres.ts'
import { sqliteStore } from '../../src/stores/sqlite.ts'
import type { Batch, Store } from '../../src/stores/store.ts'
import { join } from 'node:path'
import { temporaryDirectory } from './journal.ts'
import { postgresBinaries, startPostgres, type PostgresServer } from './postgres-server.ts'
import { requireServer } from './servers.ts'

const available = requireServer('postgres', 'the SQL of the Postgres store', postgresBinaries() !== undefined)
const RUNS = 40
const FAR_MS = 4_000_000_000_000

let server: PostgresServer
let pool: Pool
beforeAll(async () => {
  if (!available) return
  server = await startPostgres()
  pool = new Pool({ connectionString: server.url, max: 2 })
  pool.on('error', () => {})
})
afterAll(async () => {
  if (!available) return
  await pool.end()
  await server.stop()
})

const KEYS = ['a', 'b', 'c/1', 'c/2', '\u{1f600}', '\ufb00']
const bound = fc.option(fc.constantFrom(-5, 0, 3, 10, Number.MAX_SAFE_INTEGER), { nil: undefined })
const amount = fc.constantFrom(-7, -1, 0, 1, 2, 9, Number.MAX_SAFE_INTEGER, -Number.MAX_SAFE_INTEGER)
const value = fc.constantFrom(0, 5, -3, Number.MAX_SAFE_INTEGER, 2 ** 53, 1.5, 'x', '', null, true, [1, '"\\'], { n: 1, t: '\0{}' })
/** Long gone, or long to come: what expires meanwhile would be seen by one store and not by the other. */
const expiry = fc.option(fc.constantFrom(1, FAR_MS), { nil: undefined })

const batch: fc.Arbitrary<Batch> = fc
  .record({
    // Versions of a run are small, so that some checks hold.
    check: fc.array(fc.record({ key: fc.constantFrom(...KEYS), version: fc.nat(12) }), { maxLength: 1 }),
    writes: fc.uniqueArray(
      fc.record({
        key: fc.constantFrom(...KEYS),
        what: fc.constantFrom('add', 'set', 'delete'),
        by: amount,
        min: bound,
        max: bound,
        value,
        expiry,
      }),
      { maxLength: 4, selector: ({ key }) => key },
    ),
  })
  .map(({ check, writes }) => ({
    check,
    add: writes
      .filter(({ what }) => what === 'add')
      .map(({ key, by, min, max }) => ({ key, by, ...(min === undefined ? {} : { min }), ...(max === undefined ? {} : { max }) })),
    set: writes
      .filter(({ what }) => what === 'set')
      .map((one) => ({ key: one.key, value: one.value, ...(one.expiry === undefined ? {} : { expiresAtMs: one.expiry }) })),
    delete: writes.filter(({ what }) => what === 'delete').map(({ key }) => key),
  }))

/** The first groups on which a store and the model are not of one mind, if there are any. */
async function differenceOf(open: () => Promise<Store>): Promise<string | undefined> {
  const details = await fc.check(
    fc.asyncProperty(fc.array(fc.array(batch, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 6 }), async (groups) => {
      const [model, store] = [memoryStore(), await open()]
      try {
        for (const group of groups) {
          const expected = await model.apply(group)
          expect(await store.apply(group)).toMatchObject(expected)
        }
        expect(await store.list('', { limit: 100 })).toEqual(await model.list('', { limit: 100 }))
      } finally {
        await store.close()
      }
    }),
    { numRuns: Number(process.env['HOLDFAST_PROPERTY_RUNS'] ?? RUNS) },
  )
  return fc.defaultReportMessage(details)
}

test.runIf(available)('the SQL of the Postgres store judges every group as the model does', async () => {
  const schema = 'model'
  const difference = await differenceOf(async () => {
    await pool.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`)
    await migratePostgres(pool, { schema })
    return postgresStore(pool, { schema })
  })
  expect(difference).toBeUndefined()
})

test('the SQLite store judges every group as the model does', async () => {
  let files = 0
  const directory = temporaryDirectory()
  const difference = await differenceOf(async () => sqliteStore(join(directory, `${++files}.db`), { durability: 'os' }))
  expect(difference).toBeUndefined()
})
