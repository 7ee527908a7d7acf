// What the errors of node:sqlite and better-sqlite3 mean for a store.

import { HoldfastError } from '../../lib/errors.ts'

// Source: sqlite.org/rescode.html, the primary result codes that a store tells apart.
const CODES: Readonly<Record<number, string>> = {
  3: 'PERM',
  5: 'BUSY',
  6: 'LOCKED',
  8: 'READONLY',
  10: 'IOERR',
  11: 'CORRUPT',
  13: 'FULL',
  14: 'CANTOPEN',
  15: 'PROTOCOL',
  26: 'NOTADB',
}

/** The result code of SQLite in an error of either driver, such as `BUSY` or `READONLY_DBMOVED`; empty for other errors. */
export function sqliteCode(error: unknown): string {
  const { code, errcode } = error as { code?: unknown; errcode?: unknown }
  if (typeof errcode === 'number') return errcode === 1032 ? 'READONLY_DBMOVED' : (CODES[errcode & 0xff] ?? 'ERROR')
  return typeof code === 'string' && code.startsWith('SQLITE_') ? code.slice('SQLITE_'.length) : ''
}

/** True when another connection was in the way and nothing happened. */
export function isBusy(error: unknown): boolean {
  return /^(?:BUSY|LOCKED|PROTOCOL)/.test(sqliteCode(error))
}

/** What an error of SQLite means for the user of a store. Errors of ours pass through. */
export function storeError(file: string, cause: unknown): Error {
  if (HoldfastError.isInstance(cause)) return cause
  const code = sqliteCode(cause)
  const { message } = cause as Error
  if (code === '') return cause as Error
  if (code.startsWith('FULL')) return new HoldfastError('ERR_STORE_FULL', `No space left for ${file}. Nothing was committed.`, { cause })
  if (/^(?:CORRUPT|NOTADB|READONLY_DBMOVED)/.test(code) || message.includes('no such table'))
    return new HoldfastError('ERR_DAMAGE', `${file} was damaged or replaced while in use: ${message}.`, { cause })
  if (code.startsWith('READONLY')) return new HoldfastError('ERR_STORE', `${file} cannot be written: it is read-only here.`, { cause })
  if (message.includes('within a transaction'))
    return new HoldfastError(
      'ERR_STORE',
      `${file} has an open transaction on the handle that the store was given. Give the store a handle of its own.`,
      {
        cause,
      },
    )
  return new HoldfastError('ERR_STORE', `${file} failed: ${message}.`, { cause })
}
