// What fits. Money that others hold is not gone: a call waits for it. Money that is spent, in suspense or moved to
// children does not come back by itself: a call is refused at once.

import { amountOf, type Amounts } from '../lib/amounts.ts'
import type { OutputBound } from '../waist/action.ts'
import type { Leg } from './legs.ts'
import type { Standing } from './levels.ts'

/** What is left for an action whose batch was refused: it fits with this many output tokens, or it does not fit. */
export type Fit = { readonly fit: 'now'; readonly outputTokens: number } | Misfit

/** One leg that has not enough free now. */
export interface Short {
  readonly leg: Leg
  readonly standing: Standing
}

/** It does not fit: the leg that binds, and every one that has not enough free now. */
export interface Misfit extends Short {
  /** It would fit if what others hold came back; or not even then. */
  readonly fit: 'later' | 'never'
  readonly short: readonly Short[]
}

/** What an action needs at least, and what each further output token adds. */
export interface Need {
  /** Without any output token. */
  readonly fixed: Amounts
  readonly output: OutputBound
}

/** Finds the most output tokens that fit at every level, or the leg that binds. `legs` are those of the least need. */
export function fitOf(legs: readonly Leg[], standings: readonly Standing[], { fixed, output }: Need): Fit {
  let outputTokens = output.tokens
  const short: Short[] = []
  let later: Short | undefined
  let never: Short | undefined
  for (const [index, leg] of legs.entries()) {
    if (leg.over) continue
    const standing = standings[index]!
    const room = standing.free - leg.kept
    if (leg.amount > room) short.push({ leg, standing })
    // A window ends by itself; what does not is what has to be told.
    if (leg.amount > room + standing.out) never = never === undefined || leg.level.endsAtMs === undefined ? { leg, standing } : never
    else if (leg.amount > room) later ??= { leg, standing }
    const each = amountOf(output.perToken, leg.dimension)
    if (each > 0) outputTokens = Math.min(outputTokens, Math.floor((room - amountOf(fixed, leg.dimension)) / each))
  }
  // Of several levels without room the lowest is named: it is the one that its owner can change.
  const binding = never ?? later
  return binding === undefined ? { fit: 'now', outputTokens } : { fit: never === undefined ? 'later' : 'never', ...binding, short }
}
