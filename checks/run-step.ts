// One step: runs its command, and believes it only when it ended with 0, printed its last line, and did as much as it
// was told.

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import type { Command, Share, Step } from './steps.ts'

/** What came of a step. */
export interface Outcome {
  readonly step: Step
  /** As one would type it; of a step that another command runs, where. */
  readonly command: string
  readonly result: 'passed' | 'failed' | 'elsewhere'
  /** Its last line, one for each round; or why it failed. */
  readonly lines: readonly string[]
  readonly seconds: number
  /** The end of its output, where it failed. */
  readonly output: string
}

/** Where the repository is, and how long one round may take. */
export interface RunOptions {
  readonly root: string
  readonly timeoutMs: number
}

/** Enough to see what went wrong. */
const KEPT_LINES = 80
/** What it started itself has this long to be put in order. */
const ENDING_MS = 15_000

/** Runs what a step does in this share. */
export async function runStep(step: Step, share: Share, options: RunOptions): Promise<Outcome> {
  const command = step[share]
  if (typeof command === 'string') return { step, command, result: 'elsewhere', lines: [], seconds: 0, output: '' }
  const startedAt = performance.now()
  const lines: string[] = []
  const ended = (result: 'passed' | 'failed', output: string): Outcome => {
    const seconds = (performance.now() - startedAt) / 1_000
    return { step, command: textOf(command), result, lines, seconds, output }
  }
  const [script] = command.args
  if (!existsSync(join(options.root, script!))) {
    lines.push(`MISSING: there is no ${script}`)
    return ended('failed', '')
  }
  for (let round = 0; round < (command.rounds ?? 1); round++) {
    const { code, output } = await run(command, options)
    const found = output.findLast((line) => step.line.test(line))
    const fault = faultOf(command, code, found === undefined ? undefined : step.line.exec(found)!)
    lines.push(fault ?? found!.trim())
    if (fault !== undefined) return ended('failed', output.join('\n'))
  }
  return ended('passed', '')
}

function faultOf({ atLeast = 0 }: Command, code: number | string, found: RegExpExecArray | undefined): string | undefined {
  if (code !== 0) return `FAILED: it ended with ${code}`
  if (found === undefined) return 'FAILED: it ended with 0, and without the line that says what was done'
  const done = Number(found.groups?.['done']?.replaceAll(',', '') ?? 0)
  return done < atLeast ? `FAILED: it did ${done} of ${atLeast}` : undefined
}

/** As one would type it. */
function textOf({ args, env = {}, rounds = 1 }: Command): string {
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  return [...variables, 'node', ...args, ...(rounds > 1 ? [`(${rounds} times)`] : [])].join(' ')
}

/** Runs a command; returns its exit code, or what ended it, and the end of what it printed. */
async function run(
  { args, env = {} }: Command,
  { root, timeoutMs }: RunOptions,
): Promise<{ readonly code: number | string; readonly output: string[] }> {
  // With CI set, a server or a program that is missing is a failure, and not a reason to check less.
  const child = spawn(process.execPath, args, {
    cwd: root,
    env: { ...process.env, CI: '1', NO_COLOR: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output: string[] = []
  let rest = ''
  const hear = (chunk: Buffer): void => {
    const heard = (rest + chunk.toString()).split('\n')
    rest = heard.pop()!
    output = [...output, ...heard.map((line) => stripVTControlCharacters(line))].slice(-KEPT_LINES)
  }
  child.stdout.on('data', hear)
  child.stderr.on('data', hear)
  let late = false
  const timer = setTimeout(() => {
    late = true
    child.kill('SIGINT')
    setTimeout(() => child.kill('SIGKILL'), ENDING_MS).unref()
  }, timeoutMs)
  const code = await new Promise<number | string>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (exit, signal) => resolve(exit ?? signal ?? 'nothing'))
  })
  clearTimeout(timer)
  return { code: late ? `the end of its ${timeoutMs / 60_000} minutes` : code, output: rest === '' ? output : [...output, rest] }
}
