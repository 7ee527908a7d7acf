// A real store with bad luck. It wraps any store and, by a plan, does to its groups what networks, drivers
// and other writers do. The fault model:
//
// - `refuse`        the store says no before anything happened: rejects with `ERR_STORE`, nothing is applied
// - `lose-request`  the group never arrives: answers `unknown`, nothing is applied
// - `lose-reply`    the group is applied and its answer never comes back: answers `unknown`
// - `contend`       another writer was first: answers `contended`, nothing is applied
// - `delay`         the group is applied some turns of the event loop later, and answered later still
// - `duplicate`     the driver sends the group twice and sees only the second answer
//
// `lose-request` and `lose-reply` look the same to the caller; that is the point of both.
//
// Outside the model: a request that arrives after it was reported as `unknown`. Ids are deleted by the group
// after their answer, so a request that sleeps in the network and is applied later would be applied twice.
// A store must rule that out (one connection in order, or a request that dies with its connection).

import { HoldfastError } from '../lib/errors.ts'
import type { Batch, GroupResult, Store } from '../stores/store.ts'

/** What happens to one group. */
export type Fault = 'none' | 'refuse' | 'lose-request' | 'lose-reply' | 'contend' | 'delay' | 'duplicate'

/** Which faults happen: one per group in this order, then none; or at random, the same way for the same seed. */
export type FaultPlan =
  | readonly Fault[]
  | {
      readonly seed: number
      /** Probability of each fault, from 0 to 1; together at most 1. The rest is `none`. */
      readonly odds: Readonly<Partial<Record<Fault, number>>>
    }

/** A store that has bad luck. */
export interface FaultyStore extends Store {
  /** What has happened so far, one for each group, so that a test can show that its faults took place. */
  readonly happened: readonly Fault[]
}

/** How long `delay` keeps a group before and after it is applied, in turns of the event loop. */
const DELAY_TURNS = 5

/** Wraps a store, so that its groups meet the faults of `plan`. Everything but `apply` goes straight through. */
export function faultyStore(store: Store, plan: FaultPlan): FaultyStore {
  const happened: Fault[] = []
  const next = nextFault(plan)

  async function apply(batches: readonly Batch[]): Promise<GroupResult> {
    const fault = next()
    happened.push(fault)
    switch (fault) {
      case 'refuse':
        throw new HoldfastError('ERR_STORE', 'The faulty store refused this group before it was applied.')
      case 'lose-request':
        return { outcome: 'unknown', cause: new Error('The faulty store lost this group.') }
      case 'lose-reply':
        await store.apply(batches)
        return { outcome: 'unknown', cause: new Error('The faulty store lost the reply to this group.') }
      case 'contend':
        return { outcome: 'contended' }
      case 'delay': {
        await turns(DELAY_TURNS)
        const answer = await store.apply(batches)
        await turns(DELAY_TURNS)
        return answer
      }
      case 'duplicate':
        await store.apply(batches)
        return store.apply(batches)
      default:
        return store.apply(batches)
    }
  }

  return {
    name: `faulty ${store.name}`,
    id: store.id,
    capabilities: store.capabilities,
    ...(store.dataDirectory === undefined ? {} : { dataDirectory: store.dataDirectory }),
    happened,
    apply,
    read: (keys) => store.read(keys),
    list: (prefix, range) => store.list(prefix, range),
    now: () => store.now(),
    watch: (prefix, wake) => store.watch(prefix, wake),
    ...(store.holds === undefined ? {} : { holds: (heads) => store.holds!(heads) }),
    close: () => store.close(),
  }
}

function nextFault(plan: FaultPlan): () => Fault {
  if (!('seed' in plan)) {
    let at = 0
    return () => plan[at++] ?? 'none'
  }
  const random = seededRandom(plan.seed)
  const odds = Object.entries(plan.odds) as [Fault, number][]
  return () => {
    let left = random()
    for (const [fault, probability] of odds) {
      left -= probability
      if (left < 0) return fault
    }
    return 'none'
  }
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve))
}

/** Random numbers from 0 up to 1, the same ones for the same seed: a failed run can be run again. Not for secrets. */
export function seededRandom(seed: number): () => number {
  // Mulberry32, by Tommy Ettinger; in the public domain.
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
