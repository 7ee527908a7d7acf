/** A queue whose least element comes first. */
export interface Heap<T> {
  push(item: T): void
  pop(): T | undefined
}

/** Makes an empty queue; `isBefore` has to be a total order, or runs would not repeat. */
export function createHeap<T>(isBefore: (one: T, other: T) => boolean): Heap<T> {
  const items: T[] = []

  return {
    push(item) {
      let at = items.length
      items.push(item)
      while (at > 0) {
        const above = (at - 1) >> 1
        if (!isBefore(item, items[above]!)) break
        items[at] = items[above]!
        at = above
      }
      items[at] = item
    },
    pop() {
      const first = items[0]
      const last = items.pop()
      if (last === undefined || items.length === 0) return first
      let at = 0
      for (;;) {
        let below = 2 * at + 1
        if (below >= items.length) break
        if (below + 1 < items.length && isBefore(items[below + 1]!, items[below]!)) below += 1
        if (!isBefore(items[below]!, last)) break
        items[at] = items[below]!
        at = below
      }
      items[at] = last
      return first
    },
  }
}
