// `holdfast budget init`, `check`, `set-limit`, `freeze` and `unfreeze`, run as programs beside kernels that spend.

import { existsSync } from 'node:fs'
import { afterAll, describe, expect, test } from 'vitest'
import type { BudgetCheckJson, BudgetInitJson, SetLimitJson } from '../../src/cli/budget-limits.ts'
import type { BudgetReportJson } from '../../src/cli/budget-report.ts'
import type { FreezeJson } from '../../src/cli/budget-freeze.ts'
import { balancedIn, cli, cliJson, declared, hold, kernelOn, newData, removeData } from './cli-bench.ts'

afterAll(removeData)

const WHY = ['--reason', 'ticket 4711', '--by', 'ada']

describe('init', () => {
  test('makes the store and the budget, and says the same when it is done again', async () => {
    const data = newData()
    const args = ['budget', 'init', '--task', 'report-7', '--limit', '5', 'calls=200', '--data', data]
    for (let round = 0; round < 2; round++)
      expect(await cli(args)).toEqual({ code: 0, stdout: 'report-7: $5.00, free $5.00\nreport-7: calls 200, free 200\n', stderr: '' })
    expect(await balancedIn(data)).toMatchObject([
      { budget: 'report-7', dimension: 'usd', limit: 5_000_000_000 },
      { dimension: 'calls', limit: 200 },
    ])
    const kernel = await kernelOn(data)
    await (await hold(kernel, 'report-7', { usd: 1_000_000_000, calls: 1 })).settle({ usd: 250_000_000 })
    await kernel.close()
    const { budget } = await cliJson<BudgetInitJson>(args)
    expect(budget).toMatchObject([{ spent: 250_000_000 }, { spent: 1 }])
  })

  test('below a budget that is there needs no word about that one, whatever its limit is by now', async () => {
    const data = await declared({ acme: { usd: '50.123456789', revision: 3 } })
    await cli(['budget', 'set-limit', 'acme', 'usd=20', ...WHY, '--data', data])
    expect(await cli(['budget', 'init', '--task', 'acme/report-7', '--limit', '$2.50', '--data', data])).toMatchObject({ code: 0 })
    expect(await balancedIn(data)).toMatchObject([
      { budget: 'acme', limit: 20_000_000_000 },
      { budget: 'acme/report-7', limit: 2_500_000_000 },
    ])
    const orphan = await cli(['budget', 'init', '--task', 'labs/report-7', '--limit', '1', '--data', data])
    expect(orphan.code).toBe(1)
    expect(orphan.stderr).toContain('needs its parent: declare `labs` too')
  })

  test('of another limit is an error that shows both, and changes nothing', async () => {
    const data = await declared({ acme: { usd: 5 } })
    const { code, stderr } = await cli(['budget', 'init', '--task', 'acme', '--limit', '6', '--data', data])
    expect(code).toBe(1)
    expect(stderr).toContain('declared as usd $6.00, but the store has usd $5.00')
    expect(await balancedIn(data)).toMatchObject([{ limit: 5_000_000_000 }])
  })

  test.each([
    [['--limit', '5'], "required option '--task <name>' not specified"],
    [['--task', 'acme'], "required option '--limit <usd>' not specified"],
    [['--task', 'a//b', '--limit', '5'], 'it is empty'],
    [['--task', 'acme', '--limit', '-5'], '`usd=-5` is no amount'],
    [['--task', 'acme', '--limit', 'NaN'], '`usd=NaN` is no amount'],
    [['--task', 'acme', '--limit', '0.0000000001'], 'at most nine decimals'],
    [['--task', 'acme', '--limit', '5', 'calls'], '`calls` is no amount'],
    [['--task', 'acme', '--limit', '5', 'calls=1.5'], 'whole number'],
    [['--task', 'acme', '--limit', '5', 'calls=1', 'calls=2'], '`calls` is given twice'],
  ])('with %j is a wrong command line, and makes nothing', async (args, message) => {
    const data = newData()
    const { code, stderr } = await cli(['budget', 'init', ...args, '--data', data])
    expect(code).toBe(2)
    expect(stderr).toContain(message)
    expect(existsSync(data)).toBe(false)
  })
})

describe('check', () => {
  test('ends with 0 when a cost fits at every level, and with 1 when it does not, naming what binds', async () => {
    const data = await declared({ acme: { usd: 1 }, 'acme/*': { usd: 5, tokens: 1_000 } })
    const check = (...args: readonly string[]) => cli(['budget', 'check', '--task', 'acme/r', ...args, '--data', data])
    expect(await check('--cost', '1')).toEqual({ code: 0, stdout: '$1.00 fits into acme/r.\n', stderr: '' })
    expect(await check('--cost', '1.01')).toEqual({
      code: 1,
      stdout: '$1.01 does not fit into acme/r.\n',
      stderr: 'holdfast: Budget `acme` has $1.00 usd free.\n',
    })
    expect(await check('tokens=1001')).toMatchObject({ code: 1, stderr: 'holdfast: Budget `acme/r` has 1,000 tokens free.\n' })
    const kernel = await kernelOn(data)
    const open = await hold(kernel, 'acme/r', { usd: 800_000_000 })
    const busy = await check('--cost', '0.5', '--json')
    expect(JSON.parse(busy.stderr)).toMatchObject({ error: { code: 'ERR_BUDGET_BUSY' } })
    expect(JSON.parse(busy.stdout) as BudgetCheckJson).toEqual({
      budget: 'acme/r',
      cost: { usd: 500_000_000 },
      fits: false,
      binding: { budget: 'acme', dimension: 'usd', free: 200_000_000, held: 800_000_000 },
    })
    await open.settle({ usd: 1 })
    await kernel.close()
    expect((await check('--cost', '0.5')).code).toBe(0)
    await balancedIn(data)
  })

  test('of a budget that does not exist, is frozen, or does not count such a thing ends with 1', async () => {
    const data = await declared({ acme: { usd: 1 } })
    expect((await cli(['budget', 'check', '--task', 'nope', '--cost', '1', '--data', data])).stderr).toContain('no budget `nope`')
    expect((await cli(['budget', 'check', '--task', 'acme', 'pages=1', '--data', data])).stderr).toContain('limits `pages`')
    await cli(['budget', 'freeze', 'acme', ...WHY, '--data', data])
    const frozen = await cli(['budget', 'check', '--task', 'acme', '--cost', '1', '--data', data, '--json'])
    expect(frozen.code).toBe(1)
    expect(JSON.parse(frozen.stderr)).toMatchObject({ error: { code: 'ERR_BUDGET_FROZEN' } })
  })
})

describe('set-limit', () => {
  test('sets several limits while a kernel spends, and status shows what is still to be cut', async () => {
    const data = await declared({ acme: { usd: 10, calls: 10 } })
    const kernel = await kernelOn(data)
    const open = await hold(kernel, 'acme', { usd: 8_000_000_000, calls: 1 })
    const { code, stdout } = await cli(['budget', 'set-limit', 'acme', 'usd=5', 'calls=20', ...WHY, '--data', data])
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: 'acme: usd $10.00 -> $5.00; $3.00 of it are spent or held, and are cut as they come back\nacme: calls 10 -> 20\n',
    })
    expect(await balancedIn(data)).toMatchObject([{ limit: 8_000_000_000, pendingCut: 3_000_000_000 }, { limit: 20 }])
    expect((await cli(['budget', 'status', '--data', data])).stdout).toMatch(/^acme +usd .* still to be cut: \$3\.00$/m)
    await open.settle({ usd: 1_000_000_000 })
    expect((await cli(['budget', 'check', '--task', 'acme', '--cost', '4.01', '--data', data])).code).toBe(1)
    expect((await cli(['budget', 'check', '--task', 'acme', '--cost', '4', '--data', data])).code).toBe(0)
    await kernel.sweep()
    expect(await balancedIn(data)).toMatchObject([{ limit: 5_000_000_000, free: 4_000_000_000 }, { limit: 20 }])
    await kernel.close()
  })

  test('says in JSON what it did, and in the chain who did it and why', async () => {
    const data = await declared({ acme: { usd: 10 } })
    const { changes } = await cliJson<SetLimitJson>(['budget', 'set-limit', 'acme', 'usd=7', ...WHY, '--data', data])
    expect(changes).toEqual([{ budget: 'acme', dimension: 'usd', before: 10_000_000_000, limit: 7_000_000_000, pendingCut: 0 }])
    const records = await cliJson<readonly Record<string, unknown>[]>(['audit', 'tail', '--data', data])
    expect(records.find(({ type }) => type === 'set-limit')).toMatchObject({
      budget: 'acme',
      limits: { usd: 7_000_000_000 },
      by: 'ada',
      reason: 'ticket 4711',
    })
    expect((await cli(['audit', 'verify', '--data', data])).code).toBe(0)
    const kernel = await kernelOn(data, { budgets: { acme: { usd: 10 } } })
    await kernel.close()
  })

  test('raises for a while: status and report show until when, and the first command after that ends it', async () => {
    const data = await declared({ acme: { usd: 10, calls: 5 } }, 3_600_000)
    const past = await kernelOn(data, {}, 3_600_000)
    await past.setLimit('acme', { calls: 8 }, { by: 'ada', reason: 'ticket 4711', forMs: 60_000 })
    await past.close()
    expect((await cli(['budget', 'status', '--data', data])).stdout).toMatch(/^acme +calls .* raised by 3 until .*, which is over: /m)
    const { code, stdout } = await cli(['budget', 'set-limit', 'acme', 'usd=15', '--for', '2h', ...WHY, '--data', data])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^acme: usd \$10\.00 -> \$15\.00, until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z\n$/)
    // The older one was over when that command opened the store.
    const lines = await balancedIn(data)
    expect(lines).toMatchObject([
      { limit: 15_000_000_000, raises: [{ amount: 5_000_000_000, by: 'ada', reason: 'ticket 4711' }] },
      { limit: 5 },
    ])
    expect(lines[1]).not.toHaveProperty('raises')
    expect((await cli(['budget', 'status', '--data', data])).stdout).toMatch(/^acme +usd .* raised by \$5\.00 until \d.*Z \(ada\)$/m)
    expect((await cli(['budget', 'report', '--data', data])).stdout).toMatch(/^acme: usd raised by \$5\.00 until \d.*Z \(ada\)$/m)
    const { budgets } = await cliJson<BudgetReportJson>(['budget', 'report', '--data', data])
    expect(budgets[0]).toMatchObject({ allocated: 15_000_000_000, raises: [{ amount: 5_000_000_000 }] })
    const records = await cliJson<readonly Record<string, unknown>[]>(['audit', 'tail', '--data', data])
    expect(records.filter(({ type }) => type === 'raise-ended')).toMatchObject([{ budget: 'acme', amounts: { calls: 3 }, by: 'ada' }])
    expect(records.find(({ type, limits }) => type === 'set-limit' && 'usd' in (limits as object))).toMatchObject({ forMs: 7_200_000 })
  })

  test.each([
    [['acme', 'usd=15', '--for', '2', ...WHY], 2, '`2` is no span of 1s to 366d'],
    [['acme', 'usd=15', '--for', '0s', ...WHY], 2, '`0s` is no span'],
    [['acme', 'usd=15', '--for', '367d', ...WHY], 2, '`367d` is no span'],
    [['acme', 'usd=5', '--for', '2h', ...WHY], 1, 'a limit can only be raised, and `usd` is $10.00 already'],
    [['acme', 'usd=5'], 2, "required option '--reason <text>' not specified"],
    [['acme', ...WHY], 2, "missing required argument 'limits'"],
    [['acme', 'usd=-1', ...WHY], 2, '`usd=-1` is no amount'],
    [['acme', 'usd=NaN', ...WHY], 2, '`usd=NaN` is no amount'],
    [['acme', 'usd=99999999', ...WHY], 2, 'at most 9007199.254740991 USD'],
    [['acme', 'pages=5', ...WHY], 1, 'does not limit `pages`; it limits usd'],
    [['nope', 'usd=5', ...WHY], 1, 'There is no budget `nope`'],
    [['acme', 'usd=5', '--reason', ' '], 1, 'Expected `reason` to be a text'],
  ])('%j ends with %i', async (args, code, message) => {
    const data = await declared({ acme: { usd: 10 } })
    const run = await cli(['budget', 'set-limit', ...args, '--data', data])
    expect(run.code).toBe(code)
    expect(run.stderr).toContain(message)
    expect(await balancedIn(data)).toMatchObject([{ limit: 10_000_000_000 }])
  })

  test('makes no store where there is none', async () => {
    const data = newData()
    for (const command of [
      ['set-limit', 'acme', 'usd=1'],
      ['freeze', 'acme'],
      ['unfreeze', 'acme'],
      ['reclaim', '--hold', 'x', 'usd=1'],
      ['correct', '--hold', 'x', 'usd=1'],
    ])
      expect((await cli(['budget', ...command, ...WHY, '--data', data])).code).toBe(1)
    expect(existsSync(data)).toBe(false)
  })
})

describe('freeze and unfreeze', () => {
  test('stop a running kernel, and let it go on', async () => {
    const data = await declared({ acme: { usd: 10 }, 'acme/*': { usd: 5 } })
    const kernel = await kernelOn(data)
    await (await hold(kernel, 'acme/r', { usd: 1 })).settle({ usd: 1 })
    expect(await cli(['budget', 'freeze', 'acme', ...WHY, '--data', data])).toEqual({ code: 0, stdout: 'acme is frozen.\n', stderr: '' })
    await expect(hold(kernel, 'acme/r', { usd: 1 })).rejects.toMatchObject({ code: 'ERR_BUDGET_FROZEN' })
    expect(await cliJson<FreezeJson>(['budget', 'unfreeze', 'acme', ...WHY, '--data', data])).toEqual({
      budget: 'acme',
      frozen: false,
      was: 'ticket 4711',
    })
    await (await hold(kernel, 'acme/r', { usd: 1 })).settle({ usd: 1 })
    expect((await cli(['budget', 'unfreeze', 'acme', ...WHY, '--data', data])).stdout).toBe('acme was not frozen.\n')
    await kernel.close()
    await balancedIn(data)
  })

  test('of what does not balance, or does not exist, is refused', async () => {
    const data = await declared({ acme: { usd: 10 } })
    expect((await cli(['budget', 'freeze', 'nope', ...WHY, '--data', data])).stderr).toContain('There is no budget `nope`')
    expect((await cli(['budget', 'freeze', 'a//b', ...WHY, '--data', data])).code).toBe(2)
  })
})

describe('help', () => {
  test.each(['report', 'init', 'check', 'set-limit', 'freeze', 'unfreeze', 'leases', 'reclaim', 'correct', 'recover'])(
    'of %s has an example',
    async (command) => {
      const { code, stdout, stderr } = await cli(['budget', command, '--help'])
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      expect(stdout).toMatch(new RegExp(`^ {2}\\$ holdfast budget ${command}`, 'm'))
      expect(stdout).toContain('--store <address>')
    },
  )
})
