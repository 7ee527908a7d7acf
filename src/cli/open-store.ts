// The way to a store for somebody who only looks: nothing is created, nothing is written, and it may be in use by any
// number of processes meanwhile.

import { statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { assertStoreIsWhole } from '../audit/store-heads.ts'
import { HoldfastError } from '../lib/errors.ts'
import { fileStore } from '../stores/file.ts'
import { segmentFile, segmentsIn } from '../stores/journal/folder.ts'
import { sqliteStore } from '../stores/sqlite.ts'
import type { Store } from '../stores/store.ts'
import { openPostgres, openRedis } from './drivers.ts'
import { shownStore, type Place, type StoreAddress } from './store-address.ts'

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
  const folder = storeFolder(directory)
  return segmentFile(folder, (kindOf(folder) === 'directory' ? segmentsIn(folder).at(-1) : undefined) ?? 1)
}

/** Whether a kernel has ever opened a file store in this data directory. */
export function hasStore(directory: string): boolean {
  return kindOf(join(storeFolder(directory), 'store.json')) !== undefined
}

/**
 * Runs `work` on the store of a place.
 *
 * @throws {HoldfastError} `ERR_STORE` when there is none, `ERR_DAMAGE` naming file and line when it is damaged.
 */
export async function withStore<T>(place: Place, work: (store: Store) => Promise<T>): Promise<T> {
  const store = await openToLook(place)
  try {
    return await work(store)
  } finally {
    await store.close()
  }
}

/** As {@link withStore}; also throws `ERR_DAMAGE` when the store has lost what it acknowledged: its numbers would mislead. */
export async function withWholeStore<T>(place: Place, work: (store: Store) => Promise<T>): Promise<T> {
  return withStore(place, async (store) => {
    await assertStoreIsWhole(place.data, store)
    return work(store)
  })
}

/** Opens the store of a place for somebody who writes; makes it, if need be and wanted. @throws {HoldfastError} `ERR_STORE` */
export async function openToWrite({ data, store }: Place, create: boolean): Promise<Store> {
  if (store?.kind === 'redis') return openRedis(store, create)
  if (store?.kind === 'postgres') return openPostgres(store)
  if (!create) assertThere({ data, ...(store === undefined ? {} : { store }) })
  return store?.kind === 'sqlite' ? sqliteStore(store.at) : fileStore(store?.at ?? data)
}

async function openToLook({ data, store }: Place): Promise<Store> {
  if (store?.kind === 'redis') return openRedis(store, false)
  if (store?.kind === 'postgres') return openPostgres(store)
  assertThere({ data, ...(store === undefined ? {} : { store }) })
  // It only reads: nothing of its own needs a sync, and a single writer may have chosen any file system.
  if (store?.kind === 'sqlite') return sqliteStore(store.at, { unsafeFileSystem: true })
  return fileStore(store?.at ?? data, { durability: 'os', unsafeFileSystem: true })
}

/** @throws {HoldfastError} `ERR_STORE` when there is no store in these files. */
function assertThere({ data, store }: Place): void {
  if (store?.kind === 'sqlite') return assertDatabase(store)
  const directory = store?.at ?? data
  assertDataDirectory(directory)
  if (!hasStore(directory)) {
    throw new HoldfastError(
      'ERR_STORE',
      `There is no store in ${resolve(directory)}. A kernel makes it: openKernel({ store: fileStore('${directory}') }).`,
    )
  }
  if (kindOf(journalFile(directory)) === undefined)
    throw new HoldfastError('ERR_STORE', `${storeFolder(directory)} has no journal: ${journalFile(directory)} is missing.`)
}

function assertDatabase(store: StoreAddress): void {
  if (kindOf(store.at) === 'file') return
  const makes = `openKernel({ store: sqliteStore('${store.at}') })`
  throw new HoldfastError('ERR_STORE', `There is no store in ${shownStore(store)}. A kernel makes it: ${makes}.`)
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
