// When a file is synced, in place or in a thread, and what a failed sync leaves behind.

import { execFileSync } from 'node:child_process'
import { closeSync, constants, openSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { createDiskSync } from '../../src/stores/journal/disk-sync.ts'
import { times } from '../../src/testing/store-bench.ts'
import { temporaryDirectory } from './journal.ts'

/** A descriptor that can be synced until it is swapped for a pipe, on which fdatasync(2) fails. */
function syncable(): { readonly descriptor: number; readonly breakIt: () => void; readonly mendIt: () => void } {
  const directory = temporaryDirectory()
  const pipe = join(directory, 'pipe')
  execFileSync('mkfifo', [pipe])
  const descriptor = openSync(join(directory, 'file'), 'a')
  return {
    descriptor,
    breakIt() {
      closeSync(descriptor)
      expect(openSync(pipe, constants.O_RDWR)).toBe(descriptor)
    },
    mendIt() {
      closeSync(descriptor)
      expect(openSync(join(directory, 'file'), 'a')).toBe(descriptor)
    },
  }
}

describe.each([
  ['in place', Infinity],
  ['in a thread', 0],
])('syncs made %s', (_, fastMs) => {
  test('are made for new bytes only', async () => {
    const { descriptor, breakIt } = syncable()
    const disk = createDiskSync(descriptor, fastMs)
    await disk.upTo(10)
    await disk.upTo(20)
    breakIt()
    await disk.upTo(20)
    await disk.upTo(10)
    await expect(disk.upTo(21)).rejects.toThrow(/EINVAL.*fdatasync/)
    closeSync(descriptor)
  })

  test('that failed have put nothing on disk: the same bytes are asked for again', async () => {
    const { descriptor, breakIt } = syncable()
    const disk = createDiskSync(descriptor, fastMs)
    await disk.upTo(10)
    breakIt()
    await expect(disk.upTo(20)).rejects.toThrow('EINVAL')
    await expect(disk.upTo(20)).rejects.toThrow('EINVAL')
    closeSync(descriptor)
  })
})

test.each([
  ['in place', Infinity],
  ['in a thread', 0],
])('after a sync that failed, %s, none succeeds: the system reports lost pages to one sync only', async (_, fastMs) => {
  const { descriptor, breakIt, mendIt } = syncable()
  const disk = createDiskSync(descriptor, fastMs)
  await disk.upTo(10)
  breakIt()
  // The second one is asked for before anybody can know that the first one failed.
  const both = [disk.upTo(20), disk.upTo(30)]
  await expect(both[0]).rejects.toThrow('EINVAL')
  await expect(both[1]).rejects.toThrow('EINVAL')
  mendIt()
  await disk.upTo(10)
  for (const bytes of [20, 30, 40]) await expect(disk.upTo(bytes)).rejects.toThrow('EINVAL')
  closeSync(descriptor)
})

test('idle waits for the syncs in threads: until then nobody may close the file', async () => {
  const { descriptor } = syncable()
  const disk = createDiskSync(descriptor, 0)
  let ended = 0
  const syncs = times(30, async (index) => {
    await disk.upTo(index + 1)
    ended += 1
  })
  await disk.idle()
  closeSync(descriptor)
  await new Promise((resolve) => setImmediate(resolve))
  expect(ended).toBe(30)
  await Promise.all(syncs)
})
