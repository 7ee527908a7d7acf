// Group commit beyond what the store suite shows: how callers travel together, and what becomes of them when
// the store, or a read in between, fails. The suite runs the rest of group.ts on every store.

import { afterEach, describe, expect, test, vi } from 'vitest'
import { HoldfastError } from '../../src/lib/errors.ts'
import { groupCommits, type Commit, type CommitResult, type GroupOptions } from '../../src/stores/group.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Batch, Store, StoreHead } from '../../src/stores/store.ts'
import { faultyStore } from '../../src/testing/faulty-store.ts'
import { adding, keysOf, setting, times, valuesOf } from '../../src/testing/store-bench.ts'

afterEach(() => {
  vi.restoreAllMocks()
})

/** Commits on a store, in groups. */
function committing(store: Store, options: GroupOptions = {}): (commit: Commit) => Promise<CommitResult> {
  const committer = groupCommits(store, options)
  return (commit) => committer.commit(commit)
}

/** A memory store that keeps what it was sent. */
function recorded(): { store: Store; sent: (readonly Batch[])[] } {
  const real = memoryStore()
  const sent: (readonly Batch[])[] = []
  const store: Store = {
    ...real,
    async apply(batches) {
      sent.push(batches)
      return real.apply(batches)
    },
  }
  return { store, sent }
}

describe('travelling together', () => {
  test('commits of one turn of the event loop are one group', async () => {
    const { store, sent } = recorded()
    const commit = committing(store)
    await Promise.all(times(100, () => commit(adding('k/n', 1))))
    expect(sent.map((group) => group.length)).toEqual([100])
  })

  test('who comes while a group is on its way travels in the next one', async () => {
    const { store, sent } = recorded()
    const commit = committing(store)
    const second: Promise<unknown>[] = []
    const first = commit(adding('k/n', 1)).then(() => second.push(...times(3, () => commit(adding('k/n', 1)))))
    await first
    await Promise.all(second)
    expect(sent.map((group) => group.length)).toEqual([1, 3])
  })

  test('a group holds at most 512 batches', async () => {
    const { store, sent } = recorded()
    const commit = committing(store)
    await Promise.all(times(1_100, () => commit(adding('k/n', 1))))
    expect(sent.map((group) => group.length)).toEqual([512, 512, 76])
  })

  test('a group holds at most 1 MB, and always one batch', async () => {
    const { store, sent } = recorded()
    const commit = committing(store)
    const sizes = [400_000, 400_000, 400_000, 1_000_000, 10]
    await Promise.all(sizes.map((size, index) => commit(setting(`k/${index}`, 'x'.repeat(size)))))
    expect(sent.map((group) => group.length)).toEqual([2, 1, 2])
  })
})

describe('chain head and store head', () => {
  test('the chain head is asked for once per group, at sending', async () => {
    let asked = 0
    const commit = committing(memoryStore(), { boot: 'b', chainHead: () => ({ count: ++asked, hash: 'h' }) })
    await Promise.all(times(10, () => commit(adding('k/n', 1))))
    expect(asked).toBe(1)
    await commit(adding('k/n', 1))
    expect(asked).toBe(2)
  })

  test('a lost reply does not stop the chain head: the next group carries the newest one', async () => {
    const store = memoryStore()
    const chain = { count: 0, hash: 'h' }
    const options = { boot: 'b', chainHead: () => ({ ...chain, count: ++chain.count }) }
    const commit = committing(faultyStore(store, ['none', 'lose-reply', 'lose-request']), options)
    for (const outcome of ['ok', 'unknown', 'unknown', 'ok']) expect((await commit(adding('k/n', 1))).outcome).toBe(outcome)
    expect(await valuesOf(store, 'head/b')).toEqual([{ count: 4, hash: 'h' }])
  })

  test('the store head is told after each acknowledged group, and after no other', async () => {
    const heads: StoreHead[] = []
    const real = memoryStore()
    let bytes = 0
    const store: Store = {
      ...real,
      async apply(batches) {
        const answer = await real.apply(batches)
        return answer.outcome === 'applied' ? { ...answer, head: { segment: 1, bytes: ++bytes, hash: 'h' } } : answer
      },
    }
    const commit = committing(faultyStore(store, ['none', 'lose-reply', 'none']), { onStoreHead: (head) => heads.push(head) })
    for (const outcome of ['ok', 'unknown', 'ok']) expect((await commit({})).outcome).toBe(outcome)
    expect(heads.map((head) => head.bytes)).toEqual([1, 3])
  })
})

describe('ids', () => {
  test('an id that somebody still waits for is not deleted by the groups before his', async () => {
    const store = memoryStore()
    const commit = committing(store)
    await commit({ id: 'a', ...adding('k/n', 5) })
    const between = times(600, () => commit({}))
    expect(await commit({ id: 'a', ...adding('k/n', 5) })).toMatchObject({ outcome: 'ok', values: [5] })
    await Promise.all(between)
    expect(await valuesOf(store, 'k/n')).toEqual([5])
  })

  test('more ids than one batch can delete go in several groups', async () => {
    const store = memoryStore()
    const commit = committing(store)
    await Promise.all(times(1_300, (index) => commit({ id: `${index}`, ...adding('k/n', 1) })))
    for (const left of [300, 0]) {
      await commit({})
      expect((await keysOf(store, 'id/')).length).toBeLessThanOrEqual(left)
    }
  })

  test('an id that another committer has cleared meanwhile leaves its commit unknown, and unapplied a second time', async () => {
    const real = memoryStore()
    const store: Store = {
      ...real,
      async read(keys) {
        await real.apply([{ delete: ['id/a'] }])
        return real.read(keys)
      },
    }
    await committing(real)({ id: 'a', ...adding('k/n', 5) })
    expect(await committing(store)({ id: 'a', ...adding('k/n', 5) })).toMatchObject({ outcome: 'unknown' })
    expect(await valuesOf(real, 'k/n')).toEqual([5])
  })

  test('a commit whose id is taken is unknown when the answer cannot be read, not failed', async () => {
    const real = memoryStore()
    const store: Store = { ...real, read: async () => Promise.reject(new HoldfastError('ERR_STORE', 'away')) }
    const commit = committing(faultyStore(store, ['duplicate']))
    expect(await commit({ id: 'a', ...adding('k/n', 5) })).toMatchObject({ outcome: 'unknown' })
    expect(await valuesOf(real, 'k/n')).toEqual([5])
  })
})

describe('failures', () => {
  test('a store that fails rejects the callers of that group, and serves the next', async () => {
    const commit = committing(faultyStore(memoryStore(), ['refuse']))
    const settled = await Promise.allSettled(times(3, () => commit(adding('k/n', 1))))
    expect(settled.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
    expect(await commit(adding('k/n', 1))).toMatchObject({ outcome: 'ok', values: [1] })
  })

  test('a chain head that cannot be read stops the group before anything is sent', async () => {
    const { store, sent } = recorded()
    const away = { ...store, read: async () => Promise.reject(new HoldfastError('ERR_STORE', 'away')) }
    const commit = committing(away, { boot: 'b', chainHead: () => ({ count: 1, hash: 'h' }) })
    await expect(commit(adding('k/n', 1))).rejects.toMatchObject({ code: 'ERR_STORE' })
    expect(sent).toEqual([])
  })

  test('a group that loses races for too long says that nothing was written', async () => {
    let nowMs = 0
    vi.spyOn(performance, 'now').mockImplementation(() => (nowMs += 7_000))
    const store = memoryStore()
    const commit = committing(
      faultyStore(
        store,
        times(9, () => 'contend'),
      ),
    )
    await expect(commit(adding('k/n', 1))).rejects.toMatchObject({
      code: 'ERR_STORE',
      message: expect.stringContaining('nothing was written'),
    })
    expect(await valuesOf(store, 'k/n')).toEqual([undefined])
  })
})
