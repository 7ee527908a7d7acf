// What really happened, as nobody in the run can know it: which calls were made under which hold, what the provider
// billed for each, and what the kernel was told of it.

import type { Amounts } from '../../src/lib/amounts.ts'
import type { Actor } from './world.ts'

/** What the kernel was told of the end of a call. */
export interface Told {
  readonly how: 'settled' | 'released' | 'charged'
  readonly used: Amounts
}

/** One call under one hold, from the moment that somebody asks for it. */
export interface Call {
  readonly actor: Actor
  /** Identity of the kernel that holds the money. */
  readonly boot: string
  /** Absent until it is granted; and for good when it was refused. */
  hold: string | undefined
  /** Whoever asked was told that nothing is held. */
  isRefused: boolean
  readonly path: string
  readonly worst: Amounts
  /** What the provider has billed for it so far. */
  billed: Amounts
  /** Requests of it that may still reach the provider. */
  underway: number
  told: Told | undefined
  /** What its program knows that it used, whatever it told. */
  known: Amounts | undefined
  /** An operator has said, or tried to say, what it really used. */
  corrected: boolean
}

/** The bill, and the calls behind it. */
export interface Books {
  readonly calls: Call[]
  /** What was billed, by `<dimension>/<path>` of every level. */
  readonly billed: ReadonlyMap<string, number>
  /** What of that is beyond the worst case of its call because the provider broke its word. */
  readonly excess: ReadonlyMap<string, number>
  /** What a store that lost acknowledged writes has lost, by leg. */
  readonly lost: Map<string, number>
  open(call: Pick<Call, 'actor' | 'boot' | 'path' | 'worst'>): Call
  /** The provider bills a call; `excess` is what of it nobody could know. Returns the legs that it touches. */
  bill(call: Call, amounts: Amounts, excess: Amounts): readonly string[]
}

/** The parts of a path, from the root: `acme`, `acme/a`. */
export const levelsOf = (path: string): readonly string[] => path.split('/').map((_, at, names) => names.slice(0, at + 1).join('/'))

/** Makes empty books. */
export function createBooks(): Books {
  const calls: Call[] = []
  const billed = new Map<string, number>()
  const excess = new Map<string, number>()
  const count = (sums: Map<string, number>, leg: string, by: number): void => void sums.set(leg, (sums.get(leg) ?? 0) + by)

  return {
    calls,
    billed,
    excess,
    lost: new Map(),
    open(facts) {
      const call: Call = {
        ...facts,
        hold: undefined,
        isRefused: false,
        billed: {},
        underway: 0,
        told: undefined,
        known: undefined,
        corrected: false,
      }
      calls.push(call)
      return call
    },
    bill(call, amounts, beyond) {
      const sum = { ...call.billed }
      const legs: string[] = []
      for (const [dimension, amount] of Object.entries(amounts)) {
        sum[dimension] = (sum[dimension] ?? 0) + amount
        for (const level of levelsOf(call.path)) {
          const leg = `${dimension}/${level}`
          legs.push(leg)
          count(billed, leg, amount)
          count(excess, leg, beyond[dimension] ?? 0)
        }
      }
      call.billed = sum
      return legs
    },
  }
}
