// `holdfast stop`: the kill switch. It moves no money and ends no process; nothing that it covers begins any more.

import { InvalidArgumentError, type Command } from 'commander'
import { MAX_RAISE_MS } from '../kernel/operator.ts'
import { subjectText, type StopTarget } from '../kernel/stops.ts'
import type { StopFacts } from '../lib/errors.ts'
import { assertName } from '../lib/names.ts'
import { asOperator, evidenceOf, parseBudget, withEvidence } from './as-operator.ts'
import { reports, type Report } from './output.ts'
import { parseSpan, span, visible } from './text.ts'

/** What `holdfast stop --json` prints. */
export interface StopJson {
  readonly stopped: boolean
  /** The stop that is in force now, or with `--lift` the one that was lifted; absent when there was none. */
  readonly stop?: StopFacts
}

interface StopOptions {
  readonly agent?: string
  readonly all?: true
  readonly for?: number
  readonly lift?: true
}

/** Adds the command. */
export function addStop(program: Command): void {
  const command = withEvidence(
    program
      .command('stop')
      .description('let nothing begin any more: on a budget and those below it, by an agent, or at all')
      .argument('[path]', 'the budget', parseBudget)
      .option('--agent <name>', 'an agent, wherever it works', parseAgent)
      .option('--all', 'everything on this store')
      .option('--for <span>', 'so long only: 90s, 30min, 2h, 1d', parseFor)
      .option('--lift', 'end the stop of exactly this target'),
  )
  command.addHelpText(
    'after',
    `
Every process on the store refuses with ERR_STOPPED what the stop covers, within a second or so, and cuts streams that
run under a transport guard. Other calls that run go on to their end. No money is moved: see holdfast budget freeze
for a budget whose leased money has to come back. Stops in force: holdfast status

Examples:
  $ holdfast stop acme/report-7 --reason "loops since noon"
  $ holdfast stop --all --for 30min --reason "provider incident"
  $ holdfast stop --agent researcher --lift --reason "prompt mended"`,
  )
  reports(command, async (place) => {
    const options = command.opts<StopOptions>()
    const target = targetOf(command, command.processedArgs[0] as string | undefined, options)
    const evidence = evidenceOf(command)
    if (options.lift === true) {
      if (options.for !== undefined) command.error('`--for` is of a stop; `--lift` ends one at once.')
      return lifted(target, await asOperator(place, (kernel) => kernel.resume({ ...target, ...evidence })))
    }
    const lasting = options.for === undefined ? {} : { forMs: options.for }
    return stopped(await asOperator(place, (kernel) => kernel.stop({ ...target, ...lasting, ...evidence })))
  })
}

function targetOf(command: Command, budget: string | undefined, { agent, all }: StopOptions): StopTarget {
  if ([budget, agent, all].filter((one) => one !== undefined).length !== 1)
    command.error('Name one thing to stop: a budget, --agent <name>, or --all.')
  if (budget !== undefined) return { budget }
  return agent === undefined ? { everything: true } : { agent }
}

function stopped(stop: StopFacts): Report {
  const until = stop.untilMs === undefined ? 'until it is lifted' : `for ${span(stop.untilMs - stop.atMs)}`
  return { json: { stopped: true, stop } satisfies StopJson, text: () => `${subjectText(stop)} is stopped ${until}.\n` }
}

function lifted(target: StopTarget, stop: StopFacts | undefined): Report {
  const was = stop === undefined ? 'was not stopped' : `goes on. It was stopped by ${visible(stop.by)}: ${visible(stop.reason)}`
  return {
    json: { stopped: false, ...(stop === undefined ? {} : { stop }) } satisfies StopJson,
    text: () => `${subjectText(target)} ${was}${stop === undefined ? '.' : ''}\n`,
  }
}

function parseAgent(name: string): string {
  const normal = name.normalize()
  try {
    assertName('agent', normal)
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message)
  }
  return normal
}

function parseFor(text: string): number {
  const ms = parseSpan(text)
  if (ms === undefined || ms < 1 || ms > MAX_RAISE_MS) throw new InvalidArgumentError('Write 90s, 30min, 2h or 1d; 366d at most.')
  return ms
}
