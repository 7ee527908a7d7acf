// Is everything accounted for, once everybody has stopped and the next ones have looked after the rest?

import { amountOf, type Amounts } from '../../src/lib/amounts.ts'
import type { Call } from './books.ts'
import { budgetOf, count, legOf, partsOf } from './law.ts'
import type { Site } from './site.ts'

interface Span {
  readonly least: number
  readonly most: number
}

/** What is wrong with the ledger, now that nothing is held by anybody. `own` is the process that looks. */
export function accountFaults(site: Site, own?: string): readonly string[] {
  const { truth } = site
  const records = ['hold/', 'process/', 'renewed/', 'observed/'].flatMap((prefix) => truth.list(prefix, { limit: 10_000 }))
  const left = records.filter(({ key }) => key.split('/')[1] !== own)
  return [
    ...left.map(({ key }) => `${key} is left, and nobody is there`),
    ...suspended(site),
    ...legs(site).flatMap((leg) => legFaults(site, leg)),
  ]
}

/** Every dimension of every budget that has not been closed. */
function legs({ truth }: Site): readonly string[] {
  return truth.list('budget/', { limit: 10_000 }).flatMap(({ key }) => {
    const path = key.slice('budget/'.length)
    const { limits, closed } = budgetOf(truth.look, path)!
    return path.includes('*') || closed !== undefined ? [] : Object.keys(limits).map((dimension) => `${dimension}/${path}`)
  })
}

function legFaults(site: Site, leg: string): readonly string[] {
  const { look } = site.truth
  const [dimension, path] = partsOf(leg)
  const faults: string[] = []
  const [out, kids, suspense, spent, assumed, over] = ['out', 'kids', 'suspense', 'spent', 'assumed', 'over'].map((column) =>
    count(look, column, leg),
  )
  const isSuspended = site.truth.list('suspended/', { limit: 1 }).length > 0
  if (out !== 0) faults.push(`${out} ${dimension} of ${path} are still out`)
  if (kids !== 0 && !isSuspended) faults.push(`${kids} ${dimension} of ${path} are still with children`)
  if (suspense !== 0 && !isSuspended) faults.push(`${suspense} ${dimension} of ${path} are in suspense, of nobody`)
  const { cut = {} } = budgetOf(look, path)!
  if ((cut[dimension] ?? 0) > 0 && count(look, 'free', leg) > 0)
    faults.push(`a lowered limit waits for ${dimension} of ${path} that is free`)
  const { least, most } = spendingOf(site, leg)
  const counted = `${spent} spent (${assumed} assumed, ${over} beyond it), and the calls say ${least} to ${most}: ${dimension} of ${path}`
  if (spent! > most) faults.push(`more is spent than was said: ${counted}`)
  const isWhole = site.processes.every(({ end, isCutShort }) => end === 'closed' && !isCutShort)
  if (isWhole && spent! + over! < least) faults.push(`less is spent than was said: ${counted}`)
  return [...faults, ...frozenFaults(site, path)]
}

/** What can be spent at a leg, by what the kernels were told. */
function spendingOf({ books, processes }: Site, leg: string): Span {
  const [dimension, path] = partsOf(leg)
  let [least, most] = [0, 0]
  for (const call of books.calls) {
    if (call.path !== path && !call.path.startsWith(`${path}/`)) continue
    const process = processes.find(({ actor }) => actor === call.actor)!
    const isClosed = process.end === 'closed' && !process.isCutShort
    const span = isClosed
      ? toldOf(call, dimension)
      : { least: 0, most: Math.max(amountOf(call.worst, dimension), amountOf(call.told?.used ?? {}, dimension)) }
    least += span.least
    most += span.most
  }
  return { least, most }
}

/** A process that has closed its kernel has told it of all its calls, or has charged them. */
function toldOf({ told, known, worst, billed, corrected, isRefused }: Call, dimension: string): Span {
  const of = (amounts: Amounts): number => amountOf(amounts, dimension)
  if (isRefused) return { least: 0, most: 0 }
  if (known !== undefined) return { least: of(known), most: of(known) }
  if (told?.how === 'settled' || told?.how === 'released') return { least: of(told.used), most: of(told.used) }
  return { least: corrected ? Math.min(of(billed), of(worst)) : of(worst), most: of(worst) }
}

/** What is in suspense is that of the records there, and they are of processes that nobody can succeed. */
function suspended({ truth, processes }: Site): readonly string[] {
  const sums = new Map<string, number>()
  const faults: string[] = []
  for (const { key, value } of truth.list('suspended/', { limit: 10_000 })) {
    const boot = key.split('/')[1]
    const owner = processes.find(({ kernel }) => kernel?.boot === boot)
    if (owner?.end === 'closed') faults.push(`${key} is in suspense, and its process has closed`)
    if (owner?.directory !== undefined) faults.push(`${key} is in suspense, and its successor was there`)
    for (const [leg, { amount, over }] of Object.entries(
      (value as unknown as { legs: Record<string, { amount: number; over?: boolean }> }).legs,
    ))
      if (over !== true) sums.set(leg, (sums.get(leg) ?? 0) + amount)
  }
  for (const { key, value } of truth.list('suspense/', { limit: 10_000 })) {
    const leg = legOf(key)!
    if (value !== (sums.get(leg) ?? 0)) faults.push(`${key} is ${JSON.stringify(value)}, and the records say ${sums.get(leg) ?? 0}`)
  }
  return faults
}

function frozenFaults({ truth, books, frozenByOperator }: Site, path: string): readonly string[] {
  const frozen = budgetOf(truth.look, path)?.frozen
  if (
    frozen === undefined ||
    frozenByOperator ||
    /more than its worst case/.test(frozen) === [...books.excess.values()].some((sum) => sum > 0)
  )
    return []
  return [`${path} is frozen without a reason: ${frozen}`]
}
