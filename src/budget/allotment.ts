// Allotments: money that was moved out of a budget for a child, which then spends it without asking above. Closing
// one brings back what is free and reports what is spent, in one commit; what is still held follows when it ends.

import { amountOf, type Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import type { Committer } from '../stores/group.ts'
import type { Add, Batch, Check } from '../waist/batch.ts'
import type { HandoffClosing } from '../waist/handoff.ts'
import { legsOf } from './legs.ts'
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

/** Legs above whose `kids` do not have the money: it is in their `over`, or they never knew of it. */
type Unfunded = ReadonlyMap<string, 'over' | 'never'>

/** Closes allotments. */
export interface Allotments {
  /**
   * Ends an allotment: nothing is taken from it any more, and what it has goes up. Safe to repeat.
   *
   * @throws {HoldfastError} `ERR_STORE`
   */
  close(path: string): Promise<HandoffClosing>
  /** Brings up what has come back to an allotment that was closed before; does nothing to one that is open. */
  follow(path: string): Promise<void>
}

/** The part of a commit that makes an allotment below a budget; the money comes from the action's `allot`. */
export function allotmentBatch(path: string, limits: Amounts): Batch {
  const record: BudgetRecord = { format: LEDGER_FORMAT, revision: 1, limits, allotment: true }
  const free = Object.entries(limits).map(([dimension, limit]) => ({ key: counterKey('free', `${dimension}/${path}`), value: limit }))
  return {
    check: [budgetKey(path), ...free.map(({ key }) => key)].map((key) => ({ key, version: 0 })),
    set: [{ key: budgetKey(path), value: record as never }, ...free],
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
  async function raise(path: string, { counters }: Standing, last: boolean, unfunded: Unfunded): Promise<readonly Add[]> {
    const above = await levels.of(parentOf(path), true)
    const moved = Object.fromEntries(Object.entries(counters).map(([dimension, { free, spent }]) => [dimension, free + spent]))
    const rising = (dimension: string) => RISING.filter((column) => counters[dimension]![column] > 0)
    const own = Object.keys(counters).flatMap((dimension) =>
      rising(dimension).map((column) => ({
        key: counterKey(column, `${dimension}/${path}`),
        by: -counters[dimension]![column],
        min: 0,
      })),
    )
    const theirs = legsOf(above, moved, new Set(unfunded.keys())).flatMap(({ key, dimension, amount, over }) => {
      // Observe mode let it through without the money: what was not spent after all is taken off that again.
      if (over) return unfunded.get(key) === 'over' ? [{ key: counterKey('over', key), by: -counters[dimension]!.free, min: 0 }] : []
      return [
        { key: counterKey('kids', key), by: -amount, min: 0 },
        ...rising(dimension).map((column) => ({ key: counterKey(column, key), by: counters[dimension]![column] })),
      ]
    })
    return last ? theirs : [...own, ...theirs]
  }

  async function close(path: string): Promise<HandoffClosing> {
    const unfunded = new Map<string, 'over' | 'never'>()
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
      if (record.closed !== undefined && all.every(({ free, spent: used }) => free + used === 0)) return { ...totals, ...rest }
      const last = all.every(({ out, suspense, kids }) => out + suspense + kids === 0)
      const closed: BudgetRecord = {
        ...record,
        // What goes up is taken off the limit, so the equation holds whatever ends at the same time.
        limits: amounts(({ free, spent: used }, dimension) => record.limits[dimension]! - free - used),
        closed: totals,
        frozen: 'its handoff was closed',
      }
      const key = budgetKey(path)
      const add = await raise(path, standing, last, unfunded)
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
      if (result.outcome === 'refused') {
        const leg = result.which.slice(result.which.indexOf('/') + 1)
        // A budget that began to limit this dimension after the allotment was made has nothing of it at all.
        unfunded.set(leg, result.which.startsWith('kids/') ? 'over' : 'never')
      }
      if (result.outcome !== 'ok') continue
      await follow(parentOf(path))
      return { ...totals, ...rest }
    }
    throw new HoldfastError('ERR_STORE', `Budget \`${path}\` changed ${MAX_ATTEMPTS} times while it was closed; close again.`)
  }

  async function follow(path: string): Promise<void> {
    const [entry] = await store.read([budgetKey(path)])
    if ((entry?.value as unknown as BudgetRecord | undefined)?.closed !== undefined) await close(path)
  }

  return { close, follow }
}

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/'))

const countersOf = (path: string, dimensions: readonly string[]): readonly string[] =>
  dimensions.flatMap((dimension) => COLUMNS.map((column) => counterKey(column, `${dimension}/${path}`)))
