// The shortest reading of the store contract: a table in this process. State dies with the process, so
// budgets on it hold for one process only.

import { steady, systemClock, type Clock } from '../lib/clock.ts'
import { HoldfastError } from '../lib/errors.ts'
import { newId } from '../lib/ids.ts'
import type { BatchResult, Store } from './store.ts'
import { createTable, evaluate } from './table.ts'
import { createWatchers } from './watchers.ts'

/** Options of {@link memoryStore}. */
export interface MemoryStoreOptions {
  /** @default the wall clock */
  readonly clock?: Clock
}

/** How many batches pass between two sweeps of expired keys. */
const PRUNE_EVERY = 10_000

/** A store in the memory of this process. */
export function memoryStore({ clock = systemClock }: MemoryStoreOptions = {}): Store {
  const table = createTable()
  const watchers = createWatchers()
  let version = 0
  let closed = false
  const assertOpen = (): void => {
    if (closed) throw new HoldfastError('ERR_CLOSED', 'This memory store is closed.')
  }
  // What was found expired stays so.
  const passed = steady(clock)

  return {
    name: 'memory',
    id: newId(),
    capabilities: { shared: 'process', durable: 'none' },
    async apply(batches) {
      assertOpen()
      const now = passed()
      const results: BatchResult[] = []
      for (const batch of batches) {
        const { result, changes } = evaluate((key) => table.cell(key), batch, now, version + 1)
        results.push(result)
        if (result.outcome !== 'ok') continue
        version += 1
        table.put(changes)
        for (const key of changes.keys()) watchers.touch(key)
        if (version % PRUNE_EVERY === 0) table.prune(now)
      }
      return { outcome: 'applied', results }
    },
    async read(keys) {
      assertOpen()
      return table.read(keys, passed())
    },
    async list(prefix, options) {
      assertOpen()
      return table.list(prefix, passed(), options)
    },
    async now() {
      assertOpen()
      return passed()
    },
    watch(prefix, wake) {
      assertOpen()
      return watchers.add(prefix, wake)
    },
    async close() {
      closed = true
      watchers.clear()
    },
  }
}
