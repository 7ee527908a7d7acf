// Eight processes with four callers each on one SQLite database: nothing that was acknowledged is lost, nothing is
// applied twice, whoever is killed or stopped. That such a run would notice is shown in file-processes.test.ts.

import { expect, test } from 'vitest'
import { temporaryDirectory } from './journal.ts'
import { runProcesses, type Verdict } from './processes.ts'
import { openKind } from './store-kinds.ts'

const NOTHING_WRONG = { lost: [], twice: [], invented: [], errors: [] }

function totalOf({ acknowledged }: Verdict): number {
  return acknowledged.add + acknowledged.set
}

test('without crashes every commit is acknowledged, and there exactly once', async () => {
  const commits = 60
  const verdict = await runProcesses({ kind: 'sqlite', directory: temporaryDirectory(), seed: 1, commits, checkShare: 0.2, pauseMs: 0 })
  expect(verdict).toMatchObject({ ...NOTHING_WRONG, inDoubt: { add: 0, set: 0 } })
  expect(totalOf(verdict)).toBe(8 * 4 * commits)
  expect({ add: verdict.counter, set: verdict.checked }).toEqual(verdict.acknowledged)
  expect(verdict.applied).toBe(totalOf(verdict))
})

test('under SIGKILL and SIGSTOP nothing acknowledged is lost and nothing applied twice', async () => {
  const directory = temporaryDirectory()
  const verdict = await runProcesses({ kind: 'sqlite', directory, seed: 7, commits: 1e6, checkShare: 0.1, pauseMs: 8, chaosMs: 7_000 })
  expect(verdict).toMatchObject(NOTHING_WRONG)
  const { acknowledged, inDoubt, counter, checked, applied, kills, stops } = verdict
  expect(acknowledged.add).toBeLessThanOrEqual(counter)
  expect(counter).toBeLessThanOrEqual(acknowledged.add + inDoubt.add)
  expect(acknowledged.set).toBeLessThanOrEqual(checked)
  expect(checked).toBeLessThanOrEqual(acknowledged.set + inDoubt.set)
  expect(applied).toBe(counter + checked)
  // Something did happen.
  expect(Math.min(kills, stops)).toBeGreaterThan(0)
  expect(totalOf(verdict)).toBeGreaterThan(1_000)
  // And what they left opens like any other, and takes commits.
  const store = openKind('sqlite', directory)
  expect(await store.apply([{ add: [{ key: 'counter', by: 1 }] }])).toMatchObject({ results: [{ values: [counter + 1] }] })
  await store.close()
})
