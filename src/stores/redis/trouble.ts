// What Redis says when it does not do what it was asked, and what that means for a group: certainly not applied,
// not applied yet, or not known. Only answers of the server are certain; a connection that ends says nothing.

import { HoldfastError } from '../../lib/errors.ts'

/** The server's own code: `OOM` of `OOM command not allowed ...`; nothing for errors of the connection. */
export function serverCode(error: unknown): string | undefined {
  return /^([A-Z]{3,}) /.exec(String((error as Error | undefined)?.message ?? error))?.[1]
}

// The server did not run the script and may do so soon.
const PASSING = new Set(['LOADING', 'BUSY', 'TRYAGAIN', 'CLUSTERDOWN', 'MASTERDOWN', 'NOREPLICAS'])

/** True when the server refused to run anything for now. */
export function isPassing(error: unknown): boolean {
  return PASSING.has(serverCode(error) ?? '')
}

const CERTAIN: Readonly<Record<string, string>> = {
  OOM: 'Redis has no memory left (maxmemory). Nothing was applied. Give it more memory; never let it evict keys',
  READONLY: 'This server is a replica, which takes no writes. Connect to the primary',
  MISCONF: 'Redis takes no writes, since it cannot save them. Mend its disk',
  NOAUTH: 'Redis asks for a password. Give the client one',
  WRONGPASS: 'Redis does not accept the user or the password of the client',
  NOPERM: 'The user of the client may not run what the store needs: EVALSHA, EVAL, and hash, sorted set and string commands on its keys',
  NOPROTO: 'Redis does not speak the protocol of the client',
  MOVED: 'This server is one of a cluster. Pass a cluster client',
  ASK: 'This server is one of a cluster. Pass a cluster client',
  CROSSSLOT: 'This server is one of a cluster. Pass a cluster client',
}

/** The error for an answer after which nothing was applied and trying again would not help; nothing for other answers. */
export function certainError(name: string, error: unknown): HoldfastError | undefined {
  const code = serverCode(error)
  const text = String((error as Error | undefined)?.message ?? error)
  if (code === 'WRONGTYPE') return damageError(name, `one of its keys was overwritten by something else: ${text}`, error)
  const advice = code === undefined ? undefined : CERTAIN[code]
  if (advice === undefined) return undefined
  return new HoldfastError(code === 'OOM' ? 'ERR_STORE_FULL' : 'ERR_STORE', `${name}: ${advice}. It said: ${text}`, { cause: error })
}

/** The error for data that is not what it was. */
export function damageError(name: string, what: string, cause?: unknown): HoldfastError {
  return new HoldfastError(
    'ERR_DAMAGE',
    `${name} is damaged: ${what}. What was spent may be forgotten there, so nothing is read from it or written to it. ` +
      'Its operator must bring the data back, or start a new prefix with limits lowered by what was spent.',
    cause === undefined ? {} : { cause },
  )
}

/** What a script answers instead of doing its work: a word, and what belongs to it. */
export type Instead = readonly [word: string, detail?: string | number, found?: number]

/** The error for such an answer, where one is certain. `seen` is the highest version that this client knew of. */
export function insteadError(name: string, [word, detail, found]: Instead, seen: number): HoldfastError | undefined {
  if (word === 'failed') return certainError(name, detail) ?? new HoldfastError('ERR_STORE', `${name} cannot be written: ${detail}`)
  if (word === 'format') {
    const message = `${name} has format ${detail}; this version of holdfast reads format 1 only. Install a later one.`
    return new HoldfastError('ERR_STORE', message)
  }
  if (word !== 'damage') return undefined
  if (detail === 'gone') return damageError(name, 'it is gone, or a part of it (flushed, evicted, deleted)')
  if (detail === 'other') return damageError(name, 'it is gone, and another store was made in its place')
  if (detail === 'parts') return damageError(name, 'some of its entries were changed or removed by something else')
  return damageError(name, `it went back from version ${seen} to ${found} (an old backup, or a failover that lost writes)`)
}
