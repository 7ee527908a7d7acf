// Whose turn it is to compact: one process of many does the work, and the others need not repeat it. A courtesy and
// never more: a holder that was stopped may wake beside its successor, and every step of rotation is safe then too.

import { mkdirSync, rmdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

/** A turn that was taken this long ago, ms, was left behind by a process that died: compacting takes a second. */
const STALE_MS = 30_000

/**
 * Takes the turn in a folder, unless another process has it.
 *
 * @returns How to give it back.
 */
export function takeTurn(folder: string): (() => void) | undefined {
  const lock = join(folder, 'turn.lock')
  const giveBack = (): void => {
    try {
      rmdirSync(lock)
    } catch {
      // Somebody took this process for dead and took the turn; or the folder is gone.
    }
  }
  try {
    const takenAt = statSync(lock, { throwIfNoEntry: false })?.mtimeMs
    if (takenAt !== undefined && Date.now() - takenAt > STALE_MS) giveBack()
    mkdirSync(lock)
    return giveBack
  } catch {
    return undefined
  }
}
