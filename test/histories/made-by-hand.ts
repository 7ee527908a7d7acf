// The words in which histories are made by hand.

import type { Json } from '../../src/lib/canonical-json.ts'
import type { Batch } from '../../src/stores/store.ts'
import type { Anomaly, Answer, Operation } from './history.ts'

/** A bad history and its good twin. */
export interface BadHistory {
  /** What is wrong. */
  readonly name: string
  /** A check that must find it, and what its message must say. Others may find it too. */
  readonly check: Anomaly['check']
  readonly says: RegExp
  readonly bad: readonly Operation[]
  readonly good: readonly Operation[]
}

/** From the call to its return. */
export type Time = readonly [invoked: number, returned: number]
/** What a read found: value and version, or nothing. */
export type Seen = readonly [value: Json, version: number] | null

/** A read of these keys. */
export function read([invoked, returned]: Time, entries: Readonly<Record<string, Seen>>): Operation {
  const found = Object.entries(entries).map(([key, seen]) => (seen === null ? null : { key, value: seen[0], version: seen[1] }))
  return { client: 'r', invoked, returned, call: { do: 'read', keys: Object.keys(entries), entries: found } }
}

/** One batch, and its answer. */
export function apply([invoked, returned]: Time, batch: Batch, ...answers: readonly Answer[]): Operation {
  return { client: 'w', invoked, returned, call: { do: 'apply', batches: [batch], answers } }
}

/** One batch that was applied. */
export function ok(time: Time, batch: Batch, version: number, ...values: readonly number[]): Operation {
  return apply(time, batch, { outcome: 'ok', version, values })
}

/** Several batches in one step. */
export function group(time: Time, batches: readonly Batch[], ...answers: readonly Answer[]): Operation {
  return { client: 'g', invoked: time[0], returned: time[1], call: { do: 'apply', batches, answers } }
}

/** One batch whose answer was lost. @param settled - When its client was next answered. */
export function unknown(invoked: number, batch: Batch, settled?: number): Operation {
  return {
    client: 'u',
    invoked,
    returned: null,
    ...(settled === undefined ? {} : { settled }),
    call: { do: 'apply', batches: [batch], answers: null },
  }
}

/** Sets a key. */
export const set = (key: string, value: Json): Batch => ({ set: [{ key, value }] })
/** Adds to a key. */
export const add = (key: string, by: number, bounds: { readonly max?: number; readonly min?: number } = {}): Batch => ({
  add: [{ key, by, ...bounds }],
})
/** Sets a key that has this version. */
export const cas = (key: string, version: number, value: Json): Batch => ({ check: [{ key, version }], set: [{ key, value }] })
/** The answer to an add that was refused. */
export const refusal = (which: string, reason: 'min' | 'max' | 'type', value: Json): Answer => ({
  outcome: 'refused',
  which,
  reason,
  value,
})

/** A transaction: reads `seen`, appends `element` to the lists of `to`, and leaves them with `version`. */
export function txn(
  time: Time | number,
  seen: Readonly<Record<string, readonly string[]>>,
  to: string,
  element: string,
  version?: number,
): Operation {
  const batch: Batch = { set: to.split('').map((key) => ({ key, value: [...(seen[key] ?? []), element] })) }
  const [invoked, returned] = typeof time === 'number' ? [time, null] : time
  const answers: readonly Answer[] | null = returned === null ? null : [{ outcome: 'ok', version: version!, values: [] }]
  return { client: element, invoked, returned, call: { do: 'apply', batches: [batch], answers, seen } }
}

/** The same as refused by a conflict. */
export function refusedTxn(
  time: Time,
  seen: Readonly<Record<string, readonly string[]>>,
  to: string,
  element: string,
  which: string,
): Operation {
  const { call, ...operation } = txn(time, seen, to, element, 0)
  const batch = (call as { batches: readonly Batch[] }).batches[0]!
  const answer: Answer = { outcome: 'conflict', which, version: 1 }
  return { ...operation, call: { do: 'apply', seen, batches: [{ ...batch, check: [{ key: which, version: 0 }] }], answers: [answer] } }
}
