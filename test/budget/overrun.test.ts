// When a call uses more than its worst case, or nobody says in time what it used. Proves that an overrun is never
// clamped and never hidden: free money covers it at every level, or it is counted beside the equation and the
// whole tree stops; and that a hold past its deadline is charged once, and corrected by whoever comes late.

import { describe, expect, test, vi } from 'vitest'
import { line, money, open, refusalOf, take } from './bench.ts'

describe('an overrun', () => {
  test('that free money covers is taken from it at every level, and reported', async () => {
    const { kernel, store, events } = await open({ budgets: { acme: { tokens: 100 }, 'acme/one': { tokens: 20 } } })
    const hold = await take(kernel, 'acme/one', { tokens: 10 })
    await hold.settle({ tokens: 15 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 15, free: 85, out: 0, over: 0 })
    expect(await line(store, 'acme/one')).toMatchObject({ spent: 15, free: 5, out: 0, over: 0 })
    expect(events.map(({ type }) => type)).toEqual(['overrun'])
    await take(kernel, 'acme/one', { tokens: 5 })
  })

  test('by not one unit is none', async () => {
    const { kernel, events } = await open({ budgets: { acme: { tokens: 10 } } })
    await (await take(kernel, 'acme', { tokens: 10 })).settle({ tokens: 10 })
    expect(events).toEqual([])
  })

  test('that free money does not cover is counted in `over`, level by level, and freezes the whole tree', async () => {
    const budgets = { acme: { tokens: 100 }, 'acme/one': { tokens: 12 }, 'acme/two': { tokens: 50 }, other: { tokens: 5 } }
    const { kernel, store, events } = await open({ budgets })
    const elsewhere = await take(kernel, 'acme/two', { tokens: 10 })
    await (await take(kernel, 'acme/one', { tokens: 10 })).settle({ tokens: 15 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 15, free: 75, out: 10, over: 0 })
    expect(await line(store, 'acme/one')).toMatchObject({ spent: 10, free: 2, out: 0, over: 5 })
    expect(events.map(({ message }) => message)).toEqual([expect.stringContaining('the tree of `acme/one` is frozen')])
    for (const path of ['acme', 'acme/one', 'acme/two']) {
      const refusal = await refusalOf(take(kernel, path, { tokens: 1 }))
      expect(refusal).toMatchObject({ code: 'ERR_BUDGET_FROZEN', details: { endsRun: true } })
      expect(refusal.message).toContain('`acme` is frozen')
    }
    // What was held before ends as it would have, and another tree goes on.
    await elsewhere.settle({ tokens: 3 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 18, free: 82, out: 0 })
    await take(kernel, 'other', { tokens: 5 })
  })

  test('freezes for every kernel on the store, also one that had read the budget before, and for one that opens later', async () => {
    const budgets = { acme: { tokens: 10 } }
    const { kernel, store } = await open({ budgets })
    const { kernel: other } = await open({ store })
    await (await take(other, 'acme', { tokens: 1 })).release('warm')
    await (await take(kernel, 'acme', { tokens: 10 })).settle({ tokens: 11 })
    expect(await refusalOf(take(other, 'acme', { tokens: 1 }))).toMatchObject({ code: 'ERR_BUDGET_FROZEN' })
    const { kernel: later } = await open({ store, budgets })
    expect(await refusalOf(take(later, 'acme', { tokens: 1 }))).toMatchObject({ code: 'ERR_BUDGET_FROZEN' })
    expect(await line(store, 'acme')).toMatchObject({ spent: 10, free: 0, over: 1, frozen: expect.stringContaining('worst case') })
  })

  test('freezes also what needs no money, for a kernel that had read the budget before', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10 } } })
    const { kernel: other } = await open({ store })
    await (await take(other, 'acme', {})).release('warm')
    await (await take(kernel, 'acme', { tokens: 10 })).settle({ tokens: 11 })
    expect(await refusalOf(take(other, 'acme', {}))).toMatchObject({ code: 'ERR_BUDGET_FROZEN' })
  })

  test('stops freezing for every kernel as soon as an operator declares a higher revision of the root', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10 }, 'acme/one': { tokens: 10 } } })
    await (await take(kernel, 'acme/one', { tokens: 5 })).settle({ tokens: 11 })
    await refusalOf(take(kernel, 'acme/one', { tokens: 1 }))
    await open({ store, budgets: { acme: { tokens: 10 }, 'acme/one': { tokens: 20, revision: 2 } } })
    expect(await refusalOf(take(kernel, 'acme/one', { tokens: 1 }))).toMatchObject({ code: 'ERR_BUDGET_FROZEN' })
    const { kernel: later } = await open({ store, budgets: { acme: { tokens: 20, revision: 2 } } })
    for (const one of [kernel, later]) expect((await take(one, 'acme/one', { tokens: 1 })).state).toBe('held')
    expect(await line(store, 'acme')).not.toHaveProperty('frozen')
    expect(await line(store, 'acme')).toMatchObject({ limit: 20, spent: 5, out: 2, free: 13, over: 6 })
  })

  test('of several dimensions is judged for each of them by itself', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10, calls: 10, usd: 1 } } })
    await (await take(kernel, 'acme', { tokens: 10, calls: 1, usd: 5 })).settle({ tokens: 12, calls: 3, usd: 1 })
    expect(await line(store, 'acme', 'tokens')).toMatchObject({ spent: 10, free: 0, over: 2 })
    expect(await line(store, 'acme', 'calls')).toMatchObject({ spent: 3, free: 7, over: 0 })
    expect(await line(store, 'acme', 'usd')).toMatchObject({ spent: 1, over: 0 })
  })

  test('that becomes known after the hold was charged is an overrun all the same', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 12 } } })
    const covered = await take(kernel, 'acme', { tokens: 5 })
    await covered.charge('left')
    await covered.settle({ tokens: 7 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 7, free: 5, assumed: 0, over: 0 })
    const uncovered = await take(kernel, 'acme', { tokens: 5 })
    await uncovered.charge('left')
    await uncovered.settle({ tokens: 9 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 12, free: 0, assumed: 0, over: 4, frozen: expect.any(String) })
  })

  test('that freezes from two kernels at once is counted for both', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10 } } })
    const { kernel: other } = await open({ store })
    const holds = [await take(kernel, 'acme', { tokens: 5 }), await take(other, 'acme', { tokens: 5 })]
    await Promise.all(holds.map((hold) => hold.settle({ tokens: 8 })))
    expect(await line(store, 'acme')).toMatchObject({ spent: 10, out: 0, over: 6, frozen: expect.any(String) })
  })
})

describe('what was used without being held', () => {
  test('in a dimension that the hold does not have is an overrun in it', async () => {
    const { kernel, store, events } = await open({ budgets: { acme: { tokens: 100, calls: 5 }, 'acme/one': { tokens: 10 } } })
    await (await take(kernel, 'acme/one', { calls: 1 })).settle({ calls: 1, tokens: 8 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 8, free: 92 })
    expect(await line(store, 'acme/one')).toMatchObject({ spent: 8, free: 2 })
    expect(events.map(({ type }) => type)).toEqual(['overrun'])
  })

  test('by an action that held nothing at all is counted once, also in a child that is created by it', async () => {
    const { kernel, store, events } = await open({ budgets: { acme: { tokens: 100 }, 'acme/*': { tokens: 10, calls: 3 } } })
    const hold = await take(kernel, 'acme/new', {})
    await hold.settle({ tokens: 8 })
    await hold.settle({ tokens: 8 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 8, free: 92, out: 0 })
    expect(await line(store, 'acme/new')).toMatchObject({ spent: 8, free: 2, out: 0 })
    expect(events.map(({ type }) => type)).toEqual(['overrun'])
    expect(Object.keys(await money(store)).filter((key) => /^(hold|suspended|charged|id)\//.test(key))).toEqual([])
  })

  test('and that no free money covers, freezes the tree', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10 } } })
    await (await take(kernel, 'acme', {})).settle({ tokens: 11 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 0, free: 10, over: 11, frozen: expect.any(String) })
    await (await take(kernel, 'acme', {}).catch(() => undefined))?.release('never')
    expect(await refusalOf(take(kernel, 'acme', { tokens: 1 }))).toMatchObject({ code: 'ERR_BUDGET_FROZEN' })
  })
})

const late = async () => {
  const bench = await open({ budgets: { acme: { tokens: 10 } }, holdDeadlineMs: 10 })
  const hold = await take(bench.kernel, 'acme', { tokens: 4 })
  await vi.waitFor(async () => expect(await line(bench.store, 'acme')).toMatchObject({ out: 0 }))
  return { ...bench, hold }
}

describe('a hold past its deadline', () => {
  test('is charged at its worst case, once', async () => {
    const { store, hold } = await late()
    expect(hold.state).toBe('charged')
    await hold.charge('again')
    expect(await line(store, 'acme')).toMatchObject({ spent: 4, assumed: 4, free: 6 })
  })

  test('is corrected by its late settle', async () => {
    const { store, hold } = await late()
    await hold.settle({ tokens: 1 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 1, assumed: 0, free: 9 })
  })

  test('that was handed to an HTTP attempt is charged too, and corrected by that attempt', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10 } }, holdDeadlineMs: 10 })
    const attempt = (await take(kernel, 'acme', { tokens: 4 })).claim()!
    await vi.waitFor(async () => expect(await line(store, 'acme')).toMatchObject({ assumed: 4 }))
    await attempt.settle({ tokens: 1 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 1, assumed: 0, free: 9 })
  })

  test('that ended in time is not charged', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10 } }, holdDeadlineMs: 5 })
    const hold = await take(kernel, 'acme', { tokens: 4 })
    await hold.settle({ tokens: 1 })
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(await line(store, 'acme')).toMatchObject({ spent: 1, assumed: 0 })
    expect(hold.state).toBe('settled')
  })
})
