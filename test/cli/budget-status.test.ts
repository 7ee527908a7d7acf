// `holdfast budget status`, run as a program.

import { afterAll, describe, expect, test } from 'vitest'
import type { BudgetStatusJson } from '../../src/cli/budget-status.ts'
import { cli, cliJson, declared, hold, kernelOn, meddle, onStore, removeData, startHolder, touchChains } from './cli-bench.ts'

afterAll(removeData)

describe('the table', () => {
  test('has a line for each dimension of each budget, dollars for usd, and every number to the right', async () => {
    const data = await declared({ acme: { usd: 50, tokens: 2_000_000 }, 'acme/*': { usd: 2, calls: 100 }, labs: { usd: '0.50' } }, 60_000)
    const holder = await startHolder(data, { budget: 'acme/r', worst: { usd: 12_345_678, tokens: 1_000, calls: 1 }, behindMs: 60_000 })
    await holder.kill()
    await touchChains(data)
    await using kernel = await kernelOn(data)
    await (await hold(kernel, 'acme/r', { usd: 30_000_000, calls: 1 })).settle({ usd: 13_425_000 })
    await (await hold(kernel, 'acme/r', { usd: 30_000_000, calls: 1 })).charge('the stream was cut')
    await hold(kernel, 'labs', { usd: 500_000_000 })
    const { code, stdout } = await cli(['budget', 'status', '--data', data])
    expect(code).toBe(0)
    // The store began a minute ago, so that there is a pace as well, which is never the same.
    expect(stdout.replace(/BUDGET +DIMENSION +PER HOUR.*?\n\n/s, '')).toBe(
      `
BUDGET  DIMENSION      LIMIT      SPENT  ASSUMED   HELD      SUSPENSE           FREE  NOTE
acme    usd           $50.00  $0.043425    $0.03      -  $0.012345678  $49.944229322
acme    tokens     2,000,000          -        -      -         1,000      1,999,000
acme/r  usd            $2.00  $0.043425    $0.03      -  $0.012345678   $1.944229322
acme/r  calls            100          2        1      -             1             97
labs    usd            $0.50          -        -  $0.50             -          $0.00

3 budgets

Chunks: A budget with 4 calls within 1000 ms is leased in chunks of 8 to 1,024 calls, at most 1/8 of what is free.
Waste:  a crash strands at most one chunk for each process and budget, 8 calls soon after its start, and what its calls under way had set aside; nothing now, in 0 leases.
`.trimStart(),
    )
  })

  test('says how fast a budget is spent and until when it lasts, since a sample of an earlier process; not of one that rests', async () => {
    const behindMs = 30 * 60_000
    const data = await declared({ acme: { usd: 50, tokens: 2_000 }, labs: { usd: 5 } }, behindMs)
    const past = await kernelOn(data, {}, behindMs)
    await (await hold(past, 'acme', { usd: 1_000_000_000 })).settle({ usd: 1_000_000_000 })
    await past.close()
    const { forecast } = await cliJson<BudgetStatusJson>(['budget', 'status', '--data', data])
    expect(forecast.map(({ budget, dimension }) => `${budget} ${dimension}`)).toEqual(['acme usd', 'acme tokens', 'labs usd'])
    const [usd, tokens] = forecast
    expect(tokens).toMatchObject({ perHour: 0 })
    // A little over half an hour has gone by: nearly two dollars an hour, so that 49 dollars last a little over a day.
    expect([usd!.perHour! > 1_900_000_000, usd!.perHour! <= 2_000_000_000]).toEqual([true, true])
    const hoursLeft = (usd!.exhaustedAtMs! - usd!.sinceMs - behindMs) / 3_600_000
    expect([hoursLeft >= 24.5, hoursLeft < 26]).toEqual([true, true])
    const { stdout } = await cli(['budget', 'status', '--data', data])
    const time = String.raw`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z`
    expect(stdout).toMatch(
      new RegExp(`^BUDGET  DIMENSION +PER HOUR  USED UP AT +MEASURED SINCE\nacme    usd +\\$1\\.9\\d+  ${time}  ${time}\n\nChunks:`, 'm'),
    )
    const resting = await cli(['budget', 'status', 'labs', '--data', data])
    expect(resting.stdout).not.toContain('PER HOUR')
  })

  test('as JSON it is what the library says, in integers', async () => {
    const data = await declared({ acme: { usd: 50, calls: 10 }, 'acme/*': { usd: 2 } })
    await using kernel = await kernelOn(data)
    await hold(kernel, 'acme/r', { usd: 30_000_000, calls: 2 })
    const { budgets, damage } = await cliJson<BudgetStatusJson>(['budget', 'status', '--data', data])
    expect(damage).toEqual([])
    expect(budgets).toEqual(await kernel.budgets())
    expect(budgets[0]).toEqual({
      budget: 'acme',
      dimension: 'usd',
      limit: 50_000_000_000,
      free: 49_970_000_000,
      spent: 0,
      suspense: 0,
      out: 30_000_000,
      kids: 0,
      assumed: 0,
      over: 0,
      balanced: true,
      enforced: true,
    })
  })

  test('lines up under names of any script', async () => {
    const data = await declared({ 'labor 東京': { usd: 1 }, équipe: { usd: 2 }, '팀🚀': { usd: 3 } })
    const { stdout } = await cli(['budget', 'status', '--data', data])
    expect(stdout.split('\n').slice(1, 4)).toEqual([
      'labor 東京  usd        $1.00      -        -     -         -  $1.00',
      'équipe      usd        $2.00      -        -     -         -  $2.00',
      '팀🚀        usd        $3.00      -        -     -         -  $3.00',
    ])
    const decomposed = await cli(['budget', 'status', 'e\u0301quipe', '--data', data])
    expect(decomposed.stdout).toContain('équipe')
  })

  test('a store without budgets says how to declare one', async () => {
    const { code, stdout } = await cli(['budget', 'status', '--data', await declared({})])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^No budgets yet\. .*openKernel/)
  })
})

describe('a path', () => {
  test('shows that budget and those below it, and not its namesakes', async () => {
    const data = await declared({
      acme: { usd: 50 },
      'acme/r': { usd: 2 },
      'acme/r/x': { usd: 1 },
      'acme/r-2': { usd: 2 },
      acmeister: { usd: 1 },
    })
    const { budgets } = await cliJson<BudgetStatusJson>(['budget', 'status', 'acme/r', '--data', data])
    expect(budgets.map(({ budget }) => budget)).toEqual(['acme/r', 'acme/r/x'])
    const { stdout } = await cli(['budget', 'status', 'acme/r', '--data', data])
    expect(stdout).not.toContain('acme/r-2')
  })

  test('of a budget that does not exist ends with 1, and says whether it would be made', async () => {
    const data = await declared({ acme: { usd: 50 }, 'acme/*': { usd: 2 } })
    const unknown = await cli(['budget', 'status', 'nope', '--data', data])
    expect(unknown).toMatchObject({ code: 1, stdout: '' })
    expect(unknown.stderr).toBe('holdfast: There is no budget `nope` in this store. See all of them: holdfast budget status\n')
    const child = await cli(['budget', 'status', 'acme/new', '--data', data, '--json'])
    expect(child).toMatchObject({ code: 1, stdout: '' })
    expect(JSON.parse(child.stderr)).toEqual({
      error: {
        code: 'ERR_UNKNOWN_BUDGET',
        message: 'There is no budget `acme/new` in this store. It will be made from `acme/*` by the first call on it.',
      },
    })
  })

  test('that is none ends with 2, naming what is wrong with it', async () => {
    const { code, stderr } = await cli(['budget', 'status', 'a//b'])
    expect(code).toBe(2)
    expect(stderr).toContain('it is empty')
  })
})

describe('notes', () => {
  test('a budget that an observe process uses is not enforced, and what it let through is over', async () => {
    const data = await declared({ acme: { usd: 1 }, labs: { usd: 1 } })
    await using observer = await kernelOn(data, { mode: 'observe' })
    await hold(observer, 'acme', { usd: 3_000_000_000 })
    const { code, stdout } = await cli(['budget', 'status', '--data', data])
    expect(code).toBe(0)
    expect(stdout).toMatch(/ OVER +NOTE$/m)
    expect(stdout).toMatch(/^acme .* \$3\.00 +not enforced$/m)
    expect(stdout).toMatch(/^labs .* -$/m)
  })

  test('a frozen budget says why', async () => {
    const data = await declared({ acme: { usd: 1 } })
    await using kernel = await kernelOn(data)
    await (await hold(kernel, 'acme', { usd: 1_000_000_000 })).settle({ usd: 1_500_000_000 })
    const { code, stdout } = await cli(['budget', 'status', '--data', data])
    expect(code).toBe(0)
    expect(stdout).toMatch(/ frozen: a call used more than its worst case, and no free money covered it$/m)
    expect(stdout).not.toContain('UNBALANCED')
  })
})

describe('damage', () => {
  test('a budget whose columns do not sum up is UNBALANCED, and the exit code is 1', async () => {
    const data = await declared({ acme: { usd: 1 }, labs: { usd: 1 } })
    await meddle(data, { add: [{ key: 'free/usd/acme', by: 5 }] })
    const { code, stdout, stderr } = await cli(['budget', 'status', '--data', data])
    expect(code).toBe(1)
    expect(stdout).toMatch(/^acme .* UNBALANCED$/m)
    expect(stdout).not.toMatch(/^labs .* UNBALANCED$/m)
    expect(stderr).toBe('holdfast: Budget `acme` is not balanced in usd: its columns sum up to 1000000005, its limit is 1000000000.\n')
    expect((await cli(['budget', 'status', 'labs', '--data', data])).code).toBe(0)
  })

  test('a child whose record was lost is damage, by its counters and by the count of its parent', async () => {
    const data = await declared({ acme: { usd: 50 }, 'acme/*': { usd: 2 }, 'acme/named': { usd: 1 } })
    const kernel = await kernelOn(data)
    for (const child of ['a', 'b', 'named']) await (await hold(kernel, `acme/${child}`, { usd: 1 })).settle({ usd: 1 })
    await kernel.close()
    expect((await cli(['budget', 'status', '--data', data])).code).toBe(0)

    await meddle(data, { delete: ['budget/acme/b'] })
    const lost = await cli(['budget', 'status', '--data', data])
    expect(lost.code).toBe(1)
    expect(lost.stderr).toBe(
      'holdfast: Budget `acme/b` has counters (free/usd/acme/b) but no record: the record was lost.\n' +
        'Budget `acme` counts 2 children of `*`, but 1 are in the store.\n',
    )
    const json = await cli(['budget', 'status', '--data', data, '--json'])
    expect((JSON.parse(json.stdout) as BudgetStatusJson).damage).toHaveLength(2)
    expect(JSON.parse(json.stderr)).toMatchObject({ error: { code: 'ERR_DAMAGE' } })
  })

  test('a child that nobody counted is damage too', async () => {
    const data = await declared({ acme: { usd: 50 }, 'acme/*': { usd: 2 } })
    const kernel = await kernelOn(data)
    await (await hold(kernel, 'acme/a', { usd: 1 })).settle({ usd: 1 })
    await kernel.close()
    await meddle(data, { add: [{ key: 'children/acme', by: -1 }] })
    const { code, stderr } = await cli(['budget', 'status', '--data', data])
    expect({ code, stderr }).toEqual({ code: 1, stderr: 'holdfast: Budget `acme` counts 0 children of `*`, but 1 are in the store.\n' })
  })

  test('budgets that are born, spent and raised meanwhile never look like damage', async () => {
    const data = await declared({ acme: { usd: 50 }, 'acme/*': { usd: 2 } })
    await using kernel = await kernelOn(data)
    const stop = new AbortController()
    const work = async (name: string): Promise<number> => {
      let born = 0
      for (; !stop.signal.aborted; born++) await (await hold(kernel, `acme/${name}-${born}`, { usd: 2 })).settle({ usd: 1 })
      return born
    }
    const workers = ['x', 'y'].map(work)
    const runs = []
    for (let round = 0; round < 3; round++) runs.push(...(await Promise.all([0, 1].map(() => cli(['budget', 'status', '--data', data])))))
    stop.abort()
    const born = (await Promise.all(workers)).reduce((sum, count) => sum + count)
    expect(runs.map(({ code, stderr }) => ({ code, stderr }))).toEqual(runs.map(() => ({ code: 0, stderr: '' })))
    const children = await onStore(data, (store) => store.read(['children/acme']))
    expect(children[0]?.value).toBe(born)
  })
})
