// Retries that a provider's SDK makes below an adapter. One hold pays for one HTTP attempt, so an adapter that cannot
// see the HTTP switches them off for the call; a guarded client, which holds each attempt by itself, makes them again.

import { ambient } from '../../src/lib/ambient.ts'

/** Of each call, by its hold, whether a guarded client below has taken its retries back. */
const switchedOff = new WeakMap<object, { takenBack: boolean }>()

/** Remembers that the retries of the call which this hold is for were switched off by its adapter, not by its caller. */
export function markRetriesOff(hold: object): void {
  switchedOff.set(hold, { takenBack: false })
}

/** Whether the current task is a call whose retries its adapter has switched off; who asks makes them again. */
export function takeRetriesBack(): boolean {
  const { hold } = ambient()
  const call = hold === undefined ? undefined : switchedOff.get(hold)
  if (call !== undefined) call.takenBack = true
  return call !== undefined
}

/** Whether the retries of this call were switched off, and stayed off. */
export function hadNoRetries(hold: object): boolean {
  return switchedOff.get(hold)?.takenBack === false
}
