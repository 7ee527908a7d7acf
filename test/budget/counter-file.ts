// What really happened, in a file that only grows: `-1` for each effect, `+100` for what was brought in.

import { readFileSync } from 'node:fs'

/** What is left of `start`, by the file. */
export function leftIn(file: string, start: number): number {
  return linesOf(file).reduce((sum, line) => sum + Number(line), start)
}

/** How many effects there were. */
export function effectsIn(file: string): number {
  return linesOf(file).filter((line) => line.startsWith('-')).length
}

/** The least that was ever left of `start`. */
export function leastIn(file: string, start: number): number {
  let left = start
  let least = start
  for (const line of linesOf(file)) {
    left += Number(line)
    least = Math.min(least, left)
  }
  return least
}

function linesOf(file: string): readonly string[] {
  return readFileSync(file, 'utf8').split('\n').slice(0, -1)
}
