// Chapter `safety` of the store suite, as one client sees it: checks, versions, bounded adds, groups.
// Nothing here can be waived.

import assert from 'node:assert/strict'
import { adding, applyTo, ok, setting, times, valuesOf, type StoreCase } from './store-bench.ts'

const batches: readonly StoreCase[] = [
  {
    name: 'safety: a write is read back by the next read',
    async run({ store, commit }) {
      const { version } = ok(await commit(setting('k/a', 'first')))
      assert.deepEqual(await store.read(['k/a', 'k/b']), [{ key: 'k/a', value: 'first', version }, null])
    },
  },
  {
    name: 'safety: a batch applies every part under one version',
    async run({ store, commit }) {
      await commit(setting('k/old', 1))
      const { version, values } = ok(
        await commit({ add: [{ key: 'k/n', by: 7 }], set: [{ key: 'k/s', value: 's' }], delete: ['k/old', 'k/never'] }),
      )
      assert.deepEqual(values, [7])
      const read = await store.read(['k/n', 'k/s', 'k/old', 'k/never'])
      assert.deepEqual(read, [{ key: 'k/n', value: 7, version }, { key: 'k/s', value: 's', version }, null, null])
    },
  },
  {
    name: 'safety: a set replaces what was there, and a delete ends it',
    async run({ store, commit }) {
      await commit(setting('k/a', { old: true }))
      await commit(setting('k/a', 2))
      assert.deepEqual(await valuesOf(store, 'k/a'), [2])
      ok(await commit({ delete: ['k/a'] }))
      assert.deepEqual(await store.read(['k/a']), [null])
    },
  },
  {
    name: 'safety: a read answers in the order of its keys, a key named twice twice',
    async run({ store, commit }) {
      await commit({
        set: [
          { key: 'k/a', value: 'a' },
          { key: 'k/b', value: 'b' },
        ],
      })
      assert.deepEqual(await valuesOf(store, 'k/b', 'k/none', 'k/a', 'k/b'), ['b', undefined, 'a', 'b'])
    },
  },
]

const checks: readonly StoreCase[] = [
  {
    name: 'safety: a check of the version that a key has lets the batch through',
    async run({ commit }) {
      const { version } = ok(await commit(setting('k/a', 1)))
      ok(await commit({ check: [{ key: 'k/a', version }], ...setting('k/a', 2) }))
    },
  },
  {
    name: 'safety: a check of another version is a conflict that names key and version, and nothing is applied',
    async run({ store, commit }) {
      const old = ok(await commit(setting('k/a', 1)))
      const { version } = ok(await commit(setting('k/a', 2)))
      const check = { key: 'k/a', version: old.version }
      const result = await commit({ check: [check], add: [{ key: 'k/n', by: 1 }], set: [{ key: 'k/a', value: 3 }], delete: ['k/z'] })
      assert.deepEqual(result, { outcome: 'conflict', which: 'k/a', version })
      assert.deepEqual(await valuesOf(store, 'k/a', 'k/n'), [2, undefined])
    },
  },
  {
    name: 'safety: a check of version 0 creates a key once',
    async run({ store, commit }) {
      const { version } = ok(await commit({ check: [{ key: 'k/a', version: 0 }], ...setting('k/a', 'first') }))
      const second = await commit({ check: [{ key: 'k/a', version: 0 }], ...setting('k/a', 'second') })
      assert.deepEqual(second, { outcome: 'conflict', which: 'k/a', version })
      assert.deepEqual(await valuesOf(store, 'k/a'), ['first'])
    },
  },
  {
    name: 'safety: a deleted key has version 0 and no other',
    async run({ commit }) {
      const { version } = ok(await commit(setting('k/a', 1)))
      await commit({ delete: ['k/a'] })
      const result = await commit({ check: [{ key: 'k/a', version }], ...setting('k/a', 2) })
      assert.deepEqual(result, { outcome: 'conflict', which: 'k/a', version: 0 })
      ok(await commit({ check: [{ key: 'k/a', version: 0 }], ...setting('k/a', 2) }))
    },
  },
  {
    name: 'safety: the first of several checks that fails is named',
    async run({ commit }) {
      const { version } = ok(await commit(setting('k/a', 1)))
      const check = [
        { key: 'k/a', version },
        { key: 'k/b', version: 9 },
        { key: 'k/c', version: 9 },
      ]
      assert.deepEqual(await commit({ check }), { outcome: 'conflict', which: 'k/b', version: 0 })
      ok(await commit({ check: check.slice(0, 1) }))
    },
  },
  {
    name: 'safety: checks see the state before their own batch',
    async run({ commit }) {
      ok(await commit({ check: [{ key: 'k/a', version: 0 }], add: [{ key: 'k/a', by: 1 }] }))
      const again = await commit({ check: [{ key: 'k/a', version: 0 }], delete: ['k/a'] })
      assert.equal(again.outcome, 'conflict')
    },
  },
]

const versions: readonly StoreCase[] = [
  {
    name: 'safety: versions rise with every batch that is applied',
    async run({ commit }) {
      let last = 0
      for (const index of times(20, (index) => index)) {
        const { version } = ok(await commit(index % 2 === 0 ? setting('k/a', index) : adding('k/b', 1)))
        assert.ok(version > last, `${version} after ${last}`)
        last = version
      }
    },
  },
  {
    name: 'safety: a version never comes back after a delete and a new creation',
    async run({ store, commit }) {
      const seen = new Set<number>()
      for (const round of times(10, (index) => index)) {
        await commit(setting('k/a', round))
        seen.add((await store.read(['k/a']))[0]!.version)
        await commit({ delete: ['k/a'] })
      }
      assert.equal(seen.size, 10)
    },
  },
  {
    name: 'safety: a version never comes back after the store was opened again',
    needs: 'reopen',
    async run({ commit, reopen }) {
      const { version } = ok(await commit(setting('k/a', 1)))
      const deleted = ok(await commit({ delete: ['k/a'] }))
      const [created] = await applyTo(await reopen(), setting('k/a', 1))
      assert.ok(ok(created!).version > Math.max(version, deleted.version))
    },
  },
]

function boundCases(side: 'min' | 'max', direction: 1 | -1): readonly StoreCase[] {
  const bound = { [side]: 10 * direction }
  return [
    {
      name: `safety: an add that ends within its ${side} is applied`,
      async run({ commit }) {
        assert.deepEqual(ok(await commit(adding('k/n', 9 * direction, bound))).values, [9 * direction])
      },
    },
    {
      name: `safety: an add that ends at its ${side} is applied`,
      async run({ commit }) {
        await commit(adding('k/n', 9 * direction))
        assert.deepEqual(ok(await commit(adding('k/n', direction, bound))).values, [10 * direction])
      },
    },
    {
      name: `safety: an add that would end beyond its ${side} is refused with the value that stands`,
      async run({ store, commit }) {
        await commit(adding('k/n', 9 * direction))
        const result = await commit(adding('k/n', 2 * direction, bound))
        assert.deepEqual(result, { outcome: 'refused', which: 'k/n', reason: side, value: 9 * direction })
        assert.deepEqual(await valuesOf(store, 'k/n'), [9 * direction])
      },
    },
    {
      name: `safety: an absent key counts as 0 for its ${side}`,
      async run({ store, commit }) {
        const result = await commit(adding('k/n', 11 * direction, bound))
        assert.deepEqual(result, { outcome: 'refused', which: 'k/n', reason: side, value: 0 })
        assert.deepEqual(await store.read(['k/n']), [null])
      },
    },
  ]
}

const adds: readonly StoreCase[] = [
  ...boundCases('max', 1),
  ...boundCases('min', -1),
  {
    name: 'safety: one refused add among several applies none of them, and no other part of the batch',
    async run({ store, commit }) {
      await commit({
        set: [
          { key: 'k/parent', value: 5 },
          { key: 'k/old', value: 1 },
        ],
      })
      const add = [
        { key: 'k/child', by: 3 },
        { key: 'k/parent', by: 3, max: 7 },
        { key: 'k/other', by: 3 },
      ]
      const result = await commit({ add, set: [{ key: 'k/hold', value: 'h' }], delete: ['k/old'] })
      assert.deepEqual(result, { outcome: 'refused', which: 'k/parent', reason: 'max', value: 5 })
      const read = await valuesOf(store, 'k/child', 'k/parent', 'k/other', 'k/hold', 'k/old')
      assert.deepEqual(read, [undefined, 5, undefined, undefined, 1])
    },
  },
  {
    name: 'safety: several adds are answered in their order',
    async run({ commit }) {
      const add = times(5, (index) => ({ key: `k/${9 - index}`, by: index - 2 }))
      assert.deepEqual(ok(await commit({ add })).values, [-2, -1, 0, 1, 2])
    },
  },
  ...['text', 1.5, null, true, [1], { n: 1 }].map((value): StoreCase => ({
    name: `safety: an add to ${JSON.stringify(value)} is refused as a matter of type`,
    async run({ store, commit }) {
      await commit(setting('k/a', value))
      assert.deepEqual(await commit(adding('k/a', 1)), { outcome: 'refused', which: 'k/a', reason: 'type', value })
      assert.deepEqual(await valuesOf(store, 'k/a'), [value])
    },
  })),
  ...[1, -1].map((sign): StoreCase => ({
    name: `safety: a counter reaches ${sign > 0 ? '' : '-'}(2^53 - 1), and what is beyond is refused`,
    async run({ store, commit }) {
      const last = sign * Number.MAX_SAFE_INTEGER
      await commit(adding('k/n', last - sign))
      assert.deepEqual(ok(await commit(adding('k/n', sign))).values, [last])
      assert.deepEqual(await commit(adding('k/n', sign)), { outcome: 'refused', which: 'k/n', reason: 'range', value: last })
      assert.deepEqual(await valuesOf(store, 'k/n'), [last])
    },
  })),
]

const groups: readonly StoreCase[] = [
  {
    name: 'safety: the batches of a group are judged in order, each on what those before it left',
    async run({ store }) {
      const create = { check: [{ key: 'k/a', version: 0 }] }
      const results = await applyTo(
        store,
        { ...create, ...setting('k/a', 'first') },
        { ...create, ...setting('k/a', 'second') },
        { delete: ['k/a'] },
        { ...create, ...setting('k/a', 'third') },
      )
      assert.deepEqual(
        results.map(({ outcome }) => outcome),
        ['ok', 'conflict', 'ok', 'ok'],
      )
      assert.deepEqual(await valuesOf(store, 'k/a'), ['third'])
    },
  },
  {
    name: 'safety: a batch may rest on what those before it in its group left',
    async run({ store }) {
      const results = await applyTo(
        store,
        adding('k/n', -1, { min: 0 }),
        adding('k/n', 5),
        adding('k/n', -3, { min: 0 }),
        adding('k/n', -3, { min: 0 }),
      )
      assert.deepEqual(
        results.map((result) => (result.outcome === 'ok' ? result.values : result.outcome)),
        ['refused', [5], [2], 'refused'],
      )
      assert.deepEqual(await valuesOf(store, 'k/n'), [2])
    },
  },
  {
    name: 'safety: a refused batch changes nothing for the batches around it',
    async run({ store }) {
      const results = await applyTo(store, ...times(7, () => adding('k/n', 2, { max: 9 })), adding('k/n', 1, { max: 9 }))
      assert.equal(results.filter(({ outcome }) => outcome === 'ok').length, 5)
      assert.deepEqual(results[4], { outcome: 'refused', which: 'k/n', reason: 'max', value: 8 })
      assert.deepEqual(await valuesOf(store, 'k/n'), [9])
    },
  },
  {
    name: 'safety: a version that a group gives to a key is the one that a later check finds',
    async run({ store }) {
      const results = await applyTo(store, adding('k/a', 1), { check: [{ key: 'k/none', version: 5 }] }, adding('k/b', 1), {})
      for (const [index, key] of [[0, 'k/a'] as const, [2, 'k/b'] as const]) {
        const { version } = ok(results[index]!)
        const [checked] = await applyTo(store, { check: [{ key, version }] })
        ok(checked!)
      }
    },
  },
  {
    name: 'safety: a set whose time is over makes its key absent for the batches after it, whatever was there',
    async run({ store, commit }) {
      const before = ok(await commit({ set: ['k/n', 'k/s', 'k/gone'].map((key) => ({ key, value: key === 'k/n' ? 7 : 'text' })) })).version
      const expiresAtMs = await store.now()
      const over = ['k/n', 'k/s', 'k/gone', 'k/new'].map((key) => ({ key, value: 40, expiresAtMs }))
      const results = await applyTo(
        store,
        { set: over },
        adding('k/n', 2, { max: 10 }),
        adding('k/s', 3, { min: 3 }),
        adding('k/new', -1, { min: 0 }),
        { check: [{ key: 'k/gone', version: before }], ...setting('k/wrong', 1) },
        { check: [{ key: 'k/gone', version: 0 }], ...setting('k/right', 1) },
        { set: [{ key: 'k/right', value: 2, expiresAtMs }] },
        { check: [{ key: 'k/right', version: 0 }], delete: ['k/new'], ...setting('k/last', 1) },
      )
      assert.deepEqual(
        results.map((result) => (result.outcome === 'ok' ? result.values : result)),
        [
          [],
          [2],
          [3],
          { outcome: 'refused', which: 'k/new', reason: 'min', value: 0 },
          { outcome: 'conflict', which: 'k/gone', version: 0 },
          [],
          [],
          [],
        ],
      )
      const [first, second] = [ok(results[1]!).version, ok(results[2]!).version]
      // What was added to an absent key lasts: it has no time of its own.
      assert.deepEqual(await store.read(['k/n', 'k/s', 'k/gone', 'k/new', 'k/right']), [
        { key: 'k/n', value: 2, version: first },
        { key: 'k/s', value: 3, version: second },
        null,
        null,
        null,
      ])
      assert.deepEqual(
        (await store.list('k/', { limit: 10 })).map(({ key }) => key),
        ['k/last', 'k/n', 'k/s'],
      )
    },
  },
]

/** The first half of the chapter. */
export const safetyCases: readonly StoreCase[] = [...batches, ...checks, ...versions, ...adds, ...groups]
