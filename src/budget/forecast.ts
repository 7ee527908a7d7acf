// How fast a budget is spent, and when that would be all of it. Measured by the store's own `spent`, which has the
// spending of every process and machine as soon as they report it, between a sample of it that some kernel has left in
// the store (pace.ts) and now. So it goes on across restarts, and says since when it has measured.

import { amountOf, assertAmount, type Amounts } from '../lib/amounts.ts'
import type { Store } from '../stores/store.ts'
import { paceKey, type PaceRecord } from './pace.ts'
import { isHistory, readBudgets, type BudgetLine } from './report.ts'

/** How fast one dimension of one budget is spent; amounts as in the store (`usd` in nano-USD). */
export interface ForecastLine {
  readonly budget: string
  readonly dimension: string
  readonly free: number
  /** Since when it is measured, Unix ms by the clock of the store; now, when nothing was measured yet. */
  readonly sinceMs: number
  /** Spent in an hour at the pace since then, rounded up; 0 when nothing was. Absent when there is less than a minute to go by. */
  readonly perHour?: number
  /**
   * When all that is free or held now would be spent at this pace, Unix ms. Absent when nothing was spent since, and
   * when it is more than 100 years away.
   */
  readonly exhaustedAtMs?: number
}

/** What a budget had spent at some moment. */
export type Sample = {
  /** Unix ms, by the clock of the store. */
  readonly atMs: number
  readonly spent: Amounts
}

/** One dimension of a budget as it is now. */
export interface Now {
  readonly dimension: string
  readonly nowMs: number
  readonly spent: number
  /** What may still be spent of it: what is free or held, less what a lowered limit waits for. */
  readonly left: number
}

const HOUR_MS = 3_600_000
/** How far back a forecast looks, ms. */
export const LOOK_BACK_MS: number = HOUR_MS
/** How far back it can look, ms: samples are kept for as long. */
export const MAX_LOOK_BACK_MS: number = 24 * HOUR_MS
/** Less than this is no pace, ms. */
const MIN_SPAN_MS = 60_000
const MAX_AHEAD_MS = 100 * 365 * 24 * HOUR_MS

/**
 * The pace since the oldest sample within the look-back; since the newest one before it, where there is none within.
 *
 * @param samples - In order of time.
 */
export function paceOf(
  samples: readonly Sample[],
  { dimension, nowMs, spent, left }: Now,
  lookBackMs: number = LOOK_BACK_MS,
): Pick<ForecastLine, 'sinceMs' | 'perHour' | 'exhaustedAtMs'> {
  const known = samples.filter((sample) => Object.hasOwn(sample.spent, dimension))
  const old = known.filter(({ atMs }) => nowMs - atMs >= MIN_SPAN_MS)
  const since = old.find(({ atMs }) => atMs >= nowMs - lookBackMs) ?? old.at(-1)
  if (since === undefined) return { sinceMs: Math.min(nowMs, known[0]?.atMs ?? nowMs) }
  // A charge that was corrected makes it less than it was.
  const used = Math.max(0, spent - amountOf(since.spent, dimension))
  if (used === 0) return { sinceMs: since.atMs, perHour: 0 }
  const spanMs = nowMs - since.atMs
  const perHour = Math.min(Number.MAX_SAFE_INTEGER, Math.ceil((used * HOUR_MS) / spanMs))
  const aheadMs = Math.floor((Math.max(0, left) * spanMs) / used)
  return { sinceMs: since.atMs, perHour, ...(aheadMs > MAX_AHEAD_MS ? {} : { exhaustedAtMs: nowMs + aheadMs }) }
}

/**
 * The pace of all budgets, or of those at or below `path`, in order of path.
 *
 * @param lookBackMs - From a minute to a day. @default an hour
 * @throws {RangeError} For another look-back.
 * @throws {HoldfastError} `ERR_STORE`
 */
export async function readForecast(store: Store, path?: string, lookBackMs: number = LOOK_BACK_MS): Promise<readonly ForecastLine[]> {
  assertAmount('lookBackMs', lookBackMs)
  if (lookBackMs < MIN_SPAN_MS || lookBackMs > MAX_LOOK_BACK_MS)
    throw new RangeError(`Expected \`lookBackMs\` to be from ${MIN_SPAN_MS} to ${MAX_LOOK_BACK_MS} (a day), got ${lookBackMs}.`)
  return forecastOf(
    store,
    (await readBudgets(store, path)).filter((line) => !isHistory(line)),
    lookBackMs,
  )
}

/** The same for lines that were just read. @throws {HoldfastError} `ERR_STORE` */
export async function forecastOf(
  store: Store,
  lines: readonly BudgetLine[],
  lookBackMs: number = LOOK_BACK_MS,
): Promise<readonly ForecastLine[]> {
  const paths = [...new Set(lines.map(({ budget }) => budget))]
  if (paths.length === 0) return []
  const nowMs = await store.now()
  const records = await store.read(paths.map(paceKey))
  const samples = new Map(paths.map((budget, index) => [budget, (records[index]?.value as PaceRecord | undefined)?.samples ?? []]))
  return lines.map(({ budget, dimension, free, spent, out, pendingCut = 0 }) => {
    const now = { dimension, nowMs, spent, left: free + out - pendingCut }
    return { budget, dimension, free, ...paceOf(samples.get(budget)!, now, lookBackMs) }
  })
}
