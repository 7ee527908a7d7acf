// One kernel for code that is evaluated again and again.

import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { sharedKernel, type SharedKernelOptions } from '../../src/kernel/shared-kernel.ts'
import type { Kernel } from '../../src/kernel/open-kernel.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { refusalOf, take } from '../budget/bench.ts'
import { errorOf } from '../budget/operator-bench.ts'
import { temporaryDirectory } from '../stores/journal.ts'

const opened = new Set<Kernel>()
const stores: Store[] = []
const closed: Store[] = []

/** A store that is made when it is asked for, and says when it is closed. */
const makeStore = (): Store => {
  const store = memoryStore()
  stores.push(store)
  const close = async (): Promise<void> => {
    closed.push(store)
    await store.close()
  }
  return { ...store, close }
}

async function shared(more: Partial<SharedKernelOptions> = {}, key = 'acme'): Promise<Kernel> {
  const options = { store: makeStore, budgets: { acme: { usd: 50, tokens: 100 } }, waitMs: 0, onEvent: () => undefined, ...more }
  const kernel = await sharedKernel(key, options)
  opened.add(kernel)
  return kernel
}

afterEach(async () => {
  for (const kernel of opened) await kernel.close()
  opened.clear()
  stores.length = 0
  closed.length = 0
})

describe('a shared kernel', () => {
  test('is opened once, also by callers at the same moment, and its store is made once', async () => {
    const kernels = [...(await Promise.all([shared(), shared(), shared()])), await shared()]
    expect(new Set(kernels).size).toBe(1)
    expect(stores).toHaveLength(1)
    // What one caller takes is taken for all.
    await take(kernels[0]!, 'acme', { tokens: 60 })
    expect(await refusalOf(take(kernels[3]!, 'acme', { tokens: 60 }))).toMatchObject({ code: 'ERR_BUDGET_BUSY' })
  })

  test('is another one under another key', async () => {
    expect(await shared({}, 'acme')).not.toBe(await shared({}, 'labs'))
    expect(stores).toHaveLength(2)
  })

  test('of the same meaning is the same one, however it is written', async () => {
    const first = await shared({
      budgets: { acme: { usd: '50.00', tokens: 100, revision: 1 } },
      rules: [{ effect: 'allow', tool: 'read' }],
    })
    const again = await shared({ budgets: { acme: { tokens: 100, usd: 50 } }, rules: [{ tool: 'read', effect: 'allow' }] })
    expect(again).toBe(first)
  })

  test('keeps the functions of the call that opened it: those of a later one cannot be compared, only counted', async () => {
    const gate = () => ({ name: 'own', decide: () => ({ verdict: 'allow' }) as const })
    const first = await shared({ gates: [gate()], clock: { now: () => Date.now() } })
    expect(await shared({ gates: [gate()], clock: { now: () => Date.now() } })).toBe(first)
    expect(await errorOf(shared({ gates: [gate(), gate()], clock: { now: () => Date.now() } }))).toMatchObject({
      code: 'ERR_SHARED_KERNEL',
    })
  })

  test.each([
    [
      'a budget',
      { budgets: { acme: { usd: 60, tokens: 100 } } },
      '`budgets.acme` is tokens 100, usd $60.00 (revision 1) here, and tokens 100, usd $50.00 (revision 1) there',
    ],
    [
      'a revision',
      { budgets: { acme: { usd: 50, tokens: 100, revision: 2 } } },
      '`budgets.acme` is tokens 100, usd $50.00 (revision 2) here',
    ],
    [
      'a window',
      { budgets: { acme: { usd: 50, tokens: 100, windows: [{ per: 'day' as const, usd: 5 }] } } },
      '`budgets.acme` is tokens 100, usd $50.00; usd $5.00 per day (revision 1) here',
    ],
    [
      'what is kept',
      { budgets: { acme: { usd: 50, tokens: 100, wrapUp: { usd: 1 } } } },
      '`budgets.acme` is tokens 100, usd $50.00; usd $1.00 kept for a last answer (revision 1) here',
    ],
    [
      'one budget more',
      { budgets: { acme: { usd: 50, tokens: 100 }, labs: { usd: 1 } } },
      '`budgets.labs` is usd $1.00 (revision 1) here, and not given there',
    ],
    ['no budgets', { budgets: undefined }, '`budgets.acme` is not given here'],
    ['a duration', { waitMs: 1 }, '`waitMs` is "1" here, and "0" there'],
    ['rules', { rules: [] }, '`rules` is [] here, and not given there'],
    ['the mode', { mode: 'observe' as const }, '`mode` is "observe" here'],
    ['a price', { prices: { own: { inputUsdPerMillion: 1 } } as never }, '`prices.own` is'],
  ])('with another meaning of %s is an error that names it, and changes nothing', async (_, more, message) => {
    const first = await shared()
    const error = await errorOf(shared(more as Partial<SharedKernelOptions>))
    expect(error).toMatchObject({ code: 'ERR_SHARED_KERNEL' })
    expect(error.message).toContain(message)
    expect(error.message.match(/ here, and /g)).toHaveLength(1)
    expect(await shared()).toBe(first)
    await take(first, 'acme', { tokens: 100 })
  })

  test('is closed for everybody by whoever closes it, with its store; the next call opens a new one', async () => {
    const first = await shared()
    const same = await shared()
    const hold = await take(first, 'acme', { tokens: 60 })
    await hold.settle({ tokens: 60 })
    await same.close()
    expect(closed).toHaveLength(1)
    expect(await errorOf(take(first, 'acme', { tokens: 1 }))).toMatchObject({ code: 'ERR_CLOSED' })
    // Closing it again does nothing, and does not close the next one.
    const next = await shared({ budgets: { acme: { tokens: 5 } } })
    await first.close()
    await first[Symbol.asyncDispose]()
    expect(next).not.toBe(first)
    await take(next, 'acme', { tokens: 5 })
    expect(closed).toHaveLength(1)
  })

  test('that is being closed is waited for', async () => {
    const first = await shared()
    const closing = first.close()
    const [next, other] = await Promise.all([shared(), shared()])
    await closing
    expect(closed).toHaveLength(1)
    expect(next).not.toBe(first)
    expect(other).toBe(next)
  })

  test('that could not be opened leaves nothing behind: its store is closed, and the next call tries again', async () => {
    expect(await errorOf(shared({ leaseTtlMs: 1 }))).toBeInstanceOf(RangeError)
    expect(closed).toHaveLength(1)
    expect(await errorOf(shared({ store: () => Promise.reject(new Error('no such server')) }))).toMatchObject({ message: 'no such server' })
    await take(await shared(), 'acme', { tokens: 1 })
  })

  test('of another version of the package is an error that names both', async () => {
    await shared()
    const registry = (globalThis as unknown as Record<symbol, Map<string, { version: string }>>)[Symbol.for('holdfast.kernels.1')]!
    registry.get('acme')!.version = '0.0.9'
    expect((await errorOf(shared())).message).toContain('is open by holdfast 0.0.9, and this is holdfast ')
  })

  test.each([
    ['no key', '', { store: makeStore }, '`key`'],
    ['a store instead of a function', 'acme', { store: memoryStore() as never }, '`store`'],
    ['a budget that cannot be read', 'acme', { store: makeStore, budgets: { acme: { usd: -1 } } }, 'budgets[acme].usd'],
  ])('with %s is refused before anything is opened', async (_, key, options, message) => {
    expect((await errorOf(sharedKernel(key, options))).message).toContain(message)
    expect(stores).toEqual([])
  })
})

describe('a module that a dev server evaluates again and again', () => {
  const run = (how: 'shared' | 'plain') =>
    JSON.parse(
      execFileSync(process.execPath, [join(import.meta.dirname, 'hot-reload.ts'), temporaryDirectory(), how], { encoding: 'utf8' }),
    ) as unknown

  test('gets the open kernel, also by another copy of the package, and is told when its budgets have changed', () => {
    expect(run('shared')).toEqual({ isOne: true, isAnotherCopy: true, chains: 1, changed: 'ERR_SHARED_KERNEL' })
  })

  test('NEGATIVE CONTROL: with `openKernel` each evaluation opens a kernel more, with a chain of its own', () => {
    expect(run('plain')).toEqual({ isOne: false, isAnotherCopy: true, chains: 4, changed: 'ERR_BUDGET_DECLARATION' })
  })
})
