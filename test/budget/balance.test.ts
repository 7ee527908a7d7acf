// The equation is looked at while a kernel runs: where somebody else has changed the books, nothing more is taken.

import { describe, expect, test } from 'vitest'
import { open, refusalOf, take } from './bench.ts'
import { sleep } from '../../src/lib/clock.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { readBudgets } from '../../src/budget/report.ts'

const BUDGETS = { acme: { tokens: 100 }, 'acme/a': { tokens: 50 }, other: { tokens: 10 } }

describe('books that do not add up', () => {
  for (const [what, key, by] of [
    ['money from nowhere', 'free/tokens/acme/a', 5],
    ['spending that was taken back', 'spent/tokens/acme/a', -10],
    ['a lost counter', 'free/tokens/acme', -90],
    ['a column below zero', 'out/tokens/acme', -1],
  ] as const)
    test(`(${what}) freeze their tree, which is told once; other trees go on`, async () => {
      const store = memoryStore()
      const { kernel, events } = await open({ store, budgets: BUDGETS })
      await (await take(kernel, 'acme/a', { tokens: 10 })).settle({ tokens: 10 })
      await kernel.sweep()
      expect(events).toEqual([])
      await store.apply([{ add: [{ key, by }] }])
      await kernel.sweep()
      await kernel.sweep()
      expect(events.map(({ type }) => type)).toEqual(['unbalanced'])
      expect((await refusalOf(take(kernel, 'acme/a', { tokens: 1 }))).code).toBe('ERR_BUDGET_FROZEN')
      expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).message).toContain('do not balance')
      await (await take(kernel, 'other', { tokens: 1 })).release('not needed')
      expect(kernel.auditLines.filter((record) => record.includes('"unbalanced"'))).toHaveLength(1)
    })

  test('of a budget that this process has not used are not its business', async () => {
    const store = memoryStore()
    const { kernel, events } = await open({ store, budgets: BUDGETS })
    await (await take(kernel, 'other', { tokens: 1 })).settle({ tokens: 1 })
    await store.apply([{ add: [{ key: 'free/tokens/acme', by: 1 }] }])
    await kernel.sweep()
    expect(events).toEqual([])
    expect((await readBudgets(store, 'acme')).some(({ balanced }) => !balanced)).toBe(true)
  })
})

test('no look disturbs books that are in use: a thousand of them while sixteen callers spend', async () => {
  const { kernel, events, store } = await open({ budgets: { acme: { tokens: 1_000_000 } }, leasing: 'auto' })
  const over = new AbortController()
  const looks = (async () => {
    let count = 0
    while (!over.signal.aborted) {
      count += 1
      await kernel.sweep()
      await sleep(0)
    }
    return count
  })()
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      for (let call = 0; call < 200; call++) {
        const hold = await take(kernel, 'acme', { tokens: 7 })
        await new Promise((resolve) => setImmediate(resolve))
        await hold.settle({ tokens: 5 })
      }
    }),
  )
  over.abort()
  expect(await looks).toBeGreaterThan(20)
  expect(events).toEqual([])
  await kernel.flush()
  expect((await readBudgets(store))[0]).toMatchObject({ spent: 16_000, balanced: true })
})
