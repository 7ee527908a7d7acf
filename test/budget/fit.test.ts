// How a model call shrinks to what is left. Proves that the output cap is the largest that fits at every level and
// in every dimension, never below what the call needs at least, and that what is granted is what is held.

import { describe, expect, test } from 'vitest'
import { line, open, refusalOf, take } from './bench.ts'
import type { BudgetDeclaration } from '../../src/budget/declaration.ts'
import type { Action, OutputBound } from '../../src/waist/action.ts'

const output = (tokens: number, minTokens: number, perToken: OutputBound['perToken']): Partial<Action> => ({
  output: { tokens, minTokens, perToken },
})

async function ask(budgets: Record<string, BudgetDeclaration>, worst: Record<string, number>, action: Partial<Action>) {
  const bench = await open({ budgets })
  const path = Object.keys(budgets).at(-1)!
  return { ...bench, path, hold: () => take(bench.kernel, path, worst, { kind: 'model', ...action }) }
}

describe('the output cap of a hold', () => {
  test('is what was asked for when it fits exactly', async () => {
    const { hold, store } = await ask({ acme: { tokens: 110 } }, { tokens: 10 }, output(100, 10, { tokens: 1 }))
    expect(await hold()).toMatchObject({ caps: { maxOutputTokens: 100 }, amounts: { tokens: 110 } })
    expect(await line(store, 'acme')).toMatchObject({ free: 0, out: 110 })
  })

  test.each<[string, Record<string, BudgetDeclaration>, OutputBound['perToken'], number]>([
    ['one level', { a: { tokens: 57 } }, { tokens: 1 }, 47],
    ['a price per token that does not divide what is left', { a: { tokens: 57 } }, { tokens: 5 }, 9],
    ['the parent', { a: { tokens: 30 }, 'a/b': { tokens: 57 } }, { tokens: 1 }, 20],
    ['the child', { a: { tokens: 57 }, 'a/b': { tokens: 30 } }, { tokens: 1 }, 20],
    ['one of two dimensions', { a: { tokens: 90, usd: '0.00000021' } }, { tokens: 1, usd: 5 }, 40],
    ['another level in another dimension', { a: { tokens: 45 }, 'a/b': { tokens: 90, usd: '0.00000021' } }, { tokens: 1, usd: 5 }, 35],
    ['a child that is created by it', { a: { tokens: 90 }, 'a/*': { tokens: 22 }, 'a/*/x': { tokens: 60 } }, { tokens: 1 }, 12],
  ])('shrinks to what %s leaves', async (_, budgets, perToken, granted) => {
    const path = Object.keys(budgets).at(-1)!.replace('*', 'child')
    const { kernel, store } = await open({ budgets })
    const hold = await take(kernel, path, { tokens: 10, usd: 10 }, output(100, 1, perToken))
    expect(hold.caps).toEqual({ maxOutputTokens: granted })
    expect(hold.amounts['tokens']).toBe(10 + granted * perToken['tokens']!)
    expect((await line(store, path.split('/')[0]!)).out).toBe(hold.amounts['tokens'])
  })

  test('is granted down to the least that the call needs, and is refused one token below', async () => {
    const fits = await ask({ acme: { tokens: 42 } }, { tokens: 10 }, output(100, 32, { tokens: 1 }))
    expect((await fits.hold()).caps).toEqual({ maxOutputTokens: 32 })
    const refused = await ask({ acme: { tokens: 41 } }, { tokens: 10 }, output(100, 32, { tokens: 1 }))
    expect(await refusalOf(refused.hold())).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED', details: { budget: { needed: 42, free: 41 } } })
    expect(await line(refused.store, 'acme')).toMatchObject({ free: 41, out: 0 })
  })

  test('does not shrink when the call cannot do with less', async () => {
    const { hold } = await ask({ acme: { tokens: 109 } }, { tokens: 10 }, output(100, 100, { tokens: 1 }))
    expect(await refusalOf(hold())).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED', details: { budget: { needed: 110 } } })
  })

  test('is at least one token, also for a call that says it could do with none', async () => {
    const fits = await ask({ acme: { tokens: 3 } }, {}, output(100, 0, { tokens: 1 }))
    expect((await fits.hold()).caps).toEqual({ maxOutputTokens: 3 })
    const refused = await ask({ acme: { tokens: 10 } }, { tokens: 10 }, output(100, 0, { tokens: 1 }))
    expect(await refusalOf(refused.hold())).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED', details: { budget: { needed: 11 } } })
  })

  test('shrinks to what is free now rather than waiting for what others hold', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 100 } }, waitMs: 20_000 })
    await take(kernel, 'acme', { tokens: 60 })
    const hold = await take(kernel, 'acme', { tokens: 10 }, output(100, 5, { tokens: 1 }))
    expect(hold.caps).toEqual({ maxOutputTokens: 30 })
    expect(await line(store, 'acme')).toMatchObject({ free: 0, out: 100 })
  })

  test('waits when not even the least fits now, and then takes as much as there is', async () => {
    const { kernel } = await open({ budgets: { acme: { tokens: 100 } }, waitMs: 20_000 })
    const other = await take(kernel, 'acme', { tokens: 95 })
    const waiting = take(kernel, 'acme', { tokens: 10 }, output(100, 5, { tokens: 1 }))
    await other.settle({ tokens: 35 })
    expect((await waiting).caps).toEqual({ maxOutputTokens: 55 })
  })

  test('of many calls at once never promises more than there is', async () => {
    const { kernel, store } = await open({ budgets: { acme: { tokens: 100 }, 'acme/*': { tokens: 60 } } })
    const takes = Array.from({ length: 12 }, (_, index) =>
      take(kernel, `acme/${index % 3}`, { tokens: 1 }, output(30, 4, { tokens: 1 })).catch(() => undefined),
    )
    const holds = (await Promise.all(takes)).filter((hold) => hold !== undefined)
    const held = holds.reduce((sum, { amounts }) => sum + amounts['tokens']!, 0)
    expect(holds.every(({ amounts, caps }) => amounts['tokens'] === 1 + caps.maxOutputTokens! && caps.maxOutputTokens! >= 4)).toBe(true)
    expect(await line(store, 'acme')).toMatchObject({ out: held, free: 100 - held })
    expect(held).toBeGreaterThan(95)
  })
})
