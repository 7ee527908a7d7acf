// The reading side of the journal: consume what was appended, judge every line, keep the table, go on in the next
// segment behind a seal. Every process of a store runs this on the same bytes and comes to the same table; the
// writer does too, and learns from its own reading whether its line was accepted.

import { fstatSync } from 'node:fs'
import { HoldfastError } from '../../lib/errors.ts'
import { readLine, type JournalLine, type Reading } from './line.ts'
import { createState, type Cells } from './state.ts'
import { acceptedIn, readChunk } from './walk.ts'
import type { BatchResult } from '../store.ts'
import { evaluate, type Table } from '../table.ts'

/** Heads that a slow writer may still name without the segment being read again. */
const RECENT_HEADS = 4_096

/** A segment that is open. */
export interface Place {
  /** From 1. */
  readonly segment: number
  readonly file: string
  readonly descriptor: number
}

/** A place right behind an accepted line, and all that the lines up to there have come to. */
export interface Standing {
  readonly segment: number
  /** The head that this segment starts on: the seal of the one before, or the store id. */
  readonly start: string
  /** Hash of the line. */
  readonly head: string
  /** Where the line begins, and where it ends, newline included. */
  readonly from: number
  readonly to: number
  /** Newlines up to there. */
  readonly lines: number
  /** Version of the last applied batch. */
  readonly version: number
  /** Time of the line, Unix ms. */
  readonly timeMs: number
  readonly cells: Cells
}

/** A segment, and where to begin in it: at its first byte, on the state that there is, or at a standing, whose cells become the fold's. */
export interface Entrance extends Place {
  readonly standing?: Standing
}

/** What a fold of a journal knows. */
export interface Fold {
  readonly table: Table
  readonly place: Place
  /** The head that this segment starts on. */
  readonly start: string
  /** Hash of the last accepted line; the store id before the first. */
  readonly head: string
  /** Where that line ends, newline included; 0 when it is not in this segment. */
  readonly headBytes: number
  /** Bytes of this segment judged so far. */
  readonly offset: number
  /** Newlines of this segment seen so far. */
  readonly lines: number
  /** Version of the last applied batch. */
  readonly version: number
  /** Time of the last accepted line, Unix ms. */
  readonly timeMs: number
  /** True when bytes without a newline follow: the next writer puts one in front of its line. */
  readonly torn: boolean
  /** Says what was just written, so that it need not be parsed and hashed again when it is read back, byte for byte the same. */
  expect(line: JournalLine, bytes: Buffer, hash: string): void
  /** Reads on to the end of the journal. @throws {HoldfastError} and from then on always the same one, unless it is `ERR_STORE_FULL`. */
  readOn(): void
  /** Those of the hashes that an accepted line of this segment has, or the head that it starts on. */
  accepted(hashes: ReadonlySet<string>): ReadonlySet<string>
  /** Copies the state behind the last accepted line; `undefined` when this segment has none yet. */
  standing(): Standing | undefined
  /** Makes every later use fail with this error, or with the one that came first. */
  die(error: HoldfastError): HoldfastError
  readonly dead: HoldfastError | undefined
}

/** Where a fold stands, and whom it tells. */
export interface FoldOptions {
  readonly file: string
  readonly descriptor: number
  readonly storeId: string
  /** @default 1 */
  readonly segment?: number
  /** @default the first byte of an empty store */
  readonly standing?: Standing
  /** Told of each accepted line: who wrote it and what became of its batches. */
  readonly onLine: (line: JournalLine, results: readonly BatchResult[]) => void
  /** Told of each key that changed. */
  readonly onChange: (key: string) => void
  /**
   * Opens what follows a sealed segment: the next one, or a later one at a standing. Throws `ERR_STORE_FULL` where it
   * may be asked again.
   */
  readonly cross?: (sealed: Place) => Entrance
}

/** Starts to fold a journal; `readOn` does the reading. */
export function createFold(options: FoldOptions): Fold {
  const { storeId, onLine, onChange, cross } = options
  const recentHeads = new Set<string>()
  // Where the last accepted line begins, and the newlines up to its end.
  let [headFrom, headLines] = [0, 0]
  let isSealed = false
  let state = createState()
  let expected: { readonly bytes: Buffer; readonly reading: Reading } | undefined
  const fold: { -readonly [K in keyof Fold]: Fold[K] } = {
    table: state.table,
    place: { segment: options.segment ?? 1, file: options.file, descriptor: options.descriptor },
    start: storeId,
    head: storeId,
    headBytes: 0,
    offset: 0,
    lines: 0,
    version: 0,
    timeMs: 0,
    torn: false,
    dead: undefined,
    expect: (line, bytes, hash) => (expected = { bytes, reading: { kind: 'line', line, hash } }),
    readOn,
    accepted: (hashes) => acceptedWithin(fold.offset, hashes),
    standing,
    die,
  }
  enter({ ...fold.place, ...(options.standing === undefined ? {} : { standing: options.standing }) })

  function die(error: HoldfastError): HoldfastError {
    fold.dead ??= error
    return fold.dead
  }

  function damage(line: number, reason: string): HoldfastError {
    const where = `${fold.place.file} line ${line}`
    const message = `${where} is damaged: ${reason}. The store is frozen: nothing is read from it or written to it.`
    return die(new HoldfastError('ERR_DAMAGE', message))
  }

  function enter({ segment, file, descriptor, standing: at }: Entrance): void {
    if (at !== undefined) {
      state = createState(at.cells)
      Object.assign(fold, { table: state.table, version: at.version, timeMs: at.timeMs })
    }
    fold.place = { segment, file, descriptor }
    fold.head = at?.head ?? fold.head
    fold.start = at?.start ?? fold.head
    recentHeads.clear()
    for (const known of [fold.start, fold.head]) recentHeads.add(known)
    headFrom = at?.from ?? 0
    fold.headBytes = fold.offset = at?.to ?? 0
    headLines = fold.lines = at?.lines ?? 0
    fold.torn = isSealed = false
  }

  function readOn(): void {
    if (fold.dead !== undefined) throw fold.dead
    try {
      consume()
    } catch (error) {
      // The seal was accepted, and the next segment cannot be opened for want of room: nothing of it is half done.
      if (fold.dead === undefined && isSealed && HoldfastError.isInstance(error) && error.code === 'ERR_STORE_FULL') throw error
      if (HoldfastError.isInstance(error)) throw die(error)
      // A fold that stopped half-way has lines in its table that it would read again.
      throw die(new HoldfastError('ERR_STORE', `${fold.place.file} cannot be read. The store is frozen.`, { cause: error }))
    }
  }

  function consume(): void {
    for (let looksWithoutName = 0; ;) {
      if (isSealed) {
        crossOver()
        looksWithoutName = 0
      }
      const { size, nlink } = fstatSync(fold.place.descriptor)
      if (size < fold.offset)
        throw die(new HoldfastError('ERR_DAMAGE', `${fold.place.file} was cut from ${fold.offset} to ${size} bytes. The store is frozen.`))
      judgeTo(size)
      if (isSealed) continue
      if (nlink > 0) return
      // Others remove a segment only when it is sealed: what has no name and no seal was removed by somebody else.
      if (looksWithoutName++ > 0)
        throw die(new HoldfastError('ERR_STORE', `${fold.place.file} was removed while in use. The store is frozen.`))
    }
  }

  function crossOver(): void {
    if (cross === undefined) throw new HoldfastError('ERR_STORE', `${fold.place.file} is sealed, and nobody said how to go on.`)
    enter(cross(fold.place))
  }

  function judgeTo(size: number): void {
    if (size === fold.offset) fold.torn = false
    while (fold.offset < size) {
      const chunk = readChunk(fold.place.descriptor, fold.offset, size)
      const end = chunk.lastIndexOf(10)
      if (end < 0) {
        judgeTail(chunk)
        return
      }
      judgeLines(chunk, end)
      fold.torn = false
      if (isSealed) return
    }
  }

  // What follows a seal in its segment never counts, whoever wrote it and whatever it is.
  function judgeLines(chunk: Buffer, end: number): void {
    const chunkFrom = fold.offset
    for (let at = 0; at <= end;) {
      const next = chunk.indexOf(10, at)
      fold.lines += 1
      if (next > at) judge(chunk.subarray(at, next), chunkFrom + at, chunkFrom + next + 1)
      at = next + 1
      fold.offset = chunkFrom + at
      if (isSealed) return
    }
  }

  function judgeTail(bytes: Buffer): void {
    const reading = readLine(bytes)
    if (reading.kind === 'damage') throw damage(fold.lines + 1, reading.reason)
    fold.torn = true
  }

  function judge(bytes: Buffer, from: number, to: number): void {
    const reading = expected?.bytes.equals(bytes) === true ? expected.reading : readLine(bytes)
    if (reading.kind === 'torn') return
    if (reading.kind === 'damage') throw damage(fold.lines, reading.reason)
    const { line, hash } = reading
    if (line.previous !== fold.head) {
      // A slow writer's line names an earlier head and loses. One that names nothing we accepted means that
      // somebody accepted a line which is gone, or which stands in another place now.
      if (acceptedWithin(to, new Set([line.previous])).size > 0) return
      throw damage(fold.lines, 'it follows a line that is not in the file')
    }
    if (line.seal !== undefined && line.seal !== fold.place.segment + 1)
      throw damage(fold.lines, `it seals segment ${fold.place.segment} and names ${line.seal} as the next one`)
    headFrom = from
    fold.headBytes = to
    headLines = fold.lines
    accept(line, hash)
  }

  function acceptedWithin(bytes: number, hashes: ReadonlySet<string>): ReadonlySet<string> {
    const recent = new Set([...hashes].filter((hash) => recentHeads.has(hash)))
    if (recent.size === hashes.size) return recent
    return acceptedIn({ descriptor: fold.place.descriptor, bytes, start: fold.start }, hashes)
  }

  function accept(line: JournalLine, hash: string): void {
    fold.head = hash
    recentHeads.add(hash)
    if (recentHeads.size > RECENT_HEADS) recentHeads.delete(recentHeads.values().next().value!)
    fold.timeMs = Math.max(fold.timeMs, line.timeMs)
    const results = line.batches.map((batch) => {
      const { result, changes } = evaluate((key) => state.table.cell(key), batch, line.timeMs, fold.version + 1)
      if (result.outcome !== 'ok') return result
      fold.version += 1
      state.put(changes)
      for (const key of changes.keys()) onChange(key)
      return result
    })
    if (line.seal !== undefined) {
      isSealed = true
      state.prune(line.timeMs)
    }
    onLine(line, results)
  }

  function standing(): Standing | undefined {
    if (fold.headBytes === 0 || isSealed) return undefined
    const { place, start, head, headBytes: to, version, timeMs } = fold
    return { segment: place.segment, start, head, from: headFrom, to, lines: headLines, version, timeMs, cells: state.copy() }
  }

  return fold
}
