// The file store passes the store suite, with and without fsync. What it does with damage, full disks and
// many processes is in journal-damage.test.ts and file-processes.test.ts.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { fileStore } from '../../src/stores/file.ts'
import { settableClock } from '../../src/testing/store-bench.ts'
import { testStore } from '../../src/testing/store-suite.ts'

for (const durability of ['fsync', 'os'] as const) {
  testStore(test, {
    name: `file (${durability})`,
    async create() {
      const clock = settableClock()
      return { store: fileStore(await mkdtemp(join(tmpdir(), 'holdfast-')), { durability, clock }), clock }
    },
    second: async ({ store, clock }) => fileStore(store.dataDirectory!, { durability, clock: clock! }),
    reopen: async ({ store, clock }) => fileStore(store.dataDirectory!, { durability, clock: clock! }),
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
