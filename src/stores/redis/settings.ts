// What the server is set up to keep. Asked once, at opening, of every server that may hold the data; the weakest
// answer counts. What it refuses to say is a shortfall too: not known is not the same as well.

import type { Ask } from './client.ts'
import { serverCode } from './trouble.ts'
import type { Capabilities, Shortfall } from '../store.ts'

/** What a server said of itself; a name is missing when it did not let that be read. */
export type Settings = ReadonlyMap<string, string>

/** First version of Redis that the store is tested on. */
const OLDEST = [6, 2] as const

/** Asks a server. */
export async function settingsOf(ask: Ask): Promise<Settings> {
  const found = new Map<string, string>()
  // Each alone: one that is denied must not hide the others.
  for (const section of ['server', 'replication', 'persistence', 'memory']) {
    for (const [, name, value] of textOf(await allowed(ask('INFO', section))).matchAll(/^(\w+):(.*?)\r?$/gm)) found.set(name!, value!)
  }
  // Managed servers deny CONFIG, and say as much as INFO does.
  if (found.has('aof_enabled')) found.set('appendonly', found.get('aof_enabled') === '1' ? 'yes' : 'no')
  if (found.has('maxmemory_policy')) found.set('maxmemory-policy', found.get('maxmemory_policy')!)
  for (const name of ['appendonly', 'appendfsync', 'no-appendfsync-on-rewrite', 'maxmemory-policy']) {
    const value = valueOf(await allowed(ask('CONFIG', 'GET', name)), name)
    if (value !== undefined) found.set(name, value)
  }
  return found
}

async function allowed(asked: Promise<unknown>): Promise<unknown> {
  try {
    return await asked
  } catch (error) {
    // Denied, or renamed away; a connection that broke says nothing about the server.
    if (serverCode(error) === undefined) throw error
    return undefined
  }
}

function textOf(answer: unknown): string {
  return typeof answer === 'string' || Buffer.isBuffer(answer) ? answer.toString() : ''
}

/** Drivers give the answer of CONFIG GET as a list, a map or an object. */
function valueOf(answer: unknown, name: string): string | undefined {
  if (Array.isArray(answer)) return answer.length > 1 ? String(answer[1]) : undefined
  const value: unknown = answer instanceof Map ? answer.get(name) : (answer as Record<string, unknown> | null | undefined)?.[name]
  return typeof value === 'string' || Buffer.isBuffer(value) ? value.toString() : undefined
}

/** The version of a server, when it is older than the store can use. */
export function tooOld(settings: Settings): string | undefined {
  const version = settings.get('redis_version')
  if (version === undefined) return undefined
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1]) ? undefined : version
}

type Need = readonly [setting: string, needs: string, risk: string]

const NEEDS: readonly Need[] = [
  ['redis_version', '6.2 or later', 'An older server may run the scripts of the store in another way.'],
  ['appendonly', 'yes', 'A restart loses what was acknowledged since the last snapshot, and lets it be spent again.'],
  ['appendfsync', 'always', 'A crash of the machine loses the last seconds of what was acknowledged, and lets it be spent again.'],
  ['no-appendfsync-on-rewrite', 'no', 'A crash of the machine while the file is rewritten loses what was acknowledged meanwhile.'],
  ['maxmemory-policy', 'noeviction', 'A server that runs out of memory deletes what was spent.'],
  ['connected_slaves', '0', 'A failover to a replica loses what was acknowledged and had not reached it.'],
]

/** What the store may promise on these servers. */
export function capabilitiesOf(servers: readonly Settings[], sentinels: boolean): Capabilities {
  const shortfalls: Shortfall[] = []
  for (const [setting, needs, risk] of NEEDS) {
    const met = (found: string | undefined): boolean => found !== undefined && (found === needs || setting === 'redis_version')
    const short = servers.map((server) => server.get(setting)).filter((found) => !met(found))
    // A setting that was read names the fault better than one that was not.
    const found = short.find((value) => value !== undefined)
    if (short.length > 0) shortfalls.push({ setting, ...(found === undefined ? {} : { found }), needs, risk })
  }
  if (sentinels) {
    const risk = 'Sentinels promote a replica, which loses what was acknowledged and had not reached it.'
    shortfalls.push({ setting: 'sentinel', found: 'yes', needs: 'no', risk })
  }
  const all = (setting: string, ...values: readonly string[]): boolean =>
    servers.every((server) => values.includes(server.get(setting) ?? ''))
  const logged = all('appendonly', 'yes')
  const synced = all('appendfsync', 'always') && all('no-appendfsync-on-rewrite', 'no')
  const durable = logged && synced ? 'disk' : logged && all('appendfsync', 'always', 'everysec') ? 'os' : 'none'
  return { shared: 'network', durable, ...(shortfalls.length > 0 ? { shortfalls } : {}) }
}
