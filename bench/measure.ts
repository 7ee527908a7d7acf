// Measuring: each figure is taken in rounds beside its yardstick, in turn, so that both see the same machine.

/** Latencies of one thing, in microseconds. */
export interface Latencies {
  readonly p50: number
  readonly p99: number
}

const ROUNDS = 10

/**
 * Runs each function for `ms` in all, after a tenth of it as warm-up: a slice of one, a slice of the next, and
 * so on, so that a machine that slows down in the middle slows them all.
 */
export async function measure<K extends string>(ms: number, fns: Readonly<Record<K, () => unknown>>): Promise<Record<K, Latencies>> {
  const names = Object.keys(fns) as K[]
  const samples = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<K, number[]>
  for (const name of names) await slice(ms / 10, fns[name], [])
  for (let round = 0; round < ROUNDS; round++) for (const name of names) await slice(ms / ROUNDS, fns[name], samples[name])
  return Object.fromEntries(names.map((name) => [name, latencies(samples[name])])) as Record<K, Latencies>
}

async function slice(ms: number, fn: () => unknown, samples: number[]): Promise<void> {
  const until = performance.now() + ms
  for (let before = performance.now(); before < until;) {
    await fn()
    const after = performance.now()
    samples.push(after - before)
    before = after
  }
}

function latencies(samples: number[]): Latencies {
  samples.sort((a, b) => a - b)
  const at = (share: number): number => (samples[Math.min(samples.length - 1, Math.floor(samples.length * share))] ?? 0) * 1_000
  return { p50: at(0.5), p99: at(0.99) }
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
