// The blackboard: shared state of agents, changed by propose -> validate -> commit. A change names the versions
// that it was decided on; it is made in one commit that checks them all, or not at all. So two agents that read
// the same balance cannot both spend it, in one process or in many.

import { newId } from '../lib/ids.ts'
import { assertAmount } from '../lib/amounts.ts'
import { assertJson, type Json } from '../lib/canonical-json.ts'
import { sleep } from '../lib/clock.ts'
import { HoldfastError, Refusal, type ConflictFacts } from '../lib/errors.ts'
import { assertName } from '../lib/names.ts'
import type { Committer } from '../stores/group.ts'
import type { Batch, SetKey } from '../waist/batch.ts'
import type { Scope } from '../waist/scope.ts'
import {
  BOARD_FORMAT,
  MAX_PAST,
  entryKey,
  pastOf,
  proposalKey,
  toEntry,
  type AbsentEntry,
  type BoardEntry,
  type BoardRecord,
  type BoardWrite,
  type PastWrite,
  type ProposalRecord,
} from './entry.ts'
import type { Namespaces } from './namespaces.ts'

/** What a proposal would change. */
export interface Proposal {
  /** Values by key. */
  readonly set?: Readonly<Record<string, Json>>
  readonly delete?: readonly string[]
  /**
   * What it was decided on: entries as `read` returned them. The change is made only while all of them are as
   * they were. A key that is written and not among them must be absent.
   */
  readonly reads?: readonly (BoardEntry | AbsentEntry)[]
  /** Write over keys that were not read, whatever they hold when it is proposed. @default false */
  readonly overwrite?: boolean
  /** How long the values that it sets live, ms, by the store's clock. @default for ever */
  readonly ttlMs?: number
}

/** What {@link Blackboard.transact} hands to its function. */
export interface BoardTransaction {
  /** The value of a key; what was read is what the change builds on. */
  read(key: string): Promise<Json | undefined>
  write(key: string, value: Json, options?: { readonly ttlMs?: number }): void
  delete(key: string): void
}

/** What a board stands on. */
export interface BoardContext {
  readonly committer: Committer
  readonly namespaces: Namespaces
  /** Observe mode: what a namespace forbids is let through; a write reports it by its gate. */
  readonly observe: boolean
  /** @throws {HoldfastError} `ERR_CLOSED` */
  readonly assertOpen: () => void
}

/** Most keys that one proposal reads and writes together. */
const MAX_KEYS = 200
/** How long a proposal waits to be committed, ms. */
const PROPOSAL_TTL_MS = 10 * 60_000
const DEFAULT_ATTEMPTS = 20

/** One namespace of the blackboard, as the agent of a scope sees it. */
export class Blackboard {
  readonly namespace: string
  readonly #scope: Scope
  readonly #context: BoardContext

  constructor(scope: Scope, namespace: string, context: BoardContext) {
    assertName('namespace', namespace)
    this.namespace = namespace
    this.#scope = scope
    this.#context = context
  }

  /** The entry of a key; one with version 0 when the key is absent. @throws {Refusal} `ERR_PERMISSION_DENIED` */
  async read(key: string): Promise<BoardEntry | AbsentEntry> {
    return (await this.readAll([key]))[0]!
  }

  /** Entries of keys, in one snapshot. @throws {Refusal} `ERR_PERMISSION_DENIED` */
  async readAll(keys: readonly string[]): Promise<readonly (BoardEntry | AbsentEntry)[]> {
    this.#assertMay('read')
    const found = await this.#store.read(keys.map((key) => entryKey(this.namespace, key)))
    return keys.map((key, index) => toEntry(key, found[index]!))
  }

  /** Entries whose keys begin with `prefix`, in order of key, after the key `after`. @throws {Refusal} `ERR_PERMISSION_DENIED` */
  async list(
    prefix = '',
    { after, limit = 1_000 }: { readonly after?: string; readonly limit?: number } = {},
  ): Promise<readonly BoardEntry[]> {
    this.#assertMay('read')
    const root = `bb/${this.namespace}/`
    const found = await this.#store.list(`${root}${prefix}`, { limit, ...(after === undefined ? {} : { after: `${root}${after}` }) })
    return found.map((entry) => toEntry(entry.key.slice(root.length), entry) as BoardEntry)
  }

  /** The last writes of a key, newest first, the present one included. Values of the past are kept as hashes only. */
  async history(key: string): Promise<readonly PastWrite[]> {
    this.#assertMay('read')
    const [found] = await this.#store.read([entryKey(this.namespace, key)])
    return found === null || found === undefined ? [] : pastOf(found.value as unknown as BoardRecord, found.version)
  }

  /**
   * Stages a change. It waits ten minutes to be committed.
   *
   * @returns Its id, which any process of the store can validate or commit.
   * @throws {Refusal} `ERR_CONFLICT` for a key that is written without having been read; `ERR_PERMISSION_DENIED`.
   * @throws {TypeError} {RangeError} For what is not JSON, or too much.
   */
  async propose({ set = {}, delete: deleted = [], reads = [], overwrite = false, ttlMs }: Proposal): Promise<string> {
    this.#assertMay('write')
    if (ttlMs !== undefined) assertTtl(ttlMs)
    const writes: readonly BoardWrite[] = [
      ...Object.entries(set).map(([key, value]) => ({ key, value, ...(ttlMs === undefined ? {} : { ttlMs }) })),
      ...deleted.map((key) => ({ key })),
    ]
    assertWrites(writes)
    const basis = await this.#basisOf(writes, reads, overwrite)
    const { agent, task } = this.#scope
    const atMs = await this.#store.now()
    const id = newId()
    const record: ProposalRecord = {
      format: BOARD_FORMAT,
      agent,
      task,
      namespace: this.namespace,
      state: 'pending',
      writes,
      reads: basis,
      atMs,
    }
    await this.#write({ check: [{ key: proposalKey(id), version: 0 }], set: [this.#proposal(id, record)] })
    return id
  }

  /**
   * Looks whether a proposal could be committed now, and notes that this agent looked.
   *
   * @returns What stands in its way; nothing when it could.
   * @throws {HoldfastError} `ERR_PROPOSAL_STATE` for one that is committed, aborted, expired or unknown.
   */
  async validate(id: string): Promise<readonly ConflictFacts[]> {
    this.#assertMay('write')
    const { record, version } = await this.#find(id)
    const conflicts = await this.#conflictsOf(record.reads)
    if (conflicts.length === 0) {
      const validated: ProposalRecord = { ...record, state: 'validated', validatedBy: this.#scope.agent }
      await this.#write({ check: [{ key: proposalKey(id), version }], set: [this.#proposal(id, validated)] })
    }
    return conflicts
  }

  /**
   * Makes the change of a proposal, all of it or nothing.
   *
   * @returns The version that every key it wrote has now.
   * @throws {Refusal} `ERR_CONFLICT` when something is not as it was read, naming the writer and both versions;
   *   `ERR_PERMISSION_DENIED` for the proposal of another agent; whatever the gates say.
   * @throws {HoldfastError} `ERR_PROPOSAL_STATE`; `ERR_STORE` when nobody knows, and committing again tells.
   */
  async commit(id: string): Promise<number> {
    for (let attempt = 0; ; attempt++) {
      const { record, version } = await this.#find(id)
      this.#assertOwn(id, record)
      const key = proposalKey(id)
      const { writes, reads, ...rest } = record
      // What was made needs no values any more; only that it was made is kept, for who asks again.
      const committed = this.#proposal(id, { ...rest, state: 'committed', writes: [], reads: [], atMs: await this.#store.now() })
      try {
        await this.#make(writes, reads, { check: [{ key, version }], set: [committed] })
      } catch (error) {
        if (!Refusal.isInstance(error) || error.code !== 'ERR_CONFLICT') throw error
        // Somebody may have validated, committed or aborted it meanwhile; that is no conflict of what it builds on.
        const now = await this.#find(id)
        if (now.version !== version && attempt < DEFAULT_ATTEMPTS) continue
        try {
          await this.#end(id, now)
        } catch {
          // It expires by itself; the conflict is what its caller has to hear of.
        }
        throw error
      }
      return (await this.#store.read([key]))[0]?.version ?? 0
    }
  }

  /** Gives a proposal up. @throws {HoldfastError} `ERR_PROPOSAL_STATE`; @throws {Refusal} `ERR_PERMISSION_DENIED` */
  async abort(id: string): Promise<void> {
    const found = await this.#find(id)
    this.#assertOwn(id, found.record)
    await this.#end(id, found)
  }

  /**
   * Reads, decides and writes as one step: `fn` runs again, on fresh values, whenever another writer was first.
   *
   * @param attempts - How often it may run.
   * @throws {Refusal} `ERR_CONFLICT` when another writer was first every time.
   */
  async transact<T>(
    fn: (tx: BoardTransaction) => Promise<T>,
    { attempts = DEFAULT_ATTEMPTS }: { readonly attempts?: number } = {},
  ): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const reads = new Map<string, BoardEntry | AbsentEntry>()
      const writes = new Map<string, BoardWrite>()
      const result = await fn(this.#transaction(reads, writes))
      if (writes.size === 0) return result
      assertWrites([...writes.values()])
      try {
        await this.#make([...writes.values()], await this.#basisOf([...writes.values()], [...reads.values()], true), {})
        return result
      } catch (error) {
        if (!Refusal.isInstance(error) || error.code !== 'ERR_CONFLICT' || attempt >= attempts) throw error
      }
      await sleep(Math.random() * Math.min(50, 2 ** attempt))
    }
  }

  /** Calls back, soon and at least once, after a key with this prefix changed. Returns the stop function. */
  watch(prefix: string, wake: () => void): () => void {
    this.#assertMay('read')
    return this.#store.watch(`bb/${this.namespace}/${prefix}`, wake)
  }

  get #store() {
    return this.#context.committer.store
  }

  #assertMay(what: 'read' | 'write'): void {
    if (!this.#context.observe) this.#context.namespaces.assertMay(what, this.#scope.agent, this.namespace)
  }

  #assertOwn(id: string, { agent }: ProposalRecord): void {
    if (agent === this.#scope.agent) return
    throw new Refusal('ERR_PERMISSION_DENIED', `Proposal ${id} is of \`${agent}\`, not of \`${this.#scope.agent}\`.`, {
      agent: this.#scope.agent,
    })
  }

  #transaction(reads: Map<string, BoardEntry | AbsentEntry>, writes: Map<string, BoardWrite>): BoardTransaction {
    return {
      read: async (key) => {
        const written = writes.get(key)
        if (written !== undefined) return written.value
        // Read once: a second look at the same key sees what the first one saw.
        const entry = reads.get(key) ?? (await this.read(key))
        if (!reads.has(key)) reads.set(key, entry)
        return 'value' in entry ? entry.value : undefined
      },
      write: (key, value, { ttlMs } = {}) => {
        if (ttlMs !== undefined) assertTtl(ttlMs)
        writes.set(key, { key, value, ...(ttlMs === undefined ? {} : { ttlMs }) })
      },
      delete: (key) => {
        writes.set(key, { key })
      },
    }
  }

  /** The versions that a change builds on: what was read, and for keys that are only written what `overwrite` says. */
  async #basisOf(
    writes: readonly BoardWrite[],
    reads: readonly (BoardEntry | AbsentEntry)[],
    overwrite: boolean,
  ): Promise<ProposalRecord['reads']> {
    const basis = new Map(reads.map(({ key, version }) => [key, version]))
    for (const [key, version] of basis) {
      entryKey(this.namespace, key)
      assertAmount(`reads.${key}.version`, version)
    }
    const unread = writes.map(({ key }) => key).filter((key) => !basis.has(key))
    if (basis.size + unread.length > MAX_KEYS)
      throw new RangeError(`A change may read and write ${MAX_KEYS} keys, this one has ${basis.size + unread.length}.`)
    const entries = (await this.#store.read(unread.map((key) => entryKey(this.namespace, key)))).map((found, index) =>
      toEntry(unread[index]!, found),
    )
    const present = entries.find((entry) => entry.version > 0)
    if (!overwrite && present !== undefined) throw conflictOf([conflictWith(0, present)], this.namespace)
    for (const { key, version } of entries) basis.set(key, version)
    return [...basis].map(([key, version]) => ({ key, version }))
  }

  async #conflictsOf(reads: ProposalRecord['reads']): Promise<readonly ConflictFacts[]> {
    const found = await this.#store.read(reads.map(({ key }) => entryKey(this.namespace, key)))
    return reads.flatMap(({ key, version }, index) => {
      const entry = toEntry(key, found[index]!)
      return entry.version === version ? [] : [conflictWith(version, entry)]
    })
  }

  /** The one write: checks every version, sets every key, in the commit of `begin`. */
  async #make(writes: readonly BoardWrite[], reads: ProposalRecord['reads'], proposal: Batch): Promise<void> {
    const { agent, task } = this.#scope
    const atMs = await this.#store.now()
    const present = await this.#store.read(writes.map(({ key }) => entryKey(this.namespace, key)))
    const set = writes.flatMap(({ key, value, ttlMs }, index): SetKey[] => {
      if (value === undefined) return []
      const found = present[index]!
      const past = found === null ? [] : pastOf(found.value as unknown as BoardRecord, found.version)
      const record: BoardRecord = { format: BOARD_FORMAT, value, agent, task, atMs, past: past.slice(0, MAX_PAST) }
      return [{ key: entryKey(this.namespace, key), value: record as never, ...(ttlMs === undefined ? {} : { expiresAtMs: atMs + ttlMs }) }]
    })
    const batch: Batch = {
      check: [...(proposal.check ?? []), ...reads.map(({ key, version }) => ({ key: entryKey(this.namespace, key), version }))],
      set: [...set, ...(proposal.set ?? [])],
      delete: writes.filter(({ value }) => value === undefined).map(({ key }) => entryKey(this.namespace, key)),
    }
    const args = { writes: writes.map(({ key, value }) => ({ key, value: value ?? null })), reads }
    try {
      const hold = await this.#scope.begin({ kind: 'write', resource: this.namespace, args, with: batch })
      await hold.settle({})
    } catch (error) {
      if (!Refusal.isInstance(error) || error.code !== 'ERR_CONFLICT') throw error
      const conflicts = await this.#conflictsOf(reads)
      throw conflicts.length === 0 ? error : conflictOf(conflicts, this.namespace, error)
    }
  }

  #proposal(id: string, record: ProposalRecord): SetKey {
    return { key: proposalKey(id), value: record as never, expiresAtMs: record.atMs + PROPOSAL_TTL_MS }
  }

  async #find(id: string): Promise<{ readonly record: ProposalRecord; readonly version: number }> {
    if (typeof id !== 'string' || !/^[\w-]{22}$/.test(id)) throw new TypeError(`Expected the id of a proposal, got ${JSON.stringify(id)}.`)
    const [found] = await this.#store.read([proposalKey(id)])
    if (found === null || found === undefined) throw proposalState(id, 'has expired, or never was')
    const record = found.value as unknown as ProposalRecord
    if (record.namespace !== this.namespace)
      throw proposalState(id, `belongs to the namespace \`${record.namespace}\`, not to \`${this.namespace}\``)
    if (record.state === 'committed' || record.state === 'aborted') throw proposalState(id, `is ${record.state} already`)
    return { record, version: found.version }
  }

  /** Ends a proposal as it was found; one that has changed since is somebody else's affair. */
  async #end(id: string, { record, version }: { readonly record: ProposalRecord; readonly version: number }): Promise<void> {
    const aborted: ProposalRecord = { ...record, state: 'aborted', writes: [], reads: [] }
    await this.#write({ check: [{ key: proposalKey(id), version }], set: [this.#proposal(id, aborted)] })
  }

  async #write(batch: Batch): Promise<void> {
    this.#context.assertOpen()
    const result = await this.#context.committer.commit(batch)
    if (result.outcome === 'ok') return
    if (result.outcome === 'conflict')
      throw proposalState(result.which.slice(proposalKey('').length), 'was changed by somebody else meanwhile')
    throw new HoldfastError('ERR_STORE', `${this.#store.name} did not answer.`, result.outcome === 'unknown' ? { cause: result.cause } : {})
  }
}

const proposalState = (id: string, what: string): HoldfastError => new HoldfastError('ERR_PROPOSAL_STATE', `Proposal ${id} ${what}.`)

function conflictWith(readVersion: number, entry: BoardEntry | AbsentEntry): ConflictFacts {
  const { key, version } = entry
  return { key, readVersion, version, ...('agent' in entry ? { agent: entry.agent, task: entry.task } : {}) }
}

function conflictOf(conflicts: readonly ConflictFacts[], namespace: string, cause?: Error): Refusal {
  const conflict = conflicts[0]!
  const { key, readVersion, version, agent, task } = conflict
  const before = readVersion === 0 ? 'absent, or not read,' : `at version ${readVersion}`
  const now = agent === undefined ? 'absent' : `at version ${version}, written by \`${agent}\` (task \`${task}\`)`
  const more = conflicts.length === 1 ? '' : ` ${conflicts.length - 1} more keys changed.`
  return new Refusal(
    'ERR_CONFLICT',
    `\`${key}\` in \`${namespace}\` was ${before} when this was decided, and is ${now}.${more} Read again and decide anew.`,
    { resource: namespace, conflict },
    { cause },
  )
}

function assertWrites(writes: readonly BoardWrite[]): void {
  if (writes.length === 0) throw new TypeError('A change must write something: `set` or `delete`.')
  for (const write of writes) if ('value' in write) assertJson(`set.${write.key}`, write.value)
  const keys = new Set(writes.map(({ key }) => key))
  if (keys.size < writes.length) throw new TypeError('A change may write a key once.')
}

function assertTtl(ttlMs: number): void {
  assertAmount('ttlMs', ttlMs)
  if (ttlMs === 0) throw new RangeError('`ttlMs` must be at least 1; delete a key that is not to be there.')
}
