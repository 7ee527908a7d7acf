// Which task of a graph a call belongs to, and what that task is called when it is resumed. LangGraph tells it in
// the config that it hands down. Found by running 1.4.17 (`test/integrations/langgraph-resume.test.ts`):
//
// - `configurable.checkpoint_ns` ends in `<node>:<task id>`, below those of the graphs around it. A task id is a
//   hash of checkpoint id, namespace, step, node and trigger (of a `Send`: its index). It is the same on resume by
//   `Command`, on `invoke(null)`, for each attempt of a retry policy, and in another process on the same saver.
// - It is another one in the next turn of a loop, in a new turn of the thread, after `updateState`, and for time
//   travel, which makes a fork with a checkpoint of its own: whoever travels asks for the work to be done again.
// - `configurable.checkpoint_id` is undefined inside of a task, and a run id names one invocation, so neither helps.
// - A subgraph of its own `checkpointer: false` begins with a new checkpoint id whenever its parent is resumed. Its
//   tasks get their name from their parent's, which only `guardGraph` can see.

import { AsyncLocalStorage } from 'node:async_hooks'
import type { ParentCommand } from '@langchain/langgraph'

/** The part of a runnable config that is read. */
export interface TaskConfig {
  readonly configurable?: Readonly<Record<string, unknown>> | undefined
  readonly executionInfo?: { readonly nodeAttempt?: number } | undefined
  readonly maxConcurrency?: number | undefined
  readonly metadata?: Readonly<Record<string, unknown>> | undefined
  readonly signal?: AbortSignal | undefined
  readonly toolCall?: { readonly id?: string | undefined; readonly args?: unknown } | undefined
}

/** What a task keeps of interrupts: LangGraph's own notes, one object for each time that a task is prepared. */
export interface Scratchpad {
  resume: unknown[]
  nullResume: unknown
  interruptCounter: number
  consumeNullResume(): unknown
}

/** What a task has written, as a checkpointer keeps it. */
export type PendingWrite = readonly [taskId: string, channel: string, value: unknown]

/** The part of a checkpointer that is used. */
export interface Saver {
  readonly serde: {
    dumpsTyped(value: unknown): Promise<[string, Uint8Array]>
    loadsTyped(type: string, data: Uint8Array | string): Promise<unknown>
  }
  getTuple(config: object): Promise<{ readonly pendingWrites?: readonly PendingWrite[] } | undefined>
  putWrites(config: object, writes: readonly (readonly [channel: string, value: unknown])[], taskId: string): Promise<void>
}

/** One execution of a task: from its top, whether for the first time or resumed. */
export interface Execution {
  /** The same for every execution of this task; `undefined` when nothing can resume it. */
  readonly name: string | undefined
  readonly saver: Saver | undefined
  readonly scratchpad: Scratchpad | undefined
  /** The execution that it was started in: of a node that calls a task or a graph, of a tool. */
  readonly around: Execution | undefined
  /** It is a `task()`, which shares the loop, and so the writes, of the execution around it. */
  readonly isCall: boolean
  /** What it was resumed with: a value for whoever asks first, and how many values of its own the task has had. */
  readonly resumedWith: { readonly next: boolean; readonly own: number }
  /** Which execution of equal work this is, from 1. */
  nth(what: string): number
  /** Runs guarded work, which siblings that want to pause wait for. */
  working<T>(fn: () => Promise<T>): Promise<T>
  /** Resolves when no work of this execution is under way but that of the caller, and of others that wait here. */
  siblingsDone(): Promise<void>
}

/** A guarded call at work, and the one of the same execution that it is inside of. */
interface Frame {
  readonly around: Frame | undefined
}

interface Inside {
  readonly execution: Execution
  /** The innermost guarded call of this execution that the current one is inside of. */
  readonly frame: Frame | undefined
}

const inside = new AsyncLocalStorage<Inside>()
/** By the notes of the task; a retry policy executes a task again with the same notes. */
const known = new WeakMap<object, { attempt: number; execution: Execution }>()

/** Runs what belongs to an execution, so that tasks below it find it. */
export function inExecution<T>(execution: Execution, fn: () => T): T {
  return inside.run({ execution, frame: undefined }, fn)
}

/**
 * The execution that a call belongs to.
 *
 * @param unsaved - The task is of a graph that saves no checkpoints, while a graph above it does.
 */
export function executionOf({ configurable = {}, executionInfo, metadata }: TaskConfig = {}, unsaved = false): Execution {
  const scratchpad = configurable['__pregel_scratchpad'] as Scratchpad | undefined
  if (scratchpad === undefined) return createExecution({ name: undefined, saver: undefined, scratchpad: undefined, isCall: false })
  const before = known.get(scratchpad)
  // Inside of a tool the config has no attempt any more: it is that of the task around it.
  const attempt = executionInfo?.nodeAttempt ?? before?.attempt ?? 1
  if (before?.attempt === attempt) return before.execution
  const saver = configurable['__pregel_checkpointer'] as Saver | undefined
  // Each attempt of a retry policy is the same task.
  const name = before === undefined ? nameOf(configurable, metadata, saver, unsaved) : before.execution.name
  // LangGraph marks the path of a `task()` like this.
  const path = metadata?.['langgraph_path']
  const execution = createExecution({ name, saver, scratchpad, isCall: Array.isArray(path) && path.at(-1) === true }, unsaved)
  known.set(scratchpad, { attempt, execution })
  return execution
}

function nameOf(
  { thread_id: thread, checkpoint_ns: namespace }: Readonly<Record<string, unknown>>,
  { langgraph_step: step, langgraph_node: node, langgraph_path: path }: Readonly<Record<string, unknown>> = {},
  saver: Saver | undefined,
  unsaved: boolean,
): string | undefined {
  if (saver === undefined || typeof thread !== 'string') return undefined
  if (!unsaved) return JSON.stringify([thread, namespace])
  const parent = inside.getStore()?.execution
  if (parent?.name === undefined) return undefined
  const where = JSON.stringify([parent.name, step, node, path])
  return JSON.stringify([where, parent.nth(where)])
}

function createExecution(task: Pick<Execution, 'name' | 'saver' | 'scratchpad' | 'isCall'>, unsaved = false): Execution {
  const { scratchpad } = task
  const store = inside.getStore()?.execution
  const around = store?.scratchpad === scratchpad ? undefined : store
  const counts = new Map<string, number>()
  const busy = new Set<Frame>()
  const waiting = new Set<{ readonly frame: Frame | undefined; readonly resolve: () => void }>()
  const current = (): Frame | undefined => {
    const around = inside.getStore()
    return around?.execution === execution ? around.frame : undefined
  }
  const wake = (): void => {
    if (waiting.size === 0) return
    // A set, since calls that wait may be inside of the same one, which is one that does not get on.
    const idle = new Set<Frame>()
    for (const { frame } of waiting) for (let each = frame; each !== undefined; each = each.around) idle.add(each)
    if ([...busy].some((frame) => !idle.has(frame))) return
    for (const waiter of waiting) waiter.resolve()
    waiting.clear()
  }
  const execution: Execution = {
    ...task,
    around,
    // As it begins: the first question that is answered takes its value away. LangGraph hands it down to graphs that
    // save checkpoints only.
    resumedWith: {
      next: scratchpad?.nullResume !== undefined || (unsaved && around?.resumedWith.next === true),
      own: scratchpad?.resume.length ?? 0,
    },
    nth(what) {
      const count = (counts.get(what) ?? 0) + 1
      counts.set(what, count)
      return count
    },
    async working(fn) {
      const frame: Frame = { around: current() }
      busy.add(frame)
      try {
        return await inside.run({ execution, frame }, fn)
      } finally {
        busy.delete(frame)
        wake()
      }
    },
    siblingsDone: () =>
      new Promise((resolve) => {
        waiting.add({ frame: current(), resolve })
        wake()
      }),
  }
  return execution
}

/** LangGraph's own signals (interrupts, commands to a parent, draining) travel as errors, and are not ours to touch. */
export function isBubbleUp(error: unknown): boolean {
  return (error as { is_bubble_up?: unknown } | null | undefined)?.is_bubble_up === true
}

/** A command for a graph further out, which ends what is inside of it as an error, although it is a result. */
export function isParentCommand(error: unknown): error is ParentCommand {
  return isBubbleUp(error) && (error as Error).name === 'ParentCommand'
}

/** The task pauses, or the process drains: it will be executed again, from its top. */
export function isPause(error: unknown): boolean {
  return isBubbleUp(error) && ['GraphInterrupt', 'NodeInterrupt', 'GraphDrained'].includes((error as Error).name)
}
