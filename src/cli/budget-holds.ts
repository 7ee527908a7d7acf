// `holdfast budget leases`, `reclaim` and `correct`: what processes hold, and what of it an operator ends.

import { InvalidArgumentError, type Command } from 'commander'
import type { HoldEnd } from '../budget/operator-holds.ts'
import type { Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import { asOperator, evidenceOf, parseAmounts, withEvidence } from './as-operator.ts'
import { withWholeStore } from './open-store.ts'
import { reports, type Report } from './output.ts'
import { seeProcesses, type SeenProcess } from './processes.ts'
import { holdNamed, seeHolds, type HoldPlace, type SeenHold } from './seen-holds.ts'
import type { Place } from './store-address.ts'
import { table, type Cell } from './table.ts'
import { namedAmount, shortId, span } from './text.ts'

/** What `holdfast budget leases --json` prints. Amounts are integers: `usd` in nano-USD. */
export interface LeasesJson {
  /** The store's clock, Unix ms. */
  readonly nowMs: number
  readonly leases: readonly SeenLease[]
}

/** A lease; with `--all`, also a hold, or a charge that can be corrected. */
export interface SeenLease extends SeenHold {
  readonly kind: 'lease' | 'hold'
  /** `open`, `suspense`: its process is silent; `charged`: at worst, and correctable. */
  readonly state: 'open' | 'suspense' | 'charged'
  /** Of its process, as in `holdfast status`; `gone` when nothing else is left of it. */
  readonly processState: SeenProcess['state']
}

/** What `holdfast budget reclaim --json` and `correct --json` print. Amounts are integers: `usd` in nano-USD. */
export type HoldEndJson = HoldEnd

const PLACES: Readonly<Record<SeenLease['state'], HoldPlace>> = { open: 'hold', suspense: 'suspended', charged: 'charged' }

/** Adds the commands to `holdfast budget`. */
export function addBudgetHolds(parent: Command): void {
  const leases = parent
    .command('leases')
    .description('list what processes have leased, and what is in suspense of it')
    .option('--all', 'also holds of single calls, and charges that can be corrected')
  leases.addHelpText(
    'after',
    `
A lease is a chunk of a budget that one process spends without asking. What a crash can strand is what is left of it.

Examples:
  $ holdfast budget leases
  $ holdfast budget leases --all --json`,
  )
  reports(leases, (place) => listLeases(place, leases.opts<{ all?: true }>().all === true))
  addReclaim(parent)
  addCorrect(parent)
}

async function listLeases(place: Place, all: boolean): Promise<Report> {
  return withWholeStore(place, async (store) => {
    const { nowMs, processes } = await seeProcesses(store)
    const states = new Map(processes.map(({ process, state }) => [process, state]))
    const leases = (await Promise.all((all ? (['open', 'suspense', 'charged'] as const) : (['open', 'suspense'] as const)).map(inState)))
      .flat()
      .filter(({ kind }) => all || kind === 'lease')
      .sort((one, other) => one.atMs - other.atMs)

    async function inState(state: SeenLease['state']): Promise<readonly SeenLease[]> {
      return (await seeHolds(store, PLACES[state])).map((seen) => ({
        ...seen,
        kind: seen.reported === undefined ? 'hold' : 'lease',
        state,
        processState: states.get(seen.process) ?? 'gone',
      }))
    }

    return {
      json: { nowMs, leases } satisfies LeasesJson,
      text: (style) =>
        leases.length === 0
          ? `No ${all ? 'holds' : 'leases'}.\n`
          : table(
              COLUMNS,
              leases.map((lease) => row(lease, nowMs)),
              style,
            ),
    }
  })
}

const COLUMNS = [
  { title: 'id' },
  { title: 'kind' },
  { title: 'process' },
  { title: 'is' },
  { title: 'budget' },
  { title: 'state' },
  { title: 'age', align: 'right' },
  { title: 'left' },
  { title: 'reported' },
] as const

function row(lease: SeenLease, nowMs: number): readonly Cell[] {
  const { id, kind, process, processState, budget, state, atMs, amounts, reported = {} } = lease
  const stateCell: Cell = state === 'open' ? state : ['yellow', state]
  return [id, kind, shortId(process), processState, budget, stateCell, span(nowMs - atMs), written(amounts), written(reported)]
}

function addReclaim(parent: Command): void {
  const command = withEvidence(
    parent
      .command('reclaim')
      .description('end a hold or a lease in suspense with what it really used; the rest is free again')
      .requiredOption('--hold <id>', 'the hold or lease, or the beginning of its id; see: holdfast budget leases --all')
      .argument('[used...]', 'what it used, such as usd=0.12; what is not named counts as used up')
      .option('--write-off', 'nobody will ever know: charge it at worst; can be corrected for 30 days')
      .option('--process <id>', 'its process, where the id is not enough'),
  )
  command.addHelpText(
    'after',
    `
What you say here is believed: compare with the bill of your provider first. Refused while its process is alive.

Examples:
  $ holdfast budget reclaim --hold x7Kq usd=0.12 --reason "bill of November"
  $ holdfast budget reclaim --hold x7Kq --write-off --reason "provider keeps no logs"`,
  )
  reports(command, async (place) => {
    const { writeOff = false, process } = command.opts<{ writeOff?: true; process?: string }>()
    const used = parseAmounts(command.processedArgs[0] as string[])
    if (writeOff === Object.keys(used).length > 0)
      throw new InvalidArgumentError('Say what it used, such as usd=0.12, or --write-off; not both.')
    return end(place, 'suspended', command, process, (kernel, name) =>
      writeOff ? kernel.writeOff({ ...name, ...evidenceOf(command) }) : kernel.reclaim({ ...name, used, ...evidenceOf(command) }),
    )
  })
}

function addCorrect(parent: Command): void {
  const command = withEvidence(
    parent
      .command('correct')
      .description('correct a charge that was assumed: what the call really used')
      .requiredOption('--hold <id>', 'the hold, or the beginning of its id; see: holdfast budget leases --all')
      .argument('<used...>', 'what it used, such as usd=0.12; what is not named stays charged')
      .option('--process <id>', 'its process, where the id is not enough'),
  )
  command.addHelpText(
    'after',
    `
A call whose outcome nobody knows is charged at its worst case, for 30 days correctable: also while its process
lives, and after its lease has ended.

Example:
  $ holdfast budget correct --hold x7Kq usd=0.02 tokens=310 --reason "usage page of the provider"`,
  )
  reports(command, async (place) => {
    const used = parseAmounts(command.processedArgs[0] as string[])
    const { process } = command.opts<{ process?: string }>()
    return end(place, 'charged', command, process, (kernel, name) => kernel.correct({ ...name, used, ...evidenceOf(command) }))
  })
}

type Ending = (kernel: Parameters<Parameters<typeof asOperator>[1]>[0], name: { process: string; hold: string }) => Promise<HoldEnd>

async function end(
  place: Place,
  where: 'suspended' | 'charged',
  command: Command,
  process: string | undefined,
  how: Ending,
): Promise<Report> {
  return asOperator(place, async (kernel) => {
    const { id: hold, process: owner } = await holdNamed(kernel.store, where, command.opts<{ hold: string }>().hold, process)
    const json = await how(kernel, { process: owner, hold }).catch((error: unknown) => {
      if (error instanceof RangeError) throw new HoldfastError('ERR_HOLD_STATE', error.message, { cause: error })
      throw error
    })
    const back = written(json.returned)
    return { json, text: () => `${json.budget}: used ${written(json.used) || 'nothing'}${back === '' ? '' : `; free again: ${back}`}\n` }
  })
}

const written = (amounts: Amounts): string =>
  Object.entries(amounts)
    .filter(([, amount]) => amount > 0)
    .map(([dimension, amount]) => namedAmount(dimension, amount))
    .join(', ')
