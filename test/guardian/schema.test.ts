// Schemas in rules: zod, and anything with the Standard Schema interface. A schema that cannot answer refuses, and so
// does one that answers oddly; what a schema changes is not what the tool gets.

import { describe, expect, test } from 'vitest'
import * as z from 'zod'
import type { Rule } from '../../src/waist/rule.ts'
import type { StandardSchema } from '../../src/waist/rule.ts'
import { openWith, scopeOf, tried, verdictOf } from './guard.ts'

const handmade = (validate: StandardSchema['~standard']['validate']): StandardSchema => ({ '~standard': { validate } })
const allowed = (schema: StandardSchema): readonly Rule[] => [{ effect: 'allow', tool: 'pay', schema }]

describe('a zod schema', () => {
  const schema = z.object({ to: z.enum(['bob', 'eve']), usd: z.number().min(0).max(10) })

  test.each<[unknown, string]>([
    [{ to: 'bob', usd: 10 }, 'allow'],
    [{ to: 'bob', usd: 11 }, 'deny'],
    [{ to: 'mallory', usd: 1 }, 'deny'],
    [{ to: 'bob' }, 'deny'],
    [{ to: 'bob', usd: '1' }, 'deny'],
    [[{ to: 'bob', usd: 1 }], 'deny'],
    [{}, 'deny'],
    [undefined, 'deny'],
    [null, 'deny'],
    ['bob', 'deny'],
  ])('decides on %j: %s', async (args, verdict) => {
    expect(await verdictOf(allowed(schema), { tool: 'pay', args })).toBe(verdict)
  })

  test('of any object takes a call without arguments for an empty object', async () => {
    for (const args of [undefined, null, {}]) expect(await verdictOf(allowed(z.object({})), { tool: 'pay', args })).toBe('allow')
  })

  test('lets arguments pass that it does not name, unless it is strict', async () => {
    const args = { to: 'bob', usd: 1, overdraft: true }
    expect(await verdictOf(allowed(schema), { tool: 'pay', args })).toBe('allow')
    expect(await verdictOf(allowed(schema.strict()), { tool: 'pay', args })).toBe('deny')
  })

  // Not closed: the rule looks at what the schema made of the argument, the tool gets the argument itself.
  test('that converts decides on what it made of the argument: the tool gets the string all the same', async () => {
    const converting = z.object({ usd: z.coerce.number().max(10) })
    const args = { usd: '1' }
    expect(await verdictOf(allowed(converting), { tool: 'pay', args })).toBe('allow')
    expect(args).toEqual({ usd: '1' })
    expect(await verdictOf(allowed(z.object({ usd: z.number().max(10) })), { tool: 'pay', args })).toBe('deny')
  })

  test('that fills in a default lets a call pass that has no such argument', async () => {
    const filling = z.object({ usd: z.number().max(10).default(1) })
    expect(await verdictOf(allowed(filling), { tool: 'pay', args: {} })).toBe('allow')
    expect(await verdictOf(allowed(z.object({ usd: z.number().max(10) })), { tool: 'pay', args: {} })).toBe('deny')
  })

  test('that asks somebody else is waited for', async () => {
    const slow = z.object({ to: z.string().refine(async (to) => (await Promise.resolve(to)) === 'bob') })
    expect(await verdictOf(allowed(slow), { tool: 'pay', args: { to: 'bob' } })).toBe('allow')
    expect(await verdictOf(allowed(slow), { tool: 'pay', args: { to: 'eve' } })).toBe('deny')
  })

  test('beside constraints has to be met as well', async () => {
    const rules: readonly Rule[] = [{ effect: 'allow', tool: 'pay', schema, where: { to: 'bob' } }]
    expect(await verdictOf(rules, { tool: 'pay', args: { to: 'bob', usd: 1 } })).toBe('allow')
    expect(await verdictOf(rules, { tool: 'pay', args: { to: 'eve', usd: 1 } })).toBe('deny')
    expect(await verdictOf(rules, { tool: 'pay', args: { to: 'bob', usd: 11 } })).toBe('deny')
  })

  test('in a rule that denies or asks says what that rule is about', async () => {
    const dear = z.object({ usd: z.number().min(100) })
    for (const effect of ['deny', 'ask'] as const) {
      const rules: readonly Rule[] = [
        { effect: 'allow', tool: 'pay' },
        { effect, tool: 'pay', schema: dear },
      ]
      expect(await verdictOf(rules, { tool: 'pay', args: { usd: 500 } })).toBe(effect)
      expect(await verdictOf(rules, { tool: 'pay', args: { usd: 5 } })).toBe('allow')
      // Not closed: a schema only knows yes and no, so another type dodges it. Deny with `where`, or allow by schema.
      expect(await verdictOf(rules, { tool: 'pay', args: { usd: '500' } })).toBe('allow')
    }
  })
})

const BROKEN = /^the schema is broken$|^Cannot read properties of (?:undefined|null) \(reading 'issues'\)$/

describe('a schema by hand', () => {
  test.each<[string, StandardSchema['~standard']['validate'], string]>([
    ['no issues', () => ({ value: 1 }) as object, 'allow'],
    ['issues that are undefined', () => ({ issues: undefined }), 'allow'],
    ['a promise of no issues', async () => ({}), 'allow'],
    ['one issue', () => ({ issues: [{ message: 'no' }] }), 'deny'],
    ['a promise of an issue', async () => ({ issues: [{ message: 'no' }] }), 'deny'],
    ['an empty list of issues', () => ({ issues: [] }), 'deny'],
    ['issues that are null', () => ({ issues: null }) as never, 'deny'],
    ['issues that are false', () => ({ issues: false }) as never, 'deny'],
  ])('that answers with %s', async (_, validate, verdict) => {
    expect(await verdictOf(allowed(handmade(validate)), { tool: 'pay' })).toBe(verdict)
  })

  test.each<[string, () => unknown]>([
    [
      'throws',
      () => {
        throw new Error('the schema is broken')
      },
    ],
    ['rejects', () => Promise.reject(new Error('the schema is broken'))],
    ['answers nothing', () => undefined],
    ['answers null', () => null],
    ['promises nothing', () => Promise.resolve()],
  ])('that %s refuses: nothing is allowed, held or run, beside any other rule', async (_, validate) => {
    const rules: readonly Rule[] = [...allowed(handmade(validate as never)), { effect: 'allow', tool: '*' }]
    await expect(verdictOf(rules, { tool: 'pay' })).rejects.toThrow(BROKEN)
    const kernel = await openWith(rules)
    const scope = scopeOf(kernel)
    let ran = false
    const run = scope.run({ kind: 'tool', resource: 'pay', worst: { calls: 1 } }, async () => (ran = true))
    await expect(run).rejects.toThrow(BROKEN)
    await expect(scope.decide({ kind: 'tool', resource: 'pay' })).rejects.toThrow(BROKEN)
    expect(ran).toBe(false)
    expect(kernel.auditLines.filter((line) => line.includes('"intent"'))).toEqual([])
    expect(await kernel.budgets('acme')).toMatchObject([{ spent: 0, out: 0 }])
    expect(await tried(scope, 'search')).toBe('passed')
  })

  test('is asked only about the agents, tools and arguments of its rule', async () => {
    const asked: unknown[] = []
    const schema = handmade((value) => {
      asked.push(value)
      return {}
    })
    const rules: readonly Rule[] = [{ effect: 'allow', agent: 'ann', tool: 'pay', where: { usd: 1 }, schema }]
    for (const question of [{ tool: 'read' }, { agent: 'bob', tool: 'pay' }, { tool: 'pay', args: { usd: 2 } }])
      expect(await verdictOf(rules, question)).toBe('deny')
    expect(asked).toEqual([])
    expect(await verdictOf(rules, { tool: 'pay', args: { usd: 1, to: 'bob' } })).toBe('allow')
    expect(asked).toEqual([{ usd: 1, to: 'bob' }])
  })
})
