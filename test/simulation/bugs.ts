// Parts of the system that are broken on purpose, each outside of src: a store, a network, a disk or a program that does
// what the protocol forbids. The simulation has to find each of them, or finding nothing would mean nothing.

import type { Amounts } from '../../src/lib/amounts.ts'
import { HoldfastError } from '../../src/lib/errors.ts'
import type { Batch } from '../../src/stores/store.ts'
import type { Dice } from './dice.ts'
import type { DiskFaults } from './disk.ts'
import type { Habits } from './habits.ts'
import type { Network } from './network.ts'
import type { Plan } from './plan.ts'
import type { Tamper } from './truth.ts'

/** A part of the system that is broken on purpose. */
export interface Bug {
  readonly name: string
  /** What it does wrong, in one sentence. */
  readonly what: string
  /** What the store makes of each batch. */
  readonly tamper?: (dice: Dice) => Tamper
  readonly network?: Partial<Pick<Network, 'whenLost' | 'isBlind'>>
  readonly disk?: DiskFaults
  readonly habits?: Partial<Habits>
  /** Whether a plan has what it takes to show it; the search passes over the others. @default every plan */
  readonly needs?: (plan: Plan) => boolean
  /** The store goes back by some batches in the middle of each run, and nobody may notice. */
  readonly rollsBack?: true
}

type Changed = (batch: Batch) => Batch

/** A bug of the store that needs no chance. */
const changing = (change: Changed) => (): Tamper => change

/** Does `change` to a batch that does the same as one before it: a retry, or one that was sent twice. */
const again = (which: (batch: Batch) => boolean, change: Changed) => (): Tamper => {
  const seen = new Set<string>()
  return (batch) => {
    if (!which(batch)) return batch
    const identity = JSON.stringify([batch.add, batch.set?.map(({ key }) => key), batch.delete])
    if (seen.has(identity)) return change(batch)
    seen.add(identity)
    return batch
  }
}

const writes = ({ set = [] }: Batch, prefix: string): boolean => set.some(({ key }) => key.startsWith(prefix))
const deletes = ({ delete: keys = [] }: Batch, prefix: string): boolean => keys.some((key) => key.startsWith(prefix))
const withoutChecks: Changed = (batch) => ({ ...batch, check: [] })

/** Gives what goes to `suspense` to `free`. */
const freed: Changed = (batch) => {
  if (!writes(batch, 'suspended/')) return batch
  const add = (batch.add ?? []).map((one) => ({ ...one, key: one.key.replace(/^suspense\//, 'free/') }))
  return { ...batch, add, set: (batch.set ?? []).filter(({ key }) => !key.startsWith('suspended/')) }
}

/** Reports one less than was spent from a lease, and gives that back. */
const underReported: Changed = (batch) => {
  const isMove = batch.set?.some(({ key, value }) => key.startsWith('hold/') && (value as { reported?: unknown }).reported !== undefined)
  const spent = batch.add?.find(({ key, by }) => key.startsWith('spent/') && by > 0)
  if (isMove !== true || spent === undefined) return batch
  const free = spent.key.replace(/^spent\//, 'free/')
  const add = batch.add!.map((one) => (one === spent ? { ...one, by: one.by - 1 } : one.key === free ? { ...one, by: one.by + 1 } : one))
  return { ...batch, add: add.some(({ key }) => key === free) ? add : [...add, { key: free, by: 1 }] }
}

/** Takes nothing at the root for what is taken below it. */
const rootless: Changed = (batch) => {
  const { add = [] } = batch
  if (!add.some(({ key, by }) => by < 0 && /^free\/[^/]+\/[^/]+\//.test(key))) return batch
  return { ...batch, add: add.filter(({ key }) => !/^(?:free|out|kids)\/[^/]+\/[^/]+$/.test(key)) }
}

/** Lowers a limit in the record, and takes nothing off what is free. */
const cutAtOnce: Changed = (batch) => ({
  ...batch,
  set: (batch.set ?? []).map((one) => {
    const { cut, limits } = one.value as { cut?: Record<string, number>; limits?: Record<string, number> }
    if (!one.key.startsWith('budget/') || cut === undefined || limits === undefined) return one
    const lower = Object.fromEntries(Object.entries(limits).map(([dimension, limit]) => [dimension, limit - (cut[dimension] ?? 0)]))
    return { ...one, value: { ...(one.value as object), limits: lower } }
  }),
})

/** Bugs of the store. */
const STORE_BUGS: readonly Bug[] = [
  { name: 'no-checks', what: 'The store ignores the checks of a batch.', tamper: changing(withoutChecks) },
  {
    name: 'no-minimum',
    what: 'The store adds below the minimum.',
    tamper: changing((batch) => ({ ...batch, add: (batch.add ?? []).map(({ key, by }) => ({ key, by })) })),
  },
  {
    name: 'applied-twice',
    what: 'A batch that comes a second time is applied a second time.',
    tamper: again((batch) => (batch.add ?? []).length > 0, withoutChecks),
  },
  {
    name: 'settled-twice',
    what: 'The end of a hold that is sent again ends it again, out of what others hold.',
    tamper: again((batch) => deletes(batch, 'hold/'), withoutChecks),
  },
  {
    name: 'handoff-closed-twice',
    what: 'A closing that is sent again brings the money of a handoff up again.',
    needs: ({ handoffs, odds }) => handoffs > 0 && ((odds.duplicate ?? 0) > 0 || (odds['lose-reply'] ?? 0) > 0),
    tamper: again(
      ({ set = [] }) => set.some(({ value }) => (value as { closed?: unknown } | null)?.closed !== undefined),
      (batch) => ({ ...withoutChecks(batch), add: (batch.add ?? []).map(({ key, by }) => ({ key, by })) }),
    ),
  },
  {
    name: 'forgets-writes',
    what: 'The store acknowledges a batch now and then that it has not kept.',
    tamper: (dice) => (batch) => ((batch.add ?? []).length > 0 && dice.chance(0.05) ? undefined : batch),
  },
  {
    name: 'splits-batches',
    what: 'A batch is applied in part now and then: its adds, but not its last one.',
    tamper: (dice) => (batch) => ((batch.add ?? []).length > 1 && dice.chance(0.05) ? { ...batch, add: batch.add!.slice(0, -1) } : batch),
  },
  {
    name: 'keeps-what-is-deleted',
    what: 'The record of a hold stays when the hold has ended.',
    tamper: changing((batch) => ({ ...batch, delete: (batch.delete ?? []).filter((key) => !key.startsWith('hold/')) })),
  },
  { name: 'expiry-frees', what: 'The holds of a silent process go back to free, not to suspense.', tamper: changing(freed) },
  { name: 'under-reported', what: 'A lease reports less than was spent from it.', tamper: changing(underReported) },
  { name: 'skips-a-level', what: 'What is taken below a budget is not taken from it.', tamper: changing(rootless) },
  { name: 'cut-at-once', what: 'A lowered limit is lower before the money is there.', tamper: changing(cutAtOnce) },
  {
    name: 'goes-back-unseen',
    what: 'The store loses its last batches, and nobody compares versions.',
    network: { isBlind: true },
    rollsBack: true,
  },
]

/** Somebody who leases is stopped for longer than anybody waits, and somebody else could be its successor. */
const isStoppedBesideOthers = ({ processes, leaseTtlMs }: Plan): boolean =>
  processes.some(
    (one) =>
      one.leasing === 'auto' &&
      one.directory !== undefined &&
      (one.stop?.forMs ?? 0) > leaseTtlMs + 2_000 &&
      processes.some((other) => other !== one && other.directory === one.directory),
  )

/** Bugs between the store and the kernel, and of the disk. */
const TRANSPORT_BUGS: readonly Bug[] = [
  {
    name: 'unknown-is-done',
    what: 'A commit whose answer was lost is taken for applied.',
    network: {
      whenLost: (_, batches, seen) => ({
        outcome: 'applied',
        results: batches.map(({ add = [] }) => ({ outcome: 'ok', version: seen + 1, values: add.map(() => 0) })),
      }),
    },
  },
  {
    name: 'unknown-is-refused',
    what: 'A commit whose answer was lost is taken for one that did not happen.',
    network: {
      whenLost: () => {
        throw new HoldfastError('ERR_STORE', 'Certainly not applied, says a broken client.')
      },
    },
  },
  {
    name: 'lock-of-the-living',
    what: 'The lock of a chain can be had while its process lives.',
    disk: { locksNothing: true },
    needs: isStoppedBesideOthers,
  },
  {
    name: 'chain-loses-its-end',
    what: 'The last records of a chain die with their process.',
    disk: { losesLast: 3 },
    needs: ({ processes }) => processes.some(({ crash, directory }) => crash !== undefined && directory !== undefined),
  },
]

const HABIT_BUGS: readonly Bug[] = [
  { name: 'refund-on-error', what: 'A call that failed is released, though it may be billed.', habits: { onServerError: 'release' } },
  { name: 'refund-on-timeout', what: 'A call without an answer is released.', habits: { onTimeout: 'release' } },
  { name: 'no-usage-is-free', what: 'An answer without usage is settled with nothing.', habits: { withoutUsage: 'settle-nothing' } },
  { name: 'check-then-charge', what: 'A program looks at what is free, calls, and then holds.', habits: { calls: 'after-a-look' } },
  { name: 'calls-before-held', what: 'A program calls before its hold is acknowledged.', habits: { calls: 'at-once' } },
  { name: 'two-calls-one-hold', what: 'A retry is made under the same hold.', habits: { attempts: 2 } },
  {
    name: 'clamps-overruns',
    what: 'A program reports no more than the worst case.',
    habits: {
      reports: (used: Amounts, worst: Amounts) =>
        Object.fromEntries(Object.entries(used).map(([dimension, amount]) => [dimension, Math.min(amount, worst[dimension] ?? amount)])),
    },
  },
  { name: 'operator-says-nothing', what: 'An operator reclaims without a look at the bill.', habits: { operatorSays: 'nothing' } },
]

/** All of them. */
export const BUGS: readonly Bug[] = [...STORE_BUGS, ...TRANSPORT_BUGS, ...HABIT_BUGS]
