// Dollars become nano-USD exactly, or not at all: every decimal of up to nine places against arithmetic on BigInt,
// the sums that doubles get wrong, and whatever else a configuration or a model may hold where an amount belongs.

import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MAX_AMOUNT, assertAmount, assertAmounts, formatAmount, formatUsd, parseDecimal, toNanoUsd } from '../../src/lib/amounts.ts'

const RUNS = { numRuns: 5_000 }
const nanoUsd = fc.oneof(fc.maxSafeNat(), fc.nat(), fc.integer({ min: MAX_AMOUNT - 1_000, max: MAX_AMOUNT }))

/** Nano-USD as dollars with `places` decimals, without any arithmetic: digits and a point. */
function decimalOf(nano: number, places = 9): string {
  const digits = String(nano).padStart(10, '0')
  const [whole, fraction] = [digits.slice(0, -9), digits.slice(-9, digits.length - 9 + places)]
  return fraction === '' ? whole : `${whole}.${fraction}`
}

describe('toNanoUsd', () => {
  test('is exact for every decimal string of up to nine places', () => {
    fc.assert(
      fc.property(nanoUsd, fc.integer({ min: 0, max: 9 }), (nano, places) => {
        const text = decimalOf(nano, places)
        const [whole, fraction = ''] = text.split('.') as [string, string?]
        const exact = BigInt(whole) * 10n ** 9n + BigInt(fraction.padEnd(9, '0'))
        expect(BigInt(toNanoUsd('usd', text))).toBe(exact)
      }),
      RUNS,
    )
  })

  test('is exact for every number of up to fifteen digits, which a double tells apart', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 999_999_999_999_999 }), (nano) => {
        expect(toNanoUsd('usd', Number(decimalOf(nano)))).toBe(nano)
      }),
      RUNS,
    )
  })

  test('takes a number of sixteen digits for the shortest decimal that names its double, at most one nano-USD beside it', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1_000_000_000_000_000, max: MAX_AMOUNT }), (nano) => {
        expect(Math.abs(toNanoUsd('usd', Number(decimalOf(nano))) - nano)).toBeLessThanOrEqual(1)
      }),
      RUNS,
    )
  })

  test('takes nine zeros more or less for the same amount', () => {
    fc.assert(
      fc.property(nanoUsd, fc.nat(9), fc.nat(9), (nano, before, after) => {
        expect(toNanoUsd('usd', `${'0'.repeat(before)}${decimalOf(nano)}${'0'.repeat(after)}`)).toBe(nano)
      }),
      RUNS,
    )
  })

  test.each<[number | string, number]>([
    [0, 0],
    [-0, 0],
    ['0', 0],
    ['0.000000000', 0],
    [0.5, 500_000_000],
    ['0.50', 500_000_000],
    [0.1, 100_000_000],
    [0.2, 200_000_000],
    [0.3, 300_000_000],
    [1.1, 1_100_000_000],
    [4.35, 4_350_000_000],
    [1.005, 1_005_000_000],
    [0.07, 70_000_000],
    [1e-9, 1],
    ['0.000000001', 1],
    [1e-7, 100],
    [1.5e-8, 15],
    [1e6, 1_000_000_000_000_000],
    ['007', 7_000_000_000],
    // A double of this size names no single nano-USD; the string does.
    [9_007_199.254740991, MAX_AMOUNT - 1],
    ['9007199.254740991', MAX_AMOUNT],
  ])('%s USD are %s nano-USD', (usd, nano) => {
    expect(toNanoUsd('usd', usd)).toBe(nano)
  })

  test.each<[number | string, RegExp]>([
    [1e-10, /`cap` to have at most nine decimals \(1 nano-USD\), got `1e-10`/],
    ['0.0000000001', /at most nine decimals/],
    [Number.MIN_VALUE, /at most nine decimals .* got `5e-324`/],
    [0.1 + 0.2, /at most nine decimals .* got `0\.30000000000000004`/],
    [1.1 * 3, /at most nine decimals/],
    [9_007_199.254740993, /`cap` to be at most 9007199\.254740991 USD, got `9007199\.254740993`/],
    ['9007199.254740992', /at most 9007199\.254740991 USD/],
    ['9007199254740993', /at most 9007199\.254740991 USD/],
    [1e21, /at most 9007199\.254740991 USD, got `1e\+21`/],
    [Number.MAX_VALUE, /at most 9007199\.254740991 USD, got `1\.797/],
    [-1, /`cap` to be a finite number >= 0, got `-1`/],
    [-1e-9, /finite number >= 0/],
    [Infinity, /finite number >= 0, got `Infinity`/],
    [-Infinity, /finite number >= 0/],
  ])('%s is out of range', (usd, message) => {
    const convert = (): number => toNanoUsd('cap', usd)
    expect(convert).toThrow(RangeError)
    expect(convert).toThrow(message)
  })

  const NO_DECIMALS = ['', ' ', '1e3', '1E3', '0x10', '1_000', '1,000', '1.', '.5', '+1', '-1', '--1', ' 1', '1 ', '1\n', '1.2.3']
  const NO_DIGITS = ['\u0661', '\uff11', '\u00bd', '\u221e', 'NaN', 'Infinity', 'null', '$1', '1 USD', '1n', 'one', '0'.repeat(65)]

  test.each([...NO_DECIMALS, ...NO_DIGITS, '9'.repeat(1_000_000), `0.${'0'.repeat(1_000_000)}1`])(
    'the string %.20j is no decimal',
    (usd) => {
      const convert = (): number => toNanoUsd('cap', usd)
      expect(convert).toThrow(TypeError)
      expect(convert).toThrow(/^Expected `cap` to be a decimal such as '0\.50', got `.{0,64}`\.$/s)
    },
  )

  test.each<[string, unknown]>([
    ['true', true],
    ['null', null],
    ['undefined', undefined],
    ['a BigInt', 1n],
    ['an array', ['1']],
    ['an object', { valueOf: () => 1 }],
    ['an object without a prototype', Object.create(null)],
    ['a boxed number', Object(1)],
    ['a symbol', Symbol('s')],
    ['a function', () => 1],
    ['NaN', Number.NaN],
  ])('%s is no number, and the error names the field', (_, usd) => {
    const convert = (): number => toNanoUsd('budgets[acme].usd', usd as number)
    expect(convert).toThrow(TypeError)
    expect(convert).toThrow('`budgets[acme].usd`')
  })
})

test('parseDecimal gives the digits and their scale of any finite number, also where it is written with an exponent', () => {
  fc.assert(
    fc.property(fc.double({ noNaN: true, noDefaultInfinity: true, min: 0 }), (value) => {
      const { digits, scale } = parseDecimal('value', value)
      expect(Number(`${digits}e-${scale}`)).toBe(value === 0 ? 0 : value)
    }),
    RUNS,
  )
})

describe('formatUsd', () => {
  test.each([
    [0, '$0.00'],
    [-0, '$0.00'],
    [1, '$0.000000001'],
    [10, '$0.00000001'],
    [1_500_000_000, '$1.50'],
    [1_005_000_000, '$1.005'],
    [999_999_999, '$0.999999999'],
    [100_000_000_000, '$100.00'],
    [-250_000_000, '-$0.25'],
    [MAX_AMOUNT, '$9007199.254740991'],
  ])('writes %s nano-USD as %s', (nano, text) => {
    expect(formatUsd(nano)).toBe(text)
  })

  test('reads back as the same amount, never rounded, never shorter than cents', () => {
    fc.assert(
      fc.property(nanoUsd, (nano) => {
        const text = formatUsd(nano)
        expect(text).toMatch(/^\$\d+\.\d{2,9}$/)
        expect(toNanoUsd('usd', text.slice(1))).toBe(nano)
        expect(nano === 0 ? text : formatUsd(-nano).slice(1)).toBe(text)
      }),
      RUNS,
    )
  })

  test.each([Number.NaN, Infinity, 0.5])('refuses %s, which is no amount', (nano) => {
    expect(() => formatUsd(nano)).toThrow(RangeError)
  })
})

test('formatAmount writes dollars for usd and grouped digits for the rest', () => {
  expect(formatAmount('usd', 1_500_000_000)).toBe('$1.50')
  expect(formatAmount('tokens', 1_500_000)).toBe('1,500,000')
})

describe('assertAmount', () => {
  test.each([0, -0, 1, MAX_AMOUNT])('takes %s', (value) => {
    expect(() => assertAmount('calls', value)).not.toThrow()
    expect(() => assertAmounts('worst', { calls: value, tokens: 0 })).not.toThrow()
  })

  test.each<[unknown, typeof TypeError | typeof RangeError, RegExp]>([
    [-1, RangeError, /`worst\.calls` to be from 0 to 9007199254740991, got `-1`/],
    [MAX_AMOUNT + 1, RangeError, /from 0 to/],
    [Infinity, RangeError, /from 0 to/],
    [-Infinity, RangeError, /from 0 to/],
    [0.5, TypeError, /`worst\.calls` to be a whole number, got `0\.5`/],
    [Number.MIN_VALUE, TypeError, /whole number/],
    [Number.NaN, TypeError, /whole number, got `NaN`/],
    ['1', TypeError, /whole number, got `1` \(string\)/],
    [1n, TypeError, /\(bigint\)/],
    [true, TypeError, /got `true` \(boolean\)/],
    [null, TypeError, /got `null` \(object\)/],
    [undefined, TypeError, /got `undefined` \(undefined\)/],
    [[1], TypeError, /got \(object\)/],
    [{ toString: 1 }, TypeError, /got \(object\)/],
    [Object.create(null), TypeError, /`worst\.calls` to be a whole number, got \(object\)/],
    [Symbol('s'), TypeError, /got `Symbol\(s\)` \(symbol\)/],
  ])('refuses %s', (value, kind, message) => {
    const check = (): void => assertAmounts('worst', { tokens: 1, calls: value as number })
    expect(check).toThrow(kind)
    expect(check).toThrow(message)
  })
})
