// The kill switch. Stops are one record of the store; every kernel keeps a copy that `watch` wakes and that is asked
// for again every second, so that `begin` looks into memory only. The first of all gates: nothing is held past it.

import { HoldfastError, Refusal, type StopFacts } from '../lib/errors.ts'
import { newId } from '../lib/ids.ts'
import type { Committer } from '../stores/group.ts'
import type { Store } from '../stores/store.ts'

/** What is stopped: a budget and all below it, an agent wherever it works, or everything on the store. */
export type StopTarget =
  | { readonly budget: string; readonly agent?: never; readonly everything?: never }
  | { readonly agent: string; readonly budget?: never; readonly everything?: never }
  | { readonly everything: true; readonly budget?: never; readonly agent?: never }

/** The key of the record. */
export const STOPS_KEY = 'stops'
/** A stop is known to every kernel whose store answers after this long, ms, even when `watch` told it nothing. */
export const STOP_AGE_MS = 1_000
/** Most stops in force at once: each is looked at by every `begin`. */
export const MAX_STOPS = 100

const STOPS_FORMAT = 1
/** A copy that nobody has asked for again for this long, as after the process was frozen, is asked for before it is believed, ms. */
const STALE_MS = 3 * STOP_AGE_MS
const MAX_ATTEMPTS = 100

interface StopsRecord {
  readonly format: number
  readonly stops: readonly StopFacts[]
}

/**
 * The stops in force, oldest first.
 *
 * @throws {HoldfastError} `ERR_DAMAGE` for a record that this version cannot read; `ERR_STORE`.
 */
export async function readStops(store: Store): Promise<readonly StopFacts[]> {
  const [entry] = await store.read([STOPS_KEY])
  const stops = stopsIn(entry?.value)
  if (stops.every(({ untilMs }) => untilMs === undefined)) return stops
  const now = await store.now()
  return stops.filter(({ untilMs }) => untilMs === undefined || now < untilMs)
}

function stopsIn(value: unknown): readonly StopFacts[] {
  if (value === undefined) return []
  const { format, stops } = (value ?? {}) as Partial<StopsRecord>
  if (format === STOPS_FORMAT && Array.isArray(stops)) return stops as readonly StopFacts[]
  throw new HoldfastError(
    'ERR_DAMAGE',
    `The stops of this store have format ${JSON.stringify(format)}, and this version reads ${STOPS_FORMAT}: install the version that wrote them.`,
  )
}

/** A stop as it is asked for. */
export interface StopRequest {
  readonly target: StopTarget
  readonly by: string
  readonly reason: string
  /** How long, ms. @default until it is lifted */
  readonly forMs?: number | undefined
}

/**
 * Writes a stop. One of the same target that is there is replaced, and never shortened.
 *
 * @throws {RangeError} When {@link MAX_STOPS} are in force.
 * @throws {HoldfastError} `ERR_STORE`; `ERR_DAMAGE` as {@link readStops}.
 */
export async function writeStop(committer: Committer, { target, by, reason, forMs }: StopRequest): Promise<StopFacts> {
  const id = newId()
  let written!: StopFacts
  await change(committer, async (stops) => {
    const atMs = await committer.store.now()
    const before = stops.find((stop) => isOf(stop, target))
    const isForGood = forMs === undefined || (before !== undefined && before.untilMs === undefined)
    const until = isForGood ? {} : { untilMs: Math.max(atMs + forMs, before?.untilMs ?? 0) }
    const { everything: _, ...covered } = target
    written = { id, ...covered, by, reason, atMs, ...until }
    const others = stops.filter((stop) => stop !== before)
    if (others.length >= MAX_STOPS) throw new RangeError(`There are ${MAX_STOPS} stops in force; lift one, or stop a budget above them.`)
    return [...others, written]
  })
  return written
}

/**
 * Lifts the stop of exactly this target. Returns what it was, `undefined` when there was none.
 *
 * @throws {HoldfastError} As {@link writeStop}.
 */
export async function liftStop(committer: Committer, target: StopTarget): Promise<StopFacts | undefined> {
  let lifted: StopFacts | undefined
  await change(committer, async (stops) => {
    lifted = stops.find((stop) => isOf(stop, target))
    return lifted === undefined ? undefined : stops.filter((stop) => stop !== lifted)
  })
  return lifted
}

async function change(committer: Committer, to: (stops: readonly StopFacts[]) => Promise<readonly StopFacts[] | undefined>): Promise<void> {
  const { store } = committer
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const [entry] = await store.read([STOPS_KEY])
    const now = await store.now()
    const stops = await to(stopsIn(entry?.value).filter(({ untilMs }) => untilMs === undefined || now < untilMs))
    if (stops === undefined) return
    const value = { format: STOPS_FORMAT, stops: stops as never }
    const write = stops.length === 0 ? { delete: [STOPS_KEY] } : { set: [{ key: STOPS_KEY, value }] }
    const result = await committer.commit({ id: newId(), check: [{ key: STOPS_KEY, version: entry?.version ?? 0 }], ...write })
    if (result.outcome === 'ok') return
    if (result.outcome === 'unknown')
      throw new HoldfastError('ERR_STORE', `${store.name} did not answer: the stop may have changed or not. Look, and do it again.`, {
        cause: result.cause,
      })
  }
  throw new HoldfastError('ERR_STORE', `The stops changed ${MAX_ATTEMPTS} times while they were to be changed; do it again.`)
}

function isOf(stop: StopFacts, { budget, agent }: StopTarget): boolean {
  return stop.budget === budget && stop.agent === agent
}

/** What a stop may cover. */
export interface StopSubject {
  readonly agent: string
  /** Every budget path that it counts on. */
  readonly paths: readonly string[]
}

/** The stops that a kernel knows of. */
export interface Stops {
  /** The refusal of a stop that covers this; from memory. */
  refusalFor(subject: StopSubject): Refusal | undefined
  /** True when nobody has looked for so long that {@link Stops.look} has to come first. */
  readonly isStale: boolean
  /** Looks now. Never rejects; waits a second at most, and then what is known goes on to count. */
  look(): Promise<void>
  /** Calls back after each look that found something else. Returns the stop function. */
  onChange(changed: () => void): () => void
  stop(): void
}

/**
 * Keeps the stops of a store in memory.
 *
 * @param onTrouble - Told once when looking begins to fail.
 * @throws {HoldfastError} As {@link readStops}: who cannot know whether it was stopped does not start.
 */
export async function createStops(store: Store, onTrouble: (error: unknown) => void): Promise<Stops> {
  let stops = await readStops(store)
  let lookedAtMs = Date.now()
  let looking: Promise<void> | undefined
  let again = false
  let failing = false
  let stopped = false
  const listeners = new Set<() => void>()

  async function lookNow(): Promise<void> {
    try {
      const found = await readStops(store)
      const isOther = found.length !== stops.length || found.some(({ id }, index) => id !== stops[index]!.id)
      stops = found
      failing = false
      if (isOther) for (const changed of listeners) changed()
    } catch (error) {
      // What is known goes on to count. Beyond what is leased, a store that does not answer stops everything anyway.
      if (!failing && !stopped) onTrouble(error)
      failing = true
    }
    lookedAtMs = Date.now()
  }

  /** One look at a time; who asks during one is answered by the next, which has begun after the question. */
  function look(): Promise<void> {
    if (stopped) return Promise.resolve()
    if (looking !== undefined) {
      again = true
      return looking
    }
    looking = (async () => {
      do {
        again = false
        await lookNow()
      } while (again as boolean)
      looking = undefined
    })()
    return looking
  }

  const unwatch = store.watch(STOPS_KEY, () => void look())
  const asking = setInterval(() => {
    if (looking === undefined) void look()
  }, STOP_AGE_MS)
  asking.unref()

  return {
    refusalFor(subject) {
      if (stops.length === 0) return undefined
      const stop = stops.find((one) => covers(one, subject))
      return stop === undefined ? undefined : stopRefusal(stop, subject.agent)
    },
    get isStale() {
      return Math.abs(Date.now() - lookedAtMs) > STALE_MS
    },
    async look() {
      let timer: NodeJS.Timeout | undefined
      const longEnough = new Promise<void>((resolve) => (timer = setTimeout(resolve, STOP_AGE_MS)))
      await Promise.race([look(), longEnough])
      clearTimeout(timer)
      lookedAtMs = Date.now()
    },
    onChange(changed) {
      listeners.add(changed)
      return () => void listeners.delete(changed)
    },
    stop() {
      stopped = true
      clearInterval(asking)
      unwatch()
      listeners.clear()
    },
  }
}

function covers({ budget, agent }: StopFacts, { agent: who, paths }: StopSubject): boolean {
  if (budget !== undefined) return paths.some((path) => path === budget || path.startsWith(`${budget}/`))
  return agent === undefined || agent === who
}

function stopRefusal(stop: StopFacts, agent: string): Refusal {
  const { by, reason } = stop
  const call = `kernel.resume({ ${targetText(stop)}, by, reason })`
  const until = stop.untilMs === undefined ? {} : { retryAtMs: stop.untilMs }
  return new Refusal('ERR_STOPPED', `${subjectText(stop)} was stopped by ${by}: ${reason}. To go on: ${call}.`, {
    agent,
    stop,
    wouldPass: call,
    endsRun: true,
    ...until,
  })
}

function targetText({ budget, agent }: Pick<StopFacts, 'budget' | 'agent'>): string {
  if (budget !== undefined) return `budget: ${JSON.stringify(budget)}`
  return agent === undefined ? 'everything: true' : `agent: ${JSON.stringify(agent)}`
}

/** What was stopped, to begin a sentence with. */
export function subjectText({ budget, agent }: Pick<StopFacts, 'budget' | 'agent'>): string {
  if (budget !== undefined) return `Budget \`${budget}\``
  return agent === undefined ? 'Everything on this store' : `Agent \`${agent}\``
}
