// What a crash leaves is put in order by whoever comes next on the same data directory: once it has the lock of the
// dead process's chain, and the chain is whole, it ends every hold as the chain says. Where that cannot be known,
// nothing is touched: the money stays in suspense until an operator says more.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { lockChain, lockFile } from '../audit/chain-lock.ts'
import { lastWords } from '../audit/last-words.ts'
import type { StoredHead } from '../audit/verify.ts'
import { settleEstate } from '../budget/estate.ts'
import type { Committer } from '../stores/group.ts'
import type { Log } from '../waist/log.ts'
import type { KernelEvent } from './events.ts'

/** Options of {@link createSuccessor}. */
export interface SuccessorOptions {
  /** The data directory; without one there are no chains to read. */
  readonly directory: string | undefined
  readonly committer: Committer
  readonly log: Log
  readonly emit: (event: KernelEvent) => void
  /** Unix ms. */
  readonly now: () => number
}

/** Most dead processes that one look puts in order. */
const MAX_ESTATES = 100

/** Makes the function that puts in order what dead processes have left. It does nothing to any that lives. */
export function createSuccessor({ directory, committer, log, emit, now }: SuccessorOptions): () => Promise<void> {
  if (directory === undefined) return async () => undefined
  return succeedIn(directory, { committer, log, emit, now })
}

function succeedIn(directory: string, { committer, log, emit, now }: Omit<SuccessorOptions, 'directory'>): () => Promise<void> {
  const own = log.boot
  /** Chains that cannot be believed; that does not change. */
  const doubtful = new Set<string>()

  async function succeed(boot: string): Promise<void> {
    const lock = lockChain(lockFile(directory, boot))
    if (lock === undefined) return
    let settled = false
    try {
      const [head] = await committer.store.read([`head/${boot}`])
      const words = await lastWords(directory, boot, (head?.value ?? undefined) as StoredHead | undefined)
      if ('doubt' in words) {
        doubtful.add(boot)
        log.append('event', { type: 'not-succeeded', process: boot, reason: words.doubt })
        emit({ type: 'not-succeeded', message: `What the dead process ${boot} held stays in suspense: ${words.doubt}.` })
        return
      }
      const { allotments, ...estate } = await settleEstate({ committer, boot, holds: words.holds, now })
      log.append('event', { type: 'succeeded', process: boot, ...estate })
      for (const { path, closing } of allotments) log.append('event', { type: 'orphan-closed', budget: path, process: boot, ...closing })
      settled = true
    } finally {
      lock.release(settled)
    }
  }

  return async () => {
    const boots = readdirSync(join(directory, 'chains'))
      .filter((name) => name.endsWith('.lock'))
      .map((name) => name.slice(0, -'.lock'.length))
      .filter((boot) => boot !== own && !doubtful.has(boot))
    for (const boot of boots.slice(0, MAX_ESTATES)) await succeed(boot)
  }
}
