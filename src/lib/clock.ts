/** Time as the kernel sees it; tests inject their own. */
export interface Clock {
  /** Unix time in milliseconds. */
  now(): number
  /** Milliseconds since any fixed moment; nobody can set it. Without it, time stands still behind a clock that was ahead. */
  elapsed?(): number
}

/** The wall clock of this machine. */
export const systemClock: Clock = { now: () => Date.now(), elapsed: () => performance.now() }

/**
 * Reads a clock so that time never runs backwards, and does not stand still either: where the clock is behind a
 * time that was seen before, here or in a store (`seenMs`), time goes on from there.
 *
 * @returns Unix ms, whole.
 */
export function steady(clock: Clock): (seenMs?: number) => number {
  let lastMs = 0
  let lastElapsed = 0
  return (seenMs = 0) => {
    const elapsed = clock.elapsed?.() ?? 0
    lastMs = Math.max(clock.now(), seenMs, lastMs + elapsed - lastElapsed)
    lastElapsed = elapsed
    return Math.floor(lastMs)
  }
}

/** Waits `ms` milliseconds; keeps the process alive meanwhile. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
