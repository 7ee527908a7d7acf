// `holdfast budget status [path]`: what became of every budget.

import type { Command } from 'commander'
import { CHUNK_POLICY } from '../budget/lending.ts'
import { forecastOf, type ForecastLine } from '../budget/forecast.ts'
import { isHistory, readBudgets, type BudgetLine } from '../budget/report.ts'
import { COLUMNS, budgetKey, type Column } from '../budget/record.ts'
import { amountOf, formatAmount, type Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import type { Store } from '../stores/store.ts'
import { parseBudget } from './as-operator.ts'
import { forecastText } from './budget-forecast.ts'
import { findDamage } from './damage.ts'
import { withWholeStore } from './open-store.ts'
import { reports, type Report } from './output.ts'
import { seeHolds } from './seen-holds.ts'
import type { Place } from './store-address.ts'
import { table, type Cell } from './table.ts'
import { namedAmount, plural, timeOf, type Style } from './text.ts'

/** What `holdfast budget status --json` prints. Amounts are integers: `usd` in nano-USD (1e-9 USD), the rest in units. */
export interface BudgetStatusJson {
  /** One entry for each dimension of each budget, in order of path. */
  readonly budgets: readonly BudgetLine[]
  /** What is wrong with the budgets as a whole, one sentence each. */
  readonly damage: readonly string[]
  readonly chunks: ChunksJson
  /** How fast each of them is spent, by what all processes have reported in the last hour. */
  readonly forecast: readonly ForecastLine[]
}

/** What a process takes at a time from a budget that it uses often, and what a crash of all of them would strand now. */
export interface ChunksJson {
  readonly policy: typeof CHUNK_POLICY
  /** Leases that are open, on the shown budgets. */
  readonly leases: number
  /**
   * What they have left, by dimension; to the unit what goes to suspense with them. At most one chunk for each process
   * and budget, and what calls that were drawn from it had set aside.
   */
  readonly expectedWaste: Amounts
}

/** Adds the command to `holdfast budget`. */
export function addBudgetStatus(parent: Command): void {
  const command = parent
    .command('status')
    .description('show limit, spent, held and free of every budget')
    .argument('[path]', 'only this budget and those below it, such as acme/report-7', parseBudget)
  command.addHelpText(
    'after',
    `
Columns:
  spent     used for good; assumed is the part of it that was charged at worst, since nobody knows
  held      set aside by calls that have not ended
  suspense  held by processes that died: counts as spent until they, or you, say otherwise
  free      what is left
  over      let through by observe mode, or beyond what was held; counted beside the limit

Below, for what is being spent: how much an hour, measured since the oldest sample of the last hour that a kernel has
left, and when at this pace all that is free or held now is spent.

With --json, amounts are integers and usd is in nano-USD (1,000,000,000 = $1); held is called out.

Examples:
  $ holdfast budget status
  $ holdfast budget status acme/report-7 --data ./run/.holdfast`,
  )
  reports(command, (place) => budgetStatus(place, command.processedArgs[0] as string | undefined))
}

async function budgetStatus(place: Place, path: string | undefined): Promise<Report> {
  return withWholeStore(place, async (store) => {
    const budgets = await readBudgets(store, path)
    const shown = budgets.filter((line) => !isHistory(line))
    const damage = await findDamage(store)
    const chunks = await chunksOf(store, path)
    const forecast = await forecastOf(store, shown)
    if (path !== undefined && budgets.length === 0 && damage.length === 0) throw await noSuchBudget(store, path)
    const unbalanced = budgets.filter(({ balanced }) => !balanced).map(describeUnbalanced)
    const wrong = [...unbalanced, ...damage]
    return {
      json: { budgets, damage, chunks, forecast } satisfies BudgetStatusJson,
      text: (style) =>
        budgets.length === 0 ? emptyText(path) : `${budgetTable(shown, style)}\n${forecastText(forecast, style)}${chunksText(chunks)}`,
      fault: wrong.length === 0 ? undefined : { code: 'ERR_DAMAGE', message: wrong.join('\n') },
    }
  })
}

async function chunksOf(store: Store, path: string | undefined): Promise<ChunksJson> {
  const open = (await seeHolds(store, 'hold')).filter(
    ({ budget, reported }) => reported !== undefined && (path === undefined || budget === path || budget.startsWith(`${path}/`)),
  )
  const expectedWaste: Record<string, number> = {}
  for (const { amounts } of open)
    for (const [dimension, amount] of Object.entries(amounts)) expectedWaste[dimension] = amountOf(expectedWaste, dimension) + amount
  return { policy: CHUNK_POLICY, leases: open.length, expectedWaste }
}

function chunksText({ policy, leases, expectedWaste }: ChunksJson): string {
  const { busyCalls, busyMs, firstChunk, maxChunk, share } = policy
  const waste = Object.entries(expectedWaste)
    .filter(([, amount]) => amount > 0)
    .map(([dimension, amount]) => namedAmount(dimension, amount))
  const policyText = `A budget with ${busyCalls} calls within ${busyMs} ms is leased in chunks of ${firstChunk} to ${maxChunk.toLocaleString('en-US')} calls, at most 1/${share} of what is free.`
  return `Chunks: ${policyText}\nWaste:  a crash strands at most one chunk for each process and budget, ${firstChunk} calls soon after its start, and what its calls under way had set aside; ${waste.join(', ') || 'nothing'} now, in ${plural(leases, 'lease')}.\n`
}

/** Says which budget does not balance. */
export function describeUnbalanced({ budget, dimension, limit, free, spent, suspense, out, kids }: BudgetLine): string {
  const sum = free + spent + suspense + out + kids
  return `Budget \`${budget}\` is not balanced in ${dimension}: its columns sum up to ${sum}, its limit is ${limit}.`
}

async function noSuchBudget(store: Store, path: string): Promise<HoldfastError> {
  const parent = path.slice(0, Math.max(0, path.lastIndexOf('/')))
  const [shape] = await store.read([budgetKey(`${parent}/*`)])
  const hint =
    parent !== '' && shape !== null
      ? `It will be made from \`${parent}/*\` by the first call on it.`
      : 'See all of them: holdfast budget status'
  return new HoldfastError('ERR_UNKNOWN_BUDGET', `There is no budget \`${path}\` in this store. ${hint}`)
}

function emptyText(path: string | undefined): string {
  if (path !== undefined) return `No budget ${path}.\n`
  return 'No budgets yet. Declare them: openKernel({ store, budgets: { acme: { usd: 50 } } })\n'
}

function budgetTable(lines: readonly BudgetLine[], style: Style): string {
  const columns = shownColumns(lines)
  const header = [
    { title: 'budget' },
    { title: 'dimension' },
    { title: 'limit', align: 'right' as const },
    ...columns.map((column) => ({ title: TITLES[column], align: 'right' as const })),
    { title: 'note' },
  ]
  const rows = lines.map((line) => [
    line.budget,
    line.dimension,
    formatAmount(line.dimension, line.limit),
    ...columns.map((column) => amountCell(column, line.dimension, line[column])),
    noteCell(line),
  ])
  const budgets = new Set(lines.map(({ budget }) => budget)).size
  return `${table(header, rows, style)}${budgets > 1 ? `\n${plural(budgets, 'budget')}\n` : ''}`
}

/** The titles of the columns of the ledger. */
export const TITLES: Readonly<Record<Column, string>> = {
  spent: 'spent',
  assumed: 'assumed',
  out: 'held',
  suspense: 'suspense',
  kids: 'kids',
  free: 'free',
  over: 'over',
}

/** The columns in the order in which they are read; those that are rarely used only when they are. */
export function shownColumns(lines: readonly Readonly<Record<Column, number | null>>[]): readonly Column[] {
  const rare = new Set<Column>(['kids', 'over'])
  return (Object.keys(TITLES) as Column[]).filter((column) => !rare.has(column) || lines.some((line) => line[column] !== 0))
}

/** An amount; nothing is dim, so that what happened stands out. */
export function amountCell(column: Column, dimension: string, amount: number): Cell {
  const text = formatAmount(dimension, amount)
  if (amount === 0) return [column === 'free' ? 'red' : 'dim', column === 'free' ? text : '-']
  return column === 'suspense' || column === 'over' || column === 'assumed' ? ['yellow', text] : text
}

/** What is in a limit for a while, and until when. */
export const raiseNotes = ({ dimension, raises = [] }: Pick<BudgetLine, 'dimension' | 'raises'>): readonly string[] =>
  raises.map(({ amount, untilMs, by, over }) => {
    const end = over === true ? ', which is over: the next kernel that opens takes it back' : ''
    return `raised by ${formatAmount(dimension, amount)} until ${timeOf(untilMs)} (${by})${end}`
  })

function noteCell(line: BudgetLine): Cell {
  const { dimension, balanced, enforced, frozen, pendingCut } = line
  const notes = [
    ...(balanced ? [] : ['UNBALANCED']),
    ...(frozen === undefined ? [] : [`frozen: ${frozen}`]),
    ...(pendingCut === undefined ? [] : [`still to be cut: ${formatAmount(dimension, pendingCut)}`]),
    ...raiseNotes(line),
    ...(enforced ? [] : ['not enforced']),
  ]
  return [balanced && frozen === undefined ? 'yellow' : 'red', notes.join('; ')]
}

/** Sums of the budgets at the top, by dimension: what is below them is a part of them. `null`: beyond 2^53 - 1. */
export function totalsOf(lines: readonly BudgetLine[]): Readonly<Record<string, Readonly<Record<Column | 'limit', number | null>>>> {
  const totals: Record<string, Record<Column | 'limit', number | null>> = {}
  for (const line of lines.filter(({ budget }) => !budget.includes('/'))) {
    const total = (totals[line.dimension] ??= { limit: 0, free: 0, spent: 0, suspense: 0, out: 0, kids: 0, assumed: 0, over: 0 })
    for (const column of ['limit', ...COLUMNS] as const) {
      const sum = (total[column] ?? Infinity) + line[column]
      total[column] = Number.isSafeInteger(sum) ? sum : null
    }
  }
  return totals
}
