// What may fail in a run, and what may not.

import { HoldfastError, Refusal } from '../../src/lib/errors.ts'
import type { Site } from './site.ts'

/** Whether an error is one that a program has to expect. Everything else is a fault of the run. */
export function isExpected({ plan }: Site, error: unknown): boolean {
  if (Refusal.isInstance(error)) return true
  // An operator is told when he names a dimension that a hold has not, or more than it has.
  if (error instanceof RangeError) return true
  if (!HoldfastError.isInstance(error)) return false
  if (plan.storeFault !== undefined && error.code === 'ERR_DAMAGE') return true
  return ['ERR_STORE', 'ERR_CLOSED', 'ERR_HOLD_STATE', 'ERR_BUDGET_FROZEN', 'ERR_UNKNOWN_BUDGET'].includes(error.code)
}

/** Does something that may fail the way that stores and budgets do; returns `undefined` then. */
export async function attempt<T>(site: Site, what: string, task: () => Promise<T>): Promise<T | undefined> {
  try {
    return await task()
  } catch (error) {
    if (!isExpected(site, error))
      site.world.fail(`${what} failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
    site.world.tell(() => `${what}: ${error instanceof Error ? error.message : String(error)}`)
    return undefined
  }
}
