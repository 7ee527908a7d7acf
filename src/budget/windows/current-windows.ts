// From a budget to its windows that are current now. The record of the budget names them; when one is over, whoever
// comes first opens the next: under the version of that record, so that all agree and time only moves forward.

import type { Amounts } from '../../lib/amounts.ts'
import { amountOf, isNothing } from '../../lib/amounts.ts'
import { HoldfastError } from '../../lib/errors.ts'
import type { CommitResult } from '../../stores/group.ts'
import type { Store } from '../../stores/store.ts'
import type { Add, Batch, Check, SetKey } from '../../waist/batch.ts'
import type { Level } from '../legs.ts'
import { COLUMNS, LEDGER_FORMAT, budgetKey, pathOfBudgetKey, counterKey, type BudgetRecord } from '../record.ts'
import type { StoreTime } from './store-time.ts'
import { hasLeft, isRolling, parseWindowPath, windowEndsAt, windowIdAt, windowPath, type WindowRecord } from './window.ts'

/** Options of {@link createWindows}. */
export interface WindowsOptions {
  readonly store: Store
  readonly time: StoreTime
  /** Opens windows; without it they are only looked at. */
  readonly commit?: (batch: Batch) => Promise<CommitResult>
}

/** The windows of the budgets of a store. */
export interface Windows {
  /**
   * Those of a budget that are current, as levels of their own. The budget comes first; one that has yet to be
   * created is created with the windows that it has now.
   *
   * @returns `undefined` when the record of the budget has changed: read it again.
   * @throws {HoldfastError} `ERR_DAMAGE` when a current window was lost; `ERR_STORE`.
   */
  of(home: Level): Promise<readonly Level[] | undefined>
  /**
   * Brings what has come back to earlier parts of a rolling window into the one that is current: who was refused there
   * need not wait until the next part begins. Whether anything has changed.
   *
   * @throws {HoldfastError} `ERR_DAMAGE`, `ERR_STORE`
   */
  gather(path: string): Promise<boolean>
}

/** What one window of a budget is to be. */
interface Opening {
  readonly home: Level
  readonly name: string
  readonly window: WindowRecord
  readonly id: string
}

/** So many windows that are over stay to be looked at; older ones go, once nothing is held in them. */
const KEPT = 32
/** Keys that one opening removes, about. */
const ENOUGH_REMOVED = 30
/** How often an opening is sent again when its reply is lost. */
const MAX_SENDS = 6
/** Most that it looks through for them. */
const MAX_LISTED = 200
/** Most budgets that a process remembers the place of. */
const MAX_LOOKS = 10_000

/** Makes the windows. */
export function createWindows({ store, time, commit }: WindowsOptions): Windows {
  /** Who finds that a window is over waits for who found it first. */
  const underway = new Map<string, Promise<void>>()
  /** How far the look for old windows has come, where there are many. */
  const lookedTo = new Map<string, string>()

  async function of(home: Level): Promise<readonly Level[] | undefined> {
    const now = await time.read()
    const moved: Record<string, WindowRecord> = {}
    const levels: Level[] = []
    for (const [name, window] of Object.entries(home.record.windows ?? {})) {
      const id = windowIdAt(window, now)
      // A clock that is behind stays in the window that others have opened.
      const isOpen = window.current !== undefined && id <= window.current
      const opening = { home, name, window, id: isOpen ? window.current : id }
      const path = windowPath(home.path, name, opening.id)
      const endsAtMs = windowEndsAt(window, now)
      if (isOpen) {
        const [entry] = await store.read([budgetKey(path)])
        if (entry === null || entry === undefined) return lost(opening)
        const beside = window.live?.filter((part) => part !== opening.id).map((part) => windowPath(home.path, name, part))
        const level = {
          path,
          record: entry.value as unknown as BudgetRecord,
          version: entry.version,
          shape: path,
          endsAtMs,
          total: window.limits,
        }
        levels.push({ ...level, ...(beside === undefined ? {} : { beside }) })
      } else if (home.version > 0 && commit !== undefined) {
        const first = underway.get(home.path) ?? openNext(opening, commit).finally(() => underway.delete(home.path))
        underway.set(home.path, first)
        await first
        return undefined
      } else {
        // It is made by the take that makes its budget; or by nobody, where one only looks.
        moved[name] = { ...window, current: id, ...(window.rolling === undefined ? {} : { live: [id] }) }
        const carried = window.rolling === undefined ? { limits: window.limits } : await carry(opening)
        if (carried === undefined) return undefined
        levels.push({ path, record: recordOf(carried.limits), version: 0, shape: path, endsAtMs, total: window.limits })
      }
    }
    const record = home.version > 0 ? home.record : { ...home.record, windows: { ...home.record.windows, ...moved } }
    return [{ ...home, record }, ...levels.map((level) => ({ ...level, record: withSlice(level.record, home.record) }))]
  }

  /** A current window without its record is damage, not a new day. */
  async function lost({ home, name, id }: Opening): Promise<undefined> {
    const [entry] = await store.read([budgetKey(home.path)])
    // Others may have opened the next one, and the record that was read is no longer it.
    if (entry?.version !== home.version) return undefined
    throw new HoldfastError(
      'ERR_DAMAGE',
      `The current window \`${windowPath(home.path, name, id)}\` has no record: it was lost. Nothing is taken from \`${home.path}\`.`,
    )
  }

  async function openNext(opening: Opening, send: (batch: Batch) => Promise<CommitResult>): Promise<void> {
    const { home, name, window, id } = opening
    const path = windowPath(home.path, name, id)
    const carried = window.rolling === undefined ? undefined : await carry(opening)
    if (window.rolling !== undefined && carried === undefined) return
    const limits = carried?.limits ?? window.limits
    const live = carried === undefined ? {} : { live: [...carried.live, id] }
    const record: BudgetRecord = { ...home.record, windows: { ...home.record.windows, [name]: { ...window, current: id, ...live } } }
    const counters = Object.entries(limits).map(([dimension, limit]) => ({ key: counterKey('free', `${dimension}/${path}`), value: limit }))
    const batch: Batch = {
      check: [
        { key: budgetKey(home.path), version: home.version },
        ...[budgetKey(path), ...counters.map(({ key }) => key)].map((key) => ({ key, version: 0 })),
        ...(carried?.checks ?? []),
      ],
      add: carried?.adds ?? [],
      set: [
        { key: budgetKey(home.path), value: record as never },
        { key: budgetKey(path), value: recordOf(limits) as never },
        ...counters,
        ...(carried?.sets ?? []),
      ],
      delete: await removal(opening),
    }
    let result = await send(batch)
    // Everybody on this budget waits for it. What was applied after all, or done by somebody else, conflicts.
    for (let sends = 1; result.outcome === 'unknown' && sends < MAX_SENDS; sends++) result = await send(batch)
    if (result.outcome === 'unknown') throw new HoldfastError('ERR_STORE', `${store.name} did not answer.`, { cause: result.cause })
    // The record of the budget is checked first: it says that this window was never opened.
    if (result.outcome !== 'conflict' || ![budgetKey(path), ...counters.map(({ key }) => key)].includes(result.which)) return
    throw new HoldfastError(
      'ERR_DAMAGE',
      `Window \`${path}\` is there in part (${result.which}), but was never opened. Nothing is taken from it.`,
    )
  }

  async function gather(path: string): Promise<boolean> {
    const at = parseWindowPath(path)
    if (at === undefined || commit === undefined) return false
    const [budget, part] = await store.read([budgetKey(at.home), budgetKey(path)])
    const record = budget?.value as unknown as BudgetRecord | undefined
    const window = record?.windows?.[at.name]
    const live = window?.live?.filter((one) => one !== at.id) ?? []
    if (budget === null || part === null || window?.current !== at.id || live.length === 0) return false
    const home = { path: at.home, record: record!, version: budget!.version, shape: at.home }
    const carried = await carry({ home, name: at.name, window: { ...window, live }, id: at.id })
    if (carried === undefined) return true
    if (isNothing(carried.limits)) return false
    const own = part!.value as unknown as BudgetRecord
    const came = Object.entries(carried.limits).filter(([, amount]) => amount > 0)
    const limits = Object.fromEntries(came.map(([dimension, amount]) => [dimension, amountOf(own.limits, dimension) + amount]))
    await commit({
      check: [budget!, part!, ...carried.checks].map(({ key, version }) => ({ key, version })),
      add: [...carried.adds, ...came.map(([dimension, amount]) => ({ key: counterKey('free', `${dimension}/${path}`), by: amount }))],
      set: [...carried.sets, { key: budgetKey(path), value: { ...own, limits: { ...own.limits, ...limits } } }],
    })
    // Or somebody was first, or nobody knows: whoever looks again sees what there is.
    return true
  }

  /**
   * What the parts of a rolling window leave to the next one: what is free in those that still count, and all of
   * those that no longer do. So the limits of all parts that count sum up to that of the window.
   */
  async function carry({ home, name, window, id }: Opening) {
    const parts = window.live ?? []
    const dimensions = Object.keys(window.limits)
    const paths = parts.map((part) => windowPath(home.path, name, part))
    const counters = paths.flatMap((path) => dimensions.map((dimension) => counterKey('free', `${dimension}/${path}`)))
    const entries = parts.length === 0 ? [] : await store.read([...paths.map(budgetKey), ...counters])
    const limits: Record<string, number> = parts.length === 0 ? { ...window.limits } : {}
    const checks: Check[] = []
    const adds: Add[] = []
    const sets: SetKey[] = []
    for (const [index, part] of parts.entries()) {
      const entry = entries[index]
      if (entry === null || entry === undefined) return lost({ home, name, window, id: part })
      const record = entry.value as unknown as BudgetRecord
      checks.push({ key: entry.key, version: entry.version })
      const left: Record<string, number> = {}
      for (const [at, dimension] of dimensions.entries()) {
        const free = Number(entries[parts.length + index * dimensions.length + at]?.value ?? 0)
        const all = amountOf(record.limits, dimension)
        left[dimension] = hasLeft(window, part, id) ? all : free
        limits[dimension] = amountOf(limits, dimension) + left[dimension]
        if (!hasLeft(window, part, id) && free > 0)
          adds.push({ key: counterKey('free', `${dimension}/${paths[index]!}`), by: -free, min: 0 })
      }
      if (hasLeft(window, part, id) || Object.values(left).every((amount) => amount === 0)) continue
      const rest: Amounts = Object.fromEntries(
        dimensions.map((dimension) => [dimension, amountOf(record.limits, dimension) - left[dimension]!]),
      )
      sets.push({ key: entry.key, value: { ...record, limits: rest } })
    }
    return { limits, checks, adds, sets, live: parts.filter((part) => !hasLeft(window, part, id)) }
  }

  /** The keys of windows that are long over, and in which nothing is held any more: nobody can take from them again. */
  async function removal({ home, name, window }: Opening): Promise<readonly string[]> {
    const prefix = budgetKey(windowPath(home.path, name, ''))
    const after = lookedTo.get(prefix)
    const listed = await store.list(prefix, { limit: MAX_LISTED, ...(after === undefined ? {} : { after }) })
    if (lookedTo.size >= MAX_LOOKS) lookedTo.clear()
    lookedTo.delete(prefix)
    const removed: string[] = []
    for (const { key } of listed.slice(0, Math.max(0, listed.length - KEPT))) {
      const path = pathOfBudgetKey(key)
      if (window.live?.includes(path.slice(path.lastIndexOf('/') + 1)) === true || removed.length >= ENOUGH_REMOVED) break
      // Those that hold something for long must not stand in front of the others.
      if (listed.length === MAX_LISTED) lookedTo.set(prefix, key)
      const counters = Object.keys(window.limits).flatMap((dimension) =>
        COLUMNS.map((column) => counterKey(column, `${dimension}/${path}`)),
      )
      const entries = await store.read(counters)
      if (entries.some((entry) => entry !== null && /^(out|suspense|kids)\//.test(entry.key) && Number(entry.value) > 0)) continue
      removed.push(key, ...entries.flatMap((entry) => (entry === null ? [] : [entry.key])))
    }
    return removed
  }

  return { of, gather }
}

/** A window keeps for a last answer what its budget keeps. */
function withSlice(window: BudgetRecord, home: BudgetRecord): BudgetRecord {
  const { wrapUp: _, ...record } = window
  const own = Object.entries(home.wrapUp ?? {}).filter(([dimension]) => Object.hasOwn(record.limits, dimension))
  return own.length === 0 ? record : { ...record, wrapUp: Object.fromEntries(own) }
}

/** The path of the part that a rolling window grants from now, which has taken over what was free in this one; `undefined` for what is none. */
export async function currentPart(store: Store, path: string): Promise<string | undefined> {
  const window = parseWindowPath(path)
  if (window === undefined || !isRolling(window.name)) return undefined
  const [home] = await store.read([budgetKey(window.home)])
  const current = (home?.value as unknown as BudgetRecord | undefined)?.windows?.[window.name]?.current
  return current === undefined ? undefined : windowPath(window.home, window.name, current)
}

const recordOf = (limits: Amounts): BudgetRecord => ({ format: LEDGER_FORMAT, revision: 1, limits })
