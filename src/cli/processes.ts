// Who uses a store, as its records show it.

import { GRACE_MS, LEASE_TTL_MS } from '../budget/processes.ts'
import { listAll } from '../stores/entries.ts'
import type { Store } from '../stores/store.ts'

/** One process; the fields of `processes` in `holdfast status --json`. */
export interface SeenProcess {
  /** Its identity, and the name of its audit chain. */
  readonly process: string
  /** Absent once its record was removed. */
  readonly host?: string
  readonly pid?: number
  readonly mode?: 'enforce' | 'observe'
  /** `bounded`: its store can lose what it acknowledged, and limits may be exceeded by that. */
  readonly promise?: 'hard' | 'bounded'
  readonly startedAtMs?: number
  /** How long it may be silent while it holds anything, ms. */
  readonly leaseTtlMs?: number
  /** When it last said that it lives, Unix ms by the store's clock. */
  readonly seenAtMs?: number
  /**
   * - `alive`: seen a moment ago
   * - `idle`: not seen lately, and it holds nothing, so it need not report
   * - `silent`: holds money and says nothing: the next sweep moves it to suspense
   * - `gone`: only its holds in suspense are left
   */
  readonly state: 'alive' | 'idle' | 'silent' | 'gone'
  /** Holds that are open. */
  readonly holds: number
  /** Holds in suspense. */
  readonly suspended: number
}

type ProcessRecord = Pick<SeenProcess, 'host' | 'pid' | 'mode' | 'promise' | 'startedAtMs' | 'leaseTtlMs'>

/** What a look at the processes of a store shows. */
export interface Sighting {
  /** The store's clock, Unix ms. */
  readonly nowMs: number
  /** Oldest first. */
  readonly processes: readonly SeenProcess[]
}

/** The processes of a store, and those that have left holds in it. */
export async function seeProcesses(store: Store): Promise<Sighting> {
  for (let attempt = 1; ; attempt++) {
    const sighting = await look(store)
    // A process that settles and closes between two lists has a hold in the first and no record in the second.
    const torn = sighting.processes.some(({ state, startedAtMs }) => state === 'silent' && startedAtMs === undefined)
    if (!torn || attempt === 3) return sighting
  }
}

async function look(store: Store): Promise<Sighting> {
  // Holds first: one that begins after this must not make its process, last seen before it, look silent.
  const holds = await countByProcess(store, 'hold/')
  const suspended = await countByProcess(store, 'suspended/')
  const renewed = new Map((await listAll(store, 'renewed/')).map(({ key, value }) => [key.slice('renewed/'.length), Number(value)]))
  const records = new Map((await listAll(store, 'process/')).map(({ key, value }) => [key.slice('process/'.length), value]))
  const nowMs = await store.now()

  const processes = [...new Set([...records.keys(), ...holds.keys(), ...suspended.keys()])].map((process): SeenProcess => {
    const record = records.get(process) as unknown as ProcessRecord | undefined
    const seenAtMs = renewed.get(process)
    const held = holds.get(process) ?? 0
    const fresh = record !== undefined && seenAtMs !== undefined && nowMs - seenAtMs < (record.leaseTtlMs ?? LEASE_TTL_MS) + GRACE_MS
    const without = record === undefined ? 'gone' : 'idle'
    return {
      process,
      ...record,
      ...(seenAtMs === undefined ? {} : { seenAtMs }),
      state: fresh ? 'alive' : held > 0 ? 'silent' : without,
      holds: held,
      suspended: suspended.get(process) ?? 0,
    }
  })
  return { nowMs, processes: processes.sort((a, b) => (a.startedAtMs ?? 0) - (b.startedAtMs ?? 0)) }
}

/** How many holds each process has under a prefix. */
async function countByProcess(store: Store, prefix: 'hold/' | 'suspended/'): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>()
  for (const { key } of await listAll(store, prefix)) {
    const process = key.split('/')[1]!
    counts.set(process, (counts.get(process) ?? 0) + 1)
  }
  return counts
}
