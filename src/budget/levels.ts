// From a path to its levels: which record binds each of them, and what the store says about them now.

import type { Amounts } from '../lib/amounts.ts'
import { HoldfastError, Refusal } from '../lib/errors.ts'
import type { Store } from '../stores/store.ts'
import { cutOf, type Level } from './legs.ts'
import { budgetKey, pathOfBudgetKey, counterKey, levelsOf, type BudgetRecord, type Column } from './record.ts'
import { createStoreTime, type StoreTime } from './windows/store-time.ts'
import { homeOf } from './windows/window.ts'
import { createWindows, type WindowsOptions } from './windows/current-windows.ts'

/** Most levels that a process remembers. */
const MAX_CACHED = 10_000

/** What the counters of one leg say. */
export interface Standing {
  readonly limit: number
  readonly free: number
  readonly out: number
  readonly spent: number
  readonly suspense: number
  /** What of it a lowered limit still waits for: of what is free, and of what comes back. */
  readonly cut: number
}

/** The budgets of a store, as this process sees them. */
export interface Levels {
  /**
   * The levels of a path, root first; each is followed by its windows that are current. Before them come those of the
   * further paths: what an allotment on the path has taken with it was counted there as well.
   *
   * @param evenFrozen - For what was used already, and for observe mode.
   * @throws {Refusal} `ERR_UNKNOWN_BUDGET` with the line to add, `ERR_BUDGET_FROZEN`.
   */
  of(path: string, evenFrozen?: boolean, also?: readonly string[]): Promise<readonly Level[]>
  /** The paths of those that it knows. */
  known(): readonly string[]
  /** Forgets what it knows of this record: it has changed. */
  forget(key: string): void
  /** Brings what has come back to earlier parts of a rolling window into this one, if it is one. Whether to look again. @throws {HoldfastError} `ERR_STORE` */
  gather(path: string): Promise<boolean>
  /** Whether these levels are what the store has now; for an action that writes nothing, so that no commit tells. */
  areCurrent(levels: readonly Level[]): Promise<boolean>
  /** Reads the counters of legs such as `usd/acme`. */
  standings(legs: readonly { readonly key: string; readonly level: Level; readonly dimension: string }[]): Promise<readonly Standing[]>
}

/** A budget, and then its windows. */
type Known = readonly [Level, ...Level[]]

/** Options of {@link createLevels}. */
export interface LevelsOptions {
  /** @default the store's clock, by the wall clock of this machine */
  readonly time?: StoreTime
  /** Opens the next window when one is over; without it one only looks. */
  readonly commit?: WindowsOptions['commit']
}

/** How often a budget may change while its windows are opened. */
const MAX_ATTEMPTS = 100

/** Reads budgets from a store, and remembers them until a commit says that they changed, or a window of theirs is over. */
export function createLevels(store: Store, { time = createStoreTime(store, Date.now), commit }: LevelsOptions = {}): Levels {
  const cache = new Map<string, Known>()
  const windows = createWindows({ store, time, ...(commit === undefined ? {} : { commit }) })

  async function find(path: string, parent: Level | undefined): Promise<Known> {
    const cached = cache.get(path)
    if (cached !== undefined && (cached.length === 1 || (await isAhead(endOf(cached))))) return cached
    return readKnown(path, parent)
  }

  async function isAhead(atMs: number): Promise<boolean> {
    if (time.isStale()) await time.read()
    return time.estimate() < atMs
  }

  async function readKnown(path: string, parent: Level | undefined): Promise<Known> {
    for (let attempts = 0; attempts < MAX_ATTEMPTS; attempts++) {
      const level = await read(path, parent)
      const isPlain = level.record.windows === undefined || level.record.frozen !== undefined
      const known = isPlain ? [level] : await windows.of(level)
      if (known === undefined) continue
      if (cache.size >= MAX_CACHED) cache.clear()
      // What is frozen may thaw, and then no commit of this process would tell: it is asked for each time.
      if (level.version > 0 && level.record.frozen === undefined) cache.set(path, known as Known)
      return known as Known
    }
    throw new HoldfastError('ERR_STORE', `Budget \`${path}\` changed ${MAX_ATTEMPTS} times while its windows were opened.`)
  }

  async function read(path: string, parent: Level | undefined): Promise<Level> {
    const name = path.slice(path.lastIndexOf('/') + 1)
    // A child of a `*` follows the shape `acme/*/writer` if there is one, else `acme/*/*`.
    const shapes = parent === undefined ? [] : [`${parent.shape}/${name}`, `${parent.shape}/*`].filter((shape) => shape !== path)
    const [own, ...declared] = await store.read([budgetKey(path), ...shapes.map(budgetKey)])
    if (own !== null && own !== undefined) {
      const record = own.value as unknown as BudgetRecord & { readonly shape?: string }
      return { path, record, version: own.version, shape: record.shape ?? path }
    }
    const index = declared.findIndex((entry) => entry !== null)
    if (index < 0) throw unknownBudget(path)
    const record = declared[index]!.value as unknown as BudgetRecord
    if (await wasCreated(store, path, record)) return read(path, parent)
    return { path, record, version: 0, shape: shapes[index]!, shapeVersion: declared[index]!.version }
  }

  return {
    async of(path, evenFrozen = false, also = []) {
      const levels = new Map<string, Level>()
      for (const one of [...also, path]) {
        let parent: Level | undefined
        for (const name of levelsOf(one)) {
          const found: Known = await find(name, parent)
          parent = found[0]
          const { frozen, allotment, pausedUntilMs } = parent.record
          if (frozen !== undefined && !evenFrozen) throw frozenRefusal(parent)
          if (pausedUntilMs !== undefined && !evenFrozen && (await isAhead(pausedUntilMs))) throw pausedRefusal(one, pausedUntilMs)
          if (allotment !== undefined && one !== path)
            throw new RangeError(`\`${one}\` is the budget of a handoff; it counts nothing beside another.`)
          // A level that two paths share counts once.
          for (const level of found) if (!levels.has(level.path)) levels.set(level.path, level)
        }
      }
      return [...levels.values()]
    },
    known: () => [...cache.values()].flatMap((known) => known.map(({ path }) => path)),
    forget(key) {
      cache.delete(homeOf(pathOfBudgetKey(key)))
    },
    async gather(path) {
      const gathered = await windows.gather(path)
      if (gathered) cache.delete(homeOf(path))
      return gathered
    },
    async areCurrent(levels) {
      const entries = await store.read(levels.map(({ path }) => budgetKey(path)))
      const changed = levels.filter(({ version }, index) => version !== (entries[index]?.version ?? 0))
      for (const { path } of changed) cache.delete(homeOf(path))
      return changed.length === 0
    },
    async standings(legs) {
      const columns = ['free', 'out', 'spent', 'suspense'] as const satisfies readonly Column[]
      const elsewhere = legs.map(({ level, dimension }) => (level.beside ?? []).map((path) => counterKey('out', `${dimension}/${path}`)))
      const found = await store.read([...legs.flatMap(({ key }) => columns.map((column) => counterKey(column, key))), ...elsewhere.flat()])
      const entries = found.slice(0, legs.length * columns.length)
      const heldAt = new Map(found.map((entry) => [entry?.key, Number(entry?.value ?? 0)]))
      return legs.map(({ level, dimension }, index) => {
        const [free, out, spent, suspense] = entries
          .slice(index * columns.length, (index + 1) * columns.length)
          .map((entry) => Number(entry?.value ?? 0))
        const limit = level.record.limits[dimension]!
        return {
          limit,
          free: level.version === 0 ? limit : free!,
          out: elsewhere[index]!.reduce((sum, key) => sum + (heldAt.get(key) ?? 0), out!),
          spent: spent!,
          suspense: suspense!,
          cut: cutOf(level, dimension),
        }
      })
    },
  }
}

/** When the first of these windows is over, Unix ms by the store's clock; Infinity without windows. */
export const endOf = (levels: readonly Level[]): number => Math.min(Infinity, ...levels.map(({ endsAtMs = Infinity }) => endsAtMs))

/** A child without a record but with counters has lost it: that is damage, not a new child. True when it was made meanwhile. */
async function wasCreated(store: Store, path: string, { limits }: BudgetRecord): Promise<boolean> {
  const keys = Object.keys(limits).map((dimension) => counterKey('free', `${dimension}/${path}`))
  // One snapshot: another process may make the child between two reads.
  const [record, ...counters] = await store.read([budgetKey(path), ...keys])
  if (record !== null && record !== undefined) return true
  const found = counters.find((entry) => entry !== null)
  if (found === undefined || found === null) return false
  throw new HoldfastError(
    'ERR_DAMAGE',
    `Budget \`${path}\` has counters (${found.key}) but no record: the record was lost. Nothing is taken from it.`,
  )
}

function unknownBudget(path: string): Refusal {
  const parent = path.includes('/') ? `'${path.slice(0, path.lastIndexOf('/'))}/*'` : `'${path}'`
  const wouldPass = `openKernel({ budgets: { ${parent}: { usd: 1 } } })`
  return new Refusal('ERR_UNKNOWN_BUDGET', `There is no budget \`${path}\`. Declare it: ${wouldPass}`, { wouldPass })
}

function frozenRefusal({ path, record }: Level): Refusal {
  return new Refusal('ERR_BUDGET_FROZEN', `Budget \`${path}\` is frozen: ${record.frozen}`, { endsRun: true })
}

function pausedRefusal(path: string, retryAtMs: number): Refusal {
  const message = `Budget \`${path}\` is paused until ${new Date(retryAtMs).toISOString()}: somebody was told to slow down.`
  return new Refusal('ERR_BUDGET_BUSY', message, { retryAtMs })
}

/** Dimensions that every integration counts; a path need not limit them. Any other one must be limited somewhere. */
const STANDARD = new Set(['usd', 'tokens', 'calls'])

/** Whether a dimension is one that every model call uses. */
export const isStandard = (dimension: string): boolean => STANDARD.has(dimension)

/** Refuses counters that nothing limits: a misspelt one would otherwise never bind. */
export function assertKnownDimensions(levels: readonly Level[], amounts: Amounts): void {
  for (const dimension of Object.keys(amounts)) {
    if (STANDARD.has(dimension) || levels.some(({ record }) => Object.hasOwn(record.limits, dimension))) continue
    throw new RangeError(`No budget on \`${homeOf(levels.at(-1)!.path)}\` limits \`${dimension}\`; declare it, or do not count it.`)
  }
}
