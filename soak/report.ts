// What came of a soak, as one table: ours beside those that do it wrong.

import { table } from '../src/cli/table.ts'
import { createStyle } from '../src/cli/text.ts'
import { known, accountOf } from './checks.ts'
import { hasShown } from './controls.ts'
import { ROOT } from './market.ts'
import type { Outcome } from './soak.ts'

const usd = (nanoUsd: number): string => (nanoUsd / 1e9).toFixed(6)

type Row = readonly [title: string, value: (outcome: Outcome) => string]

const root = ({ looks }: Outcome) => accountOf(looks.accounts, ROOT, 'usd')
const counted = ({ told }: Outcome, what: string): string => String(told.counts[what] ?? 0)
const atTheEnd = (outcome: Outcome, value: (of: NonNullable<Outcome['conclusion']>) => string): string =>
  outcome.conclusion === undefined ? '-' : value(outcome.conclusion)

const ROWS: readonly Row[] = [
  ['seconds', ({ ms }) => (ms / 1_000).toFixed(1)],
  ['kills', ({ happened }) => String(happened.kills)],
  ['stops beyond the lease', ({ happened }) => String(happened.stops)],
  ['ends in good order', ({ happened }) => String(happened.leaves)],
  ['connections cut or held', ({ happened }) => String(happened.cuts)],
  ['server crashes', ({ happened }) => String(happened.restarts)],
  ['looks (without answer)', ({ looks }) => `${looks.done} (${looks.missed})`],
  ['calls that arrived', ({ requests }) => String(requests)],
  ['calls that were billed', ({ billed }) => String(billed)],
  ['handoffs', (outcome) => counted(outcome, 'handoffs')],
  ['limit, USD', (outcome) => usd(root(outcome)?.limit ?? 0)],
  ['times it was raised', ({ raises }) => String(raises)],
  ['bill, USD', ({ bill }) => usd(bill)],
  ['known to the ledger, USD', (outcome) => usd(root(outcome) === undefined ? 0 : known(root(outcome)!))],
  ['overspend, USD', ({ looks }) => usd(Math.max(0, looks.overspend))],
  ['billed and not known, USD', ({ looks }) => usd(Math.max(0, looks.unknown))],
  ['the same in calls', ({ looks }) => String(Math.max(0, looks.unknownCalls))],
  ['lines out of balance', ({ looks }) => String(looks.unbalanced)],
  ['waste, USD', (outcome) => atTheEnd(outcome, ({ waste }) => usd(waste))],
  ['its bound, USD', (outcome) => atTheEnd(outcome, ({ wasteBound }) => usd(wasteBound))],
  ['in suspense at the end, USD', (outcome) => atTheEnd(outcome, ({ suspense }) => usd(suspense))],
  ['processes without successor', (outcome) => atTheEnd(outcome, ({ stranded }) => String(stranded))],
  ['refused: EXCEEDED', (outcome) => counted(outcome, 'ERR_BUDGET_EXCEEDED')],
  ['refused: BUSY', (outcome) => counted(outcome, 'ERR_BUDGET_BUSY')],
  ['EXCEEDED while it could fit', (outcome) => atTheEnd(outcome, ({ wrongRefusals }) => String(wrongRefusals))],
  ['store away: ERR_STORE', (outcome) => counted(outcome, 'ERR_STORE')],
  ['chains verified', (outcome) => atTheEnd(outcome, ({ chains }) => String(chains))],
  ['breaches', ({ breaches }) => String(breaches.length)],
]

/** The table. */
export function reportOf(outcomes: readonly Outcome[]): string {
  const columns = [
    { title: '' },
    ...outcomes.map(({ options }) => ({ title: options.control ?? `holdfast on ${options.store}`, align: 'right' as const })),
  ]
  const rows = ROWS.map(([title, value]) => [title, ...outcomes.map(value)])
  return table(columns, rows, createStyle(false))
}

/** What is wrong with an outcome: a breach of ours, or a control that shows none. */
export function verdictOf({ options: { control }, breaches, looks }: Outcome): readonly string[] {
  if (control === undefined) return breaches.map((breach) => `BREACH: ${breach}`)
  return hasShown(control, looks) ? [] : [`BREACH: the harness cannot see ${control}`]
}

/** A run in one line: what of ours happened, what was wrong, and how many of its controls were found out. */
export function lastLineOf(outcomes: readonly Outcome[]): string {
  const ours = outcomes.filter(({ options }) => options.control === undefined)
  const controls = outcomes.filter(({ options }) => options.control !== undefined)
  const done = ours.map(({ options, ms, happened, looks, billed, breaches }) => {
    const { store, processes, seed } = options
    const { kills, stops, cuts, restarts } = happened
    const chaos = `${kills} kills, ${stops} stops, ${cuts} cuts, ${restarts} server crashes`
    const seconds = Math.round(ms / 1_000)
    return `soak: ${store}: ${seconds} s, ${processes} processes, ${chaos}, ${billed} calls billed, ${looks.done} looks, ${breaches.length} breaches, seed ${seed}`
  })
  const found = controls.filter((outcome) => verdictOf(outcome).length === 0)
  return `${done.join('; ')}, ${found.length} of ${controls.length} controls found`
}
