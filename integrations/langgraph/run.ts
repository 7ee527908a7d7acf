// One invocation of a guarded graph, the attempts of its nodes, and the handoffs that tools have made for nodes that
// have not started yet. What nobody starts on goes back as soon as that is certain: a budget must not shrink by it.

import { AsyncLocalStorage } from 'node:async_hooks'
import type { Handoff } from '../../src/waist/handoff.ts'
import type { Scope } from '../../src/waist/scope.ts'
import type { GraphHandoff } from './handoff.ts'
import { isParentCommand, type TaskConfig } from './task.ts'

/** One invocation of a guarded graph. */
export interface GraphRun {
  /** Agents that it hands to, by the name of their node. */
  readonly handoffs: Readonly<Record<string, GraphHandoff>>
  /** Where it was invoked, inside of another guarded graph. */
  readonly around: Place | undefined
  /** Hands off: what its agents get comes out of this scope's budget. */
  readonly scope: Scope
  /** Made by handoff tools, for nodes that have not started yet; the oldest first. */
  readonly made: Made[]
  /** Attempts at work, by the id of their task. */
  readonly attempts: Map<unknown, Attempt>
  /** Handoffs that are being closed. */
  readonly closing: Set<Promise<void>>
  /** It is over: what a tool that is still at work makes for a node will not be picked up. */
  ended: boolean
  /** Thrown to its caller: a tool node makes an answer to the model of what a tool throws, and this is not for it. */
  misuse: TypeError | undefined
}

/** One attempt of a node of the graph, or of a graph that is a node. */
interface Attempt {
  /** Of the guarded graph; what it makes is picked up in the next one. */
  readonly step: number
  /** That of the node which is the graph with this node. */
  readonly around: Attempt | undefined
  over: boolean
}

interface Made {
  readonly to: string
  readonly handoff: Handoff
  readonly by: Attempt
}

/** Where something runs: in a run of a guarded graph, in an attempt of one of its nodes. */
export interface Place {
  readonly run: GraphRun
  readonly attempt: Attempt
}

const places = new AsyncLocalStorage<Place>()

/** The innermost guarded graph around the current task. */
export function currentPlace(): Place | undefined {
  return places.getStore()
}

/** Begins an invocation of a guarded graph. */
export function createGraphRun({ handoffs, around, scope }: Pick<GraphRun, 'handoffs' | 'around' | 'scope'>): GraphRun {
  return { handoffs, around, scope, made: [], attempts: new Map(), closing: new Set(), ended: false, misuse: undefined }
}

/** Runs `fn` as an invocation of a guarded graph. */
export function inGraphRun<T>(run: GraphRun, fn: () => T): T {
  return places.run({ run, attempt: { step: -Infinity, around: undefined, over: false } }, fn)
}

/** Brings back what was moved for nodes that never started. */
export async function endGraphRun(run: GraphRun): Promise<void> {
  run.ended = true
  discard(run, () => true)
  await Promise.all(run.closing)
}

/**
 * Runs an attempt of a node. What its tools made for other nodes goes back when it fails, or is attempted again.
 *
 * @param outermost - It is a node of the guarded graph, and not of a graph that is a node of it.
 */
export async function inAttempt<T>(
  { configurable, maxConcurrency, metadata }: TaskConfig,
  outermost: boolean,
  fn: () => Promise<T>,
): Promise<T> {
  const place = currentPlace()
  if (place === undefined) return fn()
  const { run, attempt: around } = place
  const task = configurable?.['__pregel_task_id']
  const attempt: Attempt = outermost
    ? { step: Number(metadata?.['langgraph_step']), around: undefined, over: false }
    : { step: around.step, around, over: false }
  // One that a time limit has ended may still be at work.
  const before = run.attempts.get(task)
  if (before !== undefined) leave(run, before)
  run.attempts.set(task, attempt)
  if (outermost) discardUnused(run, attempt, maxConcurrency)
  try {
    return await places.run({ run, attempt }, fn)
  } catch (error) {
    // A command of a graph inside of the node ends that graph, and is what the node has to say.
    if (!isParentCommand(error)) leave(run, attempt)
    throw error
  } finally {
    attempt.over = true
    if (run.attempts.get(task) === attempt) run.attempts.delete(task)
  }
}

function leave(run: GraphRun, attempt: Attempt): void {
  attempt.over = true
  discard(run, ({ by }) => chainOf(by).includes(attempt))
}

function chainOf(attempt: Attempt): Attempt[] {
  return attempt.around === undefined ? [attempt] : [attempt, ...chainOf(attempt.around)]
}

/** Closes what nobody has started on, now that the step for it has begun. */
function discardUnused(run: GraphRun, { step }: Attempt, maxConcurrency: number | undefined): void {
  if (run.made.length === 0) return
  // All nodes of a step start at once, so after this turn none will any more; unless they wait for one another.
  if (maxConcurrency !== undefined) discard(run, ({ by }) => by.step < step - 1)
  else setImmediate(() => discard(run, ({ by }) => by.step < step))
}

function discard(run: GraphRun, isUnused: (made: Made) => boolean): void {
  for (const made of run.made.filter(isUnused)) {
    run.made.splice(run.made.indexOf(made), 1)
    const closing: Promise<void> = close(made.handoff, run.scope).finally(() => run.closing.delete(closing))
    run.closing.add(closing)
  }
}

/** Keeps what a tool has made for a node of the next step; false when nobody will pick it up. */
export function keepForNode({ run, attempt }: Place, to: string, handoff: Handoff): boolean {
  if (run.ended || chainOf(attempt).some(({ over }) => over)) return false
  run.made.push({ to, handoff, by: attempt })
  return true
}

/** What a tool has made for the node that starts here. */
export function startsOn(place: Place | undefined, to: string): Handoff | undefined {
  if (place === undefined) return undefined
  const { made } = place.run
  const index = made.findIndex((one) => one.to === to && one.by.step !== place.attempt.step)
  return index < 0 ? undefined : made.splice(index, 1)[0]!.handoff
}

/** The work is done and paid for: that the store did not take the closing must not lose it. */
export async function close(handoff: Handoff, giver: Scope): Promise<void> {
  try {
    await handoff.close()
  } catch (error) {
    const message = `The handoff to \`${handoff.scope.agent}\` could not be closed, so what is left of \`${handoff.scope.budget}\` did not come back: ${String(error)}`
    giver.report({ type: 'escape', message })
  }
}
