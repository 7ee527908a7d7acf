// `npm run check:deep [-- --share ci] [--seed-from-commit | --seed N] [--only spin,simulation] [--report FILE]`: runs the
// steps of checks/steps.ts one after the other, and ends with 1 when one of them fails. A full run leaves its report
// in docs/deep-check.md.

import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { reportOf, verdictOf, type Check } from './report.ts'
import { runStep, type Outcome, type RunOptions } from './run-step.ts'
import { stepsOf, type Share, type Step } from './steps.ts'

const ROOT = join(import.meta.dirname, '..')
const REPORT = 'docs/deep-check.md'
/** Far beyond the longest round of each share, ms: what hangs has failed. */
const TIMEOUT_MS: Readonly<Record<Share, number>> = { ci: 10 * 60_000, full: 120 * 60_000 }
const SEEDS = 1_000_000

/** Where the seeds of a commit begin. */
export const seedOfCommit = (commit: string): number => Number.parseInt(commit.slice(0, 7), 16) % SEEDS

/** @throws {TypeError} For a name that no step has. */
export function chosen(steps: readonly Step[], only: string | undefined): readonly Step[] {
  if (only === undefined) return steps
  const names = only.split(',').map((name) => name.trim())
  const matches = (step: Step, name: string): boolean => step.name === name || step.name.startsWith(`${name} `)
  const unknown = names.filter((name) => !steps.some((step) => matches(step, name)))
  if (unknown.length > 0)
    throw new TypeError(`There is no step ${unknown.join(', ')}; there are ${steps.map(({ name }) => name).join(', ')}.`)
  return steps.filter((step) => names.some((name) => matches(step, name)))
}

/** Runs steps one after the other, and says of each what came of it. */
export async function runSteps(steps: readonly Step[], share: Share, options: RunOptions, say = console.log): Promise<readonly Outcome[]> {
  const outcomes: Outcome[] = []
  for (const step of steps) {
    const outcome = await runStep(step, share, options)
    outcomes.push(outcome)
    const about = `${outcome.result.padEnd(9)} ${`${outcome.seconds.toFixed(1)} s`.padStart(9)}  ${step.name}: `
    say(about + (outcome.result === 'elsewhere' ? outcome.command : outcome.lines.join('; ')))
    if (outcome.result === 'failed') say(`${outcome.output}\n${step.name}: again with ${outcome.command}`.trim())
  }
  return outcomes
}

/** Asks git, also where the checkout belongs to somebody else. */
const git = (...args: readonly string[]): string =>
  execFileSync('git', ['-c', 'safe.directory=*', ...args], { cwd: ROOT, encoding: 'utf8' }).trim()

/** The commit, and whether something was changed since. */
function commitOf(): string {
  const changes = git('status', '--porcelain', '--', '.', `:!${REPORT}`)
  return git('rev-parse', '--short=12', 'HEAD') + (changes === '' ? '' : ', with changes')
}

/** Runs the command line. Returns its exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const options = {
    share: { type: 'string', default: 'full' },
    seed: { type: 'string' },
    'seed-from-commit': { type: 'boolean', default: false },
    only: { type: 'string' },
    report: { type: 'string' },
    json: { type: 'string' },
  } as const
  const { values } = parseArgs({ args: [...args], options })
  const { share } = values
  if (share !== 'ci' && share !== 'full') throw new TypeError(`Expected --share to be ci or full, got ${JSON.stringify(share)}.`)
  const seed = values['seed-from-commit'] ? seedOfCommit(git('rev-parse', 'HEAD')) : Number(values.seed ?? Date.now() % SEEDS)
  if (!Number.isSafeInteger(seed) || seed < 0) throw new TypeError(`Expected --seed to be a whole number from 0, got ${values.seed}.`)
  const steps = chosen(stepsOf(seed), values.only)
  console.log(`first seed ${seed}: npm run check:deep -- --share ${share} --seed ${seed}`)
  const startedAt = new Date()
  const outcomes = await runSteps(steps, share, { root: ROOT, timeoutMs: TIMEOUT_MS[share] })
  const seconds = (Date.now() - startedAt.getTime()) / 1_000
  const check: Check = { share, commit: commitOf(), seed, startedAt, seconds, outcomes }
  // What was not run in full is no report of the whole.
  const file = values.report ?? (share === 'full' && values.only === undefined ? join(ROOT, REPORT) : undefined)
  if (file !== undefined) writeFileSync(file, reportOf(check))
  const failed = outcomes.filter(({ result }) => result === 'failed').length
  const passed = outcomes.filter(({ result }) => result === 'passed').length
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ passed, failed, seed, seconds })}\n`)
  console.log(`deep check (${share}): ${verdictOf(check)}; first seed ${seed}, ${Math.round(seconds)} s`)
  return failed === 0 ? 0 : 1
}

if (process.argv[1] === import.meta.filename) process.exitCode = await main(process.argv.slice(2))
