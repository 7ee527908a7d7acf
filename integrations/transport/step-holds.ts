// The holds of one streamed call whose output is held in steps. They end together: what the call used fills them in
// order, and what nobody knows charges all of them.

import { AsyncLocalStorage } from 'node:async_hooks'
import type { Amounts } from '../../src/lib/amounts.ts'
import type { Action } from '../../src/waist/action.ts'
import type { Hold, Settlement } from '../../src/waist/hold.ts'
import type { Scope } from '../../src/waist/scope.ts'
import { MIN_OUTPUT_TOKENS, type ModelCall } from '../common/model-call.ts'

/** Holds that grow with the output of a call, and end as one. */
export interface StepHolds {
  readonly settlement: Settlement
  /**
   * Sees to it that more is held than this many bytes of output, all choices together: a token has at least one byte.
   *
   * @throws {Refusal} When the next step is refused.
   */
  cover(outputBytes: number, signal?: AbortSignal): Promise<void>
}

/** How long a further step waits for money that others hold, ms: the model goes on generating meanwhile. */
const STEP_WAIT_MS = 250

interface Step {
  readonly amounts: Amounts
  readonly end: Settlement
}

/** The action of a call, with its first step only. */
export function inSteps(action: Action, stepTokens: number): Action {
  return action.output === undefined ? action : { ...action, output: { ...action.output, stepTokens } }
}

/** @param first - The hold of {@link inSteps}, claimed by nobody. */
export function createStepHolds(scope: Scope, { action, bound }: ModelCall, first: Hold, stepTokens: number): StepHolds {
  const steps: Step[] = [{ amounts: first.amounts, end: first.claim()! }]
  const most = first.caps.maxOutputTokens ?? bound.outputTokensPerChoice
  let held = Math.min(stepTokens, most)
  let ended = false
  // A stream is read by whoever reads it; a refusal belongs to the run that has made the call.
  const here = AsyncLocalStorage.snapshot()

  const isShort = (seen: number): boolean => !ended && held < most && held - seen < stepTokens / 2

  async function grow(signal: AbortSignal | undefined): Promise<void> {
    const tokens = Math.min(stepTokens, most - held)
    const output = { tokens, minTokens: Math.min(tokens, MIN_OUTPUT_TOKENS), perToken: action.output!.perToken }
    const { worst: _, output: __, ...same } = action
    const hold = await here(() => scope.begin({ ...same, output }, { signal, waitMs: STEP_WAIT_MS }))
    const step = { amounts: hold.amounts, end: hold.claim()! }
    // The call has ended while this waited.
    if (ended) return step.end.release('the stream had ended')
    held += hold.caps.maxOutputTokens ?? tokens
    steps.push(step)
  }

  const endAll = async (end: (step: Settlement) => Promise<void>): Promise<void> => {
    ended = true
    await Promise.all(steps.map((step) => end(step.end)))
  }

  return {
    async cover(outputBytes, signal) {
      while (isShort(Math.ceil(outputBytes / bound.choices))) await grow(signal)
    },
    settlement: {
      async settle(usage, answer) {
        ended = true
        const parts = shares(
          usage,
          steps.map(({ amounts }) => amounts),
        )
        await Promise.all(steps.map(({ end }, index) => end.settle(parts[index]!, answer)))
      },
      release: (reason) => endAll((end) => end.release(reason)),
      charge: (reason) => endAll((end) => end.charge(reason)),
    },
  }
}

/** What was used, by hold: each is filled before the next one, and what is beyond all of them is an overrun of the last. */
function shares(usage: Amounts, holds: readonly Amounts[]): readonly Amounts[] {
  const parts = holds.map((amounts) => Object.fromEntries(Object.keys(amounts).map((dimension) => [dimension, 0])))
  for (const [dimension, used] of Object.entries(usage)) {
    let rest = used
    const having = holds.flatMap((amounts, index) => (dimension in amounts ? [index] : []))
    for (const index of having) {
      const share = index === having.at(-1) ? rest : Math.min(rest, holds[index]![dimension]!)
      parts[index]![dimension] = share
      rest -= share
    }
    // What no budget limits is on record with the first.
    if (having.length === 0) parts[0]![dimension] = rest
  }
  return parts
}
