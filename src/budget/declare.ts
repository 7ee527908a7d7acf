// Opening declared budgets. The declaration carries a revision: the same revision must mean the same limits
// in every process, or the last one to start would decide what everybody may spend.

import { formatAmount, type Amounts } from '../lib/amounts.ts'
import type { Json } from '../lib/canonical-json.ts'
import { HoldfastError } from '../lib/errors.ts'
import type { Add, Batch } from '../waist/batch.ts'
import { entriesOf } from '../stores/entries.ts'
import type { Committer, CommitResult } from '../stores/group.ts'
import type { Store } from '../stores/store.ts'
import { assertDeclaredPath, toRecord, type BudgetDeclaration } from './declaration.ts'
import { budgetKey, pathOfBudgetKey, counterKey, isShape, type BudgetRecord } from './record.ts'
import { changeWindows } from './windows/window-changes.ts'

/** Most budgets that one `openKernel` declares. */
const MAX_DECLARED = 1_000
const MAX_ATTEMPTS = 20

/**
 * Creates the declared budgets that do not exist, and checks or changes the limits of those that do.
 *
 * @param onIgnored - Told of declarations with a lower revision than the store: it opens as it stands.
 * @throws {HoldfastError} `ERR_BUDGET_DECLARATION` when the store has other limits under the same revision,
 *   or when a higher revision lowers a limit below what is spent or held.
 */
export async function declareBudgets(
  committer: Committer,
  declarations: Readonly<Record<string, BudgetDeclaration>>,
  onIgnored: (message: string) => void,
): Promise<void> {
  const paths = Object.keys(declarations)
  if (paths.length > MAX_DECLARED) throw new RangeError(`At most ${MAX_DECLARED} budgets can be declared, got ${paths.length}.`)
  const declared = new Set(paths)
  for (const path of paths) assertDeclaredPath(path, declared)
  // Parents first, so that a child is never there without them.
  const records = paths
    .sort((a, b) => a.split('/').length - b.split('/').length)
    .map((path) => ({ path, record: toRecord(path, declarations[path]!) }))
  for (const { path, record } of records) await declare(committer, path, record, onIgnored)
}

async function declare(committer: Committer, path: string, record: BudgetRecord, onIgnored: (message: string) => void): Promise<void> {
  const key = budgetKey(path)
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const { store } = committer
    const [entry] = await store.read([key])
    const known = entry?.value as unknown as BudgetRecord | undefined
    if (known?.allotment !== undefined) throw declarationError(`Budget \`${path}\` is the allotment of a handoff; it cannot be declared.`)
    if (known !== undefined && known.revision > record.revision) {
      return onIgnored(`Budget \`${path}\` is declared with revision ${record.revision}; the store has ${known.revision} and keeps it.`)
    }
    if (known?.revision === record.revision) assertSame(path, known, record)
    const batch = known === undefined ? creation(path, record) : await declaration(store, path, entry!.version, known, record)
    // Children first: should this process die in between, the shape still says that there is something to do.
    if (known !== undefined && isShape(path) && !(await changeChildren(committer, path, entry!.version, record))) continue
    if (known?.revision === record.revision && (known.shape === undefined || known.declared === true)) return
    const result = await committer.commit(batch)
    // Children that were created meanwhile are behind: a look at what is there now finds them.
    if (result.outcome === 'ok' && (known === undefined || !isShape(path))) return
    if (result.outcome === 'conflict' && result.which !== key) {
      throw new HoldfastError(
        'ERR_DAMAGE',
        `Budget \`${path}\` has counters (${result.which}) but no record: the record was lost. Nothing is opened.`,
      )
    }
    assertAnswered(committer, path, record, result)
  }
  throw new HoldfastError('ERR_STORE', `Budget \`${path}\` changed ${MAX_ATTEMPTS} times while it was opened.`)
}

/** Gives the children that were created from a shape its new limits; false when something has changed meanwhile. */
async function changeChildren(committer: Committer, shape: string, version: number, record: BudgetRecord): Promise<boolean> {
  const { store } = committer
  let none = true
  // All are looked at before the first one is changed: a declaration that is refused has changed nothing.
  for await (const { path, batch } of changesBelow(store, shape, record)) {
    none = false
    const lowered = batch.add!.filter(({ by }) => by < 0)
    const free = await store.read(lowered.map(({ key }) => key))
    for (const [index, { key: which, by }] of lowered.entries()) {
      const value = Number(free[index]?.value ?? 0)
      if (value + by < 0) throw loweredTooFar(path, record, { which, value })
    }
  }
  if (none) return true
  let all = true
  const unchanged = { key: budgetKey(shape), version }
  for await (const { path, batch } of changesBelow(store, shape, record)) {
    const result = await committer.commit({ ...batch, check: [...batch.check!, unchanged] })
    assertAnswered(committer, path, record, result)
    // Another process that opens was first, with this child or with the shape: whoever looks again sees which.
    if (result.outcome === 'conflict') all = false
  }
  return all
}

/** The changes of the children that follow a shape and have other limits: an attempt that failed may have left some under the same revision. */
async function* changesBelow(store: Store, shape: string, record: BudgetRecord): AsyncGenerator<{ path: string; batch: Batch }, void> {
  for await (const { key, value, version } of entriesOf(store, budgetKey(shape.slice(0, shape.indexOf('*'))))) {
    const child = value as unknown as BudgetRecord
    if (child.shape !== shape || child.declared === true || child.revision > record.revision) continue
    if (child.revision === record.revision && writeDeclared(child) === writeDeclared(record)) continue
    const path = pathOfBudgetKey(key)
    yield { path, batch: await change(store, path, version, child, record) }
  }
}

function assertAnswered({ store }: Committer, path: string, record: BudgetRecord, result: CommitResult): void {
  if (result.outcome === 'refused') throw loweredTooFar(path, record, result)
  if (result.outcome !== 'unknown') return
  const message = `${store.name} did not answer while budget \`${path}\` was declared: it may have changed or not. Open again.`
  throw new HoldfastError('ERR_STORE', message, { cause: result.cause })
}

function loweredTooFar(
  path: string,
  { revision }: BudgetRecord,
  { which, value }: { readonly which: string; readonly value: Json },
): HoldfastError {
  return declarationError(
    `Budget \`${path}\`: revision ${revision} lowers a limit by more than is free (${which} has ${JSON.stringify(value)}). Lower it less, or wait until more is returned.`,
  )
}

const declarationError = (message: string): HoldfastError => new HoldfastError('ERR_BUDGET_DECLARATION', message)

function creation(path: string, record: BudgetRecord): Batch {
  const legs = isShape(path)
    ? []
    : Object.entries(record.limits).map(([dimension, limit]) => ({ key: counterKey('free', `${dimension}/${path}`), limit }))
  return {
    // Counters without a record are the remains of a budget that was lost; they are no start for a new one.
    check: [{ key: budgetKey(path), version: 0 }, ...legs.map(({ key }) => ({ key, version: 0 }))],
    set: [{ key: budgetKey(path), value: record as never }, ...legs.map(({ key, limit }) => ({ key, value: limit }))],
  }
}

/** What a declaration does to a budget that is there. */
async function declaration(store: Store, path: string, version: number, known: BudgetRecord, record: BudgetRecord): Promise<Batch> {
  if (known.revision < record.revision)
    return change(store, path, version, known, known.shape === undefined ? record : { ...record, declared: true })
  // A child that was created from a shape and is now declared by name has to be marked as such, whatever its limits.
  return { check: [{ key: budgetKey(path), version }], set: [{ key: budgetKey(path), value: { ...known, declared: true } }] }
}

async function change(store: Store, path: string, version: number, known: BudgetRecord, record: BudgetRecord): Promise<Batch> {
  const dropped = Object.keys(known.limits).filter((dimension) => !Object.hasOwn(record.limits, dimension))
  if (dropped.length > 0)
    throw declarationError(
      `Budget \`${path}\`: revision ${record.revision} no longer limits \`${dropped.join('`, `')}\`; a limit can be raised, not dropped.`,
    )
  const add: Add[] = []
  for (const [dimension, limit] of Object.entries(record.limits)) {
    const by = limit - (Object.hasOwn(known.limits, dimension) ? known.limits[dimension]! : 0)
    if (!isShape(path) && by !== 0) add.push({ key: counterKey('free', `${dimension}/${path}`), by, min: 0 })
  }
  // What an operator has set since goes with the revision that he set it under.
  const { frozen, declaration: _, cut: __, wrapUp: ___, warnAt: ____, raises: _____, ...rest } = known
  // Whoever declares a higher revision has seen why the tree was frozen; an operator who froze it says himself when it is over.
  const still = known.frozenBy === undefined || frozen === undefined ? {} : { frozen }
  const { windows, ...changes } = await changeWindows(store, path, known, record)
  const value = { ...rest, ...record, ...(Object.keys(windows).length === 0 ? {} : { windows }), ...still }
  return {
    check: [{ key: budgetKey(path), version }, ...changes.check],
    add: [...add, ...changes.add],
    set: [{ key: budgetKey(path), value }, ...changes.set],
  }
}

function assertSame(path: string, known: BudgetRecord, declared: BudgetRecord): void {
  if (writeDeclared(known) === writeDeclared(declared)) return
  throw declarationError(
    `Budget \`${path}\` revision ${declared.revision} is declared as ${writeDeclared(declared)}, but the store has ${writeDeclared(known)} under the same revision. ` +
      `Declare the same limits, or raise the revision to ${declared.revision + 1}.`,
  )
}

/** What was declared, as a person reads it, whatever an operator has set since. */
export function writeDeclared({ limits: inForce, declaration: limits = inForce, windows = {}, wrapUp, warnAt }: BudgetRecord): string {
  const inAll = writeAmounts(limits)
  const perWindow = Object.keys(windows)
    .sort()
    .map((name) => {
      const { per, timeZone = '', rolling, limits: of } = windows[name]!
      return `${writeAmounts(of)} per ${per}${rolling === undefined ? '' : ` (rolling in ${rolling} parts)`}${timeZone === '' ? '' : ` (${timeZone})`}`
    })
  return [
    ...(inAll === '' ? [] : [inAll]),
    ...perWindow,
    ...(wrapUp === undefined ? [] : [`${writeAmounts(wrapUp)} kept for a last answer`]),
    ...(warnAt === undefined ? [] : [`warns at ${warnAt.join(', ')}`]),
  ].join('; ')
}

function writeAmounts(limits: Amounts): string {
  return Object.keys(limits)
    .sort()
    .map((dimension) => `${dimension} ${formatAmount(dimension, limits[dimension]!)}`)
    .join(', ')
}
