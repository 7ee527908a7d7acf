// The one write: checks, bounded adds, sets and deletes that happen together or not at all.

import type { Json } from '../lib/canonical-json.ts'

/** The key must have this version; `0` means absent. Checks see the state before the batch. */
export interface Check {
  readonly key: string
  readonly version: number
}

/** Adds to an integer; an absent key counts as 0. Refused, with the whole batch, outside `min..max` or +-(2^53 - 1). */
export interface Add {
  readonly key: string
  readonly by: number
  readonly min?: number
  readonly max?: number
}

/** Sets a key to a JSON value. */
export interface SetKey {
  readonly key: string
  readonly value: Json
  /** Unix ms by the store's clock. @default never */
  readonly expiresAtMs?: number
}

/** One write: every part of it happens, or none. A key may be named once among `add`, `set` and `delete`. */
export interface Batch {
  readonly check?: readonly Check[]
  readonly add?: readonly Add[]
  readonly set?: readonly SetKey[]
  readonly delete?: readonly string[]
}

/** Where the store stands after a group, if it can say so: a later opener checks that this line is still there. */
export interface StoreHead {
  readonly segment: number
  readonly bytes: number
  readonly hash: string
}
