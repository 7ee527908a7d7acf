// Is what a store acknowledged still in it? A head is looked for in the segment that it names: the live one, or a
// sealed one that is still kept. Sealed segments are believed only as far as they lead, each by its last line, to the
// live one.

import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import type { Fold } from './fold.ts'
import { segmentFile } from './folder.ts'
import { lineEnding } from './line.ts'
import { walkSegment } from './walk.ts'
import type { StoreHead } from '../store.ts'

/** `unknown`: its segment was trimmed, and nobody can say any more. */
type Answer = 'yes' | 'no' | 'unknown'

/** Says of each head whether it is in the journal. The fold has just read on. */
export function holdsHeads(folder: string, fold: Fold, heads: readonly StoreHead[]): readonly Answer[] {
  const { segment: live, descriptor } = fold.place
  const hashes = new Set(heads.filter(({ segment }) => segment === live).map(({ hash }) => hash))
  const accepted = fold.accepted(hashes)
  const sealed = inSealedSegments(folder, fold, heads)
  return heads.map((head) => {
    // A later segment than the live one: the store is an older copy of what acknowledged this.
    if (head.segment > live) return 'no'
    if (head.segment < live) return sealed.get(head) ?? 'unknown'
    const isThere = accepted.has(head.hash) && endsThere(descriptor, head, { start: fold.start, size: fold.offset })
    return isThere ? 'yes' : 'no'
  })
}

/** What the sealed segments that are still there say, read from the live one down. */
function inSealedSegments(folder: string, fold: Fold, heads: readonly StoreHead[]): ReadonlyMap<StoreHead, Answer> {
  const answers = new Map<StoreHead, Answer>()
  const asked = heads.filter(({ segment }) => segment < fold.place.segment)
  const lowest = Math.min(...asked.map(({ segment }) => segment))
  let end = fold.start
  for (let segment = fold.place.segment - 1; segment >= lowest; segment--) {
    const ofThis = asked.filter((head) => head.segment === segment)
    const read = readSealed(segmentFile(folder, segment), end, ofThis)
    // Whatever is below was trimmed too, or leads nowhere.
    if (read === 'trimmed') break
    for (const [head, answer] of read.answers) answers.set(head, answer)
    if (read.start === undefined) break
    end = read.start
  }
  return answers
}

interface Sealed {
  /** What the segment starts on; absent when it does not lead to the live one. */
  readonly start?: string
  readonly answers: ReadonlyMap<StoreHead, Answer>
}

function readSealed(file: string, end: string, heads: readonly StoreHead[]): Sealed | 'trimmed' {
  let descriptor: number
  try {
    descriptor = openSync(file, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'trimmed'
    throw error
  }
  try {
    const { size } = fstatSync(descriptor)
    const walk = walkSegment(descriptor, size, new Set(heads.map(({ hash }) => hash)))
    // A name that somebody who slept through the trimming has made anew.
    if (walk === undefined) return 'trimmed'
    if (walk.end !== end) return { answers: new Map(heads.map((head) => [head, 'no'])) }
    const { start, found } = walk
    const isThere = (head: StoreHead): boolean => found.has(head.hash) && endsThere(descriptor, head, { start, size })
    return { start, answers: new Map(heads.map((head) => [head, isThere(head) ? 'yes' : 'no'])) }
  } finally {
    closeSync(descriptor)
  }
}

function endsThere(
  descriptor: number,
  { bytes, hash }: StoreHead,
  { start, size }: { readonly start: string; readonly size: number },
): boolean {
  if (hash === start) return bytes === 0
  const ending = Buffer.from(lineEnding(hash))
  if (bytes > size || bytes < ending.length) return false
  const found = Buffer.alloc(ending.length)
  readSync(descriptor, found, 0, found.length, bytes - found.length)
  return found.equals(ending)
}
