// What a higher revision does to the windows of a budget: they stay where they are in time, and the one that is
// current gets the new limit at once, like the budget itself.

import { amountOf } from '../../lib/amounts.ts'
import { HoldfastError } from '../../lib/errors.ts'
import type { Store } from '../../stores/store.ts'
import type { Add, Check, SetKey } from '../../waist/batch.ts'
import { budgetKey, counterKey, type BudgetRecord } from '../record.ts'
import { windowPath, type WindowRecord } from './window.ts'

/** The windows of a record from now on, and what is to be written with it. */
export interface WindowChanges {
  readonly windows: Readonly<Record<string, WindowRecord>>
  readonly check: readonly Check[]
  readonly add: readonly Add[]
  readonly set: readonly SetKey[]
}

/**
 * Carries the windows of a budget over to another declaration of it.
 *
 * @throws {HoldfastError} `ERR_BUDGET_DECLARATION` when a window, or a dimension of one, is missing there, or a rolling
 *   one has other parts: what was used in it would no longer count. `ERR_DAMAGE` when a current window was lost.
 */
export async function changeWindows(store: Store, path: string, known: BudgetRecord, declared: BudgetRecord): Promise<WindowChanges> {
  const windows: Record<string, WindowRecord> = { ...declared.windows }
  const changes = { check: [] as Check[], add: [] as Add[], set: [] as SetKey[] }
  for (const [name, before] of Object.entries(known.windows ?? {})) {
    const after = windows[name]
    const dropped = Object.keys(before.limits).find((dimension) => after === undefined || !Object.hasOwn(after.limits, dimension))
    if (after === undefined || dropped !== undefined || after.rolling !== before.rolling)
      throw new HoldfastError(
        'ERR_BUDGET_DECLARATION',
        `Budget \`${path}\`: revision ${declared.revision} has no window \`${name}\` like the one before (${Object.keys(before.limits).join(', ')}${before.rolling === undefined ? '' : `, in ${before.rolling} parts`}); its limits can be raised, not dropped.`,
      )
    const { current, live } = before
    windows[name] = { ...after, ...(current === undefined ? {} : { current }), ...(live === undefined ? {} : { live }) }
    if (current === undefined) continue
    const window = windowPath(path, name, current)
    const [entry] = await store.read([budgetKey(window)])
    if (entry === null || entry === undefined)
      throw new HoldfastError('ERR_DAMAGE', `The current window \`${window}\` has no record: it was lost. Nothing is changed.`)
    // What an operator has set since goes with the revision that he set it under. Of a part of one that rolls nobody sets any.
    const { declaration: _, cut, ...record } = entry.value as unknown as BudgetRecord
    const inForce = after.rolling === undefined ? record.limits : before.limits
    const by = Object.keys(after.limits).map((dimension) => [dimension, after.limits[dimension]! - amountOf(inForce, dimension)] as const)
    if (cut === undefined && by.every(([, change]) => change === 0)) continue
    const limits = {
      ...record.limits,
      ...Object.fromEntries(by.map(([dimension, change]) => [dimension, amountOf(record.limits, dimension) + change])),
    }
    changes.check.push({ key: entry.key, version: entry.version })
    changes.add.push(
      ...by
        .filter(([, change]) => change !== 0)
        .map(([dimension, change]) => ({ key: counterKey('free', `${dimension}/${window}`), by: change, min: 0 })),
    )
    changes.set.push({ key: entry.key, value: { ...record, limits } })
  }
  return { windows, ...changes }
}
