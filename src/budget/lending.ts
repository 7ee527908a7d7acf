// When a process leases, and how much: not for the odd call, in growing chunks as long as they are used up at once,
// down to a single call as money runs out, and back as soon as somebody waits for it. What a crash can strand is
// what lies here idle: at most one chunk for each budget that a process uses, and what calls under way had set aside.

import { amountOf, type Amounts } from '../lib/amounts.ts'
import { Refusal } from '../lib/errors.ts'
import type { Committer } from '../stores/group.ts'
import { MAX_ENTRIES } from '../stores/store.ts'
import type { End, Overrun } from './ending.ts'
import type { Grant } from './hold-writer.ts'
import type { Lease, Leases } from './lease.ts'
import { legsOf, limitedDimensions, type Level } from './legs.ts'
import { endOf, type Levels } from './levels.ts'
import { budgetKey, levelsOf } from './record.ts'
import type { Warnings } from './warnings.ts'
import type { StoreTime } from './windows/store-time.ts'

/** What this process knows of its own use of one budget. */
interface Pool {
  readonly path: string
  readonly also: readonly string[]
  lease?: Lease
  /** Calls since `sinceMs`, by `performance.now()`. */
  calls: number
  sinceMs: number
  /** Size of the next chunk, in calls of the size that asks, and how many the last one really had. */
  chunk: number
  size: number
  /** When the last chunk was taken, and when something was last drawn, by `performance.now()`. */
  takenAtMs: number
  drawnAtMs: number
  /** Somebody waits for this money: no chunks until then. */
  pausedUntilMs: number
  taking?: Promise<boolean>
}

/** A hold that was drawn from a lease. */
export interface Drawn extends Grant {
  readonly lease: Lease
}

/** Options of {@link createLending}. */
export interface LendingOptions {
  readonly committer: Committer
  readonly leases: Leases
  readonly levels: Levels
  readonly time: StoreTime
  readonly warnings: Warnings
  readonly end: End
  /** Takes a chunk of this size as a new lease; `undefined` when it is not there. */
  readonly lease: (path: string, also: readonly string[], amounts: Amounts) => Promise<Lease | undefined>
  /** Key of the mark that the overrun of a hold is in the books. */
  readonly overranMark: (holdId: string) => string
  /** Between two looks at the leases, ms. */
  readonly tickMs: number
  readonly onTrouble: (error: unknown) => void
}

/** What this process lends itself. */
export interface Lending {
  /** The lease that this was drawn from, without waiting; `undefined` when none has that much. */
  draw(path: string, also: readonly string[], holdId: string, amounts: Amounts): Lease | undefined
  /** Waits for a chunk that is on its way, or takes one if this budget is used often enough. Whether to draw again. */
  stock(path: string, also: readonly string[], amounts: Amounts): Promise<boolean>
  /** As {@link End}, for a hold that was drawn. */
  end(grant: Drawn, used: Amounts, how: 'settle' | 'charge'): Promise<Overrun | undefined>
  /** Gives back what lies idle at and below a budget, and leases nothing there for a while. Whether there were leases. */
  giveBack(path: string): Promise<boolean>
  /** Asks the other processes to do so. */
  recall(path: string): Promise<void>
  /** Reports what was spent, and gives back what lies idle when `back` is set. @throws {HoldfastError} `ERR_STORE` */
  report(back?: boolean): Promise<void>
  /** Ends the timer and the watches; leases nothing any more. */
  stop(): void
}

/** A budget that is used this often within a second is leased. */
const BUSY_CALLS = 4
const BUSY_MS = 1_000
const FIRST_CHUNK = 8
const MAX_CHUNK = 1_024
/** A chunk is at most this part of what is free at every level: many processes share it, and the last calls are taken one by one. */
const SHARE = 8
/** More is taken when less than this part of the last chunk is left. */
const LOW = 0.25
/** A chunk that was used up sooner was too small; one that lasted longer was too large. */
const SHORT_MS = 500
const LONG_MS = 4_000
/** How long a recall keeps a budget from being leased, ms. */
const PAUSE_MS = 2_000
const MAX_POOLS = 10_000

/** When and how much a process leases, for whoever is to know what a crash can strand. */
export const CHUNK_POLICY: Readonly<Record<'busyCalls' | 'busyMs' | 'firstChunk' | 'maxChunk' | 'share', number>> = {
  /** So many calls within so many ms, and a budget is leased. */
  busyCalls: BUSY_CALLS,
  busyMs: BUSY_MS,
  /** Size of a chunk, in calls. */
  firstChunk: FIRST_CHUNK,
  maxChunk: MAX_CHUNK,
  /** A chunk is at most one part in so many of what is free. */
  share: SHARE,
}

/** The key that asks for a budget back. */
const recallKey = (path: string): string => `recall/${path}`

/** A budget, and those that count it too; no name has a `*`. */
const poolKey = (path: string, also: readonly string[]): string => (also.length === 0 ? path : [path, ...also].join('*'))

/** Makes the lending of this process. */
export function createLending({
  committer,
  leases,
  levels,
  time,
  warnings,
  end,
  lease,
  overranMark,
  tickMs,
  onTrouble,
}: LendingOptions): Lending {
  const { store } = committer
  const pools = new Map<string, Pool>()
  /** What was used beyond what was held, by hold, until the ledger has it: the same grant, however often it is tried. */
  const uncovered = new Map<string, { readonly grant: Grant; readonly used: Amounts }>()
  const charged = new WeakMap<Lease, Set<string>>()
  /** The move that those who were charged at worst wait for, until it begins. */
  const writing = new WeakMap<Lease, Promise<void>>()
  const recalled = new Map<string, number>()
  let stops: (() => void)[] | undefined
  let stopped = false

  function poolOf(path: string, also: readonly string[]): Pool {
    const key = poolKey(path, also)
    const known = pools.get(key)
    if (known !== undefined) return known
    const pool = {
      path,
      also,
      calls: 0,
      sinceMs: -Infinity,
      chunk: FIRST_CHUNK,
      size: 0,
      takenAtMs: -Infinity,
      drawnAtMs: -Infinity,
      pausedUntilMs: -Infinity,
    }
    for (const [other, { lease: used }] of pools) {
      if (pools.size < MAX_POOLS) break
      if (used === undefined || used.retired) pools.delete(other)
    }
    pools.set(key, pool)
    return pool
  }

  function draw(path: string, also: readonly string[], holdId: string, amounts: Amounts): Lease | undefined {
    const pool = poolOf(path, also)
    const now = performance.now()
    if (now - pool.sinceMs > BUSY_MS) Object.assign(pool, { calls: 0, sinceMs: now })
    pool.calls += 1
    const { lease: own } = pool
    if (own?.retired === false && isOver(own)) void retire(own).catch(onTrouble)
    if (own === undefined || !leases.draw(own, holdId, amounts)) return undefined
    pool.drawnAtMs = now
    const isLow = [...own.dimensions].some((dimension) => amountOf(own.rest, dimension) < LOW * pool.size * amountOf(amounts, dimension))
    if (isLow && pool.taking === undefined && now > pool.pausedUntilMs) void take(pool, amounts).catch(onTrouble)
    return own
  }

  async function stock(path: string, also: readonly string[], amounts: Amounts): Promise<boolean> {
    const pool = poolOf(path, also)
    if (pool.taking !== undefined) return pool.taking.catch(() => false)
    if (stopped || pool.calls < BUSY_CALLS || performance.now() < pool.pausedUntilMs) return false
    return take(pool, amounts)
  }

  /** One chunk more, for the lease that there is or for a new one. */
  function take(pool: Pool, amounts: Amounts): Promise<boolean> {
    const taking = takeChunk(pool, amounts)
      .catch((error: unknown) => {
        // Not with each call again: the store has its troubles.
        pool.pausedUntilMs = performance.now() + PAUSE_MS / 2
        throw error
      })
      .finally(() => delete pool.taking)
    pool.taking = taking
    return taking
  }

  async function takeChunk(pool: Pool, amounts: Amounts): Promise<boolean> {
    const { path, also } = pool
    const known = await levels.of(path, false, also).catch((error: unknown) => {
      // Frozen, or not known: the action that asks will be told.
      if (Refusal.isInstance(error)) return undefined
      throw error
    })
    if (known === undefined || known.some(({ version }) => version === 0)) return false
    const lasted = performance.now() - pool.takenAtMs
    if (lasted < SHORT_MS) pool.chunk = Math.min(MAX_CHUNK, pool.chunk * 2)
    else if (lasted > LONG_MS) pool.chunk = Math.max(FIRST_CHUNK, Math.floor(pool.chunk / 2))
    const limited = limitedDimensions(known)
    const own = Object.entries(amounts).filter(([dimension, each]) => each > 0 && limited.has(dimension))
    const idle = Math.min(...own.map(([dimension, each]) => Math.floor(amountOf(pool.lease?.rest ?? {}, dimension) / each)))
    const calls = own.length === 0 ? 0 : (await callsThatFit(known, amounts, pool.chunk)) - idle
    if (calls < 2 || stopped) {
      // Nearly empty: call by call from here on, and asked again after a while.
      pool.pausedUntilMs = performance.now() + PAUSE_MS
      return false
    }
    const want = Object.fromEntries(own.map(([dimension, each]) => [dimension, each * calls]))
    pool.takenAtMs = performance.now()
    pool.size = calls + idle
    if (pool.lease !== undefined && !pool.lease.retired && covers(pool.lease, amounts)) return leases.move(pool.lease, { want })
    const old = pool.lease
    const taken = await lease(path, also, want)
    if (taken === undefined) return false
    pool.lease = taken
    if (old !== undefined) await retire(old)
    look()
    return true
  }

  async function callsThatFit(known: readonly Level[], amounts: Amounts, most: number): Promise<number> {
    const legs = legsOf(known, amounts, new Set())
    const standings = await levels.standings(legs)
    for (const [index, { free }] of standings.entries()) warnings.note(known, legs[index]!.level, legs[index]!.dimension, free)
    return Math.min(most, ...standings.map(({ free }, index) => Math.floor((free - legs[index]!.kept) / SHARE / legs[index]!.amount)))
  }

  async function endDrawn(grant: Drawn, used: Amounts, how: 'settle' | 'charge'): Promise<Overrun | undefined> {
    const { lease: own, holdId } = grant
    const isOpen = own.holds.has(holdId)
    const beyond = leases.end(own, grant, used, how)
    if (Object.keys(beyond).length > 0) {
      const record = { ...grant.record, legs: {} }
      const { lease: _, ...direct } = grant
      uncovered.set(holdId, { grant: { ...direct, record, version: 0, endMark: overranMark(holdId) }, used: beyond })
    }
    if (how === 'charge') {
      if (isOpen) charged.set(own, (charged.get(own) ?? new Set()).add(holdId))
      // The charge has to be where a correction looks for it.
      await writeDown(own)
    } else if (!isOpen && charged.get(own)?.has(holdId) === true) {
      await leases.move(own)
      const overran = await end({ ...grant, version: undefined }, used, 'settle')
      charged.get(own)!.delete(holdId)
      return overran
    }
    settled(own)
    const rest = uncovered.get(holdId)
    if (rest === undefined) return undefined
    const overran = await end(rest.grant, rest.used, 'settle')
    uncovered.delete(holdId)
    return overran
  }

  /** One move for all charges that wait for the one that is under way. */
  function writeDown(own: Lease): Promise<void> {
    const waiting = writing.get(own)
    if (waiting !== undefined) return waiting
    const write = async (): Promise<void> => {
      while (own.moving !== undefined) await own.moving
      // Who comes from here on may be too late for it.
      writing.delete(own)
      await leases.move(own)
    }
    if (own.moving === undefined) return write()
    const written = write()
    writing.set(own, written)
    return written
  }

  /** What came free is given back where somebody waits for it, or nobody draws any more. */
  function settled(own: Lease): void {
    const pool = poolWith(own)
    if (own.retired ? own.holds.size === 0 : pool !== undefined && performance.now() < pool.pausedUntilMs)
      void leases.move(own, { back: true }).catch(onTrouble)
  }

  const poolWith = ({ path, grant }: Lease): Pool | undefined => pools.get(poolKey(path, grant.record.also ?? []))

  /** What was leased of a window is spent in it or not at all. */
  const isOver = ({ levels: of }: Lease): boolean => endOf(of) <= time.estimate()

  async function retire(own: Lease): Promise<void> {
    own.retired = true
    await leases.move(own, { back: true })
  }

  async function giveBack(path: string): Promise<boolean> {
    const own = leases.at(path)
    const pausedUntilMs = performance.now() + PAUSE_MS
    for (const pool of pools.values()) if ([pool.path, ...pool.also].flatMap(levelsOf).includes(path)) pool.pausedUntilMs = pausedUntilMs
    await Promise.all(own.map((one) => leases.move(one, { back: true })))
    // Even without anything idle: what was spent is in the books now, and no longer looks as if it could come back.
    return own.length > 0
  }

  async function recall(path: string): Promise<void> {
    const now = performance.now()
    if (now - (recalled.get(path) ?? -Infinity) < PAUSE_MS / 2) return
    if (recalled.size >= MAX_POOLS) recalled.clear()
    recalled.set(path, now)
    await committer.commit({ set: [{ key: recallKey(path), value: 1, expiresAtMs: (await store.now()) + PAUSE_MS }] })
  }

  async function heedRecalls(): Promise<void> {
    const recalls = await store.list(recallKey(''), { limit: MAX_POOLS })
    await Promise.all(recalls.map(({ key }) => giveBack(key.slice(recallKey('').length))))
  }

  /** A budget has changed: who leases it finds out whether it is his. */
  async function verify(): Promise<void> {
    const living = leases.at().filter(({ retired }) => !retired)
    const paths = [...new Set(living.flatMap((own) => own.levels.map(({ path }) => path)))]
    const versions = new Map<string, number>()
    for (let at = 0; at < paths.length; at += MAX_ENTRIES) {
      const asked = paths.slice(at, at + MAX_ENTRIES)
      const entries = await store.read(asked.map(budgetKey))
      for (const [index, path] of asked.entries()) versions.set(path, entries[index]?.version ?? 0)
    }
    const isOld = ({ path, version }: Level): boolean => version !== versions.get(path)
    for (const { path } of living.flatMap((own) => own.levels).filter(isOld)) levels.forget(budgetKey(path))
    await Promise.all(living.filter((own) => own.levels.some(isOld)).map(retire))
  }

  async function report(back = false): Promise<void> {
    // What is on its way here would arrive after it.
    if (back) await Promise.allSettled([...pools.values()].flatMap(({ taking }) => taking ?? []))
    await Promise.all(leases.at().map((own) => leases.move(own, { back })))
  }

  async function tick(): Promise<void> {
    if (time.isStale() && leases.at().some(({ levels: of }) => endOf(of) < Infinity)) await time.read()
    for (const own of leases.at()) if (isOver(own)) own.retired = true
    const idleSinceMs = performance.now() - 2 * tickMs
    await Promise.all(leases.at().map((own) => leases.move(own, { back: own.retired || (poolWith(own)?.drawnAtMs ?? 0) < idleSinceMs })))
    if (leases.at().length === 0) unlook()
  }

  /** Looks after the leases, as long as there are any. */
  function look(): void {
    if (stops !== undefined || stopped) return
    const attend = (work: () => Promise<void>) => (): void => void work().catch(onTrouble)
    const timer = setInterval(attend(tick), tickMs)
    timer.unref()
    stops = [() => clearInterval(timer), store.watch(recallKey(''), attend(heedRecalls)), store.watch('budget/', attend(verify))]
  }

  function unlook(): void {
    for (const stop of stops ?? []) stop()
    stops = undefined
  }

  return {
    draw,
    stock,
    end: endDrawn,
    giveBack,
    recall,
    report,
    stop() {
      stopped = true
      unlook()
    },
  }
}

/** Whether a lease has every dimension of these amounts. */
const covers = ({ limits, dimensions }: Lease, amounts: Amounts): boolean =>
  Object.keys(amounts).every((dimension) => !limits.has(dimension) || dimensions.has(dimension))
