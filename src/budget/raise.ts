// A limit that is raised for a while. The raise stands in the record of the budget, with its end; whoever looks after
// the store turns a raise that is over into a cut, and from there on it is a limit that was lowered: free money goes at
// once, the rest as it comes back. So a raise needs nobody who stays alive, and a clock decides nothing but when.

import { amountOf, formatAmount, type Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import { newId } from '../lib/ids.ts'
import { listAll } from '../stores/entries.ts'
import type { Committer } from '../stores/group.ts'
import type { Batch } from '../waist/batch.ts'
import { budgetKey, cutKey, type BudgetRecord } from './record.ts'

/** A raise of one budget, as it stands in its record: a type, since it is JSON. */
export type Raise = {
  readonly id: string
  /** How much higher each limit is for it; amounts as in the store (`usd` in nano-USD). */
  readonly amounts: Amounts
  /** From then on it is over, Unix ms by the clock of the store. */
  readonly untilMs: number
  readonly by: string
  readonly reason: string
}

/** A raise that was ended because its time was over. */
export type EndedRaise = Raise & { readonly budget: string }

/** Begins the keys of budgets with a raise; the value is when the first of them is over. */
const RAISED = 'raised/'
const raisedKey = (path: string): string => `${RAISED}${path}`
/** Most raises of one budget at a time. */
const MAX_RAISES = 20
/** How often one end may find that something has changed meanwhile. */
const MAX_ATTEMPTS = 100

/**
 * The raise that takes limits to these for a while. What a lowered limit still waits for counts as gone: it is not
 * what the raise goes back to.
 *
 * @throws {RangeError} For a limit that is not higher than now, and for more than 20 raises of one budget.
 */
export function raiseTo(path: string, record: BudgetRecord, wanted: Amounts, told: Omit<Raise, 'id' | 'amounts'>): Raise {
  if ((record.raises ?? []).length >= MAX_RAISES)
    throw new RangeError(`Budget \`${path}\` has ${MAX_RAISES} raises already; set its limit for good, which ends them.`)
  const amounts = Object.entries(wanted).map(([dimension, limit]) => {
    const now = record.limits[dimension]! - amountOf(record.cut ?? {}, dimension)
    if (limit > now) return [dimension, limit - now] as const
    throw new RangeError(
      `Budget \`${path}\`: for a while a limit can only be raised, and \`${dimension}\` is ${formatAmount(dimension, now)} already.`,
    )
  })
  return { id: newId(), amounts: Object.fromEntries(amounts), ...told }
}

/** The raises that are left once the limits of these dimensions are set for good: that ends theirs. */
export function raisesWithout(raises: readonly Raise[] = [], dimensions: readonly string[]): readonly Raise[] {
  const ended = new Set(dimensions)
  return raises
    .map((raise) => ({ ...raise, amounts: Object.fromEntries(Object.entries(raise.amounts).filter(([name]) => !ended.has(name))) }))
    .filter(({ amounts }) => Object.keys(amounts).length > 0)
}

/** What goes into the batch that changes the raises of a budget: the part of its record, and the mark by which a sweep finds it. */
export function raisesPart(
  path: string,
  raises: readonly Raise[],
): { readonly record: Pick<BudgetRecord, 'raises'>; readonly mark: Batch } {
  if (raises.length === 0) return { record: {}, mark: { delete: [raisedKey(path)] } }
  const first = Math.min(...raises.map(({ untilMs }) => untilMs))
  return { record: { raises }, mark: { set: [{ key: raisedKey(path), value: first }] } }
}

/**
 * Ends the raises that are over, all of one budget in one commit: from then on they are pending cuts. Safe to repeat,
 * and to do by many at once: each raise is ended by one of them, who is told.
 *
 * @throws {HoldfastError} `ERR_STORE`; what was not ended then is ended by the next one who looks.
 */
export async function endRaises(committer: Committer, onEnded: (raise: EndedRaise) => void): Promise<void> {
  const marks = await listAll(committer.store, RAISED)
  if (marks.length === 0) return
  const nowMs = await committer.store.now()
  for (const { key, value } of marks) if (Number(value) <= nowMs) await endRaisesOf(committer, key.slice(RAISED.length), nowMs, onEnded)
}

async function endRaisesOf(committer: Committer, path: string, nowMs: number, onEnded: (raise: EndedRaise) => void): Promise<void> {
  const { store } = committer
  const key = budgetKey(path)
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const [entry] = await store.read([key])
    const record = entry?.value as unknown as BudgetRecord | undefined
    const raises = record?.raises ?? []
    const over = raises.filter(({ untilMs }) => untilMs <= nowMs)
    const left = raisesPart(
      path,
      raises.filter((raise) => !over.includes(raise)),
    )
    const check = [{ key, version: entry?.version ?? 0 }]
    // With none that is over, somebody was first, or a declaration has set another limit: only the mark is out of date.
    const batch = over.length === 0 ? { check, ...left.mark } : withCut(path, check, lowered(record!, over), left)
    const result = await committer.commit({ id: newId(), ...batch })
    if (result.outcome === 'unknown')
      throw new HoldfastError('ERR_STORE', `${store.name} did not answer while a raise of budget \`${path}\` was ended.`, {
        cause: result.cause,
      })
    if (result.outcome !== 'ok') continue
    for (const raise of over) onEnded({ budget: path, ...raise })
    return
  }
  throw new HoldfastError('ERR_STORE', `Budget \`${path}\` changed ${MAX_ATTEMPTS} times while its raise was ended.`)
}

function withCut(
  path: string,
  check: Batch['check'],
  record: ReturnType<typeof lowered>,
  { record: part, mark }: ReturnType<typeof raisesPart>,
): Batch {
  const value = { ...record, ...part }
  return { ...mark, check: check!, set: [{ key: budgetKey(path), value }, { key: cutKey(path), value: 1 }, ...(mark.set ?? [])] }
}

/** The record once these raises are over, without any raises in it: what they gave is to be cut. */
function lowered(known: BudgetRecord, over: readonly Raise[]) {
  const { raises: _, ...record } = known
  const cut: Record<string, number> = { ...record.cut }
  for (const { amounts } of over)
    for (const [dimension, amount] of Object.entries(amounts)) cut[dimension] = amountOf(cut, dimension) + amount
  return { ...record, cut }
}
