// A run is what one outermost `scope.enter` or `scope.run` spans. Frameworks swallow errors: a refusal that
// ends the work is therefore remembered for the run, and every later action of it is refused as well, until
// what it rested on has changed.

import { ambient } from '../lib/ambient.ts'
import { Refusal, type BudgetFacts } from '../lib/errors.ts'

/** How long a remembered refusal stands before the store is asked again, ms; a change of the budget ends it sooner. */
const LATCH_MS = 1_000
/** Most budgets that one run remembers refusals of. */
const MAX_LATCHES = 100

interface Latch {
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

/** The refusal that this run remembers for a budget path, while it still stands. */
export function latchedRefusal(run: Run, path: string): Refusal | undefined {
  for (const [budget, latch] of run.latches) {
    if (path !== budget && !path.startsWith(`${budget}/`)) continue
    if (!latch.changed && performance.now() < latch.untilMs) {
      const { code, message, details } = latch.refusal
      return new Refusal(code, message, { ...details, latched: true }, { cause: latch.refusal })
    }
    latch.stop()
    run.latches.delete(budget)
  }
  return undefined
}

/** Remembers a refusal that ends the work on its budget; `watch` tells when that budget changes. */
export function latch(
  run: Run,
  refusal: Refusal,
  budget: string,
  watch: (facts: BudgetFacts | undefined, wake: () => void) => () => void,
): void {
  if (run.latches.size >= MAX_LATCHES && !run.latches.has(budget)) return
  run.latches.get(budget)?.stop()
  const entry: Latch = { refusal, untilMs: performance.now() + LATCH_MS, changed: false, stop: () => stopWatching() }
  const stopWatching = watch(refusal.details.budget, () => (entry.changed = true))
  // A watch that outlives its latch would keep the store busy for runs that are long over.
  setTimeout(stopWatching, LATCH_MS).unref()
  run.latches.set(budget, entry)
}
