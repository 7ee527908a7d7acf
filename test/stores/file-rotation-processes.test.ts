// Eight processes on a file store whose segments are so short that somebody always rotates: nothing that was
// acknowledged is lost or applied twice, whoever is killed, stopped or torn, in whatever segment. And several
// processes that compact at the same moment.

import { closeSync, constants, openSync, readdirSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { fileStore, type FileStore } from '../../src/stores/file.ts'
import { groupCommits } from '../../src/stores/group.ts'
import { placeOfSnapshot, segmentFile, segmentsIn, snapshotsIn } from '../../src/stores/journal/folder.ts'
import { seededRandom } from '../../src/testing/faulty-store.ts'
import { times } from '../../src/testing/store-bench.ts'
import { temporaryDirectory } from './journal.ts'
import { runProcesses, type Verdict } from './processes.ts'

const NOTHING_WRONG = { lost: [], twice: [], invented: [], errors: [] }
const PLACE = { kind: 'file', segmentBytes: 6_000 } as const

/** Opens a store without fsync; it is closed with its test. */
function openStore(directory: string): FileStore {
  const store = fileStore(directory, { durability: 'os' })
  onTestFinished(() => store.close())
  return store
}

const totalOf = ({ acknowledged }: Verdict): number => acknowledged.add + acknowledged.set

test('without crashes every commit is acknowledged, and there exactly once, over many segments', async () => {
  const directory = temporaryDirectory()
  const verdict = await runProcesses({
    ...PLACE,
    directory,
    seed: 3,
    commits: 40,
    checkShare: 0.2,
    pauseMs: 2,
  })
  expect(verdict).toMatchObject({ ...NOTHING_WRONG, inDoubt: { add: 0, set: 0 } })
  expect(totalOf(verdict)).toBe(8 * 4 * 40)
  expect({ add: verdict.counter, set: verdict.checked }).toEqual(verdict.acknowledged)
  expect(segmentsIn(join(directory, 'store')).at(-1)).toBeGreaterThan(4)
})

test('under SIGKILL, SIGSTOP, torn and repeated lines in live and sealed segments nothing acknowledged is lost or applied twice', async () => {
  const directory = temporaryDirectory()
  const folder = join(directory, 'store')
  const injected = { torn: 0, repeated: 0 }
  const random = seededRandom(11)
  const compactor = openStore(directory)
  const verdict = await runProcesses({
    ...PLACE,
    directory,
    seed: 11,
    commits: 1e6,
    checkShare: 0.1,
    pauseMs: 8,
    chaosMs: 9_000,
    // The state grows, and with it the segments; here one more process rotates whenever nothing else happens.
    disturb: async () => (random() < 0.5 ? compactor.compact() : inject(folder, random, injected)),
  })
  expect(verdict).toMatchObject(NOTHING_WRONG)
  const { acknowledged, inDoubt, counter, checked, applied, kills, stops } = verdict
  expect(acknowledged.add).toBeLessThanOrEqual(counter)
  expect(counter).toBeLessThanOrEqual(acknowledged.add + inDoubt.add)
  expect(acknowledged.set).toBeLessThanOrEqual(checked)
  expect(checked).toBeLessThanOrEqual(acknowledged.set + inDoubt.set)
  expect(applied).toBe(counter + checked)
  // Something did happen.
  expect(Math.min(kills, stops, injected.torn, injected.repeated)).toBeGreaterThan(0)
  expect(totalOf(verdict)).toBeGreaterThan(500)
  expect(segmentsIn(folder).at(-1)).toBeGreaterThan(20)
  // And what they left opens like any other, takes commits, and is tidy.
  const store = openStore(directory)
  expect(await store.apply([{ add: [{ key: 'counter', by: 1 }] }])).toMatchObject({ results: [{ values: [counter + 1] }] })
  expect(segmentsIn(folder).length).toBeLessThan(20)
  expect(snapshotsIn(folder).length).toBeLessThan(10)
})

/** Appends half of a line, or a line once more, to any segment there is: never one that was removed. */
function inject(folder: string, random: () => number, counts: { torn: number; repeated: number }): void {
  const segments = segmentsIn(folder)
  const file = segmentFile(folder, segments[Math.floor(random() * segments.length)]!)
  let descriptor: number
  try {
    descriptor = openSync(file, constants.O_RDWR | constants.O_APPEND)
  } catch {
    return
  }
  try {
    const content = readFileSync(descriptor, 'utf8')
    const lines = content.split('\n').slice(0, -1)
    const line = lines[Math.floor(random() * Math.min(lines.length, 20))]
    if (line === undefined || line === '' || !content.endsWith('\n')) return
    if (random() < 0.5) {
      counts.repeated += 1
      writeSync(descriptor, `${line}\n`)
    } else {
      counts.torn += 1
      writeSync(descriptor, line.slice(0, 1 + Math.floor(random() * (line.length - 1))))
    }
  } finally {
    closeSync(descriptor)
  }
}

test('many compactions at once are as good as one after the other, whoever writes meanwhile', async () => {
  const directory = temporaryDirectory()
  const stores = times(4, () => openStore(directory))
  const committers = stores.map((store) => groupCommits(store))
  const add = { add: [{ key: 'n', by: 1 }] }
  for (let round = 1; round <= 10; round++) {
    const compactions = stores.map((store) => store.compact())
    const commits = committers.flatMap((committer) => times(5, () => committer.commit(add)))
    for (const result of await Promise.all(commits)) expect(result.outcome).toBe('ok')
    await Promise.all(compactions)
    for (const store of [...stores, openStore(directory)])
      expect(await store.read(['n'])).toMatchObject([{ value: round * 20, version: round * 20 }])
  }
  expect(segmentsIn(join(directory, 'store')).length).toBeLessThan(10)
  // Snapshots of one segment count as one when the older ones are removed.
  expect(new Set(snapshotsIn(join(directory, 'store')).map((name) => placeOfSnapshot(name)!.segment)).size).toBeGreaterThanOrEqual(2)
  expect(readdirSync(join(directory, 'store')).filter((name) => name.startsWith('tmp-') || name === 'turn.lock')).toEqual([])
})

test('a process that only reads, or only watches, follows over any number of segments, trimmed ones too', async () => {
  const directory = temporaryDirectory()
  const [reader, sleeper, watcher] = times(3, () => openStore(directory))
  let woken = 0
  const stop = watcher!.watch('n', () => (woken += 1))
  const writer = openStore(directory)
  const committer = groupCommits(writer)
  for (let count = 1; count <= 50; count++) {
    await committer.commit({ add: [{ key: 'n', by: 1 }] })
    if (count % 10 === 0) await writer.compact()
    expect(await reader!.read(['n'])).toMatchObject([{ value: count }])
  }
  await expect.poll(() => woken).toBeGreaterThan(2)
  stop()
  expect(segmentsIn(join(directory, 'store'))[0]).toBeGreaterThan(3)
  expect(await sleeper!.read(['n'])).toMatchObject([{ value: 50, version: 50 }])
  expect(await sleeper!.apply([{ add: [{ key: 'n', by: 1 }] }])).toMatchObject({ results: [{ values: [51] }] })
})

test('a short-lived process that finds the segment long rotates it before it ends', async () => {
  const directory = temporaryDirectory()
  for (let count = 0; count < 40; count++) {
    const store = fileStore(directory, { durability: 'os', segmentBytes: 1_000 })
    await groupCommits(store).commit({ add: [{ key: 'n', by: 1 }] })
    await store.close()
  }
  expect(segmentsIn(join(directory, 'store'))[0]).toBeGreaterThan(1)
  expect(await openStore(directory).read(['n'])).toMatchObject([{ value: 40 }])
})
