// What an operator does to single holds, with evidence: end one whose process is gone, and correct one that was charged
// at worst because nobody knew better. Nothing else returns money from suspense.

import { amountOf, formatAmount, type Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import { newId } from '../lib/ids.ts'
import type { Committer, CommitResult } from '../stores/group.ts'
import type { Entry } from '../stores/store.ts'
import { createAllotments, type Allotments } from './allotment.ts'
import { dimensionOf, endAdds, mergeAdds, type Ending, type HeldLegs } from './legs.ts'
import { createLevels } from './levels.ts'
import { isSilent, type HoldRecord } from './processes.ts'
import { CORRECTABLE_MS, levelsOf } from './record.ts'

/** One hold, or one lease, of one process. */
export interface HoldName {
  /** Identity of its process: the name of its chain. */
  readonly process: string
  readonly hold: string
}

/** What became of it; amounts as in the store (`usd` in nano-USD). */
export interface HoldEnd extends HoldName {
  readonly budget: string
  /** What it held, or was charged. */
  readonly held: Amounts
  readonly used: Amounts
  readonly returned: Amounts
}

/** How often one end may find that something has changed meanwhile. */
const MAX_ATTEMPTS = 100

/**
 * Ends a hold or a lease that lies in suspense.
 *
 * @param used - What it really used, by dimension, at most what it holds; a dimension that is missing counts as used
 *   up. Left out altogether: it is written off, which can be corrected for 30 days.
 * @throws {HoldfastError} `ERR_HOLD_STATE` when it is not in suspense, or its process is alive; `ERR_STORE`.
 * @throws {RangeError} For more than it holds.
 */
export async function endSuspended(committer: Committer, { process, hold }: HoldName, used?: Amounts): Promise<HoldEnd> {
  const { store } = committer
  const allotments = createAllotments(committer, createLevels(store), process)
  const keys = [`suspended/${process}/${hold}`, `hold/${process}/${hold}`, `process/${process}`, `renewed/${process}`] as const
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const [suspended, held, registered, renewed] = (await store.read(keys)) as (Entry | null)[]
    if (!suspended) throw notSuspended({ process, hold }, held !== null)
    assertSilent(process, registered!, renewed!, await store.now())
    const record = suspended.value as unknown as HoldRecord
    const end = endOf({ process, hold }, record, used)
    const legs = { ...pick(record.legs, false), ...(await allotments.risen(pick(record.legs, true))) }
    const mark = {
      key: `charged/${process}/${hold}`,
      value: withoutLease(record) as never,
      expiresAtMs: (await store.now()) + CORRECTABLE_MS,
    }
    const result = await committer.commit({
      id: newId(),
      // True of the process as it was seen: when it speaks up meanwhile, nothing is done to it.
      check: [
        { key: keys[0], version: suspended.version },
        { key: keys[2], version: registered?.version ?? 0 },
        { key: keys[3], version: renewed?.version ?? 0 },
      ],
      add: movesOf(legs, { used: end.used, assumed: used === undefined, from: 'suspense' }),
      set: used === undefined ? [mark] : [],
      delete: [keys[0]],
    })
    if (!isApplied(committer, result, attempt)) continue
    await follow(allotments, record.path)
    return end
  }
  throw changedTooOften(hold)
}

/**
 * Corrects a charge: what it really used is less than the worst case. Also of a process that lives, and long after
 * its lease has ended.
 *
 * @throws {HoldfastError} `ERR_HOLD_STATE` when it was not charged, or is corrected already; `ERR_STORE`.
 * @throws {RangeError} For more than was charged.
 */
export async function correctCharge(committer: Committer, { process, hold }: HoldName, used: Amounts): Promise<HoldEnd> {
  const { store } = committer
  const allotments = createAllotments(committer, createLevels(store), process)
  const key = `charged/${process}/${hold}`
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const [charged] = await store.read([key])
    if (charged === null || charged === undefined)
      throw holdError(
        `Hold ${hold} of process ${process} is not charged at worst: it was corrected, or more than 30 days ago, or never charged.`,
      )
    const record = charged.value as unknown as HoldRecord
    const end = endOf({ process, hold }, record, used)
    // What a charge spent may stand higher up by now.
    const legs = await allotments.risen(record.legs)
    const result = await committer.commit({
      id: newId(),
      check: [{ key, version: charged.version }],
      add: movesOf(legs, { used: end.used, assumed: false, from: 'spent' }),
      delete: [key],
    })
    if (!isApplied(committer, result, attempt)) continue
    await follow(allotments, record.path)
    return end
  }
  throw changedTooOften(hold)
}

/** What is said to be used, compared with what is held. */
function endOf(name: HoldName, { path, legs }: HoldRecord, given: Amounts = {}): HoldEnd {
  const held: Record<string, number> = {}
  for (const [leg, { amount }] of Object.entries(legs)) held[dimensionOf(leg)] = amount
  for (const [dimension, amount] of Object.entries(given)) {
    const most = amountOf(held, dimension)
    if (amount > most)
      throw new RangeError(
        `\`used.${dimension}\`: hold ${name.hold} has ${formatAmount(dimension, most)}, so it cannot have used ${formatAmount(dimension, amount)} of it.`,
      )
  }
  // A lease that has nothing left of a dimension has no say in it either.
  const used = Object.fromEntries(
    Object.entries(held).map(([dimension, most]) => [dimension, Object.hasOwn(given, dimension) ? given[dimension]! : most]),
  )
  const returned = Object.fromEntries(Object.entries(held).map(([dimension, most]) => [dimension, most - used[dimension]!]))
  return { ...name, budget: path, held, used, returned }
}

const movesOf = (legs: HeldLegs, ending: Pick<Ending, 'used' | 'assumed' | 'from'>) =>
  mergeAdds(endAdds(legs, { ...ending, unabsorbed: new Set(), uncounted: new Set() }))

/** The legs of observe mode that did not fit, or the others. */
const pick = (legs: HeldLegs, isOver: boolean): HeldLegs =>
  Object.fromEntries(Object.entries(legs).filter(([, { over }]) => (over === true) === isOver))

/** The mark of a charge is that of a hold, whatever it was. */
function withoutLease({ path, agent, resource, atMs, legs }: HoldRecord): HoldRecord {
  return { path, agent, resource, atMs, legs }
}

/** @throws {HoldfastError} When the process has said a moment ago that it lives: it ends its holds itself. */
function assertSilent(process: string, registered: Entry | null, renewed: Entry | null, now: number): void {
  if (isSilent({ process: registered, renewed }, now)) return
  throw holdError(`Process ${process} is alive: it will end this hold itself. Stop it first, and wait until it is silent.`)
}

function notSuspended({ process, hold }: HoldName, isHeld: boolean): HoldfastError {
  const why = isHeld
    ? 'it is held still; once its process is silent, the next sweep moves it there'
    : 'it has ended, or there is no such hold'
  return holdError(`Hold ${hold} of process ${process} is not in suspense: ${why}.`)
}

/** What is now in an allotment that was closed belongs to the budgets above. */
async function follow(allotments: Allotments, path: string): Promise<void> {
  for (const level of levelsOf(path).toReversed()) await allotments.follow(level)
}

/** Whether it was applied; what has changed meanwhile, or moved up with its allotment, is looked at again. */
function isApplied({ store }: Committer, result: CommitResult, attempt: number): boolean {
  if (result.outcome === 'unknown')
    throw new HoldfastError('ERR_STORE', `${store.name} did not answer: the hold may have ended or not. Look, and do it again.`, {
      cause: result.cause,
    })
  if (result.outcome === 'refused' && (result.reason !== 'min' || attempt === MAX_ATTEMPTS - 1))
    throw new HoldfastError('ERR_DAMAGE', `${store.name}: ${result.which} does not hold what was put there.`)
  return result.outcome === 'ok'
}

const holdError = (message: string): HoldfastError => new HoldfastError('ERR_HOLD_STATE', message)

const changedTooOften = (hold: string): HoldfastError =>
  new HoldfastError('ERR_STORE', `Hold ${hold} changed ${MAX_ATTEMPTS} times while it was to be ended; do it again.`)
