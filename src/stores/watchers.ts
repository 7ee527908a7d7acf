// Who wants to be woken when keys with a prefix change. Wake-ups of one turn of the event loop merge into one.

/** The watchers of one store. */
export interface Watchers {
  readonly size: number
  add(prefix: string, wake: () => void): () => void
  /** Wakes, on the next turn of the event loop, whoever watches a prefix of this key. */
  touch(key: string): void
  /** Wakes everyone: something changed and nobody knows what. */
  touchAll(): void
  clear(): void
}

// An object for each watch: two of them may share a prefix and a callback.
interface Watcher {
  readonly prefix: string
  readonly wake: () => void
}

/** Makes an empty set of watchers. */
export function createWatchers(): Watchers {
  const watchers = new Set<Watcher>()
  const due = new Set<Watcher>()

  const wakeDue = (): void => {
    const waking = [...due]
    due.clear()
    // Some were stopped since, or are by those that are woken before them.
    for (const watcher of waking) if (watchers.has(watcher)) watcher.wake()
  }
  const schedule = (watcher: Watcher): void => {
    if (due.size === 0) setImmediate(wakeDue)
    due.add(watcher)
  }

  return {
    get size() {
      return watchers.size
    },
    add(prefix, wake) {
      const watcher = { prefix, wake }
      watchers.add(watcher)
      return () => {
        watchers.delete(watcher)
      }
    },
    touch(key) {
      for (const watcher of watchers) if (key.startsWith(watcher.prefix)) schedule(watcher)
    },
    touchAll() {
      for (const watcher of watchers) schedule(watcher)
    },
    clear() {
      watchers.clear()
      due.clear()
    },
  }
}
