// The cycle check of transactions that append to lists, after Kingsbury and Alvaro ("Elle: inferring isolation
// anomalies from experimental observations", 2020). A list tells its whole past: each element names the transaction
// that appended it, and its order is the order of the writes. So the dependencies of Adya's phenomena (1999) can be
// read off, and a cycle of them is a history that no serial order explains:
//
//   G0  writes that undo one another                 G1a  a value of a transaction that was refused
//   G1c information that flows in a circle           G-single, G2  reads that were out of date, once or more often
//
// Real time and the versions of the store count as dependencies too: a cycle that needs them is marked so.

import { describe, precedes, type Anomaly, type Operation } from './history.ts'
import { shortestCycle, type Edge } from './graph.ts'

interface Transaction {
  readonly source: Operation
  /** `lost` happened if somebody saw what it wrote. */
  readonly outcome: 'ok' | 'lost' | 'refused'
  /** The lists that it read, and still found at its commit. */
  readonly reads: ReadonlyMap<string, readonly string[]>
  /** The lists that it left. */
  readonly writes: ReadonlyMap<string, readonly string[]>
  readonly version?: number
}

interface Board {
  readonly transactions: readonly Transaction[]
  /** Of each key, the longest list that anybody saw or left. */
  readonly longest: ReadonlyMap<string, readonly string[]>
  /** Who appended an element of a key. */
  readonly writer: ReadonlyMap<string, number>
}

/** Checks the transactions of a history of the kind `append`: one batch each, with the lists that its checks stand for. */
export function checkCycles(operations: readonly Operation[]): readonly Anomaly[] {
  if (!operations.some(({ call }) => call.do === 'apply' && call.seen !== undefined)) return []
  const given = operations.flatMap(transactionOf)
  const certain = given.filter(({ outcome }) => outcome === 'ok')
  const observed = new Set(certain.flatMap(listsOf).flatMap(([key, list]) => list.map((element) => `${key} ${element}`)))
  // A lost one that nobody saw may never have happened.
  const transactions = given.filter(
    ({ outcome, writes }) => outcome !== 'lost' || [...writes].some(([key, list]) => observed.has(`${key} ${list.at(-1)}`)),
  )
  const writer = new Map<string, number>()
  for (const [index, { writes }] of transactions.entries()) for (const [key, list] of writes) writer.set(`${key} ${list.at(-1)}`, index)
  const { longest, faults } = longestLists(transactions)
  const board = { transactions, longest, writer }
  const messages = [...faults, ...strangers(board)]
  // Where lists contradict one another there is no order of writes to begin with.
  if (messages.length === 0) messages.push(...cyclesOf(board))
  return messages.map((message) => ({ check: 'cycles', message }))
}

function transactionOf(source: Operation): readonly Transaction[] {
  const { call } = source
  if (call.do === 'read') {
    const lists = call.entries.map((entry, index) => [call.keys[index]!, (entry?.value ?? []) as readonly string[]] as const)
    return [{ source, outcome: 'ok', reads: new Map(lists), writes: new Map() }]
  }
  if (call.seen === undefined) return []
  const [answer] = call.answers ?? []
  const outcome = call.answers === null ? 'lost' : answer?.outcome === 'ok' ? 'ok' : 'refused'
  const writes = (call.batches[0]?.set ?? []).map(({ key, value }) => [key, value as readonly string[]] as const)
  const version = answer?.outcome === 'ok' ? { version: answer.version } : {}
  return [{ source, outcome, reads: new Map(Object.entries(call.seen)), writes: new Map(writes), ...version }]
}

/** What a transaction that happened shows of lists: what it read, and what it left. */
function listsOf({ outcome, reads, writes }: Transaction): readonly (readonly [string, readonly string[]])[] {
  return outcome === 'refused' ? [] : [...reads, ...writes]
}

/** Lists of one key are beginnings of one another, and name nothing twice. */
function longestLists(transactions: readonly Transaction[]): {
  readonly longest: ReadonlyMap<string, readonly string[]>
  readonly faults: readonly string[]
} {
  const longest = new Map<string, readonly string[]>()
  const faults: string[] = []
  for (const transaction of transactions) {
    for (const [key, list] of listsOf(transaction)) {
      const other = longest.get(key) ?? []
      if (new Set(list).size < list.length) faults.push(`an element of ${key} is there twice: ${describe(transaction.source)}`)
      const [short, long] = list.length < other.length ? [list, other] : [other, list]
      if (short.some((element, index) => element !== long[index])) {
        faults.push(`lost update: two orders of ${key}, ${JSON.stringify(other)} and in ${describe(transaction.source)}`)
      } else longest.set(key, long)
    }
  }
  return { longest, faults }
}

/** Elements that nobody appended, or whose transaction was refused (G1a). */
function strangers({ transactions, longest, writer }: Board): readonly string[] {
  return [...longest].flatMap(([key, list]) =>
    list.flatMap((element) => {
      const index = writer.get(`${key} ${element}`)
      if (index === undefined) return [`${key} has ${element}, which nobody appended`]
      return transactions[index]!.outcome === 'refused' ? [`G1a: ${key} has ${element} of a transaction that was refused`] : []
    }),
  )
}

function edgesOf({ transactions, longest, writer }: Board): readonly Edge[] {
  const edges: Edge[] = []
  const add = (from: number | undefined, to: number | undefined, why: Edge['why']): void => {
    if (from !== undefined && to !== undefined && from !== to) edges.push({ from, to, why })
  }
  const writerOf = (key: string, place: number): number | undefined => writer.get(`${key} ${longest.get(key)?.[place]}`)
  for (const [key, list] of longest) for (const place of list.keys()) add(writerOf(key, place - 1), writerOf(key, place), 'ww')
  for (const [index, { outcome, reads }] of transactions.entries()) {
    // What a lost one has read is what its checks asked for: it happened, so they were true.
    if (outcome === 'refused') continue
    for (const [key, list] of reads) {
      add(writerOf(key, list.length - 1), index, 'wr')
      add(index, writerOf(key, list.length), 'rw')
    }
  }
  const done = [...transactions.keys()].filter((index) => transactions[index]!.outcome !== 'refused')
  for (const a of done) for (const b of done) if (precedes(transactions[a]!.source, transactions[b]!.source)) add(a, b, 'time')
  const versioned = done.filter((index) => transactions[index]!.version !== undefined)
  versioned.sort((a, b) => transactions[a]!.version! - transactions[b]!.version!)
  for (const [place, index] of versioned.entries()) add(versioned[place - 1], index, 'version')
  return edges
}

/** The gravest kind of cycle there is, with one example. */
function cyclesOf(board: Board): readonly string[] {
  const edges = edgesOf(board)
  const of = (...kinds: readonly Edge['why'][]): readonly Edge[] => edges.filter(({ why }) => kinds.includes(why))
  const kinds: readonly (readonly [name: string, first: readonly Edge[], others: readonly Edge[]])[] = [
    ['G0', of('ww'), of('ww')],
    ['G1c', of('wr'), of('ww', 'wr')],
    ['G-single', of('rw'), of('ww', 'wr')],
    ['G2', of('rw'), of('ww', 'wr', 'rw')],
    ['against the versions', of('version'), of('ww', 'wr', 'rw', 'version')],
    ['against real time', of('time'), of('ww', 'wr', 'rw', 'version', 'time')],
  ]
  for (const [name, first, others] of kinds) {
    const cycle = shortestCycle(board.transactions.length, first, others)
    if (cycle === undefined) continue
    return [`${name}: ${cycle.map(({ from, why }) => `${describe(board.transactions[from]!.source)} -${why}->`).join(' ')} the first`]
  }
  return []
}
