// `holdfast audit tail` and `holdfast audit verify`, run as a program.

import { appendFileSync, readFileSync, rmSync, truncateSync } from 'node:fs'
import { basename } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { openChain } from '../../src/audit/chain.ts'
import type { TailJson } from '../../src/cli/audit-tail.ts'
import type { AuditVerifyJson } from '../../src/cli/audit-verify.ts'
import { openKernel } from '../../src/kernel/open-kernel.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import {
  chainFiles,
  cli,
  cliJson,
  damageJournal,
  declared,
  editLines,
  hold,
  journalOf,
  kernelOn,
  newData,
  removeData,
} from './cli-bench.ts'

afterAll(removeData)

const kinds = (records: readonly TailJson[]): readonly unknown[] => records.map((record) => ('fault' in record ? 'BAD' : record.kind))

/** A chain with this id and this many records at these times, in a directory of its own or in the one given. */
function chainOf(boot: string, times: readonly number[], data: string = newData()): string {
  let next = 0
  const chain = openChain({ boot, clock: { now: () => times[next++]! }, directory: data, durable: false })
  for (const at of times) chain.append('event', { type: 'assumed', message: `at ${at}` })
  chain.close(true)
  return data
}

describe('tail', () => {
  test('tells in words what happened, one line each', async () => {
    const data = await declared({ acme: { usd: 1 } })
    const kernel = await kernelOn(data, { rules: [{ effect: 'allow', tool: 'search' }] })
    await (await hold(kernel, 'acme', { usd: 30_000_000, tokens: 3_000 })).settle({ usd: 13_425_000, tokens: 912 })
    await (await hold(kernel, 'acme', { usd: 30_000_000 })).charge('the stream was cut')
    await (await hold(kernel, 'acme', { usd: 30_000_000 })).release('answered 429')
    const scope = kernel.scope({ agent: 'researcher', task: 'report', budget: 'acme' })
    await expect(scope.begin({ kind: 'tool', resource: 'mail' })).rejects.toMatchObject({ code: 'ERR_PERMISSION_DENIED' })
    await kernel.approve({ agent: 'researcher', tool: 'mail', argsHash: 'x'.repeat(43), by: 'Ana', expiresInMs: 60_000 })
    await kernel.close()
    const { code, stdout, stderr } = await cli(['audit', 'tail', '--chain', kernel.boot, '--data', data])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const lines = stdout.trimEnd().split('\n')
    const said = lines.map((line) => /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z {2}(\S{8}) +#\d+ {2}(\S+) +(.*)$/.exec(line)!.slice(1, 4))
    const chain = kernel.boot.slice(0, 8)
    expect(said).toEqual([
      [chain, 'open', expect.stringMatching(/^pid \d+ on \S+, holdfast 0\.1\.0, node v\S+, enforce$/)],
      [chain, 'intent', 'researcher / report: gpt-5.5 on acme, at most $0.03, tokens 3,000'],
      [chain, 'outcome', 'settled $0.013425, tokens 912 on acme'],
      [chain, 'intent', 'researcher / report: gpt-5.5 on acme, at most $0.03'],
      [chain, 'outcome', 'charged at worst, $0.03 on acme (the stream was cut)'],
      [chain, 'intent', 'researcher / report: gpt-5.5 on acme, at most $0.03'],
      [chain, 'outcome', 'released, nothing used on acme (answered 429)'],
      [chain, 'refused', expect.stringMatching(/^researcher \/ report: mail: ERR_PERMISSION_DENIED: ./)],
      [chain, 'approve', expect.stringMatching(/^Ana lets researcher use mail once, until \d{4}-/)],
      [chain, 'close', 'ended in order'],
    ])
  })

  test('puts all chains in the order of time, and never turns one around', async () => {
    const data = chainOf('first-chain-00000000000', [1_000, 3_000, 2_000, 5_000])
    chainOf('other-chain-00000000000', [1_500, 4_000], data)
    const records = await cliJson<TailJson[]>(['audit', 'tail', '--data', data])
    expect(records.map((record) => ('t' in record ? [record.chain.slice(0, 5), record.t] : record))).toEqual([
      ['first', 1_000],
      ['other', 1_500],
      ['first', 3_000],
      // Its clock was set back; it still comes after the record before it.
      ['first', 2_000],
      ['other', 4_000],
      ['first', 5_000],
    ])
  })

  test('-n takes the newest of all chains together, --chain those of one', async () => {
    const data = chainOf('first-chain-00000000000', [1_000, 3_000, 5_000])
    chainOf('-starts-with-a-dash-000', [2_000, 4_000], data)
    const times = async (...args: string[]): Promise<readonly unknown[]> =>
      (await cliJson<{ t: number }[]>(['audit', 'tail', '--data', data, ...args])).map(({ t }) => t)
    expect(await times('-n', '2')).toEqual([4_000, 5_000])
    expect(await times('-n3')).toEqual([3_000, 4_000, 5_000])
    expect(await times('--chain', 'first')).toEqual([1_000, 3_000, 5_000])
    expect(await times('--chain', '-starts', '--lines', '1')).toEqual([4_000])
  })

  test('a chain that is not there, or that is named too briefly, ends with 1', async () => {
    const data = chainOf('abc-chain-0000000000000', [1_000])
    chainOf('abd-chain-0000000000000', [1_000], data)
    expect(await cli(['audit', 'tail', '--chain', 'zz', '--data', data])).toMatchObject({
      code: 1,
      stderr: 'holdfast: No chain begins with zz. See all of them: holdfast audit verify\n',
    })
    const { code, stderr } = await cli(['audit', 'tail', '--chain', 'ab', '--data', data])
    expect(code).toBe(1)
    expect(stderr).toContain('2 chains begin with ab; give more of the id: abc-chain-0000000000000, abd-')
  })

  test('-n outside of 1 to 10,000 ends with 2', async () => {
    for (const count of ['0', '-5', '10001', '1.5', 'many']) {
      const { code, stderr } = await cli(['audit', 'tail', '-n', count])
      expect(code).toBe(2)
      expect(stderr).toContain('Give a number from 1 to 10000.')
    }
  })

  test('long chains are read from their end, across blocks, without losing a line', async () => {
    const data = chainOf(
      'first-chain-00000000000',
      Array.from({ length: 1_000 }, (_, index) => 1_000 + index),
    )
    const seqs = async (count: number): Promise<readonly unknown[]> =>
      (await cliJson<{ seq: number }[]>(['audit', 'tail', '--data', data, '-n', String(count)])).map(({ seq }) => seq)
    expect(await seqs(700)).toEqual(Array.from({ length: 700 }, (_, index) => 300 + index))
    expect(await seqs(5_000)).toEqual(Array.from({ length: 1_000 }, (_, index) => index))
  })

  test('records are printed whole in JSON, as they lie in the file', async () => {
    const data = chainOf('first-chain-00000000000', [1_000, 2_000])
    const lines = readFileSync(chainFiles(data)[0]!, 'utf8').trimEnd().split('\n')
    expect(await cliJson<TailJson[]>(['audit', 'tail', '--data', data])).toEqual(lines.map((line) => JSON.parse(line) as unknown))
  })

  test('notes of where the store stood are shown with --heads only', async () => {
    const data = await declared({ acme: { usd: 1 } })
    expect(kinds(await cliJson<TailJson[]>(['audit', 'tail', '--data', data]))).toEqual(['open', 'close'])
    expect(kinds(await cliJson<TailJson[]>(['audit', 'tail', '--heads', '--data', data]))).toEqual(['open', 'close', 'head'])
    expect((await cli(['audit', 'tail', '--heads', '--data', data])).stdout).toMatch(/ head +saw the store at bytes \d+, segment 1$/m)
  })

  test('a record that does not hold is shown as BAD and ends with 1; a torn end is no record', async () => {
    const data = chainOf('first-chain-00000000000', [1_000, 2_000, 3_000])
    appendFileSync(chainFiles(data)[0]!, '{"chain":"first')
    expect(await cli(['audit', 'tail', '--data', data])).toMatchObject({ code: 0, stderr: '' })
    editLines(chainFiles(data)[0]!, (lines) => lines.map((line) => line.replace('at 2000', 'at 9000')))
    const { code, stdout, stderr } = await cli(['audit', 'tail', '--data', data])
    expect(code).toBe(1)
    expect(stdout).toMatch(/ first-ch +BAD +its hash does not match its content$/m)
    expect(stderr).toBe('holdfast: 1 line of these are not records that hold. See: holdfast audit verify\n')
    const json = JSON.parse((await cli(['audit', 'tail', '--data', data, '--json'])).stdout) as TailJson[]
    expect(json[1]).toEqual({
      chain: 'first-chain-00000000000',
      fault: 'its hash does not match its content',
      line: expect.stringContaining('at 9000') as string,
    })
  })

  test('escape sequences and line breaks in messages reach the terminal as text', async () => {
    const data = await declared({ acme: { usd: 1 } })
    await using kernel = await kernelOn(data)
    await (await hold(kernel, 'acme', { usd: 1 })).release('red \u001b[31m alert\nnext \u202e line')
    const { stdout } = await cli(['audit', 'tail', '--data', data])
    expect(stdout).toContain('(red \\u{1b}[31m alert\\u{a}next \\u{202e} line)')
  })

  test('a directory without chains has no records', async () => {
    const data = await declared({})
    rmSync(`${data}/chains`, { recursive: true })
    expect(await cli(['audit', 'tail', '--data', data])).toEqual({ code: 0, stdout: 'No audit records yet.\n', stderr: '' })
    expect(await cliJson(['audit', 'tail', '--data', data])).toEqual([])
  })
})

describe('verify', () => {
  test('says of each chain how many records hold, also while they grow', async () => {
    const data = await declared({ acme: { usd: 1 } })
    await using kernel = await kernelOn(data)
    await hold(kernel, 'acme', { usd: 1 })
    const { code, stdout, stderr } = await cli(['audit', 'verify', '--data', data])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(new RegExp(`^${kernel.boot} +\\d+ +\\d+ {2}ok$`, 'm'))
    expect(stdout).toMatch(/^2 chains, \d+ records: all hold\.$/m)
    const json = await cliJson<AuditVerifyJson>(['audit', 'verify', '--data', data])
    expect(json).toMatchObject({ ok: true, comparedWithStore: true })
    expect(json.chains.map(({ chain }) => chain)).toContain(kernel.boot)
  })

  test('names the first bad record of a chain that was changed', async () => {
    const data = await declared({ acme: { usd: 1 } })
    const kernel = await kernelOn(data)
    await (await hold(kernel, 'acme', { usd: 1_000 })).settle({ usd: 7 })
    await kernel.close()
    const file = `${data}/chains/${kernel.boot}.jsonl`
    editLines(file, (lines) => lines.map((line) => line.replace('"used":{"usd":7}', '"used":{"usd":6}')))
    const fault = 'record 2 (line 3): its hash does not match its content'
    const { code, stdout, stderr } = await cli(['audit', 'verify', '--data', data])
    expect(code).toBe(1)
    expect(stdout).toMatch(new RegExp(`^${kernel.boot} .* BAD: `, 'm'))
    expect(stdout).toContain(fault)
    expect(stdout).toMatch(/^2 chains, \d+ records: 1 bad\.$/m)
    expect(stderr).toBe(`holdfast: The chain ${kernel.boot} is bad: ${fault}\n`)

    const json = await cli(['audit', 'verify', '--json', '--data', data])
    expect(JSON.parse(json.stdout)).toMatchObject({ ok: false })
    expect((JSON.parse(json.stdout) as AuditVerifyJson).chains).toContainEqual({
      chain: kernel.boot,
      ok: false,
      records: 2,
      beyondHead: 0,
      fault,
    })
    expect(JSON.parse(json.stderr)).toMatchObject({ error: { code: 'ERR_DAMAGE' } })
  })

  test('--chain looks at one chain: the bad one ends with 1, a good one beside it with 0', async () => {
    const data = await declared({})
    const kernel = await kernelOn(data)
    await kernel.close()
    const [bad, good] = [`${data}/chains/${kernel.boot}.jsonl`, chainFiles(data).find((file) => !file.includes(kernel.boot))!]
    editLines(bad, (lines) => lines.slice(1))
    expect((await cli(['audit', 'verify', '--data', data, '--chain', kernel.boot])).code).toBe(1)
    const { code, stdout } = await cli(['audit', 'verify', '--data', data, '--chain', basename(good, '.jsonl').slice(0, 12)])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^1 chain, 3 records: all hold\.$/m)
    expect((await cli(['audit', 'verify', '--data', data, '--chain', 'nope'])).code).toBe(1)
  })

  test('sees a tail that was cut, and a chain that is missing, since the store knows of them', async () => {
    const data = await declared({})
    const kernel = await kernelOn(data)
    await kernel.close()
    const file = `${data}/chains/${kernel.boot}.jsonl`
    editLines(file, (lines) => lines.slice(0, 1))
    const cut = await cli(['audit', 'verify', '--data', data])
    expect(cut.code).toBe(1)
    expect(cut.stderr).toContain('record 1 (line 2): it and all later ones are missing; the store knows of 2')
    rmSync(file)
    const missing = await cli(['audit', 'verify', '--data', data])
    expect(missing.code).toBe(1)
    expect(missing.stderr).toContain(`${kernel.boot}.jsonl is missing; the store knows of 2 records`)
  })

  test('on a damaged store the chains are still checked by themselves, and the file and line are named', async () => {
    const data = await declared({ acme: { usd: 1 } })
    damageJournal(data, 2)
    const { code, stdout, stderr } = await cli(['audit', 'verify', '--data', data])
    expect(code).toBe(1)
    expect(stdout).toMatch(/^1 chain, 3 records: all hold\. Not compared with a store: a cut tail cannot be seen\.$/m)
    expect(stderr).toContain(`${journalOf(data)} line 2 is damaged`)
    const json = JSON.parse((await cli(['audit', 'verify', '--data', data, '--json'])).stdout) as AuditVerifyJson
    expect(json).toMatchObject({ ok: false, comparedWithStore: false, chains: [{ ok: true }] })
  })

  test('a store that is gone is missed, since the chains name it', async () => {
    const data = await declared({})
    rmSync(`${data}/store`, { recursive: true })
    const { code, stderr } = await cli(['audit', 'verify', '--data', data])
    expect(code).toBe(1)
    expect(stderr).toContain(`The chains were written beside the store "file ${data}/store"`)
  })

  test('chains of a memory store have no store beside them, and hold by themselves', async () => {
    const data = newData()
    const kernel = await openKernel({ store: memoryStore(), data })
    await kernel.close()
    const { code, stdout } = await cli(['audit', 'verify', '--data', data])
    expect(code).toBe(0)
    expect(stdout).toMatch(/all hold\. Not compared with a store: a cut tail cannot be seen\.$/m)
    truncateSync(chainFiles(data)[0]!, 30)
    expect((await cli(['audit', 'verify', '--data', data])).stdout).toMatch(/^1 chain, 0 records/m)
  })
})
