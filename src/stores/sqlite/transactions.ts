// Transactions of the SQLite store. Each looks first whether the database is still the one that was opened and has
// lost nothing since: a deleted file, an older copy, another store.

import { HoldfastError } from '../../lib/errors.ts'
import { sleep, steady, type Clock } from '../../lib/clock.ts'
import { endTransaction, metaOf, type Meta, type OpenDatabase, type SqliteDatabase, type SqliteStatement } from './database.ts'
import { isBusy, sqliteCode, storeError } from './errors.ts'
import type { BatchResult } from '../store.ts'

/** How long one read may find the database busy, ms. */
const MAX_BUSY_READ_MS = 10_000

/** What became of a group, when it was committed or rolled back for good. */
export interface Applied {
  readonly results: readonly BatchResult[]
  /** Of the database after it. */
  readonly version: number
  /** False when no batch was applied, so that there is nothing to commit. */
  readonly committed: boolean
  /** Those that it changed. */
  readonly keys: Iterable<string>
}

/** The statements of a store, prepared once. */
type Statements = Readonly<
  Record<'begin' | 'beginRead' | 'commit' | 'rollback' | 'meta' | 'advance' | 'get' | 'put' | 'remove' | 'list' | 'prune', SqliteStatement>
>

/** Transactions on one database. */
export interface Transactions {
  readonly statements: Statements
  /** Throws what the store died of: damage, or `close`. */
  assertAlive(): void
  /**
   * Runs `work` in a transaction that holds the write lock, given the time and the version of the database, and
   * commits or rolls back as it says. `busy`: nothing happened, since another connection was writing.
   */
  write(work: (now: number, version: number) => Applied): Applied | 'busy' | { readonly unknown: unknown }
  /** Runs `work` on one snapshot. */
  read<T>(work: (now: number, version: number) => T): Promise<T>
  close(): void
}

/** Prepares transactions on a database. None spans a turn of the event loop. */
export function createTransactions(open: OpenDatabase, clock: Clock): Transactions {
  const { database, file, meta } = open
  const statements = prepare(database)
  const time = steady(clock)
  let seenVersion = meta.version
  let dead: Error | undefined
  const assertAlive = (): void => {
    if (dead !== undefined) throw dead
  }
  const die = (error: Error): Error => (dead ??= error)

  /** The row of the store, when it is the one that was opened and has not lost anything since. */
  function look(): Meta {
    open.assertSameFile()
    const now = metaOf(file, statements.meta.get())
    if (now.id !== meta.id)
      throw new HoldfastError('ERR_DAMAGE', `${file} was replaced by another store while in use. The store is frozen.`)
    if (now.version < seenVersion)
      throw new HoldfastError(
        'ERR_DAMAGE',
        `${file} went back from version ${seenVersion} to ${now.version} while in use (an older copy of it?). The store is frozen.`,
      )
    seenVersion = now.version
    return now
  }

  function fail(error: unknown): Error {
    endTransaction(database)
    const failure = storeError(file, error)
    return HoldfastError.isInstance(failure) && failure.code === 'ERR_DAMAGE' ? die(failure) : failure
  }

  function write(work: (now: number, version: number) => Applied): Applied | 'busy' | { readonly unknown: unknown } {
    assertAlive()
    let committing = false
    try {
      statements.begin.run()
      const { version, timeMs } = look()
      const applied = work(time(timeMs), version)
      if (!applied.committed) statements.rollback.run()
      else {
        committing = true
        statements.commit.run()
        seenVersion = applied.version
        open.assertSameFile()
      }
      return applied
    } catch (error) {
      const failure = isBusy(error) ? error : fail(error)
      if (isBusy(error)) endTransaction(database)
      // A full disk had no room for the frame that commits. After any other failure of a commit, a sync for
      // example, nobody can say what a crash would leave.
      else if (committing && !sqliteCode(error).startsWith('FULL')) return { unknown: die(failure as Error) }
      else throw failure
      return 'busy'
    }
  }

  async function read<T>(work: (now: number, version: number) => T): Promise<T> {
    const startedAt = performance.now()
    for (;;) {
      assertAlive()
      try {
        statements.beginRead.run()
        const { version, timeMs } = look()
        const found = work(time(timeMs), version)
        statements.commit.run()
        return found
      } catch (error) {
        if (!isBusy(error)) throw fail(error)
        endTransaction(database)
        if (performance.now() - startedAt > MAX_BUSY_READ_MS) throw storeError(file, error)
      }
      await sleep(1 + Math.random() * 2)
    }
  }

  return {
    statements,
    assertAlive,
    write,
    read,
    close() {
      if (dead !== undefined && HoldfastError.isInstance(dead) && dead.code === 'ERR_CLOSED') return
      dead = new HoldfastError('ERR_CLOSED', `The SQLite store ${file} is closed.`)
      open.close()
    },
  }
}

function prepare(database: SqliteDatabase): Statements {
  return {
    begin: database.prepare('BEGIN IMMEDIATE'),
    beginRead: database.prepare('BEGIN'),
    commit: database.prepare('COMMIT'),
    rollback: database.prepare('ROLLBACK'),
    meta: database.prepare('SELECT format, id, version, time_ms FROM holdfast_meta'),
    advance: database.prepare('UPDATE holdfast_meta SET version = ?, time_ms = ?'),
    get: database.prepare('SELECT value, version, expires_at_ms FROM holdfast_entries WHERE key = ?'),
    put: database.prepare('REPLACE INTO holdfast_entries VALUES (?, ?, ?, ?)'),
    remove: database.prepare('DELETE FROM holdfast_entries WHERE key = ?'),
    list: database.prepare(
      `SELECT key, value, version, expires_at_ms FROM holdfast_entries
       WHERE key >= ? AND key < ? AND (expires_at_ms IS NULL OR expires_at_ms > ?) ORDER BY key LIMIT ?`,
    ),
    prune: database.prepare(
      'DELETE FROM holdfast_entries WHERE key IN (SELECT key FROM holdfast_entries WHERE expires_at_ms <= ? LIMIT ?)',
    ),
  }
}
