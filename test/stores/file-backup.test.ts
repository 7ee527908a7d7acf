// Backups of a file store: taken while others write and rotate, each is the store at one instant, checked byte by
// byte, never written over anything, and no store until somebody says so. An old one in the place of its store is
// found out by the heads that processes have noted since.

import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { assertStoreIsWhole } from '../../src/audit/store-heads.ts'
import { fileStore, verifyBackup, type FileStore } from '../../src/stores/file.ts'
import { groupCommits } from '../../src/stores/group.ts'
import { segmentsIn } from '../../src/stores/journal/folder.ts'
import type { StoreHead } from '../../src/stores/store.ts'
import { times } from '../../src/testing/store-bench.ts'
import { temporaryDirectory } from './journal.ts'

const ADD = {
  add: [
    { key: 'k/n', by: 1 },
    { key: 'k/m', by: 1 },
  ],
}

function open(directory: string, segmentBytes?: number): FileStore {
  const store = fileStore(directory, { durability: 'os', ...(segmentBytes === undefined ? {} : { segmentBytes }) })
  onTestFinished(() => store.close())
  return store
}

async function commit(store: FileStore, count: number): Promise<StoreHead> {
  let last: StoreHead | undefined
  const committer = groupCommits(store, { onStoreHead: (head) => (last = head) })
  for (let index = 0; index < count; index++) await committer.commit(ADD)
  return last!
}

const numbers = async (store: FileStore): Promise<unknown[]> => (await store.read(['k/n', 'k/m'])).map((entry) => entry?.value)
const elsewhere = (): string => join(temporaryDirectory(), 'backup')
const adopt = (directory: string): void => rmSync(join(directory, 'store', 'backup.json'))

test.each([
  ['an empty store', 0, 0],
  ['a young store', 7, 0],
  ['a store that was compacted', 7, 3],
])('a backup of %s says what it is, is whole, and is that store once its note is deleted', async (_, commits, compactions) => {
  const store = open(temporaryDirectory())
  if (commits > 0) await commit(store, commits)
  for (const _ of times(compactions, () => 0)) await store.compact()
  const to = elsewhere()
  const backup = await store.backup(to)
  expect(backup).toMatchObject({ storeId: store.id, version: commits, keys: commits > 0 ? 2 : 0 })
  expect(verifyBackup(to)).toEqual(backup)
  expect(() => fileStore(to)).toThrow(
    expect.objectContaining({ code: 'ERR_STORE', message: expect.stringMatching(/is a backup .* delete .*backup\.json/) }),
  )
  adopt(to)
  const copy = open(to)
  expect([copy.id, await numbers(copy)]).toEqual([store.id, await numbers(store)])
  expect(await copy.holds!([backup.head])).toEqual(['yes'])
  expect(() => verifyBackup(to)).toThrow(/is no backup, or one that is in use/)
})

test('backups that are taken while stores write and rotate are each of one instant, in order', async () => {
  const directory = temporaryDirectory()
  const stores = times(3, () => open(directory, 3_000))
  const run = { over: false, commits: 0 }
  onTestFinished(() => void (run.over = true))
  const writers = stores.map(async (store) => {
    const committer = groupCommits(store)
    while (!run.over) if ((await committer.commit(ADD)).outcome === 'ok') run.commits += 1
  })
  const seen: number[] = []
  for (let round = 0; round < 10; round++) {
    const to = elsewhere()
    const before = run.commits
    const backup = await stores[round % 3]!.backup(to)
    expect(verifyBackup(to)).toEqual(backup)
    adopt(to)
    const [n, m] = await numbers(open(to))
    expect(n).toBe(m)
    expect(Number(n ?? 0)).toBeGreaterThanOrEqual(before)
    seen.push(Number(n ?? 0))
    if (round % 2 === 0) await stores[round % 3]!.compact()
  }
  run.over = true
  await Promise.all(writers)
  expect(seen.at(-1)).toBeGreaterThan(0)
  expect(seen).toEqual(seen.toSorted((a, b) => a - b))
  expect(segmentsIn(join(directory, 'store')).at(-1)).toBeGreaterThan(5)
})

test('a backup writes over nothing, not even an empty folder, and leaves nothing half done', async () => {
  const store = open(temporaryDirectory())
  await commit(store, 1)
  const to = elsewhere()
  await store.backup(to)
  const before = readdirSync(join(to, 'store'))
  await expect(store.backup(to)).rejects.toMatchObject({
    code: 'ERR_STORE',
    message: expect.stringMatching(/is there already, and is not overwritten/),
  })
  expect([readdirSync(to), readdirSync(join(to, 'store'))]).toEqual([['store'], before])
  const empty = elsewhere()
  mkdirSync(join(empty, 'store'), { recursive: true })
  await expect(store.backup(empty)).rejects.toMatchObject({ code: 'ERR_STORE' })
  const file = join(temporaryDirectory(), 'file')
  writeFileSync(file, '')
  await expect(store.backup(file)).rejects.toMatchObject({ code: 'ERR_STORE', message: expect.stringMatching(/^No backup was made/) })
  // And the store goes on.
  expect(await commit(store, 1)).toMatchObject({ segment: 1 })
})

test('a changed, cut or missing file of a backup is damage, and named', async () => {
  const store = open(temporaryDirectory())
  await commit(store, 5)
  await store.compact()
  await commit(store, 5)
  const to = elsewhere()
  await store.backup(to)
  const folder = join(to, 'store')
  expect(readdirSync(folder).length).toBe(5)
  for (const name of readdirSync(folder)) {
    const file = join(folder, name)
    const bytes = readFileSync(file)
    const damages: (() => void)[] = [() => renameSync(file, `${file}.gone`)]
    if (bytes.length > 0) {
      damages.push(() => writeFileSync(file, bytes.subarray(0, -1)))
      for (const at of [5, bytes.length >> 1, bytes.length - 2]) damages.push(() => writeFileSync(file, bytes.with(at, bytes[at]! ^ 1)))
    }
    for (const damage of damages) {
      damage()
      expect(() => verifyBackup(to)).toThrow(expect.objectContaining({ message: expect.stringContaining(file) }))
      rmSync(`${file}.gone`, { force: true })
      writeFileSync(file, bytes)
    }
  }
  expect(verifyBackup(to)).toMatchObject({ version: 10 })
})

test('an old backup in the place of its store is found out by the heads noted since, whether or not the store has rotated', async () => {
  for (const compactions of [0, 1, 4]) {
    const directory = temporaryDirectory()
    const store = open(directory)
    await commit(store, 3)
    await store.compact()
    const to = elsewhere()
    await store.backup(to)
    let noted = await commit(store, 3)
    for (let round = 0; round < compactions; round++) {
      await store.compact()
      noted = await commit(store, 1)
    }
    expect(await store.holds!([noted])).toEqual(['yes'])
    adopt(to)
    const old = open(to)
    expect(await old.holds!([noted])).toEqual(['no'])
    // Also after it has gone its own way for as long as the other one.
    await commit(old, 3)
    expect(await old.holds!([noted])).toEqual(['no'])
  }
})

test('an old backup is not opened by a kernel whose chain saw more', async () => {
  const { openAudited } = await import('../audit/chains.ts')
  const directory = temporaryDirectory()
  const store = fileStore(directory, { durability: 'os' })
  const work = async (on: FileStore): Promise<void> => {
    const kernel = await openAudited({ store: on })
    const scope = kernel.scope({ agent: 'ann', task: 't', budget: 'acme' })
    await (await scope.begin({ kind: 'model', resource: 'gpt', worst: { calls: 1 } })).settle({ calls: 1 })
    await kernel.close()
  }
  await work(store)
  const to = elsewhere()
  await store.backup(to)
  await work(store)
  await store.compact()
  await store.close()
  rmSync(join(directory, 'store'), { recursive: true })
  cpSync(join(to, 'store'), join(directory, 'store'), { recursive: true })
  adopt(directory)
  const restored = open(directory)
  await expect(assertStoreIsWhole(directory, restored)).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
  await expect(work(restored)).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
})

test('a backup that cannot be written leaves no folder of its own behind', async () => {
  const store = open(temporaryDirectory())
  await commit(store, 1)
  const parent = temporaryDirectory()
  chmodSync(parent, 0o755)
  writeFileSync(join(parent, 'store'), 'a file')
  await expect(store.backup(parent)).rejects.toMatchObject({ code: 'ERR_STORE' })
  expect(readdirSync(parent)).toEqual(['store'])
  expect(existsSync(join(parent, 'store', 'backup.json'))).toBe(false)
})
