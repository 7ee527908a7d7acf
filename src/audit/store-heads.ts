// A journal cannot tell that its last lines were removed: what is gone left no gap. So every chain notes where
// the store stood after its last acknowledged commit, and whoever opens the store looks whether it is still there.

import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { HoldfastError } from '../lib/errors.ts'
import type { Store } from '../stores/store.ts'
import type { StoreHead } from '../waist/batch.ts'
import { readEnds, recordOf } from './chain-ends.ts'

/** Chain files that are looked at, newest first. */
const MAX_CHAINS = 1_000

/**
 * Throws when the store no longer holds what it acknowledged to a process that kept its chain here.
 *
 * @throws {HoldfastError} `ERR_DAMAGE`, naming the chain and the place in the store.
 */
export async function assertStoreIsWhole(directory: string, store: Store): Promise<void> {
  const folder = join(directory, 'chains')
  if (store.holds === undefined || !existsSync(folder)) return
  const newest = readdirSync(folder)
    .filter((name) => name.endsWith('.jsonl'))
    .map((name) => ({ name, found: statSync(join(folder, name), { throwIfNoEntry: false }) }))
    .flatMap(({ name, found }) => (found?.isFile() === true ? [{ name, at: found.mtimeMs }] : []))
    .sort((a, b) => b.at - a.at)
    .slice(0, MAX_CHAINS)
  const notes = newest
    .flatMap(({ name }) => lastNote(folder, name) ?? [])
    // The same data, or the same place: a store that was deleted comes back with another id.
    .filter(({ storeId, storeName }) => storeId === store.id || storeName === store.name)
  const held = await store.holds(notes.map(({ head }) => head))
  const lost = notes.find((_, index) => held[index] === 'no')
  if (lost === undefined) return
  throw new HoldfastError(
    'ERR_DAMAGE',
    `${store.name} has lost writes that it acknowledged: the chain ${lost.name} notes ${placeOf(lost.head, store.id)}, and it is not there. Nothing is opened.`,
  )
}

/** A store without a journal counts versions in segment 0, and has its id for a hash. */
function placeOf({ segment, bytes, hash }: StoreHead, storeId: string): string {
  if (segment > 0) return `a line that ends at byte ${bytes} of segment ${segment}`
  return hash === storeId ? `version ${bytes}` : `version ${bytes} of the store ${hash}`
}

interface Note {
  /** Of the chain file. */
  readonly name: string
  readonly storeId: unknown
  readonly storeName: unknown
  readonly head: StoreHead
}

/** The last store head that a chain file notes, if there is one; rarely more than a few records back. Records that do not hold are the audit's business. */
function lastNote(folder: string, name: string): Note | undefined {
  const { first, lastLines } = readEnds(join(folder, name))
  if (first === undefined) return undefined
  for (const line of lastLines) {
    const store = line.includes('"store":{') ? recordOf(line)?.['store'] : undefined
    if (store !== undefined) return { name, storeId: first['storeId'], storeName: first['storeName'], head: store as unknown as StoreHead }
  }
  return undefined
}
