// The state of a store as a table, and what a batch does to it. Pure: the same batches at the same times
// give the same table, which is what lets many processes fold one journal and agree.

import type { Json } from '../lib/canonical-json.ts'
import { MAX_ENTRIES, type Batch, type BatchResult, type Entry } from './store.ts'

/** What a key holds; immutable, so that a copy of the map is a snapshot. */
export interface Cell {
  readonly value: Json
  readonly version: number
  readonly expiresAtMs?: number
}

/** The changes of one batch: a cell to put, or `null` to remove. */
export type Changes = ReadonlyMap<string, Cell | null>

/** What a batch would do: its result and, when that is `ok`, its changes. */
export interface Evaluation {
  readonly result: BatchResult
  readonly changes: Changes
}

type Lookup = (key: string) => Cell | undefined

const NOTHING: Changes = new Map()

/**
 * Decides a batch on a view of the table, without touching it.
 *
 * @param lookup - The cell of a key, expired ones included.
 * @param nowMs - The time of the batch, Unix ms: it decides what has expired.
 * @param version - The version that the batch gets when it is applied.
 */
export function evaluate(lookup: Lookup, batch: Batch, nowMs: number, version: number): Evaluation {
  const live = (key: string): Cell | undefined => unexpired(lookup(key), nowMs)
  for (const { key, version: expected } of batch.check ?? []) {
    const actual = live(key)?.version ?? 0
    if (actual !== expected) return { result: { outcome: 'conflict', which: key, version: actual }, changes: NOTHING }
  }
  const changes = new Map<string, Cell | null>()
  const values: number[] = []
  for (const { key, by, min, max } of batch.add ?? []) {
    const cell = live(key)
    const value = cell === undefined ? 0 : cell.value
    if (typeof value !== 'number' || !Number.isSafeInteger(value)) return refused(key, 'type', value)
    const sum = value + by
    if (!Number.isSafeInteger(sum)) return refused(key, 'range', value)
    if (min !== undefined && sum < min) return refused(key, 'min', value)
    if (max !== undefined && sum > max) return refused(key, 'max', value)
    changes.set(key, cellOf(sum, version, cell?.expiresAtMs))
    values.push(sum)
  }
  for (const { key, value, expiresAtMs } of batch.set ?? []) {
    changes.set(key, cellOf(value, version, expiresAtMs))
  }
  for (const key of batch.delete ?? []) changes.set(key, null)
  return { result: { outcome: 'ok', version, values }, changes }
}

function refused(which: string, reason: 'min' | 'max' | 'range' | 'type', value: Json): Evaluation {
  return { result: { outcome: 'refused', which, reason, value }, changes: NOTHING }
}

function cellOf(value: Json, version: number, expiresAtMs: number | undefined): Cell {
  return expiresAtMs === undefined ? { value, version } : { value, version, expiresAtMs }
}

function unexpired(cell: Cell | undefined, nowMs: number): Cell | undefined {
  return cell?.expiresAtMs !== undefined && cell.expiresAtMs <= nowMs ? undefined : cell
}

/** A copy of a batch that its caller cannot change any more. The batch is JSON. */
export function copyBatch({ check = [], add = [], set = [], delete: deleted = [] }: Batch): Batch {
  return {
    check: check.map((one) => ({ ...one })),
    add: add.map((one) => ({ ...one })),
    set: set.map((one) => ({ ...one, value: copyJson(one.value) })),
    delete: [...deleted],
  }
}

function copyJson(value: Json): Json {
  if (typeof value !== 'object' || value === null) return value
  if (isArray(value)) return value.map(copyJson)
  // Defines members, where an assignment to `__proto__` would set the prototype.
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, copyJson(member)]))
}

function freeze(value: Json): void {
  if (typeof value !== 'object' || value === null) return
  Object.freeze(value)
  for (const member of isArray(value) ? value : Object.values(value)) freeze(member)
}

function isArray(value: Json): value is readonly Json[] {
  return Array.isArray(value)
}

/** A table of cells that can be listed by prefix. */
export interface Table {
  /** The cell of a key, expired or not. */
  cell(key: string): Cell | undefined
  /** Takes the changes over; their values are frozen, since every reader gets the same ones. */
  put(changes: Changes): void
  /** The entries of these keys, `null` where absent or expired at `nowMs`. @throws {RangeError} For too many keys. */
  read(keys: readonly string[], nowMs: number): readonly (Entry | null)[]
  /** Live entries with this prefix in order of key, after `after`, at most `limit` and {@link MAX_ENTRIES}. */
  list(prefix: string, nowMs: number, options: { readonly after?: string; readonly limit: number }): readonly Entry[]
  /** Drops what has expired. Only for stores whose table nobody else computes. */
  prune(nowMs: number): void
}

/** Makes an empty table. */
export function createTable(): Table {
  // By the first segment of their keys (`free/`, `hold/`): a list touches the keys of its kind, not the whole state.
  const kinds = new Map<string, Map<string, Cell>>()
  const cellsOf = (key: string): Map<string, Cell> | undefined => kinds.get(kindOf(key))

  const put = (key: string, cell: Cell): void => {
    freeze(cell.value)
    const cells = cellsOf(key)
    if (cells === undefined) kinds.set(kindOf(key), new Map([[key, cell]]))
    else cells.set(key, cell)
  }
  const remove = (key: string): void => {
    const cells = cellsOf(key)
    if (cells?.delete(key) === true && cells.size === 0) kinds.delete(kindOf(key))
  }
  const entry = (key: string, cell: Cell | undefined, nowMs: number): Entry | null => {
    const live = unexpired(cell, nowMs)
    return live === undefined ? null : { key, ...live }
  }

  return {
    cell: (key) => cellsOf(key)?.get(key),
    put(changes) {
      for (const [key, cell] of changes) {
        if (cell === null) remove(key)
        else put(key, cell)
      }
    },
    read(keys, nowMs) {
      if (keys.length > MAX_ENTRIES) throw new RangeError(`One read takes up to ${MAX_ENTRIES} keys, got ${keys.length}.`)
      return keys.map((key) => entry(key, cellsOf(key)?.get(key), nowMs))
    },
    list(prefix, nowMs, { after, limit }) {
      if (!Number.isInteger(limit) || limit < 0) throw new RangeError(`Expected \`limit\` to be a whole number from 0, got \`${limit}\`.`)
      const most = Math.min(limit, MAX_ENTRIES)
      const candidates = prefix.includes('/') ? [cellsOf(prefix)] : [...kinds.values()]
      const keys = candidates
        .flatMap((cells) => [...(cells?.keys() ?? [])])
        .filter((key) => key.startsWith(prefix) && (after === undefined || key > after))
        .sort()
      const found: Entry[] = []
      for (const key of keys) {
        if (found.length >= most) break
        const live = entry(key, cellsOf(key)?.get(key), nowMs)
        if (live !== null) found.push(live)
      }
      return found
    },
    prune(nowMs) {
      for (const cells of kinds.values()) for (const [key, cell] of cells) if (unexpired(cell, nowMs) === undefined) remove(key)
    },
  }
}

function kindOf(key: string): string {
  return key.slice(0, key.indexOf('/') + 1)
}
