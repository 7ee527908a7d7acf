// `holdfast doctor`: is this set-up sound, what does it protect against, and what is promised?

import type { Command } from 'commander'
import { CLAIMS, type Claim } from '../kernel/claims.ts'
import { checkDirectory, checkFileSystem, checkNode, checkSync, type Check } from './doctor-machine.ts'
import { checkEscapes } from './doctor-escapes.ts'
import { checkChains, checkStore } from './doctor-store.ts'
import { canWriteFile, canWriteStore, levelsReached, userName, type Level } from './doctor-levels.ts'
import { reports, type GlobalOptions, type Report } from './output.ts'
import type { Place } from './store-address.ts'
import { table, type Cell } from './table.ts'
import { plural, visible, type Style } from './text.ts'

/** What `holdfast doctor --json` prints. */
export interface DoctorJson {
  /** False when any check has failed. */
  readonly ok: boolean
  readonly checks: readonly Check[]
  /** Against whom this set-up protects. */
  readonly levels: readonly Level[]
  /** What holdfast promises, each with the test that fails when it does not hold. */
  readonly claims: readonly Claim[]
}

/** Adds the command. */
export function addDoctor(program: Command): void {
  const command = program.command('doctor').description('check this set-up, and say what it protects against')
  command.addHelpText(
    'after',
    `
It writes one temporary file into the data directory, and removes it. Exit code 1 when a check fails.

Example:
  $ holdfast doctor --data ./run/.holdfast`,
  )
  reports(command, doctor)
}

async function doctor(place: GlobalOptions): Promise<Report> {
  const checks = await examine(place)
  const failed = checks.filter(({ result }) => result === 'fail').length
  const json: DoctorJson = { ok: failed === 0, checks, levels: levelsReached(userName(), isInReach(place)), claims: CLAIMS }
  return {
    json,
    text: (style) => doctorText(json, style),
    fault: failed === 0 ? undefined : { code: 'ERR_DOCTOR', message: `${plural(failed, 'check')} failed.` },
  }
}

async function examine(place: Place): Promise<readonly Check[]> {
  const { data, store } = place
  const machine = [checkNode(process.versions.node), checkDirectory(data)]
  // Without a directory there is nothing else to look at, and nothing may be created; a store may be elsewhere.
  if (machine.at(-1)!.id === 'data-missing') return store === undefined ? machine : [...machine, ...(await checkStore(place))]
  return [...machine, checkFileSystem(data), checkSync(data), ...(await checkStore(place)), await checkChains(place), checkEscapes(data)]
}

/** Whoever can reach a server with what stands on this command line can change what is on it. */
function isInReach({ data, store }: Place): boolean {
  if (store?.kind === 'redis' || store?.kind === 'postgres') return true
  return store?.kind === 'sqlite' ? canWriteFile(store.at) : canWriteStore(store?.at ?? data)
}

function doctorText({ checks, levels, claims }: DoctorJson, style: Style): string {
  const lines = checks.flatMap(({ result, message, todo }): (readonly Cell[])[] => {
    const mark: Cell = result === 'ok' ? ['green', 'ok'] : result === 'warn' ? ['yellow', 'warn'] : ['red', 'FAIL']
    // A message of many lines, such as one for each bad chain, goes on under itself.
    const [first = '', ...more] = message.split('\n')
    return [[mark, first], ...more.map((line) => ['', line]), ...(todo === undefined ? [] : [['', ['dim', `-> ${todo}`]] as const])]
  })
  const reached = levels.flatMap(({ level, against, reached, why }): (readonly Cell[])[] => [
    [`(${level})`, reached ? ['green', 'protected'] : ['yellow', 'NOT protected'], against],
    ['', '', ['dim', why]],
  ])
  const promises = claims.map(({ id, claim, assumes, test }) => {
    const under = assumes.length === 0 ? '' : ` (assumes ${assumes.join(', ')})`
    return `  ${style('bold', visible(id))}  ${visible(claim)}${under}\n      ${style('dim', `test: ${visible(test)}`)}\n`
  })
  return [
    table([{}, {}], lines, style),
    `${style('bold', 'Against whom')}\n${indent(table([{}, {}, {}], reached, style))}`,
    `${style('bold', 'What is promised')}\n${promises.length === 0 ? '  No claims in this version yet.\n' : promises.join('')}`,
  ].join('\n')
}

function indent(text: string): string {
  return text.replaceAll(/^(?=.)/gm, '  ')
}
