// Lengths of sound, as providers report them.

const MAX_SECONDS = 1e9

/** Seconds, also in fractions, as whole milliseconds, begun ones counted; `undefined` for anything but a length. */
export function audioMs(seconds: unknown): number | undefined {
  if (typeof seconds !== 'number' || !(seconds >= 0 && seconds <= MAX_SECONDS)) return undefined
  const ms = seconds * 1_000
  // 8.2 s is 8,199.999 or 8,200.001 ms in floating point, and neither is a millisecond begun.
  return Math.abs(ms - Math.round(ms)) < 1e-3 ? Math.round(ms) : Math.ceil(ms)
}
