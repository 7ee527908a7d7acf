// Opening declared budgets. The declaration carries a revision: the same revision must mean the same limits
// in every process, or the last one to start would decide what everybody may spend.

import { formatAmount } from '../lib/amounts.ts'
import type { Json } from '../lib/canonical-json.ts'
import { HoldfastError } from '../lib/errors.ts'
import type { Add, Batch } from '../waist/batch.ts'
import type { Committer } from '../stores/group.ts'
import { assertDeclaredPath, budgetKey, counterKey, toRecord, type BudgetDeclaration, type BudgetRecord } from './record.ts'

/** Most budgets that one `openKernel` declares. */
const MAX_DECLARED = 1_000
const MAX_ATTEMPTS = 20
const PAGE = 1_000

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
    const [entry] = await committer.store.read([key])
    const known = entry?.value as unknown as (BudgetRecord & { shape?: string }) | undefined
    if (known !== undefined) {
      if (known.revision > record.revision) {
        return onIgnored(`Budget \`${path}\` is declared with revision ${record.revision}; the store has ${known.revision} and keeps it.`)
      }
      if (known.revision === record.revision) {
        assertSame(path, known, record)
        return isShape(path) ? changeChildren(committer, path, record) : undefined
      }
    }
    // Children first: should this process die in between, the shape still says that there is something to do.
    if (known !== undefined && isShape(path)) await changeChildren(committer, path, record)
    const result = await committer.commit(known === undefined ? creation(path, record) : change(path, entry!.version, known, record))
    // Some may have been created meanwhile; from here on they are created from what is there now.
    if (result.outcome === 'ok') return known !== undefined && isShape(path) ? changeChildren(committer, path, record) : undefined
    if (result.outcome === 'conflict' && result.which !== key) {
      throw new HoldfastError(
        'ERR_DAMAGE',
        `Budget \`${path}\` has counters (${result.which}) but no record: the record was lost. Nothing is opened.`,
      )
    }
    if (result.outcome === 'unknown')
      throw new HoldfastError('ERR_STORE', `${committer.store.name} did not answer.`, { cause: result.cause })
    if (result.outcome === 'refused') throw loweredTooFar(path, record, result)
  }
  throw new HoldfastError('ERR_STORE', `Budget \`${path}\` changed ${MAX_ATTEMPTS} times while it was opened.`)
}

/** Gives the children that were created from a shape its new limits. */
async function changeChildren(committer: Committer, shape: string, record: BudgetRecord): Promise<void> {
  const prefix = budgetKey(shape.slice(0, shape.indexOf('*')))
  for (let after: string | undefined; ;) {
    const page = await committer.store.list(prefix, { limit: PAGE, ...(after === undefined ? {} : { after }) })
    for (const { key, value, version } of page) {
      const child = value as unknown as BudgetRecord & { readonly shape?: string }
      if (child.shape !== shape || child.revision >= record.revision) continue
      const path = key.slice(budgetKey('').length)
      const result = await committer.commit(change(path, version, child, record))
      if (result.outcome === 'refused') throw loweredTooFar(path, record, result)
      if (result.outcome !== 'ok') throw new HoldfastError('ERR_STORE', `Budget \`${path}\` changed while its limits were; open again.`)
    }
    if (page.length < PAGE) return
    after = page.at(-1)!.key
  }
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

/** `acme/*` is a shape: it has a record, and its children have the counters. */
const isShape = (path: string): boolean => path.split('/').includes('*')

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

function change(path: string, version: number, known: BudgetRecord, record: BudgetRecord): Batch {
  const dropped = Object.keys(known.limits).filter((dimension) => !(dimension in record.limits))
  if (dropped.length > 0)
    throw declarationError(
      `Budget \`${path}\`: revision ${record.revision} no longer limits \`${dropped.join('`, `')}\`; a limit can be raised, not dropped.`,
    )
  const add: Add[] = []
  for (const [dimension, limit] of Object.entries(record.limits)) {
    const by = limit - (known.limits[dimension] ?? 0)
    if (!isShape(path) && by !== 0) add.push({ key: counterKey('free', `${dimension}/${path}`), by, min: 0 })
  }
  return { check: [{ key: budgetKey(path), version }], add, set: [{ key: budgetKey(path), value: { ...known, ...record } }] }
}

function assertSame(path: string, known: BudgetRecord, declared: BudgetRecord): void {
  if (writeLimits(known) === writeLimits(declared)) return
  throw declarationError(
    `Budget \`${path}\` revision ${declared.revision} is declared as ${writeLimits(declared)}, but the store has ${writeLimits(known)} under the same revision. ` +
      `Declare the same limits, or raise the revision to ${declared.revision + 1}.`,
  )
}

function writeLimits({ limits }: BudgetRecord): string {
  return Object.keys(limits)
    .sort()
    .map((dimension) => `${dimension} ${formatAmount(dimension, limits[dimension]!)}`)
    .join(', ')
}
