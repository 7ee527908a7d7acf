// Between a process and the store. Requests and replies are lost, sent twice, slow and overtaken; the connection may
// be cut for a while. What a store has to keep it keeps: a process that goes on after a doubt fences what it sent
// before, and who has seen a later state than the store has is told so (as SQLite, Redis and Postgres do).

import { HoldfastError } from '../../src/lib/errors.ts'
import type { Batch, GroupResult, Store } from '../../src/stores/store.ts'
import type { Dice } from './dice.ts'
import type { Truth } from './truth.ts'
import type { Actor, World } from './world.ts'

/** What can happen to a request. */
export type NetworkFault = 'lose-request' | 'lose-reply' | 'duplicate' | 'late' | 'slow' | 'refuse' | 'contend'

/** The network of a run. */
export interface Network {
  /** Probability of each fault, for each request. */
  readonly odds: Partial<Record<NetworkFault, number>>
  readonly dice: Dice
  /** From then on nothing goes wrong any more. */
  healed: boolean
  /** Who is cut off, and until when, by `world.nowMs`. */
  readonly cutUntilMs: Map<Actor, number>
  /** What a seeded bug makes of an answer that was lost; `applied` is what became of the request. */
  readonly whenLost?: (applied: GroupResult | undefined, batches: readonly Batch[], seen: number) => GroupResult
  /** Nobody notices that the store has gone back. */
  readonly isBlind?: boolean
}

/** How long a client waits before it calls an answer lost, ms. */
const TIMEOUT_MS = 200
const SLOW_MS = 400
/** How long a request may sleep on its way at most, ms: longer than any process is waited for. */
export const LATE_MS = 10_000

const unreachable = (): HoldfastError => new HoldfastError('ERR_STORE', 'The simulated store cannot be reached.')
const damaged = (): HoldfastError => new HoldfastError('ERR_DAMAGE', 'The simulated store has gone back behind what this process has seen.')

/** What one process sees of the store, and whether it was told that the store is damaged. */
export interface Connection extends Store {
  readonly isDamaged: boolean
}

/** Connects a process to the store. */
export function connect(world: World, truth: Truth, network: Network, actor: Actor): Connection {
  const { dice, odds } = network
  let sent = 0
  let fence = 0
  let seen = 0
  let isDamaged = false

  function faultOf(kind: string): NetworkFault | undefined {
    if (network.healed) return undefined
    if (world.nowMs < (network.cutUntilMs.get(actor) ?? 0)) return dice.chance(0.5) ? 'lose-request' : 'refuse'
    let left = dice.random()
    for (const [fault, probability] of Object.entries(odds) as [NetworkFault, number][]) {
      left -= probability
      if (left < 0) return kind === 'apply' || !['contend', 'duplicate', 'late'].includes(fault) ? fault : undefined
    }
    return undefined
  }

  /** One request: `serve` is what the store does when it arrives, `lost` what the client makes of no answer. */
  function request<T>(kind: string, serve: () => T, lost: (served: T | undefined) => T, contended?: T): Promise<T> {
    if (isDamaged) return Promise.reject(damaged())
    return new Promise((resolve, reject) => {
      if (!world.interact(actor, `a store request (${kind})`)) return
      const fault = faultOf(kind)
      if (fault !== undefined) world.meet(`the network: ${fault}`)
      const known = seen
      const [wayMs, backMs] = [0, 0].map(() => 0.2 + dice.random() * (network.healed ? 1 : 4)) as [number, number]
      let applied: T | undefined
      const later = (ms: number, answer: () => T): void => void world.after(ms, actor, () => settle(resolve, reject, answer))
      const arrive = (ms: number, answers: boolean): void => {
        world.after(ms, world.nobody, () => {
          const answer = served(kind, known, serve)
          world.tell(() => `${actor.name}: ${kind}${fault === undefined ? '' : ` (${fault})`} arrives: ${answer.text}`)
          applied = answer.value
          if (answers) later(backMs, answer.receive)
        })
      }
      switch (fault) {
        case 'refuse':
          return later(wayMs, noAnswer)
        case 'contend':
          return later(wayMs, () => contended!)
        case 'lose-request':
          return later(TIMEOUT_MS, () => lost(undefined))
        case 'lose-reply':
          arrive(wayMs, false)
          return later(TIMEOUT_MS, () => lost(applied))
        case 'late':
          arrive(TIMEOUT_MS + dice.random() * dice.pick([300, LATE_MS]), false)
          return later(TIMEOUT_MS, () => lost(undefined))
        case 'duplicate':
          arrive(wayMs, false)
          return arrive(wayMs + dice.random() * 2, true)
        case 'slow':
          return arrive(wayMs + dice.random() * SLOW_MS, true)
        default:
          return arrive(wayMs, true)
      }
    })
  }

  /** The client has sent what it has seen, and the server compares. */
  function served<T>(kind: string, known: number, serve: () => T): Served<T> {
    if (truth.version < known && network.isBlind !== true) {
      const receive = (): never => {
        if (!isDamaged) world.meet('a store that went back is found by a process')
        if (!isDamaged) world.tell(() => `${actor.name} learns that the store has gone back`)
        isDamaged = true
        throw damaged()
      }
      return { value: undefined, receive, text: `damage, at ${truth.version} instead of ${known}` }
    }
    const value = serve()
    const at = truth.version
    const receive = (): T => {
      seen = Math.max(seen, at)
      return value
    }
    return { value, receive, text: kind === 'apply' ? describe(value as GroupResult) : '' }
  }

  return {
    name: 'simulated',
    id: truth.id,
    capabilities: { shared: 'network', durable: 'disk' },
    get isDamaged() {
      return isDamaged
    },
    async apply(batches) {
      const number = ++sent
      const serve = (): GroupResult => {
        // A request that was overtaken by a later one of the same connection is not applied any more.
        if (number < fence) world.meet('a request that came too late')
        if (number < fence) return { outcome: 'unknown', cause: new Error('fenced') }
        fence = number
        const results = truth.apply(batches)
        return { outcome: 'applied', results, head: { segment: 0, bytes: truth.version, hash: truth.id } }
      }
      const lost = (served: GroupResult | undefined): GroupResult =>
        network.whenLost?.(served, batches, seen) ?? { outcome: 'unknown', cause: new Error('The answer was lost.') }
      return request<GroupResult>('apply', serve, lost, { outcome: 'contended' })
    },
    read: async (keys) => request('read', () => truth.read(keys), noAnswer),
    list: async (prefix, options) => request('list', () => truth.list(prefix, options), noAnswer),
    now: async () => request('now', () => truth.now(), noAnswer),
    watch(prefix, wake) {
      let isOpen = true
      const stop = world.as(world.nobody, () =>
        truth.watch(prefix, () => {
          const ms = network.healed || dice.chance(0.8) ? dice.random() * 5 : dice.random() * 2_000
          world.after(ms, actor, () => {
            if (isOpen) wake()
          })
        }),
      )
      return () => {
        isOpen = false
        stop()
      }
    },
    holds: async (heads) =>
      request('holds', () => heads.map(({ bytes, hash }) => (hash === truth.id && bytes <= truth.version ? 'yes' : 'no')), noAnswer),
    async close() {
      // The store is everybody's.
    },
  }
}

interface Served<T> {
  readonly value: T | undefined
  /** What the client makes of it. */
  readonly receive: () => T
  readonly text: string
}

const noAnswer = (): never => {
  throw unreachable()
}

function settle<T>(resolve: (value: T) => void, reject: (error: unknown) => void, answer: () => T): void {
  try {
    resolve(answer())
  } catch (error) {
    reject(error)
  }
}

/** A line for the trace. */
function describe(answer: GroupResult): string {
  if (answer.outcome !== 'applied') return answer.outcome
  return answer.results.map((result) => (result.outcome === 'ok' ? 'ok' : `${result.outcome} ${result.which}`)).join(', ')
}
