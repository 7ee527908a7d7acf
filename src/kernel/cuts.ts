// What ends an action that is under way: a stop that covers it, or the freeze of a budget that it counts on. Only
// actions that can be cut, streams, listen here; for the others the money is spent anyway.

import { budgetKey, levelsOf, type BudgetRecord } from '../budget/record.ts'
import { Refusal } from '../lib/errors.ts'
import type { Store } from '../stores/store.ts'
import type { ProposedAction } from '../waist/action.ts'
import type { Denial, Gate } from '../waist/gate.ts'
import { STOP_AGE_MS, createStops, type StopSubject, type Stops } from './stops.ts'

/** The actions of a kernel that can be cut. */
export interface Cuts {
  /**
   * Calls `cut` once: when a stop covers the subject, or one of its budgets is frozen. Both are known as soon as `watch`
   * tells, and asked for again every {@link STOP_AGE_MS}. Returns the stop function.
   *
   * @param evenFrozen - A freeze does not cut it, as in observe mode.
   */
  listen(subject: StopSubject, evenFrozen: boolean, cut: (refusal: Refusal) => void): () => void
  /** Listens for nothing any more, and looks for stops no more. */
  stop(): void
}

interface Listener {
  readonly subject: StopSubject
  readonly evenFrozen: boolean
  readonly cut: (refusal: Refusal) => void
}

/**
 * What a kernel knows of stops, and what they cut.
 *
 * @throws {HoldfastError} As {@link createStops}.
 */
export async function createBrakes(
  store: Store,
  onTrouble: (error: unknown) => void,
): Promise<{ readonly stops: Stops; readonly cuts: Cuts }> {
  const stops = await createStops(store, onTrouble)
  return { stops, cuts: createCuts(store, stops, onTrouble) }
}

function createCuts(store: Store, stops: Stops, onTrouble: (error: unknown) => void): Cuts {
  const listeners = new Set<Listener>()
  let stopWatching: (() => void) | undefined
  let looking = false
  let again = false
  let failing = false

  function fire(listener: Listener, refusal: Refusal | undefined): void {
    if (refusal !== undefined && listeners.delete(listener)) listener.cut(refusal)
    rest()
  }

  function obeyStops(): void {
    for (const listener of listeners) fire(listener, stops.refusalFor(listener.subject))
  }

  /** Looks for frozen budgets among those that somebody listens for. */
  async function obeyFreezes(): Promise<void> {
    again = looking
    if (looking) return
    looking = true
    try {
      do {
        again = false
        const asked = [...listeners]
        const frozen = await frozenOf(asked)
        for (const listener of asked) fire(listener, refusalIn(frozen, listener))
      } while (again as boolean)
      failing = false
    } catch (error) {
      if (!failing) onTrouble(error)
      failing = true
    } finally {
      looking = false
    }
  }

  async function frozenOf(all: readonly Listener[]): Promise<ReadonlyMap<string, string>> {
    const paths = [...new Set(all.flatMap(({ subject }) => subject.paths.flatMap(levelsOf)))]
    const frozen = new Map<string, string>()
    for (let at = 0; at < paths.length; at += MAX_READ) {
      for (const [index, entry] of (await store.read(paths.slice(at, at + MAX_READ).map(budgetKey))).entries()) {
        const why = (entry?.value as unknown as BudgetRecord | undefined)?.frozen
        if (why !== undefined) frozen.set(paths[at + index]!, why)
      }
    }
    return frozen
  }

  /** Watches as long as somebody listens. */
  function attend(): void {
    if (stopWatching !== undefined) return
    const unwatch = store.watch('budget/', () => void obeyFreezes())
    const offChange = stops.onChange(obeyStops)
    const asking = setInterval(() => void obeyFreezes(), STOP_AGE_MS)
    asking.unref()
    stopWatching = () => {
      clearInterval(asking)
      unwatch()
      offChange()
    }
  }

  function rest(): void {
    if (listeners.size > 0) return
    stopWatching?.()
    stopWatching = undefined
  }

  return {
    listen(subject, evenFrozen, cut) {
      const listener = { subject, evenFrozen, cut }
      listeners.add(listener)
      attend()
      fire(listener, stops.refusalFor(subject))
      return () => {
        listeners.delete(listener)
        rest()
      }
    },
    stop() {
      listeners.clear()
      rest()
      stops.stop()
    },
  }
}

/** Records in one read. */
const MAX_READ = 1_000

function refusalIn(frozen: ReadonlyMap<string, string>, { subject, evenFrozen }: Listener): Refusal | undefined {
  if (evenFrozen) return undefined
  const path = subject.paths.flatMap(levelsOf).find((level) => frozen.has(level))
  if (path === undefined) return undefined
  return new Refusal('ERR_BUDGET_FROZEN', `Budget \`${path}\` is frozen: ${frozen.get(path)}`, { agent: subject.agent, endsRun: true })
}

/** Lets the gates watch an action that is under way. Returns the stop function. */
export function watchGates(gates: readonly Gate[], action: ProposedAction, cut: (gate: string, denial: Denial) => void): () => void {
  const stops = gates.map((gate) => {
    try {
      return gate.watch?.(action, (denial) => cut(gate.name, denial))
    } catch (error) {
      // As in `decide`: nothing runs past a gate that cannot answer.
      cut(gate.name, { verdict: 'deny', reason: `Gate \`${gate.name}\` could not watch what it allowed: ${String(error)}` })
      return undefined
    }
  })
  return () => stops.forEach((stop) => stop?.())
}
