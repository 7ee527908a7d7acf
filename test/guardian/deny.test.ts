// Can a model dodge a rule by how it writes an argument? Not by another type, by an array for an object, or by a path
// that climbs: where it is unclear whether a rule applies, it applies if that is stricter. By another value that means
// the same to the tool: yes. So the closed form is an `allow` of what is meant, and nothing else.

import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Rule } from '../../src/waist/rule.ts'
import { canonicalJson } from '../../src/lib/canonical-json.ts'
import { openWith, scopeOf, tried, verdictOf } from './guard.ts'

const everything: Rule = { effect: 'allow', tool: '*' }
const cheap: Rule = { effect: 'allow', tool: 'pay', where: { usd: { min: 0, max: 100 } } }
const dear: Rule['where'] = { usd: { min: 100.01 } }
const secret: Rule['where'] = { path: { prefix: '/secret/' } }

describe('a rule that denies some arguments', () => {
  const rules: readonly Rule[] = [everything, { effect: 'deny', tool: 'pay', where: dear }, { effect: 'deny', tool: 'read', where: secret }]

  test.each<[string, unknown]>([
    ['pay', { usd: 500 }],
    ['pay', { usd: '500' }],
    ['pay', { usd: '5e2' }],
    ['pay', { usd: [500] }],
    ['pay', { usd: { amount: 500 } }],
    ['pay', { usd: true }],
    ['pay', { usd: '1' }],
    ['pay', [500]],
    ['pay', '{"usd":500}'],
    ['pay', 500],
    ['read', { path: '/secret/x' }],
    ['read', { path: ['/secret/x'] }],
    ['read', { path: { toString: '/secret/x' } }],
    ['read', { path: '/secret/./x' }],
    ['read', { path: '/public/../secret/x' }],
    ['read', { path: './secret/x' }],
    ['read', { path: '/public/%2e%2e/secret/x' }],
    ['read', { path: '/secret/x\0.png' }],
    ['read', ['/secret/x']],
  ])('denies %s with %j', async (tool, args) => {
    expect(await verdictOf(rules, { tool, args })).toBe('deny')
  })

  test.each<[string, unknown]>([
    ['pay', { usd: 100 }],
    ['pay', { usd: -500 }],
    ['pay', {}],
    ['pay', { usd: null }],
    ['pay', undefined],
    ['read', { path: '/public/x' }],
    ['read', { path: 'secret' }],
    ['read', {}],
  ])('lets %s pass with %j, which it is certainly not about', async (tool, args) => {
    expect(await verdictOf(rules, { tool, args })).toBe('allow')
  })

  // Not closed: the tool may take these for the same. A rule cannot know every name of a thing.
  test.each<[string, unknown]>([
    ['pay', { USD: 500 }],
    ['pay', { cents: 50_000 }],
    ['pay', { usd: 100, times: 5 }],
    ['read', { path: '/SECRET/x' }],
    ['read', { path: '//secret/x' }],
    ['read', { path: '/tmp/link-to-secret/x' }],
    ['read', { file: '/secret/x' }],
  ])('does not know that %s with %j may mean the same', async (tool, args) => {
    expect(await verdictOf(rules, { tool, args })).toBe('allow')
  })
})

describe('a rule that asks for some arguments', () => {
  const over: readonly Rule[] = [
    { effect: 'allow', tool: 'pay' },
    { effect: 'ask', tool: 'pay', where: dear },
  ]

  test('asks also where it is unclear, beside a rule that allows', async () => {
    for (const usd of [500, '500', [500], '1', true]) expect(await verdictOf(over, { tool: 'pay', args: { usd } })).toBe('ask')
    for (const args of [{ usd: 5 }, {}, { usd: null }]) expect(await verdictOf(over, { tool: 'pay', args })).toBe('allow')
  })

  test('does not ask where it is unclear and nothing else allows: a person is not asked what no rule is about', async () => {
    const only: readonly Rule[] = [{ effect: 'ask', tool: 'pay', where: { usd: { min: 0, max: 100 } } }]
    expect(await verdictOf(only, { tool: 'pay', args: { usd: 50 } })).toBe('ask')
    for (const args of [{ usd: '50' }, { usd: '9999' }, { usd: [50] }, [50], {}])
      expect(await verdictOf(only, { tool: 'pay', args })).toBe('deny')
  })
})

describe('the closed form: allow what is meant', () => {
  const oneOf: Rule = { effect: 'allow', tool: 'mail', where: { to: { oneOf: ['ann@example.com', 'bob@example.com'] } } }
  const below: Rule = { effect: 'allow', tool: 'read', where: { path: { prefix: '/public/' } } }
  const rules = [cheap, oneOf, below]
  const odd = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom('50', ' 50', '0x32', '5e1', [50], { valueOf: 50 }, true, null, 'ANN@example.com', 'ann@example.com ', [
      'ann@example.com',
    ]),
    fc.constantFrom(
      '/public/../secret',
      '/PUBLIC/x',
      'public/x',
      '//public/x',
      '/public',
      ['/public/x'],
      '/public/%2e%2e/x',
      '/public/..;/x',
    ),
  )

  test('lets nothing else pass, whatever a model writes for the argument', async () => {
    const meant: Readonly<Record<string, (value: unknown) => boolean>> = {
      usd: (value) => typeof value === 'number' && value >= 0 && value <= 100,
      to: (value) => value === 'ann@example.com' || value === 'bob@example.com',
      path: (value) => typeof value === 'string' && /^\/public\/[\w.-]*$/.test(value) && !/\/\.+$/.test(value),
    }
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom<[string, string]>(['pay', 'usd'], ['mail', 'to'], ['read', 'path']),
        odd,
        async ([tool, name], value) => {
          const passes = (await verdictOf(rules, { tool, args: { [name]: value } })) === 'allow'
          // What passes may be more than this simple reading of a path, and never a value that is refused elsewhere.
          fc.pre(!(passes && name === 'path' && typeof value === 'string' && value.startsWith('/public/')))
          expect(passes).toBe(meant[name]!(value))
        },
      ),
      { numRuns: 3_000 },
    )
  })

  test('lets nothing pass by leaving the argument out, by another name for it, or by no object at all', async () => {
    for (const args of [undefined, null, {}, { USD: 1 }, { ' usd': 1 }, [1], 'usd', 1, [{ usd: 1 }], { args: { usd: 1 } }])
      expect(await verdictOf(rules, { tool: 'pay', args })).toBe('deny')
  })

  test('holds in the kernel as in the gate', async () => {
    const scope = scopeOf(await openWith(rules))
    expect(await tried(scope, 'pay', { usd: 100 })).toBe('passed')
    for (const args of [{ usd: '100' }, { usd: 101 }, [100], {}]) expect(await tried(scope, 'pay', args)).toBe('ERR_PERMISSION_DENIED')
  })
})

test('unclear never helps: with any rules and arguments, replacing a value by one that cannot be judged makes no answer milder', async () => {
  const effects = fc.constantFrom('allow' as const, 'ask' as const, 'deny' as const)
  const constraint = fc.constantFrom('x', 1, { oneOf: ['x', 'y'] }, { min: 0, max: 5 }, { prefix: 'x/' })
  const rule = fc.record({
    effect: effects,
    tool: fc.constant('read'),
    where: fc.dictionary(fc.constantFrom('a', 'b'), constraint, { maxKeys: 2 }),
  })
  const value = fc.constantFrom<unknown>('x', 'y', 'x/1', 1, 3, 9, null)
  const strictness = { allow: 0, ask: 1, deny: 2 }
  await fc.assert(
    fc.asyncProperty(fc.array(rule, { maxLength: 5 }), value, value, async (given, a, b) => {
      const rules = given.map((one) => ({ ...one, where: { ...one.where } }))
      const judged = await verdictOf(rules, { args: { a, b } })
      // An array is what no constraint of these can judge.
      const unclear = await verdictOf(rules, { args: { a: [a], b } })
      expect(strictness[unclear]).toBeGreaterThanOrEqual(strictness[judged])
    }),
    { numRuns: 2_000 },
  )
})

test('arguments that mean the same as JSON are judged the same', async () => {
  const rules: readonly Rule[] = [cheap]
  await fc.assert(
    fc.asyncProperty(fc.dictionary(fc.constantFrom('usd', 'to', 'note'), fc.jsonValue()), async (args) => {
      const again: unknown = JSON.parse(canonicalJson(args))
      expect(await verdictOf(rules, { tool: 'pay', args: again })).toBe(await verdictOf(rules, { tool: 'pay', args }))
    }),
  )
})
