// What one client knows of a Postgres store: who it is and how far it has come. Each answer is held against that, so
// that a store that lost something (an older backup, a standby that took over too early) is noticed and left alone.

import { HoldfastError } from '../../lib/errors.ts'
import { newId } from '../../lib/ids.ts'
import type { Requests } from './client.ts'
import { isContended, LostReply, storeError } from './errors.ts'
import { POSTGRES_FORMAT } from './schema.ts'
import type { EncodedGroup, Row } from './wire.ts'
import type { GroupResult } from '../store.ts'

/** A group that was judged, and what of it was applied. */
export type Applied = readonly [
  'applied',
  before: number,
  version: number,
  nowMs: number,
  numbers: readonly number[],
  texts: readonly string[],
]
type Answer = Applied | readonly ['other', ...Other] | readonly ['fenced', ...Other]
type Other = readonly [id: string, version: number, format: number]

/** Requests to one store. */
export interface Session {
  readonly name: string
  readonly id: string
  readonly client: string
  readonly seenVersion: number
  /** True while a request may be on its way whose caller was told that its outcome is unknown. */
  readonly inDoubt: boolean
  /** Throws what the store died of: damage, or `close`. */
  assertAlive(): void
  apply(group: EncodedGroup): Promise<Applied | GroupResult>
  /** The rows of `read_1` or `list_1`; the one of the store apart. */
  rows(
    what: 'read_1' | 'list_1',
    parameters: readonly (string | number)[],
  ): Promise<{ readonly store: Row; readonly found: readonly Row[] }>
  watched(forMs: number): Promise<unknown>
  close(): void
}

/** What a session needs. */
export interface SessionOptions {
  readonly requests: Requests
  readonly name: string
  readonly schema: string
  readonly timeoutMs: number
}

/** Begins a session; its first answer says which store it is. */
export function createSession({ requests, name, schema, timeoutMs }: SessionOptions): Session {
  const client = newId()
  let id: string | undefined
  let seenVersion = 0
  let seenMs = 0
  let dead: Error | undefined
  let closed: Error | undefined
  // Requests whose fate is unknown may still be on their way. The next one that arrives makes the server refuse
  // all with an earlier epoch; until one did so, every request says it again.
  let epoch = 0
  let fenced = 0

  const assertAlive = (): void => {
    const reason = closed ?? dead
    if (reason !== undefined) throw reason
  }
  const die = (message: string): Error => (dead ??= new HoldfastError('ERR_DAMAGE', `${name} ${message} The store is frozen.`))

  /** Compares what the server says of the store with what was known when it was asked. */
  function judge(found: { id: unknown; version: number; format: number }, floor: number): void {
    if (found.format > POSTGRES_FORMAT)
      throw new HoldfastError(
        'ERR_STORE',
        `${name} was migrated to format ${found.format}; this version of holdfast reads up to ${POSTGRES_FORMAT}.`,
      )
    if (typeof found.id !== 'string' || found.format !== POSTGRES_FORMAT) throw die('does not name a format and an id.')
    id ??= found.id
    if (found.id !== id) throw die('was replaced by another store while in use.')
    if (found.version < floor)
      throw die(
        `went back from version ${floor} to ${found.version} while in use (an older backup, or a standby that took over too early).`,
      )
    seenVersion = Math.max(seenVersion, found.version)
  }

  function fail(error: unknown): Error {
    const failure = storeError(name, error)
    if (HoldfastError.isInstance(failure) && failure.code === 'ERR_DAMAGE') dead ??= failure
    return failure
  }

  async function apply(group: EncodedGroup): Promise<Applied | GroupResult> {
    // What was begun before the end is answered.
    if (dead !== undefined) throw dead
    const mine = epoch
    const floor = seenVersion
    let warning = false
    let answer: Answer
    try {
      const parameters = [id, floor, seenMs, client, mine, mine > fenced, ...group.parameters]
      const sql = `SELECT "${schema}".apply_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) AS answer`
      const [row] = (await requests.send(sql, parameters, timeoutMs, () => (warning = true))) as { answer: string }[]
      answer = JSON.parse(row!.answer) as Answer
    } catch (error) {
      if (isContended(error)) return { outcome: 'contended' }
      if (!(error instanceof LostReply)) throw fail(error)
      epoch += 1
      return { outcome: 'unknown', cause: error }
    }
    if (answer[0] === 'other') {
      judge({ id: answer[1], version: answer[2], format: answer[3] }, floor)
      throw die('is not what it was.')
    }
    if (answer[0] === 'fenced') throw die('refuses this client, which it takes for one that was given up.')
    if (mine > fenced) fenced = mine
    seenVersion = Math.max(seenVersion, answer[2])
    seenMs = Math.max(seenMs, answer[3])
    // Committed here, but not on the standbys that were to have it: whoever takes over may lack it.
    if (warning) return { outcome: 'unknown', cause: new Error(`${name} warned that this commit may be on no standby.`) }
    return answer
  }

  return {
    name,
    client,
    get id() {
      return id!
    },
    get seenVersion() {
      return seenVersion
    },
    get inDoubt() {
      return epoch > fenced
    },
    assertAlive,
    apply,
    async rows(what, parameters) {
      assertAlive()
      const floor = seenVersion
      const places = parameters.map((_, index) => `, $${index + 2}`).join('')
      const sql = `SELECT * FROM "${schema}".${what}($1${places})`
      let rows: readonly Row[]
      try {
        rows = (await requests.send(sql, [seenMs, ...parameters], timeoutMs)) as Row[]
      } catch (error) {
        throw fail(error)
      }
      const [store, ...found] = rows
      if (store === undefined) throw die('has lost the row that names it.')
      judge({ id: store.value, version: Number(store.version), format: Number(store.amount) }, floor)
      seenMs = Math.max(seenMs, Number(store.expires_at_ms))
      return { store, found }
    },
    watched: (forMs) => requests.send(`SELECT "${schema}".watch_1($1)`, [forMs], timeoutMs),
    close() {
      closed ??= new HoldfastError('ERR_CLOSED', `The Postgres store ${name} is closed.`)
    },
  }
}
