// Two questions to a history, both answered by the search of search.ts.
//
// Key by key: is there an order in which each operation on this key is right? A history is linearizable if it is so
// for each object (Herlihy and Wing, 1990), so keys are searched one by one: the P-compositionality of Horn and
// Kroening ("Faster linearizability checking via P-compositionality", 2015), which keeps searches short.
//
// As a whole: is there one order in which each batch and each read of several keys is right at once? A store
// promises that too: `read` is one snapshot, a batch happens together. Versions of one rising counter leave few
// orders to try, so this is affordable for histories of the size that record.ts makes.

import { describe, keysOfAll, type Anomaly, type Operation } from './history.ts'
import { ABSENT, applyPart, partsOf, textOf, type KeyState, type Part } from './key-model.ts'
import { findOrder, type Found, type Model, type Timed } from './search.ts'

/** An operation, or one batch of an unknown one, as what it did to keys. */
interface Step extends Timed {
  readonly source: Operation
  readonly parts: readonly { readonly key: string; readonly part: Part }[]
}

/** Checks each key by itself. */
export function checkKeys(operations: readonly Operation[]): readonly Anomaly[] {
  const known = knownVersions(operations)
  return keysOfAll(operations).flatMap((key) => {
    const found = findOrder(keyModel(known), stepsOf(operations, [key]))
    return anomaliesOf('linearizable', `key ${key}`, found)
  })
}

/** Checks that all batches and snapshots fit into one order. */
export function checkSnapshots(operations: readonly Operation[]): readonly Anomaly[] {
  const model = storeModel(knownVersions(operations))
  return anomaliesOf('snapshot', 'the whole store', findOrder(model, stepsOf(operations, keysOfAll(operations))))
}

/** The versions that acknowledged batches got. */
export function knownVersions(operations: readonly Operation[]): ReadonlySet<number> {
  const answers = operations.flatMap(({ call }) => (call.do === 'apply' ? (call.answers ?? []) : []))
  return new Set(answers.flatMap((answer) => (answer.outcome === 'ok' ? [answer.version] : [])))
}

function stepsOf(operations: readonly Operation[], keys: readonly string[]): readonly Step[] {
  return operations.flatMap((source) => {
    const { invoked, returned, call } = source
    const step = (parts: Step['parts'], until: number | null): readonly Step[] =>
      parts.length === 0 ? [] : [{ source, invoked, returned: until, settled: source.settled, parts }]
    if (call.do === 'read') {
      const seen = call.keys.map((key, index) => ({ key, part: { kind: 'read', entry: call.entries[index] ?? null } as const }))
      return step(
        seen.filter(({ key }) => keys.includes(key)),
        returned,
      )
    }
    const { batches, answers } = call
    const parts = batches.map((batch, index) =>
      keys.flatMap((key) => partsOf(key, batch, answers?.[index] ?? null).map((part) => ({ key, part }))),
    )
    if (answers !== null) return step(parts.flat(), returned)
    // Which batches of a lost group were refused is not known, so each of them may have happened or not. One that
    // writes none of these keys cannot be noticed.
    return parts.filter((batch) => batch.some(({ part }) => isWrite(part))).flatMap((batch) => step(batch, null))
  })
}

function isWrite({ kind }: Part): boolean {
  return kind === 'add' || kind === 'set' || kind === 'delete'
}

function keyModel(known: ReadonlySet<number>): Model<KeyState, Step> {
  return {
    initial: ABSENT,
    text: textOf,
    apply(state, { parts }) {
      let after: KeyState | undefined = state
      for (const { part } of parts) if (after !== undefined) after = applyPart(after, part, known)
      return after
    },
  }
}

interface StoreState {
  readonly keys: ReadonlyMap<string, KeyState>
  /** The highest version of the store so far. */
  readonly high: number
}

function storeModel(known: ReadonlySet<number>): Model<StoreState, Step> {
  return {
    initial: { keys: new Map(), high: 0 },
    text: ({ keys, high }) => `${high};${[...keys].map(([key, state]) => `${key}=${textOf(state)}`).join(';')}`,
    apply(state, { parts }) {
      // Listed in the order of their keys, so that the same state has the same text.
      const keys = new Map(state.keys)
      let { high } = state
      for (const { key, part } of parts) {
        const version = isWrite(part) && 'version' in part ? part.version : undefined
        if (version !== undefined && version < high) return undefined
        const before = keys.get(key) ?? ABSENT
        // A write comes after everything that the store did before, on whatever key.
        const floor = isWrite(part) && version === undefined ? Math.max(before.high, state.high) : before.high
        const after = applyPart({ ...before, high: floor }, part, known)
        if (after === undefined) return undefined
        keys.set(key, after)
        high = Math.max(high, version ?? 0)
      }
      return { keys: new Map([...keys].sort(([a], [b]) => (a < b ? -1 : 1))), high }
    },
  }
}

function anomaliesOf(check: Anomaly['check'], what: string, found: Found<Step>): readonly Anomaly[] {
  if (found.verdict === 'order') return []
  if (found.verdict === 'undecided') return [{ check, message: `${what}: not decided within the steps of the search` }]
  const last = found.order.at(-1)
  const after = last === undefined ? 'at the beginning' : `after ${found.order.length} operations, the last being ${describe(last.source)}`
  const next = found.next.map(({ source }) => describe(source)).join(' | ')
  return [{ check, message: `${what}: no order explains it; ${after}, none of these can follow: ${next}` }]
}
