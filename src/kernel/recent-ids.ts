// The newest of many ids. Two sets that take turns: to remove the oldest of one large set, it would have to be found
// behind all that were removed before it.

/** Ids that were added lately. */
export interface RecentIds {
  add(id: string): void
  /** Whether it is one of the newest `keep` ids; of older ones it may still say so. */
  has(id: string): boolean
}

/**
 * Remembers at least the newest `keep` ids, and at most twice as many.
 *
 * @param keep - Such as of answers that an HTTP attempt has paid for, which the adapter above may still report.
 */
export function createRecentIds(keep = 10_000): RecentIds {
  let current = new Set<string>()
  let before = new Set<string>()
  return {
    add(id) {
      if (current.size >= keep) [before, current] = [current, new Set()]
      current.add(id)
    },
    has: (id) => current.has(id) || before.has(id),
  }
}
