// Which segment to read, and from where: when a store is opened, and when its segment was sealed. That a file is there
// under its name proves nothing, since a process that was stopped for long can create a name anew that others have
// removed. So a segment is trusted for one of three reasons only: nothing was ever removed when the first one was
// opened (`trimmed` is not there, looked at after the open); the segment before still had its name after this one was
// opened (segments are removed in ascending order); or it contains the very line that a snapshot names.

import { closeSync, existsSync, fstatSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { HoldfastError } from '../../lib/errors.ts'
import type { Entrance, Fold, Place, Standing } from './fold.ts'
import {
  openExistingSegment,
  openSegment,
  placeOfSnapshot,
  readIdentity,
  segmentFile,
  segmentsIn,
  snapshotsIn,
  syncFolder,
  TRIMMED,
} from './folder.ts'
import { readFrame } from './line.ts'
import { readSnapshot } from './snapshot.ts'
import { readBytes } from './walk.ts'

/** The folder of a store, and whose it is. */
export interface Home {
  readonly folder: string
  readonly storeId: string
  /** Sync the folder when a segment was created in it. */
  readonly sync: boolean
}

/** Looks for a usable snapshot before giving up; others may be trimming just now. */
const MAX_ROUNDS = 200
const ROUND_MS = 2

/**
 * Finds the newest snapshot that can be believed, or the first segment of a store that never removed any.
 *
 * @throws {HoldfastError} `ERR_DAMAGE` when a snapshot was changed, or no snapshot has its segment.
 */
export function openJournal({ folder, storeId, sync }: Home): Entrance {
  for (let round = 1; ; round++) {
    const skipped: string[] = []
    for (const name of snapshotsIn(folder)) {
      const entrance = enterAt(folder, name, storeId)
      if (typeof entrance !== 'string') return entrance
      skipped.push(`${name} ${entrance}`)
    }
    // Asked twice: the second answer is the one that counts, the first spares others an empty file.
    if (!existsSync(join(folder, TRIMMED))) {
      const file = segmentFile(folder, 1)
      const descriptor = openSegment(folder, file, sync)
      if (!existsSync(join(folder, TRIMMED))) return { segment: 1, file, descriptor }
      closeSync(descriptor)
    }
    if (round === MAX_ROUNDS) throw incomplete(folder, `no snapshot has its segment (${skipped.join('; ') || 'there is none'})`)
    pause(ROUND_MS)
  }
}

/** Opens the segment of a snapshot at its place, or says why not. */
function enterAt(folder: string, name: string, storeId: string): Entrance | string {
  const { segment } = placeOfSnapshot(name)!
  const file = segmentFile(folder, segment)
  // First the segment: once it is open, nobody's trimming can take it away.
  const descriptor = openExistingSegment(file)
  if (descriptor === undefined) return 'has no segment any more'
  try {
    const standing = readSnapshot(join(folder, name), { segment, storeId })
    if (typeof standing !== 'string' && standsIn(descriptor, standing)) return { segment, file, descriptor, standing }
    closeSync(descriptor)
    return typeof standing === 'string' ? standing : 'stands on a line that its segment does not have'
  } catch (error) {
    closeSync(descriptor)
    throw error
  }
}

/** True when a file has, at the place that a snapshot names, the line that it names. */
export function standsIn(descriptor: number, { from, to, head }: Standing): boolean {
  const bytes = readBytes(descriptor, from, to - from)
  if (bytes.length < to - from || bytes.at(-1) !== 10) return false
  const framed = readFrame(bytes.subarray(0, -1))
  return framed.kind === 'whole' && framed.hash === head
}

/**
 * Opens what follows a sealed segment: the next one, creating it if need be, or the newest snapshot where the sealed
 * segment was removed meanwhile. The descriptor of the sealed one stays open until then: its inode must not be reused.
 */
export function openNext(home: Home, sealed: Place): Entrance {
  // Asked before too, only so that a folder that was moved or replaced gets no stray file.
  if (!hasItsName(sealed)) return openLater(home, sealed)
  const segment = sealed.segment + 1
  const file = segmentFile(home.folder, segment)
  const descriptor = openSegment(home.folder, file, false)
  try {
    if (hasItsName(sealed)) {
      if (home.sync) syncFolder(home.folder)
      return { segment, file, descriptor }
    }
  } catch (error) {
    closeSync(descriptor)
    throw error
  }
  closeSync(descriptor)
  return openLater(home, sealed)
}

function openLater(home: Home, sealed: Place): Entrance {
  const found = existsSync(home.folder) ? readIdentity(home.folder) : undefined
  if (found === home.storeId) return openJournal(home)
  throw new HoldfastError('ERR_STORE', `${sealed.file} was removed while in use. The store is frozen.`)
}

/** True while the name of a segment leads to the file that is open. */
export function hasItsName({ file, descriptor }: Place): boolean {
  const named = statSync(file, { bigint: true, throwIfNoEntry: false })
  const held = fstatSync(descriptor, { bigint: true })
  return named !== undefined && named.ino === held.ino && named.dev === held.dev
}

/**
 * Reads a journal that was just opened to its end, and looks whether that is the end: no segment and no snapshot may be
 * of a later place.
 *
 * @throws {HoldfastError} `ERR_DAMAGE`, naming what is there and what is missing.
 */
export function readWhole(folder: string, fold: Fold): void {
  fold.readOn()
  const segments = segmentsIn(folder)
  const snapshots = snapshotsIn(folder)
  fold.readOn()
  const { file, segment: live } = fold.place
  const above = segments.find((segment) => segment > live)
  if (above !== undefined) throw fold.die(incomplete(folder, `${segmentFile(folder, above)} is there, and ${file} has no seal`))
  const beyond = snapshots.find((name) => {
    const { segment, bytes } = placeOfSnapshot(name)!
    return segment > live || (segment === live && bytes > fold.headBytes)
  })
  if (beyond === undefined) return
  throw fold.die(
    incomplete(
      folder,
      `${join(folder, beyond)} was made of lines that are not in the journal; the last one found is at byte ${fold.headBytes} of ${file}`,
    ),
  )
}

function incomplete(folder: string, what: string): HoldfastError {
  return new HoldfastError('ERR_DAMAGE', `${folder} is incomplete, a partial copy perhaps: ${what}. Nothing is opened.`)
}

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}
