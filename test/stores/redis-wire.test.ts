// What crosses between the Redis store and its server: the order of keys, and that the script decides every batch as
// the memory store does, whatever is in it.

import * as fc from 'fast-check'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { newId } from '../../src/lib/ids.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { boundsOf, decodeKey, encodeGroup, encodeKey } from '../../src/stores/redis/wire.ts'
import { redisStore } from '../../src/stores/redis.ts'
import type { Batch } from '../../src/stores/store.ts'
import { startRedis, type RedisServer } from './redis-server.ts'
import { requireServer } from './servers.ts'

const RUNS = Number(process.env['HOLDFAST_PROPERTY_RUNS'] ?? 300)

// On both sides of the places where UTF-8 and UTF-16 disagree.
const EDGES = [
  '\u0001',
  '!',
  '/',
  'a',
  '\u007f',
  'é',
  '\ud7ff',
  '\ue000',
  '\ufb00',
  '\uffff',
  '\u{10000}',
  '\u{1f600}',
  '\u{10fffe}',
  '\u{10ffff}',
]
const keyText = fc.array(fc.constantFrom(...EDGES), { maxLength: 6 }).map((parts) => parts.join(''))

function inUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

test('names in Redis are in the order of the UTF-16 code units of their keys, and are read back', () => {
  fc.assert(
    fc.property(keyText, keyText, (one, other) => {
      expect(decodeKey(encodeKey(one))).toBe(one)
      expect(Math.sign(Buffer.compare(Buffer.from(encodeKey(one)), Buffer.from(encodeKey(other))))).toBe(inUnits(one, other))
    }),
    { numRuns: 10_000 },
  )
})

test('the bounds of a list hold exactly the keys with its prefix after its start', () => {
  fc.assert(
    fc.property(keyText, keyText, fc.option(keyText, { nil: undefined }), (key, prefix, after) => {
      const name = Buffer.from(encodeKey(key))
      const [from, upto] = boundsOf(prefix, after).map((bound) => ({
        open: bound.startsWith('('),
        order: Buffer.compare(name, Buffer.from(bound.slice(1))),
      }))
      const within = (from!.open ? from!.order > 0 : from!.order >= 0) && (upto!.open ? upto!.order < 0 : upto!.order <= 0)
      expect(within).toBe(key.startsWith(prefix) && (after === undefined || key > after))
    }),
    { numRuns: 10_000 },
  )
})

test('half of a surrogate pair in a prefix is a mistake of the caller', () => {
  expect(() => boundsOf('k/\ud83d')).toThrow(TypeError)
  expect(() => boundsOf('k/', 'k/\ude00')).toThrow(TypeError)
})

test('a message names up to 64 keys that are written, and none when they are more', () => {
  expect(
    encodeGroup([{ check: [{ key: 'c', version: 0 }], add: [{ key: 'a', by: 1 }], delete: ['d'] }, { set: [{ key: 'a', value: 1 }] }])
      .message,
  ).toBe('["a","d"]')
  const writing = (count: number): Batch => ({ delete: Array.from({ length: count }, (_, index) => `k/${index}`) })
  expect((JSON.parse(encodeGroup([writing(64)]).message) as string[]).length).toBe(64)
  expect(encodeGroup([writing(65)]).message).toBe('')
  expect(encodeGroup([{ delete: Array.from({ length: 5 }, (_, index) => `${index}`.repeat(1_000)) }]).message).toBe('')
})

const MAX = Number.MAX_SAFE_INTEGER
const aKey = fc.constantFrom('a', 'b', 'c', 'd/\u{1f600}', 'd/\ufb00')
const amount = fc.oneof(fc.integer({ min: -5, max: 5 }), fc.constantFrom(MAX, -MAX, MAX - 1, 1 - MAX, 2 ** 52, 1e15 + 3))
const aValue = fc.oneof(
  amount,
  fc.constantFrom<string | number | boolean | null>('7', '', 1.5, 1e21, 2 ** 53, true, null, '"[1,0,', '\u0000\u2028\n'),
  fc.record({ n: amount, list: fc.array(fc.string({ unit: 'grapheme' }), { maxLength: 3 }) }),
)
// Long past, or not in our time: the two stores have clocks of their own.
const aTime = fc.constantFrom(undefined, 0, 1, MAX)

interface Parts {
  readonly check: readonly { key: string; back: number }[]
  readonly add: readonly { key: string; by: number; min: number | undefined; max: number | undefined }[]
  readonly set: readonly {
    key: string
    value: Batch extends { set?: readonly (infer S)[] } ? (S extends { value: infer V } ? V : never) : never
    at: number | undefined
  }[]
  readonly delete: readonly string[]
}

const aBatch = fc.record<Parts>({
  check: fc.array(fc.record({ key: aKey, back: fc.integer({ min: 0, max: 3 }) }), { maxLength: 1 }),
  add: fc.array(
    fc.record({ key: aKey, by: amount, min: fc.option(amount, { nil: undefined }), max: fc.option(amount, { nil: undefined }) }),
    { maxLength: 3 },
  ),
  set: fc.array(fc.record({ key: aKey, value: aValue, at: aTime }), { maxLength: 2 }),
  delete: fc.array(aKey, { maxLength: 1 }),
})

/** A batch as callers make them: no key is written twice; checks of the version that a key has, or of another. */
function batchOf(parts: Parts, versionOf: (key: string) => number): Batch {
  const written = new Set<string>()
  const once = (key: string): boolean => !written.has(key) && written.add(key).has(key)
  return {
    check: parts.check.map(({ key, back }) => ({ key, version: Math.max(0, versionOf(key) - back) })),
    add: parts.add
      .filter(({ key }) => once(key))
      .map(({ key, by, min, max }) => ({ key, by, ...(min === undefined ? {} : { min }), ...(max === undefined ? {} : { max }) })),
    set: parts.set
      .filter(({ key }) => once(key))
      .map(({ key, value, at }) => ({ key, value, ...(at === undefined ? {} : { expiresAtMs: at }) })),
    delete: parts.delete.filter(once),
  }
}

describe.runIf(requireServer('redis-server', 'the Redis store (wire)'))('redis', () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis()
  })
  afterAll(() => server.stop())

  test('random groups have the same results, and leave the same entries, as in the memory store', async () => {
    const client = new Redis(server.port, '127.0.0.1')
    onTestFinished(() => client.disconnect())
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(aBatch, { minLength: 1, maxLength: 4 }), { maxLength: 8 }), async (groups) => {
        const [redis, memory] = [await redisStore(client, { prefix: newId() }), memoryStore()]
        for (const group of groups) {
          const entries = await memory.list('', { limit: 100 })
          const batches = group.map((parts) => batchOf(parts, (key) => entries.find((entry) => entry.key === key)?.version ?? 0))
          const [found, expected] = [await redis.apply(batches), await memory.apply(batches)]
          expect(found).toMatchObject({ outcome: 'applied' })
          expect('results' in found && found.results).toEqual('results' in expected && expected.results)
          expect(await redis.list('', { limit: 100 })).toEqual(await memory.list('', { limit: 100 }))
        }
        await redis.close()
      }),
      { numRuns: RUNS },
    )
  })

  test('a group as large as groups may be is applied at once', async () => {
    const client = new Redis(server.port, '127.0.0.1')
    onTestFinished(() => client.disconnect())
    const store = await redisStore(client, { prefix: newId(), timeoutMs: 30_000 })
    const sets = (from: number) => ({
      set: Array.from({ length: 1_000 }, (_, index) => ({ key: `k/${from}/${index}`, value: index, expiresAtMs: MAX })),
    })
    const wide = await store.apply(Array.from({ length: 20 }, (_, from) => sets(from)))
    expect(wide).toMatchObject({ outcome: 'applied', head: { segment: 0, bytes: 20, hash: store.id } })
    const long = await store.apply(
      Array.from({ length: 512 }, () => ({ add: Array.from({ length: 30 }, (_, index) => ({ key: `n/${index}`, by: 1 })) })),
    )
    expect('results' in long && long.results.at(-1)).toEqual({ outcome: 'ok', version: 532, values: Array.from({ length: 30 }, () => 512) })
    const gone = Array.from({ length: 20 }, (_, from) => ({ delete: sets(from).set.map(({ key }) => key) }))
    expect(await store.apply(gone)).toMatchObject({ outcome: 'applied' })
    expect((await store.list('', { limit: 100 })).length).toBe(30)
  })
})
