// Starts workers that spend, and that are killed or stopped with calls under way.

import { fork } from 'node:child_process'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

/** What a worker is told. */
export interface WorkerOptions {
  readonly directory: string
  readonly budget: string
  /** Calls that hold 10 tokens and use 7; every tenth is released. */
  readonly calls: number
  /** Calls that are left under way. */
  readonly open: number
  /** It reads every file of its own data directory when it is done, as a backup would. */
  readonly reads?: boolean
  /** Tokens that it hands to a helper first, who does the work. */
  readonly handoff?: number
}

/** A worker that has done its calls, and holds what it was told to leave under way. */
export interface Worker {
  kill(): Promise<void>
  pause(): void
  resume(): void
}

/** Starts a worker and waits until it has done its calls. */
export async function startWorker(options: WorkerOptions): Promise<Worker> {
  const child = fork(join(import.meta.dirname, 'worker.ts'), [JSON.stringify(options)], { execArgv: [] })
  onTestFinished(() => void child.kill('SIGKILL'))
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  await new Promise<void>((resolve, reject) => {
    child.once('message', () => resolve())
    child.once('exit', (code) => reject(new Error(`The worker ended with ${code}.`)))
  })
  return {
    async kill() {
      child.kill('SIGKILL')
      await ended
    },
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
  }
}
