// What all commands of `holdfast` share: flags, exit codes, errors, help, colours, pipes.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { text } from 'node:stream/consumers'
import { stripVTControlCharacters } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openChain } from '../../src/audit/chain.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { table } from '../../src/cli/table.ts'
import { createStyle, span, wantsColor, widthOf } from '../../src/cli/text.ts'
import { MAIN, cli, damageJournal, declared, editLines, everythingIn, hold, journalOf, kernelOn, newData, removeData } from './cli-bench.ts'

const COMMANDS = [['status'], ['budget', 'status'], ['audit', 'tail'], ['audit', 'verify'], ['doctor']] as const
const NOT_DOCTOR = COMMANDS.filter(([first]) => first !== 'doctor')

let data: string
beforeAll(async () => {
  data = await declared({ acme: { usd: 50 }, 'acme/*': { usd: 2 } })
})
afterAll(removeData)

describe('global flags', () => {
  test('--data, --json and --no-color are taken before and after every command', async () => {
    for (const command of COMMANDS) {
      const flags = ['--data', data, '--json', '--no-color']
      const [before, after] = await Promise.all([cli([...flags, ...command]), cli([...command, ...flags])])
      expect(before).toMatchObject({ code: 0, stderr: '' })
      expect(Object.keys(JSON.parse(before.stdout) as object)).toEqual(Object.keys(JSON.parse(after.stdout) as object))
    }
    const [group, ...rest] = ['budget', 'status', 'acme'] as const
    const middle = await cli([group, '--json', rest[0], '--data', data, rest[1]])
    expect(JSON.parse(middle.stdout)).toMatchObject({ budgets: [{ budget: 'acme' }] })
  })

  test('without --data it is .holdfast where you are', async () => {
    const { code, stdout } = await cli(['status'], { cwd: dirname(data) })
    expect(code).toBe(0)
    expect(stdout).toContain('.holdfast/store\n')
  })

  test('a flag without its value, or with an empty one, ends with 2', async () => {
    expect(await cli(['status', '--data'])).toMatchObject({ code: 2, stdout: '' })
    expect(await cli(['status', '--data', ''])).toMatchObject({ code: 2, stdout: '' })
  })
})

describe('exit codes and errors', () => {
  test.each([
    [['staus'], "unknown command 'staus' (Did you mean status?)\nTry: holdfast --help"],
    [['budget', 'stat'], "unknown command 'stat' (Did you mean status?)\nTry: holdfast budget --help"],
    [['status', '--jsn'], "unknown option '--jsn' (Did you mean --json?)\nTry: holdfast status --help"],
    [['audit', 'tail', '-x'], "unknown option '-x'\nTry: holdfast audit tail --help"],
    [['status', 'extra'], "too many arguments for 'status'. Expected 0 arguments but got 1: extra.\nTry: holdfast status --help"],
    [['help', 'nope'], "unknown command 'nope'\nTry: holdfast --help"],
    [['help', 'audit', 'nope', '--data', 'x'], "unknown command 'nope'\nTry: holdfast audit --help"],
  ])('%j is a usage error: 2, with a hint', async (args, message) => {
    expect(await cli(args)).toEqual({ code: 2, stdout: '', stderr: `holdfast: ${message}\n` })
  })

  test('under --json, errors are JSON on stderr, wherever the flag stands', async () => {
    for (const args of [
      ['--json', 'status', '--nope'],
      ['status', '--nope', '--json'],
    ]) {
      const { code, stdout, stderr } = await cli(args)
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
      expect(JSON.parse(stderr)).toEqual({
        error: { code: 'ERR_USAGE', message: "unknown option '--nope'\nTry: holdfast status --help" },
      })
    }
    expect((await cli(['status', '--nope', '--', '--json'])).stderr).toMatch(/^holdfast: unknown option/)
  })

  test('no command at all, or half of one, prints the help to stderr and ends with 2', async () => {
    for (const args of [[], ['budget'], ['audit']]) {
      const { code, stdout, stderr } = await cli(args)
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
      expect(stderr).toContain(['Usage: holdfast', ...args].join(' '))
      expect(JSON.parse((await cli([...args, '--json'])).stderr)).toMatchObject({ error: { code: 'ERR_USAGE' } })
    }
  })

  test('a data directory that does not exist is an error with 1, and is not created', async () => {
    const missing = newData()
    for (const command of NOT_DOCTOR) {
      const { code, stdout, stderr } = await cli([...command, '--data', missing])
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
      expect(stderr).toMatch(/^holdfast: The data directory .*\.holdfast does not exist\. .*--data <dir>.*\n$/)
    }
    const json = await cli(['status', '--data', missing, '--json'])
    expect(JSON.parse(json.stderr)).toMatchObject({ error: { code: 'ERR_STORE' } })
    expect(everythingIn(dirname(missing))).toEqual([])
  })

  test('a directory without a store, or a store without its journal, is an error with 1, and nothing is created', async () => {
    const empty = newData()
    mkdirSync(empty)
    for (const command of [['status'], ['budget', 'status']]) {
      const { code, stderr } = await cli([...command, '--data', empty])
      expect(code).toBe(1)
      expect(stderr).toMatch(/^holdfast: There is no store in .*openKernel/)
    }
    expect(everythingIn(empty)).toEqual([])

    const lost = await declared({})
    rmSync(journalOf(lost))
    const before = everythingIn(lost)
    const { code, stderr } = await cli(['status', '--data', lost])
    expect(code).toBe(1)
    expect(stderr).toContain(`has no journal: ${journalOf(lost)} is missing`)
    expect(everythingIn(lost)).toEqual(before)
  })

  test('a damaged journal ends with 1, naming file and line', async () => {
    const damaged = await declared({ acme: { usd: 1 } })
    damageJournal(damaged, 2)
    for (const command of [['status'], ['budget', 'status']]) {
      const { code, stdout, stderr } = await cli([...command, '--data', damaged])
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
      expect(stderr).toContain(`holdfast: ${journalOf(damaged)} line 2 is damaged: `)
      expect(JSON.parse((await cli([...command, '--data', damaged, '--json'])).stderr)).toMatchObject({ error: { code: 'ERR_DAMAGE' } })
    }
  })

  test('a journal that lost its last lines ends with 1: its numbers would mislead', async () => {
    const cut = await declared({ acme: { usd: 1 } })
    editLines(journalOf(cut), (lines) => lines.slice(0, -1))
    for (const command of [['status'], ['budget', 'status']]) {
      const { code, stderr } = await cli([...command, '--data', cut])
      expect(code).toBe(1)
      expect(stderr).toContain('has lost writes that it acknowledged')
    }
  })

  test('looking changes no file, while others go on working', async () => {
    const shared = await declared({ acme: { usd: 50 } })
    const kernel = await kernelOn(shared)
    const open = await hold(kernel, 'acme', { usd: 1 })
    const runs = await Promise.all(COMMANDS.map((command) => cli([...command, '--data', shared])))
    expect(runs.map(({ code }) => code)).toEqual(COMMANDS.map(() => 0))
    await open.settle({ usd: 1 })
    await kernel.close()
    const closed = readFileSync(journalOf(shared))
    for (const command of COMMANDS) await cli([...command, '--data', shared])
    expect(readFileSync(journalOf(shared))).toEqual(closed)
  })
})

/** Options that make Node say that it is another version. */
const pretend = (version: string): readonly string[] => [
  '--import',
  `data:text/javascript,Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } })`,
]

describe('help and version', () => {
  test('every command has help with an example, on stdout', async () => {
    for (const command of [[], ['budget'], ['audit'], ...COMMANDS]) {
      const asked = await cli([...command, '--help'])
      expect(asked).toMatchObject({ code: 0, stderr: '' })
      expect(asked.stdout).toMatch(/^Examples?:\n {2}\$ holdfast /m)
      expect(asked.stdout).toContain('--data <dir>')
    }
    expect((await cli(['help', 'audit', 'tail'])).stdout).toBe((await cli(['audit', 'tail', '-h'])).stdout)
  })

  test.each([
    [
      ['help', 'audit', 'tail', '--data', 'DATA'],
      ['audit', 'tail'],
    ],
    [
      ['help', 'audit', 'tail', '-n', '5'],
      ['audit', 'tail'],
    ],
    [
      ['help', '--data', 'DATA', 'budget', 'status', 'acme'],
      ['budget', 'status'],
    ],
    [['--data', 'DATA', 'help', 'status', '--json'], ['status']],
    [['help', 'status', '--nope'], ['status']],
    [['help', '--data', 'DATA'], []],
  ])('%j prints help, and runs nothing', async (args, command) => {
    const asked = await cli(args.map((arg) => (arg === 'DATA' ? data : arg)))
    expect(asked).toEqual(await cli([...command, '--help']))
  })

  test('--version is that of the package', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
    expect(await cli(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' })
  })

  test('a Node that is too old is told so before anything else is loaded', async () => {
    const old = await cli(['status', '--data', data], { node: pretend('22.12.9') })
    expect(old).toMatchObject({ code: 1, stdout: '' })
    expect(old.stderr).toMatch(/^holdfast: needs Node\.js 22\.13 or later; this is 22\.12\.9\..*\n$/)
    const json = await cli(['status', '--json'], { node: pretend('20.20.2') })
    expect(JSON.parse(json.stderr)).toMatchObject({ error: { code: 'ERR_RUNTIME' } })
    expect(await cli(['status', '--data', data], { node: pretend('22.13.0') })).toMatchObject({ code: 0, stderr: '' })
  })
})

describe('the terminal', () => {
  test('nothing is coloured when stdout is no terminal', async () => {
    for (const command of COMMANDS) {
      const { stdout } = await cli([...command, '--data', data], { env: { TERM: 'xterm-256color', COLORTERM: 'truecolor' } })
      expect(stripVTControlCharacters(stdout)).toBe(stdout)
    }
  })

  test('a terminal gets colours, unless --no-color, NO_COLOR or a dumb terminal says otherwise', () => {
    expect(wantsColor(true, true, { TERM: 'xterm' })).toBe(true)
    expect(wantsColor(true, true, { NO_COLOR: '' })).toBe(true)
    expect(wantsColor(true, false, { TERM: 'xterm' })).toBe(false)
    expect(wantsColor(false, true, { TERM: 'xterm' })).toBe(false)
    expect(wantsColor(true, true, { NO_COLOR: '1' })).toBe(false)
    expect(wantsColor(true, true, { TERM: 'dumb' })).toBe(false)
  })

  test('colours change nothing but the colours', () => {
    const columns = [{ title: 'name' }, { title: 'count', align: 'right' }, {}] as const
    const rows = [
      ['東京', ['red', '1,000'], ['dim', 'note']],
      [['green', 'a'], '7', ''],
    ] as const
    const plain = table(columns, rows, createStyle(false))
    expect(plain).toBe('NAME  COUNT\n東京  1,000  note\na         7\n')
    const coloured = table(columns, rows, createStyle(true))
    expect(coloured).not.toBe(plain)
    expect(stripVTControlCharacters(coloured).replaceAll(/ +$/gm, '')).toBe(plain)
  })

  test('widths are those of a terminal, and spans are in their largest whole unit', () => {
    expect(['abc', 'é', 'e\u0301', '東京', '팀', '🚀', '👩‍🚀', 'ﾄ'].map(widthOf)).toEqual([3, 1, 1, 4, 2, 2, 2, 1])
    expect([0, 59_499, 60_000, 7_200_000, 172_800_000, -5].map(span)).toEqual(['0 s', '59 s', '1 min', '2 h', '2 d', '0 s'])
  })

  test('a reader that stops early, as in `| head`, leaves no stack and no error', async () => {
    const long = newData()
    const chain = openChain({ boot: 'long-chain-000000000000', clock: systemClock, directory: long, durable: false })
    for (let index = 0; index < 2_000; index++) chain.append('event', { type: 'assumed', message: 'x'.repeat(100) })
    chain.close(true)
    const child = spawn(process.execPath, [MAIN, 'audit', 'tail', '-n', '2000', '--data', long], { stdio: ['ignore', 'pipe', 'pipe'] })
    const complaint = text(child.stderr)
    await once(child.stdout, 'data')
    child.stdout.destroy()
    const [code] = (await once(child, 'exit')) as [number]
    expect({ code, stderr: await complaint }).toEqual({ code: 0, stderr: '' })
  })
})
