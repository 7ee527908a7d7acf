// The store's clock, read without asking it each time: windows end by it, and a call must not pay a round trip to
// learn that its day is not over.

import type { Store } from '../../stores/store.ts'

/** After this long the store is asked again, ms: local clocks drift, and machines sleep. */
const STALE_MS = 60_000

/** The store's clock as this process knows it. */
export interface StoreTime {
  /** Asks the store. Unix ms. @throws {HoldfastError} `ERR_STORE` */
  read(): Promise<number>
  /** What it says now, as far as known; -Infinity before it was asked. Unix ms. */
  estimate(): number
  /** Whether it should be asked again. */
  isStale(): boolean
}

/** @param now - This machine's clock, Unix ms. */
export function createStoreTime(store: Store, now: () => number): StoreTime {
  let known = -Infinity
  let wallMs = 0
  let elapsedMs = 0
  // A clock that was set back must not hold time up, and one that was stopped with its machine must not either.
  const passed = (): number => Math.max(0, now() - wallMs, performance.now() - elapsedMs)
  return {
    async read() {
      known = await store.now()
      wallMs = now()
      elapsedMs = performance.now()
      return known
    },
    estimate: () => known + passed(),
    isStale: () => known === -Infinity || passed() >= STALE_MS,
  }
}
