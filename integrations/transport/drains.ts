// Answers that are read to their end after the caller left: the provider bills them anyway, and their usage is
// worth more than the worst case. Bounded in number and in time.

/** The drains of one guard. */
export interface Drains {
  readonly running: number
  /**
   * Lets `work` finish in the background. When there are too many already, or time is over, or `work` fails by
   * itself, the upstream is cut and `giveUp` is called. An error of `giveUp` is dropped: nobody waits here.
   */
  run(upstream: AbortController, work: () => Promise<void>, giveUp: () => Promise<void>): void
}

/** Makes a bounded set of drains. */
export function createDrains(max: number, timeoutMs: number): Drains {
  let running = 0

  async function drain(upstream: AbortController, work: () => Promise<void>, giveUp: () => Promise<void>): Promise<void> {
    const timer = setTimeout(() => upstream.abort(new Error(`not finished ${timeoutMs} ms after the caller left`)), timeoutMs)
    try {
      await work()
    } catch {
      // Cut by the timer, or broken by itself: either way nobody knows what it used, and nobody reads the rest.
      upstream.abort()
      await giveUp().catch(() => undefined)
    } finally {
      clearTimeout(timer)
      running -= 1
    }
  }

  return {
    get running() {
      return running
    },
    run(upstream, work, giveUp) {
      if (running >= max) upstream.abort(new Error('too many answers are being read after their callers left'))
      running += 1
      void drain(upstream, work, giveUp)
    },
  }
}
