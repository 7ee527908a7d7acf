// The question whether a file store still holds what it acknowledged, asked for many heads at once: every kernel asks
// it when it opens, for as many heads as there are chain files, and the journal may be as long as it gets.

import fs from 'node:fs'
import { expect, onTestFinished, test, vi } from 'vitest'
import { times } from '../../src/testing/store-bench.ts'
import { buildJournal, openStore } from './journal.ts'

const READ_CHUNK_BYTES = 4 * 1024 * 1024

test('many heads are found, each by itself, in a journal of several parts', async () => {
  const large = 'x'.repeat(1_000_000)
  const { directory, lines, storeId } = await buildJournal(5_000, (index) => ({
    set: [{ key: 'k/n', value: index % 500 === 0 ? large : index }],
  }))
  expect(lines.at(-1)!.head.bytes).toBeGreaterThan(2 * READ_CHUNK_BYTES)
  const store = openStore(directory)
  const elsewhere = lines.map(({ head }) => ({ ...head, bytes: head.bytes + 1 }))
  expect(await store.holds!(lines.map(({ head }) => head))).toEqual(times(5_000, () => 'yes'))
  expect(await store.holds!(elsewhere)).toEqual(times(5_000, () => 'no'))
  const [, first] = lines
  const mixed = [
    first!.head,
    { ...first!.head, segment: 2 },
    { ...first!.head, hash: 'A'.repeat(43) },
    { segment: 1, bytes: 0, hash: storeId },
    lines[4_999]!.head,
    first!.head,
  ]
  expect(await store.holds!(mixed)).toEqual(['yes', 'no', 'no', 'yes', 'yes', 'yes'])
  expect(await store.holds!([])).toEqual([])
})

test('a hundred old heads cost one walk over the journal, in parts of it', async () => {
  const { directory, lines } = await buildJournal(20_000)
  const store = openStore(directory)
  const old = lines.slice(0, 10_000).filter((_, index) => index % 100 === 0)
  const reads = vi.spyOn(Buffer, 'allocUnsafe')
  onTestFinished(() => reads.mockRestore())
  expect(await store.holds!(old.map(({ head }) => head))).toEqual(times(100, () => 'yes'))
  const sizes = reads.mock.calls.map(([size]) => size)
  expect(Math.max(...sizes)).toBeLessThanOrEqual(READ_CHUNK_BYTES)
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(fs.statSync(`${directory}/store/g-000000000001`).size)
})
