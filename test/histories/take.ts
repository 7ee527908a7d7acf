// Records many histories of one store and judges each of them at once.

import { sleep } from '../../src/lib/clock.ts'
import { seededRandom } from '../../src/testing/faulty-store.ts'
import type { Break } from './broken-clients.ts'
import type { Anomaly, History, Operation, Workload } from './history.ts'
import { judge } from './judge.ts'
import { openCrew, type Crew } from './record.ts'
import { startSite, type StoreName } from './sites.ts'

/** What is taken. */
export interface TakeOptions {
  readonly store: StoreName
  readonly histories: number
  /** Of the first history; each next one has the next seed. */
  readonly seed: number
  readonly clients: number
  /** Of each client in a history. */
  readonly calls: number
  /** @default 0, all in this process */
  readonly processes?: number
  /** @default nothing: the clients are right */
  readonly mistake?: Break
  /** @default all three, in turn */
  readonly workload?: Workload
  /** Share of histories in which answers and requests are lost or late, from 0 to 1. @default 0.3 */
  readonly troubled?: number
  /** Share of histories in which the server, if there is one, crashes and comes back. @default 0 */
  readonly crashed?: number
  /** Ends after a history in which this was found. @default never */
  readonly stopAt?: (anomalies: readonly Anomaly[]) => boolean
}

/** What came of it. */
export interface Taken {
  readonly store: StoreName
  readonly histories: number
  readonly operations: number
  readonly unknown: number
  readonly crashes: number
  /** Batches that were refused, or met a version that they did not expect: else the clients had not met. */
  readonly refused: number
  readonly conflicts: number
  readonly failed: readonly { readonly history: History; readonly anomalies: readonly Anomaly[] }[]
}

const WORKLOADS: readonly Workload[] = ['mixed', 'counter', 'append']
/** New connections after so many histories; what a fault left behind goes with the old ones. */
const HISTORIES_PER_CREW = 50
/** A crash comes within this time of a history's beginning, ms. */
const CRASH_MS = 40

/** Records and judges. */
export async function takeHistories(options: TakeOptions): Promise<Taken> {
  const { store, histories, seed, clients, calls, processes = 0, mistake, workload, troubled = 0.3, stopAt } = options
  const site = await startSite(store)
  const random = seededRandom(seed)
  const counts = { histories: 0, operations: 0, unknown: 0, crashes: 0, refused: 0, conflicts: 0 }
  const failed: Taken['failed'][number][] = []
  const done = (): boolean => counts.histories === histories || stopAt?.(failed.at(-1)?.anomalies ?? []) === true

  async function take(crew: Crew): Promise<void> {
    const crashes = site.crash !== undefined && random() < (options.crashed ?? 0)
    if (crashes) counts.crashes += 1
    const kind = workload ?? WORKLOADS[counts.histories % WORKLOADS.length]!
    const number = seed + counts.histories
    const recorded = crew.record({ workload: kind, seed: number, calls, troubled }).catch((cause: unknown) => {
      throw new Error(`The store failed under the clients of history ${number} (${kind}).`, { cause })
    })
    const [history] = await Promise.all([recorded, crashes ? sleep(random() * CRASH_MS).then(() => site.crash?.()) : undefined])
    const anomalies = judge(history.operations)
    if (anomalies.length > 0) failed.push({ history, anomalies })
    counts.histories += 1
    counts.operations += history.operations.length
    counts.unknown += history.operations.filter(isUnknown).length
    const outcomes = history.operations.flatMap(outcomesOf)
    counts.refused += outcomes.filter((outcome) => outcome === 'refused').length
    counts.conflicts += outcomes.filter((outcome) => outcome === 'conflict').length
  }

  try {
    while (!done()) {
      const crew = await openCrew({ address: site.address, clients, processes, ...(mistake === undefined ? {} : { mistake }) })
      try {
        for (let count = 0; count < HISTORIES_PER_CREW && !done(); count++) await take(crew)
      } finally {
        await crew.close()
      }
    }
  } finally {
    await site.stop()
  }
  return { store, ...counts, failed }
}

function outcomesOf({ call }: Operation): readonly string[] {
  return call.do === 'read' ? [] : (call.answers ?? []).map(({ outcome }) => outcome)
}

function isUnknown({ returned }: Operation): boolean {
  return returned === null
}

/** What came of it, in one line. */
export function lineOf({ store, histories, operations, unknown, failed }: Taken): string {
  const anomalies = failed.reduce((sum, one) => sum + one.anomalies.length, 0)
  return `histories: ${store}: ${histories} histories, ${operations} operations, ${unknown} unknown, ${anomalies} anomalies`
}
