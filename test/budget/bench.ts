// What the tests of the budgets work with: kernels on a store that they share, the ledger as a table, and the
// refusal that an action met. Every kernel that a test opens is closed when the test ends.

import { expect, onTestFinished } from 'vitest'
import { openKernel, type Kernel, type KernelOptions } from '../../src/kernel/open-kernel.ts'
import type { KernelEvent } from '../../src/kernel/events.ts'
import { readBudgets, type BudgetLine } from '../../src/budget/report.ts'
import type { Amounts } from '../../src/lib/amounts.ts'
import { Refusal } from '../../src/lib/errors.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { MAX_ENTRIES, type Store } from '../../src/stores/store.ts'
import type { Action } from '../../src/waist/action.ts'
import type { Hold } from '../../src/waist/hold.ts'
import type { BeginOptions } from '../../src/waist/scope.ts'

/** A kernel of one test, and what it told its operator. */
export interface Opened {
  readonly kernel: Kernel
  readonly store: Store
  readonly events: readonly KernelEvent[]
}

/** Opens a kernel that waits for nothing and leases nothing, unless told otherwise; on a memory store of its own, unless given one. */
export async function open(options: Partial<KernelOptions> = {}): Promise<Opened> {
  const events: KernelEvent[] = []
  const { store = memoryStore() } = options
  const kernel = await openKernel({ waitMs: 0, leasing: 'off', onEvent: (event) => events.push(event), ...options, store })
  onTestFinished(() => kernel.close())
  return { kernel, store, events }
}

/** An action that needs this much at worst. */
export function needing(worst: Amounts, more: Partial<Action> = {}): Action {
  return { kind: 'tool', resource: 'spend', worst, ...more }
}

/** Takes this much from a budget. */
export function take(kernel: Kernel, budget: string, worst: Amounts, options: BeginOptions & Partial<Action> = {}): Promise<Hold> {
  const { signal, ...action } = options
  return kernel.scope({ agent: 'tester', task: 'test', budget }).begin(needing(worst, action), signal === undefined ? {} : { signal })
}

/** The refusal that ends a promise; fails when it ends otherwise. */
export async function refusalOf(promise: Promise<unknown>): Promise<Refusal> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!Refusal.isInstance(error)) throw new Error('Expected a refusal.', { cause: error })
  return error
}

/** One line of the ledger. Asserts that all of them are balanced. */
export async function line(store: Store, budget: string, dimension = 'tokens'): Promise<BudgetLine> {
  const found = (await balanced(store)).find((one) => one.budget === budget && one.dimension === dimension)
  if (found === undefined) throw new Error(`No line for ${dimension} of ${budget}.`)
  return found
}

/** Asserts the equation for every budget and dimension of a store. */
export async function balanced(store: Store): Promise<readonly BudgetLine[]> {
  const lines = await readBudgets(store)
  expect(lines.filter((one) => !one.balanced)).toEqual([])
  return lines
}

/** What the ledger holds, without who is alive, how long the chains are and when it was sampled: equal when no money moved. */
export async function money(store: Store): Promise<Record<string, unknown>> {
  const entries = await store.list('', { limit: MAX_ENTRIES })
  return Object.fromEntries(entries.filter(({ key }) => !/^(head|process|renewed|pace)\//.test(key)).map(({ key, value }) => [key, value]))
}

/** Keys of a store with a prefix. */
export async function keys(store: Store, prefix: string): Promise<readonly string[]> {
  return (await store.list(prefix, { limit: MAX_ENTRIES })).map(({ key }) => key)
}
