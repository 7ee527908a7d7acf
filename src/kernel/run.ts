// A run is what one outermost `scope.enter` or `scope.run` spans. Frameworks swallow errors: a refusal that
// ends the work is therefore remembered for the run, and every later action of it is refused as well, until
// what it rested on has changed.

import { ambient } from '../lib/ambient.ts'
import { Refusal } from '../lib/errors.ts'

/** How long a remembered refusal stands before the store is asked again, ms; a change of the budget ends it sooner. */
const LATCH_MS = 1_000
/** Most budgets that one run remembers refusals of. */
const MAX_LATCHES = 100

/** A budget of a store; another store may have one of the same name. */
export interface LatchedBudget {
  readonly storeId: string
  readonly budget: string
}

interface Latch extends LatchedBudget {
  readonly refusal: Refusal
  readonly untilMs: number
  changed: boolean
  readonly stop: () => void
}

/** One run. */
export interface Run {
  /** The last refusal of the run. */
  refusal: Refusal | undefined
  readonly latches: Map<string, Latch>
}

/** Makes a run that has been refused nothing. */
export function createRun(): Run {
  return { refusal: undefined, latches: new Map() }
}

/** The run that the current task belongs to. */
export function currentRun(): Run | undefined {
  return ambient().run as Run | undefined
}

/** The refusal that this run remembers for one of these budget paths of a store, while it still stands. */
export function latchedRefusal(run: Run, storeId: string, paths: readonly string[]): Refusal | undefined {
  for (const [key, latch] of run.latches) {
    if (latch.storeId !== storeId || !paths.some((path) => path === latch.budget || path.startsWith(`${latch.budget}/`))) continue
    if (!latch.changed && performance.now() < latch.untilMs) {
      return repeated(latch.refusal)
    }
    latch.stop()
    run.latches.delete(key)
  }
  return undefined
}

/** The same refusal, as one that was given before. */
export function repeated(refusal: Refusal): Refusal {
  const { code, message, details } = refusal
  return new Refusal(code, message, { ...details, latched: true }, { cause: refusal })
}

/** Remembers a refusal that ends the work on its budget; `watch` calls back when that budget changes. */
export function latch(run: Run, refusal: Refusal, where: LatchedBudget, watch: (wake: () => void) => () => void): void {
  const key = `${where.storeId}/${where.budget}`
  if (run.latches.size >= MAX_LATCHES && !run.latches.has(key)) return
  run.latches.get(key)?.stop()
  const entry: Latch = { ...where, refusal, untilMs: performance.now() + LATCH_MS, changed: false, stop: () => stopWatching() }
  const stopWatching = watch(() => (entry.changed = true))
  // A watch that outlives its latch would keep the store busy for runs that are long over.
  setTimeout(stopWatching, LATCH_MS).unref()
  run.latches.set(key, entry)
}
