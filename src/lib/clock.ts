/** Time as the kernel sees it; tests inject their own. */
export interface Clock {
  /** Unix time in milliseconds. */
  now(): number
}

/** The wall clock of this machine. */
export const systemClock: Clock = { now: () => Date.now() }

/** Waits `ms` milliseconds; keeps the process alive meanwhile. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
