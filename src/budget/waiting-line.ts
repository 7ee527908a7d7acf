// Who waits for money stands in a line: one per budget and process, first come first served. Only the first
// of a line asks the store; it asks when the store reports a change, and otherwise after a random while.

const MIN_POLL_MS = 20
const MAX_POLL_MS = 200

/** The lines of this process. */
export interface WaitingLines {
  /** The first of these budgets that somebody waits for already. */
  busy(paths: () => readonly string[]): string | undefined
  /**
   * Stands in line for a budget. `attempt` is called when it is this caller's turn, again and again, until it
   * returns something else than `undefined` or the time is over.
   *
   * @returns What `attempt` returned; `undefined` when the time was over.
   * @throws The reason of `signal` when it aborts.
   */
  wait<T>(path: string, until: number, attempt: () => Promise<T | undefined>, signal?: AbortSignal): Promise<T | undefined>
}

/** Makes the lines; `watch` calls back when money may have come back. */
export function createWaitingLines(watch: (wake: () => void) => () => void): WaitingLines {
  const lines = new Map<string, Promise<void>>()
  const counts = new Map<string, number>()

  async function standIn<T>(path: string, turn: (ahead: Promise<void>) => Promise<T>): Promise<T> {
    const ahead = lines.get(path) ?? Promise.resolve()
    let leave!: () => void
    const left = new Promise<void>((resolve) => (leave = resolve))
    lines.set(
      path,
      ahead.then(() => left),
    )
    counts.set(path, (counts.get(path) ?? 0) + 1)
    try {
      return await turn(ahead)
    } finally {
      leave()
      const remaining = counts.get(path)! - 1
      if (remaining > 0) counts.set(path, remaining)
      else {
        counts.delete(path)
        lines.delete(path)
      }
    }
  }

  async function poll<T>(until: number, attempt: () => Promise<T | undefined>, signal: AbortSignal | undefined): Promise<T | undefined> {
    let wake: (() => void) | undefined
    let changed = false
    const stop = watch(() => {
      changed = true
      wake?.()
    })
    try {
      for (;;) {
        signal?.throwIfAborted()
        changed = false
        const result = await attempt()
        if (result !== undefined) return result
        const left = until - performance.now()
        if (left <= 0) return undefined
        if (changed) continue
        await pause(Math.min(left, MIN_POLL_MS + Math.random() * (MAX_POLL_MS - MIN_POLL_MS)), signal, (resume) => (wake = resume))
      }
    } finally {
      stop()
    }
  }

  return {
    // Mostly nobody waits, and then nobody has to know which budgets they are.
    busy: (paths) => (counts.size === 0 ? undefined : paths().find((path) => counts.has(path))),
    wait: (path, until, attempt, signal) =>
      standIn(path, async (ahead) => {
        const first = await before(ahead, until, signal)
        return first ? poll(until, attempt, signal) : undefined
      }),
  }
}

/** Waits for `ahead`. False when the time is over first. */
async function before(ahead: Promise<void>, until: number, signal: AbortSignal | undefined): Promise<boolean> {
  let inTime = false
  void ahead.then(() => (inTime = true))
  await Promise.resolve()
  if (!inTime) await pause(Math.max(0, until - performance.now()), signal, (resume) => void ahead.then(resume))
  return inTime
}

/** Waits `ms`, or until resumed or aborted. */
function pause(ms: number, signal: AbortSignal | undefined, onResume: (resume: () => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const finish = (settle: () => void): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
      settle()
    }
    const abort = (): void => finish(() => reject(signal!.reason as Error))
    const timer = setTimeout(() => finish(resolve), ms)
    // A signal that has aborted already tells nobody any more.
    if (signal?.aborted === true) return abort()
    signal?.addEventListener('abort', abort)
    onResume(() => finish(resolve))
  })
}
