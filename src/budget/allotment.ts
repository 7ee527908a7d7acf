// Allotments: money that was moved out of a budget for a child, which then spends it without asking above. Closing
// one brings back what is free and reports what is spent, in one commit; what is still held follows when it ends.

import { amountOf, type Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import type { Committer } from '../stores/group.ts'
import type { Add, Batch, Check } from '../waist/batch.ts'
import type { HandoffClosing } from '../waist/handoff.ts'
import type { Action } from '../waist/action.ts'
import { dimensionOf, type HeldLeg, type HeldLegs, type Leg } from './legs.ts'
import type { Levels } from './levels.ts'
import { COLUMNS, LEDGER_FORMAT, budgetKey, counterKey, type BudgetRecord, type Column } from './record.ts'

/** How often one closing may find that something has changed. */
const MAX_ATTEMPTS = 100
/** What goes up when an allotment is closed. `assumed` is a part of `spent`. */
const RISING = ['free', 'spent', 'assumed', 'over'] as const satisfies readonly Column[]

/** How long the record of a closed allotment stays, ms: 30 days. */
const CLOSED_TTL_MS = 30 * 24 * 3_600_000

type Counters = Readonly<Record<Column, number>>

/** The state of an allotment in one snapshot. */
interface Standing {
  readonly record: BudgetRecord
  readonly version: number
  readonly counters: Readonly<Record<string, Counters>>
  /** That everything is as it was read. */
  readonly checks: readonly Check[]
}

/** Closes allotments. */
export interface Allotments {
  /**
   * Ends an allotment: nothing is taken from it any more, and what it has goes up. Safe to repeat.
   *
   * @throws {HoldfastError} `ERR_STORE`
   */
  close(path: string): Promise<HandoffClosing>
  /** Where what was spent at these legs stands now: that of a closed allotment has gone up. */
  risen(legs: HeldLegs): Promise<HeldLegs>
  /** Brings up what has come back to an allotment that was closed before; does nothing to one that is open. */
  follow(path: string): Promise<void>
}

/** The part of a commit that makes an allotment; its money comes from these legs of the budgets above. */
export function allotmentBatch({ budget, limits }: NonNullable<Action['allot']>, legs: readonly Leg[]): Batch {
  const from = Object.fromEntries(legs.map(({ key, over }) => [key, over ? ('over' as const) : ('kids' as const)]))
  const record: BudgetRecord = { format: LEDGER_FORMAT, revision: 1, limits, allotment: { from } }
  const free = Object.entries(limits).map(([dimension, limit]) => ({ key: counterKey('free', `${dimension}/${budget}`), value: limit }))
  return {
    check: [budgetKey(budget), ...free.map(({ key }) => key)].map((key) => ({ key, version: 0 })),
    set: [{ key: budgetKey(budget), value: record as never }, ...free],
  }
}

/** Makes the closing of allotments. */
export function createAllotments(committer: Committer, levels: Levels): Allotments {
  const { store } = committer

  async function standingOf(path: string): Promise<Standing | undefined> {
    const [known] = await store.read([budgetKey(path)])
    if (known === null || known === undefined) return undefined
    const dimensions = Object.keys((known.value as unknown as BudgetRecord).limits)
    const keys = [budgetKey(path), ...countersOf(path, dimensions)]
    const [entry, ...found] = await store.read(keys)
    if (entry === null || entry === undefined) return undefined
    const counters = dimensions.map((dimension, at) => {
      const amounts = COLUMNS.map((column, offset) => [column, Number(found[at * COLUMNS.length + offset]?.value ?? 0)] as const)
      return [dimension, Object.fromEntries(amounts) as Counters] as const
    })
    return {
      record: entry.value as unknown as BudgetRecord,
      version: entry.version,
      counters: Object.fromEntries(counters),
      checks: [entry, ...found].map((one, index) => ({ key: keys[index]!, version: one?.version ?? 0 })),
    }
  }

  /** What an allotment has, moved to the budgets above that its money came from. */
  function raise(path: string, { record, counters }: Standing, last: boolean): readonly Add[] {
    const rising = (dimension: string) => RISING.filter((column) => counters[dimension]![column] > 0)
    const own = Object.keys(counters).flatMap((dimension) =>
      rising(dimension).map((column) => ({ key: counterKey(column, `${dimension}/${path}`), by: -counters[dimension]![column], min: 0 })),
    )
    const theirs = Object.entries(record.allotment!.from).flatMap(([leg, how]): readonly Add[] => {
      const dimension = dimensionOf(leg)
      const { free, spent } = counters[dimension]!
      // Observe mode let it through without the money: what was not spent after all is taken off that again.
      if (how === 'over') return free > 0 ? [{ key: counterKey('over', leg), by: -free, min: 0 }] : []
      if (free + spent === 0) return []
      return [
        { key: counterKey('kids', leg), by: -(free + spent), min: 0 },
        ...rising(dimension).map((column) => ({ key: counterKey(column, leg), by: counters[dimension]![column] })),
      ]
    })
    return last ? theirs : [...own, ...theirs]
  }

  async function close(path: string): Promise<HandoffClosing> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const standing = await standingOf(path)
      if (standing === undefined) throw new HoldfastError('ERR_STORE', `${store.name} has no budget \`${path}\` any more.`)
      const { record, version, counters, checks } = standing
      const amounts = (pick: (of: Counters, dimension: string) => number): Amounts =>
        Object.fromEntries(Object.entries(counters).map(([dimension, of]) => [dimension, pick(of, dimension)]))
      const { returned = {}, spent = {} } = record.closed ?? {}
      const totals = {
        returned: amounts(({ free }, dimension) => amountOf(returned, dimension) + free),
        spent: amounts((of, dimension) => amountOf(spent, dimension) + of.spent),
      }
      const all = Object.values(counters)
      const rest = { stillOut: amounts(({ out, kids }) => out + kids), inSuspense: amounts(({ suspense }) => suspense) }
      if (record.closed !== undefined && all.every(({ free, spent: used }) => free + used === 0)) {
        // An earlier closing may not have come so far.
        await follow(parentOf(path))
        return { ...totals, ...rest }
      }
      const last = all.every(({ out, suspense, kids }) => out + suspense + kids === 0)
      const closed: BudgetRecord = {
        ...record,
        // What goes up is taken off the limit, so the equation holds whatever ends at the same time.
        limits: amounts(({ free, spent: used }, dimension) => record.limits[dimension]! - free - used),
        closed: totals,
        frozen: 'its handoff was closed',
      }
      const key = budgetKey(path)
      const add = raise(path, standing, last)
      // The last one removes the counters; what is left of the record says for a while what became of it.
      const result = await committer.commit(
        last
          ? {
              check: checks,
              add,
              delete: checks.slice(1).map((check) => check.key),
              set: [{ key, value: closed as never, expiresAtMs: (await store.now()) + CLOSED_TTL_MS }],
            }
          : { check: [{ key, version }], add, set: [{ key, value: closed as never }] },
      )
      levels.forget(key)
      if (result.outcome === 'unknown') throw new HoldfastError('ERR_STORE', `${store.name} did not answer.`, { cause: result.cause })
      // What ended between the reading and the commit found it open, and left the rest to this closing: look again.
      if (result.outcome !== 'ok' || !last) continue
      await follow(parentOf(path))
      return { ...totals, ...rest }
    }
    throw new HoldfastError('ERR_STORE', `Budget \`${path}\` changed ${MAX_ATTEMPTS} times while it was closed; close again.`)
  }

  async function follow(path: string): Promise<void> {
    const [entry] = await store.read([budgetKey(path)])
    if ((entry?.value as unknown as BudgetRecord | undefined)?.closed !== undefined) await close(path)
  }

  async function risen(legs: HeldLegs): Promise<HeldLegs> {
    const now: Record<string, HeldLeg> = {}
    for (const [key, leg] of Object.entries(legs)) {
      const path = key.slice(key.indexOf('/') + 1)
      const [entry] = await store.read([budgetKey(path)])
      const record = entry?.value as unknown as BudgetRecord | undefined
      if (record?.closed === undefined) {
        now[key] = leg
        continue
      }
      await follow(path)
      const above = Object.entries(record.allotment!.from).filter(([from]) => dimensionOf(from) === dimensionOf(key))
      Object.assign(now, await risen(Object.fromEntries(above.map(([from, how]) => [from, how === 'over' ? { ...leg, over: true } : leg]))))
    }
    return now
  }

  return { close, follow, risen }
}

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/'))

const countersOf = (path: string, dimensions: readonly string[]): readonly string[] =>
  dimensions.flatMap((dimension) => COLUMNS.map((column) => counterKey(column, `${dimension}/${path}`)))
