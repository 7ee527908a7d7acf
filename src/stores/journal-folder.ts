// The folder of a file store: `store.json` names its format and identity, `g-000000000001` is its first segment.
// Everything here is safe when several processes open the same empty folder at once.

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
import { HoldfastError } from '../lib/errors.ts'
import { newId } from '../lib/ids.ts'
import { assertLocalFileSystem } from './file-system.ts'
import { JOURNAL_FORMAT } from './journal-line.ts'

/** Path of a segment, such as `store/g-000000000001`. */
export function segmentFile(folder: string, segment: number): string {
  return join(folder, `g-${String(segment).padStart(12, '0')}`)
}

/** Makes the folder and its identity, once, whoever comes first. Returns the store id. */
export function prepareFolder(folder: string, { sync, typeOf }: { sync: boolean; typeOf?: (directory: string) => number }): string {
  try {
    mkdirSync(folder, { recursive: true })
    if (typeOf !== undefined) assertLocalFileSystem(folder, typeOf(folder))
    const identity = readIdentity(folder) ?? createIdentity(folder, sync)
    if (
      existsSync(join(folder, 'trimmed')) ||
      readdirSync(folder).some((name) => name.startsWith('s-') || /^g-0*[2-9]|^g-0*1\d/.test(name))
    ) {
      throw new HoldfastError('ERR_STORE', `${folder} was compacted by a later version of holdfast; install that version to open it.`)
    }
    return identity
  } catch (error) {
    if (HoldfastError.isInstance(error)) throw error
    throw new HoldfastError('ERR_STORE', `${folder} cannot be used as a file store: ${(error as Error).message}`, { cause: error })
  }
}

function readIdentity(folder: string): string | undefined {
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

/** Opens a segment for appending, creating it if need be. */
export function openSegment(folder: string, file: string, sync: boolean): number {
  try {
    const descriptor = openSync(file, constants.O_RDWR | constants.O_APPEND | constants.O_CREAT, 0o644)
    if (sync) {
      const directory = openSync(folder, 'r')
      fsyncSync(directory)
      closeSync(directory)
    }
    return descriptor
  } catch (error) {
    throw new HoldfastError('ERR_STORE', `${file} cannot be opened for writing: ${(error as Error).message}`, { cause: error })
  }
}
