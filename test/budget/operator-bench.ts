// Operators for the tests: each with a chain of its own in memory, as if on another machine than the kernels.

import { openChain } from '../../src/audit/chain.ts'
import { createOperator, type Operator } from '../../src/kernel/operator.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { newId } from '../../src/lib/ids.ts'
import { groupCommits } from '../../src/stores/group.ts'
import type { Store } from '../../src/stores/store.ts'

/** Who acts in the tests, and why. */
export const WHY = { by: 'ada', reason: 'bill of November' } as const

/** An operator on a store, and what is in its chain. */
export function operatorOn(store: Store): Operator & { events(): readonly Record<string, unknown>[] } {
  const chain = openChain({ boot: newId(), clock: systemClock, durable: false })
  const committer = groupCommits(store, { boot: chain.boot, chainHead: () => chain.head() })
  return {
    ...createOperator({ committer, log: chain, assertOpen: () => undefined }),
    events: () => chain.lines.map((line) => JSON.parse(line) as Record<string, unknown>),
  }
}

/** A store that does something else first, the first time that a batch deletes or sets a key that begins so. */
export function interrupted(store: Store, prefix: string, first: () => Promise<unknown>): Store {
  let isDone = false
  return {
    ...store,
    async apply(batches) {
      const keys = batches.flatMap(({ set = [], delete: deleted = [] }) => [...set.map(({ key }) => key), ...deleted])
      if (!isDone && keys.some((key) => key.startsWith(prefix))) {
        isDone = true
        await first()
      }
      return store.apply(batches)
    },
  }
}

/** The error that ends a promise; fails when there is none. */
export async function errorOf(promise: Promise<unknown>): Promise<Error & { readonly code?: string }> {
  return promise.then(
    (value) => {
      throw new Error(`Expected an error, got ${JSON.stringify(value)}.`)
    },
    (error: unknown) => error as Error,
  )
}
