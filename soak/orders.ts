// What a worker is told, and what it tells.

import type { BudgetFacts } from '../src/lib/errors.ts'
import type { Address } from './site.ts'

/** What a worker is told. */
export interface Orders {
  readonly address: Address
  readonly name: string
  readonly seed: number
  /** Calls at the same time. */
  readonly callers: number
  readonly leasing: 'auto' | 'off'
  readonly waitMs: number
  readonly leaseTtlMs: number
  readonly baseURL: string
  readonly printURL: string
  readonly how: How
}

/** How it spends: as it should, or as one should not. */
export type How = 'holdfast' | 'check-then-charge' | 'refund-on-error'

/** A refusal `EXCEEDED`, as it said of itself; `sinceMs`: when the call was made, Unix ms. */
export type Exceeded = BudgetFacts & { readonly sinceMs: number }

/** What it did since it last told. */
export interface Tally {
  readonly counts: Record<string, number>
  readonly exceeded: readonly Exceeded[]
  /** What should not have happened. */
  readonly troubles: readonly string[]
}

/** Counters of who checks, calls and then charges. */
export const NAIVE = { spent: 'naive/spent', limit: 'naive/limit' } as const
