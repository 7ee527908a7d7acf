// Money that others hold is not gone: an action waits for it. Proves who waits, in which order they are served,
// when they give up, and that whoever gives up leaves nothing behind. Also: what is refused at once says what
// would pass, and that really passes.

import { describe, expect, test } from 'vitest'
import { keys, line, money, open, refusalOf, take } from './bench.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { settableClock } from '../../src/testing/store-bench.ts'

const LONG_MS = 20_000
const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 30))

describe('an action that others are in the way of', () => {
  test('is granted when their money returns, in its own process or another one', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10 } }, waitMs: LONG_MS })
    const { kernel: other } = await open({ store, waitMs: LONG_MS })
    const holds = [await take(kernel, 'acme', { tokens: 5 }), await take(other, 'acme', { tokens: 5 })]
    const waiting = [take(kernel, 'acme', { tokens: 5 }), take(other, 'acme', { tokens: 5 })]
    await settled()
    expect(await line(store, 'acme')).toMatchObject({ free: 0, out: 10 })
    for (const hold of holds) await hold.release('done')
    for (const wait of waiting) await (await wait).settle({ tokens: 5 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 10, out: 0 })
  })

  test('is granted what a settle gives back, as soon as it is enough', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10 } }, waitMs: LONG_MS })
    const first = await take(kernel, 'acme', { tokens: 5 })
    const second = await take(kernel, 'acme', { tokens: 5 })
    const waiting = take(kernel, 'acme', { tokens: 6 })
    await first.settle({ tokens: 2 })
    await settled()
    expect(await line(store, 'acme')).toMatchObject({ free: 3, out: 5, spent: 2 })
    await second.settle({ tokens: 2 })
    expect((await waiting).amounts).toEqual({ tokens: 6 })
    expect(await line(store, 'acme')).toMatchObject({ free: 0, out: 6, spent: 4 })
  })

  test('is refused with ERR_BUDGET_BUSY when the time is over, and nothing is held for it', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10 } }, waitMs: 50 })
    await take(kernel, 'acme', { tokens: 8 })
    const refusal = await refusalOf(take(kernel, 'acme', { tokens: 3 }))
    expect(refusal).toMatchObject({ code: 'ERR_BUDGET_BUSY', details: { budget: { budget: 'acme', free: 2, out: 8, needed: 3 } } })
    expect(refusal.details.endsRun).toBeUndefined()
    expect(await line(store, 'acme')).toMatchObject({ free: 2, out: 8 })
    expect(await keys(store, 'hold/')).toHaveLength(1)
  })

  test('is refused at once where `waitMs` is 0, and nobody stands in a line', async () => {
    const { kernel } = await open({ budgets: { acme: { tokens: 10 } }, waitMs: 0 })
    const hold = await take(kernel, 'acme', { tokens: 8 })
    const refusals = await Promise.all([3, 4, 5].map((tokens) => refusalOf(take(kernel, 'acme', { tokens }))))
    expect(refusals.map(({ code }) => code)).toEqual(['ERR_BUDGET_BUSY', 'ERR_BUDGET_BUSY', 'ERR_BUDGET_BUSY'])
    await hold.release('done')
    await take(kernel, 'acme', { tokens: 10 })
  })

  test('waits while the raise of a limit would help it, and takes it', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10 } }, waitMs: LONG_MS })
    await take(kernel, 'acme', { tokens: 8 })
    const waiting = take(kernel, 'acme', { tokens: 3 })
    await settled()
    await open({ store, budgets: { acme: { tokens: 11, revision: 2 } } })
    await waiting
    expect(await line(store, 'acme')).toMatchObject({ free: 0, out: 11 })
  })

  test('is refused while it waits when what it waits for was spent', async () => {
    const { kernel } = await open({ budgets: { acme: { tokens: 10 } }, waitMs: LONG_MS })
    const hold = await take(kernel, 'acme', { tokens: 8 })
    const waiting = refusalOf(take(kernel, 'acme', { tokens: 3 }))
    await settled()
    await hold.settle({ tokens: 8 })
    expect(await waiting).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
  })
})

describe('the line of a budget', () => {
  test.each([
    ['the same size', [4, 4, 4, 4, 4, 4, 4]],
    ['different sizes', [9, 1, 6, 3, 10, 2, 1]],
    ['a small one behind a large one', [10, 1]],
  ])('is served in order of arrival: %s', async (_, amounts) => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10 } }, waitMs: LONG_MS })
    const first = await take(kernel, 'acme', { tokens: 10 })
    const served: number[] = []
    const waits = amounts.map(async (tokens, index) => {
      const hold = await take(kernel, 'acme', { tokens })
      served.push(index)
      await hold.release('served')
    })
    await settled()
    await first.release('done')
    await Promise.all(waits)
    expect(served).toEqual(amounts.map((__, index) => index))
    expect(await line(store, 'acme')).toMatchObject({ free: 10, out: 0 })
  })

  test('is not jumped by a small action that would fit, whichever child it works for; when the first leaves, it is its turn', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10 }, 'acme/*': { tokens: 10 } }, waitMs: LONG_MS })
    await take(kernel, 'acme/a', { tokens: 7 })
    const leaving = new AbortController()
    const large = take(kernel, 'acme/b', { tokens: 8 }, { signal: leaving.signal })
    await settled()
    const small = take(kernel, 'acme/c', { tokens: 2 })
    await settled()
    expect(await line(store, 'acme')).toMatchObject({ free: 3, out: 7 })
    leaving.abort(new Error('left'))
    await expect(large).rejects.toThrow('left')
    expect((await small).amounts).toEqual({ tokens: 2 })
  })

  test('of one child does not keep another child waiting', async () => {
    const { kernel } = await open({ budgets: { acme: { tokens: 100 }, 'acme/*': { tokens: 10 } }, waitMs: LONG_MS })
    const hold = await take(kernel, 'acme/a', { tokens: 7 })
    const waiting = take(kernel, 'acme/a', { tokens: 7 })
    await settled()
    expect((await take(kernel, 'acme/b', { tokens: 7 })).state).toBe('held')
    await hold.release('done')
    expect((await waiting).state).toBe('held')
  })
})

const left = new Error('the caller left')
const crowded = async () => {
  const bench = await open({ budgets: { acme: { tokens: 10 } }, waitMs: LONG_MS })
  return { ...bench, hold: await take(bench.kernel, 'acme', { tokens: 10 }), caller: new AbortController() }
}

describe('a signal that aborts', () => {
  test('before anything was asked, ends it with nothing held', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10 } } })
    const before = await money(store)
    await expect(take(kernel, 'acme', { tokens: 1 }, { signal: AbortSignal.abort(left) })).rejects.toBe(left)
    expect(await money(store)).toEqual(before)
  })

  test('ends the wait of the first in line with nothing held', async () => {
    const { kernel, store, hold, caller } = await crowded()
    const waiting = take(kernel, 'acme', { tokens: 3 }, { signal: caller.signal })
    await settled()
    caller.abort(left)
    await expect(waiting).rejects.toBe(left)
    await hold.release('done')
    await settled()
    expect(await line(store, 'acme')).toMatchObject({ free: 10, out: 0 })
  })

  test('ends the wait of one behind others, and those are served as if he had not been there', async () => {
    const { kernel, store, hold, caller } = await crowded()
    const first = take(kernel, 'acme', { tokens: 6 })
    await settled()
    const second = take(kernel, 'acme', { tokens: 5 }, { signal: caller.signal })
    const third = take(kernel, 'acme', { tokens: 4 })
    await settled()
    caller.abort(left)
    await expect(second).rejects.toBe(left)
    await hold.release('done')
    await Promise.all([first, third])
    expect(await line(store, 'acme')).toMatchObject({ free: 0, out: 10 })
  })

  test('while its first try is on its way, does not make it wait in a line', async () => {
    const { kernel, store, caller } = await crowded()
    const first = take(kernel, 'acme', { tokens: 6 })
    await settled()
    const second = take(kernel, 'acme', { tokens: 5 }, { signal: caller.signal })
    caller.abort(left)
    await expect(second).rejects.toBe(left)
    await expect(Promise.race([first, settled()])).resolves.toBeUndefined()
    expect(await keys(store, 'hold/')).toHaveLength(1)
    await kernel.close()
    await expect(first).rejects.toMatchObject({ code: 'ERR_CLOSED' })
  })
})

describe('an action for which there will be no room', () => {
  test('is refused at once, however long it might wait, with what stands in the way', async () => {
    const { kernel } = await open({ budgets: { acme: { tokens: 100 }, 'acme/one': { tokens: 10 } }, waitMs: LONG_MS })
    await (await take(kernel, 'acme/one', { tokens: 5 })).settle({ tokens: 4 })
    await take(kernel, 'acme/one', { tokens: 1 })
    const { code, details } = await refusalOf(take(kernel, 'acme/one', { tokens: 7 }, { resource: 'browse' }))
    expect(code).toBe('ERR_BUDGET_EXCEEDED')
    expect(details.budget).toEqual({
      budget: 'acme/one',
      dimension: 'tokens',
      limit: 10,
      spent: 4,
      free: 5,
      out: 1,
      suspense: 0,
      needed: 7,
      holders: [expect.objectContaining({ agent: 'tester', resource: 'spend', amount: 1 })],
    })
    expect(details).toMatchObject({ agent: 'tester', resource: 'browse', endsRun: false, wouldPass: 'raise `tokens` of `acme/one` to 12' })
  })

  test('of several levels without room names the lowest', async () => {
    const { kernel } = await open({ budgets: { acme: { tokens: 5 }, 'acme/one': { tokens: 4 } } })
    expect(await refusalOf(take(kernel, 'acme/one', { tokens: 6 }))).toMatchObject({ details: { budget: { budget: 'acme/one' } } })
  })

  test.each([
    ['tokens', { tokens: 10 }, { tokens: 13 }, (limit: number) => ({ tokens: limit })],
    ['usd', { usd: '0.00000001' }, { usd: 13 }, (limit: number) => ({ usd: (limit / 1e9).toFixed(9) })],
  ] as const)(
    'passes after exactly the change that its refusal names (%s), and not after one unit less',
    async (dimension, limits, needs, toLimits) => {
      const { kernel, store } = await open({ budgets: { acme: { tokens: 1_000, usd: 1 }, 'acme/one': limits } })
      await (await take(kernel, 'acme/one', { [dimension]: 3 })).settle({ [dimension]: 2 })
      const { wouldPass } = (await refusalOf(take(kernel, 'acme/one', needs))).details
      const [, counter, budget, amount] = /^raise `(\w+)` of `([^`]+)` to \$?([\d.]+)$/.exec(wouldPass!)!
      expect(counter).toBe(dimension)
      const limit = dimension === 'usd' ? Math.round(Number(amount) * 1e9) : Number(amount)
      for (const [raised, revision] of [
        [limit - 1, 2],
        [limit, 3],
      ] as const) {
        await open({ store, budgets: { acme: { tokens: 1_000, usd: 1 }, [budget!]: { ...toLimits(raised), revision } } })
        if (raised < limit) await refusalOf(take(kernel, 'acme/one', needs))
      }
      await take(kernel, 'acme/one', needs)
      expect(await line(store, 'acme/one', dimension)).toMatchObject({ free: 0 })
    },
  )

  test('is one whose money lies in suspense: that does not come back by itself', async () => {
    const clock = settableClock()
    const { kernel: silent, store } = await open({ store: memoryStore({ clock }), budgets: { acme: { tokens: 10 } } })
    const { kernel } = await open({ store, waitMs: LONG_MS })
    const hold = await take(silent, 'acme', { tokens: 9 })
    clock.set(clock.now() + 12_000)
    const refusal = await refusalOf(take(kernel, 'acme', { tokens: 5 }))
    expect(refusal).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED', details: { budget: { free: 1, out: 0, suspense: 9 } } })
    // Its owner was not dead, only silent: what he says late returns the rest.
    await hold.settle({ tokens: 2 })
    await take(kernel, 'acme', { tokens: 8 })
    expect(await line(store, 'acme')).toMatchObject({ free: 0, out: 8, spent: 2, suspense: 0 })
  })

  test('is none whose money is held by a process that speaks: that is waited for', async () => {
    const clock = settableClock()
    const { kernel: alive, store } = await open({ store: memoryStore({ clock }), budgets: { acme: { tokens: 10 } } })
    const { kernel } = await open({ store, waitMs: 40 })
    await take(alive, 'acme', { tokens: 9 })
    clock.set(clock.now() + 11_999)
    expect(await refusalOf(take(kernel, 'acme', { tokens: 5 }))).toMatchObject({
      code: 'ERR_BUDGET_BUSY',
      details: { budget: { out: 9, suspense: 0 } },
    })
  })
})
