// One line of the journal. A line is JSON that a person can read with `tail -f`:
//
//   {"n":171,"p":"<hash of the line before>","w":"<writer>:7","t":1700000000000,"b":[{"o":[["a","free/usd/acme",-5,null,0]]}],"h":"<own hash>"}
//
// `n` is the length of the line in bytes, `p` names the line that it was decided upon, `h` is SHA-256 over
// everything before `,"h":`. So a line that was cut short by a crash (shorter than it says) can be told
// from one that was changed afterwards (anything else), and no line can be removed or swapped unseen.

import type { Json } from '../../lib/canonical-json.ts'
import { sha256 } from '../../lib/ids.ts'
import type { Add, Batch, Check, SetKey } from '../store.ts'

/** Format of the store directory and of its lines. */
export const JOURNAL_FORMAT = 1

/** Bounds and times at the end are left out where there are none. */
type Operation =
  | readonly ['c', string, number]
  | readonly ['a', string, number, (number | null)?, (number | null)?]
  | readonly ['s', string, Json, (number | null)?]
  | readonly ['d', string]

/** The body of a line. */
export interface JournalLine {
  readonly previous: string
  readonly writer: string
  readonly timeMs: number
  readonly batches: readonly Batch[]
  /** Ends the segment, and names the one that goes on after it. Such a line has no batches. */
  readonly seal?: number
}

/** What a run of bytes between two newlines is. */
export type Reading = { readonly kind: 'line'; readonly line: JournalLine; readonly hash: string } | Broken

/** Bytes that are no whole line. */
export type Broken =
  /** A strict prefix of a line: a write that a crash cut short, or one that is still on its way. */
  { readonly kind: 'torn' } | { readonly kind: 'damage'; readonly reason: string }

const HASH_LENGTH = 43
const TAIL_MARK = ',"h":"'
const TAIL_BYTES = TAIL_MARK.length + HASH_LENGTH + 2

/** Writes a line, without its newline, and its hash. */
export function encodeLine({ previous, writer, timeMs, batches, seal }: JournalLine): { readonly text: string; readonly hash: string } {
  const content = seal === undefined ? `"b":${JSON.stringify(batches.map(operationsOf))}` : `"seal":${seal}`
  return frame(previous, `"w":"${writer}","t":${timeMs},${content}`)
}

/** Puts the length, the hash of the line before and the own hash around the members of a line: the journal's, or a snapshot's. */
export function frame(previous: string, members: string): { readonly text: string; readonly hash: string } {
  const body = `,"p":"${previous}",${members}`
  const fixed = 5 + Buffer.byteLength(body) + TAIL_BYTES
  let length = fixed + String(fixed).length
  if (String(length).length > String(fixed).length) length += 1
  const head = `{"n":${length}${body}`
  const hash = sha256(head)
  return { text: `${head}${TAIL_MARK}${hash}"}`, hash }
}

function operationsOf({ check, add, set, delete: deleted }: Batch): { readonly o: readonly Operation[] } {
  const operations: Operation[] = []
  for (const { key, version } of check ?? []) operations.push(['c', key, version])
  for (const { key, by, max, min } of add ?? []) operations.push(addOperation(key, by, max, min))
  for (const { key, value, expiresAtMs } of set ?? [])
    operations.push(expiresAtMs === undefined ? ['s', key, value] : ['s', key, value, expiresAtMs])
  for (const key of deleted ?? []) operations.push(['d', key])
  return { o: operations }
}

function addOperation(key: string, by: number, max: number | undefined, min: number | undefined): Operation {
  if (min !== undefined) return ['a', key, by, max ?? null, min]
  return max === undefined ? ['a', key, by] : ['a', key, by, max]
}

/** Reads the bytes between two newlines, or after the last one. */
export function readLine(bytes: Buffer): Reading {
  const framed = readFrame(bytes)
  if (framed.kind !== 'whole') return framed
  try {
    return { kind: 'line', line: decode(JSON.parse(bytes.toString()) as RawLine), hash: framed.hash }
  } catch (error) {
    return { kind: 'damage', reason: `it cannot be read: ${error instanceof Error ? error.message : String(error)}` }
  }
}

/** Says whether bytes are a whole line, whatever its members say. */
export function readFrame(bytes: Buffer): { readonly kind: 'whole'; readonly hash: string } | Broken {
  if (!hasTail(bytes)) {
    if (isPrefixOfLine(bytes) || isGlued(bytes, 'cut')) return { kind: 'torn' }
    return { kind: 'damage', reason: 'it is neither a line nor the beginning of one' }
  }
  const hash = hashAtEnd(bytes)
  const body = bytes.subarray(0, -TAIL_BYTES)
  if (sha256(body) !== hash) {
    // A value can look like the end of a line; a whole line whose length alone was changed still fits its hash.
    if (isGlued(bytes, 'whole') || (isPrefixOfLine(bytes) && sha256(withItsLength(body, bytes.length)) !== hash)) {
      return { kind: 'torn' }
    }
    return { kind: 'damage', reason: 'its hash does not match its content' }
  }
  return { kind: 'whole', hash }
}

interface RawLine {
  readonly p: string
  readonly w: string
  readonly t: number
  readonly b?: readonly { readonly o: readonly Operation[] }[]
  readonly seal?: number
}

function decode({ p, w, t, b = [], seal }: RawLine): JournalLine {
  return { previous: p, writer: w, timeMs: t, batches: b.map(decodeBatch), ...(seal === undefined ? {} : { seal }) }
}

function decodeBatch({ o }: { readonly o: readonly Operation[] }): Batch {
  const check: Check[] = []
  const add: Add[] = []
  const set: SetKey[] = []
  const deleted: string[] = []
  for (const operation of o) {
    switch (operation[0]) {
      case 'c':
        check.push({ key: operation[1], version: operation[2] })
        break
      case 'a': {
        const [, key, by, max = null, min = null] = operation
        add.push(boundedAdd(key, by, max, min))
        break
      }
      case 's': {
        const [, key, value, expiresAtMs = null] = operation
        set.push(expiresAtMs === null ? { key, value } : { key, value, expiresAtMs })
        break
      }
      case 'd':
        deleted.push(operation[1])
        break
      default:
        throw new TypeError(`unknown operation ${JSON.stringify(operation)}`)
    }
  }
  return { check, add, set, delete: deleted }
}

function boundedAdd(key: string, by: number, max: number | null, min: number | null): Add {
  if (max === null) return min === null ? { key, by } : { key, by, min }
  return min === null ? { key, by, max } : { key, by, max, min }
}

const HEADER_START = '{"n":'
const HEADER = /^\{"n":(\d{1,8}),"p":"/
const HEADER_PREFIX = /^(\{("(n("(:(\d{0,8}|\d{1,8},("(p("(:"?)?)?)?)?)?)?)?)?)?)?$/
/** As much of a header as there is. */
const HEADER_BEGINNING = /^(?:\{(?:"(?:n(?:"(?::(?:\d{1,8}(?:,(?:"(?:p(?:"(?::"?)?)?)?)?)?)?)?)?)?)?)?/

function isPrefixOfLine(bytes: Buffer): boolean {
  const start = bytes.toString('latin1', 0, Math.min(bytes.length, 24))
  const header = HEADER.exec(start)
  if (header === null) return bytes.length < 24 && HEADER_PREFIX.test(start)
  return bytes.length < Number(header[1])
}

// A writer cannot know that another one, cut short since it looked, has left a torn end: its own line then stands right
// behind that, with no newline between them, and so may the next one's. Nobody accepts any of them, their writers neither;
// nor could any of them have been decided upon another, for which that one would have had to end with a newline. A run
// is glued when it can be divided so: each piece the beginning of a line, or a line that lacks only its newline, and the
// last one as `last` says. What is left of a line that was cut within its first four bytes is no last piece: behind a
// whole line that is what a changed newline looks like, which is damage.
function isGlued(bytes: Buffer, last: 'whole' | 'cut'): boolean {
  // A piece that is shorter than it says ends anywhere below this.
  let cutBelow = reachOf(bytes, 0)
  const ends = new Set<number>()
  const complete = new Set<string>()
  let isLast = false
  const canBegin = (at: number): boolean => {
    if (at < cutBelow || ends.has(at)) return true
    // Too little was left of a line in between to be found by how it begins.
    return [1, 2, 3, 4].some((left) => bytes.toString('latin1', at - left, at) === HEADER_START.slice(0, left) && canBegin(at - left))
  }
  for (let at = 0; at >= 0; at = bytes.indexOf(HEADER_START, at + 1)) {
    if (at > 0 && !canBegin(at)) continue
    const header = HEADER.exec(bytes.toString('latin1', at, at + 24))
    const end = header === null ? 0 : at + Number(header[1])
    if (header !== null && complete.has(bytes.toString('latin1', at + header[0].length, at + header[0].length + HASH_LENGTH))) return false
    const reach = reachOf(bytes, at)
    cutBelow = Math.max(cutBelow, reach)
    const hash = end <= bytes.length ? wholeHash(bytes.subarray(at, end)) : undefined
    if (hash !== undefined) {
      ends.add(end)
      complete.add(hash)
    }
    if (at > 0 && (last === 'whole' ? hash !== undefined && end === bytes.length : bytes.length < reach)) isLast = true
  }
  return isLast
}

/** The first place that is too far from a piece's beginning for it to be a beginning of a line. */
function reachOf(bytes: Buffer, at: number): number {
  const start = bytes.toString('latin1', at, at + 24)
  const header = HEADER.exec(start)
  return at + (header === null ? HEADER_BEGINNING.exec(start)![0].length + 1 : Number(header[1]))
}

/** The hash of bytes that are a whole line. */
function wholeHash(bytes: Buffer): string | undefined {
  const hash = hasTail(bytes) ? hashAtEnd(bytes) : undefined
  return hash !== undefined && sha256(bytes.subarray(0, -TAIL_BYTES)) === hash ? hash : undefined
}

/** Whether bytes end as a line does. */
function hasTail(bytes: Buffer): boolean {
  const tailAt = bytes.length - TAIL_BYTES
  return (
    tailAt > 0 &&
    bytes.toString('latin1', tailAt, tailAt + TAIL_MARK.length) === TAIL_MARK &&
    bytes.toString('latin1', bytes.length - 2) === '"}'
  )
}

function hashAtEnd(line: Buffer): string {
  return line.toString('latin1', line.length - 2 - HASH_LENGTH, line.length - 2)
}

function withItsLength(body: Buffer, length: number): Buffer {
  return Buffer.concat([Buffer.from(`${HEADER_START}${length}`), body.subarray(body.indexOf(',"p":"'))])
}

/**
 * The hashes of the accepted lines in a part of a segment, found by walking the chain from the head that the part
 * starts on. Only the two hashes at known places of each line are looked at, unless something in it looks like another
 * line: everything else was judged when it was folded.
 */
export function* walkChain(part: Buffer, start: string): Generator<string, void> {
  let head = start
  for (let at = 0; at < part.length;) {
    const end = part.indexOf(10, at)
    if (end < 0) return
    const header = HEADER.exec(part.toString('latin1', at, Math.min(end, at + 24)))
    if (header !== null && end - at === Number(header[1])) {
      const previousAt = at + header[0].length
      const inner = part.indexOf(HEADER_START, at + 1)
      // A cut line and what is glued to it can together be as long as the first of them says.
      const isOne = inner < 0 || inner >= end || readFrame(part.subarray(at, end)).kind === 'whole'
      if (isOne && part.toString('latin1', previousAt, previousAt + HASH_LENGTH) === head) {
        head = hashAtEnd(part.subarray(at, end))
        yield head
      }
    }
    at = end + 1
  }
}

/** The hash that the first whole line in a part of a segment was decided upon. */
export function firstPrevious(part: Buffer): string | undefined {
  for (let at = 0; at < part.length;) {
    const end = part.indexOf(10, at)
    if (end < 0) return undefined
    const header = HEADER.exec(part.toString('latin1', at, Math.min(end, at + 24)))
    if (header !== null && end - at === Number(header[1])) {
      return part.toString('latin1', at + header[0].length, at + header[0].length + HASH_LENGTH)
    }
    at = end + 1
  }
  return undefined
}

/** The last bytes of a line with this hash, newline included. */
export function lineEnding(hash: string): string {
  return `${TAIL_MARK}${hash}"}\n`
}
