// What a refusal for money says: who has the rest, and exactly what would have to change. Each change is made, and the
// same call passes; with one unit less of any of it, it does not.

import * as fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import { openKernel, type Kernel } from '../../src/kernel/open-kernel.ts'
import type { KernelEvent } from '../../src/kernel/events.ts'
import type { Amounts } from '../../src/lib/amounts.ts'
import { HoldfastError, type LimitToPass, type Refusal } from '../../src/lib/errors.ts'
import { groupCommits } from '../../src/stores/group.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { takeCuts } from '../../src/budget/operator.ts'
import { balanced, line, open, refusalOf, take } from './bench.ts'
import { WHY } from './operator-bench.ts'

/** The holders that a refusal names. */
const holdersOf = ({ details }: Refusal) => details.budget!.holders

/** A store that counts what is asked of it about holds. */
function counting(store: Store): { readonly store: Store; readonly lists: string[]; fail: boolean } {
  const seen = {
    lists: [] as string[],
    fail: false,
    store: {
      ...store,
      async list(prefix: string, options: { readonly after?: string; readonly limit: number }) {
        seen.lists.push(`${prefix}:${options.limit}`)
        if (seen.fail && options.limit === 1_000) throw new HoldfastError('ERR_STORE', 'not now')
        return store.list(prefix, options)
      },
    },
  }
  return seen
}

describe('a refusal for money', () => {
  test('names who holds the rest: agent, resource, amount and since when, the largest first, and its process', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 100 }, 'acme/*': { tokens: 100 }, labs: { tokens: 50 } } })
    const anna = await kernel
      .scope({ agent: 'anna', task: 't', budget: 'acme/a' })
      .begin({ kind: 'model', resource: 'gpt-5.5', worst: { tokens: 30 } })
    await take(kernel, 'acme/b', { tokens: 60 })
    await take(kernel, 'labs', { tokens: 50 })
    const refusal = await refusalOf(take(kernel, 'acme/c', { tokens: 20 }))
    expect(refusal.code).toBe('ERR_BUDGET_BUSY')
    const common = { process: kernel.boot, pid: process.pid, host: expect.any(String) as string, inSuspense: false }
    expect(holdersOf(refusal)).toEqual([
      {
        ...common,
        agent: 'tester',
        resource: 'spend',
        amount: 60,
        hold: expect.any(String) as string,
        sinceMs: expect.any(Number) as number,
      },
      { ...common, agent: 'anna', resource: 'gpt-5.5', amount: 30, hold: anna.id, sinceMs: expect.any(Number) as number },
    ])
    expect(refusal.message).toMatch(
      / Held by: 60 tester for spend in this process since .*Z; 30 anna for gpt-5\.5 in this process since .*Z\.$/,
    )
    // The model learns nothing of it.
    expect(refusal.toModelMessage()).not.toMatch(/anna|gpt|acme|\d/)
    await balanced(store)
  })

  test('names a lease as one, and other processes by host and pid', async () => {
    const { kernel, store } = await open({ leasing: 'auto', budgets: { acme: { tokens: 10_000 } } })
    for (let call = 0; call < 40; call++) await (await take(kernel, 'acme', { tokens: 10 })).settle({ tokens: 1 })
    const { kernel: other } = await open({ store })
    const refusal = await refusalOf(take(other, 'acme', { tokens: 9_990 }))
    expect(holdersOf(refusal)).toMatchObject([{ process: kernel.boot, pid: process.pid, resource: 'lease', inSuspense: false }])
    expect(holdersOf(refusal)![0]).not.toHaveProperty('agent')
    expect(refusal.message).toMatch(new RegExp(` a lease in process ${process.pid} on .* since `))
  })

  test('names what lies in suspense, also of a process that has left no record', async () => {
    const time = { ms: Date.now() }
    const store = memoryStore({ clock: { now: () => time.ms } })
    const dead = await openKernel({ store, budgets: { acme: { tokens: 100 } }, waitMs: 0, leasing: 'off', onEvent: () => undefined })
    await take(dead, 'acme', { tokens: 70 })
    const { kernel } = await open({ store })
    // Nobody has heard of it for a minute.
    time.ms += 60_000
    await kernel.sweep()
    expect(await line(store, 'acme')).toMatchObject({ suspense: 70, out: 0 })
    const refusal = await refusalOf(take(kernel, 'acme', { tokens: 40 }))
    expect(refusal.code).toBe('ERR_BUDGET_EXCEEDED')
    expect(holdersOf(refusal)).toEqual([
      {
        process: dead.boot,
        hold: expect.any(String) as string,
        agent: 'tester',
        resource: 'spend',
        amount: 70,
        inSuspense: true,
        sinceMs: expect.any(Number) as number,
      },
    ])
    expect(refusal.message).toContain(` Held by: 70 in suspense of tester for spend in process ${dead.boot} since `)
    await dead.close()
  })

  test('names five at most, the largest', async () => {
    const { kernel } = await open({ budgets: { acme: { tokens: 100 } } })
    for (const tokens of [3, 9, 1, 7, 5, 8, 2]) await take(kernel, 'acme', { tokens })
    expect(holdersOf(await refusalOf(take(kernel, 'acme', { tokens: 70 })))!.map(({ amount }) => amount)).toEqual([9, 8, 7, 5, 3])
  })

  test('names nobody, and looks for nobody, when all of it is spent', async () => {
    const seen = counting(memoryStore())
    const { kernel } = await open({ store: seen.store, budgets: { acme: { tokens: 10 }, labs: { tokens: 10 } } })
    await (await take(kernel, 'acme', { tokens: 10 })).settle({ tokens: 10 })
    await take(kernel, 'labs', { tokens: 10 })
    const refusal = await refusalOf(take(kernel, 'acme', { tokens: 1 }))
    expect(refusal.details.budget).not.toHaveProperty('holders')
    expect(refusal.message).not.toContain('Held by')
    expect(seen.lists.filter((one) => one.endsWith(':1000'))).toEqual([])
  })

  test('looks once, for 1,000 records of each kind, however long it has waited; a call that passes looks never', async () => {
    const seen = counting(memoryStore())
    const { kernel } = await open({ store: seen.store, budgets: { acme: { tokens: 10 } }, waitMs: 400 })
    const hold = await take(kernel, 'acme', { tokens: 8 })
    const looks = () => seen.lists.filter((one) => one === 'hold/:1000' || one === 'suspended/:1000')
    expect(looks()).toEqual([])
    expect(await refusalOf(take(kernel, 'acme', { tokens: 5 }))).toMatchObject({ code: 'ERR_BUDGET_BUSY' })
    expect(looks()).toEqual(['hold/:1000', 'suspended/:1000'])
    await hold.settle({ tokens: 0 })
    await take(kernel, 'acme', { tokens: 5 })
    expect(looks()).toHaveLength(2)
  })

  test('stays the same refusal when that look fails; the failure is told', async () => {
    const seen = counting(memoryStore())
    const events: KernelEvent[] = []
    const { kernel } = await open({ store: seen.store, budgets: { acme: { tokens: 10 } }, onEvent: (event) => events.push(event) })
    await take(kernel, 'acme', { tokens: 8 })
    seen.fail = true
    const refusal = await refusalOf(take(kernel, 'acme', { tokens: 5 }))
    expect(refusal).toMatchObject({
      code: 'ERR_BUDGET_BUSY',
      details: { budget: { out: 8, free: 2 }, wouldPass: 'raise `tokens` of `acme` to 13' },
    })
    expect(refusal.details.budget).not.toHaveProperty('holders')
    expect(events).toMatchObject([{ type: 'trouble', message: expect.stringContaining('not now') as string }])
  })
})

/** Makes the changes, each with so much less. */
async function apply(kernel: Kernel, changes: readonly LimitToPass[], less: (index: number) => number = () => 0): Promise<void> {
  for (const [index, { budget, dimension, limit, how }] of changes.entries()) {
    expect(how).toBe('setLimit')
    const units = limit - less(index)
    await kernel.setLimit(budget, { [dimension]: dimension === 'usd' ? `0.${String(units).padStart(9, '0')}` : units }, WHY)
  }
}

/** Whether a call passes; what it took is given back. */
async function passes(kernel: Kernel, path: string, worst: Amounts): Promise<boolean> {
  const hold = await take(kernel, path, worst).catch(() => undefined)
  await hold?.release('only asked')
  return hold !== undefined
}

/** Refuses a call on a store of its own, made by `prepare`, once with each change left short by one unit and once whole. */
async function exact(prepare: () => Promise<Kernel>, path: string, worst: Amounts): Promise<Refusal> {
  const refusal = await refusalOf(take(await prepare(), path, worst))
  const changes = refusal.details.limitsToPass!
  for (const short of changes.keys()) {
    const kernel = await prepare()
    await apply(kernel, changes, (index) => (index === short ? 1 : 0))
    expect([changes[short], await passes(kernel, path, worst)]).toEqual([changes[short], false])
  }
  const kernel = await prepare()
  await apply(kernel, changes)
  expect([changes, await passes(kernel, path, worst)]).toEqual([changes, true])
  return refusal
}

describe('the smallest change that would pass', () => {
  test('is exact with several dimensions and levels short at once, and names all of them', async () => {
    const prepare = async (): Promise<Kernel> => {
      const { kernel } = await open({
        budgets: { acme: { tokens: 10, usd: '0.00000001', calls: 50 }, 'acme/one': { tokens: 9, calls: 1 } },
      })
      await take(kernel, 'acme/one', { tokens: 4, usd: 3 })
      await (await take(kernel, 'acme', { tokens: 1, calls: 1 })).settle({ tokens: 1, calls: 1 })
      return kernel
    }
    const refusal = await exact(prepare, 'acme/one', { tokens: 6, usd: 12, calls: 3 })
    expect(refusal.details.wouldPass).toBe(
      'raise `tokens` of `acme` to 11, and raise `usd` of `acme` to $0.000000015, and raise `tokens` of `acme/one` to 10, and raise `calls` of `acme/one` to 3',
    )
    expect(refusal.message).toContain(refusal.details.wouldPass!)
    expect(refusal.details.budget).toMatchObject({ budget: 'acme/one', dimension: 'calls' })
  })

  test('names what only waits too, so that it passes now', async () => {
    const prepare = async (): Promise<Kernel> => {
      const { kernel } = await open({ budgets: { acme: { tokens: 10, calls: 1 } } })
      await take(kernel, 'acme', { tokens: 9 })
      return kernel
    }
    const refusal = await exact(prepare, 'acme', { tokens: 5, calls: 2 })
    expect(refusal).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED', details: { budget: { dimension: 'calls' } } })
    expect(refusal.details.limitsToPass).toHaveLength(2)
  })

  test.each([true, false])('counts what is still to be cut (taken by a sweep meanwhile: %s)', async (isSwept) => {
    const prepare = async (): Promise<Kernel> => {
      const { kernel, store } = await open({ budgets: { acme: { tokens: 100 } } })
      const holds = [await take(kernel, 'acme', { tokens: 40 }), await take(kernel, 'acme', { tokens: 40 })]
      await kernel.setLimit('acme', { tokens: 30 }, WHY)
      await holds[0]!.settle({ tokens: 5 })
      if (isSwept) await takeCuts(groupCommits(store))
      return kernel
    }
    const refusal = await exact(prepare, 'acme', { tokens: 20 })
    // 5 are spent, 40 are held, and 20 are wanted.
    expect(refusal.details.limitsToPass).toEqual([{ budget: 'acme', dimension: 'tokens', limit: 65, how: 'setLimit' }])
  })

  test('is exact in whatever state two levels and two dimensions are', async () => {
    const amount = fc.nat(30)
    let refused = 0
    const state = fc.record({
      above: amount,
      below: amount,
      calls: amount,
      held: amount,
      spent: amount,
      target: amount,
      tokens: amount,
      asks: amount,
    })
    await fc.assert(
      fc.asyncProperty(state, async ({ above, below, calls, held, spent, target, tokens, asks }) => {
        const prepare = async (): Promise<Kernel> => {
          const kernel = await openKernel({
            store: memoryStore(),
            budgets: { acme: { tokens: above, calls }, 'acme/one': { tokens: below } },
            waitMs: 0,
            leasing: 'off',
            onEvent: () => undefined,
          })
          onTestFinished(() => kernel.close())
          await take(kernel, 'acme/one', { tokens: held }).catch(() => undefined)
          const used = await take(kernel, 'acme', { tokens: spent, calls: spent }).catch(() => undefined)
          await used?.settle({ tokens: spent, calls: spent })
          await kernel.setLimit('acme', { tokens: target }, WHY)
          return kernel
        }
        const worst = { tokens: tokens + 1, calls: asks + 1 }
        if (await passes(await prepare(), 'acme/one', worst)) return
        await exact(prepare, 'acme/one', worst)
        refused += 1
      }),
      { numRuns: 60 },
    )
    expect(refused).toBeGreaterThan(10)
  }, 60_000)

  test('of a model call is for the least answer that it can do with', async () => {
    const { kernel } = await open({ budgets: { acme: { tokens: 41 } } })
    const output = { tokens: 100, minTokens: 32, perToken: { tokens: 1 } }
    const call = () => take(kernel, 'acme', { tokens: 10 }, { output })
    const { limitsToPass } = (await refusalOf(call())).details
    expect(limitsToPass).toEqual([{ budget: 'acme', dimension: 'tokens', limit: 42, how: 'setLimit' }])
    await apply(kernel, limitsToPass!)
    expect((await call()).caps).toEqual({ maxOutputTokens: 32 })
  })

  test('of a budget that its first call would make is a declaration of its shape', async () => {
    const store = memoryStore()
    const { kernel } = await open({ store, budgets: { acme: { tokens: 100 }, 'acme/*': { tokens: 10 } } })
    const refusal = await refusalOf(take(kernel, 'acme/new', { tokens: 12 }))
    expect(refusal.details.limitsToPass).toEqual([{ budget: 'acme/*', dimension: 'tokens', limit: 12, how: 'declare' }])
    expect(refusal.details.wouldPass).toBe('declare `tokens` of `acme/*` as 12, with a higher revision')
    for (const [revision, tokens, isEnough] of [
      [2, 11, false],
      [3, 12, true],
    ] as const) {
      const { kernel: next } = await open({ store, budgets: { acme: { tokens: 100 }, 'acme/*': { tokens, revision } } })
      expect(await passes(next, 'acme/new', { tokens: 12 })).toBe(isEnough)
    }
  })

  test('of the budget of a handoff is a larger handoff', async () => {
    const { kernel } = await open({ budgets: { acme: { tokens: 100 } } })
    const giver = kernel.scope({ agent: 'boss', task: 'work', budget: 'acme' })
    const give = async (tokens: number, worst: number) => {
      await using handoff = await giver.handoff({ to: 'helper', budget: { tokens }, instruction: 'Work.' })
      const hold = await handoff.scope.begin({ kind: 'tool', resource: 'spend', worst: { tokens: worst } })
      await hold.release('only asked')
    }
    const refusal = await refusalOf(give(10, 12))
    expect(refusal.details.limitsToPass).toMatchObject([{ dimension: 'tokens', limit: 12, how: 'handoff' }])
    expect(await refusalOf(give(11, 12))).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
    await give(12, 12)
  })

  test('is to ask for less where no counter could hold what it takes', async () => {
    const { kernel } = await open({ budgets: { acme: { tokens: 100 } } })
    await (await take(kernel, 'acme', { tokens: 100 })).settle({ tokens: 100 })
    const refusal = await refusalOf(take(kernel, 'acme', { tokens: Number.MAX_SAFE_INTEGER }))
    expect(refusal.details.wouldPass).toBe('ask for less tokens: no counter can hold that much')
  })
})
