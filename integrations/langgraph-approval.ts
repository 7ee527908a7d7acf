// An `ask` in a graph with a checkpointer pauses it: the question is LangGraph's `interrupt`, and the graph goes on
// with `Command({ resume })`. What the person resumes with decides nothing. Only a record of `kernel.approve` for
// exactly these arguments lets the call run; without one, being resumed means no.

import { interrupt } from '@langchain/langgraph'
import type { Execution, Scratchpad, TaskConfig } from './langgraph-task.ts'

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
  /**
   * Earlier questions of the same task that were answered. LangGraph keeps one question for each task, and runs the
   * task again from its top; without this list two calls that were both turned down would ask in turns for ever.
   */
  readonly answered?: readonly string[]
}

/** What the checkpointer has of the questions of a task. */
interface Known {
  /** Of the question that it asked last, if that was one of ours. */
  readonly key: string | undefined
  readonly answered: readonly string[]
  /**
   * True when the task is being run because somebody has answered its last question. LangGraph gives the value of the
   * last `Command` again to a mere `invoke(null)` after it, so that counts as an answer too: as a no.
   */
  readonly resumed: boolean
}

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
  const scratchpad = execution.scratchpad!
  const pending = await pendingQuestion(execution, config)
  const key = keyOf(question)
  const { resumed } = pending
  if (pending.answered.includes(key) || (resumed && pending.key === key)) return
  const answered = resumed && pending.key !== undefined ? [...pending.answered, pending.key] : pending.answered
  // What runs beside it would go on while the graph rests, and be in doubt when the graph is resumed.
  await execution.siblingsDone()
  pause({ ...question, ...(answered.length === 0 ? {} : { answered }) }, scratchpad)
}

/** Takes the resume value that answers a question, whatever becomes of its call: no other interrupt may get it. */
export async function settleQuestion(
  question: Pick<ApprovalQuestion, 'tool' | 'argsHash' | 'nth'>,
  execution: Execution,
  config: TaskConfig,
): Promise<void> {
  const { next, own } = execution.resumedWith
  if (!canPause(execution) || (!next && own === 0)) return
  const { key, resumed } = await pendingQuestion(execution, config)
  if (!resumed || key !== keyOf(question)) return
  const scratchpad = execution.scratchpad!
  if (next) scratchpad.consumeNullResume()
  // Addressed by the id of the interrupt, it is the last of the task's own.
  else scratchpad.resume.pop()
}

function keyOf({ tool, argsHash, nth = 1 }: Pick<ApprovalQuestion, 'tool' | 'argsHash' | 'nth'>): string {
  return JSON.stringify([tool, argsHash, nth])
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

/** The question that this task asked last, as the checkpointer has it. */
async function pendingQuestion({ saver, resumedWith }: Execution, { configurable = {} }: TaskConfig): Promise<Known> {
  const namespace = configurable['checkpoint_ns'] as string
  const parent = namespace.split('|').slice(0, -1).join('|')
  const checkpoint = (configurable['checkpoint_map'] as Record<string, string> | undefined)?.[parent]
  const task = configurable['__pregel_task_id']
  const where = { thread_id: configurable['thread_id'], checkpoint_ns: parent, checkpoint_id: checkpoint }
  const tuple = await saver!.getTuple({ configurable: where })
  const writes = (channel: string): unknown[] =>
    (tuple?.pendingWrites ?? []).filter(([id, to]) => id === task && to === channel).map(([, , value]) => value)
  const resumed = resumedWith.next || resumedWith.own > writes('__resume__').flat().length
  const value = (writes('__interrupt__')[0] as { value?: Partial<ApprovalQuestion> } | undefined)?.value
  if (typeof value?.tool !== 'string' || typeof value.argsHash !== 'string') return { key: undefined, answered: [], resumed }
  return { key: keyOf(value as ApprovalQuestion), answered: value.answered ?? [], resumed }
}
