// A lock that the operating system lets go of when its process dies, and at no other time: not when the process is
// stopped, not after any number of seconds. It is an open transaction of SQLite on a small file beside the chain.
// Whoever gets the lock of another process's chain knows that this process is dead.

import { rmSync, statSync } from 'node:fs'
import { join } from 'node:path'

/** A lock that is held. */
export interface ChainLock {
  /** Lets go of it; `remove` when nothing is left for a successor. */
  release(remove: boolean): void
}

interface Database {
  exec(sql: string): void
  close(): void
}

/** The lock file of a chain. */
export const lockFile = (directory: string, boot: string): string => join(directory, 'chains', `${boot}.lock`)

/**
 * Takes the lock of a chain, without waiting.
 *
 * @returns `undefined` when somebody has it, or it cannot be had on this file system.
 */
export function lockChain(file: string): ChainLock | undefined {
  const sqlite = process.getBuiltinModule('node:sqlite') as { DatabaseSync: new (file: string) => Database } | undefined
  if (sqlite === undefined) return undefined
  let database: Database | undefined
  try {
    database = new sqlite.DatabaseSync(file)
    // Nothing is ever written to it, so it needs no journal either.
    database.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY; BEGIN IMMEDIATE')
  } catch {
    // Held by a living process, or there are no locks here: either way nobody is known to be dead.
    database?.close()
    return undefined
  }
  const held = database
  return {
    release(remove) {
      // While it is held, so that nobody can get hold of a file that is about to go.
      if (remove) rmSync(file, { force: true })
      held.close()
    },
  }
}

/** Whether a lock file is there: then its process lives, or has left something behind. */
export const hasLock = (file: string): boolean => statSync(file, { throwIfNoEntry: false }) !== undefined
