// How a program uses the kernel and the provider. The right way is the default; seeded bugs have others.

import type { Amounts } from '../../src/lib/amounts.ts'

/** What a program does. */
export interface Habits {
  /** With a call that failed on the side of the provider, and perhaps was billed. */
  readonly onServerError: 'charge' | 'release'
  /** With a call that nobody answered. */
  readonly onTimeout: 'charge' | 'release'
  /** With an answer that does not say what it used. */
  readonly withoutUsage: 'charge' | 'settle-nothing'
  /** When it calls: once its hold is there; without waiting for that; or if enough looks free, and then it holds. */
  readonly calls: 'when-held' | 'at-once' | 'after-a-look'
  /** How often it calls under one hold. */
  readonly attempts: 1 | 2
  /** What it reports of what was used. */
  readonly reports: (used: Amounts, worst: Amounts) => Amounts
  /** What an operator says that a dead process has used. */
  readonly operatorSays: 'the-bill' | 'nothing'
  /** From whom an operator reclaims. */
  readonly operatorReclaims: 'the-dead' | 'the-silent'
}

/** What programs should do. */
export const GOOD_HABITS: Habits = {
  onServerError: 'charge',
  onTimeout: 'charge',
  withoutUsage: 'charge',
  calls: 'when-held',
  attempts: 1,
  reports: (used) => used,
  operatorSays: 'the-bill',
  operatorReclaims: 'the-dead',
}
