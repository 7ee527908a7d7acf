// How fast a budget is spent, in exact figures. The clock of the store is the test's own.

import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { paceOf, readForecast, type ForecastLine, type Sample } from '../../src/budget/forecast.ts'
import { SAMPLE_MS, createPace, thinned } from '../../src/budget/pace.ts'
import type { KernelEvent } from '../../src/kernel/events.ts'
import { HoldfastError } from '../../src/lib/errors.ts'
import { groupCommits } from '../../src/stores/group.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { MAX_ENTRIES, type Store } from '../../src/stores/store.ts'
import { keys, line, open, take } from './bench.ts'
import { WHY, errorOf } from './operator-bench.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const START = Date.parse('2026-11-20T12:00:00Z')

function world() {
  const time = { ms: START }
  return { time, store: memoryStore({ clock: { now: () => time.ms } }) }
}

/** What a kernel that opens at this moment leaves. */
const sample = (store: Store, used: readonly string[] = []): Promise<void> => createPace(groupCommits(store), () => used)()

async function forecast(store: Store, budget = 'acme', lookBackMs?: number): Promise<Omit<ForecastLine, 'budget' | 'dimension'>> {
  const { budget: _, dimension: __, ...rest } = (await readForecast(store, budget, lookBackMs)).find((one) => one.budget === budget)!
  return rest
}

describe('the pace', () => {
  const now = { dimension: 'tokens', nowMs: START, spent: 130, left: 60 }
  const ago = (ms: number, tokens: number): Sample => ({ atMs: START - ms, spent: { tokens } })

  test('is what was spent since the oldest sample of the look-back, for an hour', () => {
    expect(paceOf([ago(30 * MINUTE, 100), ago(10 * MINUTE, 125)], now)).toEqual({
      sinceMs: START - 30 * MINUTE,
      perHour: 60,
      exhaustedAtMs: START + HOUR,
    })
  })

  test('leaves out what is older than the look-back, as long as there is something in it', () => {
    const samples = [ago(2 * HOUR, 0), ago(HOUR + 1, 0), ago(HOUR, 100), ago(MINUTE, 130)]
    expect(paceOf(samples, now)).toEqual({ sinceMs: START - HOUR, perHour: 30, exhaustedAtMs: START + 2 * HOUR })
    expect(paceOf(samples, now, 3 * HOUR)).toEqual({
      sinceMs: START - 2 * HOUR,
      perHour: 65,
      exhaustedAtMs: START + Math.floor((60 * 2 * HOUR) / 130),
    })
  })

  test('goes by the newest one before it, where there is nothing in it', () => {
    expect(paceOf([ago(30 * HOUR, 0), ago(10 * HOUR, 30)], now)).toMatchObject({ sinceMs: START - 10 * HOUR, perHour: 10 })
  })

  test('is not made of less than a minute, nor of what has not been', () => {
    expect(paceOf([ago(MINUTE - 1, 0)], now)).toEqual({ sinceMs: START - MINUTE + 1 })
    expect(paceOf([ago(MINUTE, 0)], now)).toMatchObject({ perHour: 7_800 })
    expect(paceOf([ago(-HOUR, 0)], now)).toEqual({ sinceMs: START })
    expect(paceOf([], now)).toEqual({ sinceMs: START })
    expect(paceOf([{ atMs: START - HOUR, spent: { usd: 5 } }], now)).toEqual({ sinceMs: START })
  })

  test('of nothing, or of less than before, has no end', () => {
    expect(paceOf([ago(HOUR, 130)], now)).toEqual({ sinceMs: START - HOUR, perHour: 0 })
    expect(paceOf([ago(HOUR, 140)], now)).toEqual({ sinceMs: START - HOUR, perHour: 0 })
  })

  test('of a budget with nothing left ends now, and one beyond 100 years never', () => {
    expect(paceOf([ago(HOUR, 100)], { ...now, left: 0 })).toMatchObject({ exhaustedAtMs: START })
    expect(paceOf([ago(HOUR, 100)], { ...now, left: -5 })).toMatchObject({ exhaustedAtMs: START })
    expect(paceOf([ago(HOUR, 129)], { ...now, left: Number.MAX_SAFE_INTEGER })).toEqual({ sinceMs: START - HOUR, perHour: 1 })
  })

  test('is rounded up, and always made of safe integers that a date can be made of', () => {
    expect(paceOf([ago(7 * MINUTE, 129)], now)).toMatchObject({ perHour: 9, exhaustedAtMs: START + 60 * 7 * MINUTE })
    const amount = fc.maxSafeNat()
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.maxSafeNat(), amount)),
        amount,
        fc.maxSafeInteger(),
        fc.integer({ min: 1, max: START }),
        (raw, spent, left, lookBack) => {
          const samples = raw.map(([ms, tokens]) => ago(ms, tokens)).sort((a, b) => a.atMs - b.atMs)
          const {
            sinceMs,
            perHour = 0,
            exhaustedAtMs = START,
          } = paceOf(samples, { dimension: 'tokens', nowMs: START, spent, left }, lookBack)
          expect([sinceMs, perHour, exhaustedAtMs].every((one) => Number.isSafeInteger(one))).toBe(true)
          expect(perHour >= 0 && exhaustedAtMs >= START && sinceMs <= START && !Number.isNaN(new Date(exhaustedAtMs).getTime())).toBe(true)
        },
      ),
    )
  })
})

describe('a forecast', () => {
  test('begins with the sample of the kernel that opens, and sees what all processes spend', async () => {
    const { time, store } = world()
    const { kernel } = await open({ store, budgets: { acme: { tokens: 1_000, usd: 1 } } })
    const { kernel: other } = await open({ store })
    expect(await kernel.forecast('acme')).toEqual([
      { budget: 'acme', dimension: 'tokens', free: 1_000, sinceMs: START },
      { budget: 'acme', dimension: 'usd', free: 1_000_000_000, sinceMs: START },
    ])
    await (await take(kernel, 'acme', { tokens: 50 })).settle({ tokens: 40 })
    await (await take(other, 'acme', { tokens: 50 })).settle({ tokens: 20 })
    await take(other, 'acme', { tokens: 140 })
    time.ms += 15 * MINUTE
    // 60 in a quarter of an hour; 940 are left, 140 of them held.
    expect(await kernel.forecast()).toEqual([
      { budget: 'acme', dimension: 'tokens', free: 800, sinceMs: START, perHour: 240, exhaustedAtMs: START + 15 * MINUTE + 235 * MINUTE },
      { budget: 'acme', dimension: 'usd', free: 1_000_000_000, sinceMs: START, perHour: 0 },
    ])
  })

  test('goes on across restarts: it measures since what an earlier process has left', async () => {
    const { time, store } = world()
    const first = await open({ store, budgets: { acme: { tokens: 1_000 } } })
    await (await take(first.kernel, 'acme', { tokens: 30 })).settle({ tokens: 30 })
    await first.kernel.close()
    time.ms += 30 * MINUTE
    const next = await open({ store })
    expect(await next.kernel.forecast()).toMatchObject([{ sinceMs: START, perHour: 60, exhaustedAtMs: START + 30 * MINUTE + 970 * MINUTE }])
  })

  test('is that of the last hour once there are samples of it, whatever was before', async () => {
    const { time, store } = world()
    const { kernel } = await open({ store, budgets: { acme: { tokens: 10_000 } } })
    // A burst, and then two hours at 12 an hour, with a look every five minutes.
    await (await take(kernel, 'acme', { tokens: 5_000 })).settle({ tokens: 5_000 })
    for (let at = 0; at < 24; at++) {
      time.ms += SAMPLE_MS
      await (await take(kernel, 'acme', { tokens: 1 })).settle({ tokens: 1 })
      await sample(store)
    }
    expect(await forecast(store)).toMatchObject({ perHour: 12, sinceMs: time.ms - HOUR })
    expect(await forecast(store, 'acme', 24 * HOUR)).toMatchObject({ perHour: 2_512, sinceMs: START })
  })

  test('counts what leases have spent, of a kernel that is asked itself', async () => {
    const { time, store } = world()
    const { kernel } = await open({ store, leasing: 'auto', budgets: { acme: { tokens: 10_000 } } })
    time.ms += HOUR
    for (let call = 0; call < 40; call++) await (await take(kernel, 'acme', { tokens: 10 })).settle({ tokens: 5 })
    expect(await kernel.forecast()).toMatchObject([{ perHour: 200, exhaustedAtMs: time.ms + 49 * HOUR }])
  })

  test('takes off what a lowered limit waits for', async () => {
    const { time, store } = world()
    const { kernel } = await open({ store, budgets: { acme: { tokens: 100 } } })
    await (await take(kernel, 'acme', { tokens: 10 })).settle({ tokens: 10 })
    await take(kernel, 'acme', { tokens: 90 })
    await kernel.setLimit('acme', { tokens: 30 }, WHY)
    time.ms += HOUR
    expect(await line(store, 'acme')).toMatchObject({ limit: 100, free: 0, out: 90, pendingCut: 70 })
    expect(await forecast(store)).toMatchObject({ perHour: 10, exhaustedAtMs: time.ms + 2 * HOUR })
  })

  test.each([0, MINUTE - 1, 24 * HOUR + 1, 0.5, Number.NaN])('with a look-back of %d ms is refused', async (lookBackMs) => {
    const { kernel } = await open({ budgets: { acme: { tokens: 1 } } })
    expect((await errorOf(kernel.forecast('acme', { lookBackMs }))).message).toContain('`lookBackMs`')
  })

  test('of a store without samples has no pace, and since when is now', async () => {
    const { time, store } = world()
    await open({ store, budgets: { acme: { tokens: 100 } } })
    await store.apply([{ delete: ['pace/acme'] }])
    time.ms += HOUR
    expect(await forecast(store)).toEqual({ free: 100, sinceMs: time.ms })
  })
})

describe('a sample', () => {
  test('is taken once in five minutes, however many look, of the budgets in use and not of shapes or handoffs', async () => {
    const { time, store } = world()
    const { kernel } = await open({ store, budgets: { acme: { tokens: 100 }, 'acme/*': { tokens: 50 } } })
    await take(kernel, 'acme/a', { tokens: 1 })
    const giver = kernel.scope({ agent: 'boss', task: 'work', budget: 'acme' })
    await using handoff = await giver.handoff({ to: 'helper', budget: { tokens: 30 }, instruction: 'Work.' })
    for (let round = 0; round < 3; round++)
      await Promise.all(Array.from({ length: 5 }, () => sample(store, ['acme', 'acme/a', handoff.scope.budget])))
    const samplesOf = async (path: string) =>
      ((await store.read([`pace/${path}`]))[0]?.value as { samples?: unknown[] } | undefined)?.samples
    expect(await samplesOf('acme')).toEqual([{ atMs: START, spent: { tokens: 0 } }])
    time.ms += SAMPLE_MS - 1
    await sample(store)
    expect(await samplesOf('acme')).toHaveLength(1)
    time.ms += 1
    await Promise.all([sample(store), sample(store)])
    expect(await samplesOf('acme')).toHaveLength(2)
    expect(await keys(store, 'pace/')).toEqual(['pace/acme', 'pace/acme/a'])
  })

  test('asks the store for nothing while nothing is due', async () => {
    const { store } = world()
    await open({ store, budgets: { acme: { tokens: 100 } } })
    let asked = 0
    const counted = { ...store, read: (names: readonly string[]) => ((asked += 1), store.read(names)) }
    const pace = createPace(groupCommits(counted), () => ['acme'])
    await pace()
    const first = asked
    for (let look = 0; look < 5; look++) await pace()
    expect([first > 0, asked]).toEqual([true, first])
  })

  test('is kept for the hour, then one of each hour, for a day; a budget that is used no more leaves nothing', async () => {
    const { time, store } = world()
    await open({ store, budgets: { acme: { tokens: 100 } } })
    for (let at = 0; at < 30 * 12; at++) {
      time.ms += SAMPLE_MS
      await sample(store)
    }
    const { samples } = (await store.read(['pace/acme']))[0]!.value as { samples: readonly Sample[] }
    expect([samples.length, time.ms - samples[0]!.atMs <= 24 * HOUR]).toEqual([37, true])
    expect(thinned(samples, time.ms)).toEqual(samples)
    time.ms += 24 * HOUR
    expect(await keys(store, 'pace/')).toEqual([])
  })

  test('that fails is told, and the kernel opens all the same', async () => {
    const { store } = world()
    const events: KernelEvent[] = []
    const broken: Store = {
      ...store,
      read: (names) =>
        names.some((name) => name.startsWith('pace/')) ? Promise.reject(new HoldfastError('ERR_STORE', 'not now')) : store.read(names),
    }
    const { kernel } = await open({ store: broken, budgets: { acme: { tokens: 100 } }, onEvent: (event) => events.push(event) })
    await take(kernel, 'acme', { tokens: 1 })
    expect(events).toMatchObject([{ type: 'trouble', message: expect.stringContaining('not now') as string }])
  })

  test('changes no money', async () => {
    const { store } = world()
    const { kernel } = await open({ store, budgets: { acme: { tokens: 100 } } })
    await take(kernel, 'acme', { tokens: 7 })
    const before = (await store.list('', { limit: MAX_ENTRIES })).filter(({ key }) => !/^(?:pace|head)\//.test(key))
    await store.apply([{ delete: ['pace/acme'] }])
    await sample(store)
    expect((await store.list('', { limit: MAX_ENTRIES })).filter(({ key }) => !/^(?:pace|head)\//.test(key))).toEqual(before)
    expect(await keys(store, 'pace/')).toEqual(['pace/acme'])
  })
})
