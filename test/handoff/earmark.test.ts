// Money for a later step of one's own: earlier steps cannot use it up, and what is left comes back.

import { describe, expect, test } from 'vitest'
import { balanced, line, needing, open, refusalOf } from '../budget/bench.ts'

async function site() {
  const opened = await open({
    budgets: { acme: { tokens: 100, calls: 10 } },
    rules: [{ effect: 'allow', agent: 'planner', tool: 'spend' }],
  })
  return { ...opened, scope: opened.kernel.scope({ agent: 'planner', task: 't', budget: 'acme' }) }
}

describe('an earmark', () => {
  test('keeps its money from earlier steps, for the same agent under the same rules', async () => {
    const { store, scope } = await site()
    const later = await scope.earmark('summary', { tokens: 40 })
    expect((await refusalOf(scope.begin(needing({ tokens: 61 })))).code).toBe('ERR_BUDGET_EXCEEDED')
    await (await scope.begin(needing({ tokens: 60 }))).settle({ tokens: 60 })
    expect(later.scope.agent).toBe('planner')
    const hold = await later.scope.begin(needing({ tokens: 40, calls: 1 }))
    // What was not set aside counts above, as ever.
    expect(await line(store, 'acme', 'calls')).toMatchObject({ out: 1 })
    await hold.settle({ tokens: 30, calls: 1 })
    expect((await refusalOf(later.scope.begin({ kind: 'tool', resource: 'other' }))).code).toBe('ERR_PERMISSION_DENIED')
    expect(await later.close()).toMatchObject({ returned: { tokens: 10 }, spent: { tokens: 30 } })
    expect(await line(store, 'acme')).toMatchObject({ spent: 90, free: 10, kids: 0 })
    await balanced(store)
  })

  test('comes back by itself with `await using`, and with its kernel', async () => {
    const { kernel, store, scope } = await site()
    {
      await using later = await scope.earmark('summary', { tokens: 40 })
      expect(await line(store, 'acme')).toMatchObject({ kids: 40, free: 60 })
      expect(later.id).not.toBe('')
    }
    expect(await line(store, 'acme')).toMatchObject({ kids: 0, free: 100 })
    await scope.earmark('another', { tokens: 40 })
    await kernel.close()
    expect(await line(store, 'acme')).toMatchObject({ kids: 0, free: 100 })
  })

  test('that does not fit is refused, and nothing of it is there', async () => {
    const { store, scope } = await site()
    expect((await refusalOf(scope.earmark('summary', { tokens: 101 }))).code).toBe('ERR_BUDGET_EXCEEDED')
    expect((await balanced(store)).length).toBe(2)
  })

  test.each<[string, object, RegExp]>([
    ['', { tokens: 1 }, /earmark\.step/],
    ['a/b', { tokens: 1 }, /earmark\.step/],
    ['x'.repeat(101), { tokens: 1 }, /100 characters/],
    ['summary', {}, /limits nothing/],
    ['summary', { tokens: 1, warnAt: 0.5 }, /earmark\.budget\.warnAt/],
    ['summary', { tokens: -1 }, /tokens/],
  ])('%j of %j is refused', async (step, budget, message) => {
    const { scope } = await site()
    await expect(scope.earmark(step, budget as never)).rejects.toThrow(message)
  })
})

test('settings of budgets are none of what is handed over', async () => {
  const { scope } = await site()
  for (const setting of [{ warnAt: 0.5 }, { wrapUp: { tokens: 1 } }])
    await expect(scope.handoff({ to: 'b', instruction: 'x', budget: { tokens: 5, ...setting } as never })).rejects.toThrow(
      /handoff\.budget/,
    )
})
