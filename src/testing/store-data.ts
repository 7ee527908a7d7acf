// Chapters `expiry`, `listing` and `values` of the store suite.

import assert from 'node:assert/strict'
import type { Json } from '../lib/canonical-json.ts'
import { MAX_ENTRIES } from '../stores/store.ts'
import { adding, keysOf, ok, setting, times, valuesOf, type StoreBench, type StoreCase } from './store-bench.ts'

const HOUR_MS = 3_600_000
// Long enough for two commits on a slow machine: what they check is what comes after it.
const SOON_MS = 150

/** Sets a key that expires soon, and waits until it has. */
async function letExpire({ store, commit, advance }: StoreBench, key: string, value: Json = 1): Promise<number> {
  const { version } = ok(await commit({ set: [{ key, value, expiresAtMs: (await store.now()) + SOON_MS }] }))
  await advance(SOON_MS)
  return version
}

const expiry: readonly StoreCase[] = [
  {
    name: 'expiry: a key is there, and says when it expires, until then',
    async run({ store, commit }) {
      const expiresAtMs = (await store.now()) + HOUR_MS
      const { version } = ok(await commit({ set: [{ key: 'k/a', value: 'v', expiresAtMs }] }))
      const entry = { key: 'k/a', value: 'v', version, expiresAtMs }
      assert.deepEqual(await store.read(['k/a']), [entry])
      assert.deepEqual(await store.list('k/', { limit: 10 }), [entry])
    },
  },
  {
    name: 'expiry: from its time on a key is absent, for reads and for lists',
    async run(bench) {
      await letExpire(bench, 'k/a')
      await bench.commit(setting('k/b', 1))
      assert.deepEqual(await bench.store.read(['k/a']), [null])
      assert.deepEqual(await keysOf(bench.store, 'k/'), ['k/b'])
    },
  },
  {
    name: 'expiry: a key whose time is now is absent at once',
    async run({ store, commit }) {
      ok(await commit({ set: [{ key: 'k/a', value: 1, expiresAtMs: await store.now() }] }))
      assert.deepEqual(await store.read(['k/a']), [null])
    },
  },
  {
    name: 'expiry: an expired key has version 0, and no longer the one that it had',
    async run(bench) {
      const version = await letExpire(bench, 'k/a')
      const stale = await bench.commit({ check: [{ key: 'k/a', version }], ...setting('k/b', 1) })
      assert.deepEqual(stale, { outcome: 'conflict', which: 'k/a', version: 0 })
      const created = ok(await bench.commit({ check: [{ key: 'k/a', version: 0 }], ...setting('k/a', 2) }))
      assert.ok(created.version > version)
    },
  },
  {
    name: 'expiry: an add to an expired key starts from 0, and lasts',
    async run(bench) {
      await letExpire(bench, 'k/n', 40)
      const { values, version } = ok(await bench.commit(adding('k/n', 2, { max: 10 })))
      assert.deepEqual(values, [2])
      assert.deepEqual(await bench.store.read(['k/n']), [{ key: 'k/n', value: 2, version }])
    },
  },
  {
    name: 'expiry: an add keeps the time of its key',
    async run({ store, commit, advance }) {
      const expiresAtMs = (await store.now()) + HOUR_MS
      await commit({ set: [{ key: 'k/n', value: 1, expiresAtMs }] })
      const { version } = ok(await commit(adding('k/n', 1)))
      assert.deepEqual(await store.read(['k/n']), [{ key: 'k/n', value: 2, version, expiresAtMs }])
      const soon = (await store.now()) + SOON_MS
      await commit({ set: [{ key: 'k/n', value: 1, expiresAtMs: soon }] })
      await commit(adding('k/n', 1))
      await advance(SOON_MS)
      assert.deepEqual(await store.read(['k/n']), [null])
    },
  },
  {
    name: 'expiry: a set without a time makes a key last, and one with a time ends that',
    async run({ store, commit, advance }) {
      const soon = (await store.now()) + SOON_MS
      await commit({ set: ['k/kept', 'k/ended'].map((key) => ({ key, value: 1, ...(key === 'k/kept' ? { expiresAtMs: soon } : {}) })) })
      await commit({ set: [{ key: 'k/ended', value: 2, expiresAtMs: soon }] })
      await commit(setting('k/kept', 2))
      await advance(SOON_MS)
      assert.deepEqual(await valuesOf(store, 'k/kept', 'k/ended'), [2, undefined])
    },
  },
  {
    name: 'expiry: expired keys take no place in a page',
    async run(bench) {
      for (const key of ['k/1', 'k/3']) await letExpire(bench, key)
      await bench.commit({ set: ['k/2', 'k/4', 'k/5'].map((key) => ({ key, value: 1 })) })
      const page = await bench.store.list('k/', { limit: 2 })
      assert.deepEqual(
        page.map(({ key }) => key),
        ['k/2', 'k/4'],
      )
    },
  },
  {
    name: 'expiry: a delete of an expired key is no error, and the key can be created again',
    async run(bench) {
      await letExpire(bench, 'k/a')
      ok(await bench.commit({ delete: ['k/a'] }))
      ok(await bench.commit({ check: [{ key: 'k/a', version: 0 }], ...setting('k/a', 1) }))
    },
  },
  {
    name: 'expiry: what a commit found expired stays so when the clock steps back',
    async run(bench) {
      await letExpire(bench, 'k/a')
      const now = await bench.store.now()
      ok(await bench.commit({ check: [{ key: 'k/a', version: 0 }], ...setting('k/b', 1) }))
      bench.stepBack(HOUR_MS)
      assert.ok((await bench.store.now()) >= now)
      assert.deepEqual(await bench.store.read(['k/a']), [null])
      ok(await bench.commit({ check: [{ key: 'k/a', version: 0 }] }))
    },
  },
]

// In UTF-16 code units an emoji (d83d de00) comes before U+FB00, in code points and in UTF-8 after it.
const ORDERED = ['l/', 'l/!', 'l/10', 'l/9', 'l/A', 'l/Z', 'l/_', 'l/a', 'l/a/b', 'l/ab', 'l/é', 'l/日', 'l/\u{1f600}', 'l/\ufb00']

async function setAll({ commit }: StoreBench, keys: readonly string[]): Promise<void> {
  ok(await commit({ set: keys.toReversed().map((key) => ({ key, value: key })) }))
}

const listing: readonly StoreCase[] = [
  {
    name: 'listing: keys come in the order of their UTF-16 code units, whatever the order of writing',
    async run(bench) {
      await setAll(bench, ORDERED)
      assert.deepEqual(await keysOf(bench.store, 'l/'), ORDERED)
    },
  },
  {
    name: 'listing: entries carry value and version',
    async run({ store, commit }) {
      const { version } = ok(await commit({ set: ['l/b', 'l/a'].map((key) => ({ key, value: { of: key } })) }))
      const expected = ['l/a', 'l/b'].map((key) => ({ key, value: { of: key }, version }))
      assert.deepEqual(await store.list('l/', { limit: 10 }), expected)
    },
  },
  {
    name: 'listing: pages of any size give every key once',
    async run(bench) {
      await setAll(bench, ORDERED)
      for (const limit of [1, 2, 3, ORDERED.length, ORDERED.length + 1]) {
        const found: string[] = []
        for (let after: string | undefined; ;) {
          const page = await bench.store.list('l/', { limit, ...(after === undefined ? {} : { after }) })
          assert.ok(page.length <= limit)
          found.push(...page.map(({ key }) => key))
          if (page.length < limit) break
          after = page.at(-1)!.key
        }
        assert.deepEqual(found, ORDERED)
      }
    },
  },
  {
    name: 'listing: `after` need not be a key, nor lie among those of the prefix',
    async run(bench) {
      await setAll(bench, ['a', 'l/a', 'l/c', 'z'])
      const after = async (key: string): Promise<string[]> =>
        (await bench.store.list('l/', { after: key, limit: 9 })).map((entry) => entry.key)
      assert.deepEqual(await after('l/b'), ['l/c'])
      assert.deepEqual(await after('a'), ['l/a', 'l/c'])
      assert.deepEqual(await after('l/c'), [])
      assert.deepEqual(await after('z'), [])
    },
  },
  {
    name: 'listing: a prefix ends anywhere in a key, and an empty one lists all',
    async run(bench) {
      const keys = ['hold', 'hold/1', 'hold/12', 'hold/2', 'holds/1', 'other']
      await setAll(bench, keys)
      assert.deepEqual(await keysOf(bench.store, ''), keys)
      assert.deepEqual(await keysOf(bench.store, 'hol'), keys.slice(0, 5))
      assert.deepEqual(await keysOf(bench.store, 'hold/'), ['hold/1', 'hold/12', 'hold/2'])
      assert.deepEqual(await keysOf(bench.store, 'hold/1'), ['hold/1', 'hold/12'])
      assert.deepEqual(await keysOf(bench.store, 'hold/3'), [])
    },
  },
  {
    name: 'listing: nothing in a prefix is a pattern',
    async run(bench) {
      await setAll(bench, ['l/%', 'l/*', 'l/?', 'l/[a]', 'l/_', 'l/a', 'l/\\a', 'l/ab'])
      for (const prefix of ['l/%', 'l/*', 'l/?', 'l/[a]', 'l/_', 'l/\\'])
        assert.equal((await keysOf(bench.store, prefix)).length, 1, prefix)
      assert.deepEqual(await keysOf(bench.store, 'L/'), [])
    },
  },
  {
    name: 'listing: a deleted key is gone, and is back when it is set again',
    async run(bench) {
      await setAll(bench, ['l/a', 'l/b'])
      await bench.commit({ delete: ['l/a'] })
      assert.deepEqual(await keysOf(bench.store, 'l/'), ['l/b'])
      await bench.commit(adding('l/a', 1))
      assert.deepEqual(await keysOf(bench.store, 'l/'), ['l/a', 'l/b'])
    },
  },
  {
    name: `listing: one list gives at most ${MAX_ENTRIES} entries, whatever it is asked for`,
    async run({ store, commit }) {
      const keys = times(MAX_ENTRIES + 1, (index) => `l/${String(index).padStart(6, '0')}`)
      for (let at = 0; at < keys.length; at += 1_000) await commit({ set: keys.slice(at, at + 1_000).map((key) => ({ key, value: 1 })) })
      const page = await store.list('l/', { limit: 1_000_000 })
      assert.equal(page.length, MAX_ENTRIES)
      assert.deepEqual(
        (await store.list('l/', { after: page.at(-1)!.key, limit: 1_000_000 })).map(({ key }) => key),
        keys.slice(MAX_ENTRIES),
      )
    },
  },
  {
    name: `listing: a read of more than ${MAX_ENTRIES} keys, or a limit that is no whole number, is refused`,
    async run({ store, commit }) {
      await commit(setting('k/a', 1))
      const keys = times(MAX_ENTRIES, () => 'k/a')
      assert.equal((await store.read(keys)).length, MAX_ENTRIES)
      await assert.rejects(store.read([...keys, 'k/a']), RangeError)
      for (const limit of [Number.NaN, 1.5, -1]) await assert.rejects(store.list('k/', { limit }), RangeError)
      assert.deepEqual(await store.list('k/', { limit: 0 }), [])
    },
  },
]

const NUMBERS = [0, 1, -1, 0.1, -2.5, 1e21, 1e-7, 5e-324, 1.7976931348623157e308, Number.MAX_SAFE_INTEGER, 2 ** 53 + 2, 0.1 + 0.2]
const TEXTS = [
  '',
  ' ',
  'a\nb\r\tc',
  '"quoted" \\ back',
  '\0\u0001\u001f\u007f',
  '\u2028\u2029',
  '日本 \u{1f600} é e\u0301',
  '{"n":1,"p":"x"}',
]
const STRUCTURES: readonly Json[] = [
  [],
  {},
  [[], [[]], {}],
  { '': 0, ' ': 1, 'a/b': 2, ключ: 3, '\u{1f600}': 4, '2': 5, '1': 6 },
  { constructor: 1, toString: 2, hasOwnProperty: null, valueOf: [] },
  { deep: times(8, (index) => ({ index, list: [null, true, 'x', { y: [index] }] })) },
  { a: 1, h: 'A'.repeat(43) },
]

async function assertKept({ store, commit }: StoreBench, values: readonly Json[]): Promise<void> {
  ok(await commit({ set: values.map((value, index) => ({ key: `v/${index}`, value })) }))
  assert.deepEqual(await valuesOf(store, ...values.map((_, index) => `v/${index}`)), values)
}

const values: readonly StoreCase[] = [
  { name: 'values: numbers of every size come back exactly', run: (bench) => assertKept(bench, NUMBERS) },
  { name: 'values: texts with every kind of character come back exactly', run: (bench) => assertKept(bench, TEXTS) },
  { name: 'values: structures come back exactly', run: (bench) => assertKept(bench, STRUCTURES) },
  {
    name: 'values: null, false, 0 and an empty text are values, not absence',
    async run(bench) {
      await assertKept(bench, [null, false, 0, ''])
      assert.equal((await bench.store.read(['v/0']))[0]?.value, null)
      assert.equal((await bench.commit({ check: [{ key: 'v/0', version: 0 }] })).outcome, 'conflict')
    },
  },
  {
    name: 'values: a member named `__proto__` is kept as any other, and changes no prototype',
    async run({ store, commit }) {
      const value = JSON.parse('{"__proto__":{"admin":true},"b":[{"__proto__":1}]}') as { readonly [key: string]: Json }
      ok(await commit(setting('v/a', value)))
      const [found] = (await valuesOf(store, 'v/a')) as [Record<string, unknown>]
      assert.equal(JSON.stringify(found), JSON.stringify(value))
      assert.equal(found['admin'], undefined)
      assert.equal(Object.getPrototypeOf(found), Object.prototype)
    },
  },
  {
    name: 'values: keys of any script and shape are told apart',
    async run(bench) {
      const shapes = [
        '__proto__',
        '__proto__/a',
        'a/__proto__/b',
        'constructor',
        'a',
        'a/',
        '/a',
        'a//b',
        ' ',
        '{',
        '日本',
        '\u{1f600}',
        'é',
        'e\u0301',
      ]
      const keys = [...shapes, 'K'.repeat(2_048), 'é'.repeat(1_024)].sort()
      ok(await bench.commit({ set: keys.map((key, index) => ({ key, value: index })) }))
      assert.deepEqual(
        await valuesOf(bench.store, ...keys),
        keys.map((_, index) => index),
      )
      assert.deepEqual(await keysOf(bench.store, ''), keys)
      for (const key of keys) ok(await bench.commit({ delete: [key] }))
      assert.deepEqual(await keysOf(bench.store, ''), [])
    },
  },
  {
    name: 'values: a counter may have such a key too',
    async run({ store, commit }) {
      for (const key of ['__proto__', 'n/__proto__', 'toString', 'n/\u{1f600}']) {
        assert.deepEqual(ok(await commit(adding(key, 2))).values, [2])
        assert.deepEqual(ok(await commit(adding(key, 3))).values, [5])
        assert.deepEqual(await valuesOf(store, key), [5])
      }
    },
  },
  {
    name: 'values: a value of 1 MB comes back',
    async run({ store, commit }) {
      const value = { text: 'é'.repeat(250_000), list: times(50_000, (index) => index % 10), more: 'x'.repeat(300_000) }
      ok(await commit(setting('v/large', value)))
      assert.deepEqual(await valuesOf(store, 'v/large'), [value])
    },
  },
  {
    name: 'values: nesting as deep as JSON may be comes back',
    async run(bench) {
      await assertKept(bench, [times(200, () => 0).reduce<Json>((inner, _, depth) => (depth % 2 === 0 ? [inner] : { inner }), 'core')])
    },
  },
  {
    name: 'values: an object that its caller changes after the commit was made changes nothing in the store',
    async run({ store, commit }) {
      const value = { list: [1] }
      const add = { key: 'k/n', by: 1 }
      const committed = commit({ add: [add], set: [{ key: 'k/a', value }] })
      value.list.push(2)
      add.by = 100
      ok(await committed)
      value.list.push(3)
      assert.deepEqual(await valuesOf(store, 'k/a', 'k/n'), [{ list: [1] }, 1])
    },
  },
  {
    name: 'values: an entry that its reader tries to change changes nothing in the store',
    async run({ store, commit }) {
      await commit(setting('k/a', { list: [1] }))
      const [found] = (await valuesOf(store, 'k/a')) as [{ list: number[] }]
      // A store may give away copies, or objects that are frozen.
      if (!Object.isFrozen(found.list)) found.list.push(2)
      if (!Object.isFrozen(found)) found.list = []
      assert.deepEqual(await valuesOf(store, 'k/a'), [{ list: [1] }])
    },
  },
]

/** The cases of the chapters. */
export const dataCases: readonly StoreCase[] = [...expiry, ...listing, ...values]
