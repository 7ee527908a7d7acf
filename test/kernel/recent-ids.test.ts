import { expect, test } from 'vitest'
import { createRecentIds } from '../../src/kernel/recent-ids.ts'

test('the newest ids are remembered, and of a million no more than twice as many as asked for', () => {
  const ids = createRecentIds(100)
  let forgotten = 0
  for (let id = 0; id < 1_000_000; id++) {
    ids.add(`r${id}`)
    const looks = id % 9_973 === 0 ? Math.min(100, id) : 0
    for (let back = 0; back < looks; back++) if (!ids.has(`r${id - back}`)) forgotten += 1
  }
  expect(forgotten).toBe(0)
  const kept = Array.from({ length: 1_000_000 }, (_, id) => ids.has(`r${id}`)).filter(Boolean).length
  expect(kept).toBeGreaterThanOrEqual(100)
  expect(kept).toBeLessThanOrEqual(200)
})

test('an id that was never added is not known', () => {
  expect(createRecentIds(10).has('r1')).toBe(false)
})
