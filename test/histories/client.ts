// One client of a history: asks a store, one call after the other, and notes when it asked and what it was told.

import { HoldfastError } from '../../src/lib/errors.ts'
import { groupCommits, type Committer } from '../../src/stores/group.ts'
import type { Entry, Store } from '../../src/stores/store.ts'
import { seededRandom } from '../../src/testing/faulty-store.ts'
import type { Answer, Call, Operation, Workload } from './history.ts'
import type { Fault, Wire } from './sites.ts'
import { nextAsk, type Ask } from './workloads.ts'

/** What a client is told. */
export interface Script {
  readonly name: string
  readonly workload: Workload
  readonly prefix: string
  readonly seed: number
  readonly calls: number
  /** Share of writes to whose answer something happens, from 0 to 1. */
  readonly faultShare: number
  /** Of the clock that all clients share, in ns: where the history begins. */
  readonly startedAt: string
}

/** Nanoseconds since an instant of the machine's monotonic clock, which all its processes share. */
export function nanosecondsSince(startedAt: string): number {
  return Number(process.hrtime.bigint() - BigInt(startedAt))
}

/** Runs a script. Calls that certainly did nothing, because the store said so, are left out. */
export async function runClient(store: Store, wire: Wire, script: Script): Promise<readonly Operation[]> {
  const random = seededRandom(script.seed)
  const committer = groupCommits(store)
  const last = new Map<string, Entry | null>()
  const operations: Operation[] = []
  let healing: Promise<void> = Promise.resolve()
  for (let index = 0; index < script.calls; index++) {
    const ask = nextAsk(script.workload, { random, prefix: script.prefix, uid: `${script.name}-${index}`, last })
    const strikes = random() < script.faultShare
    const fault: Fault | undefined = strikes ? wire.faults[Math.floor(random() * wire.faults.length)] : undefined
    // Calls at random distances: else clients would run in step.
    if (random() < 0.2) await new Promise((resolve) => setTimeout(resolve, random() * 4))
    if (fault !== undefined && ask.do === 'apply') {
      await healing
      // It may last longer than this call: what comes late then meets what its client did next.
      healing = wire.strike(fault, random())
    }
    const operation = await perform(committer, ask, script)
    if (operation === undefined) continue
    operations.push(operation)
    if (operation.call.do === 'read')
      for (const [place, key] of operation.call.keys.entries()) last.set(key, operation.call.entries[place]!)
  }
  await healing
  return operations.map((operation, index) => settled(operation, operations.slice(index + 1)))
}

/** An operation of unknown outcome with the time at which its client was next answered, which ends the doubt. */
function settled(operation: Operation, later: readonly Operation[]): Operation {
  const answered = later.find(({ returned }) => returned !== null)?.returned
  return operation.returned !== null || typeof answered !== 'number' ? operation : { ...operation, settled: answered }
}

async function perform(committer: Committer, ask: Ask, { name, startedAt }: Script): Promise<Operation | undefined> {
  const invoked = nanosecondsSince(startedAt)
  try {
    const call = await callOf(committer, ask)
    if (call === undefined) return undefined
    const unknown = call.do === 'apply' && call.answers === null
    return { client: name, invoked, returned: unknown ? null : nanosecondsSince(startedAt), call }
  } catch (error) {
    // The store promises that nothing was applied; were that wrong, somebody would see a value that nobody wrote.
    if (HoldfastError.isInstance(error) && error.code === 'ERR_STORE') return undefined
    throw error
  }
}

async function callOf(committer: Committer, ask: Ask): Promise<Call | undefined> {
  if (ask.do === 'read') return { do: 'read', keys: ask.keys, entries: await committer.store.read(ask.keys) }
  const { batches, id, seen } = ask
  const common = { do: 'apply', batches, ...(seen === undefined ? {} : { seen }) } as const
  if (id === undefined) {
    const answer = await committer.store.apply(batches)
    if (answer.outcome === 'contended') return undefined
    return { ...common, answers: answer.outcome === 'unknown' ? null : answer.results }
  }
  const [batch] = batches
  const result = await committer.commit({ ...batch, id })
  if (result.outcome === 'unknown') return { ...common, answers: null }
  return { ...common, answers: [withoutValues(result)] }
}

/** The answer to a commit with an id, which may have its values from a read that came later. */
function withoutValues(answer: Answer): Answer {
  return answer.outcome === 'ok' ? { outcome: 'ok', version: answer.version } : answer
}
