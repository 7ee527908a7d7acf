// `node models/run.ts [--quick] [--model lease]`: searches every variant that the table at the top of a model names,
// and says whether each did what the table says. The tables are the only list there is, so none can be out of date.

import { execFile } from 'node:child_process'
import { accessSync, constants, copyFileSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { parseArgs, promisify } from 'node:util'

/** What a variant must do: hold in a complete search, fail, or fail for as long as the implementation has a known flaw. */
export type Expected = 'holds' | 'fails' | 'flaw'

/** One row of the table of a model. */
export interface Row {
  /** Path of the model. */
  readonly file: string
  readonly model: string
  readonly flags: readonly string[]
  readonly expected: Expected
  /** As measured when the table was written. */
  readonly states: number
}

/** What became of a row. */
export interface Outcome {
  readonly row: Row
  /** `incomplete`: the search ended without an answer, or the model could not be built. */
  readonly found: 'holds' | 'violated' | 'incomplete'
  readonly states: number
  readonly seconds: number
  /** Whether that is what the table says. */
  readonly expected: boolean
  /** How the output begins, where it is not. */
  readonly detail: string
}

/** The models of this folder. */
export const MODELS: readonly string[] = readdirSync(import.meta.dirname)
  .filter((name) => name.endsWith('.pml'))
  .map((name) => name.slice(0, -'.pml'.length))
  .sort()

/** A complete search of more states than this is left to the full set. */
const QUICK_STATES = 3_000_000
/** Fewer states are searched sooner than an optimizing compiler is done. */
const OPTIMIZED_STATES = 400_000
const MEMORY_MB = 1_000
const DEPTH = 1_000_000
/** Far beyond the longest row. */
const ROW_MS = 600_000
const DETAIL_LINES = 20
const MAX_OUTPUT = 64 * 1024 * 1024

const ROW = /^ +(?<flags>default|-D\S+(?: -D\S+)*) +\| (?<expected>holds|fails|flaw) +\| +(?<states>[\d,]+)/
const run = promisify(execFile)

/** What the machine lacks to search models: programs that are not on the PATH. */
export function missingPrograms(path: string = process.env['PATH'] ?? ''): readonly string[] {
  return ['spin', 'gcc'].filter((program) => !path.split(delimiter).some((folder) => isExecutable(join(folder, program))))
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/**
 * The rows of a model.
 *
 * @throws {Error} When its table has no row that holds, or fewer than three that fail: then it shows nothing.
 */
export function rowsOf(model: string, text: string = readFileSync(fileOf(model), 'utf8')): readonly Row[] {
  const rows = text
    .slice(0, text.indexOf('*/'))
    .split('\n')
    .flatMap((line): readonly Row[] => {
      const { flags, expected, states } = ROW.exec(line)?.groups ?? {}
      if (flags === undefined) return []
      const own = flags === 'default' ? [] : flags.split(' ')
      return [{ file: fileOf(model), model, flags: own, expected: expected as Expected, states: Number(states?.replaceAll(',', '')) }]
    })
  const count = (which: Expected): number => rows.filter(({ expected }) => expected === which).length
  if (count('holds') < 1 || count('fails') < 3) throw new Error(`${model}.pml: its table needs one row that holds and three that fail.`)
  return rows
}

const fileOf = (model: string): string => join(import.meta.dirname, `${model}.pml`)

/** Whether a row belongs to the quick set: what must fail fails soon. */
export const isQuick = ({ expected, states }: Row): boolean => expected !== 'holds' || states < QUICK_STATES

/** Builds and searches one variant, in a folder of its own that is removed again. */
export async function searchRow(row: Row): Promise<Outcome> {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-model-'))
  const startedAt = performance.now()
  try {
    copyFileSync(row.file, join(folder, 'model.pml'))
    return judge(row, await search(folder, row), (performance.now() - startedAt) / 1_000)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** What pan printed, or why there is nothing. */
async function search(folder: string, { flags, states }: Row): Promise<string> {
  const options = { cwd: folder, timeout: ROW_MS, maxBuffer: MAX_OUTPUT }
  try {
    await run('spin', ['-a', ...flags, 'model.pml'], options)
    // What pan.c is warned of is Spin's own code.
    const sizes = ['-DSAFETY', '-DCOLLAPSE', '-DVECTORSZ=2048', `-DMEMLIM=${MEMORY_MB}`]
    await run('gcc', ['-w', states < OPTIMIZED_STATES ? '-O0' : '-O2', ...sizes, '-o', 'pan', 'pan.c'], options)
    // -E: a process that can go no further is no error; it is one that was stopped.
    return (await run('./pan', ['-E', `-m${DEPTH}`], options)).stdout
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string }
    return `${stdout}\n${stderr}\n${String(error)}`
  }
}

/** Reads what pan printed. A search that was cut short proves nothing, whatever it did not find. */
export function judge(row: Row, output: string, seconds: number): Outcome {
  const states = Math.round(Number(/([\d.e+]+) states, stored/.exec(output)?.[1] ?? 0))
  const complete = /errors: 0$/m.test(output) && !/max search depth too small|Search not completed/.test(output)
  const violated = /assertion violated/.test(output) && !/errors: 0$/m.test(output)
  const found = violated ? 'violated' : complete ? 'holds' : 'incomplete'
  const expected = row.expected === 'holds' ? found === 'holds' : found === 'violated'
  const said = output.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('Depth='))
  const detail = expected ? '' : said.slice(0, DETAIL_LINES).join('\n')
  return { row, found, states, seconds, expected, detail }
}

/** Searches rows, as many at once as there are cores but two at most: each may take a gigabyte. */
export async function searchRows(rows: readonly Row[], onOutcome: (outcome: Outcome) => void = () => {}): Promise<readonly Outcome[]> {
  const outcomes: Outcome[] = []
  const waiting = [...rows]
  const work = async (): Promise<void> => {
    for (let row = waiting.shift(); row !== undefined; row = waiting.shift()) {
      const outcome = await searchRow(row)
      outcomes.push(outcome)
      onOutcome(outcome)
    }
  }
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, work))
  return rows.map((row) => outcomes.find((outcome) => outcome.row === row)!)
}

/** One line of the report. */
export function lineOf({ row, found, states, seconds, expected }: Outcome): string {
  const about = [row.model.padEnd(10), (row.flags.join(' ') || 'default').padEnd(44), row.expected.padEnd(5)]
  const surprise = row.expected === 'flaw' && found === 'holds' ? 'SURPRISE: the flaw is gone, make it a row that holds' : 'SURPRISE'
  const measured = [found.padEnd(10), states.toLocaleString('en').padStart(11), `${seconds.toFixed(1).padStart(6)} s`]
  return [...about, ...measured, expected ? 'as expected' : surprise].join('  ')
}

/** Runs the command line. Returns its exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const options = { quick: { type: 'boolean', default: false }, model: { type: 'string' } } as const
  const { values } = parseArgs({ args: [...args], options })
  const models = values.model === undefined ? MODELS : MODELS.filter((model) => model === values.model)
  if (models.length === 0) {
    console.error(`There is no model ${JSON.stringify(values.model)}; there are ${MODELS.join(', ')}.`)
    return 1
  }
  const missing = missingPrograms()
  if (missing.length > 0) {
    console.error(`NOT RUN: the Spin models: ${missing.join(' and ')} ${missing.length > 1 ? 'are' : 'is'} not installed`)
    return ['', '0', 'false', undefined].includes(process.env['CI']) ? 0 : 1
  }
  const rows = models.flatMap((model) => rowsOf(model)).filter((row) => !values.quick || isQuick(row))
  const outcomes = await searchRows(rows, (outcome) => console.log(lineOf(outcome)))
  const surprises = outcomes.filter(({ expected }) => !expected)
  for (const { row, detail } of surprises) console.error(`\n${row.model} ${row.flags.join(' ')}:\n${detail}`)
  const flaws = outcomes.filter(({ row }) => row.expected === 'flaw').length
  console.log(`${outcomes.length} rows, ${surprises.length} surprises, ${flaws} known flaws`)
  return surprises.length === 0 ? 0 : 1
}

if (process.argv[1] === import.meta.filename) process.exitCode = await main(process.argv.slice(2))
