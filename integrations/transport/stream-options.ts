// What a transport guard does with streams that are not read to their end, checked before anything is sent.

import type { Scope, ScopeSource } from '../../src/waist/scope.ts'
import { createDrains, type Drains } from './drains.ts'

/** Options of a transport guard that are about streams. */
export interface StreamOptions {
  /**
   * What becomes of an answer whose caller has left, or whose stream was cut. `drain`: it is read on to its usage, so that
   * what is billed anyway is known. `charge`: the connection is closed at once, and the worst case is charged; a
   * provider that ends its work then is paid for less than that, and nobody here can know.
   *
   * @default 'drain'
   */
  readonly onAbort?: 'drain' | 'charge'
  /** Most answers that are read on at the same time, at most 1000. Beyond it they are cut and charged at worst. @default 32 */
  readonly maxDrains?: number
  /** How long such an answer is read on, ms, at most 600000. @default 30000 */
  readonly drainMs?: number
  /**
   * Holds the output of a stream in steps of so many tokens for each choice, 64 to 1,000,000, instead of all of it from the start:
   * the next step is held when half of the last one is left, counted as bytes of the text that has come, and where it is
   * refused, after 250 ms at most, the stream is cut with that refusal and its connection closed. Only with `openKernel({ promise: 'bounded' })`:
   * what was generated and had not come yet, hidden reasoning included, is held by nothing.
   *
   * @default all of the output is held from the start
   */
  readonly outputStepTokens?: number
}

/** The same, checked. */
export interface StreamSettings {
  readonly drains: Drains
  readonly stepTokens: number | undefined
}

const MAX_DRAINS = 1_000
const MAX_DRAIN_MS = 600_000
const [MIN_STEP, MAX_STEP] = [64, 1_000_000]

/** @throws {TypeError} {RangeError} Naming the option. */
export function streamSettings(options: StreamOptions, source: ScopeSource): StreamSettings {
  const { onAbort = 'drain', maxDrains = 32, drainMs = 30_000, outputStepTokens } = options
  if (onAbort !== 'drain' && onAbort !== 'charge')
    throw new TypeError(`\`onAbort\` must be 'drain' or 'charge', got ${JSON.stringify(onAbort)}.`)
  assertCount('maxDrains', maxDrains, 0, MAX_DRAINS)
  assertCount('drainMs', drainMs, 0, MAX_DRAIN_MS)
  if (outputStepTokens !== undefined) {
    assertCount('outputStepTokens', outputStepTokens, MIN_STEP, MAX_STEP)
    // Of any other source it is known, and refused by `begin`, when the first call is made.
    if (typeof source === 'object' && isHard(source))
      throw new TypeError(
        "`outputStepTokens` needs openKernel({ promise: 'bounded' }): what a model has generated and nobody has seen yet is held by nothing, so a hard limit could be exceeded.",
      )
  }
  return { drains: createDrains(onAbort === 'charge' ? 0 : maxDrains, drainMs), stepTokens: outputStepTokens }
}

const isHard = ({ promise }: Scope): boolean => promise === 'hard'

function assertCount(name: string, value: unknown, least: number, most: number): void {
  if (typeof value !== 'number') throw new TypeError(`\`${name}\` must be a number, got ${typeof value}.`)
  if (!Number.isInteger(value) || value < least || value > most)
    throw new RangeError(`\`${name}\` must be a whole number from ${least} to ${most}, got ${value}.`)
}
