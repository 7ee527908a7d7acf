// Who has the money that a call was refused for. Only read when a refusal is made, and only as much as a person looks at.

import type { BudgetHolder } from '../lib/errors.ts'
import type { Store } from '../stores/store.ts'
import type { HoldRecord } from './processes.ts'

/** Most holders that a refusal names. */
const MAX_NAMED = 5
/** Most records of holds, and as many of suspended ones, that are looked at for one refusal: three reads in all. */
const MAX_RECORDS = 1_000

/**
 * The largest holds and leases of one leg, such as `usd/acme`, those in suspense too; the largest first, at most 5. Looks at
 * 1,000 records that are held and 1,000 in suspense: of a store with more of them, not all are seen.
 *
 * @throws {HoldfastError} `ERR_STORE` and its kin.
 */
export async function readHolders(store: Store, leg: string): Promise<readonly BudgetHolder[]> {
  const found = await Promise.all(
    (['hold', 'suspended'] as const).map(async (place) =>
      (await store.list(`${place}/`, { limit: MAX_RECORDS })).flatMap(({ key, value }) => {
        const { legs, agent, resource, atMs, reported } = value as unknown as HoldRecord
        const held = Object.hasOwn(legs, leg) ? legs[leg]! : undefined
        // What observe mode let through beside the limit is nobody's share of it.
        if (held === undefined || held.amount === 0 || held.over === true) return []
        const [, process = '', hold = ''] = key.split('/')
        // A lease belongs to no agent.
        const who = reported === undefined ? { agent, resource } : { resource: 'lease' }
        return [{ process, hold, ...who, amount: held.amount, inSuspense: place === 'suspended', sinceMs: atMs }]
      }),
    ),
  )
  const named = found
    .flat()
    .sort((one, other) => other.amount - one.amount || (one.hold < other.hold ? -1 : 1))
    .slice(0, MAX_NAMED)
  const records = await store.read(named.map(({ process }) => `process/${process}`))
  return named.map((holder, index) => {
    const { host, pid } = (records[index]?.value ?? {}) as { readonly host?: string; readonly pid?: number }
    return { ...holder, ...(host === undefined ? {} : { host }), ...(pid === undefined ? {} : { pid }) }
  })
}
