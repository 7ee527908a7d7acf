// `holdfast status`, run as a program on data directories that kernels made.

import { afterAll, describe, expect, test } from 'vitest'
import type { StatusJson } from '../../src/cli/status.ts'
import { cli, cliJson, declared, hold, kernelOn, onStore, removeData, startHolder, touchChains } from './cli-bench.ts'

afterAll(removeData)

describe('a store in use', () => {
  test('its identity, its living processes with their mode, and its open holds are shown', async () => {
    const data = await declared({ acme: { usd: 50, tokens: 2_000_000 } })
    const id = await onStore(data, async (store) => store.id)
    await using kernel = await kernelOn(data)
    const open = await hold(kernel, 'acme', { usd: 30_000_000, tokens: 3_000 })
    const settled = await hold(kernel, 'acme', { usd: 30_000_000 })
    await settled.settle({ usd: 13_425_000 })
    const { code, stdout, stderr } = await cli(['status', '--data', data])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toContain(`${data}/store\n`)
    expect(stdout).toContain(id)
    expect(stdout).toMatch(/^processes +1 alive$/m)
    expect(stdout).toMatch(/^open holds +1$/m)
    expect(stdout).toMatch(/^in suspense +0$/m)
    expect(stdout).toMatch(new RegExp(`^${kernel.boot.slice(0, 8)} +\\S+ +${process.pid} +enforce +alive +\\d+ s ago +1 +0$`, 'm'))
    expect(stdout).toMatch(/^usd +\$50\.00 +\$0\.013425 +- +\$0\.03 +- +\$49\.956575$/m)
    expect(stdout).not.toContain('NOT ENFORCED')
    await open.release('done')
  })

  test('as JSON, amounts are integers and field names are those of the documentation', async () => {
    const data = await declared({ acme: { usd: 50 }, labs: { usd: 1, calls: 10 }, 'acme/*': { usd: 2 } })
    await using kernel = await kernelOn(data)
    await hold(kernel, 'acme/r', { usd: 30_000_000 })
    await hold(kernel, 'labs', { usd: 1, calls: 1 })
    const status = await cliJson<StatusJson>(['status', '--data', data])
    expect(status).toMatchObject({
      holds: 2,
      suspended: 0,
      budgets: 3,
      notEnforced: [],
      frozen: [],
      // What is below a budget is a part of it: the child adds nothing.
      totals: { usd: { limit: 51_000_000_000, spent: 0, out: 30_000_001, free: 50_969_999_999 }, calls: { limit: 10, out: 1 } },
    })
    expect(status.processes).toEqual([
      expect.objectContaining({ process: kernel.boot, pid: process.pid, mode: 'enforce', state: 'alive', holds: 2, suspended: 0 }),
    ])
    expect(Object.keys(status.processes[0]!).sort()).toEqual(
      ['holds', 'host', 'leaseTtlMs', 'mode', 'pid', 'process', 'promise', 'seenAtMs', 'startedAtMs', 'state', 'suspended'].sort(),
    )
  })

  test('sums beyond 2^53 - 1 are null, not wrong', async () => {
    const data = await declared({ a: { usd: 9_000_000 }, b: { usd: 9_000_000 } })
    expect((await cliJson<StatusJson>(['status', '--data', data])).totals['usd']).toMatchObject({ limit: null, free: null, spent: 0 })
    expect((await cli(['status', '--data', data])).stdout).toMatch(/^usd +too large/m)
  })

  test('a store without budgets or processes says so, and all is well', async () => {
    const data = await declared({})
    const { code, stdout } = await cli(['status', '--data', data])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^processes +none$/m)
    expect(stdout).toMatch(/^budgets +0$/m)
  })
})

describe('processes that are not there any more', () => {
  test('one that was killed while it held is silent; once swept, it is gone and its hold is in suspense', async () => {
    const data = await declared({ acme: { usd: 50 } }, 60_000)
    const holder = await startHolder(data, { budget: 'acme', worst: { usd: 12_345_678 }, behindMs: 60_000 })
    await holder.kill()
    await touchChains(data)
    const before = await cli(['status', '--data', data])
    expect(before.stdout).toMatch(/^processes +1 silent$/m)
    expect(before.stdout).toMatch(new RegExp(` ${holder.pid} +enforce +silent +1 min ago +1 +0$`, 'm'))

    await using kernel = await kernelOn(data)
    expect(await kernel.sweep()).toBe(0)
    const after = await cli(['status', '--data', data])
    expect(after.code).toBe(0)
    expect(after.stdout).toMatch(/^processes +1 gone$/m)
    expect(after.stdout).toMatch(/^open holds +0$/m)
    expect(after.stdout).toMatch(/^in suspense +1 \(counts as spent\)$/m)
    expect(after.stdout).toMatch(/^usd +\$50\.00 +- +- +- +\$0\.012345678 +\$49\.987654322$/m)
    expect(await cliJson<StatusJson>(['status', '--data', data])).toMatchObject({
      holds: 0,
      suspended: 1,
      processes: [{ state: 'gone', holds: 0, suspended: 1 }],
    })
  })

  test('one that may be silent for longer, by its own lease, is alive for longer', async () => {
    const data = await declared({ acme: { usd: 50 } }, 60_000)
    const holder = await startHolder(data, { budget: 'acme', worst: { usd: 1 }, behindMs: 60_000, leaseTtlMs: 600_000 })
    const { stdout } = await cli(['status', '--data', data])
    await holder.kill()
    expect(stdout).toMatch(/^processes +1 alive$/m)
  })

  test('one that holds nothing need not report: it is idle, not silent', async () => {
    const data = await declared({ acme: { usd: 50 } }, 60_000)
    const holder = await startHolder(data, { budget: 'acme', worst: { usd: 1 }, behindMs: 60_000, settle: true })
    const { stdout } = await cli(['status', '--data', data])
    await holder.kill()
    expect(stdout).toMatch(/^processes +1 idle$/m)
    expect(stdout).not.toContain('silent')
  })
})

describe('observe mode', () => {
  test('NOT ENFORCED is printed for every budget that a living observe process uses, and for no other', async () => {
    const data = await declared({ acme: { usd: 50 }, 'acme/*': { usd: 2 }, labs: { usd: 1 } })
    const observer = await kernelOn(data, { mode: 'observe' })
    await hold(observer, 'acme/r', { usd: 1 })
    const { code, stdout } = await cli(['status', '--data', data])
    expect(code).toBe(0)
    expect(stdout.match(/NOT ENFORCED \(observe\): .*/g)).toEqual(['NOT ENFORCED (observe): acme', 'NOT ENFORCED (observe): acme/r'])
    expect(stdout).toMatch(/ observe +alive /)
    expect(await cliJson<StatusJson>(['status', '--data', data])).toMatchObject({ notEnforced: ['acme', 'acme/r'] })
    await observer.close()
  })

  test('it is not printed any more once the observer is closed', async () => {
    const data = await declared({ acme: { usd: 50 } })
    const observer = await kernelOn(data, { mode: 'observe' })
    await hold(observer, 'acme', { usd: 1 })
    await observer.close()
    expect((await cli(['status', '--data', data])).stdout).not.toContain('NOT ENFORCED')
  })
})
