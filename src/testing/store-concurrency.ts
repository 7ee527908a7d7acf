// Chapter `safety` of the store suite, as many see it: concurrent writers, two clients, opening again, and
// groups whose reply is lost. Nothing here can be waived.

import assert from 'node:assert/strict'
import type { Batch, BatchResult, Store } from '../stores/store.ts'
import { faultyStore, type FaultPlan, type FaultyStore } from './faulty-store.ts'
import { adding, applyTo, keysOf, ok, setting, times, valuesOf, type StoreBench, type StoreCase } from './store-bench.ts'

const WRITERS = 64

/** Reads a counter, and sets it to one more if nobody did so meanwhile; again until that works. */
async function countUp(store: Store, key: string): Promise<void> {
  for (;;) {
    const [entry] = await store.read([key])
    const [result] = await applyTo(store, {
      check: [{ key, version: entry?.version ?? 0 }],
      ...setting(key, Number(entry?.value ?? 0) + 1),
    })
    if (result?.outcome === 'ok') return
    assert.equal(result?.outcome, 'conflict')
  }
}

/** A batch that creates a key, once. */
function creating(key: string, value: string): Batch {
  return { check: [{ key, version: 0 }], ...setting(key, value) }
}

function granted(results: readonly BatchResult[]): number {
  return results.filter(({ outcome }) => outcome === 'ok').length
}

const concurrency: readonly StoreCase[] = [
  {
    name: `safety: ${WRITERS} concurrent adds sum up exactly`,
    async run({ store, commit }) {
      const amounts = times(WRITERS, (index) => index + 1)
      for (const result of await Promise.all(amounts.map((by) => commit(adding('k/n', by))))) ok(result)
      assert.deepEqual(await valuesOf(store, 'k/n'), [(WRITERS * (WRITERS + 1)) / 2])
    },
  },
  {
    name: `safety: ${WRITERS} concurrent writers without group commit sum up exactly`,
    async run({ store }) {
      await Promise.all(times(WRITERS, () => applyTo(store, adding('k/n', 1))))
      assert.deepEqual(await valuesOf(store, 'k/n'), [WRITERS])
    },
  },
  {
    name: 'safety: concurrent adds reach their bound exactly and never pass it',
    async run({ store }) {
      const holds = times(WRITERS, (index) => ({ ...adding('k/n', 3, { max: 50 }), ...setting(`hold/${index}`, 3) }))
      const results = await Promise.all(holds.map((batch) => applyTo(store, batch)))
      assert.equal(granted(results.flat()), 16)
      assert.deepEqual(await valuesOf(store, 'k/n'), [48])
      assert.equal((await keysOf(store, 'hold/')).length, 16)
    },
  },
  {
    name: 'safety: concurrent check-and-sets lose no update',
    async run({ store }) {
      await Promise.all(times(16, () => countUp(store, 'k/n')))
      assert.deepEqual(await valuesOf(store, 'k/n'), [16])
    },
  },
  {
    name: 'safety: a read is one snapshot while batches move amounts between keys',
    async run({ store, commit }) {
      await commit({ set: times(4, (index) => ({ key: `k/${index}`, value: 25 })) })
      const moves = times(100, (index) => [`k/${index % 4}`, `k/${(index + 1 + (index % 3)) % 4}`] as const)
      const moving = moves.map(async ([from, to]) =>
        applyTo(store, {
          add: [
            { key: from, by: -1 },
            { key: to, by: 1 },
          ],
        }),
      )
      for (const _ of moves) {
        const values = await valuesOf(store, 'k/0', 'k/1', 'k/2', 'k/3')
        assert.equal(
          values.reduce<number>((sum, value) => sum + Number(value), 0),
          100,
        )
      }
      await Promise.all(moving)
    },
  },
]

const clients: readonly StoreCase[] = [
  {
    name: 'safety: a client reads what another one was told is written',
    needs: 'second',
    async run({ store, commit, second }) {
      const other = await second()
      const { version } = ok(await commit(setting('k/a', 1)))
      assert.deepEqual(await other.read(['k/a']), [{ key: 'k/a', value: 1, version }])
      await applyTo(other, { delete: ['k/a'] })
      assert.deepEqual(await store.read(['k/a']), [null])
    },
  },
  {
    name: 'safety: of two clients with the same check one wins',
    needs: 'second',
    async run({ store, second }) {
      const other = await second()
      const results = (await Promise.all([applyTo(store, creating('k/a', 'first')), applyTo(other, creating('k/a', 'second'))])).flat()
      assert.deepEqual(results.map(({ outcome }) => outcome).sort(), ['conflict', 'ok'])
      assert.deepEqual(await valuesOf(store, 'k/a'), [results[0]?.outcome === 'ok' ? 'first' : 'second'])
    },
  },
  {
    name: 'safety: two clients add up exactly, and stop at the same bound',
    needs: 'second',
    async run({ store, second }) {
      const both = [store, await second()]
      const one = { add: [{ key: 'k/sum', by: 1 }], ...setting('k/last', 'any') }
      await Promise.all(times(40, (index) => applyTo(both[index % 2]!, one)))
      const results = await Promise.all(times(40, (index) => applyTo(both[index % 2]!, adding('k/bound', 1, { max: 25 }))))
      assert.equal(granted(results.flat()), 25)
      for (const client of both) assert.deepEqual(await valuesOf(client, 'k/sum', 'k/bound'), [40, 25])
    },
  },
  {
    name: 'safety: two clients lose no check-and-set',
    needs: 'second',
    async run({ store, second }) {
      const both = [store, await second()]
      await Promise.all(times(20, (index) => countUp(both[index % 2]!, 'k/n')))
      assert.deepEqual(await valuesOf(store, 'k/n'), [20])
    },
  },
  {
    name: 'safety: what was acknowledged is there when the store is opened again, and nothing else',
    needs: 'reopen',
    async run({ store, commit, reopen }) {
      const { version } = ok(await commit({ add: [{ key: 'k/n', by: 5 }], set: [{ key: 'k/s', value: { deep: ['x'] } }] }))
      await commit({ check: [{ key: 'k/n', version: version + 1 }], ...setting('k/refused', 1) })
      await commit(setting('k/deleted', 1))
      await commit({ delete: ['k/deleted'] })
      const before = await store.list('', { limit: 10 })
      const again = await reopen()
      assert.deepEqual(await again.list('', { limit: 10 }), before)
      assert.deepEqual(
        before.map(({ key }) => key),
        ['k/n', 'k/s'],
      )
    },
  },
]

/** The same store behind group commit, with bad luck in between. */
function unlucky({ store, commitWith }: StoreBench, plan: FaultPlan): { faulty: FaultyStore; commit: StoreBench['commit'] } {
  const faulty = faultyStore(store, plan)
  return { faulty, commit: commitWith({}, faulty) }
}

const ODDS = { refuse: 0.1, 'lose-request': 0.1, 'lose-reply': 0.2, contend: 0.1, delay: 0.1, duplicate: 0.2 } as const

const lostReplies: readonly StoreCase[] = [
  {
    name: 'safety: an add with an id is applied exactly once, however many replies are lost',
    async run(bench) {
      const { faulty, commit } = unlucky(bench, ['lose-reply', 'lose-request', 'lose-reply', 'lose-reply'])
      assert.deepEqual(ok(await commit({ id: 'once', ...adding('k/n', 5) })).values, [5])
      assert.equal(faulty.happened.length, 5)
      assert.deepEqual(await valuesOf(bench.store, 'k/n'), [5])
    },
  },
  {
    name: 'safety: without an id a lost reply reaches the caller as unknown, applied or not',
    async run(bench) {
      const { commit } = unlucky(bench, ['lose-reply', 'lose-request', 'none'])
      for (const applied of [1, 1, 2]) {
        const { outcome } = await commit(adding('k/n', 1))
        assert.equal(outcome, applied === 2 ? 'ok' : 'unknown')
        assert.deepEqual(await valuesOf(bench.store, 'k/n'), [applied])
      }
    },
  },
  {
    name: 'safety: a reply that stays lost is unknown also with an id, and asking again later applies nothing twice',
    async run(bench) {
      const { commit } = unlucky(
        bench,
        times(6, () => 'lose-reply'),
      )
      const later = { id: 'later', ...adding('k/n', 1) }
      assert.equal((await commit(later)).outcome, 'unknown')
      assert.deepEqual(ok(await commit(later)).values, [1])
      assert.deepEqual(await valuesOf(bench.store, 'k/n'), [1])
    },
  },
  {
    name: 'safety: a lost reply is answered as unknown when the store then fails, for it may have been applied',
    async run(bench) {
      const { commit } = unlucky(bench, ['lose-reply', 'refuse'])
      assert.equal((await commit({ id: 'a', ...adding('k/n', 1) })).outcome, 'unknown')
      assert.deepEqual(await valuesOf(bench.store, 'k/n'), [1])
    },
  },
  {
    name: 'safety: a group that fails before it is applied rejects, and leaves nothing',
    async run(bench) {
      const { commit } = unlucky(bench, ['refuse'])
      await assert.rejects(commit({ id: 'a', ...adding('k/n', 1), ...setting('k/s', 1) }), { code: 'ERR_STORE' })
      assert.deepEqual(await keysOf(bench.store, ''), [])
      ok(await commit({ id: 'a', ...adding('k/n', 1) }))
    },
  },
  {
    name: 'safety: a group that loses races is sent until it wins',
    async run(bench) {
      const { faulty, commit } = unlucky(
        bench,
        times(9, () => 'contend'),
      )
      assert.deepEqual(ok(await commit(adding('k/n', 1))).values, [1])
      assert.equal(faulty.happened.length, 10)
    },
  },
  {
    name: 'safety: a group that is sent twice applies a commit with an id once, and one without twice',
    async run(bench) {
      const { commit } = unlucky(bench, ['duplicate', 'duplicate'])
      assert.deepEqual(ok(await commit({ id: 'a', ...adding('k/with', 1) })).values, [1])
      assert.deepEqual(ok(await commit(adding('k/without', 1))).values, [2])
      assert.deepEqual(await valuesOf(bench.store, 'k/with', 'k/without'), [1, 2])
    },
  },
  {
    name: 'safety: a group that is held up keeps its order and its answer',
    async run(bench) {
      const { commit } = unlucky(bench, ['delay', 'none', 'delay'])
      const results = await Promise.all(times(3, () => commit(adding('k/n', 1))))
      assert.deepEqual(
        results.map((result) => ok(result).values),
        [[1], [2], [3]],
      )
    },
  },
  ...[1, 2, 3].map((seed): StoreCase => ({
    name: `safety: under random faults of seed ${seed} every commit with an id is applied at most once, and every acknowledged one`,
    async run(bench) {
      const { faulty, commit } = unlucky(bench, { seed, odds: ODDS })
      const acknowledged: string[] = []
      let inDoubt = 0
      for (const round of times(25, (index) => index)) {
        const names = times(8, (caller) => `${round}.${caller}`)
        const settled = await Promise.allSettled(
          names.map((id) =>
            commit({
              id,
              add: [
                { key: 'k/n', by: 1 },
                { key: `done/${id}`, by: 1 },
              ],
            }),
          ),
        )
        for (const [index, result] of settled.entries()) {
          if (result.status === 'rejected') continue
          if (result.value.outcome === 'ok') acknowledged.push(`done/${names[index]}`)
          else if (result.value.outcome === 'unknown') inDoubt += 1
        }
      }
      assert.ok(new Set(faulty.happened).size === 7, 'Every fault took place.')
      const done = await bench.store.list('done/', { limit: 1_000 })
      assert.deepEqual(
        done.filter(({ value }) => value !== 1),
        [],
      )
      assert.deepEqual(await valuesOf(bench.store, 'k/n'), [done.length])
      const found = new Set(done.map(({ key }) => key))
      assert.deepEqual(
        acknowledged.filter((key) => !found.has(key)),
        [],
      )
      assert.ok(done.length <= acknowledged.length + inDoubt)
    },
  })),
]

/** The second half of the chapter. */
export const concurrencyCases: readonly StoreCase[] = [...concurrency, ...clients, ...lostReplies]
