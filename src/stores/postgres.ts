// The Postgres store: a schema in a database of the team's own, shared by the processes of many hosts. A group is
// one call of a function and so one transaction and one round trip; what makes it right is in postgres/schema.ts.

import { HoldfastError } from '../lib/errors.ts'
import { listRange } from './key-bytes.ts'
import { requestsOf, type Postgres, type Requests } from './postgres/client.ts'
import { storeError } from './postgres/errors.ts'
import { followPostgres, type PostgresListener } from './postgres/follow.ts'
import { assertSchema, hasSchema, migratePostgres } from './postgres/migrate.ts'
import { assertServer, capabilitiesOf, SETTINGS_QUERY, type Settings } from './postgres/settings.ts'
import { createSession, type Session } from './postgres/session.ts'
import { decodeResults, encodeBytes, encodeGroup, encodeKeys, entryOf } from './postgres/wire.ts'
import { MAX_ENTRIES, type Batch, type GroupResult, type Store } from './store.ts'
import { createWatchers } from './watchers.ts'

export type { Postgres, PostgresClient, PostgresPool, PostgresPoolClient, PostgresResult } from './postgres/client.ts'
export type { PostgresListener } from './postgres/follow.ts'
export { migratePostgres, type MigrateOptions } from './postgres/migrate.ts'

/** Options of {@link postgresStore}. */
export interface PostgresStoreOptions {
  /** Where the tables are. @default 'holdfast' */
  readonly schema?: string
  /** Create the tables if they are not there. Needs a user that may. @default false */
  readonly migrate?: boolean
  /** How long to wait for an answer of the server, ms. What is not answered by then is `unknown`. @default 5,000 */
  readonly timeoutMs?: number
  /**
   * Makes a client, not connected, that `watch` listens on; it must reach the server itself, since notifications do
   * not pass a pooler that shares connections. @default a client made like those of the pool, or like the client
   */
  readonly listen?: () => PostgresListener
}

/**
 * Opens the Postgres store of a schema. It has no data directory: name one to the kernel.
 *
 * @param postgres - A Pool or a connected Client of `pg`, to the primary; it stays yours to end. A Pool is better: a
 *   Client that has lost its connection never gets it back. As `pg` says, a Pool needs a listener for `error` of yours,
 *   or an idle connection that breaks ends the process.
 * @throws {HoldfastError} `ERR_STORE` when the server cannot be reached or used, or has no tables of the store;
 *   `ERR_DAMAGE`.
 */
export async function postgresStore(postgres: Postgres, options: PostgresStoreOptions = {}): Promise<Store> {
  const { schema = 'holdfast', migrate = false, timeoutMs = 5_000, listen } = options
  assertSchema(schema)
  const requests = requestsOf(postgres)
  try {
    const { name, settings } = await settingsOf(requests, schema, timeoutMs)
    if (migrate) await migratePostgres(postgres, { schema })
    else if (!(await hasSchema(requests, schema, name, timeoutMs)))
      throw new HoldfastError(
        'ERR_STORE',
        `${name} has no tables yet. Run \`holdfast store migrate --store postgres://...\`, or pass \`migrate: true\`.`,
      )
    const session = createSession({ requests, name, schema, timeoutMs })
    await session.rows('read_1', ['{}'])
    return storeOf({
      postgres,
      session,
      settings,
      schema,
      endRequests: () => requests.close(),
      ...(listen === undefined ? {} : { listen }),
    })
  } catch (error) {
    requests.close()
    throw error
  }
}

async function settingsOf(requests: Requests, schema: string, timeoutMs: number): Promise<{ name: string; settings: Settings }> {
  try {
    const [settings] = (await requests.send(SETTINGS_QUERY, [], timeoutMs)) as Settings[]
    const name = `postgres ${settings!.database}.${schema} at ${settings!.address}`
    assertServer(name, settings!)
    return { name, settings: settings! }
  } catch (error) {
    throw storeError('The Postgres server', error)
  }
}

interface Parts {
  readonly postgres: Postgres
  readonly session: Session
  readonly settings: Settings
  readonly schema: string
  readonly endRequests: () => void
  readonly listen?: () => PostgresListener
}

function storeOf({ postgres, session, settings, schema, endRequests, listen }: Parts): Store {
  const watchers = createWatchers()
  let stopFollowing: (() => void) | undefined
  let last: Promise<unknown> = Promise.resolve()
  let closing: Promise<void> | undefined

  async function send(batches: readonly Batch[]): Promise<GroupResult> {
    const group = encodeGroup(batches)
    const answer = await session.apply(group)
    if ('outcome' in answer) return answer
    const [, before, version, , numbers, texts] = answer
    const results = decodeResults(group, before, numbers, texts)
    for (const [index, { outcome }] of results.entries()) {
      if (outcome !== 'ok' || watchers.size === 0) continue
      const { add = [], set = [], delete: deleted = [] } = batches[index]!
      for (const key of [...[...add, ...set].map(({ key }) => key), ...deleted]) watchers.touch(key)
    }
    return { outcome: 'applied', results, head: { segment: 0, bytes: version, hash: session.id } }
  }

  function watch(prefix: string, wake: () => void): () => void {
    session.assertAlive()
    const remove = watchers.add(prefix, wake)
    stopFollowing ??= followPostgres({
      postgres,
      schema,
      watchers,
      client: session.client,
      version: async () => Number((await session.rows('read_1', ['{}'])).store.version),
      seen: () => session.seenVersion,
      watched: (forMs) => session.watched(forMs),
      ...(listen === undefined ? {} : { listen }),
    })
    return () => {
      remove()
      if (watchers.size > 0) return
      stopFollowing?.()
      stopFollowing = undefined
    }
  }

  /** One at a time: more would only wait for one another in the server, and take connections there. */
  async function inTurn<T>(ask: () => Promise<T>): Promise<T> {
    const answer = last.then(ask)
    last = answer.catch(() => {})
    return answer
  }

  /** Whoever looks after an unknown outcome asks what it was, so it must not change any more. */
  async function settleDoubt(): Promise<void> {
    session.assertAlive()
    if (!session.inDoubt) return
    const answer = await inTurn(async () => (session.inDoubt ? session.apply(encodeGroup([])) : undefined))
    if (answer !== undefined && 'outcome' in answer)
      throw new HoldfastError('ERR_STORE', `${session.name} did not say in time what became of a group.`)
  }

  async function close(): Promise<void> {
    session.close()
    stopFollowing?.()
    watchers.clear()
    // Groups that wait for their turn are still sent: their callers have no answer yet.
    await last
    endRequests()
  }

  return {
    name: session.name,
    id: session.id,
    capabilities: capabilitiesOf(settings),
    async apply(batches) {
      session.assertAlive()
      return inTurn(() => send(batches))
    },
    async read(keys) {
      if (keys.length > MAX_ENTRIES) throw new RangeError(`One read takes up to ${MAX_ENTRIES} keys, got ${keys.length}.`)
      await settleDoubt()
      const { found } = await session.rows('read_1', [encodeKeys(keys)])
      const byPlace = new Map(found.map((row) => [Number(row.place), row]))
      return keys.map((key, index) => {
        const row = byPlace.get(index + 1)
        return row === undefined ? null : entryOf(row, key)
      })
    },
    async list(prefix, { after, limit }) {
      if (!Number.isInteger(limit) || limit < 0) throw new RangeError(`Expected \`limit\` to be a whole number from 0, got \`${limit}\`.`)
      const { from, before } = listRange(prefix, after)
      await settleDoubt()
      const { found } = await session.rows('list_1', [encodeBytes(from), encodeBytes(before), Math.min(limit, MAX_ENTRIES)])
      return found.map((row) => entryOf(row))
    },
    now: async () => Number((await session.rows('read_1', ['{}'])).store.expires_at_ms),
    watch,
    async holds(heads) {
      const { store } = await session.rows('read_1', ['{}'])
      return heads.map((head) => {
        if (head.segment !== 0) return 'unknown'
        return head.hash === session.id && head.bytes <= Number(store.version) ? 'yes' : 'no'
      })
    },
    close: () => (closing ??= close()),
  }
}
