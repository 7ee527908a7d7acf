import type { Json } from '../lib/canonical-json.ts'
import type { StoreHead } from './batch.ts'

/** What happened; each kind has its own fields. */
export type LogKind = 'open' | 'lease' | 'intent' | 'outcome' | 'refused' | 'approve' | 'event' | 'head' | 'close'

/** The audit chain of this process, as the rooms above see it. */
export interface Log {
  /** Identity of this process's chain. */
  readonly boot: string
  /**
   * Appends one record; when it returns, the record survives the death of this process.
   *
   * @throws {HoldfastError} `ERR_STORE` when it cannot be written, `ERR_CLOSED` after the end of the chain.
   * @throws {TypeError} For a field that is not JSON, or that is the record's own (`h`, `store`).
   */
  append(kind: LogKind, fields: { readonly [key: string]: Json }): void
  /** Number of records and hash of the last one, for the next group of commits. */
  head(): { readonly count: number; readonly hash: string }
  /** Notes where the store stood after an acknowledged commit; the next record carries it. */
  noteStoreHead(head: StoreHead): void
}
