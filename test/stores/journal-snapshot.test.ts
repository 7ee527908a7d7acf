// What a snapshot is worth: opening from it is opening from all lines; one that was not finished is passed over, one
// that was changed, at whatever byte, is damage and named by file and line; and what it cannot know is not believed.

import {
  closeSync,
  copyFileSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { fileStore, type FileStore } from '../../src/stores/file.ts'
import { groupCommits } from '../../src/stores/group.ts'
import { segmentFile, snapshotsIn } from '../../src/stores/journal/folder.ts'
import type { Batch, StoreHead } from '../../src/stores/store.ts'
import { settableClock } from '../../src/testing/store-bench.ts'
import { temporaryDirectory } from './journal.ts'

interface Rotated {
  readonly directory: string
  readonly folder: string
  readonly heads: readonly StoreHead[]
  /** Names of the snapshots, the newest first. */
  readonly snapshots: readonly string[]
}

/** A store that was compacted some times, with commits before, between and after. */
async function rotated(compactions: number, batch: (index: number) => Batch = counting): Promise<Rotated> {
  const directory = temporaryDirectory()
  const store = fileStore(directory, { durability: 'os' })
  const heads: StoreHead[] = []
  const committer = groupCommits(store, { onStoreHead: (head) => heads.push(head) })
  for (let index = 0; index < 3 * (compactions + 1); index++) {
    await committer.commit(batch(index))
    if (index % 3 === 2 && index < 3 * compactions) await store.compact()
  }
  await store.close()
  const folder = join(directory, 'store')
  return { directory, folder, heads, snapshots: snapshotsIn(folder) }
}

const counting = (index: number): Batch => ({ add: [{ key: 'k/n', by: 1 }], set: [{ key: `k/${index}`, value: { text: `é\n${index}` } }] })

/** Opens a store, uses it, closes it. */
async function using<T>(directory: string, use: (store: FileStore) => Promise<T>): Promise<T> {
  const store = fileStore(directory, { durability: 'os' })
  try {
    return await use(store)
  } finally {
    await store.close()
  }
}

const contentOf = (directory: string): Promise<unknown> => using(directory, (store) => store.list('', { limit: 1_000 }))

function errorOf(directory: string): { readonly code: string; readonly message: string } {
  try {
    fileStore(directory, { durability: 'os' })
  } catch (error) {
    return error as { code: string; message: string }
  }
  return { code: 'opened', message: '' }
}

describe('a store that is opened from a snapshot', () => {
  test('has the same entries, versions and version counter as one that reads all lines', async () => {
    const { directory, folder, snapshots } = await rotated(1)
    const fromSnapshot = await contentOf(directory)
    const version = async (): Promise<unknown> => using(directory, (store) => store.apply([{ set: [{ key: 'k/next', value: 1 }] }]))
    for (const name of snapshots) rmSync(join(folder, name))
    expect(await contentOf(directory)).toEqual(fromSnapshot)
    expect(fromSnapshot).toHaveLength(7)
    expect(await version()).toMatchObject({ results: [{ version: 7 }] })
  })

  test('has the time of its last line, and what had expired at a seal is gone for good', async () => {
    const directory = temporaryDirectory()
    const clock = settableClock()
    const store = fileStore(directory, { durability: 'os', clock })
    const startMs = await store.now()
    await store.apply([
      {
        set: [
          { key: 'k/soon', value: 1, expiresAtMs: startMs + 10 },
          { key: 'k/later', value: 2, expiresAtMs: startMs + 1_000 },
        ],
      },
    ])
    clock.set(startMs + 10)
    await store.compact()
    await store.close()
    const [snapshot] = snapshotsIn(join(directory, 'store'))
    expect(readFileSync(join(directory, 'store', snapshot!), 'utf8')).not.toContain('k/soon')
    const behind = fileStore(directory, { durability: 'os', clock: { now: () => startMs - 5_000 } })
    expect(await behind.now()).toBe(startMs + 10)
    expect(await behind.read(['k/soon', 'k/later'])).toMatchObject([null, { value: 2, expiresAtMs: startMs + 1_000 }])
    await behind.close()
  })

  test('keeps two snapshots with their segments, and removes what is older', async () => {
    const { folder } = await rotated(5)
    expect(readdirSync(folder).map((name) => name.replace(/-\d+-[\w-]{22}$/, ''))).toEqual([
      'g-000000000005',
      'g-000000000006',
      's-000000000005',
      's-000000000006',
      'store.json',
      'trimmed',
    ])
  })

  test('says of every head that it ever named yes, or unknown once its segment was trimmed, and no of others', async () => {
    const { directory, heads } = await rotated(5)
    const answers = await using(directory, (store) => store.holds!(heads))
    expect(heads.map(({ segment }, index) => `${segment} ${answers[index]}`)).toEqual([
      ...['1', '2', '3', '4'].flatMap((segment) => [1, 2, 3].map(() => `${segment} unknown`)),
      ...['5', '6'].flatMap((segment) => [1, 2, 3].map(() => `${segment} yes`)),
    ])
    const others = heads.slice(-6).flatMap((head) => [
      { ...head, bytes: head.bytes + 1 },
      { ...head, hash: 'A'.repeat(43) },
      { ...head, segment: 7 },
    ])
    expect(new Set(await using(directory, (store) => store.holds!(others)))).toEqual(new Set(['no']))
  })

  test('says no of the heads of a kept segment that does not lead to the live one any more', async () => {
    const { directory, folder, heads } = await rotated(2)
    const file = segmentFile(folder, 2)
    truncateSync(file, readFileSync(file).lastIndexOf('{"n":'))
    const asked = heads.filter(({ segment }) => segment === 2)
    expect(await using(directory, (store) => store.holds!(asked))).toEqual(['no', 'no', 'no'])
  })
})

describe('a snapshot', () => {
  test('that is cut at any byte is passed over for the older one', async () => {
    const { directory, folder, snapshots } = await rotated(3)
    const whole = await contentOf(directory)
    const file = join(folder, snapshots[0]!)
    const bytes = readFileSync(file)
    for (let size = 0; size < bytes.length; size++) {
      writeFileSync(file, bytes.subarray(0, size))
      expect(await contentOf(directory)).toEqual(whole)
    }
  })

  test('with a changed byte, any byte, is damage: file and line are named, and the older one opens once it is deleted', async () => {
    const { directory, folder, snapshots } = await rotated(3)
    const whole = await contentOf(directory)
    const file = join(folder, snapshots[0]!)
    const bytes = readFileSync(file)
    const descriptor = openSync(file, 'r+')
    const missed: unknown[] = []
    for (let at = 0; at < bytes.length; at++) {
      writeSync(descriptor, Buffer.from([bytes[at]! ^ 1]), 0, 1, at)
      const { code, message } = errorOf(directory)
      const line = bytes.subarray(0, at).toString('latin1').split('\n').length
      if (code !== 'ERR_DAMAGE' || !message.startsWith(`${file} line ${line} is damaged: `)) missed.push({ at, code, message })
      writeSync(descriptor, bytes, at, 1, at)
    }
    closeSync(descriptor)
    expect(missed).toEqual([])
    rmSync(file)
    expect(await contentOf(directory)).toEqual(whole)
  })

  test('whose lines were removed or swapped is damage', async () => {
    const { directory, folder, snapshots } = await rotated(1, (index) => ({ set: [{ key: `k/${index}`, value: 'x'.repeat(100_000) }] }))
    const file = join(folder, snapshots[0]!)
    const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1)
    expect(lines.length).toBe(5)
    for (const index of [0, 1, 2, 3]) {
      for (const changed of [lines.toSpliced(index, 1), lines.toSpliced(index, 2, lines[index + 1]!, lines[index]!)]) {
        writeFileSync(file, changed.map((line) => `${line}\n`).join(''))
        expect(errorOf(directory)).toMatchObject({
          code: 'ERR_DAMAGE',
          message: expect.stringContaining(`${file} line ${index + 1} is damaged`),
        })
      }
    }
  })

  test('of another store, or under another name, is damage', async () => {
    const [one, other] = [await rotated(1), await rotated(1)]
    const name = one.snapshots[0]!.replace(/.{22}$/, 'z'.repeat(22))
    copyFileSync(join(other.folder, other.snapshots[0]!), join(one.folder, name))
    expect(errorOf(one.directory)).toMatchObject({
      code: 'ERR_DAMAGE',
      message: expect.stringMatching(/line 1 is damaged: it is of another store/),
    })
    rmSync(join(one.folder, name))
    copyFileSync(join(one.folder, one.snapshots[0]!), join(one.folder, one.snapshots[0]!.replace('s-000000000002', 's-000000000001')))
    rmSync(join(one.folder, one.snapshots[0]!))
    expect(errorOf(one.directory)).toMatchObject({
      code: 'ERR_DAMAGE',
      message: expect.stringMatching(/line 1 is damaged: it is of segment 2/),
    })
  })

  test('of a later format names the version problem', async () => {
    const { directory, folder, snapshots } = await rotated(1)
    const file = join(folder, snapshots[0]!)
    const { frame } = await import('../../src/stores/journal/line.ts')
    const { id } = JSON.parse(readFileSync(join(folder, 'store.json'), 'utf8')) as { id: string }
    writeFileSync(file, `${frame(id, '"snapshot":{"format":2}').text}\n`)
    expect(errorOf(directory)).toMatchObject({ code: 'ERR_STORE', message: expect.stringMatching(/has format 2.*Install a later one/) })
  })

  test('stands on a line: where its segment has another one there, an older snapshot is taken, and the damage is found', async () => {
    const { directory, folder } = await rotated(3)
    const file = segmentFile(folder, 4)
    const bytes = readFileSync(file)
    bytes[20] = bytes[20]! ^ 1
    writeFileSync(file, bytes)
    expect(errorOf(directory)).toMatchObject({ code: 'ERR_DAMAGE', message: expect.stringContaining(`${file} line 1 is damaged`) })
  })
})

describe('a copy that is not whole is refused, and nothing is created in its place', () => {
  test.each([
    ['the live segment', (folder: string) => rmSync(segmentFile(folder, 4))],
    ['all snapshots', (folder: string) => snapshotsIn(folder).forEach((name) => rmSync(join(folder, name)))],
    ['all segments', (folder: string) => [3, 4].forEach((segment) => rmSync(segmentFile(folder, segment)))],
    [
      'the end of the segment before the live one',
      (folder: string) => {
        snapshotsIn(folder)
          .slice(0, 1)
          .forEach((name) => rmSync(join(folder, name)))
        truncateSync(segmentFile(folder, 3), readFileSync(segmentFile(folder, 3)).indexOf(10) + 1)
      },
    ],
  ])('without %s', async (_, remove) => {
    const { directory, folder } = await rotated(3)
    remove(folder)
    expect(errorOf(directory)).toMatchObject({ code: 'ERR_DAMAGE', message: expect.stringContaining(`${folder} is incomplete`) })
    expect(existsSync(segmentFile(folder, 1))).toBe(false)
  })
})
