// The end of a kernel: whatever is held is charged, everything is sent, and nothing that the store does keeps a program
// from ending.

import type { Chain } from '../audit/chain.ts'
import type { Processes } from '../budget/processes.ts'
import type { Committer } from '../stores/group.ts'
import { sleepUnref } from './reports.ts'
import type { ScopeContext } from './scope.ts'

/** How long each step may take, ms. */
const CLOSE_DRAIN_MS = 5_000

/** Whatever is still held was perhaps spent: it is charged, and everything is sent, before the chain ends. */
export async function endKernel(
  { open, beginning, reports, ledger, emit }: ScopeContext,
  processes: Processes,
  committer: Committer,
  chain: Chain,
): Promise<void> {
  // Who is being answered right now is told ERR_CLOSED, and what was taken for him goes back; a gate may take its time.
  await atMost(Promise.allSettled(beginning))
  await atMost(Promise.all([...open].map((hold) => hold.charge('the kernel was closed while it was held'))))
  // What is left open comes back all the same: others close what the process of a record that lapsed has made.
  const left = (error: unknown): void =>
    emit({ type: 'trouble', message: `A kernel was closed while its store was away: ${String(error)}` })
  ledger.stop()
  let unsent = await reports.drain(CLOSE_DRAIN_MS)
  // If the store is away now, what is leased goes back as soon as it returns, also after the end of the kernel.
  await atMost(
    reports.send(
      () => ledger.flush(),
      () => void (unsent += 1),
    ),
  )
  processes.stop()
  try {
    // With ends unsent the records stay, renewed no more: so the others find that there is something to suspend.
    if (unsent === 0)
      await atMost(
        ledger
          .closeOwnAllotments()
          .then(() => processes.close())
          .catch(left),
      )
    await atMost(committer.idle())
    chain.append('close', { unsent })
    // The last head goes into the store, so that a cut tail of a closed chain is always found.
    if (unsent === 0) await atMost(committer.commit({}))
    chain.flush()
  } finally {
    chain.close(unsent === 0)
  }
}

/** A store that never answers must not keep a program from ending. */
async function atMost(step: Promise<unknown>): Promise<void> {
  await Promise.race([step, sleepUnref(CLOSE_DRAIN_MS)])
}
