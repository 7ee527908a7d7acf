// Writing the record of a hold: the money, the proof that this process is alive, the levels as they were read, and
// whatever else is to happen with it, in one batch that is applied once however often it has to be sent.

import type { Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import { newNonce } from '../lib/ids.ts'
import type { Batch } from '../waist/batch.ts'
import type { Committer, CommitResult } from '../stores/group.ts'
import type { Lease } from './lease.ts'
import { mergeAdds, takeAdds, type Leg, type Level } from './legs.ts'
import type { Levels } from './levels.ts'
import type { HoldRecord, Processes } from './processes.ts'
import { budgetKey, counterKey } from './record.ts'

/** Money that was set aside. */
export interface Grant {
  readonly holdId: string
  readonly path: string
  /** What is set aside, by dimension. */
  readonly amounts: Amounts
  readonly outputTokens: number
  /** The levels of the path, as they were when it was taken. */
  readonly levels: readonly Level[]
  readonly record: Omit<HoldRecord, 'nonce'>
  /** What it was drawn from, when that is not the store: then it has no record of its own. */
  readonly lease?: Lease
  /** Key of a mark that its end leaves, for who has to know later that it has ended. */
  readonly endMark?: string
  /** Version of the record in the store: `0` when nothing had to be written, `undefined` when nobody knows. */
  readonly version: number | undefined
}

/** The gates have to be asked again: what one of them built upon has changed. */
export class FragmentConflict extends Error {}

/** Options of {@link createHoldWriter}. */
export interface HoldWriterOptions {
  readonly committer: Committer
  readonly processes: Processes
  readonly levels: Levels
  readonly boot: string
  readonly observe: boolean
  /** Unix ms. */
  readonly now: () => number
}

/** Writes the records of this process's holds. */
export interface HoldWriter {
  /** Writes a hold into the store, and what is to happen together with it. */
  write(grant: Grant, legs: readonly Leg[], fragment: Batch, column?: 'out' | 'kids'): Promise<CommitResult>
  /** What a conflict teaches; who asks again finds what is there now. @throws {FragmentConflict} */
  learn(which: string, fragment: Batch): void
  /** Whether a record that was found under the id of a hold is its own, and not that of a copy of this process. */
  isOwn(grant: Grant, found: HoldRecord): boolean
  /** Where the record of a hold of this process can lie, and the mark that what it used beyond it is in the books. */
  placesOf(holdId: string): Readonly<Record<'held' | 'suspended' | 'charged' | 'overran', string>>
}

/** How often a take is sent again when its reply is lost. */
const MAX_SENDS = 6

/** Makes the writer. */
export function createHoldWriter({ committer, processes, levels, boot, observe, now }: HoldWriterOptions): HoldWriter {
  const { store } = committer
  const observed = new Set<string>()
  /** Of records that were sent: sent again, a record must be known for the same one. */
  const nonces = new WeakMap<object, string>()
  /** The registration of this process that its marks in the store belong to. */
  let observedUnder: number | undefined

  async function write(
    { holdId, record, levels: known }: Grant,
    legs: readonly Leg[],
    fragment: Batch,
    column: 'out' | 'kids' = 'out',
  ): Promise<CommitResult> {
    const ticket = await processes.ticket()
    const { held, suspended } = placesOf(holdId)
    const identity = [held, suspended]
    // Marks of an earlier registration went with its record.
    if (ticket.version !== observedUnder) observed.clear()
    observedUnder = ticket.version
    const marks = observe
      ? known
          .filter((level) => level.endsAtMs === undefined && !observed.has(level.path))
          .map((level) => ({ key: `observed/${boot}/${level.path}`, value: now() }))
      : []
    const nonce = nonces.get(record) ?? newNonce()
    nonces.set(record, nonce)
    const batch: Batch = {
      check: [...identity.map((key) => ({ key, version: 0 })), ...ticket.check, ...known.flatMap(levelChecks), ...(fragment.check ?? [])],
      add: [...takeAdds(legs, known, column), ...mergeAdds(known.flatMap(birth)), ...(fragment.add ?? [])],
      set: [
        { key: held, value: { ...record, nonce } as never },
        ...ticket.set,
        ...known.flatMap(birthRecord),
        ...marks,
        ...(fragment.set ?? []),
      ],
      delete: fragment.delete ?? [],
    }
    const result = await send(batch, identity, nonce)
    if (result.outcome === 'ok') {
      processes.stamped(ticket)
      processes.held(holdId)
      for (const { path } of observe ? known : []) observed.add(path)
    }
    return result
  }

  /**
   * Sends a batch that may happen once, again when its reply is lost. A record with its nonce, found under a key
   * of `identity`, says that an earlier try was applied: by now the hold may even lie in suspense.
   */
  async function send(batch: Batch, identity: readonly string[], nonce: string): Promise<CommitResult> {
    let doubt: { readonly cause: unknown } | undefined
    for (let sends = 0; sends < MAX_SENDS; sends++) {
      try {
        const result = await committer.commit(batch)
        if (result.outcome === 'conflict' && identity.includes(result.which)) {
          // Until it was read whose record that is, it may be this one: a driver may have sent it twice.
          const entries = await store.read(identity).catch((cause: unknown) => void (doubt = { cause }))
          if (entries === undefined) continue
          const found = entries.find((entry) => (entry?.value as HoldRecord | undefined)?.nonce === nonce)
          if (found !== undefined && found !== null) return { outcome: 'ok', version: found.version, values: [] }
          throw new HoldfastError('ERR_STORE', `${result.which} was written by somebody else: is a copy of this process running?`)
        }
        if (result.outcome !== 'unknown') return result
        doubt = result
      } catch (cause) {
        // Certainly not applied this time; that says nothing about the times before.
        if (doubt === undefined) throw cause
        break
      }
    }
    return { outcome: 'unknown', cause: doubt!.cause }
  }

  function learn(which: string, { check = [] }: Batch): void {
    const gated = check.some(({ key }) => key === which)
    if (which.startsWith('process/')) processes.refresh()
    else if (which.startsWith('budget/')) levels.forget(which)
    else if (which.startsWith('free/')) levels.forget(budgetKey(which.split('/').slice(2).join('/')))
    else if (!gated) throw new HoldfastError('ERR_STORE', `${store.name}: unexpected conflict on ${which}.`)
    if (gated) throw new FragmentConflict(which)
  }

  const placesOf: HoldWriter['placesOf'] = (holdId: string) => ({
    held: `hold/${boot}/${holdId}`,
    suspended: `suspended/${boot}/${holdId}`,
    charged: `charged/${boot}/${holdId}`,
    overran: `overran/${boot}/${holdId}`,
  })

  const isOwn: HoldWriter['isOwn'] = ({ record }, { nonce }) => {
    const sent = nonces.get(record)
    return nonce === undefined || sent === undefined || nonce === sent
  }

  return { write, learn, isOwn, placesOf }
}

const levelChecks = ({ path, version, record, shape, shapeVersion }: Level) => [
  { key: budgetKey(path), version },
  // The shape that it is created from must be the one that was read.
  ...(shapeVersion === undefined ? [] : [{ key: budgetKey(shape), version: shapeVersion }]),
  // A level that is about to be created must have no counters either.
  ...(version === 0
    ? Object.keys(record.limits).map((dimension) => ({ key: counterKey('free', `${dimension}/${path}`), version: 0 }))
    : []),
]

const birth = ({ path, version, endsAtMs }: Level) =>
  version === 0 && endsAtMs === undefined ? [{ key: `children/${path.slice(0, path.lastIndexOf('/'))}`, by: 1 }] : []

const birthRecord = ({ path, version, record: { wrapUp, ...record }, shape, endsAtMs }: Level) => {
  if (version > 0) return []
  // What a window keeps for a last answer is said by its budget.
  const own = endsAtMs === undefined ? { ...record, ...(wrapUp === undefined ? {} : { wrapUp }), shape } : record
  return [{ key: budgetKey(path), value: own as never }]
}
