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

  test('a memory store claims neither to be shared nor to be durable', () => {
    expect(memoryStore().capabilities).toEqual({ shared: 'process', durable: 'none' })
  })
})
