// A refusal that ends the work is remembered for the run, since frameworks swallow errors and go on. Proves that
// the rest of such a run is refused without asking the store, that it ends as soon as there is a reason to ask
// again, and that nothing else is ever remembered.

import { describe, expect, test } from 'vitest'
import { needing, open, refusalOf, take, type Opened } from './bench.ts'
import type { KernelOptions } from '../../src/kernel/open-kernel.ts'
import type { RefusalDetails } from '../../src/lib/errors.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import type { Action } from '../../src/waist/action.ts'
import type { Scope } from '../../src/waist/scope.ts'

interface Counted extends Opened {
  readonly scope: Scope
  /** How often the store was asked or written to so far. */
  readonly asked: () => number
}

async function counted(options: Partial<KernelOptions> = {}): Promise<Counted> {
  let calls = 0
  const real = memoryStore()
  const store: Store = {
    ...real,
    apply: (batches) => (calls++, real.apply(batches)),
    read: (keys) => (calls++, real.read(keys)),
  }
  const opened = await open({ budgets: { acme: { tokens: 10 }, 'acme/*': { tokens: 10 } }, ...options, store })
  return { ...opened, scope: opened.kernel.scope({ agent: 'tester', task: 'test', budget: 'acme' }), asked: () => calls }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
const spend = async (scope: Scope, tokens: number): Promise<void> => (await scope.begin(needing({ tokens }))).settle({ tokens })

describe('a refusal that ends the work', () => {
  test('refuses the rest of its run without asking the store, whatever it asks for', async () => {
    const { scope, asked } = await counted()
    await scope.enter(async () => {
      await spend(scope, 10)
      const first = await refusalOf(scope.begin(needing({ tokens: 1 })))
      expect(first.details).toMatchObject({ endsRun: true })
      expect(first.details.latched).toBeUndefined()
      const before = asked()
      for (const action of [needing({ tokens: 1 }), needing({}), needing({ tokens: 5 }, { kind: 'model' })]) {
        const again = await refusalOf(scope.begin(action))
        expect(again).toMatchObject({
          code: first.code,
          message: first.message,
          cause: first,
          details: { ...first.details, latched: true },
        })
      }
      expect(asked()).toBe(before)
      expect(scope.refusal?.details.latched).toBe(true)
    })
  })

  test('holds for the budgets below the one that is used up', async () => {
    const { kernel, scope, asked } = await counted({ budgets: { acme: { tokens: 5 }, 'acme/*': { tokens: 10 } } })
    await scope.enter(async () => {
      await spend(scope, 5)
      await refusalOf(scope.begin(needing({ tokens: 1 })))
      const before = asked()
      expect((await refusalOf(take(kernel, 'acme/child', { tokens: 1 }))).details).toMatchObject({
        latched: true,
        budget: { budget: 'acme' },
      })
      expect(asked()).toBe(before)
    })
  })

  test('does not hold for the budgets beside and above it', async () => {
    const { kernel, scope } = await counted({ budgets: { acme: { tokens: 20 }, 'acme/*': { tokens: 5 } } })
    await scope.enter(async () => {
      await (await take(kernel, 'acme/one', { tokens: 5 })).settle({})
      expect((await refusalOf(take(kernel, 'acme/one', { tokens: 1 }))).details.endsRun).toBe(true)
      expect((await take(kernel, 'acme/two', { tokens: 5 })).state).toBe('held')
      expect((await take(kernel, 'acme/one-more', { tokens: 5 })).state).toBe('held')
      await spend(scope, 5)
    })
  })

  test('is over as soon as money returns to the budget', async () => {
    const { kernel, scope } = await counted()
    await scope.enter(async () => {
      const charged = await take(kernel, 'acme', { tokens: 10 })
      await charged.charge('unknown')
      await refusalOf(scope.begin(needing({ tokens: 1 })))
      await charged.settle({ tokens: 4 })
      await pause(20)
      await spend(scope, 6)
    })
    expect(scope.refusal).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
  })

  test('is over after a second in any case: then the store is asked again', async () => {
    const { scope, asked } = await counted()
    await scope.enter(async () => {
      await spend(scope, 10)
      await refusalOf(scope.begin(needing({ tokens: 1 })))
      await pause(1_050)
      const before = asked()
      expect((await refusalOf(scope.begin(needing({ tokens: 1 })))).details.latched).toBeUndefined()
      expect(asked()).toBeGreaterThan(before)
    })
  })

  test('is that of its run alone: another one asks for itself', async () => {
    const { kernel, scope, asked } = await counted()
    await spend(scope, 10)
    const ended = Promise.withResolvers<void>()
    const one = scope.enter(async () => {
      await refusalOf(scope.begin(needing({ tokens: 1 })))
      ended.resolve()
    })
    const two = scope.enter(async () => {
      await ended.promise
      const before = asked()
      expect((await refusalOf(take(kernel, 'acme', { tokens: 1 }))).details.latched).toBeUndefined()
      expect(asked()).toBeGreaterThan(before)
    })
    await Promise.all([one, two])
  })

  test('of a frozen tree is remembered too', async () => {
    const { scope, asked } = await counted()
    await scope.enter(async () => {
      await (await scope.begin(needing({ tokens: 10 }))).settle({ tokens: 11 })
      await refusalOf(scope.begin(needing({ tokens: 1 })))
      const before = asked()
      expect(await refusalOf(scope.begin(needing({ tokens: 1 })))).toMatchObject({ code: 'ERR_BUDGET_FROZEN', details: { latched: true } })
      expect(asked()).toBe(before)
    })
  })

  test('is none outside of a run: each call there is a run of its own', async () => {
    const { scope } = await counted()
    await spend(scope, 10)
    for (let call = 0; call < 3; call++) expect((await refusalOf(scope.begin(needing({ tokens: 1 })))).details.latched).toBeUndefined()
  })
})

/** Meets a refusal twice in one run, and goes on. Returns what the refusals said of themselves. */
async function refusedTwice(scope: Scope, action: Action): Promise<readonly RefusalDetails[]> {
  return scope.enter(async () => {
    const details = [(await refusalOf(scope.begin(action))).details, (await refusalOf(scope.begin(action))).details]
    await spend(scope, 1)
    return details
  })
}

describe('never remembered is', () => {
  test('a tool that rules deny or ask about', async () => {
    const rules = [
      { effect: 'deny', tool: 'shell' },
      { effect: 'ask', tool: 'mail' },
      { effect: 'allow', tool: 'spend' },
    ] as const
    const { scope } = await counted({ rules })
    for (const resource of ['shell', 'mail'])
      for (const details of await refusedTwice(scope, needing({}, { resource }))) expect(details).not.toHaveProperty('latched')
  })

  test('a budget that is only busy', async () => {
    const { kernel, scope } = await counted()
    await take(kernel, 'acme', { tokens: 8 })
    for (const details of await refusedTwice(scope, needing({ tokens: 3 }))) expect(details).not.toHaveProperty('latched')
  })

  test('a call that is too large while a smaller one fits', async () => {
    const { scope } = await counted()
    for (const details of await refusedTwice(scope, needing({ tokens: 11 }, { smallest: { tokens: 10 } })))
      expect(details).toMatchObject({ endsRun: false })
  })

  test('an unknown budget, an unknown counter and a missing price', async () => {
    const { kernel, scope } = await counted({ budgets: { acme: { tokens: 10, usd: 1 } } })
    await scope.enter(async () => {
      expect(await refusalOf(take(kernel, 'none', {}))).toMatchObject({ code: 'ERR_UNKNOWN_BUDGET' })
      expect(await refusalOf(take(kernel, 'acme', {}, { unpriced: 'no price' }))).toMatchObject({ code: 'ERR_UNKNOWN_PRICE' })
      await expect(take(kernel, 'acme', { cals: 1 })).rejects.toThrow(RangeError)
      await spend(scope, 1)
    })
  })

  test('a store that is away', async () => {
    const real = memoryStore()
    let away = false
    const store: Store = {
      ...real,
      apply: (batches) => (away ? Promise.resolve({ outcome: 'unknown', cause: new Error('away') }) : real.apply(batches)),
    }
    const { kernel } = await open({ store, budgets: { acme: { tokens: 10 } } })
    const scope = kernel.scope({ agent: 'tester', task: 'test', budget: 'acme' })
    await scope.enter(async () => {
      await spend(scope, 1)
      away = true
      await expect(scope.begin(needing({ tokens: 1 }))).rejects.toMatchObject({ code: 'ERR_STORE' })
      away = false
      await spend(scope, 1)
    })
    expect(scope.refusal).toBeUndefined()
  })
})

describe('a smaller model', () => {
  test('that still fits keeps the run alive; when not even the smallest fits, it is over', async () => {
    const { kernel, scope } = await counted()
    await scope.enter(async () => {
      await spend(scope, 8)
      expect((await refusalOf(take(kernel, 'acme', { tokens: 3 }, { smallest: { tokens: 2 } }))).details.endsRun).toBe(false)
      expect((await refusalOf(take(kernel, 'acme', { tokens: 3 }, { smallest: { tokens: 3 } }))).details.endsRun).toBe(true)
    })
  })
})

describe('scope.refusal', () => {
  test('is that of the current run inside of one, and the last one of the scope outside', async () => {
    const { scope } = await counted()
    expect(scope.refusal).toBeUndefined()
    await scope.enter(async () => {
      const refusal = await refusalOf(scope.begin(needing({ tokens: 11 })))
      expect(scope.refusal).toBe(refusal)
    })
    expect(scope.refusal).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
    await scope.enter(async () => expect(scope.refusal).toBeUndefined())
    const outside = await refusalOf(scope.begin(needing({ tokens: 12 })))
    expect(scope.refusal).toBe(outside)
  })

  test('shows in a run what another scope of it was refused', async () => {
    const { kernel, scope } = await counted()
    await scope.enter(async () => {
      const refusal = await refusalOf(take(kernel, 'acme/child', { tokens: 11 }))
      expect(scope.refusal).toBe(refusal)
    })
    expect(scope.refusal).toBeUndefined()
  })
})
