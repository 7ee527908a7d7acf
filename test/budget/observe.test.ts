// Observe mode: everything is counted and nothing is refused. Proves that what fits is held as always, that what
// does not fit is counted beside the equation and never taken from `free`, that the report says as long as it is
// so that the limits are not enforced, and that an enforcing process on the same store is not softened by it.

import { afterEach, describe, expect, test, vi } from 'vitest'
import { balanced, keys, line, open, refusalOf, take } from './bench.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { settableClock } from '../../src/testing/store-bench.ts'

afterEach(() => vi.unstubAllEnvs())

const observing = (budgets = { acme: { tokens: 10 } }) => open({ budgets, mode: 'observe', waitMs: 60_000 })

describe('in observe mode, an action', () => {
  test('that fits is held and settled as always', async () => {
    const { kernel, store } = await observing()
    const hold = await take(kernel, 'acme', { tokens: 10 })
    expect(await line(store, 'acme')).toMatchObject({ out: 10, free: 0, over: 0 })
    await hold.settle({ tokens: 4 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 4, free: 6, over: 0 })
  })

  test('that does not fit passes at once, is counted in `over` at what it really used, and takes nothing of what is free', async () => {
    const { kernel, store } = await observing()
    const hold = await take(kernel, 'acme', { tokens: 11 })
    expect(await line(store, 'acme')).toMatchObject({ out: 0, free: 10, over: 11 })
    await hold.settle({ tokens: 4 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 0, free: 10, over: 4 })
    const released = await take(kernel, 'acme', { tokens: 11 })
    await released.release('unused')
    const charged = await take(kernel, 'acme', { tokens: 11 })
    await charged.charge('unknown')
    expect(await line(store, 'acme')).toMatchObject({ spent: 0, free: 10, over: 15, assumed: 0 })
    await charged.settle({ tokens: 1 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 0, free: 10, over: 5 })
  })

  test('is held at the levels where it fits and counted in `over` at the others', async () => {
    const { kernel, store } = await observing({ acme: { tokens: 100 }, 'acme/one': { tokens: 5 } } as never)
    await (await take(kernel, 'acme/one', { tokens: 8 })).settle({ tokens: 7 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 7, free: 93, over: 0 })
    expect(await line(store, 'acme/one')).toMatchObject({ spent: 0, free: 5, over: 7 })
  })

  test('creates a child that is too small for it with all of its limit free', async () => {
    const { kernel, store } = await observing({ acme: { tokens: 100 }, 'acme/*': { tokens: 5, usd: 1 } } as never)
    await take(kernel, 'acme/new', { tokens: 8 })
    expect(await line(store, 'acme/new')).toMatchObject({ limit: 5, free: 5, out: 0, over: 8 })
    expect(await line(store, 'acme/new', 'usd')).toMatchObject({ free: 1_000_000_000 })
  })

  test('does not wait for what others hold', async () => {
    const { kernel, store } = await observing()
    await take(kernel, 'acme', { tokens: 8 })
    await take(kernel, 'acme', { tokens: 8 })
    expect(await line(store, 'acme')).toMatchObject({ out: 8, free: 2, over: 8 })
  })

  test('whose overrun finds no free money is counted, and freezes nothing', async () => {
    const { kernel, store, events } = await observing()
    await (await take(kernel, 'acme', { tokens: 10 })).settle({ tokens: 13 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 10, over: 3 })
    expect(events.map(({ type }) => type)).toEqual(['overrun'])
    await take(kernel, 'acme', { tokens: 1 })
    expect((await line(store, 'acme')).frozen).toBeUndefined()
  })

  test('passes a tree that an enforcing process has frozen, while that one is refused', async () => {
    const { kernel: enforcing, store } = await open({ budgets: { acme: { tokens: 10 } } })
    await (await take(enforcing, 'acme', { tokens: 5 })).settle({ tokens: 12 })
    const { kernel } = await open({ store, mode: 'observe' })
    expect((await take(kernel, 'acme', { tokens: 1 })).state).toBe('held')
    expect(await refusalOf(take(enforcing, 'acme', { tokens: 1 }))).toMatchObject({ code: 'ERR_BUDGET_FROZEN' })
  })

  test('without a price counts in tokens and calls, and an enforcing kernel refuses it', async () => {
    const budgets = { acme: { usd: 1, tokens: 100, calls: 5 } }
    const { kernel, store } = await open({ budgets, mode: 'observe' })
    const unpriced = { unpriced: 'The price of `x` is not known.' }
    await (await take(kernel, 'acme', { tokens: 20, calls: 1 }, unpriced)).settle({ tokens: 7, calls: 1 })
    expect(await line(store, 'acme', 'tokens')).toMatchObject({ spent: 7 })
    expect(await line(store, 'acme', 'calls')).toMatchObject({ spent: 1 })
    expect(await line(store, 'acme', 'usd')).toMatchObject({ spent: 0, over: 0 })
    const { kernel: enforcing } = await open({ store, budgets })
    expect(await refusalOf(take(enforcing, 'acme', { tokens: 20 }, unpriced))).toMatchObject({ code: 'ERR_UNKNOWN_PRICE' })
  })

  test('that rules deny, or would ask a person about, passes, and the operator is told', async () => {
    const rules = [
      { effect: 'deny', tool: 'shell' },
      { effect: 'ask', tool: 'mail' },
    ] as const
    const { kernel, events } = await open({ budgets: { acme: { tokens: 10 } }, rules, mode: 'observe' })
    for (const resource of ['shell', 'mail', 'unknown']) await take(kernel, 'acme', { tokens: 1 }, { resource })
    expect(events.map(({ type }) => type)).toEqual(['would-refuse', 'would-refuse', 'would-refuse'])
    const { kernel: enforcing } = await open({ budgets: { acme: { tokens: 10 } }, rules })
    for (const resource of ['shell', 'mail', 'unknown'])
      expect((await refusalOf(take(enforcing, 'acme', { tokens: 1 }, { resource }))).code).toMatch(/PERMISSION_DENIED|APPROVAL_REQUIRED/)
  })

  test("that a gate's counter would refuse passes, and the operator is told", async () => {
    const rate = { name: 'rate', decide: () => ({ verdict: 'allow', fragment: { add: [{ key: 'rate/x', by: 1, max: 1 }] } }) as const }
    const { kernel, store, events } = await open({ budgets: { acme: { tokens: 10 } }, gates: [rate], mode: 'observe' })
    await take(kernel, 'acme', { tokens: 1 })
    await take(kernel, 'acme', { tokens: 1 })
    expect(await line(store, 'acme')).toMatchObject({ out: 2 })
    expect((await store.read(['rate/x']))[0]?.value).toBe(1)
    expect(events.map(({ type }) => type)).toEqual(['would-refuse'])
  })
})

describe('the report says that limits are not enforced', () => {
  test('for what an observing process used, and its parents, while it lives; after its close they are', async () => {
    const budgets = { acme: { tokens: 10 }, 'acme/*': { tokens: 5 }, other: { tokens: 1 } }
    const { kernel, store } = await open({ budgets, mode: 'observe' })
    expect((await balanced(store)).map(({ enforced }) => enforced)).toEqual([true, true])
    await (await take(kernel, 'acme/a', { tokens: 1 })).settle({ tokens: 1 })
    const enforced = async () => Object.fromEntries((await balanced(store)).map((one) => [one.budget, one.enforced]))
    expect(await enforced()).toEqual({ acme: false, 'acme/a': false, other: true })
    await kernel.close()
    expect(await enforced()).toEqual({ acme: true, 'acme/a': true, other: true })
    expect(await keys(store, 'observed/')).toEqual([])
  })

  test('also after it was taken for dead and spoke up again', async () => {
    const clock = settableClock()
    const { kernel, store } = await open({ store: memoryStore({ clock }), budgets: { acme: { tokens: 10 } }, mode: 'observe' })
    await take(kernel, 'acme', { tokens: 1 })
    clock.set(clock.now() + 60_000)
    const { kernel: other } = await open({ store })
    expect(await line(store, 'acme')).toMatchObject({ suspense: 1, enforced: true })
    await take(kernel, 'acme', { tokens: 1 })
    expect(await line(store, 'acme')).toMatchObject({ enforced: false })
    await other.close()
  })

  test('and an enforcing process on the same store goes on refusing, for its own part', async () => {
    const { kernel: observer, store } = await observing()
    const { kernel: enforcing } = await open({ store })
    await take(observer, 'acme', { tokens: 8 })
    await take(observer, 'acme', { tokens: 8 })
    expect(await refusalOf(take(enforcing, 'acme', { tokens: 3 }))).toMatchObject({ code: 'ERR_BUDGET_BUSY' })
    await take(enforcing, 'acme', { tokens: 2 })
    expect(await line(store, 'acme')).toMatchObject({ out: 10, free: 0, over: 8, enforced: false })
  })
})

describe('the mode', () => {
  test('is that of HOLDFAST_MODE, which the code beats', async () => {
    vi.stubEnv('HOLDFAST_MODE', 'observe')
    expect((await open()).kernel.mode).toBe('observe')
    expect((await open({ mode: 'enforce' })).kernel.mode).toBe('enforce')
    vi.stubEnv('HOLDFAST_MODE', '')
    expect((await open()).kernel.mode).toBe('enforce')
    expect((await open({ mode: 'observe' })).kernel.mode).toBe('observe')
  })

  test('that is none of the two is a TypeError, wherever it comes from', async () => {
    await expect(open({ mode: 'watch' as never })).rejects.toThrow(TypeError)
    vi.stubEnv('HOLDFAST_MODE', 'Observe')
    await expect(open()).rejects.toThrow(/HOLDFAST_MODE.*"Observe"/)
    expect((await open({ mode: 'enforce' })).kernel.mode).toBe('enforce')
  })

  test('stands in the record of the process', async () => {
    const { kernel, store } = await observing()
    await take(kernel, 'acme', { tokens: 1 })
    expect((await store.read([`process/${kernel.boot}`]))[0]?.value).toMatchObject({ mode: 'observe', pid: process.pid })
  })
})
