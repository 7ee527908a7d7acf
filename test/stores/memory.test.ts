// The memory store passes the store suite. It has one client and dies with its process, so the tests of two
// clients and of opening again do not apply; its capabilities say so.

import { describe, expect, test } from 'vitest'
import { memoryStore } from '../../src/stores/memory.ts'
import { settableClock } from '../../src/testing/store-bench.ts'
import { testStore } from '../../src/testing/store-suite.ts'

testStore(test, {
  name: 'memory',
  async create() {
    const clock = settableClock()
    return { store: memoryStore({ clock }), clock }
  },
})

describe('memory', () => {
  test('two memory stores are two states', async () => {
    const [one, other] = [memoryStore(), memoryStore()]
    await one.apply([{ set: [{ key: 'k', value: 1 }] }])
    expect(await other.read(['k'])).toEqual([null])
    expect(one.id).not.toBe(other.id)
  })

  test('time goes on in it after its clock was set back', async () => {
    const at = { now: 1_700_000_000_000, elapsed: 0 }
    const store = memoryStore({ clock: { now: () => at.now, elapsed: () => at.elapsed } })
    await store.apply([{ set: [{ key: 'k', value: 1, expiresAtMs: at.now + 10 }] }])
    at.now -= 3_600_000
    at.elapsed += 9
    expect(await store.read(['k'])).toMatchObject([{ value: 1 }])
    at.elapsed += 1
    expect(await store.read(['k'])).toEqual([null])
  })

  test('a memory store claims neither to be shared nor to be durable', () => {
    expect(memoryStore().capabilities).toEqual({ shared: 'process', durable: 'none' })
  })
})
