// What the deep check is made of: one row for each step, with its share in CI and in full. `npm test` stays what one
// runs after every change; what is here takes longer, or is tried with other seeds for each commit.

import { CONTROLS } from '../soak/controls.ts'
import { STORES } from '../soak/site.ts'

/** `ci`: what fits beside the tests. `full`: all of it. */
export type Share = 'ci' | 'full'

/** What a step runs in one share. */
export interface Command {
  /** Of Node, relative to the repository. The first one is a file, and has to be there. */
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** How often, one after the other. @default 1 */
  readonly rounds?: number
  /** What the group `done` of its last line has to reach: a step that did less than it was told has failed. */
  readonly atLeast?: number
}

/** One row. */
export interface Step {
  readonly name: string
  readonly what: string
  /** Its last line: what a step that ended well has printed. */
  readonly line: RegExp
  readonly full: Command
  /** A text says where else CI runs it. */
  readonly ci: Command | string
  /** Test files that `.ci/run` leaves out of the tests, since this step runs them, or does what they do for longer. */
  readonly instead?: readonly string[]
}

const VITEST = ['node_modules/vitest/vitest.mjs', 'run', '--config', 'checks/vitest.config.ts']
/** The model is compared with as many histories as the name of this test says. */
const MODEL = /^ *✓ .* > in (?<done>\d+) random histories every counter is what the model says.*$/
const TESTS = /^ *Tests +(?<done>\d+) passed \(\d+\)$/
const PROPERTIES = ['test/budget/ledger.property.test.ts', 'test/budget/faults.property.test.ts']
const SEEDS = { ci: 1_000, full: 10_000 } as const
const HISTORIES = { ci: 50, full: 1_000 } as const
const SOAK_SECONDS = { ci: 15, full: 60 } as const

/** The steps; every failure can be had again with the seed that is printed first. */
export function stepsOf(seed: number): readonly Step[] {
  return [simulation(seed), models(seed), processes(), spin(), ...['redis', 'postgres'].map(historiesOf(seed)), ...STORES.map(soakOf(seed))]
}

function simulation(seed: number): Step {
  const command = (seeds: number): Command => ({
    args: ['test/simulation/run.ts', '--seeds', String(seeds), '--from', String(seed), '--bugs'],
    atLeast: seeds,
  })
  return {
    name: 'simulation',
    what: 'whole kernels in one process, on a simulated clock, with a crash at every point; and bugs put in on purpose',
    line: /^simulation: (?<done>[\d,]+) seeds, 0 failed, [\d,]+ crash points, (?<bugs>[1-9]\d*) of \k<bugs> seeded bugs found(?: \(.*\))?$/,
    full: command(SEEDS.full),
    ci: command(SEEDS.ci),
  }
}

function models(seed: number): Step {
  const command = (runs: number, ...files: readonly string[]): Command => ({
    args: [...VITEST, '--reporter=verbose', ...PROPERTIES, ...files],
    env: { HOLDFAST_PROPERTY_RUNS: String(runs), HOLDFAST_SEED: String(seed) },
    atLeast: runs,
  })
  return {
    name: 'model runs',
    what: 'random histories of the ledger, its leases and handoffs, each compared with a model after every step',
    line: MODEL,
    full: command(SEEDS.full, 'test/budget/leasing.test.ts', 'test/handoff/handoff.test.ts'),
    ci: command(SEEDS.ci),
    instead: PROPERTIES,
  }
}

function processes(): Step {
  return {
    name: 'processes',
    what: 'real processes on each store, killed and stopped at random',
    line: TESTS,
    full: { args: [...VITEST, 'processes'], rounds: 5 },
    ci: 'once, in `npm test`',
  }
}

function spin(): Step {
  return {
    name: 'spin',
    what: 'every order of the steps of each protocol; and variants that have to fail',
    line: /^(?<done>\d+) rows, 0 surprises, \d+ known flaws$/,
    full: { args: ['models/run.ts'] },
    ci: 'rows under 3 million states, and all that must fail, in `npm test`: test/models/models.test.ts',
  }
}

const historiesOf =
  (seed: number) =>
  (store: string): Step => {
    const command = (count: number): Command => ({
      args: ['test/histories/run.ts', '--store', store, '--histories', String(count), '--seed', String(seed)],
      atLeast: count,
    })
    return {
      name: `histories ${store}`,
      what: 'what many clients saw at the same time, judged afterwards: is there an order in which all of it is right?',
      line: new RegExp(`^histories: ${store}: (?<done>[\\d,]+) histories, [\\d,]+ operations, [\\d,]+ unknown, 0 anomalies(?: \\(.*\\))?$`),
      full: command(HISTORIES.full),
      ci: command(HISTORIES.ci),
    }
  }

const soakOf =
  (seed: number) =>
  (store: string, index: number): Step => {
    const args = (processes: number, seconds: number): readonly string[] =>
      ['soak/run.ts', '--store', store, '--processes', processes, '--seconds', seconds, '--seed', seed].map(String)
    return {
      name: `soak ${store}`,
      what: 'killed, stopped and cut off processes against the bill of a provider; and harmful ways to keep a budget, found out',
      line: new RegExp(`^soak: ${store}: (?<done>\\d+) s, .*, 0 breaches, seed \\d+, (?<found>[1-9]\\d*) of \\k<found> controls found$`),
      full: { args: args(8, SOAK_SECONDS.full), atLeast: SOAK_SECONDS.full },
      // One control each, another one for each store, in turn from commit to commit.
      ci: {
        args: [...args(4, SOAK_SECONDS.ci), '--control', CONTROLS[(seed + index) % CONTROLS.length]!],
        atLeast: SOAK_SECONDS.ci,
      },
      instead: ['test/soak/soak.test.ts'],
    }
  }
