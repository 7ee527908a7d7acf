// Dead processes that have left something, and those of them whose chains nobody can believe: what these held stays in
// suspense until an operator says more.

import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { lockFile, takeLock } from '../audit/chain-lock.ts'
import { lastWords } from '../audit/last-words.ts'
import type { StoredHead } from '../audit/verify.ts'
import type { Store } from '../stores/store.ts'
import type { Check } from './doctor-machine.ts'
import { seeProcesses } from './processes.ts'

/** A dead process that has left something. */
export interface Estate {
  readonly process: string
  /** Why its chain cannot be believed; absent when the next kernel on this data directory will put it in order. */
  readonly doubt?: string
}

/** Most dead processes that are looked at. */
const MAX_ESTATES = 1_000

/** The dead processes of a data directory that have left something. Each lock is held for as long as its chain is read. */
export async function findEstates(directory: string, store: Store): Promise<readonly Estate[]> {
  const folder = join(directory, 'chains')
  if (!existsSync(folder)) return []
  // The lock alone proves nothing: a process that is seen, or may be, is left alone.
  const { processes } = await seeProcesses(store)
  const living = new Set(processes.filter(({ state }) => state === 'alive').map(({ process }) => process))
  const estates: Estate[] = []
  for (const name of readdirSync(folder)) {
    const [, boot, kind] = /^(.+)\.(lock|doubt)$/.exec(name) ?? []
    if (boot === undefined || living.has(boot) || estates.length >= MAX_ESTATES) continue
    const estate = kind === 'lock' ? await lockedEstate(directory, boot, store) : await doubtfulEstate(directory, boot, store)
    if (estate !== undefined) estates.push(estate)
  }
  return estates
}

async function lockedEstate(directory: string, process: string, store: Store): Promise<Estate | undefined> {
  const lock = takeLock(lockFile(directory, process))
  if (lock === undefined) return undefined
  try {
    return await estateOf(directory, process, store)
  } finally {
    lock.release('keep')
  }
}

/** A kernel has put its lock aside; that is news as long as there is money. */
async function doubtfulEstate(directory: string, process: string, store: Store): Promise<Estate | undefined> {
  for (const place of ['hold', 'suspended'])
    if ((await store.list(`${place}/${process}/`, { limit: 1 })).length > 0) return estateOf(directory, process, store)
  return undefined
}

async function estateOf(directory: string, process: string, store: Store): Promise<Estate | undefined> {
  const [head] = await store.read([`head/${process}`])
  const words = await lastWords(directory, process, store.id, (head?.value ?? undefined) as StoredHead | undefined)
  if ('elsewhere' in words) return undefined
  return { process, ...('doubt' in words ? { doubt: words.doubt } : {}) }
}

/** Says which dead processes wait for a kernel, and which of them no kernel can put in order. */
export async function checkSuccessors(directory: string, store: Store): Promise<readonly Check[]> {
  return (await findEstates(directory, store)).map(({ process, doubt }): Check => {
    if (doubt === undefined) {
      const todo = 'The next kernel on this data directory does it, or now: holdfast budget recover'
      return { id: 'successors', result: 'warn', message: `process ${process} is dead, and what it has left can be put in order`, todo }
    }
    const message = `process ${process} is dead, and what it held stays in suspense: ${doubt}`
    return { id: 'successors', result: 'warn', message, todo: 'Compare with the bill of your provider, then: holdfast budget reclaim' }
  })
}
