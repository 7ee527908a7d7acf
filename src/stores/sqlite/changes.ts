// How a SQLite store hears of the writes of other processes. `PRAGMA data_version` says that there were some; the
// last groups' keys lie in `holdfast_changes`, so that a write wakes those who wait for its keys and no others:
// if every write woke all, processes that wait for one another would keep each other busy for ever.

import type { SqliteDatabase } from './database.ts'
import type { Watchers } from '../watchers.ts'

/** Versions whose keys are kept. Whoever missed more wakes everyone. */
const KEPT_VERSIONS = 4_096
/** Most bytes of keys in one row; a larger group wakes everyone. */
const MAX_KEYS_BYTES = 65_536
/** Between two looks, ms: short after a change, longer while nothing happens. */
const POLL_MS = { min: 10, max: 50 }

/** The changes of one database. */
export interface Changes {
  /** Notes the keys of a group, in its transaction. */
  write(previous: number, version: number, keys: Iterable<string>): void
  /** Says that a group of this store was committed: its watchers were told. */
  wasOwn(version: number): void
  /** Looks for changes of others from now on, without keeping the process alive. Returns the stop function. */
  follow(): () => void
}

/** Prepares the notes of changes. */
export function createChanges(database: SqliteDatabase, watchers: Watchers): Changes {
  const insert = database.prepare('INSERT INTO holdfast_changes VALUES (?, ?, ?)')
  const forget = database.prepare('DELETE FROM holdfast_changes WHERE version <= ?')
  const dataVersion = database.prepare('PRAGMA data_version')
  const since = database.prepare('SELECT version, previous, keys FROM holdfast_changes WHERE version > ? ORDER BY version')
  const current = database.prepare('SELECT version FROM holdfast_meta')
  const own = new Set<number>()
  let following = false
  let seenData: unknown
  let seenVersion = 0

  const look = (): boolean => {
    const { data_version: data } = dataVersion.get() as { data_version: unknown }
    if (data === seenData) return false
    for (const row of since.all(seenVersion) as { version: unknown; previous: unknown; keys: string | null }[]) {
      if (Number(row.previous) !== seenVersion || row.keys === null) watchers.touchAll()
      else if (!own.has(Number(row.version))) for (const key of JSON.parse(row.keys) as string[]) watchers.touch(key)
      seenVersion = Number(row.version)
    }
    own.clear()
    seenData = data
    return true
  }

  return {
    write(previous, version, keys) {
      const text = JSON.stringify([...keys])
      insert.run(version, previous, text.length > MAX_KEYS_BYTES ? null : text)
      forget.run(version - KEPT_VERSIONS)
    },
    wasOwn(version) {
      if (following) own.add(version)
    },
    follow() {
      following = true
      // In this order: what is written in between is looked at once more.
      seenData = (dataVersion.get() as { data_version: unknown }).data_version
      seenVersion = Number((current.get() as { version: unknown }).version)
      let waitMs = POLL_MS.min
      let timer: NodeJS.Timeout
      const poll = (): void => {
        try {
          waitMs = look() ? POLL_MS.min : Math.min(POLL_MS.max, waitMs * 1.2)
        } catch {
          // Busy, or broken: then the next use of the store says so, and its watchers must wake to find that out.
          watchers.touchAll()
          waitMs = POLL_MS.max
        }
        schedule()
      }
      const schedule = (): void => {
        timer = setTimeout(poll, waitMs)
        timer.unref()
      }
      schedule()
      return () => {
        following = false
        own.clear()
        clearTimeout(timer)
      }
    },
  }
}
