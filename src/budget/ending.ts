// The end of a hold: its money moves to where it belongs, once, wherever the hold lies by then and however often
// the reply is lost.

import { amountOf, type Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import type { Add, Batch, SetKey } from '../waist/batch.ts'
import type { Committer } from '../stores/group.ts'
import type { Allotments } from './allotment.ts'
import type { Grant, HoldWriter } from './hold-writer.ts'
import { dimensionOf, endAdds, mergeAdds, pathOf, unheldLegs, type Ending, type HeldLegs } from './legs.ts'
import type { Levels } from './levels.ts'
import type { HoldRecord, Processes } from './processes.ts'
import { CORRECTABLE_MS, budgetKey, levelsOf, type BudgetRecord } from './record.ts'
import { currentPart } from './windows/current-windows.ts'

/** What an overrun did: free money covered it, it froze the tree, or (observe mode) it is counted beside the limit. */
export type Overrun = 'covered' | 'frozen' | 'over'

/** Options of {@link createEnding}. */
export interface EndingOptions {
  readonly committer: Committer
  readonly processes: Processes
  readonly levels: Levels
  readonly holds: HoldWriter
  readonly allotments: Allotments
  readonly observe: boolean
}

/** Ends a grant. */
export type End = (grant: Grant, used: Amounts, how: 'settle' | 'charge') => Promise<Overrun | undefined>

/** What is no longer where it was held. */
interface Gone {
  readonly above: ReadonlyMap<string, HeldLegs>
  readonly raised: ReadonlySet<string>
}

/** How often one end may find that something has changed. */
const MAX_ATTEMPTS = 100

/** Makes the end of holds. */
export function createEnding({ committer, processes, levels, holds, allotments, observe }: EndingOptions): End {
  const { store } = committer
  /** Holds that had nothing to write when they were taken, and used something after all. */
  const enrolled = new Map<string, Promise<Grant>>()

  async function end(given: Grant, used: Amounts, how: 'settle' | 'charge'): Promise<Overrun | undefined> {
    const legs = { ...given.record.legs, ...unheldLegs(given.levels, given.record.legs, used) }
    if (given.version === 0 && Object.keys(legs).length === 0) return undefined
    const grant = given.version === 0 ? await enrol(given) : given
    const overrun = Object.entries(legs).some(([key, { amount }]) => amountOf(used, dimensionOf(key)) > amount)
    const { held } = holds.placesOf(grant.holdId)
    const unabsorbed = new Set<string>()
    /** Legs whose `over` cannot count any further either: beyond 2^53 - 1 there is nothing to be exact about. */
    const uncounted = new Set<string>()
    /** Legs of closed allotments, and of rolling windows that have moved along: what is beyond the hold is taken where their free money is. */
    const above = new Map<string, HeldLegs>()
    /** Legs of observe mode that are not where they were: their allotment was closed, and `over` went up with it. */
    const raised = new Set<string>()
    const uncovered = (): boolean => [...unabsorbed].some((leg) => !above.has(leg))
    let place = grant.version === undefined ? await find(grant, how) : { key: held, version: grant.version, column: 'out' as const }
    for (let attempts = 0; attempts < MAX_ATTEMPTS; attempts++) {
      if (place === undefined) {
        if (grant.version === undefined && !(await isAbsentForGood(grant))) {
          place = await find(grant, how)
          continue
        }
        const consequence = overrun ? await overrunBefore(grant) : undefined
        await ended(grant)
        return consequence
      }
      const freeze = uncovered() && !observe ? await freezing([...unabsorbed].filter((leg) => !above.has(leg)).map(pathOf)) : undefined
      const result = await committer.commit({
        check: [{ key: place.key, version: place.version }, ...(freeze?.check ?? [])],
        add: await addsOf(legs, { above, raised }, { used, assumed: how === 'charge', from: place.column, unabsorbed, uncounted }),
        set: [...(await marksOf(grant, how)), ...(freeze?.set ?? [])],
        delete: [place.key],
      })
      if (result.outcome === 'unknown') throw new HoldfastError('ERR_STORE', `${store.name} did not answer.`, { cause: result.cause })
      if (result.outcome === 'ok') {
        await ended(grant)
        const consequence = uncovered() ? (freeze === undefined ? 'over' : 'frozen') : 'covered'
        return overrun ? consequence : undefined
      }
      if (result.outcome === 'refused') {
        const [column, leg] = splitKey(result.which)
        // Use beyond what a counter can hold is no damage; it is an overrun that nothing covers.
        if (column === 'over' && result.reason === 'range') uncounted.add(leg)
        else if (legs[leg]?.over === true && !raised.has(leg)) {
          raised.add(leg)
          continue
        } else if (unabsorbed.has(leg) || (column !== 'free' && result.reason !== 'range'))
          throw new HoldfastError('ERR_DAMAGE', `${store.name}: ${result.which} holds less than was put there.`)
        if (column === 'free' && (await levels.gather(pathOf(leg)))) continue
        unabsorbed.add(leg)
        const higher = leg in legs && column === 'free' ? await whereFree(leg) : {}
        // That of a window that was removed since: the budget itself has counted it.
        if (leg in legs && column === 'free' && Object.keys(higher).length === 0) {
          delete legs[leg]
          unabsorbed.delete(leg)
          continue
        }
        if (Object.keys(higher).length > 0 && !(leg in higher)) {
          above.set(leg, higher)
          uncounted.add(leg)
        }
      }
      // It is not where it was: this process was taken for dead, or an earlier try was applied.
      else if (result.which === place.key) place = await find(grant, how)
    }
    throw new HoldfastError('ERR_STORE', `${store.name} changed ${MAX_ATTEMPTS} times under the end of one hold.`)
  }

  /** What an end leaves: the record of a charge, which its real use can correct, and a mark for who has to know later. */
  async function marksOf({ holdId, record, endMark }: Grant, how: 'settle' | 'charge'): Promise<readonly SetKey[]> {
    const left = [
      ...(how === 'charge' ? [{ key: holds.placesOf(holdId).charged, value: record as never }] : []),
      ...(endMark === undefined ? [] : [{ key: endMark, value: 1 }]),
    ]
    // Most ends leave nothing, and then the clock of the store is not asked.
    const expiresAtMs = left.length === 0 ? 0 : (await store.now()) + CORRECTABLE_MS
    return left.map((mark) => ({ ...mark, expiresAtMs }))
  }

  /** Where the free money of a leg is by now: that of a closed allotment has gone up, that of a rolling window has moved along. */
  async function whereFree(leg: string): Promise<HeldLegs> {
    const risen = await allotments.risen({ [leg]: { amount: 0 } })
    const moved = await Promise.all(
      Object.entries(risen).map(async ([key, held]) => {
        const path = await currentPart(store, pathOf(key))
        return [path === undefined ? key : `${dimensionOf(key)}/${path}`, held] as const
      }),
    )
    return Object.fromEntries(moved)
  }

  /** What the end of these legs moves, and what is taken above for those of closed allotments. */
  async function addsOf(legs: HeldLegs, { above, raised }: Gone, ending: Ending): Promise<readonly Add[]> {
    // What a charge spent may stand higher up by now.
    const isHigher = (leg: string): boolean => ending.from === 'spent' || raised.has(leg)
    const own = { ...pick(legs, (leg) => !isHigher(leg)), ...(await allotments.risen(pick(legs, isHigher))) }
    const higher = [...above].flatMap(([leg, legsAbove]) => {
      const dimension = dimensionOf(leg)
      const used = { [dimension]: amountOf(ending.used, dimension) - legs[leg]!.amount }
      return endAdds(legsAbove, { ...ending, used, assumed: false, from: 'out' })
    })
    return mergeAdds([...endAdds(own, ending), ...higher])
  }

  /** Ended by an earlier try, whose reply was lost: what that did to the tree, the store knows. */
  async function overrunBefore({ levels: known }: Grant): Promise<Overrun> {
    const roots = await rootsOf(known.map(({ path }) => path))
    if (roots.some(({ record }) => record.frozen !== undefined)) return 'frozen'
    return observe ? 'over' : 'covered'
  }

  /**
   * Whether a take that is not there will never be: a write that nobody acknowledged could still be on its way.
   * A later write that sees nothing of it stands in front of it.
   */
  async function isAbsentForGood(grant: Grant): Promise<boolean> {
    const { held, suspended } = holds.placesOf(grant.holdId)
    const result = await committer.commit({ check: [held, suspended].map((key) => ({ key, version: 0 })) })
    if (result.outcome === 'unknown') throw new HoldfastError('ERR_STORE', `${store.name} did not answer.`, { cause: result.cause })
    // What stands there may be the hold of a copy of this process.
    return result.outcome === 'ok' || (await find(grant, 'settle')) === undefined
  }

  async function ended({ holdId, levels: known }: Grant): Promise<void> {
    processes.ended(holdId)
    const allotment = known.findLast(({ record }) => record.allotment !== undefined)
    if (allotment !== undefined) await allotments.follow(allotment.path)
    // Only now: who could not come so far tries again, and must not enrol what has ended.
    enrolled.delete(holdId)
  }

  /** Where a hold lies now; nowhere once it has ended. A charge is the end, unless the real use became known. */
  async function find(grant: Grant, how: 'settle' | 'charge') {
    const { held, suspended, charged } = holds.placesOf(grant.holdId)
    const entries = await store.read([held, suspended, ...(how === 'settle' ? [charged] : [])])
    const columns = ['out', 'suspense', 'spent'] as const
    return entries.flatMap((entry, at) =>
      entry === null || !holds.isOwn(grant, entry.value as unknown as HoldRecord)
        ? []
        : [{ key: entry.key, version: entry.version, column: columns[at]! }],
    )[0]
  }

  /** Writes the record of a hold that had nothing to write: what it used has to be counted, once. */
  function enrol(grant: Grant): Promise<Grant> {
    const known = enrolled.get(grant.holdId)
    if (known !== undefined) return known
    const written = writeRecord(grant)
    enrolled.set(grant.holdId, written)
    // Whoever ends it next tries again.
    written.catch(() => enrolled.delete(grant.holdId))
    return written
  }

  async function writeRecord(grant: Grant): Promise<Grant> {
    for (let attempts = 0; attempts < MAX_ATTEMPTS; attempts++) {
      const result = await holds.write({ ...grant, levels: await levels.of(grant.path, true, grant.record.also) }, [], {})
      if (result.outcome === 'ok') return { ...grant, version: result.version }
      if (result.outcome !== 'conflict') throw new HoldfastError('ERR_STORE', `${store.name} did not answer.`, { cause: result })
      holds.learn(result.which, {})
    }
    throw new HoldfastError('ERR_STORE', `${store.name} changed ${MAX_ATTEMPTS} times under the end of one hold.`)
  }

  /** An overrun that no free money covers: the assumption behind the limit is broken, so its whole tree stops. */
  async function freezing(paths: readonly string[]): Promise<Batch> {
    const roots = await rootsOf(paths)
    const frozen = 'a call used more than its worst case, and no free money covered it'
    for (const { key } of roots) levels.forget(key)
    return {
      check: roots.map(({ key, version }) => ({ key, version })),
      set: roots.map(({ key, record }) => ({ key, value: { ...record, frozen } })),
    }
  }

  /** The roots of the trees that these budgets stand in. */
  const rootsOf = async (paths: readonly string[]) => Promise.all([...new Set(paths.map((path) => levelsOf(path)[0]!))].map(rootOf))

  async function rootOf(path: string): Promise<{ readonly key: string; readonly record: BudgetRecord; readonly version: number }> {
    const key = budgetKey(path)
    const [entry] = await store.read([key])
    return { key, record: entry!.value as unknown as BudgetRecord, version: entry!.version }
  }

  return end
}

const pick = (legs: HeldLegs, which: (key: string) => boolean): HeldLegs =>
  Object.fromEntries(Object.entries(legs).filter(([key]) => which(key)))

/** `free/usd/acme` is the column `free` of the leg `usd/acme`. */
const splitKey = (key: string) => [key.slice(0, key.indexOf('/')), key.slice(key.indexOf('/') + 1)] as const
