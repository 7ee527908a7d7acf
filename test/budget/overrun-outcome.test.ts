// What an operator is told of an overrun: that free money covered it, that it froze the tree, or that it is counted
// beside the limit. Proves that this is what has happened, also when the store's reply was lost, and that use near
// the largest number there is ends a hold like any other.

import { describe, expect, test, vi } from 'vitest'
import { keys, line, open, refusalOf, take } from './bench.ts'
import type { KernelOptions } from '../../src/kernel/open-kernel.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'

const BUDGETS = { acme: { tokens: 10 } }

/** A kernel whose store loses the reply to the group that ends a hold, as often as told. */
async function losing(options: Partial<KernelOptions> = {}) {
  const real = memoryStore()
  let replies = 0
  const apply: Store['apply'] = async (batches) => {
    const answer = await real.apply(batches)
    const ends = batches.some((batch, index) => {
      const applied = answer.outcome === 'applied' && answer.results[index]!.outcome === 'ok'
      return applied && batch.delete?.some((key) => key.startsWith('hold/')) === true
    })
    if (!ends || replies === 0) return answer
    replies -= 1
    return { outcome: 'unknown', cause: new Error('the reply was lost') }
  }
  const opened = await open({ store: { ...real, apply }, budgets: BUDGETS, ...options })
  const told = async (): Promise<readonly string[]> => {
    await vi.waitFor(() => expect(opened.kernel.pendingReports).toBe(0))
    return opened.events.filter(({ type }) => type === 'overrun').map(({ message }) => message)
  }
  return { ...opened, real, told, lose: (count: number): void => void (replies = count) }
}

describe.each([
  ['whose reply arrives', 0],
  ['whose reply was lost', 1],
])('an overrun %s', (_, lost) => {
  test('is told as frozen when it froze the tree', async () => {
    const { kernel, real, told, lose } = await losing()
    const hold = await take(kernel, 'acme', { tokens: 9 })
    lose(lost)
    await hold.settle({ tokens: 13 })
    expect(await told()).toEqual([expect.stringContaining('the tree of `acme` is frozen')])
    expect(await line(real, 'acme')).toMatchObject({ spent: 9, free: 1, over: 4, out: 0, frozen: expect.any(String) })
    expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).code).toBe('ERR_BUDGET_FROZEN')
  })

  test('is told as covered when free money covered it', async () => {
    const { kernel, real, told, lose } = await losing()
    const hold = await take(kernel, 'acme', { tokens: 5 })
    lose(lost)
    await hold.settle({ tokens: 8 })
    expect(await told()).toEqual([expect.stringContaining('Free money covered it.')])
    expect(await line(real, 'acme')).toMatchObject({ spent: 8, free: 2, over: 0, out: 0 })
  })

  test('is told as counted beside the limit in observe mode, where nothing freezes', async () => {
    const { kernel, real, told, lose } = await losing({ mode: 'observe' })
    const hold = await take(kernel, 'acme', { tokens: 9 })
    lose(lost)
    await hold.settle({ tokens: 13 })
    expect(await told()).toEqual([expect.stringContaining('counted beside the limit')])
    expect(await line(real, 'acme')).toMatchObject({ spent: 9, free: 1, over: 4, out: 0 })
    expect((await line(real, 'acme')).frozen).toBeUndefined()
  })
})

test('an overrun that free money covered is told as covered in observe mode too', async () => {
  const { kernel, told } = await losing({ mode: 'observe' })
  await (await take(kernel, 'acme', { tokens: 5 })).settle({ tokens: 8 })
  expect(await told()).toEqual([expect.stringContaining('Free money covered it.')])
})

describe('use that a counter cannot hold', () => {
  test.each([
    ['settled', 0],
    ['charged first', 1],
  ])('ends its hold, freezes the tree and leaves the ledger balanced (%s)', async (_, charged) => {
    const { kernel, store, events } = await open({ budgets: { acme: { tokens: 100 } } })
    await (await take(kernel, 'acme', { tokens: 10 })).settle({ tokens: 10 })
    const hold = await take(kernel, 'acme', { tokens: 10 })
    if (charged > 0) await hold.charge('unknown')
    await hold.settle({ tokens: Number.MAX_SAFE_INTEGER })
    expect(kernel.pendingReports).toBe(0)
    expect(await keys(store, 'hold/')).toEqual([])
    expect(await line(store, 'acme')).toMatchObject({
      spent: 20,
      out: 0,
      free: 80,
      over: Number.MAX_SAFE_INTEGER - 10,
      frozen: expect.any(String),
    })
    expect(events.map(({ type }) => type)).toEqual(['overrun'])
  })
})
