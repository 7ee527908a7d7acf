// Budgets that are created by the first take from them. Proves that a child comes into being once, whole and
// counted, however many ask for it at the same moment; that it follows the shape that was declared for it; and that
// one whose record was lost is damage, never a fresh limit.

import { describe, expect, test } from 'vitest'
import { balanced, keys, line, money, open, refusalOf, take } from './bench.ts'
import type { BudgetRecord } from '../../src/budget/record.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'

async function valueOf(store: Store, key: string): Promise<unknown> {
  return (await store.read([key]))[0]?.value
}

const declared = (revision: number, tokens: number) => ({ acme: { tokens: 1_000 }, 'acme/*': { tokens, revision } })

describe('a child of `*`', () => {
  test('is created by its first take, from its limit in every dimension, also in those that the take does not use', async () => {
    const budgets = { acme: { tokens: 100, usd: 1, calls: 9 }, 'acme/*': { tokens: 10, usd: '0.5', calls: 0 } }
    const { kernel, store } = await open({ budgets })
    await take(kernel, 'acme/new', { tokens: 3 })
    expect(await line(store, 'acme/new')).toMatchObject({ limit: 10, free: 7, out: 3 })
    expect(await line(store, 'acme/new', 'usd')).toMatchObject({ limit: 500_000_000, free: 500_000_000, out: 0 })
    expect(await line(store, 'acme/new', 'calls')).toMatchObject({ limit: 0, free: 0 })
    await take(kernel, 'acme/new', { usd: 500_000_000 })
    expect(await refusalOf(take(kernel, 'acme/new', { calls: 1 }))).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
  })

  test('is not created by a take that is refused, at its own level or at another one', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 5 }, 'acme/*': { tokens: 10 } } })
    const before = await money(store)
    expect(await refusalOf(take(kernel, 'acme/new', { tokens: 11 }))).toMatchObject({
      details: { budget: { budget: 'acme/new', limit: 10, free: 10 } },
    })
    expect(await refusalOf(take(kernel, 'acme/new', { tokens: 6 }))).toMatchObject({ details: { budget: { budget: 'acme' } } })
    expect(await money(store)).toEqual(before)
  })

  test('is created once by 50 first takes at once from five kernels: one record, counted once, all holds in it', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 1_000 }, 'acme/*': { tokens: 50 } } })
    const kernels = [kernel]
    for (let more = 0; more < 4; more++) kernels.push((await open({ store })).kernel)
    await Promise.all(
      Array.from({ length: 50 }, (_, index) => take(kernels[index % 5]!, `acme/${index % 2 === 0 ? 'even' : 'odd'}`, { tokens: 2 })),
    )
    expect(await valueOf(store, 'children/acme')).toBe(2)
    expect(await line(store, 'acme/even')).toMatchObject({ free: 0, out: 50 })
    expect(await line(store, 'acme/odd')).toMatchObject({ free: 0, out: 50 })
    expect(await line(store, 'acme')).toMatchObject({ free: 900, out: 100 })
    expect(await refusalOf(take(kernel, 'acme/odd', { tokens: 1 }))).toMatchObject({ code: 'ERR_BUDGET_BUSY' })
  })

  test('that reaches its limit leaves the others theirs, and all together never exceed their parent', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 25 }, 'acme/*': { tokens: 10 } } })
    for (const name of ['a', 'b']) await take(kernel, `acme/${name}`, { tokens: 10 })
    expect(await refusalOf(take(kernel, 'acme/a', { tokens: 1 }))).toMatchObject({ details: { budget: { budget: 'acme/a' } } })
    await take(kernel, 'acme/c', { tokens: 5 })
    expect(await refusalOf(take(kernel, 'acme/c', { tokens: 1 }))).toMatchObject({ details: { budget: { budget: 'acme' } } })
    expect(await balanced(store)).toHaveLength(4)
  })

  test.each(['free/tokens/acme/lost', 'free/usd/acme/lost'])(
    'whose record was lost while %s is there is ERR_DAMAGE, and nothing is taken',
    async (kept) => {
      const { kernel, store } = await open({ budgets: { acme: { tokens: 100, usd: 1 }, 'acme/*': { tokens: 10, usd: 1 } } })
      await (await take(kernel, 'acme/lost', { tokens: 10 })).settle({ tokens: 10 })
      const gone = ['budget/acme/lost', 'free/tokens/acme/lost', 'free/usd/acme/lost'].filter((key) => key !== kept)
      await store.apply([{ delete: gone }])
      const before = await money(store)
      const { kernel: fresh } = await open({ store })
      for (const one of [kernel, fresh]) await expect(take(one, 'acme/lost', { tokens: 1 })).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
      expect(await money(store)).toEqual(before)
      await take(fresh, 'acme/other', { tokens: 1 })
    },
  )

  test('whose shape is raised or lowered has the new limit, also when it is created in the middle of the change', async () => {
    const { kernel, store } = await open({ budgets: declared(1, 10) })
    await take(kernel, 'acme/old', { tokens: 4 })
    // After each look at the children, another process creates one from the shape as it is.
    const between = ['first', 'second', 'third']
    const names = ['old', 'later', ...between]
    const watched: Store = {
      ...store,
      async list(prefix, range) {
        const page = await store.list(prefix, range)
        const name = prefix.startsWith('budget/acme/') ? between.shift() : undefined
        if (name !== undefined) await take(kernel, `acme/${name}`, { tokens: 1 })
        return page
      },
    }
    await open({ store: watched, budgets: declared(2, 7) })
    expect(between).toEqual([])
    await take(kernel, 'acme/later', { tokens: 1 })
    for (const name of names) expect(await line(store, `acme/${name}`)).toMatchObject({ limit: 7 })
    await open({ store, budgets: declared(3, 12) })
    for (const name of names) expect(await line(store, `acme/${name}`)).toMatchObject({ limit: 12 })
  })
})

/** A store that lets something happen once, right after it was asked for this key. */
function meddled(store: Store, key: string, meddle: () => Promise<unknown>): Store {
  let due = true
  return {
    ...store,
    async read(wanted) {
      const entries = await store.read(wanted)
      if (!due || !wanted.includes(key)) return entries
      due = false
      await meddle()
      return entries
    },
  }
}

describe('between its look at the store and its commit, a first take notices', () => {
  test('that the shape has changed: the child has the new limit', async () => {
    const { store } = await open({ budgets: declared(1, 10) })
    const { kernel } = await open({ store: meddled(store, 'free/tokens/acme/new', () => open({ store, budgets: declared(2, 7) })) })
    await take(kernel, 'acme/new', { tokens: 5 })
    expect(await line(store, 'acme/new')).toMatchObject({ limit: 7, free: 2 })
  })

  test('that another process has created the child: it is created once', async () => {
    const { kernel: other, store } = await open({ budgets: declared(1, 10) })
    const { kernel } = await open({ store: meddled(store, 'free/tokens/acme/new', () => take(other, 'acme/new', { tokens: 3 })) })
    await take(kernel, 'acme/new', { tokens: 5 })
    expect(await line(store, 'acme/new')).toMatchObject({ limit: 10, free: 2, out: 8 })
    expect(await valueOf(store, 'children/acme')).toBe(1)
  })

  test('that there are counters without a record: that is ERR_DAMAGE', async () => {
    const { store } = await open({ budgets: declared(1, 10) })
    const stray = () => store.apply([{ set: [{ key: 'free/tokens/acme/new', value: 3 }] }])
    const { kernel } = await open({ store: meddled(store, 'free/tokens/acme/new', stray) })
    await expect(take(kernel, 'acme/new', { tokens: 1 })).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
    expect(await keys(store, 'hold/')).toEqual([])
  })
})

describe('nested shapes', () => {
  const budgets = {
    a: { tokens: 100 },
    'a/*': { tokens: 50 },
    'a/*/b': { tokens: 5 },
    'a/*/*': { tokens: 7 },
    'a/*/*/deep': { tokens: 3 },
    'a/named': { tokens: 40 },
    'a/named/*': { tokens: 9 },
  }

  test.each([
    ['a/x/b', 5],
    ['a/x/c', 7],
    ['a/x/c/deep', 3],
    ['a/named/b', 9],
    ['a/x', 50],
  ])('`%s` follows the most particular shape that was declared for it: limit %i', async (path, limit) => {
    const { kernel, store } = await open({ budgets })
    await take(kernel, path, { tokens: limit })
    expect(await line(store, path)).toMatchObject({ limit, free: 0, out: limit })
    expect((await refusalOf(take(kernel, path, { tokens: 1 }))).details.budget).toMatchObject({ budget: path })
  })

  test.each(['a/x/b/deep', 'a/named/b/deep', 'a/x/c/other', 'b'])(
    '`%s` follows none, so it is unknown and nothing of its path is created',
    async (path) => {
      const { kernel, store } = await open({ budgets })
      const before = await money(store)
      expect(await refusalOf(take(kernel, path, { tokens: 1 }))).toMatchObject({ code: 'ERR_UNKNOWN_BUDGET' })
      expect(await money(store)).toEqual(before)
    },
  )

  test('are created together, level by level, each counted at its parent', async () => {
    const { kernel, store } = await open({ budgets })
    await Promise.all(['a/x/b', 'a/x/c/deep', 'a/y/b', 'a/x/c'].map((path) => take(kernel, path, { tokens: 1 })))
    const records = (await keys(store, 'budget/')).filter((key) => !key.includes('*')).map((key) => key.slice('budget/'.length))
    expect(records).toEqual(['a', 'a/named', 'a/x', 'a/x/b', 'a/x/c', 'a/x/c/deep', 'a/y', 'a/y/b'])
    for (const [parent, children] of [
      ['a', 2],
      ['a/x', 2],
      ['a/x/c', 1],
      ['a/y', 1],
    ] as const)
      expect([parent, await valueOf(store, `children/${parent}`)]).toEqual([parent, children])
    expect(await valueOf(store, 'budget/a/x/c/deep')).toMatchObject({ shape: 'a/*/*/deep', limits: { tokens: 3 } } satisfies Partial<
      BudgetRecord & { shape: string }
    >)
  })

  test('a path cannot name a shape itself', async () => {
    const { kernel } = await open({ budgets })
    for (const path of ['a/*', 'a/*/b', '*']) expect(() => kernel.scope({ agent: 'x', task: 'y', budget: path })).toThrow(TypeError)
  })
})

test('that two processes create at the same time is created once, and both of them are granted', async () => {
  const store = memoryStore()
  const budgets = { acme: { tokens: 100 }, 'acme/*': { tokens: 100 } }
  const { kernel: other } = await open({ store, budgets })
  let raced = false
  const read: typeof store.read = async (keys) => {
    const found = await store.read(keys)
    // The other one takes first, after this one has seen that there is no such child.
    if (!raced && keys[0] === 'budget/acme/blue') {
      raced = true
      await (await take(other, 'acme/blue', { tokens: 1 })).settle({ tokens: 1 })
    }
    return found
  }
  const { kernel } = await open({ store: { ...store, read }, budgets })
  await (await take(kernel, 'acme/blue', { tokens: 1 })).settle({ tokens: 1 })
  expect(raced).toBe(true)
  expect(await line(store, 'acme/blue')).toMatchObject({ spent: 2, free: 98 })
})
