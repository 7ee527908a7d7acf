// What a model is told of a refusal: what to do now. Never who, what, how much or why in particular: whatever a
// refusal knows, its words for the model are the same.

import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Refusal, findRefusal, refusalToBody, type RefusalCode } from '../../src/lib/errors.ts'
import { openWith, scopeOf } from './guard.ts'

/** Every code, as a record so that a new one is missed by the compiler. */
const CODES = Object.keys({
  ERR_BUDGET_EXCEEDED: true,
  ERR_BUDGET_BUSY: true,
  ERR_BUDGET_FROZEN: true,
  ERR_UNKNOWN_BUDGET: true,
  ERR_UNKNOWN_PRICE: true,
  ERR_UNMETERED: true,
  ERR_NO_SCOPE: true,
  ERR_PERMISSION_DENIED: true,
  ERR_APPROVAL_REQUIRED: true,
  ERR_CONFLICT: true,
  ERR_STOPPED: true,
} satisfies Record<RefusalCode, true>) as readonly RefusalCode[]

const amount = fc.maxSafeNat()
const anyDetails = fc.record({
  agent: fc.string(),
  resource: fc.string(),
  argsHash: fc.string(),
  wouldPass: fc.string(),
  endsRun: fc.boolean(),
  latched: fc.boolean(),
  budget: fc.record({
    budget: fc.string(),
    dimension: fc.string(),
    limit: amount,
    spent: amount,
    free: amount,
    out: amount,
    suspense: amount,
    needed: amount,
  }),
})

describe('the words for the model', () => {
  test.each(CODES)('of %s are one or two plain sentences, without a number, a name, a code or a path', (code) => {
    const message = new Refusal(code, '').toModelMessage()
    expect(message).toMatch(/^[A-Z][a-z', ]+(?:[.;] ?[A-Za-z][a-z', ]+){0,3}\.$/)
    expect(message).not.toMatch(/\d|[`"'$/{}<>]|ERR_|holdfast|budget `|limit|usd|token|hash|agent|kernel/i)
    expect(message.length).toBeLessThan(120)
  })

  test('are the same whatever the refusal knows, also after it crossed a provider SDK', () => {
    fc.assert(
      fc.property(fc.constantFrom(...CODES), fc.string(), anyDetails, (code, text, details) => {
        const plain = new Refusal(code, '').toModelMessage()
        const refusal = new Refusal(code, text, details, { cause: new Error(text) })
        expect(refusal.toModelMessage()).toBe(plain)
        const body: unknown = JSON.parse(JSON.stringify(refusalToBody(refusal)))
        expect(findRefusal(body)?.toModelMessage()).toBe(plain)
      }),
      { numRuns: 1_000 },
    )
  })

  test('differ between codes that call for different things', () => {
    expect(new Set(CODES.map((code) => new Refusal(code, '').toModelMessage())).size).toBe(CODES.length)
  })

  test('are a gate’s own where it gives some', () => {
    expect(new Refusal('ERR_PERMISSION_DENIED', 'x', { modelMessage: 'Use the other tool.' }).toModelMessage()).toBe('Use the other tool.')
  })
})

const SECRET = /zq-\w+|4,?711|\b815\b/

/** A refusal of every kind that a kernel gives. */
async function refusals(): Promise<readonly Refusal[]> {
  const kernel = await openWith(
    [
      { effect: 'ask', tool: 'zq-tool-ask' },
      { effect: 'deny', tool: 'zq-tool-deny' },
    ],
    {
      budgets: { 'zq-budget': { calls: 4_711, usd: 1 }, 'zq-frozen': { calls: 1 } },
    },
  )
  const scope = kernel.scope({ agent: 'zq-agent', task: 'zq-task', budget: 'zq-budget' })
  const busy = await scope.begin({ kind: 'model', resource: 'zq-tool', worst: { calls: 4_000 } })
  const overrun = await kernel.scope({ agent: 'zq-agent', task: 't', budget: 'zq-frozen' }).begin({
    kind: 'model',
    resource: 'm',
    worst: { calls: 1 },
  })
  await overrun.settle({ calls: 815 })
  const action = { args: { secret: 'zq-value' }, worst: { calls: 815 } }
  const tried = [
    scope.begin({ ...action, kind: 'tool', resource: 'zq-tool-ask' }),
    scope.begin({ ...action, kind: 'tool', resource: 'zq-tool-deny' }),
    scope.begin({ ...action, kind: 'tool', resource: 'zq-tool-other' }),
    scope.begin({ ...action, kind: 'model', resource: 'zq-tool', worst: { calls: 4_712 } }),
    scope.begin({ ...action, kind: 'model', resource: 'zq-tool' }),
    scope.begin({ ...action, kind: 'model', resource: 'zq-tool', worst: { calls: 1 }, unpriced: 'No price for zq-tool.' }),
    scopeOf(kernel, 'zq-agent', 'zq-nowhere').begin({ ...action, kind: 'model', resource: 'zq-tool' }),
    scopeOf(kernel, 'zq-agent', 'zq-frozen').begin({ ...action, kind: 'model', resource: 'zq-tool' }),
  ]
  const settled = await Promise.allSettled(tried)
  await busy.release('only held')
  return settled.map((one) => findRefusal((one as PromiseRejectedResult).reason)!)
}

describe('a kernel', () => {
  test('tells its operator everything, and the model nothing of it', async () => {
    const found = await refusals()
    expect(found.map(({ code }) => code)).toEqual([
      'ERR_APPROVAL_REQUIRED',
      'ERR_PERMISSION_DENIED',
      'ERR_PERMISSION_DENIED',
      'ERR_BUDGET_EXCEEDED',
      'ERR_BUDGET_BUSY',
      'ERR_UNKNOWN_PRICE',
      'ERR_UNKNOWN_BUDGET',
      'ERR_BUDGET_FROZEN',
    ])
    for (const refusal of found) {
      const operator = refusal.message + JSON.stringify(refusal.details)
      expect(operator).toMatch(SECRET)
      expect(refusal.toModelMessage()).not.toMatch(SECRET)
      expect(refusal.toModelMessage()).toBe(new Refusal(refusal.code, '').toModelMessage())
      expect(operator).not.toContain('zq-value')
    }
  })
})
