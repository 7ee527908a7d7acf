// What a seed means: who is there, what they have to do, and what goes wrong. Each kind of fault is in about half of the
// runs, so that some runs have few and some have all.

import type { BudgetDeclaration } from '../../src/budget/declaration.ts'
import { diceOf, type Dice } from './dice.ts'
import { ROOT } from './intercept-files.ts'
import type { NetworkFault } from './network.ts'
import type { FateOdds } from './provider.ts'
import type { CrashPoint, StopPoint } from './world.ts'

/** Something that happens once, ms after the start. */
export interface At {
  readonly atMs: number
}

/** One process of a plan. */
export interface ProcessPlan {
  readonly startMs: number
  /** Agents that work at once, and how much each of them does. */
  readonly agents: number
  readonly tasks: number
  readonly leasing: 'auto' | 'off'
  readonly directory: string | undefined
  readonly skewMs: number
  readonly jumps: readonly (At & { readonly byMs: number })[]
  readonly pauses: readonly (At & { readonly forMs: number })[]
  readonly stop: StopPoint | undefined
  readonly cuts: readonly (At & { readonly forMs: number })[]
  readonly crash: CrashPoint | undefined
  /** What it does when its work is done. */
  readonly leaves: 'close' | 'exit'
  /** Closes its kernel then, whatever its agents are at; ms. */
  readonly closesAtMs: number | undefined
  /** Its disk is full for a while. */
  readonly fullDisk: (At & { readonly forMs: number }) | undefined
}

/** What a store can lose that had acknowledged it. */
export type StoreFault = At &
  ({ readonly kind: 'roll-back'; readonly batches: number } | { readonly kind: 'evict'; readonly column: string })

/** A run as it is meant. */
export interface Plan {
  readonly budgets: Readonly<Record<string, BudgetDeclaration>>
  /** Budgets that agents work on. */
  readonly paths: readonly string[]
  readonly processes: readonly ProcessPlan[]
  readonly leaseTtlMs: number
  readonly waitMs: number
  readonly holdDeadlineMs: number
  readonly odds: Partial<Record<NetworkFault, number>>
  readonly fates: FateOdds
  /** Jumps of the clock of the store. */
  readonly storeJumps: readonly (At & { readonly byMs: number })[]
  readonly storeFault: StoreFault | undefined
  /** How often an agent does something else than a call. */
  readonly handoffs: number
  readonly operations: number
  /** How long the provider works on a call at most, ms: only short calls make a kernel lease. */
  readonly workMs: number
  /** Most of what one call may use. */
  readonly mostTokens: number
}

const HOUR_MS = 3_600_000

/** Draws the plan of a seed. */
export function planOf(seed: number): Plan {
  const dice = diceOf(seed, 'plan')
  const some = (): boolean => dice.chance(0.5)
  const faults = {
    crashes: some(),
    pauses: some(),
    cuts: dice.chance(0.3),
    clocks: some(),
    net: dice.chance(0.7),
    provider: dice.chance(0.7),
  }
  const leaseTtlMs = dice.pick([1_000, 2_000, 4_000])
  const onDisk = dice.chance(0.5)
  const count = dice.int(1, 3)
  const processes = Array.from({ length: count }, (_, at) => processPlan(dice, faults, { at, leaseTtlMs, onDisk }))
  return {
    budgets: budgetsOf(dice),
    paths: dice.pick(PATHS),
    processes,
    leaseTtlMs,
    waitMs: dice.pick([0, 300, 2_000]),
    holdDeadlineMs: dice.pick([1_500, 900_000, 900_000]),
    odds: faults.net ? oddsOf(dice) : {},
    fates: faults.provider ? fatesOf(dice) : {},
    storeJumps: faults.clocks && some() ? [{ atMs: dice.int(0, 8_000), byMs: dice.pick([-HOUR_MS, HOUR_MS, -5_000]) }] : [],
    storeFault: dice.chance(0.12) ? storeFaultOf(dice) : undefined,
    handoffs: dice.pick([0, 0.1, 0.3]),
    operations: dice.pick([0, 0.05, 0.2]),
    workMs: dice.pick([30, 120, 900]),
    mostTokens: dice.pick([4, 10, 20]),
  }
}

const PATHS = [
  ['acme/a', 'acme/a', 'acme/b', 'acme/named', 'acme'],
  ['acme/a/x', 'acme/a/y', 'acme/a', 'acme/b/x'],
  ['acme/named'],
] as const

function budgetsOf(dice: Dice): Plan['budgets'] {
  const scale = dice.pick([1, 3, 10])
  const windowed = diceOf(dice.int(0, 1_000_000), 'windows')
  return {
    acme: { tokens: scale * dice.int(40, 120), calls: scale * dice.int(8, 30), ...windowsOf(windowed, scale) },
    'acme/*': { tokens: scale * dice.int(20, 90), ...windowsOf(windowed, scale) },
    'acme/*/*': { tokens: scale * dice.int(10, 60), calls: scale * dice.int(4, 15) },
    'acme/named': { tokens: scale * dice.int(20, 100) },
  }
}

/** Windows that end while a run lasts, since that is some seconds long, and some that do not. */
function windowsOf(dice: Dice, scale: number): Pick<BudgetDeclaration, 'windows'> {
  if (!dice.chance(0.3)) return {}
  const minute = {
    per: 'minute',
    ...(dice.chance(0.5) ? { rolling: dice.pick([6, 20, 60]) } : {}),
    tokens: scale * dice.int(10, 60),
  } as const
  return { windows: dice.chance(0.3) ? [minute, { per: 'day', calls: scale * dice.int(4, 30) }] : [minute] }
}

interface Which {
  readonly crashes: boolean
  readonly pauses: boolean
  readonly cuts: boolean
  readonly clocks: boolean
}

function processPlan(
  dice: Dice,
  { crashes, pauses, cuts, clocks }: Which,
  { at, leaseTtlMs, onDisk }: { readonly at: number; readonly leaseTtlMs: number; readonly onDisk: boolean },
): ProcessPlan {
  const longMs = leaseTtlMs + 2_000
  return {
    startMs: at === 0 ? 0 : dice.int(0, 3_000),
    agents: dice.int(1, 2),
    tasks: dice.int(1, 5),
    leasing: dice.pick(['auto', 'auto', 'off']),
    // Two hosts at most: only who is on the same one can be a successor.
    directory: onDisk ? `${ROOT}/host-${dice.pick([0, 0, 1])}` : undefined,
    skewMs: clocks ? dice.pick([0, -HOUR_MS, HOUR_MS]) : 0,
    jumps: clocks && dice.chance(0.3) ? [{ atMs: dice.int(0, 8_000), byMs: dice.pick([-HOUR_MS, HOUR_MS, -700]) }] : [],
    stop: pauses && dice.chance(0.6) ? { at: dice.int(10, 120), forMs: dice.int(longMs / 2, 3 * longMs) } : undefined,
    pauses: pauses && dice.chance(0.3) ? [{ atMs: dice.int(200, 8_000), forMs: dice.int(longMs / 2, 3 * longMs) }] : [],
    cuts: cuts && dice.chance(0.6) ? [{ atMs: dice.int(200, 8_000), forMs: dice.int(300, longMs) }] : [],
    crash: crashes && dice.chance(0.6) ? { at: dice.int(5, 150), how: dice.pick(['before', 'after']) } : undefined,
    leaves: dice.chance(0.15) && crashes ? 'exit' : 'close',
    closesAtMs: dice.chance(0.12) ? dice.int(500, 5_000) : undefined,
    fullDisk: cuts && dice.chance(0.3) ? { atMs: dice.int(200, 5_000), forMs: dice.int(50, 3_000) } : undefined,
  }
}

function oddsOf(dice: Dice): Plan['odds'] {
  const odd = (): number => (dice.chance(0.6) ? dice.random() * 0.12 : 0)
  return {
    'lose-request': odd(),
    'lose-reply': odd(),
    duplicate: odd(),
    late: odd(),
    slow: odd(),
    refuse: odd() / 2,
    contend: odd(),
  }
}

function fatesOf(dice: Dice): FateOdds {
  const odd = (): number => (dice.chance(0.6) ? dice.random() * 0.15 : 0)
  return {
    late: odd(),
    'no-usage': odd(),
    'failed-billed': odd(),
    failed: odd(),
    rejected: odd(),
    cut: odd(),
    lost: odd(),
    overrun: dice.chance(0.25) ? 0.1 : 0,
  }
}

function storeFaultOf(dice: Dice): StoreFault {
  const atMs = dice.int(500, 8_000)
  if (dice.chance(0.5)) return { atMs, kind: 'roll-back', batches: dice.pick([1, 2, 5, 20, 10_000]) }
  return { atMs, kind: 'evict', column: dice.pick(['free', 'spent', 'suspense', 'out']) }
}
