// Where windows begin and end, by the calendar of a time zone.

import { describe, expect, test } from 'vitest'
import { createStoreTime } from '../../src/budget/windows/store-time.ts'
import {
  hasLeft,
  homeOf,
  isRate,
  parseWindowPath,
  windowEndsAt,
  windowIdAt,
  windowPath,
  type WindowRecord,
} from '../../src/budget/windows/window.ts'
import { memoryStore } from '../../src/stores/memory.ts'

const at = (text: string): number => Date.parse(text)

describe('a window of the calendar', () => {
  test.each<[string, Omit<WindowRecord, 'limits'>, string, string, string]>([
    ['a minute', { per: 'minute' }, '2026-11-20T10:05:59.999Z', '2026-11-20T10:05:00Z', '2026-11-20T10:06:00Z'],
    ['an hour', { per: 'hour' }, '2026-11-20T10:59:00Z', '2026-11-20T10:00:00Z', '2026-11-20T11:00:00Z'],
    ['a day', { per: 'day' }, '2026-11-20T00:00:00Z', '2026-11-20', '2026-11-21T00:00:00Z'],
    [
      'a day before it is one in London',
      { per: 'day', timeZone: 'Asia/Tokyo' },
      '2026-11-20T15:00:00Z',
      '2026-11-21',
      '2026-11-21T15:00:00Z',
    ],
    [
      'a day of a zone that is off by 45 minutes',
      { per: 'day', timeZone: 'Asia/Kathmandu' },
      '2026-11-20T18:14:59Z',
      '2026-11-20',
      '2026-11-20T18:15:00Z',
    ],
    ['a day of 23 hours', { per: 'day', timeZone: 'Europe/Berlin' }, '2026-03-28T23:00:00Z', '2026-03-29', '2026-03-29T22:00:00Z'],
    ['a day of 25 hours', { per: 'day', timeZone: 'Europe/Berlin' }, '2026-10-24T22:00:00Z', '2026-10-25', '2026-10-25T23:00:00Z'],
    [
      'a day that begins at one o’clock',
      { per: 'day', timeZone: 'America/Sao_Paulo' },
      '2018-11-04T02:59:59Z',
      '2018-11-03',
      '2018-11-04T03:00:00Z',
    ],
    [
      'a day whose next one was left out',
      { per: 'day', timeZone: 'Pacific/Apia' },
      '2011-12-30T09:00:00Z',
      '2011-12-29',
      '2011-12-30T10:00:00Z',
    ],
    ['a week that began last Monday', { per: 'week' }, '2026-11-22T23:59:59Z', '2026-11-16', '2026-11-23T00:00:00Z'],
    ['a week of a Monday', { per: 'week', timeZone: 'Europe/Berlin' }, '2026-11-22T23:00:00Z', '2026-11-23', '2026-11-29T23:00:00Z'],
    ['a week at the turn of the year', { per: 'week' }, '2027-01-01T00:00:00Z', '2026-12-28', '2027-01-04T00:00:00Z'],
    ['a month', { per: 'month' }, '2028-02-29T12:00:00Z', '2028-02', '2028-03-01T00:00:00Z'],
    ['a month of 31 days', { per: 'month', timeZone: 'America/New_York' }, '2026-10-01T04:00:00Z', '2026-10', '2026-11-01T04:00:00Z'],
    ['a part of a rolling minute', { per: 'minute', rolling: 6 }, '2026-11-20T10:05:39Z', '2026-11-20T10:05:30Z', '2026-11-20T10:05:40Z'],
    ['a part of a rolling week', { per: 'week', rolling: 7 }, '2026-11-20T10:05:39Z', '2026-11-20T00:00:00Z', '2026-11-21T00:00:00Z'],
    ['the first day there is', { per: 'day' }, '1970-01-01T00:00:00Z', '1970-01-01', '1970-01-02T00:00:00Z'],
    ['the first week there is', { per: 'week' }, '1970-01-01T00:00:00Z', '1969-12-29', '1970-01-05T00:00:00Z'],
  ])('%s', (_, window, moment, id, end) => {
    const record = { ...window, limits: {} }
    expect(windowIdAt(record, at(moment))).toBe(id)
    const endsAtMs = windowEndsAt(record, at(moment))
    expect(new Date(endsAtMs).toISOString()).toBe(new Date(end).toISOString())
    expect(windowIdAt(record, endsAtMs - 1)).toBe(id)
    expect(windowIdAt(record, endsAtMs) > id).toBe(true)
  })

  test.each(['Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'UTC'])(
    'follows the one before without a gap, all year in %s',
    (timeZone) => {
      for (const per of ['day', 'week', 'month'] as const) {
        const window = { per, timeZone, limits: {} }
        let moment = at('2026-01-01T12:00:00Z')
        while (moment < at('2027-01-01')) {
          const id = windowIdAt(window, moment)
          const end = windowEndsAt(window, moment)
          expect(windowIdAt(window, end - 1)).toBe(id)
          expect(windowIdAt(window, end) > id).toBe(true)
          moment = end
        }
      }
    },
  )
})

test('a part of a rolling window has left when all of it is a window old, and not before', () => {
  const window = { per: 'minute', rolling: 6, limits: {} } as const
  expect(hasLeft(window, '2026-11-20T10:05:00Z', '2026-11-20T10:06:00Z')).toBe(false)
  expect(hasLeft(window, '2026-11-20T10:05:00Z', '2026-11-20T10:06:10Z')).toBe(true)
})

test('the path of a window names its budget, and that of no budget is taken for one', () => {
  const path = windowPath('acme/ann', 'day', '2026-11-20')
  expect(parseWindowPath(path)).toEqual({ home: 'acme/ann', name: 'day', id: '2026-11-20' })
  expect(homeOf(path)).toBe('acme/ann')
  for (const other of ['acme', 'acme/*', 'acme/*/ann', 'acme/day/2026-11-20']) expect(homeOf(other)).toBe(other)
  expect(isRate(windowPath('a', 'minute', 'x'))).toBe(true)
  expect(isRate(windowPath('a', 'rolling-hour', 'x'))).toBe(true)
  expect(isRate(path)).toBe(false)
  expect(isRate('a/hour')).toBe(false)
})

test('the time of a store goes on between two looks, whichever way a local clock is set', async () => {
  let wallMs = 1_000_000
  const store = memoryStore({ clock: { now: () => 5_000 } })
  const time = createStoreTime(store, () => wallMs)
  expect(time.isStale()).toBe(true)
  expect(time.estimate()).toBe(-Infinity)
  await time.read()
  expect(time.isStale()).toBe(false)
  wallMs += 700
  expect(time.estimate()).toBeGreaterThanOrEqual(5_700)
  wallMs -= 1_000_000
  expect(time.estimate()).toBeGreaterThanOrEqual(5_000)
  wallMs += 1_100_000
  expect(time.isStale()).toBe(true)
})
