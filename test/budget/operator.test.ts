// What an operator may do to budgets that are in use. After every step the equation is asserted.

import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { takeCuts } from '../../src/budget/operator.ts'
import type { Kernel } from '../../src/kernel/open-kernel.ts'
import type { Json } from '../../src/lib/canonical-json.ts'
import { groupCommits } from '../../src/stores/group.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { faultyStore, type Fault } from '../../src/testing/faulty-store.ts'
import { balanced, keys, line, money, open, refusalOf, take } from './bench.ts'
import { WHY, errorOf, interrupted, operatorOn } from './operator-bench.ts'

/** What the sweep of a kernel does about limits that were lowered. */
const sweepCuts = (store: Store): Promise<void> => takeCuts(groupCommits(store))

/** What else is in the record of a budget. */
async function recordOf(store: Store, path: string): Promise<Record<string, Json>> {
  return (await store.read([`budget/${path}`]))[0]!.value as Record<string, Json>
}

describe('setLimit', () => {
  test('raises by adding to what is free', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 100, usd: 1 } } })
    await take(kernel, 'acme', { tokens: 60 })
    const changes = await operatorOn(store).setLimit('acme', { tokens: 250 }, WHY)
    expect(changes).toEqual([{ budget: 'acme', dimension: 'tokens', before: 100, limit: 250, pendingCut: 0 }])
    expect(await line(store, 'acme')).toMatchObject({ limit: 250, free: 190, out: 60 })
    expect(await line(store, 'acme', 'usd')).toMatchObject({ limit: 1_000_000_000 })
    await take(kernel, 'acme', { tokens: 190 })
    expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).message).toContain('limit 250')
  })

  test('lowers at once as far as money is free, in dollars as in units', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 100, usd: 1 } } })
    await take(kernel, 'acme', { tokens: 60, usd: 500_000_000 })
    await operatorOn(store).setLimit('acme', { tokens: 70, usd: '0.75' }, WHY)
    expect(await line(store, 'acme')).toMatchObject({ limit: 70, free: 10, out: 60 })
    expect(await line(store, 'acme', 'usd')).toMatchObject({ limit: 750_000_000, free: 250_000_000 })
    expect(await keys(store, 'cut/')).toEqual([])
    expect(await recordOf(store, 'acme')).not.toHaveProperty('cut')
  })

  test('takes the rest of a cut as it comes back, and nobody else gets it first', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 100 } } })
    const holds = [await take(kernel, 'acme', { tokens: 40 }), await take(kernel, 'acme', { tokens: 40 })]
    const [change] = await operatorOn(store).setLimit('acme', { tokens: 30 }, WHY)
    expect(change).toMatchObject({ before: 100, limit: 30, pendingCut: 50 })
    expect(await line(store, 'acme')).toMatchObject({ limit: 80, free: 0, out: 80 })
    await holds[0]!.settle({ tokens: 5 })
    // 35 came back, and all of it is wanted; before anybody has looked, a call is refused all the same.
    expect(await line(store, 'acme')).toMatchObject({ limit: 80, free: 35, spent: 5 })
    const refusal = await refusalOf(take(kernel, 'acme', { tokens: 30 }))
    expect(refusal).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
    expect(refusal.message).toContain('still to be cut 50')
    expect(await refusalOf(take(kernel, 'acme', { tokens: 20 }))).toMatchObject({ code: 'ERR_BUDGET_BUSY' })
    await sweepCuts(store)
    expect(await line(store, 'acme')).toMatchObject({ limit: 45, free: 0, out: 40, spent: 5 })
    await holds[1]!.settle({ tokens: 5 })
    await sweepCuts(store)
    expect(await line(store, 'acme')).toMatchObject({ limit: 30, free: 20, out: 0, spent: 10 })
    expect(await keys(store, 'cut/')).toEqual([])
    await take(kernel, 'acme', { tokens: 20 })
  })

  test('never takes what is spent: the limit in force stays above it, and the cut stays pending', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 100 } } })
    await (await take(kernel, 'acme', { tokens: 60 })).settle({ tokens: 60 })
    const [change] = await operatorOn(store).setLimit('acme', { tokens: 10 }, WHY)
    expect(change).toMatchObject({ limit: 10, pendingCut: 50 })
    expect(await line(store, 'acme')).toMatchObject({ limit: 60, free: 0, spent: 60 })
    expect(await refusalOf(take(kernel, 'acme', { tokens: 1 }))).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED', details: { endsRun: true } })
  })

  test('of a new target replaces a cut that is pending, up or down', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 100 } } })
    const hold = await take(kernel, 'acme', { tokens: 90 })
    const operator = operatorOn(store)
    await operator.setLimit('acme', { tokens: 20 }, WHY)
    expect(await line(store, 'acme')).toMatchObject({ limit: 90 })
    await operator.setLimit('acme', { tokens: 95 }, WHY)
    expect(await line(store, 'acme')).toMatchObject({ limit: 95, free: 5, out: 90 })
    expect(await keys(store, 'cut/')).toEqual([])
    await hold.release('not sent')
    await sweepCuts(store)
    expect(await line(store, 'acme')).toMatchObject({ limit: 95, free: 95 })
  })

  test('binds a child that its shape made, and a parent over all its children', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 100 }, 'acme/*': { tokens: 50 } } })
    const hold = await take(kernel, 'acme/a', { tokens: 10 })
    await operatorOn(store).setLimit('acme/a', { tokens: 10 }, WHY)
    expect(await refusalOf(take(kernel, 'acme/a', { tokens: 1 }))).toMatchObject({ code: 'ERR_BUDGET_BUSY' })
    await operatorOn(store).setLimit('acme', { tokens: 12 }, WHY)
    expect(await refusalOf(take(kernel, 'acme/b', { tokens: 3 }))).toMatchObject({ code: 'ERR_BUDGET_BUSY' })
    await take(kernel, 'acme/b', { tokens: 2 })
    await hold.settle({ tokens: 0 })
    await take(kernel, 'acme/a', { tokens: 10 })
    await balanced(store)
  })

  test('ends the leases of a busy process, so that a cut gets what lay idle in them', async () => {
    const { kernel, store } = await open({ leasing: 'auto', leaseTtlMs: 300, budgets: { acme: { tokens: 10_000 } } })
    for (let call = 0; call < 40; call++) await (await take(kernel, 'acme', { tokens: 10 })).settle({ tokens: 1 })
    expect((await line(store, 'acme')).out).toBeGreaterThan(0)
    await operatorOn(store).setLimit('acme', { tokens: 100 }, WHY)
    await expect
      .poll(async () => {
        await sweepCuts(store)
        const { limit, out } = await line(store, 'acme')
        return { limit, out }
      })
      .toEqual({ limit: 100, out: 0 })
    await take(kernel, 'acme', { tokens: 60 })
    expect(await refusalOf(take(kernel, 'acme', { tokens: 1 }))).toMatchObject({ code: 'ERR_BUDGET_BUSY' })
  })

  test('is kept by leases too: nobody takes a chunk, or more of one, out of what is still to be cut', async () => {
    const { kernel, store } = await open({ leasing: 'auto', budgets: { acme: { tokens: 5_000 } } })
    // As it is for a moment: the cut is noted, and none of it is taken yet.
    const record = await recordOf(store, 'acme')
    await store.apply([{ set: [{ key: 'budget/acme', value: { ...record, cut: { tokens: 1_000 } } }] }])
    let spent = 0
    for (; spent < 5_000; spent += 10) {
      const hold = await take(kernel, 'acme', { tokens: 10 }).catch(() => undefined)
      if (hold === undefined) break
      await hold.settle({ tokens: 10 })
      expect((await line(store, 'acme')).free).toBeGreaterThanOrEqual(1_000)
    }
    expect(spent).toBe(4_000)
  })

  test('leaves the declaration as it is: the same one opens again, another one does not, a higher revision sets its own', async () => {
    const store = memoryStore()
    const budgets = { acme: { tokens: 100 }, 'acme/*': { tokens: 40 }, 'acme/named': { tokens: 30 } }
    const { kernel } = await open({ store, budgets })
    await take(kernel, 'acme/a', { tokens: 35 })
    const operator = operatorOn(store)
    await operator.setLimit('acme', { tokens: 60 }, WHY)
    await operator.setLimit('acme/a', { tokens: 10 }, WHY)
    await operator.setLimit('acme/named', { tokens: 90 }, WHY)
    await open({ store, budgets })
    expect(await line(store, 'acme')).toMatchObject({ limit: 60 })
    expect(await line(store, 'acme/a')).toMatchObject({ limit: 35 })
    const error = await errorOf(open({ store, budgets: { acme: { tokens: 60 } } }))
    expect(error.message).toContain('is declared as tokens 60, but the store has tokens 100 under the same revision')
    // Declared by name with what its shape has: from now on it is its own, and keeps the limit that it has.
    await open({ store, budgets: { ...budgets, 'acme/a': { tokens: 40 } } })
    expect(await line(store, 'acme/a')).toMatchObject({ limit: 35 })
    expect(await recordOf(store, 'acme/a')).toMatchObject({ declared: true, cut: { tokens: 25 } })
    await open({ store, budgets: { acme: { tokens: 80, revision: 2 }, 'acme/a': { tokens: 36, revision: 2 } } })
    expect(await line(store, 'acme')).toMatchObject({ limit: 80 })
    expect(await line(store, 'acme/a')).toMatchObject({ limit: 36, free: 1 })
    await sweepCuts(store)
    expect(await line(store, 'acme/a')).toMatchObject({ limit: 36, free: 1 })
    expect(await keys(store, 'cut/')).toEqual([])
    for (const path of ['acme', 'acme/a']) expect(await recordOf(store, path)).not.toHaveProperty('declaration')
  })

  test('of a shape with a higher revision replaces what an operator set for its children', async () => {
    const store = memoryStore()
    const { kernel } = await open({ store, budgets: { acme: { tokens: 100 }, 'acme/*': { tokens: 40 } } })
    await (await take(kernel, 'acme/a', { tokens: 5 })).settle({ tokens: 5 })
    await operatorOn(store).setLimit('acme/a', { tokens: 20 }, WHY)
    await open({ store, budgets: { acme: { tokens: 100 }, 'acme/*': { tokens: 40 } } })
    expect(await line(store, 'acme/a')).toMatchObject({ limit: 20 })
    await open({ store, budgets: { acme: { tokens: 100 }, 'acme/*': { tokens: 50, revision: 2 } } })
    expect(await line(store, 'acme/a')).toMatchObject({ limit: 50, free: 45 })
  })

  test('is recorded with who, why, and what came of it', async () => {
    const { store } = await open({ budgets: { acme: { tokens: 100 } } })
    const operator = operatorOn(store)
    await operator.setLimit('acme', { tokens: 40 }, WHY)
    await errorOf(operator.setLimit('nope', { tokens: 40 }, WHY))
    expect(operator.events()).toMatchObject([
      { kind: 'event', type: 'set-limit', budget: 'acme', limits: { tokens: 40 }, ...WHY },
      { kind: 'event', type: 'set-limit-done', budget: 'acme', before: { tokens: 100 }, pendingCut: { tokens: 0 } },
      { kind: 'event', type: 'set-limit', budget: 'nope' },
      { kind: 'event', type: 'set-limit-failed', budget: 'nope', message: expect.stringContaining('no budget `nope`') as string },
    ])
  })

  test.each([
    ['an unknown budget', 'nope', { tokens: 1 }, 'There is no budget `nope`'],
    ['a child that was never used', 'acme/new', { tokens: 1 }, 'It will be made from `acme/*`'],
    ['a shape', 'acme/*', { tokens: 1 }, 'is the shape of budgets'],
    ['no path', '', { tokens: 1 }, 'it is empty'],
    ['an unknown dimension', 'acme', { calls: 1 }, 'does not limit `calls`; it limits tokens'],
    ['no dimension', 'acme', {}, '`limits` names nothing'],
    ['less than nothing', 'acme', { tokens: -1 }, '`limits.tokens`'],
    ['no number', 'acme', { tokens: Number.NaN }, '`limits.tokens`'],
    ['a fraction', 'acme', { tokens: 1.5 }, '`limits.tokens`'],
    ['too much', 'acme', { tokens: 2 ** 53 }, '`limits.tokens`'],
    ['a fraction of a nano-dollar', 'acme', { usd: '0.0000000001' }, '`limits.usd`'],
  ])('refuses %s, and changes nothing', async (_, path, limits, message) => {
    const { store } = await open({ budgets: { acme: { tokens: 10 }, 'acme/*': { tokens: 5 } } })
    const before = await money(store)
    expect((await errorOf(operatorOn(store).setLimit(path, limits, WHY))).message).toContain(message)
    expect(await money(store)).toEqual(before)
  })

  test.each([
    ['nobody', { by: '', reason: 'x' }, '`by`'],
    ['no reason', { by: 'ada', reason: ' ' }, '`reason`'],
    ['a reason without an end', { by: 'ada', reason: 'x'.repeat(1_001) }, '`reason`'],
  ])('refuses %s', async (_, evidence, message) => {
    const { store } = await open({ budgets: { acme: { tokens: 10 } } })
    const operator = operatorOn(store)
    expect((await errorOf(operator.setLimit('acme', { tokens: 5 }, evidence))).message).toContain(message)
    expect(operator.events()).toEqual([])
    expect(await line(store, 'acme')).toMatchObject({ limit: 10 })
  })

  test('refuses the budget of a handoff: its money came from above', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 100 }, 'acme/*': { tokens: 100 } } })
    const giver = kernel.scope({ agent: 'boss', task: 'work', budget: 'acme' })
    await using handoff = await giver.handoff({ to: 'helper', budget: { tokens: 30 }, instruction: 'Work.' })
    expect(await errorOf(operatorOn(store).setLimit(handoff.scope.budget, { tokens: 90 }, WHY))).toMatchObject({
      code: 'ERR_BUDGET_DECLARATION',
    })
    await balanced(store)
  })
})

describe('setLimit in a race', () => {
  const spenders = (kernel: Kernel, until: () => boolean) =>
    Array.from({ length: 16 }, async () => {
      let spent = 0
      while (!until()) {
        try {
          const hold = await take(kernel, 'acme/a', { tokens: 5 })
          await new Promise((resolve) => setImmediate(resolve))
          await hold.settle({ tokens: 1 })
          spent += 1
        } catch {
          await new Promise((resolve) => setTimeout(resolve, 1))
        }
      }
      return spent
    })

  test.each(['off', 'auto'] as const)(
    'against 16 spenders (leasing %s): every change takes effect, and none is spent against',
    async (leasing) => {
      const budgets = { acme: { tokens: 5_000 }, 'acme/*': { tokens: 5_000 } }
      const { kernel, store } = await open({ budgets, leasing, leaseTtlMs: 500 })
      let done = false
      const work = spenders(kernel, () => done)
      const operator = operatorOn(store)
      for (const tokens of [300, 2_000, 100, 1_500, 400, 60]) {
        await operator.setLimit('acme', { tokens }, WHY)
        await balanced(store)
        await new Promise((resolve) => setTimeout(resolve, 30))
        await sweepCuts(store)
        await balanced(store)
      }
      done = true
      const spent = (await Promise.all(work)).reduce((sum, one) => sum + one, 0)
      await kernel.flush()
      await sweepCuts(store)
      const acme = await line(store, 'acme')
      expect(acme).toMatchObject({ spent, out: 0 })
      expect(acme.limit).toBe(Math.max(60, spent))
      expect(await keys(store, 'cut/')).toEqual(spent > 60 ? ['cut/acme'] : [])
    },
  )

  test('whatever is taken, ended, charged, swept and set: nothing is granted beyond the target, and every column adds up', async () => {
    const step = fc.record({
      what: fc.constantFrom('take', 'take', 'take', 'settle', 'settle', 'charge', 'set', 'sweep', 'child'),
      amount: fc.nat(30),
      limit: fc.nat(160),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 40 }), async (steps) => {
        const { kernel, store } = await open({ budgets: { acme: { tokens: 100 }, 'acme/*': { tokens: 150 } } })
        const operator = operatorOn(store)
        const held: Awaited<ReturnType<typeof take>>[] = []
        let target = 100
        const wrong: object[] = []
        for (const { what, amount, limit } of steps) {
          if (what === 'take' || what === 'child') {
            const hold = await take(kernel, what === 'take' ? 'acme' : 'acme/a', { tokens: amount + 1 }).catch(() => undefined)
            if (hold !== undefined) held.push(hold)
            const { spent, out } = await line(store, 'acme')
            const isRight = hold === undefined ? spent + out + amount + 1 > Math.min(target, 150) : spent + out <= target
            if (!isRight) wrong.push({ target, spent, out, amount })
          } else if (what === 'settle') await held.pop()?.settle({ tokens: amount % 2 })
          else if (what === 'charge') await held.pop()?.charge('nobody knows')
          else if (what === 'sweep') await sweepCuts(store)
          else {
            target = limit
            await operator.setLimit('acme', { tokens: limit }, WHY)
          }
          await balanced(store)
        }
        expect(wrong).toEqual([])
        for (const hold of held) await hold.release('over')
        await sweepCuts(store)
        const { limit, spent, free } = await line(store, 'acme')
        expect({ limit, free }).toEqual({ limit: Math.max(target, spent), free: Math.max(target, spent) - spent })
        await kernel.close()
      }),
      { numRuns: 150 },
    )
  }, 60_000)

  test('two operators at once: one of the two targets holds, whole', async () => {
    for (let round = 0; round < 20; round++) {
      const { kernel, store } = await open({ budgets: { acme: { tokens: 100, calls: 100 } } })
      const hold = await take(kernel, 'acme', { tokens: 70, calls: 1 })
      const [one, other] = [operatorOn(store), operatorOn(store)]
      await Promise.all([one.setLimit('acme', { tokens: 40, calls: 40 }, WHY), other.setLimit('acme', { tokens: 150, calls: 150 }, WHY)])
      await balanced(store)
      await hold.release('not sent')
      await sweepCuts(store)
      const limits = [(await line(store, 'acme')).limit, (await line(store, 'acme', 'calls')).limit]
      expect([
        [40, 40],
        [150, 150],
      ]).toContainEqual(limits)
    }
  })

  test('two operators who raise at once raise once each, to one of the two', async () => {
    const { store } = await open({ budgets: { acme: { tokens: 100 } } })
    await Promise.all([150, 200].map((tokens) => operatorOn(store).setLimit('acme', { tokens }, WHY)))
    const { limit, free } = await line(store, 'acme')
    expect([150, 200]).toContain(limit)
    expect(free).toBe(limit)
  })

  test('a call that overruns its worst case at that moment comes first, and the cut takes what it leaves', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 100 } } })
    const hold = await take(kernel, 'acme', { tokens: 40 })
    let writes = 0
    // The first write notes the cut, the second one takes it.
    const slow = interrupted(store, 'budget/acme', async () => void (writes += 1))
    const operator = operatorOn({
      ...slow,
      async apply(batches) {
        if (writes === 1 && batches.some(({ add = [] }) => add.some(({ by }) => by < 0))) {
          writes += 1
          await hold.settle({ tokens: 95 })
        }
        return slow.apply(batches)
      },
    })
    await operator.setLimit('acme', { tokens: 50 }, WHY)
    expect(writes).toBe(2)
    expect(await line(store, 'acme')).toMatchObject({ limit: 95, spent: 95, free: 0, pendingCut: 45 })
  })

  test.each([
    [['lose-reply', 'lose-reply', 'lose-reply']],
    [['lose-request', 'contend', 'lose-reply', 'duplicate', 'lose-reply']],
    [['duplicate', 'duplicate', 'lose-request', 'lose-reply']],
  ] as [Fault[]][])('with a store that does %j it happens once', async (plan) => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 100 } } })
    await take(kernel, 'acme', { tokens: 70 })
    const operator = operatorOn(faultyStore(store, plan))
    await operator.setLimit('acme', { tokens: 50 }, WHY)
    expect(await line(store, 'acme')).toMatchObject({ limit: 70, free: 0 })
    await operatorOn(faultyStore(store, plan)).setLimit('acme', { tokens: 120 }, WHY)
    expect(await line(store, 'acme')).toMatchObject({ limit: 120, free: 50 })
  })

  test('of a store that never answers is an error, and nothing is known to have changed', async () => {
    const { store } = await open({ budgets: { acme: { tokens: 100 } } })
    const operator = operatorOn(
      faultyStore(
        store,
        Array.from({ length: 20 }, () => 'lose-request' as const),
      ),
    )
    expect(await errorOf(operator.setLimit('acme', { tokens: 50 }, WHY))).toMatchObject({ code: 'ERR_STORE' })
    expect(operator.events().at(-1)).toMatchObject({ type: 'set-limit-failed' })
    expect(await line(store, 'acme')).toMatchObject({ limit: 100 })
  })
})

describe('a kernel', () => {
  test('does all of it, in its own chain; a closed one does nothing', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 100 } } })
    const hold = await take(kernel, 'acme', { tokens: 60 })
    expect(await kernel.setLimit('acme', { tokens: 30 }, WHY)).toMatchObject([{ pendingCut: 30 }])
    await hold.charge('the stream was cut')
    await kernel.correct({ process: kernel.boot, hold: hold.id, used: { tokens: 10 }, ...WHY })
    // Its own periodic look takes what has come back.
    await kernel.sweep()
    expect(await line(store, 'acme')).toMatchObject({ limit: 30, spent: 10, free: 20 })
    await kernel.freeze('acme', WHY)
    expect(await kernel.unfreeze('acme', WHY)).toBe(WHY.reason)
    const types = kernel.auditLines.map((text) => (JSON.parse(text) as { type?: string }).type).filter((type) => type !== undefined)
    expect(types).toEqual(['set-limit', 'correct', 'freeze', 'unfreeze'].flatMap((type) => [type, `${type}-done`]))
    await kernel.close()
    for (const act of [() => kernel.setLimit('acme', { tokens: 5 }, WHY), () => kernel.freeze('acme', WHY)])
      expect(await errorOf(act())).toMatchObject({ code: 'ERR_CLOSED' })
    expect(await line(store, 'acme')).toMatchObject({ limit: 30 })
  })
})

describe('freeze', () => {
  test('stops a tree at once, and unfreeze lets it go on; both say who and why', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 100 }, 'acme/*': { tokens: 50 }, labs: { tokens: 5 } } })
    const hold = await take(kernel, 'acme/a', { tokens: 10 })
    const operator = operatorOn(store)
    await operator.freeze('acme', { by: 'ada', reason: 'odd calls' })
    const refusal = await refusalOf(take(kernel, 'acme/a', { tokens: 1 }))
    expect(refusal).toMatchObject({ code: 'ERR_BUDGET_FROZEN' })
    expect(refusal.message).toContain('odd calls')
    // What runs may end, and other trees go on.
    await hold.settle({ tokens: 4 })
    await take(kernel, 'labs', { tokens: 1 })
    expect(await line(store, 'acme')).toMatchObject({ frozen: 'odd calls', spent: 4, out: 0 })
    expect(await operator.unfreeze('acme', WHY)).toBe('odd calls')
    await take(kernel, 'acme/a', { tokens: 1 })
    expect(await operator.unfreeze('acme', WHY)).toBeUndefined()
    expect(operator.events().map(({ type }) => type)).toEqual(['freeze', 'unfreeze', 'unfreeze'].flatMap((type) => [type, `${type}-done`]))
  })

  test('of an operator outlives a higher revision; that of an overrun does not', async () => {
    const store = memoryStore()
    const { kernel } = await open({ store, budgets: { acme: { tokens: 100 }, labs: { tokens: 5 } } })
    await operatorOn(store).freeze('acme', WHY)
    await (await take(kernel, 'labs', { tokens: 5 })).settle({ tokens: 9 })
    expect(await line(store, 'labs')).toMatchObject({ frozen: expect.stringContaining('worst case') as string })
    await open({ store, budgets: { acme: { tokens: 200, revision: 2 }, labs: { tokens: 20, revision: 2 } } })
    expect(await line(store, 'acme')).toMatchObject({ limit: 200, frozen: WHY.reason })
    expect(await line(store, 'labs')).not.toHaveProperty('frozen')
  })

  test('of an overrun is ended by an operator too', async () => {
    const { kernel, store } = await open({ budgets: { labs: { tokens: 5 } } })
    await (await take(kernel, 'labs', { tokens: 5 })).settle({ tokens: 9 })
    await operatorOn(store).setLimit('labs', { tokens: 50 }, WHY)
    expect(await refusalOf(take(kernel, 'labs', { tokens: 1 }))).toMatchObject({ code: 'ERR_BUDGET_FROZEN' })
    expect(await operatorOn(store).unfreeze('labs', WHY)).toContain('worst case')
    await take(kernel, 'labs', { tokens: 1 })
  })

  test('cannot be ended while the tree does not balance', async () => {
    const { store } = await open({ budgets: { acme: { tokens: 5 } } })
    await operatorOn(store).freeze('acme', WHY)
    await store.apply([{ add: [{ key: 'free/tokens/acme', by: 1 }] }])
    expect(await errorOf(operatorOn(store).unfreeze('acme', WHY))).toMatchObject({ code: 'ERR_DAMAGE' })
    expect(await recordOf(store, 'acme')).toMatchObject({ frozen: WHY.reason })
  })

  test('of a handoff that was closed stays', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 100 }, 'acme/*': { tokens: 100 } } })
    const giver = kernel.scope({ agent: 'boss', task: 'work', budget: 'acme' })
    const handoff = await giver.handoff({ to: 'helper', budget: { tokens: 30 }, instruction: 'Work.' })
    const path = handoff.scope.budget
    await operatorOn(store).freeze(path, WHY)
    await operatorOn(store).unfreeze(path, WHY)
    await take(kernel, path, { tokens: 10 })
    await handoff.close()
    for (const act of ['freeze', 'unfreeze'] as const)
      expect(await errorOf(operatorOn(store)[act](path, WHY))).toMatchObject({ code: 'ERR_BUDGET_FROZEN' })
    expect(await recordOf(store, path)).toMatchObject({ frozen: 'its handoff was closed' })
  })

  test.each([
    ['nope', 'ERR_UNKNOWN_BUDGET'],
    ['acme/*', 'ERR_BUDGET_DECLARATION'],
  ])('of %s is refused', async (path, code) => {
    const { store } = await open({ budgets: { acme: { tokens: 5 }, 'acme/*': { tokens: 5 } } })
    for (const act of ['freeze', 'unfreeze'] as const) expect(await errorOf(operatorOn(store)[act](path, WHY))).toMatchObject({ code })
  })

  test('that loses its replies happens', async () => {
    const { store } = await open({ budgets: { acme: { tokens: 5 } } })
    await operatorOn(faultyStore(store, ['lose-reply', 'lose-request'])).freeze('acme', WHY)
    expect(await line(store, 'acme')).toMatchObject({ frozen: WHY.reason })
    expect(await operatorOn(faultyStore(store, ['lose-reply'])).unfreeze('acme', WHY)).toBe(WHY.reason)
    expect(await line(store, 'acme')).not.toHaveProperty('frozen')
  })
})
