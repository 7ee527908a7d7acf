// What the ledger ought to say, as arithmetic on plain numbers: no store, no batches, no time but a counter. The
// property test drives it beside the real one and compares the two after every step.

import type { BudgetLine } from '../../src/budget/report.ts'
import type { Amounts } from '../../src/lib/amounts.ts'

/** The columns that are compared. */
export const COMPARED = ['limit', 'free', 'spent', 'suspense', 'out', 'kids', 'assumed', 'over'] as const
type Row = Record<(typeof COMPARED)[number], number>

/** How long a process may be silent: `leaseTtlMs` and its grace. */
export const PATIENCE_MS = 602_000

/** A process of the model. */
export interface ModelProcess {
  readonly observe: boolean
  /** When it last said that it lives; `undefined` while the store has no record of it. */
  renewedAtMs: number | undefined
}

/** A hold of the model. */
export interface ModelHold {
  readonly owner: ModelProcess
  readonly path: string
  readonly amounts: Amounts
  /** By `<dimension>/<path>`. */
  readonly legs: ReadonlyMap<string, { readonly amount: number; readonly over: boolean }>
  /** Where its money is; `nowhere` for an action that held nothing. */
  place: 'out' | 'suspense' | 'charged' | 'ended' | 'nowhere'
}

/** What became of a take. */
export type ModelAnswer =
  | { readonly granted: ModelHold }
  | { readonly refused: 'ERR_BUDGET_EXCEEDED' | 'ERR_BUDGET_BUSY' | 'ERR_BUDGET_FROZEN' }

/** The limits of every path that was declared, `*` included, and of those that follow a shape. */
export type Limits = Record<string, Amounts>

/** The ledger as it ought to be. */
export interface Model {
  nowMs: number
  readonly holds: ModelHold[]
  readonly processes: ModelProcess[]
  readonly limits: Limits
  take(owner: ModelProcess, path: string, amounts: Amounts): ModelAnswer
  /** Takes without asking whether it fits, since the real ledger said so. */
  granted(owner: ModelProcess, path: string, amounts: Amounts): ModelHold
  end(hold: ModelHold, used: Amounts, how: 'settle' | 'charge'): void
  /** What a look by this process at the others does; by a process that is none of them when it is not given. */
  sweep(by?: ModelProcess): void
  /** Gives a declared path, and what follows it, another limit. False when less is free than is taken away. */
  declare(path: string, limits: Amounts): boolean
  rows(): Readonly<Record<string, Row>>
  /** How many records the store ought to have under `hold/`, `suspended/` and `charged/`. */
  records(): readonly number[]
}

/** Every path from the first name down to this one. */
export const levelsOf = (path: string): readonly string[] => path.split('/').map((_, index, names) => names.slice(0, index + 1).join('/'))

const fresh = (limit: number): Row => ({ limit, free: limit, spent: 0, suspense: 0, out: 0, kids: 0, assumed: 0, over: 0 })

/** Makes a model of a store with these budgets, all under the first name. */
export function createModel(limits: Limits): Model {
  const rows = new Map<string, Row>()
  let frozen = false

  const shapeOf = (path: string): string => {
    if (path in limits) return path
    const shape = `${shapeOf(path.slice(0, path.lastIndexOf('/')))}/${path.slice(path.lastIndexOf('/') + 1)}`
    return shape in limits ? shape : shape.replace(/[^/]+$/, '*')
  }
  const keysOf = (path: string): [string, string][] =>
    levelsOf(path).flatMap((level) =>
      Object.keys(limits[shapeOf(level)]!).map((dimension): [string, string] => [dimension, `${dimension}/${level}`]),
    )
  const limitOf = (key: string): number => limits[shapeOf(key.slice(key.indexOf('/') + 1))]![key.slice(0, key.indexOf('/'))]!
  const seen = (key: string): Row => rows.get(key) ?? fresh(limitOf(key))
  const row = (key: string): Row => {
    const found = seen(key)
    rows.set(key, found)
    return found
  }
  const create = (path: string): void => {
    for (const [, key] of keysOf(path)) row(key)
  }
  for (const path of Object.keys(limits)) if (!path.includes('*')) create(path)

  const model: Model = {
    nowMs: 0,
    holds: [],
    processes: [],
    limits,
    take(owner, path, amounts) {
      if (frozen && !owner.observe) return { refused: 'ERR_BUDGET_FROZEN' }
      const needs = keysOf(path).flatMap(([dimension, key]) => ((amounts[dimension] ?? 0) > 0 ? [[key, amounts[dimension]!] as const] : []))
      const fits = (): boolean => needs.every(([key, amount]) => amount <= seen(key).free)
      if (!owner.observe && !fits()) {
        model.sweep(owner)
        const never = needs.some(([key, amount]) => amount > seen(key).free + seen(key).out)
        return { refused: never ? 'ERR_BUDGET_EXCEEDED' : 'ERR_BUDGET_BUSY' }
      }
      return { granted: model.granted(owner, path, amounts) }
    },
    granted(owner, path, amounts) {
      const legs = new Map<string, { amount: number; over: boolean }>()
      for (const [dimension, key] of keysOf(path)) {
        const amount = amounts[dimension] ?? 0
        if (amount > 0) legs.set(key, { amount, over: owner.observe && amount > seen(key).free })
      }
      if (legs.size > 0) {
        owner.renewedAtMs ??= model.nowMs
        create(path)
      }
      for (const [key, { amount, over }] of legs) {
        if (over) row(key).over += amount
        else {
          row(key).free -= amount
          row(key).out += amount
        }
      }
      const hold: ModelHold = { owner, path, amounts, legs, place: legs.size > 0 ? 'out' : 'nowhere' }
      model.holds.push(hold)
      return hold
    },
    end(hold, used, how) {
      const { place, legs, owner, path } = hold
      const all = new Map(legs)
      for (const [dimension, key] of keysOf(path)) if ((used[dimension] ?? 0) > 0 && !all.has(key)) all.set(key, { amount: 0, over: false })
      if (place === 'nowhere' && all.size > 0) {
        owner.renewedAtMs ??= model.nowMs
        create(path)
      }
      for (const [key, { amount, over }] of all) {
        const line = row(key)
        const actual = used[key.slice(0, key.indexOf('/'))] ?? amount
        if (over) {
          line.over += actual - amount
          continue
        }
        const covered = actual - amount <= line.free
        const spent = covered ? actual : Math.min(actual, amount)
        if (!covered && !owner.observe) frozen = true
        if (place === 'charged') {
          line.spent -= amount
          line.assumed -= amount
        } else if (place !== 'nowhere') line[place === 'out' ? 'out' : 'suspense'] -= amount
        line.spent += spent
        line.free += amount - spent
        line.over += actual - spent
        if (how === 'charge') line.assumed += amount
      }
      if (how === 'settle') hold.place = 'ended'
      else if (place !== 'nowhere') hold.place = 'charged'
    },
    sweep(by) {
      for (const process of model.processes) {
        const speaks = process.renewedAtMs !== undefined && model.nowMs < process.renewedAtMs + PATIENCE_MS
        if (process === by || speaks) continue
        for (const hold of model.holds.filter(({ owner, place }) => owner === process && place === 'out')) {
          hold.place = 'suspense'
          for (const [key, { amount, over }] of hold.legs) {
            if (over) continue
            row(key).out -= amount
            row(key).suspense += amount
          }
        }
        process.renewedAtMs = undefined
      }
    },
    declare(path, changed) {
      const followers = [...rows.keys()].filter((key) => shapeOf(key.slice(key.indexOf('/') + 1)) === path)
      const by = (key: string): number => changed[key.slice(0, key.indexOf('/'))]! - row(key).limit
      if (followers.some((key) => row(key).free + by(key) < 0)) return false
      for (const key of followers) {
        const difference = by(key)
        row(key).limit += difference
        row(key).free += difference
      }
      limits[path] = changed
      // A higher revision of the root thaws its tree.
      if (!path.includes('/')) frozen = false
      return true
    },
    rows: () => Object.fromEntries([...rows].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, line]) => [key, { ...line }])),
    records: () => {
      const places = model.holds.map(({ place }) => place)
      return (['out', 'suspense', 'charged'] as const).map((wanted) => places.filter((place) => place === wanted).length)
    },
  }
  return model
}

/** The lines of a real ledger in the shape of the model's. */
export function rowsOf(lines: readonly BudgetLine[]): Readonly<Record<string, Row>> {
  const rows = lines.map(
    (line) => [`${line.dimension}/${line.budget}`, Object.fromEntries(COMPARED.map((column) => [column, line[column]])) as Row] as const,
  )
  return Object.fromEntries(rows.sort(([a], [b]) => (a < b ? -1 : 1)))
}
