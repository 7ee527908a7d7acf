// Chapters `groups`, `watching` and `closing` of the store suite: what group commit refuses before anything
// is sent, ids, the chain head that travels along, wake-ups, and the end.

import assert from 'node:assert/strict'
import type { Commit, CommitResult } from '../stores/group.ts'
import { MAX_BATCH_OPERATIONS, type Batch, type Store } from '../stores/store.ts'
import { faultyStore } from './faulty-store.ts'
import { adding, applyTo, assertClosed, keysOf, ok, setting, times, valuesOf, type StoreBench, type StoreCase } from './store-bench.ts'

/** A wake-up that does not come within this time never will, ms. */
const MAX_WAKE_MS = 10_000

function cycle(): unknown {
  const value: Record<string, unknown> = {}
  value['self'] = value
  return value
}

type ErrorClass = typeof TypeError | typeof RangeError

const bad = (value: unknown): Commit => setting('k/a', value as string)
const named = (key: unknown): Commit => setting(key as string, 1)
const by = (amount: unknown): Commit => adding('k/a', amount as number)
const manySets = (count: number): Commit => ({ set: times(count, (index) => ({ key: `k/${index}`, value: 1 })) })
const expiring = (expiresAtMs: number): Commit => ({ set: [{ key: 'k/a', value: 1, expiresAtMs }] })

const REFUSED: readonly (readonly [what: string, commit: Commit, error: ErrorClass])[] = [
  ['an empty key', named(''), TypeError],
  ['a key that is no text', named(7), TypeError],
  ['a key with a control character', named('k/\n'), TypeError],
  ['a key with half of a surrogate pair', named('k/\ud800'), TypeError],
  ['a key of 2,049 bytes', named('é'.repeat(1_024) + 'k'), TypeError],
  ['a checked key with a control character', { check: [{ key: '\0', version: 0 }] }, TypeError],
  ['a deleted key without text', { delete: [''] }, TypeError],
  ['a key that is set twice', { set: times(2, (value) => ({ key: 'k/a', value })) }, TypeError],
  ['a key that is added to twice', { add: times(2, () => ({ key: 'k/a', by: 1 })) }, TypeError],
  ['a key that is added to and set', { ...by(1), ...bad(1) }, TypeError],
  ['a key that is set and deleted', { ...bad(1), delete: ['k/a'] }, TypeError],
  ['an add of NaN', by(Number.NaN), TypeError],
  ['an add of a fraction', by(0.5), TypeError],
  ['an add of infinity', by(Number.POSITIVE_INFINITY), TypeError],
  ['an add of 2^53', by(2 ** 53), TypeError],
  ['an add of a text', by('1'), TypeError],
  ['an add of a BigInt', by(1n), TypeError],
  ['a min of NaN', adding('k/a', 1, { min: Number.NaN }), TypeError],
  ['a max of a fraction', adding('k/a', 1, { max: 1.5 }), TypeError],
  ['a max of 2^53', adding('k/a', 1, { max: 2 ** 53 }), TypeError],
  ['a check of a negative version', { check: [{ key: 'k/a', version: -1 }] }, RangeError],
  ['a check of a fraction', { check: [{ key: 'k/a', version: 0.5 }] }, TypeError],
  ['an expiry at NaN', expiring(Number.NaN), TypeError],
  ['an expiry before 1970', expiring(-1), RangeError],
  ['an expiry at a fraction of a millisecond', expiring(1.5), TypeError],
  ['a value of undefined', bad(undefined), TypeError],
  ['a value of NaN', bad(Number.NaN), TypeError],
  ['a value of infinity', bad([Number.NEGATIVE_INFINITY]), TypeError],
  ['a value of -0', bad({ deep: [-0] }), TypeError],
  ['a BigInt', bad(1n), TypeError],
  ['a Date', bad({ at: new Date(0) }), TypeError],
  ['a Map', bad(new Map()), TypeError],
  ['a function', bad({ call: () => 1 }), TypeError],
  ['a symbol', bad(Symbol('s')), TypeError],
  ['a member of undefined', bad({ a: undefined }), TypeError],
  ['a hole in an array', bad(Array.from({ length: 3 }).fill(1, 1)), TypeError],
  ['a text with half of a surrogate pair', bad('\udc00'), TypeError],
  ['a member name with half of a surrogate pair', bad({ '\ud800': 1 }), TypeError],
  ['a cycle', bad(cycle()), RangeError],
  ['more than 1,000 operations', manySets(MAX_BATCH_OPERATIONS + 1), RangeError],
  ['a value of 2 MB', bad('x'.repeat(2_000_000)), RangeError],
  ['an id without text', { id: '', ...by(1) }, TypeError],
  ['an id with a control character', { id: 'a\nb', ...by(1) }, TypeError],
  ['an id of 3,000 characters', { id: 'i'.repeat(3_000), ...by(1) }, TypeError],
]

const validation: readonly StoreCase[] = [
  ...REFUSED.map(([what, commit, error]): StoreCase => ({
    name: `groups: ${what} is refused before anything is sent`,
    async run({ store, commit: send }) {
      const beside = send(adding('k/beside', 1))
      await assert.rejects(send({ ...commit, add: [{ key: 'k/other', by: 1 }, ...(commit.add ?? [])] }), error)
      ok(await beside)
      assert.deepEqual(await keysOf(store, ''), ['k/beside'])
    },
  })),
  {
    name: 'groups: what lies just within these limits is applied',
    async run({ store, commit }) {
      ok(await commit(manySets(MAX_BATCH_OPERATIONS)))
      ok(await commit({ set: [{ key: 'é'.repeat(1_024), value: [0, { '': null }] }] }))
      ok(await commit({ id: 'i'.repeat(2_000), ...adding('k/n', Number.MAX_SAFE_INTEGER, { min: -1, max: Number.MAX_SAFE_INTEGER }) }))
      assert.equal((await keysOf(store, 'k/')).length, MAX_BATCH_OPERATIONS + 1)
    },
  },
  {
    name: 'groups: a batch without any part is applied',
    async run({ commit }) {
      assert.deepEqual(ok(await commit({})).values, [])
    },
  },
  {
    name: 'groups: more callers than one group holds are all answered, each with his own result',
    async run({ store, commit }) {
      const results = await Promise.all(times(1_200, (index) => commit(adding(`k/${index % 3}`, 1, { max: 300 }))))
      assert.equal(results.filter(({ outcome }) => outcome === 'ok').length, 900)
      assert.deepEqual(await valuesOf(store, 'k/0', 'k/1', 'k/2'), [300, 300, 300])
    },
  },
  {
    name: 'groups: commits of 1 MB each travel one after the other',
    async run({ store, commit }) {
      const results = await Promise.all(times(3, (index) => commit(setting(`k/${index}`, 'x'.repeat(1_000_000)))))
      for (const result of results) ok(result)
      assert.equal((await keysOf(store, 'k/')).length, 3)
    },
  },
  {
    name: 'groups: idle waits for every answer',
    async run({ store, commit, idle }) {
      const outcomes: CommitResult['outcome'][] = []
      for (const _ of times(3, () => 0)) void commit(adding('k/n', 1)).then(({ outcome }) => outcomes.push(outcome))
      await idle()
      assert.deepEqual(outcomes, ['ok', 'ok', 'ok'])
      assert.deepEqual(await valuesOf(store, 'k/n'), [3])
    },
  },
]

const ids: readonly StoreCase[] = [
  {
    name: 'groups: the same id with the same batch is applied once and answered ok with the same version',
    async run({ store, commit }) {
      const first = ok(await commit({ id: 'a', ...adding('k/n', 5) }))
      const second = ok(await commit({ id: 'a', add: [{ by: 5, key: 'k/n' }] }))
      assert.deepEqual(second, first)
      assert.deepEqual(await valuesOf(store, 'k/n'), [5])
    },
  },
  {
    name: 'groups: the same id several times in one group is applied once',
    async run({ store, commit }) {
      const results = await Promise.all(times(5, () => commit({ id: 'a', ...adding('k/n', 5) })))
      for (const result of results) assert.deepEqual(ok(result).values, [5])
      assert.deepEqual(await valuesOf(store, 'k/n'), [5])
    },
  },
  {
    name: 'groups: the same id with another batch is a mistake of the caller, and nothing is applied',
    async run({ store, commit }) {
      const [first, second] = await Promise.allSettled([commit({ id: 'a', ...adding('k/n', 5) }), commit({ id: 'a', ...adding('k/n', 6) })])
      assert.equal(first.status, 'fulfilled')
      assert.ok(second.status === 'rejected' && second.reason instanceof TypeError)
      await assert.rejects(commit({ id: 'a', ...adding('k/n', 7) }), TypeError)
      assert.deepEqual(await valuesOf(store, 'k/n'), [5])
    },
  },
  {
    name: 'groups: an id whose batch was refused is free',
    async run({ commit }) {
      const batch = { id: 'a', ...adding('k/n', -1, { min: 0 }) }
      assert.equal((await commit(batch)).outcome, 'refused')
      await commit(adding('k/n', 1))
      assert.deepEqual(ok(await commit(batch)).values, [0])
    },
  },
  {
    name: 'groups: an id and a check of the batch are told apart',
    async run({ commit }) {
      assert.deepEqual(await commit({ id: 'a', check: [{ key: 'k/a', version: 3 }], ...setting('k/b', 1) }), {
        outcome: 'conflict',
        which: 'k/a',
        version: 0,
      })
    },
  },
  {
    name: 'groups: ids are deleted by the next group',
    async run({ store, commit }) {
      for (const result of await Promise.all(times(20, (index) => commit({ id: `${index}`, ...adding('k/n', 1) })))) ok(result)
      assert.equal((await keysOf(store, 'id/')).length, 20)
      await commit(adding('k/n', 1))
      assert.deepEqual(await keysOf(store, 'id/'), [])
    },
  },
  {
    name: 'groups: ids of lost replies are deleted too, once they are answered',
    async run({ store, commitWith }) {
      const commit = commitWith({}, faultyStore(store, ['lose-reply', 'lose-request', 'duplicate']))
      for (const result of await Promise.all(times(9, (index) => commit({ id: `${index}`, ...adding('k/n', 1) })))) ok(result)
      await commit(adding('k/n', 1))
      assert.deepEqual([await keysOf(store, 'id/'), await valuesOf(store, 'k/n')], [[], [10]])
    },
  },
]

/** A committer that carries a chain head of as many records as were counted, and what it sent. */
function chained({ store, commitWith }: StoreBench) {
  const chain = { count: 0 }
  const sent: (readonly Batch[])[] = []
  const recording: Store = {
    ...faultyStore(store, []),
    async apply(batches) {
      sent.push(batches)
      return store.apply(batches)
    },
  }
  const commit = commitWith({ boot: 'b1', chainHead: () => ({ count: chain.count, hash: `h${chain.count}` }) }, recording)
  return { chain, sent, commit }
}

const heads: readonly StoreCase[] = [
  {
    name: 'groups: every group carries the chain head of its process, as it is at sending',
    async run(bench) {
      const { chain, commit } = chained(bench)
      for (const count of [3, 8, 9]) {
        chain.count = count
        ok(await commit(adding('k/n', 1)))
        assert.deepEqual(await valuesOf(bench.store, 'head/b1'), [{ count, hash: `h${count}` }])
      }
      ok(await bench.commit(adding('k/n', 1)))
      assert.deepEqual(await keysOf(bench.store, 'head/'), ['head/b1'])
    },
  },
  {
    name: 'groups: a group that arrives late cannot set an older chain head',
    async run(bench) {
      const { chain, sent, commit } = chained(bench)
      for (const count of [1, 2]) {
        chain.count = count
        ok(await commit(adding('k/n', 1)))
      }
      const [, late] = await applyTo(bench.store, ...sent[0]!)
      assert.equal(late?.outcome, 'conflict')
      assert.deepEqual(await valuesOf(bench.store, 'head/b1'), [{ count: 2, hash: 'h2' }])
    },
  },
  {
    name: 'groups: a chain head that somebody else has set changes no result, and the next group carries it again',
    async run(bench) {
      const { chain, commit } = chained(bench)
      ok(await commit(adding('k/n', 1)))
      await applyTo(bench.store, setting('head/b1', 'foreign'))
      for (const count of [4, 5]) {
        chain.count = count
        ok(await commit(adding('k/n', 1)))
      }
      assert.deepEqual(await valuesOf(bench.store, 'head/b1', 'k/n'), [{ count: 5, hash: 'h5' }, 3])
    },
  },
]

/** Waits for a wake-up, and fails when it does not come. */
async function soon(woken: Promise<void>): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error(`No wake-up within ${MAX_WAKE_MS} ms.`)), MAX_WAKE_MS)
  try {
    await Promise.race([woken, promise])
  } finally {
    clearTimeout(timer)
  }
}

/** Makes a change, and waits until a watch of this prefix has woken. */
async function wakeUp(store: Store, prefix: string, change: () => Promise<unknown>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const stop = store.watch(prefix, resolve)
  try {
    await change()
    await soon(promise)
  } finally {
    stop()
  }
}

const watching: readonly StoreCase[] = [
  {
    name: 'watching: an add, a set and a delete of its own client wake',
    async run({ store, commit }) {
      await wakeUp(store, 'k/', () => commit(setting('k/a', 1)))
      await wakeUp(store, 'k/a', () => commit(adding('k/a', 1)))
      await wakeUp(store, '', () => commit({ delete: ['k/a'] }))
    },
  },
  {
    name: 'watching: changes by another client wake, and are there to be read then',
    needs: 'second',
    async run({ store, second }) {
      const other = await second()
      for (const round of [1, 2, 3]) {
        await wakeUp(store, 'k/', () => applyTo(other, setting('k/a', round)))
        assert.deepEqual(await valuesOf(store, 'k/a'), [round])
      }
    },
  },
  {
    name: 'watching: a stopped watch wakes no more, and stopping again is no error',
    async run({ store, commit }) {
      let calls = 0
      const stop = store.watch('k/', () => (calls += 1))
      await wakeUp(store, 'k/', () => commit(setting('k/a', 1)))
      assert.ok(calls > 0)
      stop()
      stop()
      const before = calls
      await wakeUp(store, 'k/', () => commit(setting('k/a', 2)))
      assert.equal(calls, before)
    },
  },
  {
    name: 'watching: stopping one of two watches with the same callback leaves the other',
    async run({ store, commit }) {
      const { promise, resolve } = Promise.withResolvers<void>()
      const [stopOne, stopOther] = [store.watch('k/', resolve), store.watch('k/a', resolve)]
      await commit(setting('k/a', 1))
      stopOne()
      await soon(promise)
      stopOther()
    },
  },
  {
    name: 'watching: a watch that is stopped when another one wakes does not wake any more',
    async run({ store, commit }) {
      const woken = new Set<number>()
      const stops = [0, 1].map((index) =>
        store.watch('k/', () => {
          woken.add(index)
          stops[1 - index]!()
        }),
      )
      for (const value of [1, 2]) await wakeUp(store, 'k/', () => commit(setting('k/a', value)))
      assert.equal(woken.size, 1)
      for (const stop of stops) stop()
    },
  },
]

const closing: readonly StoreCase[] = [
  {
    name: 'closing: a store can be closed twice',
    async run({ store, commit }) {
      ok(await commit(adding('k/n', 1)))
      await Promise.all([store.close(), store.close()])
      await store.close()
    },
  },
  {
    name: 'closing: a closed store refuses every use with ERR_CLOSED',
    async run({ store, commit }) {
      ok(await commit(adding('k/n', 1)))
      await store.close()
      await assertClosed(() => store.apply([{}]))
      await assertClosed(() => store.read(['k/n']))
      await assertClosed(() => store.list('', { limit: 1 }))
      await assertClosed(() => store.now())
      await assertClosed(() => store.watch('', () => {}))
      await assertClosed(() => commit(adding('k/n', 1)))
      if (store.holds !== undefined) await assertClosed(() => store.holds!([{ segment: 1, bytes: 0, hash: '' }]))
    },
  },
  {
    name: 'closing: commits under way are answered, and what was acknowledged is there when the store is opened again',
    needs: 'reopen',
    async run({ store, reopen }) {
      const applied = times(8, () => store.apply([adding('k/n', 1)]))
      await store.close()
      const answers = await Promise.allSettled(applied)
      const acknowledged = answers.filter((answer) => answer.status === 'fulfilled' && answer.value.outcome === 'applied').length
      for (const answer of answers) if (answer.status === 'rejected') await assertClosed(() => Promise.reject(answer.reason as Error))
      const inDoubt = answers.filter((answer) => answer.status === 'fulfilled' && answer.value.outcome === 'unknown').length
      const found = Number((await valuesOf(await reopen(), 'k/n'))[0] ?? 0)
      assert.ok(acknowledged <= found && found <= acknowledged + inDoubt, `${acknowledged} <= ${found} <= ${acknowledged + inDoubt}`)
    },
  },
  {
    name: 'closing: the end of one client is not the end of another',
    needs: 'second',
    async run({ store, commit, second }) {
      const other = await second()
      ok(await commit(adding('k/n', 1)))
      await store.close()
      const [result] = await applyTo(other, adding('k/n', 1))
      assert.deepEqual(ok(result!).values, [2])
    },
  },
]

/** The cases of the chapters. */
export const groupCases: readonly StoreCase[] = [...validation, ...ids, ...heads, ...watching, ...closing]
