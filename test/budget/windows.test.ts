// So much a minute, a day, a month: what a window grants, when it ends, and that nothing is lost or given twice at
// its edges, however many look at them.

import { describe, expect, test } from 'vitest'
import { findDamage } from '../../src/cli/damage.ts'
import type { BudgetDeclaration } from '../../src/budget/declaration.ts'
import { openKernel, type KernelOptions } from '../../src/kernel/open-kernel.ts'
import { faultyStore, seededRandom } from '../../src/testing/faulty-store.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { balanced, keys, line, needing, open, refusalOf, take } from './bench.ts'

/** Busy, where others hold it; else exceeded. */
const MONEY = /^ERR_BUDGET_(?:BUSY|EXCEEDED)$/
const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
const NOON = Date.parse('2026-11-20T12:00:00Z')

interface Site {
  /** A time that the test sets. */
  readonly time: { atMs: number; now: () => number }
  readonly store: Store
  readonly openOne: (options?: Partial<KernelOptions>) => ReturnType<typeof open>
}

/** A store and kernels that live by one clock. */
function site(budgets: Readonly<Record<string, BudgetDeclaration>>, atMs: number = NOON): Site {
  const time = { atMs, now: () => time.atMs }
  const store = memoryStore({ clock: time })
  return { time, store, openOne: (options = {}) => open({ store, clock: time, budgets, ...options }) }
}

const spend = async (kernel: Parameters<typeof take>[0], budget: string, tokens: number): Promise<void> => {
  const hold = await take(kernel, budget, { tokens })
  await hold.settle({ tokens })
}

describe('a window', () => {
  test('grants its limit, refuses more with its end, and the next one grants it again', async () => {
    const { time, store, openOne } = site({ acme: { tokens: 1_000, windows: [{ per: 'day', tokens: 100 }] } })
    const { kernel } = await openOne()
    await spend(kernel, 'acme', 100)
    const { code, message, details } = await refusalOf(take(kernel, 'acme', { tokens: 1 }))
    expect(code).toBe('ERR_BUDGET_EXCEEDED')
    expect(details.budget).toMatchObject({ budget: 'acme', window: 'day', limit: 100, spent: 100, free: 0, needed: 1 })
    expect(details.budget?.endsAtMs).toBe(Date.parse('2026-11-21'))
    expect(message).toContain('or wait until 2026-11-21T00:00:00.000Z')
    expect(details.retryAtMs).toBe(Date.parse('2026-11-21'))
    time.atMs = Date.parse('2026-11-21') - 1
    expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).code).toMatch(MONEY)
    time.atMs = Date.parse('2026-11-21')
    await spend(kernel, 'acme', 100)
    expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).code).toMatch(MONEY)
    expect(await line(store, 'acme')).toMatchObject({ spent: 200, free: 800 })
    expect(await line(store, 'acme/*day/2026-11-20')).toMatchObject({ limit: 100, spent: 100 })
    expect(await line(store, 'acme/*day/2026-11-21')).toMatchObject({ limit: 100, spent: 100 })
  })

  test('binds beside the budget, and beside other windows', async () => {
    const windows = [
      { per: 'minute', calls: 2 },
      { per: 'day', calls: 3 },
    ] as const
    const { time, store, openOne } = site({ acme: { calls: 4, windows } })
    const { kernel } = await openOne()
    const bound = async () => (await refusalOf(take(kernel, 'acme', { calls: 1 }))).details.budget?.window
    for (let calls = 0; calls < 2; calls++) await (await take(kernel, 'acme', { calls: 1 })).settle({ calls: 1 })
    expect(await bound()).toBe('minute')
    time.atMs += MINUTE
    await (await take(kernel, 'acme', { calls: 1 })).settle({ calls: 1 })
    expect(await bound()).toBe('day')
    time.atMs += DAY
    await (await take(kernel, 'acme', { calls: 1 })).settle({ calls: 1 })
    expect(await bound()).toBe(undefined)
    await balanced(store)
  })

  test('is not what is named where the budget itself is used up', async () => {
    const { openOne } = site({ acme: { calls: 1, windows: [{ per: 'day', calls: 1 }] } })
    const { kernel } = await openOne()
    await (await take(kernel, 'acme', { calls: 1 })).settle({ calls: 1 })
    const { details } = await refusalOf(take(kernel, 'acme', { calls: 1 }))
    expect(details.budget).not.toHaveProperty('window')
    expect(details).not.toHaveProperty('retryAtMs')
  })

  test('alone is a budget too', async () => {
    const { openOne } = site({ acme: { windows: [{ per: 'hour', calls: 1 }] } })
    const { kernel } = await openOne()
    await take(kernel, 'acme', { calls: 1 })
    expect((await refusalOf(take(kernel, 'acme', { calls: 1 }))).code).toMatch(MONEY)
  })

  test('gets back what was held in it, however late it is settled', async () => {
    const { time, store, openOne } = site({ acme: { tokens: 1_000, windows: [{ per: 'day', tokens: 100 }] } })
    const { kernel } = await openOne()
    const early = await take(kernel, 'acme', { tokens: 60 })
    time.atMs += DAY
    const late = await take(kernel, 'acme', { tokens: 100 })
    await early.settle({ tokens: 10 })
    expect(await line(store, 'acme/*day/2026-11-20')).toMatchObject({ spent: 10, free: 90, out: 0 })
    expect(await line(store, 'acme/*day/2026-11-21')).toMatchObject({ out: 100, free: 0 })
    expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).code).toMatch(MONEY)
    await late.settle({ tokens: 0 })
    await take(kernel, 'acme', { tokens: 100 })
  })

  test('of a month, a week and a day in a time zone ends when they end there', async () => {
    const { time, openOne } = site(
      { acme: { windows: [{ per: 'day', timeZone: 'Europe/Berlin', calls: 1 }] } },
      Date.parse('2026-10-25T00:30:00+02:00'),
    )
    const { kernel } = await openOne()
    await take(kernel, 'acme', { calls: 1 })
    // The day in which clocks go back has 25 hours.
    time.atMs += 24 * HOUR
    expect((await refusalOf(take(kernel, 'acme', { calls: 1 }))).code).toMatch(MONEY)
    time.atMs += 30 * MINUTE
    await take(kernel, 'acme', { calls: 1 })
  })

  test('of a child of `*` is its own, and is made with it', async () => {
    const { time, store, openOne } = site({ acme: { tokens: 1_000 }, 'acme/*': { tokens: 500, windows: [{ per: 'day', tokens: 10 }] } })
    const { kernel } = await openOne()
    await spend(kernel, 'acme/ann', 10)
    expect((await refusalOf(take(kernel, 'acme/ann', { tokens: 1 }))).code).toMatch(MONEY)
    await spend(kernel, 'acme/bob', 10)
    time.atMs += DAY
    await spend(kernel, 'acme/ann', 10)
    expect(await line(store, 'acme')).toMatchObject({ spent: 30 })
    expect(await findDamage(store)).toEqual([])
    await balanced(store)
  })

  test('ends no run that could go on in a minute, and ends one that could go on tomorrow', async () => {
    const { openOne } = site({ a: { windows: [{ per: 'minute', calls: 1 }] }, b: { windows: [{ per: 'day', calls: 1 }] } })
    const { kernel } = await openOne()
    for (const [budget, endsRun] of [
      ['a', false],
      ['b', true],
    ] as const) {
      await (await take(kernel, budget, { calls: 1 })).settle({ calls: 1 })
      expect((await refusalOf(take(kernel, budget, { calls: 1 }))).details.endsRun).toBe(endsRun)
    }
  })

  test('that ends soon is waited for', async () => {
    const { time, openOne } = site({ acme: { windows: [{ per: 'minute', calls: 1 }] } }, NOON + MINUTE - 50)
    const { kernel } = await openOne({ waitMs: 20_000 })
    await (await take(kernel, 'acme', { calls: 1 })).settle({ calls: 1 })
    const waiting = take(kernel, 'acme', { calls: 1 })
    setTimeout(() => (time.atMs += 60), 100)
    await (await waiting).settle({ calls: 1 })
    // This one ends long after the wait.
    expect((await refusalOf(take(kernel, 'acme', { calls: 1 }))).code).toBe('ERR_BUDGET_EXCEEDED')
  })
})

describe('a rolling window', () => {
  const rolling = { acme: { windows: [{ per: 'minute', rolling: 6, tokens: 100 }] } } as const

  test('gives back part by part what was used a window ago', async () => {
    const { time, store, openOne } = site(rolling)
    const { kernel } = await openOne()
    await spend(kernel, 'acme', 40)
    time.atMs += 30_000
    await spend(kernel, 'acme', 60)
    expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).code).toMatch(MONEY)
    time.atMs += 30_000
    // A minute later the first part may still lie within the last 60 seconds.
    expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).code).toMatch(MONEY)
    time.atMs += 10_000
    await spend(kernel, 'acme', 40)
    expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).code).toMatch(MONEY)
    time.atMs += 30_000
    await spend(kernel, 'acme', 60)
    await balanced(store)
  })

  test('counts what is still held when its part has gone by, and takes over what was given back', async () => {
    const { time, store, openOne } = site(rolling)
    const { kernel } = await openOne()
    const hold = await take(kernel, 'acme', { tokens: 100 })
    time.atMs += 20_000
    expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).code).toMatch(MONEY)
    await hold.settle({ tokens: 30 })
    // What came back lies in its own part until the next one begins.
    time.atMs += 10_000
    await spend(kernel, 'acme', 70)
    expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).code).toMatch(MONEY)
    await balanced(store)
  })

  test.each([1, 2, 3, 4, 5])(
    'never grants more than its limit in any stretch of its length, and no less than a part later (seed %i)',
    async (seed) => {
      const { time, store, openOne } = site({ acme: { windows: [{ per: 'minute', rolling: 12, tokens: 1_000 }] } })
      const { kernel } = await openOne()
      const random = seededRandom(seed)
      const granted: { readonly atMs: number; readonly tokens: number }[] = []
      const [most, refused]: [number[], number[]] = [[], []]
      const within = (ms: number): number =>
        granted.filter(({ atMs }) => atMs > time.atMs - ms).reduce((sum, { tokens }) => sum + tokens, 0)
      for (let step = 0; step < 400; step++) {
        time.atMs += Math.floor(random() * 4_000)
        const tokens = 1 + Math.floor(random() * 120)
        const hold = await take(kernel, 'acme', { tokens }).catch(() => undefined)
        if (hold === undefined) refused.push(within(MINUTE + 5_000) + tokens)
        else {
          granted.push({ atMs: time.atMs, tokens })
          most.push(within(MINUTE))
          await hold.settle({ tokens })
        }
        if (step % 50 === 0) await balanced(store)
      }
      expect(Math.max(...most)).toBeLessThanOrEqual(1_000)
      expect(Math.min(...refused)).toBeGreaterThan(1_000)
      expect(granted.length).toBeGreaterThan(50)
    },
  )
})

describe('many at the edge of a window', () => {
  test.each([1, 2, 3, 4, 5, 6])('open one, and grant its limit once, with replies lost (seed %i)', async (seed) => {
    const random = seededRandom(seed)
    const windows = [
      { per: 'minute', tokens: 100 },
      { per: 'hour', rolling: 4, tokens: 2_000 },
    ] as const
    const { time, store, openOne } = site({ acme: { tokens: 100_000, windows } })
    await openOne()
    const kernels = await Promise.all(
      [1, 2, 3].map(async (one) => {
        const faulty = faultyStore(store, { seed: seed * 10 + one, odds: { 'lose-reply': 0.1 } })
        return (await open({ store: faulty, clock: time, leasing: one === 1 ? 'off' : 'auto' })).kernel
      }),
    )
    const granted = new Map<string, number>()
    for (let round = 0; round < 30; round++) {
      time.atMs += Math.floor(random() * 40_000)
      const minute = new Date(time.atMs).toISOString().slice(0, 16)
      await Promise.all(
        kernels.flatMap((kernel) =>
          Array.from({ length: 4 }, async () => {
            const tokens = 1 + Math.floor(random() * 40)
            const hold = await take(kernel, 'acme', { tokens }).catch(() => undefined)
            if (hold === undefined) return
            granted.set(minute, (granted.get(minute) ?? 0) + tokens)
            await hold.settle({ tokens })
          }),
        ),
      )
      expect(granted.get(minute) ?? 0).toBeLessThanOrEqual(100)
      await balanced(store)
    }
    expect([...granted.values()].reduce((sum, one) => sum + one)).toBeGreaterThan(300)
  })

  test('spend nothing in it that was leased in the one before', async () => {
    const { time, store, openOne } = site({ acme: { tokens: 1_000_000, windows: [{ per: 'day', tokens: 10_000 }] } })
    const { kernel } = await openOne({ leasing: 'auto' })
    for (let calls = 0; calls < 50; calls++) await spend(kernel, 'acme', 1)
    expect((await keys(store, 'hold/')).length).toBe(1)
    time.atMs += DAY
    for (let calls = 0; calls < 50; calls++) await spend(kernel, 'acme', 1)
    await kernel.flush()
    expect(await line(store, 'acme/*day/2026-11-20')).toMatchObject({ spent: 50, out: 0 })
    expect(await line(store, 'acme/*day/2026-11-21')).toMatchObject({ spent: 50, out: 0 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 100, out: 0 })
  })
})

describe('clocks', () => {
  test.each(['1970-01-01T00:00:00Z', '2026-11-19T23:59:59Z'])('that go back to %s stay in the window that was opened', async (then) => {
    const { store, openOne } = site({ acme: { windows: [{ per: 'day', calls: 1 }] } })
    await take((await openOne()).kernel, 'acme', { calls: 1 })
    // A server whose clock was set back; the stores of ours that have a clock of their own never go back.
    const behind: Store = { ...store, now: async () => Date.parse(then) }
    const { kernel } = await open({ store: behind })
    expect((await refusalOf(take(kernel, 'acme', { calls: 1 }))).code).toMatch(MONEY)
    expect((await keys(store, 'budget/acme/')).length).toBe(1)
  })

  test('that are in 2100 grant the window of then, and no other until then', async () => {
    const { time, store, openOne } = site({ acme: { windows: [{ per: 'day', calls: 1 }] } }, Date.parse('2100-01-01'))
    await take((await openOne()).kernel, 'acme', { calls: 1 })
    time.atMs = NOON
    const { kernel } = await openOne()
    expect((await refusalOf(take(kernel, 'acme', { calls: 1 }))).code).toMatch(MONEY)
    await balanced(store)
  })
})

describe('a window that is over', () => {
  test('stays for a while, and goes when nothing is held in it', async () => {
    const { time, store, openOne } = site({ acme: { calls: 1_000, windows: [{ per: 'minute', calls: 2 }] } })
    const { kernel } = await openOne()
    const hold = await take(kernel, 'acme', { calls: 1 })
    for (let minute = 0; minute < 100; minute++) {
      time.atMs += MINUTE
      await (await take(kernel, 'acme', { calls: 1 })).settle({ calls: 1 })
    }
    const left = await keys(store, 'budget/acme/')
    expect(left.length).toBeLessThan(40)
    expect(left[0]).toBe('budget/acme/*minute/2026-11-20T12:00:00Z')
    expect(await findDamage(store)).toEqual([])
    await hold.charge('nobody knows')
    await balanced(store)
    for (let minute = 0; minute < 3; minute++) {
      time.atMs += MINUTE
      await take(kernel, 'acme', { calls: 1 })
    }
    expect(await keys(store, 'budget/acme/')).not.toContain(left[0])
    // Its charge can still be corrected: in the budget, since the window is gone.
    await hold.settle({ calls: 0 })
    expect(await line(store, 'acme', 'calls')).toMatchObject({ spent: 100, assumed: 0 })
    expect(await keys(store, 'spent/calls/acme/*minute/2026-11-20T12:00:00Z')).toEqual([])
    await balanced(store)
  })

  test('goes also when it stands behind hundreds in which something is held', async () => {
    const { time, store, openOne } = site({ acme: { calls: 10_000, windows: [{ per: 'minute', calls: 2 }] } })
    const { kernel } = await openOne()
    for (let minute = 0; minute < 250; minute++) {
      await take(kernel, 'acme', { calls: 1 })
      time.atMs += MINUTE
    }
    for (let minute = 0; minute < 250; minute++) {
      await (await take(kernel, 'acme', { calls: 1 })).settle({ calls: 1 })
      time.atMs += MINUTE
    }
    expect((await keys(store, 'budget/acme/')).length).toBeLessThan(350)
    await balanced(store)
  })

  test.each([
    ['its record', 1],
    ['all of it', 5],
  ])('that was lost (%s) while it is current is damage, not a new one', async (_, least) => {
    const { store, openOne } = site({ acme: { windows: [{ per: 'day', calls: 1 }] } })
    await (await take((await openOne()).kernel, 'acme', { calls: 1 })).settle({ calls: 1 })
    const all = (await keys(store, '')).filter((key) => key.includes('*day')).sort()
    const lost = least === 1 ? all.filter((key) => key.startsWith('budget/')) : all
    expect(all.length).toBeGreaterThanOrEqual(3)
    await store.apply([{ delete: lost }])
    const { kernel } = await openOne()
    await expect(take(kernel, 'acme', { calls: 1 })).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
    expect(await keys(store, 'budget/acme/')).toEqual([])
    expect(await findDamage(store)).toEqual(['The current window `acme/*day/2026-11-20` has no record: it was lost.'])
  })

  test('makes room for the next one without undoing what happens to its budget meanwhile', async () => {
    const { time, store, openOne } = site({ acme: { calls: 100, windows: [{ per: 'day', calls: 1 }] } })
    const operator = (await openOne()).kernel
    let freezing = true
    const looked: Store = {
      ...store,
      async list(prefix, options) {
        if (prefix.includes('*day') && freezing) {
          freezing = false
          await operator.freeze('acme', { by: 'ann', reason: 'enough' })
        }
        return store.list(prefix, options)
      },
    }
    const { kernel } = await open({ store: looked, clock: time })
    expect((await refusalOf(take(kernel, 'acme', { calls: 1 }))).code).toBe('ERR_BUDGET_FROZEN')
    expect((await balanced(store)).find(({ budget }) => budget === 'acme')?.frozen).toBe('enough')
  })
})

describe('a window that is there in part', () => {
  test.each(['free/calls/acme/*day/2026-11-20', 'budget/acme/*day/2026-11-20'])('(%s) is damage, not a start', async (key) => {
    const { store, openOne } = site({ acme: { windows: [{ per: 'day', calls: 1 }] } })
    const { kernel } = await openOne()
    await store.apply([{ set: [{ key, value: 7 }] }])
    await expect(take(kernel, 'acme', { calls: 1 })).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
  })
})

describe('a revision', () => {
  const declared = (tokens: number, revision: number, more: { readonly timeZone?: string } = {}): Record<string, BudgetDeclaration> => ({
    acme: { tokens: 1_000, revision, windows: [{ per: 'day', tokens, ...more }] },
  })

  async function reopened(before: Record<string, BudgetDeclaration>, after: Record<string, BudgetDeclaration>, spent: number) {
    const { time, store } = site({})
    const first = await openKernel({ store, clock: time, budgets: before, leasing: 'off' })
    await spend(first, 'acme', spent)
    await first.close()
    return { store, time, kernel: (await open({ store, clock: time, budgets: after })).kernel }
  }

  test('raises the window that is current, at once', async () => {
    const { store, kernel } = await reopened(declared(100, 1), declared(150, 2), 100)
    await spend(kernel, 'acme', 50)
    expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).code).toMatch(MONEY)
    await balanced(store)
  })

  test('lowers it by what is free, and not below what is spent', async () => {
    const { store, kernel } = await reopened(declared(100, 1), declared(60, 2), 60)
    expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).code).toMatch(MONEY)
    await balanced(store)
    await expect(reopened(declared(100, 1), declared(50, 2), 60)).rejects.toMatchObject({ code: 'ERR_BUDGET_DECLARATION' })
  })

  test('in another time zone begins no second day', async () => {
    const { kernel } = await reopened(declared(100, 1), declared(100, 2, { timeZone: 'Pacific/Kiritimati' }), 100)
    // There it is tomorrow already, so that is a new day; back again it is not.
    await spend(kernel, 'acme', 100)
    expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).code).toMatch(MONEY)
    const west = await reopened(declared(100, 1), declared(100, 2, { timeZone: 'Pacific/Pago_Pago' }), 100)
    expect((await refusalOf(take(west.kernel, 'acme', { tokens: 1 }))).code).toMatch(MONEY)
  })

  test.each<[string, Record<string, BudgetDeclaration>]>([
    ['without the window', { acme: { tokens: 1_000, revision: 2 } }],
    ['without one of its dimensions', { acme: { tokens: 1_000, revision: 2, windows: [{ per: 'day', calls: 5 }] } }],
    ['of the same number', { acme: { tokens: 1_000, windows: [{ per: 'day', tokens: 101 }] } }],
  ])('%s is refused', async (_, after) => {
    await expect(reopened(declared(100, 1), after, 1)).rejects.toMatchObject({ code: 'ERR_BUDGET_DECLARATION' })
  })

  test('of a rolling window keeps its parts', async () => {
    const parts = (rolling: number, tokens: number, revision: number) =>
      ({ acme: { revision, windows: [{ per: 'minute', rolling, tokens }] } }) as const
    const { store, time, kernel } = await reopened(parts(6, 100, 1), parts(6, 130, 2), 100)
    await spend(kernel, 'acme', 30)
    time.atMs += 10_000
    expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).code).toMatch(MONEY)
    await balanced(store)
    await expect(reopened(parts(6, 100, 1), parts(12, 100, 2), 100)).rejects.toMatchObject({ code: 'ERR_BUDGET_DECLARATION' })
  })
})

describe('an operator', () => {
  test('raises and lowers the window that is current; tomorrow it is as declared', async () => {
    const { time, store, openOne } = site({ acme: { tokens: 1_000, windows: [{ per: 'day', tokens: 100 }] } })
    const { kernel } = await openOne()
    await spend(kernel, 'acme', 100)
    await kernel.setLimit('acme/*day/2026-11-20', { tokens: 150 }, { by: 'ann', reason: 'a busy day' })
    await spend(kernel, 'acme', 50)
    expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).code).toMatch(MONEY)
    time.atMs += DAY
    expect((await refusalOf(take(kernel, 'acme', { tokens: 101 }))).code).toMatch(MONEY)
    await balanced(store)
  })

  test('cannot set a part of one that rolls', async () => {
    const { store, openOne } = site({ acme: { windows: [{ per: 'minute', rolling: 6, tokens: 100 }] } })
    const { kernel } = await openOne()
    await spend(kernel, 'acme', 1)
    const [part] = (await keys(store, 'budget/acme/')).map((key) => key.slice('budget/'.length))
    const change = kernel.setLimit(part!, { tokens: 150 }, { by: 'ann', reason: 'a busy minute' })
    await expect(change).rejects.toMatchObject({ code: 'ERR_BUDGET_DECLARATION' })
  })
})

describe('a declaration of windows', () => {
  test.each<[string, unknown, RegExp]>([
    ['that is no list', { per: 'day', usd: 1 }, /`budgets\[acme\]\.windows` must be a list/],
    ['of a unit that is none', [{ per: 'year', usd: 1 }], /windows\[0\]\.per` must be one of minute, hour, day, week, month/],
    ['that limits nothing', [{ per: 'day' }], /windows\[0\]` limits nothing/],
    [
      'with two of a kind',
      [
        { per: 'day', usd: 1 },
        { per: 'day', usd: 2 },
      ],
      /two windows `day`/,
    ],
    ['in a time zone that is none', [{ per: 'day', timeZone: 'Mars/Olympus', usd: 1 }], /there is no time zone "Mars\/Olympus"/],
    ['of minutes in a time zone', [{ per: 'minute', timeZone: 'UTC', usd: 1 }], /only days, weeks and months/],
    ['in one part', [{ per: 'day', rolling: 1, usd: 1 }], /from 2 to 60 that divides a day, got 1/],
    ['in parts that do not divide it', [{ per: 'minute', rolling: 7, usd: 1 }], /divides a minute, got 7/],
    ['of a rolling month', [{ per: 'month', rolling: 4, usd: 1 }], /months are not of one length/],
    ['with a negative limit', [{ per: 'day', usd: -1 }], /windows\[0\]\.usd/],
    [
      'that rolls in nine dimensions',
      [{ per: 'day', rolling: 2, ...Object.fromEntries('abcdefghi'.split('').map((one) => [one, 1])) }],
      /at most 8/,
    ],
  ])('%s is refused', async (_, windows, message) => {
    await expect(open({ budgets: { acme: { tokens: 1, windows: windows as never } } })).rejects.toThrow(message)
  })

  test('is none of a handoff', async () => {
    const { kernel } = await open({ budgets: { acme: { tokens: 10 } } })
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
    const budget = { tokens: 1, windows: [{ per: 'day', tokens: 1 }] } as const
    await expect(scope.handoff({ to: 'b', instruction: 'x', budget: budget as never })).rejects.toThrow(/windows/)
  })

  test('is counted by a handoff: what is handed over was granted in the window of that day', async () => {
    const { time, store, openOne } = site({ acme: { tokens: 1_000, windows: [{ per: 'day', tokens: 100 }] } })
    const { kernel } = await openOne()
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
    const handoff = await scope.handoff({ to: 'b', instruction: 'x', budget: { tokens: 80 } })
    expect((await refusalOf(take(kernel, 'acme', { tokens: 21 }))).code).toMatch(MONEY)
    time.atMs += DAY
    const hold = await handoff.scope.begin(needing({ tokens: 30 }))
    await hold.settle({ tokens: 30 })
    await handoff.close()
    expect(await line(store, 'acme/*day/2026-11-20')).toMatchObject({ spent: 30, free: 70, kids: 0 })
    await spend(kernel, 'acme', 100)
    await balanced(store)
  })
})
