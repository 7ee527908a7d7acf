// `npm run soak -- --store redis --processes 16 --minutes 1`: soaks one store, then shows by three negative controls, or
// by the one of `--control`, that the same harness finds the usual mistakes. Ends with 1 on any breach of ours, and when
// a control does not breach; its last line says what was done.

import { writeFileSync } from 'node:fs'
import { Command, Option } from 'commander'
import { CONTROLS, type Control } from './controls.ts'
import type { SoakOptions } from './options.ts'
import { lastLineOf, reportOf, verdictOf } from './report.ts'
import { STORES, type StoreName } from './site.ts'
import { soak, type Outcome } from './soak.ts'

interface Arguments {
  readonly store: StoreName
  readonly processes: string
  readonly minutes: string
  readonly seconds?: string
  readonly seed?: string
  readonly limit?: string
  readonly leasing: 'auto' | 'off' | 'mixed'
  readonly controls: boolean
  readonly control?: Control
  readonly json?: string
}

/** A control that has not breached by then never will, as far as anybody can wait. */
const CONTROL_MS = 40_000

const {
  processes,
  minutes,
  seconds,
  seed,
  limit,
  json,
  control: only,
  ...given
} = new Command('soak')
  .addOption(new Option('--store <kind>').choices(STORES).default('file'))
  .option('--processes <count>', 'processes at the same time', '8')
  .option('--minutes <minutes>', 'how long; fractions are allowed', '1')
  .option('--seconds <seconds>', 'the same, in seconds; counts instead of the minutes')
  .option('--seed <number>', 'of chaos and answers; a run that failed goes the same way again as far as it is ours')
  .option('--limit <usd>', 'first limit in US dollars; it is raised when it has run out')
  .addOption(new Option('--leasing <how>', 'who leases').choices(['auto', 'off', 'mixed']).default('mixed'))
  .option('--controls', 'show beside it that the same soak finds what is done wrong on purpose', true)
  .addOption(new Option('--control <which>', 'show only this one of them').choices(CONTROLS))
  .option('--no-controls', 'leave the negative controls out')
  .option('--json <file>', 'write what came of it to a file')
  .parse()
  .opts<Arguments>()

const options: SoakOptions = {
  ...given,
  processes: positive('processes', processes),
  ms: seconds === undefined ? positive('minutes', minutes) * 60_000 : positive('seconds', seconds) * 1_000,
  seed: seed === undefined ? Date.now() % 1_000_000_000 : Number(seed),
  ...(limit === undefined ? {} : { limit: Math.round(positive('limit', limit) * 1e9) }),
}

// Without it the processes that are stopped just then would stay.
process.once('SIGINT', () => process.exit(130))
const outcomes: Outcome[] = []
console.log(`seed ${options.seed}: ${options.store}, ${options.processes} processes, ${options.ms / 1_000} s`)
outcomes.push(await soak(options))
if (given.controls)
  for (const control of only === undefined ? CONTROLS : [only]) {
    const { limit: _, ...rest } = options
    outcomes.push(await soak({ ...rest, control, ms: CONTROL_MS }))
  }
console.log(reportOf(outcomes))
const verdicts = outcomes.flatMap(verdictOf)
for (const verdict of verdicts) console.log(verdict)
console.log(verdicts.length === 0 ? 'Nothing was spent that was not held first.' : `FAILED; again with --seed ${options.seed}`)
console.log(lastLineOf(outcomes))
if (json !== undefined)
  writeFileSync(json, `${JSON.stringify(outcomes, (_, value: unknown) => (value instanceof Set ? [...value] : value), 2)}\n`)
process.exitCode = verdicts.length === 0 ? 0 : 1

function positive(name: string, text: string): number {
  const value = Number(text)
  if (!(value > 0)) throw new RangeError(`Expected --${name} to be a number above 0, got ${JSON.stringify(text)}.`)
  return value
}
