// A lock that the operating system lets go of when its process dies: not when the process is stopped, not after any
// number of seconds. It is an open transaction of SQLite on a small file beside the chain. POSIX has one trap: a
// process that closes the file after reading it, as a backup does, loses its own lock. So the lock alone proves
// nothing; who gets it also wants the process to be silent.

import { existsSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

/** A lock that is held. */
export interface ChainLock {
  /** Lets go of it: for good when nothing is left for a successor, aside when nobody is to look again. */
  release(how: 'keep' | 'remove' | 'aside'): void
}

interface Database {
  exec(sql: string): void
  close(): void
}

/** The lock file of a chain. */
export const lockFile = (directory: string, boot: string): string => join(directory, 'chains', `${boot}.lock`)

/** Makes the lock of a new chain; nobody can get it in between. `undefined` where there are no locks. */
export function makeLock(file: string): ChainLock | undefined {
  const lock = open(`${file}.new`, 'rwc')
  if (lock === undefined) return undefined
  try {
    renameSync(`${file}.new`, file)
    return lockOf(file, lock)
  } catch {
    // Without its name it is of no use, and its chain says that it has none.
    lock.close()
    return undefined
  }
}

/** Takes the lock of another process's chain, without waiting; `undefined` when somebody has it, or it is gone. */
export function takeLock(file: string): ChainLock | undefined {
  const lock = existsSync(file) ? open(file, 'rw') : undefined
  return lock === undefined ? undefined : lockOf(file, lock)
}

function open(file: string, mode: 'rw' | 'rwc'): Database | undefined {
  const sqlite = process.getBuiltinModule('node:sqlite') as { DatabaseSync: new (file: string) => Database } | undefined
  if (sqlite === undefined) return undefined
  let database: Database | undefined
  try {
    database = new sqlite.DatabaseSync(`${pathToFileURL(file).href}?mode=${mode}`)
    // Nothing is ever written to it, so it needs no journal either.
    database.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY; BEGIN IMMEDIATE')
    return database
  } catch {
    // Held by a living process, or there are no locks here: either way nobody is known to be dead.
    database?.close()
    return undefined
  }
}

function lockOf(file: string, database: Database): ChainLock {
  return {
    release(how) {
      // While it is held, so that nobody can get hold of a file that is about to go.
      if (how === 'remove') rmSync(file, { force: true })
      if (how === 'aside') renameSync(file, file.replace(/lock$/, 'doubt'))
      database.close()
    },
  }
}
