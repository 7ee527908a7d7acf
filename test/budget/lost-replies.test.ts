// A store whose replies get lost, whose requests get lost, that answers a request sent twice, or that lets others
// be first. Proves that each take and each end of a hold happens exactly once all the same, that a take which nobody
// acknowledged is undone.

import { describe, expect, test, vi } from 'vitest'
import { keys, line, money, open, take } from './bench.ts'
import { openKernel } from '../../src/kernel/open-kernel.ts'
import { HoldfastError } from '../../src/lib/errors.ts'
import { memoryStore } from '../../src/stores/memory.ts'
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

  test.each([1, 100])('is given back, or is there, when the driver sent it twice and %i reads after that fail', async (failures) => {
    const { kernel, real, meet, assertSpent } = await unlucky()
    let failed = 0
    vi.spyOn(kernel.store, 'read').mockImplementation(async (keys) => {
      // The reads of the take itself: it has to know whose record stands there.
      if (!keys[0]!.startsWith('hold/') || keys.length !== 2 || failed >= failures) return real.read(keys)
      failed += 1
      throw new HoldfastError('ERR_STORE', 'the read was refused')
    })
    meet('duplicate')
    const taken = await take(kernel, PATH, { tokens: 10 }).catch((error: unknown) => (error as HoldfastError).code)
    expect(failed).toBe(Math.min(failures, 6))
    const settled = typeof taken === 'string' ? taken : await taken.settle({ tokens: 4 })
    expect(settled).toBe(failures === 1 ? undefined : 'ERR_STORE')
    await assertSpent(failures === 1 ? 4 : 0)
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

  test.each([
    ['its end is sent twice, and the store cannot be read after that', PATH, ['none', 'duplicate']],
    ['the store cannot be read after its end', 'handoff', ['none', 'none']],
  ] as const)('nothing was held, what it used is counted after all, and %s', async (_, where, faults) => {
    const { kernel, real, meet } = await unlucky()
    const handoff = await kernel
      .scope({ agent: 'giver', task: 'test', budget: PATH })
      .handoff({ to: 'helper', budget: { tokens: 20 }, instruction: 'help' })
    const path = where === 'handoff' ? handoff.scope.budget : PATH
    const hold = await take(kernel, path, {})
    let failed = 0
    vi.spyOn(kernel.store, 'read').mockImplementation(async (keys) => {
      const [spent] = await real.read([`spent/tokens/${path}`])
      if (failed > 0 || spent === null || keys.length > 1 || !keys[0]!.startsWith('budget/')) return real.read(keys)
      failed += 1
      throw new HoldfastError('ERR_STORE', 'the read was refused')
    })
    meet(...faults)
    await hold.settle({ tokens: 7 })
    await vi.waitFor(() => expect(kernel.pendingReports).toBe(0))
    expect(failed).toBe(1)
    expect(await line(real, path)).toMatchObject({ spent: 7, out: 0, over: 0 })
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
