// The store suite itself: each of its promises is broken by a store made for that, and the case that is named
// must notice. And waivers: by name, with a reason, never about safety.

import { describe, expect, test } from 'vitest'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Batch, GroupResult, Store } from '../../src/stores/store.ts'
import { faultyStore } from '../../src/testing/faulty-store.ts'
import { settableClock } from '../../src/testing/store-bench.ts'
import { testStore, type StoreSuiteOptions } from '../../src/testing/store-suite.ts'

type Cases = ReadonlyMap<string, () => Promise<void>>

function casesOf(options: Partial<StoreSuiteOptions> & { readonly change?: (store: Store) => Store } = {}): Cases {
  const cases = new Map<string, () => Promise<void>>()
  const { change = (store) => store, ...given } = options
  const create = async () => {
    const clock = settableClock()
    return { store: change(memoryStore({ clock })), clock }
  }
  testStore((name, run) => cases.set(name, run), { name: 's', create, ...given })
  return cases
}

/** A store whose batches are changed on their way in. */
function rewriting(rewrite: (batch: Batch) => Batch): (store: Store) => Store {
  return (store) => ({ ...store, apply: async (batches) => store.apply(batches.map(rewrite)) })
}

const without = (part: keyof Batch) => rewriting((batch) => ({ ...batch, [part]: [] }))
const withoutBound = (bound: 'min' | 'max') =>
  rewriting((batch) => ({
    ...batch,
    add: (batch.add ?? []).map((add) => ({ ...add, [bound]: bound === 'min' ? -Number.MAX_SAFE_INTEGER : Number.MAX_SAFE_INTEGER })),
  }))

/** Applies each part of a batch by itself. */
function inParts(store: Store): Store {
  async function apply(batches: readonly Batch[]): Promise<GroupResult> {
    for (const { check = [], add = [], set = [] } of batches) {
      for (const part of add.slice(0, -1)) await store.apply([{ check, add: [part] }])
      if (add.length > 1) await store.apply([{ check, set }])
    }
    return store.apply(batches.map(({ add = [], ...batch }) => ({ ...batch, add: add.slice(-1) })))
  }
  return { ...store, apply }
}

/** Answers a group in the wrong order. */
function inDisorder(store: Store): Store {
  async function apply(batches: readonly Batch[]): Promise<GroupResult> {
    const answer = await store.apply(batches)
    return answer.outcome === 'applied' ? { ...answer, results: answer.results.toReversed() } : answer
  }
  return { ...store, apply }
}

const BROKEN: readonly (readonly [what: string, change: (store: Store) => Store, caughtBy: string])[] = [
  ['ignores checks', without('check'), 'safety: a check of version 0 creates a key once'],
  ['ignores deletes', without('delete'), 'safety: a set replaces what was there, and a delete ends it'],
  ['ignores max', withoutBound('max'), 'safety: an add that would end beyond its max is refused with the value that stands'],
  ['ignores min', withoutBound('min'), 'safety: an absent key counts as 0 for its min'],
  ['applies parts of a batch', inParts, 'safety: one refused add among several applies none of them, and no other part of the batch'],
  [
    'forgets that a time is over',
    rewriting((batch) => ({ ...batch, set: (batch.set ?? []).map(({ key, value }) => ({ key, value })) })),
    'safety: a set whose time is over makes its key absent for the batches after it, whatever was there',
  ],
  ['mixes up the results of a group', inDisorder, 'safety: a refused batch changes nothing for the batches around it'],
  [
    'forgets expiry',
    rewriting(({ set = [], ...batch }) => ({ ...batch, set: set.map(({ key, value }) => ({ key, value })) })),
    'expiry: from its time on a key is absent, for reads and for lists',
  ],
  ['applies twice', (store) => faultyStore(store, { seed: 1, odds: { duplicate: 1 } }), 'safety: 64 concurrent adds sum up exactly'],
  [
    'lists in the order of a language',
    (store) => ({
      ...store,
      list: async (prefix, { limit }) =>
        [...(await store.list(prefix, { limit: 10_000 }))].sort((one, other) => one.key.localeCompare(other.key)).slice(0, limit),
    }),
    'listing: keys come in the order of their UTF-16 code units, whatever the order of writing',
  ],
  [
    'ignores `after`',
    (store) => ({ ...store, list: async (prefix, { limit }) => store.list(prefix, { limit }) }),
    'listing: `after` need not be a key, nor lie among those of the prefix',
  ],
  [
    'takes null for absent',
    (store) => ({ ...store, read: async (keys) => (await store.read(keys)).map((entry) => (entry?.value === null ? null : entry)) }),
    'values: null, false, 0 and an empty text are values, not absence',
  ],
  [
    'assigns `__proto__`',
    rewriting(({ set = [], ...batch }) => ({
      ...batch,
      set: set.map((one) => ({
        ...one,
        value: typeof one.value === 'object' && !Array.isArray(one.value) ? Object.assign({}, one.value) : one.value,
      })),
    })),
    'values: a member named `__proto__` is kept as any other, and changes no prototype',
  ],
  ['closes nothing', (store) => ({ ...store, close: async () => {} }), 'closing: a closed store refuses every use with ERR_CLOSED'],
  [
    'says it is shared',
    (store) => ({ ...store, capabilities: { shared: 'network', durable: 'none' } }),
    'safety: a store that is shared between processes is tested with a second client',
  ],
  [
    'says it is durable',
    (store) => ({ ...store, capabilities: { shared: 'process', durable: 'disk' } }),
    'safety: a store that says it is durable is tested by opening it again',
  ],
]

describe('the suite notices a store that', () => {
  test.each(BROKEN)('%s', async (_, change, caughtBy) => {
    const broken = casesOf({ change }).get(`s ${caughtBy}`)
    await expect(broken!()).rejects.toMatchObject({ code: 'ERR_ASSERTION' })
    await expect(casesOf().get(`s ${caughtBy}`)!()).resolves.toBeUndefined()
  })

  test('is another one for its second client', async () => {
    const cases = casesOf({ second: async () => memoryStore(), reopen: async () => memoryStore() })
    for (const name of [
      'a client reads what another one was told is written',
      'what was acknowledged is there when the store is opened again, and nothing else',
    ]) {
      await expect(cases.get(`s safety: ${name}`)!()).rejects.toMatchObject({ code: 'ERR_ASSERTION' })
    }
  })
})

describe('the suite', () => {
  test('has at least 60 cases without a second client, and more with one', () => {
    const alone = casesOf()
    const all = casesOf({ second: async () => memoryStore(), reopen: async () => memoryStore() })
    expect(alone.size).toBeGreaterThanOrEqual(60)
    expect(all.size).toBeGreaterThan(alone.size)
  })

  test('names every case once, by chapter', () => {
    const names: string[] = []
    testStore((name) => names.push(name), { name: 's', create: async () => ({ store: memoryStore() }) })
    expect(new Set(names).size).toBe(names.length)
    for (const name of names) expect(name).toMatch(/^s (safety|expiry|listing|values|groups|watching|closing): \S/)
  })

  test('destroys what it created, also when a case fails', async () => {
    let destroyed = 0
    const destroy = async (): Promise<void> => void (destroyed += 1)
    const name = 's safety: a check of version 0 creates a key once'
    await casesOf({ destroy }).get(name)!()
    await expect(casesOf({ destroy, change: without('check') }).get(name)!()).rejects.toMatchObject({ code: 'ERR_ASSERTION' })
    expect(destroyed).toBe(2)
  })

  test('waits in real time for a store whose clock it cannot set', async () => {
    const cases = casesOf({ create: async () => ({ store: memoryStore() }) })
    await expect(cases.get('s expiry: from its time on a key is absent, for reads and for lists')!()).resolves.toBeUndefined()
  })
})

describe('a waiver', () => {
  const reason = 'the server has its own order'
  const waived = 'listing: keys come in the order of their UTF-16 code units, whatever the order of writing'

  test('keeps its case in the report, with its reason, and runs nothing', async () => {
    const cases = casesOf({ waive: [{ test: waived, reason }], create: async () => Promise.reject(new Error('ran')) })
    await cases.get(`s ${waived} (waived: ${reason})`)!()
    expect(cases.has(`s ${waived}`)).toBe(false)
  })

  test('of a safety case, of an unknown case or without a reason is refused at registration', () => {
    const safety = 'safety: a check of version 0 creates a key once'
    expect(() => casesOf({ waive: [{ test: safety, reason }] })).toThrow(/cannot be waived/)
    expect(() => casesOf({ waive: [{ test: 'listing: something else', reason }] })).toThrow(/no test/)
    expect(() => casesOf({ waive: [{ test: waived, reason: ' ' }] })).toThrow(/needs a reason/)
  })
})
