// The record of a hold: one take is one record, whoever sends it and however late it arrives. Proves that two takes
// never share a record, that a take which was given back stays given back even if its write was only on its way,
// and that what an observing process leaves in the store beside its holds goes with it and comes back with it.

import { execFileSync } from 'node:child_process'
import { describe, expect, test, vi } from 'vitest'
import { keys, line, open, take } from './bench.ts'
import { asking, declare, ledgerOf } from './ledger-bench.ts'
import { HoldfastError } from '../../src/lib/errors.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Batch, Store } from '../../src/stores/store.ts'
import { faultyStore, type Fault } from '../../src/testing/faulty-store.ts'
import { settableClock } from '../../src/testing/store-bench.ts'
import { temporaryDirectory } from '../stores/journal.ts'

const BUDGETS = { acme: { tokens: 10 } }
const TAKEN_BEFORE = { code: 'ERR_STORE', message: expect.stringContaining('written by somebody else') }

describe('a second take under the id of another one', () => {
  test.each([['of a copy of its process', true] as const, ['of the same process', false] as const])(
    '%s is an error each time, and holds nothing',
    async (_, copied) => {
      const store = memoryStore()
      await declare(store, BUDGETS)
      const first = ledgerOf(store)
      const grant = await first.take(asking('one', 'acme', { tokens: 6 }))
      const second = copied ? ledgerOf(store) : first
      for (const tokens of [6, 1]) await expect(second.take(asking('one', 'acme', { tokens }))).rejects.toMatchObject(TAKEN_BEFORE)
      expect(await line(store, 'acme')).toMatchObject({ out: 6, free: 4 })
      await first.end(grant, { tokens: 2 }, 'settle')
      expect(await line(store, 'acme')).toMatchObject({ out: 0, spent: 2, free: 8 })
    },
  )

  test('is one too when the other one lies in suspense by now', async () => {
    const clock = settableClock()
    const store = memoryStore({ clock })
    await declare(store, BUDGETS)
    await ledgerOf(store).take(asking('one', 'acme', { tokens: 6 }))
    clock.set(clock.now() + 60_000)
    const { kernel } = await open({ store })
    expect(await line(store, 'acme')).toMatchObject({ suspense: 6 })
    await expect(ledgerOf(store).take(asking('one', 'acme', { tokens: 4 }))).rejects.toMatchObject(TAKEN_BEFORE)
    expect(await line(store, 'acme')).toMatchObject({ suspense: 6, out: 0, free: 4 })
    await kernel.close()
  })

  test('is none when it is the same take, sent again since its reply was lost: that is granted once', async () => {
    const real = memoryStore()
    await declare(real, BUDGETS)
    const plan: Fault[] = []
    const store = faultyStore(real, plan)
    const ledger = ledgerOf(store)
    await ledger.end(await ledger.take(asking('warm', 'acme', { tokens: 1 })), { tokens: 0 }, 'settle')
    const before = store.happened.length
    plan[before] = 'lose-reply'
    const grant = await ledger.take(asking('one', 'acme', { tokens: 6 }))
    expect(store.happened.slice(before)).toEqual(['lose-reply', 'none'])
    expect(await line(real, 'acme')).toMatchObject({ out: 6, free: 4 })
    await ledger.end(grant, { tokens: 2 }, 'settle')
    expect(await line(real, 'acme')).toMatchObject({ out: 0, spent: 2, free: 8 })
  })
})

/**
 * A store on a disk that is full one byte too early. The group that was cut short is invisible, and takes effect
 * with the next write that fits, whoever writes it: that one completes its line.
 */
function cuttingShort(real: Store, completed: () => Promise<unknown> = async () => undefined) {
  let full = false
  let cut: readonly Batch[] | undefined
  const apply: Store['apply'] = async (batches) => {
    if (full && cut !== undefined) throw new HoldfastError('ERR_STORE_FULL', 'no room')
    if (full) {
      cut = batches
      return { outcome: 'unknown', cause: new Error('cut short') }
    }
    if (cut === undefined) return real.apply(batches)
    await real.apply(cut)
    cut = undefined
    await completed()
    return { outcome: 'contended' }
  }
  return { store: { ...real, apply }, fill: (is: boolean): void => void (full = is) }
}

describe('a take whose write is still on its way when it is given back', () => {
  test('is given back when that write arrives, and not a moment before it has settled that it will not', async () => {
    const real = memoryStore()
    const { store, fill } = cuttingShort(real)
    const { kernel } = await open({ store, budgets: BUDGETS })
    await (await take(kernel, 'acme', { tokens: 1 })).release('warm')
    fill(true)
    await expect(take(kernel, 'acme', { tokens: 4 })).rejects.toMatchObject({ code: 'ERR_STORE' })
    // The store shows nothing of it and takes nothing: nobody can say yet that it will never be there.
    expect(kernel.pendingReports).toBe(1)
    expect(await keys(real, 'hold/')).toEqual([])
    fill(false)
    await (await take(kernel, 'acme', { tokens: 1 })).settle({ tokens: 1 })
    await vi.waitFor(() => expect(kernel.pendingReports).toBe(0), { timeout: 20_000 })
    expect(await line(real, 'acme')).toMatchObject({ out: 0, spent: 1, free: 9 })
    expect(await keys(real, 'hold/')).toEqual([])
  })

  test('comes back from suspense when its process was taken for dead meanwhile', async () => {
    const clock = settableClock()
    const real = memoryStore({ clock })
    const { kernel: sweeper } = await open({ store: real, budgets: BUDGETS })
    let suspended = 0
    const { store, fill } = cuttingShort(real, async () => {
      clock.set(clock.now() + 60_000)
      suspended += await sweeper.sweep()
    })
    const { kernel } = await open({ store })
    await (await take(kernel, 'acme', { tokens: 1 })).release('warm')
    fill(true)
    await expect(take(kernel, 'acme', { tokens: 4 })).rejects.toMatchObject({ code: 'ERR_STORE' })
    fill(false)
    await vi.waitFor(() => expect(kernel.pendingReports).toBe(0), { timeout: 20_000 })
    expect(suspended).toBe(1)
    expect(await line(real, 'acme')).toMatchObject({ out: 0, suspense: 0, free: 10 })
    expect(await keys(real, 'suspended/')).toEqual([])
  })

  test('leaves nothing held in a journal whose line lacked nothing but its newline', () => {
    const url = (path: string): string => JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href)
    const script = `
      import fs from 'node:fs'
      import { syncBuiltinESMExports } from 'node:module'
      const real = fs.writeSync
      let disk = 'empty'
      fs.writeSync = (descriptor, data, ...rest) => {
        const journal = Buffer.isBuffer(data) && data.includes('"p":"') && data.includes('"w":"')
        if (!journal || disk === 'empty') return real(descriptor, data, ...rest)
        if (disk === 'full') throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' })
        disk = 'full'
        return real(descriptor, data.subarray(0, data.length - 1))
      }
      syncBuiltinESMExports()
      const { openKernel } = await import(${url('kernel/open-kernel.ts')})
      const { fileStore } = await import(${url('stores/file.ts')})
      const store = fileStore(process.argv[1], { durability: 'os' })
      const kernel = await openKernel({ store, budgets: { acme: { tokens: 10 }, other: { tokens: 10 } }, onEvent() {} })
      const take = (budget, tokens) => kernel.scope({ agent: 'a', task: 't', budget }).begin({ kind: 'tool', resource: 'x', worst: { tokens } })
      await (await take('acme', 1)).settle({ tokens: 1 })
      disk = 'one byte too small'
      const code = await take('acme', 4).then(() => 'taken', (error) => error.code)
      disk = 'empty'
      await (await take('other', 1)).settle({ tokens: 1 })
      while (kernel.pendingReports > 0) await new Promise((resolve) => setTimeout(resolve, 5))
      const [{ free, out, spent }] = await kernel.budgets('acme')
      const holds = (await store.list('hold/', { limit: 9 })).length
      await kernel.close()
      await store.close()
      process.stdout.write(JSON.stringify({ code, free, out, spent, holds }))`
    const args = ['--input-type=module', '-e', script, temporaryDirectory()]
    const report: unknown = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }))
    expect(report).toEqual({ code: 'ERR_STORE', free: 9, out: 0, spent: 1, holds: 0 })
  })
})

/** More than are removed in one batch. */
const MANY = 800
const OBSERVED = { acme: { tokens: 100_000 }, 'acme/*': { tokens: 10 } }

describe('the marks of an observing process', () => {
  test.each([3, MANY])('on %i budgets are gone after its close, and its records too', async (count) => {
    const { kernel, store } = await open({ mode: 'observe', budgets: OBSERVED })
    const paths = Array.from({ length: count }, (_, index) => `acme/r${index}`)
    await Promise.all(paths.map(async (path) => (await take(kernel, path, { tokens: 1 })).settle({ tokens: 1 })))
    expect(await keys(store, 'observed/')).toHaveLength(count + 1)
    await kernel.close()
    for (const prefix of ['observed/', 'process/', 'renewed/']) expect(await keys(store, prefix)).toEqual([])
  })

  test(`on ${MANY} budgets are gone when it died and was swept, and its records too`, async () => {
    const clock = settableClock()
    const { kernel, store } = await open({ store: memoryStore({ clock }), mode: 'observe', budgets: OBSERVED })
    const paths = Array.from({ length: MANY }, (_, index) => `acme/r${index}`)
    await Promise.all(paths.map(async (path) => (await take(kernel, path, { tokens: 1 })).settle({ tokens: 1 })))
    clock.set(clock.now() + 60_000)
    await open({ store })
    for (const prefix of ['observed/', 'process/', 'renewed/']) expect(await keys(store, prefix)).toEqual([])
  })

  test('come back with its next action after it was taken for dead, although it has registered again by itself before', async () => {
    const clock = settableClock()
    const { kernel, store } = await open({ store: memoryStore({ clock }), mode: 'observe', budgets: BUDGETS, leaseTtlMs: 100 })
    const { kernel: other } = await open({ store })
    await take(kernel, 'acme', { tokens: 1 })
    expect(await line(store, 'acme')).toMatchObject({ enforced: false })
    // Its renewal runs meanwhile, and may come between; then it speaks, and the others look again.
    await vi.waitFor(async () => {
      clock.set(clock.now() + 60_000)
      await other.sweep()
      expect(await keys(store, 'observed/')).toEqual([])
    })
    await vi.waitFor(async () => expect(await keys(store, 'process/')).toEqual([`process/${kernel.boot}`]))
    await take(kernel, 'acme', { tokens: 1 })
    expect(await line(store, 'acme')).toMatchObject({ enforced: false, suspense: 1, out: 1 })
  })
})
