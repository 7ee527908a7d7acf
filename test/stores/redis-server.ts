// Real Redis servers for the tests: each on a free port of 127.0.0.1 with a directory of its own, gone with its test.

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { sleep } from '../../src/lib/clock.ts'

/** A server under test. */
export interface RedisServer {
  readonly port: number
  readonly directory: string
  /** Sends one command over a connection of its own. */
  command(...command: readonly string[]): Promise<unknown>
  /** Ends the process at once, as `kill -9` does. */
  kill(): Promise<void>
  /** Starts it again on the same port and data. */
  start(): Promise<void>
  /** Stops and continues the process. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void
  /** Ends it and removes its data. */
  stop(): Promise<void>
}

/** Options of redis-server, as on its command line without the dashes. */
export type RedisServerOptions = Readonly<Record<string, string | readonly string[]>>

const START_MS = 20_000

/** As durable as Redis gets. */
export const DURABLE: RedisServerOptions = { appendonly: 'yes', appendfsync: 'always' }

/** Starts a server. */
export async function startRedis(options: RedisServerOptions = {}): Promise<RedisServer> {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-redis-'))
  const port = await freePort()
  let child: ChildProcess | undefined
  let ended: Promise<unknown> = Promise.resolve()

  async function start(): Promise<void> {
    const given = { port: String(port), bind: '127.0.0.1', dir: directory, save: '', daemonize: 'no', ...options }
    const started = spawn(
      'redis-server',
      Object.entries(given).flatMap(([name, value]) => [`--${name}`, value].flat()),
      { stdio: 'ignore' },
    )
    child = started
    ended = once(started, 'exit')
    const until = performance.now() + START_MS
    while (performance.now() < until) {
      if (started.exitCode !== null) throw new Error(`redis-server ended with ${started.exitCode}: ${JSON.stringify(given)}`)
      if (await answers(port)) return
      await sleep(20)
    }
    throw new Error('redis-server did not start.')
  }

  async function kill(): Promise<void> {
    child?.kill('SIGKILL')
    await ended
  }

  async function stop(): Promise<void> {
    await kill()
    process.off('exit', atExit)
    rmSync(directory, { recursive: true, force: true })
  }

  // A worker that ends in the middle of a test takes its servers with it.
  const atExit = (): void => void child?.kill('SIGKILL')
  process.once('exit', atExit)
  await start().catch(async (error: unknown) => {
    await stop()
    throw error
  })
  return {
    port,
    directory,
    start,
    kill,
    signal: (signal) => void child?.kill(signal),
    async command(...command) {
      // Without a word before the command: a server that is busy takes few.
      const silent = { protocol: 2, enableReadyCheck: false, disableClientInfo: true } as const
      const client = new Redis({ port, host: '127.0.0.1', retryStrategy: () => null, lazyConnect: true, ...silent })
      client.on('error', () => {})
      try {
        await client.connect()
        return await client.call(...(command as [string, ...string[]]))
      } finally {
        client.disconnect()
      }
    },
    stop,
  }
}

/** Whether a server answers at all: also `-NOAUTH` is an answer, `-LOADING` is none. */
async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    socket.write('PING\r\n')
    const [said] = (await once(socket, 'data')) as [Buffer]
    return /^(?:\+PONG|-NOAUTH|-NOPERM)/.test(said.toString())
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

/** A cluster under test: three masters that share the slots, each with the replicas asked for. */
export interface RedisCluster {
  readonly ports: readonly number[]
  readonly servers: readonly RedisServer[]
  stop(): Promise<void>
}

const SLOTS = 16_384

/** Starts a cluster of three masters. */
export async function startRedisCluster(options: RedisServerOptions = DURABLE): Promise<RedisCluster> {
  const servers = await Promise.all(
    [0, 1, 2].map(() => startRedis({ ...options, 'cluster-enabled': 'yes', 'cluster-node-timeout': '5000' })),
  )
  const stop = async (): Promise<void> => {
    await Promise.all(servers.map((server) => server.stop()))
  }
  try {
    for (const [index, server] of servers.entries()) {
      const [from, upto] = [index, index + 1].map((part) => Math.ceil((part * SLOTS) / servers.length))
      await server.command('CLUSTER', 'ADDSLOTSRANGE', String(from), String(upto! - 1))
      await server.command('CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1))
    }
    for (const server of servers.slice(1)) await server.command('CLUSTER', 'MEET', '127.0.0.1', String(servers[0]!.port))
    const until = performance.now() + START_MS
    for (const server of servers) {
      while (!String(await server.command('CLUSTER', 'INFO')).includes('cluster_state:ok')) {
        if (performance.now() > until) throw new Error('The cluster did not form.')
        await sleep(50)
      }
    }
    return { ports: servers.map(({ port }) => port), servers, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** A port of 127.0.0.1 that nobody listens on now, below those that connections get by themselves; the one 10,000 above is a cluster's. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 10_000)
    const server = createServer().listen(port, '127.0.0.1')
    const free = await Promise.race([once(server, 'listening').then(() => true), once(server, 'error').then(() => false)]).catch(
      () => false,
    )
    server.close()
    if (free) return port
  }
}
