// The runner of the deep check: it believes no step that did not do what it was told, and says loudly what is missing.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { chosen, main, runSteps, seedOfCommit } from '../../checks/deep.ts'
import { machineOf, reportOf } from '../../checks/report.ts'
import { runStep } from '../../checks/run-step.ts'
import { stepsOf, type Command, type Step } from '../../checks/steps.ts'

const REPOSITORY = resolve(import.meta.dirname, '../..')
const steps = stepsOf(7)
let root: string

/** A step that runs this script. */
function stepOf(script: string, more: Partial<Command> = {}): Step {
  writeFileSync(join(root, 'script.js'), script)
  const command = { args: ['script.js'], ...more }
  return { name: 'any', what: 'anything', line: /^any: (?<done>\d+) done, (?<bugs>\d+) of \k<bugs> found$/, full: command, ci: command }
}

const runIt = (step: Step, timeoutMs = 60_000) => runStep(step, 'full', { root, timeoutMs })
const lineOf = (name: string): RegExp => steps.find((step) => step.name === name)!.line

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'holdfast-checks-'))
})
afterAll(() => rmSync(root, { recursive: true, force: true }))

describe('a step', () => {
  test('passes when it ends with 0 and its line says that it did as much as it was told', async () => {
    const step = stepOf("console.log('any: 1000 done, 3 of 3 found')", { atLeast: 1_000, rounds: 2 })
    const outcome = await runIt(step)
    expect(outcome).toMatchObject({ result: 'passed', command: 'node script.js (2 times)' })
    expect(outcome.lines).toEqual(['any: 1000 done, 3 of 3 found', 'any: 1000 done, 3 of 3 found'])
  })

  test.for([
    ['that did less', "console.log('any: 999 done, 3 of 3 found')", 'FAILED: it did 999 of 1000'],
    ['that missed a bug', "console.log('any: 1000 done, 2 of 3 found')", 'FAILED: it ended with 0, and without the line'],
    ['that says nothing', '', 'FAILED: it ended with 0, and without the line'],
    ['that ends with 1', "console.log('any: 1000 done, 3 of 3 found'); process.exitCode = 1", 'FAILED: it ended with 1'],
    ['that is killed', "process.kill(process.pid, 'SIGKILL')", 'FAILED: it ended with SIGKILL'],
  ] as const)('%s has failed', async ([, script, why]) => {
    const { result, lines } = await runIt(stepOf(script, { atLeast: 1_000 }))
    expect([result, lines.length]).toEqual(['failed', 1])
    expect(lines[0]).toContain(why)
  })

  test('that hangs is ended, and has failed', async () => {
    const { result, lines } = await runIt(stepOf('setTimeout(() => {}, 600_000)'), 300)
    expect([result, lines[0]]).toEqual(['failed', 'FAILED: it ended with the end of its 0.005 minutes'])
  })

  test('whose script is not there has failed, and is not left out', async () => {
    const { result, lines } = await runIt({ ...stepOf(''), full: { args: ['nowhere.ts'] } })
    expect([result, lines]).toEqual(['failed', ['MISSING: there is no nowhere.ts']])
  })

  test('runs as under CI, so that a server that is missing is a failure', async () => {
    const { result } = await runIt(stepOf("if (process.env.CI === '1') console.log('any: 1 done, 0 of 0 found')"))
    expect(result).toBe('passed')
  })

  test('that failed shows the end of its output, and how to run it again', async () => {
    const said: string[] = []
    const step = stepOf("console.error('the reason'); process.exitCode = 1", { env: { SEED: '7' } })
    await runSteps([step, stepOf("console.error('the reason'); process.exitCode = 1")], 'full', { root, timeoutMs: 60_000 }, (line) => {
      said.push(String(line))
    })
    expect(said.join('\n')).toContain('the reason\nany: again with SEED=7 node script.js')
    expect(said).toHaveLength(4)
  })
})

describe('the steps', () => {
  test('their lines are those of a run in which all is well, and of no other', () => {
    for (const [name, good, bad] of [
      ['simulation', 'simulation: 1000 seeds, 0 failed, 52341 crash points, 9 of 9 seeded bugs found', '8 of 9'],
      ['spin', '40 rows, 0 surprises, 1 known flaws', '1 surprises'],
      [
        'histories redis',
        'histories: redis: 1,000 histories, 90,000 operations, 12 unknown, 0 anomalies (3 conflicts, seed 7)',
        '2 anomalies',
      ],
      ['soak file', 'soak: file: 15 s, 4 processes, 3 kills, 9 looks, 0 breaches, seed 7, 1 of 1 controls found', '0 of 1'],
    ] as const) {
      expect(lineOf(name).test(good)).toBe(true)
      expect(lineOf(name).test(good.replace(new RegExp(bad.replace(/\d+/, '\\d+')), bad))).toBe(false)
    }
  })

  test('only those that are asked for run, and a name that no step has is an error', () => {
    expect(chosen(steps, undefined)).toBe(steps)
    expect(chosen(steps, 'spin,soak redis').map(({ name }) => name)).toEqual(['spin', 'soak redis'])
    expect(chosen(steps, 'soak').map(({ name }) => name)).toEqual(['soak file', 'soak sqlite', 'soak redis', 'soak postgres'])
    expect(() => chosen(steps, 'spin,sleep')).toThrow('There is no step sleep')
  })

  test('what CI leaves out of its tests is what a step of its share runs instead', () => {
    const script = readFileSync(join(REPOSITORY, '.ci/run'), 'utf8')
    const excluded = [...script.matchAll(/--exclude (\S+)/g)].map(([, file]) => file)
    const instead = steps.filter(({ ci }) => typeof ci !== 'string').flatMap(({ instead = [] }) => instead)
    expect(new Set(instead)).toEqual(new Set(excluded))
    expect(excluded.length).toBeGreaterThan(0)
  })
})

describe('the seed', () => {
  test('of a commit is the same wherever it is checked, and another one for the next commit', () => {
    expect(seedOfCommit('df040cc647ae')).toBe(849_036)
    expect(seedOfCommit('fffffff00000')).toBeLessThan(1_000_000)
    expect(seedOfCommit('df040cd647ae')).not.toBe(849_036)
  })

  test('is where random histories begin, and absent it changes nothing', async () => {
    const before = fc.readConfigureGlobal()
    try {
      process.env['HOLDFAST_SEED'] = '42'
      await import('../../checks/seed.ts')
      expect(fc.readConfigureGlobal().seed).toBe(42)
    } finally {
      delete process.env['HOLDFAST_SEED']
      fc.configureGlobal(before)
    }
    expect(fc.readConfigureGlobal().seed).toBeUndefined()
  })

  test('a command line that is wrong runs nothing', async () => {
    await expect(main(['--share', 'half'])).rejects.toThrow('ci or full')
    await expect(main(['--seed', 'x'])).rejects.toThrow('whole number')
    await expect(main(['--only', 'nothing'])).rejects.toThrow('There is no step nothing')
  })
})

test('the report says what ran and on what, and names no folder, and no more of the machine than that', async () => {
  const failed = await runIt(stepOf('process.exitCode = 1'))
  const passed = await runIt(stepOf("console.log('any: 5 done, 1 of 1 found')"))
  const spin = await runStep(
    steps.find(({ name }) => name === 'spin')!,
    'ci',
    { root, timeoutMs: 1 },
  )
  const report = reportOf({ share: 'ci', commit: 'abc', seed: 7, startedAt: new Date(0), seconds: 100, outcomes: [failed, passed, spin] })
  expect(report).toContain('| result | 1 steps passed, 1 failed: any |')
  expect(report).toContain('| any | **failed** | FAILED: it ended with 1 |')
  expect(report).toContain('| any | passed | any: 5 done, 1 of 1 found |')
  expect(report).toContain('test/models/models.test.ts')
  for (const fact of ['date', 'commit', 'CPU', 'memory', 'kernel', 'file system', 'Node', 'Redis', 'Postgres', 'Spin'])
    expect(report).toMatch(new RegExp(`\\| ${fact} \\| .+ \\|`))
  for (const folder of [root, REPOSITORY, tmpdir()]) expect(report).not.toContain(folder)
  expect(machineOf().map(([name]) => name)).toEqual(['CPU', 'memory', 'kernel', 'file system', 'Node', 'Redis', 'Postgres', 'Spin'])
})
