// The state of a journal: its table, and the cells in one map, so that a snapshot can copy all of them at one instant.

import { createTable, type Cell, type Changes, type Table } from '../table.ts'

/** Cells by key, as they are at one place of the journal. */
export type Cells = Map<string, Cell>

/** The table of a journal. */
export interface State {
  readonly table: Table
  put(changes: Changes): void
  /** Drops what has expired by the time of an accepted line; every process of the store does that at the same line. */
  prune(timeMs: number): void
  /** All cells, expired ones included; what is put later does not change the copy. */
  copy(): Cells
}

/** Makes a state of these cells; the map is the state's from then on. */
export function createState(cells: Cells = new Map()): State {
  const table = createTable()
  table.put(cells)

  function put(changes: Changes): void {
    table.put(changes)
    for (const [key, cell] of changes) {
      if (cell === null) cells.delete(key)
      else cells.set(key, cell)
    }
  }

  return {
    table,
    put,
    prune(timeMs) {
      const expired = new Map<string, null>()
      for (const [key, { expiresAtMs }] of cells) if (expiresAtMs !== undefined && expiresAtMs <= timeMs) expired.set(key, null)
      put(expired)
    },
    copy: () => new Map(cells),
  }
}
