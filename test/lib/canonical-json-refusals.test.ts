// What canonical JSON has no text for is refused, and the error names the place. What is no plain JSON object but
// can be read as one (null prototypes, other realms, getters, `__proto__` members) is written as what it holds.

import { createContext, runInContext } from 'node:vm'
import { describe, expect, test } from 'vitest'
import { MAX_JSON_DEPTH, assertJson, canonicalJson, isPlainObject } from '../../src/lib/canonical-json.ts'

class Point {
  x = 1
}

function nested(levels: number, wrap: (inner: unknown) => unknown): unknown {
  let value: unknown = 1
  for (let level = 0; level < levels; level++) value = wrap(value)
  return value
}

describe('is refused, naming the place:', () => {
  const CYCLE: Record<string, unknown> = {}
  CYCLE['self'] = { again: CYCLE }

  test.each<[string, unknown, RegExp]>([
    ['undefined', undefined, /^a value of type undefined at /],
    ['a function', () => 1, /^a value of type function at /],
    ['a symbol', Symbol('s'), /^a value of type symbol at /],
    ['a BigInt', 1n, /^a value of type bigint at /],
    ['NaN', Number.NaN, /^NaN at /],
    ['Infinity', Infinity, /^Infinity at /],
    ['-Infinity', -Infinity, /^-Infinity at /],
    ['a Date', new Date(0), /^an object of class Date at /],
    ['a Map', new Map([['a', 1]]), /^an object of class Map at /],
    ['a Set', new Set([1]), /^an object of class Set at /],
    ['a RegExp', /x/, /^an object of class RegExp at /],
    ['a Buffer', Buffer.from('x'), /^an object of class Buffer at /],
    ['an ArrayBuffer', new ArrayBuffer(1), /^an object of class ArrayBuffer at /],
    ['a Promise', Promise.resolve(1), /^an object of class Promise at /],
    ['an Error', new Error('x'), /^an object of class Error at /],
    ['a boxed string', Object('x'), /^an object of class String at /],
    ['an instance of a class', new Point(), /^an object of class Point at /],
    ['an object that inherits from a plain one', Object.create({ a: 1 }), /^an object of class Object at /],
    ['an object that inherits from one without a prototype', Object.create(Object.create(null)), /^an object of class unknown at /],
    ['half of a surrogate pair', 'a\ud800b', /^half of a surrogate pair at /],
    ['the other half', '\udc00', /^half of a surrogate pair at /],
    ['both halves in the wrong order', '\udc00\ud800', /^half of a surrogate pair at /],
  ])('%s', (_, value, message) => {
    const places: readonly (readonly [unknown, string])[] = [
      [value, 'the top'],
      [[value], '$[0]'],
      [[1, [2, value]], '$[1][1]'],
      [{ a: value }, '$.a'],
      [{ a: { b: [{ c: value }] } }, '$.a.b[0].c'],
    ]
    for (const [given, place] of places) {
      const error = refusalOf(() => canonicalJson(given))
      expect(error).toBeInstanceOf(TypeError)
      expect(error.message).toMatch(message)
      expect(error.message).toContain(`at ${place}`)
      expect(refusalOf(() => assertJson('answer', given)).message).toBe(`\`answer\` is not JSON: ${error.message}`)
    }
  })

  test('half of a surrogate pair in a key', () => {
    expect(() => canonicalJson({ a: { '\ud83d': 1 } })).toThrow(/^half of a surrogate pair at \$\.a\.\ud83d/)
    expect(canonicalJson({ '\ud83d\ude00': 1 })).toBe('{"\ud83d\ude00":1}')
  })

  test('a hole in an array', () => {
    // oxlint-disable-next-line no-sparse-arrays
    expect(() => canonicalJson([1, , 3])).toThrow(/^a value of type undefined at \$\[1\]/)
  })

  test('a cycle of objects, and one of arrays', () => {
    const array: unknown[] = []
    array.push([array])
    for (const cycle of [CYCLE, array]) {
      const error = refusalOf(() => canonicalJson(cycle))
      expect(error).toBeInstanceOf(RangeError)
      expect(error.message).toMatch(/^nested deeper than 256 levels at \$[.[].*\(a cycle\?\)/)
      expect(error.message.length).toBeLessThan(200)
    }
  })

  test('a method toJSON, which is a member like any other and is not called', () => {
    const value = {
      toJSON() {
        throw new Error('it was called')
      },
    }
    expect(() => canonicalJson(value)).toThrow(/^a value of type function at \$\.toJSON/)
    expect(canonicalJson({ toJSON: 1 })).toBe('{"toJSON":1}')
  })

  test('a key of a thousand characters is named by its first forty', () => {
    const error = refusalOf(() => canonicalJson({ ['k'.repeat(1_000)]: undefined }))
    expect(error.message).toBe(`a value of type undefined at $.${'k'.repeat(40)}.`)
  })
})

test.each<[string, (inner: unknown) => unknown]>([
  ['arrays', (inner) => [inner]],
  ['objects', (inner) => ({ a: inner })],
])('256 levels of %s are written, and 257 are refused', (_, wrap) => {
  const deepest = nested(MAX_JSON_DEPTH, wrap)
  expect(canonicalJson(deepest)).toBe(JSON.stringify(deepest))
  expect(() => canonicalJson(wrap(deepest))).toThrow(RangeError)
  expect(() => canonicalJson(nested(100_000, wrap))).toThrow(RangeError)
})

test('one object in two places is no cycle', () => {
  const shared = { a: 1 }
  expect(canonicalJson({ b: shared, c: [shared, shared] })).toBe('{"b":{"a":1},"c":[{"a":1},{"a":1}]}')
})

describe('dropUndefined', () => {
  test('leaves out members that are undefined, at any depth, and nothing else', () => {
    const value = { z: undefined, a: { y: undefined, b: null, c: [{ d: undefined }] }, e: 0, f: '', g: false }
    expect(canonicalJson(value, { dropUndefined: true })).toBe('{"a":{"b":null,"c":[{}]},"e":0,"f":"","g":false}')
    expect(canonicalJson(value, { dropUndefined: true })).toBe(canonicalJson(JSON.parse(JSON.stringify(value))))
  })

  test.each([{}, { dropUndefined: false }, undefined])('is off by default (%j)', (options) => {
    expect(() => canonicalJson({ a: undefined }, options)).toThrow(/undefined at \$\.a/)
  })

  test('does not reach elements of arrays nor the top, where leaving out would mean another value', () => {
    expect(() => canonicalJson([undefined], { dropUndefined: true })).toThrow(/undefined at \$\[0\]/)
    expect(() => canonicalJson(undefined, { dropUndefined: true })).toThrow(/undefined at the top/)
  })
})

describe('objects that are not literals', () => {
  test('without a prototype are plain', () => {
    const bare = Object.assign(Object.create(null) as object, { b: 1, a: [Object.create(null)] })
    expect(canonicalJson(bare)).toBe('{"a":[{}],"b":1}')
  })

  test('of another realm are plain, its arrays too, and its classes are refused', () => {
    const context = createContext({})
    expect(canonicalJson(runInContext('({ b: [1, { c: null }], a: "x" })', context))).toBe('{"a":"x","b":[1,{"c":null}]}')
    expect(canonicalJson(runInContext('JSON.parse(\'{"__proto__":1}\')', context))).toBe('{"__proto__":1}')
    for (const source of ['new Date(0)', 'new Map()', 'new (class A {})', 'Object.create({ a: 1 })', '(() => 1)', 'new Error("x")']) {
      expect(() => canonicalJson(runInContext(source, context))).toThrow(TypeError)
    }
  })

  test('with members named like parts of JavaScript are written as what they hold', () => {
    const text = '{"__proto__":{"a":1},"constructor":"c","hasOwnProperty":2,"prototype":null,"valueOf":[]}'
    expect(canonicalJson(JSON.parse(text))).toBe(text)
    const inherits = { __proto__: { hidden: 1 } }
    expect(() => canonicalJson(inherits)).toThrow(/class Object at the top/)
  })

  test('are read once per member where they have getters, and a getter that throws is not hidden', () => {
    let reads = 0
    const value = {
      get a() {
        return ++reads
      },
    }
    expect(canonicalJson(value)).toBe('{"a":1}')
    const failing = {
      get a() {
        throw new Error('no value')
      },
    }
    expect(() => canonicalJson(failing)).toThrow('no value')
  })

  test('show what is enumerable and has a string for a key, as JSON.stringify does', () => {
    const value = Object.defineProperty({ a: 1, [Symbol('s')]: 2 }, 'hidden', { value: 3, enumerable: false })
    expect(canonicalJson(value)).toBe(JSON.stringify(value))
    expect(canonicalJson(Object.assign([1], { extra: 2 }))).toBe('[1]')
  })

  test('that are proxies of plain objects are plain', () => {
    expect(canonicalJson(new Proxy({ b: 1, a: 2 }, {}))).toBe('{"a":2,"b":1}')
  })
})

test.each<[string, unknown, boolean]>([
  ['a literal', {}, true],
  ['an object without a prototype', Object.create(null), true],
  ['an object of another realm', runInContext('({})', createContext({})), true],
  ['null', null, false],
  ['an array', [], false],
  ['an array of another realm', runInContext('[]', createContext({})), false],
  ['a function', () => 1, false],
  ['a string', 'x', false],
  ['a Map', new Map(), false],
  ['an instance', new Point(), false],
  ['an heir of an object without a prototype', Object.create(Object.create(null)), false],
])('%s is a plain object: %#', (_, value, plain) => {
  expect(isPlainObject(value)).toBe(plain)
})

function refusalOf(write: () => unknown): Error {
  try {
    write()
  } catch (error) {
    if (error instanceof Error) return error
  }
  throw new Error('It was not refused.')
}
