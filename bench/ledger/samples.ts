// What a process measured, small enough to be sent, and what several of them measured together.

/** What a process is to do. */
export interface Order {
  readonly how: How
  readonly callers: number
  readonly ms: number
}

/** Each hold takes and settles: by a script of one's own, by the ledger in two commits, or from a lease. */
export const HOWS = ['by hand', 'strict', 'leased'] as const
/** One of them. */
export type How = (typeof HOWS)[number]

/** Latencies of one process, in microseconds: as many of them as it can send, evenly spaced, the smallest first. */
export interface Sample {
  readonly perSecond: number
  readonly count: number
  readonly spread: readonly number[]
}

/** What was measured of all processes together: rate, and latencies in microseconds. */
export interface Figures {
  readonly perSecond: number
  readonly p50: number
  readonly p99: number
}

const SENT = 1_000

/** Runs as many callers side by side for `ms`, and measures each call. */
export async function sampled(ms: number, callers: number, fn: () => Promise<unknown>): Promise<Sample> {
  const taken: number[] = []
  const startedAt = performance.now()
  const until = startedAt + ms
  await Promise.all(
    Array.from({ length: callers }, async () => {
      for (let before = performance.now(); before < until;) {
        await fn()
        const after = performance.now()
        taken.push((after - before) * 1_000)
        before = after
      }
    }),
  )
  const seconds = (performance.now() - startedAt) / 1_000
  taken.sort((a, b) => a - b)
  const length = Math.min(SENT, taken.length)
  const spread = Array.from({ length }, (_, index) => taken[Math.floor(((index + 0.5) * taken.length) / length)]!)
  return { perSecond: taken.length / seconds, count: taken.length, spread }
}

/** Adds up the rates, and merges the latencies, each process counting by how much it did. */
export function together(samples: readonly Sample[]): Figures {
  const weighed = samples.flatMap(({ count, spread }) => spread.map((us) => ({ us, weight: count / spread.length })))
  weighed.sort((a, b) => a.us - b.us)
  const all = samples.reduce((sum, { count }) => sum + count, 0)
  const at = (share: number): number => {
    let seen = 0
    return weighed.find(({ weight }) => (seen += weight) >= share * all)?.us ?? 0
  }
  return { perSecond: samples.reduce((sum, { perSecond }) => sum + perSecond, 0), p50: at(0.5), p99: at(0.99) }
}

/** The round in the middle, by rate. */
export function middle(rounds: readonly Figures[]): Figures {
  return rounds.toSorted((a, b) => a.perSecond - b.perSecond)[Math.floor(rounds.length / 2)]!
}
