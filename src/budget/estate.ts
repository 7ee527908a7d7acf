// What a dead process has left: its holds end as its chain says, those that it says nothing of are charged at worst,
// and what was idle in its leases goes back. So a crash costs nothing but the calls that it cut short.

import { amountOf, isNothing, type Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import { listAll } from '../stores/entries.ts'
import type { Committer } from '../stores/group.ts'
import type { Entry } from '../stores/store.ts'
import { createAllotments, type ClosedAllotment } from './allotment.ts'
import { createEnding } from './ending.ts'
import { createHoldWriter, type Grant } from './hold-writer.ts'
import { createLeases } from './lease.ts'
import { amountsOf } from './legs.ts'
import { createLevels } from './levels.ts'
import type { HoldRecord, Processes } from './processes.ts'
import { createStoreTime } from './windows/store-time.ts'

/** What is known of one of its holds. */
export interface EstateHold {
  readonly budget: string
  /** Further budgets that count it. */
  readonly also?: readonly string[]
  readonly amounts: Amounts
  readonly lease?: string
  readonly used?: Amounts
  readonly charged: boolean
}

/** Options of {@link settleEstate}. */
export interface EstateOptions {
  readonly committer: Committer
  /** The dead process. */
  readonly boot: string
  readonly holds: ReadonlyMap<string, EstateHold>
  /** It only observed: what it used beyond a limit freezes nothing. */
  readonly observe: boolean
  /** Unix ms. */
  readonly now: () => number
  readonly onTrouble: (error: unknown) => void
}

/** What was done. */
export interface Estate {
  /** Holds that ended as they were said to have. */
  readonly ended: number
  /** Those that nothing was said of. */
  readonly charged: number
  readonly leases: number
  readonly allotments: readonly ClosedAllotment[]
}

/**
 * Ends everything that a process has left which is known to be dead, and whose chain is known to be whole. Safe to
 * repeat, and to do by many at once.
 *
 * @throws {HoldfastError} `ERR_STORE`; the rest is done by whoever tries next.
 */
export async function settleEstate({ committer, boot, holds: facts, observe, now, onTrouble }: EstateOptions): Promise<Estate> {
  const { store } = committer
  const processes = inTheNameOf(boot)
  // What nobody has held yet counts in the window of today, and who is the first to see that it has begun opens it.
  const levels = createLevels(store, { time: createStoreTime(store, now), commit: (batch) => committer.commit(batch) })
  const holds = createHoldWriter({ committer, processes, levels, boot, observe, now })
  const allotments = createAllotments(committer, levels, boot)
  const end = createEnding({ committer, processes, levels, holds, allotments, observe })
  const later = (work: () => Promise<void>): void => void work().catch(onTrouble)
  const leases = createLeases({ committer, processes, holds, allotments, later, onTrouble })
  const byLease = Map.groupBy(facts, ([, { lease }]) => lease)
  const estate = { ended: 0, charged: 0, leases: 0 }

  // Without its record nothing that it sent before it died can be applied any more.
  const records = [`process/${boot}`, `renewed/${boot}`]
  const found = await store.read(records)
  if (found[0] !== null) {
    const { outcome } = await committer.commit({ check: [{ key: records[0]!, version: found[0]!.version }], delete: records })
    if (outcome !== 'ok') throw new HoldfastError('ERR_STORE', `The record of the dead process ${boot} could not be removed (${outcome}).`)
  }

  async function grantOf({ key, value, version }: Entry): Promise<Grant> {
    const record = value as unknown as HoldRecord
    const holdId = key.split('/')[2]!
    return {
      holdId,
      path: record.path,
      amounts: amountsOf(record.legs),
      outputTokens: 0,
      levels: await levels.of(record.path, true, record.also),
      record,
      version,
    }
  }

  async function endHold(grant: Grant): Promise<void> {
    const fact = facts.get(grant.holdId)
    // What the store has and the chain has not was never said to be held: it stays in suspense.
    if (fact === undefined) return
    // Beside its lease lies what it used beyond what it held; that is ended with the other overruns.
    if (fact.lease !== undefined) return
    const { used } = fact
    await end({ ...grant, version: undefined }, used ?? grant.amounts, used === undefined ? 'charge' : 'settle')
    estate[used === undefined ? 'charged' : 'ended'] += 1
  }

  /** A lease pays for a hold what the hold had; what a call used beyond that is in the books, or has to be put there. */
  async function endOverrun(holdId: string, { used = {}, amounts, budget, also }: EstateHold): Promise<void> {
    const over = beyond(used, amounts)
    if (isNothing(over)) return
    const { held, overran } = holds.placesOf(holdId)
    const [done, begun] = await store.read([overran, held])
    if (done !== null) return
    const known = await levels.of(budget, true, also)
    const record = { path: budget, ...(also === undefined ? {} : { also }), agent: '', resource: 'overrun', atMs: now(), legs: {} }
    const version = begun === null || begun === undefined ? 0 : undefined
    await end({ holdId, path: budget, amounts: {}, outputTokens: 0, levels: known, record, version, endMark: overran }, over, 'settle')
  }

  /** What became known of a charge after all, where the charge still waits for it. */
  async function correct(holdId: string, { used }: EstateHold): Promise<void> {
    const [mark] = await store.read([holds.placesOf(holdId).charged])
    if (mark === null || mark === undefined) return
    const { nonce: _, ...record } = mark.value as unknown as HoldRecord
    const known = await levels.of(record.path, true, record.also)
    const grant = { holdId, path: record.path, amounts: amountsOf(record.legs), outputTokens: 0, levels: known, record, version: undefined }
    await end(grant, used!, 'settle')
  }

  async function endLease(grant: Grant): Promise<void> {
    const lease = leases.open(grant)
    const drawn = byLease.get(grant.holdId) ?? []
    for (const dimension of lease.dimensions) {
      let used = -amountOf(lease.reported.used, dimension)
      let assumed = -amountOf(lease.reported.assumed, dimension)
      for (const [, fact] of drawn) {
        const worst = amountOf(fact.amounts, dimension)
        const isAssumed = fact.charged || fact.used === undefined
        used += isAssumed ? worst : Math.min(worst, amountOf(fact.used, dimension))
        assumed += isAssumed ? worst : 0
      }
      const left = amountOf(lease.left, dimension)
      lease.used[dimension] = Math.min(left, Math.max(0, used))
      lease.assumed[dimension] = Math.max(0, assumed)
      lease.rest[dimension] = left - lease.used[dimension]
    }
    for (const [holdId, { amounts, used }] of drawn) {
      if (used !== undefined) continue
      lease.marks.push(leases.markOf(lease, holdId, amounts))
      estate.charged += 1
    }
    lease.retired = true
    await leases.move(lease, { back: true })
    estate.leases += 1
  }

  for (const place of ['hold', 'suspended'])
    for (const entry of await listAll(store, `${place}/${boot}/`)) {
      const grant = await grantOf(entry)
      await (grant.record.reported === undefined ? endHold(grant) : endLease(grant))
    }
  for (const [holdId, fact] of facts) {
    if (fact.charged && fact.used !== undefined) await correct(holdId, fact)
    if (fact.lease !== undefined && !fact.charged) await endOverrun(holdId, fact)
  }
  return { ...estate, allotments: await allotments.closeOwn() }
}

/** Its record is gone, and stays so: that is what every write in its name checks. */
function inTheNameOf(boot: string): Processes {
  const nothing = (): void => undefined
  return {
    ticket: async () => ({ version: 0, check: [{ key: `process/${boot}`, version: 0 }], set: [], atMs: performance.now() }),
    stamped: nothing,
    refresh: nothing,
    held: nothing,
    ended: nothing,
    sweep: async () => 0,
    stop: nothing,
    close: async () => undefined,
  }
}

const beyond = (used: Amounts, held: Amounts): Amounts =>
  Object.fromEntries(Object.entries(used).map(([dimension, amount]) => [dimension, Math.max(0, amount - amountOf(held, dimension))]))
