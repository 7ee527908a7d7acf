// Answers that are read to their end after the caller left: the provider bills them anyway, and their usage is
// worth more than the worst case. Bounded in number and in time.

/** The drains of one guard. */
export interface Drains {
  readonly running: number
  /**
   * Lets `work` finish in the background. When there are too many already, it is not begun; then, and when time is over or
   * `work` fails by itself, the upstream is cut and `giveUp` is called. An error of `giveUp` is dropped: nobody waits here.
   */
  run(upstream: AbortController, work: () => Promise<void>, giveUp: () => Promise<void>): void
}

/** Makes a bounded set of drains; with `max` 0 every answer is cut at once. */
export function createDrains(max: number, timeoutMs: number): Drains {
  let running = 0

  function cut(upstream: AbortController, why: string, giveUp: () => Promise<void>): void {
    upstream.abort(new Error(why))
    giveUp().catch(() => undefined)
  }

  async function drain(upstream: AbortController, work: () => Promise<void>, giveUp: () => Promise<void>): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    // A `fetch` that does not listen to its signal must not keep a place for good.
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not finished ${timeoutMs} ms after the caller left`)), timeoutMs)
    })
    try {
      await Promise.race([work(), late])
    } catch (error) {
      // Cut by the timer, or broken by itself: either way nobody knows what it used, and nobody reads the rest.
      cut(upstream, (error as Error | undefined)?.message ?? 'it broke off', giveUp)
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
      if (running >= max) return cut(upstream, 'no more answers are read after their callers left', giveUp)
      running += 1
      void drain(upstream, work, giveUp)
    },
  }
}
