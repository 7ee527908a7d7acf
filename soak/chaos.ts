// What happens to the processes and to their server, in an order that the seed decides: kills, stops for longer than a
// lease lives, ends in good order, connections that are cut before, between and after, and servers that crash.

import { setTimeout as wait } from 'node:timers/promises'
import { sleep } from '../src/lib/clock.ts'
import { seededRandom } from '../src/testing/faulty-store.ts'
import type { Member } from './crew.ts'
import type { Site } from './site.ts'

/** What happened. */
export interface Happened {
  kills: number
  /** Stops for longer than a lease lives; some of them end in a kill. */
  stops: number
  /** Ends in good order. */
  leaves: number
  cuts: number
  restarts: number
}

/** What chaos works on. */
export interface ChaosOptions {
  readonly site: Site
  readonly members: Member[]
  /** Starts a process for the place of another. */
  readonly respawn: (slot: number) => Member
  readonly seed: number
  /** How long a stopped process sleeps at least: its lease, its grace, and until somebody has looked. */
  readonly stopMs: number
  readonly isOver: () => boolean
  /** How often a process is stopped, beside other deeds. @default 0.25, half as often as it is killed */
  readonly stops?: number
}

/** Who does not end by then is killed. */
const LEAVE_MS = 10_000

type Deed = (random: () => number) => Promise<void> | void

/** Does things until it is over, and wakes whoever sleeps then. At the end everybody and everything runs. */
export async function chaos(options: ChaosOptions): Promise<Happened> {
  const { site, members, seed, isOver, stops = 0.25 } = options
  const random = seededRandom(seed)
  const happened: Happened = { kills: 0, stops: 0, leaves: 0, cuts: 0, restarts: 0 }
  const asleep = new Set<number>()
  const later: Promise<unknown>[] = []
  const deeds = { ...deedsOnProcesses(options, happened, asleep, later), ...deedsOnServers(site, happened, later) }
  const odds = oddsOf(site, stops)
  while (!isOver()) {
    await sleep((200 + random() * 600) * Math.min(1, 8 / members.length))
    const deed = pick(odds, random())
    // Every deed draws as many numbers whatever the others have come to, so that a seed goes the same way again.
    const drawn = [random(), random(), random()]
    await deeds[deed]!(() => drawn.shift() ?? 0.5)
  }
  await Promise.all(later)
  for (const member of members) member.wake()
  return happened
}

type Odds = readonly (readonly [string, number])[]

function oddsOf({ wire, restart }: Site, stops: number): Odds {
  const processes = [
    ['kill', 0.5],
    ['stop', stops],
    ['leave', 0.1],
    ['killAll', 0.02],
  ] as const
  const server = [
    ['cutOne', 0.15],
    ['cutAnswer', 0.15],
    ['cutAll', 0.06],
    ['hold', 0.06],
    ['restart', 0.06],
  ] as const
  return wire === undefined || restart === undefined ? processes : [...processes, ...server]
}

function pick(odds: Odds, chance: number): string {
  let left = chance * odds.reduce((sum, [, share]) => sum + share, 0)
  return (odds.find(([, share]) => (left -= share) < 0) ?? odds[0]!)[0]
}

function deedsOnProcesses(
  { members, respawn, stopMs, isOver }: ChaosOptions,
  happened: Happened,
  asleep: Set<number>,
  later: Promise<unknown>[],
): Record<string, Deed> {
  // One that has not even begun holds nothing, and where machines are slow nobody would ever get to work.
  const isFree = (slot: number): boolean => members[slot]!.isAtWork && !asleep.has(slot)
  const slotOf = (chance: number): number => Math.floor(chance * members.length)

  async function replace(slot: number): Promise<void> {
    happened.kills += 1
    await members[slot]!.kill()
    renew(slot)
  }

  function renew(slot: number): void {
    const member = respawn(slot)
    members[slot] = member
    void member.ready.then(() => member.go())
  }

  async function sleepAndWake(slot: number, forMs: number, dies: boolean): Promise<void> {
    const until = performance.now() + forMs
    while (performance.now() < until && !isOver()) await sleep(50)
    if (dies) await replace(slot)
    else members[slot]!.wake()
    asleep.delete(slot)
  }

  async function replaceGone(slot: number): Promise<void> {
    const member = members[slot]!
    await Promise.race([member.ended, wait(LEAVE_MS, undefined, { ref: false })])
    if (!member.isOver) await member.kill()
    renew(slot)
    asleep.delete(slot)
  }

  return {
    async kill(random) {
      const slot = slotOf(random())
      if (isFree(slot)) await replace(slot)
    },
    stop(random) {
      const slot = slotOf(random())
      if (!isFree(slot) || asleep.size >= members.length / 3) return
      happened.stops += 1
      asleep.add(slot)
      members[slot]!.freeze()
      later.push(sleepAndWake(slot, stopMs * (1 + random() / 2), random() < 0.2))
    },
    leave(random) {
      const slot = slotOf(random())
      const member = members[slot]!
      if (!isFree(slot)) return
      happened.leaves += 1
      // Until it has ended nobody else touches it.
      asleep.add(slot)
      member.leave()
      later.push(replaceGone(slot))
    },
    async killAll() {
      await Promise.all([...members.keys()].filter(isFree).map(replace))
    },
  }
}

function deedsOnServers({ wire, restart }: Site, happened: Happened, later: Promise<unknown>[]): Record<string, Deed> {
  if (wire === undefined || restart === undefined) return {}
  let restarting: Promise<void> | undefined
  const cut =
    (what: (random: () => number) => void): Deed =>
    (random) => {
      happened.cuts += 1
      what(random)
    }
  return {
    cutOne: cut((random) => wire.cutOne(Math.floor(random() * 1_000))),
    cutAnswer: cut(() => wire.cutNextAnswer()),
    cutAll: cut(() => wire.cutAll()),
    hold: cut((random) => {
      wire.hold(true)
      later.push(sleep(random() * 2_500).then(() => wire.hold(false)))
    }),
    restart(random) {
      if (restarting !== undefined) return
      happened.restarts += 1
      restarting = restart(random() * 1_000).finally(() => (restarting = undefined))
      later.push(restarting)
    },
  }
}
