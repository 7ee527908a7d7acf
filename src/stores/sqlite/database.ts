// What lies under the SQLite store: a database of node:sqlite or better-sqlite3, the tables in it, and whom it
// belongs to.

import { mkdirSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type * as Sqlite from 'node:sqlite'
import { HoldfastError } from '../../lib/errors.ts'
import { newId } from '../../lib/ids.ts'
import { assertLocalFileSystem, fileSystemType } from '../journal/file-system.ts'
import { isBusy, sqliteCode, storeError } from './errors.ts'

/** An open database: `DatabaseSync` of node:sqlite, or `Database` of better-sqlite3. */
export interface SqliteDatabase {
  exec(sql: string): unknown
  prepare(sql: string): SqliteStatement
  close(): unknown
}

/** A prepared statement of either. */
export interface SqliteStatement {
  get(...parameters: SqliteValue[]): unknown
  all(...parameters: SqliteValue[]): unknown[]
  run(...parameters: SqliteValue[]): unknown
}

/** What the store hands to a statement. */
export type SqliteValue = string | number | null | Buffer

/** The format that this version writes; it reads no later one. */
const FORMAT = 1
/** Opening may wait this long for another process that is creating the same database, ms. The only wait that blocks. */
const MAX_OPENING_MS = 5_000

const SCHEMA = `
  CREATE TABLE holdfast_meta (
    one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, time_ms INTEGER NOT NULL
  );
  CREATE TABLE holdfast_entries (
    key BLOB PRIMARY KEY, value TEXT NOT NULL, version INTEGER NOT NULL, expires_at_ms INTEGER
  ) WITHOUT ROWID;
  CREATE INDEX holdfast_expiries ON holdfast_entries (expires_at_ms) WHERE expires_at_ms IS NOT NULL;
  CREATE TABLE holdfast_changes (version INTEGER PRIMARY KEY, previous INTEGER NOT NULL, keys TEXT);`

/** What the one row of `holdfast_meta` says. */
export interface Meta {
  readonly format: number
  readonly id: string
  readonly version: number
  readonly timeMs: number
}

/** Reads the row from a prepared `SELECT format, id, version, time_ms FROM holdfast_meta`. */
export function metaOf(file: string, row: unknown): Meta {
  const found = row as { format: unknown; id: unknown; version: unknown; time_ms: unknown } | undefined
  const meta = found && { format: Number(found.format), id: found.id, version: Number(found.version), timeMs: Number(found.time_ms) }
  if (meta !== undefined && meta.format > FORMAT)
    throw new HoldfastError(
      'ERR_STORE',
      `${file} has format ${meta.format}; this version of holdfast reads up to ${FORMAT}. Install a later one.`,
    )
  if (meta?.format !== FORMAT || typeof meta.id !== 'string' || !Number.isSafeInteger(meta.version))
    throw new HoldfastError('ERR_DAMAGE', `${file} does not name a format, an id and a version.`)
  return meta as Meta
}

/** A database that is ready for the store. */
export interface OpenDatabase {
  readonly database: SqliteDatabase
  /** Absolute path. */
  readonly file: string
  readonly meta: Meta
  /** Throws when the file is no longer the one that was opened. */
  assertSameFile(): void
  /** Gives up what was taken at opening; closes the database if it was opened here. */
  close(): void
}

/** How {@link openDatabase} opens. */
export interface OpenOptions {
  readonly durability: 'fsync' | 'os'
  readonly unsafeFileSystem: boolean
  readonly fileSystemType?: (directory: string) => number
}

/**
 * Opens a database, or takes over the handle given, and creates the tables of the store if it has none at all.
 *
 * @throws {HoldfastError} `ERR_STORE`, `ERR_STORE_FULL`, `ERR_DAMAGE`.
 */
export function openDatabase(given: string | SqliteDatabase, options: OpenOptions): OpenDatabase {
  const database = typeof given === 'string' ? openFile(resolve(given), options) : given
  const close = (): void => void (database === given || database.close())
  let file = typeof given === 'string' ? resolve(given) : 'The database'
  try {
    file = fileOf(database)
    if (typeof given !== 'string') assertPlace(dirname(file), options)
    // Whoever waits inside of SQLite stops the whole process, and starves under load; the store waits outside.
    database.exec('PRAGMA busy_timeout = 0')
    const meta = patiently(file, () => {
      // Not before it is known that it is nobody else's: the journal mode stays with the file.
      metaIn(database, file)
      if (typeof given === 'string') setUp(database, options.durability)
      return prepareTables(database, file)
    })
    const inode = inodeOf(file)
    const leave = joinLibrary(file, inode, database)
    const assertSameFile = (): void => {
      if (inodeOf(file) !== inode)
        throw new HoldfastError('ERR_DAMAGE', `${file} was removed or replaced while in use. The store is frozen.`)
    }
    return { database, file, meta, assertSameFile, close: () => (leave(), close()) }
  } catch (error) {
    close()
    if (sqliteCode(error).startsWith('NOTADB')) throw new HoldfastError('ERR_STORE', `${file} is no SQLite database.`, { cause: error })
    throw storeError(file, error)
  }
}

function openFile(file: string, options: OpenOptions): SqliteDatabase {
  const sqlite = process.getBuiltinModule('node:sqlite') as typeof Sqlite | undefined
  if (sqlite === undefined)
    throw new HoldfastError(
      'ERR_STORE',
      'This Node.js has no node:sqlite; install Node.js 22.13 or later, or pass an open database of better-sqlite3.',
    )
  try {
    mkdirSync(dirname(file), { recursive: true })
    assertPlace(dirname(file), options)
    return new sqlite.DatabaseSync(file)
  } catch (error) {
    if (HoldfastError.isInstance(error)) throw error
    throw new HoldfastError('ERR_STORE', `${file} cannot be opened: ${(error as Error).message}.`, { cause: error })
  }
}

/** Locks and shared memory of SQLite hold where whole lines do: on local file systems. */
function assertPlace(directory: string, options: OpenOptions): void {
  if (!options.unsafeFileSystem) assertLocalFileSystem(directory, (options.fileSystemType ?? fileSystemType)(directory))
}

function fileOf(database: SqliteDatabase): string {
  const list = database.prepare('PRAGMA database_list').all() as { name: string; file: string | null }[]
  const file = list.find(({ name }) => name === 'main')?.file
  if (file === undefined || file === null || file === '')
    throw new HoldfastError('ERR_STORE', 'The SQLite store needs a database in a file; this one is in memory. Use memoryStore() for that.')
  return file
}

function setUp(database: SqliteDatabase, durability: 'fsync' | 'os'): void {
  database.exec('PRAGMA journal_mode = WAL')
  // fsync of macOS leaves data in the drive unless it is asked twice; elsewhere these change nothing.
  if (durability === 'fsync') database.exec('PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON')
  else database.exec('PRAGMA synchronous = NORMAL')
}

const META = 'SELECT format, id, version, time_ms FROM holdfast_meta'

/** What the store says of itself; `undefined` for a database without any table. */
function metaIn(database: SqliteDatabase, file: string): Meta | undefined {
  const tables = database.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").all() as { name: string }[]
  if (tables.some(({ name }) => name === 'holdfast_meta')) return metaOf(file, database.prepare(META).get())
  if (tables.length === 0) return undefined
  throw new HoldfastError(
    'ERR_STORE',
    `${file} is a database of another program (it has a table ${tables[0]!.name}). Give the store a file of its own.`,
  )
}

function prepareTables(database: SqliteDatabase, file: string): Meta {
  const found = metaIn(database, file)
  if (found !== undefined) {
    assertWritable(database)
    return found
  }
  database.exec('BEGIN IMMEDIATE')
  try {
    // Another process may have made them meanwhile.
    if (metaIn(database, file) === undefined) {
      database.exec(SCHEMA)
      database.prepare('INSERT INTO holdfast_meta VALUES (1, ?, ?, 0, 0)').run(FORMAT, newId())
    }
    const meta = metaOf(file, database.prepare(META).get())
    database.exec('COMMIT')
    return meta
  } catch (error) {
    endTransaction(database)
    throw error
  }
}

function assertWritable(database: SqliteDatabase): void {
  try {
    // To begin alone would be no write where nothing may be written.
    database.exec('BEGIN IMMEDIATE; UPDATE holdfast_meta SET version = version')
  } catch (error) {
    // Busy: then somebody is writing, so one can.
    if (!isBusy(error)) throw error
  } finally {
    endTransaction(database)
  }
}

/** Rolls back what is open. After some errors SQLite has done so itself. */
export function endTransaction(database: SqliteDatabase): void {
  try {
    database.exec('ROLLBACK')
  } catch {
    // There was none.
  }
}

function patiently<T>(file: string, attempt: () => T): T {
  const startedAt = performance.now()
  for (;;) {
    try {
      return attempt()
    } catch (error) {
      if (!isBusy(error)) throw error
      if (performance.now() - startedAt > MAX_OPENING_MS)
        throw new HoldfastError('ERR_STORE', `${file} is locked by another process, and stayed so for ${MAX_OPENING_MS} ms.`, {
          cause: error,
        })
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1 + Math.random() * 9)
  }
}

/** Which file a path names now. Never opens it: to close it again would drop the locks of this process on it. */
function inodeOf(file: string): string {
  const found = statSync(file, { bigint: true, throwIfNoEntry: false })
  return found === undefined ? '' : `${found.dev}:${found.ino}`
}

const LIBRARIES = Symbol.for('holdfast.sqlite-libraries')

/**
 * Locks of the system count per process: two copies of the SQLite library in one process do not see each other's,
 * and would both write. Returns the function that ends this use.
 */
function joinLibrary(file: string, inode: string, database: SqliteDatabase): () => void {
  const shared = globalThis as { [LIBRARIES]?: Map<string, { readonly library: unknown; users: number }> }
  const libraries = (shared[LIBRARIES] ??= new Map())
  const use = libraries.get(inode) ?? { library: database.constructor, users: 0 }
  if (use.library !== database.constructor)
    throw new HoldfastError(
      'ERR_STORE',
      `${file} is open in this process through another SQLite library, and the two do not see each other’s locks. Use one of node:sqlite and better-sqlite3.`,
    )
  libraries.set(inode, use)
  use.users += 1
  return () => {
    use.users -= 1
    if (use.users === 0) libraries.delete(inode)
  }
}
