// The report of a deep check: what was run, on what, and what came of it. It names no host, no user and no folder.

import { execFileSync } from 'node:child_process'
import { statfsSync } from 'node:fs'
import { cpus, platform, release, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { postgresBinaries } from '../test/stores/postgres-server.ts'
import type { Outcome } from './run-step.ts'
import type { Share } from './steps.ts'

/** What a report is about. */
export interface Check {
  readonly share: Share
  readonly commit: string
  readonly seed: number
  readonly startedAt: Date
  readonly seconds: number
  readonly outcomes: readonly Outcome[]
}

const FILE_SYSTEMS: Readonly<Record<number, string>> = {
  0xef53: 'ext4',
  0x58465342: 'xfs',
  0x9123683e: 'btrfs',
  0x794c7630: 'overlayfs',
  0x01021994: 'tmpfs',
  0x2fc12fc1: 'zfs',
}

/** The report as Markdown. */
export function reportOf(check: Check, machine: readonly (readonly [string, string])[] = machineOf()): string {
  const { share, commit, seed, startedAt, seconds, outcomes } = check
  const facts: readonly (readonly [string, string])[] = [
    ['result', verdictOf(check)],
    ['date', startedAt.toISOString().slice(0, 10)],
    ['commit', commit],
    ['first seed', String(seed)],
    ['time', durationOf(seconds)],
    ...machine,
  ]
  return `# The deep check

The latest output of \`npm run check:deep\`${share === 'full' ? '' : ` with \`--share ${share}\``}, written by it. What it runs is said in \`checks/steps.ts\`; \`.ci/run\` runs a share of it after the tests, from a first seed that is taken from the commit. A step passes when it ends with 0, prints its last line, and did as much as it was told.

| | |
|---|---|
${facts.map(([name, value]) => `| ${name} | ${value} |`).join('\n')}

| step | result | its last line | time |
|---|---|---|---|
${outcomes.map(rowOf).join('\n')}

What each of them is:

${outcomes.map(({ step, command, result }) => `- **${step.name}**: ${step.what}. ${result === 'elsewhere' ? `Here ${command}` : `\`${command}\``}`).join('\n')}
`
}

/** One line on all of it. */
export function verdictOf({ outcomes }: Pick<Check, 'outcomes'>): string {
  const ran = outcomes.filter(({ result }) => result !== 'elsewhere')
  const failed = ran.filter(({ result }) => result === 'failed')
  return `${ran.length - failed.length} steps passed, ${failed.length} failed${failed.length === 0 ? '' : `: ${failed.map(({ step }) => step.name).join('; ')}`}`
}

function rowOf({ step, result, lines, seconds }: Outcome): string {
  const cells = [step.name, result === 'failed' ? '**failed**' : result, lines.map(escaped).join('<br>'), durationOf(seconds)]
  return `| ${cells.join(' | ')} |`
}

const escaped = (text: string): string => text.replaceAll('|', '\\|')
const durationOf = (seconds: number): string => (seconds < 90 ? `${Math.round(seconds)} s` : `${(seconds / 60).toFixed(1)} min`)

/** What it ran on: nothing that names a person, a machine or a place. */
export function machineOf(): readonly (readonly [string, string])[] {
  const [first] = cpus()
  const postgres = postgresBinaries()
  return [
    ['CPU', `${first?.model.trim() ?? 'unknown'}, ${cpus().length} cores`],
    ['memory', `${Math.round(totalmem() / 2 ** 30)} GB`],
    // What comes after the number is the name of whoever built it.
    ['kernel', `${platform()} ${release().split('-')[0]}`],
    ['file system', FILE_SYSTEMS[statfsSync(tmpdir()).type] ?? `0x${statfsSync(tmpdir()).type.toString(16)}`],
    ['Node', process.version],
    ['Redis', versionOf('redis-server', ['--version'])],
    ['Postgres', postgres === undefined ? 'not installed' : versionOf(join(postgres, 'postgres'), ['--version'])],
    ['Spin', versionOf('spin', ['-V'])],
  ]
}

/** The first number with dots that a program says of itself. */
function versionOf(program: string, args: readonly string[]): string {
  try {
    return /\d+(?:\.\d+)+/.exec(execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }))?.[0] ?? 'unknown'
  } catch {
    // The steps that need it say so, and fail; here it is only left out.
    return 'not installed'
  }
}
