// Leases: a chunk of a budget, and of every level above it, that this process holds and spends without asking. In
// the store a lease is a hold like any other, with one number that only its owner changes: what is left of it.
// One move does everything to it (report what was spent, give back, take more), under the version of its record,
// so it happens once however often it is sent. What a dead process has of it goes to suspense like any hold.

import { amountOf, isNothing, type Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import { newNonce } from '../lib/ids.ts'
import type { Committer } from '../stores/group.ts'
import type { Add, Batch, SetKey } from '../waist/batch.ts'
import type { Allotments } from './allotment.ts'
import type { Grant, HoldWriter } from './hold-writer.ts'
import { amountsOf, dimensionOf, keptOf, legsLike, limitedDimensions, mergeAdds, type HeldLegs, type Level } from './legs.ts'
import type { HoldRecord, Processes } from './processes.ts'
import { CORRECTABLE_MS, budgetKey, counterKey } from './record.ts'

/** Amounts that change. */
type Counts = Record<string, number>

/** What one move does to a lease. Fixed once it was sent: sent again, it is the same one. */
interface Move {
  readonly nonce: string
  /** Spent since the last move, and what of it is a worst case that nobody knows better. */
  readonly used: Amounts
  readonly assumed: Amounts
  readonly returned: Amounts
  wanted: Amounts
  /** Records of holds that were charged, so that their real use can correct it. */
  readonly marks: readonly SetKey[]
}

/** A lease of this process. `left` of its record in the store = `rest` + what its open holds have + `used` + a move under way. */
export interface Lease {
  readonly id: string
  readonly path: string
  readonly levels: readonly Level[]
  readonly grant: Grant
  /** What binds on its path: an action that uses something else of it cannot be drawn. */
  readonly limits: ReadonlySet<string>
  /** The dimensions that it is a chunk of. */
  readonly dimensions: ReadonlySet<string>
  /** What its record in the store holds, by dimension. */
  left: Counts
  /** May be spent. */
  rest: Counts
  used: Counts
  assumed: Counts
  /** What was reported before that. */
  reported: { used: Counts; assumed: Counts }
  marks: SetKey[]
  /** What its open holds have set aside. */
  readonly holds: Map<string, Amounts>
  version: number
  move: Move | undefined
  moving: Promise<void> | undefined
  /** Nothing is drawn from it any more; it ends with its last hold. */
  retired: boolean
}

/** How a move is sent this time. */
interface Sending {
  /** Where its record lies, and as which version. */
  readonly place: { readonly key: string; readonly version: number }
  /** Where it lies afterwards, unless that is the end of it. */
  readonly held: string
  readonly left: Counts
  readonly ends: boolean
  readonly ticket: Batch
}

/** Options of {@link createLeases}. */
export interface LeasesOptions {
  readonly committer: Committer
  readonly processes: Processes
  readonly holds: HoldWriter
  readonly allotments: Allotments
  /** Does this in the background, again and again until it succeeds. */
  readonly later: (work: () => Promise<void>) => void
  readonly onTrouble: (error: unknown) => void
}

/** The leases of this process. */
export interface Leases {
  /** All of them, or those at and below a path. */
  at(path?: string): readonly Lease[]
  /** Takes over a hold that was written into the store as a lease. */
  open(grant: Grant): Lease
  /** Sets this much of it aside, at once; false when it has not that much. */
  draw(lease: Lease, holdId: string, amounts: Amounts): boolean
  /**
   * Ends a hold that was drawn.
   *
   * @returns What it used beyond what it held: the lease does not pay for that.
   */
  end(lease: Lease, grant: Grant, used: Amounts, how: 'settle' | 'charge'): Amounts
  /** The record of a charge, for the next move to write: its real use can correct it. */
  markOf(lease: Lease, holdId: string, held: Amounts): SetKey
  /**
   * Reports what was spent; takes more, or gives back what is not set aside. Safe to repeat.
   *
   * @returns Whether what was wanted was there.
   * @throws {HoldfastError} `ERR_STORE` when nobody knows whether it happened; the next move finds out first.
   */
  move(lease: Lease, what?: { readonly want?: Amounts; readonly back?: boolean }): Promise<boolean>
}

/** How often one move may find that something has changed. */
const MAX_ATTEMPTS = 100
/** Most charges that one move writes down. */
const MAX_MARKS = 50

/** Makes the leases of this process. */
export function createLeases({ committer, processes, holds, allotments, later, onTrouble }: LeasesOptions): Leases {
  const { store } = committer
  const leases = new Set<Lease>()

  function open(grant: Grant): Lease {
    const amounts = amountsOf(grant.record.legs)
    const lease: Lease = {
      id: grant.holdId,
      path: grant.path,
      levels: grant.levels,
      grant,
      limits: limitedDimensions(grant.levels),
      dimensions: new Set(Object.keys(amounts)),
      left: { ...amounts },
      rest: { ...amounts },
      used: {},
      assumed: {},
      reported: { used: { ...grant.record.reported?.used }, assumed: { ...grant.record.reported?.assumed } },
      marks: [],
      holds: new Map(),
      version: grant.version!,
      move: undefined,
      moving: undefined,
      retired: false,
    }
    leases.add(lease)
    return lease
  }

  function draw(lease: Lease, holdId: string, amounts: Amounts): boolean {
    const own = only(amounts, lease.limits)
    if (lease.retired || Object.entries(own).some(([dimension, amount]) => amount > amountOf(lease.rest, dimension))) return false
    add(lease.rest, own, -1)
    lease.holds.set(holdId, own)
    return true
  }

  const end: Leases['end'] = (lease, { holdId }, used, how) => {
    const held = lease.holds.get(holdId)
    if (held === undefined) return {}
    lease.holds.delete(holdId)
    const uncovered: Counts = {}
    for (const dimension of lease.limits) {
      const worst = amountOf(held, dimension)
      const actual = Object.hasOwn(used, dimension) ? used[dimension]! : worst
      // A lease never pays more for a hold than the hold: so what the chain says of each is what the lease has of it.
      if (actual > worst) uncovered[dimension] = actual - worst
      if (!lease.dimensions.has(dimension)) continue
      add(lease.used, { [dimension]: Math.min(actual, worst) })
      add(lease.rest, { [dimension]: Math.max(0, worst - actual) })
    }
    if (how === 'charge') {
      add(lease.assumed, held)
      lease.marks.push(markOf(lease, holdId, held))
    }
    return uncovered
  }

  function markOf({ grant }: Lease, holdId: string, held: Amounts): SetKey {
    const { path, agent, resource, atMs } = grant.record
    const value: HoldRecord = { path, agent, resource, atMs, legs: legsLike(grant.record.legs, held) }
    return { key: holds.placesOf(holdId).charged, value: value as never }
  }

  async function move(lease: Lease, { want = {}, back = false }: { want?: Amounts; back?: boolean } = {}): Promise<boolean> {
    while (lease.moving !== undefined) await lease.moving
    if (!leases.has(lease)) return false
    let granted = false
    const run = async (): Promise<void> => {
      // What nobody answered for comes first.
      if (lease.move !== undefined) await send(lease)
      let marks = lease.marks.length
      for (let more = want, moves = 0; leases.has(lease) && moves < MAX_ATTEMPTS; more = {}, moves++) {
        lease.move = begin(lease, more, back)
        if (lease.move === undefined) return
        marks -= lease.move.marks.length
        granted = (await send(lease)) || granted
        // What is spent meanwhile is for the next one to report: on a busy lease there is always more of it.
        if (!back && marks <= 0) return
      }
    }
    const running = run()
    lease.moving = running.then(
      () => undefined,
      () => undefined,
    )
    try {
      await running
    } finally {
      lease.moving = undefined
    }
    return granted
  }

  /** Puts together what there is to tell; what it moves is spent by nobody else from here on. */
  function begin(lease: Lease, wanted: Amounts, back: boolean): Move | undefined {
    const returned = back ? lease.rest : {}
    const { used, assumed } = lease
    const ends = isNothing(lease.left) && lease.holds.size === 0
    if (!ends && lease.marks.length === 0 && [used, returned, wanted].every(isNothing)) return undefined
    if (back) lease.rest = {}
    lease.used = {}
    lease.assumed = {}
    return { nonce: newNonce(), used, assumed, returned, wanted, marks: lease.marks.splice(0, MAX_MARKS) }
  }

  async function send(lease: Lease): Promise<boolean> {
    const sent = lease.move!
    const { held, suspended } = holds.placesOf(lease.id)
    let place: Sending['place'] = { key: held, version: lease.version }
    for (let attempts = 0; attempts < MAX_ATTEMPTS; attempts++) {
      const ticket = await processes.ticket()
      const left = leftAfter(lease, sent)
      const expiresAtMs = sent.marks.length === 0 ? 0 : (await store.now()) + CORRECTABLE_MS
      const marks = sent.marks.map((mark) => ({ ...mark, expiresAtMs }))
      const ends = isNothing(left) && lease.marks.length === 0 && lease.holds.size === 0
      const result = await committer.commit(batchOf(lease, { ...sent, marks }, { place, held, left, ends, ticket }))
      if (result.outcome === 'unknown') throw new HoldfastError('ERR_STORE', `${store.name} did not answer.`, { cause: result.cause })
      if (result.outcome === 'ok') {
        processes.stamped(ticket)
        return done(lease, left, { version: result.version, ends })
      }
      if (result.outcome === 'refused') {
        if (!result.which.startsWith('free/')) throw damage(result.which)
        sent.wanted = {}
      } else if (result.which.startsWith('process/')) processes.refresh()
      else if (result.which === place.key) {
        // It was applied, or this process was taken for dead and it lies in suspense.
        const found = (await store.read([held, suspended])).find((entry) => entry !== null)
        // An operator has ended it; or the move did, and its reply was lost.
        if (found === undefined || found === null)
          return isNothing(left) ? done(lease, left, { version: lease.version, ends: true }) : lost(lease)
        const { nonce } = found.value as unknown as HoldRecord
        if (nonce === sent.nonce) return done(lease, left, { version: found.version, ends: false })
        if (found.key === held)
          throw new HoldfastError('ERR_STORE', `${held} was written by somebody else: is a copy of this process running?`)
        place = found
      } else {
        // A level has changed, so what was read of it is not what binds: no more of this.
        holds.learn(result.which, {})
        lease.retired = true
        sent.wanted = {}
      }
      if (isEmpty(sent) && !lease.retired) {
        lease.move = undefined
        return false
      }
    }
    throw new HoldfastError('ERR_STORE', `${store.name} changed ${MAX_ATTEMPTS} times under one lease.`)
  }

  function batchOf(
    lease: Lease,
    { nonce, used, assumed, returned, wanted, marks }: Move,
    { place, held, left, ends, ticket }: Sending,
  ): Batch {
    const more = Object.keys(wanted).length > 0
    const column = place.key === held ? 'out' : 'suspense'
    const adds: Add[] = Object.keys(lease.grant.record.legs).flatMap((leg) => {
      const dimension = dimensionOf(leg)
      const before = amountOf(lease.left, dimension)
      const after = amountOf(left, dimension)
      const free = amountOf(returned, dimension) - amountOf(wanted, dimension)
      return [
        // All of it moves back from suspense: who speaks up is alive.
        ...(column === 'out'
          ? [{ key: counterKey('out', leg), by: after - before, ...(after < before ? { min: 0 } : {}) }]
          : [
              { key: counterKey('suspense', leg), by: -before, min: 0 },
              { key: counterKey('out', leg), by: after },
            ]),
        { key: counterKey('spent', leg), by: amountOf(used, dimension) },
        { key: counterKey('assumed', leg), by: amountOf(assumed, dimension) },
        { key: counterKey('free', leg), by: free, min: more && free < 0 ? keptAt(lease.levels, leg) : 0 },
      ].filter(({ by }) => by !== 0)
    })
    const legs = legsWith(lease.grant.record.legs, left)
    const reported = { used: sum(lease.reported.used, used), assumed: sum(lease.reported.assumed, assumed) }
    return {
      check: [
        { key: place.key, version: place.version },
        ...(ticket.check ?? []),
        ...(more ? lease.levels.map(({ path, version }) => ({ key: budgetKey(path), version })) : []),
      ],
      add: mergeAdds(adds),
      set: [
        ...(ends ? [] : [{ key: held, value: { ...lease.grant.record, legs, reported, nonce } as never }]),
        ...(ticket.set ?? []),
        ...marks,
      ],
      delete: ends || place.key !== held ? [place.key] : [],
    }
  }

  async function done(lease: Lease, left: Counts, { version, ends }: { version: number; ends: boolean }): Promise<boolean> {
    const { wanted, used, assumed } = lease.move!
    lease.left = left
    add(lease.reported.used, used)
    add(lease.reported.assumed, assumed)
    add(lease.rest, wanted)
    lease.version = version
    lease.move = undefined
    if (ends) close(lease)
    const allotment = lease.levels.findLast(({ record }) => record.allotment !== undefined)
    // The move has happened; what it leaves in a closed allotment can be brought up later as well.
    if (allotment !== undefined) await allotments.follow(allotment.path).catch(() => later(() => allotments.follow(allotment.path)))
    return Object.keys(wanted).length > 0
  }

  /** Somebody else has ended it, an operator or a successor: what this process spent of it since is in nobody's books. */
  function lost(lease: Lease): boolean {
    onTrouble(new HoldfastError('ERR_STORE', `A lease of \`${lease.path}\` was ended by somebody else; nothing more is drawn from it.`))
    lease.retired = true
    lease.rest = {}
    lease.move = undefined
    close(lease)
    return false
  }

  function close(lease: Lease): void {
    leases.delete(lease)
    lease.retired = true
    processes.ended(lease.id)
  }

  const damage = (which: string): HoldfastError => new HoldfastError('ERR_DAMAGE', `${store.name}: ${which} holds less than was put there.`)

  return {
    at: (path) => [...leases].filter((lease) => path === undefined || lease.levels.some((level) => level.path === path)),
    open,
    draw,
    end,
    markOf,
    move,
  }
}

function leftAfter({ left }: Lease, { used, returned, wanted }: Move): Counts {
  const after = { ...left }
  add(after, used, -1)
  add(after, returned, -1)
  add(after, wanted)
  return after
}

const isEmpty = ({ used, returned, wanted, marks }: Move): boolean => marks.length === 0 && [used, returned, wanted].every(isNothing)

/** What is not to be leased stays where it is. */
function keptAt(levels: readonly Level[], leg: string): number {
  const level = levels.find(({ path }) => leg === `${dimensionOf(leg)}/${path}`)
  return level === undefined ? 0 : keptOf(level, dimensionOf(leg))
}

const legsWith = (legs: HeldLegs, amounts: Amounts): HeldLegs =>
  Object.fromEntries(Object.keys(legs).map((key) => [key, { amount: amountOf(amounts, dimensionOf(key)) }]))

const only = (amounts: Amounts, of: ReadonlySet<string>): Amounts =>
  Object.fromEntries(Object.entries(amounts).filter(([dimension, amount]) => amount > 0 && of.has(dimension)))

function sum(one: Amounts, other: Amounts): Amounts {
  const both = { ...one }
  add(both, other)
  return both
}

function add(counts: Counts, amounts: Amounts, times = 1): void {
  for (const [dimension, amount] of Object.entries(amounts)) counts[dimension] = amountOf(counts, dimension) + times * amount
}
