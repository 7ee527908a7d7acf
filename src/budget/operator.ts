// What an operator does to a budget while it is in use: another limit, a freeze, and its end. A limit falls only by
// money that is free, so the equation holds after every commit; what is still to be cut is noted in the record,
// nobody may take it from then on, and it goes off the limit as it comes back.

import { amountOf, formatAmount, type Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import { newId } from '../lib/ids.ts'
import { parsePath } from '../lib/names.ts'
import { listAll } from '../stores/entries.ts'
import type { Committer, CommitResult } from '../stores/group.ts'
import type { Store } from '../stores/store.ts'
import type { Batch } from '../waist/batch.ts'
import { endRaises, raiseTo, raisesPart, raisesWithout, type EndedRaise, type Raise } from './raise.ts'
import { CUT, budgetKey, counterKey, cutKey, isShape, levelsOf, type BudgetRecord } from './record.ts'
import { readBudgets } from './report.ts'
import { isRolling, parseWindowPath } from './windows/window.ts'

/** What became of the limit of one dimension; amounts as in the store (`usd` in nano-USD). */
export interface LimitChange {
  readonly budget: string
  readonly dimension: string
  /** The limit in force before. */
  readonly before: number
  /** What was asked for. */
  readonly limit: number
  /** What is still to be cut: the limit in force is this much higher, and nobody may take it. */
  readonly pendingCut: number
  /** Of a raise for a while: when it is over, Unix ms by the clock of the store. */
  readonly untilMs?: number
}

/** How long limits are to be raised, who wants it, and why. */
export interface ForAWhile {
  /** From the commit on, ms by the clock of the store. */
  readonly forMs: number
  readonly by: string
  readonly reason: string
}

/** How often one change may find that something has changed meanwhile. */
const MAX_ATTEMPTS = 100
/** Whoever has to wait longer freezes it. */
const MAX_PAUSE_MS = 3_600_000

/**
 * Sets limits in force; what was declared stays, so that a kernel with the same declaration still opens. Raising adds
 * to what is free. Lowering takes what is free now, and the rest as it comes back: never what is spent or in suspense.
 * A limit that is set for good ends the raises of its dimension.
 *
 * @param wanted - By dimension; others stay as they are.
 * @param raise - To raise them for a while.
 * @throws {HoldfastError} `ERR_UNKNOWN_BUDGET`; `ERR_BUDGET_DECLARATION` for a shape or an allotment; `ERR_STORE`.
 * @throws {RangeError} For a dimension that the budget does not limit; see also {@link raiseTo}.
 */
export async function setLimits(committer: Committer, path: string, wanted: Amounts, raise?: ForAWhile): Promise<readonly LimitChange[]> {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const { record, version } = await budgetOf(committer.store, path, 'or a window')
    if (record.allotment !== undefined)
      throw declarationError(`Budget \`${path}\` is the allotment of a handoff: its money came from above, and so does its limit.`)
    for (const dimension of Object.keys(wanted))
      if (!Object.hasOwn(record.limits, dimension))
        throw new RangeError(`Budget \`${path}\` does not limit \`${dimension}\`; it limits ${Object.keys(record.limits).join(', ')}.`)
    const raised = raise === undefined ? undefined : await raiseFor(committer.store, path, record, wanted, raise)
    const result = await committer.commit(limitsBatch(path, version, record, wanted, raised))
    if (result.outcome === 'refused')
      throw new RangeError(`Budget \`${path}\`: ${result.which} cannot hold that much more; it has ${JSON.stringify(result.value)}.`)
    if (!isApplied(committer, path, result)) continue
    const cut = await takeCut(committer, path)
    return Object.entries(wanted).map(([dimension, limit]) => {
      const before = record.limits[dimension]!
      const until = raised === undefined ? {} : { untilMs: raised.untilMs }
      return { budget: path, dimension, before, limit, pendingCut: limit < before ? amountOf(cut, dimension) : 0, ...until }
    })
  }
  throw changedTooOften(path)
}

async function raiseFor(
  store: Store,
  path: string,
  record: BudgetRecord,
  wanted: Amounts,
  { forMs, by, reason }: ForAWhile,
): Promise<Raise> {
  return raiseTo(path, record, wanted, { untilMs: (await store.now()) + forMs, by, reason })
}

function limitsBatch(
  path: string,
  version: number,
  record: BudgetRecord,
  wanted: Amounts,
  raise: Raise | undefined,
): Batch & { readonly id: string } {
  const { cut: before = {}, raises = [], ...rest } = record
  const key = budgetKey(path)
  const limits: Record<string, number> = { ...record.limits }
  const cut: Record<string, number> = { ...before }
  const add = []
  for (const [dimension, limit] of Object.entries(wanted)) {
    const by = limit - limits[dimension]!
    delete cut[dimension]
    if (by < 0) cut[dimension] = -by
    else limits[dimension] = limit
    if (by > 0) add.push({ key: counterKey('free', `${dimension}/${path}`), by })
  }
  const isCut = Object.keys(cut).length > 0
  const raised = raisesPart(path, raise === undefined ? raisesWithout(raises, Object.keys(wanted)) : [...raises, raise])
  const value = { ...rest, ...raised.record, limits, declaration: record.declaration ?? record.limits, ...(isCut ? { cut } : {}) }
  return {
    id: newId(),
    check: [{ key, version }],
    add,
    set: [{ key, value }, ...(isCut ? [{ key: cutKey(path), value: 1 }] : []), ...(raised.mark.set ?? [])],
    delete: [...(isCut ? [] : [cutKey(path)]), ...(raised.mark.delete ?? [])],
  }
}

/**
 * Takes off a limit what is free of its pending cut. Safe to repeat, and to do by many at once.
 *
 * @returns What is still to be cut.
 * @throws {HoldfastError} `ERR_STORE`
 */
export async function takeCut(committer: Committer, path: string): Promise<Amounts> {
  const { store } = committer
  const key = budgetKey(path)
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const [known] = await store.read([key])
    const dimensions = Object.keys((known?.value as BudgetRecord | undefined)?.cut ?? {})
    const [entry, ...counters] = await store.read([key, ...dimensions.map((dimension) => counterKey('free', `${dimension}/${path}`))])
    const record = entry?.value as unknown as BudgetRecord | undefined
    if (entry?.version !== known?.version) continue
    if (dimensions.length === 0) {
      // All of it is taken, or a declaration with a higher revision has set another limit.
      await committer.commit({ check: [{ key, version: entry?.version ?? 0 }], delete: [cutKey(path)] })
      return {}
    }
    const takes = dimensions.map((dimension, at) => ({
      dimension,
      by: Math.min(record!.cut![dimension]!, Number(counters[at]?.value ?? 0)),
    }))
    if (takes.every(({ by }) => by === 0)) return record!.cut!
    const result = await committer.commit(cutBatch(path, entry!.version, record!, takes))
    // Refused: an overrun has taken it first.
    if (result.outcome !== 'refused') isApplied(committer, path, result)
  }
  throw changedTooOften(path)
}

function cutBatch(
  path: string,
  version: number,
  record: BudgetRecord,
  takes: readonly { readonly dimension: string; readonly by: number }[],
): Batch & { readonly id: string } {
  const { cut: before, ...rest } = record
  const key = budgetKey(path)
  const limits: Record<string, number> = { ...record.limits }
  const cut: Record<string, number> = { ...before }
  for (const { dimension, by } of takes) {
    limits[dimension]! -= by
    cut[dimension]! -= by
    if (cut[dimension] === 0) delete cut[dimension]
  }
  const isDone = Object.keys(cut).length === 0
  return {
    id: newId(),
    check: [{ key, version }],
    add: takes
      .filter(({ by }) => by > 0)
      .map(({ dimension, by }) => ({ key: counterKey('free', `${dimension}/${path}`), by: -by, min: 0 })),
    set: [{ key, value: { ...rest, limits, ...(isDone ? {} : { cut }) } }],
  }
}

/**
 * Ends the raises that are over, and takes what has come back since for all limits that were lowered.
 *
 * @param onEnded - Told of the raises that this call has ended.
 * @throws {HoldfastError} `ERR_STORE`
 */
export async function takeCuts(committer: Committer, onEnded: (raise: EndedRaise) => void = () => undefined): Promise<void> {
  await endRaises(committer, onEnded)
  for (const { key } of await listAll(committer.store, CUT)) await takeCut(committer, key.slice(CUT.length))
}

/**
 * Freezes a budget and everything below it: nothing is taken any more, and who has leased some of it gives it back.
 *
 * @throws {HoldfastError} `ERR_UNKNOWN_BUDGET`; `ERR_BUDGET_DECLARATION` for a shape; `ERR_BUDGET_FROZEN` when its
 *   handoff was closed; `ERR_STORE`.
 */
export async function freezeBudget(committer: Committer, path: string, by: string, reason: string): Promise<void> {
  await change(committer, path, (record) => {
    assertOpen(path, record)
    return { ...record, frozen: reason, frozenBy: by }
  })
}

/**
 * Takes nothing from a budget and those below it for a while; a longer pause that there is stays.
 *
 * @param forMs - At most an hour.
 * @returns Until when, Unix ms by the store's clock.
 * @throws {HoldfastError} As {@link freezeBudget}.
 */
export async function pauseBudget(committer: Committer, path: string, forMs: number): Promise<number> {
  let untilMs = (await committer.store.now()) + Math.min(forMs, MAX_PAUSE_MS)
  await change(committer, path, (record) => {
    assertOpen(path, record)
    if ((record.pausedUntilMs ?? 0) < untilMs) return { ...record, pausedUntilMs: untilMs }
    untilMs = record.pausedUntilMs!
    return undefined
  })
  return untilMs
}

/**
 * Ends a freeze, whoever made it.
 *
 * @returns Why it was frozen; `undefined` when it was not.
 * @throws {HoldfastError} As {@link freezeBudget}; also `ERR_DAMAGE` when something at or below it does not balance.
 */
export async function unfreezeBudget(committer: Committer, path: string): Promise<string | undefined> {
  const wrong = (await readBudgets(committer.store, path)).find(({ balanced }) => !balanced)
  if (wrong !== undefined)
    throw new HoldfastError(
      'ERR_DAMAGE',
      `Budget \`${wrong.budget}\` does not balance in ${wrong.dimension} (limit ${formatAmount(wrong.dimension, wrong.limit)}): it stays frozen. See: holdfast budget recover`,
    )
  let before: string | undefined
  await change(committer, path, (record) => {
    assertOpen(path, record)
    before = record.frozen
    const { frozen: _, frozenBy: __, ...rest } = record
    return before === undefined ? undefined : rest
  })
  return before
}

async function change(committer: Committer, path: string, to: (record: BudgetRecord) => BudgetRecord | undefined): Promise<void> {
  const key = budgetKey(path)
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const { record, version } = await budgetOf(committer.store, path)
    const value = to(record)
    if (value === undefined) return
    const result = await committer.commit({ id: newId(), check: [{ key, version }], set: [{ key, value: value as never }] })
    if (isApplied(committer, path, result)) return
  }
  throw changedTooOften(path)
}

/** @throws {HoldfastError} For a budget that is not there, or is none. */
async function budgetOf(
  store: Store,
  path: string,
  which: 'a budget' | 'or a window' = 'a budget',
): Promise<{ readonly record: BudgetRecord; readonly version: number }> {
  const window = which === 'a budget' ? undefined : parseWindowPath(path)
  if (isRolling(window?.name))
    throw declarationError(`\`${path}\` is a part of a window that rolls: declare another limit for it with a higher revision.`)
  if (isShape(path))
    throw declarationError(`\`${path}\` is the shape of budgets, none itself: declare it with a higher revision, or name one of them.`)
  parsePath('path', window?.home ?? path)
  const parent = levelsOf(path).at(-2)
  const [entry, shape] = await store.read([budgetKey(path), budgetKey(`${parent ?? path}/*`)])
  if (entry !== null && entry !== undefined) return { record: entry.value as unknown as BudgetRecord, version: entry.version }
  const hint = parent !== undefined && shape !== null ? ` It will be made from \`${parent}/*\` by the first call on it.` : ''
  throw new HoldfastError('ERR_UNKNOWN_BUDGET', `There is no budget \`${path}\` in this store.${hint}`)
}

function assertOpen(path: string, { closed }: BudgetRecord): void {
  if (closed !== undefined)
    throw new HoldfastError('ERR_BUDGET_FROZEN', `Budget \`${path}\` was that of a handoff, which was closed: it stays as it is.`)
}

/** Whether it was applied; what has changed meanwhile is looked at again. */
function isApplied({ store }: Committer, path: string, result: CommitResult): boolean {
  if (result.outcome !== 'unknown') return result.outcome === 'ok'
  const message = `${store.name} did not answer while budget \`${path}\` was changed: it may have changed or not. Look, and do it again.`
  throw new HoldfastError('ERR_STORE', message, { cause: result.cause })
}

const declarationError = (message: string): HoldfastError => new HoldfastError('ERR_BUDGET_DECLARATION', message)

const changedTooOften = (path: string): HoldfastError =>
  new HoldfastError('ERR_STORE', `Budget \`${path}\` changed ${MAX_ATTEMPTS} times while it was to be changed; do it again.`)
