// What a scope leaves in the trail, and what it writes beside the money. Proves that no intent is left without an end,
// that what an action brings with it happens with its hold or not at all, and that a refusal, a report and a tool's
// hold reach those whom they concern, and nobody else.

import { describe, expect, onTestFinished, test } from 'vitest'
import { keys, line, money, needing, open, refusalOf, take } from '../budget/bench.ts'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import type { Kernel } from '../../src/kernel/open-kernel.ts'
import { ambient } from '../../src/lib/ambient.ts'
import { Refusal } from '../../src/lib/errors.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { faultyStore, type Fault } from '../../src/testing/faulty-store.ts'
import { startProvider } from '../../src/testing/provider.ts'
import type { Gate, Verdict } from '../../src/waist/gate.ts'
import type { Scope } from '../../src/waist/scope.ts'

const BUDGETS = { acme: { tokens: 10 } }
const gate = (decide: Gate['decide']): Gate => ({ name: 'mine', decide })
const scopeOf = (kernel: Kernel): Scope => kernel.scope({ agent: 'tester', task: 'test', budget: 'acme' })

type TrailRecord = Readonly<Record<string, unknown>>
const records = (kernel: Kernel): readonly TrailRecord[] => kernel.auditLines.map((one) => JSON.parse(one) as TrailRecord)

/** What follows each intent under the same hold, in order: `settled` and the like, or the code of a refusal. */
function endsOf(kernel: Kernel): readonly (readonly unknown[])[] {
  const all = records(kernel)
  const ends = all.filter(({ kind }) => kind === 'outcome' || kind === 'refused')
  return all
    .filter(({ kind }) => kind === 'intent')
    .map((intent) => ends.filter(({ hold }) => hold === intent['hold']).map((end) => end['outcome'] ?? end['code']))
}

describe('an intent in the trail has its end under the same hold', () => {
  test('when its action settles, is released or is charged', async () => {
    const { kernel } = await open({ budgets: BUDGETS })
    await (await take(kernel, 'acme', { tokens: 1 })).settle({ tokens: 1 })
    await (await take(kernel, 'acme', { tokens: 1 })).release('unused')
    await (await take(kernel, 'acme', { tokens: 1 })).charge('unknown')
    expect(endsOf(kernel)).toEqual([['settled'], ['released'], ['charged']])
  })

  test('when its money is refused', async () => {
    const { kernel } = await open({ budgets: BUDGETS })
    await refusalOf(take(kernel, 'acme', { tokens: 11 }))
    expect(endsOf(kernel)).toEqual([['ERR_BUDGET_EXCEEDED']])
  })

  test('when its wait is aborted', async () => {
    const { kernel } = await open({ budgets: BUDGETS, waitMs: 60_000 })
    const hold = await take(kernel, 'acme', { tokens: 8 })
    await expect(take(kernel, 'acme', { tokens: 3 }, { signal: AbortSignal.timeout(30) })).rejects.toMatchObject({ name: 'TimeoutError' })
    await hold.settle({ tokens: 8 })
    expect(endsOf(kernel)).toEqual([['settled'], ['released']])
  })

  test('when its wait ends with the kernel', async () => {
    const { kernel } = await open({ budgets: BUDGETS, waitMs: 60_000 })
    await take(kernel, 'acme', { tokens: 8 })
    const waiting = take(kernel, 'acme', { tokens: 3 })
    while (endsOf(kernel).length < 2) await new Promise((resolve) => setTimeout(resolve, 1))
    await Promise.all([expect(waiting).rejects.toMatchObject({ code: 'ERR_CLOSED' }), kernel.close()])
    expect(endsOf(kernel)).toEqual([['charged'], ['released']])
  })

  test("when a gate's counter refuses its commit", async () => {
    const counter = gate(() => ({ verdict: 'allow', fragment: { add: [{ key: 'rate/x', by: 1, max: 0 }] } }))
    const { kernel } = await open({ budgets: BUDGETS, gates: [counter] })
    await refusalOf(take(kernel, 'acme', { tokens: 1 }))
    expect(endsOf(kernel)).toEqual([['ERR_PERMISSION_DENIED']])
  })

  test('when a gate changes its mind after its part of the commit did not hold', async () => {
    const verdicts: Verdict[] = [
      { verdict: 'allow', fragment: { check: [{ key: 'ticket/x', version: 7 }] } },
      { verdict: 'deny', reason: 'no more' },
    ]
    const { kernel } = await open({ budgets: BUDGETS, gates: [gate(() => verdicts.shift()!)] })
    await refusalOf(take(kernel, 'acme', { tokens: 1 }))
    expect(endsOf(kernel)).toEqual([['ERR_PERMISSION_DENIED']])
  })

  test.each<[string, readonly Fault[]]>([
    ['the store refuses it', ['refuse']],
    ['its reply is lost for good', Array.from({ length: 6 }, () => 'lose-reply')],
  ])('when %s', async (_, faults) => {
    const plan: Fault[] = []
    const store = faultyStore(memoryStore(), plan)
    const { kernel } = await open({ store, budgets: BUDGETS })
    await (await take(kernel, 'acme', { tokens: 1 })).settle({ tokens: 1 })
    faults.forEach((fault, index) => (plan[store.happened.length + index] = fault))
    await expect(take(kernel, 'acme', { tokens: 2 })).rejects.toMatchObject({ code: 'ERR_STORE' })
    expect(endsOf(kernel)).toEqual([['settled'], ['released']])
  })

  test('and a gate that throws leaves no intent at all: it is asked before', async () => {
    const broken = gate(() => {
      throw new Error('the gate is broken')
    })
    const { kernel } = await open({ budgets: BUDGETS, gates: [broken] })
    await expect(take(kernel, 'acme', { tokens: 1 })).rejects.toThrow('the gate is broken')
    expect(endsOf(kernel)).toEqual([])
  })
})

describe('what an action brings `with` it', () => {
  const written = { set: [{ key: 'mine/x', value: 42 }] }

  test('is written with its hold, and not when its money is refused', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS })
    await refusalOf(take(kernel, 'acme', { tokens: 11 }, { with: written }))
    expect(await keys(store, 'mine/')).toEqual([])
    await take(kernel, 'acme', { tokens: 1 }, { with: written })
    expect(await store.read(['mine/x'])).toMatchObject([{ value: 42 }])
  })

  test.each<[string, Verdict]>([
    ['denies it', { verdict: 'deny', reason: 'no' }],
    ['would ask a person', { verdict: 'ask', reason: 'perhaps' }],
    ['has a counter that refuses it', { verdict: 'allow', fragment: { add: [{ key: 'rate/x', by: 1, max: 0 }] } }],
  ])('is written in observe mode although a gate %s, and not in enforce mode', async (_, verdict) => {
    const options = { budgets: BUDGETS, gates: [gate(() => verdict)] }
    const { kernel, store, events } = await open({ ...options, mode: 'observe' })
    await take(kernel, 'acme', { tokens: 1 }, { with: written })
    expect(await store.read(['mine/x', 'rate/x'])).toMatchObject([{ value: 42 }, null])
    expect(events.map(({ type }) => type)).toEqual(['would-refuse'])
    const { kernel: enforcing, store: other } = await open(options)
    await refusalOf(take(enforcing, 'acme', { tokens: 1 }, { with: written }))
    expect(await keys(other, 'mine/')).toEqual([])
  })

  test.each(['enforce', 'observe'] as const)('is ERR_CONFLICT when its check fails (%s), and nothing is held', async (mode) => {
    const { kernel, store } = await open({ budgets: BUDGETS, mode })
    await store.apply([{ set: [{ key: 'mine/x', value: 1 }] }])
    const before = await money(store)
    const refusal = await refusalOf(take(kernel, 'acme', { tokens: 1 }, { with: { ...written, check: [{ key: 'mine/x', version: 0 }] } }))
    expect(refusal).toMatchObject({ code: 'ERR_CONFLICT', details: { agent: 'tester', resource: 'spend' } })
    expect(await money(store)).toEqual(before)
    expect(endsOf(kernel)).toEqual([['ERR_CONFLICT']])
  })
})

test('the time to wait counts once, although the part of a gate does not hold again and again', async () => {
  const store = memoryStore()
  const { kernel: others } = await open({ store, budgets: BUDGETS })
  let rounds = 0
  let releases: Promise<unknown> = Promise.resolve()
  // Each time it is asked, others take the money for a moment; once it is back, what the gate has read has changed.
  const stale = gate(async ({ resource }) => {
    if (resource === 'too large') return { verdict: 'allow' }
    rounds += 1
    const hold = await take(others, 'acme', { tokens: 10 })
    releases = new Promise((resolve) => setTimeout(resolve, 50)).then(() => hold.release('a moment'))
    return { verdict: 'allow', fragment: { check: [{ key: 'ticket/x', version: 7 }] } }
  })
  const { kernel } = await open({ store, gates: [stale], waitMs: 600 })
  // From now on this kernel looks for money before it writes, so that it waits before it meets the conflict.
  await refusalOf(take(kernel, 'acme', { tokens: 11 }, { resource: 'too large' }))
  const refusal = await refusalOf(take(kernel, 'acme', { tokens: 5 }))
  expect(refusal).toMatchObject({ code: 'ERR_BUDGET_BUSY', details: { budget: { needed: 5, out: 10 } } })
  expect(rounds).toBeGreaterThan(1)
  await releases
  expect(await line(store, 'acme')).toMatchObject({ out: 0, free: 10 })
})

describe('a refusal', () => {
  test('that is remembered for a run on one store does not count for a budget of the same path on another store', async () => {
    const [poor, rich] = [
      scopeOf((await open({ budgets: { acme: { tokens: 0 } } })).kernel),
      scopeOf((await open({ budgets: BUDGETS })).kernel),
    ]
    await poor.enter(async () => {
      expect((await refusalOf(poor.begin(needing({ tokens: 1 })))).details.endsRun).toBe(true)
      await (await rich.begin(needing({ tokens: 1 }))).settle({ tokens: 1 })
      expect((await refusalOf(poor.begin(needing({ tokens: 1 })))).details.latched).toBe(true)
    })
  })

  const unmetered = (): Refusal => new Refusal('ERR_UNMETERED', 'It has no bound.', { resource: 'odd-model' })

  test('by an integration is thrown, recorded and remembered by its scope', async () => {
    const { kernel, events } = await open({ budgets: BUDGETS })
    const scope = scopeOf(kernel)
    const refusal = unmetered()
    expect(() => scope.refuse(refusal)).toThrow(refusal)
    expect(scope.refusal).toBe(refusal)
    expect(records(kernel).at(-1)).toMatchObject({ kind: 'refused', code: 'ERR_UNMETERED', agent: 'tester', resource: 'odd-model' })
    scope.enter(() => {
      expect(scope.refusal).toBeUndefined()
      expect(() => scope.refuse(refusal)).toThrow(refusal)
      expect(scope.refusal).toBe(refusal)
    })
    expect(events).toEqual([])
  })

  test('by an integration is only reported in observe mode', async () => {
    const { kernel, events } = await open({ budgets: BUDGETS, mode: 'observe' })
    const scope = scopeOf(kernel)
    scope.refuse(unmetered())
    expect(scope.refusal).toBeUndefined()
    expect(events).toEqual([{ type: 'would-refuse', message: expect.stringContaining('It has no bound.') }])
    expect(records(kernel).at(-1)).toMatchObject({ kind: 'event', type: 'would-refuse', code: 'ERR_UNMETERED', resource: 'odd-model' })
  })
})

describe('a report of an integration', () => {
  test('reaches the operator and the trail', async () => {
    const { kernel, events } = await open({ budgets: BUDGETS })
    scopeOf(kernel).report({ type: 'assumed', message: 'no usage' })
    expect(events).toEqual([{ type: 'assumed', message: 'no usage' }])
    expect(records(kernel).at(-1)).toMatchObject({ kind: 'event', type: 'assumed', agent: 'tester', message: 'no usage' })
  })

  test.each([
    ['its chain has ended', true, 'no usage'],
    ['its text cannot be recorded', false, 'no \ud800 usage'],
  ])('does not throw when %s: the operator has it, and knows of the gap', async (_, closed, message) => {
    const { kernel, events } = await open({ budgets: BUDGETS })
    if (closed) await kernel.close()
    scopeOf(kernel).report({ type: 'assumed', message })
    expect(events.map(({ type }) => type)).toEqual(['assumed', 'audit-gap'])
  })
})

describe('the hold of a tool', () => {
  test('is not what a model call inside of it is paid from; that of a model call is', async () => {
    const { kernel } = await open({ budgets: BUDGETS })
    const scope = scopeOf(kernel)
    await scope.run(needing({ tokens: 1 }), async () => {
      expect(ambient().hold).toBeUndefined()
      await scope.run(needing({ tokens: 1 }, { kind: 'model' }), async (hold) => {
        expect(ambient().hold).toBe(hold)
        await scope.run(needing({ tokens: 1 }), async () => expect(ambient().hold).toBeUndefined())
        expect(ambient().hold).toBe(hold)
      })
    })
  })

  test('is spent beside what the model calls inside of it cost', async () => {
    const provider = await startProvider()
    onTestFinished(() => provider.close())
    const { kernel, store } = await open({ budgets: { acme: { usd: 10 } } })
    const scope = scopeOf(kernel)
    const send = guardFetch(scope)
    const body = JSON.stringify({ model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'sum up' }], max_completion_tokens: 100 })
    const headers = { 'content-type': 'application/json' }
    const { status } = await scope.run(needing({ usd: 500_000_000 }), () =>
      send(`${provider.baseURL}/chat/completions`, { method: 'POST', headers, body }),
    )
    expect(status).toBe(200)
    expect(provider.bill().nanoUsd).toBeGreaterThan(0)
    expect(await line(store, 'acme', 'usd')).toMatchObject({ spent: 500_000_000 + provider.bill().nanoUsd, out: 0 })
  })
})
