// What comes late to a window: a successor, an overrun, the end of a handoff. None of it may stop a budget that has room.

import { describe, expect, test } from 'vitest'
import type { BudgetDeclaration } from '../../src/budget/declaration.ts'
import { legsOf } from '../../src/budget/legs.ts'
import { createLevels } from '../../src/budget/levels.ts'
import { isHistory } from '../../src/budget/report.ts'
import { settleEstate } from '../../src/budget/estate.ts'
import type { KernelOptions } from '../../src/kernel/open-kernel.ts'
import { groupCommits } from '../../src/stores/group.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { line, open, refusalOf, take } from './bench.ts'

const MINUTE = 60_000
const DAY = 24 * 60 * MINUTE
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

describe('what was held in a window', () => {
  test('is ended there by a successor too, and counts in no later one', async () => {
    const { time, store, openOne } = site({ acme: { tokens: 1_000, windows: [{ per: 'day', tokens: 100 }] } })
    const { kernel: dead } = await openOne()
    const hold = await take(dead, 'acme', { tokens: 60 })
    time.atMs += DAY
    await take((await openOne()).kernel, 'acme', { tokens: 100 })
    const fact = { budget: 'acme', amounts: { tokens: 60 }, used: { tokens: 50 }, charged: false }
    const estate = { committer: groupCommits(store), boot: dead.boot, holds: new Map([[hold.id, fact]]), observe: false }
    await settleEstate({ ...estate, now: time.now, onTrouble: (error) => expect(error).toBeUndefined() })
    expect(await line(store, 'acme/*day/2026-11-20')).toMatchObject({ spent: 50, free: 50, out: 0 })
    expect(await line(store, 'acme/*day/2026-11-21')).toMatchObject({ spent: 0, out: 100 })
    expect((await line(store, 'acme')).frozen).toBe(undefined)
  })
})

describe('an overrun in a rolling window that has moved along', () => {
  const budgets = { acme: { tokens: 10_000, windows: [{ per: 'minute', rolling: 2, tokens: 1_000 }] } } as const

  test('is taken from what is free in the window', async () => {
    const { time, store, openOne } = site(budgets)
    const { kernel, events } = await openOne()
    const hold = await take(kernel, 'acme', { tokens: 100 })
    time.atMs += MINUTE / 2
    await (await take(kernel, 'acme', { tokens: 1 })).settle({ tokens: 1 })
    await hold.settle({ tokens: 101 })
    expect(events.map(({ type }) => type)).toEqual(['overrun'])
    expect(await line(store, 'acme')).toMatchObject({ spent: 102, out: 0, over: 0 })
    expect(await line(store, 'acme/*rolling-minute/2026-11-20T12:00:00Z')).toMatchObject({ limit: 100, spent: 100, over: 0 })
    expect(await line(store, 'acme/*rolling-minute/2026-11-20T12:00:30Z')).toMatchObject({ limit: 900, spent: 2, free: 898, over: 0 })
    await take(kernel, 'acme', { tokens: 898 })
  })

  test('is taken from what has come back to another part of it', async () => {
    const { time, store, openOne } = site({ acme: { tokens: 10_000, windows: [{ per: 'minute', rolling: 3, tokens: 100 }] } })
    const { kernel } = await openOne()
    const first = await take(kernel, 'acme', { tokens: 60 })
    time.atMs += MINUTE / 3
    const second = await take(kernel, 'acme', { tokens: 40 })
    time.atMs += MINUTE / 3
    await refusalOf(take(kernel, 'acme', { tokens: 1 }))
    await first.settle({ tokens: 0 })
    await second.settle({ tokens: 41 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 41, out: 0, over: 0 })
    expect(await line(store, 'acme/*rolling-minute/2026-11-20T12:00:40Z')).toMatchObject({ limit: 60, spent: 1, free: 59 })
    await take(kernel, 'acme', { tokens: 59 })
  })

  test('freezes its tree where the window has no room for it either', async () => {
    const { time, openOne } = site(budgets)
    const { kernel } = await openOne()
    const hold = await take(kernel, 'acme', { tokens: 100 })
    time.atMs += MINUTE / 2
    await take(kernel, 'acme', { tokens: 900 })
    await hold.settle({ tokens: 101 })
    expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).code).toBe('ERR_BUDGET_FROZEN')
  })
})

describe('what comes back to an earlier part of a rolling window', () => {
  const windows = [
    { per: 'day', rolling: 2, tokens: 100 },
    { per: 'hour', rolling: 2, tokens: 100 },
  ] as const

  test('can be taken at once, and is waited for as long as it is held', async () => {
    const { time, store, openOne } = site({ acme: { tokens: 10_000, windows } }, NOON - MINUTE)
    const { kernel } = await openOne()
    const hold = await take(kernel, 'acme', { tokens: 100 })
    time.atMs += 2 * MINUTE
    const { code, details } = await refusalOf(take(kernel, 'acme', { tokens: 10 }))
    expect(code).toBe('ERR_BUDGET_BUSY')
    expect(details.budget).toMatchObject({ out: 100 })
    await hold.settle({ tokens: 1 })
    await (await take(kernel, 'acme', { tokens: 10 })).settle({ tokens: 10 })
    expect(await line(store, 'acme/*rolling-day/2026-11-20T12:00:00Z')).toMatchObject({ limit: 99, spent: 10, free: 89 })
    expect(await line(store, 'acme/*rolling-day/2026-11-20T00:00:00Z')).toMatchObject({ limit: 1, spent: 1, free: 0 })
    expect((await refusalOf(take(kernel, 'acme', { tokens: 90 }))).code).toBe('ERR_BUDGET_EXCEEDED')
    await take(kernel, 'acme', { tokens: 89 })
  })

  test('is taken once by all who want it', async () => {
    const { time, openOne } = site({ acme: { tokens: 10_000, windows } }, NOON - MINUTE)
    const { kernel } = await openOne()
    const hold = await take(kernel, 'acme', { tokens: 100 })
    const others = await Promise.all([1, 2, 3].map(async () => (await openOne()).kernel))
    time.atMs += 2 * MINUTE
    await hold.settle({ tokens: 1 })
    const takes = others.flatMap((other) => Array.from({ length: 50 }, () => take(other, 'acme', { tokens: 1 })))
    const refused = (await Promise.allSettled(takes)).filter(({ status }) => status === 'rejected')
    expect(refused.length).toBe(51)
  })
})

describe('a handoff of observe mode', () => {
  test('that did not fit into its window can be closed when that window is long gone', async () => {
    const { time, store, openOne } = site({ acme: { tokens: 100_000, windows: [{ per: 'minute', tokens: 10 }] } })
    const { kernel } = await openOne({ mode: 'observe' })
    const giver = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
    const handoff = await giver.handoff({ to: 'b', budget: { tokens: 100 }, instruction: 'Count.' })
    const window = 'acme/*minute/2026-11-20T12:00:00Z'
    expect(await line(store, window)).toMatchObject({ over: 100 })
    for (let minute = 0; minute < 100; minute++) {
      time.atMs += MINUTE
      await (await take(kernel, 'acme', { tokens: 1 })).settle({ tokens: 1 })
    }
    expect(await store.read([`budget/${window}`])).toEqual([null])
    expect(await handoff.close()).toMatchObject({ returned: { tokens: 100 }, stillOut: { tokens: 0 } })
    expect(await line(store, 'acme')).toMatchObject({ spent: 100, kids: 0, free: 99_900 })
    expect(await store.list('over/', { limit: 10 })).toEqual([])
  })
})

describe('a higher revision', () => {
  const budgets = (tokens: number, revision: number) => ({ acme: { tokens: 1_000, revision, windows: [{ per: 'day', tokens }] } }) as const
  const [window, why] = ['acme/*day/2026-11-20', { by: 'ann', reason: 'a busy day' }]

  test.each([
    [10, 40],
    [10, 100],
    [1_000, 40],
  ])('sets the window that is current, also where an operator has set it to %i while %i were held', async (set, held) => {
    const { store, openOne } = site(budgets(100, 1))
    const { kernel } = await openOne()
    const hold = await take(kernel, 'acme', { tokens: held })
    await kernel.setLimit(window, { tokens: set }, why)
    await openOne({ budgets: budgets(100, 2) })
    expect(await line(store, window)).toMatchObject({ limit: 100, free: 100 - held, out: held })
    await hold.settle({ tokens: 0 })
    // Nothing of it is still to be cut.
    await openOne({ budgets: budgets(100, 2) })
    expect(await line(store, window)).toMatchObject({ limit: 100, free: 100 })
  })

  test('that is lower than what is used in it is refused, whatever was set', async () => {
    const { store, openOne } = site(budgets(100, 1))
    const { kernel } = await openOne()
    await take(kernel, 'acme', { tokens: 60 })
    await kernel.setLimit(window, { tokens: 1_000 }, why)
    await expect(openOne({ budgets: budgets(50, 2) })).rejects.toMatchObject({ code: 'ERR_BUDGET_DECLARATION' })
    expect(await line(store, window)).toMatchObject({ limit: 1_000 })
  })
})

test('a window whose opening was not acknowledged is open all the same', async () => {
  const { store, openOne } = site({ acme: { tokens: 1_000, windows: [{ per: 'day', tokens: 100 }] } })
  await openOne()
  let lost = 0
  const lossy: Store = {
    ...store,
    async apply(...given) {
      const results = await store.apply(...given)
      return JSON.stringify(given).includes('*day') && lost++ === 0 ? { outcome: 'unknown', cause: new Error('lost') } : results
    },
  }
  const { kernel } = await openOne({ store: lossy })
  await Promise.all(Array.from({ length: 20 }, () => take(kernel, 'acme', { tokens: 1 })))
  expect(await line(store, 'acme/*day/2026-11-20')).toMatchObject({ limit: 100, out: 20 })
})

test('who only looks sees of a rolling window that has yet to move along what it will have', async () => {
  const { time, store, openOne } = site({ acme: { windows: [{ per: 'minute', rolling: 2, tokens: 100 }] } })
  const { kernel } = await openOne()
  await (await take(kernel, 'acme', { tokens: 90 })).settle({ tokens: 90 })
  const free = async (): Promise<number> => {
    const levels = createLevels(store)
    const [leg] = await levels.standings(legsOf(await levels.of('acme'), { tokens: 1 }, new Set()))
    return leg!.free
  }
  time.atMs += MINUTE / 2
  expect(await free()).toBe(10)
  time.atMs += MINUTE
  expect(await free()).toBe(100)
})

test('a part of a rolling window is history when it no longer counts, and not before', async () => {
  const { time, store, openOne } = site({ acme: { windows: [{ per: 'minute', rolling: 2, tokens: 100 }] } })
  const { kernel } = await openOne()
  const isPast = async (): Promise<boolean> => isHistory(await line(store, 'acme/*rolling-minute/2026-11-20T12:00:00Z'))
  const spent = []
  for (let part = 0; part < 4; part++) {
    await (await take(kernel, 'acme', { tokens: 20 })).settle({ tokens: 20 })
    spent.push(await isPast())
    time.atMs += MINUTE / 2
  }
  expect(spent).toEqual([false, false, false, true])
})
