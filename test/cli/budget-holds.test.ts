// `holdfast budget leases`, `reclaim`, `correct`, `report` and `recover`, run as programs beside processes that hold
// money, are silent, and die.

import { afterAll, describe, expect, onTestFinished, test } from 'vitest'
import type { HoldEndJson, LeasesJson } from '../../src/cli/budget-holds.ts'
import type { BudgetRecoverJson } from '../../src/cli/budget-recover.ts'
import type { BudgetReportJson } from '../../src/cli/budget-report.ts'
import type { BudgetStatusJson } from '../../src/cli/budget-status.ts'
import type { DoctorJson } from '../../src/cli/doctor.ts'
import { sleep } from '../../src/lib/clock.ts'
import {
  balancedIn,
  chainFiles,
  cli,
  cliJson,
  declared,
  editLines,
  hold,
  kernelOn,
  meddle,
  onStore,
  removeData,
  startHolder,
  touchChains,
  type HolderOptions,
} from './cli-bench.ts'

afterAll(removeData)

const WHY = ['--reason', 'bill of November', '--by', 'ada']
const BEHIND_MS = 60_000

/** A data directory with a process that holds money, lives, and looks silent at once. */
async function withSilent(options: Partial<HolderOptions> = {}) {
  const data = await declared({ acme: { usd: 10, calls: 10 }, 'acme/*': { usd: 5 } }, BEHIND_MS)
  const holder = await startHolder(data, { budget: 'acme/r', worst: { usd: 2_000_000_000, calls: 1 }, behindMs: BEHIND_MS, ...options })
  onTestFinished(() => holder.kill())
  return { data, holder }
}

/** A process that was killed while it held $2, and has been silent for as long as it takes others to act on it. */
async function killedHolder(data: string): Promise<void> {
  const holder = await startHolder(data, { budget: 'acme', worst: { usd: 2_000_000_000 }, leaseTtlMs: 100 })
  await holder.kill()
  await sleep(2_200)
}

/** What lies where, by the beginning of its key. */
const idsIn = (data: string, prefix: string): Promise<readonly string[]> =>
  onStore(data, async (store) => (await store.list(prefix, { limit: 100 })).map(({ key }) => key.split('/')[2]!))

describe('leases', () => {
  test('lists what a process has leased, and status says what a crash would strand', async () => {
    const data = await declared({ acme: { usd: 10 } })
    const kernel = await kernelOn(data)
    expect((await cli(['budget', 'leases', '--data', data])).stdout).toBe('No leases.\n')
    for (let call = 0; call < 20; call++) await (await hold(kernel, 'acme', { usd: 1_000_000 })).settle({ usd: 400_000 })
    const { leases } = await cliJson<LeasesJson>(['budget', 'leases', '--data', data])
    expect(leases).toMatchObject([{ kind: 'lease', state: 'open', processState: 'alive', process: kernel.boot, budget: 'acme' }])
    const { usd: left } = leases[0]!.amounts
    const { out } = (await balancedIn(data))[0]!
    expect(left).toBe(out)
    expect(left).toBeGreaterThan(0)
    const { chunks } = await cliJson<BudgetStatusJson>(['budget', 'status', '--data', data])
    expect(chunks).toMatchObject({ leases: 1, expectedWaste: { usd: left }, policy: { firstChunk: 8, share: 8 } })
    const { stdout } = await cli(['budget', 'status', '--data', data])
    expect(stdout).toMatch(/^Waste: {2}a crash strands at most one chunk .*; \$0\.0\d+ now, in 1 lease\.$/m)
    expect((await cli(['budget', 'leases', '--data', data])).stdout).toMatch(/^\S+ +lease +\S+ +alive +acme +open +\d+ s +\$0\.0/m)
    await kernel.close()
    expect((await cli(['budget', 'leases', '--data', data])).stdout).toBe('No leases.\n')
  })

  test('with --all lists holds and charges too', async () => {
    const data = await declared({ acme: { usd: 10 } })
    const kernel = await kernelOn(data)
    const [open, charged] = [await hold(kernel, 'acme', { usd: 5 }), await hold(kernel, 'acme', { usd: 7 })]
    await charged.charge('the stream was cut')
    const { leases } = await cliJson<LeasesJson>(['budget', 'leases', '--all', '--data', data])
    expect(leases.map(({ id, kind, state, amounts }) => ({ id, kind, state, amounts }))).toEqual([
      { id: open.id, kind: 'hold', state: 'open', amounts: { usd: 5 } },
      { id: charged.id, kind: 'hold', state: 'charged', amounts: { usd: 7 } },
    ])
    expect((await cliJson<LeasesJson>(['budget', 'leases', '--data', data])).leases).toEqual([])
    await kernel.close()
  })
})

describe('reclaim', () => {
  test('ends what a silent process holds with what the bill says, by the beginning of its id', async () => {
    const { data } = await withSilent()
    const [id] = await idsIn(data, 'hold/')
    const run = await cli(['budget', 'reclaim', '--hold', id!.slice(0, 8), 'usd=0.25', 'calls=1', ...WHY, '--data', data])
    expect(run).toEqual({ code: 0, stdout: 'acme/r: used $0.25, calls 1; free again: $1.75\n', stderr: '' })
    expect(await balancedIn(data)).toMatchObject([
      { budget: 'acme', dimension: 'usd', spent: 250_000_000, suspense: 0, out: 0, free: 9_750_000_000 },
      { dimension: 'calls', spent: 1 },
      { budget: 'acme/r', spent: 250_000_000, free: 4_750_000_000 },
    ])
    const again = await cli(['budget', 'reclaim', '--hold', id!, 'usd=0', ...WHY, '--data', data, '--json'])
    expect(again.code).toBe(1)
    expect(JSON.parse(again.stderr)).toMatchObject({ error: { code: 'ERR_HOLD_STATE' } })
    const records = await cliJson<readonly Record<string, unknown>[]>(['audit', 'tail', '--data', data])
    expect(records.find(({ type }) => type === 'reclaim')).toMatchObject({ hold: id, by: 'ada', reason: 'bill of November' })
    expect((await cli(['audit', 'verify', '--data', data])).code).toBe(0)
  })

  test('writes off what nobody will ever know, and lets it be corrected later', async () => {
    const { data } = await withSilent()
    const [id] = await idsIn(data, 'hold/')
    const off = await cliJson<HoldEndJson>(['budget', 'reclaim', '--hold', id!, '--write-off', ...WHY, '--data', data])
    expect(off).toMatchObject({ hold: id, used: { usd: 2_000_000_000, calls: 1 }, returned: { usd: 0, calls: 0 } })
    expect(await balancedIn(data)).toMatchObject([{ spent: 2_000_000_000, assumed: 2_000_000_000, suspense: 0 }, {}, {}])
    const corrected = await cli(['budget', 'correct', '--hold', id!, 'usd=0.5', ...WHY, '--data', data])
    expect(corrected.stdout).toBe('acme/r: used $0.50, calls 1; free again: $1.50\n')
    expect(await balancedIn(data)).toMatchObject([{ spent: 500_000_000, assumed: 0 }, { spent: 1 }, {}])
    expect((await cli(['budget', 'correct', '--hold', id!, 'usd=0', ...WHY, '--data', data])).code).toBe(1)
  })

  test('of a process that is alive is refused, and nothing moves', async () => {
    const data = await declared({ acme: { usd: 10 } })
    const kernel = await kernelOn(data)
    const open = await hold(kernel, 'acme', { usd: 5 })
    const { code, stderr } = await cli(['budget', 'reclaim', '--hold', open.id, 'usd=0', ...WHY, '--data', data])
    expect(code).toBe(1)
    expect(stderr).toContain('is in suspense')
    await open.settle({ usd: 5 })
    await kernel.close()
    expect(await balancedIn(data)).toMatchObject([{ spent: 5, out: 0 }])
  })

  test.each([
    [['--hold', 'ID', 'usd=2.01'], 1, 'has $2.00, so it cannot have used $2.01'],
    [['--hold', 'ID', 'pages=1'], 1, 'has 0, so it cannot have used 1'],
    [['--hold', 'ID'], 2, 'Say what it used'],
    [['--hold', 'ID', 'usd=1', '--write-off'], 2, 'not both'],
    [['--hold', 'ID', 'usd=-1'], 2, 'is no amount'],
    [['--hold', 'ID', 'usd=1', '--process', 'nobody'], 1, 'No hold whose id begins with'],
    [['--hold', 'zzzzz', 'usd=1'], 1, 'No hold whose id begins with zzzzz is in suspense'],
  ])('%j ends with %i, and changes nothing', async (args, code, message) => {
    const { data } = await withSilent()
    const [id] = await idsIn(data, 'hold/')
    const run = await cli(['budget', 'reclaim', ...args.map((arg) => (arg === 'ID' ? id! : arg)), ...WHY, '--data', data])
    expect(run.code).toBe(code)
    expect(run.stderr).toContain(message)
    const { out, suspense, spent } = (await balancedIn(data))[0]!
    expect({ held: out + suspense, spent }).toEqual({ held: 2_000_000_000, spent: 0 })
  })
})

describe('correct', () => {
  test('corrects the charge of a process that lives', async () => {
    const data = await declared({ acme: { usd: 10 } })
    const kernel = await kernelOn(data)
    const charged = await hold(kernel, 'acme', { usd: 1_000_000_000 })
    await charged.charge('the stream was cut')
    const tooMuch = await cli(['budget', 'correct', '--hold', charged.id, 'usd=1.01', ...WHY, '--data', data])
    expect(tooMuch).toMatchObject({ code: 1, stdout: '' })
    const run = await cli(['budget', 'correct', '--hold', charged.id, 'usd=0.1', ...WHY, '--data', data])
    expect(run).toMatchObject({ code: 0, stdout: 'acme: used $0.10; free again: $0.90\n' })
    expect(await balancedIn(data)).toMatchObject([{ spent: 100_000_000, assumed: 0 }])
    await kernel.close()
  })
})

describe('report', () => {
  test('shows allocated, reported and free by budget, and who spent it by agent and by operation', async () => {
    const data = await declared({ acme: { usd: 10 } })
    const kernel = await kernelOn(data, { leasing: 'off' })
    const as = (agent: string, resource: string) =>
      kernel.scope({ agent, task: 'report', budget: 'acme' }).begin({ kind: 'model', resource, worst: { usd: 1_000_000_000 } })
    await (await as('writer', 'gpt-5.5')).settle({ usd: 250_000_000 })
    await (await as('writer', 'gpt-5.5-mini')).settle({ usd: 50_000_000 })
    await (await as('critic', 'gpt-5.5')).release('not sent')
    const cut = await as('critic', 'gpt-5.5')
    await cut.charge('the stream was cut')
    await as('critic', 'gpt-5.5')
    const { stdout } = await cli(['budget', 'report', '--data', data])
    expect(stdout).toBe(
      `
BUDGET  DIMENSION  ALLOCATED  REPORTED  UNREPORTED   FREE
acme    usd           $10.00     $1.30       $1.00  $7.70

AGENT   DIMENSION  ACTIONS  SPENT  ASSUMED   OPEN
critic  usd              3  $1.00    $1.00  $1.00
writer  usd              2  $0.30        -      -

OPERATION     DIMENSION  ACTIONS  SPENT  ASSUMED   OPEN
gpt-5.5       usd              4  $1.25    $1.00  $1.00
gpt-5.5-mini  usd              1  $0.05        -      -
`.trimStart(),
    )
    await cli(['budget', 'correct', '--hold', cut.id, 'usd=0.1', ...WHY, '--data', data])
    const json = await cliJson<BudgetReportJson>(['budget', 'report', 'acme', '--data', data])
    expect(json.byAgent[0]).toEqual({ name: 'critic', dimension: 'usd', actions: 3, spent: 100_000_000, assumed: 0, open: 1_000_000_000 })
    expect(json).toMatchObject({ budgets: [{ allocated: 10_000_000_000, spent: 400_000_000 }], unexplained: {} })
    await kernel.close()
  })

  test('says what the chains here do not explain, leaves other budgets out, and finds lines that do not hold', async () => {
    const data = await declared({ acme: { usd: 10 }, labs: { usd: 10 } })
    const kernel = await kernelOn(data)
    await (await hold(kernel, 'acme', { usd: 5_000_000 })).settle({ usd: 5_000_000 })
    await (await hold(kernel, 'labs', { usd: 7_000_000 })).settle({ usd: 7_000_000 })
    await kernel.close()
    const labs = await cliJson<BudgetReportJson>(['budget', 'report', 'labs', '--data', data])
    expect(labs.byAgent).toMatchObject([{ name: 'researcher', actions: 1, spent: 7_000_000 }])
    const elsewhere = await declared({})
    const away = await cliJson<BudgetReportJson>(['budget', 'report', 'acme', '--store', `file:${data}`, '--data', elsewhere])
    expect(away).toMatchObject({ byAgent: [], unexplained: { usd: 5_000_000 } })
    const chain = chainFiles(data).find((file) => file.includes(kernel.boot))!
    editLines(chain, (lines) => lines.map((line) => (line.includes('"intent"') ? line.replace('researcher', 'innocent') : line)))
    const { code, stderr } = await cli(['budget', 'report', '--data', data])
    expect(code).toBe(1)
    expect(stderr).toContain('2 lines of the chains are not records that hold')
    expect((await cli(['budget', 'report', 'nope', '--data', data])).code).toBe(1)
  })

  test('counts what a dead process was silent about as its successor charged it', async () => {
    const data = await declared({ acme: { usd: 10 } })
    await killedHolder(data)
    const before = await cliJson<BudgetReportJson>(['budget', 'report', '--data', data])
    expect(before.byAgent).toMatchObject([{ name: 'writer', spent: 0, open: 2_000_000_000 }])
    await cli(['budget', 'recover', '--data', data])
    const after = await cliJson<BudgetReportJson>(['budget', 'report', '--data', data])
    expect(after.byAgent).toMatchObject([{ name: 'writer', spent: 2_000_000_000, assumed: 2_000_000_000, open: 0 }])
    expect(after.unexplained).toEqual({})
  })
})

describe('recover', () => {
  test('with nothing to do says so', async () => {
    const data = await declared({ acme: { usd: 10 } })
    const { code, stdout } = await cli(['budget', 'recover', '--data', data])
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'There was nothing to put in order.\n\nNothing is left to decide.\n' })
  })

  test('ends what a dead process held, as its chain says', async () => {
    const data = await declared({ acme: { usd: 10 } })
    await killedHolder(data)
    const doctor = await cliJson<DoctorJson>(['doctor', '--data', data])
    expect(doctor.checks.find(({ id }) => id === 'successors')).toMatchObject({
      result: 'warn',
      message: expect.stringContaining('can be put in order') as string,
    })
    const { done, left } = await cliJson<BudgetRecoverJson>(['budget', 'recover', '--data', data])
    expect(done).toEqual([expect.stringMatching(/^What the dead process \S+ had left was ended/)])
    expect(left).toEqual([])
    expect(await balancedIn(data)).toMatchObject([{ spent: 2_000_000_000, assumed: 2_000_000_000, out: 0, suspense: 0 }])
  })

  test('of a chain that cannot be believed moves to suspense, and says what only an operator can do', async () => {
    const { data, holder } = await withSilent()
    await holder.kill()
    await touchChains(data)
    const [id] = await idsIn(data, 'hold/')
    const { done, left } = await cliJson<BudgetRecoverJson>(['budget', 'recover', '--data', data])
    expect(done).toEqual([expect.stringContaining('it is in suspense now')])
    expect(left).toMatchObject([
      { what: expect.stringContaining('its chain cannot be believed') as string },
      { what: expect.stringContaining('$2.00') as string, todo: expect.stringContaining(`holdfast budget reclaim --hold ${id}`) as string },
    ])
    const doctor = await cliJson<DoctorJson>(['doctor', '--data', data])
    expect(doctor.checks.find(({ id: check }) => check === 'successors')).toMatchObject({
      result: 'warn',
      message: expect.stringMatching(/is dead, and what it held stays in suspense: .* was changed after its last record/) as string,
    })
    await cli(['budget', 'reclaim', '--hold', id!, 'usd=0', 'calls=0', ...WHY, '--data', data])
    expect(await balancedIn(data)).toMatchObject([{ suspense: 0, spent: 0, free: 10_000_000_000 }, {}, {}])
  })

  test('takes what has come back off a limit that was lowered', async () => {
    const data = await declared({ acme: { usd: 10 } })
    const kernel = await kernelOn(data)
    const open = await hold(kernel, 'acme', { usd: 8_000_000_000 })
    await cli(['budget', 'set-limit', 'acme', 'usd=1', ...WHY, '--data', data])
    await open.settle({ usd: 3_000_000_000 })
    const { done, left } = await cliJson<BudgetRecoverJson>(['budget', 'recover', '--data', data])
    expect(done).toEqual(['The limit of `acme` went down by $5.00, as it was told to.'])
    expect(left).toMatchObject([{ what: '$2.00 are still to be cut from acme: spent, held, or in suspense.' }])
    expect(await balancedIn(data)).toMatchObject([{ limit: 3_000_000_000, free: 0, pendingCut: 2_000_000_000 }])
    await kernel.close()
  })

  test('with damage explains it, changes nothing, and ends with 1', async () => {
    const { data, holder } = await withSilent()
    await holder.kill()
    await meddle(data, { add: [{ key: 'free/usd/acme', by: 1 }] })
    const before = await onStore(data, (store) => store.list('', { limit: 1_000 }))
    const { code, stdout, stderr } = await cli(['budget', 'recover', '--data', data])
    expect(code).toBe(1)
    expect(stdout).toContain('Nothing was changed.')
    expect(stderr).toContain('Budget `acme` is not balanced in usd')
    expect(await onStore(data, (store) => store.list('', { limit: 1_000 }))).toEqual(before)
  })
})
