// Limits that are raised for a while. The clock of the store is the test's own. After every step the equation is asserted.

import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { takeCuts } from '../../src/budget/operator.ts'
import { endRaises, type EndedRaise } from '../../src/budget/raise.ts'
import type { KernelOptions } from '../../src/kernel/open-kernel.ts'
import { groupCommits } from '../../src/stores/group.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { faultyStore, type Fault } from '../../src/testing/faulty-store.ts'
import { balanced, keys, line, open, refusalOf, take } from './bench.ts'
import { WHY, errorOf, interrupted, operatorOn } from './operator-bench.ts'

const HOUR = 3_600_000
const START = Date.parse('2026-11-20T12:00:00Z')

/** Kernels on a store whose time is set by hand. */
async function world(options: Partial<KernelOptions> = {}) {
  const time = { ms: START }
  const store = memoryStore({ clock: { now: () => time.ms } })
  const { kernel } = await open({ store, budgets: { acme: { tokens: 100 } }, ...options })
  const operator = operatorOn(store)
  const raise = (tokens: number, forMs: number, path = 'acme') => operator.setLimit(path, { tokens }, { ...WHY, forMs })
  return { time, store, kernel, operator, raise }
}

/** What the sweep of any kernel does; the raises that it ended. */
async function sweep(store: Store): Promise<readonly EndedRaise[]> {
  const ended: EndedRaise[] = []
  await takeCuts(groupCommits(store), (raise) => ended.push(raise))
  return ended
}

/** Nothing is left in a store of raises and cuts. */
async function isTidy(store: Store, path = 'acme'): Promise<void> {
  expect([...(await keys(store, 'raised/')), ...(await keys(store, 'cut/'))]).toEqual([])
  const [record] = await store.read([`budget/${path}`])
  for (const field of ['raises', 'cut']) expect(record!.value).not.toHaveProperty(field)
}

describe('a raise for a while', () => {
  test('is there at once, shows with its end, and is gone with the first look after that', async () => {
    const { time, store, kernel, raise } = await world()
    const changes = await raise(160, 2 * HOUR)
    expect(changes).toEqual([{ budget: 'acme', dimension: 'tokens', before: 100, limit: 160, pendingCut: 0, untilMs: START + 2 * HOUR }])
    const raises = [{ amount: 60, untilMs: START + 2 * HOUR, ...WHY }]
    expect(await line(store, 'acme')).toMatchObject({ limit: 160, free: 160, raises })
    await (await take(kernel, 'acme', { tokens: 80 })).settle({ tokens: 50 })
    time.ms += 2 * HOUR - 1
    expect(await sweep(store)).toEqual([])
    expect(await line(store, 'acme')).toMatchObject({ limit: 160, free: 110, spent: 50 })
    expect((await line(store, 'acme')).raises).toEqual(raises)
    time.ms += 1
    // Nobody has looked yet, and it shows.
    expect(await line(store, 'acme')).toMatchObject({ limit: 160, raises: [{ ...raises[0], over: true }] })
    expect(await sweep(store)).toMatchObject([{ budget: 'acme', amounts: { tokens: 60 }, ...WHY }])
    const after = await line(store, 'acme')
    expect(after).toMatchObject({ limit: 100, free: 50, spent: 50 })
    expect(after).not.toHaveProperty('raises')
    await isTidy(store)
    expect(await sweep(store)).toEqual([])
    expect((await refusalOf(take(kernel, 'acme', { tokens: 51 }))).message).toContain('limit 100')
  })

  test('that is over while its money is out is a pending cut: it goes as it comes back, and nobody takes it meanwhile', async () => {
    const { time, store, kernel, raise } = await world()
    await raise(160, HOUR)
    const holds = [await take(kernel, 'acme', { tokens: 80 }), await take(kernel, 'acme', { tokens: 70 })]
    time.ms += HOUR
    await sweep(store)
    expect(await line(store, 'acme')).toMatchObject({ limit: 150, free: 0, out: 150, pendingCut: 50 })
    await holds[0]!.settle({ tokens: 60 })
    // 20 came back before anybody has looked.
    expect(await line(store, 'acme')).toMatchObject({ limit: 150, free: 20, pendingCut: 50 })
    expect(await refusalOf(take(kernel, 'acme', { tokens: 1 }))).toMatchObject({ code: 'ERR_BUDGET_BUSY' })
    await sweep(store)
    expect(await line(store, 'acme')).toMatchObject({ limit: 130, free: 0, pendingCut: 30 })
    await holds[1]!.settle({ tokens: 30 })
    await sweep(store)
    expect(await line(store, 'acme')).toMatchObject({ limit: 100, free: 10, spent: 90 })
    await isTidy(store)
  })

  test('whose money is spent leaves the limit where the spending is: nothing is taken back that is gone', async () => {
    const { time, store, kernel, raise } = await world()
    await raise(160, HOUR)
    await (await take(kernel, 'acme', { tokens: 140 })).settle({ tokens: 140 })
    time.ms += HOUR
    await sweep(store)
    expect(await line(store, 'acme')).toMatchObject({ limit: 140, free: 0, spent: 140, pendingCut: 40 })
    expect(await refusalOf(take(kernel, 'acme', { tokens: 1 }))).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
  })

  test('and another one add up, and each ends by itself, in either order', async () => {
    for (const [first, second] of [
      [1, 2],
      [2, 1],
    ] as const) {
      const { time, store, raise } = await world()
      await raise(150, first * HOUR)
      await raise(180, second * HOUR)
      expect(await line(store, 'acme')).toMatchObject({ limit: 180, free: 180, raises: [{ amount: 50 }, { amount: 30 }] })
      time.ms += HOUR
      await sweep(store)
      expect(await line(store, 'acme')).toMatchObject({ limit: first === 1 ? 130 : 150 })
      time.ms += HOUR
      await sweep(store)
      expect(await line(store, 'acme')).toMatchObject({ limit: 100, free: 100 })
      await isTidy(store)
    }
  })

  test('of two that are over at the same look, both end in one commit', async () => {
    const { time, store, raise } = await world()
    await raise(150, HOUR)
    await raise(180, HOUR + 1)
    time.ms += 2 * HOUR
    expect(await sweep(store)).toHaveLength(2)
    expect(await line(store, 'acme')).toMatchObject({ limit: 100, free: 100 })
    await isTidy(store)
  })

  test.each([
    ['higher', 200],
    ['lower', 40],
    ['the same as before the raise', 100],
  ])('is ended by a limit that is set for good, %s: that one stays', async (_, limit) => {
    const { time, store, operator, raise } = await world()
    await raise(150, HOUR)
    await operator.setLimit('acme', { tokens: limit }, WHY)
    await isTidy(store)
    time.ms += 2 * HOUR
    expect(await sweep(store)).toEqual([])
    expect(await line(store, 'acme')).toMatchObject({ limit, free: limit })
  })

  test('of two dimensions loses only the one whose limit is set for good', async () => {
    const { time, store, operator } = await world({ budgets: { acme: { tokens: 100, calls: 10 } } })
    await operator.setLimit('acme', { tokens: 150, calls: 20 }, { ...WHY, forMs: HOUR })
    await operator.setLimit('acme', { calls: 30 }, WHY)
    expect(await line(store, 'acme')).toMatchObject({ limit: 150, raises: [{ amount: 50 }] })
    expect(await line(store, 'acme', 'calls')).not.toHaveProperty('raises')
    time.ms += HOUR
    await sweep(store)
    expect(await line(store, 'acme')).toMatchObject({ limit: 100, free: 100 })
    expect(await line(store, 'acme', 'calls')).toMatchObject({ limit: 30, free: 30 })
    await isTidy(store)
  })

  test('is ended by a higher revision, which sets its own; the same declaration opens, and leaves it', async () => {
    const { time, store, raise } = await world()
    await raise(150, HOUR)
    await open({ store, budgets: { acme: { tokens: 100 } } })
    expect(await line(store, 'acme')).toMatchObject({ limit: 150, raises: [{ amount: 50 }] })
    await open({ store, budgets: { acme: { tokens: 120, revision: 2 } } })
    const declared = await line(store, 'acme')
    expect(declared).toMatchObject({ limit: 120, free: 120 })
    expect(declared).not.toHaveProperty('raises')
    time.ms += HOUR
    expect(await sweep(store)).toEqual([])
    expect(await line(store, 'acme')).toMatchObject({ limit: 120, free: 120 })
    await isTidy(store)
  })

  test('of a child is ended by a higher revision of its shape', async () => {
    const { time, store, kernel, raise } = await world({ budgets: { acme: { tokens: 500 }, 'acme/*': { tokens: 50 } } })
    await (await take(kernel, 'acme/a', { tokens: 5 })).settle({ tokens: 5 })
    await raise(90, HOUR, 'acme/a')
    expect(await line(store, 'acme/a')).toMatchObject({ limit: 90, free: 85 })
    await open({ store, budgets: { acme: { tokens: 500 }, 'acme/*': { tokens: 60, revision: 2 } } })
    time.ms += HOUR
    await sweep(store)
    expect(await line(store, 'acme/a')).toMatchObject({ limit: 60, free: 55 })
    await isTidy(store, 'acme/a')
  })

  test('on top of a cut that pends goes back to what the cut was for', async () => {
    const { time, store, kernel, operator, raise } = await world()
    const hold = await take(kernel, 'acme', { tokens: 90 })
    await operator.setLimit('acme', { tokens: 30 }, WHY)
    expect(await line(store, 'acme')).toMatchObject({ limit: 90, pendingCut: 60 })
    await raise(70, HOUR)
    expect(await line(store, 'acme')).toMatchObject({ limit: 90, pendingCut: 20, raises: [{ amount: 40 }] })
    time.ms += HOUR
    await sweep(store)
    expect(await line(store, 'acme')).toMatchObject({ limit: 90, pendingCut: 60 })
    await hold.settle({ tokens: 10 })
    await sweep(store)
    expect(await line(store, 'acme')).toMatchObject({ limit: 30, free: 20, spent: 10 })
    await isTidy(store)
  })

  test('survives the process that made it, and the next kernel that opens ends it, on record, before anything is taken', async () => {
    const { time, store, kernel } = await world()
    await kernel.setLimit('acme', { tokens: 160 }, { ...WHY, forMs: HOUR })
    await kernel.close()
    time.ms += HOUR
    const { kernel: next } = await open({ store })
    expect(await line(store, 'acme')).toMatchObject({ limit: 100, free: 100 })
    const events = next.auditLines.map((text) => JSON.parse(text) as Record<string, unknown>).filter(({ kind }) => kind === 'event')
    expect(events).toMatchObject([{ type: 'raise-ended', budget: 'acme', amounts: { tokens: 60 }, untilMs: START + HOUR, ...WHY }])
    expect(await refusalOf(take(next, 'acme', { tokens: 101 }))).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
  })

  test('that was ended by a process which died right then is finished by the next: the cut is noted in the same commit', async () => {
    const { time, store, kernel, raise } = await world()
    await raise(160, HOUR)
    await take(kernel, 'acme', { tokens: 30 })
    time.ms += HOUR
    // The first of its two steps, and not the second one.
    await endRaises(groupCommits(store), () => undefined)
    expect(await line(store, 'acme')).toMatchObject({ limit: 160, free: 130, pendingCut: 60 })
    expect(await refusalOf(take(kernel, 'acme', { tokens: 71 }))).toMatchObject({ code: 'ERR_BUDGET_BUSY' })
    await take(kernel, 'acme', { tokens: 70 })
    await sweep(store)
    expect(await line(store, 'acme')).toMatchObject({ limit: 100, free: 0, out: 100 })
    await isTidy(store)
  })

  test('is ended once by many that look at the same moment', async () => {
    const { time, store, raise } = await world()
    await raise(160, HOUR)
    time.ms += HOUR
    const ended = await Promise.all(Array.from({ length: 8 }, () => sweep(store)))
    expect(ended.flat()).toHaveLength(1)
    expect(await line(store, 'acme')).toMatchObject({ limit: 100, free: 100 })
  })

  test('that finds a limit set for good meanwhile is reckoned from that one; and that one, which finds a raise, ends it', async () => {
    for (const isRaiseLate of [true, false]) {
      const { time, store } = await world()
      const act = (on: Store, isRaise: boolean) =>
        operatorOn(on).setLimit('acme', { tokens: isRaise ? 150 : 120 }, { ...WHY, ...(isRaise ? { forMs: HOUR } : {}) })
      await act(
        interrupted(store, 'budget/acme', () => act(store, !isRaiseLate)),
        isRaiseLate,
      )
      const { limit, raises = [] } = await line(store, 'acme')
      expect([limit, raises.map(({ amount }) => amount)]).toEqual(isRaiseLate ? [150, [30]] : [120, []])
      time.ms += HOUR
      await sweep(store)
      expect(await line(store, 'acme')).toMatchObject({ limit: 120, free: 120 })
      await isTidy(store)
    }
  })

  test('whose end finds a limit set for good meanwhile ends nothing more', async () => {
    const { time, store, operator, raise } = await world()
    await raise(150, HOUR)
    time.ms += HOUR
    expect(await sweep(interrupted(store, 'budget/acme', () => operator.setLimit('acme', { tokens: 140 }, WHY)))).toEqual([])
    expect(await line(store, 'acme')).toMatchObject({ limit: 140, free: 140 })
    await isTidy(store)
  })

  test('behind a clock that is ahead is ended too early, and money that is out stays covered', async () => {
    const { time, store, kernel, raise } = await world()
    await raise(160, HOUR)
    const hold = await take(kernel, 'acme', { tokens: 150 })
    time.ms += 10 * HOUR
    await sweep(store)
    expect(await line(store, 'acme')).toMatchObject({ limit: 150, out: 150, pendingCut: 50 })
    // The time of a store does not go back: what was over stays over.
    time.ms = START
    await hold.settle({ tokens: 150 })
    await sweep(store)
    expect(await line(store, 'acme')).toMatchObject({ limit: 150, spent: 150, pendingCut: 50 })
  })

  test.each([
    [['lose-reply', 'lose-reply', 'lose-reply']],
    [['lose-request', 'contend', 'lose-reply', 'duplicate', 'lose-reply']],
    [['duplicate', 'duplicate', 'lose-request', 'lose-reply']],
  ] as [Fault[]][])('with a store that does %j it happens once, and ends once', async (plan) => {
    const { time, store } = await world()
    await operatorOn(faultyStore(store, plan)).setLimit('acme', { tokens: 160 }, { ...WHY, forMs: HOUR })
    expect(await line(store, 'acme')).toMatchObject({ limit: 160, free: 160, raises: [{ amount: 60 }] })
    time.ms += HOUR
    await sweep(faultyStore(store, plan))
    await sweep(store)
    expect(await line(store, 'acme')).toMatchObject({ limit: 100, free: 100 })
    await isTidy(store)
  })

  test('NEGATIVE CONTROL: without the look at raises the limit stays up for ever', async () => {
    const { time, store, raise } = await world()
    await raise(160, HOUR)
    time.ms += 10 * HOUR
    // What a sweep was before there were raises: only what is noted as a cut.
    expect(await keys(store, 'cut/')).toEqual([])
    expect(await line(store, 'acme')).toMatchObject({ limit: 160 })
    await sweep(store)
    expect(await line(store, 'acme')).toMatchObject({ limit: 100 })
  })

  test('is on record with who, why and until when, in its own chain', async () => {
    const { operator, raise } = await world()
    await raise(160, HOUR)
    expect(operator.events()).toMatchObject([
      { type: 'set-limit', budget: 'acme', limits: { tokens: 160 }, forMs: HOUR, ...WHY },
      { type: 'set-limit-done', before: { tokens: 100 }, untilMs: START + HOUR },
    ])
  })

  test.each([
    ['that lowers', 50, HOUR, 'a limit can only be raised, and `tokens` is 100 already'],
    ['to what it is', 100, HOUR, 'a limit can only be raised'],
    ['for no time', 150, 0, '`forMs`'],
    ['for less than no time', 150, -1, '`forMs`'],
    ['for half a ms', 150, 0.5, '`forMs`'],
    ['for no number', 150, Number.NaN, '`forMs`'],
    ['for longer than 366 days', 150, 366 * 24 * HOUR + 1, '366 days'],
  ])('%s is refused, and changes nothing', async (_, tokens, forMs, message) => {
    const { store, raise } = await world()
    expect((await errorOf(raise(tokens, forMs))).message).toContain(message)
    expect(await line(store, 'acme')).toMatchObject({ limit: 100, free: 100 })
    await isTidy(store)
  })

  test('is refused as the twenty-first of one budget, and the shortest one is allowed', async () => {
    const { time, store, raise } = await world()
    for (let count = 1; count <= 20; count++) await raise(100 + count, count)
    expect((await errorOf(raise(121, HOUR))).message).toContain('has 20 raises already')
    time.ms += 20
    await sweep(store)
    expect(await line(store, 'acme')).toMatchObject({ limit: 100, free: 100 })
    await raise(101, 366 * 24 * HOUR)
  })
})

test('whatever is raised, set, taken, ended and swept at whatever time: the target is what the raises say, and every column adds up', async () => {
  const step = fc.record({
    what: fc.constantFrom('take', 'take', 'settle', 'raise', 'raise', 'set', 'time', 'time', 'sweep'),
    amount: fc.integer({ min: 1, max: 40 }),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 40 }), async (steps) => {
      const { time, store, kernel, operator, raise } = await world()
      const held: Awaited<ReturnType<typeof take>>[] = []
      let base = 100
      let raises: { amount: number; untilMs: number }[] = []
      const wrong: object[] = []
      const target = (): number => base + raises.reduce((sum, { amount }) => sum + amount, 0)
      for (const { what, amount } of steps) {
        if (what === 'take') {
          const hold = await take(kernel, 'acme', { tokens: amount }).catch(() => undefined)
          if (hold !== undefined) held.push(hold)
          const { spent, out } = await line(store, 'acme')
          const isRight = hold === undefined ? spent + out + amount > target() : spent + out <= target()
          if (!isRight) wrong.push({ target: target(), spent, out, amount })
        } else if (what === 'settle') await held.pop()?.settle({ tokens: amount % 2 })
        else if (what === 'time') time.ms += amount
        else if (what === 'sweep') {
          await sweep(store)
          raises = raises.filter(({ untilMs }) => untilMs > time.ms)
        } else if (what === 'set') {
          base = amount * 3
          raises = []
          await operator.setLimit('acme', { tokens: base }, WHY)
        } else if (raises.length < 20) {
          await raise(target() + amount, amount)
          raises.push({ amount, untilMs: time.ms + amount })
        }
        await balanced(store)
      }
      expect(wrong).toEqual([])
      for (const hold of held) await hold.release('over')
      time.ms += HOUR
      await sweep(store)
      const { limit, spent } = await line(store, 'acme')
      expect(limit).toBe(Math.max(base, spent))
      await kernel.close()
    }),
    { numRuns: 100 },
  )
}, 60_000)
