// What comes before the limit: a threshold that is told of, and a slice that is kept for a last answer.

import { describe, expect, test } from 'vitest'
import type { BudgetDeclaration } from '../../src/budget/declaration.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { balanced, line, needing, open, refusalOf, take } from './bench.ts'

async function site(declaration: BudgetDeclaration, options: object = {}) {
  const opened = await open({ budgets: { acme: declaration }, ...options })
  const scope = opened.kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
  const low = (): readonly string[] => opened.events.filter(({ type }) => type === 'budget-low').map(({ message }) => message)
  return { ...opened, scope, low }
}

describe('a threshold', () => {
  test('is told of once, to the operator and in the trail, and to the model with every hold from then on', async () => {
    const { kernel, scope, low } = await site({ tokens: 1_000, warnAt: [0.5, 0.9] })
    expect((await scope.begin(needing({ tokens: 499 }))).notice).toBe(undefined)
    expect(low()).toEqual([])
    const { notice } = await scope.begin(needing({ tokens: 1 }))
    expect(notice).toBe('50 % of the budget for this work is used up. Spend the rest on what matters most, and answer before it ends.')
    expect((await scope.begin(needing({ tokens: 1 }))).notice).toBe(notice)
    expect(low()).toEqual(['Budget `acme`: 50 % of 1,000 tokens is used or set aside; 500 is free.'])
    expect((await scope.begin(needing({ tokens: 450 }))).notice).toContain('90 %')
    expect(low().length).toBe(2)
    expect(kernel.auditLines.filter((record) => record.includes('budget-low')).length).toBe(2)
  })

  test('can be asked for before a hold is taken, as of the last hold, so that there is room for it', async () => {
    const { scope } = await site({ tokens: 1_000, warnAt: 0.5 })
    expect(await scope.notice()).toBe(undefined)
    const hold = await scope.begin(needing({ tokens: 600 }))
    expect(await scope.notice()).toBe(hold.notice)
    await hold.settle({ tokens: 10 })
    expect((await scope.begin(needing({ tokens: 1 }))).notice).toBe(undefined)
    expect(await scope.notice()).toBe(undefined)
  })

  test('of a budget that does not exist is none: the next action says what is wrong', async () => {
    const { scope, kernel } = await site({ tokens: 1_000, warnAt: 0.5 })
    await scope.begin(needing({ tokens: 600 }))
    expect(await kernel.scope({ agent: 'a', task: 't', budget: 'unheard-of' }).notice()).toBe(undefined)
    expect(await kernel.scope({ agent: 'a', task: 't', budget: 'unheard-of', also: ['acme'] }).notice()).toBe(undefined)
  })

  test('that was passed by what came back is told no more to the model, and not again to the operator', async () => {
    const { scope, low } = await site({ tokens: 1_000, warnAt: 0.8 })
    const hold = await scope.begin(needing({ tokens: 900 }))
    expect(hold.notice).toContain('80 %')
    await hold.settle({ tokens: 100 })
    expect((await scope.begin(needing({ tokens: 1 }))).notice).toBe(undefined)
    expect((await scope.begin(needing({ tokens: 800 }))).notice).toContain('80 %')
    expect(low().length).toBe(1)
  })

  test('of a higher limit is another one', async () => {
    const { kernel, scope, low } = await site({ tokens: 100, warnAt: 0.5 })
    await scope.begin(needing({ tokens: 60 }))
    await kernel.setLimit('acme', { tokens: 1_000 }, { by: 'ann', reason: 'more' })
    expect((await scope.begin(needing({ tokens: 1 }))).notice).toBe(undefined)
    expect((await scope.begin(needing({ tokens: 500 }))).notice).toContain('50 %')
    expect(low().length).toBe(2)
  })

  test('is one of a day, and none of a minute', async () => {
    const windows = [
      { per: 'day', tokens: 100 },
      { per: 'minute', calls: 2 },
    ] as const
    const { scope, low } = await site({ tokens: 1_000, warnAt: 0.5, windows })
    expect((await scope.begin(needing({ calls: 1 }))).notice).toBe(undefined)
    expect((await scope.begin(needing({ tokens: 50 }))).notice).toContain('50 %')
    expect(low().length).toBe(1)
  })

  test('is one of all of a window that rolls, whatever its part has', async () => {
    const time = { atMs: Date.parse('2026-11-20T12:00:00Z'), now: () => time.atMs }
    const windows = [{ per: 'day', rolling: 2, tokens: 1_000 }] as const
    const { scope, low } = await site({ warnAt: 0.8, windows }, { store: memoryStore({ clock: time }), clock: time })
    await (await scope.begin(needing({ tokens: 700 }))).settle({ tokens: 700 })
    time.atMs += 12 * 3_600_000
    expect((await scope.begin(needing({ tokens: 99 }))).notice).toBe(undefined)
    expect(low()).toEqual([])
    expect((await scope.begin(needing({ tokens: 1 }))).notice).toContain('80 %')
    expect(low()[0]).toContain('80 % of 1,000 tokens is used or set aside; 200 is free')
  })

  test('is told of while a budget is leased', async () => {
    const { scope, low } = await site({ tokens: 1_000, warnAt: 0.5 }, { leasing: 'auto' })
    const notices = []
    for (let calls = 0; calls < 90; calls++) {
      const hold = await scope.begin(needing({ tokens: 10 }))
      notices.push(hold.notice)
      await hold.settle({ tokens: 10 })
    }
    expect(low().length).toBe(1)
    expect(notices[0]).toBe(undefined)
    // Long before the last calls, which are taken one by one.
    expect(notices[70]).toContain('50 %')
    expect(notices.at(-1)).toContain('50 %')
  })

  test.each<[unknown, RegExp]>([
    [1, /between 0 and 1, got 1/],
    [0, /between 0 and 1, got 0/],
    [Number.NaN, /between 0 and 1/],
    [[], /must be a share/],
    ['80%', /must be a share/],
    [[0.5, '0.8'], /between 0 and 1, got "0.8"/],
  ])('%j is refused', async (warnAt, message) => {
    await expect(site({ tokens: 1, warnAt: warnAt as never })).rejects.toThrow(message)
  })
})

describe('the slice for a last answer', () => {
  test('is refused to everything else, and there for the last answer, which ends the run when it is gone', async () => {
    const { kernel, scope, store } = await site({ tokens: 100, wrapUp: { tokens: 20 } })
    const hold = await scope.begin(needing({ tokens: 80 }))
    await hold.settle({ tokens: 80 })
    await scope.enter(async () => {
      const refusal = await refusalOf(scope.begin(needing({ tokens: 1 })))
      expect(refusal.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(refusal.details).toMatchObject({ endsRun: false, wrapUp: true, wouldPass: 'raise `tokens` of `acme` to 101' })
      expect(refusal.toModelMessage()).toContain('but for a last answer')
      const last = await scope.wrapUp().begin(needing({ tokens: 20 }))
      await last.settle({ tokens: 20 })
      const after = await refusalOf(scope.wrapUp().begin(needing({ tokens: 1 })))
      expect(after.details.endsRun).toBe(true)
    })
    expect(await line(store, 'acme')).toMatchObject({ spent: 100, free: 0 })
    await kernel.close()
  })

  test('is kept in windows as well, and by a budget that has only windows', async () => {
    const { scope } = await site({ tokens: 1_000, wrapUp: { tokens: 20 }, windows: [{ per: 'day', tokens: 50 }] })
    await (await scope.begin(needing({ tokens: 30 }))).settle({ tokens: 30 })
    expect((await refusalOf(scope.begin(needing({ tokens: 1 })))).details).toMatchObject({
      wrapUp: true,
      endsRun: false,
      budget: { window: 'day' },
    })
    await scope.wrapUp().begin(needing({ tokens: 20 }))
    const only = await site({ wrapUp: { tokens: 20 }, windows: [{ per: 'hour', rolling: 4, tokens: 50 }] })
    expect((await refusalOf(only.scope.begin(needing({ tokens: 31 })))).code).toBe('ERR_BUDGET_EXCEEDED')
    await only.scope.begin(needing({ tokens: 30 }))
    await only.scope.wrapUp().begin(needing({ tokens: 20 }))
  })

  test('is none of what the last answer hands over', async () => {
    const { scope } = await site({ tokens: 100, wrapUp: { tokens: 20 } })
    const handoff = scope.wrapUp().handoff({ to: 'b', instruction: 'x', budget: { tokens: 81 } })
    expect((await refusalOf(handoff)).code).toBe('ERR_BUDGET_EXCEEDED')
  })

  test('is neither leased nor handed over', async () => {
    const { kernel, scope, store } = await site({ tokens: 1_000, wrapUp: { tokens: 400 } }, { leasing: 'auto' })
    expect((await refusalOf(scope.handoff({ to: 'b', instruction: 'x', budget: { tokens: 601 } }))).code).toBe('ERR_BUDGET_EXCEEDED')
    for (let calls = 0; calls < 600; calls++) await (await scope.begin(needing({ tokens: 1 }))).settle({ tokens: 1 })
    expect((await refusalOf(scope.begin(needing({ tokens: 1 })))).code).toBe('ERR_BUDGET_EXCEEDED')
    await kernel.flush()
    expect(await line(store, 'acme')).toMatchObject({ spent: 600, free: 400, out: 0 })
    await scope.wrapUp().begin(needing({ tokens: 400 }))
  })

  test('stands beside a limit that is being lowered', async () => {
    const { kernel, scope, store } = await site({ tokens: 100, wrapUp: { tokens: 20 } })
    const hold = await scope.begin(needing({ tokens: 80 }))
    await kernel.setLimit('acme', { tokens: 50 }, { by: 'ann', reason: 'less' })
    expect((await refusalOf(scope.wrapUp().begin(needing({ tokens: 1 })))).code).toMatch(/BUSY|EXCEEDED/)
    await hold.settle({ tokens: 0 })
    // 80 are free, and 30 of them are still to be cut.
    expect((await refusalOf(scope.wrapUp().begin(needing({ tokens: 51 })))).code).toBe('ERR_BUDGET_EXCEEDED')
    await kernel.sweep()
    expect(await line(store, 'acme')).toMatchObject({ limit: 50, free: 50 })
    expect((await refusalOf(scope.begin(needing({ tokens: 31 })))).code).toBe('ERR_BUDGET_EXCEEDED')
    await scope.begin(needing({ tokens: 30 }))
    await scope.wrapUp().begin(needing({ tokens: 20 }))
    await balanced(store)
  })

  test('changes with a revision, and not without one', async () => {
    const { store } = await site({ tokens: 100, wrapUp: { tokens: 20 } })
    const again = (declaration: BudgetDeclaration) => open({ store, budgets: { acme: declaration } })
    await expect(again({ tokens: 100 })).rejects.toMatchObject({ code: 'ERR_BUDGET_DECLARATION' })
    const { kernel } = await again({ tokens: 100, revision: 2 })
    await take(kernel, 'acme', { tokens: 100 })
    expect(await line(store, 'acme')).toMatchObject({ out: 100 })
  })

  test.each<[unknown, RegExp]>([
    [{ tokens: 100 }, /less than the limit/],
    [{ usd: 1 }, /does not limit it/],
    [{ tokens: -1 }, /wrapUp\.tokens/],
    [5, /must be amounts/],
  ])('%j is refused', async (wrapUp, message) => {
    await expect(site({ tokens: 100, wrapUp: wrapUp as never })).rejects.toThrow(message)
  })
})
