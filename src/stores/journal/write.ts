// The writing side of the journal: what a line is to contain, and the one write(2) that appends it.

import { writeSync } from 'node:fs'
import { HoldfastError } from '../../lib/errors.ts'
import type { Fold } from './fold.ts'
import type { Batch, BatchResult } from '../store.ts'
import { evaluate, type Cell } from '../table.ts'

/** Decides batches on the table as it is now: those that pass go into the line, the others are answered. */
export function decide(fold: Fold, batches: readonly Batch[], timeMs: number): { results: (BatchResult | undefined)[]; passing: Batch[] } {
  const overlay = new Map<string, Cell | null>()
  const lookup = (key: string): Cell | undefined => {
    const cell = overlay.get(key)
    return cell === undefined ? fold.table.cell(key) : (cell ?? undefined)
  }
  const passing: Batch[] = []
  const results = batches.map((batch) => {
    const { result, changes } = evaluate(lookup, batch, timeMs, fold.version + passing.length + 1)
    if (result.outcome !== 'ok') return result
    for (const [key, cell] of changes) overlay.set(key, cell)
    passing.push(batch)
    return undefined
  })
  return { results, passing }
}

/** A write whose fate this process cannot know. */
export class UnknownOutcome extends Error {}

/** Appends bytes with one write(2). @throws {HoldfastError} When nothing was committed. @throws {UnknownOutcome} */
export function writeLine(file: string, descriptor: number, bytes: Buffer, fold: Fold): void {
  const noSpace = (what: string, cause?: unknown): HoldfastError =>
    new HoldfastError('ERR_STORE_FULL', `No space left for ${file}: ${what}. Nothing was committed.`, { cause })
  let written: number
  try {
    written = writeSync(descriptor, bytes)
  } catch (error) {
    if (['ENOSPC', 'EDQUOT', 'EFBIG'].includes(String((error as NodeJS.ErrnoException).code))) throw noSpace('nothing was written', error)
    throw fold.die(new HoldfastError('ERR_STORE', `${file} cannot be written. The store is frozen.`, { cause: error }))
  }
  // Never write the rest: others may already stand behind it. A line that lacks only its newline is completed
  // by the next writer and counts; a shorter one never will.
  if (written === bytes.length - 1) throw new UnknownOutcome(`${file}: a line was written without its newline`)
  if (written < bytes.length) throw noSpace(`${written} of ${bytes.length} bytes were written`)
}
