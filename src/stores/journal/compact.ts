// Rotation: a line seals the segment that has grown long, a snapshot is written beside the journal, and what lies
// before the older of two snapshots is removed. Any number of processes may do this at once, and each step may be the
// last one of a process: nobody has to finish anything for anybody.

import { closeSync, openSync, readdirSync, statSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { sleep } from '../../lib/clock.ts'
import { HoldfastError } from '../../lib/errors.ts'
import { takeTurn } from './courtesy.ts'
import type { Fold, Standing } from './fold.ts'
import { placeOfSnapshot, segmentFile, segmentsIn, snapshotsIn, TRIMMED } from './folder.ts'
import { syncSlowly, writeSnapshot } from './snapshot.ts'

/** Segments whose snapshots are kept, with all later ones. A snapshot could be lost to a bad disk; the older one opens too. */
const SNAPSHOTS_KEPT = 2
/** A file that was being written this long ago, ms, belongs to a process that died. */
const LEFT_BEHIND_MS = 600_000
/** After a turn that was somebody else's, or failed, another try waits this long, ms. */
const RETRY_MS = 100

/** What compaction needs of its store. */
export interface CompactorOptions {
  readonly folder: string
  readonly storeId: string
  readonly fold: Fold
  /** Appends a line that seals the segment, or one without batches. True when it was accepted. Throws as commits do. */
  readonly append: (line: { readonly seal?: number }) => boolean
  /** Resolves when the journal is on disk up to there. */
  readonly onDisk: (standing: Standing) => Promise<void>
  /** A segment of this many bytes is sealed, unless the state is larger. */
  readonly segmentBytes: number
  /** However large the state is, a segment of this many bytes or lines is sealed. */
  readonly most: { readonly bytes: number; readonly lines: number }
}

/** Compacts the journal of one open store. */
export interface Compactor {
  /** Starts to compact if the segment has grown long, and it is this process's turn. Never throws. */
  maybe(): void
  /** Compacts now: seals the segment if nobody else does, writes a snapshot, trims. */
  now(): Promise<void>
  /** Resolves when nothing of it is under way. */
  idle(): Promise<void>
}

/** Makes the compactor of a store. */
export function createCompactor({ folder, storeId, fold, append, onDisk, segmentBytes, most }: CompactorOptions): Compactor {
  let underWay = 0
  let last: Promise<void> = Promise.resolve()
  let retryAt = 0
  let limit = { segment: 0, bytes: 0 }

  /** A segment may grow as long as the state is large: then opening costs at most twice its snapshot, and so does writing. */
  function limitOf(segment: number): number {
    if (limit.segment !== segment) limit = { segment, bytes: Math.min(most.bytes, Math.max(segmentBytes, newestSnapshotBytes(folder))) }
    return limit.bytes
  }

  function maybe(): void {
    const { offset, lines, dead, place } = fold
    if (offset < segmentBytes && lines < most.lines) return
    if (segmentBytes === Infinity || underWay > 0 || dead !== undefined || performance.now() < retryAt) return
    try {
      const bytes = limitOf(place.segment)
      if (offset < bytes && lines < most.lines) return
      // Whoever had the turn may have died with it: twice as long is too long to wait for him.
      const turn = takeTurn(folder)
      if (turn === undefined && offset < 2 * bytes && lines < most.lines) retryAt = performance.now() + RETRY_MS
      else start(compact(true), turn)
    } catch {
      retryAt = performance.now() + RETRY_MS
    }
  }

  // Nobody waits for it: what was sealed without a snapshot is in the next one, and a store that failed says so itself.
  function start(work: Promise<void>, giveBack: (() => void) | undefined): void {
    underWay += 1
    last = settle(work, giveBack, last)
  }

  async function settle(work: Promise<void>, giveBack: (() => void) | undefined, before: Promise<void>): Promise<void> {
    try {
      await work
    } catch {
      retryAt = performance.now() + RETRY_MS
    }
    giveBack?.()
    underWay -= 1
    await before
  }

  async function compact(onlyIfSealedHere: boolean): Promise<void> {
    const { segment } = fold.place
    let sealedHere = false
    for (let attempt = 0; fold.place.segment === segment; attempt++) {
      if (append({ seal: segment + 1 })) sealedHere = true
      else await pauseAfter(attempt)
      fold.readOn()
    }
    // Whoever sealed it writes the snapshot; were all to do it, all would do the same work.
    if (!sealedHere && onlyIfSealedHere) return
    const standing = await stand(fold, append)
    await onDisk(standing)
    if ((await writeSnapshot(folder, standing, storeId)) !== undefined) await trim(folder)
  }

  return {
    maybe,
    async now() {
      await last
      fold.readOn()
      const turn = takeTurn(folder)
      const work = compact(false)
      start(work, turn)
      try {
        await work
      } catch (error) {
        if (HoldfastError.isInstance(error)) throw error
        throw new HoldfastError('ERR_STORE', `${folder} was not compacted, and is as good as before: ${(error as Error).message}`, {
          cause: error,
        })
      }
    },
    idle: () => last,
  }
}

/** The state behind a line of the live segment; a snapshot needs a line to stand on, so there may have to be an empty one. */
export async function stand(fold: Fold, append: CompactorOptions['append']): Promise<Standing> {
  for (let attempt = 0; ; attempt++) {
    fold.readOn()
    const standing = fold.standing()
    if (standing !== undefined) return standing
    if (!append({})) await pauseAfter(attempt)
  }
}

// The first losses are cheap to retry at once; after that, step out of each other's way.
async function pauseAfter(attempt: number): Promise<void> {
  if (attempt >= 2) await sleep(Math.random() * Math.min(20, attempt))
}

function newestSnapshotBytes(folder: string): number {
  for (const name of snapshotsIn(folder)) {
    const found = statSync(join(folder, name), { throwIfNoEntry: false })
    if (found !== undefined) return found.size
  }
  return 0
}

/**
 * Removes what the kept snapshots make needless. Late is as good as early: everything below a snapshot that was ever
 * published may go.
 */
async function trim(folder: string): Promise<void> {
  const snapshots = snapshotsIn(folder)
  const segments = new Set(segmentsIn(folder))
  // Two that were written at once, of one segment, count as one: the next damage could take both.
  const kept = [...new Set(snapshots.map((name) => placeOfSnapshot(name)!.segment))].filter((segment) => segments.has(segment))
  if (kept.length < SNAPSHOTS_KEPT) return
  const floor = kept[SNAPSHOTS_KEPT - 1]!
  // Before the first removal, and on disk: whoever opens the first segment must be able to tell that it is not the one.
  closeSync(openSync(join(folder, TRIMMED), 'a', 0o644))
  await syncSlowly(folder)
  for (const name of snapshots) if (placeOfSnapshot(name)!.segment < floor) remove(folder, name)
  // In ascending order: while a segment still has its name, none above it was removed.
  for (const segment of segmentsIn(folder)) if (segment < floor) unlink(segmentFile(folder, segment))
  for (const name of readdirSync(folder)) if (name.startsWith('tmp-') && isLeftBehind(join(folder, name))) remove(folder, name)
}

function isLeftBehind(file: string): boolean {
  const found = statSync(file, { throwIfNoEntry: false })
  return found?.isFile() === true && Date.now() - found.mtimeMs > LEFT_BEHIND_MS
}

function remove(folder: string, name: string): void {
  unlink(join(folder, name))
}

function unlink(file: string): void {
  try {
    unlinkSync(file)
  } catch (error) {
    // Another process trims too.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
