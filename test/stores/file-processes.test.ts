// Eight processes with four callers each on one file store: nothing that was acknowledged is lost, nothing is
// applied twice, whoever is killed, stopped or torn. And the same run on two stores that are wrong on purpose,
// to show that it would notice.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { sleep } from '../../src/lib/clock.ts'
import type { CommitterOptions } from './committer.ts'
import { openStore, segmentOf, temporaryDirectory } from './journal.ts'
import { isAlive, runProcesses, type Verdict } from './processes.ts'

const NOTHING_WRONG = { lost: [], twice: [], invented: [], errors: [] }

function totalOf({ acknowledged }: Verdict): number {
  return acknowledged.add + acknowledged.set
}

test('without crashes every commit is acknowledged, and there exactly once', async () => {
  const commits = 60
  const verdict = await runProcesses({ kind: 'file', directory: temporaryDirectory(), seed: 1, commits, checkShare: 0.2, pauseMs: 0 })
  expect(verdict).toMatchObject({ ...NOTHING_WRONG, inDoubt: { add: 0, set: 0 } })
  expect(totalOf(verdict)).toBe(8 * 4 * commits)
  expect({ add: verdict.counter, set: verdict.checked }).toEqual(verdict.acknowledged)
  expect(verdict.applied).toBe(totalOf(verdict))
})

test('under SIGKILL, SIGSTOP, torn, stale and repeated lines nothing acknowledged is lost and nothing applied twice', async () => {
  const directory = temporaryDirectory()
  const verdict = await runProcesses({ kind: 'file', directory, seed: 7, commits: 1e6, checkShare: 0.1, pauseMs: 8, chaosMs: 7_000 })
  expect(verdict).toMatchObject(NOTHING_WRONG)
  const { acknowledged, inDoubt, counter, checked, applied, kills, stops, injected } = verdict
  expect(acknowledged.add).toBeLessThanOrEqual(counter)
  expect(counter).toBeLessThanOrEqual(acknowledged.add + inDoubt.add)
  expect(acknowledged.set).toBeLessThanOrEqual(checked)
  expect(checked).toBeLessThanOrEqual(acknowledged.set + inDoubt.set)
  expect(applied).toBe(counter + checked)
  // Something did happen.
  expect(Math.min(kills, stops, injected.torn, injected.stale, injected.repeated)).toBeGreaterThan(0)
  expect(totalOf(verdict)).toBeGreaterThan(1_000)
  // And what they left opens like any other, and takes commits.
  const store = openStore(directory)
  expect(await store.apply([{ add: [{ key: 'counter', by: 1 }] }])).toMatchObject({ results: [{ values: [counter + 1] }] })
  expect(readFileSync(segmentOf(directory)).at(-1)).toBe(10)
})

test('control: a store that reads, changes and writes one JSON file loses acknowledged adds, and the run shows it', async () => {
  const verdict = await runProcesses({ kind: 'naive', directory: temporaryDirectory(), seed: 1, commits: 25, checkShare: 0, pauseMs: 0 })
  expect(verdict).toMatchObject({ errors: [], inDoubt: { add: 0, set: 0 } })
  expect(totalOf(verdict)).toBe(8 * 4 * 25)
  expect(verdict.counter).toBeLessThan(verdict.acknowledged.add)
  expect(verdict.lost.length).toBeGreaterThan(0)
})

test('control: a journal whose lines count wherever they were decided loses check-and-sets, and the run shows it', async () => {
  const verdict = await runProcesses({ kind: 'hasty', directory: temporaryDirectory(), seed: 1, commits: 20, checkShare: 0.5, pauseMs: 0 })
  expect(verdict).toMatchObject({ errors: [], inDoubt: { add: 0, set: 0 } })
  expect(verdict.checked).toBeLessThan(verdict.acknowledged.set)
  expect(verdict.lost.length).toBeGreaterThan(0)
  // Its adds need no check, and are right: it is the missing rule that shows, nothing else.
  expect(verdict.counter).toBe(verdict.acknowledged.add)
})

test('a committer ends by itself when its parent is killed', async () => {
  const directory = temporaryDirectory()
  const work = { directory, name: 'a', seed: 1, callers: 1, commits: 1e9, checkShare: 0, pauseMs: 5 }
  const options: CommitterOptions = { ...work, kind: 'file', log: join(directory, 'log') }
  const script = `
    import { fork } from 'node:child_process'
    const child = fork(process.argv[1], [process.argv[2]], { execArgv: [] })
    child.once('message', () => child.send('go', () => process.stdout.write(String(child.pid))))`
  const child = join(import.meta.dirname, 'committer.ts')
  const parent = spawn(process.execPath, ['--input-type=module', '-e', script, child, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void parent.kill('SIGKILL'))
  const pid = Number(((await once(parent.stdout, 'data')) as [Buffer])[0].toString())
  expect(isAlive(pid)).toBe(true)
  parent.kill('SIGKILL')
  await once(parent, 'exit')
  while (isAlive(pid)) await sleep(20)
})
