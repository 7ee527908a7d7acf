// A shape that is declared anew, and the children that were created from it. Proves that a declaration which one child
// has no room for changes none, and that a corrected one reaches all; that a child which was declared by name keeps
// its own limits; and that many processes may open with the same change at once.

import { describe, expect, test } from 'vitest'
import { keys, line, money, open, take } from './bench.ts'
import { openKernel, type Kernel } from '../../src/kernel/open-kernel.ts'
import { fileStore } from '../../src/stores/file.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { temporaryDirectory } from '../stores/journal.ts'

const declared = (revision: number, tokens: number, calls = 5) => ({ acme: { tokens: 10_000 }, 'acme/*': { tokens, calls, revision } })

async function spend(kernel: Kernel, child: string, tokens: number): Promise<void> {
  await (await take(kernel, `acme/${child}`, { tokens })).settle({ tokens })
}

/** A store with a child that spent one token, and another one that spent nine, of the ten that both have. */
async function twoChildren(store: Store = memoryStore()): Promise<Store> {
  const { kernel } = await open({ store, budgets: declared(1, 10) })
  await spend(kernel, 'a', 1)
  await spend(kernel, 'b', 9)
  return store
}

async function limitsOf(store: Store): Promise<readonly number[]> {
  return [(await line(store, 'acme/a')).limit, (await line(store, 'acme/b')).limit]
}

const TOO_LOW = { code: 'ERR_BUDGET_DECLARATION', message: expect.stringContaining('`acme/b`: revision 2 lowers a limit') }

describe('a shape that is declared anew', () => {
  test('with less than one child has spent is refused before any child is changed, and corrected it reaches all', async () => {
    const store = await twoChildren()
    const before = await money(store)
    await expect(openKernel({ store, budgets: declared(2, 8) })).rejects.toMatchObject(TOO_LOW)
    expect(await money(store)).toEqual(before)
    await open({ store, budgets: declared(2, 9) })
    expect(await limitsOf(store)).toEqual([9, 9])
  })

  test('with a dimension less is refused before any child is changed', async () => {
    const store = await twoChildren()
    const before = await money(store)
    const { calls: _, ...less } = declared(2, 20)['acme/*']
    await expect(openKernel({ store, budgets: { acme: { tokens: 10_000 }, 'acme/*': less } })).rejects.toThrow(/no longer limits `calls`/)
    expect(await money(store)).toEqual(before)
  })

  test('and refused because a child spent meanwhile reaches all when it is corrected under the same revision', async () => {
    const store = memoryStore()
    const { kernel } = await open({ store, budgets: declared(1, 10) })
    await spend(kernel, 'a', 1)
    await spend(kernel, 'b', 1)
    let due = true
    const meddled: Store = {
      ...store,
      async apply(batches) {
        if (due && batches.some(({ set }) => set?.some(({ key }) => key === 'budget/acme/a'))) {
          due = false
          await spend(kernel, 'b', 8)
        }
        return store.apply(batches)
      },
    }
    await expect(openKernel({ store: meddled, budgets: declared(2, 8) })).rejects.toMatchObject(TOO_LOW)
    expect(await limitsOf(store)).toEqual([8, 10])
    await open({ store, budgets: declared(2, 12) })
    expect(await limitsOf(store)).toEqual([12, 12])
  })

  test('reaches a child that is behind although its record changes just then', async () => {
    const store = await twoChildren()
    const [child] = await store.read(['budget/acme/a'])
    await open({ store, budgets: declared(2, 20) })
    const behind = async (frozen: string) => {
      const value = { ...(child!.value as Record<string, never>), frozen }
      await store.apply([
        {
          set: [
            { key: 'budget/acme/a', value },
            { key: 'free/tokens/acme/a', value: 9 },
          ],
        },
      ])
    }
    await behind('one')
    let looks = 0
    const meddled: Store = {
      ...store,
      async list(prefix, range) {
        const page = await store.list(prefix, range)
        // The first look is for the room, the second one for the change.
        if (prefix === 'budget/acme/' && ++looks === 2) await behind('two')
        return page
      },
    }
    await open({ store: meddled, budgets: declared(2, 20) })
    expect(await limitsOf(store)).toEqual([20, 20])
    expect(await line(store, 'acme/a')).not.toHaveProperty('frozen')
  })

  test('when a reply is lost says that the child may have changed or not', async () => {
    const store = await twoChildren()
    const deaf: Store = {
      ...store,
      async apply(batches) {
        const answer = await store.apply(batches)
        const lost = batches.some(({ set }) => set?.some(({ key }) => key === 'budget/acme/a'))
        return lost ? { outcome: 'unknown', cause: new Error('lost') } : answer
      },
    }
    await expect(openKernel({ store: deaf, budgets: declared(2, 20) })).rejects.toMatchObject({
      code: 'ERR_STORE',
      message: 'memory did not answer while budget `acme/a` was declared: it may have changed or not. Open again.',
      cause: expect.objectContaining({ message: 'lost' }),
    })
    await open({ store, budgets: declared(2, 20) })
    expect(await limitsOf(store)).toEqual([20, 20])
  })
})

describe('a child that was declared by name', () => {
  const named = (revision: number, shape: { revision: number; tokens: number }, tokens = 3) => ({
    acme: { tokens: 10_000 },
    'acme/*': { ...shape },
    'acme/*/*': { tokens: 2 },
    'acme/risky': { tokens, revision },
  })

  test.each([
    ['other limits', 2, 3],
    ['the limits that it has', 1, 10],
  ])('with %s, after it was created from the shape, keeps them when the shape is raised', async (_, revision, tokens) => {
    const { acme, ...shapes } = named(1, { revision: 1, tokens: 10 })
    const { kernel, store } = await open({ budgets: { acme, 'acme/*': shapes['acme/*'], 'acme/*/*': shapes['acme/*/*'] } })
    for (const child of ['risky', 'other']) await spend(kernel, child, 1)
    await open({ store, budgets: named(revision, { revision: 1, tokens: 10 }, tokens) })
    await open({ store, budgets: named(revision, { revision: 5, tokens: 50 }, tokens) })
    expect(await line(store, 'acme/risky')).toMatchObject({ limit: tokens, spent: 1 })
    expect(await line(store, 'acme/other')).toMatchObject({ limit: 50 })
    // Its own children still follow the shape of the children of a child.
    await spend(kernel, 'risky/deep', 1)
    expect(await line(store, 'acme/risky/deep')).toMatchObject({ limit: 2 })
    await open({ store, budgets: named(6, { revision: 5, tokens: 50 }, 4) })
    expect(await line(store, 'acme/risky')).toMatchObject({ limit: 4 })
  })
})

describe('processes that open at once', () => {
  test.each<[string, () => Store]>([
    ['in memory', () => memoryStore()],
    ['on files', () => fileStore(temporaryDirectory(), { durability: 'os' })],
  ])('with the same higher revision of a shape all open (%s)', async (_, create) => {
    const store = create()
    const { kernel } = await open({ store, budgets: declared(1, 10) })
    for (let child = 0; child < 30; child++) await spend(kernel, `c${child}`, 1)
    const stores = store.dataDirectory === undefined ? [] : [1, 2].map(() => fileStore(store.dataDirectory!, { durability: 'os' }))
    await Promise.all([store, store, store, ...stores].map((one) => open({ store: one, budgets: declared(2, 20) })))
    for (let child = 0; child < 30; child++) expect(await line(store, `acme/c${child}`)).toMatchObject({ limit: 20, free: 19 })
  })

  test('with other limits under the same revision leave all children those of the one that opened', async () => {
    const store = memoryStore()
    const { kernel } = await open({ store, budgets: declared(1, 10) })
    const children = Array.from({ length: 10 }, (_, child) => `c${child}`)
    for (const child of children) await spend(kernel, child, 1)
    const opened = await Promise.allSettled([20, 30, 40].map((tokens) => open({ store, budgets: declared(2, tokens) })))
    const refused = opened.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []))
    expect(refused).toEqual(Array.from({ length: 2 }, () => expect.objectContaining({ code: 'ERR_BUDGET_DECLARATION' })))
    const limit = [20, 30, 40][opened.findIndex(({ status }) => status === 'fulfilled')]!
    for (const child of children) expect(await line(store, `acme/${child}`)).toMatchObject({ limit })
    expect(await keys(store, 'budget/acme/c')).toHaveLength(10)
  })
})
