// A hold from its take to its end. Proves that a take happens at every level and in every dimension or not at
// all, and that each way to end a hold moves exactly what was held, once. Every reading of the ledger asserts
// the equation for all budgets of the store.

import { describe, expect, test } from 'vitest'
import { line, money, open, refusalOf, take } from './bench.ts'
import type { BudgetDeclaration } from '../../src/budget/declaration.ts'

const DEEP = 'a/b/c/d/e/f/g/h'
const LEVELS = DEEP.split('/').map((_, index, names) => names.slice(0, index + 1).join('/'))
const deepTree = (limitOf: (level: number) => BudgetDeclaration): Record<string, BudgetDeclaration> =>
  Object.fromEntries(LEVELS.map((path, index) => [path, limitOf(index + 1)]))

describe('a take on a path of eight levels', () => {
  test('is held at each of them', async () => {
    const { kernel, store } = await open({ budgets: deepTree((level) => ({ tokens: 10 * level, usd: 1 })) })
    await take(kernel, DEEP, { tokens: 7, usd: 5 })
    for (const [index, path] of LEVELS.entries()) {
      expect(await line(store, path)).toMatchObject({ limit: 10 * (index + 1), free: 10 * (index + 1) - 7, out: 7 })
      expect(await line(store, path, 'usd')).toMatchObject({ free: 999_999_995, out: 5 })
    }
  })

  test.each(LEVELS.map((path, index) => [index + 1, path] as const))(
    'that is refused at level %i changes no counter at any level',
    async (level, path) => {
      const { kernel, store } = await open({ budgets: deepTree((at) => ({ tokens: at === level ? 4 : 100 })) })
      await take(kernel, DEEP, { tokens: 1 })
      const before = await money(store)
      const refusal = await refusalOf(take(kernel, DEEP, { tokens: 4 }))
      expect(refusal).toMatchObject({ code: 'ERR_BUDGET_BUSY', details: { budget: { budget: path, needed: 4, free: 3, out: 1 } } })
      expect(await money(store)).toEqual(before)
    },
  )

  test('that is refused in one dimension takes nothing of the others', async () => {
    const { kernel, store } = await open({ budgets: { acme: { usd: 1, tokens: 10, calls: 1, searches: 2 } } })
    const before = await money(store)
    for (const worst of [{ usd: 1_000_000_001 }, { tokens: 11 }, { calls: 2 }, { searches: 3 }]) {
      const refusal = await refusalOf(take(kernel, 'acme', { usd: 1, tokens: 1, calls: 1, searches: 1, ...worst }))
      expect(refusal).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED', details: { budget: { dimension: Object.keys(worst)[0] } } })
    }
    expect(await money(store)).toEqual(before)
  })

  test('that needs the last unit of every dimension is granted', async () => {
    const { kernel, store } = await open({ budgets: { acme: { usd: 1, tokens: 10, calls: 1, searches: 2 } } })
    await take(kernel, 'acme', { usd: 1_000_000_000, tokens: 10, calls: 1, searches: 2 })
    for (const dimension of ['usd', 'tokens', 'calls', 'searches']) expect(await line(store, 'acme', dimension)).toMatchObject({ free: 0 })
  })

  test('counts at a parent what only the parent limits', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10, searches: 2 }, 'acme/one': { tokens: 5 } } })
    await take(kernel, 'acme/one', { tokens: 5, searches: 2 })
    expect(await line(store, 'acme', 'searches')).toMatchObject({ free: 0, out: 2 })
    expect(await refusalOf(take(kernel, 'acme/one', { searches: 1 }))).toMatchObject({ details: { budget: { budget: 'acme' } } })
  })
})

describe('a counter that no budget of the path limits', () => {
  test('is a RangeError that names it, and nothing is held', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10 }, other: { serches: 1 } } })
    const before = await money(store)
    await expect(take(kernel, 'acme', { tokens: 1, serches: 1 })).rejects.toThrow(/^No budget on `acme` limits `serches`/)
    await expect(take(kernel, 'acme', { tokens: 1, serches: 1 })).rejects.toBeInstanceOf(RangeError)
    await expect(take(kernel, 'acme', {}, { output: { tokens: 1, minTokens: 1, perToken: { serches: 1 } } })).rejects.toBeInstanceOf(
      RangeError,
    )
    expect(await money(store)).toEqual(before)
  })

  test('is let through when it is one that every integration counts', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10 } } })
    const hold = await take(kernel, 'acme', { tokens: 1, usd: 5, calls: 1 })
    await hold.settle({ tokens: 1, usd: 7, calls: 1 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 1, free: 9 })
  })
})

describe('an action that needs nothing that is limited', () => {
  test('writes nothing to the store', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10 } } })
    const before = await money(store)
    const hold = await take(kernel, 'acme', {})
    await hold.settle({})
    expect(await money(store)).toEqual(before)
  })

  test('is refused all the same where there is no budget', async () => {
    const { kernel } = await open({ budgets: { acme: { tokens: 10 } } })
    const refusal = await refusalOf(take(kernel, 'acme/none', {}))
    expect(refusal).toMatchObject({
      code: 'ERR_UNKNOWN_BUDGET',
      details: { wouldPass: "openKernel({ budgets: { 'acme/*': { usd: 1 } } })" },
    })
    expect(await refusalOf(take(kernel, 'none', {}))).toMatchObject({ code: 'ERR_UNKNOWN_BUDGET' })
  })
})

describe('a hold that ends', () => {
  const budgets = { acme: { tokens: 100, usd: 1 }, 'acme/one': { tokens: 50 } }
  const opened = async () => {
    const bench = await open({ budgets })
    const hold = await take(bench.kernel, 'acme/one', { tokens: 30, usd: 10 })
    const spentAt = async (dimension = 'tokens', budget = 'acme') => {
      const { free, spent, out, assumed, over } = await line(bench.store, budget, dimension)
      return { free, spent, out, assumed, over }
    }
    return { ...bench, hold, spentAt }
  }
  const nobody = { out: 0, assumed: 0, over: 0 }

  test('by `settle` costs exactly what was used, at every level, and the rest is free again', async () => {
    const { hold, spentAt } = await opened()
    await hold.settle({ tokens: 12, usd: 0 })
    expect(await spentAt()).toEqual({ ...nobody, free: 88, spent: 12 })
    expect(await spentAt('tokens', 'acme/one')).toEqual({ ...nobody, free: 38, spent: 12 })
    expect(await spentAt('usd')).toEqual({ ...nobody, free: 1_000_000_000, spent: 0 })
    expect(hold.state).toBe('settled')
  })

  test('by `settle` counts a held dimension that is not named as used up', async () => {
    const { hold, spentAt } = await opened()
    await hold.settle({ usd: 3 })
    expect(await spentAt()).toEqual({ ...nobody, free: 70, spent: 30 })
    expect(await spentAt('usd')).toEqual({ ...nobody, free: 999_999_997, spent: 3 })
  })

  test('by `release` costs nothing', async () => {
    const { hold, spentAt } = await opened()
    await hold.release('never sent')
    expect(await spentAt()).toEqual({ ...nobody, free: 100, spent: 0 })
    expect(hold.state).toBe('released')
  })

  test('by `charge` costs its worst case, which is marked as assumed', async () => {
    const { hold, spentAt } = await opened()
    await hold.charge('nobody knows')
    expect(await spentAt()).toEqual({ free: 70, spent: 30, out: 0, assumed: 30, over: 0 })
    expect(hold.state).toBe('charged')
  })

  test.each(['settle', 'release', 'charge'] as const)('by `%s` twice ends once', async (how) => {
    const { hold, spentAt } = await opened()
    const end = () => (how === 'settle' ? hold.settle({ tokens: 9, usd: 1 }) : hold[how]('twice'))
    await end()
    const before = await spentAt()
    await end()
    await Promise.all([end(), end()])
    expect(await spentAt()).toEqual(before)
  })

  test.each([
    ['settle', 'settle'],
    ['settle', 'release'],
    ['settle', 'charge'],
    ['release', 'settle'],
    ['release', 'charge'],
  ] as const)('by `%s` cannot end by `%s` with another meaning: ERR_HOLD_STATE, and nothing moves', async (first, second) => {
    const { hold, spentAt } = await opened()
    const end = (how: typeof second, tokens: number) => (how === 'settle' ? hold.settle({ tokens, usd: 1 }) : hold[how]('test'))
    await end(first, 9)
    const before = await spentAt()
    await expect(end(second, 10)).rejects.toMatchObject({ code: 'ERR_HOLD_STATE' })
    expect(await spentAt()).toEqual(before)
  })

  test('by `settle` after `charge` is corrected exactly, once', async () => {
    const { hold, spentAt } = await opened()
    await hold.charge('the connection broke')
    await hold.settle({ tokens: 11, usd: 2 })
    await hold.settle({ tokens: 11, usd: 2 })
    expect(await spentAt()).toEqual({ ...nobody, free: 89, spent: 11 })
    expect(await spentAt('tokens', 'acme/one')).toEqual({ ...nobody, free: 39, spent: 11 })
    await expect(hold.settle({ tokens: 12, usd: 2 })).rejects.toMatchObject({ code: 'ERR_HOLD_STATE' })
    expect(await spentAt()).toEqual({ ...nobody, free: 89, spent: 11 })
  })

  test('by `release` after `charge` costs nothing: it turned out that it was not billed', async () => {
    const { hold, spentAt } = await opened()
    await hold.charge('its deadline passed')
    await hold.release('status 429')
    expect(await spentAt()).toEqual({ ...nobody, free: 100, spent: 0 })
    await expect(hold.charge('after all')).rejects.toMatchObject({ code: 'ERR_HOLD_STATE' })
    expect(await spentAt()).toEqual({ ...nobody, free: 100, spent: 0 })
  })

  test('by `charge` and `settle` at the same moment has the cost of the settle', async () => {
    const { hold, spentAt } = await opened()
    await Promise.all([hold.charge('left'), hold.settle({ tokens: 11, usd: 2 })])
    expect(await spentAt()).toEqual({ ...nobody, free: 89, spent: 11 })
  })

  test.each([{ tokens: Number.NaN }, { tokens: -1 }, { tokens: 0.5 }, { tokens: Infinity }, { tokens: 2 ** 53 }, { tokens: '3' as never }])(
    'is still held after a settle with %j, which is refused',
    async (used) => {
      const { hold, spentAt } = await opened()
      await expect(hold.settle(used)).rejects.toThrow(/`usage\.tokens`/)
      expect(await spentAt()).toEqual({ ...nobody, free: 70, spent: 0, out: 30 })
      expect(hold.state).toBe('held')
    },
  )

  test('belongs to the kernel that took it: another one can neither end nor sweep it while it lives', async () => {
    const { hold, spentAt, store } = await opened()
    const { kernel: other } = await open({ store })
    expect(await other.sweep()).toBe(0)
    await other.close()
    expect(await spentAt()).toEqual({ ...nobody, free: 70, spent: 0, out: 30 })
    await hold.settle({ tokens: 1, usd: 1 })
    expect(await spentAt()).toEqual({ ...nobody, free: 99, spent: 1 })
  })

  test('leaves no record of itself, unless it was charged: then it can still be corrected', async () => {
    const { hold, store, kernel } = await opened()
    await hold.settle({ tokens: 1, usd: 1 })
    const keys = Object.keys(await money(store)).filter((key) => !/^(free|spent|out|assumed|budget)\//.test(key))
    expect(keys).toEqual([])
    const charged = await take(kernel, 'acme', { tokens: 5 })
    await charged.charge('test')
    expect(await store.list('charged/', { limit: 10 })).toHaveLength(1)
    await charged.settle({ tokens: 1 })
    expect(await store.list('charged/', { limit: 10 })).toHaveLength(0)
  })
})

const openScope = async () => {
  const bench = await open({ budgets: { acme: { tokens: 100 } } })
  const scope = bench.kernel.scope({ agent: 'tester', task: 'test', budget: 'acme' })
  return { ...bench, scope, action: { kind: 'tool', resource: 'spend', worst: { tokens: 30 } } }
}

describe('scope.run', () => {
  test('settles with what its result says', async () => {
    const { scope, action, store } = await openScope()
    expect(
      await scope.run(
        action,
        async () => 'answer',
        () => ({ tokens: 4 }),
      ),
    ).toBe('answer')
    expect(await line(store, 'acme')).toMatchObject({ spent: 4, out: 0, assumed: 0 })
  })

  test('charges the worst case when its function throws, and throws the same error', async () => {
    const { scope, action, store } = await openScope()
    const failure = new Error('the socket closed')
    await expect(scope.run(action, () => Promise.reject(failure))).rejects.toBe(failure)
    expect(await line(store, 'acme')).toMatchObject({ spent: 30, out: 0, assumed: 30 })
  })

  test.each([
    [
      'throws',
      (): never => {
        throw new Error('no usage')
      },
    ],
    ['returns what is no amount', () => ({ tokens: Number.NaN })],
  ])('charges the worst case when its reading of the usage %s: nothing stays held', async (_, usageOf) => {
    const { scope, action, store } = await openScope()
    await expect(scope.run(action, async () => 'answer', usageOf)).rejects.toThrow(/usage/)
    expect(await line(store, 'acme')).toMatchObject({ spent: 30, out: 0, assumed: 30 })
  })

  test('leaves the end of a hold to whom its function handed it, and has nothing to compare with that', async () => {
    const { scope, action, store, events } = await openScope()
    await scope.run(action, async (hold) => hold.claim()!.settle({ tokens: 4 }))
    expect(await line(store, 'acme')).toMatchObject({ spent: 4, out: 0 })
    expect(events).toEqual([])
    await scope.run(
      action,
      async (hold) => hold.claim()!.settle({ tokens: 4 }),
      () => ({ tokens: 5 }),
    )
    expect(await line(store, 'acme')).toMatchObject({ spent: 8, out: 0 })
    expect(events.map(({ type }) => type)).toEqual(['escape'])
  })

  test('throws the error of its function, also when that had ended the hold before', async () => {
    const { scope, action, store } = await openScope()
    const failure = new Error('after the answer')
    const fails = scope.run(action, async (hold) => {
      await hold.settle({ tokens: 4 })
      throw failure
    })
    await expect(fails).rejects.toBe(failure)
    expect(await line(store, 'acme')).toMatchObject({ spent: 4, out: 0, assumed: 0 })
  })
})

test('a settle is one write: it asks the store neither for the time nor for what is there', async () => {
  const { kernel, store } = await open({ budgets: { acme: { tokens: 10 } } })
  const hold = await take(kernel, 'acme', { tokens: 5 })
  const asked: string[] = []
  for (const what of ['now', 'read', 'list', 'apply'] as const) {
    const ask = store[what].bind(store) as (...args: unknown[]) => unknown
    Object.assign(store, { [what]: (...args: unknown[]) => (asked.push(what), ask(...args)) })
  }
  await hold.settle({ tokens: 3 })
  expect(asked).toEqual(['apply'])
})
