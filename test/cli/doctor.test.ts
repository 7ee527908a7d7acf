// `holdfast doctor`, run as a program; what a test cannot bring about (a network disk, a full journal) is asked
// of the single check.

import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import type { DoctorJson } from '../../src/cli/doctor.ts'
import { canWriteStore, levelsReached } from '../../src/cli/doctor-levels.ts'
import { checkFileSystem, type Check } from '../../src/cli/doctor-machine.ts'
import { roomFor } from '../../src/cli/doctor-store.ts'
import { CLAIMS } from '../../src/kernel/claims.ts'
import { MAX_SEGMENT_BYTES, MAX_SEGMENT_LINES } from '../../src/stores/file.ts'
import {
  chainFiles,
  cli,
  damageJournal,
  declared,
  editLines,
  everythingIn,
  hold,
  journalOf,
  kernelOn,
  meddle,
  newData,
  removeData,
  startHolder,
  touchChains,
} from './cli-bench.ts'

afterAll(removeData)

const nfs = (): number => 0x6969

/** The checks of a data directory that did not pass, and the exit code. */
async function complaints(data: string): Promise<{ code: number; complaints: readonly Check[] }> {
  const { code, stdout } = await cli(['doctor', '--json', '--data', data])
  return { code, complaints: (JSON.parse(stdout) as DoctorJson).checks.filter(({ result }) => result !== 'ok') }
}

describe('a sound set-up', () => {
  test('every check is a line that begins with ok, and nothing is left behind', async () => {
    const data = await declared({ acme: { usd: 1 } })
    const before = everythingIn(data)
    const { code, stdout, stderr } = await cli(['doctor', '--data', data])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const [checks, against] = stdout.split('\n\n')
    expect(checks!.split('\n')).toEqual([
      `ok  Node.js ${process.versions.node} (22.13 or later is needed)`,
      `ok  data directory ${data}`,
      expect.stringMatching(/^ok {2}file system is local \(type 0x[0-9a-f]+\)$/),
      'ok  data directory is writable, and fsync works',
      'ok  journal opens whole',
      expect.stringMatching(/^ok {2}journal is 0 % full: \d+ of 200,000 lines, 0\.0 of 64\.0 MiB$/),
      'ok  store still holds everything that the chains saw acknowledged',
      'ok  0 processes, none silent with open holds',
      'ok  1 budget, all balanced: limit = free + spent + suspense + out + kids',
      'ok  1 audit chain with 3 records, all hold',
      'ok  no escape is on record; watchEscapes (holdfast/escapes) reports what it sees',
    ])
    expect(against).toMatch(/^Against whom$/m)
    expect(everythingIn(data)).toEqual(before)
  })

  test('as JSON: checks with stable ids, the three levels, the claims', async () => {
    const data = await declared({ acme: { usd: 1 } })
    const report = JSON.parse((await cli(['doctor', '--json', '--data', data])).stdout) as DoctorJson
    expect(report.ok).toBe(true)
    expect(report.checks.map(({ id, result }) => `${id} ${result}`)).toEqual([
      'node ok',
      'data-directory ok',
      'file-system ok',
      'fsync ok',
      'journal ok',
      'journal-room ok',
      'store-heads ok',
      'processes ok',
      'budgets ok',
      'chains ok',
      'escapes ok',
    ])
    expect(report.levels.map(({ level, reached }) => [level, reached])).toEqual([
      [1, true],
      [2, false],
      [3, false],
    ])
    expect(report.claims).toEqual(CLAIMS)
  })

  test('every claim is printed with the test that fails when it does not hold', async () => {
    const { stdout } = await cli(['doctor', '--data', await declared({})])
    const promised = stdout.slice(stdout.indexOf('What is promised'))
    expect(promised.match(/^ {2}\S/gm)).toHaveLength(Math.max(1, CLAIMS.length))
    for (const { id, claim, test } of CLAIMS) {
      expect(promised).toContain(`  ${id}  ${claim}`)
      expect(promised).toContain(`test: ${test}`)
    }
  })

  test('a directory without a store is a warning, with the line that makes one', async () => {
    const data = newData()
    mkdirSync(data)
    const { code, stdout } = await cli(['doctor', '--data', data])
    expect(code).toBe(0)
    expect(stdout).toContain('warn  no store here yet\n')
    expect(stdout).toContain(`-> A kernel makes it: openKernel({ store: fileStore('${data}') }).`)
    expect(everythingIn(data)).toEqual([])
  })
})

describe('the machine', () => {
  test('a data directory that is missing, or a file, FAILs, and is not made', async () => {
    const data = newData()
    const missing = await cli(['doctor', '--data', data])
    expect(missing.code).toBe(1)
    expect(missing.stdout).toContain(`FAIL  The data directory ${data} does not exist.`)
    expect(missing.stderr).toBe('holdfast: 1 check failed.\n')
    expect(everythingIn(dirname(data))).toEqual([])
    writeFileSync(data, '')
    expect((await cli(['doctor', '--data', data])).stdout).toContain(`FAIL  The data directory ${data} is not a directory.`)
  })

  test('a data directory that everybody can write is a warning', async () => {
    const data = await declared({})
    chmodSync(data, 0o777)
    expect(await complaints(data)).toMatchObject({
      code: 0,
      complaints: [{ id: 'data-directory', result: 'warn', todo: `chmod o-w ${data}` }],
    })
  })

  test('a file system that is not known to append whole lines FAILs; under a store that chose it, it is a warning', async () => {
    const data = await declared({})
    expect(checkFileSystem(dirname(data), nfs)).toMatchObject({ result: 'fail', message: expect.stringContaining('(NFS)') as string })
    expect(checkFileSystem(data, nfs)).toMatchObject({ result: 'warn', message: expect.stringContaining('(NFS)') as string })
    expect(checkFileSystem(data, () => 0xef53)).toMatchObject({ result: 'ok' })
  })

  test('a journal is worth a warning at 80 percent of its lines or bytes, and FAILs when it is full', () => {
    const results = [
      [MAX_SEGMENT_LINES * 0.8 - 1, 0],
      [MAX_SEGMENT_LINES * 0.8, 0],
      [0, MAX_SEGMENT_BYTES * 0.8],
      [MAX_SEGMENT_LINES - 1, 0],
      [MAX_SEGMENT_LINES, 0],
      [0, MAX_SEGMENT_BYTES],
    ].map(([lines, bytes]) => roomFor(lines!, bytes!).result)
    expect(results).toEqual(['ok', 'warn', 'warn', 'warn', 'fail', 'fail'])
  })
})

describe('against whom', () => {
  test('a store that its user can write does not protect from programs of that user, and says why', async () => {
    const data = await declared({})
    const { stdout } = await cli(['doctor', '--data', data])
    expect(stdout).toMatch(/^ {2}\(1\) {2}protected +honest code/m)
    expect(stdout).toMatch(/^ {2}\(2\) {2}NOT protected {2}programs that tools start as \S+\n +\S+ can write the store, so they can too;/m)
    expect(stdout).toMatch(/^ {2}\(3\) {2}NOT protected {2}code inside the agent's process\n +never: .* gateway/m)
  })

  test('taking the right to write from a journal does not help: its owner can give it back', async () => {
    const data = await declared({})
    chmodSync(journalOf(data), 0o444)
    expect(canWriteStore(data)).toBe(true)
  })

  test('a store that the user cannot write is out of reach of his programs', () => {
    expect(levelsReached('ana', false)[1]).toMatchObject({ level: 2, reached: true, why: 'ana cannot write the store' })
    expect(levelsReached('ana', true)[1]).toMatchObject({ level: 2, reached: false })
  })
})

describe('what it finds', () => {
  test('a damaged journal FAILs with file and line; the chains are looked at all the same', async () => {
    const data = await declared({ acme: { usd: 1 } })
    damageJournal(data, 1)
    const { code, complaints: found } = await complaints(data)
    expect(code).toBe(1)
    expect(found).toMatchObject([
      {
        id: 'journal',
        result: 'fail',
        message: expect.stringContaining(`${journalOf(data)} line 1 is damaged`) as string,
        todo: expect.stringContaining('Go on in a new data directory') as string,
      },
      { id: 'chains', result: 'warn' },
    ])
  })

  test('a store of a later version FAILs, and nobody is told that it is damaged', async () => {
    const data = await declared({})
    editLines(`${data}/store/store.json`, (lines) => lines.map((line) => line.replace('"format":1', '"format":2')))
    const { code, complaints: found } = await complaints(data)
    expect(code).toBe(1)
    expect(found[0]).toMatchObject({
      id: 'journal',
      message: expect.stringContaining('Install a later one') as string,
      todo: expect.stringContaining('Nothing is known to be damaged') as string,
    })
  })

  test('a journal that lost its last lines FAILs: the chains have seen them acknowledged', async () => {
    const data = await declared({ acme: { usd: 1 } })
    editLines(journalOf(data), (lines) => lines.slice(0, -1))
    const { code, complaints: found } = await complaints(data)
    expect(code).toBe(1)
    expect(found[0]).toMatchObject({ id: 'store-heads', result: 'fail', message: expect.stringContaining('has lost writes') as string })
  })

  test('a chain that was changed FAILs, naming its first bad record', async () => {
    const data = await declared({ acme: { usd: 1 } })
    editLines(chainFiles(data)[0]!, (lines) => lines.map((line) => line.replace('"mode":"enforce"', '"mode":"observe"')))
    const { code, stdout } = await cli(['doctor', '--data', data])
    expect(code).toBe(1)
    expect(stdout).toMatch(
      /^FAIL {2}1 audit chain of 1 bad\n +chain \S+: record 0 \(line 1\): its hash does not match its content\n +-> Keep a copy/m,
    )
  })

  test('a process that is silent with open holds is a warning; so is what it leaves in suspense', async () => {
    const data = await declared({ acme: { usd: 1, tokens: 5_000 } }, 60_000)
    const holder = await startHolder(data, { budget: 'acme', worst: { usd: 30_000_000, tokens: 3_000 }, behindMs: 60_000 })
    await holder.kill()
    const silent = {
      id: 'processes',
      result: 'warn',
      message: expect.stringMatching(`pid ${holder.pid} on .* silent for 1 min with 1 open hold$`) as string,
    }
    expect(await complaints(data)).toMatchObject({
      code: 0,
      complaints: [silent, { id: 'successors', result: 'warn', message: expect.stringContaining('can be put in order') as string }],
    })
    await touchChains(data)
    expect(await complaints(data)).toMatchObject({
      code: 0,
      complaints: [silent, { id: 'successors', result: 'warn', message: expect.stringContaining('stays in suspense') as string }],
    })
    const kernel = await kernelOn(data)
    await kernel.close()
    expect(await complaints(data)).toMatchObject({
      code: 0,
      complaints: [
        { id: 'suspense', result: 'warn', message: '1 hold in suspense, counted as spent: $0.03, tokens 3,000' },
        { id: 'successors', result: 'warn', message: expect.stringContaining('was changed after its last record was written') as string },
      ],
    })
  })

  test('budgets that do not balance, or that were lost, FAIL', async () => {
    const data = await declared({ acme: { usd: 1 }, labs: { usd: 1 } })
    await meddle(data, { add: [{ key: 'spent/usd/acme', by: 1 }], delete: ['budget/labs'] })
    expect(await complaints(data)).toMatchObject({
      code: 1,
      complaints: [
        { id: 'budgets', result: 'fail', message: expect.stringContaining('Budget `acme` is not balanced in usd') as string },
        { id: 'budgets', result: 'fail', message: expect.stringContaining('Budget `labs` has counters') as string },
      ],
    })
  })

  test('frozen and not enforced budgets are warnings', async () => {
    const data = await declared({ acme: { usd: 1 }, labs: { usd: 1 } })
    await using kernel = await kernelOn(data)
    await (await hold(kernel, 'acme', { usd: 1_000_000_000 })).settle({ usd: 1_500_000_000 })
    await using observer = await kernelOn(data, { mode: 'observe' })
    await hold(observer, 'labs', { usd: 1 })
    expect(await complaints(data)).toMatchObject({
      code: 0,
      complaints: [
        { id: 'frozen', result: 'warn', message: expect.stringContaining('budget `acme` is frozen: ') as string },
        { id: 'enforcement', result: 'warn', message: 'NOT ENFORCED: a process in observe mode uses labs' },
      ],
    })
  })
})
