// A ledger without the kernel around it, so that a test can choose the id of a hold and the name of the process:
// what a copy of a process would write, and what a kernel of its own never would.

import { declareBudgets } from '../../src/budget/declare.ts'
import { createLedger, type Ledger } from '../../src/budget/ledger.ts'
import type { TakeRequest } from '../../src/budget/take-request.ts'
import { createProcesses } from '../../src/budget/processes.ts'
import type { BudgetDeclaration } from '../../src/budget/declaration.ts'
import type { Amounts } from '../../src/lib/amounts.ts'
import { groupCommits } from '../../src/stores/group.ts'
import type { Store } from '../../src/stores/store.ts'

/** The ledger of the process with this name; two of one name are a process and its copy. */
export function ledgerOf(store: Store, boot = 'boot'): Ledger {
  const committer = groupCommits(store)
  const ignore = (): void => undefined
  const processes = createProcesses({
    committer,
    boot,
    description: {},
    leaseTtlMs: 10_000,
    graceMs: 2_000,
    onSuspended: ignore,
    onTrouble: ignore,
  })
  const log = { boot, append: ignore, head: () => ({ count: 0, hash: '' }), noteStoreHead: ignore }
  const later = (work: () => Promise<void>): void => void work()
  return createLedger({
    onWarning: () => undefined,
    committer,
    processes,
    log,
    observe: false,
    waitMs: 0,
    orphanMs: 0,
    now: () => Date.now(),
    assertOpen: ignore,
    later,
    leasing: false,
    tickMs: 3_000,
    onTrouble: ignore,
    succeed: async () => undefined,
  })
}

/** Asks for this much under an id of one's own choice. */
export function asking(holdId: string, path: string, worst: Amounts): TakeRequest {
  const action = { kind: 'tool', resource: 'spend', agent: 'tester', task: 'test', argsHash: '', worst }
  return { holdId, path, also: [], action, fragment: {}, startedAt: performance.now(), trail: {} }
}

/** Declares budgets without a kernel. */
export const declare = (store: Store, budgets: Readonly<Record<string, BudgetDeclaration>>): Promise<void> =>
  declareBudgets(groupCommits(store), budgets, () => undefined)
