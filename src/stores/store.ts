// The store contract: one write, `apply`, that is all or nothing per batch. Everything above (budgets,
// approvals, process records) is pure logic over it, written once. A store needs nothing else to be right.

import type { Json } from '../lib/canonical-json.ts'
import type { Batch, StoreHead } from '../waist/batch.ts'

export type { Add, Batch, Check, SetKey, StoreHead } from '../waist/batch.ts'

/** Most operations in one batch. */
export const MAX_BATCH_OPERATIONS = 1_000
/** Longest key, in UTF-8 bytes. */
export const MAX_KEY_BYTES = 2_048
/** Largest value, and largest batch, in bytes of its canonical JSON. */
export const MAX_BATCH_BYTES = 1_048_576
/** Most entries that one `list` or `read` returns. */
export const MAX_ENTRIES = 10_000

/** What a key holds: `{ key: 'free/usd/acme', value: 1500, version: 42 }`. */
export interface Entry {
  readonly key: string
  readonly value: Json
  /** From one rising counter of the store: the batch that wrote this key last. Never repeats, also after a delete. */
  readonly version: number
  /** Unix ms by the store's clock; from then on the key is absent. */
  readonly expiresAtMs?: number
}

/** What became of a batch. */
export type BatchResult =
  /** Applied: every key it wrote has this version. `values`: of its adds, in order. */
  | { readonly outcome: 'ok'; readonly version: number; readonly values: readonly number[] }
  /** An add would have left its bounds (`min`, `max`, `range`), or met something that is not an integer (`type`). Nothing was applied. */
  | { readonly outcome: 'refused'; readonly which: string; readonly reason: 'min' | 'max' | 'range' | 'type'; readonly value: Json }
  /** A checked key has another version. Nothing was applied. */
  | { readonly outcome: 'conflict'; readonly which: string; readonly version: number }

/** What became of a group of batches. */
export type GroupResult =
  | { readonly outcome: 'applied'; readonly results: readonly BatchResult[]; readonly head?: StoreHead }
  /** Another writer was first; nothing was written. Try again. */
  | { readonly outcome: 'contended' }
  /**
   * The reply was lost: applied, not applied, or still on its way. Ask again under the same identity, and spend nothing
   * meanwhile. Once the same store object has answered a later `apply` with `applied`, whatever became of the batches of
   * that one, nothing of this group is applied any more. A read settles nothing, nor does `contended`.
   */
  | { readonly outcome: 'unknown'; readonly cause: unknown }

/** What a store promises, so that the kernel can compare it with what a budget needs. */
export interface Capabilities {
  /** Who sees the same state: this process, the processes of one host, or of many. */
  readonly shared: 'process' | 'host' | 'network'
  /** What an acknowledged batch survives: nothing, the death of its process (`os`), or a power cut too (`disk`). */
  readonly durable: 'none' | 'os' | 'disk'
  /** Settings of the server, as found when the store was opened, under which acknowledged batches can be lost. @default none */
  readonly shortfalls?: readonly Shortfall[]
}

/** A setting that a hard budget cannot stand on: `{ setting: 'appendfsync', found: 'everysec', needs: 'always', risk: '...' }`. */
export interface Shortfall {
  /** The server's own name of the setting; also the name under which `assume` states it. */
  readonly setting: string
  /** Absent when the server did not let it be read: then only `assume` can say what it is. */
  readonly found?: string
  /** What a hard budget needs it to be. */
  readonly needs: string
  /** What can happen as it is, in one sentence. */
  readonly risk: string
}

/**
 * A store. Implementations take the user's own client and import no driver.
 *
 * `apply` rejects with a `HoldfastError` when it is certain that nothing was applied and trying again
 * would not help (damage, closed, full); every other trouble is one of the outcomes of {@link GroupResult}.
 */
export interface Store {
  /** For people: `memory`, `file .holdfast/store`. */
  readonly name: string
  /** Identity of the data: two stores with the same id are the same state. */
  readonly id: string
  readonly capabilities: Capabilities
  /** Data directory that belongs to this store, where the kernel puts its chain files by default. */
  readonly dataDirectory?: string
  /**
   * Applies batches in order, in one step that a crash cannot split; each is applied or refused by itself. At
   * least one batch. The batches are the store's from then on: it may keep and freeze them, and their caller
   * changes them no more (group commit sends copies).
   */
  apply(batches: readonly Batch[]): Promise<GroupResult>
  /** One snapshot, at least as new as every batch acknowledged before the call; `null` for absent or expired keys. */
  read(keys: readonly string[]): Promise<readonly (Entry | null)[]>
  /** Entries whose key begins with `prefix`, in order of key (UTF-16 code units), after the key `after`. */
  list(prefix: string, options: { readonly after?: string; readonly limit: number }): Promise<readonly Entry[]>
  /** The store's clock, Unix ms. */
  now(): Promise<number>
  /** Calls back, soon and at least once, after keys with this prefix changed: a wake-up, never a count. Returns the stop function. */
  watch(prefix: string, wake: () => void): () => void
  /** Says of each head that this store once named whether it is still in it. Stores that name none have no such question. */
  holds?(heads: readonly StoreHead[]): Promise<readonly ('yes' | 'no' | 'unknown')[]>
  close(): Promise<void>
}
