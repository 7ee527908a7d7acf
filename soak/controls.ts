// How not to do it: three usual ways to keep a budget, each of which the same soak must find out. A harness that cannot
// see these would not see a fault of ours either.

import { HoldfastError } from '../src/lib/errors.ts'
import { sleep } from '../src/lib/clock.ts'
import { groupCommits } from '../src/stores/group.ts'
import type { Store } from '../src/stores/store.ts'
import { reclaimToFree } from '../test/budget/reclaim.ts'
import type { Looks } from './checks.ts'
import { NAIVE } from './orders.ts'

/** What is done wrong: by the workers, or by who looks after silent processes. */
export const CONTROLS = ['check-then-charge', 'refund-on-error', 'expiry-returns-money'] as const
/** One of them. */
export type Control = (typeof CONTROLS)[number]

/**
 * What makes each of them show soon: calls of each caller that the first limit is enough for (who overspends has to come
 * to the end; the others are found out while they are busy), and how many of the deeds of chaos are stops.
 */
export const SETTINGS: Readonly<Record<Control, { readonly callsAtFirst: number; readonly stops: number }>> = {
  'check-then-charge': { callsAtFirst: 2, stops: 0.25 },
  'refund-on-error': { callsAtFirst: 50, stops: 0.25 },
  'expiry-returns-money': { callsAtFirst: 50, stops: 3 },
}

const RECLAIM_MS = 100

/** Whether a look has shown what a control does wrong. */
export function hasShown(control: Control, { overspend, unknown, unknownCalls }: Looks): boolean {
  // Who charges after the call never knows of all calls; that it goes beyond the limit is what it is here for.
  return control === 'check-then-charge' ? overspend > 0 : overspend > 0 || unknown > 0 || unknownCalls > 0
}

/** Puts the limit where who checks, calls and then charges looks for it. */
export async function declareNaively(store: Store, limit: number): Promise<void> {
  await groupCommits(store).commit({ set: [{ key: NAIVE.limit, value: limit }] })
}

/** Gives what silent processes hold back to `free`, sooner than the kernels look. Returns what ends it. */
export function reclaimAlways(store: Store, leaseTtlMs: number): () => Promise<void> {
  const over = new AbortController()
  const reclaiming = (async () => {
    while (!over.signal.aborted) {
      await reclaimToFree(store, leaseTtlMs + 1_000).catch((error: unknown) => {
        if (!HoldfastError.isInstance(error)) throw error
      })
      await sleep(RECLAIM_MS)
    }
  })()
  return async () => {
    over.abort()
    await reclaiming
  }
}
