// The file store passes the store suite, with and without fsync, and while it rotates. What it does with damage, full disks and
// many processes is in journal-damage.test.ts and file-processes.test.ts.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { systemClock } from '../../src/lib/clock.ts'
import { fileStore } from '../../src/stores/file.ts'
import { settableClock } from '../../src/testing/store-bench.ts'
import { testStore } from '../../src/testing/store-suite.ts'
import { openStore, temporaryDirectory } from './journal.ts'

// The third one rotates after every few commits.
for (const [name, options] of [
  ['fsync', { durability: 'fsync' }],
  ['os', { durability: 'os' }],
  ['rotating', { durability: 'os', segmentBytes: 500 }],
] as const) {
  testStore(test, {
    name: `file (${name})`,
    async create() {
      const clock = settableClock()
      return { store: fileStore(await mkdtemp(join(tmpdir(), 'holdfast-')), { ...options, clock }), clock }
    },
    second: async ({ store, clock }) => fileStore(store.dataDirectory!, { ...options, clock: clock! }),
    reopen: async ({ store, clock }) => fileStore(store.dataDirectory!, { ...options, clock: clock! }),
    destroy: async ({ store }) => rm(store.dataDirectory!, { recursive: true }),
  })
}

test('what a file store says it survives follows its durability', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-'))
  for (const [durability, durable] of [['fsync', 'disk'] as const, ['os', 'os'] as const]) {
    const store = fileStore(directory, { durability })
    expect(store.capabilities).toEqual({ shared: 'host', durable })
    expect(store.dataDirectory).toBe(directory)
    await store.close()
  }
  await rm(directory, { recursive: true })
})

test('time goes on, and keys expire, behind a writer whose clock was an hour ahead', async () => {
  const directory = temporaryDirectory()
  const aheadMs = Date.now() + 3_600_000
  const ahead = openStore(directory, { clock: { now: () => aheadMs } })
  await ahead.apply([{ set: [{ key: 'k/soon', value: 1, expiresAtMs: aheadMs + 50 }] }])
  let passedMs = 0
  const store = openStore(directory, { clock: { now: () => systemClock.now(), elapsed: () => passedMs } })
  expect(await store.now()).toBe(aheadMs)
  passedMs += 49
  expect(await store.read(['k/soon'])).toMatchObject([{ value: 1 }])
  passedMs += 1
  expect(await store.read(['k/soon'])).toEqual([null])
  expect(await store.apply([{ check: [{ key: 'k/soon', version: 0 }], set: [{ key: 'k/next', value: 1 }] }])).toMatchObject({
    results: [{ outcome: 'ok' }],
  })
  // The time that has passed is in the journal now, for all.
  expect(await ahead.now()).toBe(aheadMs + 50)
})
