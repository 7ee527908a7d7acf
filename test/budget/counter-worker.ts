// A process of its own that does one thing again and again, each time one line in a file that it shares with others,
// until there is no more of it: `node counter-worker.ts <options as JSON>`. It ends by itself when its parent dies.

import { appendFileSync } from 'node:fs'
import { openKernel } from '../../src/kernel/open-kernel.ts'
import { sleep } from '../../src/lib/clock.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import { fileStore } from '../../src/stores/file.ts'
import { leftIn } from './counter-file.ts'
import type { Spent } from './process-bench.ts'

/** What it is told. */
export interface CounterWorkerOptions {
  /** Of the store. */
  readonly directory: string
  /** Where its lines go. */
  readonly file: string
  readonly budget: string
  readonly counter: string
  readonly callers: number
  readonly leaseTtlMs: number
  /** Held like money; or looked at before it is done. */
  readonly how: 'holdfast' | 'check-then-act'
  /** Of `check-then-act`: how many lines there may be, beyond what the file brings in itself. */
  readonly limit: number
}

const { directory, file, budget, counter, callers, leaseTtlMs, how, limit } = JSON.parse(process.argv[2]!) as CounterWorkerOptions
const done = { answered: 0, failed: 0, refused: {} as Record<string, number> }
const stopping = new AbortController()

process.once('disconnect', () => process.exit(1))
process.on('message', (message) => {
  if (message === 'stop') stopping.abort()
})

/** The effect. It takes a while, and then it has happened: nobody can take it back. */
async function act(): Promise<void> {
  await sleep(20 + Math.random() * 40)
  appendFileSync(file, '-1\n')
  done.answered += 1
}

/** Does it again and again; `attempt` says whether there is no more. */
async function loop(attempt: () => Promise<boolean>): Promise<void> {
  while (!stopping.signal.aborted) if (await attempt()) return
}

async function spend(attempt: () => Promise<boolean>): Promise<void> {
  const go = new Promise<void>((resolve) => process.once('message', () => resolve()))
  process.send!('ready')
  await go
  await Promise.all(Array.from({ length: callers }, () => loop(attempt)))
}

async function run(): Promise<void> {
  if (how === 'check-then-act')
    return spend(async () => {
      if (leftIn(file, limit) <= 0) return true
      await act()
      return false
    })
  const store = fileStore(directory, { durability: 'os' })
  const kernel = await openKernel({ store, leaseTtlMs, waitMs: 300, onEvent: () => undefined })
  const scope = kernel.scope({ agent: 'worker', task: 'count', budget })
  await spend(async () => {
    try {
      await scope.run({ kind: 'tool', resource: 'act', worst: { [counter]: 1 } }, act, () => ({ [counter]: 1 }))
      return false
    } catch (error) {
      const code = findRefusal(error)?.code
      if (code === undefined) throw error
      done.refused[code] = (done.refused[code] ?? 0) + 1
      return code === 'ERR_BUDGET_EXCEEDED'
    }
  })
  await kernel.close()
  await store.close()
}

await run()
process.send!(done satisfies Spent, () => process.exit(0))
