// Eight processes with four callers each on one Postgres server: nothing that was acknowledged is lost, nothing is
// applied twice, whoever is killed or stopped, the server included. That such a run would notice is shown in
// file-processes.test.ts.

import { expect, onTestFinished, test } from 'vitest'
import { sleep } from '../../src/lib/clock.ts'
import { temporaryDirectory } from './journal.ts'
import { postgresBinaries, startPostgres, type PostgresServer } from './postgres-server.ts'
import { openPostgres, settlePostgres } from './postgres-site.ts'
import { runProcesses, type Verdict } from './processes.ts'
import { requireServer } from './servers.ts'

const available = requireServer('postgres', 'the Postgres store with many processes', postgresBinaries() !== undefined)
const NOTHING_WRONG = { lost: [], twice: [], invented: [], errors: [] }
/** What holds on a disk. */
const DURABLE = { fsync: 'on', synchronous_commit: 'on' }

async function site(): Promise<{ server: PostgresServer; directory: string }> {
  const server = await startPostgres(DURABLE)
  onTestFinished(() => server.stop())
  const directory = temporaryDirectory()
  await settlePostgres(directory, server.url)
  return { server, directory }
}

function totalOf({ acknowledged }: Verdict): number {
  return acknowledged.add + acknowledged.set
}

function expectNothingWrong(verdict: Verdict): void {
  expect(verdict).toMatchObject(NOTHING_WRONG)
  const { acknowledged, inDoubt, counter, checked, applied } = verdict
  expect(acknowledged.add).toBeLessThanOrEqual(counter)
  expect(counter).toBeLessThanOrEqual(acknowledged.add + inDoubt.add)
  expect(acknowledged.set).toBeLessThanOrEqual(checked)
  expect(checked).toBeLessThanOrEqual(acknowledged.set + inDoubt.set)
  expect(applied).toBe(counter + checked)
}

test.runIf(available)('without crashes every commit is acknowledged, and there exactly once', async () => {
  const { directory } = await site()
  const commits = 40
  const verdict = await runProcesses({ kind: 'postgres', directory, seed: 1, commits, checkShare: 0.2, pauseMs: 0 })
  expectNothingWrong(verdict)
  expect(verdict).toMatchObject({ inDoubt: { add: 0, set: 0 } })
  expect(totalOf(verdict)).toBe(8 * 4 * commits)
})

test.runIf(available)('under SIGKILL and SIGSTOP of clients nothing acknowledged is lost and nothing applied twice', async () => {
  const { directory } = await site()
  const verdict = await runProcesses({ kind: 'postgres', directory, seed: 7, commits: 1e6, checkShare: 0.1, pauseMs: 8, chaosMs: 7_000 })
  expectNothingWrong(verdict)
  expect(Math.min(verdict.kills, verdict.stops)).toBeGreaterThan(0)
  expect(totalOf(verdict)).toBeGreaterThan(500)
  const store = await openPostgres(directory)
  expect(await store.apply([{ add: [{ key: 'counter', by: 1 }] }])).toMatchObject({ results: [{ values: [verdict.counter + 1] }] })
  await store.close()
})

test.runIf(available)(
  'under SIGKILL and immediate shutdown of the server nothing acknowledged is lost and nothing applied twice',
  async () => {
    const { server, directory } = await site()
    let crashes = 0
    const disturb = async (): Promise<void> => {
      if (crashes >= 4) return
      crashes += 1
      await sleep(300)
      await server.kill(crashes % 2 === 0 ? 'SIGKILL' : 'SIGQUIT')
      await server.start()
    }
    const run = { kind: 'postgres', directory, seed: 11, commits: 1e6, checkShare: 0.1, pauseMs: 8, chaosMs: 9_000, disturb } as const
    const verdict = await runProcesses(run)
    expectNothingWrong(verdict)
    // How many fit into the time is a matter of how fast the server starts here.
    expect(crashes).toBeGreaterThanOrEqual(1)
    expect(totalOf(verdict)).toBeGreaterThan(200)
  },
)
