// A Postgres server of a test's own: a temporary data directory, a free port of 127.0.0.1, ended with its tests.

import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { Client } from 'pg'
import { sleep } from '../../src/lib/clock.ts'

/** How long a server may take to start, ms. */
const MAX_START_MS = 60_000

/** A running server. Connect as the user `postgres`, without password. */
export interface PostgresServer {
  readonly url: string
  readonly port: number
  /** Runs a statement on a connection of its own. */
  query(sql: string): Promise<readonly Record<string, unknown>[]>
  /** Ends the server with this signal: SIGQUIT is its immediate shutdown, as in a crash. */
  kill(signal: 'SIGKILL' | 'SIGQUIT' | 'SIGINT'): Promise<void>
  /** Starts it again on what it left, on request as a standby without a primary. */
  start(as?: { readonly standby: boolean }): Promise<void>
  /** Ends it and removes its data. */
  stop(): Promise<void>
}

/** The folder of `postgres` and `initdb`, if there is one. */
export function postgresBinaries(): string | undefined {
  const versions = '/usr/lib/postgresql'
  const installed = existsSync(versions) ? readdirSync(versions).sort((a, b) => Number(b) - Number(a)) : []
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), ...installed.map((version) => join(versions, version, 'bin'))]
  const found = folders.find((folder) => ['postgres', 'initdb'].every((name) => existsSync(join(folder, name))))
  // Links may lead to some of its programs only.
  return found === undefined ? undefined : dirname(realpathSync(join(found, 'postgres')))
}

/** Starts a server with these settings, `{ fsync: 'off' }` by default: what most tests are about is not the disk. */
export async function startPostgres(settings: Readonly<Record<string, string>> = {}): Promise<PostgresServer> {
  const binaries = postgresBinaries()!
  // It refuses to run as root.
  const user = process.getuid?.() === 0 ? { uid: idOf('-u'), gid: idOf('-g') } : {}
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-pg-'))
  if (user.uid !== undefined) chownSync(directory, user.uid, user.gid)
  const data = join(directory, 'data')
  execFileSync(join(binaries, 'initdb'), ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '-N'], {
    ...user,
    cwd: directory,
    stdio: 'ignore',
  })
  const port = await freePort()
  const all = {
    port: String(port),
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    max_connections: '100',
    fsync: 'off',
    ...settings,
  }
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`
  let child: ChildProcess | undefined

  async function start({ standby = false } = {}): Promise<void> {
    if (standby) writeFileSync(join(data, 'standby.signal'), '')
    const options = Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])
    const run = (): ChildProcess =>
      spawn(join(binaries, 'postgres'), ['-D', data, ...options], { ...user, cwd: directory, stdio: 'ignore' })
    child = run()
    const until = performance.now() + MAX_START_MS
    while (!(await answers())) {
      if (performance.now() > until) throw new Error(`The Postgres server in ${data} did not start.`)
      await sleep(30)
      // Of a server that was killed, some process may still be there, and as long as it is no other one starts.
      if (child.exitCode !== null) child = run()
    }
  }

  async function query(sql: string): Promise<readonly Record<string, unknown>[]> {
    const client = new Client({ connectionString: url })
    client.on('error', () => {})
    await client.connect()
    try {
      return (await client.query<Record<string, unknown>>(sql)).rows
    } finally {
      await client.end()
    }
  }

  const answers = async (): Promise<boolean> =>
    query('SELECT 1').then(
      () => true,
      () => false,
    )

  async function kill(signal: NodeJS.Signals): Promise<void> {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill(signal)
    await ended
  }

  // Tests that are interrupted leave no server behind.
  const atExit = (): void => void child?.kill('SIGQUIT')
  process.on('exit', atExit)
  await start()
  return {
    url,
    port,
    query,
    kill,
    start,
    async stop() {
      process.off('exit', atExit)
      await kill('SIGINT')
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

function idOf(which: '-u' | '-g'): number {
  return Number(execFileSync('id', [which, 'postgres'], { encoding: 'utf8' }))
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
