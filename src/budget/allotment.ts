// Allotments: money that was moved out of a budget for a child, which then spends it without asking above. Closing
// one brings back what is free and reports what is spent, in one commit; what is still held follows when it ends.

import { amountOf, type Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import { listAll } from '../stores/entries.ts'
import type { Committer } from '../stores/group.ts'
import type { Entry } from '../stores/store.ts'
import type { Add, Batch, Check } from '../waist/batch.ts'
import type { HandoffClosing } from '../waist/handoff.ts'
import type { Action } from '../waist/action.ts'
import { dimensionOf, pathOf, type HeldLeg, type HeldLegs, type Leg } from './legs.ts'
import type { Levels } from './levels.ts'
import { parseWindowPath } from './windows/window.ts'
import { ALLOTTED, COLUMNS, LEDGER_FORMAT, allottedKey, budgetKey, counterKey, type BudgetRecord, type Column } from './record.ts'

/** How often one closing may find that something has changed. */
const MAX_ATTEMPTS = 100
/** What goes up when an allotment is closed. `assumed` is a part of `spent`. */
const RISING = ['free', 'spent', 'assumed', 'over'] as const satisfies readonly Column[]

/** How long the records of an allotment stay when all of it has come back, ms: 30 days. */
const CLOSED_TTL_MS = 30 * 24 * 3_600_000

type Counters = Readonly<Record<Column, number>>

/** The state of an allotment in one snapshot. */
interface Standing {
  readonly record: BudgetRecord
  readonly version: number
  readonly counters: Readonly<Record<string, Counters>>
  /** The record that says what it is for. */
  readonly about: Entry | null
  /** Legs above that are no more: nothing was held in these windows, and they are long over. */
  readonly gone: ReadonlySet<string>
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
  /** Where what was spent at these legs stands now: that of a closed allotment has gone up, that of an old window is gone. */
  risen(legs: HeldLegs): Promise<HeldLegs>
  /** Brings up what has come back to an allotment that was closed before; does nothing to one that is open. */
  follow(path: string): Promise<void>
  /** Closes one that perhaps was never made, because nobody acknowledged it; says what became of one that was open. */
  abandon(path: string): Promise<HandoffClosing | undefined>
  /**
   * Closes those whose process has been gone for `graceMs`, and brings up what their ends have left there. The wait
   * is by the time since this process saw them first: one that was only suspended finds its handoffs open. Returns
   * those that were open.
   */
  sweep(graceMs: number): Promise<readonly ClosedAllotment[]>
  /** Closes those that this process made, and returns those that were open. */
  closeOwn(): Promise<readonly ClosedAllotment[]>
}

/** An allotment that was closed because nobody else would. */
export interface ClosedAllotment {
  readonly path: string
  /** The process that made it. */
  readonly boot: string
  readonly closing: HandoffClosing
}

/** Most orphans that one sweep closes, so that a refusal never waits for thousands. */
const MAX_ORPHANS = 100

/** The part of a commit that makes an allotment; its money comes from these legs of the budgets above. */
export function allotmentBatch({ budget, limits, about }: NonNullable<Action['allot']>, legs: readonly Leg[], boot: string): Batch {
  const from = Object.fromEntries(legs.map(({ key, over }) => [key, over ? ('over' as const) : ('kids' as const)]))
  const allotment = { from, boot, ...(about === undefined ? {} : { about }) }
  const record: BudgetRecord = { format: LEDGER_FORMAT, revision: 1, limits, allotment }
  const free = Object.entries(limits).map(([dimension, limit]) => ({ key: counterKey('free', `${dimension}/${budget}`), value: limit }))
  return {
    check: [budgetKey(budget), ...free.map(({ key }) => key)].map((key) => ({ key, version: 0 })),
    set: [{ key: budgetKey(budget), value: record as never }, ...free, { key: allottedKey(boot, budget), value: 1 }],
  }
}

/** Makes the closing of allotments. */
export function createAllotments(committer: Committer, levels: Levels, boot: string): Allotments {
  const { store } = committer
  /** Orphans by key, and when they were first seen, by `performance.now()`. */
  const orphans = new Map<string, number>()

  async function standingOf(path: string): Promise<Standing | undefined> {
    const [known] = await store.read([budgetKey(path)])
    if (known === null || known === undefined) return undefined
    const { limits, allotment } = known.value as unknown as BudgetRecord
    const dimensions = Object.keys(limits)
    const keys = [budgetKey(path), ...countersOf(path, dimensions)]
    // Its own key again where it is about nothing: `read` wants one.
    const [about, entry, ...found] = await store.read([allotment?.about ?? budgetKey(path), ...keys])
    if (entry === null || entry === undefined) return undefined
    const counters = dimensions.map((dimension, at) => {
      const amounts = COLUMNS.map((column, offset) => [column, Number(found[at * COLUMNS.length + offset]?.value ?? 0)] as const)
      return [dimension, Object.fromEntries(amounts) as Counters] as const
    })
    return {
      record: entry.value as unknown as BudgetRecord,
      version: entry.version,
      counters: Object.fromEntries(counters),
      about: allotment?.about === undefined ? null : about!,
      gone: await goneOf(allotment),
      checks: [entry, ...found].map((one, index) => ({ key: keys[index]!, version: one?.version ?? 0 })),
    }
  }

  /** Money keeps its window; what observe mode let through without any does not. */
  async function goneOf(allotment: BudgetRecord['allotment']): Promise<ReadonlySet<string>> {
    const beside = Object.entries(allotment?.from ?? {}).flatMap(([leg, how]) => {
      const path = pathOf(leg)
      return how === 'over' && parseWindowPath(path) !== undefined ? [{ leg, key: budgetKey(path) }] : []
    })
    const found = beside.length === 0 ? [] : await store.read(beside.map(({ key }) => key))
    return new Set(beside.filter((_, at) => found[at] === null).map(({ leg }) => leg))
  }

  /** What an allotment has, moved to the budgets above that its money came from. */
  function raise(path: string, { record, counters, gone }: Standing, last: boolean): readonly Add[] {
    const rising = (dimension: string) => RISING.filter((column) => counters[dimension]![column] > 0)
    const own = Object.keys(counters).flatMap((dimension) =>
      rising(dimension).map((column) => ({ key: counterKey(column, `${dimension}/${path}`), by: -counters[dimension]![column], min: 0 })),
    )
    const theirs = Object.entries(record.allotment!.from).flatMap(([leg, how]): readonly Add[] => {
      const dimension = dimensionOf(leg)
      const { free, spent, over } = counters[dimension]!
      if (gone.has(leg)) return []
      // Observe mode let it through without the money: what was not spent after all is taken off that again.
      if (how === 'over') return over === free ? [] : [{ key: counterKey('over', leg), by: over - free, min: 0 }]
      return [
        ...(free + spent === 0 ? [] : [{ key: counterKey('kids', leg), by: -(free + spent), min: 0 }]),
        ...rising(dimension).map((column) => ({ key: counterKey(column, leg), by: counters[dimension]![column] })),
      ]
    })
    return last ? theirs : [...own, ...theirs]
  }

  async function close(path: string): Promise<HandoffClosing> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const standing = await standingOf(path)
      if (standing === undefined) throw new HoldfastError('ERR_STORE', `${store.name} has no budget \`${path}\` any more.`)
      const { record, version, counters, about, checks } = standing
      const amounts = (pick: (of: Counters, dimension: string) => number): Amounts =>
        Object.fromEntries(Object.entries(counters).map(([dimension, of]) => [dimension, pick(of, dimension)]))
      const { returned = {}, spent = {} } = record.closed ?? {}
      const totals = {
        returned: amounts(({ free }, dimension) => amountOf(returned, dimension) + free),
        spent: amounts((of, dimension) => amountOf(spent, dimension) + of.spent),
      }
      const all = Object.values(counters)
      const rest = { stillOut: amounts(({ out, kids }) => out + kids), inSuspense: amounts(({ suspense }) => suspense) }
      const last = all.every(({ out, suspense, kids }) => out + suspense + kids === 0)
      if (record.closed !== undefined && all.every((of) => RISING.every((column) => of[column] === 0))) {
        // An earlier closing may not have come so far.
        await follow(parentOf(path))
        return { ...totals, ...rest }
      }
      const closed: BudgetRecord = {
        ...record,
        // What goes up is taken off the limit, so the equation holds whatever ends at the same time.
        limits: amounts(({ free, spent: used }, dimension) => record.limits[dimension]! - free - used),
        closed: totals,
        frozen: 'its handoff was closed',
      }
      const key = budgetKey(path)
      const add = raise(path, standing, last)
      const expiresAtMs = (await store.now()) + CLOSED_TTL_MS
      // The last one removes the counters; what is left of the records says for a while what became of it.
      const result = await committer.commit(
        last
          ? {
              check: checks,
              add,
              delete: [...checks.slice(1).map((check) => check.key), allottedKey(record.allotment!.boot, path)],
              set: [
                { key, value: closed as never, expiresAtMs },
                ...(about === null ? [] : [{ key: about.key, value: about.value, expiresAtMs }]),
              ],
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
      const path = pathOf(key)
      const [entry] = await store.read([budgetKey(path)])
      const record = entry?.value as unknown as BudgetRecord | undefined
      if (record === undefined && parseWindowPath(path) !== undefined) continue
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

  async function abandon(path: string): Promise<HandoffClosing | undefined> {
    const [entry] = await store.read([budgetKey(path)])
    if (entry === null || entry === undefined) return undefined
    const closing = await close(path)
    return (entry.value as unknown as BudgetRecord).closed === undefined ? closing : undefined
  }

  const sweep: Allotments['sweep'] = async (graceMs) => {
    const marks = (await listAll(store, ALLOTTED)).map(({ key }) => key)
    if (marks.length === 0) return []
    const alive = new Set([boot, ...(await listAll(store, 'process/')).map(({ key }) => bootOf(key))])
    const gone = marks.filter((mark) => !alive.has(bootOf(mark)))
    const now = performance.now()
    const still = new Set(gone)
    for (const mark of orphans.keys()) if (!still.has(mark)) orphans.delete(mark)
    for (const mark of gone) if (!orphans.has(mark)) orphans.set(mark, now)
    const ripe = [...orphans].filter(([, seenAtMs]) => now - seenAtMs >= graceMs).slice(0, MAX_ORPHANS)
    for (const [mark] of ripe) {
      // To the end of the line: one that cannot come back whole must not stand in front of the others.
      orphans.delete(mark)
      orphans.set(mark, now - graceMs)
    }
    return closeMarked(ripe.map(([mark]) => mark))
  }

  async function closeMarked(marks: readonly string[]): Promise<readonly ClosedAllotment[]> {
    const closed = []
    for (const mark of marks) {
      const path = markedPath(mark)
      const closing = await abandon(path)
      if (closing !== undefined) closed.push({ path, boot: bootOf(mark), closing })
    }
    return closed
  }

  const closeOwn = async () => closeMarked((await listAll(store, allottedKey(boot, ''))).map(({ key }) => key))

  return { close, follow, risen, abandon, sweep, closeOwn }
}

const bootOf = (key: string): string => key.split('/')[1]!

const markedPath = (mark: string): string => mark.slice(allottedKey(bootOf(mark), '').length)

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/'))

const countersOf = (path: string, dimensions: readonly string[]): readonly string[] =>
  dimensions.flatMap((dimension) => COLUMNS.map((column) => counterKey(column, `${dimension}/${path}`)))
