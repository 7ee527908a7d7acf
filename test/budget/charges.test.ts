// Charges at worst that are drawn from a lease: each is on record in the store when `charge` is over, and yet those that
// wait share one write, and one on a busy lease waits for its own and not for all that comes after it.

import { describe, expect, test } from 'vitest'
import { keys, line, open } from './bench.ts'
import type { Kernel } from '../../src/kernel/open-kernel.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { faultyStore } from '../../src/testing/faulty-store.ts'
import { times } from '../../src/testing/store-bench.ts'
import type { Hold } from '../../src/waist/hold.ts'

const BUDGETS = { acme: { tokens: 1_000_000 }, 'acme/*': { tokens: 100_000 } }

const begin = (kernel: Kernel, budget = 'acme/a'): Promise<Hold> =>
  kernel.scope({ agent: 'tester', task: 'test', budget }).begin({ kind: 'tool', resource: 'spend', worst: { tokens: 10 } })

/** A kernel with a lease of 'acme/a' of which nothing is waiting to be told, and this many holds drawn from it. */
async function leased(store: Store, count: number): Promise<{ kernel: Kernel; holds: readonly Hold[] }> {
  const { kernel } = await open({ budgets: BUDGETS, leasing: 'auto', store })
  for (let call = 0; call < 600; call++) await (await begin(kernel)).settle({ tokens: 10 })
  const holds: Hold[] = []
  for (let call = 0; call < count; call++) holds.push(await begin(kernel))
  await kernel.budgets()
  return { kernel, holds }
}

/** A store that tells of each group before it is applied, and counts them and the reads. */
function watched(store = memoryStore()) {
  const seen = { groups: 0, reads: 0, onGroup: async (): Promise<void> => undefined }
  const watching: Store = {
    ...store,
    async apply(batches) {
      seen.groups += 1
      await seen.onGroup()
      return store.apply(batches)
    },
    async read(asked) {
      seen.reads += 1
      return store.read(asked)
    },
  }
  return { store: watching, seen }
}

describe('charges at worst', () => {
  test('that come while another one is written wait for one write, and all of them are in it', async () => {
    const { store, seen } = watched()
    const { kernel, holds } = await leased(store, 40)
    seen.groups = 0
    let release: (() => void) | undefined
    seen.onGroup = () => new Promise((resolve) => (release = resolve))
    const first = holds[0]!.charge('nobody knows')
    await expect.poll(() => release, { timeout: 20_000 }).toBeDefined()
    const others = holds.slice(1).map((hold) => hold.charge('nobody knows'))
    let meanwhile = 0
    // Something else is spent whenever something is written, so that there is always something to write.
    seen.onGroup = async () => {
      meanwhile += 1
      await (await begin(kernel)).settle({ tokens: 1 })
    }
    release!()
    await Promise.all([first, ...others])
    expect(seen.groups).toBeLessThan(8)
    expect(await keys(store, 'charged/')).toHaveLength(40)
    expect(await line(store, 'acme/a')).toMatchObject({ assumed: 400 })
    seen.onGroup = async () => undefined
    for (const hold of holds) await hold.settle({ tokens: 4 })
    await kernel.flush()
    expect(await line(store, 'acme/a')).toMatchObject({ assumed: 0, spent: 6_160 + meanwhile, out: 0 })
    expect(await keys(store, 'charged/')).toEqual([])
  })

  test('on a lease that is always in use wait for their own write, and not for what others spend meanwhile', async () => {
    const { store, seen } = watched()
    const { kernel, holds } = await leased(store, 5)
    // Something is spent whenever something is written.
    seen.onGroup = async () => (await begin(kernel)).settle({ tokens: 1 })
    seen.groups = 0
    for (const hold of holds) await hold.charge('nobody knows')
    expect(seen.groups).toBeLessThan(20)
    expect(await keys(store, 'charged/')).toHaveLength(5)
    seen.onGroup = async () => undefined
    await kernel.flush()
    expect((await line(store, 'acme/a')).out).toBe(0)
  })

  test('more than one write can carry are all on record when they are over', async () => {
    const { store, seen } = watched()
    const { holds } = await leased(store, 130)
    seen.groups = 0
    await Promise.all(holds.map((hold) => hold.charge('nobody knows')))
    expect(await keys(store, 'charged/')).toHaveLength(130)
    expect(seen.groups).toBeLessThan(10)
  })

  test('whose write nobody answers are each written once, when they are tried again', async () => {
    const real = memoryStore()
    const faulty = faultyStore(real, { seed: 7, odds: { 'lose-reply': 0.3, 'lose-request': 0.3 } })
    let broken = false
    const store: Store = { ...real, apply: async (batches) => (broken ? faulty : real).apply(batches) }
    const { kernel, holds } = await leased(store, 60)
    broken = true
    await Promise.all(holds.map((hold) => hold.charge('nobody knows')))
    await expect.poll(() => kernel.pendingReports, { timeout: 20_000 }).toBe(0)
    broken = false
    expect(new Set(faulty.happened)).toContain('lose-reply')
    await kernel.flush()
    expect(await keys(store, 'charged/')).toHaveLength(60)
    expect(await line(store, 'acme/a')).toMatchObject({ assumed: 600, spent: 6_600, out: 0 })
  })
})

describe('a budget that changes', () => {
  test('is looked for among all leases in one read, and only what is leased of it comes back', async () => {
    const { store, seen } = watched()
    const { kernel } = await open({ budgets: { ...BUDGETS, other: { tokens: 10 } }, leasing: 'auto', store })
    const budgets = times(30, (index) => `acme/b${index}`)
    for (const budget of budgets) {
      for (let call = 0; call < 20; call++) await (await begin(kernel, budget)).settle({ tokens: 10 })
    }
    const leases = async () => (await keys(store, 'hold/')).length
    await expect.poll(leases, { timeout: 20_000 }).toBe(30)
    await new Promise((resolve) => setTimeout(resolve, 50))
    const evidence = { by: 'operator', reason: 'more work' }
    seen.reads = 0
    await kernel.setLimit('other', { tokens: 20 }, evidence)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(seen.reads).toBeLessThan(15)
    expect(await keys(store, 'hold/')).toHaveLength(30)
    await kernel.setLimit('acme/b7', { tokens: 90_000 }, evidence)
    await expect.poll(leases, { timeout: 20_000 }).toBe(29)
    expect(await line(store, 'acme/b7')).toMatchObject({ out: 0, spent: 200 })
  })
})
