// What a refusal for money says: the budget that binds, who has what of it, and the smallest change of limits that
// would let the very same call pass.

import { amountOf, formatAmount, type Amounts } from '../lib/amounts.ts'
import { Refusal, type BudgetHolder, type LimitToPass } from '../lib/errors.ts'
import type { Store } from '../stores/store.ts'
import type { Misfit, Short } from './fit.ts'
import { readHolders } from './holders.ts'
import { isStandard } from './levels.ts'
import { homeOf, isRate, isRolling, parseWindowPath } from './windows/window.ts'

/** What a refusal is about. */
export interface Refused {
  readonly agent: string
  readonly resource: string
  /** The smallest call of the kind. */
  readonly smallest: Amounts
  readonly waitedMs: number
}

/** Says no for money, naming the level that binds, who holds the rest of it, and the smallest change that would pass. */
export type RefuseForMoney = (fit: Misfit, about: Refused) => Promise<Refusal>

const LAST_ANSWER = 'The budget for this work is used up but for a last answer. Stop now and answer with what you already have.'

/** Makes the refusals of a process. A look at the holders that fails makes a poorer refusal, never another error. */
export function createRefusals(store: Store, boot: string, onTrouble: (error: unknown) => void): RefuseForMoney {
  const unread = (error: unknown): readonly BudgetHolder[] => {
    onTrouble(error)
    return []
  }
  return async (fit, about) => {
    const { leg, standing } = fit
    const isHeld = standing.out + standing.suspense > 0
    const holders = isHeld ? await readHolders(store, leg.key).catch(unread) : []
    return budgetRefusal(fit, about, holders, boot)
  }
}

function budgetRefusal(
  { fit, leg, standing, short }: Misfit,
  { agent, resource, smallest, waitedMs }: Refused,
  holders: readonly BudgetHolder[],
  boot: string,
): Refusal {
  const { limit, spent, free, out, suspense, cut } = standing
  const write = (amount: number): string => formatAmount(leg.dimension, amount)
  const limitsToPass = short.map(limitToPass)
  const changes = limitsToPass.map(describeChange).join(', and ')
  const endsAtMs = Math.max(...short.map(({ leg: { level } }) => level.endsAtMs ?? Infinity))
  const wouldPass = endsAtMs === Infinity ? changes : `${changes}, or wait until ${timeOf(endsAtMs)}`
  const window = parseWindowPath(leg.level.path)
  const facts = `limit ${write(limit)}, spent ${write(spent)}, held by others ${write(out)}, in suspense ${write(suspense)}, free ${write(free)}${cut === 0 ? '' : `, still to be cut ${write(cut)}`}`
  const named = holders.length === 0 ? '' : ` Held by: ${holders.map((holder) => describeHolder(holder, write, boot)).join('; ')}.`
  const budget = {
    budget: homeOf(leg.level.path),
    ...(window === undefined ? {} : { window: window.name, ...(leg.level.endsAtMs === undefined ? {} : { endsAtMs: leg.level.endsAtMs }) }),
    dimension: leg.dimension,
    limit,
    spent,
    free,
    out,
    suspense,
    needed: leg.amount,
    ...(holders.length === 0 ? {} : { holders }),
  }
  const details = { agent, resource, budget, wouldPass, limitsToPass, ...(endsAtMs === Infinity ? {} : { retryAtMs: endsAtMs }) }
  if (fit === 'later') {
    const message = `Budget \`${leg.level.path}\` is busy: ${resource} needs ${write(leg.amount)} ${leg.dimension} (${facts}); waited ${waitedMs} ms. Raise \`waitMs\`, or ${wouldPass}.${named}`
    return new Refusal('ERR_BUDGET_BUSY', message, details)
  }
  // Over for the run, not just for this call: not even the smallest one would fit if everything came back.
  // A counter of one tool says nothing about the rest of the run.
  const least = Math.max(1, amountOf(smallest, leg.dimension))
  const endsRun = isStandard(leg.dimension) && !isRate(leg.level.path) && least > free + out - cut
  const last = leg.kept - cut >= least ? { wrapUp: true, modelMessage: LAST_ANSWER } : {}
  const message = `Budget \`${leg.level.path}\` has no room: ${resource} needs ${write(leg.amount)} ${leg.dimension} (${facts}). To pass: ${wouldPass}.${named}`
  return new Refusal('ERR_BUDGET_EXCEEDED', message, { ...details, endsRun, ...last })
}

/** The limit with which a leg would fit. A limit that is set takes the place of a cut that pends; the slice for a last answer stays. */
function limitToPass({ leg: { level, dimension, amount, kept }, standing: { limit, free, cut } }: Short): LimitToPass {
  const more = amount + kept - cut - free
  const window = parseWindowPath(level.path)
  const isMade = level.version > 0 && !isRolling(window?.name)
  // What is made by its first call has only the limit of its shape, a part of a rolling window that of the window.
  if (!isMade && window !== undefined)
    return { budget: window.home, window: window.name, dimension, limit: amountOf(level.total ?? {}, dimension) + more, how: 'declare' }
  if (!isMade) return { budget: level.shape, dimension, limit: limit + more, how: 'declare' }
  return { budget: level.path, dimension, limit: limit + more, how: level.record.allotment === undefined ? 'setLimit' : 'handoff' }
}

function describeChange({ budget, window, dimension, limit, how }: LimitToPass): string {
  if (!Number.isSafeInteger(limit)) return `ask for less ${dimension}: no counter can hold that much`
  const amount = formatAmount(dimension, limit)
  const where = window === undefined ? `\`${budget}\`` : `the window \`${window}\` of \`${budget}\``
  if (how === 'declare') return `declare \`${dimension}\` of ${where} as ${amount}, with a higher revision`
  return how === 'handoff' ? `hand \`${budget}\` ${amount} ${dimension}` : `raise \`${dimension}\` of \`${budget}\` to ${amount}`
}

function describeHolder(holder: BudgetHolder, write: (amount: number) => string, boot: string): string {
  const { process, host, pid, agent, resource, amount, inSuspense, sinceMs } = holder
  const where = process === boot ? 'this process' : host === undefined ? `process ${process}` : `process ${pid} on ${host}`
  const what = agent === undefined ? `a ${resource}` : `${agent} for ${resource}`
  return `${write(amount)} ${inSuspense ? 'in suspense of ' : ''}${what} in ${where} since ${timeOf(sinceMs)}`
}

/** A time that some other process has written. */
function timeOf(unixMs: number): string {
  const date = new Date(unixMs)
  return Number.isNaN(date.getTime()) ? `t=${unixMs}` : date.toISOString()
}
