// Holds and leases as they lie in a store.

import { amountsOf } from '../budget/legs.ts'
import type { HoldRecord } from '../budget/processes.ts'
import type { Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import { listAll } from '../stores/entries.ts'
import type { Store } from '../stores/store.ts'

/** One hold, or one lease. */
export interface SeenHold {
  readonly id: string
  /** Identity of its process: the name of its chain. */
  readonly process: string
  readonly budget: string
  readonly agent: string
  readonly resource: string
  /** Unix ms by the clock of its process. */
  readonly atMs: number
  /** What it holds; of a lease, what is left of it. */
  readonly amounts: Amounts
  /** Of a lease: what of it was reported as spent. */
  readonly reported?: Amounts
}

/** Where holds lie: open, in suspense, or charged at worst and still correctable. */
export type HoldPlace = 'hold' | 'suspended' | 'charged'

/** All holds of a place. */
export async function seeHolds(store: Store, place: HoldPlace): Promise<readonly SeenHold[]> {
  return (await listAll(store, `${place}/`)).map(({ key, value }) => {
    const [, process = '', id = ''] = key.split('/')
    const { path, agent, resource, atMs, legs, reported } = value as unknown as HoldRecord
    return {
      id,
      process,
      budget: path,
      agent,
      resource,
      atMs,
      amounts: amountsOf(legs),
      ...(reported === undefined ? {} : { reported: reported.used }),
    }
  })
}

/**
 * The one hold of a place whose id begins with `given`.
 *
 * @param process - The beginning of the id of its process, where that of the hold is not enough.
 * @throws {HoldfastError} `ERR_HOLD_STATE` when there is none, or more than one.
 */
export async function holdNamed(store: Store, place: 'suspended' | 'charged', given: string, process = ''): Promise<SeenHold> {
  const found = (await seeHolds(store, place)).filter((hold) => hold.id.startsWith(given) && hold.process.startsWith(process))
  const exact = found.filter(({ id }) => id === given)
  const [one, ...more] = exact.length > 0 ? exact : found
  if (one !== undefined && more.length === 0) return one
  const where = place === 'suspended' ? 'in suspense' : 'charged at worst, and can be corrected'
  const which = one === undefined ? 'No hold' : `${more.length + 1} holds`
  const hint = one === undefined ? 'See what is: holdfast budget leases --all' : `Give more of the id: ${one.id}, ${more[0]!.id}`
  throw new HoldfastError('ERR_HOLD_STATE', `${which} whose id begins with ${given} ${one === undefined ? 'is' : 'are'} ${where}. ${hint}`)
}
