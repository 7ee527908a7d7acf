// The simulation, as far as the test suite has time for it: that it repeats, that it meets what it claims to, that it
// finds nothing in the kernel, and that it does find each part that is broken on purpose.

import { describe, expect, test } from 'vitest'
import { BUGS } from './bugs.ts'
import { SCENARIOS, crash, crashNamed, crashesOf, nameOf } from './crash-points.ts'
import { currentPlatform } from './intercept.ts'
import { planOf } from './plan.ts'
import { simulate, type Verdict } from './simulate.ts'
import { bugNamed, perform } from './tasks.ts'

/** Seeds of the suite; `npm run check:deep` runs more. */
const SEEDS = 150
/** Seeds that a bug may hide in here; each is found within 10,000 from any first seed. */
const MOST_SEEDS = 4_000
const LONG_MS = 900_000

describe('a run', () => {
  test('is a function of its seed: twice the same history, and another one for another seed', { timeout: LONG_MS }, async () => {
    const hashes = new Set<number>()
    for (let seed = 1; seed <= 25; seed++) {
      const [first, second] = [await simulate(seed), await simulate(seed, { trace: true })]
      expect({ ...second, lines: first.lines }).toEqual(first)
      hashes.add(first.hash)
    }
    expect(hashes.size).toBe(25)
  })

  test('is one whatever ran before it', { timeout: LONG_MS }, async () => {
    const alone = await simulate(7)
    for (const seed of [3, 4, 5]) await simulate(seed)
    expect((await simulate(7)).hash).toBe(alone.hash)
  })

  test('leaves time and chance to everybody else', async () => {
    const timer = new Promise((resolve) => setTimeout(resolve, 1))
    const before = [Date.now(), performance.now()]
    await Promise.all([simulate(1), timer])
    expect(currentPlatform()).toBeUndefined()
    expect(Date.now() - before[0]!).toBeLessThan(600_000)
    expect(performance.now()).toBeGreaterThan(before[1]!)
    expect(new Set([Math.random(), Math.random(), Math.random()]).size).toBe(3)
  })
})

describe('the kernel', () => {
  const verdicts: Verdict[] = []

  test(`keeps the equation, the bill and its word at the end in ${SEEDS} runs of bad luck`, { timeout: LONG_MS }, async () => {
    for (let seed = 1; seed <= SEEDS; seed++) verdicts.push(await simulate(seed))
    expect(verdicts.filter(({ fault }) => fault !== undefined).map(({ seed, fault }) => `${seed}: ${fault}`)).toEqual([])
  })

  test('keeps them when a process dies at any await', { timeout: LONG_MS }, async () => {
    const crashes = await crashesOf(SCENARIOS[0]!)
    const { runs, failures } = await perform({ kind: 'crashes', names: crashes.map(nameOf) })
    expect(failures).toEqual([])
    expect(runs).toBeGreaterThan(100)
  })

  test('is met by everything that the runs are for', () => {
    const met = new Set(verdicts.flatMap((verdict) => [...verdict.met.keys()]))
    expect([...met]).toEqual(expect.arrayContaining(MEANT))
  })
})

/** What has to take place somewhere in the runs of the suite. */
const MEANT = [
  ['lose-request', 'lose-reply', 'duplicate', 'late', 'slow', 'refuse', 'contend'].map((fault) => `the network: ${fault}`),
  ['answered', 'late', 'no-usage', 'failed-billed', 'failed', 'rejected', 'cut', 'lost', 'overrun'].map((fate) => `the provider: ${fate}`),
  ['a lease', 'a suspension', 'a charge', 'a recall', 'a handoff', 'a handoff that is closed', 'a limit that waits for a cut', 'a pause'],
  ['a request that came too late', 'a store that went back is found by a process', 'an event: overrun', 'an event: unbalanced'],
  ['succeeded', 'suspended', 'orphan-closed'].map((type) => `on record: ${type}`),
].flat()

describe('NEGATIVE CONTROL: a part that is broken on purpose is found', () => {
  test.each(BUGS.map(({ name, what }) => [name, what]))('%s (%s)', { timeout: LONG_MS }, async (name) => {
    const { failures } = await perform({ kind: 'search', bug: name, from: 1, count: MOST_SEEDS })
    expect(failures).toHaveLength(1)
  })

  test('there are at least a dozen of them, and each has a name of its own', () => {
    expect(BUGS.length).toBeGreaterThanOrEqual(12)
    expect(new Set(BUGS.map(({ name }) => name)).size).toBe(BUGS.length)
  })
})

describe('the command line', () => {
  test('knows crashes and bugs by name', async () => {
    const [first] = await crashesOf(SCENARIOS[0]!)
    expect(crashNamed(nameOf(first!))).toEqual(first)
    expect((await crash(first!)).fault).toBeUndefined()
    expect(() => crashNamed('on-disk/x/after')).toThrow('Expected `--crash`')
    expect(() => bugNamed('none')).toThrow('There is no bug')
  })

  test('a plan of a seed is always the same one', () => {
    expect(planOf(17)).toEqual(planOf(17))
    expect(planOf(17)).not.toEqual(planOf(18))
  })
})
