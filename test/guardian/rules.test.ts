// Rules: deny beats ask, ask beats allow, in whatever order they stand; what no rule allows is denied; and what is not
// certainly a rule is not taken for one.

import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AuthGuardian } from '../../src/guardian/auth-guardian.ts'
import type { Rule } from '../../src/waist/rule.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { times } from '../../src/testing/store-bench.ts'
import { answerOf, openWith, scopeOf, tried, verdictOf } from './guard.ts'

const allow: Rule = { effect: 'allow', tool: 'read' }
const ask: Rule = { effect: 'ask', tool: 'read' }
const deny: Rule = { effect: 'deny', tool: 'read' }

function ordersOf<T>(items: readonly T[]): readonly (readonly T[])[] {
  if (items.length < 2) return [items]
  return items.flatMap((item, index) => ordersOf(items.toSpliced(index, 1)).map((rest) => [item, ...rest]))
}

function covers(pattern: string | string[] | undefined, name: string): boolean {
  return pattern === undefined || [pattern].flat().some((one) => one === '*' || one === name)
}

describe('of the rules that apply, the strictest decides, in every order:', () => {
  test.each<[string, readonly Rule[], string]>([
    ['allow', [allow], 'allow'],
    ['ask', [ask], 'ask'],
    ['deny', [deny], 'deny'],
    ['allow and ask', [allow, ask], 'ask'],
    ['allow and deny', [allow, deny], 'deny'],
    ['ask and deny', [ask, deny], 'deny'],
    ['all three', [allow, ask, deny], 'deny'],
    ['allow for all, deny for one', [{ effect: 'allow', tool: '*' }, deny], 'deny'],
    [
      'deny for all, allow for one',
      [
        { effect: 'deny', tool: '*' },
        { ...allow, agent: 'ann' },
      ],
      'deny',
    ],
    ['ask for one agent, allow for all', [allow, { ...ask, agent: 'ann' }], 'ask'],
    ['deny for another agent', [allow, { ...deny, agent: 'bob' }], 'allow'],
    ['deny of another tool', [allow, { ...deny, tool: 'write' }], 'allow'],
    ['ask only with other arguments', [allow, { ...ask, where: { path: 'x' } }], 'allow'],
  ])('%s', async (_, rules, verdict) => {
    for (const order of ordersOf(rules)) expect(await verdictOf(order)).toBe(verdict)
  })

  test('any rules at all', async () => {
    const agents = fc.constantFrom(undefined, '*', 'ann', 'bob', ['ann', 'bob'], ['*'], [])
    const tools = fc.constantFrom('*', 'read', 'write', ['read', 'write'], [])
    const rule = fc.record({ effect: fc.constantFrom('allow' as const, 'ask' as const, 'deny' as const), agent: agents, tool: tools })
    await fc.assert(
      fc.asyncProperty(fc.array(rule, { maxLength: 6 }), async (given) => {
        const rules = given.map(({ agent, ...rest }) => (agent === undefined ? rest : { ...rest, agent }))
        const effects = given.filter(({ agent, tool }) => covers(agent, 'ann') && covers(tool, 'read')).map(({ effect }) => effect)
        const expected = effects.includes('deny') ? 'deny' : effects.includes('ask') ? 'ask' : effects.includes('allow') ? 'allow' : 'deny'
        expect(await verdictOf(rules)).toBe(expected)
      }),
      { numRuns: 1_000 },
    )
  })
})

describe('a tool that no rule allows', () => {
  test.each<[string, readonly Rule[], string, RegExp]>([
    ['is unknown', [allow], 'write', /^No rule names `write` for `ann`, and unknown tools are denied\.$/],
    ['is known to another agent', [{ ...allow, agent: 'bob' }], 'read', /^No rule names `read` for `ann`/],
    ['is only denied to others', [{ ...deny, agent: 'bob' }], 'read', /^No rule names/],
    [
      'is allowed with other arguments',
      [{ ...allow, where: { path: 'x' } }],
      'read',
      /^No rule allows `read` to `ann` with these arguments\.$/,
    ],
    ['is denied', [deny], 'read', /^A rule denies `read` to `ann`\.$/],
    ['has a name that begins like it', [allow], 'reader', /^No rule names/],
    ['has its name in capitals', [allow], 'READ', /^No rule names/],
    ['has its name in look-alikes', [allow], 'r\u0435ad', /^No rule names/],
    ['has its name with a space', [allow], 'read ', /^No rule names/],
    ['is called `*`', [allow], '*', /^No rule names/],
    ['is called nothing', [allow], '', /^No rule names/],
    ['is named like a method', [allow], 'constructor', /^No rule names/],
    ['is named like the prototype', [allow], '__proto__', /^No rule names/],
  ])('%s: denied', async (_, rules, tool, reason) => {
    const answer = await answerOf(rules, { tool })
    expect(answer).toMatchObject({ verdict: 'deny', reason: expect.stringMatching(reason) })
    expect(answer).toHaveProperty('wouldPass', `a rule { effect: 'allow', agent: 'ann', tool: '${tool}' }`)
  })

  test('whatever its name is, does not write more than one rule into the advice, nor a second line', async () => {
    const tool = "x' }, { effect: 'allow', tool: '*\n`ok`"
    const { wouldPass, reason } = (await answerOf([allow], { tool })) as { wouldPass: string; reason: string }
    expect(wouldPass).toBe("a rule { effect: 'allow', agent: 'ann', tool: 'x\\' }, { effect: \\'allow\\', tool: \\'*\\n`ok`' }")
    expect(reason).not.toContain('\n')
    const asked = (await answerOf([{ effect: 'ask', tool: '*' }], { tool })) as { reason: string }
    expect(asked.reason).not.toContain('\n')
  })

  test('with no rules in the list is any tool', async () => {
    for (const tool of ['read', '*', '']) expect(await verdictOf([], { tool })).toBe('deny')
  })
})

describe('a kernel', () => {
  test('with an empty list of rules denies every tool; without a list no permissions are checked', async () => {
    expect(await tried(scopeOf(await openWith([])), 'read')).toBe('ERR_PERMISSION_DENIED')
    expect(await tried(scopeOf(await openWith(undefined)), 'read')).toBe('passed')
  })

  test('asks about tools only: models, writes and other kinds are not this gate’s business', async () => {
    const scope = scopeOf(await openWith([]))
    for (const kind of ['model', 'write', 'handoff', 'custom']) {
      const hold = await scope.begin({ kind, resource: 'read', worst: { calls: 1 } })
      await hold.release('only asked')
    }
    expect(await tried(scope, 'read')).toBe('ERR_PERMISSION_DENIED')
  })

  test('says no before anything is held, and in observe mode only that it would', async () => {
    const kernel = await openWith([allow])
    expect(await tried(scopeOf(kernel), 'write')).toBe('ERR_PERMISSION_DENIED')
    expect(await kernel.budgets('acme')).toMatchObject([{ spent: 0, out: 0 }])
    const events: string[] = []
    const observing = await openWith([allow], { mode: 'observe', onEvent: ({ type }) => events.push(type) })
    expect([await tried(scopeOf(observing), 'write'), events]).toEqual(['passed', ['would-refuse']])
  })
})

describe('agents and tools of a rule', () => {
  test.each<[string, Partial<Rule>, Record<string, string>]>([
    ['none named', {}, { ann: 'allow', bob: 'allow' }],
    ['`*`', { agent: '*' }, { ann: 'allow', bob: 'allow' }],
    ['one', { agent: 'ann' }, { ann: 'allow', bob: 'deny', '*': 'deny' }],
    ['a list', { agent: ['ann', 'cid'] }, { ann: 'allow', bob: 'deny', cid: 'allow' }],
    ['a list with `*` in it', { agent: ['ann', '*'] }, { ann: 'allow', bob: 'allow' }],
    ['an empty list, which is nobody', { agent: [] }, { ann: 'deny', bob: 'deny' }],
  ])('agents: %s', async (_, agents, expected) => {
    for (const [agent, verdict] of Object.entries(expected)) expect(await verdictOf([{ ...allow, ...agents }], { agent })).toBe(verdict)
  })

  test.each<[string, Rule['tool'], Record<string, string>]>([
    ['one', 'read', { read: 'allow', write: 'deny' }],
    ['a list', ['read', 'search'], { read: 'allow', write: 'deny', search: 'allow' }],
    ['`*`', '*', { read: 'allow', anything: 'allow' }],
    ['an empty list, which is nothing', [], { read: 'deny', '': 'deny' }],
  ])('tools: %s', async (_, tool, expected) => {
    for (const [name, verdict] of Object.entries(expected))
      expect(await verdictOf([{ effect: 'allow', tool }], { tool: name })).toBe(verdict)
  })
})

describe('what is not certainly a rule', () => {
  const make = (rule: unknown): AuthGuardian => new AuthGuardian([allow, rule as Rule], memoryStore())
  const schema = { '~standard': { validate: () => ({}) } }

  test('but is one, is taken', () => {
    const whole = { effect: 'ask', agent: ['ann', '*'], tool: ['read', '*'], where: { path: { prefix: '/data/' } }, schema }
    expect(() => make(whole)).not.toThrow()
    expect(() => make(Object.assign(Object.create(null), whole))).not.toThrow()
    expect(() => make(JSON.parse('{"effect":"deny","tool":"read","where":{"__proto__":1}}'))).not.toThrow()
  })

  test.each<[string, unknown, string]>([
    ['a field too many', { ...allow, when: 'always' }, '`rules[1].when` is not a field of a rule'],
    ['a misspelt field', { ...allow, Where: { path: 'x' } }, '`rules[1].Where` is not a field of a rule'],
    ['a singular for a plural', { effect: 'allow', tools: 'read' }, '`rules[1].tools` is not a field of a rule'],
    ['no effect', { tool: 'read' }, "`rules[1].effect` must be 'allow', 'ask' or 'deny', got undefined"],
    ['an unknown effect', { ...allow, effect: 'Allow' }, "got 'Allow'"],
    ['an inherited effect', { ...allow, effect: 'toString' }, "got 'toString'"],
    ['an effect in a list', { ...allow, effect: ['allow'] }, '`rules[1].effect`'],
    ['no tool', { effect: 'allow' }, '`rules[1].tool` to be a name, got undefined'],
    ['a tool that is null', { effect: 'allow', tool: null }, '`rules[1].tool`'],
    ['a tool that is no name', { effect: 'allow', tool: 'read*' }, '`rules[1].tool`'],
    ['a tool that is empty', { effect: 'allow', tool: '' }, '`rules[1].tool`'],
    ['a tool in a list of lists', { effect: 'allow', tool: [['read']] }, '`rules[1].tool`'],
    ['an agent that is null, which would be everybody', { ...allow, agent: null }, '`rules[1].agent`'],
    ['an agent that is no name', { ...allow, agent: ['ann', 'b/c'] }, '`rules[1].agent`'],
    ['conditions that are null', { ...allow, where: null }, '`rules[1].where` must be a plain object'],
    ['conditions in a list', { ...allow, where: [] }, '`rules[1].where` must be a plain object'],
    ['conditions in a Map', { ...allow, where: new Map([['path', 'x']]) }, '`rules[1].where` must be a plain object'],
    ['conditions that are inherited', { ...allow, where: Object.create({ path: 'x' }) }, '`rules[1].where` must be a plain object'],
    ['conditions that became a prototype', { ...allow, where: { __proto__: { path: 'x' } } }, '`rules[1].where` must be a plain object'],
    ['conditions that are a string', { ...allow, where: 'path' }, '`rules[1].where` must be a plain object'],
    ['a condition that is none', { ...allow, where: { path: undefined } }, '`rules[1].where.path` must be a value'],
    ['a schema that is null', { ...allow, schema: null }, '`rules[1].schema` must be a Standard Schema'],
    ['a schema that is a function', { ...allow, schema: () => true }, '`rules[1].schema` must be a Standard Schema'],
    ['a schema without validate', { ...allow, schema: { '~standard': {} } }, '`rules[1].schema` must be a Standard Schema'],
    ['null', null, '`rules[1]` must be a plain object'],
    ['a string', 'deny', '`rules[1]` must be a plain object'],
    ['a list', [allow], '`rules[1]` must be a plain object'],
    ['a rule that inherits its conditions', Object.assign(Object.create({ where: {} }), allow), '`rules[1]` must be a plain object'],
  ])('(%s) is a TypeError that names it', (_, rule, message) => {
    expect(() => make(rule)).toThrow(TypeError)
    expect(() => make(rule)).toThrow(message)
  })

  test('keeps a kernel from opening', async () => {
    await expect(openWith([{ ...allow, when: 1 } as never])).rejects.toThrow('`rules[0].when`')
  })

  test('is also the thousand and first', () => {
    expect(
      () =>
        new AuthGuardian(
          times(1_000, () => allow),
          memoryStore(),
        ),
    ).not.toThrow()
    expect(
      () =>
        new AuthGuardian(
          times(1_001, () => allow),
          memoryStore(),
        ),
    ).toThrow(new RangeError('At most 1000 rules, got 1001.'))
  })
})

test('what becomes of the caller’s objects later changes no decision', async () => {
  const where = { path: { oneOf: ['a'] }, size: { max: 10 } }
  const rule = { effect: 'allow' as Rule['effect'], agent: ['ann'], tool: ['read'], where }
  const rules: Rule[] = [rule]
  const guardian = new AuthGuardian(rules, memoryStore())
  const ask = async (agent: string, tool: string, args: unknown) =>
    (await guardian.decide({ kind: 'tool', agent, task: 't', resource: tool, args, argsHash: '' })).verdict
  where.path.oneOf.push('b')
  where.size.max = 1_000
  rule.agent.push('bob')
  rule.tool[0] = '*'
  rules.push({ effect: 'allow', tool: '*' })
  expect(await ask('ann', 'read', { path: 'a', size: 10 })).toBe('allow')
  expect(await ask('ann', 'read', { path: 'b', size: 10 })).toBe('deny')
  expect(await ask('ann', 'read', { path: 'a', size: 11 })).toBe('deny')
  expect(await ask('bob', 'read', { path: 'a', size: 10 })).toBe('deny')
  expect(await ask('ann', 'write', { path: 'a', size: 10 })).toBe('deny')
  rule.effect = 'deny'
  expect(await ask('ann', 'read', { path: 'a', size: 10 })).toBe('allow')
})
