// Negative controls: clients that are wrong in the usual ways, in front of the real store. The checks must find each
// of them, or could not find a store that is wrong.

import type { Batch, Entry, Store } from '../../src/stores/store.ts'

/** What is done wrong. */
export const BREAKS = ['sends-twice', 'stale-cache', 'torn-reads', 'no-checks', 'no-bounds', 'unknown-is-no'] as const
/** One of them. */
export type Break = (typeof BREAKS)[number]

/** Puts a mistake in front of a store. */
export function breakStore(store: Store, mistake: Break): Store {
  if (mistake === 'sends-twice') return sendsTwice(store)
  if (mistake === 'stale-cache') return staleCache(store)
  if (mistake === 'torn-reads') return tornReads(store)
  if (mistake === 'unknown-is-no') return callsUnknownRefused(store)
  const changed = mistake === 'no-checks' ? withoutChecks : withoutBounds
  return { ...store, apply: async (batches) => store.apply(batches.map(changed)) }
}

/** Sends a group again whose answer was lost, under no identity. */
function sendsTwice(store: Store): Store {
  return {
    ...store,
    async apply(batches) {
      const answer = await store.apply(batches)
      return answer.outcome === 'unknown' ? store.apply(batches) : answer
    },
  }
}

/** Reads from what it has read before, three times out of four. */
function staleCache(store: Store): Store {
  const cache = new Map<string, Entry | null>()
  let reads = 0
  return {
    ...store,
    async read(keys) {
      if (++reads % 4 !== 0 && keys.every((key) => cache.has(key))) return keys.map((key) => cache.get(key) ?? null)
      const entries = await store.read(keys)
      for (const [index, key] of keys.entries()) cache.set(key, entries[index]!)
      return entries
    },
  }
}

/** Reads several keys one after the other. */
function tornReads(store: Store): Store {
  return {
    ...store,
    async read(keys) {
      const entries: (Entry | null)[] = []
      for (const key of keys) {
        entries.push(...(await store.read([key])))
        await new Promise((resolve) => setTimeout(resolve, 2))
      }
      return entries
    },
  }
}

/** Says of a group whose answer was lost that it was refused, as who takes silence for a no. */
function callsUnknownRefused(store: Store): Store {
  return {
    ...store,
    async apply(batches) {
      const answer = await store.apply(batches)
      return answer.outcome === 'unknown' ? { outcome: 'contended' } : answer
    },
  }
}

function withoutChecks(batch: Batch): Batch {
  return { ...batch, check: [] }
}

function withoutBounds({ add = [], ...batch }: Batch): Batch {
  return { ...batch, add: add.map(({ key, by }) => ({ key, by })) }
}
