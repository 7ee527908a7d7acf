// `holdfast status`: the store, who uses it, and what is held, on one screen.

import type { Command } from 'commander'
import type { Column } from '../budget/record.ts'
import { readBudgets, type BudgetLine } from '../budget/report.ts'
import { homeOf } from '../budget/windows/window.ts'
import { readStops, subjectText } from '../kernel/stops.ts'
import type { StopFacts } from '../lib/errors.ts'
import { TITLES, amountCell, shownColumns, totalsOf } from './budget-status.ts'
import { withWholeStore } from './open-store.ts'
import { reports, type GlobalOptions, type Report } from './output.ts'
import { seeProcesses, type SeenProcess } from './processes.ts'
import { table, type Cell } from './table.ts'
import { shortId, span, type Format, type Style } from './text.ts'

/** What `holdfast status --json` prints. Amounts are integers: `usd` in nano-USD (1e-9 USD), the rest in units. */
export interface StatusJson {
  readonly store: { readonly name: string; readonly id: string }
  /** The store's clock, Unix ms. */
  readonly nowMs: number
  readonly processes: readonly SeenProcess[]
  /** Holds that are open, and those in suspense. */
  readonly holds: number
  readonly suspended: number
  /** How many budgets there are. */
  readonly budgets: number
  /** Paths of budgets that a living process uses in observe mode. */
  readonly notEnforced: readonly string[]
  /** Paths of budgets that take no more calls. */
  readonly frozen: readonly string[]
  /** Stops in force, oldest first. */
  readonly stops: readonly StopFacts[]
  /** By dimension, over the budgets at the top; `null` where a sum is beyond 2^53 - 1. */
  readonly totals: ReturnType<typeof totalsOf>
}

/** Adds the command. */
export function addStatus(program: Command): void {
  const command = program.command('status').description('show the store, its processes, and what is held')
  command.addHelpText(
    'after',
    `
States of a process:
  alive   seen a moment ago
  idle    holds nothing, so it need not report
  silent  holds money and says nothing; the next sweep of any kernel moves it to suspense
  gone    only its holds in suspense are left

With --json, amounts are integers and usd is in nano-USD (1,000,000,000 = $1).

Example:
  $ holdfast status --data ./run/.holdfast`,
  )
  reports(command, status)
}

async function status(place: GlobalOptions): Promise<Report> {
  return withWholeStore(place, async (store) => {
    const { nowMs, processes } = await seeProcesses(store)
    const lines = await readBudgets(store)
    const stops = await readStops(store)
    const json: StatusJson = {
      store: { name: store.name, id: store.id },
      nowMs,
      processes,
      holds: processes.reduce((sum, { holds }) => sum + holds, 0),
      suspended: processes.reduce((sum, { suspended }) => sum + suspended, 0),
      budgets: new Set(lines.map(({ budget }) => homeOf(budget))).size,
      notEnforced: pathsWhere(lines, ({ enforced }) => !enforced),
      frozen: pathsWhere(lines, ({ frozen }) => frozen !== undefined),
      stops,
      totals: totalsOf(lines),
    }
    return { json, text: (style) => statusText(json, style) }
  })
}

function pathsWhere(lines: readonly BudgetLine[], holds: (line: BudgetLine) => boolean): readonly string[] {
  return [...new Set(lines.filter(holds).map(({ budget }) => budget))]
}

function statusText(status: StatusJson, style: Style): string {
  const { store, holds, suspended, budgets, notEnforced, frozen, stops, nowMs, processes } = status
  const facts: (readonly Cell[])[] = [
    ['store', store.name],
    ['id', store.id],
    ['processes', countStates(processes)],
    ['open holds', String(holds)],
    ['in suspense', suspended === 0 ? '0' : ['yellow', `${suspended} (counts as spent)`]],
    ['budgets', String(budgets)],
    ...notEnforced.map((path): readonly Cell[] => ['', ['yellow', `NOT ENFORCED (observe): ${path}`]]),
    ...frozen.map((path): readonly Cell[] => ['', ['red', `FROZEN: ${path}`]]),
    ...stops.map((stop): readonly Cell[] => ['', ['red', stopText(stop, nowMs)]]),
  ]
  const parts = [table([{}, {}], facts, style)]
  if (processes.length > 0) parts.push(processTable(status, style))
  if (budgets > 0) parts.push(totalsTable(status.totals, style))
  return parts.join('\n')
}

function stopText(stop: StopFacts, nowMs: number): string {
  const left = stop.untilMs === undefined ? '' : ` (${span(stop.untilMs - nowMs)} left)`
  return `STOPPED: ${subjectText(stop)}, by ${stop.by}: ${stop.reason}${left}`
}

function countStates(processes: readonly SeenProcess[]): string {
  if (processes.length === 0) return 'none'
  const counts = (['alive', 'idle', 'silent', 'gone'] as const).map((state) => [
    processes.filter((one) => one.state === state).length,
    state,
  ])
  return counts
    .filter(([count]) => count !== 0)
    .map((count) => count.join(' '))
    .join(', ')
}

const STATE_FORMATS: Readonly<Record<SeenProcess['state'], Format>> = { alive: 'green', idle: 'dim', silent: 'red', gone: 'yellow' }

function processTable({ processes, nowMs }: StatusJson, style: Style): string {
  const columns = [
    { title: 'process' },
    { title: 'host' },
    { title: 'pid', align: 'right' as const },
    { title: 'mode' },
    { title: 'state' },
    { title: 'last seen', align: 'right' as const },
    { title: 'holds', align: 'right' as const },
    { title: 'suspense', align: 'right' as const },
  ]
  const rows = processes.map(({ process, host = '-', pid, mode = '-', promise, state, seenAtMs, holds, suspended }): readonly Cell[] => [
    shortId(process),
    host,
    String(pid ?? '-'),
    mode === 'observe' ? ['yellow', mode] : promise === 'bounded' ? ['yellow', promise] : mode,
    [STATE_FORMATS[state], state],
    seenAtMs === undefined ? '-' : `${span(nowMs - seenAtMs)} ago`,
    String(holds),
    String(suspended),
  ])
  return table(columns, rows, style)
}

function totalsTable(totals: StatusJson['totals'], style: Style): string {
  const shown = shownColumns(Object.values(totals))
  const rows = Object.entries(totals).map(([dimension, total]) => [
    dimension,
    sumCell('spent', dimension, total.limit),
    ...shown.map((column) => sumCell(column, dimension, total[column])),
  ])
  const titles = ['limit', ...shown.map((column) => TITLES[column])]
  return table([{ title: 'total' }, ...titles.map((title) => ({ title, align: 'right' as const }))], rows, style)
}

function sumCell(column: Column, dimension: string, sum: number | null): Cell {
  return sum === null ? 'too large' : amountCell(column, dimension, sum)
}
