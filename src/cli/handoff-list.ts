// `holdfast handoff list`: who handed what to whom, with how much money, and what became of it.

import type { Command } from 'commander'
import { budgetKey, type BudgetRecord } from '../budget/record.ts'
import { handoffKey, type HandoffRecord } from '../handoff/handoff.ts'
import { listAll } from '../stores/entries.ts'
import type { Entry, Store } from '../stores/store.ts'
import type { Amounts } from '../lib/amounts.ts'
import { withWholeStore } from './open-store.ts'
import { reports, type Report } from './output.ts'
import type { Place } from './store-address.ts'
import { table } from './table.ts'
import { namedAmount, timeOf } from './text.ts'

/** What `holdfast handoff list --json` prints. Amounts are integers: `usd` in nano-USD. */
export interface HandoffListJson {
  readonly handoffs: readonly HandoffLine[]
}

/** One handoff. `open`: the receiver may spend. `closing`: closed, and something of it is still held. */
export interface HandoffLine {
  readonly id: string
  /** `earmark`: an agent's own money for a later step, which `to` names. */
  readonly kind: 'handoff' | 'earmark'
  readonly from: string
  readonly to: string
  readonly task: string
  readonly budget: string
  /** What was handed over. */
  readonly limits: Amounts
  readonly state: 'open' | 'closing' | 'closed'
  /** What has gone back up, once it is closed. */
  readonly returned?: Amounts
  readonly spent?: Amounts
  readonly atMs: number
}

/** Adds the command to `holdfast handoff`. */
export function addHandoffList(parent: Command): void {
  const command = parent.command('list').description('list handoffs, newest first')
  reports(command, handoffList)
}

async function handoffList(place: Place): Promise<Report> {
  return withWholeStore(place, async (store) => {
    const records = await listAll(store, handoffKey(''))
    const handoffs = (await Promise.all(records.map((record) => lineOf(store, record)))).sort((a, b) => b.atMs - a.atMs)
    const header = ['id', 'from', 'to', 'task', 'handed over', 'state', 'spent', 'at'].map((title) => ({ title }))
    return {
      json: { handoffs } satisfies HandoffListJson,
      text: (style) => {
        if (handoffs.length === 0) return 'No handoffs. Agents make them: scope.handoff({ to, budget, instruction })\n'
        const rows = handoffs.map(({ id, kind, from, to, task, limits, state, spent, atMs }) => [
          id,
          from,
          kind === 'earmark' ? `${to} (step)` : to,
          task,
          written(limits),
          state,
          spent === undefined ? '' : written(spent),
          timeOf(atMs),
        ])
        return table(header, rows, style)
      },
    }
  })
}

async function lineOf(store: Store, { key, value }: Entry): Promise<HandoffLine> {
  const { kind = 'handoff', from, to, task, budget, limits, atMs } = value as unknown as HandoffRecord
  const [record] = await store.read([budgetKey(budget)])
  const { closed, limits: left } = (record?.value ?? { closed: {}, limits: {} }) as unknown as BudgetRecord
  const state = closed === undefined ? 'open' : Object.values(left).some((amount) => amount > 0) ? 'closing' : 'closed'
  return { id: key.slice(handoffKey('').length), kind, from, to, task, budget, limits, state, ...closed, atMs }
}

const written = (amounts: Amounts): string =>
  Object.entries(amounts)
    .map(([dimension, amount]) => namedAmount(dimension, amount))
    .join(', ')
