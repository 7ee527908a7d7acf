// The two ends of a chain file, without what lies between: what it is about, and where it stands. Only reading the whole
// of it shows that they belong together.

import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { decodeRecord, type AuditRecord } from './record.ts'

/** An opening record is shorter than this. */
const FIRST_BYTES = 16 * 1024
/** The end of a chain file in which something is looked for; a record is rarely longer than some hundred bytes. */
const TAIL_BYTES = 256 * 1024

/** What stands at the ends of a chain file. */
export interface ChainEnds {
  /** The first record, if it holds by itself. */
  readonly first: AuditRecord | undefined
  /** The last whole lines of the file, the last one first. */
  readonly lastLines: readonly string[]
}

/** Reads the ends of a chain file. @throws When it cannot be read. */
export function readEnds(file: string): ChainEnds {
  const descriptor = openSync(file, 'r')
  try {
    const { size } = fstatSync(descriptor)
    // A program that runs often leaves many short chains, and opening looks at all of them.
    const start = read(descriptor, 0, Math.min(size, FIRST_BYTES))
    const end = start.indexOf('\n')
    // What follows the last newline is no record.
    const lastLines = read(descriptor, Math.max(0, size - TAIL_BYTES), Math.min(size, TAIL_BYTES))
      .split('\n')
      .slice(0, -1)
      .toReversed()
    return { first: end < 0 ? undefined : recordOf(start.slice(0, end)), lastLines }
  } finally {
    closeSync(descriptor)
  }
}

/** A record that holds by itself. */
export function recordOf(line: string): AuditRecord | undefined {
  const read = decodeRecord(line)
  return 'fault' in read ? undefined : read.record
}

function read(descriptor: number, position: number, length: number): string {
  const buffer = Buffer.alloc(length)
  return buffer.toString('utf8', 0, readSync(descriptor, buffer, 0, length, position))
}
