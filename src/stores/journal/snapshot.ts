// A snapshot: what all lines of a journal up to one place have come to. It is a chain of lines like the journal's: the
// first one names the place, the last one says that all are there, each carries its hash and that of the one before.
// So a snapshot that was not finished can be told from one that was changed, and a change is named by its line.
//
// It is true whenever it appears, however late: it names the place it stands on, and accepted lines never change.

import { closeSync, fsync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import type { Json } from '../../lib/canonical-json.ts'
import { HoldfastError } from '../../lib/errors.ts'
import { newId } from '../../lib/ids.ts'
import type { Standing } from './fold.ts'
import { snapshotName } from './folder.ts'
import { frame, JOURNAL_FORMAT, readFrame } from './line.ts'
import type { Cell } from '../table.ts'

const fsyncAsync = promisify(fsync)

/** A line of cells ends after this many characters, so that others get their turn while a snapshot is written. */
const LINE_CHARACTERS = 64 * 1024

type CellRow = readonly [key: string, value: Json, version: number, expiresAtMs?: number]

/**
 * Writes a snapshot beside the journal, under a name of its own: first elsewhere, synced, then renamed.
 *
 * @returns Its size in bytes; `undefined` when somebody who tidied up took this process for dead.
 */
export async function writeSnapshot(folder: string, standing: Standing, storeId: string): Promise<number | undefined> {
  const temporary = join(folder, `tmp-${newId()}`)
  try {
    const bytes = await writeFileSlowly(temporary, snapshotLines(standing, storeId))
    renameSync(temporary, join(folder, snapshotName(standing.segment, standing.to)))
    await syncSlowly(folder)
    return bytes
  } catch (error) {
    rmSync(temporary, { force: true })
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Writes a new file part by part, with a turn of the event loop between two, and syncs it. Returns its size. */
export async function writeFileSlowly(file: string, parts: Iterable<string | Uint8Array>): Promise<number> {
  const descriptor = openSync(file, 'wx', 0o644)
  try {
    let bytes = 0
    for (const part of parts) {
      const buffer = typeof part === 'string' ? Buffer.from(part) : part
      // A full disk takes a part of it first, and says so the next time.
      for (let at = 0; at < buffer.length;) at += writeSync(descriptor, buffer, at)
      bytes += buffer.length
      await new Promise((resolve) => setImmediate(resolve))
    }
    await fsyncAsync(descriptor)
    return bytes
  } finally {
    closeSync(descriptor)
  }
}

/** Puts a file, or the names in a folder, on disk without stopping the event loop. */
export async function syncSlowly(path: string): Promise<void> {
  const descriptor = openSync(path, 'r')
  try {
    await fsyncAsync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

/** The lines of a snapshot, newlines included. */
export function* snapshotLines({ cells, ...place }: Standing, storeId: string): Generator<string, void> {
  let previous = storeId
  const line = (members: string): string => {
    const { text, hash } = frame(previous, members)
    previous = hash
    return `${text}\n`
  }
  yield line(`"snapshot":${JSON.stringify({ format: JOURNAL_FORMAT, ...place })}`)
  let rows: string[] = []
  let characters = 0
  for (const [key, cell] of cells) {
    const row = JSON.stringify(rowOf(key, cell))
    rows.push(row)
    characters += row.length
    if (characters < LINE_CHARACTERS) continue
    yield line(`"cells":[${rows.join(',')}]`)
    rows = []
    characters = 0
  }
  if (rows.length > 0) yield line(`"cells":[${rows.join(',')}]`)
  yield line(`"end":${cells.size}`)
}

function rowOf(key: string, { value, version, expiresAtMs }: Cell): CellRow {
  return expiresAtMs === undefined ? [key, value, version] : [key, value, version, expiresAtMs]
}

// By index: taking a row apart by a pattern goes through an iterator, a hundred thousand times.
function cellOf(row: CellRow): Cell {
  const expiresAtMs = row[3]
  return expiresAtMs === undefined ? { value: row[1], version: row[2] } : { value: row[1], version: row[2], expiresAtMs }
}

interface RawLine {
  readonly p: string
  readonly snapshot?: Omit<Standing, 'cells'> & { readonly format: number }
  readonly cells?: readonly CellRow[]
  readonly end?: number
}

/**
 * Reads a snapshot. One that was not finished, or was removed meanwhile, is none: the answer says why.
 *
 * @throws {HoldfastError} `ERR_DAMAGE`, naming file and line, when it was changed after it was written; `ERR_STORE`
 *   when a later version wrote it.
 */
export function readSnapshot(
  file: string,
  { segment, storeId }: { readonly segment: number; readonly storeId: string },
): Standing | string {
  let bytes: Buffer
  try {
    bytes = readFileSync(file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'was removed meanwhile'
    throw new HoldfastError('ERR_STORE', `${file} cannot be read: ${(error as Error).message}`, { cause: error })
  }
  const cells = new Map<string, Cell>()
  let place: RawLine['snapshot']
  let previous = storeId
  let ended = false
  let number = 1
  const damaged = (reason: string): HoldfastError => {
    const advice = 'If an older snapshot and its segments are there, the store opens from those once this file is deleted.'
    return new HoldfastError('ERR_DAMAGE', `${file} line ${number} is damaged: ${reason}. Nothing is opened. ${advice}`)
  }
  for (let at = 0; at < bytes.length; number++) {
    const end = bytes.indexOf(10, at)
    const text = bytes.subarray(at, end < 0 ? bytes.length : end)
    const framed = readFrame(text)
    if (framed.kind === 'damage') throw damaged(framed.reason)
    if (end < 0) return 'was not finished'
    if (framed.kind === 'torn') throw damaged('it was cut short, and others follow it')
    const line = JSON.parse(text.toString()) as RawLine
    if (line.p !== previous || ended || (place === undefined) !== (line.snapshot !== undefined))
      throw damaged(previous === storeId ? 'it is of another store' : 'it follows a line that is not in the file')
    if (line.snapshot !== undefined) place = readable(file, line.snapshot)
    for (const row of line.cells ?? []) cells.set(row[0], cellOf(row))
    if (line.end !== undefined && line.end !== cells.size) throw damaged(`${line.end} keys were written, and ${cells.size} are there`)
    ended = line.end !== undefined
    previous = framed.hash
    at = end + 1
  }
  if (place === undefined || !ended) return 'was not finished'
  number = 1
  if (place.segment !== segment) throw damaged(`it is of segment ${place.segment}, and the file is named ${basename(file)}`)
  return { ...place, cells }
}

function readable(file: string, place: NonNullable<RawLine['snapshot']>): NonNullable<RawLine['snapshot']> {
  if (place.format <= JOURNAL_FORMAT) return place
  throw new HoldfastError(
    'ERR_STORE',
    `${file} has format ${place.format}; this version of holdfast reads up to ${JOURNAL_FORMAT}. Install a later one.`,
  )
}
