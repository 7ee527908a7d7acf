// The caller's own Redis client, whichever it is, behind one small face. Clients are told apart by their shape, so
// that no driver is imported: ioredis (and iovalkey) spells `evalsha`, node-redis spells `evalSha`; of both,
// clusters have nodes.

import type { Script } from './script.ts'

/** A client of ioredis 6, `new Redis()` or `new Cluster()`; the rest of what is used of it is looked up by shape. */
export interface IoredisClient {
  /** `ready` once commands are sent as they come. */
  readonly status: string
  evalsha(sha: string, keyCount: number, ...parts: string[]): Promise<unknown>
  eval(script: string, keyCount: number, ...parts: string[]): Promise<unknown>
}

/** A client of node-redis 6, `createClient()` or `createCluster()`; the rest of what is used of it is looked up by shape. */
export interface NodeRedisClient {
  readonly isOpen: boolean
  evalSha(sha: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>
  eval(script: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>
}

/** A Redis client of the caller. */
export type RedisClient = IoredisClient | NodeRedisClient

/** Sends a command to one server. */
export type Ask = (...command: readonly string[]) => Promise<unknown>

/** What the store does with a client. */
export interface RedisFace {
  /** `waiting`: not connected now; what is sent would wait in the client's own queue. */
  readonly state: 'ready' | 'waiting' | 'closed'
  /** Runs a script where its keys are. Rejects with what the client rejects with. */
  run(script: Script, keys: readonly string[], parts: readonly string[]): Promise<unknown>
  /** Every server that may hold the data now or after slots have moved: of a cluster, each master. */
  servers(): Promise<readonly Ask[]>
  /** True when the client asks Sentinels for its server, which promote replicas. */
  readonly sentinels: boolean
  /** Tells of errors of the connection. Returns the stop function. */
  onError(heard: (error: unknown) => void): () => void
  /** Told when a connection of the client has ended: what was sent over it may be sent again, or never be answered. */
  readonly endings: Set<() => void>
  /** Takes the client's own listeners away; the client stays as it is. */
  release(): void
  /**
   * Listens on a channel, over a connection of its own that does not keep the process alive and does not come back by itself.
   *
   * @param ended - Told once when that connection ends.
   * @returns Ends it.
   */
  listen(channel: string, heard: (text: string) => void, ended: () => void): Promise<() => void>
}

/** Listening starts within this time, ms, or has failed. */
const CONNECT_MS = 5_000

/**
 * The face of a client.
 *
 * @throws {TypeError} For what is no client of ioredis or node-redis.
 */
export function faceOf(client: RedisClient): RedisFace {
  if (isFunction(client, 'evalSha')) return nodeRedisFace(client as NodeRedisConnection & NodeRedisCluster)
  if (isFunction(client, 'evalsha')) return ioredisFace(client as IoredisConnection & IoredisCluster)
  throw new TypeError('Expected a client of ioredis (`new Redis(...)`) or of node-redis (`await createClient(...).connect()`).')
}

function isFunction(client: unknown, name: string): boolean {
  return typeof (client as Record<string, unknown> | null | undefined)?.[name] === 'function'
}

interface Emitter {
  on(event: string, heard: (...heard: unknown[]) => void): unknown
  off(event: string, heard: (...heard: unknown[]) => void): unknown
}

/** By which events the drivers, and their clusters, say that a connection has ended. */
const ENDINGS = ['close', 'end', 'reconnecting', '-node', 'node-disconnect', 'node-reconnecting']

function endingsOf(client: Emitter): Pick<RedisFace, 'endings' | 'release'> {
  const endings = new Set<() => void>()
  const tell = (): void => {
    for (const heard of endings) heard()
  }
  for (const event of ENDINGS) client.on(event, tell)
  return {
    endings,
    release() {
      for (const event of ENDINGS) client.off(event, tell)
    },
  }
}

interface IoredisConnection extends IoredisClient, Emitter {
  readonly options: { readonly sentinels?: readonly unknown[] | null }
  readonly stream?: { unref?: () => void }
  call(...command: readonly string[]): Promise<unknown>
  connect(): Promise<void>
  disconnect(): void
  duplicate(options: object): IoredisConnection
  subscribe(channel: string): Promise<unknown>
}

interface IoredisCluster {
  nodes?(role: 'master'): IoredisConnection[]
}

function ioredisFace(client: IoredisConnection & IoredisCluster): RedisFace {
  const masters = (): readonly IoredisConnection[] => client.nodes?.('master') ?? [client]
  return {
    ...endingsOf(client),
    get state() {
      // A lazy client connects at its first command; here that must be over before anything is sent.
      if (client.status === 'wait') client.connect().catch(() => {})
      if (client.status === 'end') return 'closed'
      return client.status === 'ready' ? 'ready' : 'waiting'
    },
    run: ({ text, sha }, keys, parts) =>
      unlessLoaded(
        () => client.evalsha(sha, keys.length, ...keys, ...parts),
        () => client.eval(text, keys.length, ...keys, ...parts),
      ),
    servers: async () =>
      masters().map(
        (server) =>
          (...command) =>
            server.call(...command),
      ),
    sentinels: (client.options.sentinels ?? []).length > 0,
    onError: (heard) => listenTo(client, heard),
    async listen(channel, heard, ended) {
      // In a cluster every node passes on what is published at any other.
      const own = masters()[0]!.duplicate({
        lazyConnect: true,
        retryStrategy: () => null,
        autoResubscribe: false,
        connectTimeout: CONNECT_MS,
      })
      const end = (): void => own.disconnect()
      own.on('error', () => {})
      own.on('message', (_, text) => heard(String(text)))
      return opened(end, async () => {
        await own.connect()
        own.stream?.unref?.()
        await own.subscribe(channel)
        if (own.status !== 'ready') throw new Error('The connection ended.')
        own.on('end', ended)
      })
    },
  }
}

interface NodeRedisConnection extends NodeRedisClient, Emitter {
  /** Absent in clusters, whose nodes connect by themselves. */
  readonly isReady?: boolean
  readonly options?: { readonly socket?: object }
  sendCommand(command: readonly string[]): Promise<unknown>
  connect(): Promise<unknown>
  destroy(): void
  unref(): void
  duplicate(options: object): NodeRedisConnection
  subscribe(channel: string, heard: (text: unknown) => void): Promise<unknown>
}

interface NodeRedisCluster {
  readonly masters?: readonly object[]
  nodeClient?(node: object): Promise<NodeRedisConnection>
}

function nodeRedisFace(client: NodeRedisConnection & NodeRedisCluster): RedisFace {
  const masters = async (): Promise<readonly NodeRedisConnection[]> =>
    client.masters === undefined ? [client] : Promise.all(client.masters.map((master) => client.nodeClient!(master)))
  return {
    ...endingsOf(client),
    get state() {
      if (!client.isOpen) return 'closed'
      return client.isReady === false ? 'waiting' : 'ready'
    },
    run: ({ text, sha }, keys, parts) =>
      unlessLoaded(
        () => client.evalSha(sha, { keys: [...keys], arguments: [...parts] }),
        () => client.eval(text, { keys: [...keys], arguments: [...parts] }),
      ),
    servers: async () =>
      (await masters()).map(
        (server) =>
          (...command) =>
            server.sendCommand(command),
      ),
    sentinels: false,
    onError: (heard) => listenTo(client, heard),
    async listen(channel, heard, ended) {
      const [master] = await masters()
      const own = master!.duplicate({ socket: { ...master!.options?.socket, reconnectStrategy: false, connectTimeout: CONNECT_MS } })
      const end = (): void => {
        if (own.isOpen) own.destroy()
      }
      let told: (() => void) | undefined
      // An end by an error comes as both events.
      for (const event of ['error', 'end']) {
        own.on(event, () => {
          const tell = told
          told = undefined
          tell?.()
        })
      }
      return opened(end, async () => {
        await own.connect()
        own.unref()
        await own.subscribe(channel, (text) => heard(String(text)))
        told = ended
      })
    },
  }
}

/** A server that has restarted, or another one, does not know the script yet; `EVAL` makes it known. */
async function unlessLoaded(evalsha: () => Promise<unknown>, evaluate: () => Promise<unknown>): Promise<unknown> {
  try {
    return await evalsha()
  } catch (error) {
    if (!String((error as Error | undefined)?.message).startsWith('NOSCRIPT')) throw error
    return evaluate()
  }
}

function listenTo(client: Emitter, heard: (error: unknown) => void): () => void {
  client.on('error', heard)
  return () => client.off('error', heard)
}

/** Ends a connection that could not be set up, so that nothing of it stays. */
async function opened(end: () => void, open: () => Promise<void>): Promise<() => void> {
  try {
    await open()
    return end
  } catch (error) {
    end()
    throw error
  }
}
