// A successor puts in order what a killed process has left, to the unit; and touches nothing of one that may live, or
// whose chain may lack a hold.

import { existsSync, readFileSync, readdirSync, rmSync, truncateSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { keys, line, open, take } from '../budget/bench.ts'
import { temporaryDirectory } from '../stores/journal.ts'
import { startWorker, type WorkerOptions } from './workers.ts'
import { lastWords, osBoot } from '../../src/audit/last-words.ts'
import { openChain } from '../../src/audit/chain.ts'
import { lockFile, takeLock } from '../../src/audit/chain-lock.ts'
import { settleEstate } from '../../src/budget/estate.ts'
import { verifyAudit } from '../../src/audit/verify.ts'
import { sleep } from '../../src/lib/clock.ts'
import type { Kernel } from '../../src/kernel/open-kernel.ts'
import { fileStore } from '../../src/stores/file.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { systemClock } from '../../src/lib/clock.ts'

/** The opening record of a chain that is believed. */
const GOOD = { locked: true, durable: false, osBoot: osBoot()!, host: hostname(), storeId: 'store' }
const BUDGETS = { acme: { tokens: 10_000 }, 'acme/*': { tokens: 8_000 } }

/** A worker with work behind it and calls under way, on a store that others can open. */
async function worked(options: Partial<WorkerOptions> = {}) {
  const directory = temporaryDirectory()
  const store = fileStore(directory, { durability: 'os' })
  onTestFinished(() => store.close())
  const { kernel } = await open({ store, budgets: BUDGETS })
  await kernel.close()
  const worker = await startWorker({ directory, budget: 'acme/work', calls: 100, open: 3, ...options })
  const chain = readdirSync(join(directory, 'chains'))
    .find((name) => name.endsWith('.lock'))!
    .slice(0, -'.lock'.length)
  return { directory, store, worker, chain, file: join(directory, 'chains', `${chain}.jsonl`) }
}

/** Waits until somebody has put in order what the worker has left: a while after it fell silent. */
async function succession(kernel: Kernel, { directory, chain }: { directory: string; chain: string }): Promise<void> {
  await vi.waitFor(
    async () => {
      await kernel.sweep()
      expect(existsSync(lockFile(directory, chain))).toBe(false)
    },
    { timeout: 15_000, interval: 100 },
  )
}

/** 90 settled calls of 7 tokens, and three of 10 that nobody knows anything of. */
const DONE = { spent: 660, assumed: 30, out: 0, suspense: 0, kids: 0 }

describe('the successor of a process that was killed', () => {
  test('gives back what was idle in its lease, and charges what was under way', async () => {
    const { store, worker, directory, chain } = await worked()
    expect(await line(store, 'acme')).toMatchObject({ suspense: 0 })
    expect((await line(store, 'acme')).out).toBeGreaterThan(30)
    await worker.kill()
    const { kernel } = await open({ store })
    await succession(kernel, { directory, chain })
    for (const budget of ['acme', 'acme/work']) expect(await line(store, budget)).toMatchObject(DONE)
    expect(kernel.auditLines).toEqual([])
    expect(await keys(store, 'charged/')).toHaveLength(3)
    expect([...(await keys(store, 'hold/')), ...(await keys(store, 'suspended/')), ...(await keys(store, 'process/'))]).toEqual([])
    expect(readdirSync(join(directory, 'chains')).filter((name) => name.endsWith('.lock'))).toHaveLength(1)
    expect((await verifyAudit(directory, store)).filter(({ ok }) => !ok)).toEqual([])
  })

  test('does so without leases too, after they were taken for dead, and by eight at once', async () => {
    const { store, worker, ...left } = await worked({ calls: 2, open: 3 })
    await worker.kill()
    const kernels = await Promise.all(Array.from({ length: 8 }, () => open({ store })))
    await Promise.all(kernels.map(({ kernel }) => succession(kernel, left)))
    expect(await line(store, 'acme')).toMatchObject({ spent: 14 + 30, assumed: 30, out: 0, suspense: 0 })
  })

  test('finds in suspense what others moved there before, and ends it all the same', async () => {
    const { store, worker, directory, chain } = await worked()
    await worker.kill()
    // Who has no part in the data directory cannot succeed anybody; after a while it suspends.
    const { kernel: stranger } = await open({ store, data: temporaryDirectory(), leaseTtlMs: 100 })
    const before = await line(store, 'acme')
    await store.apply([{ delete: await keys(store, 'renewed/') }])
    await stranger.sweep()
    expect(await line(store, 'acme')).toMatchObject({ suspense: before.out, out: 0 })
    const { kernel } = await open({ store, data: directory })
    await succession(kernel, { directory, chain })
    expect(await line(store, 'acme')).toMatchObject(DONE)
  })

  test('closes the handoffs that it left open', async () => {
    const { store, worker, ...left } = await worked({ handoff: 4_000 })
    expect(await line(store, 'acme/work')).toMatchObject({ kids: 4_000 })
    await worker.kill()
    await succession((await open({ store })).kernel, left)
    expect(await line(store, 'acme/work')).toMatchObject(DONE)
    expect(await keys(store, 'allotted/')).toEqual([])
  })

  test('lets a charge be corrected that it made', async () => {
    const { store, worker, ...left } = await worked({ open: 1 })
    await worker.kill()
    await succession((await open({ store })).kernel, left)
    expect(await line(store, 'acme')).toMatchObject({ spent: 640, assumed: 10 })
    const [charge] = await store.list('charged/', { limit: 1 })
    expect(charge!.value).toMatchObject({ path: 'acme/work', legs: { 'tokens/acme': { amount: 10 }, 'tokens/acme/work': { amount: 10 } } })
  })
})

describe('nobody succeeds', () => {
  test('a kernel that closed with ends unsent, as long as its process lives', async () => {
    const directory = temporaryDirectory()
    const store = fileStore(directory, { durability: 'os' })
    onTestFinished(() => store.close())
    const { kernel } = await open({ store, budgets: BUDGETS, onEvent: () => undefined })
    const hold = await take(kernel, 'acme', { tokens: 10 })
    const apply = store.apply.bind(store)
    store.apply = async () => ({ outcome: 'unknown', cause: new Error('away') })
    await hold.settle({ tokens: 7 })
    await kernel.close()
    expect(takeLock(lockFile(directory, kernel.boot))).toBeUndefined()
    store.apply = apply
    await vi.waitFor(async () => expect(await line(store, 'acme')).toMatchObject({ spent: 7, out: 0 }), { timeout: 10_000 })
  }, 30_000)

  test('a process whose record cannot be removed first: what it sent may still arrive', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS })
    await take(kernel, 'acme', { tokens: 10 })
    const commit = async () => ({ outcome: 'conflict', which: 'process/', version: 1 }) as const
    const committer = { store, commit, idle: async () => undefined }
    const estate = settleEstate({
      committer,
      boot: kernel.boot,
      holds: new Map(),
      observe: false,
      now: () => Date.now(),
      onTrouble: () => undefined,
    })
    await expect(estate).rejects.toMatchObject({ code: 'ERR_STORE' })
    expect(await line(store, 'acme')).toMatchObject({ out: 10 })
  })

  test('NEGATIVE CONTROL: a process that is only stopped, however long, and it goes on as before', async () => {
    const { store, worker, ...left } = await worked()
    worker.pause()
    const before = await line(store, 'acme')
    const { kernel } = await open({ store, leaseTtlMs: 100 })
    await vi.waitFor(
      async () => {
        await kernel.sweep()
        expect((await line(store, 'acme')).out).toBe(0)
      },
      { timeout: 20_000, interval: 200 },
    )
    expect(await line(store, 'acme')).toMatchObject({ suspense: before.out, assumed: 0 })
    worker.resume()
    await vi.waitFor(async () => expect(await line(store, 'acme')).toMatchObject({ suspense: 0 }), { timeout: 20_000, interval: 100 })
    await worker.kill()
    await succession(kernel, left)
    expect(await line(store, 'acme')).toMatchObject(DONE)
  }, 60_000)

  test('NEGATIVE CONTROL: a process that lives and has lost its lock, as by reading all of its data directory', async () => {
    const { directory, store, chain } = await worked({ reads: true })
    onTestFinished(() => rmSync(`${directory}-copy`, { recursive: true, force: true }))
    const lost = takeLock(lockFile(directory, chain))
    expect(lost).toBeDefined()
    lost!.release('keep')
    const { kernel } = await open({ store })
    for (let look = 0; look < 30; look++) {
      await kernel.sweep()
      await sleep(100)
    }
    expect(existsSync(lockFile(directory, chain))).toBe(true)
    // What was idle it has given back itself meanwhile, as the living do.
    expect(await line(store, 'acme')).toMatchObject({ out: 30, suspense: 0, assumed: 0 })
  }, 30_000)

  test('NEGATIVE CONTROL, of what nobody notices: one that has lost its lock is taken for dead when the clock of the store jumps ahead', async () => {
    const { directory, store, chain } = await worked({ reads: true })
    onTestFinished(() => rmSync(`${directory}-copy`, { recursive: true, force: true }))
    const { kernel } = await open({ store: { ...store, now: async () => (await store.now()) + 3_600_000 } })
    await succession(kernel, { directory, chain })
    expect(await line(store, 'acme')).toMatchObject({ out: 0, suspense: 0, assumed: 30 })
  }, 30_000)

  test('with a kernel on another store in the same data directory', async () => {
    const { directory, store, chain, worker } = await worked()
    await worker.kill()
    await sleep(2_500)
    const { kernel: stranger, events } = await open({ store: memoryStore(), data: directory })
    await stranger.sweep()
    expect([existsSync(lockFile(directory, chain)), events]).toEqual([true, []])
    await succession((await open({ store })).kernel, { directory, chain })
    expect(await line(store, 'acme')).toMatchObject(DONE)
  })

  test('NEGATIVE CONTROL: a process whose chain has lost its last ten records', async () => {
    const { store, worker, file, directory, chain } = await worked({ open: 12 })
    await worker.kill()
    await sleep(1_500)
    const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1)
    truncateSync(file, Buffer.byteLength(lines.slice(0, -10).join('\n')) + 1)
    const { kernel: first, events } = await open({ store })
    await succession(first, { directory, chain })
    const { out, suspense, spent } = await line(store, 'acme')
    expect(out + suspense + spent).toBeGreaterThanOrEqual(630 + 120)
    expect(spent).toBeLessThan(630 + 1)
    expect(events.filter(({ type }) => type === 'not-succeeded').map(({ message }) => /changed after|missing/.test(message))).toEqual([
      true,
    ])
    // Said once, and the money stays where it is.
    const { kernel } = await open({ store })
    await kernel.sweep()
    expect(existsSync(lockFile(directory, chain).replace('.lock', '.doubt'))).toBe(true)
    expect((await line(store, 'acme')).free).toBe(10_000 - out - suspense - spent)
  })

  for (const [what, opened, stored] of [
    ['that was written before the machine was started', { ...GOOD, osBoot: 'another' }, undefined],
    ['that was written on another machine, although synced', { ...GOOD, durable: true, osBoot: 'another', host: 'another' }, undefined],
    ['of a process that had no lock', { ...GOOD, locked: false, durable: true }, undefined],
    ['that is shorter than the store knows', { ...GOOD, durable: true }, { count: 7, hash: 'x' }],
    ['that says nothing of its machine', { locked: true, durable: false, host: hostname(), storeId: 'store' }, undefined],
  ] as const)
    test(`by a chain ${what}`, async () => {
      const directory = temporaryDirectory()
      const chain = openChain({ boot: 'dead', clock: systemClock, durable: false, directory })
      chain.append('open', JSON.parse(JSON.stringify(opened)) as Record<string, string>)
      chain.append('intent', { hold: 'one', budget: 'acme', amounts: { tokens: 1 } })
      chain.close(false)
      expect(await lastWords(directory, 'dead', 'store', stored)).toMatchObject({ doubt: expect.any(String) })
      // The same chain, written as it should be, is believed.
      const good = openChain({ boot: 'good', clock: systemClock, durable: false, directory })
      good.append('open', GOOD)
      good.append('intent', { hold: 'one', budget: 'acme', amounts: { tokens: 1 } })
      good.close(false)
      const holds = new Map([['one', { budget: 'acme', amounts: { tokens: 1 }, charged: false }]])
      expect(await lastWords(directory, 'good', 'store', undefined)).toEqual({ holds, observe: false })
      expect(await lastWords(directory, 'good', 'another', undefined)).toEqual({ elsewhere: true })
    })
})
