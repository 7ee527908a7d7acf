// Budgets that count side by side: a user's, a team's, an account's at a provider; and one that is paused.

import { describe, expect, test } from 'vitest'
import type { BudgetDeclaration } from '../../src/budget/declaration.ts'
import { settleEstate } from '../../src/budget/estate.ts'
import { openKernel } from '../../src/kernel/open-kernel.ts'
import { groupCommits } from '../../src/stores/group.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { until } from '../../src/testing/integration-bench.ts'
import { balanced, keys, line, needing, open, refusalOf } from './bench.ts'

const BUDGETS: Readonly<Record<string, BudgetDeclaration>> = {
  acme: { tokens: 1_000 },
  'acme/*': { tokens: 500 },
  users: { tokens: 10_000 },
  'users/*': { tokens: 100 },
  account: { tokens: 200 },
}

async function site(options: object = {}) {
  const opened = await open({ budgets: BUDGETS, ...options })
  const scope = (agent: string, user: string) =>
    opened.kernel.scope({ agent, task: 't', budget: `acme/${agent}`, also: [`users/${user}`, 'account'] })
  return { ...opened, scope }
}

describe('further budgets', () => {
  test('are created and debited in the same step, and settled with it', async () => {
    const { store, scope } = await site()
    const hold = await scope('a', 'ann').begin(needing({ tokens: 40 }))
    for (const path of ['acme', 'acme/a', 'users', 'users/ann', 'account']) expect(await line(store, path)).toMatchObject({ out: 40 })
    await hold.settle({ tokens: 30 })
    for (const path of ['acme', 'acme/a', 'users', 'users/ann', 'account'])
      expect(await line(store, path)).toMatchObject({ out: 0, spent: 30 })
  })

  test('bind like its own: the user’s whoever works for her, the account’s whoever uses it', async () => {
    const { store, scope } = await site()
    await scope('a', 'ann').begin(needing({ tokens: 60 }))
    const { details } = await refusalOf(scope('b', 'ann').begin(needing({ tokens: 41 })))
    expect(details.budget?.budget).toBe('users/ann')
    await scope('b', 'bob').begin(needing({ tokens: 100 }))
    expect((await refusalOf(scope('c', 'cat').begin(needing({ tokens: 41 })))).details.budget?.budget).toBe('account')
    // Nothing of a refused one was created or taken.
    expect((await balanced(store)).some(({ budget }) => budget === 'users/cat')).toBe(false)
    await scope('c', 'cat').begin(needing({ tokens: 40 }))
  })

  test('end the run when they are used up, like its own', async () => {
    const { scope } = await site()
    const mine = scope('a', 'ann')
    await mine.enter(async () => {
      await (await mine.begin(needing({ tokens: 100 }))).settle({ tokens: 100 })
      expect((await refusalOf(mine.begin(needing({ tokens: 1 })))).details.latched).toBe(undefined)
      expect((await refusalOf(mine.begin(needing({ tokens: 1 })))).details.latched).toBe(true)
    })
  })

  test('are waited for in one line, whoever comes from where', async () => {
    const { kernel, scope } = await site({ waitMs: 20_000 })
    const held = await kernel.scope({ agent: 'x', task: 't', budget: 'account' }).begin(needing({ tokens: 150 }))
    const order: string[] = []
    const first = scope('a', 'ann')
      .begin(needing({ tokens: 90 }))
      .then((hold) => (order.push('first'), hold))
    await until('it waits', async () => (await keys(kernel.store, 'recall/')).length > 0)
    // It would fit at once, and would keep the first one waiting for longer.
    const second = scope('b', 'bob')
      .begin(needing({ tokens: 50 }))
      .then(() => order.push('second'))
    await held.settle({ tokens: 10 })
    await (await first).settle({ tokens: 0 })
    await second
    expect(order).toEqual(['first', 'second'])
  })

  test('of one tree count what they share once', async () => {
    const { kernel, store } = await site()
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme/a', also: ['acme/b', 'acme'] })
    await scope.begin(needing({ tokens: 5 }))
    for (const path of ['acme', 'acme/a', 'acme/b']) expect(await line(store, path)).toMatchObject({ out: 5 })
  })

  test('are leased together with it, and given back together', async () => {
    const { kernel, store } = await open({ leasing: 'auto', budgets: { acme: { tokens: 100_000 }, account: { tokens: 50_000 } } })
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme', also: ['account'] })
    const alone = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
    for (let calls = 0; calls < 60; calls++) {
      await (await scope.begin(needing({ tokens: 2 }))).settle({ tokens: 2 })
      await (await alone.begin(needing({ tokens: 1 }))).settle({ tokens: 1 })
    }
    expect((await keys(store, 'hold/')).length).toBe(2)
    await kernel.flush()
    expect(await line(store, 'acme')).toMatchObject({ spent: 180, out: 0 })
    expect(await line(store, 'account')).toMatchObject({ spent: 120, out: 0 })
  })

  test('are given back by who leases them when somebody else needs them', async () => {
    const { kernel, store } = await open({ leasing: 'auto', budgets: { acme: { tokens: 100_000 }, account: { tokens: 800 } } })
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme', also: ['account'] })
    for (let calls = 0; calls < 20; calls++) await (await scope.begin(needing({ tokens: 1 }))).settle({ tokens: 1 })
    expect((await keys(store, 'hold/')).length).toBe(1)
    await kernel.scope({ agent: 'b', task: 't', budget: 'account' }).begin(needing({ tokens: 780 }))
    await balanced(store)
  })

  test('go on counting what was not handed over, and not what was', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 1_000, calls: 10 }, account: { tokens: 500, calls: 5 } } })
    const giver = kernel.scope({ agent: 'a', task: 't', budget: 'acme', also: ['account'] })
    const handoff = await giver.handoff({ to: 'b', instruction: 'x', budget: { tokens: 300 } })
    expect(await line(store, 'account')).toMatchObject({ kids: 300 })
    expect(handoff.scope.also).toEqual(['account'])
    const hold = await handoff.scope.begin(needing({ tokens: 200, calls: 1 }))
    expect(await line(store, 'account')).toMatchObject({ kids: 300, out: 0 })
    expect(await line(store, 'account', 'calls')).toMatchObject({ out: 1 })
    await hold.settle({ tokens: 200, calls: 1 })
    await handoff.close()
    expect(await line(store, 'account')).toMatchObject({ kids: 0, spent: 200, free: 300 })
    await balanced(store)
  })

  test('that were not there when work was handed over count all that is done on it', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 1_000 }, user: { tokens: 100 }, 'user/task': { tokens: 90 } } })
    const handoff = await kernel
      .scope({ agent: 'a', task: 't', budget: 'acme' })
      .handoff({ to: 'b', instruction: 'x', budget: { tokens: 300 } })
    const scope = kernel.scope({ agent: 'b', task: 't', budget: handoff.scope.budget, also: ['user/task'] })
    const { details } = await refusalOf(scope.begin(needing({ tokens: 91 })))
    expect(details.budget).toMatchObject({ budget: 'user/task' })
    const part = await scope.handoff({ to: 'c', instruction: 'x', budget: { tokens: 50 } })
    const hold = await part.scope.begin(needing({ tokens: 30 }))
    expect(await line(store, 'user')).toMatchObject({ kids: 50, out: 0 })
    await hold.settle({ tokens: 30 })
    await part.close()
    await handoff.close()
    expect(await line(store, 'user/task')).toMatchObject({ spent: 30, kids: 0, free: 60 })
    expect(await line(store, 'user')).toMatchObject({ spent: 30, kids: 0 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 30, kids: 0, free: 970 })
  })

  test('freeze when a call uses more than they have, and the others do not', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 1_000 }, account: { tokens: 100 } } })
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme', also: ['account'] })
    await (await scope.begin(needing({ tokens: 90 }))).settle({ tokens: 150 })
    const lines = await balanced(store)
    expect(lines.filter(({ frozen }) => frozen !== undefined).map(({ budget }) => budget)).toEqual(['account'])
    expect((await refusalOf(scope.begin(needing({ tokens: 1 })))).code).toBe('ERR_BUDGET_FROZEN')
    await kernel.scope({ agent: 'a', task: 't', budget: 'acme' }).begin(needing({ tokens: 1 }))
  })

  test('are charged by a successor too, also for what a call used beyond its lease', async () => {
    const store = memoryStore()
    const dead = await openKernel({ store, budgets: { acme: { tokens: 100_000 }, account: { tokens: 50_000 } } })
    const scope = dead.scope({ agent: 'a', task: 't', budget: 'acme', also: ['account'] })
    for (let calls = 0; calls < 20; calls++) await (await scope.begin(needing({ tokens: 2 }))).settle({ tokens: 2 })
    await dead.flush()
    const before = await line(store, 'account')
    const holds = new Map([
      ['over', { budget: 'acme', also: ['account'], amounts: { tokens: 2 }, lease: 'x', used: { tokens: 7 }, charged: false }],
    ])
    const committer = groupCommits(store)
    await settleEstate({ committer, boot: dead.boot, holds, observe: false, now: () => Date.now(), onTrouble: () => undefined })
    expect((await line(store, 'account')).spent).toBe(before.spent + 5)
    expect((await line(store, 'acme')).spent).toBe(before.spent + 5)
  })

  /** A scope on five paths of eight levels, each with so many counters, and an action that uses all of them. */
  async function wide(counters: number) {
    const limits = Object.fromEntries(Array.from({ length: counters }, (_, one) => [`c${one}`, 100]))
    const [own, ...also] = 'abcde'.split('').map((root) => `${root}/2/3/4/5/6/7/8`)
    const levels = [own!, ...also].flatMap((path) => path.split('/').map((_, at, names) => names.slice(0, at + 1).join('/')))
    const { kernel, store, events } = await open({ budgets: Object.fromEntries(levels.map((level) => [level, limits])) })
    return { store, events, limits, answer: kernel.scope({ agent: 'a', task: 't', budget: own!, also }).begin(needing(limits)) }
  }

  test('of eight levels each can end what they have taken', async () => {
    const { store, events, limits, answer } = await wide(6)
    await (await answer).settle(Object.fromEntries(Object.keys(limits).map((counter) => [counter, 1])))
    expect(events).toEqual([])
    expect(await line(store, 'e/2/3', 'c0')).toMatchObject({ spent: 1, free: 99, out: 0 })
  })

  test('that are more than one batch can end are refused', async () => {
    const { store, answer } = await wide(7)
    await expect(answer).rejects.toThrow('counts in 280 places, at most 240')
    expect(await line(store, 'e/2/3', 'c0')).toMatchObject({ free: 100, out: 0 })
  })

  test.each<[unknown, RegExp]>([
    ['account', /must be a list of up to 4/],
    [['a', 'b', 'c', 'd', 'e'], /must be a list of up to 4/],
    [['acme//x'], /also/],
    [[7], /also/],
  ])('%j are refused', async (also, message) => {
    const { kernel } = await site()
    expect(() => kernel.scope({ agent: 'a', task: 't', budget: 'acme', also: also as never })).toThrow(message)
  })

  test('that do not exist, or are those of a handoff, are refused before anything is taken', async () => {
    const { kernel, store } = await site()
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme', also: ['nobody'] })
    expect((await refusalOf(scope.begin(needing({ tokens: 1 })))).code).toBe('ERR_UNKNOWN_BUDGET')
    const handoff = await kernel
      .scope({ agent: 'a', task: 't', budget: 'acme' })
      .handoff({ to: 'b', instruction: 'x', budget: { tokens: 5 } })
    const beside = kernel.scope({ agent: 'a', task: 't', budget: 'users', also: [handoff.scope.budget] })
    await expect(beside.begin(needing({ tokens: 1 }))).rejects.toThrow(/budget of a handoff/)
    expect(await line(store, 'acme')).toMatchObject({ out: 0, kids: 5 })
  })
})

describe('a pause', () => {
  const evidence = { by: 'ann', reason: 'the provider is slow' }

  test('refuses whoever counts there, says until when, and ends by itself', async () => {
    const time = { atMs: 1_000_000, now: () => time.atMs }
    const store = memoryStore({ clock: time })
    const { kernel, scope } = await site({ store, clock: time })
    await kernel.pause('account', 5_000, evidence)
    const { code, details, message } = await refusalOf(scope('a', 'ann').begin(needing({ tokens: 1 })))
    expect(code).toBe('ERR_BUDGET_BUSY')
    expect(details).toMatchObject({ retryAtMs: 1_005_000 })
    expect(message).toContain('paused until 1970-01-01T00:16:45.000Z')
    await kernel.scope({ agent: 'a', task: 't', budget: 'acme' }).begin(needing({ tokens: 1 }))
    time.atMs += 5_000
    await scope('a', 'ann').begin(needing({ tokens: 1 }))
  })

  test('is waited for when it ends soon, by other processes too', async () => {
    const store = memoryStore()
    const { kernel } = await site({ store, waitMs: 10_000 })
    const other = await site({ store, waitMs: 10_000 })
    // Its levels are known there before the pause.
    await other.scope('a', 'ann').begin(needing({ tokens: 1 }))
    const untilMs = await kernel.pause('account', 300, evidence)
    await other.scope('a', 'ann').begin(needing({ tokens: 1 }))
    expect(await store.now()).toBeGreaterThanOrEqual(untilMs)
    await kernel.pause('account', 60_000, evidence)
    expect((await refusalOf(other.scope('a', 'ann').begin(needing({ tokens: 1 })))).code).toBe('ERR_BUDGET_BUSY')
  })

  test('that is shorter does not end a longer one, and none is longer than an hour', async () => {
    const { kernel, store } = await site()
    const now = await store.now()
    const longer = await kernel.pause('account', 10 * 3_600_000, evidence)
    expect(longer).toBeLessThan(now + 3_700_000)
    expect(await kernel.pause('account', 5, evidence)).toBe(longer)
  })

  test.each([-1, 0.5, Number.NaN, '5'])('of %j ms is refused', async (forMs) => {
    const { kernel } = await site()
    await expect(kernel.pause('account', forMs as number, evidence)).rejects.toThrow(/forMs/)
  })

  test('of a budget that is not there is told, and stops nobody', async () => {
    const { kernel, scope, events } = await site()
    await expect(kernel.pause('nobody', 5, evidence)).rejects.toMatchObject({ code: 'ERR_UNKNOWN_BUDGET' })
    scope('a', 'ann').pause('users/bob', 60_000, 'why not')
    await scope('a', 'ann').begin(needing({ tokens: 1 }))
    expect(events.some(({ type, message }) => type === 'trouble' && message.includes('`users/bob` is none of those'))).toBe(true)
  })
})
