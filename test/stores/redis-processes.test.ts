// Eight processes with four callers each on one Redis server: nothing that was acknowledged is lost, nothing is
// applied twice, whichever processes are killed or stopped, and however often the server itself is killed. That
// such a run would notice is shown in file-processes.test.ts, and here by a server that does not sync.

import { describe, expect, onTestFinished, test } from 'vitest'
import { sleep } from '../../src/lib/clock.ts'
import { temporaryDirectory } from './journal.ts'
import { runProcesses, type Verdict } from './processes.ts'
import { DURABLE, startRedis, type RedisServer, type RedisServerOptions } from './redis-server.ts'
import { openRedis, placeRedis } from './redis-site.ts'
import { requireServer } from './servers.ts'

const NOTHING_WRONG = { lost: [], twice: [], invented: [], errors: [] }

async function site(options: RedisServerOptions = DURABLE): Promise<{ directory: string; server: RedisServer }> {
  const [directory, server] = [temporaryDirectory(), await startRedis(options)]
  onTestFinished(() => server.stop())
  placeRedis(directory, server.port)
  return { directory, server }
}

function totalOf({ acknowledged }: Verdict): number {
  return acknowledged.add + acknowledged.set
}

describe.runIf(requireServer('redis-server', 'the Redis store (processes)'))('redis', () => {
  test('without crashes every commit is acknowledged, and there exactly once', async () => {
    const { directory } = await site()
    const commits = 60
    const verdict = await runProcesses({ kind: 'redis', directory, seed: 1, commits, checkShare: 0.2, pauseMs: 0 })
    expect(verdict).toMatchObject({ ...NOTHING_WRONG, inDoubt: { add: 0, set: 0 } })
    expect(totalOf(verdict)).toBe(8 * 4 * commits)
    expect({ add: verdict.counter, set: verdict.checked }).toEqual(verdict.acknowledged)
    expect(verdict.applied).toBe(totalOf(verdict))
  })

  test('under SIGKILL and SIGSTOP of processes, and SIGKILL of the server, nothing acknowledged is lost and nothing applied twice', async () => {
    const { directory, server } = await site()
    let restarts = 0
    const disturb = async (): Promise<void> => {
      restarts += 1
      await server.kill()
      await server.start()
      await sleep(100)
    }
    const run = { kind: 'redis', directory, seed: 7, commits: 1e6, checkShare: 0.1, pauseMs: 8, chaosMs: 9_000, disturb } as const
    const verdict = await runProcesses(run)
    expect(verdict).toMatchObject(NOTHING_WRONG)
    const { acknowledged, inDoubt, counter, checked, applied, kills, stops } = verdict
    expect(acknowledged.add).toBeLessThanOrEqual(counter)
    expect(counter).toBeLessThanOrEqual(acknowledged.add + inDoubt.add)
    expect(acknowledged.set).toBeLessThanOrEqual(checked)
    expect(checked).toBeLessThanOrEqual(acknowledged.set + inDoubt.set)
    expect(applied).toBe(counter + checked)
    // Something did happen.
    expect(Math.min(kills, stops, restarts)).toBeGreaterThan(2)
    expect(totalOf(verdict)).toBeGreaterThan(500)
    // And what they left opens like any other, and takes commits.
    const store = await openRedis(directory)
    expect(await store.apply([{ add: [{ key: 'counter', by: 1 }] }])).toMatchObject({ results: [{ values: [counter + 1] }] })
    await store.close()
  })

  test('control: a server that keeps nothing loses everything when it is killed, and every process says so', async () => {
    const { directory, server } = await site({ appendonly: 'no' })
    let killed = false
    const disturb = async (): Promise<void> => {
      if (killed) return
      killed = true
      await server.kill()
      await server.start()
    }
    const first = await openRedis(directory)
    onTestFinished(() => first.close())
    await first.apply([{ set: [{ key: 'k/spent', value: 1 }] }])
    const run = { kind: 'redis', directory, seed: 3, commits: 1e6, checkShare: 0.1, pauseMs: 8, chaosMs: 3_000, disturb } as const
    const verdict = await runProcesses(run)
    expect(verdict.lost.length).toBeGreaterThan(0)
    expect(verdict.errors.length).toBeGreaterThan(0)
    for (const error of verdict.errors) expect(error).toContain('{holdfast:default} is damaged')
    await expect(first.read(['k/spent'])).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
  })
})
