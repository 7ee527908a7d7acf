// What the command line has done, in this thread or in others: runs of seeds, of crashes, and searches for bugs.

import { BUGS, type Bug } from './bugs.ts'
import { crash, crashNamed } from './crash-points.ts'
import { planOf } from './plan.ts'
import { simulate, type Verdict } from './simulate.ts'

/** Something to run. */
export type Task =
  | { readonly kind: 'seeds'; readonly from: number; readonly count: number; readonly bug?: string }
  | { readonly kind: 'crashes'; readonly names: readonly string[] }
  /** Runs seeds until the bug is found. */
  | { readonly kind: 'search'; readonly bug: string; readonly from: number; readonly count: number }

/** A run that went wrong, and the options that run it again. */
export interface Failure {
  readonly replay: string
  readonly fault: string
}

/** What became of a task. */
export interface Done {
  readonly task: Task
  readonly runs: number
  readonly failures: readonly Failure[]
}

/** Finds a bug by its name. @throws {TypeError} */
export function bugNamed(name: string): Bug {
  const found = BUGS.find((bug) => bug.name === name)
  if (found === undefined) throw new TypeError(`There is no bug \`${name}\`. There are: ${BUGS.map((bug) => bug.name).join(', ')}.`)
  return found
}

/** Does a task. */
export async function perform(task: Task): Promise<Done> {
  const failures: Failure[] = []
  let runs = 0
  const note = (replay: string, { fault }: Verdict): void => {
    runs += 1
    if (fault !== undefined) failures.push({ replay, fault })
  }
  if (task.kind === 'crashes') {
    for (const name of task.names) note(`--crash ${name}`, await apart(() => crash(crashNamed(name))))
    return { task, runs, failures }
  }
  const bug = task.bug === undefined ? undefined : bugNamed(task.bug)
  for (let seed = task.from; seed < task.from + task.count; seed++) {
    if (task.kind === 'search' && bug!.needs?.(planOf(seed)) === false) continue
    const verdict = await apart(() => simulate(seed, bug === undefined ? {} : { bug }))
    note(`--seed ${seed}${bug === undefined ? '' : ` --bug ${bug.name}`}`, verdict)
    if (task.kind === 'search' && verdict.fault !== undefined) break
  }
  return { task, runs, failures }
}

/** A run never lets the real event loop turn; between two of them it may, and a promise that nobody caught is told there. */
async function apart(run: () => Promise<Verdict>): Promise<Verdict> {
  const uncaught: unknown[] = []
  const note = (reason: unknown): void => void uncaught.push(reason)
  process.on('unhandledRejection', note)
  try {
    const verdict = await run()
    await new Promise((resolve) => setImmediate(resolve))
    if (uncaught.length === 0 || verdict.fault !== undefined) return verdict
    return { ...verdict, fault: `a promise was rejected that nobody waits for: ${String(uncaught[0])}` }
  } finally {
    process.off('unhandledRejection', note)
  }
}
