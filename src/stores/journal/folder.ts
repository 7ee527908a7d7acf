// The folder of a file store: `store.json` names its format and identity, `g-000000000001` is its first segment,
// `s-000000000002-000000000512-…` a snapshot that stands on the line which ends at byte 512 of segment 2, `trimmed`
// says that segments were removed. Everything here is safe when several processes open the same folder at once.

import {
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { HoldfastError } from '../../lib/errors.ts'
import { newId } from '../../lib/ids.ts'
import { assertLocalFileSystem } from './file-system.ts'
import { JOURNAL_FORMAT } from './line.ts'

/** Path of a segment, such as `store/g-000000000001`. */
export function segmentFile(folder: string, segment: number): string {
  return join(folder, `g-${padded(segment)}`)
}

/** Name of the snapshot that stands on the line which ends there. In order of name, they are in order of place. */
export function snapshotName(segment: number, bytes: number): string {
  return `s-${padded(segment)}-${padded(bytes)}-${newId()}`
}

const padded = (number: number): string => String(number).padStart(12, '0')

/** Where the snapshot with this name stands; `undefined` for any other file. */
export function placeOfSnapshot(name: string): { readonly segment: number; readonly bytes: number } | undefined {
  const [, segment, bytes] = /^s-(\d{12})-(\d{12})-/.exec(name) ?? []
  return segment === undefined ? undefined : { segment: Number(segment), bytes: Number(bytes) }
}

/** Names of the snapshots in a folder, that of the latest place first. */
export function snapshotsIn(folder: string): readonly string[] {
  return readdirSync(folder)
    .filter((name) => placeOfSnapshot(name) !== undefined)
    .sort()
    .toReversed()
}

/** Numbers of the segments in a folder, ascending. */
export function segmentsIn(folder: string): readonly number[] {
  return readdirSync(folder)
    .flatMap((name) => /^g-(\d{12})$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b)
}

/** Name of the empty file that says: segments were removed here, and the first one may be missing. */
export const TRIMMED = 'trimmed'
/** Name of the file that describes a backup. While it lies in a folder, that folder is no store in use. */
export const BACKUP = 'backup.json'

/** Makes the folder and its identity, once, whoever comes first. Returns the store id. */
export function prepareFolder(folder: string, { sync, typeOf }: { sync: boolean; typeOf?: (directory: string) => number }): string {
  try {
    mkdirSync(folder, { recursive: true })
    if (typeOf !== undefined) assertLocalFileSystem(folder, typeOf(folder))
    assertNoBackup(folder)
    return readIdentity(folder) ?? createIdentity(folder, sync)
  } catch (error) {
    if (HoldfastError.isInstance(error)) throw error
    throw new HoldfastError('ERR_STORE', `${folder} cannot be used as a file store: ${(error as Error).message}`, { cause: error })
  }
}

// Two stores with one identity would each spend the same money; and a backup in the place of its store does not know
// what was spent since. Whoever wants that has to say so.
function assertNoBackup(folder: string): void {
  const file = join(folder, BACKUP)
  if (!existsSync(file)) return
  throw new HoldfastError(
    'ERR_STORE',
    `${folder} is a backup of a file store, and does not know what was spent since it was taken. To make it the store of that identity, ` +
      `with no other copy in use, delete ${file}; processes that noted a later state will still refuse it.`,
  )
}

/** The id in `store.json`; `undefined` when there is none. @throws {HoldfastError} When it is of a later format, or damaged. */
export function readIdentity(folder: string): string | undefined {
  const file = join(folder, 'store.json')
  if (!existsSync(file)) return undefined
  let found: { format?: unknown; id?: unknown }
  try {
    found = JSON.parse(readFileSync(file, 'utf8')) as { format?: unknown; id?: unknown }
  } catch (error) {
    throw new HoldfastError('ERR_DAMAGE', `${file} is not JSON; it names the format and the id of the store.`, { cause: error })
  }
  if (typeof found.format === 'number' && found.format > JOURNAL_FORMAT) {
    throw new HoldfastError(
      'ERR_STORE',
      `${file} has format ${found.format}; this version of holdfast reads up to ${JOURNAL_FORMAT}. Install a later one.`,
    )
  }
  if (found.format !== JOURNAL_FORMAT || typeof found.id !== 'string' || !/^[\w-]{43}$/.test(found.id)) {
    throw new HoldfastError('ERR_DAMAGE', `${file} does not name a format and a store id.`)
  }
  return found.id
}

function createIdentity(folder: string, sync: boolean): string {
  const temporary = join(folder, `tmp-${newId()}`)
  const id = randomBytes(32).toString('base64url')
  writeFileSync(temporary, `${JSON.stringify({ format: JOURNAL_FORMAT, id })}\n`, { flush: sync })
  try {
    // link(2) fails when the name exists: exactly one of several first openers names the store.
    linkSync(temporary, join(folder, 'store.json'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    rmSync(temporary, { force: true })
  }
  return readIdentity(folder)!
}

/** Makes the names in a folder last: files that were created, linked or renamed there. */
export function syncFolder(folder: string): void {
  const directory = openSync(folder, 'r')
  try {
    fsyncSync(directory)
  } finally {
    closeSync(directory)
  }
}

/** Opens a segment for appending, creating it if need be. */
export function openSegment(folder: string, file: string, sync: boolean): number {
  let descriptor: number | undefined
  try {
    descriptor = openSync(file, constants.O_RDWR | constants.O_APPEND | constants.O_CREAT, 0o644)
    if (sync) syncFolder(folder)
    return descriptor
  } catch (error) {
    if (descriptor !== undefined) closeSync(descriptor)
    throw cannotBeOpened(file, error)
  }
}

/** Opens a segment for appending, if it is there. */
export function openExistingSegment(file: string): number | undefined {
  try {
    return openSync(file, constants.O_RDWR | constants.O_APPEND)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw cannotBeOpened(file, error)
  }
}

function cannotBeOpened(file: string, error: unknown): HoldfastError {
  const { code, message } = error as NodeJS.ErrnoException
  // There may be room again later; everything else needs somebody who looks at it.
  const isFull = code === 'ENOSPC' || code === 'EDQUOT'
  return new HoldfastError(isFull ? 'ERR_STORE_FULL' : 'ERR_STORE', `${file} cannot be opened for writing: ${message}`, { cause: error })
}
