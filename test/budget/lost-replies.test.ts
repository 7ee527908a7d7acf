// A store whose replies get lost, whose requests get lost, that answers a request sent twice, or that lets others
// be first. Proves that each take and each end of a hold happens exactly once all the same, that a take which nobody
// acknowledged is undone, and that a process which is taken for dead in the middle of all that spends nothing twice.

import { describe, expect, test, vi } from 'vitest'
import { balanced, keys, line, money, open, take } from './bench.ts'
import { openKernel } from '../../src/kernel/open-kernel.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { faultyStore, type Fault } from '../../src/testing/faulty-store.ts'
import { settableClock } from '../../src/testing/store-bench.ts'

const BUDGETS = { acme: { tokens: 100 }, 'acme/*': { tokens: 50 } }
const PATH = 'acme/one'

/** A kernel on a store that meets the next faults as they are given; before that it has been registered and used. */
async function unlucky() {
  const clock = settableClock()
  const real = memoryStore({ clock })
  const plan: Fault[] = []
  const store = faultyStore(real, plan)
  const opened = await open({ store, budgets: BUDGETS })
  const meet = (...faults: readonly Fault[]): void => faults.forEach((fault, index) => (plan[store.happened.length + index] = fault))
  await (await take(opened.kernel, PATH, { tokens: 1 })).release('warm')
  /** Every hold has ended, and this much was spent. */
  const assertSpent = async (spent: number): Promise<void> => {
    await vi.waitFor(() => expect(opened.kernel.pendingReports).toBe(0))
    for (const budget of ['acme', PATH]) expect(await line(real, budget)).toMatchObject({ spent, out: 0, suspense: 0, assumed: 0, over: 0 })
    expect([...(await keys(real, 'hold/')), ...(await keys(real, 'suspended/'))]).toEqual([])
  }
  return { ...opened, real, clock, meet, happened: store.happened, assertSpent }
}

/** A store that does something of its own after a group was applied, and then loses the reply, once. */
function losing(store: Store, meanwhile: () => Promise<unknown>): { readonly store: Store; readonly arm: () => void } {
  let armed = false
  const arm = (): void => void (armed = true)
  const apply: Store['apply'] = async (batches) => {
    const answer = await store.apply(batches)
    if (!armed) return answer
    armed = false
    await meanwhile()
    return { outcome: 'unknown', cause: new Error('the reply was lost') }
  }
  return { store: { ...store, apply }, arm }
}

const BAD_LUCK: readonly (readonly [string, readonly Fault[]])[] = [
  ['the reply is lost', ['lose-reply']],
  ['the request is lost', ['lose-request']],
  ['two replies are lost', ['lose-reply', 'lose-reply']],
  ['request, then reply are lost', ['lose-request', 'lose-reply', 'lose-request']],
  ['the driver sends it twice', ['duplicate']],
  ['the reply is lost and the driver sends it twice', ['lose-reply', 'duplicate']],
  ['others are first', ['contend', 'contend', 'contend']],
  ['it takes its time', ['delay']],
]

describe('a take happens once when', () => {
  test.each(BAD_LUCK)('%s', async (_, faults) => {
    const { kernel, real, meet, happened, assertSpent } = await unlucky()
    meet(...faults)
    const hold = await take(kernel, PATH, { tokens: 10 })
    expect(happened).toEqual(expect.arrayContaining([...faults]))
    expect(await line(real, 'acme')).toMatchObject({ out: 10, free: 90 })
    await hold.settle({ tokens: 4 })
    await assertSpent(4)
  })

  test.each(BAD_LUCK)('it creates its budget, and %s', async (_, faults) => {
    const { kernel, real, meet } = await unlucky()
    meet(...faults)
    await take(kernel, 'acme/born', { tokens: 10 })
    expect(await line(real, 'acme/born')).toMatchObject({ out: 10, free: 40 })
    expect((await real.read(['children/acme']))[0]?.value).toBe(2)
  })
})

describe('a take that is never acknowledged', () => {
  test.each<[string, readonly Fault[]]>([
    ['though it happened', Array.from({ length: 6 }, () => 'lose-reply')],
    ['and did not happen', Array.from({ length: 6 }, () => 'lose-request')],
    ['though it happened before the store began to refuse', ['lose-reply', 'refuse']],
    ['for longer than that', Array.from({ length: 9 }, () => 'lose-reply')],
  ])('%s, is ERR_STORE, and what it held is given back', async (_, faults) => {
    const { kernel, meet, assertSpent } = await unlucky()
    meet(...faults)
    await expect(take(kernel, PATH, { tokens: 10 })).rejects.toMatchObject({ code: 'ERR_STORE' })
    await assertSpent(0)
    await (await take(kernel, PATH, { tokens: 50 })).settle({ tokens: 50 })
    await assertSpent(50)
  })

  test('is on the record as released, so that nobody charges it from there', async () => {
    const { kernel, meet, assertSpent } = await unlucky()
    meet(...Array.from({ length: 6 }, () => 'lose-reply' as const))
    await expect(take(kernel, PATH, { tokens: 10 })).rejects.toMatchObject({ code: 'ERR_STORE' })
    await assertSpent(0)
    const records = kernel.auditLines.map((one) => JSON.parse(one) as Record<string, string>)
    const intent = records.findLast(({ kind }) => kind === 'intent')!
    expect(records.find(({ kind, hold }) => kind === 'outcome' && hold === intent['hold'])).toMatchObject({ outcome: 'released' })
  })

  test('is ERR_STORE when it is refused outright, and nothing was held at any time', async () => {
    const { kernel, real, meet } = await unlucky()
    const before = await money(real)
    meet('refuse')
    await expect(take(kernel, PATH, { tokens: 10 })).rejects.toMatchObject({ code: 'ERR_STORE' })
    expect(await money(real)).toEqual(before)
    expect(kernel.pendingReports).toBe(0)
  })
})

describe('the end of a hold happens once when', () => {
  const ends = ['settle', 'release', 'charge', 'correct', 'overrun'] as const
  const cases = BAD_LUCK.concat([
    ['the store refuses', ['refuse']],
    ['the reply is lost, and then the store refuses', ['lose-reply', 'refuse', 'refuse']],
  ]).flatMap(([luck, faults]) => ends.map((how) => [how, luck, faults] as const))

  test.each(cases)('it is a %s, and %s', async (how, _, faults) => {
    const { kernel, real, meet, assertSpent } = await unlucky()
    const hold = await take(kernel, PATH, { tokens: 10 })
    if (how === 'correct') await hold.charge('unknown')
    meet(...faults)
    if (how === 'release') await hold.release('unused')
    else if (how === 'charge') await hold.charge('unknown')
    else await hold.settle({ tokens: how === 'overrun' ? 13 : 4 })
    await vi.waitFor(() => expect(kernel.pendingReports).toBe(0))
    expect(await line(real, 'acme')).toMatchObject({ assumed: how === 'charge' ? 10 : 0 })
    if (how === 'charge') await hold.settle({ tokens: 6 })
    await assertSpent({ settle: 4, release: 0, charge: 6, correct: 4, overrun: 13 }[how])
  })

  test.each(['lose-reply', 'lose-request', 'duplicate', 'refuse'] as const)(
    'it is a late overrun that freezes the tree, and its commit meets `%s`',
    async (fault) => {
      const { kernel, real, meet } = await unlucky()
      const hold = await take(kernel, PATH, { tokens: 50 })
      await hold.charge('unknown')
      meet('none', fault, fault, fault)
      await hold.settle({ tokens: 53 })
      await vi.waitFor(() => expect(kernel.pendingReports).toBe(0))
      expect(await line(real, PATH)).toMatchObject({ spent: 50, over: 3, assumed: 0, out: 0 })
      expect(await line(real, 'acme')).toMatchObject({ spent: 53, free: 47, over: 0, frozen: expect.any(String) })
    },
  )

  test('it was charged while the store was away, and settled before it came back', async () => {
    const { kernel, meet, assertSpent } = await unlucky()
    const hold = await take(kernel, PATH, { tokens: 10 })
    meet('refuse', 'refuse', 'refuse')
    await hold.charge('unknown')
    await hold.settle({ tokens: 3 })
    expect(kernel.pendingReports).toBeGreaterThan(0)
    await assertSpent(3)
  })

  test.each<[string, readonly Fault[]]>([
    ['the reply to its record is lost', ['lose-reply', 'lose-request', 'refuse', 'lose-reply', 'lose-reply']],
    ['the reply to its end is lost', ['none', 'lose-reply', 'none', 'lose-reply']],
    ['its end is sent twice', ['none', 'duplicate']],
    ['its end is refused', ['none', 'refuse', 'refuse']],
  ])('nothing was held, what it used is counted after all, and %s', async (_, faults) => {
    const { kernel, meet, happened, assertSpent } = await unlucky()
    const hold = await take(kernel, PATH, {})
    meet(...faults)
    await hold.settle({ tokens: 7 })
    await assertSpent(7)
    expect(happened).toEqual(expect.arrayContaining([...faults]))
  })

  test('another one can never be taken: that one does not keep the others from the store', async () => {
    const { kernel, real, meet } = await unlucky()
    const stuck = await take(kernel, PATH, { tokens: 3 })
    const others = await Promise.all([5, 7].map((tokens) => take(kernel, 'acme/two', { tokens })))
    // Somebody has emptied its counter: the end of this hold fits nowhere.
    await real.apply([{ add: [{ key: `out/tokens/${PATH}`, by: -3 }] }])
    meet(...Array.from({ length: 3 }, () => 'refuse' as const))
    await stuck.settle({ tokens: 3 })
    for (const hold of others) await hold.settle({ tokens: 1 })
    await vi.waitFor(() => expect(kernel.pendingReports).toBe(1), { timeout: 5_000 })
    expect(await real.read(['spent/tokens/acme/two', `spent/tokens/${PATH}`])).toMatchObject([{ value: 2 }, null])
    await real.apply([{ add: [{ key: `out/tokens/${PATH}`, by: 3 }] }])
    await vi.waitFor(() => expect(kernel.pendingReports).toBe(0), { timeout: 20_000 })
    expect(await line(real, PATH)).toMatchObject({ spent: 3, out: 0 })
  })
})

/** A kernel, and another one that has swept it by the time its next reply is lost. */
async function sweptMeanwhile() {
  const clock = settableClock()
  const real = memoryStore({ clock })
  const { kernel: other } = await open({ store: real, budgets: BUDGETS })
  const { store, arm } = losing(real, async () => {
    clock.set(clock.now() + 60_000)
    await other.sweep()
  })
  const { kernel } = await open({ store })
  await (await take(kernel, PATH, { tokens: 1 })).release('warm')
  return { kernel, real, arm }
}

describe('a process that is taken for dead', () => {
  test('between a take and its lost reply has taken once, and its settle returns the money from suspense', async () => {
    const { kernel, real, arm } = await sweptMeanwhile()
    arm()
    const hold = await take(kernel, PATH, { tokens: 10 })
    expect(await line(real, 'acme')).toMatchObject({ out: 0, suspense: 10, free: 90 })
    await hold.settle({ tokens: 4 })
    expect(await line(real, 'acme')).toMatchObject({ out: 0, suspense: 0, free: 96, spent: 4 })
    expect([...(await keys(real, 'hold/')), ...(await keys(real, 'suspended/'))]).toEqual([])
  })

  test('between a correction and its lost reply has corrected once: no money comes back twice', async () => {
    const { kernel, real, arm } = await sweptMeanwhile()
    const [one, two] = [await take(kernel, PATH, { tokens: 10 }), await take(kernel, PATH, { tokens: 10 })]
    await one.charge('unknown')
    await two.charge('unknown')
    arm()
    await one.settle({ tokens: 2 })
    await vi.waitFor(() => expect(kernel.pendingReports).toBe(0))
    expect(await line(real, 'acme')).toMatchObject({ spent: 12, assumed: 10, free: 88 })
  })

  test('between a settle and its lost reply has settled once', async () => {
    const { kernel, real, arm } = await sweptMeanwhile()
    const hold = await take(kernel, PATH, { tokens: 10 })
    await take(kernel, PATH, { tokens: 10 })
    arm()
    await hold.settle({ tokens: 2 })
    await vi.waitFor(() => expect(kernel.pendingReports).toBe(0))
    expect(await line(real, 'acme')).toMatchObject({ spent: 2, out: 0, suspense: 10, free: 88 })
  })

  test('settles, releases, charges and corrects out of suspense, each once', async () => {
    const clock = settableClock()
    const { kernel, store } = await open({ store: memoryStore({ clock }), budgets: BUDGETS })
    const holds = await Promise.all([1, 2, 3, 4].map(() => take(kernel, PATH, { tokens: 10 })))
    clock.set(clock.now() + 12_000)
    const { kernel: other, events } = await open({ store })
    expect(await line(store, 'acme')).toMatchObject({ out: 0, suspense: 40 })
    expect(events).toEqual([{ type: 'suspended', message: expect.stringContaining('4 actions') }])
    await holds[0]!.settle({ tokens: 4 })
    await holds[1]!.release('unused')
    await holds[2]!.charge('unknown')
    expect(await line(store, 'acme')).toMatchObject({ out: 0, suspense: 10, spent: 14, assumed: 10 })
    await holds[2]!.settle({ tokens: 1 })
    await holds[3]!.settle({ tokens: 12 })
    expect(await line(store, 'acme')).toMatchObject({ out: 0, suspense: 0, spent: 17, assumed: 0, free: 83 })
    await other.close()
  })
})

describe('the record of a process', () => {
  test('is there before its first take even if replies get lost, so that nobody takes its holds for those of a dead one', async () => {
    const real = memoryStore()
    const plan: Fault[] = []
    const store = faultyStore(real, plan)
    const { kernel } = await open({ store, budgets: BUDGETS })
    plan[store.happened.length] = 'lose-request'
    await expect(take(kernel, PATH, { tokens: 10 })).rejects.toMatchObject({ code: 'ERR_STORE' })
    plan[store.happened.length] = 'lose-reply'
    await take(kernel, PATH, { tokens: 10 })
    const { kernel: other } = await open({ store: real })
    expect(await other.sweep()).toBe(0)
    expect(await line(real, 'acme')).toMatchObject({ out: 10, suspense: 0 })
  })

  test('is renewed while it holds anything, also after a take whose reply was lost', async () => {
    const plan: Fault[] = []
    const store = faultyStore(memoryStore(), plan)
    const { kernel } = await open({ store, budgets: BUDGETS, leaseTtlMs: 100 })
    await (await take(kernel, PATH, { tokens: 1 })).release('warm')
    plan[store.happened.length] = 'lose-reply'
    await (await take(kernel, PATH, { tokens: 10 })).settle({ tokens: 1 })
    await take(kernel, PATH, { tokens: 10 })
    const renewed = async () => (await store.read([`renewed/${kernel.boot}`]))[0]!.version
    const before = await renewed()
    await vi.waitFor(async () => expect(await renewed()).toBeGreaterThan(before))
  })

  test('says how long the process may be silent: a kernel with less patience does not suspend its holds', async () => {
    const clock = settableClock()
    const store = memoryStore({ clock })
    const { kernel } = await open({ store, budgets: BUDGETS, leaseTtlMs: 60_000 })
    const { kernel: hasty } = await open({ store, leaseTtlMs: 100 })
    await take(kernel, PATH, { tokens: 10 })
    clock.set(clock.now() + 61_999)
    expect(await hasty.sweep()).toBe(0)
    clock.set(clock.now() + 1)
    expect(await hasty.sweep()).toBe(1)
  })
})

describe('a sweep', () => {
  test.each(['lose-reply', 'lose-request', 'duplicate', 'contend', 'refuse'] as const)(
    'that meets `%s` suspends each hold once',
    async (fault) => {
      const clock = settableClock()
      const real = memoryStore({ clock })
      const { kernel } = await open({ store: real, budgets: BUDGETS })
      for (let holds = 0; holds < 25; holds++) await take(kernel, PATH, { tokens: 2 })
      clock.set(clock.now() + 60_000)
      const plan: Fault[] = ['none', fault, 'none', fault]
      const store = faultyStore(real, plan)
      for (let sweeps = 0; sweeps < 4; sweeps++) {
        const sweeper = await openKernel({ store, onEvent: () => undefined }).catch((error: unknown) => error as Error)
        if ('close' in sweeper) await sweeper.close()
      }
      expect(await line(real, PATH)).toMatchObject({ out: 0, suspense: 50 })
      expect(await keys(real, 'suspended/')).toHaveLength(25)
      expect(await keys(real, 'process/')).toEqual([])
    },
  )

  test('by eight kernels at once suspends each hold once', async () => {
    const clock = settableClock()
    const store = memoryStore({ clock })
    const { kernel } = await open({ store, budgets: BUDGETS })
    for (let holds = 0; holds < 25; holds++) await take(kernel, PATH, { tokens: 2 })
    const kernels = await Promise.all(Array.from({ length: 8 }, () => open({ store })))
    clock.set(clock.now() + 60_000)
    await Promise.all(kernels.map(({ kernel: sweeper }) => sweeper.sweep()))
    await kernels[0]!.kernel.sweep()
    expect(await line(store, PATH)).toMatchObject({ out: 0, suspense: 50 })
    expect(await keys(store, 'suspended/')).toHaveLength(25)
  })

  test('moves holds with more legs than fit ten to a batch', async () => {
    const clock = settableClock()
    const store = memoryStore({ clock })
    const counters = Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`c${index}`, 100]))
    const { kernel } = await open({
      store,
      budgets: Object.fromEntries(Array.from({ length: 12 }, (_, index) => [`root${index}`, counters])),
    })
    const worst = Object.fromEntries(Object.keys(counters).map((name) => [name, 1]))
    for (let index = 0; index < 12; index++) await take(kernel, `root${index}`, worst)
    clock.set(clock.now() + 60_000)
    const { kernel: other } = await open({ store })
    expect(await other.sweep()).toBe(0)
    expect((await balanced(store)).every(({ suspense, out }) => suspense === 1 && out === 0)).toBe(true)
  })
})

describe('a declaration', () => {
  test.each(BAD_LUCK)('is applied once, and a raise too, when %s', async (_, faults) => {
    const real = memoryStore()
    for (const [tokens, revision] of [
      [100, 1],
      [130, 2],
    ] as const) {
      const budgets = { acme: { tokens, revision } }
      const kernel = await openKernel({ store: faultyStore(real, faults), budgets }).catch(() => openKernel({ store: real, budgets }))
      await kernel.close()
      expect(await line(real, 'acme')).toMatchObject({ limit: tokens, free: tokens })
    }
  })
})
