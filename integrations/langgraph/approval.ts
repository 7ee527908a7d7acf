// An `ask` in a graph with a checkpointer pauses it: the question is LangGraph's `interrupt`, and the graph goes on
// with `Command({ resume })`. What the person resumes with decides nothing. Only a record of `kernel.approve` for
// exactly these arguments lets the call run; without one, being resumed means no.

import { interrupt } from '@langchain/langgraph'
import type { Execution, PendingWrite, Scratchpad, TaskConfig } from './task.ts'

/** The value of an interrupt that asks for an approval: what `kernel.approve` takes, and what a person wants to see. */
export interface ApprovalQuestion {
  readonly tool: string
  /** As the tool gets them. */
  readonly args: unknown
  /** For `kernel.approve`. */
  readonly argsHash: string
  readonly agent: string
  /** For the person who decides. */
  readonly reason: string
  /** Which of equal calls in one task it is about, from 2 on. */
  readonly nth?: number
  /** Names the call: the same whenever it is asked about, and another for every other call. */
  readonly call: string
}

/** What the checkpointer has of the questions of a task. */
interface Known {
  /** The call that was asked about last, if that question was one of ours. */
  readonly pending: string | undefined
  /**
   * True when the task is being run because somebody has answered its last question. LangGraph gives the value of the
   * last `Command` again to a mere `invoke(null)` after it, so that counts as an answer too: as a no.
   */
  readonly resumed: boolean
  /** True when the value of the answer is the last of the task's own, having been addressed by the id of its question. */
  readonly byId: boolean
  /** Calls whose questions were answered, and not approved. */
  readonly declined: readonly string[]
  /** Keeps that a question was answered. */
  readonly decline: (call: string) => Promise<void>
}

/**
 * Channel of the writes that keep which questions were answered. LangGraph keeps one question for each task, the last,
 * and runs the task again from its top: without these, calls that were turned down would be asked about for ever, in
 * turns. Each is under the name of its call, which is no task of the graph, so that LangGraph passes over it.
 */
const DECLINED = '__holdfast_declined__'

/** True when a task of this kind can pause and be resumed. */
export function canPause({ name, scratchpad }: Execution): boolean {
  return name !== undefined && scratchpad !== undefined
}

/**
 * Pauses the graph with a question, unless it was asked and answered before; then it returns, and the answer is no.
 *
 * @throws {GraphInterrupt} As `interrupt` of LangGraph.
 */
export async function ask(question: ApprovalQuestion, execution: Execution, config: TaskConfig): Promise<void> {
  const { pending, resumed, declined, decline } = await knownOf(execution, config)
  if (resumed && pending !== undefined && !declined.includes(pending)) await decline(pending)
  if (declined.includes(question.call) || (resumed && pending === question.call)) return
  // What runs beside it would go on while the graph rests, and be in doubt when the graph is resumed.
  await execution.siblingsDone()
  pause(question, execution.scratchpad!)
}

/** Takes the resume value that answers a question, whatever becomes of its call: no other interrupt may get it. */
export async function settleQuestion(call: string, execution: Execution, config: TaskConfig): Promise<void> {
  const { next, own } = execution.resumedWith
  if (!canPause(execution) || (!next && own === 0)) return
  const { pending, resumed, byId } = await knownOf(execution, config)
  if (!resumed || pending !== call) return
  if (next) takeNext(execution)
  else if (byId) execution.scratchpad!.resume.pop()
}

/**
 * The value for whoever asks first is handed down to tasks and graphs that a task starts, to each its own copy. So it
 * is taken from all that this one is inside of, as far as `guardGraph` sees them; and from the writes of their loops,
 * which later tasks are prepared with. There only once: LangGraph removes another write when it is gone already.
 */
function takeNext(execution: Execution): void {
  let isGone = false
  for (let each: Execution | undefined = execution; each !== undefined; each = each.around) {
    const { scratchpad, isCall, around } = each
    // A `task()` shares the loop of the task around it, and another one of that task may have taken it.
    isGone ||= isCall && around !== undefined && around.scratchpad?.nullResume === undefined
    if (scratchpad?.nullResume !== undefined) {
      if (!isGone) scratchpad.consumeNullResume()
      scratchpad.nullResume = undefined
      isGone = true
    }
    if (!isCall) isGone = false
  }
}

/** `interrupt` with the answers to other questions out of its sight: it would take the first one for its own. */
function pause(question: ApprovalQuestion, scratchpad: Scratchpad): void {
  const { resume, nullResume, interruptCounter } = scratchpad
  Object.assign(scratchpad, { resume: [], nullResume: undefined })
  try {
    interrupt(question)
  } finally {
    Object.assign(scratchpad, { resume, nullResume, interruptCounter })
  }
}

/**
 * What is known of the questions of a task: the writes of it that lie with the checkpoint which its loop began with.
 * Those of a `task()` lie with that of the task around it, of whose questions a person sees one at a time. A graph that
 * saves none has new tasks whenever it is run again; what they asked is found with the task around it as well.
 */
async function knownOf({ saver, resumedWith }: Execution, { configurable = {} }: TaskConfig): Promise<Known> {
  const parts = (configurable['checkpoint_ns'] as string).split('|')
  const checkpoints = (configurable['checkpoint_map'] ?? {}) as Readonly<Record<string, string>>
  for (let depth = parts.length - 1; depth >= 0; depth--) {
    const namespace = parts.slice(0, depth).join('|')
    const where = { thread_id: configurable['thread_id'], checkpoint_ns: namespace, checkpoint_id: checkpoints[namespace] }
    const tuple = checkpoints[namespace] === undefined ? undefined : await saver!.getTuple({ configurable: where })
    if (tuple === undefined) continue
    const writes = tuple.pendingWrites ?? []
    const [asked] = valuesOf(writes, taskOf(parts[depth]!), '__interrupt__') as Asked[]
    const given = valuesOf(writes, configurable['__pregel_task_id'], '__resume__').flat().length
    const answers = (configurable['__pregel_resume_map'] ?? {}) as Readonly<Record<string, unknown>>
    const byId = resumedWith.own > given
    return {
      pending: asked?.value?.call,
      resumed: resumedWith.next || byId || (asked?.id !== undefined && Object.hasOwn(answers, asked.id)),
      byId,
      declined: writes.filter(([, channel]) => channel === DECLINED).map(([call]) => call),
      decline: (call) => saver!.putWrites({ configurable: where }, [[DECLINED, true]], call),
    }
  }
  return { pending: undefined, resumed: false, byId: false, declined: [], decline: async () => {} }
}

interface Asked {
  readonly id?: string
  readonly value?: { readonly call?: string }
}

function valuesOf(writes: readonly PendingWrite[], task: unknown, channel: string): unknown[] {
  return writes.filter(([id, to]) => id === task && to === channel).map(([, , value]) => value)
}

/** A namespace is made of `<node>:<task id>`. */
function taskOf(part: string): string {
  return part.slice(part.lastIndexOf(':') + 1)
}
