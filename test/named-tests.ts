// Tests that documentation names: whether they are there, and run. Read as text, so that no test has to be run for it.

import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '..')
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8')

/** Test files, and the files of cases that the suites run, with the name of one test. */
export const TEST_ID = /`(test\/[\w./-]+\.test\.ts|src\/testing\/[\w-]+\.ts)(?: > ([^`]+))?`/g
/** What keeps a test from running. `runIf` is for servers, which have to be there under CI: see test/stores/servers.ts. */
export const SWITCHED_OFF =
  /\b(?:test|it|describe)(?:\.\w+)*\.(?:skip|skipIf|only|todo|fails)\b|\bx(?:test|it|describe)\(|\b(?:skip|todo): true/
const RUN_IF = /\.runIf\((?!available\)|requireServer\()/

/** What can become of a way around the guards; each row of docs/escapes.md begins its state with one of them. */
export const STATES = ['closed', 'bounded', 'refused', 'reported', 'open'] as const
const STATE = new RegExp(`^\\*\\*(?:${STATES.join('|')})\\*\\*`)
const LAST_CELL = /^`(?<file>test\/[\w./-]+\.test\.ts|src\/testing\/[\w-]+\.ts) > (?<name>[^`]+)`$/

/** Why a test that a page names does not run. */
export function faultOf(file: string, name: string | undefined): string | undefined {
  const id = `${file} > ${name ?? '(all)'}`
  if (!existsSync(join(ROOT, file))) return `${id}: there is no such file`
  const text = read(file)
  if (SWITCHED_OFF.test(text)) return `${id}: something in its file is switched off`
  if (file.startsWith('src/') && !suites().includes(`./${file.split('/').at(-1)!}`)) return `${id}: no suite runs it`
  return name === undefined || isRunning(text, name) ? undefined : `${id}: there is no such test, or it is left out`
}

/** Whether some test, or case of a suite, has this in its title. */
export function isRunning(text: string, name: string): boolean {
  const code = text.replace(/^\s*(?:\/\/|\*|\/\*).*$/gm, '')
  for (let at = code.indexOf(name); at >= 0; at = code.indexOf(name, at + 1)) {
    const before = code.slice(0, at)
    const call = before.slice(Math.max(0, ...[...before.matchAll(/\b(?:test|it)(?=[.(])/g)].map(({ index }) => index)))
    // Nothing but the arguments of `each` and `runIf` stands between the call and its title.
    const isTitle =
      /^(?:test|it)(?:\.(?:each|runIf)\b(?:<[^(]*>)?\([^]*\))?\(\s*['"`][^\n]*$/.test(call) || /\bname: ['"`][^\n]*$/.test(before)
    if (isTitle && !RUN_IF.test(call)) return true
  }
  return false
}

function suites(): string {
  return readdirSync(join(ROOT, 'src/testing'))
    .filter((name) => name.endsWith('-suite.ts'))
    .map((name) => read(`src/testing/${name}`))
    .join('\n')
}

/** The rows of a page's tables of ways around the guards: those under a header that begins with `way around`. */
export function escapeRows(page: string): readonly string[] {
  const rows: string[] = []
  let inTable = false
  for (const line of page.split('\n')) {
    if (line.startsWith('| way around |')) inTable = true
    else if (!line.startsWith('|')) inTable = false
    else if (inTable && !/^\|[ -]*---/.test(line)) rows.push(line)
  }
  return rows
}

/** What is wrong with such a row: it has three cells, a state, and at its end a test that exists and runs. */
export function faultsOfRow(row: string): readonly string[] {
  const cells = row.replace(/^\| | \|$/g, '').split(' | ')
  if (cells.length !== 3) return [`${row}: ${cells.length} cells`]
  const [way = '', state = '', test = ''] = cells
  const faults: string[] = []
  if (!STATE.test(state)) faults.push(`${way}: its state is none of ${STATES.join(', ')}`)
  const id = LAST_CELL.exec(test.trim())?.groups
  const fault = id === undefined ? `${way}: it names no test` : faultOf(id['file']!, id['name'])
  return fault === undefined ? faults : [...faults, fault]
}
