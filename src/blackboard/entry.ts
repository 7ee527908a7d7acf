// How the blackboard lies in the store. An entry is what a key holds and who wrote it; a proposal is a change
// that was not made yet, with the versions that it builds on.
//
//   bb/<namespace>/<key>   BoardRecord; its version in the store is the version of the entry
//   proposal/<id>          ProposalRecord, until it expires

import { canonicalJson, type Json } from '../lib/canonical-json.ts'
import { sha256 } from '../lib/ids.ts'
import { parsePath } from '../lib/names.ts'
import type { Entry as StoreEntry } from '../stores/store.ts'

/** Format of everything that the blackboard writes. */
export const BOARD_FORMAT = 1

/** Who wrote something. */
export interface Author {
  readonly agent: string
  readonly task: string
}

/** One write of the past of a key. */
export interface PastWrite extends Author {
  readonly version: number
  /** Unix ms by the store's clock. */
  readonly atMs: number
  /** SHA-256 of the canonical JSON of the value. A delete ends the history of a key; the next write begins a new one. */
  readonly hash: string
}

/** What a key of a board holds. */
export interface BoardEntry extends Author {
  readonly key: string
  readonly value: Json
  /** Rises with every write, and never repeats, also after a delete. */
  readonly version: number
  /** Unix ms by the store's clock. */
  readonly atMs: number
  /** Unix ms by the store's clock; from then on the key is absent. */
  readonly expiresAtMs?: number
}

/** A key that holds nothing; its version, 0, can be built upon like any other. */
export interface AbsentEntry {
  readonly key: string
  readonly version: 0
}

/** An entry as it lies in the store. */
export interface BoardRecord extends Author {
  readonly format: typeof BOARD_FORMAT
  readonly value: Json
  readonly atMs: number
  /** The writes before this one, newest first, at most {@link MAX_PAST}. */
  readonly past: readonly PastWrite[]
}

/** What a change writes to one key. */
export interface BoardWrite {
  readonly key: string
  /** Absent: the key is deleted. */
  readonly value?: Json
  readonly ttlMs?: number
}

/** A proposal as it lies in the store. */
export interface ProposalRecord extends Author {
  readonly format: typeof BOARD_FORMAT
  readonly namespace: string
  readonly state: 'pending' | 'validated' | 'committed' | 'aborted'
  readonly writes: readonly BoardWrite[]
  /** The versions that it builds on, of keys read and of keys written. */
  readonly reads: readonly { readonly key: string; readonly version: number }[]
  readonly atMs: number
  /** Agent that validated it. */
  readonly validatedBy?: string
}

/** How many writes of the past an entry remembers. */
export const MAX_PAST = 16

/** The key of an entry in the store. @throws {TypeError} {RangeError} For a key that is no path of names. */
export function entryKey(namespace: string, key: string): string {
  parsePath('key', key)
  return `bb/${namespace}/${key}`
}

/** The key of a proposal in the store. */
export const proposalKey = (id: string): string => `proposal/${id}`

/** Reads an entry of the store as one of a board. */
export function toEntry(key: string, found: StoreEntry | null): BoardEntry | AbsentEntry {
  if (found === null) return { key, version: 0 }
  const { value, agent, task, atMs } = found.value as unknown as BoardRecord
  const { version, expiresAtMs } = found
  return { key, value, version, agent, task, atMs, ...(expiresAtMs === undefined ? {} : { expiresAtMs }) }
}

/** The writes of a key, newest first, with the one that its record shows. */
export function pastOf({ agent, task, atMs, value, past }: BoardRecord, version: number): readonly PastWrite[] {
  return [{ version, agent, task, atMs, hash: sha256(canonicalJson(value)) }, ...past]
}
