// A stream that ends with its hold's permission to go on.

import type { Refusal } from '../../src/lib/errors.ts'
import type { Hold } from '../../src/waist/hold.ts'

/**
 * Calls `end`, once, when a hold is cut: by a stop, a freeze, or a gate that withdraws what it allowed.
 *
 * @param until - Ends the listening. @default the end of the hold
 */
export function cutWith({ cut }: Hold, end: (refusal: Refusal) => void, until?: AbortSignal): void {
  const fire = (): void => end(cut.reason as Refusal)
  if (cut.aborted) fire()
  else cut.addEventListener('abort', fire, { once: true, ...(until === undefined ? {} : { signal: until }) })
}
