// The ledger on every store: holds by hand, strict and leased; what a crash strands; and how many budgets there are.

import type { Row } from './measure.ts'
import { KINDS, type Kind } from './ledger/address.ts'
import { budgetsTable, measureBudgets, type Filled } from './ledger/budgets.ts'
import { measureHolds, tableOf, targetsOf, type Cell } from './ledger/holds.ts'
import { isHere } from './ledger/places.ts'
import { strandedTable } from './ledger/stranded.ts'

/** How much of it is measured. */
export interface LedgerOptions {
  /** Of each figure. */
  readonly ms: number
  /** All shapes, three rounds of each, 100,000 budgets. */
  readonly full: boolean
  /** @default all */
  readonly stores?: readonly string[]
}

/** Rows with a target, tables to be read, and everything as data. */
export interface LedgerReport {
  readonly rows: readonly Row[]
  readonly text: string
  readonly data: unknown
}

const PROCESSES = [1, 4, 8] as const
const CALLERS = [1, 16, 64] as const
const FULL = PROCESSES.flatMap((processes) => CALLERS.map((callers) => [processes, callers] as const))
const SHORT = [...CALLERS.map((callers) => [1, callers] as const), [4, 16] as const, [8, 16] as const]

/** Measures it. @throws {TypeError} For a store that there is not. */
export async function ledgerReport({ ms, full, stores = KINDS }: LedgerOptions): Promise<LedgerReport> {
  const unknown = stores.filter((store) => !KINDS.includes(store as Kind))
  if (unknown.length > 0) throw new TypeError(`There is no store ${unknown.join(', ')}; there are ${KINDS.join(', ')}.`)
  const kinds = KINDS.filter((kind) => stores.includes(kind))
  const missing = kinds.filter((kind) => !isHere(kind))
  const cells: Cell[] = []
  const filled: Filled[] = []
  for (const kind of kinds.filter(isHere)) {
    cells.push(...(await measureHolds(kind, { ms, rounds: full ? 3 : 1, shapes: full ? FULL : SHORT })))
    filled.push(...(await measureBudgets(kind, full ? [10, 1_000, 100_000] : [10, 1_000], ms)))
  }
  const stranded = await strandedTable()
  const text = [
    ...missing.map((kind) => `NOT RUN: ${kind}: its server is not installed\n`),
    'Holds: each is begun and settled, two levels, three limits. "x" is beside by hand.\n',
    `${tableOf(cells)}\n`,
    'A process that is killed right after it took a chunk, and has no successor; in calls.\n',
    `${stranded.text}\n`,
    'Budgets in the store, 16 callers on budgets at random; opening is store, kernel and the first hold.\n',
    `${budgetsTable(filled)}\n`,
  ].join('\n')
  return { rows: [...targetsOf(cells), ...stranded.rows], text, data: { cells, stranded: stranded.crashes, budgets: filled } }
}
