// A crash at every await. What a process has done shows in nothing but its requests, its chain and its calls; so between
// two of those it does not matter where it dies. Each scenario runs once to count them, and then once for each of them
// and each side of it: what was about to happen never happens, or it happens and nobody is there for the answer.

import { planOf, type Plan, type ProcessPlan } from './plan.ts'
import { ROOT } from './intercept-files.ts'
import { simulate, type Verdict } from './simulate.ts'
import type { CrashPoint } from './world.ts'

/** A scenario whose first process dies everywhere. */
export interface Scenario {
  readonly name: string
  readonly seed: number
  readonly plan: Plan
}

/** One crash of one scenario: `on-disk/37/after`. */
export interface CrashRun extends CrashPoint {
  readonly scenario: Scenario
}

const CALM: ProcessPlan = {
  startMs: 0,
  agents: 2,
  tasks: 3,
  leasing: 'auto',
  directory: `${ROOT}/host-0`,
  skewMs: 0,
  jumps: [],
  pauses: [],
  stop: undefined,
  cuts: [],
  crash: undefined,
  leaves: 'close',
  closesAtMs: undefined,
  fullDisk: undefined,
}

const BASE: Plan = {
  ...planOf(0),
  budgets: {
    acme: { tokens: 300, calls: 90 },
    'acme/*': { tokens: 200 },
    'acme/*/*': { tokens: 100, calls: 50 },
    'acme/named': { tokens: 200 },
  },
  paths: ['acme/a/x', 'acme/named'],
  leaseTtlMs: 2_000,
  waitMs: 300,
  holdDeadlineMs: 900_000,
  odds: {},
  fates: { late: 0.1, 'no-usage': 0.1, 'failed-billed': 0.1, rejected: 0.05, overrun: 0.05 },
  storeJumps: [],
  storeFault: undefined,
  handoffs: 0.25,
  operations: 0.1,
  mostTokens: 10,
  workMs: 60,
  processes: [CALM, { ...CALM, tasks: 2, startMs: 400 }],
}

/** The scenarios. */
export const SCENARIOS: readonly Scenario[] = [
  { name: 'on-disk', seed: 11, plan: BASE },
  {
    name: 'without-disk',
    seed: 12,
    plan: { ...BASE, processes: BASE.processes.map((one) => ({ ...one, directory: undefined })) },
  },
  {
    name: 'bad-network',
    seed: 13,
    plan: { ...BASE, odds: { 'lose-request': 0.06, 'lose-reply': 0.06, duplicate: 0.06, late: 0.06, slow: 0.05, refuse: 0.03 } },
  },
  {
    name: 'short-of-money',
    seed: 14,
    plan: {
      ...BASE,
      budgets: { acme: { tokens: 60, calls: 30 }, 'acme/*': { tokens: 40 }, 'acme/*/*': { tokens: 30 }, 'acme/named': { tokens: 30 } },
    },
  },
]

/** Every crash of a scenario. */
export async function crashesOf(scenario: Scenario): Promise<readonly CrashRun[]> {
  const { interactions, fault } = await simulate(scenario.seed, { plan: scenario.plan })
  if (fault !== undefined) throw new Error(`The scenario ${scenario.name} fails without a crash: ${fault}`)
  return Array.from({ length: interactions[0]! }, (_, at) => at + 1).flatMap((at) =>
    (['before', 'after'] as const).map((how) => ({ scenario, at, how })),
  )
}

/** Runs a scenario with its first process dying at one point. */
export function crash({ scenario, at, how }: CrashRun, trace = false): Promise<Verdict> {
  const [first, ...others] = scenario.plan.processes
  const plan = { ...scenario.plan, processes: [{ ...first!, crash: { at, how } }, ...others] }
  return simulate(scenario.seed, { plan, trace })
}

/** The name of a crash. */
export const nameOf = ({ scenario, at, how }: CrashRun): string => `${scenario.name}/${at}/${how}`

/** Finds a crash by its name. @throws {TypeError} */
export function crashNamed(name: string): CrashRun {
  const [scenario, at, how] = name.split('/')
  const found = SCENARIOS.find((one) => one.name === scenario)
  if (found === undefined || !Number.isInteger(Number(at)) || (how !== 'before' && how !== 'after'))
    throw new TypeError(
      `Expected \`--crash\` to be \`<${SCENARIOS.map((one) => one.name).join('|')}>/<number>/<before|after>\`, got \`${name}\`.`,
    )
  return { scenario: found, at: Number(at), how }
}
