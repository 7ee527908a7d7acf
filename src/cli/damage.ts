// Budgets that were lost. A lost record must not look like a budget that never was: its counters are still
// there, and its parent has counted it.

import type { BudgetRecord } from '../budget/record.ts'
import { budgetKey, pathOfBudgetKey, counterKey } from '../budget/record.ts'
import { parseWindowPath, windowPath } from '../budget/windows/window.ts'
import { listAll } from '../stores/entries.ts'
import type { Store } from '../stores/store.ts'

/**
 * What is wrong with the budgets of a store as a whole, one sentence each. Right also while others create
 * budgets, since those are never removed: who reads counters first and records later cannot miss a record.
 */
export async function findDamage(store: Store): Promise<readonly string[]> {
  const countedBefore = await childCounts(store)
  const counters = await listAll(store, counterKey('free', ''))
  const records = await listAll(store, budgetKey(''))
  const countedAfter = await childCounts(store)

  const paths = new Set(records.map(({ key }) => pathOfBudgetKey(key)))
  const current = new Set(
    records.flatMap(({ key, value }) =>
      Object.entries((value as unknown as BudgetRecord).windows ?? {}).flatMap(([name, window]) =>
        window.current === undefined ? [] : [windowPath(pathOfBudgetKey(key), name, window.current)],
      ),
    ),
  )
  const damage = counters
    .map(({ key }) => ({ key, path: key.split('/').slice(2).join('/') }))
    // Windows that are long over go while this looks.
    .filter(({ path }) => !paths.has(path) && parseWindowPath(path) === undefined)
    .map(({ key, path }) => `Budget \`${path}\` has counters (${key}) but no record: the record was lost.`)

  damage.push(
    ...[...current].filter((path) => !paths.has(path)).map((path) => `The current window \`${path}\` has no record: it was lost.`),
  )

  const found = new Map<string, number>()
  for (const { key, value } of records) {
    // Only those that their first take created are counted; declared ones have no shape.
    if ((value as unknown as BudgetRecord & { shape?: string }).shape === undefined) continue
    const parent = key.slice(budgetKey('').length, key.lastIndexOf('/'))
    found.set(parent, (found.get(parent) ?? 0) + 1)
  }
  for (const parent of new Set([...countedBefore.keys(), ...found.keys()])) {
    const there = found.get(parent) ?? 0
    const [least, most] = [countedBefore.get(parent) ?? 0, countedAfter.get(parent) ?? 0]
    if (there >= least && there <= most) continue
    damage.push(`Budget \`${parent}\` counts ${there < least ? least : most} children of \`*\`, but ${there} are in the store.`)
  }
  return damage
}

async function childCounts(store: Store): Promise<ReadonlyMap<string, number>> {
  const entries = await listAll(store, 'children/')
  return new Map(entries.map(({ key, value }) => [key.slice('children/'.length), Number(value)]))
}
