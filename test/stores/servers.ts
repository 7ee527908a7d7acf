// Tests of the stores that live on a server need that server. On a machine of ours they must run; elsewhere they may
// be left out, but never silently.

import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Where a program is, if it is on the PATH. */
export function findProgram(program: string): string | undefined {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const file = join(folder, program)
    try {
      accessSync(file, constants.X_OK)
      return file
    } catch {
      // Not in this folder.
    }
  }
  return undefined
}

/**
 * Whether the tests that need a server can run.
 *
 * @param server - Name of its program, such as `redis-server`.
 * @param what - What is not tested without it, such as `the Redis store`.
 * @param present - Whether it was found, where the PATH does not tell.
 * @throws Where `CI` is set: there a missing server is a failure, not a reason to test less.
 */
export function requireServer(server: string, what: string, present = findProgram(server) !== undefined): boolean {
  if (present) return true
  const line = `NOT RUN: ${what}: ${server} is not installed`
  if (['', '0', 'false', undefined].includes(process.env['CI'])) process.stderr.write(`${line}\n`)
  else throw new Error(line)
  return false
}
