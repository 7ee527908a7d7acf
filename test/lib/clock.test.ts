// Time as the stores have it, whatever the clock does: it never runs backwards, and behind a clock that was ahead it
// goes on as fast as time passes.

import { describe, expect, test } from 'vitest'
import { steady, systemClock } from '../../src/lib/clock.ts'

const START_MS = 1_700_000_000_000
const HOUR_MS = 3_600_000

/** A clock whose two hands a test moves by itself. */
function hands() {
  const at = { now: START_MS, elapsed: 5 }
  return { at, clock: { now: () => at.now, elapsed: () => at.elapsed } }
}

describe('steady time', () => {
  test('is that of its clock, while that goes on', () => {
    const { at, clock } = hands()
    const time = steady(clock)
    expect(time()).toBe(START_MS)
    at.now += 7
    at.elapsed += 7
    expect(time()).toBe(START_MS + 7)
    at.now += HOUR_MS
    expect(time()).toBe(START_MS + 7 + HOUR_MS)
  })

  test('goes on behind a time that was seen elsewhere, in whole milliseconds', () => {
    const { at, clock } = hands()
    const time = steady(clock)
    expect(time(START_MS + HOUR_MS)).toBe(START_MS + HOUR_MS)
    for (let step = 1; step <= 10; step++) {
      at.now += 0.4
      at.elapsed += 0.4
      expect(time(START_MS + HOUR_MS)).toBe(START_MS + HOUR_MS + Math.floor(step * 0.4 + 1e-6))
    }
  })

  test('goes on from where it was when its clock is set back, and back and forth makes it no faster', () => {
    const { at, clock } = hands()
    const time = steady(clock)
    for (let swing = 0; swing < 10; swing++) {
      at.elapsed += 1
      at.now += 1 + (swing % 2 === 0 ? HOUR_MS : -HOUR_MS)
      expect(time()).toBe(START_MS + HOUR_MS + swing + 1)
    }
  })

  test('stands still behind a clock that cannot say what time has passed', () => {
    const time = steady({ now: () => START_MS })
    expect([time(START_MS + 5), time(), time(START_MS)]).toEqual([START_MS + 5, START_MS + 5, START_MS + 5])
  })

  test('of the wall clock is not ahead of it', () => {
    const time = steady(systemClock)
    for (let times = 0; times < 1_000; times++) {
      const now = time()
      expect(Number.isInteger(now)).toBe(true)
      expect(now).toBeLessThanOrEqual(Date.now() + 1)
    }
  })
})
