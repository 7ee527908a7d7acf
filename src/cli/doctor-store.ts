// What the doctor asks of the store and the chains.

import { createReadStream, statSync } from 'node:fs'
import { assertStoreIsWhole } from '../audit/store-heads.ts'
import { COLUMNS } from '../budget/record.ts'
import { readBudgets, type BudgetLine } from '../budget/report.ts'
import { readStops, subjectText } from '../kernel/stops.ts'
import { HoldfastError } from '../lib/errors.ts'
import { MAX_SEGMENT_BYTES, MAX_SEGMENT_LINES } from '../stores/file.ts'
import type { Store } from '../stores/store.ts'
import { verifyDirectory } from './audit-verify.ts'
import { describeUnbalanced, totalsOf } from './budget-status.ts'
import { findDamage } from './damage.ts'
import { failed, type Check } from './doctor-machine.ts'
import { hasStore, journalFile, withStore } from './open-store.ts'
import { checkSuccessors } from './doctor-successors.ts'
import { seeProcesses } from './processes.ts'
import type { Place } from './store-address.ts'
import { namedAmount, plural, shortId, span } from './text.ts'

/** Full to this share, a journal is worth a warning. */
const NEARLY_FULL = 0.8

// Not a backup: an older copy does not know what was spent since, and would let it be spent again.
const AFTER_DAMAGE = 'Stop its processes and keep a copy. Go on in a new data directory, with limits lowered by what was spent.'

/** The store opens whole, has room, and holds what was acknowledged; its budgets balance and its processes speak. */
export async function checkStore(place: Place): Promise<readonly Check[]> {
  const { data, store: address } = place
  if (address === undefined && !hasStore(data)) {
    const todo = `A kernel makes it: openKernel({ store: fileStore('${data}') }).`
    return [{ id: 'journal', result: 'warn', message: 'no store here yet', todo }]
  }
  try {
    return await withStore(place, async (store) => [
      ...(await checkJournal(place, store)),
      await checkHeads(data, store),
      ...(await checkProcesses(store)),
      ...(await checkSuccessors(data, store)),
      ...(await checkBudgets(store)),
      ...(await checkStops(store)),
    ])
  } catch (error) {
    const damaged = HoldfastError.isInstance(error) && error.code === 'ERR_DAMAGE'
    return [failed('journal', error, damaged ? AFTER_DAMAGE : 'Nothing is known to be damaged: mend what the message names.')]
  }
}

/** A stop that was forgotten looks like a program that is broken. */
async function checkStops(store: Store): Promise<readonly Check[]> {
  return (await readStops(store)).map((stop): Check => {
    const message = `${subjectText(stop)} is stopped, by ${stop.by}: ${stop.reason}`
    return { id: 'stopped', result: 'warn', message, todo: 'To go on: holdfast stop --lift, with the same target.' }
  })
}

/** Only the file store has a journal of its own; the others say themselves what they lack. */
async function checkJournal({ data, store: address }: Place, { name, capabilities }: Store): Promise<readonly Check[]> {
  if (address === undefined || address.kind === 'file') {
    const file = journalFile(address?.at ?? data)
    return [{ id: 'journal', result: 'ok', message: 'journal opens whole' }, roomFor(await countLines(file), statSync(file).size)]
  }
  const shortfalls = (capabilities.shortfalls ?? []).map(({ setting, found = 'unknown', needs, risk }): Check => {
    return {
      id: 'store-settings',
      result: 'warn',
      message: `${setting} is ${found}: ${risk}`,
      todo: `A hard budget needs it to be ${needs}.`,
    }
  })
  return [{ id: 'journal', result: 'ok', message: `${name} opens` }, ...shortfalls]
}

/** How full the live segment is: the next one follows long before, unless something keeps it from being made. */
export function roomFor(lines: number, bytes: number): Check {
  const share = Math.max(lines / MAX_SEGMENT_LINES, bytes / MAX_SEGMENT_BYTES)
  const [mb, limitMb] = [bytes, MAX_SEGMENT_BYTES].map((size) => (size / 2 ** 20).toFixed(1))
  const message =
    `journal is ${Math.floor(share * 100)} % full: ${lines.toLocaleString('en-US')} of ` +
    `${MAX_SEGMENT_LINES.toLocaleString('en-US')} lines, ${mb} of ${limitMb} MiB`
  if (share < NEARLY_FULL) return { id: 'journal-room', result: 'ok', message }
  const todo = 'A segment is followed by the next one long before: see whether its folder can be written and has room.'
  return { id: 'journal-room', result: share < 1 ? 'warn' : 'fail', message, todo }
}

async function countLines(file: string): Promise<number> {
  let lines = 0
  for await (const chunk of createReadStream(file)) for (const byte of chunk as Buffer) if (byte === 10) lines += 1
  return lines
}

async function checkHeads(directory: string, store: Store): Promise<Check> {
  try {
    await assertStoreIsWhole(directory, store)
    return { id: 'store-heads', result: 'ok', message: 'store still holds everything that the chains saw acknowledged' }
  } catch (error) {
    return failed('store-heads', error, AFTER_DAMAGE)
  }
}

async function checkProcesses(store: Store): Promise<readonly Check[]> {
  const { nowMs, processes } = await seeProcesses(store)
  const checks = processes
    .filter(({ state }) => state === 'silent')
    .map(({ process, host = '?', pid = '?', holds, seenAtMs }): Check => {
      const since = seenAtMs === undefined ? '' : ` for ${span(nowMs - seenAtMs)}`
      return {
        id: 'processes',
        result: 'warn',
        message: `process ${shortId(process)} (pid ${pid} on ${host}) has been silent${since} with ${plural(holds, 'open hold')}`,
        todo: 'If it is dead, open a kernel on this store, or: holdfast budget recover',
      }
    })
  const suspended = processes.reduce((sum, { suspended }) => sum + suspended, 0)
  if (suspended > 0) {
    checks.push({
      id: 'suspense',
      result: 'warn',
      message: `${plural(suspended, 'hold')} in suspense, counted as spent: ${totalSuspense(await readBudgets(store))}`,
      todo: 'Their processes died before they could report. Compare with the bill of your provider, then: holdfast budget reclaim. Until then it stays spent.',
    })
  }
  if (checks.length > 0) return checks
  return [{ id: 'processes', result: 'ok', message: `${plural(processes.length, 'process', 'processes')}, none silent with open holds` }]
}

function totalSuspense(lines: readonly BudgetLine[]): string {
  return Object.entries(totalsOf(lines))
    .filter(([, { suspense }]) => suspense !== 0)
    .map(([dimension, { suspense }]) => (suspense === null ? `${dimension} too large to add up` : namedAmount(dimension, suspense)))
    .join(', ')
}

async function checkBudgets(store: Store): Promise<readonly Check[]> {
  const lines = await readBudgets(store)
  const wrong = [...lines.filter(({ balanced }) => !balanced).map(describeUnbalanced), ...(await findDamage(store))]
  const budgets = new Set(lines.map(({ budget }) => budget)).size
  const checks: Check[] =
    wrong.length === 0
      ? [{ id: 'budgets', result: 'ok', message: `${plural(budgets, 'budget')}, all balanced: limit = ${COLUMNS.slice(0, 5).join(' + ')}` }]
      : wrong.map((message) => ({ id: 'budgets', result: 'fail', message, todo: AFTER_DAMAGE }))
  const frozen = new Map(lines.flatMap(({ budget, frozen }) => (frozen === undefined ? [] : [[budget, frozen]])))
  for (const [budget, why] of frozen) {
    const todo =
      'Nothing is taken from it any more. Find the call in `holdfast audit tail`, and mend its price or its bound. Then: holdfast budget unfreeze'
    checks.push({ id: 'frozen', result: 'warn', message: `budget \`${budget}\` is frozen: ${why}`, todo })
  }
  const open = new Set(lines.filter(({ enforced }) => !enforced).map(({ budget }) => budget))
  if (open.size > 0) {
    const message = `NOT ENFORCED: a process in observe mode uses ${[...open].slice(0, 5).join(', ')}${open.size > 5 ? ` and ${open.size - 5} more` : ''}`
    checks.push({ id: 'enforcement', result: 'warn', message, todo: 'When you have seen enough, open its kernel with mode: enforce.' })
  }
  return checks
}

/** Every chain holds. */
export async function checkChains(place: Place): Promise<Check> {
  const { verdicts, comparedWithStore, fault } = await verifyDirectory(place)
  const bad = verdicts.filter(({ ok }) => !ok)
  const records = verdicts.reduce((sum, { records }) => sum + records, 0)
  if (bad.length > 0) {
    const shown = bad.slice(0, 5).map(({ chain, fault }) => `chain ${chain}: ${fault}`)
    const message = [`${plural(bad.length, 'audit chain')} of ${verdicts.length} bad`, ...shown].join('\n')
    return {
      id: 'chains',
      result: 'fail',
      message,
      todo: 'Keep a copy: what follows the first bad record proves nothing. See: holdfast audit verify',
    }
  }
  const message = `${plural(verdicts.length, 'audit chain')} with ${plural(records, 'record')}, all hold`
  if (comparedWithStore || verdicts.length === 0) return { id: 'chains', result: 'ok', message }
  const why = fault === undefined ? 'there is no store to compare them with' : 'they could not be compared with the store'
  return { id: 'chains', result: 'warn', message: `${message}; ${why}`, todo: 'A cut tail cannot be seen without the store.' }
}
