// The reading side of the journal: consume what was appended, judge every line, keep the table. Every
// process of a store runs this on the same bytes and comes to the same table; the writer does too, and
// learns from its own reading whether its line was accepted.

import { fstatSync, readSync } from 'node:fs'
import { HoldfastError } from '../lib/errors.ts'
import { readLine, walkChain, type JournalLine, type Reading } from './journal-line.ts'
import type { BatchResult } from './store.ts'
import { createTable, evaluate, type Table } from './table.ts'

/** Heads that a slow writer may still name without the segment being read again. */
const RECENT_HEADS = 4_096
const READ_CHUNK_BYTES = 4 * 1024 * 1024

/** What a fold of a segment knows. */
export interface Fold {
  readonly table: Table
  /** Hash of the last accepted line; the store id before the first. */
  readonly head: string
  /** Where that line ends, newline included. */
  readonly headBytes: number
  /** Bytes judged so far. */
  readonly offset: number
  /** Newlines seen so far. */
  readonly lines: number
  /** Version of the last applied batch. */
  readonly version: number
  /** Time of the last accepted line, Unix ms. */
  readonly timeMs: number
  /** True when bytes without a newline follow: the next writer puts one in front of its line. */
  readonly torn: boolean
  /** Says what was just written, so that it need not be parsed and hashed again when it is read back, byte for byte the same. */
  expect(line: JournalLine, bytes: Buffer, hash: string): void
  /** Reads on to the end of the file. @throws {HoldfastError} and from then on always the same one. */
  readOn(): void
  /** Those of the hashes that an accepted line has, or the store as its id. Reads the segment once at most, in parts. */
  accepted(hashes: ReadonlySet<string>): ReadonlySet<string>
  /** Makes every later use fail with this error, or with the one that came first. */
  die(error: HoldfastError): HoldfastError
  readonly dead: HoldfastError | undefined
}

/** Where a fold stands, and whom it tells. */
export interface FoldOptions {
  readonly file: string
  readonly descriptor: number
  readonly storeId: string
  /** Told of each accepted line: who wrote it and what became of its batches. */
  readonly onLine: (line: JournalLine, results: readonly BatchResult[]) => void
  /** Told of each key that changed. */
  readonly onChange: (key: string) => void
}

/** Starts to fold a segment from its first byte; `readOn` does the reading. */
export function createFold({ file, descriptor, storeId, onLine, onChange }: FoldOptions): Fold {
  const table = createTable()
  const recentHeads = new Set([storeId])
  let head = storeId
  let headBytes = 0
  let offset = 0
  let lines = 0
  let version = 0
  let timeMs = 0
  let torn = false
  let dead: HoldfastError | undefined
  let expected: { readonly bytes: Buffer; readonly reading: Reading } | undefined

  const die = (error: HoldfastError): HoldfastError => (dead ??= error)
  const damage = (line: number, reason: string): HoldfastError =>
    die(
      new HoldfastError(
        'ERR_DAMAGE',
        `${file} line ${line} is damaged: ${reason}. The store is frozen: nothing is read from it or written to it.`,
      ),
    )

  function readOn(): void {
    if (dead !== undefined) throw dead
    try {
      consume()
    } catch (error) {
      // A fold that stopped half-way has lines in its table that it would read again.
      throw dead ?? die(new HoldfastError('ERR_STORE', `${file} cannot be read. The store is frozen.`, { cause: error }))
    }
  }

  function consume(): void {
    const { size, nlink } = fstatSync(descriptor)
    if (nlink === 0) throw die(new HoldfastError('ERR_STORE', `${file} was removed while in use. The store is frozen.`))
    if (size < offset) throw die(new HoldfastError('ERR_DAMAGE', `${file} was cut from ${offset} to ${size} bytes. The store is frozen.`))
    if (size === offset) torn = false
    while (offset < size) {
      const chunk = readChunk(descriptor, offset, size)
      const end = chunk.lastIndexOf(10)
      if (end < 0) {
        judgeTail(chunk)
        return
      }
      judgeLines(chunk, end)
      offset += end + 1
      torn = false
    }
  }

  function judgeLines(chunk: Buffer, end: number): void {
    for (let at = 0; at <= end;) {
      const next = chunk.indexOf(10, at)
      lines += 1
      if (next > at) judge(chunk.subarray(at, next), offset + next)
      at = next + 1
    }
  }

  function judgeTail(bytes: Buffer): void {
    const reading = readLine(bytes)
    if (reading.kind === 'damage') throw damage(lines + 1, reading.reason)
    torn = true
  }

  function judge(bytes: Buffer, endsAt: number): void {
    const reading = expected?.bytes.equals(bytes) === true ? expected.reading : readLine(bytes)
    if (reading.kind === 'torn') return
    if (reading.kind === 'damage') throw damage(lines, reading.reason)
    const { line, hash } = reading
    if (line.previous !== head) {
      // A slow writer's line names an earlier head and loses. One that names nothing we accepted means that
      // somebody accepted a line which is gone, or which stands in another place now.
      if (acceptedWithin(endsAt, new Set([line.previous])).size > 0) return
      throw damage(lines, 'it follows a line that is not in the file')
    }
    if (line.seal !== undefined) {
      throw die(
        new HoldfastError('ERR_STORE', `${file} was closed by a later version of holdfast. Install that version to open this store.`),
      )
    }
    headBytes = endsAt + 1
    accept(line, hash)
  }

  function acceptedWithin(bytes: number, hashes: ReadonlySet<string>): ReadonlySet<string> {
    const found = new Set([...hashes].filter((hash) => hash === storeId || recentHeads.has(hash)))
    let walked = storeId
    for (let at = 0; at < bytes && found.size < hashes.size;) {
      const chunk = readChunk(descriptor, at, bytes)
      for (walked of walkChain(chunk, walked)) if (hashes.has(walked)) found.add(walked)
      const end = chunk.lastIndexOf(10)
      if (end < 0) break
      at += end + 1
    }
    return found
  }

  function accept(line: JournalLine, hash: string): void {
    head = hash
    recentHeads.add(hash)
    if (recentHeads.size > RECENT_HEADS) recentHeads.delete(recentHeads.values().next().value!)
    timeMs = Math.max(timeMs, line.timeMs)
    const results = line.batches.map((batch) => {
      const { result, changes } = evaluate((key) => table.cell(key), batch, line.timeMs, version + 1)
      if (result.outcome !== 'ok') return result
      version += 1
      table.put(changes)
      for (const key of changes.keys()) onChange(key)
      return result
    })
    onLine(line, results)
  }

  return {
    table,
    readOn,
    expect(line, bytes, hash) {
      expected = { bytes, reading: { kind: 'line', line, hash } }
    },
    accepted: (hashes) => acceptedWithin(offset, hashes),
    die,
    get head() {
      return head
    },
    get headBytes() {
      return headBytes
    },
    get offset() {
      return offset
    },
    get lines() {
      return lines
    },
    get version() {
      return version
    },
    get timeMs() {
      return timeMs
    },
    get torn() {
      return torn
    },
    get dead() {
      return dead
    },
  }
}

function readChunk(descriptor: number, offset: number, size: number): Buffer {
  for (let length = Math.min(size - offset, READ_CHUNK_BYTES); ; length = Math.min(size - offset, length * 2)) {
    const chunk = readBytes(descriptor, offset, length)
    // A chunk without a newline is either the torn end of the file or the beginning of a long line.
    if (chunk.length < length || offset + length >= size || chunk.includes(10)) return chunk
  }
}

function readBytes(descriptor: number, offset: number, length: number): Buffer {
  const buffer = Buffer.allocUnsafe(length)
  return buffer.subarray(0, readSync(descriptor, buffer, 0, length, offset))
}
