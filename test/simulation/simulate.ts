// A run from its seed to its verdict.

import { createBooks } from './books.ts'
import type { Bug } from './bugs.ts'
import { assertEnd } from './check.ts'
import { diceOf } from './dice.ts'
import { GOOD_HABITS } from './habits.ts'
import type { Network } from './network.ts'
import { planOf, type Plan } from './plan.ts'
import { live } from './process.ts'
import { createProvider } from './provider.ts'
import type { Site } from './site.ts'
import { createTruth } from './truth.ts'
import { createWorld } from './world.ts'

/** How a run went. */
export interface Verdict {
  readonly seed: number
  /** What was wrong; absent when all was well. */
  readonly fault?: string
  /** The same for the same history. */
  readonly hash: number
  /** Virtual time, ms. */
  readonly ms: number
  /** Requests, chain writes and calls of each process. */
  readonly interactions: readonly number[]
  readonly calls: number
  /** What took place, and how often. */
  readonly met: ReadonlyMap<string, number>
  readonly lines: readonly string[]
}

/** Options of {@link simulate}. */
export interface SimulateOptions {
  readonly bug?: Bug
  /** Keeps a history. @default false */
  readonly trace?: boolean
  /** What is to happen. @default what the seed says */
  readonly plan?: Plan
}

/** When the store of a seeded bug goes back, ms. */
const ROLLED_BACK_AT_MS = 2_500

/** Runs a seed. */
export async function simulate(seed: number, { bug, trace = false, plan: given = planOf(seed) }: SimulateOptions = {}): Promise<Verdict> {
  // A bug has to be found without the faults of stores that are claimed to be found otherwise.
  const plan = bug === undefined ? given : { ...given, storeFault: undefined }
  const world = createWorld(seed, trace)
  const books = createBooks()
  const truth = createTruth(world, books)
  truth.tamper = bug?.tamper?.(diceOf(seed, 'bug'))
  const network: Network = {
    odds: plan.odds,
    dice: diceOf(seed, 'network'),
    healed: false,
    cutUntilMs: new Map(),
    ...bug?.network,
  }
  Object.assign(world.disk.faults, bug?.disk)
  const provider = createProvider(world, truth, books, diceOf(seed, 'provider'), plan)
  const habits = { ...GOOD_HABITS, ...bug?.habits }
  const site: Site = { world, plan, books, truth, network, provider, habits, processes: [], frozenByOperator: false }
  let failure: string | undefined
  await world.run(() => script(site, bug)).catch((error: Error) => (failure = `the run itself failed: ${error.stack ?? error.message}`))
  const fault = world.fault ?? failure
  return {
    seed,
    ...(fault === undefined ? {} : { fault }),
    hash: world.hash,
    ms: world.nowMs,
    interactions: site.processes.map(({ actor }) => actor.interactions),
    calls: books.calls.length,
    met: world.met,
    lines: world.lines,
  }
}

async function script(site: Site, bug: Bug | undefined): Promise<void> {
  const { world, plan, truth } = site
  for (const { atMs, byMs } of plan.storeJumps) world.after(atMs, world.nobody, () => void (truth.skewMs += byMs))
  const { storeFault } = plan
  if (storeFault !== undefined) world.after(storeFault.atMs, world.nobody, () => lose(site, storeFault))
  if (bug?.rollsBack === true) world.after(ROLLED_BACK_AT_MS, world.nobody, () => truth.forget(6))
  await Promise.all(plan.processes.map((one, at) => live(site, one, at)))
  await assertEnd(site)
}

function lose({ truth }: Site, fault: NonNullable<Plan['storeFault']>): void {
  if (fault.kind === 'roll-back') truth.rollBack(fault.batches)
  else {
    const [found] = truth.list(`${fault.column}/`, { limit: 1 })
    if (found !== undefined) truth.evict(found.key)
  }
}
