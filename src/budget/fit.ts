// What fits, and what to say when it does not. Money that others hold is not gone: a call waits for it. Money
// that is spent, in suspense or moved to children does not come back by itself: a call is refused at once.

import { amountOf, formatAmount, type Amounts } from '../lib/amounts.ts'
import { Refusal } from '../lib/errors.ts'
import type { OutputBound } from '../waist/action.ts'
import type { Leg } from './legs.ts'
import { isStandard, type Standing } from './levels.ts'
import { isRate, parseWindowPath } from './windows/window.ts'

/** What is left for an action whose batch was refused. */
export type Fit =
  /** It fits with this many output tokens. */
  | { readonly fit: 'now'; readonly outputTokens: number }
  /** It would fit if what others hold came back. */
  | { readonly fit: 'later'; readonly leg: Leg; readonly standing: Standing }
  | { readonly fit: 'never'; readonly leg: Leg; readonly standing: Standing }

/** What an action needs at least, and what each further output token adds. */
export interface Need {
  /** Without any output token. */
  readonly fixed: Amounts
  readonly output: OutputBound
}

/** Finds the most output tokens that fit at every level, or the leg that binds. `legs` are those of the least need. */
export function fitOf(legs: readonly Leg[], standings: readonly Standing[], { fixed, output }: Need): Fit {
  let outputTokens = output.tokens
  let later: Fit | undefined
  let never: Fit | undefined
  for (const [index, leg] of legs.entries()) {
    if (leg.over) continue
    const standing = standings[index]!
    const room = standing.free - leg.kept
    // A window ends by itself; what does not is what has to be told.
    if (leg.amount > room + standing.out)
      never = never === undefined || leg.level.endsAtMs === undefined ? { fit: 'never', leg, standing } : never
    else if (leg.amount > room) later ??= { fit: 'later', leg, standing }
    const each = amountOf(output.perToken, leg.dimension)
    if (each > 0) outputTokens = Math.min(outputTokens, Math.floor((room - amountOf(fixed, leg.dimension)) / each))
  }
  // Of several levels without room the lowest is named: it is the one that its owner can change.
  return never ?? later ?? { fit: 'now', outputTokens }
}

const LAST_ANSWER = 'The budget for this work is used up but for a last answer. Stop now and answer with what you already have.'

/** Says no for money, naming the level that binds and the smallest change that would pass. */
export function budgetRefusal(
  fit: Exclude<Fit, { fit: 'now' }>,
  about: { agent: string; resource: string; smallest: Amounts; waitedMs: number },
): Refusal {
  const { leg, standing } = fit
  const { agent, resource, smallest, waitedMs } = about
  const { limit, spent, free, out, suspense, cut } = standing
  const write = (amount: number): string => formatAmount(leg.dimension, amount)
  const short = leg.amount - (free - leg.kept)
  const window = parseWindowPath(leg.level.path)
  const { endsAtMs } = leg.level
  const ends = endsAtMs === undefined ? undefined : new Date(endsAtMs).toISOString()
  const wouldPass = `raise \`${leg.dimension}\` of \`${leg.level.path}\` to ${write(limit + short)}${ends === undefined ? '' : `, or wait until ${ends}`}`
  const facts = `limit ${write(limit)}, spent ${write(spent)}, held by others ${write(out)}, in suspense ${write(suspense)}, free ${write(free)}${cut === 0 ? '' : `, still to be cut ${write(cut)}`}`
  const bound = window === undefined ? {} : { window: window.name, ...(endsAtMs === undefined ? {} : { endsAtMs }) }
  const amounts = { dimension: leg.dimension, limit, spent, free, out, suspense, needed: leg.amount }
  const budget = { budget: window?.home ?? leg.level.path, ...bound, ...amounts }
  if (fit.fit === 'later') {
    const message = `Budget \`${leg.level.path}\` is busy: ${resource} needs ${write(leg.amount)} ${leg.dimension} (${facts}); waited ${waitedMs} ms. Raise \`waitMs\`, or ${wouldPass}.`
    return new Refusal('ERR_BUDGET_BUSY', message, { agent, resource, budget, wouldPass })
  }
  // Over for the run, not just for this call: not even the smallest one would fit if everything came back.
  // A counter of one tool says nothing about the rest of the run.
  const endsRun = isStandard(leg.dimension) && !isRate(leg.level.path) && Math.max(1, amountOf(smallest, leg.dimension)) > free + out - cut
  const message = `Budget \`${leg.level.path}\` has no room: ${resource} needs ${write(leg.amount)} ${leg.dimension} (${facts}). To pass: ${wouldPass}.`
  const last = leg.kept - cut >= Math.max(1, amountOf(smallest, leg.dimension)) ? { wrapUp: true, modelMessage: LAST_ANSWER } : {}
  return new Refusal('ERR_BUDGET_EXCEEDED', message, { agent, resource, budget, wouldPass, endsRun, ...last })
}
