// A bound on a sum over all agents and all processes is a budget over a counter: `total_emails_sent <= 1000`, and a
// lower bound such as `tokens_in_stock >= 0` is one as well, since what may still be taken is what is free. Proves it
// against a file that has every effect, written by processes that are killed at random; and that the same harness
// finds processes that look before they act.

import { appendFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { sleep } from '../../src/lib/clock.ts'
import { fileStore } from '../../src/stores/file.ts'
import { temporaryDirectory } from '../stores/journal.ts'
import { balanced, keys, line, open } from './bench.ts'
import { effectsIn, leastIn } from './counter-file.ts'
import type { CounterWorkerOptions } from './counter-worker.ts'
import { chaos, startProcess, type Spender } from './process-bench.ts'

const LEASE_TTL_MS = 400
const WHY = { by: 'ada', reason: 'a delivery' }

/** A store with one counter, a file that has every effect, and what starts workers on both. */
async function workshop(counter: string, limit: number) {
  const directory = temporaryDirectory()
  const file = join(directory, 'effects')
  writeFileSync(file, '')
  const store = fileStore(directory, { durability: 'os' })
  onTestFinished(() => store.close())
  const budgets = { acme: { [counter]: limit }, 'acme/*': { [counter]: limit * 10 } }
  const { kernel } = await open({ store, budgets, leaseTtlMs: LEASE_TTL_MS, onEvent: () => undefined })
  let named = 0
  const worker = (how: CounterWorkerOptions['how'] = 'holdfast'): Spender => {
    const budget = `acme/worker-${named++ % 8}`
    const options = { directory, file, budget, counter, callers: 4, leaseTtlMs: LEASE_TTL_MS, how, limit }
    return startProcess('counter-worker.ts', options satisfies CounterWorkerOptions)
  }
  /** What is wrong now: the effects first, since what has happened was held before, and stays. */
  const look = async (): Promise<readonly string[]> => {
    const effects = effectsIn(file)
    await balanced(store)
    const { spent, suspense, out, limit: inForce } = await line(store, 'acme', counter)
    return [
      ...(effects > inForce ? ['more was done than the limit'] : []),
      ...(effects > spent + suspense + out ? ['more was done than the ledger knows of'] : []),
    ]
  }
  /** Nobody holds anything any more, and what the dead held is charged or in suspense. */
  const settled = (): Promise<void> =>
    vi.waitFor(
      async () => {
        await kernel.sweep()
        expect(await keys(store, 'hold/')).toEqual([])
      },
      { timeout: 20_000, interval: 100 },
    )
  return { kernel, store, file, worker, look, settled }
}

describe('a bound on the sum over all processes', () => {
  test('emails <= 1000: eight processes that are killed at random never send one more, and use it up', { timeout: 60_000 }, async () => {
    const { kernel, store, file, worker, look, settled } = await workshop('emails', 1_000)
    const workers = Array.from({ length: 8 }, () => worker())
    await Promise.all(workers.map((one) => one.go()))
    const seed = Date.now()
    const happened = await chaos(workers, () => worker(), look, { ms: 3_000, stopMs: 500, seed })
    await Promise.all(workers.map(({ ended }) => ended))
    await settled()
    // What came back from the dead is there for whoever comes next.
    const last = worker()
    await last.go()
    expect(await last.ended).toMatchObject({ refused: { ERR_BUDGET_EXCEEDED: 4 } })
    await kernel.flush()
    await settled()

    expect({ seed, faults: happened.faults }).toEqual({ seed, faults: [] })
    expect(await look()).toEqual([])
    expect([happened.kills > 1, happened.looks > 5]).toEqual([true, true])
    const { spent, suspense, free, assumed } = await line(store, 'acme', 'emails')
    const sent = effectsIn(file)
    expect([free, spent + suspense]).toEqual([0, 1_000])
    expect(assumed + suspense).toBeGreaterThan(0)
    // The difference is what the dead had under way: it may have been sent, so it counts.
    expect([sent <= 1_000, sent > 500, sent >= spent - assumed, sent <= spent + suspense]).toEqual([true, true, true, true])
  })

  test('NEGATIVE CONTROL: eight processes that look whether there is room and then send, send more', { timeout: 60_000 }, async () => {
    const { file, worker } = await workshop('emails', 200)
    const workers = Array.from({ length: 8 }, () => worker('check-then-act'))
    await Promise.all(workers.map((one) => one.go()))
    await Promise.all(workers.map(({ ended }) => ended))
    expect(effectsIn(file)).toBeGreaterThan(200)
  })
})

describe('a lower bound', () => {
  test(
    'tokens_in_stock >= 0: what was taken never exceeds what was there by then, while stock is delivered and takers are killed',
    { timeout: 60_000 },
    async () => {
      const { kernel, store, file, worker, look, settled } = await workshop('tokens_in_stock', 60)
      const workers = Array.from({ length: 4 }, () => worker())
      await Promise.all(workers.map((one) => one.go()))
      const faults: string[] = []
      for (let delivery = 1; delivery <= 6; delivery++) {
        await sleep(150)
        // First it is in the stock, and then it may be taken.
        appendFileSync(file, '+60\n')
        await kernel.setLimit('acme', { tokens_in_stock: 60 + delivery * 60 }, WHY)
        const slot = delivery % workers.length
        await workers[slot]!.kill()
        workers[slot] = worker()
        void workers[slot].go()
        faults.push(...(await look()))
      }
      await Promise.all(workers.map(({ ended }) => ended))
      await settled()
      expect(faults).toEqual([])
      expect(await look()).toEqual([])
      expect(leastIn(file, 60)).toBeGreaterThanOrEqual(0)
      expect(await line(store, 'acme', 'tokens_in_stock')).toMatchObject({ limit: 420 })
      expect(effectsIn(file)).toBeGreaterThan(60)
    },
  )

  test('NEGATIVE CONTROL: takers that look before they take leave less than nothing', { timeout: 60_000 }, async () => {
    const { file, worker } = await workshop('tokens_in_stock', 60)
    const workers = Array.from({ length: 4 }, () => worker('check-then-act'))
    await Promise.all(workers.map((one) => one.go()))
    await Promise.all(workers.map(({ ended }) => ended))
    expect(leastIn(file, 60)).toBeLessThan(0)
  })

  test('is counted by the file as it says: each line in its turn', () => {
    const file = join(temporaryDirectory(), 'effects')
    writeFileSync(file, '-1\n-1\n+2\n-1\n')
    expect([effectsIn(file), leastIn(file, 1), leastIn(file, 2)]).toEqual([3, -1, 0])
  })
})
