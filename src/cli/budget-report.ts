// `holdfast budget report`: what was allocated, what is reported spent and what is free, by budget; and who spent it,
// by agent and by operation.

import type { Command } from 'commander'
import { isHistory, readBudgets, type BudgetLine, type RaisedLine } from '../budget/report.ts'
import { amountOf, formatAmount, type Amounts } from '../lib/amounts.ts'
import { homeOf } from '../budget/windows/window.ts'
import { HoldfastError } from '../lib/errors.ts'
import { parseBudget } from './as-operator.ts'
import { raiseNotes, totalsOf } from './budget-status.ts'
import { withWholeStore } from './open-store.ts'
import { reports, type Report } from './output.ts'
import type { Place } from './store-address.ts'
import { table, type Cell } from './table.ts'
import { namedAmount, plural, visible, type Style } from './text.ts'
import { sumTrail, type SpentLine, type TrailSums } from './trail-sums.ts'

/** What `holdfast budget report --json` prints. Amounts are integers: `usd` in nano-USD. */
export interface BudgetReportJson {
  readonly budgets: readonly ReportLine[]
  /** From the chains of this data directory; what other machines spent is not among them. */
  readonly byAgent: readonly SpentLine[]
  readonly byOperation: readonly SpentLine[]
  /** Over the shown budgets that stand highest, by dimension: what the store has as spent and the chains do not explain. */
  readonly unexplained: Amounts
  readonly chains: number
}

/** One dimension of one budget. `allocated = spent + unreported + children + free`. */
export interface ReportLine {
  readonly budget: string
  readonly dimension: string
  readonly allocated: number
  /** Reported as used for good. */
  readonly spent: number
  /** Held by calls and leases that have not reported, or in suspense. */
  readonly unreported: number
  /** Handed to children that account for it themselves. */
  readonly children: number
  readonly free: number
  /** What of `allocated` is there for a while only. */
  readonly raises?: readonly RaisedLine[]
}

/** Adds the command to `holdfast budget`. */
export function addBudgetReport(parent: Command): void {
  const command = parent
    .command('report')
    .description('show allocated, reported spent and free by budget, and who spent it')
    .argument('[path]', 'only this budget and those below it', parseBudget)
  command.addHelpText(
    'after',
    `
Columns:
  allocated   the limit in force
  reported    used for good, as processes have told the store
  unreported  held or leased by processes that have not told yet, or in suspense
  open        of actions that have no outcome: at worst

By agent and by operation: from the audit chains of this data directory, so of this machine only.

Examples:
  $ holdfast budget report
  $ holdfast budget report acme --json --store redis://localhost:6379 --data ./run/.holdfast`,
  )
  reports(command, (place) => budgetReport(place, command.processedArgs[0] as string | undefined))
}

async function budgetReport(place: Place, path: string | undefined): Promise<Report> {
  const lines = await withWholeStore(place, (store) => readBudgets(store, path))
  if (path !== undefined && lines.length === 0)
    throw new HoldfastError('ERR_UNKNOWN_BUDGET', `There is no budget \`${path}\` in this store. See all of them: holdfast budget status`)
  const trail = await sumTrail(place.data, path)
  const json: BudgetReportJson = {
    budgets: lines.filter((line) => !isHistory(line)).map(toReport),
    byAgent: trail.byAgent,
    byOperation: trail.byOperation,
    unexplained: unexplainedOf(
      lines.filter(({ budget }) => homeOf(budget) === budget),
      trail,
    ),
    chains: trail.chains,
  }
  const message = `${plural(trail.badLines, 'line')} of the chains are not records that hold, and are not counted. See: holdfast audit verify`
  return {
    json,
    text: (style) => reportText(json, style),
    fault: trail.badLines === 0 ? undefined : { code: 'ERR_DAMAGE', message },
  }
}

function toReport({ budget, dimension, limit, spent, out, suspense, kids, free, raises }: BudgetLine): ReportLine {
  const raised = raises === undefined ? {} : { raises }
  return { budget, dimension, allocated: limit, spent, unreported: out + suspense, children: kids, free, ...raised }
}

/** What other machines spent, or chains that are gone. Reports may be a moment behind the chains; that is nothing. */
function unexplainedOf(lines: readonly BudgetLine[], { spent }: TrailSums): Amounts {
  const depth = Math.min(...lines.map(({ budget }) => budget.split('/').length))
  const highest = lines.filter(({ budget }) => budget.split('/').length === depth).map((line) => ({ ...line, budget: 'top' }))
  const differences = Object.entries(totalsOf(highest)).map(
    ([dimension, total]) => [dimension, (total.spent ?? 0) - amountOf(spent, dimension)] as const,
  )
  return Object.fromEntries(differences.filter(([, amount]) => amount > 0))
}

function reportText({ budgets, byAgent, byOperation, unexplained, chains }: BudgetReportJson, style: Style): string {
  if (budgets.length === 0) return 'No budgets yet. Declare one: holdfast budget init --task report-7 --limit 5\n'
  const withChildren = budgets.some(({ children }) => children > 0)
  const right = (title: string) => ({ title, align: 'right' as const })
  const columns = [
    { title: 'budget' },
    { title: 'dimension' },
    right('allocated'),
    right('reported'),
    right('unreported'),
    ...(withChildren ? [right('children')] : []),
    right('free'),
  ]
  const rows = budgets.map(({ budget, dimension, allocated, spent, unreported, children, free }): readonly Cell[] => [
    budget,
    dimension,
    ...[allocated, spent, unreported, ...(withChildren ? [children] : []), free].map((amount) => formatAmount(dimension, amount)),
  ])
  const rest = Object.entries(unexplained).map(([dimension, amount]) => namedAmount(dimension, amount))
  const note =
    rest.length === 0
      ? ''
      : `\n${rest.join(', ')} of what is reported is not in the ${plural(chains, 'chain')} here: other machines, or chains that are gone.\n`
  const raised = budgets.flatMap((line) => raiseNotes(line).map((raise) => `${visible(`${line.budget}: ${line.dimension} ${raise}`)}\n`))
  return (
    [
      table(columns, rows, style) + raised.join(''),
      ...spentTables(byAgent, 'agent', style),
      ...spentTables(byOperation, 'operation', style),
    ].join('\n') + note
  )
}

function spentTables(lines: readonly SpentLine[], title: string, style: Style): readonly string[] {
  if (lines.length === 0) return []
  const columns = [
    { title },
    { title: 'dimension' },
    ...['actions', 'spent', 'assumed', 'open'].map((name) => ({ title: name, align: 'right' as const })),
  ]
  const rows = lines.map(({ name, dimension, actions, spent, assumed, open }): readonly Cell[] => [
    name,
    dimension,
    actions.toLocaleString('en-US'),
    formatAmount(dimension, spent),
    assumed === 0 ? ['dim', '-'] : ['yellow', formatAmount(dimension, assumed)],
    open === 0 ? ['dim', '-'] : formatAmount(dimension, open),
  ])
  return [table(columns, rows, style)]
}
