// The SQLite store in a world that does not keep still: files that are deleted, replaced or set back, locks that
// others hold, disks that fill up, handles with settings of their own, and databases that are not its.

import { execFileSync, spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { backup, DatabaseSync } from 'node:sqlite'
import { describe, expect, onTestFinished, test } from 'vitest'
import { sleep, systemClock } from '../../src/lib/clock.ts'
import { sqliteStore, type SqliteDatabase, type SqliteStoreOptions } from '../../src/stores/sqlite.ts'
import type { Store } from '../../src/stores/store.ts'
import { times, valuesOf } from '../../src/testing/store-bench.ts'
import { temporaryDirectory } from './journal.ts'

const Database = createRequire(import.meta.url)('better-sqlite3') as new (file: string, options?: { readonly?: boolean }) => SqliteDatabase
const ADD = { add: [{ key: 'k/n', by: 1 }] }
const NFS = 0x6969

function temporaryFile(): string {
  return join(temporaryDirectory(), 'state.db')
}

function openStore(database: string | SqliteDatabase = temporaryFile(), options: SqliteStoreOptions = {}): Store {
  const store = sqliteStore(database, options)
  onTestFinished(() => store.close())
  return store
}

/** Another connection to a file, as another program would have it. */
function openDatabase(file: string, sql?: string): DatabaseSync {
  const database = new DatabaseSync(file)
  if (sql !== undefined) database.exec(sql)
  onTestFinished(() => database.close())
  return database
}

function fileOf(store: Store): string {
  return store.name.slice('sqlite '.length)
}

/** What every use of a store fails with. */
async function failuresOf(store: Store): Promise<unknown[]> {
  const uses = [() => store.apply([ADD]), () => store.read(['k/n']), () => store.list('', { limit: 1 }), () => store.now()]
  return Promise.all(uses.map(async (use) => use().catch(({ code, message }: { code: unknown; message: unknown }) => ({ code, message }))))
}

function frozen(message: string): unknown[] {
  return times(4, () => ({ code: 'ERR_DAMAGE', message: `${message} The store is frozen.` }))
}

describe('a database file', () => {
  test('is created with its folder, and its chain files belong beside it', async () => {
    const file = join(temporaryDirectory(), 'deep', 'er', 'state.db')
    const store = openStore(file)
    expect(store.name).toBe(`sqlite ${file}`)
    expect(store.dataDirectory).toBe(`${file}.holdfast`)
    expect(store.id).toMatch(/^[\w-]{22}$/)
    expect(openStore(file).id).toBe(store.id)
  })

  test('that was deleted while in use freezes the store', async () => {
    const store = openStore()
    const file = fileOf(store)
    await store.apply([ADD])
    rmSync(file)
    expect(await failuresOf(store)).toEqual(frozen(`${file} was removed or replaced while in use.`))
  })

  test('that another one took the place of freezes the store, also when it is a copy', async () => {
    const store = openStore()
    const file = fileOf(store)
    await store.apply([ADD])
    openDatabase(file).exec('PRAGMA wal_checkpoint(TRUNCATE)')
    copyFileSync(file, `${file}.copy`)
    renameSync(`${file}.copy`, file)
    expect(await failuresOf(store)).toEqual(frozen(`${file} was removed or replaced while in use.`))
  })

  test('into which an older backup was restored while in use freezes the store', async () => {
    const store = openStore()
    const file = fileOf(store)
    await store.apply([ADD])
    await backup(openDatabase(file), `${file}.backup`)
    await store.apply([ADD])
    await backup(openDatabase(`${file}.backup`), file)
    expect(await failuresOf(store)).toEqual(frozen(`${file} went back from version 2 to 1 while in use (an older copy of it?).`))
  })

  test('into which another store was restored while in use freezes the store', async () => {
    const store = openStore()
    const other = openStore()
    await other.apply(times(9, () => ADD))
    await backup(openDatabase(fileOf(other)), fileOf(store))
    expect(await failuresOf(store)).toEqual(frozen(`${fileOf(store)} was replaced by another store while in use.`))
  })

  test.each(['DROP TABLE holdfast_meta', 'DELETE FROM holdfast_meta', 'DROP TABLE holdfast_entries'])(
    'that lost its tables freezes the store (%s)',
    async (sql) => {
      const store = openStore()
      openDatabase(fileOf(store), sql)
      await expect(store.apply([ADD])).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
      await expect(store.now()).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
    },
  )

  test('that is no database is refused and left as it is', () => {
    const file = temporaryFile()
    const content = 'no database, but a text of some length\n'.repeat(100)
    writeFileSync(file, content)
    expect(() => openStore(file)).toThrow(expect.objectContaining({ code: 'ERR_STORE', message: `${file} is no SQLite database.` }))
    expect(readFileSync(file, 'utf8')).toBe(content)
  })

  test('of another program is refused, and stays as it is', () => {
    const file = temporaryFile()
    const other = openDatabase(file, 'CREATE TABLE invoices (id INTEGER PRIMARY KEY)')
    const message = `${file} is a database of another program (it has a table invoices). Give the store a file of its own.`
    expect(() => openStore(file)).toThrow(expect.objectContaining({ code: 'ERR_STORE', message }))
    expect(other.prepare("SELECT count(*) AS n FROM sqlite_master WHERE type = 'table'").get()).toEqual({ n: 1 })
    expect(other.prepare('PRAGMA journal_mode').get()).toEqual({ journal_mode: 'delete' })
  })

  test('of a later format is refused, also when it gets one while in use', async () => {
    const store = openStore()
    openDatabase(fileOf(store), 'UPDATE holdfast_meta SET format = 2')
    const later = {
      code: 'ERR_STORE',
      message: `${fileOf(store)} has format 2; this version of holdfast reads up to 1. Install a later one.`,
    }
    expect(() => openStore(fileOf(store))).toThrow(expect.objectContaining(later))
    await expect(store.apply([ADD])).rejects.toMatchObject(later)
  })

  test('that cannot be opened is refused with the reason', () => {
    const directory = temporaryDirectory()
    expect(() => openStore(directory)).toThrow(expect.objectContaining({ code: 'ERR_STORE' }))
    writeFileSync(join(directory, 'file'), '')
    expect(() => openStore(join(directory, 'file', 'state.db'))).toThrow(expect.objectContaining({ code: 'ERR_STORE' }))
  })

  test('that may only be read is refused at opening', () => {
    const file = fileOf(openStore())
    const database = new DatabaseSync(file, { readOnly: true })
    onTestFinished(() => database.close())
    const message = `${file} cannot be written: it is read-only here.`
    expect(() => openStore(database)).toThrow(expect.objectContaining({ code: 'ERR_STORE', message }))
  })

  test('in memory is refused', () => {
    const database = openDatabase(':memory:')
    expect(() => openStore(database)).toThrow(
      expect.objectContaining({ code: 'ERR_STORE', message: expect.stringContaining('memoryStore()') }),
    )
  })

  test('on a network file system is refused, unless its user knows better', () => {
    const file = temporaryFile()
    const options = { fileSystemType: () => NFS }
    expect(() => openStore(file, options)).toThrow(expect.objectContaining({ code: 'ERR_STORE', message: expect.stringContaining('NFS') }))
    expect(existsSync(file)).toBe(false)
    expect(openStore(file, { ...options, unsafeFileSystem: true }).id).not.toBe('')
  })

  test('says of the heads it named whether it still holds them', async () => {
    const [store, other] = [openStore(), openStore()]
    const heads = []
    for (const opened of [store, store, other]) {
      const answer = await opened.apply([ADD, ADD])
      heads.push(answer.outcome === 'applied' ? answer.head! : undefined!)
    }
    expect(heads[1]).toEqual({ segment: 0, bytes: 4, hash: store.id })
    const asked = [...heads, { ...heads[1]!, bytes: 5 }, { ...heads[1]!, segment: 1 }]
    expect(await store.holds!(asked)).toEqual(['yes', 'yes', 'no', 'no', 'unknown'])
  })
})

describe('a database that others use', () => {
  test('is never waited for inside of SQLite: the group is contended, and timers run meanwhile', async () => {
    const store = openStore()
    const writer = openDatabase(fileOf(store), 'BEGIN IMMEDIATE')
    let ticks = 0
    const timer = setInterval(() => (ticks += 1), 1)
    expect(await store.apply([ADD])).toEqual({ outcome: 'contended' })
    clearInterval(timer)
    expect(ticks).toBeGreaterThan(5)
    expect(await store.read(['k/n'])).toEqual([null])
    writer.exec('ROLLBACK')
    expect(await store.apply([ADD])).toMatchObject({ outcome: 'applied' })
  })

  test('can be opened while somebody else writes', () => {
    const { id, name } = openStore()
    openDatabase(name.slice('sqlite '.length), 'BEGIN IMMEDIATE')
    expect(openStore(name.slice('sqlite '.length)).id).toBe(id)
  })

  test('is refused to a second SQLite library in one process, whose locks the first would not see', async () => {
    const store = openStore()
    const database = new Database(fileOf(store))
    onTestFinished(() => void database.close())
    expect(() => openStore(database)).toThrow(
      expect.objectContaining({ code: 'ERR_STORE', message: expect.stringContaining('another SQLite library') }),
    )
    await store.close()
    expect(await openStore(database).apply([ADD])).toMatchObject({ outcome: 'applied' })
  })

  test('has one time that never goes back, however far ahead the clock of a writer was', async () => {
    const file = temporaryFile()
    const aheadMs = Date.now() + 3_600_000
    const ahead = openStore(file, { clock: { now: () => aheadMs } })
    await ahead.apply([{ set: [{ key: 'k/soon', value: 1, expiresAtMs: aheadMs + 50 }] }])
    let passedMs = 0
    const store = openStore(file, { clock: { now: () => systemClock.now(), elapsed: () => passedMs } })
    expect(await store.now()).toBe(aheadMs)
    passedMs += 49
    expect(await store.read(['k/soon'])).toMatchObject([{ value: 1 }])
    passedMs += 1
    expect(await store.read(['k/soon'])).toEqual([null])
    await store.apply([{ check: [{ key: 'k/soon', version: 0 }], set: [{ key: 'k/next', value: 1 }] }])
    expect(await ahead.now()).toBe(aheadMs + 50)
  })

  test('loses its expired rows in time, and none that lives', async () => {
    const store = openStore(temporaryFile(), { durability: 'os' })
    const now = await store.now()
    await store.apply([{ set: times(500, (index) => ({ key: `k/${index}`, value: 1, expiresAtMs: index < 400 ? now : now + 3_600_000 })) }])
    for (const _ of times(260, () => 0)) await store.apply([ADD])
    expect(openDatabase(fileOf(store)).prepare('SELECT count(*) AS n FROM holdfast_entries').get()).toEqual({ n: 101 })
  })
})

describe('a handle of the caller', () => {
  test.each([
    ['journal_mode = DELETE; PRAGMA synchronous = FULL', 'os', ['journal_mode']],
    ['journal_mode = WAL; PRAGMA synchronous = NORMAL', 'os', ['synchronous']],
    ['journal_mode = MEMORY; PRAGMA synchronous = OFF', 'none', ['journal_mode', 'synchronous']],
  ])('says what it lacks (%s)', async (settings, durable, names) => {
    const database = openDatabase(temporaryFile(), `PRAGMA ${settings}`)
    const { capabilities } = openStore(database)
    expect(capabilities).toMatchObject({ shared: 'host', durable })
    expect(capabilities.shortfalls!.map(({ setting }) => setting)).toEqual(names)
  })

  test('that lacks nothing promises as much as a file', () => {
    const database = openDatabase(temporaryFile(), 'PRAGMA journal_mode = WAL; PRAGMA synchronous = EXTRA')
    expect(openStore(database).capabilities).toEqual({ shared: 'host', durable: 'disk' })
    expect(openStore().capabilities).toEqual({ shared: 'host', durable: 'disk' })
    expect(openStore(temporaryFile(), { durability: 'os' }).capabilities).toMatchObject({
      durable: 'os',
    })
  })

  test('is open after its store was closed', async () => {
    const database = openDatabase(temporaryFile())
    await openStore(database).close()
    expect(database.prepare('SELECT version FROM holdfast_meta').get()).toEqual({ version: 0 })
  })

  test('with an open transaction is not joined', async () => {
    const database = openDatabase(temporaryFile())
    const store = openStore(database)
    database.exec('BEGIN')
    const failure = { code: 'ERR_STORE', message: expect.stringContaining('open transaction') }
    await expect(store.apply([ADD])).rejects.toMatchObject(failure)
    database.exec('BEGIN')
    await expect(store.read(['k/n'])).rejects.toMatchObject(failure)
    expect(await valuesOf(store, 'k/n')).toEqual([undefined])
  })
})

describe('a full disk', () => {
  test('refuses a group for certain, and takes it when there is room again', async () => {
    const database = openDatabase(temporaryFile(), 'PRAGMA journal_mode = WAL')
    const store = openStore(database)
    database.exec('PRAGMA max_page_count = 40')
    const large = { add: [{ key: 'k/n', by: 1 }], set: [{ key: 'k/large', value: 'x'.repeat(500_000) }] }
    await expect(store.apply([large])).rejects.toMatchObject({ code: 'ERR_STORE_FULL' })
    expect(await store.read(['k/n'])).toEqual([null])
    database.exec('PRAGMA max_page_count = 100000')
    expect(await store.apply([large])).toMatchObject({ results: [{ values: [1] }] })
  })

  const flags = [['--user', '--map-root-user', '--mount'], ['--mount']].find(
    (flags) => spawnSync('unshare', [...flags, 'mount', '-t', 'tmpfs', 'tmpfs', tmpdir()]).status === 0,
  )
  test.runIf(flags !== undefined)('of 2 MB refuses commits for certain, and later ones are exact', () => {
    const mount = 'mount -t tmpfs -o size=2m tmpfs "$DISK" && head -c 900000 /dev/zero > "$DISK/filler"'
    const child = join(import.meta.dirname, 'sqlite-full-disk.ts')
    const command = `${mount} && exec "$NODE" "$CHILD" "$DISK" "$DISK/filler"`
    const env = { ...process.env, DISK: temporaryDirectory(), NODE: process.execPath, CHILD: child }
    const report = JSON.parse(execFileSync('unshare', [...flags!, 'sh', '-c', command], { encoding: 'utf8', env })) as {
      readonly whenFull: { readonly told: Record<string, number>; readonly found: unknown }
      readonly told: Record<string, number>
      readonly found: unknown
    }
    const { whenFull, told, found } = report
    expect(Object.keys(told).sort()).toEqual(['ERR_STORE_FULL', 'ok'])
    expect(whenFull.told['ok']! + whenFull.told['ERR_STORE_FULL']!).toBe(300)
    expect(whenFull.found).toEqual({ n: whenFull.told['ok'], keys: whenFull.told['ok'] })
    expect(told['ok']).toBe(whenFull.told['ok']! + 20)
    expect(found).toEqual({ n: told['ok'], keys: told['ok'] })
  })
})

describe('watching', () => {
  const settled = async (): Promise<void> => sleep(150)

  function counting(store: Store, prefix: string): { calls: number } {
    const counter = { calls: 0 }
    onTestFinished(store.watch(prefix, () => (counter.calls += 1)))
    return counter
  }

  test('a write of another process wakes those who wait for its keys, and nobody else', async () => {
    const store = openStore()
    const other = openStore(fileOf(store))
    const [hit, missed] = [counting(store, 'k/a'), counting(store, 'k/b')]
    await other.apply([{ set: [{ key: 'k/a/1', value: 1 }] }, { set: [{ key: 'k/c', value: 1 }] }])
    await settled()
    expect([hit.calls, missed.calls]).toEqual([1, 0])
  })

  test('a group in which everything was refused wakes nobody', async () => {
    const store = openStore()
    const other = openStore(fileOf(store))
    const counter = counting(store, '')
    for (const one of [store, other]) await one.apply([{ check: [{ key: 'k/a', version: 7 }], ...ADD }])
    await settled()
    expect(counter.calls).toBe(0)
  })

  test('what another process wrote wakes also when a group of its own was refused in between', async () => {
    const store = openStore()
    const other = openStore(fileOf(store))
    const counter = counting(store, 'k/')
    await other.apply([ADD])
    await store.apply([{ check: [{ key: 'k/n', version: 9 }], ...ADD }])
    await settled()
    expect(counter.calls).toBe(1)
  })

  test('own writes wake once, also when others write too', async () => {
    const store = openStore()
    const other = openStore(fileOf(store))
    const counter = counting(store, 'k/n')
    await store.apply([ADD])
    await other.apply([{ set: [{ key: 'k/other', value: 1 }] }])
    await settled()
    expect(counter.calls).toBe(1)
  })

  test('whoever missed more than is kept wakes everyone', async () => {
    const store = openStore()
    const counter = counting(store, 'k/elsewhere')
    openDatabase(fileOf(store), 'UPDATE holdfast_meta SET version = 9; INSERT INTO holdfast_changes VALUES (9, 8, \'["k/n"]\')')
    await settled()
    expect(counter.calls).toBe(1)
  })

  test('the list of changes stays short', async () => {
    const store = openStore(temporaryFile(), { durability: 'os' })
    for (const _ of times(5, () => 0)) await store.apply(times(2_000, () => ADD))
    const { n } = openDatabase(fileOf(store)).prepare('SELECT count(*) AS n FROM holdfast_changes').get() as { n: number }
    expect(n).toBe(3)
  })

  test('does not keep a process alive', () => {
    const script = `
      const { sqliteStore } = await import(${JSON.stringify(new URL('../../src/stores/sqlite.ts', import.meta.url).href)})
      sqliteStore(process.argv[1]).watch('', () => {})`
    const { status } = spawnSync(process.execPath, ['--input-type=module', '-e', script, temporaryFile()], { timeout: 10_000 })
    expect(status).toBe(0)
  })
})

test('a store whose folder is gone at opening makes it again', async () => {
  const file = temporaryFile()
  await openStore(file).close()
  rmSync(join(file, '..'), { recursive: true })
  expect(openStore(file).id).not.toBe('')
  mkdirSync(join(file, '..'), { recursive: true })
})
