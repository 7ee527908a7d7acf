// The stores that the tests with many processes run on: the real ones, and two that are wrong on purpose. Those
// are right as long as one process uses them; the tests must catch both, or could not catch a real one.

import { closeSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { sleep } from '../../src/lib/clock.ts'
import { newId } from '../../src/lib/ids.ts'
import { fileStore } from '../../src/stores/file.ts'
import { createFold } from '../../src/stores/journal/fold.ts'
import { openSegment, prepareFolder, segmentFile } from '../../src/stores/journal/folder.ts'
import { encodeLine } from '../../src/stores/journal/line.ts'
import { sqliteStore } from '../../src/stores/sqlite.ts'
import type { Batch, BatchResult, Store } from '../../src/stores/store.ts'
import { createTable, evaluate, type Cell, type Table } from '../../src/stores/table.ts'
import { openPostgres } from './postgres-site.ts'
import { openRedis } from './redis-site.ts'

/** Which store the processes share. */
export type StoreKind = LocalKind | 'redis' | 'postgres'
/** Those that are files in a directory. */
export type LocalKind = 'file' | 'sqlite' | 'naive' | 'hasty'

/** Opens a store of any kind. One on a server finds there what to connect to. */
export async function openAnyKind(kind: StoreKind, directory: string): Promise<Store> {
  if (kind === 'postgres') return openPostgres(directory)
  return kind === 'redis' ? openRedis(directory) : openKind(kind, directory)
}

/** Opens a store of a kind that needs no server. */
export function openKind(kind: LocalKind, directory: string): Store {
  if (kind === 'sqlite') return sqliteStore(join(directory, 'state.db'))
  if (kind === 'naive') return naiveStore(directory)
  return kind === 'hasty' ? hastyStore(directory) : fileStore(directory)
}

const CAPABILITIES = { shared: 'host', durable: 'os' } as const

/** Judges batches in order on a table, and applies them to it. */
function run(table: Table, batches: readonly Batch[], firstVersion: number): BatchResult[] {
  let version = firstVersion
  return batches.map((batch) => {
    const { result, changes } = evaluate((key) => table.cell(key), batch, Date.now(), version)
    if (result.outcome === 'ok') version += 1
    table.put(changes)
    return result
  })
}

function tableOf(cells: readonly [string, Cell][]): Table {
  const table = createTable()
  table.put(new Map(cells))
  return table
}

/**
 * What many write first: one JSON file, read, changed and written back, by rename so that it is never half
 * there. Wrong: whoever writes last undoes what others wrote since he read.
 */
function naiveStore(directory: string): Store {
  const file = join(directory, 'state.json')
  mkdirSync(directory, { recursive: true })
  const load = (): { version: number; cells: [string, Cell][] } =>
    existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as { version: number; cells: [string, Cell][] }) : { version: 0, cells: [] }
  return {
    name: 'naive',
    id: directory,
    capabilities: CAPABILITIES,
    async apply(batches) {
      const { version, cells } = load()
      const table = tableOf(cells)
      const results = run(table, batches, version + 1)
      const written = table.list('', 0, { limit: 10_000 }).map(({ key, ...cell }) => [key, cell])
      const temporary = `${file}.${newId()}`
      writeFileSync(temporary, JSON.stringify({ version: version + results.length, cells: written }))
      renameSync(temporary, file)
      return { outcome: 'applied', results }
    },
    read: async (keys) => tableOf(load().cells).read(keys, 0),
    list: async (prefix, range) => tableOf(load().cells).list(prefix, 0, range),
    now: async () => Date.now(),
    watch: () => () => {},
    async close() {},
  }
}

/**
 * The journal of the real file store without its rule that a line counts only where it was decided: this one
 * decides, dawdles, looks up the newest head just before it writes, and answers what it decided.
 */
function hastyStore(directory: string): Store {
  const folder = join(directory, 'store')
  const file = segmentFile(folder, 1)
  const storeId = prepareFolder(folder, { sync: false })
  const descriptor = openSegment(folder, file, false)
  const writer = { id: newId(), writes: 0, line: '', accepted: false }
  const fold = createFold({
    file,
    descriptor,
    storeId,
    onLine: (line) => (writer.accepted ||= line.writer === writer.line),
    onChange: () => {},
  })
  const look = (): Table => {
    fold.readOn()
    return fold.table
  }

  async function apply(batches: readonly Batch[]) {
    const table = look()
    const decided = batches.map((batch) => evaluate((key) => table.cell(key), batch, Date.now(), 0).result)
    await sleep(1)
    look()
    const passing = batches.filter((_, index) => decided[index]!.outcome === 'ok')
    if (passing.length === 0) return { outcome: 'applied', results: decided } as const
    writer.line = `${writer.id}:${++writer.writes}`
    writer.accepted = false
    const { text } = encodeLine({ previous: fold.head, writer: writer.line, timeMs: Date.now(), batches: passing })
    writeSync(descriptor, `${fold.torn ? '\n' : ''}${text}\n`)
    look()
    return writer.accepted ? ({ outcome: 'applied', results: decided } as const) : ({ outcome: 'contended' } as const)
  }

  return {
    name: 'hasty',
    id: storeId,
    capabilities: CAPABILITIES,
    apply,
    read: async (keys) => look().read(keys, 0),
    list: async (prefix, range) => look().list(prefix, 0, range),
    now: async () => Date.now(),
    watch: () => () => {},
    close: async () => closeSync(descriptor),
  }
}
