// The store that all processes share, as it is where nobody has bad luck. It is the memory store with two things more:
// after each batch the equation and the bill are compared, and it can be made to lose what it acknowledged.

import type { Batch, BatchResult, Entry } from '../../src/stores/store.ts'
import { createTable, evaluate, type Cell } from '../../src/stores/table.ts'
import { createWatchers } from '../../src/stores/watchers.ts'
import { steady } from '../../src/lib/clock.ts'
import { levelsOf, type Books } from './books.ts'
import { auditTakes, billFault, equationFault, legOf, partsOf, type Look } from './law.ts'
import { START_MS, type World } from './world.ts'

/** What a seeded bug makes of a batch before it is applied; `undefined` when it is acknowledged and forgotten. */
export type Tamper = (batch: Batch, look: Look) => Batch | undefined

/** The shared store. */
export interface Truth {
  /** Another one after its data was lost altogether. */
  readonly id: string
  /** Of the last batch that was applied. */
  readonly version: number
  /** How far its clock is ahead, ms. */
  skewMs: number
  tamper: Tamper | undefined
  readonly look: Look
  apply(batches: readonly Batch[]): readonly BatchResult[]
  read(keys: readonly string[]): readonly (Entry | null)[]
  list(prefix: string, options: { readonly after?: string; readonly limit: number }): readonly Entry[]
  now(): number
  watch(prefix: string, wake: () => void): () => void
  /** Compares the bill with what the ledger knows. */
  auditBill(legs: Iterable<string>): void
  /** Forgets the last batches; as if a server came back with an older state. */
  rollBack(batches: number): void
  /** The same, and it counts for nothing: for a seeded bug. */
  forget(batches: number): void
  /** Loses one key. */
  evict(key: string): void
}

interface Undo {
  readonly version: number
  readonly before: ReadonlyMap<string, Cell | null>
}

/** Batches that can be taken back. */
const MAX_UNDO = 10_000

/** Makes an empty store. */
export function createTruth(world: World, books: Books): Truth {
  const table = createTable()
  const watchers = createWatchers()
  const undo: Undo[] = []
  /** Legs that lost a counter: their equation is broken, and that is not the kernel's doing. */
  const evicted = new Set<string>()
  let version = 0
  const passed = steady({ now: () => START_MS + world.nowMs + truth.skewMs, elapsed: () => world.nowMs })
  const look: Look = (key) => table.cell(key)

  /** Money of each leg that the ledger would not give out again. */
  const coverOf = (legs: Iterable<string>): Map<string, number> =>
    new Map(
      [...legs].map((leg) => [
        leg,
        ['spent', 'suspense', 'out', 'kids'].reduce((sum, column) => sum + Number(table.cell(`${column}/${leg}`)?.value ?? 0), 0),
      ]),
    )

  function loses(keys: Iterable<string>, lose: () => void): void {
    const legs = new Set([...keys].flatMap((key) => legOf(key) ?? []))
    const before = coverOf(legs)
    lose()
    const after = coverOf(legs)
    const lost = new Map<string, number>()
    for (const leg of legs) {
      const [dimension, path] = partsOf(leg)
      // What is lost in a handoff is missing above as well, once it is closed; what is lost at two levels is lost once.
      for (const level of levelsOf(path)) {
        const above = `${dimension}/${level}`
        lost.set(above, Math.max(lost.get(above) ?? 0, before.get(leg)! - after.get(leg)!))
      }
    }
    for (const [leg, amount] of lost) books.lost.set(leg, (books.lost.get(leg) ?? 0) + amount)
  }

  function applyOne(given: Batch, now: number): BatchResult {
    const batch = truth.tamper === undefined ? given : truth.tamper(given, look)
    const { result, changes } = evaluate(look, batch ?? given, now, version + 1)
    if (result.outcome !== 'ok') return result
    version += 1
    if (batch === undefined) return result
    const before = new Map([...changes.keys()].map((key) => [key, table.cell(key) ?? null]))
    const takes = auditTakes(batch, look)
    if (takes !== undefined) world.fail(takes)
    meet(batch)
    undo.push({ version, before })
    if (undo.length > MAX_UNDO) undo.shift()
    table.put(changes)
    audit(changes.keys())
    for (const key of changes.keys()) watchers.touch(key)
    return result
  }

  /** Counts what a batch is about. */
  function meet({ set = [] }: Batch): void {
    for (const { key, value } of set) {
      const record = value as { reported?: object; allotment?: object; closed?: object; cut?: object; frozen?: string }
      if (key.startsWith('hold/') && record.reported !== undefined) world.meet('a lease')
      else if (key.startsWith('suspended/')) world.meet('a suspension')
      else if (key.startsWith('charged/')) world.meet('a charge')
      else if (key.startsWith('recall/')) world.meet('a recall')
      else if (key.startsWith('budget/')) {
        if (record.closed !== undefined) world.meet('a handoff that is closed')
        else if (record.allotment !== undefined) world.meet('a handoff')
        if (record.cut !== undefined) world.meet('a limit that waits for a cut')
        if (/more than its worst/.test(record.frozen ?? '')) world.meet('an overrun that froze a tree')
      }
    }
  }

  function audit(keys: Iterable<string>): void {
    const legs = new Set<string>()
    for (const key of keys) {
      const leg = legOf(key)
      if (leg !== undefined) legs.add(leg)
      else if (key.startsWith('budget/') && !isShape(key))
        for (const dimension of Object.keys((table.cell(key)?.value as { limits?: object } | undefined)?.limits ?? {}))
          legs.add(`${dimension}/${key.slice('budget/'.length)}`)
    }
    for (const leg of legs) {
      const fault = equationFault(leg, look)
      if (fault !== undefined && !evicted.has(leg)) world.fail(fault)
    }
    truth.auditBill(legs)
  }

  const truth: Truth = {
    id: `truth-${world.seed}`,
    get version() {
      return version
    },
    skewMs: 0,
    tamper: undefined,
    look,
    apply(batches) {
      const now = passed()
      const results = batches.map((batch) => applyOne(batch, now))
      world.mix(version)
      return results
    },
    read: (keys) => table.read(keys, passed()),
    list: (prefix, options) => table.list(prefix, passed(), options),
    now: () => passed(),
    watch: (prefix, wake) => watchers.add(prefix, wake),
    auditBill(legs) {
      for (const leg of legs) {
        const fault = billFault(leg, look, books)
        if (fault !== undefined) world.fail(fault)
      }
    },
    rollBack(batches) {
      // One by one: what a lost take had taken counts, also where a lost end had given back as much.
      for (let lost = 0; lost < batches && undo.length > 0; lost++) {
        const keys = [...undo.at(-1)!.before.keys()]
        loses(keys, () => truth.forget(1))
        for (const key of keys) watchers.touch(key)
      }
    },
    forget(batches) {
      const last = undo.splice(Math.max(0, undo.length - batches))
      for (const { before } of last.toReversed()) table.put(before)
      version -= last.length
      world.tell(() => `the store loses what it had since version ${version}`)
    },
    evict(key) {
      evicted.add(legOf(key)!)
      loses([key], () => table.put(new Map([[key, null]])))
      world.tell(() => `the store loses ${key}`)
    },
  }
  return truth
}

/** `acme/*` has no money; a window such as `acme/*day/2026-11-20` has. */
const isShape = (key: string): boolean => key.split('/').includes('*')
