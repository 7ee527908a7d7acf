// A graph of what came before what, and its shortest cycles. Small: as many nodes as a history has transactions.

/** Why one node came before another. */
export interface Edge {
  readonly from: number
  readonly to: number
  /**
   * `ww` both wrote a key, in this order; `wr` the second read what the first wrote; `rw` the first read what the
   * second overwrote; `version` of a lower version; `time` over before the second began.
   */
  readonly why: 'ww' | 'wr' | 'rw' | 'version' | 'time'
}

/** The shortest cycle through one of the edges `first`, going on along `others`; `undefined` if there is none. */
export function shortestCycle(nodes: number, first: readonly Edge[], others: readonly Edge[]): readonly Edge[] | undefined {
  const out: Edge[][] = Array.from({ length: nodes }, () => [])
  for (const edge of others) out[edge.from]!.push(edge)
  let best: readonly Edge[] | undefined
  for (const edge of first) {
    const back = edge.from === edge.to ? [] : shortestPath(out, edge.to, edge.from)
    if (back !== undefined && (best === undefined || back.length + 1 < best.length)) best = [edge, ...back]
  }
  return best
}

function shortestPath(out: readonly (readonly Edge[])[], from: number, to: number): readonly Edge[] | undefined {
  const reachedBy = new Map<number, Edge>()
  const waiting = [from]
  for (let at = 0; at < waiting.length; at++) {
    for (const edge of out[waiting[at]!]!) {
      if (edge.to === from || reachedBy.has(edge.to)) continue
      reachedBy.set(edge.to, edge)
      if (edge.to === to) return pathOf(reachedBy, from, to)
      waiting.push(edge.to)
    }
  }
  return undefined
}

function pathOf(reachedBy: ReadonlyMap<number, Edge>, from: number, to: number): readonly Edge[] {
  const path: Edge[] = []
  for (let node = to; node !== from; node = path[0]!.from) path.unshift(reachedBy.get(node)!)
  return path
}
