// What an operator may do to single holds: end those of silent processes with evidence, and correct charges. After
// every step the equation is asserted.

import { describe, expect, test, vi } from 'vitest'
import type { Kernel } from '../../src/kernel/open-kernel.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { faultyStore, type Fault } from '../../src/testing/faulty-store.ts'
import { settableClock } from '../../src/testing/store-bench.ts'
import { balanced, keys, line, money, open, take } from './bench.ts'
import { WHY, errorOf, interrupted, operatorOn } from './operator-bench.ts'

const BUDGETS = { acme: { tokens: 1_000, usd: 10 }, 'acme/*': { tokens: 800 } }

/** A kernel, and the means to let it fall silent until others have moved what it holds to suspense. */
async function silenced(more: { leasing?: 'auto' | 'off' } = {}) {
  const clock = settableClock()
  const store = memoryStore({ clock })
  const { kernel: other } = await open({ store, budgets: BUDGETS })
  const { kernel } = await open({ store, ...more })
  const fallSilent = async (): Promise<void> => {
    clock.set(clock.now() + 60_000)
    await other.sweep()
  }
  return { store, kernel, other, clock, fallSilent, operator: operatorOn(store) }
}

/** What a kernel has in suspense, named. */
async function suspendedOf(store: Store, { boot }: Kernel): Promise<readonly { process: string; hold: string }[]> {
  return (await keys(store, `suspended/${boot}/`)).map((key) => ({ process: boot, hold: key.split('/')[2]! }))
}

describe('reclaim', () => {
  test('ends a hold in suspense with what it really used; the rest is free again at every level', async () => {
    const { store, kernel, fallSilent, operator } = await silenced()
    const hold = await take(kernel, 'acme/a', { tokens: 100, usd: 2_000_000_000 })
    await fallSilent()
    expect(await line(store, 'acme')).toMatchObject({ suspense: 100, free: 900 })
    const end = await operator.reclaim({ process: kernel.boot, hold: hold.id, used: { tokens: 30, usd: '0.5' }, ...WHY })
    expect(end).toEqual({
      process: kernel.boot,
      hold: hold.id,
      budget: 'acme/a',
      held: { tokens: 100, usd: 2_000_000_000 },
      used: { tokens: 30, usd: 500_000_000 },
      returned: { tokens: 70, usd: 1_500_000_000 },
    })
    for (const budget of ['acme', 'acme/a']) expect(await line(store, budget)).toMatchObject({ suspense: 0, out: 0, spent: 30, assumed: 0 })
    expect(await line(store, 'acme', 'usd')).toMatchObject({ spent: 500_000_000, free: 9_500_000_000 })
    expect([...(await keys(store, 'suspended/')), ...(await keys(store, 'charged/'))]).toEqual([])
    expect(operator.events()).toMatchObject([
      { type: 'reclaim', process: kernel.boot, hold: hold.id, used: { tokens: 30 }, ...WHY },
      { type: 'reclaim-done', budget: 'acme/a', returned: { tokens: 70, usd: 1_500_000_000 } },
    ])
  })

  test('counts a dimension that is not named as used up', async () => {
    const { store, kernel, fallSilent, operator } = await silenced()
    const hold = await take(kernel, 'acme/a', { tokens: 100, usd: 2_000_000_000 })
    await fallSilent()
    await operator.reclaim({ process: kernel.boot, hold: hold.id, used: { tokens: 0 }, ...WHY })
    expect(await line(store, 'acme')).toMatchObject({ free: 1_000 })
    expect(await line(store, 'acme', 'usd')).toMatchObject({ spent: 2_000_000_000 })
  })

  test('ends a lease: what it had reported stays, what it had left is what the operator says', async () => {
    const { store, kernel, fallSilent, operator } = await silenced({ leasing: 'auto' })
    for (let call = 0; call < 20; call++) await (await take(kernel, 'acme/a', { tokens: 5 })).settle({ tokens: 1 })
    await kernel.budgets()
    const { spent } = await line(store, 'acme')
    await fallSilent()
    const { suspense } = await line(store, 'acme')
    expect(suspense).toBeGreaterThan(3)
    const [lease] = await suspendedOf(store, kernel)
    await operator.reclaim({ ...lease!, used: { tokens: 3 }, ...WHY })
    expect(await line(store, 'acme')).toMatchObject({ suspense: 0, spent: spent + 3, free: 1_000 - spent - 3 })
  })

  test('of a lease whose process wakes up takes nothing twice: what it spends from then on, the operator has counted', async () => {
    const { store, kernel, fallSilent, operator } = await silenced({ leasing: 'auto' })
    for (let call = 0; call < 20; call++) await (await take(kernel, 'acme/a', { tokens: 5 })).settle({ tokens: 1 })
    const late = await take(kernel, 'acme/a', { tokens: 5 })
    await kernel.budgets()
    await fallSilent()
    const [lease] = await suspendedOf(store, kernel)
    const { suspense, spent } = await line(store, 'acme')
    await operator.reclaim({ ...lease!, used: { tokens: suspense }, ...WHY })
    await late.settle({ tokens: 5 })
    await kernel.flush()
    expect(await line(store, 'acme')).toMatchObject({ out: 0, suspense: 0, spent: spent + suspense })
    await (await take(kernel, 'acme/a', { tokens: 5 })).settle({ tokens: 2 })
    await kernel.flush()
    expect(await line(store, 'acme')).toMatchObject({ out: 0, spent: spent + suspense + 2 })
  })

  test('against a process that wakes up at that moment: one of the two ends it, whole', async () => {
    const seen = new Set<number>()
    for (let round = 0; round < 30; round++) {
      const { store, kernel, fallSilent, operator } = await silenced()
      const hold = await take(kernel, 'acme/a', { tokens: 100 })
      await fallSilent()
      const reclaiming = (async () => {
        for (let turn = 0; turn < round; turn++) await new Promise((resolve) => setImmediate(resolve))
        await operator.reclaim({ process: kernel.boot, hold: hold.id, used: { tokens: 60 }, ...WHY })
      })()
      const result = reclaiming.then(
        () => 60,
        () => 10,
      )
      const [spent] = await Promise.all([result, hold.settle({ tokens: 10 })])
      seen.add(spent)
      await vi.waitFor(() => expect(kernel.pendingReports).toBe(0))
      expect(await line(store, 'acme')).toMatchObject({ out: 0, suspense: 0, spent, free: 1_000 - spent })
    }
    expect([...seen].sort((one, other) => one - other)).toEqual([10, 60])
  })

  test('of a process that speaks up between the look and the write is refused', async () => {
    const { store, kernel, fallSilent } = await silenced()
    const hold = await take(kernel, 'acme/a', { tokens: 100 })
    await take(kernel, 'acme/a', { tokens: 50 })
    await fallSilent()
    const wake = (): Promise<unknown> => take(kernel, 'acme/a', { tokens: 1 })
    const end = { process: kernel.boot, hold: hold.id, used: { tokens: 1 }, ...WHY }
    const alive = { code: 'ERR_HOLD_STATE', message: expect.stringContaining('is alive') as string }
    expect(await errorOf(operatorOn(interrupted(store, 'suspended/', wake)).reclaim(end))).toMatchObject(alive)
    expect(await line(store, 'acme')).toMatchObject({ suspense: 150, out: 1, spent: 0 })
  })

  test('of a process that is registered, was silent, and renews itself at that moment, is refused', async () => {
    const { store, kernel, clock, fallSilent } = await silenced()
    const hold = await take(kernel, 'acme/a', { tokens: 100 })
    await take(kernel, 'acme/a', { tokens: 50 })
    await fallSilent()
    await take(kernel, 'acme/a', { tokens: 1 })
    clock.set(clock.now() + 60_000)
    const renew = async (): Promise<unknown> => store.apply([{ set: [{ key: `renewed/${kernel.boot}`, value: await store.now() }] }])
    const end = { process: kernel.boot, hold: hold.id, used: { tokens: 1 }, ...WHY }
    expect(await errorOf(operatorOn(interrupted(store, 'suspended/', renew)).reclaim(end))).toMatchObject({ code: 'ERR_HOLD_STATE' })
    expect(await line(store, 'acme')).toMatchObject({ suspense: 150, spent: 0 })
  })

  test('of a hold whose process is alive again is refused: it ends its holds itself', async () => {
    const { store, kernel, fallSilent, operator } = await silenced()
    const hold = await take(kernel, 'acme/a', { tokens: 100 })
    await fallSilent()
    await take(kernel, 'acme/a', { tokens: 1 })
    const before = await money(store)
    const error = await errorOf(operator.reclaim({ process: kernel.boot, hold: hold.id, used: { tokens: 1 }, ...WHY }))
    expect(error).toMatchObject({ code: 'ERR_HOLD_STATE' })
    expect(error.message).toContain('is alive')
    expect(await money(store)).toEqual(before)
    await hold.settle({ tokens: 5 })
    expect(await line(store, 'acme')).toMatchObject({ suspense: 0, spent: 5 })
  })

  test.each([
    ['a hold that is not in suspense yet', false, {}, 'ERR_HOLD_STATE', 'it is held still'],
    ['a hold that never was', true, { hold: 'nothing' }, 'ERR_HOLD_STATE', 'there is no such hold'],
    ['a process that never was', true, { process: 'nobody' }, 'ERR_HOLD_STATE', 'there is no such hold'],
    ['more than it held', true, { used: { tokens: 101 } }, undefined, 'has 100, so it cannot have used 101'],
    ['a dimension that it did not hold', true, { used: { usd: '0.01' } }, undefined, 'has $0.00'],
    ['nothing said', true, { used: {} }, undefined, '`used` names nothing'],
    ['less than nothing', true, { used: { tokens: -1 } }, undefined, '`used.tokens`'],
    ['no number', true, { used: { tokens: Number.NaN } }, undefined, '`used.tokens`'],
    ['no reason', true, { reason: '' }, undefined, '`reason`'],
    ['no name', true, { hold: 'a/b' }, undefined, '`hold`'],
  ])('refuses %s, and changes nothing', async (_, silent, change, code, message) => {
    const { store, kernel, fallSilent, operator } = await silenced()
    const hold = await take(kernel, 'acme/a', { tokens: 100 })
    if (silent) await fallSilent()
    const before = await money(store)
    const error = await errorOf(operator.reclaim({ process: kernel.boot, hold: hold.id, used: { tokens: 1 }, ...WHY, ...change }))
    expect(error.code).toBe(code)
    expect(error.message).toContain(message)
    expect(await money(store)).toEqual(before)
    await balanced(store)
  })

  test('twice, or by two operators at once, happens once', async () => {
    const { store, kernel, fallSilent } = await silenced()
    const hold = await take(kernel, 'acme/a', { tokens: 100 })
    // Money of others lies beside it: the columns alone would not notice.
    for (let other = 0; other < 3; other++) await take(kernel, 'acme/a', { tokens: 100 })
    await fallSilent()
    const end = { process: kernel.boot, hold: hold.id, used: { tokens: 10 }, ...WHY }
    const results = await Promise.allSettled([1, 2, 3].map(() => operatorOn(store).reclaim(end)))
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected', 'rejected'])
    expect(await errorOf(operatorOn(store).reclaim(end))).toMatchObject({ code: 'ERR_HOLD_STATE' })
    expect(await line(store, 'acme')).toMatchObject({ spent: 10, suspense: 300, free: 690 })
  })

  test.each([[['lose-reply', 'lose-reply']], [['lose-request', 'duplicate', 'lose-reply']], [['contend', 'duplicate', 'delay']]] as [
    Fault[],
  ][])('with a store that does %j happens once', async (plan) => {
    const { store, kernel, fallSilent } = await silenced()
    const hold = await take(kernel, 'acme/a', { tokens: 100 })
    await fallSilent()
    const end = { process: kernel.boot, hold: hold.id, used: { tokens: 10 }, ...WHY }
    await operatorOn(faultyStore(store, plan)).reclaim(end)
    expect(await line(store, 'acme')).toMatchObject({ spent: 10, free: 990, suspense: 0 })
  })

  test('of what lay in a handoff that was closed meanwhile brings the rest up', async () => {
    const { store, kernel, other, fallSilent, operator } = await silenced()
    const giver = other.scope({ agent: 'boss', task: 'work', budget: 'acme' })
    const handoff = await giver.handoff({ to: 'helper', budget: { tokens: 300 }, instruction: 'Work.' })
    const hold = await take(kernel, handoff.scope.budget, { tokens: 100 })
    await fallSilent()
    await handoff.close()
    expect(await line(store, 'acme')).toMatchObject({ kids: 100, free: 900 })
    await operator.reclaim({ process: kernel.boot, hold: hold.id, used: { tokens: 40 }, ...WHY })
    expect(await line(store, 'acme')).toMatchObject({ kids: 0, free: 960, spent: 40 })
  })

  test('of what observe mode let through counts beside the limit', async () => {
    const clock = settableClock()
    const store = memoryStore({ clock })
    const { kernel: other } = await open({ store, budgets: { acme: { tokens: 10 } } })
    const { kernel } = await open({ store, mode: 'observe' })
    const hold = await take(kernel, 'acme', { tokens: 50 })
    clock.set(clock.now() + 60_000)
    await other.sweep()
    expect(await line(store, 'acme')).toMatchObject({ over: 50 })
    await operatorOn(store).reclaim({ process: kernel.boot, hold: hold.id, used: { tokens: 20 }, ...WHY })
    expect(await line(store, 'acme')).toMatchObject({ over: 20, free: 10 })
  })

  test('of what observe mode let through in a handoff that was closed counts where it stands now', async () => {
    const clock = settableClock()
    const store = memoryStore({ clock })
    const { kernel: other } = await open({ store, budgets: { acme: { tokens: 100 } } })
    const giver = other.scope({ agent: 'boss', task: 'work', budget: 'acme' })
    const handoff = await giver.handoff({ to: 'helper', budget: { tokens: 10 }, instruction: 'Work.' })
    const { kernel } = await open({ store, mode: 'observe' })
    const hold = await take(kernel, handoff.scope.budget, { tokens: 50 })
    clock.set(clock.now() + 60_000)
    await other.sweep()
    await handoff.close()
    expect(await line(store, 'acme')).toMatchObject({ over: 50 })
    await operatorOn(store).reclaim({ process: kernel.boot, hold: hold.id, used: { tokens: 20 }, ...WHY })
    expect(await line(store, 'acme')).toMatchObject({ over: 20, free: 100 })
  })
})

describe('writeOff', () => {
  test('ends a hold at worst, as a charge that can be corrected later', async () => {
    const { store, kernel, fallSilent, operator } = await silenced()
    const hold = await take(kernel, 'acme/a', { tokens: 100 })
    await fallSilent()
    const name = { process: kernel.boot, hold: hold.id }
    await operator.writeOff({ ...name, ...WHY })
    expect(await line(store, 'acme')).toMatchObject({ suspense: 0, spent: 100, assumed: 100 })
    await operator.correct({ ...name, used: { tokens: 30 }, ...WHY })
    for (const budget of ['acme', 'acme/a']) expect(await line(store, budget)).toMatchObject({ spent: 30, assumed: 0 })
    expect(await errorOf(operator.correct({ ...name, used: { tokens: 0 }, ...WHY }))).toMatchObject({ code: 'ERR_HOLD_STATE' })
    expect(await line(store, 'acme')).toMatchObject({ free: 970 })
  })

  test('ends a lease so too', async () => {
    const { store, kernel, fallSilent, operator } = await silenced({ leasing: 'auto' })
    for (let call = 0; call < 20; call++) await (await take(kernel, 'acme/a', { tokens: 5 })).settle({ tokens: 1 })
    await kernel.budgets()
    await fallSilent()
    const { spent, suspense } = await line(store, 'acme')
    const [lease] = await suspendedOf(store, kernel)
    await operator.writeOff({ ...lease!, ...WHY })
    const [mark] = await store.list('charged/', { limit: 1 })
    expect(mark!.value).not.toHaveProperty('reported')
    expect(await line(store, 'acme')).toMatchObject({ suspense: 0, spent: spent + suspense, assumed: suspense })
    await operator.correct({ ...lease!, used: { tokens: 0 }, ...WHY })
    expect(await line(store, 'acme')).toMatchObject({ spent, assumed: 0, free: 1_000 - spent })
  })
})

describe('correct', () => {
  test.each(['off', 'auto'] as const)(
    'takes back what a charge assumed too much, while its process lives (leasing %s)',
    async (leasing) => {
      const { kernel, store } = await open({ budgets: BUDGETS, leasing })
      for (let call = 0; call < 10; call++) await (await take(kernel, 'acme/a', { tokens: 5 })).settle({ tokens: 0 })
      const hold = await take(kernel, 'acme/a', { tokens: 100 })
      await hold.charge('the stream was cut')
      await kernel.flush()
      expect(await line(store, 'acme')).toMatchObject({ spent: 100, assumed: 100 })
      const name = { process: kernel.boot, hold: hold.id }
      expect(await errorOf(operatorOn(store).correct({ ...name, used: { tokens: 101 }, ...WHY }))).toBeInstanceOf(RangeError)
      const end = await operatorOn(store).correct({ ...name, used: { tokens: 25 }, ...WHY })
      expect(end).toMatchObject({ budget: 'acme/a', used: { tokens: 25 }, returned: { tokens: 75 } })
      for (const budget of ['acme', 'acme/a']) expect(await line(store, budget)).toMatchObject({ spent: 25, assumed: 0 })
      // The process that learns of it late changes nothing any more.
      await hold.settle({ tokens: 30 })
      await kernel.flush()
      expect(await line(store, 'acme')).toMatchObject({ spent: 25, assumed: 0, out: 0 })
    },
  )

  test('by two operators and the process itself at once happens once', async () => {
    for (let round = 0; round < 20; round++) {
      const { kernel, store } = await open({ budgets: BUDGETS })
      const hold = await take(kernel, 'acme/a', { tokens: 100 })
      await hold.charge('the stream was cut')
      // Another charge lies beside it: the columns alone would not notice.
      for (let other = 0; other < 3; other++) await (await take(kernel, 'acme/a', { tokens: 100 })).charge('the stream was cut')
      const correction = { process: kernel.boot, hold: hold.id, ...WHY }
      await Promise.allSettled([
        operatorOn(store).correct({ ...correction, used: { tokens: 10 } }),
        hold.settle({ tokens: 20 }),
        operatorOn(store).correct({ ...correction, used: { tokens: 30 } }),
      ])
      await vi.waitFor(() => expect(kernel.pendingReports).toBe(0))
      const { spent, assumed, free } = await line(store, 'acme')
      expect([310, 320, 330]).toContain(spent)
      expect({ assumed, free }).toEqual({ assumed: 300, free: 1_000 - spent })
    }
  })

  test('of a charge in a handoff that was closed counts in the budgets above', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS })
    const giver = kernel.scope({ agent: 'boss', task: 'work', budget: 'acme' })
    const handoff = await giver.handoff({ to: 'helper', budget: { tokens: 300 }, instruction: 'Work.' })
    const hold = await take(kernel, handoff.scope.budget, { tokens: 100 })
    await hold.charge('the stream was cut')
    await handoff.close()
    expect(await line(store, 'acme')).toMatchObject({ spent: 100, assumed: 100 })
    await operatorOn(store).correct({ process: kernel.boot, hold: hold.id, used: { tokens: 1 }, ...WHY })
    expect(await line(store, 'acme')).toMatchObject({ spent: 1, assumed: 0, free: 999, kids: 0 })
  })

  test('of a hold that was settled, or never was, is refused and recorded', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS })
    const hold = await take(kernel, 'acme/a', { tokens: 100 })
    await hold.settle({ tokens: 3 })
    const operator = operatorOn(store)
    const error = await errorOf(operator.correct({ process: kernel.boot, hold: hold.id, used: { tokens: 1 }, ...WHY }))
    expect(error).toMatchObject({ code: 'ERR_HOLD_STATE' })
    expect(operator.events().map(({ type }) => type)).toEqual(['correct', 'correct-failed'])
    expect(await line(store, 'acme')).toMatchObject({ spent: 3 })
  })

  test('with replies that are lost happens once', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS })
    const hold = await take(kernel, 'acme/a', { tokens: 100 })
    await hold.charge('the stream was cut')
    const plan = ['lose-reply', 'lose-request', 'duplicate'] as const
    await operatorOn(faultyStore(store, plan)).correct({ process: kernel.boot, hold: hold.id, used: { tokens: 1 }, ...WHY })
    expect(await line(store, 'acme')).toMatchObject({ spent: 1, assumed: 0 })
  })
})
