// The file store: a folder of append-only JSONL, shared by any number of processes of one host, without a
// lock. A writer decides its batches on what it has read, appends ONE line that names the last line it had
// read, and reads on: its line counts only if nothing was accepted in between. Every reader decides that
// from the same bytes, so all agree; then fdatasync, then the acknowledgement.
//
// Invariant: the table is a pure function of the accepted lines.

import { closeSync, readSync, watch as watchFolder, writeSync, type FSWatcher } from 'node:fs'
import { join, resolve } from 'node:path'
import { steady, systemClock, type Clock } from '../lib/clock.ts'
import { HoldfastError } from '../lib/errors.ts'
import { newId } from '../lib/ids.ts'
import { createDiskSync } from './disk-sync.ts'
import { fileSystemType } from './file-system.ts'
import { createFold, type Fold } from './journal-fold.ts'
import { openSegment, prepareFolder, segmentFile } from './journal-folder.ts'
import { encodeLine, lineEnding } from './journal-line.ts'
import type { Batch, BatchResult, GroupResult, Store, StoreHead } from './store.ts'
import { evaluate, type Cell } from './table.ts'
import { createWatchers } from './watchers.ts'

/** Options of {@link fileStore}. */
export interface FileStoreOptions {
  /**
   * What an acknowledged write survives: a power cut (`fsync`: fdatasync before each acknowledgement), or the
   * death of its process only (`os`: many times faster).
   * @default 'fsync'
   */
  readonly durability?: 'fsync' | 'os'
  /**
   * Use a file system that is not on the list of those known to append whole lines. Right only when a
   * single process uses the store.
   * @default false
   */
  readonly unsafeFileSystem?: boolean
  /** Says on which file system a directory lies, as statfs(2) does. @default asks the system */
  readonly fileSystemType?: (directory: string) => number
  /** @default the wall clock */
  readonly clock?: Clock
}

/** Most lines in one segment. Later versions rotate here; this one stops with a clear error. */
export const MAX_SEGMENT_LINES = 200_000
/** Most bytes in one segment. */
export const MAX_SEGMENT_BYTES: number = 64 * 1024 * 1024

/** A change that fs.watch did not report is noticed after this long, ms. */
const POLL_MS = 250

/**
 * Opens, and creates if need be, the file store of a data directory; its files lie in `<directory>/store`.
 *
 * @throws {HoldfastError} `ERR_STORE` when the directory cannot be used, `ERR_DAMAGE` when the journal was
 *   changed by anything but a store, naming file and line.
 */
export function fileStore(directory: string, options: FileStoreOptions = {}): Store {
  const { durability = 'fsync', unsafeFileSystem = false, clock = systemClock } = options
  const sync = durability === 'fsync'
  const folder = join(resolve(directory), 'store')
  const file = segmentFile(folder, 1)
  const typeOf = unsafeFileSystem ? undefined : (options.fileSystemType ?? fileSystemType)
  const storeId = prepareFolder(folder, { sync, ...(typeOf === undefined ? {} : { typeOf }) })
  const descriptor = openSegment(folder, file, sync)
  const watchers = createWatchers()
  const writer = { id: newId().slice(0, 12), writes: 0, line: '', accepted: undefined as readonly BatchResult[] | undefined }
  const fold = createFold({
    file,
    descriptor,
    storeId,
    onLine(line, results) {
      if (line.writer === writer.line) writer.accepted = results
    },
    onChange(key) {
      if (watchers.size > 0) watchers.touch(key)
    },
  })
  let stopFollowing: (() => void) | undefined
  const disk = createDiskSync(descriptor)
  let closing: Promise<void> | undefined

  // The last line may be of a writer whose clock is ahead; what has expired in its eyes has expired for all.
  const time = steady(clock)
  const now = (): number => time(fold.timeMs)

  /** Appends one line with one write(2), and reads on to see whether it was accepted. */
  function append(batches: readonly Batch[], timeMs: number): readonly BatchResult[] | undefined {
    assertRoom(file, fold)
    writer.line = `${writer.id}:${++writer.writes}`
    writer.accepted = undefined
    const line = { previous: fold.head, writer: writer.line, timeMs, batches }
    const { text, hash } = encodeLine(line)
    const bytes = Buffer.from(`${fold.torn ? '\n' : ''}${text}\n`)
    fold.expect(line, bytes.subarray(fold.torn ? 1 : 0, -1), hash)
    writeLine(file, descriptor, bytes, fold)
    try {
      fold.readOn()
    } catch (cause) {
      throw new UnknownOutcome(`${file}: a line was written, and cannot be read back`, { cause })
    }
    return writer.accepted
  }

  async function apply(batches: readonly Batch[]): Promise<GroupResult> {
    fold.readOn()
    const timeMs = now()
    const { results, passing } = decide(fold, batches, timeMs)
    if (passing.length > 0) {
      let outcomes: readonly BatchResult[] | undefined
      try {
        outcomes = append(passing, timeMs)
      } catch (error) {
        if (error instanceof UnknownOutcome) return { outcome: 'unknown', cause: error }
        throw error
      }
      if (outcomes === undefined) return { outcome: 'contended' }
      let next = 0
      for (let index = 0; index < results.length; index++) results[index] ??= outcomes[next++]!
    }
    const head: StoreHead = { segment: 1, bytes: fold.headBytes, hash: fold.head }
    try {
      // Also when nothing was written: a refusal, or the answer to a batch sent twice, may rest on a line that
      // its own writer has not synced.
      if (sync) await disk.upTo(fold.offset)
    } catch (error) {
      // After a failed sync the system may have dropped the pages; what this process says about the file
      // cannot be trusted any more.
      fold.die(new HoldfastError('ERR_STORE', `${file} could not be synced to disk. The store is frozen.`, { cause: error }))
      return { outcome: 'unknown', cause: error }
    }
    return { outcome: 'applied', results: results as BatchResult[], head }
  }

  function watch(prefix: string, wake: () => void): () => void {
    if (fold.dead !== undefined) throw fold.dead
    const remove = watchers.add(prefix, wake)
    stopFollowing ??= followFolder(folder, () => {
      try {
        fold.readOn()
      } catch {
        // The store is dead and says why on its next use; its watchers must wake to find that out.
        watchers.touchAll()
      }
    })
    return () => {
      remove()
      if (watchers.size > 0) return
      stopFollowing?.()
      stopFollowing = undefined
    }
  }

  async function holds(heads: readonly StoreHead[]): Promise<readonly ('yes' | 'no' | 'unknown')[]> {
    fold.readOn()
    const accepted = fold.accepted(new Set(heads.map(({ hash }) => hash)))
    return heads.map((head) => {
      if (head.segment !== 1) return 'unknown'
      return accepted.has(head.hash) && endsThere(head) ? 'yes' : 'no'
    })
  }

  function endsThere({ bytes, hash }: StoreHead): boolean {
    if (hash === storeId) return bytes === 0
    const ending = Buffer.from(lineEnding(hash))
    if (bytes > fold.offset || bytes < ending.length) return false
    const found = Buffer.alloc(ending.length)
    readSync(descriptor, found, 0, found.length, bytes - found.length)
    return found.equals(ending)
  }

  async function close(): Promise<void> {
    stopFollowing?.()
    watchers.clear()
    fold.die(new HoldfastError('ERR_CLOSED', `The file store ${folder} is closed.`))
    await disk.idle()
    closeSync(descriptor)
  }

  try {
    fold.readOn()
  } catch (error) {
    closeSync(descriptor)
    throw error
  }
  return {
    name: `file ${folder}`,
    id: storeId,
    capabilities: { shared: 'host', durable: sync ? 'disk' : 'os' },
    dataDirectory: directory,
    apply,
    async read(keys) {
      fold.readOn()
      return fold.table.read(keys, now())
    },
    async list(prefix, range) {
      fold.readOn()
      return fold.table.list(prefix, now(), range)
    },
    async now() {
      fold.readOn()
      return now()
    },
    watch,
    holds,
    close: () => (closing ??= close()),
  }
}

/** Decides batches on the table as it is now: those that pass go into the line, the others are answered. */
function decide(fold: Fold, batches: readonly Batch[], timeMs: number): { results: (BatchResult | undefined)[]; passing: Batch[] } {
  const overlay = new Map<string, Cell | null>()
  const lookup = (key: string): Cell | undefined => {
    const cell = overlay.get(key)
    return cell === undefined ? fold.table.cell(key) : (cell ?? undefined)
  }
  const passing: Batch[] = []
  const results = batches.map((batch) => {
    const { result, changes } = evaluate(lookup, batch, timeMs, fold.version + passing.length + 1)
    if (result.outcome !== 'ok') return result
    for (const [key, cell] of changes) overlay.set(key, cell)
    passing.push(batch)
    return undefined
  })
  return { results, passing }
}

/** A write whose fate this process cannot know. */
class UnknownOutcome extends Error {}

function assertRoom(file: string, { lines, offset }: Fold): void {
  if (lines < MAX_SEGMENT_LINES && offset < MAX_SEGMENT_BYTES) return
  throw new HoldfastError(
    'ERR_STORE_FULL',
    `${file} has reached its limit of ${MAX_SEGMENT_LINES} lines or ${MAX_SEGMENT_BYTES} bytes, and this version does not rotate segments yet. Start a new data directory.`,
  )
}

function writeLine(file: string, descriptor: number, bytes: Buffer, fold: Fold): void {
  const noSpace = (what: string, cause?: unknown): HoldfastError =>
    new HoldfastError('ERR_STORE_FULL', `No space left for ${file}: ${what}. Nothing was committed.`, { cause })
  let written: number
  try {
    written = writeSync(descriptor, bytes)
  } catch (error) {
    if (['ENOSPC', 'EDQUOT', 'EFBIG'].includes(String((error as NodeJS.ErrnoException).code))) throw noSpace('nothing was written', error)
    throw fold.die(new HoldfastError('ERR_STORE', `${file} cannot be written. The store is frozen.`, { cause: error }))
  }
  // Never write the rest: others may already stand behind it. A line that lacks only its newline is completed
  // by the next writer and counts; a shorter one never will.
  if (written === bytes.length - 1) throw new UnknownOutcome(`${file}: a line was written without its newline`)
  if (written < bytes.length) throw noSpace(`${written} of ${bytes.length} bytes were written`)
}

/** Calls `look` when something in the folder may have changed: events where the system sends them, and a slow poll. */
function followFolder(folder: string, look: () => void): () => void {
  let events: FSWatcher | undefined
  try {
    events = watchFolder(folder, { persistent: false }, look)
    // Events may end (no more watches, the folder is gone); the poll goes on.
    events.on('error', () => events?.close())
  } catch {
    // This system has no events for us; the poll alone is slower, not wrong.
  }
  const poll = setInterval(look, POLL_MS)
  poll.unref()
  return () => {
    clearInterval(poll)
    events?.close()
  }
}
