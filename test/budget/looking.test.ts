// Who was told no looks before it writes. Proves that waiting, and asking again and again, costs the store no write,
// and that whoever only looks still sees all that has happened meanwhile: money that came back, a limit that was
// raised, a tree that was frozen.

import { describe, expect, test, vi } from 'vitest'
import { line, open, refusalOf, take } from './bench.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'

const LONG_MS = 60_000
const BUDGETS = { acme: { tokens: 10 }, other: { tokens: 1_000 } }

/** Two kernels on one store: one that others are in the way of, whose groups and reads are counted, and the others. */
async function crowded(waitMs: number) {
  const real = memoryStore()
  let groups = 0
  let reads = 0
  const store: Store = {
    ...real,
    apply: (batches) => (groups++, real.apply(batches)),
    read: (asked) => (reads++, real.read(asked)),
  }
  const { kernel: others } = await open({ store: real, budgets: BUDGETS })
  const { kernel } = await open({ store, waitMs })
  const hold = await take(others, 'acme', { tokens: 8 })
  return { store: real, kernel, others, hold, groups: () => groups, reads: () => reads }
}

/** Waits until somebody has looked at the store again, some times over. */
const lookedAgain = async (reads: () => number): Promise<void> => {
  const before = reads()
  await vi.waitFor(() => expect(reads()).toBeGreaterThan(before + 2))
}

describe('who is refused again and again', () => {
  test.each([
    ['ERR_BUDGET_BUSY', 5],
    ['ERR_BUDGET_EXCEEDED', 11],
  ])('with %s writes with the first refusal only', async (code, tokens) => {
    const { kernel, store, groups } = await crowded(0)
    expect((await refusalOf(take(kernel, 'acme', { tokens }))).code).toBe(code)
    const before = groups()
    for (let count = 0; count < 100; count++) expect((await refusalOf(take(kernel, 'acme', { tokens }))).code).toBe(code)
    expect(groups()).toBe(before)
    expect(await line(store, 'acme')).toMatchObject({ out: 8, free: 2 })
  })

  test('is granted what fits all the same, and all of it as soon as the money is back', async () => {
    const { kernel, store, hold } = await crowded(0)
    for (let count = 0; count < 3; count++) await refusalOf(take(kernel, 'acme', { tokens: 5 }))
    await (await take(kernel, 'acme', { tokens: 2 })).release('it fits')
    await hold.settle({ tokens: 1 })
    await take(kernel, 'acme', { tokens: 9 })
    expect(await line(store, 'acme')).toMatchObject({ out: 9, spent: 1, free: 0 })
  })

  test('is granted as much output as fits', async () => {
    const { kernel } = await crowded(0)
    const output = (minTokens: number) => ({ output: { tokens: 100, minTokens, perToken: { tokens: 1 } } })
    expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }, output(5)))).code).toBe('ERR_BUDGET_BUSY')
    expect((await take(kernel, 'acme', { tokens: 1 }, output(1))).caps).toEqual({ maxOutputTokens: 1 })
  })

  test('is told the limit that another kernel has raised, and granted what fits by then', async () => {
    const { kernel, store, groups } = await crowded(0)
    expect((await refusalOf(take(kernel, 'acme', { tokens: 13 }))).details.budget).toMatchObject({ limit: 10 })
    const before = groups()
    await open({ store, budgets: { acme: { tokens: 12, revision: 2 } } })
    expect((await refusalOf(take(kernel, 'acme', { tokens: 13 }))).details).toMatchObject({
      budget: { limit: 12, free: 4 },
      wouldPass: 'raise `tokens` of `acme` to 21',
    })
    expect(groups()).toBe(before)
    await take(kernel, 'acme', { tokens: 4 })
    expect(await line(store, 'acme')).toMatchObject({ out: 12, free: 0 })
  })

  test('is told that another kernel has frozen the tree', async () => {
    const { kernel, others, hold } = await crowded(0)
    expect((await refusalOf(take(kernel, 'acme', { tokens: 5 }))).code).toBe('ERR_BUDGET_BUSY')
    await (await take(others, 'acme', { tokens: 2 })).settle({ tokens: 3 })
    for (let count = 0; count < 2; count++) expect((await refusalOf(take(kernel, 'acme', { tokens: 5 }))).code).toBe('ERR_BUDGET_FROZEN')
    await hold.release('done')
  })
})

describe('who waits', () => {
  test('writes nothing while another budget changes a hundred times, and is granted when the money is back', async () => {
    const { kernel, store, others, hold, groups, reads } = await crowded(LONG_MS)
    const waiting = take(kernel, 'acme', { tokens: 5 })
    await lookedAgain(reads)
    const before = groups()
    const seen = reads()
    for (let count = 0; count < 50; count++) await (await take(others, 'other', { tokens: 1 })).settle({ tokens: 1 })
    await lookedAgain(reads)
    expect(reads()).toBeGreaterThan(seen)
    expect(groups()).toBe(before)
    await hold.release('done')
    expect((await waiting).amounts).toEqual({ tokens: 5 })
    expect(await line(store, 'acme')).toMatchObject({ out: 5, free: 5 })
    expect(await line(store, 'other')).toMatchObject({ spent: 50 })
  })

  test('is refused when another kernel freezes the tree', async () => {
    const { kernel, others, reads } = await crowded(LONG_MS)
    const waiting = refusalOf(take(kernel, 'acme', { tokens: 5 }))
    await lookedAgain(reads)
    await (await take(others, 'acme', { tokens: 2 })).settle({ tokens: 3 })
    expect((await waiting).code).toBe('ERR_BUDGET_FROZEN')
  })

  test('is granted when another kernel raises the limit', async () => {
    const { kernel, store, reads } = await crowded(LONG_MS)
    const waiting = take(kernel, 'acme', { tokens: 5 })
    await lookedAgain(reads)
    await open({ store, budgets: { acme: { tokens: 13, revision: 2 } } })
    await waiting
    expect(await line(store, 'acme')).toMatchObject({ out: 13, free: 0 })
  })
})
