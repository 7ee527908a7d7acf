// Copies of a file store: one place of the journal, with the snapshot that stands on it, in a folder that says what
// it is. It is opened as a store only by somebody who has deleted that note, and then found out by the heads that
// processes have noted since: an older copy does not know what was spent after it was taken.

import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { HoldfastError } from '../../lib/errors.ts'
import { newId, sha256 } from '../../lib/ids.ts'
import type { Place, Standing } from './fold.ts'
import { BACKUP, segmentFile, snapshotName, TRIMMED } from './folder.ts'
import { frame, JOURNAL_FORMAT, readFrame } from './line.ts'
import { hasItsName, standsIn } from './open.ts'
import { readSnapshot, snapshotLines, syncSlowly, writeFileSlowly } from './snapshot.ts'
import { readChunk } from './walk.ts'
import type { StoreHead } from '../store.ts'

/** What a backup is of. */
export interface Backup {
  readonly storeId: string
  /** Where the store stood. */
  readonly head: StoreHead
  /** Version of the last batch in it. */
  readonly version: number
  readonly keys: number
  /** Unix ms by the store's clock. */
  readonly takenAtMs: number
}

interface Listed {
  readonly name: string
  readonly bytes: number
  readonly hash: string
}

/** A place of a journal with its state, and how to read the segment it is in. */
export interface Held {
  readonly place: Place
  readonly standing: Standing
  readonly storeId: string
}

/** Opens the segment of a place once more, so that it can be read whatever happens to the store; `undefined` when its name is gone. */
export function holdSegment(place: Place): number | undefined {
  if (!hasItsName(place)) return undefined
  const descriptor = openSync(place.file, 'r')
  if (hasItsName({ ...place, descriptor })) return descriptor
  closeSync(descriptor)
  return undefined
}

/**
 * Writes a backup to `<directory>/store`, which must not be there: first elsewhere, synced, then renamed, so that half
 * a backup never has that name.
 *
 * @param descriptor - Of the segment, for reading.
 * @throws {HoldfastError} `ERR_STORE` when there is something already, or it cannot be written.
 */
export async function writeBackup(
  directory: string,
  descriptor: number,
  { place, standing, storeId }: Held,
  takenAtMs: number,
): Promise<Backup> {
  const target = join(resolve(directory), 'store')
  const temporary = join(dirname(target), `tmp-backup-${newId()}`)
  const { cells, segment, to, head, version } = standing
  const backup = { storeId, head: { segment, bytes: to, hash: head }, version, keys: cells.size, takenAtMs }
  try {
    assertNothingAt(target)
    mkdirSync(temporary, { recursive: true })
    const files: Listed[] = []
    const add = async (name: string, parts: Iterable<string | Uint8Array>): Promise<void> => {
      await writeFileSlowly(join(temporary, name), parts)
      files.push(listed(temporary, name))
    }
    await add('store.json', [`${JSON.stringify({ format: JOURNAL_FORMAT, id: storeId })}\n`])
    await add(basename(place.file), partsOf(descriptor, to))
    await add(snapshotName(segment, to), snapshotLines(standing, storeId))
    if (segment > 1) await add(TRIMMED, [])
    const note = frame(storeId, `"backup":${JSON.stringify({ format: JOURNAL_FORMAT, ...backup, files })}`)
    await writeFileSlowly(join(temporary, BACKUP), [`${note.text}\n`])
    await syncSlowly(temporary)
    // Once more, since an empty folder would be replaced.
    assertNothingAt(target)
    renameSync(temporary, target)
    await syncSlowly(dirname(target))
    return backup
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true })
    if (HoldfastError.isInstance(error)) throw error
    throw new HoldfastError('ERR_STORE', `No backup was made, ${target} cannot be written: ${(error as Error).message}`, { cause: error })
  }
}

function assertNothingAt(target: string): void {
  if (!existsSync(target)) return
  throw new HoldfastError('ERR_STORE', `No backup was made: ${target} is there already, and is not overwritten. Name another directory.`)
}

function* partsOf(descriptor: number, bytes: number): Generator<Uint8Array, void> {
  for (let at = 0; at < bytes;) {
    const part = readChunk(descriptor, at, bytes)
    if (part.length === 0) throw new Error(`the segment ends at byte ${at} of ${bytes}`)
    yield part
    at += part.length
  }
}

function listed(folder: string, name: string): Listed {
  const content = readFileSync(join(folder, name))
  return { name, bytes: content.length, hash: sha256(content) }
}

/**
 * Reads a backup that was written to a directory, every byte of it.
 *
 * @throws {HoldfastError} `ERR_STORE` when there is none, `ERR_DAMAGE` naming the file that is missing or was changed.
 */
export function verifyBackup(directory: string): Backup {
  const folder = join(resolve(directory), 'store')
  const { files, ...backup } = readNote(join(folder, BACKUP))
  const damaged = (name: string, reason: string): HoldfastError =>
    new HoldfastError('ERR_DAMAGE', `${join(folder, name)} is damaged: ${reason}. This backup cannot be trusted.`)
  for (const { name, bytes, hash } of files) {
    if (!existsSync(join(folder, name))) throw damaged(name, 'it is missing')
    const found = listed(folder, name)
    if (found.bytes !== bytes) throw damaged(name, `it has ${found.bytes} bytes instead of ${bytes}`)
    if (found.hash !== hash) throw damaged(name, 'its hash does not match its content')
  }
  const { storeId, head } = backup
  const snapshot = files.find(({ name }) => name.startsWith('s-'))?.name ?? 's-'
  const standing = readSnapshot(join(folder, snapshot), { segment: head.segment, storeId })
  if (typeof standing === 'string') throw damaged(snapshot, `it ${standing}`)
  const descriptor = openSync(segmentFile(folder, head.segment), 'r')
  try {
    if (standing.head !== head.hash || !standsIn(descriptor, standing))
      throw damaged(snapshot, 'it stands on a line that the segment does not have')
  } finally {
    closeSync(descriptor)
  }
  return backup
}

function readNote(file: string): Backup & { readonly files: readonly Listed[] } {
  if (!existsSync(file)) throw new HoldfastError('ERR_STORE', `${file} is missing: this is no backup, or one that is in use as a store.`)
  const bytes = readFileSync(file)
  const framed = readFrame(bytes.subarray(0, -1))
  if (framed.kind !== 'whole' || bytes.at(-1) !== 10) {
    const reason = framed.kind === 'damage' ? framed.reason : 'it was cut short'
    throw new HoldfastError('ERR_DAMAGE', `${file} is damaged: ${reason}. This backup cannot be trusted.`)
  }
  const { format, ...note } = (JSON.parse(bytes.toString()) as { backup: Backup & { format: number; files: Listed[] } }).backup
  if (format <= JOURNAL_FORMAT) return note
  throw new HoldfastError(
    'ERR_STORE',
    `${file} has format ${format}; this version of holdfast reads up to ${JOURNAL_FORMAT}. Install a later one.`,
  )
}
