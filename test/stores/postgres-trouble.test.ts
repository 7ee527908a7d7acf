// The Postgres store in a world that does not keep still: replies that get lost, requests that come late, tables that
// are dropped or set back, servers and users that may not or cannot, settings under which acknowledged writes are lost.

import { spawn, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Client, Pool, type PoolConfig } from 'pg'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { sleep } from '../../src/lib/clock.ts'
import { groupCommits } from '../../src/stores/group.ts'
import { migratePostgres, postgresStore, type PostgresStoreOptions } from '../../src/stores/postgres.ts'
import type { Store } from '../../src/stores/store.ts'
import { adding, applyTo, setting, times, valuesOf } from '../../src/testing/store-bench.ts'
import { temporaryDirectory } from './journal.ts'
import { startPostgresProxy } from './postgres-proxy.ts'
import { postgresBinaries, startPostgres, type PostgresServer } from './postgres-server.ts'
import { requireServer } from './servers.ts'

const available = requireServer('postgres', 'the Postgres store in trouble', postgresBinaries() !== undefined)
const ADD = { add: [{ key: 'k/n', by: 1 }] }

let server: PostgresServer
let schemas = 0
beforeAll(async () => {
  if (available) server = await startPostgres()
})
afterAll(async () => {
  if (available) await server.stop()
})

/** A pool of this test. */
function poolOf(config: PoolConfig = {}): Pool {
  const pool = new Pool({ connectionString: server.url, max: 4, ...config })
  pool.on('error', () => {})
  onTestFinished(async () => pool.end())
  return pool
}

/** A schema of this test, with tables. */
async function schemaOf(): Promise<string> {
  const schema = `trouble_${++schemas}`
  await migratePostgres(poolOf(), { schema })
  return schema
}

async function openStore(options: PostgresStoreOptions = {}, config: PoolConfig = {}): Promise<Store> {
  const schema = options.schema ?? (await schemaOf())
  const store = await postgresStore(poolOf(config), { ...options, schema })
  onTestFinished(() => store.close())
  return store
}

function schemaIn(store: Store): string {
  return /\.(\w+) at /.exec(store.name)![1]!
}

/** What every use of a store fails with. */
async function failuresOf(store: Store): Promise<unknown[]> {
  const uses = [() => store.read(['k/n']), () => store.apply([ADD]), () => store.list('', { limit: 1 }), () => store.now()]
  const failures: unknown[] = []
  for (const use of uses) failures.push(await use().catch(({ code, message }: { code: unknown; message: unknown }) => ({ code, message })))
  return failures
}

function frozen(store: Store, what: string): unknown[] {
  return times(4, () => ({ code: 'ERR_DAMAGE', message: `${store.name} ${what} The store is frozen.` }))
}

describe.runIf(available)('tables', () => {
  test('that are not there are asked for, and made on request', async () => {
    const schema = `trouble_${++schemas}`
    const missing = { code: 'ERR_STORE', message: expect.stringMatching(/holdfast store migrate --store postgres:.*migrate: true/) }
    await expect(openStore({ schema })).rejects.toMatchObject(missing)
    const store = await openStore({ schema, migrate: true })
    expect(store.id).toMatch(/^[\w-]{22}$/)
    expect(await openStore({ schema, migrate: true })).toMatchObject({ id: store.id, name: store.name })
  })

  test('are made once when many make them at once', async () => {
    const schema = `trouble_${++schemas}`
    await Promise.all(times(8, async () => migratePostgres(poolOf(), { schema })))
    const ids = await Promise.all(times(3, async () => (await openStore({ schema })).id))
    expect(new Set(ids).size).toBe(1)
  })

  test('of a later format are refused, also when they get one while in use', async () => {
    const store = await openStore()
    await server.query(`UPDATE ${schemaIn(store)}.meta SET format = 2`)
    await expect(openStore({ schema: schemaIn(store) })).rejects.toMatchObject({
      code: 'ERR_STORE',
      message: expect.stringContaining('format 2'),
    })
    await expect(migratePostgres(poolOf(), { schema: schemaIn(store) })).rejects.toMatchObject({ code: 'ERR_STORE' })
    await expect(store.apply([ADD])).rejects.toMatchObject({ code: 'ERR_STORE', message: expect.stringContaining('format 2') })
    await expect(store.read(['k/n'])).rejects.toMatchObject({ code: 'ERR_STORE' })
  })

  test('that were dropped while in use freeze the store', async () => {
    const store = await openStore()
    await server.query(`DROP SCHEMA ${schemaIn(store)} CASCADE`)
    const [read, ...later] = (await failuresOf(store)) as { code: string; message: string }[]
    expect(read).toMatchObject({ code: 'ERR_DAMAGE', message: expect.stringContaining('has lost its tables') })
    expect(later).toEqual(times(3, () => read))
  })

  test('that were made anew while in use freeze the store', async () => {
    const store = await openStore()
    await server.query(`DROP SCHEMA ${schemaIn(store)} CASCADE`)
    await migratePostgres(poolOf(), { schema: schemaIn(store) })
    expect(await failuresOf(store)).toEqual(frozen(store, 'was replaced by another store while in use.'))
  })

  test.each(['read', 'apply'])('that went back to an earlier version freeze the store (found by %s)', async (how) => {
    const store = await openStore()
    await store.apply([ADD, ADD])
    await server.query(`UPDATE ${schemaIn(store)}.meta SET version = 1`)
    await expect(how === 'read' ? store.now() : store.apply([ADD])).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
    const what = 'went back from version 2 to 1 while in use (an older backup, or a standby that took over too early).'
    expect(await failuresOf(store)).toEqual(frozen(store, what))
    expect(await server.query(`SELECT amount FROM ${schemaIn(store)}.entries`)).toEqual([{ amount: '2' }])
  })

  test('that lost the row that names them freeze the store', async () => {
    const store = await openStore()
    await server.query(`DELETE FROM ${schemaIn(store)}.meta`)
    await expect(store.apply([ADD])).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
    await expect(openStore({ schema: schemaIn(store) })).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
  })

  test('say of the heads they named whether they still hold them', async () => {
    const [store, other] = [await openStore(), await openStore()]
    const heads = []
    for (const opened of [store, store, other]) {
      const answer = await opened.apply([ADD, ADD])
      heads.push(answer.outcome === 'applied' ? answer.head! : undefined!)
    }
    expect(heads[1]).toEqual({ segment: 0, bytes: 4, hash: store.id })
    const asked = [...heads, { ...heads[1]!, bytes: 5 }, { ...heads[1]!, segment: 1 }]
    expect(await store.holds!(asked)).toEqual(['yes', 'yes', 'no', 'no', 'unknown'])
  })

  test('lie in a schema with a plain name', async () => {
    for (const schema of ['', 'Caps', 'a"b', 'a;b', 'pg_x', 'x'.repeat(51)]) {
      await expect(migratePostgres(poolOf(), { schema })).rejects.toThrow(TypeError)
      await expect(postgresStore(poolOf(), { schema })).rejects.toThrow(TypeError)
    }
  })

  test('lose their expired rows in time, and none that lives', async () => {
    const store = await openStore()
    const soon = (await store.now()) + 100
    const set = times(500, (index) => ({ key: `k/${index}`, value: 1, expiresAtMs: index < 400 ? soon : soon + 3_600_000 }))
    await store.apply([{ set }])
    while ((await store.now()) <= soon) await sleep(20)
    await store.apply(times(1_100, () => ADD))
    expect(await server.query(`SELECT count(*)::int AS n FROM ${schemaIn(store)}.entries`)).toEqual([{ n: 101 }])
  })

  test('take the longest key there is, whatever it is made of', async () => {
    const store = await openStore()
    const keys = ['\u{1f600}'.repeat(512), 'é'.repeat(1_024), `${'\uffff'.repeat(682)}ab`]
    await store.apply([{ set: keys.map((key) => ({ key, value: 1 })) }])
    expect((await store.list('', { limit: 9 })).map(({ key }) => key)).toEqual(keys.toSorted())
  })
})

describe.runIf(available)('a lost reply', () => {
  async function behindProxy(options: PostgresStoreOptions = {}) {
    const proxy = await startPostgresProxy(server.port)
    onTestFinished(() => proxy.stop())
    const store = await openStore(options, { connectionString: server.url.replace(`:${server.port}`, `:${proxy.port}`) })
    return { proxy, store }
  }

  test('is unknown, and asked again under its id it is applied once', async () => {
    const { proxy, store } = await behindProxy()
    proxy.cutNextAnswer()
    expect(await store.apply([ADD])).toMatchObject({ outcome: 'unknown' })
    expect(await valuesOf(store, 'k/n')).toEqual([1])
    proxy.cutNextAnswer()
    expect(await groupCommits(store).commit({ id: 'a', ...ADD })).toMatchObject({ outcome: 'ok', values: [2] })
    expect(await valuesOf(store, 'k/n')).toEqual([2])
  })

  test('is unknown after the time that was given', async () => {
    const { proxy, store } = await behindProxy({ timeoutMs: 200 })
    proxy.holdNextGroup()
    const startedAt = performance.now()
    expect(await store.apply([ADD])).toMatchObject({ outcome: 'unknown' })
    expect(performance.now() - startedAt).toBeLessThan(2_000)
    expect(await valuesOf(store, 'k/n')).toEqual([undefined])
    expect(await store.apply([ADD])).toMatchObject({ results: [{ values: [1] }] })
  })

  test('may come of a request that is late: once its client has gone on, it is not applied any more', async () => {
    const { proxy, store } = await behindProxy({ timeoutMs: 200 })
    proxy.holdNextGroup()
    expect(await store.apply([adding('k/n', 100)])).toMatchObject({ outcome: 'unknown' })
    expect(await store.apply([ADD])).toMatchObject({ results: [{ values: [1] }] })
    await proxy.letGo()
    expect(await valuesOf(store, 'k/n')).toEqual([1])
    expect(await store.apply([ADD])).toMatchObject({ results: [{ values: [2] }] })
  })

  test('may come of a request that is late: once its client has looked what became of it, that stays so', async () => {
    const { proxy, store } = await behindProxy({ timeoutMs: 200 })
    for (const look of [async () => valuesOf(store, 'k/n'), async () => store.list('k/', { limit: 1 })]) {
      proxy.holdNextGroup()
      expect(await store.apply([adding('k/n', 100)])).toMatchObject({ outcome: 'unknown' })
      expect((await look()).filter((found) => found !== undefined)).toEqual([])
      await proxy.letGo()
      expect(await valuesOf(store, 'k/n')).toEqual([undefined])
    }
  })

  test('may come of a request that is late, and is applied when it comes before its client has gone on', async () => {
    const { proxy, store } = await behindProxy({ timeoutMs: 200 })
    proxy.holdNextGroup()
    expect(await store.apply([adding('k/n', 100)])).toMatchObject({ outcome: 'unknown' })
    await proxy.letGo()
    expect(await valuesOf(store, 'k/n')).toEqual([100])
  })

  test('of a single client is the last that it hears: from then on the store fails for certain', async () => {
    const schema = await schemaOf()
    const proxy = await startPostgresProxy(server.port)
    onTestFinished(() => proxy.stop())
    const client = new Client({ connectionString: server.url.replace(`:${server.port}`, `:${proxy.port}`) })
    await client.connect()
    const store = await postgresStore(client, { schema })
    onTestFinished(() => store.close())
    proxy.cutNextAnswer()
    expect(await store.apply([ADD])).toMatchObject({ outcome: 'unknown' })
    await expect(store.apply([ADD])).rejects.toMatchObject({ code: 'ERR_STORE', message: expect.stringContaining('cannot be reached') })
    expect(await valuesOf(await openStore({ schema }), 'k/n')).toEqual([1])
  })

  test('is what a commit is that waits for a standby in vain', async () => {
    const waiting = await startPostgres()
    onTestFinished(() => waiting.stop())
    const pool = poolOf({ connectionString: waiting.url })
    const store = await postgresStore(pool, { migrate: true, timeoutMs: 20_000 })
    onTestFinished(() => store.close())
    await waiting.query(`ALTER SYSTEM SET synchronous_standby_names = 'nobody'`)
    await waiting.query('SELECT pg_reload_conf()')
    const waits = `SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%apply_1%'`
    // The server takes its new settings up some time later; what is committed before waits for nobody.
    let applied: ReturnType<Store['apply']>
    do applied = store.apply([ADD])
    while ((await Promise.race([applied, sleep(500)])) !== undefined)
    while ((await waiting.query(waits)).length === 0) await sleep(50)
    await waiting.query(`SELECT pg_cancel_backend(pid) FROM (${waits}) AS w`)
    // It is committed here, and nowhere else.
    expect(await applied).toMatchObject({ outcome: 'unknown' })
  })
})

describe.runIf(available)('a server', () => {
  test('that is not there is an error at opening', async () => {
    const nowhere = { connectionString: server.url.replace(`:${server.port}`, ':1') }
    await expect(openStore({ schema: 'x' }, nowhere)).rejects.toMatchObject({
      code: 'ERR_STORE',
      message: expect.stringContaining('ECONNREFUSED'),
    })
    await expect(migratePostgres(poolOf(nowhere))).rejects.toMatchObject({ code: 'ERR_STORE' })
  })

  test('that goes away refuses for certain, and serves again when it is back', async () => {
    const own = await startPostgres()
    onTestFinished(() => own.stop())
    const store = await postgresStore(poolOf({ connectionString: own.url }), { migrate: true })
    onTestFinished(() => store.close())
    await store.apply([ADD])
    await own.kill('SIGINT')
    await expect(store.apply([ADD])).rejects.toMatchObject({ code: 'ERR_STORE' })
    await expect(store.read(['k/n'])).rejects.toMatchObject({ code: 'ERR_STORE' })
    await own.start()
    expect(await store.apply([ADD])).toMatchObject({ results: [{ values: [2] }] })
  })

  test('that wants another password, user or database says so', async () => {
    const hba = join(temporaryDirectory(), 'pg_hba.conf')
    writeFileSync(hba, 'host all locked 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n')
    spawnSync('chmod', ['-R', 'a+rX', join(hba, '..')])
    const strict = await startPostgres({ hba_file: hba })
    onTestFinished(() => strict.stop())
    await strict.query(`CREATE ROLE locked LOGIN PASSWORD 'right'`)
    for (const [to, what] of [
      ['locked:wrong@', 'does not let this user in'],
      ['nobody@', 'does not let this user in'],
    ] as const) {
      const pool = poolOf({ connectionString: strict.url.replace('postgres@', to) })
      await expect(postgresStore(pool)).rejects.toMatchObject({ code: 'ERR_STORE', message: expect.stringContaining(what) })
    }
    const pool = poolOf({ connectionString: strict.url.replace(/postgres$/, 'nothing') })
    await expect(postgresStore(pool)).rejects.toMatchObject({ code: 'ERR_STORE', message: expect.stringContaining('3D000') })
  })

  test('that does not permit something says so', async () => {
    const schema = await schemaOf()
    await server.query(`CREATE ROLE guest LOGIN`)
    const guest = { connectionString: server.url.replace('postgres@', 'guest@') }
    await expect(openStore({ schema }, guest)).rejects.toMatchObject({ code: 'ERR_STORE', message: expect.stringContaining('permit') })
    await expect(migratePostgres(poolOf(guest), { schema: 'of_guest' })).rejects.toMatchObject({ code: 'ERR_STORE' })
    // What a user needs who does not own the tables.
    await server.query(
      `GRANT USAGE ON SCHEMA ${schema} TO guest; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${schema} TO guest`,
    )
    expect(await (await openStore({ schema, migrate: true }, guest)).apply([ADD])).toMatchObject({ outcome: 'applied' })
  })

  test('that may only be read is refused, by role and as a standby', async () => {
    const schema = await schemaOf()
    const readOnly = { options: '-c default_transaction_read_only=on' }
    const store = await openStore({ schema }, readOnly)
    await expect(store.apply([ADD])).rejects.toMatchObject({ code: 'ERR_STORE', message: expect.stringContaining('cannot be written') })
    const own = await startPostgres()
    onTestFinished(() => own.stop())
    const demoted = await postgresStore(poolOf({ connectionString: own.url }), { migrate: true })
    onTestFinished(() => demoted.close())
    await own.kill('SIGINT')
    await own.start({ standby: true })
    // It may lag behind, so what it says is not even read.
    for (const use of [() => demoted.read(['k/n']), () => demoted.apply([ADD])])
      await expect(use()).rejects.toMatchObject({ code: 'ERR_STORE', message: expect.stringContaining('a standby') })
    await expect(postgresStore(poolOf({ connectionString: own.url }))).rejects.toMatchObject({
      code: 'ERR_STORE',
      message: expect.stringContaining('is a standby'),
    })
  })

  test('with another encoding than UTF8 is refused', async () => {
    await server.query(`CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0`)
    const latin = { connectionString: server.url.replace(/postgres$/, 'latin') }
    await expect(openStore({ schema: 'x' }, latin)).rejects.toMatchObject({ code: 'ERR_STORE', message: expect.stringContaining('LATIN1') })
  })

  test.each([
    ['53100', 'ERR_STORE_FULL'],
    ['XX001', 'ERR_DAMAGE'],
    ['P0001', 'ERR_STORE'],
    ['40001', { outcome: 'contended' }],
    ['40P01', { outcome: 'contended' }],
    ['55P03', { outcome: 'contended' }],
  ])('that fails with %s within a group has applied nothing, and it is said what that means', async (state, meaning) => {
    const store = await openStore()
    const s = schemaIn(store)
    await server.query(`
      CREATE FUNCTION ${s}.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '${state}'; END $$;
      CREATE TRIGGER fail AFTER INSERT ON ${s}.entries EXECUTE FUNCTION ${s}.fail()`)
    expect(await store.apply([ADD]).catch(({ code }: { code: unknown }) => code)).toEqual(meaning)
    await server.query(`DROP TRIGGER fail ON ${s}.entries`)
    expect(await valuesOf(await openStore({ schema: s }), 'k/n')).toEqual([undefined])
  })

  test('on which somebody else holds the lock of the store gives up in time, and the group is contended', async () => {
    const store = await openStore({ timeoutMs: 20_000 })
    const pool = poolOf()
    const holder = await pool.connect()
    await holder.query(`BEGIN; SELECT FROM ${schemaIn(store)}.meta FOR UPDATE`)
    expect(await store.apply([ADD])).toEqual({ outcome: 'contended' })
    expect(await valuesOf(store, 'k/n')).toEqual([undefined])
    await holder.query('ROLLBACK')
    holder.release()
    expect(await store.apply([ADD])).toMatchObject({ outcome: 'applied' })
  })

  test('whose connections others have taken refuses for certain', async () => {
    const pool = poolOf({ max: 1 })
    const store = await postgresStore(pool, { schema: await schemaOf(), timeoutMs: 200 })
    onTestFinished(() => store.close())
    const taken = await pool.connect()
    await expect(store.apply([ADD])).rejects.toMatchObject({
      code: 'ERR_STORE',
      message: expect.stringContaining('no connection of the pool was free'),
    })
    taken.release()
    expect(await store.apply([ADD])).toMatchObject({ results: [{ values: [1] }] })
  })

  test('may give a new connection to every request, as poolers do', async () => {
    const store = await openStore({}, { maxUses: 1 })
    const commits = times(20, async (index) => store.apply([adding('k/n', 1), setting(`k/${index}`, index)]))
    for (const answer of await Promise.all(commits)) expect(answer).toMatchObject({ outcome: 'applied' })
    expect(await valuesOf(store, 'k/n', 'k/7')).toEqual([20, 7])
  })

  test.each(['serializable', 'repeatable read'])('whose transactions are %s by default adds up exactly', async (level) => {
    const schema = await schemaOf()
    const config = { options: `-c default_transaction_isolation=${level.replace(' ', '\\ ')}` }
    const stores = await Promise.all(times(4, async () => openStore({ schema }, config)))
    const one = { check: [{ key: 'k/none', version: 0 }], ...adding('k/n', 1, { max: 90 }) }
    const results = (await Promise.all(times(100, async (index) => applyTo(stores[index % 4]!, one)))).flat()
    expect(results.filter(({ outcome }) => outcome === 'ok').length).toBe(90)
    expect(await valuesOf(stores[0]!, 'k/n')).toEqual([90])
  })

  test('whose clock went back gives times that do not, to no client', async () => {
    const store = await openStore()
    const aheadMs = (await store.now()) + 3_600_000
    await server.query(`UPDATE ${schemaIn(store)}.meta SET time_ms = ${aheadMs}`)
    expect(await store.now()).toBe(aheadMs)
    await store.apply([{ set: [{ key: 'k/a', value: 1, expiresAtMs: aheadMs }] }])
    expect(await valuesOf(store, 'k/a')).toEqual([undefined])
    // Not even what only a read has seen.
    await server.query(`UPDATE ${schemaIn(store)}.meta SET time_ms = 0`)
    expect(await store.now()).toBe(aheadMs)
  })

  test('whose bigints another part of the program reads as BigInt is read all the same', async () => {
    const types = { getTypeParser: (oid: number) => (oid === 20 ? (text: string) => BigInt(text) : (text: string) => text) }
    const store = await openStore({}, { types })
    await store.apply([adding('k/n', Number.MAX_SAFE_INTEGER)])
    expect(await store.read(['k/n'])).toEqual([{ key: 'k/n', value: Number.MAX_SAFE_INTEGER, version: 1 }])
  })
})

describe.runIf(available)('a pool', () => {
  test('is open after its store was closed', async () => {
    const pool = poolOf()
    const store = await postgresStore(pool, { schema: await schemaOf() })
    store.watch('', () => {})
    await store.close()
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
  })
})

describe.runIf(available)('settings', () => {
  const SAFE = { fsync: 'on', full_page_writes: 'on', synchronous_commit: 'on' }

  async function shortfallsOf(settings: Record<string, string>, use?: (server: PostgresServer) => Promise<void>) {
    const own = await startPostgres(settings)
    onTestFinished(() => own.stop())
    await use?.(own)
    const store = await postgresStore(poolOf({ connectionString: own.url }), { migrate: true })
    onTestFinished(() => store.close())
    return store.capabilities
  }

  test('that lack nothing promise what a disk does', async () => {
    expect(await shortfallsOf(SAFE)).toEqual({ shared: 'network', durable: 'disk' })
  })

  test('under which a crash loses what was acknowledged are named', async () => {
    const capabilities = await shortfallsOf({ fsync: 'off', full_page_writes: 'off', synchronous_commit: 'off' })
    expect(capabilities).toMatchObject({
      durable: 'os',
      shortfalls: [
        { setting: 'synchronous_commit', found: 'off', needs: 'on' },
        { setting: 'fsync', found: 'off', needs: 'on' },
        { setting: 'full_page_writes', found: 'off', needs: 'on' },
      ],
    })
  })

  test('under which only the primary has what was acknowledged are named when there are standbys', async () => {
    expect(await shortfallsOf({ ...SAFE, synchronous_commit: 'local' })).toEqual({ shared: 'network', durable: 'disk' })
    // Its migration does not wait for the standby that is not there.
    const capabilities = await shortfallsOf({ ...SAFE, synchronous_commit: 'local', synchronous_standby_names: 'other' })
    expect(capabilities.shortfalls).toMatchObject([{ setting: 'synchronous_commit', found: 'local' }])
  })

  test('are named when a standby is behind that may take over, also by a user who may not see what it is', async () => {
    const own = await startPostgres(SAFE)
    onTestFinished(() => own.stop())
    const receiver = join(postgresBinaries()!, 'pg_receivewal')
    const standby = spawn(receiver, ['-D', temporaryDirectory(), '-h', '127.0.0.1', '-p', String(own.port), '-U', 'postgres'], {
      stdio: 'ignore',
    })
    onTestFinished(() => void standby.kill('SIGKILL'))
    while ((await own.query(`SELECT FROM pg_stat_replication WHERE state = 'streaming'`)).length === 0) await sleep(50)
    const store = await postgresStore(poolOf({ connectionString: own.url }), { migrate: true })
    onTestFinished(() => store.close())
    expect(store.capabilities.shortfalls).toMatchObject([{ setting: 'synchronous_standby_names', found: '' }])
    await own.query('CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA holdfast TO guest; GRANT ALL ON ALL TABLES IN SCHEMA holdfast TO guest')
    const guest = await postgresStore(poolOf({ connectionString: own.url.replace('postgres@', 'guest@') }))
    onTestFinished(() => guest.close())
    expect(guest.capabilities.shortfalls).toHaveLength(1)
    expect(guest.capabilities.shortfalls![0]).not.toHaveProperty('found')
  })
})
