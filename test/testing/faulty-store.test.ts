// The faulty store does what its fault model says, to a real store, and the same way each time.

import { describe, expect, test } from 'vitest'
import { memoryStore } from '../../src/stores/memory.ts'
import { faultyStore, seededRandom, type Fault } from '../../src/testing/faulty-store.ts'
import { adding, times, valuesOf } from '../../src/testing/store-bench.ts'

async function run(seed: number): Promise<readonly Fault[]> {
  const store = faultyStore(memoryStore(), { seed, odds: { 'lose-reply': 0.3, contend: 0.3 } })
  for (const _ of times(200, () => 0)) await store.apply([{}])
  return store.happened
}

describe('a fault', () => {
  test.each<[Fault, string, number]>([
    ['none', 'applied', 1],
    ['lose-request', 'unknown', 0],
    ['lose-reply', 'unknown', 1],
    ['contend', 'contended', 0],
    ['delay', 'applied', 1],
    ['duplicate', 'applied', 2],
  ])('`%s` is answered %s, and the group was applied %i times', async (fault, outcome, applied) => {
    const real = memoryStore()
    const store = faultyStore(real, [fault])
    expect((await store.apply([adding('k', 1)])).outcome).toBe(outcome)
    expect(await valuesOf(real, 'k')).toEqual([applied === 0 ? undefined : applied])
    expect(store.happened).toEqual([fault])
  })

  test('`refuse` rejects, and nothing was applied', async () => {
    const real = memoryStore()
    await expect(faultyStore(real, ['refuse']).apply([adding('k', 1)])).rejects.toMatchObject({ code: 'ERR_STORE' })
    expect(await valuesOf(real, 'k')).toEqual([undefined])
  })

  test('does not outlive its script', async () => {
    const store = faultyStore(memoryStore(), ['contend'])
    expect((await store.apply([{}])).outcome).toBe('contended')
    expect((await store.apply([{}])).outcome).toBe('applied')
  })
})

describe('random faults', () => {
  test('are the same for the same seed, and others for another', async () => {
    expect(await run(1)).toEqual(await run(1))
    expect(await run(1)).not.toEqual(await run(2))
  })

  test('come about as often as they should, and no others', async () => {
    const happened = await run(3)
    expect(new Set(happened)).toEqual(new Set(['none', 'lose-reply', 'contend']))
    for (const fault of ['lose-reply', 'contend']) {
      const share = happened.filter((one) => one === fault).length / happened.length
      expect(Math.abs(share - 0.3)).toBeLessThan(0.1)
    }
  })

  test('are drawn from all of 0 to 1', () => {
    const random = seededRandom(7)
    const drawn = times(10_000, () => random())
    expect(Math.min(...drawn)).toBeLessThan(0.01)
    expect(Math.max(...drawn)).toBeGreaterThan(0.99)
    expect(drawn.every((value) => value >= 0 && value < 1)).toBe(true)
  })
})

test('everything but `apply` goes straight to the real store', async () => {
  const real = memoryStore()
  const store = faultyStore({ ...real, dataDirectory: '/data', holds: async () => ['no' as const] }, [])
  await real.apply([adding('k', 3)])
  expect(await valuesOf(store, 'k')).toEqual([3])
  expect((await store.list('', { limit: 1 })).length).toBe(1)
  expect([store.id, store.dataDirectory, await store.holds?.([{ segment: 1, bytes: 0, hash: '' }])]).toEqual([real.id, '/data', ['no']])
  expect(await store.now()).toBeGreaterThan(0)
  const woken = new Promise<void>((resolve) => store.watch('k', resolve))
  await store.apply([adding('k', 1)])
  await woken
  await store.close()
  await expect(real.read(['k'])).rejects.toMatchObject({ code: 'ERR_CLOSED' })
  expect(faultyStore(real, [])).not.toHaveProperty('holds')
})
