// The end of a hold whose call failed, where an adapter holds it: of an HTTP attempt nothing is known here but the error.

import { findRefusal } from '../../src/lib/errors.ts'
import type { Hold } from '../../src/waist/hold.ts'
import { faultOf, isNeverSent, isUnbilled } from '../transport/exchange.ts'

/**
 * Ends the hold of a call that failed: released where nothing was sent or the provider does not bill it, else charged
 * at worst. A hold that an HTTP attempt has claimed ends with that.
 *
 * @param unbilledStatuses - Statuses of errors that the provider does not bill. @default 400 to 407, 409 to 499
 * @returns What to throw: the refusal in the error, if there is one, else the error.
 */
export async function endFailedCall(hold: Hold, error: unknown, unbilledStatuses?: readonly number[]): Promise<unknown> {
  const refusal = findRefusal(error)
  const { status, statusCode = status } = (error ?? {}) as { readonly status?: unknown; readonly statusCode?: unknown }
  if (refusal !== undefined) await hold.release('it was refused below')
  else if (typeof statusCode === 'number' && isUnbilled(statusCode, unbilledStatuses))
    await hold.release(`status ${statusCode} is not billed`)
  else if (isNeverSent(error)) await hold.release('never sent')
  else await hold.charge(`it failed: ${faultOf(error)}`)
  return refusal ?? error
}
