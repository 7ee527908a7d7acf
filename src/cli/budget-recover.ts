// `holdfast budget recover`: puts in order what can be put in order without knowing more than the store and the chains
// say, and explains the rest. Nothing that could make money out of nothing is ever done by itself.

import type { Command } from 'commander'
import { readBudgets } from '../budget/report.ts'
import type { Store } from '../stores/store.ts'
import { asOperator } from './as-operator.ts'
import { describeUnbalanced } from './budget-status.ts'
import { findDamage } from './damage.ts'
import { findEstates, type Estate } from './doctor-successors.ts'
import { withWholeStore } from './open-store.ts'
import { reports, type Report } from './output.ts'
import { seeHolds, type SeenHold } from './seen-holds.ts'
import type { Place } from './store-address.ts'
import { namedAmount, plural, visible } from './text.ts'

/** What `holdfast budget recover --json` prints. */
export interface BudgetRecoverJson {
  /** What is damaged, one sentence each. With any of it, nothing was done. */
  readonly damage: readonly string[]
  /** What was done, one sentence each. */
  readonly done: readonly string[]
  /** What only an operator can decide. */
  readonly left: readonly Remainder[]
}

/** One thing that is left, and the command that ends it. */
export interface Remainder {
  readonly what: string
  readonly todo: string
}

/** Most holds that are listed one by one. */
const MAX_LISTED = 100
// Not a backup: an older copy does not know what was spent since, and would let it be spent again.
const AFTER_DAMAGE =
  'Nothing was changed. Stop the processes of this store and keep a copy of it. Go on in a new one, with limits lowered by what was spent.'

/** Adds the command to `holdfast budget`. */
export function addBudgetRecover(parent: Command): void {
  const command = parent.command('recover').description('put in order what dead processes have left, and explain what only you can decide')
  command.addHelpText(
    'after',
    `
It does what any kernel does when it opens, and no more:
  - ends what dead processes of this data directory held, as their chains say; what they are silent about is charged at worst
  - moves to suspense what silent processes hold
  - takes off lowered limits what has come back since
It never returns money from suspense, thaws a budget or repairs damage: that takes somebody who knows what happened.
With damage it changes nothing, and ends with 1.

Example:
  $ holdfast budget recover`,
  )
  reports(command, recover)
}

async function recover(place: Place): Promise<Report> {
  const damage = await withWholeStore(place, damageOf)
  if (damage.length > 0) {
    const text = (): string => `${AFTER_DAMAGE}\n`
    return {
      json: { damage, done: [], left: [] } satisfies BudgetRecoverJson,
      text,
      fault: { code: 'ERR_DAMAGE', message: damage.join('\n') },
    }
  }
  const before = await withWholeStore(place, (store) => look(place, store))
  const done: string[] = []
  const left = await asOperator(
    place,
    async (kernel) => {
      await kernel.sweep()
      const now = await look(place, kernel.store)
      done.push(...changesOf(before, now))
      return remaindersOf(now)
    },
    { onEvent: ({ type, message }) => void (type === 'suspended' && done.push(message)) },
  )
  const json: BudgetRecoverJson = { damage, done, left }
  return { json, text: () => recoverText(json) }
}

async function damageOf(store: Store): Promise<readonly string[]> {
  const unbalanced = (await readBudgets(store)).filter(({ balanced }) => !balanced).map(describeUnbalanced)
  return [...unbalanced, ...(await findDamage(store))]
}

/** What recovery is about. */
interface Sight {
  readonly estates: readonly Estate[]
  readonly suspended: readonly SeenHold[]
  readonly frozen: ReadonlyMap<string, string>
  /** By `<dimension>/<path>`. */
  readonly cuts: ReadonlyMap<string, number>
}

async function look({ data }: Place, store: Store): Promise<Sight> {
  const lines = await readBudgets(store)
  return {
    estates: await findEstates(data, store),
    suspended: await seeHolds(store, 'suspended'),
    frozen: new Map(lines.flatMap(({ budget, frozen }) => (frozen === undefined ? [] : [[budget, frozen]]))),
    cuts: new Map(
      lines.flatMap(({ budget, dimension, pendingCut }) => (pendingCut === undefined ? [] : [[`${dimension}/${budget}`, pendingCut]])),
    ),
  }
}

function changesOf(before: Sight, now: Sight): readonly string[] {
  const still = new Set(now.estates.map(({ process }) => process))
  const ended = before.estates.filter(({ process, doubt }) => doubt === undefined && !still.has(process))
  const cuts = [...before.cuts].flatMap(([leg, amount]) => {
    const dimension = leg.slice(0, leg.indexOf('/'))
    const taken = amount - (now.cuts.get(leg) ?? 0)
    return taken <= 0
      ? []
      : [`The limit of \`${leg.slice(dimension.length + 1)}\` went down by ${namedAmount(dimension, taken)}, as it was told to.`]
  })
  return [...ended.map(({ process }) => `What the dead process ${process} had left was ended, as its chain says.`), ...cuts]
}

function remaindersOf({ estates, suspended, frozen, cuts }: Sight): readonly Remainder[] {
  const doubtful = estates.flatMap(({ process, doubt }) =>
    doubt === undefined
      ? []
      : [
          {
            what: `Process ${process} is dead, and its chain cannot be believed: ${doubt}`,
            todo: 'Look at the bill of your provider; end what it held as below.',
          },
        ],
  )
  const holds = suspended.slice(0, MAX_LISTED).map(({ id, process, budget, agent, amounts, reported }) => {
    const held = Object.entries(amounts).map(([dimension, amount]) => namedAmount(dimension, amount))
    const who = reported === undefined ? `A call of ${agent}` : 'A lease'
    const what = `${who} on ${budget}, of process ${process}, is in suspense with ${held.join(', ')}.`
    return { what, todo: `holdfast budget reclaim --hold ${id} usd=<what the bill says> --reason <why>` }
  })
  const more = suspended.length - holds.length
  return [
    ...doubtful,
    ...holds,
    ...(more > 0 ? [{ what: `${plural(more, 'more hold')} in suspense.`, todo: 'holdfast budget leases --all' }] : []),
    ...[...frozen].map(([budget, why]) => ({
      what: `Budget ${budget} is frozen: ${why}.`,
      todo: `holdfast budget unfreeze ${budget} --reason <why>`,
    })),
    ...[...cuts].map(([leg, amount]) => {
      const dimension = leg.slice(0, leg.indexOf('/'))
      const what = `${namedAmount(dimension, amount)} are still to be cut from ${leg.slice(dimension.length + 1)}: spent, held, or in suspense.`
      return { what, todo: 'Wait; what is spent stays above the limit that you set.' }
    }),
  ]
}

function recoverText({ done, left }: BudgetRecoverJson): string {
  const did = done.length === 0 ? ['There was nothing to put in order.'] : done
  const rest = left.length === 0 ? ['Nothing is left to decide.'] : left.flatMap(({ what, todo }) => [what, `  -> ${todo}`])
  return [...did, '', ...rest].map((line) => `${visible(line)}\n`).join('')
}
