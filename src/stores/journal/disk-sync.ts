// fdatasync(2) of a file that grows, as often as needed and no more. On a fast disk the call takes less time
// than handing it to a thread and being woken again, so it is made in place; a disk that was slow the last
// time is waited for without stopping the event loop.

import { fdatasync, fdatasyncSync } from 'node:fs'
import { promisify } from 'node:util'

const fdatasyncAsync = promisify(fdatasync)

/** Knows how much of a file is on disk. */
export interface DiskSync {
  /** Resolves when the file is on disk up to this byte. @throws what fdatasync(2) reports; the file is not to be trusted any more. */
  upTo(bytes: number): Promise<void>
  /**
   * Syncs the whole file in place, for good: nothing that counts is appended to it any more.
   *
   * @throws what fdatasync(2) reports; the file is not to be trusted any more.
   */
  finish(): void
  /** Resolves when no sync is running. A descriptor closed under one could already mean another file. */
  idle(): Promise<void>
  /** Throws the failure of any sync that there was. */
  assertWell(): void
}

/**
 * Makes a {@link DiskSync} of an open file. Nothing of it is taken to be on disk yet.
 *
 * @param fastMs - A sync that took this long or longer, ms, is not made in place the next time. The first one never is.
 */
export function createDiskSync(descriptor: number, fastMs = 1): DiskSync {
  let wantedBytes = 0
  let syncedBytes = 0
  let lastMs = Infinity
  let running: Promise<void> | undefined
  let failure: { readonly error: unknown } | undefined

  async function sync(): Promise<void> {
    const covers = wantedBytes
    const startedAt = performance.now()
    try {
      if (lastMs < fastMs) fdatasyncSync(descriptor)
      else await fdatasyncAsync(descriptor)
      syncedBytes = Math.max(syncedBytes, covers)
    } catch (error) {
      failure = { error }
    }
    lastMs = performance.now() - startedAt
  }

  function assertWell(): void {
    if (failure !== undefined) throw failure.error
  }

  return {
    async upTo(bytes) {
      if (bytes <= syncedBytes) return
      wantedBytes = Math.max(wantedBytes, bytes)
      // One at a time, and none after a failure: the system reports lost pages once, to one sync of a descriptor;
      // another one, at the same time or later, would succeed and mean nothing.
      while (bytes > syncedBytes) {
        assertWell()
        const mine = (running ??= sync())
        await mine
        if (running === mine) running = undefined
      }
      // The failure may have been told to `finish`, while the sync that was waited for succeeded.
      assertWell()
    },
    finish() {
      assertWell()
      try {
        fdatasyncSync(descriptor)
        syncedBytes = Infinity
      } catch (error) {
        failure = { error }
        throw error
      }
    },
    assertWell,
    async idle() {
      for (let last = running; last !== undefined; last = running) await last
    },
  }
}
