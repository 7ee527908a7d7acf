// A gate of the user, and what it may do to a take. Proves that what it adds to the commit happens together with
// the money or not at all, that it is asked again when what it built upon has changed, and that nothing passes a
// gate that cannot answer.

import { describe, expect, test } from 'vitest'
import { keys, line, money, open, refusalOf, take } from './bench.ts'
import type { Batch } from '../../src/waist/batch.ts'
import type { Gate, Verdict } from '../../src/waist/gate.ts'
import type { ProposedAction } from '../../src/waist/action.ts'

const BUDGETS = { acme: { tokens: 10 } }
const gate = (decide: (action: ProposedAction) => Verdict | Promise<Verdict>): Gate => ({ name: 'mine', decide })
const adding = (fragment: Batch): Gate => gate(() => ({ verdict: 'allow', fragment }))

describe('a part of the commit that a gate adds', () => {
  test('happens together with the money', async () => {
    const fragment = {
      add: [{ key: 'rate/x', by: 1, max: 2 }],
      set: [{ key: 'seen/x', value: 'yes' }],
      check: [{ key: 'never/x', version: 0 }],
    }
    const { kernel, store } = await open({ budgets: BUDGETS, gates: [adding(fragment)] })
    await take(kernel, 'acme', { tokens: 4 })
    expect(await line(store, 'acme')).toMatchObject({ out: 4 })
    expect(await money(store)).toMatchObject({ 'rate/x': 1, 'seen/x': 'yes' })
  })

  test('happens also when no money is needed', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS, gates: [adding({ delete: ['permit/1'], add: [{ key: 'rate/x', by: 1 }] })] })
    await store.apply([{ set: [{ key: 'permit/1', value: 1 }] }])
    await (await take(kernel, 'acme', {})).settle({})
    expect(await store.read(['permit/1', 'rate/x'])).toMatchObject([null, { value: 1 }])
    expect(await keys(store, 'hold/')).toEqual([])
  })

  test('that is refused takes no money, and is a refusal for lack of permission', async () => {
    const { kernel, store } = await open({
      budgets: BUDGETS,
      gates: [adding({ add: [{ key: 'rate/x', by: 1, max: 1 }], set: [{ key: 'seen/x', value: 1 }] })],
    })
    await take(kernel, 'acme', { tokens: 4 })
    const before = await money(store)
    const refusal = await refusalOf(take(kernel, 'acme', { tokens: 4 }))
    expect(refusal).toMatchObject({ code: 'ERR_PERMISSION_DENIED', message: expect.stringContaining('rate/x') })
    expect(await money(store)).toEqual(before)
  })

  test('does not happen when the money is refused', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS, gates: [adding({ add: [{ key: 'rate/x', by: 1 }], delete: ['permit/1'] })] })
    await store.apply([{ set: [{ key: 'permit/1', value: 1 }] }])
    const before = await money(store)
    expect(await refusalOf(take(kernel, 'acme', { tokens: 11 }))).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
    expect(await money(store)).toEqual(before)
  })

  test('that conflicts has its gate asked again, and happens once', async () => {
    let asked = 0
    const { kernel, store } = await open({
      budgets: BUDGETS,
      gates: [
        gate(async () => {
          asked += 1
          const [entry] = await store.read(['ticket/x'])
          // Somebody is faster than this gate, twice.
          if (asked <= 2) await store.apply([{ set: [{ key: 'ticket/x', value: asked }] }])
          return { verdict: 'allow', fragment: { check: [{ key: 'ticket/x', version: entry?.version ?? 0 }], delete: ['ticket/x'] } }
        }),
      ],
    })
    await take(kernel, 'acme', { tokens: 4 })
    expect(asked).toBe(3)
    expect(await line(store, 'acme')).toMatchObject({ out: 4 })
    expect(await keys(store, 'ticket/')).toEqual([])
  })

  test('that always conflicts ends with ERR_STORE, and takes no money', async () => {
    let asked = 0
    const stale = gate(() => (asked++, { verdict: 'allow', fragment: { check: [{ key: 'ticket/x', version: 7 }] } }))
    const { kernel, store } = await open({ budgets: BUDGETS, gates: [stale] })
    const before = await money(store)
    await expect(take(kernel, 'acme', { tokens: 4 })).rejects.toMatchObject({
      code: 'ERR_STORE',
      message: expect.stringContaining('ticket/x'),
    })
    expect(asked).toBeGreaterThan(1)
    expect(await money(store)).toEqual(before)
  })

  test.each([
    ['the record of the budget', 'budget/acme'],
    ['a counter of the budget', 'free/tokens/acme'],
  ])('that checks %s is asked again when it is another version', async (_, key) => {
    let asked = 0
    const { kernel, store } = await open({
      budgets: BUDGETS,
      gates: [
        gate(async () => {
          const [entry] = await store.read([key])
          asked += 1
          return { verdict: 'allow', fragment: { check: [{ key, version: asked === 1 ? entry!.version + 100 : entry!.version }] } }
        }),
      ],
    })
    await take(kernel, 'acme', { tokens: 4 })
    expect(asked).toBe(2)
    expect(await line(store, 'acme')).toMatchObject({ out: 4 })
  })

  test('that writes a counter of the ledger is an error, and nothing happens', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS, gates: [adding({ add: [{ key: 'free/tokens/acme', by: 1_000 }] })] })
    const before = await money(store)
    await expect(take(kernel, 'acme', { tokens: 4 })).rejects.toThrow(/named twice/)
    expect(await money(store)).toEqual(before)
  })

  test('of two gates is one commit', async () => {
    const { kernel, store } = await open({
      budgets: BUDGETS,
      gates: [adding({ add: [{ key: 'rate/a', by: 1 }] }), adding({ add: [{ key: 'rate/b', by: 1, max: 0 }] })],
    })
    await refusalOf(take(kernel, 'acme', { tokens: 4 }))
    expect(await keys(store, 'rate/')).toEqual([])
  })
})

const capping = (maxOutputTokens: number): Gate => gate(() => ({ verdict: 'allow', caps: { maxOutputTokens } }))

describe('caps of a gate', () => {
  const output = { tokens: 8, minTokens: 2, perToken: { tokens: 1 } }

  test('narrow what is held and what is granted; a later gate sees it and can narrow further, never widen', async () => {
    const seen: unknown[] = []
    const looking = gate((action) => (seen.push(action.output?.tokens), { verdict: 'allow', caps: { maxOutputTokens: 6 } }))
    const { kernel, store } = await open({ budgets: BUDGETS, gates: [capping(5), looking] })
    const hold = await take(kernel, 'acme', { tokens: 1 }, { output })
    expect(hold).toMatchObject({ caps: { maxOutputTokens: 5 }, amounts: { tokens: 6 } })
    expect(seen).toEqual([5])
    expect(await line(store, 'acme')).toMatchObject({ out: 6 })
  })

  test('below what the call asked for at least are caps all the same', async () => {
    const { kernel } = await open({ budgets: BUDGETS, gates: [capping(1)] })
    expect((await take(kernel, 'acme', {}, { output })).amounts).toEqual({ tokens: 1 })
  })

  test.each([Number.NaN, -5, 0])('of %d never lift the cap', async (most) => {
    const { kernel } = await open({ budgets: BUDGETS, gates: [capping(most)] })
    const hold = await take(kernel, 'acme', {}, { output }).catch((error: unknown) => error as Error)
    expect(hold instanceof Error ? hold.name : (hold as { caps: unknown }).caps).toEqual(
      Number.isNaN(most) ? 'TypeError' : { maxOutputTokens: 1 },
    )
  })
})

describe('a gate', () => {
  test.each<[string, () => Verdict | Promise<Verdict>]>([
    [
      'throws',
      () => {
        throw new Error('the policy server is away')
      },
    ],
    ['rejects', () => Promise.reject(new Error('the policy server is away'))],
    ['answers nothing', () => undefined as never],
    ['answers with a part that is unknown', () => ({ verdict: 'allow', fragment: { subtract: [] } }) as never],
  ])('that %s lets nothing pass, and nothing is held', async (_, decide) => {
    const { kernel, store } = await open({ budgets: BUDGETS, gates: [gate(decide)] })
    const before = await money(store)
    await expect(take(kernel, 'acme', { tokens: 1 })).rejects.toThrow(Error)
    expect(await money(store)).toEqual(before)
  })

  test.each<[Verdict, string]>([
    [{ verdict: 'deny', reason: 'no' }, 'ERR_PERMISSION_DENIED'],
    [{ verdict: 'deny', reason: 'no', code: 'ERR_BUDGET_BUSY' }, 'ERR_BUDGET_BUSY'],
    [{ verdict: 'ask', reason: 'who are you' }, 'ERR_APPROVAL_REQUIRED'],
    [{ verdict: 'maybe', reason: 'hm' } as never, 'ERR_PERMISSION_DENIED'],
  ])('that answers %j refuses with its reason, and later gates are not asked', async (verdict, code) => {
    let asked = 0
    const later = gate(() => (asked++, { verdict: 'allow' }))
    const { kernel, store } = await open({ budgets: BUDGETS, gates: [gate(() => verdict), later] })
    const before = await money(store)
    expect(await refusalOf(take(kernel, 'acme', { tokens: 1 }))).toMatchObject({ code, message: (verdict as { reason: string }).reason })
    expect([asked, await money(store)]).toEqual([0, before])
  })

  test('is asked by `decide` too, which holds nothing and uses nothing up', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS, gates: [adding({ add: [{ key: 'rate/x', by: 1 }] })] })
    const before = await money(store)
    expect(await kernel.scope({ agent: 'a', task: 't', budget: 'acme' }).decide({ kind: 'tool', resource: 'x' })).toBeUndefined()
    expect(await money(store)).toEqual(before)
  })
})
