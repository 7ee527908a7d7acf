// Which scope pays at the moment: that of the run, or that of the agent it was handed to. A run of the SDK has one
// agent at work at a time, so its frame is told of each change, and every model and tool of the run looks here.

import { AsyncLocalStorage } from 'node:async_hooks'
import { ambient } from '../../src/lib/ambient.ts'
import type { Handoff } from '../../src/waist/handoff.ts'
import type { Scope, ScopeSource } from '../../src/waist/scope.ts'
import { scopeOf } from '../common/scope-source.ts'

/** An agent at work, and what it works on. */
export interface Step {
  readonly agent: string
  readonly scope: Scope
  /** What was moved for it; `undefined` where it spends from whoever handed over. */
  readonly handoff: Handoff | undefined
}

/** One run of a guarded runner. */
export interface Frame {
  /** That of its runner: guards that were made with another one are not part of this run. */
  readonly source: ScopeSource
  /** From the first agent to the one at work. */
  readonly steps: Step[]
  /** What the agent has to know of handoffs that were refused, by the agent they were for. */
  readonly refused: Map<string, string>
}

const frames = new AsyncLocalStorage<Frame>()

/** Runs `fn` as a run with this frame. */
export function inFrame<T>(frame: Frame, fn: () => T): T {
  return frames.run(frame, fn)
}

/** The run that this task belongs to, of a runner with this source. */
export function frameOf(source: ScopeSource): Frame | undefined {
  const frame = frames.getStore()
  return frame?.source === source ? frame : undefined
}

/**
 * The scope that pays now.
 *
 * @throws {Refusal} `ERR_NO_SCOPE`, as `scopeOf`.
 */
export function payingScope(source: ScopeSource): Scope {
  const steps = frameOf(source)?.steps ?? []
  const { scope: entered } = ambient()
  // Inside of a tool somebody may have entered another scope; where none was given, that one counts.
  const isElsewhere = source === undefined && !steps.some(({ scope }) => scope === entered)
  return (isElsewhere ? undefined : steps.at(-1)?.scope) ?? scopeOf(source)
}
