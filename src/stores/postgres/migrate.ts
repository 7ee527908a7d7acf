// Creating the tables of a Postgres store, and looking whether they are there.

import { HoldfastError } from '../../lib/errors.ts'
import { newId } from '../../lib/ids.ts'
import { requestsOf, type Postgres, type Requests } from './client.ts'
import { isContended, storeError } from './errors.ts'
import { migrationSql, POSTGRES_FORMAT } from './schema.ts'

/** Options of {@link migratePostgres}. */
export interface MigrateOptions {
  /** @default 'holdfast' */
  readonly schema?: string
  /** How long to wait for the server, ms. @default 30,000 */
  readonly timeoutMs?: number
}

const MAX_ATTEMPTS = 5

/** Refuses a name that is no plain identifier of Postgres. @throws {TypeError} */
export function assertSchema(schema: string): void {
  // Shorter than the 63 bytes of Postgres: the name of the channel contains it.
  if (!/^[a-z_][a-z0-9_]{0,49}$/.test(schema) || schema.startsWith('pg_'))
    throw new TypeError(`Expected \`schema\` to be a name of lower-case letters, digits and _, at most 50, got ${JSON.stringify(schema)}.`)
}

/**
 * Creates the tables and functions of a store in a schema, or brings older ones up to date. Does nothing where they
 * are current, so it may run at every start and on many machines at once.
 *
 * @param postgres - A Pool or a connected Client of `pg`, of a user that may create the schema.
 * @throws {HoldfastError} `ERR_STORE` when the server cannot be reached, does not permit it, or has a later format.
 */
export async function migratePostgres(postgres: Postgres, { schema = 'holdfast', timeoutMs = 30_000 }: MigrateOptions = {}): Promise<void> {
  assertSchema(schema)
  const requests = requestsOf(postgres)
  const name = `The Postgres store "${schema}"`
  try {
    if (await hasSchema(requests, schema, name, timeoutMs)) return
    for (let attempt = 1; ; attempt++) {
      try {
        await requests.send(migrationSql(schema, newId()), undefined, timeoutMs)
        return
      } catch (error) {
        if (!isContended(error) || attempt === MAX_ATTEMPTS) throw storeError(name, error)
      }
    }
  } finally {
    requests.close()
  }
}

/**
 * Looks whether the tables are there.
 *
 * @throws {HoldfastError} `ERR_STORE` for a later format than this version reads, `ERR_DAMAGE` for tables without a store.
 */
export async function hasSchema(requests: Requests, schema: string, name: string, timeoutMs: number): Promise<boolean> {
  try {
    const [there] = (await requests.send(`SELECT to_regclass($1)::text AS meta`, [`"${schema}".meta`], timeoutMs)) as {
      meta: string | null
    }[]
    if (there?.meta == null) return false
    const [found] = (await requests.send(`SELECT format FROM "${schema}".meta`, [], timeoutMs)) as { format: unknown }[]
    if (found === undefined) throw new HoldfastError('ERR_DAMAGE', `${name} does not name a format and an id.`)
    if (Number(found.format) > POSTGRES_FORMAT)
      throw new HoldfastError(
        'ERR_STORE',
        `${name} has format ${Number(found.format)}; this version of holdfast reads up to ${POSTGRES_FORMAT}. Install a later one.`,
      )
    return true
  } catch (error) {
    throw storeError(name, error)
  }
}
