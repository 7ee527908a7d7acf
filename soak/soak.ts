// One soak: many processes on one budget, chaos, and a parent that looks at ledger and bill all the time, over a
// connection of its own. In the end everything is put in order, and everything must be accounted for.

import { setTimeout as wait } from 'node:timers/promises'
import { sleep } from '../src/lib/clock.ts'
import { chaos, type Happened } from './chaos.ts'
import { ledgerOf, look, naiveLedgerOf, noLooks, type Looks } from './checks.ts'
import { nothingTold, start, type Member, type Told } from './crew.ts'
import { conclude, type Conclusion } from './conclude.ts'
import { declareNaively, hasShown, reclaimAlways, SETTINGS } from './controls.ts'
import { DEAREST_CALL, openMarket, ROOT } from './market.ts'
import { LEASE_TTL_MS, type Run, type SoakOptions } from './options.ts'
import { dataOf, openSite, openStore } from './site.ts'
import { openTreasury } from './treasury.ts'

/** What came of it. */
export interface Outcome {
  readonly options: SoakOptions
  readonly ms: number
  readonly happened: Happened
  readonly looks: Looks
  readonly told: Told
  readonly requests: number
  readonly billed: number
  readonly bill: number
  readonly raises: number
  /** Absent for a control: nobody puts its books in order. */
  readonly conclusion?: Conclusion
  /** Everything that is wrong. */
  readonly breaches: readonly string[]
}

const LOOK_MS = 50
/** The kernel adds two seconds of grace; then it takes a sweep. */
const STOP_MS = LEASE_TTL_MS + 2_000 + 700
const CALLS_AT_FIRST = 5
const CALLERS = 4
const LEAVE_MS = 30_000

/** Soaks a store. */
export async function soak(options: SoakOptions): Promise<Outcome> {
  const { processes, callers = CALLERS, seed, control } = options
  const callsAtFirst = control === undefined ? CALLS_AT_FIRST : SETTINGS[control].callsAtFirst
  const { limit = processes * callers * callsAtFirst * DEAREST_CALL } = options
  const site = await openSite(options.store)
  const market = await openMarket(seed, control === undefined ? 1 : 3)
  const store = await openStore(site.direct)
  try {
    const treasury = await openTreasury({ store, data: dataOf(site.direct), limit, runMs: options.ms })
    const run: Run = { options, site, market, store, told: nothingTold(), looks: noLooks(), treasury }
    if (control === 'check-then-charge') await declareNaively(store, limit)
    const members = await startAll(run)
    try {
      return await runOn(run, members)
    } finally {
      await Promise.all(members.map((member) => member.kill()))
    }
  } finally {
    await store.close()
    await market.close()
    await site.stop()
  }
}

async function runOn(run: Run, members: Member[]): Promise<Outcome> {
  const { options, market, store, looks, told, treasury } = run
  const startedMs = performance.now()
  const stopReclaiming = options.control === 'expiry-returns-money' ? reclaimAlways(store, LEASE_TTL_MS) : undefined
  const { happened, ms } = await stir(run, members, startedMs)
  await stopReclaiming?.()
  // What was on its way when it ended is on the bill by now.
  if (options.control === 'check-then-charge') await look(market, () => naiveLedgerOf(store), looks)
  const conclusion = options.control === undefined ? await conclude(run, members, happened) : undefined
  const bill = market.truth()[`usd/${ROOT}`] ?? 0
  const { requests, billed } = market
  const breaches = [...looks.faults, ...told.troubles, ...(conclusion?.faults ?? [])]
  const raises = treasury.raises.length - 1
  return {
    options,
    ms,
    happened,
    looks,
    told,
    requests,
    billed,
    bill,
    raises,
    ...(conclusion === undefined ? {} : { conclusion }),
    breaches,
  }
}

/** Starts all processes, and lets them begin together. */
async function startAll(run: Run): Promise<Member[]> {
  const members = Array.from({ length: run.options.processes }, (_, slot) => start(ordersOf(run, slot, 0), run.told))
  await Promise.all(members.map(({ ready }) => ready))
  for (const member of members) member.go()
  return members
}

/** Chaos and looks, until the time is over; a control ends as soon as what is wrong with it shows. */
async function stir(run: Run, members: Member[], startedMs: number): Promise<{ happened: Happened; ms: number }> {
  const { options, site, market, store, looks, treasury } = run
  const until = startedMs + options.ms
  const accountsOf = options.control === 'check-then-charge' ? () => naiveLedgerOf(store) : () => ledgerOf(store)
  const isOver = (): boolean => performance.now() > until || (options.control !== undefined && hasShown(options.control, looks))
  const stops = options.control === undefined ? {} : { stops: SETTINGS[options.control].stops }
  let generation = 0
  const respawn = (slot: number): Member => start(ordersOf(run, slot, ++generation), run.told)
  const chaotic = chaos({ site, members, respawn, seed: options.seed, stopMs: STOP_MS, isOver, ...stops })
  while (!isOver()) {
    await look(market, accountsOf, looks)
    if (options.control === undefined) await treasury.attend(looks.accounts)
    await sleep(LOOK_MS)
  }
  const ms = performance.now() - startedMs
  if (options.control !== undefined) for (const member of members) await member.kill()
  const happened = await chaotic
  await endAll(members, options.control !== undefined)
  return { happened, ms }
}

/** Lets all finish what they are doing. */
async function endAll(members: readonly Member[], atOnce: boolean): Promise<void> {
  await Promise.all(
    members.map(async (member) => {
      if (atOnce) return member.kill()
      await member.ready
      member.go()
      member.leave()
      await Promise.race([member.ended, wait(LEAVE_MS, undefined, { ref: false })])
      if (!member.isOver) await member.kill()
    }),
  )
}

function ordersOf({ options, site, market }: Run, slot: number, generation: number) {
  const { seed, leasing = 'mixed', control, callers = CALLERS } = options
  return {
    address: site.wired,
    name: `worker-${slot}-${generation}`,
    seed: seed + slot + 1_000 * generation,
    callers,
    leasing: leasing === 'mixed' ? (slot % 2 === 0 ? 'auto' : 'off') : leasing,
    waitMs: [0, 300, 1_000][(slot + generation) % 3]!,
    leaseTtlMs: LEASE_TTL_MS,
    baseURL: market.baseURL,
    printURL: market.printURL,
    how: control === 'check-then-charge' || control === 'refund-on-error' ? control : 'holdfast',
  } as const
}
