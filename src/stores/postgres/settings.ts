// What a Postgres server promises, as its settings were when the store was opened.

import { HoldfastError } from '../../lib/errors.ts'
import type { Capabilities, Shortfall } from '../store.ts'
import { parseStandbyNames } from './standby-names.ts'

/** Oldest server that is known to work, as `server_version_num`. */
const MIN_VERSION = 130_000

/** Reads what {@link judgeServer} judges, in one statement that every user may send. */
export const SETTINGS_QUERY = `
  SELECT current_setting('server_version_num') AS version, current_setting('server_version') AS version_text,
    current_setting('server_encoding') AS encoding, current_database() AS database,
    coalesce(host(inet_server_addr()) || ':' || inet_server_port(), 'a local socket') AS address,
    pg_is_in_recovery()::text AS standby, current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes, current_setting('synchronous_standby_names') AS synchronous_standby_names,
    (SELECT coalesce(json_agg(json_build_object('state', r.state, 'sync', r.sync_state)), '[]')::text FROM pg_stat_replication r
      WHERE NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')) AS senders`

/** A row of {@link SETTINGS_QUERY}. */
export type Settings = Readonly<
  Record<
    | 'version'
    | 'version_text'
    | 'encoding'
    | 'database'
    | 'address'
    | 'standby'
    | 'synchronous_commit'
    | 'fsync'
    | 'full_page_writes'
    | 'synchronous_standby_names'
    | 'senders',
    string
  >
>

/** Refuses a server on which the store cannot work. @throws {HoldfastError} `ERR_STORE`. */
export function assertServer(name: string, settings: Settings): void {
  if (Number(settings.version) < MIN_VERSION)
    throw new HoldfastError('ERR_STORE', `${name} runs Postgres ${settings.version_text}; the store needs 13 or later.`)
  if (settings.standby !== 'false')
    throw new HoldfastError('ERR_STORE', `${name} is a standby, which cannot be written. Connect to the primary.`)
  if (settings.encoding !== 'UTF8')
    throw new HoldfastError(
      'ERR_STORE',
      `${name} has the encoding ${settings.encoding}; the store needs a database with the encoding UTF8.`,
    )
}

/** What a server promises with these settings. */
export function capabilitiesOf(settings: Settings): Capabilities {
  const shortfalls: Shortfall[] = []
  const standbys = settings.synchronous_standby_names
  const commit = settings.synchronous_commit
  const need = (setting: 'synchronous_commit' | 'fsync' | 'full_page_writes', needs: string, risk: string): void => {
    shortfalls.push({ setting, found: settings[setting], needs, risk })
  }
  if (commit === 'off') need('synchronous_commit', 'on', 'A crash of the server loses what it acknowledged in the last moments before.')
  else if (standbys !== '' && !['on', 'remote_apply'].includes(commit))
    need('synchronous_commit', 'on', 'What was acknowledged may not be on any standby, and is lost when one takes over.')
  if (settings.fsync !== 'on') need('fsync', 'on', 'A power cut or a crash of the system loses or damages what was acknowledged.')
  if (settings.full_page_writes !== 'on')
    need('full_page_writes', 'on', 'A power cut can damage pages that were half written, and what was acknowledged with them.')
  shortfalls.push(...standbyShortfall(settings))
  const durable = commit === 'off' || settings.fsync !== 'on' ? 'os' : 'disk'
  return shortfalls.length === 0 ? { shared: 'network', durable } : { shared: 'network', durable, shortfalls }
}

/** Standbys that may take over without having all that was acknowledged. */
function standbyShortfall({ senders, synchronous_standby_names: names }: Settings): readonly Shortfall[] {
  const found = (JSON.parse(senders) as readonly { state: string | null; sync: string | null }[]).filter(({ state }) => state !== 'backup')
  const common = {
    setting: 'synchronous_standby_names',
    needs: 'the names of all standbys that may take over, and as many as there are: FIRST 2 (one, other)',
    risk: 'A standby that takes over may lack what was acknowledged last.',
  }
  const waitedFor = parseStandbyNames(names)
  const acknowledging = found.filter(({ sync }) => sync === 'sync' || sync === 'quorum').length
  // Whoever is not waited for may be the one that takes over, whether it is connected now or not. One name can be that of several.
  const isPartial = waitedFor === undefined ? names !== '' : waitedFor.count < Math.max(waitedFor.names.length, acknowledging)
  if (isPartial || found.some(({ sync }) => sync === 'async' || sync === 'potential')) return [{ ...common, found: names }]
  // Who may not see the details is told of every sender, and nothing about it.
  return found.some(({ sync }) => sync === null) ? [common] : []
}
