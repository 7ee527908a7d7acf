// Reading segments: the bytes in parts that end with a line where they can, and the chain of accepted lines without
// their content.

import { readSync } from 'node:fs'
import { firstPrevious, walkChain } from './line.ts'

const READ_CHUNK_BYTES = 4 * 1024 * 1024

/**
 * Bytes of a file from `offset`, up to `size`: a part of a handy length, or as much as it takes to the first newline.
 * Without a newline in it, it is all there is.
 */
export function readChunk(descriptor: number, offset: number, size: number): Buffer {
  for (let length = Math.min(size - offset, READ_CHUNK_BYTES); ; length = Math.min(size - offset, length * 2)) {
    const chunk = readBytes(descriptor, offset, length)
    // A chunk without a newline is either the torn end of the file or the beginning of a long line.
    if (chunk.length < length || offset + length >= size || chunk.includes(10)) return chunk
  }
}

/** Bytes of a file, fewer where it ends. */
export function readBytes(descriptor: number, offset: number, length: number): Buffer {
  const buffer = Buffer.allocUnsafe(length)
  return buffer.subarray(0, readSync(descriptor, buffer, 0, length, offset))
}

/**
 * Those of the hashes that an accepted line in the first `bytes` of a segment has, or the head that the segment starts
 * on. Reads the segment once at most, in parts.
 */
export function acceptedIn(
  { descriptor, bytes, start }: { readonly descriptor: number; readonly bytes: number; readonly start: string },
  hashes: ReadonlySet<string>,
): Set<string> {
  const found = new Set(hashes.has(start) ? [start] : [])
  let head = start
  for (let at = 0; at < bytes && found.size < hashes.size;) {
    const chunk = readChunk(descriptor, at, bytes)
    for (head of walkChain(chunk, head)) if (hashes.has(head)) found.add(head)
    const end = chunk.lastIndexOf(10)
    if (end < 0) break
    at += end + 1
  }
  return found
}

/** What a segment that was read to its end is: what it starts on, what it ends on, and which of the hashes it holds. */
export interface Walk {
  readonly start: string
  readonly end: string
  readonly found: ReadonlySet<string>
}

/** Walks a sealed segment of which nothing is known. `undefined` when no line is in it. */
export function walkSegment(descriptor: number, size: number, hashes: ReadonlySet<string>): Walk | undefined {
  let start: string | undefined
  let head = ''
  const found = new Set<string>()
  for (let at = 0; at < size;) {
    const chunk = readChunk(descriptor, at, size)
    // Whatever was written before the first accepted line was decided on the same head as that line.
    head = start === undefined ? (start = firstPrevious(chunk) ?? '') : head
    if (at === 0 && hashes.has(start)) found.add(start)
    for (head of walkChain(chunk, head)) if (hashes.has(head)) found.add(head)
    const end = chunk.lastIndexOf(10)
    if (end < 0) break
    at += end + 1
  }
  return start === undefined || start === '' ? undefined : { start, end: head, found }
}
