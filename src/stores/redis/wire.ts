// How batches and entries cross to Redis: one JSON text each way. Whole numbers in it are exact up to 2^53 on both
// sides; values are texts inside the text, so that nothing there reads them.

import type { Json } from '../../lib/canonical-json.ts'
import type { Batch, BatchResult, Entry } from '../store.ts'

/** A cell as it lies in Redis: `[version, expiresAtMs or 0, value]`. */
export type RedisCell = readonly [version: number, expiresAtMs: number, value: Json]

/** What the script answers for a batch: the values of its adds, or which check or add broke it, by position. */
export type RedisAnswer =
  | readonly number[]
  | { readonly conflict: number; readonly version: number }
  | { readonly refused: number; readonly reason: 'min' | 'max' | 'range' | 'type'; readonly value: Json }

/** A group on its way. */
export interface RedisGroup {
  readonly request: string
  /** For those who watch: the keys that it writes as JSON, or nothing when they are many. */
  readonly message: string
}

/** Most keys that a message names; beyond, everybody wakes. */
const MAX_MESSAGE_KEYS = 64
/** Most characters of a message. */
const MAX_MESSAGE_LENGTH = 4_096
// Beyond every sum that is not refused anyway.
const NO_BOUND = 2 ** 53

// Redis compares the bytes of UTF-8, where what takes four bytes (two code units, from d800) comes after U+E000 to
// U+FFFF; in code units it comes before. So those get the last code point of all in front, and that one a mark.
const LAST = '\u{10ffff}'
const DISPLACED = /[\ue000-\uffff]|\udbff\udfff/
const DISPLACED_ALL = /[\ue000-\uffff]|\u{10ffff}/gu

/** The name of a key in Redis: its bytes are in the order of the UTF-16 code units of the key. */
export function encodeKey(key: string): string {
  return DISPLACED.test(key) ? key.replace(DISPLACED_ALL, (found) => (found === LAST ? `${LAST}!` : LAST + found)) : key
}

/** The key of a name in Redis. */
export function decodeKey(name: string): string {
  return DISPLACED.test(name) ? name.replace(/\u{10ffff}([^])/gu, (_, found: string) => (found === '!' ? LAST : found)) : name
}

/**
 * The bounds of a list as ZRANGEBYLEX takes them.
 *
 * @throws {TypeError} For half of a surrogate pair, which no key has and UTF-8 cannot say.
 */
export function boundsOf(prefix: string, after?: string): readonly [from: string, upto: string] {
  for (const text of [prefix, after ?? '']) {
    if (!text.isWellFormed())
      throw new TypeError(`Expected text without half of a surrogate pair, got ${JSON.stringify(text.slice(0, 80))}.`)
  }
  // The mark never follows itself in a name, so this is beyond every name with the prefix.
  const upto = `(${encodeKey(prefix)}${LAST}${LAST}`
  return after !== undefined && after >= prefix ? [`(${encodeKey(after)}`, upto] : [`[${encodeKey(prefix)}`, upto]
}

/** Writes batches for the script: the names of their keys, and operations that point to them, counted from 1. */
export function encodeGroup(batches: readonly Batch[]): RedisGroup {
  const numbers = new Map<string, number>()
  const written = new Set<string>()
  const operations: (number | string)[] = []
  const numberOf = (key: string): number => {
    let number = numbers.get(key)
    if (number === undefined) numbers.set(key, (number = numbers.size + 1))
    return number
  }
  const writes = (key: string): number => {
    if (written.size <= MAX_MESSAGE_KEYS) written.add(key)
    return numberOf(key)
  }
  for (const { check = [], add = [], set = [], delete: deleted = [] } of batches) {
    const length = 5 + 2 * check.length + 4 * add.length + 3 * set.length + deleted.length
    operations.push(length, check.length, add.length, set.length, deleted.length)
    for (const { key, version } of check) operations.push(numberOf(key), version)
    for (const { key, by, min = -NO_BOUND, max = NO_BOUND } of add) operations.push(writes(key), by, min, max)
    // 0 would mean never; 1 ms after it is as long ago.
    for (const { key, value, expiresAtMs } of set)
      operations.push(writes(key), JSON.stringify(value), expiresAtMs === undefined ? 0 : Math.max(1, expiresAtMs))
    for (const key of deleted) operations.push(writes(key))
  }
  const message = written.size > MAX_MESSAGE_KEYS ? '' : JSON.stringify([...written])
  return {
    request: JSON.stringify([[...numbers.keys()].map(encodeKey), operations]),
    message: message.length > MAX_MESSAGE_LENGTH ? '' : message,
  }
}

/** Reads the answers of a group; `version` is the store's after it. */
export function readAnswers(batches: readonly Batch[], version: number, answers: readonly RedisAnswer[]): readonly BatchResult[] {
  let next = version - answers.filter((answer) => isValues(answer)).length
  return answers.map((answer, index): BatchResult => {
    const { check, add } = batches[index]!
    if (isValues(answer)) return { outcome: 'ok', version: ++next, values: answer }
    if ('conflict' in answer) return { outcome: 'conflict', which: check![answer.conflict]!.key, version: answer.version }
    return { outcome: 'refused', which: add![answer.refused]!.key, reason: answer.reason, value: answer.value }
  })
}

function isValues(answer: RedisAnswer): answer is readonly number[] {
  return Array.isArray(answer)
}

/** The entry of a cell. */
export function entryOf(key: string, [version, expiresAtMs, value]: RedisCell): Entry {
  return expiresAtMs === 0 ? { key, value, version } : { key, value, version, expiresAtMs }
}
