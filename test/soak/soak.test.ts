// The soak, for a few seconds on each store that is there: nothing is overspent, nothing is out of balance, nothing is
// lost. And the same soak finds the three usual ways to get a budget wrong. `npm run soak` does it for longer.

import { describe, expect, test } from 'vitest'
import { CONTROLS } from '../../soak/controls.ts'
import { verdictOf } from '../../soak/report.ts'
import { STORES, type StoreName } from '../../soak/site.ts'
import { soak } from '../../soak/soak.ts'
import { postgresBinaries } from '../stores/postgres-server.ts'
import { requireServer } from '../stores/servers.ts'

const MS = Number(process.env['HOLDFAST_SOAK_SECONDS'] || 5) * 1_000
const PROCESSES = 4
const CONTROL_MS = 40_000

function isThere(store: StoreName): boolean {
  if (store === 'redis') return requireServer('redis-server', 'the soak of the Redis store')
  return store !== 'postgres' || requireServer('postgres', 'the soak of the Postgres store', postgresBinaries() !== undefined)
}

describe(`${PROCESSES} processes that are killed, stopped and cut off for ${MS / 1_000} s`, () => {
  test.for(STORES.filter(isThere))('overspend nothing on %s, and everything is accounted for', { timeout: MS + 120_000 }, async (store) => {
    const seed = Date.now() % 1_000_000_000
    const outcome = await soak({ store, processes: PROCESSES, ms: MS, seed })
    expect({ seed, breaches: verdictOf(outcome) }).toEqual({ seed, breaches: [] })
    expect(Math.max(0, outcome.looks.overspend)).toBe(0)
    expect([outcome.billed > 0, outcome.looks.done > 0]).toEqual([true, true])
  })

  test.for(CONTROLS)('NEGATIVE CONTROL: the same soak finds %s', { timeout: CONTROL_MS + 60_000 }, async (control) => {
    const outcome = await soak({ store: 'file', processes: PROCESSES, ms: CONTROL_MS, seed: Date.now() % 1_000_000_000, control })
    expect(verdictOf(outcome)).toEqual([])
  })
})
