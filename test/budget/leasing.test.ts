// Leases: chunks of a budget that a process spends without asking. Shows that they save the store's work, that they
// cost nobody anything (not a call is refused that would have fitted), and that every unit of them is accounted for
// through lost replies, deaths, corrections, overruns and changes of the budget.

import * as fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { balanced, keys, line, open, refusalOf } from './bench.ts'
import { sleep } from '../../src/lib/clock.ts'
import type { Kernel, KernelOptions } from '../../src/kernel/open-kernel.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { faultyStore } from '../../src/testing/faulty-store.ts'
import { settableClock } from '../../src/testing/store-bench.ts'
import type { Amounts } from '../../src/lib/amounts.ts'
import type { Hold } from '../../src/waist/hold.ts'
import { Refusal } from '../../src/lib/errors.ts'

const BUDGETS = { acme: { tokens: 10_000, calls: 1_000 }, 'acme/*': { tokens: 8_000 } }
const leasing = async (options: Partial<KernelOptions> = {}) => open({ budgets: BUDGETS, leasing: 'auto', ...options })

const begin = (kernel: Kernel, budget: string, worst: Amounts): Promise<Hold> =>
  kernel.scope({ agent: 'tester', task: 'test', budget }).begin({ kind: 'tool', resource: 'spend', worst })

/** As many calls, one after the other, that use what they held. */
async function spend(
  kernel: Kernel,
  calls: number,
  { budget = 'acme/a', worst = { tokens: 10, calls: 1 } }: { budget?: string; worst?: Amounts } = {},
): Promise<void> {
  for (let call = 0; call < calls; call++) await (await begin(kernel, budget, worst)).settle(worst)
}

const writes = (store: Store): { count: number } => {
  const counted = { count: 0 }
  const apply = store.apply.bind(store)
  store.apply = (batches) => {
    counted.count += 1
    return apply(batches)
  }
  return counted
}

describe('a budget that is used often', () => {
  test('is taken in chunks: a hundred calls take a few writes, and the ledger knows of every one of them', async () => {
    const { kernel, store } = await leasing()
    const counted = writes(store)
    await spend(kernel, 100)
    expect(counted.count).toBeLessThan(25)
    const { spent, out } = await line(store, 'acme/a')
    expect(spent + out).toBeGreaterThanOrEqual(1_000)
    const lines = await kernel.budgets('acme/a')
    expect(lines[0]).toMatchObject({ spent: 1_000, balanced: true })
    await kernel.flush()
    for (const budget of ['acme', 'acme/a']) expect(await line(store, budget)).toMatchObject({ spent: 1_000, out: 0 })
    expect(await keys(store, 'hold/')).toEqual([])
  })

  test('that limits only some of what a call uses is leased as well', async () => {
    const { kernel, store } = await leasing({ budgets: { acme: { usd: 10 } } })
    const counted = writes(store)
    for (let call = 0; call < 200; call++) {
      await spend(kernel, 1, { budget: 'acme', worst: { usd: 10, tokens: 1_000, calls: 1 } })
      // As between real calls, the event loop turns: whatever is due in the background happens.
      await sleep(0)
    }
    expect(counted.count).toBeLessThan(40)
    await kernel.flush()
    expect(await keys(store, 'hold/')).toEqual([])
  })

  test('is not leased for the odd call, nor with `leasing: off`', async () => {
    for (const [options, calls] of [
      [{}, 3],
      [{ leasing: 'off' }, 40],
    ] as const) {
      const { kernel, store } = await leasing(options)
      await spend(kernel, calls)
      expect(kernel.auditLines.filter((record) => record.includes('"kind":"lease"'))).toEqual([])
      expect(await line(store, 'acme/a')).toMatchObject({ spent: calls * 10, out: 0 })
    }
  })

  test('is not leased on platforms that freeze a process, unless that is asked for', async () => {
    vi.stubEnv('AWS_LAMBDA_FUNCTION_NAME', 'f')
    try {
      for (const [options, leased] of [
        [{ leasing: undefined }, false],
        [{ leasing: 'auto' }, true],
      ] as const) {
        const { kernel } = await leasing(options as Partial<KernelOptions>)
        await spend(kernel, 40)
        expect(kernel.auditLines.some((record) => record.includes('"kind":"lease"'))).toBe(leased)
      }
    } finally {
      vi.unstubAllEnvs()
    }
    await expect(leasing({ leasing: 'on' as 'auto' })).rejects.toThrow("`leasing` must be 'auto' or 'off'")
  })

  test('is spent to the last call that fits, one caller or sixteen, one process or four', async () => {
    for (const [callers, processes] of [
      [1, 1],
      [16, 1],
      [4, 4],
    ] as const) {
      const store = memoryStore()
      const kernels = await Promise.all(
        Array.from(
          { length: processes },
          async () => (await leasing({ store, budgets: { acme: { tokens: 1_000 } }, waitMs: 5_000 })).kernel,
        ),
      )
      let answered = 0
      const codes = new Set<string>()
      const caller = async (kernel: Kernel): Promise<void> => {
        for (let call = 0; call < 1_000; call++) {
          try {
            const hold = await begin(kernel, 'acme', { tokens: 7 })
            await sleep(0)
            await hold.settle({ tokens: 7 })
            answered += 1
          } catch (error) {
            if (!Refusal.isInstance(error)) throw error
            codes.add(error.code)
            return
          }
        }
      }
      await Promise.all(kernels.flatMap((kernel) => Array.from({ length: callers }, () => caller(kernel))))
      expect([callers, processes, answered, [...codes]]).toEqual([callers, processes, 142, ['ERR_BUDGET_EXCEEDED']])
      await Promise.all(kernels.map((kernel) => kernel.flush()))
      expect(await line(store, 'acme')).toMatchObject({ spent: 994, free: 6, out: 0 })
    }
  })

  test('lets a call of another kind pass by, whose counter the lease does not have', async () => {
    const { kernel, store } = await leasing({ budgets: { acme: { tokens: 10_000, emails: 3 } } })
    await spend(kernel, 20, { budget: 'acme', worst: { tokens: 1 } })
    const mails = [await begin(kernel, 'acme', { emails: 1 }), await begin(kernel, 'acme', { emails: 2 })]
    expect((await refusalOf(begin(kernel, 'acme', { emails: 1 }))).details.budget).toMatchObject({ dimension: 'emails', out: 3 })
    await Promise.all(mails.map((hold) => hold.settle(hold.amounts)))
    expect((await refusalOf(begin(kernel, 'acme', { tokens: 1, emails: 1 }))).code).toBe('ERR_BUDGET_EXCEEDED')
    await spend(kernel, 20, { budget: 'acme', worst: { tokens: 1 } })
    expect(await line(store, 'acme', 'emails')).toMatchObject({ spent: 3, free: 0 })
  })

  test('is leased anew when calls begin to use another counter of it, and neither lease has what the other was for', async () => {
    const { kernel, store } = await leasing({ budgets: { acme: { tokens: 10_000, emails: 200 } } })
    for (let round = 0; round < 3; round++) {
      await spend(kernel, 20, { budget: 'acme', worst: { tokens: 1 } })
      await spend(kernel, 20, { budget: 'acme', worst: { tokens: 1, emails: 1 } })
    }
    await kernel.flush()
    expect(await line(store, 'acme', 'tokens')).toMatchObject({ spent: 120, out: 0 })
    expect(await line(store, 'acme', 'emails')).toMatchObject({ spent: 60, out: 0 })
    expect(await keys(store, 'hold/')).toEqual([])
  })

  test('gives back what was drawn for a call that cannot be told', async () => {
    const { kernel, store } = await leasing()
    await spend(kernel, 30)
    await expect(begin(kernel, 'acme/a', { tokens: 1, misspelt: 1 })).rejects.toThrow('limits `misspelt`')
    await kernel.flush()
    expect(await line(store, 'acme/a')).toMatchObject({ spent: 300, out: 0 })
  })
})

describe('what a process has leased and does not use', () => {
  test('comes back for another budget of the same process at once', async () => {
    const { kernel } = await leasing({ budgets: { acme: { tokens: 1_000 }, 'acme/*': { tokens: 1_000 } } })
    await spend(kernel, 40, { worst: { tokens: 10 } })
    await spend(kernel, 1, { budget: 'acme/b', worst: { tokens: 600 } })
    expect((await refusalOf(begin(kernel, 'acme/b', { tokens: 1 }))).code).toBe('ERR_BUDGET_EXCEEDED')
  })

  test('comes back to another process that waits for it', async () => {
    const store = memoryStore()
    const { kernel } = await leasing({ store })
    const { kernel: other } = await leasing({ store, waitMs: 5_000 })
    await spend(kernel, 200, { budget: 'acme/a' })
    expect((await line(store, 'acme')).out).toBeGreaterThan(0)
    const startedAt = Date.now()
    const { spent } = await line(store, 'acme')
    const hold = await begin(other, 'acme/b', { tokens: 8_000 })
    // Far less than the two seconds and more after which an idle lease comes back by itself.
    expect([spent < 2_000, Date.now() - startedAt < 2_000]).toEqual([true, true])
    await hold.settle({ tokens: 8_000 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 10_000, free: 0, out: 0 })
  })

  test('comes back by itself when nobody draws any more', async () => {
    const { kernel, store } = await leasing({ leaseTtlMs: 200 })
    await spend(kernel, 60)
    await vi.waitFor(async () => expect(await line(store, 'acme')).toMatchObject({ spent: 600, out: 0 }), { timeout: 5_000 })
    expect(await keys(store, 'hold/')).toEqual([])
  })

  test('comes back with the kernel, and a hold that is open then is charged', async () => {
    const { kernel, store } = await leasing()
    await spend(kernel, 60)
    await begin(kernel, 'acme/a', { tokens: 10 })
    await kernel.close()
    expect(await line(store, 'acme')).toMatchObject({ spent: 610, assumed: 10, out: 0, free: 9_390 })
    expect([...(await keys(store, 'hold/')), ...(await keys(store, 'process/'))]).toEqual([])
  })

  test('comes back when a handoff is closed, all of it', async () => {
    const { kernel, store } = await leasing()
    const scope = kernel.scope({ agent: 'giver', task: 'test', budget: 'acme/a' })
    const handoff = await scope.handoff({ to: 'taker', budget: { tokens: 2_000 }, instruction: 'x' })
    const { budget } = handoff.scope
    await spend(kernel, 40, { budget, worst: { tokens: 10 } })
    expect((await line(store, budget)).out).toBeGreaterThan(0)
    expect(await handoff.close()).toMatchObject({ returned: { tokens: 1_600 }, spent: { tokens: 400 }, stillOut: { tokens: 0 } })
    expect(await line(store, 'acme')).toMatchObject({ kids: 0, spent: 400, free: 9_600 })
  })

  test('NEGATIVE CONTROL: without the recall the other process is refused although the money is idle', async () => {
    const store = memoryStore()
    const { kernel } = await leasing({ store: { ...store, watch: () => () => undefined } })
    const { kernel: other } = await leasing({ store, waitMs: 300 })
    await spend(kernel, 200)
    expect((await refusalOf(begin(other, 'acme/b', { tokens: 8_000 }))).code).toBe('ERR_BUDGET_BUSY')
  })
})

describe('a hold that was drawn from a lease', () => {
  test('that used less, or nothing, gives the rest back to the lease', async () => {
    const { kernel, store } = await leasing()
    await spend(kernel, 40)
    await (await begin(kernel, 'acme/a', { tokens: 10, calls: 1 })).settle({ tokens: 4, calls: 1 })
    await (await begin(kernel, 'acme/a', { tokens: 10, calls: 1 })).release('not sent')
    await kernel.flush()
    expect(await line(store, 'acme/a')).toMatchObject({ spent: 404, out: 0 })
    expect(await line(store, 'acme', 'calls')).toMatchObject({ spent: 41, out: 0 })
  })

  test('and was charged at worst is corrected later: at once, after a report, after the lease has ended', async () => {
    for (const between of [async () => {}, async (kernel: Kernel) => kernel.budgets(), async (kernel: Kernel) => kernel.flush()]) {
      const { kernel, store } = await leasing()
      await spend(kernel, 40)
      const hold = await begin(kernel, 'acme/a', { tokens: 10, calls: 1 })
      await hold.charge('nobody knows')
      expect(await line(store, 'acme/a')).toMatchObject({ assumed: 10 })
      await between(kernel)
      await hold.settle({ tokens: 3, calls: 1 })
      await kernel.flush()
      expect(await line(store, 'acme/a')).toMatchObject({ spent: 403, assumed: 0, out: 0 })
      expect(await keys(store, 'charged/')).toEqual([])
    }
  })

  test('and used more than it held is covered by the lease, by what is free above, or freezes the tree', async () => {
    for (const [used, frozen] of [
      [20, false],
      [5_000, false],
      [9_500, true],
    ] as const) {
      const { kernel, store, events } = await leasing({ budgets: { acme: { tokens: 10_000 } } })
      await spend(kernel, 100, { budget: 'acme', worst: { tokens: 10 } })
      await (await begin(kernel, 'acme', { tokens: 10 })).settle({ tokens: used })
      await kernel.flush()
      const { spent, over, frozen: why } = await line(store, 'acme')
      expect([used, spent + over, why !== undefined]).toEqual([used, 1_000 + used, frozen])
      expect(events.filter(({ type }) => type === 'overrun')).toHaveLength(1)
    }
  })
})

describe('a lease', () => {
  test('of a process that is taken for dead lies in suspense, is spent on, and comes back when it speaks up', async () => {
    const clock = settableClock()
    const store = memoryStore({ clock })
    const { kernel } = await leasing({ store })
    await spend(kernel, 40)
    const { out } = await line(store, 'acme/a')
    expect(out).toBeGreaterThan(0)
    clock.set(clock.now() + 600_000)
    const { kernel: other } = await open({ store })
    await other.sweep()
    expect(await line(store, 'acme/a')).toMatchObject({ suspense: out, out: 0 })
    await spend(kernel, 3)
    expect(await line(store, 'acme/a')).toMatchObject({ suspense: out, out: 0 })
    await kernel.flush()
    expect(await line(store, 'acme/a')).toMatchObject({ spent: 430, suspense: 0, out: 0, free: 7_570 })
  })

  test('is given back when its budget changes, and the change binds', async () => {
    const { kernel, store } = await leasing()
    await spend(kernel, 60)
    await open({ store, budgets: { ...BUDGETS, acme: { tokens: 2_000, calls: 1_000, revision: 2 } } })
    await vi.waitFor(async () => expect((await line(store, 'acme')).out).toBe(0))
    await spend(kernel, 140)
    expect((await refusalOf(begin(kernel, 'acme/a', { tokens: 10 }))).code).toBe('ERR_BUDGET_EXCEEDED')
  })

  test('whose record somebody else has written is not moved any more: a copy of this process may be running', async () => {
    const { kernel, store } = await leasing()
    await spend(kernel, 40)
    const [record] = await store.list('hold/', { limit: 1 })
    await store.apply([{ set: [{ key: record!.key, value: { ...(record!.value as object), nonce: 'another' } }] }])
    await expect(kernel.flush()).rejects.toThrow('is a copy of this process running?')
    await store.apply([{ set: [{ key: record!.key, value: record!.value }] }])
  })

  test('of a process that hears nothing of a freeze ends with its chunk', async () => {
    const store = memoryStore()
    const budgets = { acme: { tokens: 100_000 }, 'acme/a': { tokens: 90_000 }, 'acme/b': { tokens: 10 } }
    const { kernel } = await leasing({ store: { ...store, watch: () => () => undefined }, budgets })
    const { kernel: other } = await open({ store, budgets, onEvent: () => undefined })
    await spend(kernel, 60, { worst: { tokens: 10 } })
    await (await begin(other, 'acme/b', { tokens: 10 })).settle({ tokens: 20 })
    expect((await line(store, 'acme')).frozen).toContain('more than its worst case')
    const refused = await spend(kernel, 1_000, { worst: { tokens: 10 } }).catch((error: unknown) => error)
    expect(refused).toMatchObject({ code: 'ERR_BUDGET_FROZEN' })
    await kernel.flush()
    expect((await line(store, 'acme/a')).spent).toBeLessThan(3_000)
  })

  test('goes on while the store is away, and then nothing may run', async () => {
    const { kernel, store } = await leasing()
    await spend(kernel, 100)
    const apply = store.apply.bind(store)
    store.apply = async () => ({ outcome: 'unknown', cause: new Error('away') })
    let answered = 0
    const failed = await (async () => {
      for (;;) {
        await spend(kernel, 1)
        answered += 1
      }
    })().catch((error: unknown) => error)
    expect([answered > 10, failed]).toEqual([true, expect.objectContaining({ code: 'ERR_STORE' })])
    store.apply = apply
    await vi.waitFor(async () => {
      await kernel.flush()
      expect(await line(store, 'acme/a')).toMatchObject({ spent: (100 + answered) * 10, out: 0 })
    })
  })

  test('through random bursts, ends, charges and corrections, in two processes with lost replies, counts every unit once', async () => {
    const step = fc.record({
      what: fc.constantFrom('burst', 'burst', 'hold', 'end', 'charge', 'correct', 'flush', 'report'),
      who: fc.nat(1),
      where: fc.nat(2),
      size: fc.integer({ min: 1, max: 20 }),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 14 }), fc.nat(), async (steps, seed) => {
        const store = memoryStore()
        const odds = { 'lose-reply': 0.05, 'lose-request': 0.05, contend: 0.05, delay: 0.1 }
        const budgets = { root: { tokens: 4_000 }, 'root/*': { tokens: 3_000 } }
        await open({ store, budgets })
        const kernels = await Promise.all(
          [0, 1].map(async (index) => (await open({ leasing: 'auto', store: faultyStore(store, { seed: seed + index, odds }) })).kernel),
        )
        let spent = 0
        const holds: { hold: Hold; worst: number }[] = []
        const charged: { hold: Hold; worst: number }[] = []
        for (const { what, who, where, size } of steps) {
          const kernel = kernels[who]!
          const take = async (): Promise<{ hold: Hold; worst: number } | undefined> => {
            try {
              return { hold: await begin(kernel, `root/${where}`, { tokens: size }), worst: size }
            } catch (error) {
              if (!Refusal.isInstance(error) && (error as { code?: string }).code !== 'ERR_STORE') throw error
              return undefined
            }
          }
          if (what === 'burst')
            for (let call = 0; call < 25; call++) {
              const one = await take()
              await one?.hold.settle({ tokens: size - (call % 2) })
              if (one !== undefined) spent += size - (call % 2)
            }
          else if (what === 'hold') holds.push(...[await take()].filter((one) => one !== undefined))
          else if (what === 'end') {
            const one = holds.pop()
            await one?.hold.settle({ tokens: Math.floor(one.worst / 2) })
            spent += Math.floor((one?.worst ?? 0) / 2)
          } else if (what === 'charge') {
            const one = holds.pop()
            if (one !== undefined) charged.push(one)
            await one?.hold.charge('nobody knows')
            spent += one?.worst ?? 0
          } else if (what === 'correct') {
            const one = charged.pop()
            await one?.hold.settle({ tokens: 0 })
            spent -= one?.worst ?? 0
          } else if (what === 'flush') await kernel.flush().catch(() => undefined)
          else await kernel.budgets().catch(() => undefined)
          await balanced(store)
        }
        for (const { hold } of holds) await hold.release('over')
        await vi.waitFor(
          async () => {
            for (const kernel of kernels) await kernel.flush()
            expect(kernels.map(({ pendingReports }) => pendingReports)).toEqual([0, 0])
          },
          { timeout: 20_000, interval: 20 },
        )
        expect(await line(store, 'root')).toMatchObject({ spent, out: 0, suspense: 0, free: 4_000 - spent })
        expect(await keys(store, 'hold/')).toEqual([])
        await Promise.all(kernels.map((kernel) => kernel.close()))
      }),
      { numRuns: Number(process.env['HOLDFAST_PROPERTY_RUNS'] ?? 500) / 5 },
    )
  }, 600_000)
})
