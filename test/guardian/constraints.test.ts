// Constraints on arguments. `judged` asks twice: does a rule that allows with this constraint let the argument pass,
// and does one that denies with it stop it? What a constraint cannot judge passes nowhere and is stopped everywhere.
// Prefixes have a file of their own.

import { describe, expect, test } from 'vitest'
import type { Rule } from '../../src/waist/rule.ts'
import { assertConstraint, meets } from '../../src/guardian/constraints.ts'
import type { Constraint } from '../../src/waist/rule.ts'
import { judged, verdictOf } from './guard.ts'

/** Meets the constraint: passes where that allows, is stopped where that denies. */
const MEETS = 'both'
/** Certainly does not meet it. */
const MISSES = 'neither'
/** Cannot be judged. */
const UNCLEAR = 'is stopped'

describe('an exact value', () => {
  test.each<[Constraint, unknown, string]>([
    ['x', 'x', MEETS],
    ['x', 'X', MISSES],
    ['x', 'x ', MISSES],
    ['x', '\u0445', MISSES],
    ['x', '', MISSES],
    ['\u00e9', 'e\u0301', MISSES],
    ['x', undefined, MISSES],
    ['x', null, MISSES],
    ['x', 1, UNCLEAR],
    ['x', true, UNCLEAR],
    ['x', ['x'], UNCLEAR],
    ['x', { toString: 'x' }, UNCLEAR],
    [1, 1, MEETS],
    [1, 2, MISSES],
    [1, '1', UNCLEAR],
    [1, true, UNCLEAR],
    [0, -0, MEETS],
    [0, false, UNCLEAR],
    [0, '', UNCLEAR],
    [0, null, MISSES],
    [true, true, MEETS],
    [true, false, MISSES],
    [true, 'true', UNCLEAR],
    [true, 1, UNCLEAR],
    [false, undefined, MISSES],
    [null, null, MEETS],
    [null, undefined, MISSES],
    [null, 'null', MISSES],
    [null, 0, MISSES],
  ])('%j and the argument %j: %s', async (constraint, value, expected) => {
    expect(await judged(constraint, value)).toBe(expected)
  })
})

describe('oneOf', () => {
  test.each<[readonly (string | number | boolean | null)[], unknown, string]>([
    [['a', 'b'], 'b', MEETS],
    [['a', 'b'], 'c', MISSES],
    [['a', 'b'], 'a,b', MISSES],
    [['a', 'b'], ['a'], UNCLEAR],
    [['a', 'b'], 0, UNCLEAR],
    [['a', 'b'], undefined, MISSES],
    [['a', 'b'], null, MISSES],
    [['a', null], null, MEETS],
    [['a', null], {}, UNCLEAR],
    [[1, '1', true], '1', MEETS],
    [[1, '1', true], '2', MISSES],
    [[1, true], '1', UNCLEAR],
    [[null], 'x', UNCLEAR],
    [[0], -0, MEETS],
    [[], 'a', MISSES],
    [[], undefined, MISSES],
  ])('%j and the argument %j: %s', async (oneOf, value, expected) => {
    expect(await judged({ oneOf }, value)).toBe(expected)
  })
})

describe('a range', () => {
  test.each<[Constraint, unknown, string]>([
    [{ min: 1, max: 10 }, 1, MEETS],
    [{ min: 1, max: 10 }, 10, MEETS],
    [{ min: 1, max: 10 }, 5.5, MEETS],
    [{ min: 1, max: 10 }, 0.999, MISSES],
    [{ min: 1, max: 10 }, 10.000001, MISSES],
    [{ min: 1, max: 10 }, -5, MISSES],
    [{ min: 1, max: 10 }, '5', UNCLEAR],
    [{ min: 1, max: 10 }, '', UNCLEAR],
    [{ min: 1, max: 10 }, [5], UNCLEAR],
    [{ min: 1, max: 10 }, { valueOf: 5 }, UNCLEAR],
    [{ min: 0, max: 10 }, true, UNCLEAR],
    [{ min: 0, max: 10 }, null, MISSES],
    [{ min: 0, max: 10 }, undefined, MISSES],
    [{ min: 0 }, -0, MEETS],
    [{ max: 0 }, -0, MEETS],
    [{ min: 0 }, Number.MAX_VALUE, MEETS],
    [{ max: 0 }, Number.MIN_VALUE, MISSES],
    [{ min: 5, max: 5 }, 5, MEETS],
  ])('%j and the argument %j: %s', async (constraint, value, expected) => {
    expect(await judged(constraint, value)).toBe(expected)
  })

  // No JSON has these; a gate that is asked directly may still be handed them.
  test.each([Number.NaN, Infinity, -Infinity, 5n, new Number(5), new Date(5)])('judges %s not', (value) => {
    for (const constraint of [{ min: 1, max: 10 }, { min: -1e308 }, { max: 1e308 }]) expect(meets(value, constraint)).toBe('unclear')
  })
})

describe('an argument that is not there', () => {
  const CONSTRAINTS: readonly Constraint[] = ['x', '', 0, false, null, { oneOf: ['x', null] }, { prefix: '/' }, { min: -1 }, { max: 1 }]

  test.each(['constructor', 'toString', 'hasOwnProperty', 'valueOf', '__proto__', '__defineGetter__', 'length', '0', 'missing'])(
    'meets no constraint: %s',
    async (name) => {
      for (const constraint of CONSTRAINTS) {
        const where = Object.fromEntries([[name, constraint]])
        for (const args of [{}, undefined, null, { other: 1 }]) {
          expect(await verdictOf([{ effect: 'allow', tool: 'read', where }], { args })).toBe('deny')
          expect(
            await verdictOf(
              [
                { effect: 'allow', tool: '*' },
                { effect: 'deny', tool: 'read', where },
              ],
              { args },
            ),
          ).toBe('allow')
        }
      }
    },
  )

  test('is one that is inherited, or hidden: only what is in the hash counts', async () => {
    const rules: readonly Rule[] = [{ effect: 'allow', tool: 'read', where: { path: 'x' } }]
    const hidden = Object.defineProperty({}, 'path', { value: 'x', enumerable: false })
    for (const args of [Object.create({ path: 'x' }), { __proto__: { path: 'x' } }, hidden])
      expect(await verdictOf(rules, { args })).toBe('deny')
    expect(await verdictOf(rules, { args: { path: 'x' } })).toBe('allow')
    expect(await verdictOf(rules, { args: Object.assign(Object.create(null), { path: 'x' }) })).toBe('allow')
  })

  test('is not made one by arguments that name the prototype', async () => {
    const rules: readonly Rule[] = [{ effect: 'allow', tool: 'read', where: { admin: true } }]
    for (const text of ['{"__proto__":{"admin":true}}', '{"constructor":{"prototype":{"admin":true}}}'])
      expect(await verdictOf(rules, { args: JSON.parse(text) })).toBe('deny')
    expect(Object.hasOwn(Object.prototype, 'admin')).toBe(false)
  })

  test('can be called __proto__, and is there when it is', async () => {
    const where = JSON.parse('{"__proto__":"x"}') as { [name: string]: string }
    const rules: readonly Rule[] = [{ effect: 'allow', tool: 'read', where }]
    expect(await verdictOf(rules, { args: JSON.parse('{"__proto__":"x"}') })).toBe('allow')
    expect(await verdictOf(rules, { args: JSON.parse('{"__proto__":"y"}') })).toBe('deny')
    expect(await verdictOf(rules, { args: {} })).toBe('deny')
  })
})

describe('arguments that are no object', () => {
  test.each([[['x']], ['x'], [1], [true], [[[]]]])(
    '%j have no named ones: nothing is allowed by them, and nothing dodges',
    async (args) => {
      for (const where of [{ 0: 'x' }, { length: { max: 9 } }, { length: 1 }, { path: 'x' }] as readonly (Rule['where'] & object)[]) {
        expect(await verdictOf([{ effect: 'allow', tool: 'read', where }], { args })).toBe('deny')
        expect(
          await verdictOf(
            [
              { effect: 'allow', tool: '*' },
              { effect: 'deny', tool: 'read', where },
            ],
            { args },
          ),
        ).toBe('deny')
      }
      expect(await verdictOf([{ effect: 'allow', tool: 'read' }], { args })).toBe('allow')
      expect(await verdictOf([{ effect: 'allow', tool: 'read', where: {} }], { args })).toBe('allow')
    },
  )
})

describe('several constraints', () => {
  const rules: readonly Rule[] = [{ effect: 'allow', tool: 'pay', where: { to: { oneOf: ['bob', 'eve'] }, usd: { min: 0, max: 10 } } }]

  test.each<[unknown, string]>([
    [{ to: 'bob', usd: 10 }, 'allow'],
    [{ to: 'bob', usd: 10, note: 'anything' }, 'allow'],
    [{ to: 'bob', usd: 11 }, 'deny'],
    [{ to: 'mallory', usd: 1 }, 'deny'],
    [{ to: 'bob' }, 'deny'],
    [{ usd: 1 }, 'deny'],
    [{ to: 'bob', usd: '1' }, 'deny'],
    [{}, 'deny'],
  ])('have to be met all of them: %j: %s', async (args, verdict) => {
    expect(await verdictOf(rules, { tool: 'pay', args })).toBe(verdict)
  })
})

const PREFIXES = ['/', ':', '.', '@', '-', '_', '#', '?', '&', '=', ' ', '\\'].map((end): [unknown] => [{ prefix: `x${end}` }])

describe('what is no constraint', () => {
  test.each<[unknown]>([
    ['x'],
    [''],
    [0],
    [-1.5],
    [true],
    [null],
    [{ oneOf: [] }],
    [{ oneOf: ['a', 1, null, false] }],
    [{ oneOf: Array.from({ length: 1_000 }, () => 'x') }],
    [{ prefix: '/data/' }],
    ...PREFIXES,
    [{ min: 1 }],
    [{ max: 1 }],
    [{ min: -0, max: 0 }],
  ])('but is one, is taken: %j', (constraint) => {
    expect(() => assertConstraint('rules[0].where.arg', constraint)).not.toThrow()
  })

  test.each<[string, unknown]>([
    ['undefined', undefined],
    ['NaN', Number.NaN],
    ['Infinity', Infinity],
    ['a BigInt', 1n],
    ['a symbol', Symbol('s')],
    ['a function', () => true],
    ['a RegExp', /x/],
    ['a Date', new Date(0)],
    ['a list', ['a', 'b']],
    ['an empty object', {}],
    ['an unknown kind', { contains: 'x' }],
    ['two kinds at once', { prefix: '/data/', max: 1 }],
    ['a kind and something else', { min: 1, exclusive: true }],
    ['oneOf without a list', { oneOf: 'ab' }],
    ['oneOf of more than 1,000', { oneOf: Array.from({ length: 1_001 }, () => 'x') }],
    ['oneOf undefined, which a missing argument would meet', { oneOf: [undefined] }],
    ['oneOf objects, which nothing would meet', { oneOf: [{ a: 1 }] }],
    ['oneOf NaN', { oneOf: [Number.NaN] }],
    ['a prefix that ends within a name', { prefix: '/data' }],
    ['an empty prefix', { prefix: '' }],
    ['a prefix that is no string', { prefix: ['/data/'] }],
    ['a prefix that ends at a look-alike of a separator', { prefix: '/data\uff0f' }],
    ['a bound that is a string', { min: '1' }],
    ['a bound that is NaN', { max: Number.NaN }],
    ['a bound that is infinite', { min: -Infinity }],
    ['a bound that is undefined', { min: 1, max: undefined }],
    ['bounds that leave nothing between them', { min: 2, max: 1 }],
    ['inherited bounds', Object.create({ min: 1 })],
  ])('(%s) is a TypeError that names it', (_, constraint) => {
    expect(() => assertConstraint('rules[0].where.arg', constraint)).toThrow(TypeError)
    expect(() => assertConstraint('rules[0].where.arg', constraint)).toThrow('`rules[0].where.arg`')
  })
})
