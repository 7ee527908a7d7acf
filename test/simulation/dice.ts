// Everything that is left to chance in a run comes from dice, and the dice come from the seed.

import { seededRandom } from '../../src/testing/faulty-store.ts'

/** A source of chance. */
export interface Dice {
  /** From 0 up to 1. */
  random(): number
  /** A whole number from `least` to `most`, both included. */
  int(least: number, most: number): number
  /** True with this probability. */
  chance(probability: number): boolean
  pick<T>(list: readonly T[]): T
}

/** Makes the dice of a seed; each `purpose` has its own, so that more throws for one do not change another. */
export function diceOf(seed: number, purpose: string): Dice {
  let mixed = seed | 0
  for (let at = 0; at < purpose.length; at++) mixed = Math.imul(mixed ^ purpose.charCodeAt(at), 0x01000193)
  const random = seededRandom(mixed)
  return {
    random,
    int: (least, most) => least + Math.floor(random() * (most - least + 1)),
    chance: (probability) => random() < probability,
    pick: (list) => list[Math.floor(random() * list.length)]!,
  }
}
