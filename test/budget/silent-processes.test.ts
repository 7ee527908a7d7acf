// Processes that fall silent, and those that look after them. Proves that what a silent process holds goes to suspense,
// once, whoever sweeps and however its store behaves; that a process which was only taken for dead goes on and counts
// everything once; and that one which speaks is left alone.

import { describe, expect, test, vi } from 'vitest'
import { balanced, keys, line, open, take } from './bench.ts'
import { openKernel } from '../../src/kernel/open-kernel.ts'
import { sleep } from '../../src/lib/clock.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { faultyStore, type Fault } from '../../src/testing/faulty-store.ts'
import { settableClock } from '../../src/testing/store-bench.ts'

const BUDGETS = { acme: { tokens: 100 }, 'acme/*': { tokens: 50 } }
const PATH = 'acme/one'

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

  test('is renewed while it holds anything, also after a take whose reply was lost, and no longer', async () => {
    const plan: Fault[] = []
    const store = faultyStore(memoryStore(), plan)
    const { kernel } = await open({ store, budgets: BUDGETS, leaseTtlMs: 100 })
    const renewed = async () => (await store.read([`renewed/${kernel.boot}`]))[0]!.version
    const renewedAgain = async () => {
      const before = await renewed()
      await vi.waitFor(async () => expect(await renewed()).toBeGreaterThan(before))
    }
    await (await take(kernel, PATH, { tokens: 1 })).release('warm')
    plan[store.happened.length] = 'lose-reply'
    await (await take(kernel, PATH, { tokens: 10 })).settle({ tokens: 1 })
    const [one, two] = [await take(kernel, PATH, { tokens: 10 }), await take(kernel, PATH, { tokens: 10 })]
    await renewedAgain()
    await one.settle({ tokens: 1 })
    await renewedAgain()
    await two.settle({ tokens: 1 })
    const last = await renewed()
    await new Promise((resolve) => setTimeout(resolve, 150))
    expect(await renewed()).toBe(last)
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

  test('leaves the holds of a process that speaks up in the middle of it where they are', async () => {
    const clock = settableClock()
    const real = memoryStore({ clock })
    const { kernel } = await open({ store: real, budgets: BUDGETS, leaseTtlMs: 100 })
    await take(kernel, PATH, { tokens: 10 })
    const renewed = async () => (await real.read([`renewed/${kernel.boot}`]))[0]!.version
    const list: Store['list'] = async (prefix, range) => {
      const page = await real.list(prefix, range)
      for (const before = await renewed(); prefix === `hold/${kernel.boot}/` && (await renewed()) === before;) await sleep(5)
      return page
    }
    clock.set(clock.now() + 60_000)
    const { kernel: sweeper } = await open({ store: { ...real, list } })
    expect(await line(real, 'acme')).toMatchObject({ out: 10, suspense: 0 })
    expect(await keys(real, 'process/')).toEqual([`process/${kernel.boot}`])
    expect(await sweeper.sweep()).toBe(0)
  })

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
    const counters = Object.fromEntries(Array.from({ length: 30 }, (_, index) => [`c${index}`, 100]))
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
