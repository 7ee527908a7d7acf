// Finding out that other processes have written: events of the system where there are any, and a slow poll.

import { watch as watchFolder, type FSWatcher } from 'node:fs'

/** A change that fs.watch did not report is noticed after this long, ms. */
const POLL_MS = 250

/** Calls `look` when something in the folder may have changed: events where the system sends them, and a slow poll. */
export function followFolder(folder: string, look: () => void): () => void {
  let events: FSWatcher | undefined
  try {
    events = watchFolder(folder, { persistent: false }, look)
    // Events may end (no more watches, the folder is gone); the poll goes on.
    events.on('error', () => events?.close())
  } catch {
    // This system has no events for us; the poll alone is slower, not wrong.
  }
  const poll = setInterval(look, POLL_MS)
  poll.unref()
  return () => {
    clearInterval(poll)
    events?.close()
  }
}
