// What a dead process left, to the unit, in the cases that do not happen every day: calls that used more than they
// held, ends that never reached the store, charges by the hundred, and a trail that lacks an outcome.

import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { keys, line, open, take } from './bench.ts'
import { lastWords } from '../../src/audit/last-words.ts'
import type { StoredHead } from '../../src/audit/verify.ts'
import { settleEstate, type EstateHold } from '../../src/budget/estate.ts'
import type { Kernel } from '../../src/kernel/open-kernel.ts'
import { fileStore } from '../../src/stores/file.ts'
import { groupCommits } from '../../src/stores/group.ts'
import type { Store } from '../../src/stores/store.ts'
import { temporaryDirectory } from '../stores/journal.ts'

const BUDGETS = { acme: { tokens: 10_000 }, 'acme/a': { tokens: 8_000 }, beside: { tokens: 5_000 } }

/** A kernel with a lease, 40 calls of 10 behind it. It is never closed before the test ends: it counts as dead. */
async function leased() {
  const directory = temporaryDirectory()
  const store = fileStore(directory, { durability: 'os' })
  onTestFinished(() => store.close())
  const { kernel } = await open({ store, budgets: BUDGETS, leasing: 'auto', onEvent: () => undefined })
  for (let call = 0; call < 40; call++) await (await take(kernel, 'acme/a', { tokens: 10 })).settle({ tokens: 10 })
  const apply = store.apply.bind(store)
  return {
    kernel,
    store,
    directory,
    /** From here on nothing reaches the store any more. */
    away: () => (store.apply = async () => ({ outcome: 'unknown', cause: new Error('away') })),
    back: () => (store.apply = apply),
  }
}

/** Ends it as a successor does who knows that it is dead. */
async function succeed(kernel: Kernel, store: Store, directory: string, change = (holds: Map<string, EstateHold>) => holds) {
  const [head] = await store.read([`head/${kernel.boot}`])
  const words = await lastWords(directory, kernel.boot, store.id, head?.value as StoredHead | undefined)
  if (!('holds' in words)) throw new Error(JSON.stringify(words))
  const holds = change(new Map(words.holds))
  const estate = { committer: groupCommits(store), boot: kernel.boot, holds, observe: false, now: () => Date.now() }
  return settleEstate({ ...estate, onTrouble: (error) => expect(error).toBeUndefined() })
}

describe('the estate of a process', () => {
  test('whose call used more than it held has that once: it was in the books', async () => {
    const { kernel, store, directory } = await leased()
    await (await take(kernel, 'acme/a', { tokens: 10 })).settle({ tokens: 500 })
    for (const _ of [1, 2]) await succeed(kernel, store, directory)
    expect(await line(store, 'acme')).toMatchObject({ spent: 900, out: 0, suspense: 0, over: 0 })
  })

  test('whose call used more than it held, and more than its lease had, has that although it never reached the store', async () => {
    const { kernel, store, directory, away, back } = await leased()
    const hold = await take(kernel, 'acme/a', { tokens: 10 })
    away()
    await hold.settle({ tokens: 5_000 })
    back()
    store.apply = store.apply.bind(store)
    for (const _ of [1, 2]) await succeed(kernel, store, directory)
    expect((await line(store, 'acme')).spent).toBe(5_400)
    expect(await keys(store, 'hold/')).toEqual([])
  })

  test('counts what a call used beyond its lease in every budget that the call counted on', async () => {
    const { kernel, store, directory, away, back } = await leased()
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme/a', also: ['beside'] })
    for (let call = 0; call < 20; call++)
      await (await scope.begin({ kind: 'tool', resource: 'x', worst: { tokens: 10 } })).settle({ tokens: 10 })
    const hold = await scope.begin({ kind: 'tool', resource: 'x', worst: { tokens: 10 } })
    away()
    await hold.settle({ tokens: 500 })
    back()
    for (const _ of [1, 2]) await succeed(kernel, store, directory)
    expect((await line(store, 'beside')).spent).toBe(700)
    expect((await line(store, 'acme')).spent).toBe(1_100)
  })

  test('with three hundred calls under way has a charge for each that can be corrected', async () => {
    const { kernel, store, directory } = await leased()
    for (let call = 0; call < 300; call++) await take(kernel, 'acme/a', { tokens: 10 })
    expect(await succeed(kernel, store, directory)).toMatchObject({ charged: 300 })
    expect(await keys(store, 'charged/')).toHaveLength(300)
    expect(await line(store, 'acme')).toMatchObject({ spent: 3_400, assumed: 3_000, out: 0 })
  })

  test('that has corrected a charge, and could not say so, is corrected', async () => {
    const { kernel, store, directory, away, back } = await leased()
    const hold = await take(kernel, 'acme/a', { tokens: 10 })
    await hold.charge('nobody knows')
    away()
    await hold.settle({ tokens: 3 })
    back()
    await succeed(kernel, store, directory)
    expect(await line(store, 'acme')).toMatchObject({ spent: 403, assumed: 0, out: 0 })
  })

  test('whose trail lacks an outcome charges that call at worst, and no other one less for it', async () => {
    const { kernel, store, directory } = await leased()
    const [gap] = [await take(kernel, 'acme/a', { tokens: 10 }), await take(kernel, 'acme/a', { tokens: 10 })]
    await gap.settle({ tokens: 4 })
    await kernel.budgets()
    await succeed(kernel, store, directory, (holds) => {
      const { used: _, ...fact } = holds.get(gap.id)!
      return holds.set(gap.id, fact)
    })
    expect(await line(store, 'acme')).toMatchObject({ spent: 420, assumed: 20, out: 0 })
  })
})

describe('a lease', () => {
  test('is not taken of nothing: a budget that limits nothing of what a call uses has none, and nothing stays', async () => {
    const { kernel, store } = await open({ budgets: { acme: { usd: 10 } }, leasing: 'auto' })
    for (let call = 0; call < 40; call++) await (await take(kernel, 'acme', { calls: 1 })).settle({ calls: 1 })
    expect(kernel.auditLines.filter((record) => record.includes('"kind":"lease"'))).toEqual([])
    await kernel.close()
    expect(await keys(store, 'hold/')).toEqual([])
  })

  test('whose overrun meets lost replies has it in the books once', async () => {
    for (const lost of [1, 2, 3]) {
      const { kernel, store } = await open({ budgets: { acme: { tokens: 10_000 } }, leasing: 'auto', onEvent: () => undefined })
      for (let call = 0; call < 40; call++) await (await take(kernel, 'acme', { tokens: 10 })).settle({ tokens: 10 })
      const hold = await take(kernel, 'acme', { tokens: 10 })
      const apply = store.apply.bind(store)
      let sent = 0
      store.apply = async (batches) => {
        sent += 1
        if (sent <= lost) await apply(batches)
        return sent <= lost + 8 ? { outcome: 'unknown', cause: new Error('lost') } : apply(batches)
      }
      await hold.settle({ tokens: 5_000 })
      await vi.waitFor(() => expect(kernel.pendingReports).toBe(0), { timeout: 10_000 })
      await kernel.flush()
      expect(await line(store, 'acme')).toMatchObject({ spent: 5_400, out: 0 })
    }
  })

  test('grows no further than the share that it may have of what is free', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 10_000 } }, leasing: 'auto' })
    let most = 0
    for (let call = 0; call < 60; call++) {
      await (await take(kernel, 'acme', { tokens: 50 })).settle({ tokens: 1 })
      await new Promise((resolve) => setImmediate(resolve))
      most = Math.max(most, (await line(store, 'acme')).out)
    }
    expect(most).toBeGreaterThan(0)
    expect(most).toBeLessThanOrEqual(10_000 / 8 + 100)
  })
})
