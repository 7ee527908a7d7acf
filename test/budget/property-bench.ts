// What the two property tests of the ledger share: a tree that is small enough for everything in it to bind soon, and
// what is drawn from it.

import * as fc from 'fast-check'
import type { Limits } from './ledger-model.ts'
import type { Kernel, KernelOptions } from '../../src/kernel/open-kernel.ts'
import type { Amounts } from '../../src/lib/amounts.ts'
import type { Scope } from '../../src/waist/scope.ts'

/** Histories in one run of the suite; more of them with HOLDFAST_PROPERTY_RUNS. Each takes some 15 ms. */
export const RUNS = Number(process.env['HOLDFAST_PROPERTY_RUNS'] ?? 500)
/** When every history begins, Unix ms. */
export const START_MS = 1_700_000_000_000

/** Limits by declared path; `usd` in nano-USD. */
export const LIMITS: Limits = {
  acme: { tokens: 60, calls: 12 },
  'acme/*': { tokens: 25 },
  'acme/*/*': { tokens: 10, calls: 4 },
  'acme/named': { tokens: 30, usd: 40 },
  'acme/named/*': { usd: 15 },
}

/** Paths to take from. */
export const path: fc.Arbitrary<string> = fc.constantFrom(
  'acme',
  'acme/a',
  'acme/b',
  'acme/a/x',
  'acme/a/y',
  'acme/b/x',
  'acme/named',
  'acme/named/z',
)
/** What an action needs; not always anything. */
export const amounts: fc.Arbitrary<Amounts> = fc.record({ tokens: fc.nat(14), calls: fc.nat(3), usd: fc.nat(20) }, { requiredKeys: [] })

/** The declaration of these limits. */
export function budgetsOf(limits: Limits, revisions: Readonly<Record<string, number>> = {}): NonNullable<KernelOptions['budgets']> {
  return Object.fromEntries(
    Object.entries(limits).map(([budget, { usd, ...rest }]) => [
      budget,
      { ...rest, ...(usd === undefined ? {} : { usd: (usd / 1e9).toFixed(9) }), revision: revisions[budget] ?? 1 },
    ]),
  )
}

/** A scope of a kernel on a budget. */
export const scopeOf = (kernel: Kernel, budget: string): Scope => kernel.scope({ agent: 'tester', task: 'test', budget })

/** A listener that does not care. */
export const onEvent = (): void => undefined
