// Closing while the store is away. Proves that a kernel which closed with ends unsent leaves its holds to the others:
// it renews itself no more, so that they find them and move them to suspense.

import { describe, expect, test } from 'vitest'
import { keys, line, open, take } from '../budget/bench.ts'
import { sleep } from '../../src/lib/clock.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { settableClock } from '../../src/testing/store-bench.ts'

const BUDGETS = { acme: { tokens: 10 } }
const LEASE_TTL_MS = 100

/** A kernel whose store takes everything but the ends of holds; it renews itself every few milliseconds. */
async function endless() {
  const clock = settableClock()
  const real = memoryStore({ clock })
  const apply: Store['apply'] = async (batches) => {
    if (batches.some(({ add }) => add?.some(({ key }) => key.startsWith('spent/')))) throw new Error('the store is away')
    return real.apply(batches)
  }
  const { kernel } = await open({ store: { ...real, apply }, budgets: BUDGETS, leaseTtlMs: LEASE_TTL_MS })
  const { kernel: other } = await open({ store: real })
  return { kernel, other, real, clock }
}

describe('a kernel that closed with ends unsent', () => {
  test('is renewed no more, so that others move what it held to suspense', async () => {
    const { kernel, other, real, clock } = await endless()
    await take(kernel, 'acme', { tokens: 4 })
    await kernel.close()
    expect(JSON.parse(kernel.auditLines.at(-1)!)).toMatchObject({ kind: 'close', unsent: 1 })
    expect(await keys(real, 'process/')).toEqual([`process/${kernel.boot}`])
    clock.set(clock.now() + 60_000)
    // Long enough for several renewals, if there were any: they would say that it is alive.
    await sleep(3 * LEASE_TTL_MS)
    expect(await other.sweep()).toBe(1)
    expect(await line(real, 'acme')).toMatchObject({ out: 0, suspense: 4, free: 6 })
    expect([...(await keys(real, 'process/')), ...(await keys(real, 'renewed/'))]).toEqual([])
  })

  test('NEGATIVE CONTROL: before its close it is renewed, and nobody moves anything', async () => {
    const { kernel, other, real, clock } = await endless()
    await take(kernel, 'acme', { tokens: 4 })
    clock.set(clock.now() + 60_000)
    const renewed = async () => Number((await real.read([`renewed/${kernel.boot}`]))[0]?.value)
    while ((await renewed()) < clock.now()) await sleep(5)
    expect(await other.sweep()).toBe(0)
    expect(await line(real, 'acme')).toMatchObject({ out: 4, suspense: 0 })
  })
})
