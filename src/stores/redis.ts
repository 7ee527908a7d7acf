// A store on the caller's own Redis: many machines, one state, one script per group of batches.
//
// Layout, all under one hash tag and so in one slot of a cluster: `meta` (format, id, version, count, time),
// `cells` (a hash: key -> [version, expiresAtMs, value]), `index` (its keys in order, a sorted set), `expiries`
// (what to remove when) and `client:<id>` (the last answer to each client). Few keys, not one per entry: a group
// reads with one HMGET and writes with one HSET whatever its size; counters touch neither index nor expiries, so a
// bounded add costs no more in a large store than in an empty one; a prefix is listed from the index; the
// script knows all its keys beforehand; and since entries are counted, one that vanishes is noticed at the next
// call. No money lies under a TTL: what has expired by the clock of the store is skipped, and removed by later groups.
//
// Invariant: every call says which store it means and the highest version that its client has seen. Data that is
// gone, another, or older answers with ERR_DAMAGE; only `redisStore` makes a store, never a call.

import { HoldfastError } from '../lib/errors.ts'
import { newId, newNonce } from '../lib/ids.ts'
import { connected, createCalls, NoAnswer, within, type Answer } from './redis/calls.ts'
import { faceOf, type RedisClient, type RedisFace } from './redis/client.ts'
import { followChanges } from './redis/follow.ts'
import { CLIENT_MS, SCRIPTS } from './redis/script.ts'
import { capabilitiesOf, settingsOf, tooOld } from './redis/settings.ts'
import { boundsOf, decodeKey, encodeGroup, encodeKey, entryOf, readAnswers, type RedisAnswer, type RedisCell } from './redis/wire.ts'
import { MAX_ENTRIES, type Batch, type Capabilities, type GroupResult, type Store, type StoreHead } from './store.ts'
import { createWatchers } from './watchers.ts'

export type { IoredisClient, NodeRedisClient, RedisClient } from './redis/client.ts'

/** Options of {@link redisStore}. */
export interface RedisStoreOptions {
  /** Names the store: stores with different prefixes share nothing. Without braces. @default 'default' */
  readonly prefix?: string
  /**
   * How long a call waits for Redis, connecting and asking again included, ms, from 1 to 60,000. After that a group
   * is `unknown`, or rejects when it was certainly never sent; everything else rejects.
   * @default 5000
   */
  readonly timeoutMs?: number
}

const MAX_TIMEOUT_MS = 60_000
const MAX_PREFIX_LENGTH = 200
/** A sequence number is compared as text in front, so it has a width. */
const SEQUENCE_DIGITS = 16

/**
 * Opens, and creates if need be, a store on a connected client of ioredis or node-redis, a cluster's too. The client
 * stays the caller's: `close` ends only what the store opened itself.
 *
 * @throws {HoldfastError} `ERR_STORE` when Redis cannot be reached, is too old or does not let the store write;
 *   `ERR_STORE_FULL` when it has no memory left; `ERR_DAMAGE` when a part of the store is missing.
 * @throws {TypeError} For another kind of client, or a prefix that Redis could not keep together.
 */
export async function redisStore(client: RedisClient, options: RedisStoreOptions = {}): Promise<Store> {
  const { prefix = 'default', timeoutMs = 5_000 } = options
  if (prefix === '' || prefix.length > MAX_PREFIX_LENGTH || /[{}\p{Cc}]/u.test(prefix) || !prefix.isWellFormed())
    throw new TypeError(`Expected a prefix of 1 to ${MAX_PREFIX_LENGTH} characters without braces, got ${JSON.stringify(prefix)}.`)
  if (!(timeoutMs >= 1 && timeoutMs <= MAX_TIMEOUT_MS))
    throw new RangeError(`Expected \`timeoutMs\` to be from 1 to ${MAX_TIMEOUT_MS}, got \`${timeoutMs}\`.`)
  const face = faceOf(client)
  const name = `redis {holdfast:${prefix}}`
  try {
    const capabilities = await measure(face, name, timeoutMs)
    return storeOf({ face, name, capabilities, session: await openSession(face, name, `{holdfast:${prefix}}:`, timeoutMs) })
  } catch (error) {
    face.release()
    throw storeError(error)
  }
}

/** @throws {HoldfastError} `ERR_STORE` for a server that is too old. @throws {NoAnswer} */
async function measure(face: RedisFace, name: string, timeoutMs: number): Promise<Capabilities> {
  const until = performance.now() + timeoutMs
  for (;;) {
    await connected(face, name, until)
    try {
      const asked = face.servers().then((servers) => Promise.all(servers.map(settingsOf)))
      const servers = await within(until - performance.now(), asked, face.endings)
      const old = servers.map(tooOld).find((version) => version !== undefined)
      if (old === undefined) return capabilitiesOf(servers, face.sentinels)
      throw new HoldfastError('ERR_STORE', `${name} is on Redis ${old}. The store needs Redis 6.2 or later.`)
    } catch (error) {
      if (HoldfastError.isInstance(error)) throw error
      // The connection ended half-way; asking twice does no harm.
    }
  }
}

/** What this client is to the store: the calls it makes, in order where that matters. */
interface Session {
  readonly id: string
  /** One group at a time, in the order of the calls. */
  apply(batches: readonly Batch[]): Promise<Answer>
  /** Runs a script that writes nothing, at the version and time that this client has seen. */
  look(script: 'read' | 'list', ...parts: readonly string[]): Promise<Answer>
  /** Lets what was sent be answered; what waits is refused. */
  close(): Promise<void>
}

async function openSession(face: RedisFace, name: string, tag: string, timeoutMs: number): Promise<Session> {
  const calls = createCalls(face, name, timeoutMs)
  const shared = ['meta', 'cells', 'index', 'expiries'].map((key) => tag + key)
  const deadline = (): number => performance.now() + timeoutMs
  let id = ''
  // Under this key the server remembers the last apply of this client.
  let client = ''
  let sequence = 0
  let appliedAt = 0
  // True while an apply may be on its way whose caller was told that its outcome is unknown.
  let doubt = false
  let closed = false
  let turn: Promise<unknown> = Promise.resolve()

  async function register(newStoreId: string, until: number): Promise<void> {
    // Random from the system each time: a copy of this process must not be taken for this client.
    const fresh = `${tag}client:${newNonce()}`
    const [, , , found] = await calls.run(SCRIPTS.open, [...shared, fresh, `${tag}probe`], () => [newStoreId, id], until)
    id = String(found)
    client = fresh
    sequence = 0
    appliedAt = performance.now()
  }

  async function applyNow(batches: readonly Batch[], until: number): Promise<Answer> {
    assertOpen()
    if (client === '' || performance.now() - appliedAt > CLIENT_MS / 2) await register('', until)
    const { request, message } = encodeGroup(batches)
    const number = String(++sequence).padStart(SEQUENCE_DIGITS, '0')
    const nonce = newNonce()
    const parts = (leftMs: number): readonly string[] => {
      const latestMs = calls.estimateMs() + Math.ceil(leftMs)
      return [id, String(calls.seenVersion), String(calls.seenMs), String(latestMs), number, nonce, message, request]
    }
    try {
      const answer = await calls.run(SCRIPTS.apply, [...shared, client], parts, until)
      appliedAt = performance.now()
      // The server has seen a higher number than that of any group in doubt, and refuses that one from now on.
      doubt = false
      return answer
    } catch (error) {
      doubt ||= error instanceof NoAnswer && error.sent
      if (error instanceof NoAnswer && error.estranged) client = ''
      throw error
    }
  }

  function assertOpen(): void {
    if (closed) throw new HoldfastError('ERR_CLOSED', `${name} is closed.`)
  }

  function apply(batches: readonly Batch[], until = deadline()): Promise<Answer> {
    const applied = turn.then(() => applyNow(batches, until))
    turn = applied.catch(() => {})
    return applied
  }

  await register(newId(), deadline())
  return {
    id,
    async apply(batches) {
      assertOpen()
      return apply(batches)
    },
    async look(script, ...parts) {
      assertOpen()
      const until = deadline()
      try {
        // Whoever looks after an unknown outcome asks what it was, so it must not change any more.
        if (doubt) await apply([], until)
        const standing = (): readonly string[] => [id, String(calls.seenVersion), String(calls.seenMs), ...parts]
        return await calls.run(SCRIPTS[script], shared, standing, until)
      } catch (error) {
        throw storeError(error)
      }
    },
    async close() {
      closed = true
      await turn
    },
  }
}

/** The error for a call that had no answer, where it does not matter whether it was run. */
function storeError(error: unknown): unknown {
  if (!(error instanceof NoAnswer)) return error
  return HoldfastError.isInstance(error.cause)
    ? error.cause
    : new HoldfastError('ERR_STORE', error.message, { cause: error.cause ?? error })
}

interface StoreParts {
  readonly face: RedisFace
  readonly name: string
  readonly session: Session
  readonly capabilities: Capabilities
}

function storeOf({ face, name, session, capabilities }: StoreParts): Store {
  const { id } = session
  const watchers = createWatchers()
  let stopFollowing: (() => void) | undefined
  let closed = false
  const version = async (): Promise<number> => (await session.look('read', '[]'))[2]

  async function apply(batches: readonly Batch[]): Promise<GroupResult> {
    try {
      const [, , upto, answers] = await session.apply(batches)
      const head: StoreHead = { segment: 0, bytes: upto, hash: id }
      return { outcome: 'applied', results: readAnswers(batches, upto, answers as readonly RedisAnswer[]), head }
    } catch (error) {
      if (error instanceof NoAnswer && error.sent) return { outcome: 'unknown', cause: error }
      throw storeError(error)
    }
  }

  function watch(prefix: string, wake: () => void): () => void {
    if (closed) throw new HoldfastError('ERR_CLOSED', `${name} is closed.`)
    const remove = watchers.add(prefix, wake)
    stopFollowing ??= followChanges({ face, channel: `holdfast:${id}`, watchers, version })
    return () => {
      remove()
      if (watchers.size > 0) return
      stopFollowing?.()
      stopFollowing = undefined
    }
  }

  return {
    name,
    id,
    capabilities,
    apply,
    async read(keys) {
      if (keys.length > MAX_ENTRIES) throw new RangeError(`One read takes up to ${MAX_ENTRIES} keys, got ${keys.length}.`)
      const [, , , cells] = await session.look('read', JSON.stringify(keys.map(encodeKey)))
      return (cells as readonly (RedisCell | null)[]).map((cell, index) => (cell === null ? null : entryOf(keys[index]!, cell)))
    },
    async list(prefix, { after, limit }) {
      if (!Number.isInteger(limit) || limit < 0) throw new RangeError(`Expected \`limit\` to be a whole number from 0, got \`${limit}\`.`)
      const [, , , cells, names] = await session.look('list', ...boundsOf(prefix, after), String(Math.min(limit, MAX_ENTRIES)))
      return (names as readonly string[]).map((found, index) => entryOf(decodeKey(found), (cells as readonly RedisCell[])[index]!))
    },
    async now() {
      return (await session.look('read', '[]'))[1]
    },
    watch,
    async holds(heads) {
      const upto = await version()
      return heads.map(({ segment, bytes, hash }) => (segment !== 0 ? 'unknown' : hash === id && bytes <= upto ? 'yes' : 'no'))
    },
    async close() {
      closed = true
      stopFollowing?.()
      stopFollowing = undefined
      watchers.clear()
      await session.close()
      face.release()
    },
  }
}
