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

/** Makes an empty set of watchers. */
export function createWatchers(): Watchers {
  const watchers = new Set<{ readonly prefix: string; readonly wake: () => void }>()
  const due = new Set<() => void>()

  const wakeDue = (): void => {
    const wakes = [...due]
    due.clear()
    for (const wake of wakes) wake()
  }
  const schedule = (wake: () => void): void => {
    if (due.size === 0) setImmediate(wakeDue)
    due.add(wake)
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
        due.delete(wake)
      }
    },
    touch(key) {
      for (const { prefix, wake } of watchers) if (key.startsWith(prefix)) schedule(wake)
    },
    touchAll() {
      for (const { wake } of watchers) schedule(wake)
    },
    clear() {
      watchers.clear()
      due.clear()
    },
  }
}
