// The simulation from the command line:
//
//   node test/simulation/run.ts --seeds 10000 [--from 1]   runs of these seeds, and every crash of the scenarios
//   node test/simulation/run.ts --bugs                     and looks whether each seeded bug is found
//   node test/simulation/run.ts --seed 42 [--trace]        one run; with its history
//   node test/simulation/run.ts --crash on-disk/37/after [--trace]
//   … --bug NAME                                           with one part broken on purpose
//
// Ends with one line of counts, and with 1 when anything failed.

import { parseArgs } from 'node:util'
import { BUGS } from './bugs.ts'
import { SCENARIOS, crash, crashNamed, crashesOf, nameOf } from './crash-points.ts'
import { simulate, type Verdict } from './simulate.ts'
import { bugNamed, type Done, type Failure, type Task } from './tasks.ts'
import { performAll } from './helpers.ts'

/** Runs of one task: few enough that all threads end at about the same time. */
const SHARE = 50
/** Most seeds that a bug may hide in. */
const MOST_SEEDS = 10_000
/** Most failures that are shown. */
const MOST_SHOWN = 20

const { values: options } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    crash: { type: 'string' },
    bug: { type: 'string' },
    bugs: { type: 'boolean', default: false },
    trace: { type: 'boolean', default: false },
  },
})

process.exitCode = (await main()) ? 0 : 1

async function main(): Promise<boolean> {
  const { trace } = options
  const broken = options.bug === undefined ? {} : { bug: bugNamed(options.bug) }
  if (options.crash !== undefined) return show(options.crash, await crash(crashNamed(options.crash), trace))
  if (options.seed !== undefined) return show(`seed ${options.seed}`, await simulate(whole('seed', options.seed), { trace, ...broken }))
  return runAll(whole('from', options.from), whole('seeds', options.seeds))
}

/** Shows one run. */
function show(name: string, { lines, fault, hash, ms, calls }: Verdict): boolean {
  for (const line of lines) console.log(line)
  console.log(`${name}: ${calls} calls in ${Math.round(ms)} ms, history ${hash.toString(16)}: ${fault ?? 'nothing is wrong'}`)
  return fault === undefined
}

async function runAll(from: number, seeds: number): Promise<boolean> {
  const bug = options.bug === undefined ? {} : { bug: options.bug }
  const tasks: Task[] = shares(seeds).map(({ at, count }) => ({ kind: 'seeds', from: from + at, count, ...bug }))
  const crashes = options.bug === undefined ? (await Promise.all(SCENARIOS.map(crashesOf))).flat().map(nameOf) : []
  tasks.push(...shares(crashes.length).map(({ at, count }): Task => ({ kind: 'crashes', names: crashes.slice(at, at + count) })))
  const searched = options.bugs ? BUGS : []
  tasks.unshift(...searched.map(({ name }): Task => ({ kind: 'search', bug: name, from, count: MOST_SEEDS })))

  const failures: Failure[] = []
  let found = 0
  await performAll(tasks, ({ task, runs, failures: wrong }: Done) => {
    if (task.kind !== 'search') {
      failures.push(...wrong)
      return
    }
    found += wrong.length
    console.log(
      wrong.length > 0 ? `${task.bug}: found by ${wrong[0]!.replay}, ${wrong[0]!.fault}` : `${task.bug}: NOT FOUND in ${runs} seeds`,
    )
  })
  for (const { replay, fault } of failures.slice(0, MOST_SHOWN))
    console.log(`FAILED ${fault}\n  again: node test/simulation/run.ts ${replay} --trace`)
  const bugs = searched.length === 0 ? '' : `, ${found} of ${searched.length} seeded bugs found`
  console.log(`simulation: ${seeds} seeds, ${failures.length} failed, ${crashes.length} crash points${bugs}`)
  return failures.length === 0 && found === searched.length
}

/** Cuts a number of runs into tasks. */
function shares(runs: number): readonly { readonly at: number; readonly count: number }[] {
  return Array.from({ length: Math.ceil(runs / SHARE) }, (_, share) => ({
    at: share * SHARE,
    count: Math.min(SHARE, runs - share * SHARE),
  }))
}

function whole(name: string, given: string): number {
  const number = Number(given)
  if (!Number.isSafeInteger(number) || number < 0) throw new TypeError(`Expected \`--${name}\` to be a whole number, got \`${given}\`.`)
  return number
}
