// What comes late to a window: a successor, an overrun, the end of a handoff. None of it may stop a budget that has room.

import { describe, expect, test } from 'vitest'
import type { BudgetDeclaration } from '../../src/budget/declaration.ts'
import { settleEstate } from '../../src/budget/estate.ts'
import type { KernelOptions } from '../../src/kernel/open-kernel.ts'
import { groupCommits } from '../../src/stores/group.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { line, open, refusalOf, take } from './bench.ts'

const DAY = 24 * 3_600_000
const NOON = Date.parse('2026-11-20T12:00:00Z')

/** A store and kernels that live by one clock. */
function site(budgets: Readonly<Record<string, BudgetDeclaration>>, atMs: number = NOON) {
  const time = { atMs, now: () => time.atMs }
  const store = memoryStore({ clock: time })
  return { time, store, openOne: (options: Partial<KernelOptions> = {}) => open({ store, clock: time, budgets, ...options }) }
}

describe('a successor', () => {
  test('that comes a day later opens the window of that day like everybody else', async () => {
    const { time, store, openOne } = site({ acme: { tokens: 100_000, windows: [{ per: 'day', tokens: 50_000 }] } })
    const { kernel: dead } = await openOne()
    await (await take(dead, 'acme', { tokens: 40 })).settle({ tokens: 40 })
    time.atMs += DAY
    const over = { budget: 'acme', amounts: { tokens: 2 }, lease: 'x', used: { tokens: 7 }, charged: false }
    const estate = { committer: groupCommits(store), boot: dead.boot, holds: new Map([['over', over]]), observe: false }
    await settleEstate({ ...estate, now: time.now, onTrouble: (error) => expect(error).toBeUndefined() })
    const { kernel } = await openOne()
    await (await take(kernel, 'acme', { tokens: 10 })).settle({ tokens: 10 })
    expect(await line(store, 'acme/*day/2026-11-21')).toMatchObject({ limit: 50_000, spent: 15 })
    expect((await refusalOf(take(kernel, 'acme', { tokens: 49_986 }))).code).toBe('ERR_BUDGET_EXCEEDED')
  })
})
