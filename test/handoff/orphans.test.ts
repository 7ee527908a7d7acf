// What becomes of a handoff when nobody closes it: its kernel ends, its process dies, or nobody ever knew that it was
// made. Its money comes back in each case, and not before it is certain that nobody will miss it.

import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { balanced, keys, line, open, refusalOf } from '../budget/bench.ts'
import { sleep } from '../../src/lib/clock.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { faultyStore } from '../../src/testing/faulty-store.ts'
import { settableClock } from '../../src/testing/store-bench.ts'
import type { Scope } from '../../src/waist/scope.ts'

const BUDGETS = { acme: { usd: 10 }, 'acme/report': { usd: 5 } }
const usd = (amount: number): number => amount * 1_000_000_000
const identity = { agent: 'orchestrator', task: 'report', budget: 'acme/report' }
const request = { to: 'analyst', budget: { usd: 2 }, instruction: 'Count.' }
const spend = async (scope: Scope, amount: number): Promise<void> => {
  const worst = { usd: usd(amount) }
  await (await scope.begin({ kind: 'tool', resource: 'spend', worst })).settle(worst)
}

describe('a handoff that its giver did not close', () => {
  test('is closed with the kernel, one within another, and what was spent stays spent', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS })
    const first = await kernel.scope(identity).handoff(request)
    const second = await first.scope.handoff({ ...request, to: 'clerk', budget: { usd: 1 } })
    await spend(second.scope, 0.25)
    await kernel.close()
    for (const [budget, limit] of Object.entries({ acme: 10, 'acme/report': 5 }))
      expect(await line(store, budget, 'usd')).toMatchObject({ kids: 0, spent: usd(0.25), free: usd(limit - 0.25) })
    expect(await keys(store, 'allotted/')).toEqual([])
  })

  test('is open for its process that was only silent, and closed by others when that stays away', async () => {
    const clock = settableClock()
    const store = memoryStore({ clock })
    const { kernel } = await open({ store, budgets: BUDGETS })
    const handoff = await kernel.scope(identity).handoff(request)
    await spend(handoff.scope, 0.5)
    const { kernel: other } = await open({ store, leaseTtlMs: 100 })
    // Without a hold or a word for ten minutes: its record goes, its handoff stays a while longer.
    clock.set(clock.now() + 600_000)
    await other.sweep()
    expect(await keys(store, 'process/')).toEqual([])
    await other.sweep()
    expect(await line(store, 'acme/report', 'usd')).toMatchObject({ kids: usd(2) })
    await spend(handoff.scope, 0.25)
    await other.sweep()
    expect(await line(store, 'acme/report', 'usd')).toMatchObject({ kids: usd(2) })

    clock.set(clock.now() + 600_000)
    await vi.waitFor(
      async () => {
        await other.sweep()
        expect(await line(store, 'acme/report', 'usd')).toMatchObject({ kids: 0, spent: usd(0.75), free: usd(4.25) })
      },
      { timeout: 5_000, interval: 50 },
    )
    expect((await refusalOf(spend(handoff.scope, 0.25))).message).toContain('its handoff was closed')
    expect(other.auditLines.filter((record) => record.includes('orphan-closed'))).toHaveLength(1)
    expect(await handoff.close()).toMatchObject({ returned: { usd: usd(1.25) }, spent: { usd: usd(0.75) } })
    await balanced(store)
  })

  test('keeps its process renewed although nothing is held, as long as it is open', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS, leaseTtlMs: 100 })
    const renewed = async () => (await store.list('renewed/', { limit: 10 }))[0]!.version
    const handoff = await kernel.scope(identity).handoff(request)
    for (const before of [await renewed(), await renewed()]) await vi.waitFor(async () => expect(await renewed()).toBeGreaterThan(before))
    await handoff.close()
    const last = await renewed()
    await sleep(150)
    expect(await renewed()).toBe(last)
  })

  test('is found by a refusal, which then is none', async () => {
    const clock = settableClock()
    const store = memoryStore({ clock })
    const { kernel } = await open({ store, budgets: BUDGETS })
    await kernel.scope(identity).handoff({ ...request, budget: { usd: 5 } })
    const { kernel: other } = await open({ store, leaseTtlMs: 100, waitMs: 0 })
    clock.set(clock.now() + 600_000)
    const scope = other.scope({ ...identity, agent: 'other' })
    await vi.waitFor(() => spend(scope, 5), { timeout: 5_000, interval: 50 })
    expect(await line(store, 'acme/report', 'usd')).toMatchObject({ kids: 0, spent: usd(5) })
  })

  test('whose process died between the end of a hold and bringing it up comes back whole', async () => {
    const store = memoryStore()
    const { kernel } = await open({ store, budgets: BUDGETS })
    const handoff = await kernel.scope(identity).handoff(request)
    const hold = await handoff.scope.begin({ kind: 'tool', resource: 'spend', worst: { usd: usd(1) } })
    await handoff.close()
    // The end of the hold reaches the store; nothing after it does, and the process is heard of no more.
    const reached = new Promise<void>((resolve) => onTestFinished(store.watch('spent/', resolve)))
    const apply = store.apply.bind(store)
    let writes = 0
    store.apply = async (batches) => (writes++ === 0 ? apply(batches) : new Promise(() => undefined))
    void hold.settle({ usd: usd(0.5) })
    await reached
    store.apply = apply
    expect(await line(store, 'acme/report', 'usd')).toMatchObject({ kids: usd(1) })
    const { kernel: other } = await open({ store, leaseTtlMs: 100 })
    await store.apply([{ delete: (await keys(store, 'process/')).concat(await keys(store, 'renewed/')) }])
    await vi.waitFor(
      async () => {
        await other.sweep()
        expect(await line(store, 'acme/report', 'usd')).toMatchObject({ kids: 0, spent: usd(0.5), free: usd(4.5) })
      },
      { timeout: 5_000, interval: 50 },
    )
    expect(await keys(store, 'allotted/')).toEqual([])
  })
})

describe('a handoff that nobody acknowledged', () => {
  for (const [what, fault] of Object.entries({ 'was made': 'lose-reply', 'was not made': 'lose-request' } as const))
    test(`and that ${what} fails, and leaves nothing behind`, async () => {
      const store = memoryStore()
      const { kernel } = await open({ store, budgets: BUDGETS })
      const scope = kernel.scope(identity)
      await spend(scope, 1)
      const faulty = faultyStore(
        { ...store },
        Array.from({ length: 8 }, () => fault),
      )
      store.apply = faulty.apply.bind(faulty)
      await expect(scope.handoff(request)).rejects.toMatchObject({ code: 'ERR_STORE' })
      expect(faulty.happened).toContain(fault)
      await vi.waitFor(async () => expect(kernel.pendingReports).toBe(0), { timeout: 10_000 })
      expect(await line(store, 'acme/report', 'usd')).toMatchObject({ kids: 0, out: 0, free: usd(4) })
      expect([...(await keys(store, 'allotted/')), ...(await keys(store, 'hold/'))]).toEqual([])
      await spend(scope, 4)
    })

  test('because the kernel is being closed is made and closed', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS })
    const apply = store.apply.bind(store)
    let closing: Promise<void> | undefined
    store.apply = async (batches) => {
      closing ??= kernel.close()
      return apply(batches)
    }
    const making = kernel.scope(identity).handoff(request)
    // It was made, so its giver gets it and learns what became of it.
    const handoff = await making
    await closing
    await expect(handoff.scope.begin({ kind: 'tool', resource: 'x' })).rejects.toMatchObject({ code: 'ERR_CLOSED' })
    expect(await handoff.close()).toMatchObject({ returned: { usd: usd(2) } })
    expect(await line(store, 'acme/report', 'usd')).toMatchObject({ kids: 0, out: 0, free: usd(5) })
    expect(await keys(store, 'allotted/')).toEqual([])
  })
})

test('the records of a handoff stay for a month after all of it has come back, and then go', async () => {
  const clock = settableClock()
  const store = memoryStore({ clock })
  const { kernel } = await open({ store, budgets: BUDGETS })
  const handoff = await kernel.scope(identity).handoff(request)
  const hold = await handoff.scope.begin({ kind: 'tool', resource: 'spend', worst: { usd: usd(1) } })
  await handoff.close()
  clock.set(clock.now() + 31 * 24 * 3_600_000)
  expect(await keys(store, 'handoff/')).toHaveLength(1)
  await hold.settle({ usd: usd(1) })
  expect(await keys(store, 'handoff/')).toHaveLength(1)
  clock.set(clock.now() + 31 * 24 * 3_600_000)
  expect(await keys(store, 'handoff/')).toEqual([])
  expect(await keys(store, `budget/${handoff.scope.budget}`)).toEqual([])
})

test('an action of observe mode that fitted nowhere ends after its handoff was closed, where its money counts by then', async () => {
  for (const used of [0, 1, 4]) {
    const { kernel, store } = await open({ budgets: BUDGETS, mode: 'observe', onEvent: () => undefined })
    const handoff = await kernel.scope(identity).handoff(request)
    const hold = await handoff.scope.begin({ kind: 'tool', resource: 'spend', worst: { usd: usd(3) } })
    await handoff.close()
    await hold.settle({ usd: usd(used) })
    expect(kernel.pendingReports).toBe(0)
    expect(await line(store, 'acme/report', 'usd')).toMatchObject({ kids: 0, over: usd(used), free: usd(5) })
    expect(await keys(store, `over/usd/${handoff.scope.budget}`)).toEqual([])
  }
})
