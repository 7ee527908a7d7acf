// Samples of what budgets have spent, left in the store by whoever sweeps it: one key for each budget that is in use,
// written every five minutes by one of all processes, and gone a day after the last of them.

import type { Committer } from '../stores/group.ts'
import type { Sample } from './forecast.ts'
import { isRate } from './windows/window.ts'
import { LEDGER_FORMAT, budgetKey, pathOfBudgetKey, counterKey, isShape, type BudgetRecord } from './record.ts'

/** The samples of one budget, in order of time. */
export type PaceRecord = { readonly format: typeof LEDGER_FORMAT; readonly samples: readonly Sample[] }

/** The key of the samples of a budget. */
export const paceKey = (path: string): string => `pace/${path}`

/** Between two samples of a budget, whoever takes them, ms. */
export const SAMPLE_MS: number = 300_000
const HOUR_MS = 3_600_000
const KEPT_MS = 24 * HOUR_MS
/** Most budgets that one look samples; the next look goes on with the others. */
const MAX_BUDGETS = 100
/** Most budgets that are remembered as not due. */
const MAX_REMEMBERED = 10_000

/**
 * Makes the sampler of a process. Each call samples those of the budgets in use that are due; the first one takes what
 * the store has, so that a program which does not run for long is seen too.
 *
 * @param used - The budgets that this process uses.
 */
export function createPace(committer: Committer, used: () => readonly string[]): () => Promise<void> {
  const { store } = committer
  /** When a budget may be due again, by `performance.now()`. */
  const notBefore = new Map<string, number>()
  let isFirst = true

  async function candidates(): Promise<readonly string[]> {
    const found = [...used()]
    if (isFirst) found.push(...(await store.list(budgetKey(''), { limit: MAX_BUDGETS })).map(({ key }) => pathOfBudgetKey(key)))
    isFirst = false
    const now = performance.now()
    return [...new Set(found)]
      .filter((path) => !isShape(path) && !isRate(path) && (notBefore.get(path) ?? -Infinity) <= now)
      .slice(0, MAX_BUDGETS)
  }

  return async () => {
    const paths = await candidates()
    if (paths.length === 0) return
    if (notBefore.size > MAX_REMEMBERED) notBefore.clear()
    const nowMs = await store.now()
    const records = await store.read(paths.flatMap((path) => [budgetKey(path), paceKey(path)]))
    const due = paths.flatMap((path, index) => {
      const record = records[2 * index]?.value as unknown as BudgetRecord | undefined
      const known = records[2 * index + 1]
      const samples = (known?.value as PaceRecord | undefined)?.samples ?? []
      const inMs = (samples.at(-1)?.atMs ?? -Infinity) + SAMPLE_MS - nowMs
      notBefore.set(path, performance.now() + (inMs > 0 ? inMs : SAMPLE_MS))
      // The budget of a handoff is there for one piece of work.
      const isDue = inMs <= 0 && record !== undefined && record.allotment === undefined
      return isDue ? [{ path, dimensions: Object.keys(record.limits), samples, version: known?.version ?? 0 }] : []
    })
    if (due.length === 0) return
    const legs = due.flatMap(({ path, dimensions }) => dimensions.map((dimension) => `${dimension}/${path}`))
    const counters = await store.read(legs.map((leg) => counterKey('spent', leg)))
    const spent = new Map(legs.map((leg, index) => [leg, Number(counters[index]?.value ?? 0)]))
    // Each by itself: together they travel all the same. A conflict is somebody else's sample.
    await Promise.all(due.map((one) => write(one, nowMs, spent)))
  }

  async function write({ path, dimensions, samples, version }: Due, nowMs: number, spent: ReadonlyMap<string, number>): Promise<void> {
    const own = Object.fromEntries(dimensions.map((dimension) => [dimension, spent.get(`${dimension}/${path}`)!]))
    const value: PaceRecord = { format: LEDGER_FORMAT, samples: thinned([...samples, { atMs: nowMs, spent: own }], nowMs) }
    const key = paceKey(path)
    await committer.commit({ check: [{ key, version }], set: [{ key, value, expiresAtMs: nowMs + KEPT_MS }] })
  }
}

interface Due {
  readonly path: string
  readonly dimensions: readonly string[]
  readonly samples: readonly Sample[]
  readonly version: number
}

/** All samples of the last hour, and one for each hour of the day before. */
export function thinned(samples: readonly Sample[], nowMs: number): readonly Sample[] {
  const hourOf = ({ atMs }: Sample): number => Math.floor(atMs / HOUR_MS)
  return samples.filter((one, index) => {
    const ageMs = nowMs - one.atMs
    if (ageMs <= HOUR_MS + SAMPLE_MS) return true
    return ageMs <= KEPT_MS && (index === 0 || hourOf(samples[index - 1]!) !== hourOf(one))
  })
}
