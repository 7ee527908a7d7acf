// The README and the documentation do what they say: their code is compiled and run as a user would run it, their
// guarantees are those of the code, and every test that they name exists.

import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CLAIMS } from '../src/index.ts'
import { STATES, escapeRows, faultsOfRow } from './named-tests.ts'

const ROOT = resolve(import.meta.dirname, '..')
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8')
const readme = read('README.md')
const found = [...readme.matchAll(/```ts(?<server> server)?\n(?<code>.*?)```/gs)].map(({ groups }) => groups!)
const blocks = found.map(({ code }) => code!)
/** What needs a server of its reader's is compiled, and not run. */
const runnable = found.flatMap(({ server }, index) => (server === undefined ? [index] : []))

let folder: string

describe('README', () => {
  beforeAll(() => {
    // Inside the repository, so that `holdfast` is this package, by its own exports.
    folder = mkdtempSync(join(ROOT, 'test/.readme-'))
    for (const [index, code] of blocks.entries()) writeFileSync(join(folder, `block-${index}.ts`), code)
    const tsconfig = { extends: '../../tsconfig.json', files: blocks.map((_, index) => `block-${index}.ts`) }
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(tsconfig))
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  test('has code on its first screen', () => {
    expect(readme.split('\n').findIndex((line) => line.startsWith('```ts'))).toBeLessThan(10)
    expect(blocks.length).toBeGreaterThan(1)
  })

  test('its code compiles as it stands', () => {
    const compiler = join(ROOT, 'node_modules/typescript/bin/tsc')
    expect(execFileSync(process.execPath, [compiler, '-p', folder], { cwd: ROOT, encoding: 'utf8' })).toBe('')
  }, 120_000)

  test.each(runnable)('its block %i runs without a key, and ends', (index) => {
    const cwd = mkdtempSync(join(folder, 'run-'))
    const env = { ...process.env }
    delete env['OPENAI_API_KEY']
    const output = execFileSync(process.execPath, [join(folder, `block-${index}.ts`)], { cwd, env, encoding: 'utf8', timeout: 60_000 })
    // The first one goes on until its budget is used up; the others end by themselves.
    expect(output).toMatch(index === 0 ? /Budget `acme\/report-7` has no room/ : /\w/)
  })

  test('its guarantees are those of the code, with the test of each', () => {
    const printed = /<!-- claims -->\n(.*?)<!-- \/claims -->/s.exec(readme)![1]!
    expect(printed).toBe(
      `${CLAIMS.map(({ claim, test: id, assumes }) => `- ${claim} (${assumes.join(', ') || 'no assumption'})\n  \`${id}\``).join('\n')}\n`,
    )
  })
})

describe('claims', () => {
  test('there are some, each with an id of its own', () => {
    expect(CLAIMS.length).toBeGreaterThan(8)
    expect(new Set(CLAIMS.map(({ id }) => id)).size).toBe(CLAIMS.length)
  })

  test.each(CLAIMS)('$id names a test that exists and is not switched off', ({ test: id }) => {
    const [file = '', name = ''] = id.split(' > ')
    expect(existsSync(join(ROOT, file))).toBe(true)
    expect(read(file)).toContain(name)
    expect(name.length).toBeGreaterThan(10)
  })

  test('every assumption that a claim names is explained, and has a test', () => {
    const assumed = new Set(CLAIMS.flatMap(({ assumes }) => assumes))
    for (const id of assumed) {
      expect(read('docs/guarantees.md')).toContain(`| ${id} |`)
      expect(read('test/guarantees/assumptions.test.ts')).toContain(`'${id}: `)
    }
  })
})

describe('documentation', () => {
  const pages = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', ...readdirSync(join(ROOT, 'docs')).map((name) => `docs/${name}`)]

  test.each(pages)('%s links to files that exist', (page) => {
    const links = [...read(page).matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, target]) => join(ROOT, page, '..', target!))
    expect(links.filter((target) => !existsSync(target))).toEqual([])
  })

  test('every test that a page names exists', () => {
    const named = pages.flatMap((page) =>
      [...read(page).matchAll(/`(test\/[\w./-]+\.test\.ts)(?: > ([^`]+))?`/g)].map(([, file, name]) => ({ page, file: file!, name })),
    )
    const missing = named.filter(({ file, name }) => !existsSync(join(ROOT, file)) || (name !== undefined && !read(file).includes(name)))
    expect(missing).toEqual([])
  })

  test('every way around the guards in docs/escapes.md has a state, and a test that exists and runs', () => {
    const rows = escapeRows(read('docs/escapes.md'))
    expect(rows.length).toBeGreaterThan(200)
    expect(rows.flatMap(faultsOfRow)).toEqual([])
    for (const state of STATES) expect(read('docs/escapes.md')).toContain(`- **${state}**`)
  })

  test('and a row without one of them is found', () => {
    const id = '`test/integrations/escapes.test.ts > reports a WebSocket to a provider, which nothing can hold`'
    const page = (row: string): string =>
      `| way around | state | test |\n|---|---|---|\n${row}\n\n| other | table |\n|---|---|\n| is | left |\n`
    expect(escapeRows(page('| a way | **open** | |'))).toEqual(['| a way | **open** | |'])
    expect(faultsOfRow(`| a way | **open**: seen | ${id} |`)).toEqual([])
    const wrong = [
      '| a way | **open** | |',
      `| a way | open: seen | ${id} |`,
      `| a way | **shut**: seen | ${id} |`,
      '| a way | **open**: seen | `test/integrations/escapes.test.ts` |',
      `| a way | **open**: seen | ${id}, and more |`,
      '| a way | **open**: seen | `test/integrations/nowhere.test.ts > reports a WebSocket` |',
      '| a way | **open**: seen | `test/integrations/escapes.test.ts > reports nothing at all` |',
      `| a way | ${id} |`,
    ]
    expect(wrong.filter((row) => faultsOfRow(row).length !== 1)).toEqual([])
  })
})
