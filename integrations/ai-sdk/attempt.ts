// One attempt of a model of the AI SDK under its hold: the hold travels in the task, and ends with the attempt's error.

import { ambient, withAmbient } from '../../src/lib/ambient.ts'
import type { Hold } from '../../src/waist/hold.ts'
import { endFailedCall } from '../common/failed-call.ts'

/** Options of every guarded model. */
export interface AttemptOptions {
  /** Statuses of errors that the provider does not bill. @default 400 to 407, 409 to 499 */
  readonly unbilledStatuses?: readonly number[]
}

/** What guarded models below an attempt have paid for: a model may be wrapped twice, with something in between. */
interface Below {
  /** The attempt around this one. */
  readonly around: Below | undefined
  /** Ids of responses. */
  readonly answers: Set<string>
  readonly errors: WeakSet<object>
}

const attempts = new WeakMap<object, Below>()

/** Most answers below one attempt that are remembered; further ones are paid twice. */
const MAX_ANSWERS = 100

/** Tells the attempt around this one, if there is one, that a response was paid for here. */
export function notePaid(hold: Hold, responseId: string | undefined): void {
  const answers = attempts.get(hold)?.around?.answers
  if (responseId !== undefined && responseId !== '' && answers !== undefined && answers.size < MAX_ANSWERS) answers.add(responseId)
}

/** Whether a guarded model below has paid for this very response. */
export function isPaidBelow(hold: Hold, responseId: string | undefined): boolean {
  return responseId !== undefined && attempts.get(hold)?.answers.has(responseId) === true
}

/** Sends a call with its hold in the task, so that a transport guard below finds it. Of an error the hold ends here. */
export async function attempt<T>(hold: Hold, { unbilledStatuses }: AttemptOptions, send: () => PromiseLike<T>): Promise<T> {
  const { hold: outer } = ambient()
  const below: Below = { around: outer === undefined ? undefined : attempts.get(outer), answers: new Set(), errors: new WeakSet() }
  attempts.set(hold, below)
  try {
    return await withAmbient({ hold }, send)
  } catch (error) {
    if (typeof error !== 'object' || error === null) throw await endFailedCall(hold, error, unbilledStatuses)
    if (below.errors.has(error)) await hold.release('a guarded model below has ended it')
    below.around?.errors.add(error)
    throw hold.state === 'released' ? error : await endFailedCall(hold, error, unbilledStatuses)
  }
}
