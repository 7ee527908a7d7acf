// One attempt of a model of the AI SDK under its hold: the hold travels in the task, and ends with the attempt's error.

import { withAmbient } from '../../src/lib/ambient.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import type { Hold } from '../../src/waist/hold.ts'
import { faultOf, isNeverSent, isUnbilled } from '../transport/exchange.ts'

/** Options of every guarded model. */
export interface AttemptOptions {
  /** Statuses of errors that the provider does not bill. @default 400 to 407, 409 to 499 */
  readonly unbilledStatuses?: readonly number[]
}

/** Sends a call with its hold in the task, so that a transport guard below finds it. Of an error the hold ends here. */
export async function attempt<T>(hold: Hold, { unbilledStatuses }: AttemptOptions, send: () => PromiseLike<T>): Promise<T> {
  try {
    return await withAmbient({ hold }, send)
  } catch (error) {
    const refusal = findRefusal(error)
    const status = (error as { statusCode?: unknown } | undefined)?.statusCode
    if (refusal !== undefined) await hold.release('the transport guard refused it')
    else if (typeof status === 'number' && isUnbilled(status, unbilledStatuses)) await hold.release(`status ${status} is not billed`)
    else if (isNeverSent(error)) await hold.release('never sent')
    else await hold.charge(`it failed: ${faultOf(error)}`)
    throw refusal ?? error
  }
}
