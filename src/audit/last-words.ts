// What the chain of a dead process says of its holds. It is believed only if it is certain that nothing of it is
// missing: a hold that is not in it would be given back although its call may have been billed.

import { readFileSync, statSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { zeroed, type Amounts } from '../lib/amounts.ts'
import { readEnds, recordOf } from './chain-ends.ts'
import type { AuditRecord } from './record.ts'
import { verifyChain, wholeLines, type StoredHead } from './verify.ts'

/** What a chain says of one hold. */
export interface HoldFacts {
  readonly budget: string
  /** Further budgets that count it. */
  readonly also?: readonly string[]
  readonly amounts: Amounts
  /** The lease that it was drawn from. */
  readonly lease?: string
  /** What it used; absent when nobody knows. */
  readonly used?: Amounts
  /** It was charged at worst, whatever became known of it later. */
  readonly charged: boolean
}

/** The holds of a dead process by id; or why its chain cannot be believed; or that it is about another store. */
export type LastWords =
  | { readonly holds: ReadonlyMap<string, HoldFacts>; readonly observe: boolean }
  | { readonly doubt: string }
  | { readonly elsewhere: true }

/** A file whose last change is so far from when its last record was written was changed by somebody else. */
const TOUCHED_MS = 1_000

/** Identity of this run of the operating system; unknown outside of Linux. What it had in memory ends with it. */
export function osBoot(): string | undefined {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    // Then only what was synced to the disk is believed.
    return undefined
  }
}

/**
 * Reads the chain of a process that is known to be dead.
 *
 * @param storeId - Identity of the store that it is read for.
 * @param stored - The head that this store has of it.
 */
export async function lastWords(directory: string, boot: string, storeId: string, stored: StoredHead | undefined): Promise<LastWords> {
  const file = join(directory, 'chains', `${boot}.jsonl`)
  if (statSync(file, { throwIfNoEntry: false }) === undefined) return { doubt: `${file} is missing` }
  // A chain can be long, and most of those that are not believed say why at their ends.
  const early = atTheEnds(file, boot, storeId)
  if (early !== undefined) return early
  const holds = new Map<string, HoldFacts>()
  let first: AuditRecord | undefined
  let last: AuditRecord | undefined
  const verdict = await verifyChain(boot, wholeLines(file), stored, (record) => {
    first ??= record
    last = record
    note(holds, record)
  })
  // Nothing at all, not even its opening: it was never used for this store.
  if (first === undefined && stored === undefined) return { elsewhere: true }
  if (!verdict.ok) return { doubt: `${file}: ${verdict.fault}` }
  if (first === undefined || last === undefined) return { doubt: `${file} is empty` }
  // Once more: it was long to read, and what was read is what counts.
  return doubtOf(file, first, storeId) ?? touched(file, last) ?? { holds, observe: first['mode'] === 'observe' }
}

type NotBelieved = Exclude<LastWords, { holds: unknown }>

/** What the first and the last record say, if they can be read. */
function atTheEnds(file: string, boot: string, storeId: string): NotBelieved | undefined {
  const { first, lastLines } = readEnds(file)
  // Another fault: reading all of it says which.
  if (first === undefined || first.chain !== boot) return undefined
  const last = recordOf(lastLines[0] ?? '')
  return doubtOf(file, first, storeId) ?? (last === undefined ? undefined : touched(file, last))
}

function doubtOf(file: string, first: AuditRecord, storeId: string): NotBelieved | undefined {
  if (first['storeId'] !== storeId) return { elsewhere: true }
  if (first.kind !== 'open' || first['locked'] !== true) return { doubt: `${file}: its process had no lock on it` }
  const isSameRun = first['osBoot'] !== undefined && first['osBoot'] === osBoot()
  if (first['host'] !== hostname() && !isSameRun) return { doubt: `${file} was written on another machine` }
  if (first['durable'] !== true && !isSameRun)
    return { doubt: `${file} was written before this machine was started, and not synced to the disk: its last records may be missing` }
  return undefined
}

/**
 * The time of the last change of a file cannot be set, so records that were cut off leave their mark there. That time and
 * the record's are of one clock, a moment apart, so it counts in both directions: the clock may have been set back since.
 */
function touched(file: string, last: AuditRecord): NotBelieved | undefined {
  const { ctimeMs } = statSync(file)
  const writtenAtMs = Number(last['wall'] ?? last.t)
  return Math.abs(ctimeMs - writtenAtMs) > TOUCHED_MS ? { doubt: `${file} was changed after its last record was written` } : undefined
}

function note(holds: Map<string, HoldFacts>, record: AuditRecord): void {
  const { kind, hold, budget, also, amounts, lease, outcome, used } = record as AuditRecord &
    Record<'hold' | 'budget' | 'lease' | 'outcome', string>
  if (kind === 'intent')
    holds.set(hold, {
      budget,
      ...(also === undefined ? {} : { also: also as readonly string[] }),
      amounts: amounts as Amounts,
      ...(lease === undefined ? {} : { lease }),
      charged: false,
    })
  const known = kind === 'outcome' ? holds.get(hold) : undefined
  if (known === undefined) return
  if (outcome === 'charged') holds.set(hold, { ...known, charged: true })
  else holds.set(hold, { ...known, used: outcome === 'released' ? zeroed(known.amounts) : (used as Amounts) })
}
