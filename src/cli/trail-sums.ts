// Who spent what, by the chains of a data directory. The store knows budgets and no agents; the chains know both, and
// only what was written on this machine.

import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { decodeRecord, type AuditRecord } from '../audit/record.ts'
import { wholeLines } from '../audit/verify.ts'
import { amountOf, type Amounts } from '../lib/amounts.ts'
import { chainsOf } from './chain-files.ts'

/** What one agent, or one operation, has spent in one dimension; `usd` in nano-USD. */
export interface SpentLine {
  readonly name: string
  readonly dimension: string
  /** Actions that have begun, refused ones not counted. */
  readonly actions: number
  readonly spent: number
  /** The part of `spent` that was charged at worst, since nobody knows. */
  readonly assumed: number
  /** At worst, of actions that have not ended: they are under way, or their process is dead. */
  readonly open: number
}

/** The sums of all chains. */
export interface TrailSums {
  readonly byAgent: readonly SpentLine[]
  readonly byOperation: readonly SpentLine[]
  /** Over all agents, by dimension: what of the store's own sum these chains explain. */
  readonly spent: Amounts
  readonly chains: number
  /** Lines that are no records, or were changed; nothing of them is counted. */
  readonly badLines: number
}

/** What is known of an action that may still change. */
interface Fact {
  readonly agent: string
  readonly operation: string
  readonly amounts: Amounts
  used?: Amounts
  assumed: boolean
}

/** What others say of the holds of a chain: operators and successors. */
interface Verdicts {
  /** By `<process>/<hold>`: what it used after all. */
  readonly used: Map<string, Amounts>
  readonly writtenOff: Set<string>
  /** Dead processes whose holds without an outcome were charged at worst. */
  readonly succeeded: Set<string>
}

/** Adds up the chains of a data directory, for a budget and those below it, or for all. */
export async function sumTrail(directory: string, path?: string): Promise<TrailSums> {
  const chains = existsSync(directory) ? chainsOf(directory) : []
  const sums = { agents: createSums(), operations: createSums(), spent: {} as Record<string, number> }
  const verdicts: Verdicts = { used: new Map(), writtenOff: new Set(), succeeded: new Set() }
  const facts = new Map<string, Fact>()
  let badLines = 0
  for (const chain of chains) badLines += await readChain(directory, chain, (record) => note(record, { path, facts, verdicts, sums }))
  for (const [key, fact] of facts) count(sums, settledBy(verdicts, key, fact))
  return {
    byAgent: sums.agents.lines(),
    byOperation: sums.operations.lines(),
    spent: sums.spent,
    chains: chains.length,
    badLines,
  }
}

async function readChain(directory: string, chain: string, onRecord: (record: AuditRecord) => void): Promise<number> {
  const file = join(directory, 'chains', `${chain}.jsonl`)
  if (statSync(file, { throwIfNoEntry: false })?.isFile() !== true) return 0
  let bad = 0
  for await (const line of wholeLines(file)) {
    const decoded = decodeRecord(line)
    if ('fault' in decoded) bad += 1
    else onRecord(decoded.record)
  }
  return bad
}

type Sums = { readonly agents: SumTable; readonly operations: SumTable; readonly spent: Record<string, number> }

function note(
  record: AuditRecord,
  { path, facts, verdicts, sums }: { path: string | undefined; facts: Map<string, Fact>; verdicts: Verdicts; sums: Sums },
): void {
  const { kind, chain, hold } = record as AuditRecord & { readonly hold: string }
  const key = `${chain}/${hold}`
  if (kind === 'event') return noteVerdict(record, verdicts)
  if (kind === 'intent') {
    const { agent, resource, amounts, budget, action } = record as unknown as Record<string, string> & { readonly amounts: Amounts }
    // What is handed over is not spent; who received it spends it.
    if (action === 'handoff' || action === 'earmark' || (path !== undefined && budget !== path && !budget!.startsWith(`${path}/`))) return
    facts.set(key, { agent: agent!, operation: resource!, amounts, assumed: false })
  }
  // What was refused when it was to be taken has never begun.
  if (kind === 'refused') facts.delete(key)
  const fact = kind === 'outcome' ? facts.get(key) : undefined
  if (fact === undefined) return
  const { outcome, used } = record as unknown as { readonly outcome: string; readonly used: Amounts }
  // A charge may be corrected later; every other end is the last word.
  if (outcome === 'charged') Object.assign(fact, { used: fact.amounts, assumed: true })
  else {
    facts.delete(key)
    count(sums, { ...fact, used: outcome === 'released' ? {} : used, assumed: false })
  }
}

function noteVerdict(record: AuditRecord, { used, writtenOff, succeeded }: Verdicts): void {
  const event = record as unknown as { readonly type: string; readonly process: string; readonly hold: string; readonly used: Amounts }
  const key = `${event.process}/${event.hold}`
  if (event.type === 'succeeded') succeeded.add(event.process)
  else if (event.type === 'write-off-done') writtenOff.add(key)
  else if (event.type === 'reclaim-done' || event.type === 'correct-done') used.set(key, event.used)
}

function settledBy({ used, writtenOff, succeeded }: Verdicts, key: string, fact: Fact): Fact {
  const said = used.get(key)
  if (said !== undefined) return { ...fact, used: { ...fact.amounts, ...said }, assumed: false }
  const isCharged = fact.used !== undefined || writtenOff.has(key) || succeeded.has(key.slice(0, key.indexOf('/')))
  return isCharged ? { ...fact, used: fact.amounts, assumed: true } : fact
}

function count({ agents, operations, spent }: Sums, fact: Fact): void {
  agents.add(fact.agent, fact)
  operations.add(fact.operation, fact)
  for (const [dimension, amount] of Object.entries(fact.used ?? {})) spent[dimension] = amountOf(spent, dimension) + amount
}

interface SumTable {
  add(name: string, fact: Fact): void
  /** In order of name, then of dimension. */
  lines(): readonly SpentLine[]
}

function createSums(): SumTable {
  const table = new Map<string, Map<string, Omit<SpentLine, 'name' | 'dimension'>>>()
  return {
    add(name, { amounts, used, assumed }) {
      const dimensions = table.get(name) ?? new Map<string, Omit<SpentLine, 'name' | 'dimension'>>()
      table.set(name, dimensions)
      for (const dimension of new Set([...Object.keys(amounts), ...Object.keys(used ?? {})])) {
        const sum = dimensions.get(dimension) ?? { actions: 0, spent: 0, assumed: 0, open: 0 }
        const amount = used === undefined ? 0 : amountOf(used, dimension)
        dimensions.set(dimension, {
          actions: sum.actions + 1,
          spent: sum.spent + amount,
          assumed: sum.assumed + (assumed ? amount : 0),
          open: sum.open + (used === undefined ? amountOf(amounts, dimension) : 0),
        })
      }
    },
    lines: () =>
      [...table]
        .sort(byName)
        .flatMap(([name, dimensions]) => [...dimensions].sort(byName).map(([dimension, sum]) => ({ name, dimension, ...sum }))),
  }
}

const byName = ([one]: readonly [string, unknown], [other]: readonly [string, unknown]): number => (one < other ? -1 : 1)
