// Measuring: each figure is taken in rounds beside its yardstick, in turn, so that both see the same machine.

/** Latencies of one thing, in microseconds. */
export interface Latencies {
  readonly p50: number
  readonly p99: number
  readonly perSecond: number
}

/** Runs `fn` one after the other for `ms`, after a tenth of it as warm-up. */
export async function measure(ms: number, fn: () => unknown): Promise<Latencies> {
  const warmUntil = performance.now() + ms / 10
  while (performance.now() < warmUntil) await fn()
  const samples: number[] = []
  const startedAt = performance.now()
  const until = startedAt + ms
  for (let now = startedAt; now < until;) {
    await fn()
    const after = performance.now()
    samples.push(after - now)
    now = after
  }
  const seconds = (performance.now() - startedAt) / 1_000
  samples.sort((a, b) => a - b)
  const at = (share: number): number => (samples[Math.min(samples.length - 1, Math.floor(samples.length * share))] ?? 0) * 1_000
  return { p50: at(0.5), p99: at(0.99), perSecond: samples.length / seconds }
}

/** Runs `callers` loops of `fn` side by side for `ms`. Returns calls per second, all together. */
export async function rate(ms: number, callers: number, fn: (caller: number) => Promise<unknown>): Promise<number> {
  let calls = 0
  const startedAt = performance.now()
  const until = startedAt + ms
  await Promise.all(
    Array.from({ length: callers }, async (_, caller) => {
      while (performance.now() < until) {
        await fn(caller)
        calls += 1
      }
    }),
  )
  return calls / ((performance.now() - startedAt) / 1_000)
}

/** One line of the report. */
export interface Row {
  readonly what: string
  readonly figure: string
  readonly yardstick: string
  /** What the figure is in terms of its yardstick. */
  readonly ratio: number
  readonly target: string
  readonly met: boolean
}

/** The median of several runs of the same measurement: one noisy neighbour decides nothing. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!
}
