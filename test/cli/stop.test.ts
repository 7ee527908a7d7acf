// `holdfast stop`, run as a program beside a kernel that works.

import { afterAll, describe, expect, test } from 'vitest'
import type { StatusJson } from '../../src/cli/status.ts'
import type { StopJson } from '../../src/cli/stop.ts'
import { Refusal } from '../../src/lib/errors.ts'
import { until } from '../../src/testing/integration-bench.ts'
import { cli, cliJson, declared, hold, kernelOn, onStore, removeData } from './cli-bench.ts'

afterAll(removeData)

const WHY = ['--reason', 'loops since noon', '--by', 'ada'] as const

describe('holdfast stop', () => {
  test('stops a kernel that works in another process, is shown, and is lifted', async () => {
    const data = await declared({ acme: { usd: 50 }, 'acme/*': { usd: 2 } })
    await using kernel = await kernelOn(data)
    const refused = async (): Promise<string | undefined> => {
      try {
        await (await hold(kernel, 'acme/r', { usd: 1 })).release('only asked')
        return undefined
      } catch (error) {
        return Refusal.isInstance(error) ? error.code : String(error)
      }
    }
    expect(await refused()).toBeUndefined()
    const { code, stdout, stderr } = await cli(['stop', 'acme', ...WHY, '--data', data])
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'Budget `acme` is stopped until it is lifted.\n', stderr: '' })
    await until('the kernel knows', async () => (await refused()) === 'ERR_STOPPED')
    expect((await cli(['status', '--data', data])).stdout).toMatch(/STOPPED: Budget `acme`, by ada: loops since noon$/m)
    expect((await cliJson<StatusJson>(['status', '--data', data])).stops).toMatchObject([{ budget: 'acme', by: 'ada' }])
    expect((await cli(['doctor', '--data', data])).stdout).toMatch(/^warn +Budget `acme` is stopped, by ada: loops since noon$/m)
    const lift = await cli(['stop', 'acme', '--lift', '--reason', 'mended', '--by', 'bob', '--data', data])
    expect(lift).toMatchObject({ code: 0, stdout: 'Budget `acme` goes on. It was stopped by ada: loops since noon\n' })
    await until('the kernel goes on', async () => (await refused()) === undefined)
    expect((await cliJson<StatusJson>(['status', '--data', data])).stops).toEqual([])
  })

  test('of an agent, of everything, and for a while, as JSON', async () => {
    const data = await declared({ acme: { usd: 50 } })
    const agent = await cliJson<StopJson>(['stop', '--agent', 'researcher', '--for', '30min', ...WHY, '--data', data])
    expect(agent).toMatchObject({ stopped: true, stop: { agent: 'researcher', reason: 'loops since noon' } })
    expect(agent.stop!.untilMs! - agent.stop!.atMs).toBe(1_800_000)
    const all = await cliJson<StopJson>(['stop', '--all', ...WHY, '--data', data])
    expect(Object.keys(all.stop!).sort()).toEqual(['atMs', 'by', 'id', 'reason'])
    expect(await cliJson<StopJson>(['stop', 'acme', '--lift', ...WHY, '--data', data])).toEqual({ stopped: false })
    await onStore(data, async (store) => expect(await store.read(['stops'])).toMatchObject([{ value: { format: 1 } }]))
  })

  test.each([
    [['stop'], /Name one thing/],
    [['stop', 'acme', '--all'], /Name one thing/],
    [['stop', 'acme', '--lift', '--for', '1h'], /--for/],
    [['stop', '--all', '--for', '1 week'], /90s/],
    [['stop', '--agent', 'a/b'], /agent/],
  ])('%j is a wrong command line, and stops nothing', async (args, message) => {
    const data = await declared({ acme: { usd: 50 } })
    const { code, stderr } = await cli([...args, ...WHY, '--data', data])
    expect(code).toBe(2)
    expect(stderr).toMatch(message)
    await onStore(data, async (store) => expect(await store.read(['stops'])).toEqual([null]))
  })

  test('without a reason it is none', async () => {
    const data = await declared({ acme: { usd: 50 } })
    expect(await cli(['stop', '--all', '--data', data])).toMatchObject({ code: 2 })
  })
})
