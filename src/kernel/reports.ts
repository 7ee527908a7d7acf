// Ends of holds that the store could not take at once. The outcome is on disk already; here it is tried
// again, with growing pauses, so that a caller never waits for a store that is away.

import { sleep } from '../lib/clock.ts'

const MAX_PAUSE_MS = 5_000
/** Most ends that wait. Beyond it the oldest is given up: its hold stays held, and goes to suspense with this process. */
const MAX_PENDING = 10_000

/** The ends that still have to reach the store. */
export interface Reports {
  /** Those that are on their way, and those that will be tried again. */
  readonly pending: number
  /** Tries now; if that fails, keeps trying in the background. Never rejects. */
  send(report: () => Promise<void>, onDelayed: (error: unknown) => void): Promise<void>
  /** Tries everything once more and waits for it, at most `ms`. Returns how many did not get through. */
  drain(ms: number): Promise<number>
}

/** Makes an empty list of reports. */
export function createReports(): Reports {
  const pending = new Set<() => Promise<void>>()
  let sending = 0
  let worker: Promise<void> | undefined
  let hurry: (() => void) | undefined

  async function work(): Promise<void> {
    for (let pause = 20; pending.size > 0; pause = Math.min(MAX_PAUSE_MS, pause * 2)) {
      await Promise.race([sleepUnref(pause * (0.5 + Math.random())), new Promise<void>((resolve) => (hurry = resolve))])
      for (const report of pending) {
        try {
          await report()
          pending.delete(report)
          pause = 20
        } catch {
          // Its caller was told when the first try failed. To the end of the queue: if it is not the store that
          // is away but this one that cannot be taken, the others must not wait for it.
          pending.delete(report)
          pending.add(report)
          break
        }
      }
    }
    worker = undefined
  }

  return {
    get pending() {
      return pending.size + sending
    },
    async send(report, onDelayed) {
      sending += 1
      try {
        await report()
      } catch (error) {
        onDelayed(error)
        if (pending.size >= MAX_PENDING) {
          pending.delete(pending.values().next().value!)
          onDelayed(new Error(`${MAX_PENDING} ends wait already, and the oldest was given up; its hold will go to suspense`))
        }
        pending.add(report)
        worker ??= work()
      } finally {
        sending -= 1
      }
    },
    async drain(ms) {
      const until = performance.now() + ms
      while (pending.size + sending > 0 && performance.now() < until) {
        hurry?.()
        await sleep(Math.min(20, Math.max(0, until - performance.now())))
      }
      return pending.size + sending
    },
  }
}

/** Waits `ms` milliseconds, and does not keep the process alive for it. */
export function sleepUnref(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref())
}
