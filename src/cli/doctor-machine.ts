// What the doctor asks of the machine: Node, the data directory, its file system.

import { closeSync, fsyncSync, openSync, rmSync, statSync, writeSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { HoldfastError } from '../lib/errors.ts'
import { newId } from '../lib/ids.ts'
import { assertLocalFileSystem, fileSystemType } from '../stores/journal/file-system.ts'
import { assertDataDirectory, hasStore } from './open-store.ts'

/** One check; an element of `checks` in `holdfast doctor --json`. */
export interface Check {
  /** Stable; the thing to switch on. */
  readonly id:
    | 'node'
    | 'data-missing'
    | 'data-directory'
    | 'file-system'
    | 'fsync'
    | 'journal'
    | 'journal-room'
    | 'store-heads'
    | 'store-settings'
    | 'processes'
    | 'stopped'
    | 'suspense'
    | 'successors'
    | 'budgets'
    | 'frozen'
    | 'enforcement'
    | 'escapes'
    | 'chains'
  readonly result: 'ok' | 'warn' | 'fail'
  readonly message: string
  /** What to do about it. */
  readonly todo?: string
}

/** Names the version of Node; a too old one never comes this far. */
export function checkNode(version: string): Check {
  return { id: 'node', result: 'ok', message: `Node.js ${version} (22.13 or later is needed)` }
}

/** The data directory is there, and not everybody may write to it. */
export function checkDirectory(directory: string): Check {
  try {
    assertDataDirectory(directory)
  } catch (error) {
    return failed('data-missing', error, 'A kernel makes it: openKernel({ store: fileStore(directory) }).')
  }
  const { mode } = statSync(directory)
  const place = resolve(directory)
  if ((mode & 0o002) !== 0) {
    const message = `data directory ${place} can be written by every user of this machine`
    return { id: 'data-directory', result: 'warn', message, todo: `chmod o-w ${place}` }
  }
  return { id: 'data-directory', result: 'ok', message: `data directory ${place}` }
}

/**
 * The file system is one of those that are known to append whole lines.
 *
 * @param typeOf - As in the options of `fileStore`.
 */
export function checkFileSystem(directory: string, typeOf: (directory: string) => number = fileSystemType): Check {
  try {
    const type = typeOf(directory)
    assertLocalFileSystem(resolve(directory), type)
    return { id: 'file-system', result: 'ok', message: `file system is local (type 0x${type.toString(16)})` }
  } catch (error) {
    const check = failed('file-system', error, 'Put the data directory on a local disk.')
    // A store that is there was opened with `unsafeFileSystem: true`: its owner has chosen this.
    return hasStore(directory) ? { ...check, result: 'warn' } : check
  }
}

/** A file can be written, synced and removed. */
export function checkSync(directory: string): Check {
  const file = join(directory, `doctor-${newId()}.tmp`)
  try {
    const descriptor = openSync(file, 'wx')
    try {
      writeSync(descriptor, 'holdfast doctor\n')
      fsyncSync(descriptor)
    } finally {
      closeSync(descriptor)
      rmSync(file)
    }
    return { id: 'fsync', result: 'ok', message: 'data directory is writable, and fsync works' }
  } catch (error) {
    return failed('fsync', error, 'Give this user the right to write there, and look whether the disk is full or read-only.')
  }
}

/** A check that ended in an error. */
export function failed(id: Check['id'], error: unknown, todo: string): Check {
  if (!(error instanceof Error)) throw error
  const message = HoldfastError.isInstance(error) ? error.message : `${id}: ${error.message}`
  return { id, result: 'fail', message, todo }
}
