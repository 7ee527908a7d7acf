// What clients ask: seeded, on few keys, so that they meet. The next call may depend on what the client has seen.

import type { Batch, Entry } from '../../src/stores/store.ts'
import type { Workload } from './history.ts'

/** Keys of a history: with more, clients would hardly meet. */
const KEYS = 3
const COUNTERS = 2
/** Low, so that adds are refused now and then. */
const MAX = 12

/** What a client does next. `id`: through group commit, under this id. */
export type Ask =
  | { readonly do: 'read'; readonly keys: readonly string[] }
  | { readonly do: 'apply'; readonly batches: readonly Batch[]; readonly id?: string; readonly seen?: Readonly<Record<string, string[]>> }

/** What a client knows when it decides. */
export interface Situation {
  readonly random: () => number
  /** Unique among all calls of a history: what is written names its writer. */
  readonly uid: string
  /** In front of every key: histories on one store share none. */
  readonly prefix: string
  /** The last entry that it saw of each key. */
  readonly last: ReadonlyMap<string, Entry | null>
}

/** The keys of a workload. */
export function keysOfWorkload(workload: Workload, prefix: string): readonly string[] {
  const names = Array.from({ length: workload === 'counter' ? COUNTERS : KEYS }, (_, index) => `k${index}`)
  return names.map((name) => `${prefix}${name}`)
}

/** Decides the next call. */
export function nextAsk(workload: Workload, situation: Situation): Ask {
  if (workload === 'mixed') return mixed(situation)
  return workload === 'counter' ? counter(situation) : append(situation)
}

function pick<T>(random: () => number, list: readonly T[]): T {
  return list[Math.floor(random() * list.length)]!
}

function some(random: () => number, keys: readonly string[]): readonly string[] {
  const found = keys.filter(() => random() < 0.6)
  return found.length === 0 ? [pick(random, keys)] : found
}

/** Everything that a batch can be: any write on any key, so that adds meet texts too. */
function mixed(situation: Situation): Ask {
  const { random, prefix, uid } = situation
  const keys = keysOfWorkload('mixed', prefix)
  if (random() < 0.4) return { do: 'read', keys: some(random, keys) }
  const count = random() < 0.25 ? 2 + Math.floor(random() * 2) : 1
  return { do: 'apply', batches: Array.from({ length: count }, (_, index) => mixedBatch(situation, keys, `${uid}.${index}`)) }
}

function mixedBatch({ random, last }: Situation, keys: readonly string[], uid: string): Batch {
  const batch = { check: [] as Batch['check'] & object[], add: [] as object[], set: [] as object[], delete: [] as string[] }
  const checkOf = (key: string): { key: string; version: number } => ({ key, version: last.get(key)?.version ?? 0 })
  for (const key of random() < 0.3 ? some(random, keys) : [pick(random, keys)]) {
    const what = random()
    if (what < 0.35) batch.set.push({ key, value: random() < 0.5 ? uid : Math.floor(random() * 5) })
    else if (what < 0.8) batch.add.push({ key, by: pick(random, [1, 2, 3, -1, -2]), ...(random() < 0.6 ? { min: 0, max: MAX } : {}) })
    else batch.delete.push(key)
  }
  const check = random() < 0.4 ? some(random, keys).map(checkOf) : []
  return { ...batch, check } as Batch
}

/** Takes and gives back under a bound, as budgets do; some under an id, as callers of group commit do. */
function counter({ random, prefix, uid }: Situation): Ask {
  const keys = keysOfWorkload('counter', prefix)
  if (random() < 0.25) return { do: 'read', keys: some(random, keys) }
  const batch = (): Batch => ({
    add: some(random, keys).map((key) => {
      const by = random() < 0.75 ? 1 + Math.floor(random() * 3) : -1 - Math.floor(random() * 2)
      return by > 0 ? { key, by, max: MAX } : { key, by, min: 0 }
    }),
  })
  if (random() < 0.4) return { do: 'apply', batches: [batch()], id: `${prefix}${uid}` }
  return { do: 'apply', batches: random() < 0.2 ? [batch(), batch()] : [batch()] }
}

/** Reads lists, and appends to some of them if none has changed meanwhile: as a board does. */
function append({ random, prefix, uid, last }: Situation): Ask {
  const keys = keysOfWorkload('append', prefix)
  const known = keys.filter((key) => last.has(key))
  if (known.length === 0 || random() < 0.5) return { do: 'read', keys: some(random, keys) }
  const read = some(random, known)
  const listOf = (key: string): string[] => [...((last.get(key)?.value ?? []) as readonly string[])]
  return {
    do: 'apply',
    batches: [
      {
        check: read.map((key) => ({ key, version: last.get(key)?.version ?? 0 })),
        set: some(random, read).map((key) => ({ key, value: [...listOf(key), uid] })),
      },
    ],
    seen: Object.fromEntries(read.map((key) => [key, listOf(key)])),
    ...(random() < 0.3 ? { id: `${prefix}${uid}` } : {}),
  }
}
