// The user's own client of Postgres: a Pool or a Client of `pg`, by what of them is used. One request is one
// connection taken, one statement, and one answer within a time; a connection whose answer stayed out is ended.

import { isCertain, LostReply } from './errors.ts'

/** What a query answers. */
export interface PostgresResult {
  readonly rows: readonly unknown[]
}

/** A connected `Client` of pg. */
export interface PostgresClient {
  query(text: string, values?: unknown[]): Promise<PostgresResult>
  on(event: string, listener: (...what: unknown[]) => void): unknown
  off(event: string, listener: (...what: unknown[]) => void): unknown
}

/** A `Client` of pg that was taken from a pool. */
export interface PostgresPoolClient extends PostgresClient {
  release(destroy?: boolean): void
}

/** A `Pool` of pg. */
export interface PostgresPool {
  connect(taken: (error: Error | undefined, client: PostgresPoolClient | undefined) => void): unknown
  /** How many connections it has; tells a pool from a client. */
  readonly totalCount: number
}

/** Either. */
export type Postgres = PostgresClient | PostgresPool

/** Requests to a server. */
export interface Requests {
  /**
   * Sends one statement and waits for its rows.
   *
   * @param warned - Told when the server added a warning: that a commit is not where it should be, for example.
   * @throws {LostReply} When the statement may have been carried out, now or later, and nobody can say.
   * @throws What the driver throws, in all other cases: the server refused it, or it was never sent.
   */
  send(text: string, values: unknown[] | undefined, timeoutMs: number, warned?: () => void): Promise<readonly unknown[]>
  /** Ends what this made; the user's client stays as it is. */
  close(): void
}

/** True for a pool. */
export function isPool(postgres: Postgres): postgres is PostgresPool {
  return 'totalCount' in postgres
}

/** Makes requests to a server through the user's client. */
export function requestsOf(postgres: Postgres): Requests {
  return isPool(postgres) ? poolRequests(postgres) : clientRequests(postgres)
}

// A connection that breaks says so to the request that waits for it, and to its listeners: without one, the process ends.
const ignore = (): void => {}
/** Connections of pools that have that listener. They keep it, since one that the pool ends may yet say why it broke. */
const guarded = new WeakSet<PostgresClient>()

function poolRequests(pool: PostgresPool): Requests {
  // By callback, which comes at once: a server that ends says so right after its greeting, before a promise would tell.
  const connect = async (): Promise<PostgresPoolClient> =>
    new Promise((resolve, reject) => {
      pool.connect((error, client) => {
        if (client === undefined) return reject(error)
        if (!guarded.has(client)) client.on('error', ignore)
        guarded.add(client)
        resolve(client)
      })
    })

  async function take(timeoutMs: number): Promise<PostgresPoolClient> {
    const connecting = connect()
    try {
      return await within(timeoutMs, connecting, () => new Error(`no connection of the pool was free within ${timeoutMs} ms`))
    } catch (error) {
      // It may still come.
      void connecting.then((late) => late.release(), ignore)
      throw error
    }
  }

  return {
    async send(text, values, timeoutMs, warned) {
      const startedAt = performance.now()
      const client = await take(timeoutMs)
      let broken = true
      try {
        const { rows } = await ask(client, { text, values, timeoutMs: left(timeoutMs, startedAt), warned }).answer
        broken = false
        return rows
      } catch (error) {
        broken = !isCertain(error)
        throw error
      } finally {
        client.release(broken)
      }
    },
    close: ignore,
  }
}

function clientRequests(client: PostgresClient): Requests {
  // One at a time, so that what waits here was not sent when its time is up.
  let free: Promise<unknown> = Promise.resolve()
  client.on('error', ignore)
  return {
    async send(text, values, timeoutMs, warned) {
      const startedAt = performance.now()
      const { promise: done, resolve: release } = Promise.withResolvers<void>()
      const turn = free
      free = turn.then(() => done)
      try {
        await within(timeoutMs, turn, () => new Error(`the connection of the client did not answer others within ${timeoutMs} ms`))
      } catch (error) {
        release()
        throw error
      }
      const { query, answer } = ask(client, { text, values, timeoutMs: left(timeoutMs, startedAt), warned })
      void query.then(
        () => release(),
        () => release(),
      )
      return (await answer).rows
    },
    close: () => void client.off('error', ignore),
  }
}

function left(timeoutMs: number, startedAt: number): number {
  return Math.max(1, timeoutMs - (performance.now() - startedAt))
}

interface Asked {
  readonly text: string
  readonly values: unknown[] | undefined
  readonly timeoutMs: number
  readonly warned: (() => void) | undefined
}

/** Sends a statement on a connection. `answer` comes in time or is lost; `query` comes when the connection is free again. */
function ask(
  client: PostgresClient,
  { text, values, timeoutMs, warned = ignore }: Asked,
): Record<'query' | 'answer', Promise<PostgresResult>> {
  const notice = (what: unknown): void => {
    if (/^(?:01|57)/.test(String((what as { code?: unknown }).code))) warned()
  }
  client.on('notice', notice)
  const query = client.query(text, values)
  const answer = within(timeoutMs, query, () => new LostReply(`no answer within ${timeoutMs} ms`))
    .catch((error: unknown) => {
      if (isCertain(error) || error instanceof LostReply) throw error
      throw new LostReply((error as Error).message, { cause: error })
    })
    .finally(() => client.off('notice', notice))
  return { query, answer }
}

/** Waits for a promise, but not longer than this. Keeps the process alive meanwhile. */
export async function within<T>(timeoutMs: number, promise: Promise<T>, late: () => Error): Promise<T> {
  const { promise: timeout, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(late()), timeoutMs)
  try {
    return await Promise.race([promise, timeout])
  } finally {
    clearTimeout(timer)
    // Whichever comes second has nobody left to tell.
    promise.catch(() => {})
  }
}
