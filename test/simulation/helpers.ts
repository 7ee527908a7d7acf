// Runs have nothing in common, so they are spread over the processors of the machine. This file is also what each of
// the helping processes runs.

import { fork, type ChildProcess } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { perform, type Done, type Task } from './tasks.ts'

const SELF = fileURLToPath(import.meta.url)

if (process.argv[1] === SELF) help()

/** Does what it is sent, one task after the other, until nobody is there to send any. */
function help(): void {
  // Errors are a part of what is simulated; where they were made is not asked for.
  Error.stackTraceLimit = 0
  const answer = async (task: Task): Promise<void> => {
    process.send!(await perform(task))
  }
  process.on('message', (task: Task) => void answer(task))
}

/** Does tasks in as many processes as there are processors, and tells what became of each. */
export async function performAll(tasks: readonly Task[], onDone: (done: Done) => void): Promise<void> {
  const waiting = [...tasks]
  const helpers = Array.from({ length: Math.min(tasks.length, availableParallelism()) }, () => fork(SELF))
  try {
    await Promise.all(helpers.map((helper) => feed(helper, waiting, onDone)))
  } finally {
    for (const helper of helpers) helper.disconnect()
  }
}

/** Sends one task after the other to a helper, until there are no more. */
function feed(helper: ChildProcess, waiting: Task[], onDone: (done: Done) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const next = (): void => {
      const task = waiting.shift()
      if (task === undefined) resolve()
      else helper.send(task)
    }
    helper.on('exit', (code, signal) => reject(new Error(`A helper has ended (${code ?? signal}) with work to do.`)))
    helper.on('message', (done: Done) => {
      onDone(done)
      next()
    })
    next()
  })
}
