// What a soak is told, and what its parts work with.

import type { Store } from '../src/stores/store.ts'
import type { Looks } from './checks.ts'
import type { Control } from './controls.ts'
import type { Told } from './crew.ts'
import type { Market } from './market.ts'
import type { Site, StoreName } from './site.ts'
import type { Treasury } from './treasury.ts'

/** Short, so that a process that sleeps is taken for dead while one waits for it. */
export const LEASE_TTL_MS = 600

/** Options of `soak`. */
export interface SoakOptions {
  readonly store: StoreName
  readonly processes: number
  readonly ms: number
  readonly seed: number
  /** Of the root, at first; nano-USD. @default enough for a few calls of each process */
  readonly limit?: number
  /** @default 'mixed': every second process */
  readonly leasing?: 'auto' | 'off' | 'mixed'
  /** What is done wrong on purpose; it ends as soon as that shows. @default nothing */
  readonly control?: Control
  /** @default 4 */
  readonly callers?: number
}

/** Everything that a run works with. */
export interface Run {
  readonly options: SoakOptions
  readonly site: Site
  readonly market: Market
  /** The parent's own. */
  readonly store: Store
  readonly told: Told
  readonly looks: Looks
  readonly treasury: Treasury
}
