// Against whom a set-up protects. There are three, and no set-up reaches the last one: saying so is the point.

import { accessSync, constants, existsSync, statSync } from 'node:fs'
import { userInfo } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { journalFile, storeFolder } from './open-store.ts'

/** One of the three; an element of `levels` in `holdfast doctor --json`. */
export interface Level {
  readonly level: 1 | 2 | 3
  /** Against whom. */
  readonly against: string
  readonly reached: boolean
  readonly why: string
}

/**
 * The levels that a set-up reaches, as seen from the user who asks.
 *
 * @param writable - Whether that user could change the store.
 */
export function levelsReached(user: string, writable: boolean): readonly Level[] {
  return [
    {
      level: 1,
      against: 'honest code, crashes, and a model that asks for anything',
      reached: true,
      why: 'always: what is not held first does not run',
    },
    {
      level: 2,
      against: `programs that tools start as ${user}`,
      reached: !writable,
      why: writable
        ? `${user} can write the store, so they can too; run tools as another user, or in a container without it`
        : `${user} cannot write the store`,
    },
    {
      level: 3,
      against: "code inside the agent's process",
      reached: false,
      why: 'never: it can go around the kernel; only a gateway that holds the provider keys stops it',
    },
  ]
}

/**
 * Whether this user could change the store of a data directory, or put another one in its place. A store that
 * is not there yet will be made by its user, who then can.
 */
export function canWriteStore(directory: string): boolean {
  const places = [dirname(resolve(directory)), directory, join(directory, 'chains'), storeFolder(directory), journalFile(directory)]
  return !existsSync(storeFolder(directory)) || places.some(isInReach)
}

/** Whether this user could change a file, or put another one in its place. */
export function canWriteFile(file: string): boolean {
  return !existsSync(file) || [dirname(resolve(file)), file].some(isInReach)
}

/** A file in a folder that can be written can be replaced, and its owner can always give himself the right to write. */
function isInReach(path: string): boolean {
  try {
    if (statSync(path).uid === process.getuid?.()) return true
    accessSync(path, constants.W_OK)
    return true
  } catch (error) {
    // Only a refusal is protection; where nothing can be said, there is none.
    return !['EACCES', 'EPERM', 'EROFS', 'ENOENT'].includes(String((error as NodeJS.ErrnoException).code))
  }
}

/** The name of the user who asks. */
export function userName(): string {
  try {
    return userInfo().username
  } catch {
    // In a container a user may have a number and no name.
    return `user ${process.getuid?.() ?? '?'}`
  }
}
