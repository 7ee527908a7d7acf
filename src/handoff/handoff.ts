// A handoff: work that goes to another agent together with its money and its limits. The money moves out of the
// budget of who hands off in one commit; the receiver's scope spends no more of it than that, under rules that can
// only be narrower. Closing brings back what is left.

import type { Ledger } from '../budget/ledger.ts'
import { toRecord } from '../budget/declaration.ts'
import { AuthGuardian } from '../guardian/auth-guardian.ts'
import { formatAmount, type Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import { newId } from '../lib/ids.ts'
import { assertName, parsePath } from '../lib/names.ts'
import type { Store } from '../stores/store.ts'
import type { Action } from '../waist/action.ts'
import type { Gate } from '../waist/gate.ts'
import type { Earmark, Handoff, HandoffClosing, HandoffRequest } from '../waist/handoff.ts'
import type { Log } from '../waist/log.ts'
import type { BeginOptions, Scope, ScopeIdentity } from '../waist/scope.ts'
import { formatHandoff } from './message.ts'

/** Format of the records of handoffs. */
export const HANDOFF_FORMAT = 1

/** A handoff as it lies in the store, under `handoff/<id>`. */
export interface HandoffRecord {
  readonly format: typeof HANDOFF_FORMAT
  /** An earmark is one to a later step of the same agent. @default 'handoff' */
  readonly kind?: 'handoff' | 'earmark'
  readonly from: string
  /** The receiver, or the step. */
  readonly to: string
  readonly task: string
  /** Path of the receiver's budget. */
  readonly budget: string
  readonly limits: Amounts
  /** Unix ms by the store's clock. What became of it stands in the record of its budget. */
  readonly atMs: number
}

/** What handoffs stand on. */
export interface HandoffContext {
  readonly store: Store
  readonly ledger: Ledger
  /** Writes a record of what has happened. */
  readonly record: Log['append']
  /** Makes the receiver's scope, with its own gates after those of the kernel. */
  readonly scopeOf: (identity: ScopeIdentity, gates: readonly Gate[]) => Scope
}

/** Longest name of a receiver: its budget is named after it, and an id. */
const MAX_RECEIVER_LENGTH = 100
const FIELDS = new Set(['to', 'budget', 'rules', 'instruction', 'context', 'constraints', 'expectedOutput'])

/** The key of a handoff's record. */
export const handoffKey = (id: string): string => `handoff/${id}`

/** What is to be moved out of the giver's budget. */
interface Share {
  readonly id: string
  /** Path of the allotment. */
  readonly path: string
  readonly limits: Amounts
}

/**
 * Makes a handoff.
 *
 * @param gates - Those that the giver's scope has beside the kernel's; the receiver has to pass them too.
 */
export async function openHandoff(
  giver: Scope,
  gates: readonly Gate[],
  request: HandoffRequest,
  context: HandoffContext,
  options?: BeginOptions,
): Promise<Handoff> {
  const { to, rules, budget, ...texts } = request
  for (const field of Object.keys(request)) if (!FIELDS.has(field)) throw new TypeError(`\`${field}\` is not a field of a handoff.`)
  const share = shareOf(giver, 'handoff', 'to', to, budget)
  if (to === giver.agent) throw new TypeError(`\`handoff.to\`: \`${to}\` cannot hand work to itself.`)
  const narrower = rules === undefined ? [] : [new AuthGuardian(rules, context.store)]
  const amounts = Object.entries(share.limits).map(([dimension, amount]) =>
    dimension === 'usd' ? formatAmount(dimension, amount) : `${amount} ${dimension}`,
  )
  const message = formatHandoff({ ...texts, id: share.id, from: giver.agent, to, budget: amounts.join(', ') })
  await move(giver, share, { kind: 'handoff', resource: to, args: { ...texts, to, limits: share.limits } }, context, options)
  return { ...opened(giver, share, to, [...gates, ...narrower], context), message }
}

/** Sets money aside for a later step of the same agent. */
export async function openEarmark(
  giver: Scope,
  gates: readonly Gate[],
  step: string,
  budget: HandoffRequest['budget'],
  context: HandoffContext,
  options?: BeginOptions,
): Promise<Earmark> {
  const share = shareOf(giver, 'earmark', 'step', step, budget)
  await move(giver, share, { kind: 'earmark', resource: step, args: { step, limits: share.limits } }, context, options)
  return opened(giver, share, giver.agent, gates, context)
}

function shareOf(giver: Scope, what: string, field: string, name: string, budget: HandoffRequest['budget']): Share {
  assertName(`${what}.${field}`, name)
  if (name.length > MAX_RECEIVER_LENGTH)
    throw new RangeError(`\`${what}.${field}\` may be ${MAX_RECEIVER_LENGTH} characters long, got ${name.length}.`)
  const id = newId()
  const path = `${giver.budget}/${name}-${id.slice(0, 8)}`
  parsePath(what, path)
  const { limits, windows, warnAt, wrapUp } = toRecord(path, { ...budget, revision: 1 })
  const beside = Object.entries({ windows, warnAt, wrapUp }).find(([, setting]) => setting !== undefined)
  if (beside !== undefined)
    throw new TypeError(`\`${what}.budget.${beside[0]}\`: what is set aside has amounts only; those of the giver count.`)
  return { id, path, limits }
}

/** The one commit: money, allotment and what it is for. */
async function move(
  giver: Scope,
  { id, path, limits }: Share,
  action: Action & { readonly kind: 'handoff' | 'earmark' },
  { store }: HandoffContext,
  options?: BeginOptions,
): Promise<void> {
  const { agent: from, task } = giver
  const { kind, resource: to } = action
  const record: HandoffRecord = { format: HANDOFF_FORMAT, kind, from, to, task, budget: path, limits, atMs: await store.now() }
  const about = handoffKey(id)
  const hold = await giver.begin(
    { ...action, allot: { budget: path, limits, about }, with: { set: [{ key: about, value: record as never }] } },
    options,
  )
  await hold.settle({})
}

function opened(giver: Scope, { id, path }: Share, agent: string, gates: readonly Gate[], context: HandoffContext): Earmark {
  const { task, also } = giver
  const close = (): Promise<HandoffClosing> => closeHandoff(id, context)
  return {
    id,
    scope: context.scopeOf({ agent, task, budget: path, ...(also === undefined ? {} : { also }) }, gates),
    close,
    async [Symbol.asyncDispose]() {
      await close()
    },
  }
}

/**
 * Closes a handoff of any process, such as one that died before it could. Safe to repeat.
 *
 * @throws {HoldfastError} `ERR_STORE` when there is none with this id, or the store does not answer.
 */
export async function closeHandoff(id: string, { store, ledger, record }: Omit<HandoffContext, 'scopeOf'>): Promise<HandoffClosing> {
  const [found] = await store.read([handoffKey(id)])
  if (found === null || found === undefined) throw new HoldfastError('ERR_STORE', `${store.name} has no handoff ${id}.`)
  const { budget } = found.value as unknown as HandoffRecord
  const closing = await ledger.closeAllotment(budget)
  record('event', { type: 'handoff-closed', handoff: id, budget, ...closing })
  return closing
}
