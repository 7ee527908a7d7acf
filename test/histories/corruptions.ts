// Ways to corrupt a history that was recorded from a right store, without lost answers, so that no right store could
// have answered so. Each finds its own place in any history, and so shows the checks thousands of bad ones.

import type { Batch, BatchResult, Entry } from '../../src/stores/store.ts'
import { precedes, type Answer, type Call, type Operation } from './history.ts'

/** Corrupts one place, chosen at random; `undefined` where a history has no such place. */
export type Corruption = (operations: readonly Operation[], random: () => number) => readonly Operation[] | undefined

type Read = Extract<Call, { do: 'read' }>
type Apply = Extract<Call, { do: 'apply' }>
type Ok = Extract<Answer, { outcome: 'ok' }>
interface Written {
  readonly operation: Operation
  readonly call: Apply
  readonly index: number
  readonly batch: Batch
  readonly answer: Answer
}
interface Seen {
  readonly operation: Operation
  readonly call: Read
  readonly index: number
  readonly entry: Entry
}

function batchesOf(operations: readonly Operation[]): readonly Written[] {
  return operations.flatMap((operation) => {
    const { call } = operation
    if (call.do === 'read' || call.answers === null) return []
    return call.answers.map((answer, index) => ({ operation, call, index, batch: call.batches[index]!, answer }))
  })
}

function entriesOf(operations: readonly Operation[]): readonly Seen[] {
  return operations.flatMap((operation) => {
    const { call } = operation
    if (call.do !== 'read') return []
    return call.entries.flatMap((entry, index) => (entry === null ? [] : [{ operation, call, index, entry }]))
  })
}

function writes({ set = [], add = [], delete: deleted = [] }: Batch, key: string): boolean {
  return [...set, ...add].some((one) => one.key === key) || deleted.includes(key)
}

function pick<T>(random: () => number, list: readonly T[]): T | undefined {
  return list[Math.floor(random() * list.length)]
}

function replace(operations: readonly Operation[], from: Operation, to: Operation | undefined): readonly Operation[] {
  return operations.flatMap((one) => (one === from ? (to === undefined ? [] : [to]) : [one]))
}

function withEntry({ operation, call, index }: Seen, entry: Entry | null): Operation {
  return { ...operation, call: { ...call, entries: call.entries.with(index, entry) } }
}

function withAnswer({ operation, call, index }: Written, answer: Answer): Operation {
  return { ...operation, call: { ...call, answers: call.answers!.with(index, answer) } }
}

/** The batch whose write an entry is. */
function writerOf(operations: readonly Operation[], { entry }: Seen): Written | undefined {
  return batchesOf(operations).find(({ answer }) => answer.outcome === 'ok' && answer.version === entry.version)
}

/** A batch that was seen never was. */
const forget: Corruption = (operations, random) => {
  const seen = pick(random, entriesOf(operations))
  const writer = seen && writerOf(operations, seen)
  return writer && replace(operations, writer.operation, undefined)
}

/** A read finds what was overwritten before it began. */
const age: Corruption = (operations, random) => {
  const batches = batchesOf(operations)
  const stale = entriesOf(operations).flatMap((older) => {
    const { key, version } = older.entry
    const later = batches.find(({ batch, answer }) => answer.outcome === 'ok' && answer.version > version && writes(batch, key))
    if (later === undefined) return []
    const reads = operations.filter((one) => one.call.do === 'read' && one.call.keys.includes(key) && precedes(later.operation, one))
    return reads.map((read) => ({ read, entry: older.entry }))
  })
  const one = pick(random, stale)
  if (one === undefined) return undefined
  const call = one.read.call as Read
  return replace(
    operations,
    one.read,
    withEntry({ operation: one.read, call, index: call.keys.indexOf(one.entry.key), entry: one.entry }, one.entry),
  )
}

/** An entry is gone that nobody deleted: its key is absent, though it was there before and after. */
const lose: Corruption = (operations, random) => {
  const batches = batchesOf(operations)
  const kept = entriesOf(operations).filter((seen) => {
    const writer = writerOf(operations, seen)
    const deletes = batches.some(({ batch }) => batch.delete?.includes(seen.entry.key) === true)
    return writer !== undefined && precedes(writer.operation, seen.operation) && !deletes
  })
  const one = pick(random, kept)
  return one && replace(operations, one.operation, withEntry(one, null))
}

/** A read finds what is written only after it. */
const foresee: Corruption = (operations, random) => {
  const seen = pick(random, entriesOf(operations))
  const writer = seen && writerOf(operations, seen)
  if (seen === undefined || writer === undefined) return undefined
  const { invoked } = writer.operation
  return replace(operations, seen.operation, { ...seen.operation, invoked: invoked - 2, returned: invoked - 1 })
}

/** An add comes to one more than it did. */
const miscount: Corruption = (operations, random) => {
  const counted = batchesOf(operations).filter(({ answer }) => answer.outcome === 'ok' && (answer.values?.length ?? 0) > 0)
  const one = pick(random, counted)
  if (one === undefined) return undefined
  const answer = one.answer as Ok
  return replace(operations, one.operation, withAnswer(one, { ...answer, values: answer.values!.with(0, answer.values![0]! + 1) }))
}

/** What was refused since it would have gone beyond its bound is granted. */
const overgrant: Corruption = (operations, random) => {
  const top = Math.max(...batchesOf(operations).map(({ answer }) => (answer.outcome === 'ok' ? answer.version : 0)))
  const refused = batchesOf(operations).filter(({ answer }) => answer.outcome === 'refused' && ['min', 'max'].includes(answer.reason))
  const one = pick(random, refused)
  if (one === undefined) return undefined
  const { which, value } = one.answer as Extract<BatchResult, { outcome: 'refused' }>
  const values = one.batch.add!.map(({ key, by }) => (key === which ? Number(value) : 0) + by)
  return replace(operations, one.operation, withAnswer(one, { outcome: 'ok', version: top + 1, values }))
}

/** Two batches, one after the other, have each other's version. */
const swapVersions: Corruption = (operations, random) => {
  const applied = batchesOf(operations).filter(({ answer }) => answer.outcome === 'ok')
  const first = pick(random, applied)
  const second =
    first &&
    pick(
      random,
      applied.filter(({ operation }) => precedes(first.operation, operation)),
    )
  if (first === undefined || second === undefined) return undefined
  const [a, b] = [first.answer as Ok, second.answer as Ok]
  const once = replace(operations, first.operation, withAnswer(first, { ...a, version: b.version }))
  return replace(once, second.operation, withAnswer(second, { ...b, version: a.version }))
}

/** A batch passes a check that it did not pass. */
const passCheck: Corruption = (operations, random) => {
  const top = Math.max(...batchesOf(operations).map(({ answer }) => (answer.outcome === 'ok' ? answer.version : 0)))
  const conflicts = batchesOf(operations).filter(({ operation, batch, answer }) => {
    if (answer.outcome !== 'conflict') return false
    // Out of date before it was sent, and never again what it asked for: versions do not repeat. Absence may.
    const asked = batch.check!.find(({ key }) => key === answer.which)!.version
    const overwriter = batchesOf(operations).find((one) => one.answer.outcome === 'ok' && one.answer.version === answer.version)
    return asked > 0 && overwriter !== undefined && precedes(overwriter.operation, operation)
  })
  const one = pick(random, conflicts)
  if (one === undefined) return undefined
  const values = (one.batch.add ?? []).map(() => 0)
  return replace(operations, one.operation, withAnswer(one, { outcome: 'ok', version: top + 1, ...(values.length > 0 ? {} : { values }) }))
}

/** All of them, by name. */
export const CORRUPTIONS: Readonly<Record<string, Corruption>> = {
  forget,
  age,
  lose,
  foresee,
  miscount,
  overgrant,
  'swap versions': swapVersions,
  'pass a check': passCheck,
}
