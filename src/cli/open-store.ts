// The way to the file store for somebody who only looks: nothing is created, nothing is written, and it may be
// in use by any number of processes meanwhile.

import { statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { assertStoreIsWhole } from '../audit/store-heads.ts'
import { HoldfastError } from '../lib/errors.ts'
import { fileStore } from '../stores/file.ts'
import { segmentFile } from '../stores/journal-folder.ts'
import type { Store } from '../stores/store.ts'

/** Throws unless the data directory is there. @throws {HoldfastError} `ERR_STORE`, with what to do. */
export function assertDataDirectory(directory: string): void {
  const kind = kindOf(directory)
  if (kind === 'directory') return
  const found = kind === undefined ? 'does not exist' : 'is not a directory'
  throw new HoldfastError(
    'ERR_STORE',
    `The data directory ${resolve(directory)} ${found}. Say where your program keeps it: --data <dir> (it is what fileStore() was given).`,
  )
}

/** The folder of the file store in a data directory. */
export function storeFolder(directory: string): string {
  return join(resolve(directory), 'store')
}

/** The journal of the file store in a data directory. */
export function journalFile(directory: string): string {
  return segmentFile(storeFolder(directory), 1)
}

/** Whether a kernel has ever opened a file store in this data directory. */
export function hasStore(directory: string): boolean {
  return kindOf(join(storeFolder(directory), 'store.json')) !== undefined
}

/**
 * Runs `work` on the file store of a data directory.
 *
 * @throws {HoldfastError} `ERR_STORE` when there is none, `ERR_DAMAGE` naming file and line when it is damaged.
 */
export async function withStore<T>(directory: string, work: (store: Store) => Promise<T>): Promise<T> {
  assertDataDirectory(directory)
  const folder = storeFolder(directory)
  if (!hasStore(directory)) {
    throw new HoldfastError(
      'ERR_STORE',
      `There is no store in ${resolve(directory)}. A kernel makes it: openKernel({ store: fileStore('${directory}') }).`,
    )
  }
  if (kindOf(journalFile(directory)) === undefined)
    throw new HoldfastError('ERR_STORE', `${folder} has no journal: ${journalFile(directory)} is missing.`)
  // It only reads: nothing of its own needs a sync, and a single writer may have chosen any file system.
  const store = fileStore(directory, { durability: 'os', unsafeFileSystem: true })
  try {
    return await work(store)
  } finally {
    await store.close()
  }
}

/** As {@link withStore}; also throws `ERR_DAMAGE` when the store has lost what it acknowledged: its numbers would mislead. */
export async function withWholeStore<T>(directory: string, work: (store: Store) => Promise<T>): Promise<T> {
  return withStore(directory, async (store) => {
    await assertStoreIsWhole(directory, store)
    return work(store)
  })
}

function kindOf(path: string): 'file' | 'directory' | undefined {
  try {
    return statSync(path).isDirectory() ? 'directory' : 'file'
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw new HoldfastError('ERR_STORE', `${path} cannot be looked at: ${message}`, { cause: error })
  }
}
