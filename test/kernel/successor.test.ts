// A successor puts in order what a killed process has left, to the unit; and touches nothing of one that may live, or
// whose chain may lack a hold.

import { readFileSync, readdirSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { keys, line, open, take } from '../budget/bench.ts'
import { temporaryDirectory } from '../stores/journal.ts'
import { startWorker, type WorkerOptions } from './workers.ts'
import { lastWords, osBoot } from '../../src/audit/last-words.ts'
import { openChain } from '../../src/audit/chain.ts'
import { lockChain, lockFile } from '../../src/audit/chain-lock.ts'
import { settleEstate } from '../../src/budget/estate.ts'
import { verifyAudit } from '../../src/audit/verify.ts'
import { sleep } from '../../src/lib/clock.ts'
import { fileStore } from '../../src/stores/file.ts'
import { systemClock } from '../../src/lib/clock.ts'

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

/** 90 settled calls of 7 tokens, and three of 10 that nobody knows anything of. */
const DONE = { spent: 660, assumed: 30, out: 0, suspense: 0, kids: 0 }

describe('the successor of a process that was killed', () => {
  test('gives back at once what was idle in its lease, and charges what was under way', async () => {
    const { store, worker, directory } = await worked()
    expect(await line(store, 'acme')).toMatchObject({ suspense: 0 })
    expect((await line(store, 'acme')).out).toBeGreaterThan(30)
    await worker.kill()
    const { kernel } = await open({ store })
    for (const budget of ['acme', 'acme/work']) expect(await line(store, budget)).toMatchObject(DONE)
    expect(kernel.auditLines).toEqual([])
    expect(await keys(store, 'charged/')).toHaveLength(3)
    expect([...(await keys(store, 'hold/')), ...(await keys(store, 'suspended/')), ...(await keys(store, 'process/'))]).toEqual([])
    expect(readdirSync(join(directory, 'chains')).filter((name) => name.endsWith('.lock'))).toHaveLength(1)
    expect((await verifyAudit(directory, store)).filter(({ ok }) => !ok)).toEqual([])
  })

  test('does so without leases too, after they were taken for dead, and by eight at once', async () => {
    const { store, worker } = await worked({ calls: 2, open: 3 })
    await worker.kill()
    await Promise.all(Array.from({ length: 8 }, () => open({ store })))
    expect(await line(store, 'acme')).toMatchObject({ spent: 14 + 30, assumed: 30, out: 0, suspense: 0 })
  })

  test('finds in suspense what others moved there before, and ends it all the same', async () => {
    const { store, worker, directory } = await worked()
    await worker.kill()
    // Who has no part in the data directory cannot succeed anybody; after a while it suspends.
    const { kernel: stranger } = await open({ store, data: temporaryDirectory(), leaseTtlMs: 100 })
    const before = await line(store, 'acme')
    await store.apply([{ delete: await keys(store, 'renewed/') }])
    await stranger.sweep()
    expect(await line(store, 'acme')).toMatchObject({ suspense: before.out, out: 0 })
    await open({ store, data: directory })
    expect(await line(store, 'acme')).toMatchObject(DONE)
  })

  test('closes the handoffs that it left open', async () => {
    const { store, worker } = await worked({ handoff: 4_000 })
    expect(await line(store, 'acme/work')).toMatchObject({ kids: 4_000 })
    await worker.kill()
    await open({ store })
    expect(await line(store, 'acme/work')).toMatchObject(DONE)
    expect(await keys(store, 'allotted/')).toEqual([])
  })

  test('lets a charge be corrected that it made', async () => {
    const { store, worker } = await worked({ open: 1 })
    await worker.kill()
    await open({ store })
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
    expect(lockChain(lockFile(directory, kernel.boot))).toBeUndefined()
    store.apply = apply
    await vi.waitFor(async () => expect(await line(store, 'acme')).toMatchObject({ spent: 7, out: 0 }), { timeout: 10_000 })
  }, 30_000)

  test('a process whose record cannot be removed first: what it sent may still arrive', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS })
    await take(kernel, 'acme', { tokens: 10 })
    const commit = async () => ({ outcome: 'conflict', which: 'process/', version: 1 }) as const
    const committer = { store, commit, idle: async () => undefined }
    const estate = settleEstate({ committer, boot: kernel.boot, holds: new Map(), now: () => Date.now() })
    await expect(estate).rejects.toMatchObject({ code: 'ERR_STORE' })
    expect(await line(store, 'acme')).toMatchObject({ out: 10 })
  })

  test('NEGATIVE CONTROL: a process that is only stopped, however long, and it goes on as before', async () => {
    const { store, worker, directory } = await worked()
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
    await open({ store, data: directory })
    expect(await line(store, 'acme')).toMatchObject(DONE)
  }, 60_000)

  test('NEGATIVE CONTROL: a process whose chain has lost its last ten records', async () => {
    const { store, worker, file } = await worked({ open: 12 })
    await worker.kill()
    await sleep(1_500)
    const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1)
    truncateSync(file, Buffer.byteLength(lines.slice(0, -10).join('\n')) + 1)
    const { events } = await open({ store })
    const { out, suspense, spent } = await line(store, 'acme')
    expect(out + suspense + spent).toBeGreaterThanOrEqual(630 + 120)
    expect(spent).toBeLessThan(630 + 1)
    expect(events.map(({ type, message }) => [type, /changed after|missing/.test(message)])).toEqual([['not-succeeded', true]])
    // Said once, and the money stays where it is.
    const { kernel } = await open({ store })
    await kernel.sweep()
    expect((await line(store, 'acme')).free).toBe(10_000 - out - suspense - spent)
  })

  for (const [what, opened, stored] of [
    ['that was written before the machine was started', { locked: true, durable: false, osBoot: 'another' }, undefined],
    ['of a process that had no lock', { locked: false, durable: true, osBoot: osBoot() }, undefined],
    ['that is shorter than the store knows', { locked: true, durable: true, osBoot: osBoot() }, { count: 7, hash: 'x' }],
    ['that says nothing of its machine', { locked: true, durable: false }, undefined],
  ] as const)
    test(`by a chain ${what}`, async () => {
      const directory = temporaryDirectory()
      const chain = openChain({ boot: 'dead', clock: systemClock, durable: false, directory })
      chain.append('open', JSON.parse(JSON.stringify(opened)) as Record<string, string>)
      chain.append('intent', { hold: 'one', amounts: { tokens: 1 } })
      chain.close(false)
      expect(await lastWords(directory, 'dead', stored)).toMatchObject({ doubt: expect.any(String) })
      // The same chain, written as it should be, is believed.
      const good = openChain({ boot: 'good', clock: systemClock, durable: false, directory })
      good.append('open', { locked: true, durable: false, osBoot: osBoot()! })
      good.append('intent', { hold: 'one', amounts: { tokens: 1 } })
      good.close(false)
      expect(await lastWords(directory, 'good', undefined)).toEqual({
        holds: new Map([['one', { amounts: { tokens: 1 }, charged: false }]]),
      })
    })
})
