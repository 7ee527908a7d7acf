// What can go wrong between the Postgres store and its server, and what is known then: that nothing was applied, or
// nothing at all.

import { HoldfastError } from '../../lib/errors.ts'

/** The request may have reached the server, and no answer came. */
export class LostReply extends Error {}

interface ServerError {
  readonly severity?: unknown
  readonly code?: unknown
  readonly message?: unknown
}

/** The SQLSTATE of an error that the server sent; empty for errors of the connection. */
export function sqlState(error: unknown): string {
  const { severity, code } = error as ServerError
  // Codes of the system (`EPIPE`) look like those of the server, but have no severity.
  return typeof severity === 'string' && typeof code === 'string' ? code : ''
}

/** True when the server says that it undid the statement, or it was never sent. */
export function isCertain(error: unknown): boolean {
  const state = sqlState(error)
  const { severity, message } = error as ServerError
  // pg answers so before it sends anything.
  if (state === '') return String(message).includes('not queryable')
  // An error that ends the connection, or the server, may come from a commit that is on disk already. (The server
  // writes its severities in its own language, and 53100 may be of both kinds.)
  return !/^(?:57P0|08|XX000)/.test(state) && !/^(?:FATAL|PANIC)$/.test(String(severity)) && (state !== '53100' || severity === 'ERROR')
}

/** True when the group was undone only because of others that were there at the same time. */
export function isContended(error: unknown): boolean {
  return /^(?:40001|40P01|55P03|57014)$/.test(sqlState(error))
}

/** What an error means for the user of a store, when nothing was applied for certain. */
export function storeError(name: string, cause: unknown): Error {
  if (HoldfastError.isInstance(cause)) return cause
  const state = sqlState(cause)
  const text = cause instanceof AggregateError && cause.message === '' ? String((cause.errors as unknown[])[0]) : (cause as Error).message
  const failed = (code: 'ERR_STORE' | 'ERR_DAMAGE' | 'ERR_STORE_FULL', what: string): Error =>
    new HoldfastError(code, `${name} ${what}: ${text}`, { cause })
  if (/^(?:42883|42P01|42703|3F000)$/.test(state))
    return failed('ERR_DAMAGE', 'has lost its tables or functions, or was migrated by a later version')
  if (/^XX00[12]$/.test(state)) return failed('ERR_DAMAGE', 'is damaged')
  if (state === '53100') return failed('ERR_STORE_FULL', 'has no space left; nothing was committed')
  if (state === '25006') return failed('ERR_STORE', 'cannot be written there (a standby, or a role that may only read)')
  if (state.startsWith('28')) return failed('ERR_STORE', 'does not let this user in')
  if (state === '42501') return failed('ERR_STORE', 'does not permit this to the user')
  return failed('ERR_STORE', state === '' ? 'cannot be reached' : `refused (${state})`)
}
