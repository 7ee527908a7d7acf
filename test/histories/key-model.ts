// What one key of a store does when operations come one after the other: the sequential model of the search.
//
// It is written from the contract in src/stores/store.ts, not from the code of a store. A batch that names other
// keys too is seen as what it did to this one; that its parts happened together is checked elsewhere (linearizable.ts
// for whole snapshots, cycles.ts for transactions).

import { canonicalJson, type Json } from '../../src/lib/canonical-json.ts'
import type { Add, Batch, Entry } from '../../src/stores/store.ts'
import type { Answer } from './history.ts'

/** What a key holds. */
export interface KeyState {
  /** `undefined` for an absent key. */
  readonly value: Json | undefined
  /** 0 for an absent key; `null` when its writer never learned it, until somebody sees it. */
  readonly version: number | null
  /** Every later version is higher. */
  readonly high: number
}

/** What an operation did to, or saw of, one key. Several of them are one group, done in order. */
export type Part =
  | { readonly kind: 'read'; readonly entry: Entry | null }
  /** The key had this version. */
  | { readonly kind: 'passed'; readonly expected: number }
  /** The key had another version than expected: this one. */
  | { readonly kind: 'conflict'; readonly expected: number; readonly version: number }
  /** The add was within its bounds; nothing was written since another part of its batch was refused. */
  | { readonly kind: 'fits'; readonly add: Add }
  | { readonly kind: 'refused'; readonly add: Add; readonly reason: 'min' | 'max' | 'range' | 'type'; readonly value: Json }
  /** `version` and `value` are absent where the writer did not learn them. */
  | { readonly kind: 'add'; readonly add: Add; readonly version?: number; readonly value?: number }
  | { readonly kind: 'set'; readonly value: Json; readonly version?: number }
  | { readonly kind: 'delete'; readonly version?: number }

/** A key that was never written. */
export const ABSENT: KeyState = { value: undefined, version: 0, high: 0 }

/** What one batch meant to one key, by its answer; `null` stands for a batch that took effect without an answer. */
export function partsOf(key: string, batch: Batch, answer: Answer | null): readonly Part[] {
  const { check = [], add = [], set = [], delete: deleted = [] } = batch
  const named = <T extends { readonly key: string }>(list: readonly T[]): readonly T[] => list.filter((one) => one.key === key)
  const passed = (list: typeof check): readonly Part[] => named(list).map(({ version }) => ({ kind: 'passed', expected: version }))
  if (answer?.outcome === 'conflict') {
    const at = check.findIndex(({ key, version }) => key === answer.which && version !== answer.version)
    const before = passed(at < 0 ? [] : check.slice(0, at))
    if (answer.which !== key) return before
    // A conflict that nothing explains passes no state: what it expected is what it says it met.
    return [...before, { kind: 'conflict', expected: check[at]?.version ?? answer.version, version: answer.version }]
  }
  if (answer?.outcome === 'refused') {
    const at = add.findIndex((one) => one.key === answer.which)
    const before = named(add.slice(0, Math.max(0, at))).map((one): Part => ({ kind: 'fits', add: one }))
    if (answer.which !== key) return [...passed(check), ...before]
    return [...passed(check), ...before, { kind: 'refused', add: add[at]!, reason: answer.reason, value: answer.value }]
  }
  const version = answer === null ? {} : { version: answer.version }
  return [
    ...passed(check),
    ...add.flatMap((one, index): readonly Part[] => {
      const value = answer?.values?.[index]
      return one.key === key ? [{ kind: 'add', add: one, ...version, ...(value === undefined ? {} : { value }) }] : []
    }),
    ...named(set).map(({ value }): Part => ({ kind: 'set', value, ...version })),
    ...deleted.filter((one) => one === key).map((): Part => ({ kind: 'delete', ...version })),
  ]
}

/**
 * The state after a part, or `undefined` where the part could not have happened in this state.
 *
 * @param known - Versions that acknowledged batches got: nobody else's write has one of them.
 */
export function applyPart(state: KeyState, part: Part, known: ReadonlySet<number>): KeyState | undefined {
  switch (part.kind) {
    case 'read':
      if (part.entry === null) return state.value === undefined ? state : undefined
      if (state.value === undefined || !sameJson(state.value, part.entry.value)) return undefined
      return withVersion(state, part.entry.version, known)
    case 'passed':
      return withVersion(state, part.expected, known)
    case 'conflict':
      return part.version === part.expected ? undefined : withVersion(state, part.version, known)
    case 'fits':
      return typeof sumOf(state, part.add) === 'number' ? state : undefined
    case 'refused':
      return sumOf(state, part.add) === part.reason && sameJson(state.value ?? 0, part.value) ? state : undefined
    case 'add': {
      const sum = sumOf(state, part.add)
      if (typeof sum !== 'number' || (part.value !== undefined && part.value !== sum)) return undefined
      return written(state, sum, part.version)
    }
    case 'set':
      return written(state, part.value, part.version)
    case 'delete':
      return written(state, undefined, part.version)
    default:
      return undefined
  }
}

/** The state as a text. */
export function textOf({ value, version, high }: KeyState): string {
  return `${value === undefined ? '' : canonicalJson(value)}@${version ?? '?'}>${high}`
}

/** What an add comes to, or why it is refused. */
function sumOf({ value = 0 }: KeyState, { by, min, max }: Add): number | 'min' | 'max' | 'range' | 'type' {
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) return 'type'
  const sum = value + by
  if (!Number.isSafeInteger(sum)) return 'range'
  if (min !== undefined && sum < min) return 'min'
  return max !== undefined && sum > max ? 'max' : sum
}

/** The state in which the key has this version, if it can be that one. */
function withVersion(state: KeyState, version: number, known: ReadonlySet<number>): KeyState | undefined {
  if (state.version !== null) return state.version === version ? state : undefined
  return version > state.high && !known.has(version) ? { ...state, version, high: version } : undefined
}

function written(state: KeyState, value: Json | undefined, version: number | undefined): KeyState | undefined {
  if (version !== undefined && version <= state.high) return undefined
  const high = version ?? state.high
  return { value, version: value === undefined ? 0 : (version ?? null), high }
}

function sameJson(a: Json, b: Json): boolean {
  return a === b || canonicalJson(a) === canonicalJson(b)
}
