// Who is alive. One record per process stands for all its holds: while it has any, it says so every three
// seconds; when it stops saying so, anyone moves its holds to suspense. That is all a clock decides here:
// suspense counts as spent, so a wrong guess wastes money for a while and never spends it twice.

import { sleep } from '../lib/clock.ts'
import type { Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import type { Batch, Check, SetKey } from '../waist/batch.ts'
import type { Committer } from '../stores/group.ts'
import { listAll } from '../stores/entries.ts'
import { MAX_BATCH_OPERATIONS, type Entry } from '../stores/store.ts'
import { mergeAdds, suspendAdds, type HeldLegs } from './legs.ts'

/** A hold as it lies in the store, under `hold/<boot>/<id>`; under `suspended/<boot>/<id>` once its process is taken for dead. */
export interface HoldRecord {
  readonly path: string
  /** Further budgets that count it. */
  readonly also?: readonly string[]
  readonly agent: string
  readonly resource: string
  /** Unix ms by the clock of the kernel that took it. */
  readonly atMs: number
  readonly legs: HeldLegs
  /** Of a lease: what of it was reported so far, and what of that is a worst case. What it has left is in its legs. */
  readonly reported?: { readonly used: Amounts; readonly assumed: Amounts }
  /** Random, of this take alone: whoever finds another one under its own id did not write this record. */
  readonly nonce?: string
}

/** Options of {@link createProcesses}. */
export interface ProcessesOptions {
  readonly committer: Committer
  readonly boot: string
  /** What the process record says about this process: host, pid, mode. */
  readonly description: { readonly [key: string]: string | number }
  /** How long a process may be silent while it holds anything, ms. */
  readonly leaseTtlMs: number
  /** Added to the TTL before anyone acts on it, ms. */
  readonly graceMs: number
  readonly onSuspended: (boot: string, holds: number) => void
  readonly onTrouble: (error: unknown) => void
}

/** Proof, inside a batch, that its process is registered; and its renewal, where that is due. */
export interface Ticket {
  /** Version of the process record: another one is another registration. */
  readonly version: number
  readonly check: readonly Check[]
  readonly set: readonly SetKey[]
  readonly atMs: number
}

/** The process records of a store. */
export interface Processes {
  /** What every take adds to its batch: this process is registered, and was renewed a moment ago. */
  ticket(): Promise<Ticket>
  /** The batch with this ticket was applied. */
  stamped(ticket: Ticket): void
  /** The ticket was refused: this process was taken for dead meanwhile. */
  refresh(): void
  /** This process has a hold with this id; it renews itself while it has any. */
  held(holdId: string): void
  /** The hold has ended. */
  ended(holdId: string): void
  /** Moves the holds of silent processes to suspense. Returns how many were moved. */
  sweep(): Promise<number>
  /** Renews this process no more: what it still holds goes to suspense in a while. */
  stop(): void
  /** Stops, and removes this process's records. */
  close(): Promise<void>
}

/** Marks removed in one batch. */
const PAGE = 500
const HOLDS_PER_BATCH = 10

/** Registers this process with the first take, and looks after the others. */
export function createProcesses({
  committer,
  boot,
  description,
  leaseTtlMs,
  graceMs,
  onSuspended,
  onTrouble,
}: ProcessesOptions): Processes {
  const { store } = committer
  const processKey = `process/${boot}`
  const renewedKey = `renewed/${boot}`
  let version: number | undefined
  let renewedAtMs = -Infinity
  const holds = new Set<string>()
  let renewal: NodeJS.Timeout | undefined
  let closed = false

  async function register(): Promise<number> {
    const now = await store.now()
    const startedAt = performance.now()
    const result = await committer.commit({
      check: [{ key: processKey, version: 0 }],
      set: [
        { key: processKey, value: { ...description, leaseTtlMs, startedAtMs: now } },
        { key: renewedKey, value: now },
      ],
    })
    if (result.outcome === 'ok') {
      renewedAtMs = startedAt
      return result.version
    }
    // Two takes at once, or a lost reply: the record that counts is the one that is there now.
    const [entry] = await store.read([processKey])
    if (entry === null || entry === undefined) throw new HoldfastError('ERR_STORE', `${store.name} did not register this process.`)
    return entry.version
  }

  async function ticket(): Promise<Ticket> {
    version ??= await register()
    const check = [{ key: processKey, version }]
    const atMs = performance.now()
    if (atMs - renewedAtMs < leaseTtlMs / 3) return { version, check, set: [], atMs }
    return { version, check, set: [{ key: renewedKey, value: await store.now() }], atMs }
  }

  // Only what the store has counts as renewed: a refused batch has renewed nothing.
  function stamped({ set, atMs }: Ticket): void {
    if (set.length > 0) renewedAtMs = atMs
  }

  async function renew(): Promise<void> {
    renewedAtMs = -Infinity
    const due = await ticket()
    const result = await committer.commit({ check: due.check, set: due.set })
    if (result.outcome === 'ok') stamped(due)
    if (result.outcome === 'conflict') version = undefined
  }

  function held(holdId: string): void {
    holds.add(holdId)
    if (renewal !== undefined || closed) return
    renewal = setInterval(() => void renew().catch(onTrouble), leaseTtlMs * 0.3)
    renewal.unref()
  }

  function ended(holdId: string): void {
    holds.delete(holdId)
    if (holds.size > 0) return
    clearInterval(renewal)
    renewal = undefined
  }

  async function sweep(): Promise<number> {
    const silent = await silentProcesses(committer, boot, leaseTtlMs, graceMs)
    let moved = 0
    for (const other of silent) {
      const { suspended, all } = await suspendHolds(committer, other)
      moved += suspended
      if (suspended > 0) onSuspended(other.boot, suspended)
      if (all) await removeRecords(committer, other.boot, other.checks)
    }
    return moved
  }

  function stop(): void {
    closed = true
    clearInterval(renewal)
  }

  async function close(): Promise<void> {
    stop()
    if (version !== undefined) await removeRecords(committer, boot, [])
  }

  return { ticket, stamped, refresh: () => (version = undefined), held, ended, sweep, stop, close }
}

interface Silent {
  readonly boot: string
  /** True of the process as it was seen: when it speaks up meanwhile, nothing is done to it. */
  readonly checks: readonly Check[]
}

/** How long a process may be silent while it holds anything, unless it says otherwise, ms. */
export const LEASE_TTL_MS = 10_000
/** What everybody waits beyond that before he acts on a silence, ms. */
export const GRACE_MS = 2_000

/** The records of one process, as they were read. */
export interface SeenRecords {
  readonly process: Entry | null | undefined
  readonly renewed: Entry | null | undefined
}

/** Whether a process has not spoken up for longer than it said it would, or has no record. Times in ms, by the store's clock. */
export function isSilent(
  { process, renewed }: SeenRecords,
  nowMs: number,
  { leaseTtlMs = LEASE_TTL_MS, graceMs = GRACE_MS }: { readonly leaseTtlMs?: number; readonly graceMs?: number } = {},
): boolean {
  if (!process || !renewed) return true
  // How often it speaks is its own choice, not that of whoever listens.
  const ownTtlMs = (process.value as { leaseTtlMs?: number }).leaseTtlMs ?? leaseTtlMs
  return nowMs >= Number(renewed.value) + ownTtlMs + graceMs
}

async function silentProcesses({ store }: Committer, own: string, leaseTtlMs: number, graceMs: number): Promise<readonly Silent[]> {
  const now = await store.now()
  const boots = new Set([...(await listAll(store, 'hold/')), ...(await listAll(store, 'process/'))].map(({ key }) => key.split('/')[1]!))
  boots.delete(own)
  const silent: Silent[] = []
  for (const boot of boots) {
    const [process, renewed] = await store.read([`process/${boot}`, `renewed/${boot}`])
    if (!isSilent({ process, renewed }, now, { leaseTtlMs, graceMs })) continue
    silent.push({
      boot,
      checks: [
        { key: `process/${boot}`, version: process?.version ?? 0 },
        { key: `renewed/${boot}`, version: renewed?.version ?? 0 },
      ],
    })
  }
  return silent
}

/** Moves the holds of a silent process to suspense; says how many, and whether those are all of them. */
async function suspendHolds(committer: Committer, { boot, checks }: Silent) {
  let suspended = 0
  for (let most = HOLDS_PER_BATCH; ;) {
    const page = await committer.store.list(`hold/${boot}/`, { limit: most })
    if (page.length === 0) return { suspended, all: true }
    const batch = suspension(page, checks)
    if (page.length > 1 && Object.values(batch).flat().length > MAX_BATCH_OPERATIONS) {
      most = Math.ceil(page.length / 2)
      continue
    }
    const result = await committer.commit(batch)
    // It spoke up, or its own settle was first, or another sweeper was: whoever it was, this one stops.
    if (result.outcome !== 'ok') return { suspended, all: false }
    suspended += page.length
    await sleep(0)
  }
}

function suspension(page: readonly Entry[], checks: readonly Check[]): Batch {
  return {
    check: [...checks, ...page.map(({ key, version }) => ({ key, version }))],
    add: mergeAdds(page.flatMap(({ value }) => suspendAdds((value as unknown as HoldRecord).legs))),
    set: page.map(({ key, value }) => ({ key: key.replace(/^hold/, 'suspended'), value })),
    delete: page.map(({ key }) => key),
  }
}

/** Removes what a process left beside its holds, its record last; its chain head stays, the audit needs it. */
async function removeRecords(committer: Committer, boot: string, checks: readonly Check[]): Promise<void> {
  for (;;) {
    const marks = await committer.store.list(`observed/${boot}/`, { limit: PAGE })
    const last = marks.length < PAGE
    const records = last ? [`process/${boot}`, `renewed/${boot}`] : []
    const result = await committer.commit({ check: checks, delete: [...marks.map(({ key }) => key), ...records] })
    // Whoever spoke up keeps its records; what could not be removed now is removed by the next sweep.
    if (last || result.outcome !== 'ok') return
  }
}
