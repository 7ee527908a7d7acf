// Between an adapter that cannot see the HTTP of its model, and a guarded client that may be below it. One hold pays for one
// HTTP attempt, so the adapter switches the retries of the SDK off for the call; a guarded client, which holds each
// attempt by itself, makes them again, and says that it is there.

import { ambient } from '../../src/lib/ambient.ts'

/** A call that an adapter has held without seeing its HTTP. */
interface UnseenCall {
  /** Whether the adapter has switched the retries off, and not its caller. */
  readonly retriesOff: boolean
  /** Whether a guarded client has turned out to be below it. */
  isGuardedBelow: boolean
}

const calls = new WeakMap<object, UnseenCall>()

/** Remembers a call by its hold. */
export function markUnseen(hold: object, retriesOff: boolean): void {
  calls.set(hold, { retriesOff, isGuardedBelow: false })
}

/** For a guarded client: says that it is below the call of this task. Returns whether it is to make its own retries again. */
export function takeRetriesBack(): boolean {
  const { hold } = ambient()
  const call = hold === undefined ? undefined : calls.get(hold)
  if (call !== undefined) call.isGuardedBelow = true
  return call?.retriesOff === true
}

/** Whether a guarded client was below this call, so that each of its HTTP attempts has paid for itself. */
export function isGuardedBelow(hold: object): boolean {
  return calls.get(hold)?.isGuardedBelow === true
}

/** Whether the retries of this call were switched off, and stayed off. */
export function hadNoRetries(hold: object): boolean {
  const call = calls.get(hold)
  return call?.retriesOff === true && !call.isGuardedBelow
}
