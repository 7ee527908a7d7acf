// Watching a Postgres store: who is woken by what, with notifications, without them, and when their connection breaks.

import { spawnSync } from 'node:child_process'
import { Client, Pool } from 'pg'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { sleep } from '../../src/lib/clock.ts'
import { migratePostgres, postgresStore, type PostgresListener, type PostgresStoreOptions } from '../../src/stores/postgres.ts'
import { decodeNotice } from '../../src/stores/postgres/wire.ts'
import type { Store } from '../../src/stores/store.ts'
import { adding, setting, times } from '../../src/testing/store-bench.ts'
import { postgresBinaries, startPostgres, type PostgresServer } from './postgres-server.ts'
import { requireServer } from './servers.ts'

const available = requireServer('postgres', 'watching a Postgres store', postgresBinaries() !== undefined)
const ADD = { add: [{ key: 'k/n', by: 1 }] }
/** Longer than the store looks at the version twice, ms. */
const LONG_MS = 1_600

let server: PostgresServer
let pool: Pool
let schemas = 0
beforeAll(async () => {
  if (!available) return
  server = await startPostgres()
  pool = new Pool({ connectionString: server.url, max: 6 })
  pool.on('error', () => {})
})
afterAll(async () => {
  if (!available) return
  await pool.end()
  await server.stop()
})

async function twoStores(options: PostgresStoreOptions = {}): Promise<{ store: Store; other: Store; schema: string }> {
  const schema = `watch_${++schemas}`
  await migratePostgres(pool, { schema })
  const stores = await Promise.all([postgresStore(pool, { schema, ...options }), postgresStore(pool, { schema })])
  for (const store of stores) onTestFinished(() => store.close())
  return { store: stores[0], other: stores[1], schema }
}

function counting(store: Store, prefix: string): { calls: number } {
  const counter = { calls: 0 }
  onTestFinished(store.watch(prefix, () => (counter.calls += 1)))
  return counter
}

/** Waits until as many connections listen. */
async function listening(schema: string, count = 1): Promise<readonly number[]> {
  for (;;) {
    const found = await server.query(`SELECT pid FROM pg_stat_activity WHERE query = 'LISTEN holdfast_${schema}'`)
    const [{ watched }] = (await server.query(`SELECT watched_until_ms > 0 AS watched FROM ${schema}.meta`)) as [{ watched: boolean }]
    if (found.length >= count && watched) return found.map(({ pid }) => Number(pid))
    await sleep(20)
  }
}

async function woken(counter: { calls: number }, withinMs: number): Promise<boolean> {
  const until = performance.now() + withinMs
  while (counter.calls === 0 && performance.now() < until) await sleep(5)
  return counter.calls > 0
}

describe.runIf(available)('watching a Postgres store', () => {
  test('a write of another client wakes those who wait for its keys, and nobody else', async () => {
    const { store, other, schema } = await twoStores()
    const [hit, missed] = [counting(store, 'k/é\\\u{1f600}'), counting(store, 'k/b')]
    await listening(schema)
    await other.apply([
      setting('k/é\\\u{1f600}\ufb00/1', 1),
      setting('k/c', 1),
      { check: [{ key: 'k/b', version: 9 }], ...setting('k/b', 1) },
    ])
    expect(await woken(hit, 400)).toBe(true)
    await sleep(LONG_MS)
    expect([hit.calls, missed.calls]).toEqual([1, 0])
  })

  test('own writes wake at once, and once', async () => {
    const { store, schema } = await twoStores()
    const counter = counting(store, 'k/')
    await listening(schema)
    await store.apply([ADD])
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
    expect(counter.calls).toBe(1)
    await sleep(LONG_MS)
    expect(counter.calls).toBe(1)
  })

  test('a group in which everything was refused wakes nobody', async () => {
    const { store, other, schema } = await twoStores()
    const counter = counting(store, '')
    await listening(schema)
    for (const one of [store, other]) await one.apply([{ check: [{ key: 'k/a', version: 7 }], ...ADD }])
    await sleep(LONG_MS)
    expect(counter.calls).toBe(0)
  })

  test('a group with more keys than notifications hold wakes everyone, and one with many exactly', async () => {
    const { store, other, schema } = await twoStores()
    const [few, none, all] = [counting(store, 'k/999'), counting(store, 'other/'), counting(store, '')]
    await listening(schema)
    await other.apply([{ set: times(1_000, (index) => ({ key: `k/${index}`, value: 1 })) }])
    expect(await woken(few, 400)).toBe(true)
    await sleep(LONG_MS)
    expect([few.calls, none.calls]).toEqual([1, 0])
    await other.apply([{ set: times(200, (index) => ({ key: `${'x'.repeat(1_000)}${index}`, value: 1 })) }])
    expect(await woken(none, 400)).toBe(true)
    expect(all.calls).toBeGreaterThan(0)
  })

  test('nobody is notified while nobody watches', async () => {
    const { store, other, schema } = await twoStores()
    const client = new Client({ connectionString: server.url })
    await client.connect()
    onTestFinished(async () => client.end())
    let notices = 0
    client.on('notification', () => (notices += 1))
    await client.query(`LISTEN holdfast_${schema}`)
    await other.apply([ADD])
    await client.query('SELECT 1')
    expect(notices).toBe(0)
    counting(store, '')
    await listening(schema)
    await other.apply([ADD])
    await client.query('SELECT 1')
    expect(notices).toBe(1)
  })

  test('a listening connection that breaks is made again, and what was written meanwhile wakes', async () => {
    const { store, other, schema } = await twoStores()
    const counter = counting(store, 'k/')
    const [pid] = await listening(schema)
    await server.query(`SELECT pg_terminate_backend(${pid!})`)
    await other.apply([ADD])
    expect(await woken(counter, LONG_MS)).toBe(true)
    expect(await listening(schema)).not.toContain(pid)
  })

  test('without notifications, as behind some poolers, a slow look at the version wakes', async () => {
    const deaf = (): PostgresListener => ({
      connect: async () => {
        throw new Error('No notifications here.')
      },
      end: async () => {},
      query: async () => ({ rows: [] }),
      on: () => {},
      off: () => {},
    })
    const { store, other } = await twoStores({ listen: deaf })
    const counter = counting(store, 'k/')
    await sleep(100)
    await other.apply([ADD])
    expect(await woken(counter, LONG_MS)).toBe(true)
  })

  test('a single client is listened beside, on a connection like its own or on one that is given', async () => {
    for (const listen of [undefined, () => new Client({ connectionString: server.url })]) {
      const { other, schema } = await twoStores()
      const client = new Client({ connectionString: server.url })
      await client.connect()
      const store = await postgresStore(client, { schema, ...(listen === undefined ? {} : { listen }) })
      const counter = counting(store, 'k/')
      await listening(schema)
      await other.apply([ADD])
      expect(await woken(counter, 400)).toBe(true)
      await store.close()
      await client.end()
    }
  })

  test('the last watch that stops ends the listening connection', async () => {
    const { store, schema } = await twoStores()
    const stop = store.watch('', () => {})
    await listening(schema)
    stop()
    const listeners = `SELECT FROM pg_stat_activity WHERE query = 'LISTEN holdfast_${schema}'`
    while ((await server.query(listeners)).length > 0) await sleep(20)
    store.watch('', () => {})()
    await sleep(300)
    expect(await server.query(listeners)).toEqual([])
  })

  test('watching does not keep a process alive', () => {
    const script = `
    import { createRequire } from 'node:module'
    const { Pool } = createRequire(${JSON.stringify(import.meta.url)})('pg')
    const { postgresStore } = await import(${JSON.stringify(new URL('../../src/stores/postgres.ts', import.meta.url).href)})
    const pool = new Pool({ connectionString: ${JSON.stringify(server.url)}, allowExitOnIdle: true })
    const store = await postgresStore(pool, { schema: 'exits', migrate: true })
    store.watch('', () => {})
    setTimeout(() => process.stdout.write('listening'), 700)`
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      timeout: 20_000,
      encoding: 'utf8',
    })
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'listening', stderr: '' })
  })

  test('many stores that wait for one another come to rest', async () => {
    const { schema } = await twoStores()
    const stores = await Promise.all(times(3, async () => postgresStore(pool, { schema })))
    let attempts = 0
    for (const store of stores) {
      onTestFinished(() => store.close())
      // What a waiter does: it tries again whenever it is woken, and is refused.
      onTestFinished(store.watch('k/', () => void ((attempts += 1), store.apply([adding('k/free', -1, { min: 0 })]))))
    }
    await listening(schema, 3)
    await stores[0]!.apply([setting('k/other', 1)])
    await sleep(LONG_MS)
    expect(attempts).toBe(3)
  })
})

test('a notification that is none of the store’s says that anything may have changed', () => {
  expect(decodeNotice('client\n7\nkeys\nk/a\nk/\\303\\251\\\\').keys).toEqual(['k/a', 'k/é\\'])
  for (const payload of ['', 'x', 'client\n7\nall', 'client\n7\nsomething later']) expect(decodeNotice(payload).keys).toBeUndefined()
})
