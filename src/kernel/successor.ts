// What a crash leaves is put in order by whoever comes next on the same data directory: once it has the lock of the
// dead process's chain, and the chain is whole, it ends every hold as the chain says. Where that cannot be known,
// nothing is touched: the money stays in suspense until an operator says more.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { lockFile, takeLock } from '../audit/chain-lock.ts'
import { lastWords } from '../audit/last-words.ts'
import type { StoredHead } from '../audit/verify.ts'
import { settleEstate } from '../budget/estate.ts'
import { isSilent } from '../budget/processes.ts'
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
  /** How long a process may be silent before it can be dead, ms: its own TTL counts, and this where it has none. */
  readonly leaseTtlMs: number
  readonly graceMs: number
  /** Unix ms. */
  readonly now: () => number
}

const LOOK_MS = 1_000
/** Most dead processes that one look puts in order. */
const MAX_ESTATES = 100

/** Makes the function that puts in order what dead processes have left. It does nothing to any that lives. */
export function createSuccessor({ directory, ...options }: SuccessorOptions): () => Promise<void> {
  return directory === undefined ? async () => undefined : succeedIn(directory, options)
}

function succeedIn(directory: string, options: Omit<SuccessorOptions, 'directory'>): () => Promise<void> {
  const { committer, log, emit, now } = options
  const own = log.boot
  const trouble = (boot: string) => (error: unknown) =>
    emit({
      type: 'trouble',
      message: `What the dead process ${boot} left could not be put in order, and will be tried again: ${String(error)}`,
    })
  let lookedAtMs = -Infinity

  /** The lock can be lost by a living process, and silence is no death: only both together are. */
  async function fellSilent(boot: string): Promise<boolean> {
    const [process, renewed] = await committer.store.read([`process/${boot}`, `renewed/${boot}`])
    return isSilent({ process, renewed }, await committer.store.now(), options)
  }

  /** Whether something was put in order. */
  async function succeed(boot: string): Promise<boolean> {
    if (!(await fellSilent(boot))) return false
    const lock = takeLock(lockFile(directory, boot))
    if (lock === undefined) return false
    let how: 'keep' | 'remove' | 'aside' = 'keep'
    try {
      const [head] = await committer.store.read([`head/${boot}`])
      const words = await lastWords(directory, boot, committer.store.id, (head?.value ?? undefined) as StoredHead | undefined)
      if ('elsewhere' in words) return false
      if ('doubt' in words) {
        how = 'aside'
        log.append('event', { type: 'not-succeeded', process: boot, reason: words.doubt })
        emit({ type: 'not-succeeded', message: `What the dead process ${boot} held stays in suspense: ${words.doubt}.` })
        return true
      }
      const { allotments, ...estate } = await settleEstate({ committer, boot, ...words, now, onTrouble: trouble(boot) })
      log.append('event', { type: 'succeeded', process: boot, ...estate })
      for (const { path, closing } of allotments) log.append('event', { type: 'orphan-closed', budget: path, process: boot, ...closing })
      how = 'remove'
      return true
    } finally {
      lock.release(how)
    }
  }

  /** The chains of others that have a lock. Who cannot look for the dead is told so; his own call has another answer. */
  function lockedChains(): readonly string[] {
    const folder = join(directory, 'chains')
    try {
      return readdirSync(folder)
        .filter((name) => name.endsWith('.lock'))
        .map((name) => name.slice(0, -'.lock'.length))
        .filter((boot) => boot !== own)
    } catch (error) {
      emit({
        type: 'trouble',
        message: `${folder} cannot be read, so what dead processes have left stays as it is: ${String(error)}. Put the data directory back, or close this kernel and open another one.`,
      })
      return []
    }
  }

  return async () => {
    // Every refusal asks; a look each second is enough.
    if (performance.now() - lookedAtMs < LOOK_MS) return
    lookedAtMs = performance.now()
    const boots = lockedChains()
    let settled = 0
    for (const boot of boots) {
      // One that cannot be put in order must not stand in front of the others.
      if (await succeed(boot).catch((error: unknown) => (trouble(boot)(error), false))) settled += 1
      if (settled >= MAX_ESTATES) return
    }
  }
}
