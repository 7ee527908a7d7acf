// The chain files of a data directory, for somebody who wants to read the newest records of all of them.

import { closeSync, existsSync, fstatSync, openSync, readSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { HoldfastError } from '../lib/errors.ts'
import { decodeRecord, type AuditRecord } from '../audit/record.ts'

const BLOCK_BYTES = 64 * 1024
const SUFFIX = '.jsonl'

/** A record of a chain, or a line that is none. */
export type ChainLine =
  | { readonly chain: string; readonly record: AuditRecord; readonly hash: string }
  /** `fault` says what is wrong with it. */
  | { readonly chain: string; readonly fault: string; readonly line: string }

/** The ids of all chains of a data directory, sorted. */
export function chainsOf(directory: string): readonly string[] {
  const folder = join(directory, 'chains')
  if (!existsSync(folder)) return []
  return readdirSync(folder)
    .filter((name) => name.endsWith(SUFFIX))
    .map((name) => name.slice(0, -SUFFIX.length))
    .sort()
}

/**
 * The one chain whose id begins with `given`.
 *
 * @throws {HoldfastError} `ERR_STORE` when there is none, or more than one.
 */
export function chainNamed(chains: readonly string[], given: string): string {
  const matching = chains.filter((chain) => chain.startsWith(given))
  const exact = matching.find((chain) => chain === given)
  if (exact !== undefined) return exact
  if (matching.length === 1) return matching[0]!
  const problem =
    matching.length === 0
      ? `No chain begins with ${given}. See all of them: holdfast audit verify`
      : `${matching.length} chains begin with ${given}; give more of the id: ${matching.slice(0, 3).join(', ')}`
  throw new HoldfastError('ERR_STORE', problem)
}

/**
 * The newest `count` records of these chains, oldest first. Within a chain their order is that of the file.
 *
 * @param wanted - Says which records count; a line that is no record always does.
 */
export function newestRecords(
  directory: string,
  chains: readonly string[],
  count: number,
  wanted: (record: AuditRecord) => boolean,
): readonly ChainLine[] {
  const found = chains.flatMap((chain) => {
    const lines = newestOf(chain, join(directory, 'chains', chain + SUFFIX), count, wanted)
    // A clock that was set back must not turn the order of a chain around.
    let at = 0
    return lines.map((line) => ({ at: (at = 'record' in line ? Math.max(at, line.record.t) : at), line }))
  })
  // The sort is stable, so equal times keep the order of the file.
  return found
    .sort((a, b) => a.at - b.at)
    .slice(-count)
    .map(({ line }) => line)
}

function newestOf(chain: string, file: string, count: number, wanted: (record: AuditRecord) => boolean): readonly ChainLine[] {
  const newest: ChainLine[] = []
  for (const text of linesFromEnd(file)) {
    const decoded = decodeRecord(text)
    if ('fault' in decoded) newest.push({ chain, fault: decoded.fault, line: text })
    else if (wanted(decoded.record)) newest.push({ chain, ...decoded })
    if (newest.length === count) break
  }
  return newest.toReversed()
}

/** The first record of a chain, or `undefined` when its first line is none. */
export function firstRecord(directory: string, chain: string): AuditRecord | undefined {
  const descriptor = openSync(join(directory, 'chains', chain + SUFFIX), 'r')
  try {
    const block = Buffer.alloc(BLOCK_BYTES)
    const text = block.toString('utf8', 0, readSync(descriptor, block, 0, block.length, 0))
    const end = text.indexOf('\n')
    const decoded = end < 0 ? undefined : decodeRecord(text.slice(0, end))
    return decoded === undefined || 'fault' in decoded ? undefined : decoded.record
  } finally {
    closeSync(descriptor)
  }
}

/** The whole lines of a file, the last one first: a chain file may be large, and only its end is wanted. */
function* linesFromEnd(file: string): Generator<string> {
  const descriptor = openSync(file, 'r')
  try {
    let position = fstatSync(descriptor).size
    // What follows the last newline was cut short by a crash, or is being written now: it is no record.
    let whole = false
    let rest = Buffer.alloc(0)
    while (position > 0) {
      const length = Math.min(BLOCK_BYTES, position)
      position -= length
      const block = Buffer.alloc(length)
      rest = Buffer.concat([block.subarray(0, readSync(descriptor, block, 0, length, position)), rest])
      for (let newline = rest.lastIndexOf(10); newline >= 0; newline = rest.lastIndexOf(10)) {
        if (whole) yield rest.toString('utf8', newline + 1)
        whole = true
        rest = rest.subarray(0, newline)
      }
    }
    if (whole) yield rest.toString('utf8')
  } finally {
    closeSync(descriptor)
  }
}
