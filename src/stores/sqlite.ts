// The SQLite store: one database file, shared by the processes of one host. A group is one transaction that takes
// the write lock first (`BEGIN IMMEDIATE`), so what it reads stands until it commits; whoever finds the lock taken
// steps aside for a few ms and never waits inside of SQLite, where the whole process would stand still.

import { sleep, systemClock, type Clock } from '../lib/clock.ts'
import type { Json } from '../lib/canonical-json.ts'
import { keyBytes, keyOfBytes, listRange } from './key-bytes.ts'
import { createChanges } from './sqlite/changes.ts'
import { openDatabase, type SqliteDatabase } from './sqlite/database.ts'
import { createTransactions, type Applied } from './sqlite/transactions.ts'
import { MAX_ENTRIES, type Batch, type Capabilities, type Entry, type GroupResult, type Shortfall, type Store } from './store.ts'
import { evaluate, type Cell } from './table.ts'
import { createWatchers } from './watchers.ts'

export type { SqliteDatabase, SqliteStatement, SqliteValue } from './sqlite/database.ts'

/** Options of {@link sqliteStore}. */
export interface SqliteStoreOptions {
  /**
   * What an acknowledged write survives: a power cut (`fsync`: `synchronous = FULL`), or the death of its process
   * only (`os`: `synchronous = NORMAL`). For a handle of yours, its own settings count instead.
   * @default 'fsync'
   */
  readonly durability?: 'fsync' | 'os'
  /**
   * Use a file system that is not on the list of local ones. Right only when a single process uses the store.
   * @default false
   */
  readonly unsafeFileSystem?: boolean
  /** Says on which file system a directory lies, as statfs(2) does. @default asks the system */
  readonly fileSystemType?: (directory: string) => number
  /** @default the wall clock */
  readonly clock?: Clock
}

/** How often one `apply` finds the database busy before it says that it lost the race. */
const MAX_BUSY_ATTEMPTS = 20
/** How many groups pass between two sweeps of expired keys, and how many keys one sweep takes. */
const PRUNE = { everyGroups: 256, keys: 1_000 }

/**
 * Opens, and creates if need be, the SQLite store in a database file. Chain files lie beside it by default, in
 * `<file>.holdfast`.
 *
 * @param database - A path, opened with node:sqlite in WAL mode. Or an open database of node:sqlite or
 *   better-sqlite3, which is then the store's alone: it sets `busy_timeout` to 0, leaves its other settings as they
 *   are (see `capabilities.shortfalls`), and does not close it.
 * @throws {HoldfastError} `ERR_STORE` when it cannot be used or is not the store's, `ERR_DAMAGE`, `ERR_STORE_FULL`.
 *   Opening waits, blocking, for up to 5 s while another process creates the same database; nothing else blocks.
 */
export function sqliteStore(database: string | SqliteDatabase, options: SqliteStoreOptions = {}): Store {
  const { durability = 'fsync', unsafeFileSystem = false, clock = systemClock, fileSystemType } = options
  const open = openDatabase(database, { durability, unsafeFileSystem, ...(fileSystemType === undefined ? {} : { fileSystemType }) })
  const { file, meta } = open
  const watchers = createWatchers()
  const changes = createChanges(open.database, watchers)
  const transactions = createTransactions(open, clock)
  const { statements } = transactions
  let groups = 0
  let stopFollowing: (() => void) | undefined

  const cellOf = (key: string): Cell | undefined => {
    const row = statements.get.get(keyBytes(key)) as Row | undefined
    return row === undefined ? undefined : cell(row)
  }

  /** Judges a group on the rows as they are, and writes what it leaves. */
  function run(batches: readonly Batch[], now: number, first: number): Applied {
    const after = new Map<string, Cell | null>()
    const lookup = (key: string): Cell | undefined => {
      const changed = after.get(key)
      return changed === undefined ? cellOf(key) : (changed ?? undefined)
    }
    let version = first
    const results = batches.map((batch) => {
      const { result, changes } = evaluate(lookup, batch, now, version + 1)
      if (result.outcome !== 'ok') return result
      version += 1
      for (const [key, changed] of changes) after.set(key, changed)
      return result
    })
    for (const [key, changed] of after) {
      if (changed === null) statements.remove.run(keyBytes(key))
      else statements.put.run(keyBytes(key), JSON.stringify(changed.value), changed.version, changed.expiresAtMs ?? null)
    }
    if (version === first) return { results, version, committed: false, keys: [] }
    changes.write(first, version, after.keys())
    if (++groups % PRUNE.everyGroups === 0) statements.prune.run(now, PRUNE.keys)
    statements.advance.run(version, now)
    return { results, version, committed: true, keys: after.keys() }
  }

  async function apply(batches: readonly Batch[]): Promise<GroupResult> {
    for (let attempt = 0; attempt < MAX_BUSY_ATTEMPTS; attempt++) {
      if (attempt > 0) await sleep(1 + Math.random() * 2)
      const answer = transactions.write((now, version) => run(batches, now, version))
      if (answer === 'busy') continue
      if ('unknown' in answer) return { outcome: 'unknown', cause: answer.unknown }
      if (answer.committed) changes.wasOwn(answer.version)
      for (const key of answer.keys) watchers.touch(key)
      return { outcome: 'applied', results: answer.results, head: { segment: 0, bytes: answer.version, hash: meta.id } }
    }
    return { outcome: 'contended' }
  }

  function watch(prefix: string, wake: () => void): () => void {
    transactions.assertAlive()
    const remove = watchers.add(prefix, wake)
    stopFollowing ??= changes.follow()
    return () => {
      remove()
      if (watchers.size > 0) return
      stopFollowing?.()
      stopFollowing = undefined
    }
  }

  return {
    name: `sqlite ${file}`,
    id: meta.id,
    capabilities: capabilitiesOf(open.database, typeof database === 'string' && durability === 'os'),
    dataDirectory: `${file}.holdfast`,
    apply,
    async read(keys) {
      if (keys.length > MAX_ENTRIES) throw new RangeError(`One read takes up to ${MAX_ENTRIES} keys, got ${keys.length}.`)
      return transactions.read((now) => keys.map((key) => entry(key, cellOf(key), now)))
    },
    async list(prefix, { after, limit }) {
      if (!Number.isInteger(limit) || limit < 0) throw new RangeError(`Expected \`limit\` to be a whole number from 0, got \`${limit}\`.`)
      const { from, before } = listRange(prefix, after)
      return transactions.read((now) => {
        const rows = statements.list.all(from, before, now, Math.min(limit, MAX_ENTRIES)) as (Row & { readonly key: Uint8Array })[]
        return rows.map((row) => ({ key: keyOfBytes(row.key), ...cell(row) }))
      })
    },
    now: async () => transactions.read((now) => now),
    watch,
    holds: async (heads) =>
      transactions.read((_, version) =>
        heads.map((head) => (head.segment !== 0 ? 'unknown' : head.hash === meta.id && head.bytes <= version ? 'yes' : 'no')),
      ),
    async close() {
      stopFollowing?.()
      watchers.clear()
      transactions.close()
    },
  }
}

interface Row {
  readonly value: string
  readonly version: number | bigint
  readonly expires_at_ms: number | bigint | null
}

function cell({ value, version, expires_at_ms: expiresAtMs }: Row): Cell {
  const found = { value: JSON.parse(value) as Json, version: Number(version) }
  return expiresAtMs === null ? found : { ...found, expiresAtMs: Number(expiresAtMs) }
}

function entry(key: string, found: Cell | undefined, now: number): Entry | null {
  return found === undefined || (found.expiresAtMs !== undefined && found.expiresAtMs <= now) ? null : { key, ...found }
}

const SYNC_LEVELS = ['OFF', 'NORMAL', 'FULL', 'EXTRA']

/** What the settings of a connection promise. Whoever chose `os` has said that a power cut does not count. */
function capabilitiesOf(database: SqliteDatabase, chosen: boolean): Capabilities {
  const { journal_mode: journal } = database.prepare('PRAGMA journal_mode').get() as { journal_mode: string }
  const { synchronous } = database.prepare('PRAGMA synchronous').get() as { synchronous: unknown }
  const level = Number(synchronous)
  const shortfalls: Shortfall[] = []
  if (journal !== 'wal') {
    const risk = ['memory', 'off'].includes(journal)
      ? 'A process that dies while it commits leaves a damaged database.'
      : 'A commit can come undone in a power cut, and readers and writers block each other.'
    shortfalls.push({ setting: 'journal_mode', found: journal, needs: 'wal', risk })
  }
  if (level < 2 && !chosen) {
    const risk = 'A power cut undoes the last acknowledged commits.'
    shortfalls.push({ setting: 'synchronous', found: SYNC_LEVELS[level] ?? String(level), needs: 'FULL', risk })
  }
  const durable = ['memory', 'off'].includes(journal) ? 'none' : shortfalls.length === 0 && !chosen ? 'disk' : 'os'
  return shortfalls.length === 0 ? { shared: 'host', durable } : { shared: 'host', durable, shortfalls }
}
