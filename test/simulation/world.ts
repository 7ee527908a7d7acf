// One run: a queue of events in virtual time, and who they happen to. Nothing waits for real time, and nothing happens
// but what is in the queue, so a run is a function of its seed.

import { newId } from '../../src/lib/ids.ts'
import { diceOf, type Dice } from './dice.ts'
import { createDisk, type Disk } from './disk.ts'
import { createHeap } from './heap.ts'
import type { VirtualFiles } from './intercept-files.ts'
import { onPlatform, type Platform, type VirtualTimer } from './intercept.ts'

/** When every world begins, Unix ms: later than any real clock, since files that were changed after their last record are not believed. */
export const START_MS = 4_000_000_000_000

/** Where a process is to crash: at its n-th request, chain write or call. */
export interface CrashPoint {
  readonly at: number
  /** `before`: what it was about to do never happens. `after`: it happens, and nobody is there for the answer. */
  readonly how: 'before' | 'after'
}

/** Where a process is to be stopped, and for how long. */
export interface StopPoint {
  readonly at: number
  readonly forMs: number
}

/** Somebody to whom events happen: a process, or the world itself. */
export interface Actor {
  readonly name: string
  readonly index: number
  /** False once it has crashed or ended: nothing happens to it any more, and nothing that it does has an effect. */
  alive: boolean
  /** Nothing happens to it until then; what was due happens late. */
  pausedUntilMs: number
  /** How far its wall clock is ahead, ms. */
  skewMs: number
  /** Its disk takes nothing until then. */
  diskFullUntilMs: number
  /** Requests, chain writes and calls so far. */
  interactions: number
  crash: CrashPoint | undefined
  stop: StopPoint | undefined
  /** Kept when it is gone. */
  readonly gone: Promise<void>
  readonly platform: Platform
}

interface Event extends VirtualTimer {
  atMs: number
  readonly order: number
  readonly actor: Actor
  readonly happen: () => void
  readonly everyMs: number | undefined
}

/** A run of the simulation. */
export interface World {
  readonly seed: number
  readonly disk: Disk
  /** Milliseconds since the world began. */
  readonly nowMs: number
  /** Nobody, to whom the events of the network, the provider and the script of the run happen. */
  readonly nobody: Actor
  /** What was found to be wrong, the first of it. */
  readonly fault: string | undefined
  /** A number that is the same for the same history, and hardly ever for another. */
  readonly hash: number
  /** How often each thing took place that a run is for: a test looks that all of them do. */
  readonly met: ReadonlyMap<string, number>
  /** What happened, when it was asked for. */
  readonly lines: readonly string[]
  /** Makes somebody. */
  actor(name: string): Actor
  /** Lets something happen to somebody in a while. */
  after(ms: number, actor: Actor, happen: () => void): VirtualTimer
  /** Waits; as long as whoever waits is alive. */
  sleep(ms: number): Promise<void>
  /** Counts one interaction of an actor with the world. Returns whether it takes place; the actor may be dead afterwards. */
  interact(actor: Actor, what: string): boolean
  /** Stops an actor for a while: it finishes what it does right now, and nothing happens to it until then. */
  pause(actor: Actor, ms: number): void
  /** Ends an actor, now. */
  kill(actor: Actor, why: string): void
  /** Notes something in the history. */
  tell(line: () => string): void
  /** Counts something that took place. */
  meet(what: string): void
  /** Makes a number a part of the hash. */
  mix(number: number): void
  /** Notes that something is wrong: the run is over. */
  fail(fault: string): void
  /** Runs `task` as somebody. */
  as<T>(actor: Actor, task: () => T): T
  /** Runs a script to its end, and everything that it starts. */
  run(script: () => Promise<void>): Promise<void>
}

/** A run that has not ended by then hangs, ms of virtual time. */
const MAX_MS = 3_600_000
/** A run that has not ended by then goes around in circles. */
const MAX_EVENTS = 400_000

/** Makes the world of a seed. */
export function createWorld(seed: number, traced = false): World {
  const queue = createHeap<Event>((one, other) => one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order))
  const dice: Dice = diceOf(seed, 'platform')
  const lines: string[] = []
  const met = new Map<string, number>()
  const ends = new Map<string, () => void>()
  let nowMs = 0
  let order = 0
  let events = 0
  let actors = 0
  let hash = 0
  let fault: string | undefined

  function platformOf(actor: () => Actor): Platform {
    let files: VirtualFiles | undefined
    return {
      startTimer: (callback, ms, every) => push(Math.max(every ? 1 : 0, ms), actor(), callback, every ? Math.max(1, ms) : undefined),
      elapsedMs: () => nowMs,
      wallMs: () => Math.floor(START_MS + nowMs + actor().skewMs),
      random: () => dice.random(),
      bytesDrawn: 0,
      get files() {
        return (files ??= disk.filesOf(actor()))
      },
      builtin: (name) => (name === 'node:sqlite' ? disk.sqliteOf(actor()) : undefined),
    }
  }

  function actor(name: string): Actor {
    const platform = platformOf(() => made)
    const { promise, resolve } = Promise.withResolvers<void>()
    ends.set(name, resolve)
    const made: Actor = {
      name,
      index: actors++,
      alive: true,
      pausedUntilMs: 0,
      skewMs: 0,
      diskFullUntilMs: 0,
      interactions: 0,
      crash: undefined,
      stop: undefined,
      gone: promise,
      platform,
    }
    return made
  }

  function push(ms: number, whose: Actor, happen: () => void, everyMs?: number): Event {
    const event = { atMs: nowMs + ms, order: order++, actor: whose, happen, everyMs, cancelled: false }
    queue.push(event)
    return event
  }

  /** The next thing that happens to somebody who is there. */
  function next(): Event | undefined {
    for (;;) {
      const event = queue.pop()
      if (event === undefined) return undefined
      if (event.cancelled || !event.actor.alive) continue
      if (event.actor.pausedUntilMs > event.atMs) {
        event.atMs = event.actor.pausedUntilMs
        queue.push(event)
        continue
      }
      return event
    }
  }

  function happen(event: Event): void {
    nowMs = Math.max(nowMs, event.atMs)
    events += 1
    mix(Math.floor(nowMs * 1_000))
    mix(event.actor.index)
    if (event.everyMs !== undefined) {
      event.atMs = nowMs + event.everyMs
      queue.push(event)
    }
    onPlatform(event.actor.platform, event.happen)
    if (nowMs > MAX_MS || events > MAX_EVENTS) world.fail(`it does not end: ${events} events in ${Math.round(nowMs)} ms`)
  }

  function mix(number: number): void {
    hash = Math.imul(hash ^ number ^ Math.floor(number / 2 ** 32), 0x01000193)
    hash ^= hash >>> 15
  }

  async function run(script: () => Promise<void>): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      let ended = false
      const end = (): void => void (ended = true)
      world.as(nobody, () => {
        drainIds(nobody.platform)
        script().then(end, (error: unknown) => {
          end()
          reject(error instanceof Error ? error : new Error(String(error)))
        })
      })
      const step = (): void => {
        const event = ended || fault !== undefined ? undefined : next()
        if (event === undefined) {
          if (!ended && fault === undefined) world.fail('nothing happens any more, and the script has not ended')
          return resolve()
        }
        try {
          happen(event)
        } catch (error) {
          return reject(error instanceof Error ? error : new Error(String(error)))
        }
        // The next event comes when all promises of this one have had their turn: microtasks go before ticks.
        queueMicrotask(() => process.nextTick(step))
      }
      queueMicrotask(() => process.nextTick(step))
    })
  }

  const world: World = {
    seed,
    get disk() {
      return disk
    },
    get nowMs() {
      return nowMs
    },
    get nobody() {
      return nobody
    },
    get fault() {
      return fault
    },
    get hash() {
      return hash >>> 0
    },
    met,
    lines,
    actor,
    after: (ms, whose, callback) => push(ms, whose, callback),
    sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    interact(whose, what) {
      if (!whose.alive) return false
      whose.interactions += 1
      if (whose.stop?.at === whose.interactions) world.pause(whose, whose.stop.forMs)
      if (whose.crash?.at !== whose.interactions) return true
      world.meet(`a crash ${whose.crash.how} ${what}`)
      world.kill(whose, `${whose.crash.how} its interaction ${whose.interactions}, ${what}`)
      return whose.crash.how === 'after'
    },
    pause(whose, ms) {
      world.meet('a pause')
      world.tell(() => `${whose.name} is stopped for ${ms} ms`)
      whose.pausedUntilMs = nowMs + ms
    },
    kill(whose, why) {
      if (!whose.alive) return
      world.tell(() => `${whose.name} is gone: ${why}`)
      whose.alive = false
      ends.get(whose.name)!()
      disk.release(whose)
    },
    tell(line) {
      if (traced) lines.push(`${nowMs.toFixed(3).padStart(12)}  ${line()}`)
    },
    meet: (what) => void met.set(what, (met.get(what) ?? 0) + 1),
    mix,
    fail(found) {
      world.tell(() => `FAULT: ${found}`)
      fault ??= `at ${Math.round(nowMs)} ms: ${found}`
    },
    as: (whose, task) => onPlatform(whose.platform, task),
    run,
  }
  const disk = createDisk(world)
  const nobody = actor('the world')
  return world
}

/** Ids come from a pool that outlives a run: what the run before left of it would decide about this one. */
function drainIds(platform: Platform): void {
  while (platform.bytesDrawn === 0) newId()
}
