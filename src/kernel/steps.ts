// Output that is held in steps: a model call begins with money for a part of its output, and whoever counts what comes
// begins the rest. What was generated and not yet seen is then held by nothing, so a hard promise rules it out.

import { assertAmount } from '../lib/amounts.ts'
import type { Grant } from '../budget/hold-writer.ts'
import type { Action, ProposedAction } from '../waist/action.ts'
import type { Promised } from './promise.ts'

/** @throws {TypeError} {RangeError} For steps that are none, and where a limit is hard. */
export function assertSteps({ output }: Action, promise: Promised): void {
  const { stepTokens } = output ?? {}
  if (stepTokens === undefined) return
  assertAmount('action.output.stepTokens', stepTokens)
  if (stepTokens === 0) throw new RangeError('`action.output.stepTokens` must be at least 1.')
  if (promise === 'hard') throw new TypeError(STEPS_ON_HARD)
}

const STEPS_ON_HARD =
  "Output in steps needs openKernel({ promise: 'bounded' }): what a model has generated and nobody has seen yet is held by nothing, so a hard limit could be exceeded."

/** The action whose money is taken now: with the first step of its output only. */
export function stepped(action: ProposedAction): ProposedAction {
  const { output } = action
  if (output?.stepTokens === undefined) return action
  const tokens = Math.min(output.tokens, output.stepTokens)
  return { ...action, output: { ...output, tokens, minTokens: Math.min(output.minTokens, tokens) } }
}

/**
 * Output tokens that the call may use, per choice: all that the gates allow when its first step was granted whole; else
 * the budget has no second one, and the call is narrowed as any other.
 */
export function outputOf({ outputTokens }: Grant, { output }: ProposedAction): number {
  if (output?.stepTokens === undefined) return outputTokens
  return outputTokens < Math.min(output.stepTokens, output.tokens) ? outputTokens : output.tokens
}
