// The one rule for names, beside a slow reading of it code unit by code unit, and what people and attackers write:
// emoji, combining characters, look-alikes, paths in disguise. What the rule does not forbid is here too.

import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MAX_NAME_LENGTH, MAX_PATH_DEPTH, assertName, parsePath } from '../../src/lib/names.ts'

function isName(value: unknown): boolean {
  try {
    assertName('agent', value)
    return true
  } catch (error) {
    if (error instanceof TypeError && error.message.startsWith('Expected `agent` to be a name, got ')) return false
    throw error
  }
}

const isHigh = (unit: number | undefined): boolean => unit !== undefined && unit >= 0xd800 && unit <= 0xdbff
const isLow = (unit: number | undefined): boolean => unit !== undefined && unit >= 0xdc00 && unit <= 0xdfff

/** The rule at the top of names.ts, read slowly. */
function slowIsName(name: string): boolean {
  const units = name.split('').map((unit) => unit.charCodeAt(0))
  const wellFormed = units.every((unit, at) => (!isHigh(unit) || isLow(units[at + 1])) && (!isLow(unit) || isHigh(units[at - 1])))
  const forbidden = units.some(
    (unit) =>
      unit < 0x20 ||
      (unit >= 0x7f && unit < 0xa0) ||
      unit === 0x2028 ||
      unit === 0x2029 ||
      unit === 0x2f ||
      unit === 0x2a ||
      unit === 0x22 ||
      unit === 0x5c,
  )
  const reserved = name === '.' || name === '..' || name === '__proto__'
  const spaced = /^\s|\s$/u.test(name)
  return units.length >= 1 && units.length <= 128 && wellFormed && !forbidden && !reserved && !spaced && name === name.normalize('NFC')
}

describe('a name', () => {
  test.each([
    'a',
    '0',
    '-',
    '...',
    '.hidden',
    'report-7',
    'gpt-4o@priority',
    'with space inside',
    'a.b:c#d?e&f=g+h%2f',
    "it's",
    '`quoted`',
    '$(rm -rf)',
    'constructor',
    'toString',
    'prototype',
    '\u00e9t\u00e9',
    '\u7814\u7a76\u54e1',
    '\u05e9\u05dc\u05d5\u05dd',
    '\u0645\u0631\u062d\u0628\u0627',
    '\u{1f916}',
    '\u{1f468}\u200d\u{1f469}\u200d\u{1f467}',
    '\u{1f1e9}\u{1f1ea}',
    'x\u0301\u0302\u0303\u0304',
    'a\u00a0b',
  ])('may be %j', (name) => {
    expect(isName(name)).toBe(true)
    expect(slowIsName(name)).toBe(true)
  })

  test.each<[string, string]>([
    ['', 'it is empty'],
    ['a/b', 'it holds a control character, a line break, `/`, `*`, `"` or `\\`'],
    ['/', 'it holds a control character'],
    ['*', 'it holds a control character'],
    ['a*', 'it holds a control character'],
    ['"quoted"', 'it holds a control character'],
    ['C:\\temp', 'it holds a control character'],
    ['a\0', 'it holds a control character'],
    ['a\nb', 'it holds a control character'],
    ['a\u007f', 'it holds a control character'],
    ['a\u0085b', 'it holds a control character'],
    ['a\u2028b', 'it holds a control character, a line break'],
    ['a\u2029b', 'it holds a control character, a line break'],
    ['.', '`.` is reserved'],
    ['..', '`..` is reserved'],
    ['__proto__', '`__proto__` is reserved'],
    [' a', 'it begins or ends with white space'],
    ['a ', 'it begins or ends with white space'],
    ['a\u00a0', 'it begins or ends with white space'],
    ['\u3000a', 'it begins or ends with white space'],
    ['\ufeffa', 'it begins or ends with white space'],
    [' ', 'it begins or ends with white space'],
    ['\ud800', 'it holds half of a surrogate pair'],
    ['a\udc00b', 'it holds half of a surrogate pair'],
    ['e\u0301', 'it is not NFC-normalised; call .normalize() on it'],
    ['A\u030a', 'it is not NFC-normalised'],
    ['\u212b', 'it is not NFC-normalised'],
    ['\u1100\u1161', 'it is not NFC-normalised'],
  ])('may not be %j', (name, why) => {
    expect(() => assertName('agent', name)).toThrow(TypeError)
    expect(() => assertName('agent', name)).toThrow(`Expected \`agent\` to be a name, got ${JSON.stringify(name)}: ${why}`)
    expect(slowIsName(name)).toBe(false)
  })

  test('has at most 128 UTF-16 code units, of which an emoji takes two', () => {
    expect(['a'.repeat(128), '\u{1f916}'.repeat(64)].map(isName)).toEqual([true, true])
    expect(['a'.repeat(129), '\u{1f916}'.repeat(65), `a${'\u{1f916}'.repeat(64)}`].map(isName)).toEqual([false, false, false])
    expect(MAX_NAME_LENGTH).toBe(128)
  })

  test('that is too long is shown by its first forty characters only', () => {
    const fault = `got "${'a'.repeat(40)}": it is 1000000 characters long; the limit is 128.`
    expect(() => assertName('agent', 'a'.repeat(1_000_000))).toThrow(fault)
  })

  test.each([undefined, null, 1, true, 1n, {}, ['a'], Object('a'), Symbol('a'), () => 'a'])('is a string: not %s', (value) => {
    expect(isName(value)).toBe(false)
  })

  test('follows the written rule, whatever it is made of', () => {
    const odd = fc.constantFrom(
      '',
      ' ',
      '/',
      '*',
      '.',
      '..',
      '\0',
      '\u0085',
      '\u00a0',
      '\u2028',
      '\ufeff',
      '\ud800',
      '\udc00',
      'e\u0301',
      '\u{1f916}',
    )
    const anything = fc.oneof(
      fc.string(),
      fc.string({ unit: 'binary' }),
      fc.array(fc.oneof(odd, fc.string()), { maxLength: 4 }).map((parts) => parts.join('')),
    )
    fc.assert(
      fc.property(anything, (name) => {
        expect(isName(name)).toBe(slowIsName(name))
      }),
      { numRuns: 5_000 },
    )
  })

  test('is written by JSON as it is, so that no parser has to undo an escape', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (name) => {
        fc.pre(isName(name))
        expect(JSON.stringify(name)).toBe(`"${name}"`)
      }),
    )
  })

  test('two names that differ never become the same by normalisation', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'grapheme' }), (one, other) => {
        fc.pre(isName(one) && isName(other) && one !== other)
        expect(one.normalize('NFC')).not.toBe(other.normalize('NFC'))
      }),
    )
  })

  // The rule is about what can be stored and compared, not about what can be told apart by eye.
  test.each([
    ['letters of other scripts that look the same', 'p\u0430ypal', 'paypal'],
    ['compatibility forms', '\uff41dmin', 'admin'],
    ['invisible characters', 'adm\u200bin', 'admin'],
    ['overrides of the reading direction', 'adm\u202ein', 'admin'],
  ])('may hold %s: it is another name, not the same one', (_, one, other) => {
    expect([one, other].map(isName)).toEqual([true, true])
    expect(one).not.toBe(other)
  })
})

describe('a path', () => {
  test('is one to eight names with slashes between them', () => {
    expect(parsePath('budget', 'acme')).toEqual(['acme'])
    expect(parsePath('budget', 'acme/report-7/\u{1f916}')).toEqual(['acme', 'report-7', '\u{1f916}'])
    const deepest = Array.from({ length: MAX_PATH_DEPTH }, () => 'a'.repeat(MAX_NAME_LENGTH)).join('/')
    expect(parsePath('budget', deepest)).toHaveLength(8)
  })

  test.each(['', '/', 'a/', '/a', 'a//b', 'a/../b', './a', 'a/*', '*', 'a/__proto__', 'a/ b', 'a/b\n', 'a/e\u0301'])(
    'is not %j',
    (path) => {
      expect(() => parsePath('budget', path)).toThrow(TypeError)
      expect(() => parsePath('budget', path)).toThrow('Expected `budget` to be a name')
    },
  )

  test.each([
    ['nine names', 'a/b/c/d/e/f/g/h/i', 'at most 8 levels deep, got 9'],
    ['a million slashes', '/'.repeat(1_000_000), 'at most 8 names long, got 1000000 characters'],
  ])('has not %s', (_, path, message) => {
    expect(() => parsePath('budget', path)).toThrow(RangeError)
    expect(() => parsePath('budget', path)).toThrow(`Expected \`budget\` to be ${message}`)
  })

  test.each([undefined, null, 1, ['a'], { length: 1, split: () => ['a'] }])('is a string: not %j', (path) => {
    expect(() => parsePath('budget', path)).toThrow(/^Expected `budget` to be a path such as 'acme\/report-7', got /)
  })

  test('joined again is the same path', () => {
    const names = fc.array(fc.string({ unit: 'grapheme' }).filter(isName), { minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(names, (given) => {
        expect(parsePath('budget', given.join('/'))).toEqual(given)
      }),
    )
  })
})
