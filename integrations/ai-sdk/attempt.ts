// One attempt of a model of the AI SDK under its hold: the hold travels in the task, and ends with the attempt's error.

import { withAmbient } from '../../src/lib/ambient.ts'
import type { Hold } from '../../src/waist/hold.ts'
import { endFailedCall } from '../common/failed-call.ts'

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
    throw await endFailedCall(hold, error, unbilledStatuses)
  }
}
