// The promise where it counts: eight processes of the operating system on one budget, over real HTTP, at a provider
// that keeps the bill, while they are killed and stopped at random. Proves that the bill never exceeds what the
// ledger knows of, nor that the limit, at any instant that was looked at; and that the same harness finds the three
// usual ways to get this wrong.

import { writeFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { temporaryDirectory } from '../stores/journal.ts'
import { keys, open } from './bench.ts'
import { chaos, faultsOf, inspect, startSpender, suspendedLegs, type Spender, type SpenderOptions } from './process-bench.ts'
import { reclaimToFree } from './reclaim.ts'
import { verifyAudit } from '../../src/audit/verify.ts'
import { fileStore } from '../../src/stores/file.ts'
import { startProvider, type ProviderAnswer } from '../../src/testing/provider.ts'

const PROCESSES = 8
const LEASE_TTL_MS = 400
/** The TTL, and two seconds of grace: after this long a process is taken for dead. */
const SILENT_MS = 2_400
const OUTPUT_TOKENS = 100
/** A call is held at some 85,000 nano-USD, and costs 75,000. */
const USAGE = { inputTokens: 100, outputTokens: OUTPUT_TOKENS }
const COST = 75_000

/** A provider, a store with one budget, and what starts spenders on both. */
async function market(limit: number, answer: (index: number, text: string) => ProviderAnswer = () => ({})) {
  const provider = await startProvider({
    script: ({ index, body }) => ({ text: 'one', usage: USAGE, ...answer(index, JSON.stringify(body)) }),
  })
  onTestFinished(() => provider.close())
  const directory = temporaryDirectory()
  const store = fileStore(directory, { durability: 'os' })
  onTestFinished(() => store.close())
  const budgets = { acme: { usd: limit / 1e9 }, 'acme/*': { usd: limit / 1e9 } }
  const { kernel } = await open({ store, budgets, leaseTtlMs: LEASE_TTL_MS, onEvent: () => undefined })
  let named = 0
  const spender = (options: Partial<SpenderOptions> = {}): Spender => {
    const name = `spender-${named++}`
    const { baseURL } = provider
    const common = {
      directory,
      baseURL,
      name,
      outputTokens: OUTPUT_TOKENS,
      leaseTtlMs: LEASE_TTL_MS,
      waitMs: 500,
      how: 'holdfast',
    } as const
    return startSpender({ ...common, budget: `acme/${name}`, callers: 2, calls: 1_000_000, ...options })
  }
  const account = async () => (await kernel.budgets('acme')).find(({ budget }) => budget === 'acme')!
  return { provider, directory, store, kernel, spender, account }
}

type Market = Awaited<ReturnType<typeof market>>

const sum = (amounts: readonly number[]): number => amounts.reduce((total, one) => total + one, 0)

async function all<T>(spenders: readonly Spender[], what: (spender: Spender) => T): Promise<Awaited<T>[]> {
  return Promise.all(spenders.map(what))
}

/** Sweeps until nothing is held any more. */
async function sweepAll({ kernel, store }: Market): Promise<void> {
  await vi.waitFor(
    async () => {
      await kernel.sweep()
      expect(await keys(store, 'hold/')).toEqual([])
    },
    { timeout: 20_000, interval: 100 },
  )
}

describe('eight processes on one budget', () => {
  test(
    'that are left alone spend it to the last call that fits: bill and ledger agree to the nano-dollar',
    { timeout: 60_000 },
    async () => {
      const limit = 60 * COST + 20_000
      const bench = await market(limit)
      const spenders = Array.from({ length: PROCESSES }, () => bench.spender({ calls: 12 }))
      await all(spenders, (one) => one.go())
      const spent = await all(spenders, ({ ended }) => ended)
      const { free, ...account } = await bench.account()
      expect(account).toMatchObject({ balanced: true, spent: bench.provider.bill().nanoUsd, assumed: 0, out: 0, suspense: 0, over: 0 })
      expect(spent.reduce((sum, one) => sum + one!.answered, 0)).toBe(bench.provider.bill().billed)
      expect(spent.every((one) => one!.failed === 0)).toBe(true)
      // The last one that fits needs its worst case, which is a little more than what it costs.
      expect(free).toBeLessThan(COST + 20_000)
      expect(spent.reduce((sum, one) => sum + (one!.refused['ERR_BUDGET_EXCEEDED'] ?? 0), 0)).toBeGreaterThan(0)
      expect(await inspect(bench.store, bench.provider)).toEqual([])
    },
  )

  test(
    'that are killed and stopped at random never bill more than the ledger knows of, nor that more than the limit',
    { timeout: 60_000 },
    async () => {
      const faults = ['drop-before-headers', 'drop-mid-stream', 'error-but-billed'] as const
      const bench = await market(600 * COST, (index) => ({
        delayMs: (index * 7) % 40,
        ...(index % 20 < 3 ? { fault: faults[(index % 20) as 0 | 1 | 2] } : {}),
      }))
      const spenders = Array.from({ length: PROCESSES }, () => bench.spender())
      await all(spenders, (one) => one.go())
      const look = () => inspect(bench.store, bench.provider)
      const seed = Date.now()
      const happened = await chaos(spenders, () => bench.spender(), look, { ms: 8_000, stopMs: SILENT_MS + 800, seed })
      for (const one of spenders) one.stop()
      await all(spenders, ({ ended }) => ended)
      await sweepAll(bench)

      expect({ seed, faults: happened.faults }).toEqual({ seed, faults: [] })
      expect(await look()).toEqual([])
      expect([happened.kills > 0, happened.stops > 0, happened.looks > 5]).toEqual([true, true, true])
      const { spent, suspense, assumed, out, limit } = await bench.account()
      const billed = bench.provider.bill().nanoUsd
      expect(out).toBe(0)
      // What was settled is on the bill; what is on the bill was settled, charged or is in suspense.
      expect([spent - assumed <= billed, billed <= spent + suspense, spent + suspense <= limit]).toEqual([true, true, true])
      expect(assumed).toBeGreaterThan(0)
      const records = await suspendedLegs(bench.store)
      for (const line of await bench.kernel.budgets())
        expect([line.budget, records[`usd/${line.budget}`] ?? 0]).toEqual([line.budget, line.suspense])
      expect((await verifyAudit(bench.directory, bench.store)).filter(({ ok }) => !ok)).toEqual([])
    },
  )

  test(
    'that hand off, one level and two, while they are killed and stopped: the bill is covered at every look, and every allotment comes back',
    { timeout: 60_000 },
    async () => {
      const bench = await market(1_000 * COST, (index) => ({ delayMs: (index * 7) % 40 }))
      const spenders = Array.from({ length: PROCESSES }, () => bench.spender({ how: 'handoff' }))
      await all(spenders, (one) => one.go())
      let handedOver = 0
      const look = async () => {
        handedOver = Math.max(handedOver, (await keys(bench.store, 'allotted/')).length)
        return inspect(bench.store, bench.provider)
      }
      const seed = Date.now()
      const happened = await chaos(spenders, () => bench.spender({ how: 'handoff' }), look, { ms: 8_000, stopMs: SILENT_MS + 800, seed })
      for (const one of spenders) one.stop()
      await all(spenders, ({ ended }) => ended)
      await sweepAll(bench)
      // What is left of them is what killed processes had in suspense there.
      await vi.waitFor(
        async () => {
          await bench.kernel.sweep()
          const lines = await bench.kernel.budgets()
          for (const { budget, kids } of lines.filter(({ budget }) => budget.split('/').length === 2))
            expect([budget, kids]).toEqual([
              budget,
              sum(lines.filter((one) => one.budget.startsWith(`${budget}/`)).map((one) => one.suspense)),
            ])
          expect(lines.filter(({ free, budget }) => free > 0 && budget.split('/').length > 2)).toEqual([])
        },
        { timeout: 20_000, interval: 200 },
      )

      expect({ seed, faults: happened.faults }).toEqual({ seed, faults: [] })
      expect(await look()).toEqual([])
      expect([happened.kills > 0, happened.stops > 0, handedOver > 0]).toEqual([true, true, true])
      expect((await keys(bench.store, 'handoff/')).length).toBeGreaterThan(20)
      const { spent, suspense, kids, out, limit } = await bench.account()
      const billed = bench.provider.bill().nanoUsd
      expect([out, billed > 0, billed <= spent + suspense + kids, spent + suspense + kids <= limit]).toEqual([0, true, true, true])
    },
  )

  test('go on at once when one of them is killed: nothing waits for it, and what it held is charged at worst', async () => {
    const bench = await market(20 * 85_000, (_, text) => (text.includes('spender-0') ? { delayMs: 60_000 } : {}))
    const doomed = bench.spender({ callers: 5, calls: 1 })
    await doomed.go()
    await vi.waitFor(() => expect(bench.provider.bill().billed).toBe(5), { timeout: 20_000 })
    const other = bench.spender({ callers: 2, calls: 5, waitMs: 0 })
    await doomed.kill()
    await other.go()
    expect(await other.ended).toMatchObject({ answered: 10, failed: 0, refused: {} })
    expect(await inspect(bench.store, bench.provider)).toEqual([])
    // Suspended when it fell silent, and charged when it was known to be dead.
    await vi.waitFor(
      async () => {
        await bench.kernel.sweep()
        expect(await bench.account()).toMatchObject({ out: 0, suspense: 0 })
      },
      { timeout: 20_000, interval: 100 },
    )
    const { spent, suspense, out, assumed } = await bench.account()
    expect([spent - assumed, out, suspense, assumed > 5 * COST]).toEqual([10 * COST, 0, 0, true])
  })
})

/** One process holds all the money and is stopped with five answers on their way; what `expire` does then, and what comes of it. */
async function stoppedInMidCall(expire: (bench: Market) => Promise<void>) {
  const bench = await market(5 * 90_000, (_, text) => (text.includes('spender-0') ? { delayMs: 2_000 } : {}))
  const stopped = bench.spender({ callers: 5, calls: 1 })
  await stopped.go()
  await vi.waitFor(() => expect(bench.provider.bill().billed).toBe(5), { timeout: 20_000 })
  stopped.pause()
  await expire(bench)
  const other = bench.spender({ callers: 2, calls: 4, waitMs: 0 })
  await other.go()
  return { ...bench, stopped, others: await other.ended }
}

describe('a process that is stopped for longer than its lease', () => {
  test('is covered by suspense; when it wakes it settles late, is counted once, and the rest returns', { timeout: 60_000 }, async () => {
    const { stopped, others, store, provider, account } = await stoppedInMidCall(sweepAll)
    expect(others).toMatchObject({ answered: 0, refused: { ERR_BUDGET_EXCEEDED: 8 } })
    expect(await inspect(store, provider)).toEqual([])
    expect(await account()).toMatchObject({ out: 0, spent: 0 })
    expect(await suspendedLegs(store)).toMatchObject({ 'usd/acme': (await account()).suspense })
    stopped.resume()
    expect(await stopped.ended).toMatchObject({ answered: 5, failed: 0 })
    expect(await account()).toMatchObject({ spent: provider.bill().nanoUsd, suspense: 0, out: 0, assumed: 0, balanced: true })
    expect([...(await keys(store, 'suspended/')), ...(await keys(store, 'hold/'))]).toEqual([])
  })

  test(
    'NEGATIVE CONTROL: an expiry that returns its money to `free` lets the others spend it again, and this harness sees it',
    { timeout: 60_000 },
    async () => {
      const { others, store, provider } = await stoppedInMidCall(async ({ store }) => {
        await vi.waitFor(async () => expect(await reclaimToFree(store, SILENT_MS)).toBe(5), { timeout: 20_000, interval: 100 })
      })
      expect(others!.answered).toBeGreaterThan(2)
      expect(await inspect(store, provider)).toEqual(['the bill is beyond the limit', 'the bill is beyond what the ledger knows of'])
    },
  )
})

describe('NEGATIVE CONTROL: this harness finds', () => {
  test('a spender that refunds what failed: the bill is beyond what its ledger knows of', { timeout: 60_000 }, async () => {
    const bench = await market(100 * 90_000, (index) =>
      index % 2 === 0 ? { fault: index % 4 === 0 ? 'error-but-billed' : 'drop-mid-stream' } : {},
    )
    const honest = bench.spender({ calls: 5 })
    await honest.go()
    expect((await honest.ended)!.failed).toBeGreaterThan(2)
    expect(await inspect(bench.store, bench.provider)).toEqual([])
    const refunding = bench.spender({ calls: 5, how: 'refund-on-error' })
    await refunding.go()
    expect((await refunding.ended)!.failed).toBeGreaterThan(2)
    expect(await inspect(bench.store, bench.provider)).toEqual(['the bill is beyond what the ledger knows of'])
  })

  test(
    'spenders that check, call and then charge: the bill is beyond the limit, and beyond what they wrote down',
    { timeout: 60_000 },
    async () => {
      const limit = 40 * COST
      const bench = await market(limit, () => ({ delayMs: 20 }))
      const file = join(bench.directory, 'spent.json')
      writeFileSync(file, JSON.stringify({ spent: 0 }))
      const spenders = Array.from({ length: PROCESSES }, () =>
        bench.spender({ how: 'check-then-charge', budget: String(limit), calls: 100 }),
      )
      await all(spenders, (one) => one.go())
      await all(spenders, ({ ended }) => ended)
      const { spent } = JSON.parse(readFileSync(file, 'utf8')) as { spent: number }
      const faults = faultsOf(bench.provider.bill().nanoUsd, { limit, spent, suspense: 0, out: 0, kids: 0 })
      expect(faults).toEqual(expect.arrayContaining(['the bill is beyond the limit', 'the bill is beyond what the ledger knows of']))
    },
  )
})
