// A history: what clients asked of a store, when they asked and were answered, and what the answers were. It is
// recorded by record.ts, judged by judge.ts, and kept as JSON so that a failing one can be judged again.

import { readFileSync, writeFileSync } from 'node:fs'
import type { Batch, BatchResult, Entry } from '../../src/stores/store.ts'

/** What a batch was answered. `values` are left out where they were read later than the batch was applied. */
export type Answer =
  | { readonly outcome: 'ok'; readonly version: number; readonly values?: readonly number[] }
  | Exclude<BatchResult, { outcome: 'ok' }>

/** What a client asked, and what it was answered. */
export type Call =
  | { readonly do: 'read'; readonly keys: readonly string[]; readonly entries: readonly (Entry | null)[] }
  | {
      readonly do: 'apply'
      /** One group, applied in order in one step. */
      readonly batches: readonly Batch[]
      /** `null` when the reply was lost: each batch took effect at any time after the call, or never. */
      readonly answers: readonly Answer[] | null
      /** Of a transaction of the kind `append`: the lists that its checks stand for, by key. */
      readonly seen?: Readonly<Record<string, readonly string[]>>
    }

/** One call of one client. */
export interface Operation {
  readonly client: string
  /** Before the call, ns on a clock that all clients share. */
  readonly invoked: number
  /** After the answer, on the same clock; `null` for an unknown outcome, which is open-ended. */
  readonly returned: number | null
  /**
   * Of an unknown outcome: when the same client was next answered anything. Until then it took effect, or never: who
   * goes on after a doubt, or looks what became of it, must not be told one thing and see another. @default never
   */
  readonly settled?: number
  readonly call: Call
}

/** How the clients of a history behave: any writes on few keys, bounded adds, or transactions that append to lists. */
export type Workload = 'mixed' | 'counter' | 'append'

/** A history. Its keys are absent at first. */
export interface History {
  readonly format: 1
  readonly store: string
  readonly seed: number
  readonly workload: Workload
  readonly operations: readonly Operation[]
}

/** What a check found wrong. */
export interface Anomaly {
  readonly check: 'linearizable' | 'snapshot' | 'counter' | 'versions' | 'cycles'
  /** One sentence: which key, which operations. */
  readonly message: string
}

/** Whether `a` was over before `b` began, so that every order of the operations has it first. */
export function precedes(a: Operation, b: Operation): boolean {
  return (a.returned ?? a.settled ?? Infinity) < b.invoked
}

/** The keys that a call names. */
export function keysOf({ call }: Operation): readonly string[] {
  if (call.do === 'read') return call.keys
  return call.batches.flatMap(({ check = [], add = [], set = [], delete: deleted = [] }) => [
    ...[...check, ...add, ...set].map(({ key }) => key),
    ...deleted,
  ])
}

/** All keys of a history. */
export function keysOfAll(operations: readonly Operation[]): readonly string[] {
  return [...new Set(operations.flatMap(keysOf))].sort()
}

/** One line about an operation, for messages. */
export function describe({ client, invoked, returned, call }: Operation): string {
  const what =
    call.do === 'read'
      ? `read ${call.keys.map((key, index) => `${key}=${shown(call.entries[index] ?? null)}`).join(' ')}`
      : `apply ${JSON.stringify(call.batches)} -> ${call.answers === null ? 'unknown' : JSON.stringify(call.answers)}`
  return `${client} [${invoked}..${returned ?? ''}] ${what}`
}

function shown(entry: Entry | null): string {
  return entry === null ? 'absent' : `${JSON.stringify(entry.value)}@${entry.version}`
}

/** Writes a history to a file. */
export function saveHistory(file: string, history: History): void {
  writeFileSync(file, `${JSON.stringify(history, undefined, 1)}\n`)
}

/** Reads a history from a file. @throws {TypeError} For a file that holds something else. */
export function loadHistory(file: string): History {
  const found = JSON.parse(readFileSync(file, 'utf8')) as Partial<History>
  if (found.format !== 1 || !Array.isArray(found.operations)) throw new TypeError(`Expected a history of format 1 in ${file}.`)
  return found as History
}
