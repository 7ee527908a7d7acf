// The file store: a folder of append-only JSONL, shared by any number of processes of one host, without a
// lock. A writer decides its batches on what it has read, appends ONE line that names the last line it had
// read, and reads on: its line counts only if nothing was accepted in between. Every reader decides that
// from the same bytes, so all agree; then fdatasync, then the acknowledgement.
// A segment that has grown long is sealed by such a line too, and goes on in the next file; see journal/compact.ts.
//
// Invariant: the table is a pure function of the accepted lines.

import { closeSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { steady, systemClock, type Clock } from '../lib/clock.ts'
import { HoldfastError } from '../lib/errors.ts'
import { newId } from '../lib/ids.ts'
import { createDiskSync, type DiskSync } from './journal/disk-sync.ts'
import { fileSystemType } from './journal/file-system.ts'
import { holdSegment, writeBackup, type Backup } from './journal/backup.ts'
import { followFolder } from './journal/follow.ts'
import { holdsHeads } from './journal/heads.ts'
import { createCompactor, stand } from './journal/compact.ts'
import { takeTurn } from './journal/courtesy.ts'
import { createFold, type Fold, type Standing } from './journal/fold.ts'
import { prepareFolder, segmentFile } from './journal/folder.ts'
import { encodeLine } from './journal/line.ts'
import { openJournal, openNext, readWhole } from './journal/open.ts'
import { syncSlowly } from './journal/snapshot.ts'
import { decide, UnknownOutcome, writeLine } from './journal/write.ts'
import type { Batch, BatchResult, GroupResult, Store, StoreHead } from './store.ts'
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
   * A segment of the journal that has grown to this many bytes is sealed, and what lies before the last two snapshots
   * is removed; a segment may grow as long as the state is large, up to {@link MAX_SEGMENT_BYTES}. `Infinity`: never;
   * the store stops with `ERR_STORE_FULL` when its segment is full.
   * @default 8388608 (8 MiB)
   */
  readonly segmentBytes?: number
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

/** A store of files, with what only such a store can do. */
export interface FileStore extends Store {
  /**
   * Copies the store, as it is at one instant, to another data directory while others write; `<directory>/store` must
   * not be there. {@link verifyBackup} checks the copy. It is opened as a store only when its `backup.json` was deleted.
   *
   * @throws {HoldfastError} `ERR_STORE` when there is something already, or it cannot be written.
   */
  backup(directory: string): Promise<Backup>
  /**
   * Seals the segment, writes a snapshot and removes what lies before the last two snapshots, as happens by itself when
   * the segment has grown long.
   *
   * @throws {HoldfastError} What stopped it; the store is as it was, or goes on in a new segment.
   */
  compact(): Promise<void>
}

export { verifyBackup, type Backup } from './journal/backup.ts'

/** Most lines in one segment. */
export const MAX_SEGMENT_LINES = 200_000
/** Most bytes in one segment. */
export const MAX_SEGMENT_BYTES: number = 64 * 1024 * 1024

const SEGMENT_BYTES = 8 * 1024 * 1024

/**
 * Opens, and creates if need be, the file store of a data directory; its files lie in `<directory>/store`.
 *
 * @throws {HoldfastError} `ERR_STORE` when the directory cannot be used, `ERR_DAMAGE` when the journal was
 *   changed by anything but a store, naming file and line.
 */
export function fileStore(directory: string, options: FileStoreOptions = {}): FileStore {
  const { durability = 'fsync', unsafeFileSystem = false, clock = systemClock, segmentBytes = SEGMENT_BYTES } = options
  assertSegmentBytes(segmentBytes)
  const sync = durability === 'fsync'
  const folder = join(resolve(directory), 'store')
  const typeOf = unsafeFileSystem ? undefined : (options.fileSystemType ?? fileSystemType)
  const storeId = prepareFolder(folder, { sync, ...(typeOf === undefined ? {} : { typeOf }) })
  const home = { folder, storeId, sync }
  const watchers = createWatchers()
  const writer = { id: newId().slice(0, 12), writes: 0, line: '', accepted: undefined as readonly BatchResult[] | undefined }
  const entrance = openJournal(home)
  let disk = createDiskSync(entrance.descriptor)
  let retired: Promise<void> | undefined
  const fold = createFold({
    ...entrance,
    storeId,
    onLine(line, results) {
      if (line.writer === writer.line) writer.accepted = results
    },
    onChange(key) {
      if (watchers.size > 0) watchers.touch(key)
    },
    cross(sealed) {
      // Everything that this process acknowledges from now on stands on the sealed segment, its last lines included.
      if (sync) finish(sealed.file)
      const next = openNext(home, sealed)
      retire(sealed.descriptor)
      disk = createDiskSync(next.descriptor)
      if (next.standing !== undefined) watchers.touchAll()
      return next
    },
  })
  const compactor = createCompactor({
    folder,
    storeId,
    fold,
    append: appendEmpty,
    onDisk,
    segmentBytes,
    most: { bytes: MAX_SEGMENT_BYTES, lines: MAX_SEGMENT_LINES },
  })
  // A group may be in the last line, which counts as soon as somebody writes the newline that it lacks.
  let isUnsettled = false
  let stopFollowing: (() => void) | undefined
  let closing: Promise<void> | undefined
  const backups = new Set<Promise<unknown>>()

  // The last line may be of a writer whose clock is ahead; what has expired in its eyes has expired for all.
  const time = steady(clock)
  const now = (): number => time(fold.timeMs)

  /** Appends one line with one write(2), and reads on to see whether it was accepted. */
  function append(batches: readonly Batch[], timeMs: number, seal?: number): readonly BatchResult[] | undefined {
    const { file, descriptor } = fold.place
    if (segmentBytes === Infinity && seal === undefined) assertRoom(file, fold)
    writer.line = `${writer.id}:${++writer.writes}`
    writer.accepted = undefined
    const line = { previous: fold.head, writer: writer.line, timeMs, batches, ...(seal === undefined ? {} : { seal }) }
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

  /** Appends a line without batches. True when it was accepted; when that is unknown, whoever reads on finds out. */
  function appendEmpty({ seal }: { readonly seal?: number }): boolean {
    try {
      return append([], now(), seal) !== undefined
    } catch (error) {
      if (error instanceof UnknownOutcome) return false
      throw error
    }
  }

  function finish(file: string): void {
    try {
      disk.finish()
    } catch (error) {
      throw unsynced(file, error)
    }
  }

  /** Closes a sealed segment once no sync of it is under way. If one has failed, nothing may be acknowledged any more. */
  function retire(descriptor: number): void {
    const closed = closeRetired(descriptor, disk, retired)
    retired = closed
    const forget = (): void => {
      if (retired === closed) retired = undefined
    }
    // Of a failure, whoever acknowledges next is told; until then nobody is.
    closed.then(forget, () => {})
  }

  async function onDisk({ segment, to }: Standing): Promise<void> {
    if (segment === fold.place.segment) return disk.upTo(to)
    // Sealed since, and left without a sync where nothing needs to survive a power cut; a snapshot does.
    await syncSlowly(segmentFile(folder, segment)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error
    })
  }

  async function apply(batches: readonly Batch[]): Promise<GroupResult> {
    fold.readOn()
    const timeMs = now()
    const { results, passing } = decide(fold, batches, timeMs)
    // What comes of a group in doubt must be certain before anything else is answered, a refusal too.
    if (passing.length > 0 || isUnsettled) {
      let outcomes: readonly BatchResult[] | undefined
      try {
        outcomes = append(passing, timeMs)
        isUnsettled = false
      } catch (error) {
        if (!(error instanceof UnknownOutcome)) throw error
        isUnsettled = true
        return { outcome: 'unknown', cause: error }
      }
      if (outcomes === undefined) return { outcome: 'contended' }
      let next = 0
      for (let index = 0; index < results.length; index++) results[index] ??= outcomes[next++]!
    }
    const head: StoreHead = { segment: fold.place.segment, bytes: fold.headBytes, hash: fold.head }
    const { file } = fold.place
    try {
      // Also when nothing was written: a refusal, or the answer to a batch sent twice, may rest on a line that
      // its own writer has not synced.
      if (sync) await disk.upTo(fold.offset)
      if (sync && retired !== undefined) await retired
    } catch (error) {
      // After a failed sync the system may have dropped the pages; what this process says about the file
      // cannot be trusted any more.
      fold.die(unsynced(file, error))
      return { outcome: 'unknown', cause: error }
    }
    compactor.maybe()
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

  async function backup(to: string): Promise<Backup> {
    for (;;) {
      const standing = await stand(fold, appendEmpty)
      const { place } = fold
      // Others may have sealed and removed it since it was read.
      const descriptor = place.segment === standing.segment ? holdSegment(place) : undefined
      if (descriptor === undefined) continue
      // While it is this process's turn, others do not compact, and need not: a copy is a snapshot too.
      const giveBack = takeTurn(folder)
      try {
        await onDisk(standing)
        return await writeBackup(to, descriptor, { place, standing, storeId }, now())
      } finally {
        giveBack?.()
        closeSync(descriptor)
      }
    }
  }

  async function close(): Promise<void> {
    stopFollowing?.()
    watchers.clear()
    fold.die(new HoldfastError('ERR_CLOSED', `The file store ${folder} is closed.`))
    await compactor.idle()
    await Promise.allSettled(backups)
    await disk.idle()
    closeSync(fold.place.descriptor)
    await retired?.catch(() => {})
  }

  try {
    readWhole(folder, fold)
  } catch (error) {
    closeSync(fold.place.descriptor)
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
    async holds(heads) {
      fold.readOn()
      return holdsHeads(folder, fold, heads)
    },
    async backup(to) {
      const work = backup(to)
      backups.add(work)
      return work.finally(() => backups.delete(work))
    },
    compact: () => compactor.now(),
    close: () => (closing ??= close()),
  }
}

function assertSegmentBytes(bytes: number): void {
  if (bytes === Infinity || (Number.isSafeInteger(bytes) && bytes > 0)) return
  throw new RangeError(`Expected \`segmentBytes\` to be a whole number above 0, or Infinity, got \`${bytes}\`.`)
}

function unsynced(file: string, cause: unknown): HoldfastError {
  return new HoldfastError('ERR_STORE', `${file} could not be synced to disk. The store is frozen.`, { cause })
}

function assertRoom(file: string, { lines, offset }: Fold): void {
  if (lines < MAX_SEGMENT_LINES && offset < MAX_SEGMENT_BYTES) return
  throw new HoldfastError(
    'ERR_STORE_FULL',
    `${file} has reached its limit of ${MAX_SEGMENT_LINES} lines or ${MAX_SEGMENT_BYTES} bytes, and \`segmentBytes\` is Infinity: it is not sealed. Open the store with another one.`,
  )
}

async function closeRetired(descriptor: number, disk: DiskSync, before: Promise<void> | undefined): Promise<void> {
  await disk.idle()
  closeSync(descriptor)
  await before
  disk.assertWell()
}
