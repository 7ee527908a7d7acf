// Group commit, identity, retry and jitter, written once above all stores. Callers that commit while a
// group is on its way wait and travel together in the next one: one write and one fsync for all of them.

import { assertAmount } from '../lib/amounts.ts'
import { assertJson, canonicalJson } from '../lib/canonical-json.ts'
import { sleep } from '../lib/clock.ts'
import { HoldfastError } from '../lib/errors.ts'
import { sha256 } from '../lib/ids.ts'
import { MAX_BATCH_BYTES, MAX_BATCH_OPERATIONS, MAX_KEY_BYTES, type Batch, type BatchResult, type Store, type StoreHead } from './store.ts'
import { copyBatch } from './table.ts'

/** A batch, and the name under which it is applied at most once however often it is sent. */
export interface Commit extends Batch {
  /**
   * Becomes the key `id/<id>`: a retry finds it there and answers `ok` instead of applying twice. Not
   * needed where the keys of the batch carry its identity (a `check` for absence of a fresh key).
   */
  readonly id?: string
}

/** What became of a commit. `unknown`: the reply was lost and stayed lost; spend nothing on it. */
export type CommitResult = BatchResult | { readonly outcome: 'unknown'; readonly cause: unknown }

/** The state of a process's audit chain, as it travels in every group. */
export interface ChainHead {
  readonly count: number
  readonly hash: string
}

/** Options of {@link groupCommits}. */
export interface GroupOptions {
  /** Name of this process in the store: its head lies at `head/<boot>`. */
  readonly boot?: string
  /** Asked at sending: the chain head that this group carries. */
  readonly chainHead?: () => ChainHead
  /** Told where the store stood after each acknowledged group. */
  readonly onStoreHead?: (head: StoreHead) => void
}

/** A store with group commit. */
export interface Committer {
  readonly store: Store
  /**
   * Commits one batch, all or nothing.
   *
   * @throws {TypeError} For a batch that no store could take (bad key, value, bound, or a key named twice).
   * @throws {HoldfastError} `ERR_STORE`, `ERR_DAMAGE`, `ERR_STORE_FULL`: certainly not applied.
   */
  commit(commit: Commit): Promise<CommitResult>
  /** Resolves when everything committed so far has been answered. */
  idle(): Promise<void>
}

const MAX_GROUP_BATCHES = 512
const MAX_UNKNOWN_RETRIES = 5
/** How long one group may lose races before its callers are told, ms. Far beyond anything measured. */
const MAX_CONTENTION_MS = 30_000

interface Waiting {
  readonly batch: Batch
  readonly bytes: number
  readonly identity?: { readonly key: string; readonly hash: string }
  attempts: number
  readonly resolve: (result: CommitResult) => void
  readonly reject: (error: unknown) => void
}

/** Puts group commit in front of a store. */
export function groupCommits(store: Store, { boot, chainHead, onStoreHead }: GroupOptions = {}): Committer {
  let queue: Waiting[] = []
  let draining: Promise<void> | undefined
  let headVersion: number | undefined
  const spentIds = new Set<string>()

  // Every group carries one batch of the process's own: its chain head, and the ids that nobody will ask
  // for again. It belongs to no caller, so its fate changes nobody's result.
  async function ownBatch(group: readonly Waiting[]): Promise<Batch | undefined> {
    const spent = idsToDelete(group)
    if (boot === undefined || chainHead === undefined) return spent.length === 0 ? undefined : { delete: spent }
    const key = `head/${boot}`
    headVersion ??= (await store.read([key]))[0]?.version ?? 0
    const { count, hash } = chainHead()
    return { check: [{ key, version: headVersion }], set: [{ key, value: { count, hash } }], delete: spent }
  }

  function idsToDelete(group: readonly Waiting[]): readonly string[] {
    if (spentIds.size === 0) return []
    // An id that somebody is asking for right now must outlive the answer.
    const asked = new Set([...group, ...queue].map(({ identity }) => identity?.key))
    return [...spentIds].filter((key) => !asked.has(key)).slice(0, MAX_BATCH_OPERATIONS / 2)
  }

  function afterOwnBatch(own: Batch, result: BatchResult | undefined): void {
    if (result?.outcome !== 'ok') {
      headVersion = undefined
      return
    }
    if (own.set !== undefined) headVersion = result.version
    for (const key of own.delete ?? []) spentIds.delete(key)
  }

  async function send(group: readonly Waiting[]): Promise<void> {
    const own = await ownBatch(group)
    const batches = own === undefined ? group.map(({ batch }) => batch) : [...group.map(({ batch }) => batch), own]
    const startedAt = performance.now()
    for (let attempt = 0; ; attempt++) {
      const answer = await store.apply(batches)
      if (answer.outcome === 'applied') {
        if (own !== undefined) afterOwnBatch(own, answer.results[group.length])
        if (answer.head !== undefined) onStoreHead?.(answer.head)
        await Promise.all(group.map((waiting, index) => answerTo(waiting, answer.results[index]!)))
        return
      }
      if (answer.outcome === 'unknown') {
        headVersion = undefined
        await askAgain(group, answer.cause)
        return
      }
      if (performance.now() - startedAt > MAX_CONTENTION_MS) {
        throw new HoldfastError('ERR_STORE', `${store.name} lost every race for ${MAX_CONTENTION_MS} ms; nothing was written.`)
      }
      // The first losses are cheap to retry at once; after that, step out of each other's way.
      if (attempt >= 2) await sleep(Math.random() * Math.min(20, attempt))
    }
  }

  async function answerTo(waiting: Waiting, result: BatchResult): Promise<void> {
    const { identity } = waiting
    if (identity === undefined) return waiting.resolve(result)
    if (result.outcome === 'ok') spentIds.add(identity.key)
    if (result.outcome !== 'conflict' || result.which !== identity.key) return waiting.resolve(result)
    // The id is taken: by this very batch, sent before and answered late, or by another one.
    const addKeys = waiting.batch.add?.map(({ key }) => key) ?? []
    try {
      const [marker, ...counters] = await store.read([identity.key, ...addKeys])
      if (marker === null || marker === undefined) throw new Error(`${identity.key} was deleted by another committer meanwhile.`)
      if (marker.value !== identity.hash) {
        return waiting.reject(new TypeError(`The id ${JSON.stringify(identity.key.slice(3))} was used for another batch.`))
      }
      spentIds.add(identity.key)
      return waiting.resolve({ outcome: 'ok', version: marker.version, values: counters.map((entry) => Number(entry?.value ?? 0)) })
    } catch (cause) {
      return waiting.resolve({ outcome: 'unknown', cause })
    }
  }

  async function askAgain(group: readonly Waiting[], cause: unknown): Promise<void> {
    const again: Waiting[] = []
    for (const waiting of group) {
      waiting.attempts += 1
      if (waiting.identity !== undefined && waiting.attempts <= MAX_UNKNOWN_RETRIES) again.push(waiting)
      else waiting.resolve({ outcome: 'unknown', cause })
    }
    if (again.length === 0) return
    await sleep(Math.random() * Math.min(1_000, 10 * 2 ** Math.max(...again.map(({ attempts }) => attempts))))
    queue.push(...again)
  }

  async function drain(): Promise<void> {
    // One turn of the event loop, so that callers of the same turn travel together.
    await new Promise((resolve) => setImmediate(resolve))
    while (queue.length > 0) {
      const group = takeGroup()
      try {
        await send(group)
      } catch (error) {
        for (const waiting of group) {
          // Whoever's reply was lost before may have been applied then; an error now does not take that back.
          if (waiting.attempts > 0) waiting.resolve({ outcome: 'unknown', cause: error })
          else waiting.reject(error)
        }
      }
      // Promises alone would never let timers and sockets run.
      await new Promise((resolve) => setImmediate(resolve))
    }
    draining = undefined
  }

  function takeGroup(): readonly Waiting[] {
    let bytes = 0
    let count = 0
    while (count < queue.length && count < MAX_GROUP_BATCHES) {
      bytes += queue[count]!.bytes
      if (count > 0 && bytes > MAX_BATCH_BYTES) break
      count += 1
    }
    const group = queue.slice(0, count)
    queue = queue.slice(count)
    return group
  }

  return {
    store,
    async commit({ id, ...given }) {
      const bytes = assertBatch(given)
      // What was checked and hashed is what is sent, whatever becomes of the caller's objects meanwhile.
      const batch = copyBatch(given)
      const identity = id === undefined ? undefined : identify(id, batch)
      return new Promise((resolve, reject) => {
        queue.push({
          batch: identity === undefined ? batch : withIdentity(batch, identity),
          bytes,
          ...(identity === undefined ? {} : { identity }),
          attempts: 0,
          resolve,
          reject,
        })
        draining ??= drain()
      })
    },
    async idle() {
      await draining
    },
  }
}

function identify(id: string, batch: Batch): { readonly key: string; readonly hash: string } {
  const key = `id/${id}`
  if (id === '') throw new TypeError('Expected an id of at least one character.')
  assertKey(key)
  return { key, hash: sha256(canonicalJson(batch, { dropUndefined: true })) }
}

function withIdentity(batch: Batch, { key, hash }: { readonly key: string; readonly hash: string }): Batch {
  return { ...batch, check: [{ key, version: 0 }, ...(batch.check ?? [])], set: [...(batch.set ?? []), { key, value: hash }] }
}

/** Checks a batch before anything is sent. Returns roughly how many bytes it takes. */
function assertBatch(batch: Batch): number {
  const { check = [], add = [], set = [], delete: deleted = [] } = batch
  const operations = check.length + add.length + set.length + deleted.length
  if (operations > MAX_BATCH_OPERATIONS)
    throw new RangeError(`A batch may have ${MAX_BATCH_OPERATIONS} operations, this one has ${operations}.`)
  let bytes = 64 * operations
  const written = new Set<string>()
  const writes = (key: string): void => {
    bytes += assertKey(key)
    if (written.has(key)) throw new TypeError(`A batch may write a key once; ${JSON.stringify(key)} is named twice.`)
    written.add(key)
  }
  for (const { key, version } of check) {
    bytes += assertKey(key)
    assertAmount(`check ${key} version`, version)
  }
  for (const { key, by, min, max } of add) {
    writes(key)
    for (const bound of [by, min, max]) {
      if (bound !== undefined && !Number.isSafeInteger(bound))
        throw new TypeError(`Expected whole numbers up to 2^53 - 1 in add ${key}, got \`${bound}\`.`)
    }
  }
  for (const { key, value, expiresAtMs } of set) {
    writes(key)
    bytes += Buffer.byteLength(assertJson(`value of ${key}`, value))
    if (expiresAtMs !== undefined) assertAmount(`expiresAtMs of ${key}`, expiresAtMs)
  }
  for (const key of deleted) writes(key)
  if (bytes > MAX_BATCH_BYTES) throw new RangeError(`A batch may take ${MAX_BATCH_BYTES} bytes, this one takes ${bytes}.`)
  return bytes
}

function assertKey(key: string): number {
  const bytes = typeof key === 'string' ? Buffer.byteLength(key) : 0
  if (bytes === 0 || bytes > MAX_KEY_BYTES || !key.isWellFormed() || /\p{Cc}/u.test(key)) {
    throw new TypeError(
      `Expected a key of 1 to ${MAX_KEY_BYTES} bytes without control characters, got ${JSON.stringify(key)?.slice(0, 80)}.`,
    )
  }
  return bytes
}
