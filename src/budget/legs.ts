// The arithmetic of the ledger, without a store: which counters an action touches, and what taking, ending or
// losing it does to them. One leg is one dimension of one level of the path.

import { amountOf, type Amounts } from '../lib/amounts.ts'
import type { Add } from '../waist/batch.ts'
import { counterKey, type BudgetRecord } from './record.ts'
import { homeOf } from './windows/window.ts'

/** One level of a budget path, as it is known to this process. */
export interface Level {
  readonly path: string
  readonly record: BudgetRecord
  /** Version of the record; `0` when the first take has to create it from its shape. */
  readonly version: number
  /** The declared path that it follows: its own, or one with `*` in it. */
  readonly shape: string
  /** Version of the record of its shape, for a level that has to be created from it. */
  readonly shapeVersion?: number
  /** Of a window: when it is over, Unix ms by the store's clock. */
  readonly endsAtMs?: number
  /** Of a window: what it is declared with; one that rolls is kept in parts. */
  readonly total?: Amounts
  /** Of a window that rolls: paths of its earlier parts. What is held there comes back to it too. */
  readonly beside?: readonly string[]
}

/** What one action holds in one dimension of one level. */
export interface Leg {
  /** `usd/acme/report-7`, the end of its counters' keys. */
  readonly key: string
  readonly dimension: string
  readonly level: Level
  readonly amount: number
  /** Observe mode: it did not fit, so it is counted beside the equation. */
  readonly over: boolean
  /** What is not for this action, and stays free: what a lowered limit waits for, and the slice for a last answer. */
  readonly kept: number
}

/**
 * The legs of an action: every dimension that a level limits and the action uses.
 *
 * @param wrapUp - It may use what is kept for a last answer.
 */
export function legsOf(levels: readonly Level[], amounts: Amounts, over: ReadonlySet<string>, wrapUp = false): readonly Leg[] {
  return limitedBy(levels)
    .filter(({ dimension }) => amountOf(amounts, dimension) > 0)
    .map(({ dimension, level }) => {
      const key = `${dimension}/${level.path}`
      const kept = wrapUp ? cutOf(level, dimension) : keptOf(level, dimension)
      return { key, dimension, level, amount: amounts[dimension]!, over: over.has(key), kept }
    })
}

/** What binds on a path: where an allotment came from, its dimensions were counted when it was made. */
function limitedBy(levels: readonly Level[]): readonly { readonly dimension: string; readonly level: Level }[] {
  const allotted = levels.filter(({ record }) => record.allotment !== undefined)
  const isCounted = ({ path }: Level, dimension: string): boolean =>
    allotted.some(
      ({ path: own, record: { limits, allotment } }) =>
        Object.hasOwn(limits, dimension) &&
        own !== path &&
        (own.startsWith(`${homeOf(path)}/`) || Object.keys(allotment!.from).some((leg) => isOf(leg, dimension, path))),
    )
  return levels.flatMap((level) =>
    Object.keys(level.record.limits)
      .filter((dimension) => allotted.length === 0 || !isCounted(level, dimension))
      .map((dimension) => ({ dimension, level })),
  )
}

/** Whether a leg is one of this dimension of a budget, or of any of its windows. */
const isOf = (leg: string, dimension: string, path: string): boolean =>
  dimensionOf(leg) === dimension && homeOf(leg.slice(dimension.length + 1)) === homeOf(path)

/** The dimensions that bind on a path. */
export const limitedDimensions = (levels: readonly Level[]): ReadonlySet<string> =>
  new Set(limitedBy(levels).map(({ dimension }) => dimension))

/** Takes the legs from `free` into a column; the whole batch is refused when one of them does not fit. */
export function takeAdds(legs: readonly Leg[], levels: readonly Level[], column: 'out' | 'kids'): readonly Add[] {
  const taken = legs.flatMap(({ key, level, dimension, amount, over, kept }) => {
    if (over) return [{ key: counterKey('over', key), by: amount }]
    return [
      { key: counterKey('free', key), by: startOf(level, dimension) - amount, min: kept },
      { key: counterKey(column, key), by: amount },
    ]
  })
  const fitting = new Set(legs.filter(({ over }) => !over).map(({ key }) => key))
  // What the action does not use, or what did not fit, starts from its limit too.
  const untouched = levels
    .filter(({ version }) => version === 0)
    .flatMap((level) =>
      Object.keys(level.record.limits)
        .filter((dimension) => !fitting.has(`${dimension}/${level.path}`))
        .map((dimension) => ({ key: counterKey('free', `${dimension}/${level.path}`), by: startOf(level, dimension) })),
    )
  return [...taken, ...untouched]
}

/** What is free after a take, from the values of its adds; nothing when an earlier try was the one that was applied. */
export function leftOf(
  legs: readonly Leg[],
  values: readonly number[],
): readonly { readonly level: Level; readonly dimension: string; readonly free: number }[] {
  let at = 0
  const left = []
  for (const { level, dimension, over } of legs) {
    const free = values[at]
    // As in `takeAdds`: one add for what is over, else two.
    at += over ? 1 : 2
    if (!over && free !== undefined) left.push({ level, dimension, free })
  }
  return left
}

/** A level that is created by a take starts from its limit: its `free` is absent, so it counts as 0. */
function startOf({ version, record }: Level, dimension: string): number {
  return version === 0 ? record.limits[dimension]! : 0
}

/** What a lowered limit still waits for, in one dimension of a level. */
export const cutOf = ({ record: { cut } }: Level, dimension: string): number => (cut === undefined ? 0 : amountOf(cut, dimension))

/** What stays free in one dimension of a level, whatever is asked for: that, and the slice for a last answer. */
export const keptOf = (level: Level, dimension: string): number =>
  cutOf(level, dimension) + (level.record.wrapUp === undefined ? 0 : amountOf(level.record.wrapUp, dimension))

/** A held leg as it lies in the hold's record. */
export interface HeldLeg {
  readonly amount: number
  readonly over?: true
}

/** Held legs by key, as the store keeps them. */
export type HeldLegs = Readonly<Record<string, HeldLeg>>

/** What the hold's record keeps of its legs. */
export function heldLegs(legs: readonly Leg[]): HeldLegs {
  return Object.fromEntries(legs.map(({ key, amount, over }) => [key, over ? { amount, over } : { amount }]))
}

/** The dimension of a leg's key. */
export const dimensionOf = (key: string): string => key.slice(0, key.indexOf('/'))

/** The path of a leg's key. */
export const pathOf = (key: string): string => key.slice(key.indexOf('/') + 1)

/** What legs hold, by dimension: each level of a path holds the same. */
export const amountsOf = (legs: HeldLegs): Amounts =>
  Object.fromEntries(Object.entries(legs).map(([key, { amount }]) => [dimensionOf(key), amount]))

/** The legs of an action on the same levels as these; those of dimensions that it does not use are left out. */
export const legsLike = (legs: HeldLegs, amounts: Amounts): HeldLegs =>
  Object.fromEntries(
    Object.keys(legs).flatMap((key) => {
      const amount = amountOf(amounts, dimensionOf(key))
      return amount === 0 ? [] : [[key, { amount }]]
    }),
  )

/** Legs for what was used and is limited, but was not held: all of it is an overrun. */
export function unheldLegs(levels: readonly Level[], held: HeldLegs, used: Amounts): HeldLegs {
  const dimensions = new Set(Object.keys(held).map(dimensionOf))
  const keys = limitedBy(levels)
    .filter(({ dimension }) => amountOf(used, dimension) > 0)
    // What was held counts in the window that granted it, and not in the one of whoever ends it later.
    .filter(({ dimension, level }) => level.endsAtMs === undefined || !dimensions.has(dimension))
    .map(({ dimension, level }) => `${dimension}/${level.path}`)
  return Object.fromEntries(keys.filter((key) => !(key in held)).map((key) => [key, { amount: 0 }]))
}

/** How a hold ends. */
export interface Ending {
  /** What it used, by dimension; a held dimension that is missing counts as used up. */
  readonly used: Amounts
  /** True when `used` is the worst case and nobody knows better. */
  readonly assumed: boolean
  /** Where the money lies: `out`, or `suspense` when the process was taken for dead, or `spent` for a correction. */
  readonly from: 'out' | 'suspense' | 'spent'
  /** Legs whose overrun found no free money: it is counted in `over`, and the tree freezes. */
  readonly unabsorbed: ReadonlySet<string>
  /** Legs whose `over` is full. */
  readonly uncounted: ReadonlySet<string>
}

/** Moves held legs to where they belong: `spent`, and the rest back to `free`. */
export function endAdds(legs: HeldLegs, { used, assumed, from, unabsorbed, uncounted }: Ending): readonly Add[] {
  const adds: Add[] = []
  for (const [key, { amount, over }] of Object.entries(legs)) {
    const actual = Object.hasOwn(used, dimensionOf(key)) ? used[dimensionOf(key)]! : amount
    const move = (column: 'free' | 'spent' | 'out' | 'suspense' | 'assumed' | 'over', by: number): void => {
      if (by !== 0) adds.push({ key: counterKey(column, key), by, ...(by < 0 || column === 'free' ? { min: 0 } : {}) })
    }
    if (over === true) {
      move('over', actual - amount)
      continue
    }
    const spent = unabsorbed.has(key) ? Math.min(actual, amount) : actual
    if (from === 'spent') {
      move('spent', spent - amount)
      move('assumed', -amount)
    } else {
      move(from, -amount)
      move('spent', spent)
      if (assumed) move('assumed', amount)
    }
    move('free', amount - spent)
    if (!uncounted.has(key)) move('over', actual - spent)
  }
  return adds
}

/** Moves the legs of a process that is taken for dead from `out` to `suspense`. */
export function suspendAdds(legs: HeldLegs): readonly Add[] {
  return Object.entries(legs)
    .filter(([, { over }]) => over !== true)
    .flatMap(([key, { amount }]) => [
      { key: counterKey('out', key), by: -amount, min: 0 },
      { key: counterKey('suspense', key), by: amount },
    ])
}

/** Adds up batches that touch the same counters, so that each key is named once. Bounds must agree. */
export function mergeAdds(adds: readonly Add[]): readonly Add[] {
  const merged = new Map<string, Add>()
  for (const add of adds) {
    const known = merged.get(add.key)
    merged.set(add.key, known === undefined ? add : { ...known, by: known.by + add.by })
  }
  return [...merged.values()]
}

/** The amounts of a call with this many output tokens. */
export function amountsWith(fixed: Amounts, perToken: Amounts, tokens: number): Amounts {
  const amounts: Record<string, number> = { ...fixed }
  for (const [dimension, each] of Object.entries(perToken)) amounts[dimension] = amountOf(amounts, dimension) + each * tokens
  return amounts
}
