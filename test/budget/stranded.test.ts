// What is stranded when processes are killed soon after they began, and when one is that has leased for long: a sum
// that is stated beforehand, and to the unit what `holdfast budget status` says of it. With a successor it is nothing.

import { fork } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { cliJson } from '../cli/cli-bench.ts'
import { temporaryDirectory } from '../stores/journal.ts'
import { keys, line, open, take } from './bench.ts'
import type { BudgetStatusJson } from '../../src/cli/budget-status.ts'
import { CHUNK_POLICY } from '../../src/budget/lending.ts'
import type { Kernel } from '../../src/kernel/open-kernel.ts'
import { HoldfastError } from '../../src/lib/errors.ts'
import { fileStore } from '../../src/stores/file.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import type { Hold } from '../../src/waist/hold.ts'

/** What a process is told that starts cold. */
export interface ColdStart {
  readonly directory: string
  /** Where its chain lies: who succeeds it has to look there. */
  readonly data: string
  readonly budget: string
  /** Calls that end, and calls that it leaves under way. */
  readonly calls: number
  readonly open: number
  /** Tokens that each call holds, and uses. */
  readonly worst: number
  readonly used: number
}

const STARTS = 100
const WORST = 10
const USED = 7
const LIMIT = 10_000_000
/** More than two processes at once would only wait for each other. */
const AT_ONCE = 4
/** Most of what a cold start costs is compiling the same sources again. */
const CACHE = join(import.meta.dirname, '../../node_modules/.cache/holdfast-cli')

/** The sixteen ways to start: one to eight calls that end, and one under way in every second of them. */
const start = (index: number): Pick<ColdStart, 'calls' | 'open'> => ({ calls: 1 + (index % 8), open: Math.floor(index / 8) % 2 })

/** What one of them strands, in tokens: its first chunk, or the calls that it has under way without one. */
function strandedBy({ calls, open }: Pick<ColdStart, 'calls' | 'open'>): { readonly leased: number; readonly held: number } {
  const isBusy = calls + open >= CHUNK_POLICY.busyCalls
  return isBusy ? { leased: CHUNK_POLICY.firstChunk * WORST, held: 0 } : { leased: 0, held: open * WORST }
}

const starts = Array.from({ length: STARTS }, (_, index) => start(index))
const sum = (of: (start: Pick<ColdStart, 'calls' | 'open'>) => number): number => starts.reduce((total, start) => total + of(start), 0)

/** Starts all of them, and kills each when it has done its calls. */
async function killAll(directory: string, data: string): Promise<void> {
  const waiting = [...starts]
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift())
      await killWhenDone({ directory, data, budget: 'acme/work', worst: WORST, used: USED, ...next })
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
}

async function killWhenDone(options: ColdStart): Promise<void> {
  const child = fork(join(import.meta.dirname, 'cold-start.ts'), [JSON.stringify(options)], {
    execArgv: [],
    env: { ...process.env, NODE_COMPILE_CACHE: CACHE },
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const ended = new Promise<unknown>((resolve) => child.once('exit', resolve))
  await new Promise<void>((resolve, reject) => {
    child.once('message', () => resolve())
    child.once('exit', (code) => reject(new Error(`A cold start ended with ${code}.`)))
  })
  child.kill('SIGKILL')
  await ended
}

/** A store with the budget, which has been opened before. */
async function declared() {
  const directory = temporaryDirectory()
  const store = fileStore(directory, { durability: 'os' })
  onTestFinished(() => store.close())
  const { kernel } = await open({ store, budgets: { acme: { tokens: LIMIT }, 'acme/*': { tokens: LIMIT } } })
  await kernel.close()
  return { directory, store }
}

/** Makes all processes look as if they were silent for long. */
const silence = async (store: Store): Promise<void> => void (await store.apply([{ delete: await keys(store, 'renewed/') }]))

describe(`${STARTS} processes that start, make a few calls and are killed`, { timeout: 300_000 }, () => {
  test('strand one first chunk each, as budget status says beforehand; and nothing once a successor has their chains', async () => {
    const { directory, store } = await declared()
    const data = temporaryDirectory()
    await killAll(directory, data)
    const [leased, held] = [sum((one) => strandedBy(one).leased), sum((one) => strandedBy(one).held)]
    // As docs/distributed.md has it.
    expect([leased / WORST, held / WORST]).toEqual([536, 12])
    const { chunks, budgets } = await cliJson<BudgetStatusJson>(['budget', 'status', '--data', directory])
    expect(chunks).toMatchObject({ leases: starts.filter((one) => strandedBy(one).leased > 0).length, expectedWaste: { tokens: leased } })
    expect(budgets.map(({ out }) => out)).toEqual([leased + held, leased + held])

    // Whoever has not their data directory can only suspend it: to the unit what was stated, and below the bound.
    const { kernel: stranger } = await open({ store, data: temporaryDirectory() })
    await silence(store)
    await stranger.sweep()
    const { suspense, out, spent } = await line(store, 'acme')
    expect({ suspense, out }).toEqual({ suspense: leased + held, out: 0 })
    expect(suspense).toBeLessThanOrEqual(STARTS * CHUNK_POLICY.firstChunk * WORST)
    expect(spent + suspense).toBeGreaterThan(sum(({ calls }) => calls * USED))

    const { kernel: successor } = await open({ store, data })
    await vi.waitFor(
      async () => {
        await successor.sweep()
        expect(readdirSync(join(data, 'chains')).filter((name) => name.endsWith('.lock'))).toHaveLength(1)
      },
      { timeout: 120_000, interval: 200 },
    )
    // What was idle is free, what nobody knows is charged.
    const [used, assumed] = [sum(({ calls }) => calls * USED), sum(({ open }) => open * WORST)]
    expect(await line(store, 'acme')).toMatchObject({ suspense: 0, out: 0, spent: used + assumed, assumed, free: LIMIT - used - assumed })
    const after = await cliJson<BudgetStatusJson>(['budget', 'status', '--data', directory])
    expect(after.chunks).toMatchObject({ leases: 0, expectedWaste: {} })
  })
})

/** A kernel that is abandoned in the middle of its work: nothing of it is ever heard again. */
async function abandoned(work: (begin: () => Promise<Hold>, kernel: Kernel) => Promise<number>) {
  const store = memoryStore()
  const wire = { isCut: false }
  const apply: Store['apply'] = async (batches) => {
    if (wire.isCut) throw new HoldfastError('ERR_STORE', 'The wire is cut.')
    return store.apply(batches)
  }
  const options = { leasing: 'auto', leaseTtlMs: 600_000, budgets: { acme: { tokens: LIMIT } } } as const
  const { kernel } = await open({ ...options, store: { ...store, apply } })
  onTestFinished(() => void (wire.isCut = false))
  const scope = kernel.scope({ agent: 'tester', task: 'test', budget: 'acme' })
  const bill = await work(() => scope.begin({ kind: 'tool', resource: 'spend', worst: { tokens: WORST } }), kernel)
  wire.isCut = true
  const [lease] = await keys(store, 'hold/')
  const { kernel: stranger } = await open({ store })
  await silence(store)
  await stranger.sweep()
  const { spent, suspense, out } = await line(store, 'acme')
  expect(out).toBe(0)
  return { waste: (spent + suspense - bill) / WORST, leased: lease !== undefined }
}

/** The chunk that a budget has after so many calls in a row, each of which uses all that it held. */
function chunkAfter(calls: number): number {
  let [chunk, taken] = [CHUNK_POLICY.firstChunk, CHUNK_POLICY.busyCalls - 1]
  while (taken + chunk < calls) {
    taken += chunk
    chunk = Math.min(CHUNK_POLICY.maxChunk, chunk * 2)
  }
  // The next one is taken before the last one is used up.
  return Math.min(CHUNK_POLICY.maxChunk, chunk * 2)
}

describe('a kernel that is abandoned', () => {
  test.for([1, 3, 4, 10, 30, 100, 400, 3_000, 10_000])('after %i calls in a row wastes at most the chunk that it has', async (calls) => {
    const { waste, leased } = await abandoned(async (begin) => {
      for (let call = 0; call < calls; call++) await (await begin()).settle({ tokens: WORST })
      return calls * WORST
    })
    expect(leased).toBe(calls >= CHUNK_POLICY.busyCalls)
    expect(waste).toBeGreaterThanOrEqual(0)
    expect(waste).toBeLessThanOrEqual(leased ? chunkAfter(calls) : 0)
  })

  test('at no moment of 10,000 calls has more than its chunk lie idle, and at the worst all of it', async () => {
    // Time stands still, so that every chunk was used up at once, and the next one is twice as large.
    vi.useFakeTimers({ toFake: ['performance'] })
    onTestFinished(() => void vi.useRealTimers())
    const { kernel, store } = await open({ leasing: 'auto', leaseTtlMs: 600_000, budgets: { acme: { tokens: LIMIT } } })
    let [most, beyond] = [0, 0]
    for (let calls = 1; calls <= 10_000; calls++) {
      await (await take(kernel, 'acme', { tokens: WORST })).settle({ tokens: WORST })
      // A chunk that was asked for beside the call arrives.
      await setImmediate()
      const [out, spent] = (await store.read(['out/tokens/acme', 'spent/tokens/acme'])).map((entry) => Number(entry?.value ?? 0))
      const idle = (out! + spent!) / WORST - calls
      most = Math.max(most, idle)
      if (idle > chunkAfter(calls)) beyond += 1
    }
    expect({ most, beyond }).toEqual({ most: CHUNK_POLICY.maxChunk, beyond: 0 })
  })

  test('with many calls under way that then use nothing wastes that chunk and what they had set aside, and not more', async () => {
    const [first, open] = [CHUNK_POLICY.busyCalls, 64]
    const { waste } = await abandoned(async (begin) => {
      for (let call = 0; call < first; call++) await (await begin()).settle({ tokens: WORST })
      const holds: Hold[] = []
      for (let call = 0; call < open; call++) holds.push(await begin())
      for (const hold of holds) await hold.settle({ tokens: 0 })
      return first * WORST
    })
    // More than a chunk: what they set aside and did not use came back to the process, and lay idle there as well.
    expect(waste).toBeGreaterThan(chunkAfter(first + open) / 2)
    expect(waste).toBeLessThanOrEqual(chunkAfter(first + open) + open)
  })

  test('after it gave back what lay idle wastes nothing', async () => {
    const { waste, leased } = await abandoned(async (begin, kernel) => {
      for (let call = 0; call < 30; call++) await (await begin()).settle({ tokens: WORST })
      await kernel.flush()
      return 30 * WORST
    })
    expect({ waste, leased }).toEqual({ waste: 0, leased: false })
  })
})
