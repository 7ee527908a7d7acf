// How a group travels to `apply_1` and its answer back: arrays in the text form of Postgres, which every driver
// passes on as it is, and JSON.

import type { Json } from '../../lib/canonical-json.ts'
import { keyBytes, keyOfBytes } from '../key-bytes.ts'
import type { Batch, BatchResult, Entry } from '../store.ts'

/** A group as arguments of `apply_1`, and what is needed to read its answer. */
export interface EncodedGroup {
  readonly batches: readonly Batch[]
  /** Without repetition; a program names them by their place, from 1. */
  readonly keys: readonly string[]
  /** Of all sets, in order; a program names them by their place, from 1. */
  readonly values: readonly Json[]
  /** Keys, program, amounts, texts. */
  readonly parameters: readonly [keys: string, program: string, amounts: string, texts: string]
}

/** Writes a group. */
export function encodeGroup(batches: readonly Batch[]): EncodedGroup {
  const places = new Map<string, number>()
  const place = (key: string): number => {
    const known = places.get(key)
    if (known !== undefined) return known
    places.set(key, places.size + 1)
    return places.size
  }
  const program: (number | null)[] = []
  const values: Json[] = []
  for (const { check = [], add = [], set = [], delete: deleted = [] } of batches) {
    const start = program.length
    program.push(0, check.length, add.length, set.length, deleted.length)
    for (const { key, version } of check) program.push(place(key), version)
    for (const { key, by, min = -Number.MAX_SAFE_INTEGER, max = Number.MAX_SAFE_INTEGER } of add) program.push(place(key), by, min, max)
    for (const { key, value, expiresAtMs = null } of set) program.push(place(key), values.push(value), expiresAtMs)
    for (const key of deleted) program.push(place(key))
    program[start] = program.length - start
  }
  const keys = [...places.keys()]
  const isAmount = (value: Json): value is number => Number.isSafeInteger(value)
  return {
    batches,
    keys,
    values,
    parameters: [
      encodeKeys(keys),
      `{${program.map((number) => number ?? 'NULL').join(',')}}`,
      `{${values.map((value) => (isAmount(value) ? value : 'NULL')).join(',')}}`,
      `{${values.map((value) => (isAmount(value) ? 'NULL' : quote(JSON.stringify(value)))).join(',')}}`,
    ],
  }
}

/** Keys as an array of bytea. */
export function encodeKeys(keys: readonly string[]): string {
  return `{${keys.map((key) => `"\\\\x${keyBytes(key).toString('hex')}"`).join(',')}}`
}

/** Bytes as a bytea. */
export function encodeBytes(bytes: Buffer): string {
  return `\\x${bytes.toString('hex')}`
}

function quote(text: string): string {
  return `"${text.replaceAll(/["\\]/g, '\\$&')}"`
}

const REASONS = ['min', 'max', 'range', 'type'] as const

/** Reads the results of a group: its numbers, and the texts that refused adds met. */
export function decodeResults(group: EncodedGroup, before: number, numbers: readonly number[], texts: readonly string[]): BatchResult[] {
  let at = 0
  let version = before
  let text = 0
  const next = (): number => numbers[at++]!
  return group.batches.map(({ add = [] }): BatchResult => {
    const code = next()
    if (code === 0) return { outcome: 'ok', version: ++version, values: add.map(next) }
    const which = group.keys[next() - 1]!
    if (code === 1) return { outcome: 'conflict', which, version: next() }
    const reason = REASONS[next()]!
    const found = next()
    if (reason !== 'type') return { outcome: 'refused', which, reason, value: found }
    return { outcome: 'refused', which, reason, value: found > 0 ? group.values[found - 1]! : (JSON.parse(texts[text++]!) as Json) }
  })
}

/** A row of `read_1` or `list_1`. Drivers differ in how they give a bigint. */
export interface Row {
  readonly place: unknown
  readonly version: unknown
  readonly expires_at_ms: unknown
  readonly amount: unknown
  readonly value: unknown
  readonly key: unknown
}

/** The entry of a row. @param key - Where the row does not say it. */
export function entryOf(row: Row, key?: string): Entry {
  const value = row.amount === null ? (JSON.parse(row.value as string) as Json) : Number(row.amount)
  const entry = { key: key ?? keyOfBytes(Buffer.from(row.key as string, 'hex')), value, version: Number(row.version) }
  return row.expires_at_ms === null ? entry : { ...entry, expiresAtMs: Number(row.expires_at_ms) }
}

/** A notification of `apply_1`. */
export interface Notice {
  readonly client: string
  readonly version: number
  /** Keys that changed. Absent: any may have. */
  readonly keys?: readonly string[]
}

/** Reads a notification. One that is none of ours says that everything may have changed. */
export function decodeNotice(payload: string): Notice {
  const [client = '', version, what, ...names] = payload.split('\n')
  const notice = { client, version: Number(version) }
  return what === 'keys' ? { ...notice, keys: names.map((name) => keyOfBytes(unescape(name))) } : notice
}

/** Bytes from the `escape` form of Postgres: bytes beyond ASCII as `\\ooo`, a backslash doubled. */
function unescape(text: string): Buffer {
  return Buffer.from(
    text.replaceAll(/\\(\\|[0-7]{3})/g, (_, code: string) => (code === '\\' ? code : String.fromCharCode(Number.parseInt(code, 8)))),
    'latin1',
  )
}
