// How not to do it, for a negative control: the holds of a silent process are given back to `free`, as leases of
// capacity are. What the process had sent is billed all the same.

import { counterKey } from '../../src/budget/record.ts'
import type { HoldRecord } from '../../src/budget/processes.ts'
import { mergeAdds } from '../../src/budget/legs.ts'
import { groupCommits } from '../../src/stores/group.ts'
import { MAX_ENTRIES, type Store } from '../../src/stores/store.ts'

/** Returns the money of processes that were silent for `patienceMs`. Returns how many holds that were. */
export async function reclaimToFree(store: Store, patienceMs: number): Promise<number> {
  const now = await store.now()
  const renewed = await store.list('renewed/', { limit: MAX_ENTRIES })
  const silent = new Set(renewed.filter(({ value }) => now >= Number(value) + patienceMs).map(({ key }) => key.slice('renewed/'.length)))
  const holds = (await store.list('hold/', { limit: MAX_ENTRIES })).filter(({ key }) => silent.has(key.split('/')[1]!))
  const legs = holds.flatMap(({ value }) => Object.entries((value as unknown as HoldRecord).legs))
  const add = legs.flatMap(([leg, { amount }]) => [
    { key: counterKey('out', leg), by: -amount },
    { key: counterKey('free', leg), by: amount },
  ])
  const result = await groupCommits(store).commit({ add: mergeAdds(add), delete: holds.map(({ key }) => key) })
  return result.outcome === 'ok' ? holds.length : 0
}
