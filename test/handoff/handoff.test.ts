// Handoffs: money that moves out of a budget and back, rules that only narrow, and an equation that holds all the
// while, in every budget.

import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { balanced, keys, line, needing, open, refusalOf } from '../budget/bench.ts'
import { parseHandoff } from '../../src/handoff/message.ts'
import type { KernelOptions } from '../../src/kernel/open-kernel.ts'
import { Refusal } from '../../src/lib/errors.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { fileStore } from '../../src/stores/file.ts'
import { faultyStore } from '../../src/testing/faulty-store.ts'
import { settableClock } from '../../src/testing/store-bench.ts'
import type { Scope } from '../../src/waist/scope.ts'
import { temporaryDirectory } from '../stores/journal.ts'

const BUDGETS = { acme: { usd: 10, tokens: 1_000 }, 'acme/report': { usd: 5 } }

async function giver(options: Partial<KernelOptions> = {}) {
  const opened = await open({ budgets: BUDGETS, ...options })
  const scope = opened.kernel.scope({ agent: 'orchestrator', task: 'report', budget: 'acme/report' })
  return { ...opened, scope }
}

const usd = (amount: number): number => amount * 1_000_000_000
/** A refusal is an answer like any other here; a failure is not. */
function unlessRefused(error: unknown): undefined {
  if (!Refusal.isInstance(error)) throw error
}
const spend = async (scope: Scope, amount: number, tokens = 0): Promise<void> => {
  const worst = { usd: usd(amount), tokens }
  await (await scope.begin({ kind: 'tool', resource: 'spend', worst })).settle(worst)
}

describe('the money of a handoff', () => {
  test('moves out of every budget above in one commit, is spent without asking them, and what is left comes back', async () => {
    const { scope, store } = await giver()
    const handoff = await scope.handoff({ to: 'analyst', budget: { usd: 2 }, instruction: 'Count.' })
    for (const budget of ['acme', 'acme/report']) expect(await line(store, budget, 'usd')).toMatchObject({ kids: usd(2), out: 0, spent: 0 })
    await spend(handoff.scope, 0.5, 100)
    expect(await line(store, handoff.scope.budget, 'usd')).toMatchObject({ limit: usd(2), spent: usd(0.5), free: usd(1.5) })
    // What the handoff does not limit is counted above, as it always was.
    expect(await line(store, 'acme', 'tokens')).toMatchObject({ spent: 100 })
    expect(await line(store, 'acme', 'usd')).toMatchObject({ kids: usd(2), spent: 0 })
    expect(await handoff.close()).toEqual({
      returned: { usd: usd(1.5) },
      spent: { usd: usd(0.5) },
      stillOut: { usd: 0 },
      inSuspense: { usd: 0 },
    })
    for (const [budget, limit] of [
      ['acme', 10],
      ['acme/report', 5],
    ] as const)
      expect(await line(store, budget, 'usd')).toMatchObject({ kids: 0, spent: usd(0.5), free: usd(limit - 0.5) })
    expect(await keys(store, `free/usd/${handoff.scope.budget}`)).toEqual([])
  })

  test('that the giver does not have is refused, at once or after waiting for what others hold, and nothing is made', async () => {
    const { scope, store } = await giver()
    const refusal = await refusalOf(scope.handoff({ to: 'analyst', budget: { usd: 6 }, instruction: 'x' }))
    expect(refusal).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED', details: { budget: { budget: 'acme/report', dimension: 'usd' } } })
    const held = await scope.begin({ kind: 'tool', resource: 'spend', worst: { usd: usd(4) } })
    expect((await refusalOf(scope.handoff({ to: 'analyst', budget: { usd: 3 }, instruction: 'x' }))).code).toBe('ERR_BUDGET_BUSY')
    await held.release('not needed')
    await scope.handoff({ to: 'analyst', budget: { usd: 3 }, instruction: 'x' })
    expect((await refusalOf(spend(scope, 3))).code).toBe('ERR_BUDGET_EXCEEDED')
    expect(await keys(store, 'handoff/')).toHaveLength(1)
  })

  test('cannot be overspent by the receiver, who is told so; the giver goes on', async () => {
    const { scope } = await giver()
    const handoff = await scope.handoff({ to: 'analyst', budget: { usd: 1 }, instruction: 'x' })
    await spend(handoff.scope, 1)
    expect((await refusalOf(spend(handoff.scope, 0.01))).details.budget?.budget).toBe(handoff.scope.budget)
    await spend(scope, 4)
    expect((await refusalOf(spend(scope, 0.01))).code).toBe('ERR_BUDGET_EXCEEDED')
  })

  test('that is still held when it is closed comes back when that ends', async () => {
    const { scope, store } = await giver()
    const handoff = await scope.handoff({ to: 'analyst', budget: { usd: 2 }, instruction: 'x' })
    await spend(handoff.scope, 0.25)
    const [one, two] = [
      await handoff.scope.begin({ kind: 'tool', resource: 'spend', worst: { usd: usd(1) } }),
      await handoff.scope.begin({ kind: 'tool', resource: 'spend', worst: { usd: usd(0.5) } }),
    ]
    expect(await handoff.close()).toMatchObject({ returned: { usd: usd(0.25) }, spent: { usd: usd(0.25) }, stillOut: { usd: usd(1.5) } })
    expect((await refusalOf(spend(handoff.scope, 0.01))).message).toContain('its handoff was closed')
    await one.settle({ usd: usd(0.75) })
    expect(await line(store, 'acme/report', 'usd')).toMatchObject({ kids: usd(0.5), spent: usd(1) })
    await two.charge('nobody knows')
    expect(await line(store, 'acme/report', 'usd')).toMatchObject({ kids: 0, spent: usd(1.5), assumed: usd(0.5), free: usd(3.5) })
    expect(await handoff.close()).toEqual({
      returned: { usd: usd(0.5) },
      spent: { usd: usd(1.5) },
      stillOut: { usd: 0 },
      inSuspense: { usd: 0 },
    })
  })

  test('of a receiver that died goes to suspense, and never blocks the giver', async () => {
    const clock = settableClock()
    const store = memoryStore({ clock })
    const { scope } = await giver({ store })
    const handoff = await scope.handoff({ to: 'analyst', budget: { usd: 2 }, instruction: 'x' })
    const hold = await handoff.scope.begin({ kind: 'tool', resource: 'spend', worst: { usd: usd(1) } })
    clock.set(clock.now() + 600_000)
    const { kernel: other } = await open({ store })
    await other.sweep()
    expect(await handoff.close()).toMatchObject({ returned: { usd: usd(1) }, inSuspense: { usd: usd(1) } })
    expect(await line(store, 'acme/report', 'usd')).toMatchObject({ kids: usd(1), free: usd(4) })
    // It was alive after all.
    await hold.settle({ usd: usd(0.5) })
    expect(await line(store, 'acme/report', 'usd')).toMatchObject({ kids: 0, spent: usd(0.5), free: usd(4.5) })
  })

  test('handed on goes up level by level, in whatever order they close', async () => {
    const { scope, store } = await giver()
    const first = await scope.handoff({ to: 'analyst', budget: { usd: 3 }, instruction: 'x' })
    const second = await first.scope.handoff({ to: 'clerk', budget: { usd: 1 }, instruction: 'y' })
    await spend(second.scope, 0.4)
    expect(await first.close()).toMatchObject({ returned: { usd: usd(2) }, stillOut: { usd: usd(1) } })
    expect(await second.close()).toMatchObject({ returned: { usd: usd(0.6) }, spent: { usd: usd(0.4) } })
    expect(await line(store, 'acme', 'usd')).toMatchObject({ kids: 0, spent: usd(0.4), free: usd(9.6) })
    expect(await first.close()).toMatchObject({ returned: { usd: usd(2.6) }, spent: { usd: usd(0.4) }, stillOut: { usd: 0 } })
  })

  test('comes back through any kernel when its giver is gone', async () => {
    const { scope, store, kernel } = await giver()
    const handoff = await scope.handoff({ to: 'analyst', budget: { usd: 2 }, instruction: 'x' })
    await spend(handoff.scope, 0.5)
    await kernel.close()
    const { kernel: other } = await open({ store })
    for (const _ of [1, 2])
      expect(await other.closeHandoff(handoff.id)).toMatchObject({ returned: { usd: usd(1.5) }, spent: { usd: usd(0.5) } })
    expect(await line(store, 'acme', 'usd')).toMatchObject({ kids: 0, spent: usd(0.5) })
    await expect(other.closeHandoff('unknown')).rejects.toMatchObject({ code: 'ERR_STORE' })
  })

  test('never mixes with that of another handoff, when a limit came between them', async () => {
    const { kernel, store } = await open({ budgets: { acme: { usd: 1 } } })
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
    const before = await scope.handoff({ to: 'one', budget: { tokens: 500 }, instruction: 'x' })
    const { kernel: later } = await open({ store, budgets: { acme: { usd: 1, tokens: 1_000, revision: 2 } } })
    const giving = later.scope({ agent: 'a', task: 't', budget: 'acme' })
    const after = await giving.handoff({ to: 'two', budget: { tokens: 500 }, instruction: 'x' })
    await before.close()
    expect(await line(store, 'acme')).toMatchObject({ free: 500, kids: 500 })
    expect((await refusalOf(giving.begin(needing({ tokens: 501 })))).code).toBe('ERR_BUDGET_EXCEEDED')
    await after.close()
    expect(await line(store, 'acme')).toMatchObject({ free: 1_000, kids: 0 })
  })

  test('that was charged before it was closed is corrected where it stands by then', async () => {
    const { scope, store, kernel } = await giver()
    const first = await scope.handoff({ to: 'analyst', budget: { usd: 2 }, instruction: 'x' })
    const second = await first.scope.handoff({ to: 'clerk', budget: { usd: 1 }, instruction: 'x' })
    const hold = await second.scope.begin({ kind: 'tool', resource: 'spend', worst: { usd: usd(1) } })
    await hold.charge('nobody knows')
    await second.close()
    await first.close()
    await hold.settle({ usd: usd(0.25) })
    expect(kernel.pendingReports).toBe(0)
    for (const budget of ['acme', 'acme/report'])
      expect(await line(store, budget, 'usd')).toMatchObject({ kids: 0, spent: usd(0.25), assumed: 0 })
  })

  test('that ends beyond its hold after it was closed takes the rest where its free money went', async () => {
    const { scope, store } = await giver()
    const handoff = await scope.handoff({ to: 'analyst', budget: { usd: 2 }, instruction: 'x' })
    const hold = await handoff.scope.begin({ kind: 'tool', resource: 'spend', worst: { usd: usd(1) } })
    const none = await handoff.scope.begin({ kind: 'tool', resource: 'spend' })
    await handoff.close()
    await hold.settle({ usd: usd(1.5) })
    await none.settle({ usd: usd(0.25) })
    for (const [budget, limit] of [
      ['acme', 10],
      ['acme/report', 5],
    ] as const)
      expect(await line(store, budget, 'usd')).toMatchObject({ kids: 0, spent: usd(1.75), free: usd(limit - 1.75), over: 0 })
    expect(await keys(store, `over/usd/${handoff.scope.budget}`)).toEqual([])
    await spend(scope, 1)
  })

  test('that nothing above covers freezes the tree, and is counted beside it', async () => {
    const { scope, store } = await giver()
    const handoff = await scope.handoff({ to: 'analyst', budget: { usd: 2 }, instruction: 'x' })
    const hold = await handoff.scope.begin({ kind: 'tool', resource: 'spend', worst: { usd: usd(1) } })
    await handoff.close()
    await hold.settle({ usd: usd(9) })
    expect(await line(store, 'acme/report', 'usd')).toMatchObject({ spent: usd(1), over: usd(8) })
    expect(await line(store, 'acme', 'usd')).toMatchObject({ spent: usd(9), frozen: expect.any(String) })
    expect((await refusalOf(spend(scope, 1))).code).toBe('ERR_BUDGET_FROZEN')
  })

  test('comes up through a closed giver also when the reply of the first closing was lost', async () => {
    const store = faultyStore(memoryStore(), [])
    const { scope } = await giver({ store })
    const first = await scope.handoff({ to: 'analyst', budget: { usd: 2 }, instruction: 'x' })
    const second = await first.scope.handoff({ to: 'clerk', budget: { usd: 1 }, instruction: 'x' })
    await first.close()
    const lossy = faultyStore(store, ['lose-reply'])
    const { kernel: other } = await open({ store: lossy })
    await expect(other.closeHandoff(second.id)).rejects.toMatchObject({ code: 'ERR_STORE' })
    await other.closeHandoff(second.id)
    expect(await line(store, 'acme/report', 'usd')).toMatchObject({ kids: 0, free: usd(5) })
  })

  test('comes back with `await using`, also when the work throws', async () => {
    const { scope, store } = await giver()
    const work = async (): Promise<void> => {
      await using handoff = await scope.handoff({ to: 'analyst', budget: { usd: 2 }, instruction: 'x' })
      await spend(handoff.scope, 0.5)
      throw new Error('failed')
    }
    await expect(work()).rejects.toThrow('failed')
    expect(await line(store, 'acme/report', 'usd')).toMatchObject({ kids: 0, spent: usd(0.5) })
  })

  test('in observe mode is let through beyond the limit, and counted beside it', async () => {
    const { scope, store } = await giver({ mode: 'observe' })
    const handoff = await scope.handoff({ to: 'analyst', budget: { usd: 7 }, instruction: 'x' })
    await spend(handoff.scope, 2)
    await handoff.close()
    expect(await line(store, 'acme/report', 'usd')).toMatchObject({ kids: 0, free: usd(5), over: usd(2) })
    expect(await line(store, 'acme', 'usd')).toMatchObject({ kids: 0, free: usd(8), spent: usd(2) })
  })

  test('comes back to who gave it when a budget above has begun to limit it since', async () => {
    const { scope, store } = await giver()
    const handoff = await scope.handoff({ to: 'analyst', budget: { usd: 2, calls: 5 }, instruction: 'x' })
    await (await handoff.scope.begin({ kind: 'tool', resource: 'spend', worst: { calls: 1 } })).settle({ calls: 1 })
    await open({ store, budgets: { ...BUDGETS, acme: { usd: 10, tokens: 1_000, calls: 50, revision: 2 } } })
    expect(await handoff.close()).toMatchObject({ returned: { calls: 4 }, spent: { calls: 1 } })
    expect(await line(store, 'acme', 'calls')).toMatchObject({ kids: 0, over: 0, free: 50 })
    expect(await line(store, 'acme', 'usd')).toMatchObject({ kids: 0, free: usd(10) })
  })

  test('stays in balance through random handoffs, spending and closing, and all of it comes home', async () => {
    let made = 0
    const step = fc.record({
      what: fc.constantFrom('handoff', 'handoff', 'handoff', 'spend', 'hold', 'end', 'close'),
      at: fc.nat(7),
      share: fc.integer({ min: 1, max: 10 }),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        const store = memoryStore()
        const { kernel } = await open({ store, budgets: { root: { usd: 100, calls: 1_000 }, 'root/task': { usd: 50 } } })
        const scopes: { scope: Scope; close?: () => Promise<unknown> }[] = [
          { scope: kernel.scope({ agent: 'a0', task: 't', budget: 'root/task' }) },
        ]
        const holds: Awaited<ReturnType<Scope['begin']>>[] = []
        let spent = 0
        for (const { what, at, share } of steps) {
          const from = scopes[at % scopes.length]!
          const amount = share * 1_000
          if (what === 'handoff' && from.scope.budget.split('/').length < 7) {
            const handoff = await from.scope
              .handoff({ to: `a${scopes.length}`, budget: { usd: ((amount * 20) / 1e9).toFixed(9) }, instruction: 'x' })
              .catch(unlessRefused)
            made += handoff === undefined ? 0 : 1
            if (handoff !== undefined) scopes.push({ scope: handoff.scope, close: () => handoff.close() })
          } else if (what === 'close') await from.close?.()
          else if (what === 'end') {
            const hold = holds.pop()
            if (hold !== undefined) {
              spent += Math.floor((hold.amounts['usd'] ?? 0) / 2)
              await hold.settle({ usd: Math.floor((hold.amounts['usd'] ?? 0) / 2) })
            }
          } else {
            const hold = await from.scope.begin({ kind: 'tool', resource: 'spend', worst: { usd: amount } }).catch(() => undefined)
            if (hold !== undefined && what === 'hold') holds.push(hold)
            else if (hold !== undefined) {
              spent += amount
              await hold.settle({ usd: amount })
            }
          }
          await balanced(store)
        }
        for (const hold of holds) await hold.release('the end')
        for (const { close } of scopes) await close?.()
        const ledger = await balanced(store)
        for (const budget of ['root', 'root/task'])
          expect(ledger.find((one) => one.budget === budget && one.dimension === 'usd')).toMatchObject({ spent, kids: 0, out: 0 })
        expect(ledger.filter(({ budget, free, out }) => budget.startsWith('root/task/') && free + out > 0)).toEqual([])
        await kernel.close()
      }),
      { numRuns: Number(process.env['HOLDFAST_PROPERTY_RUNS'] ?? 150) },
    )
    expect(made).toBeGreaterThan(10)
  })
})

describe('the rules of a handoff', () => {
  const rules = [
    { effect: 'allow', tool: ['read', 'write'] },
    { effect: 'deny', tool: 'drop' },
  ] as const
  const decide = async (scope: Scope, tool: string): Promise<string> =>
    (await scope.decide({ kind: 'tool', resource: tool }))?.code ?? 'allowed'

  test('narrow what the receiver may do, and open nothing that the giver may not', async () => {
    const { scope } = await giver({ rules })
    const handoff = await scope.handoff({
      to: 'analyst',
      budget: { usd: 1 },
      instruction: 'x',
      rules: [{ effect: 'allow', tool: ['read', 'drop'] }],
    })
    expect(await decide(handoff.scope, 'read')).toBe('allowed')
    for (const tool of ['write', 'drop', 'other']) expect(await decide(handoff.scope, tool)).toBe('ERR_PERMISSION_DENIED')
    expect(await decide(scope, 'write')).toBe('allowed')
    const on = await handoff.scope.handoff({ to: 'clerk', budget: { usd: 0.5 }, instruction: 'y', rules: [{ effect: 'allow', tool: '*' }] })
    expect(await decide(on.scope, 'write')).toBe('ERR_PERMISSION_DENIED')
    expect(await decide(on.scope, 'read')).toBe('allowed')
  })

  test('bind also where the kernel has none', async () => {
    const { scope } = await giver()
    const handoff = await scope.handoff({ to: 'analyst', budget: { usd: 1 }, instruction: 'x', rules: [{ effect: 'allow', tool: 'read' }] })
    expect(await decide(handoff.scope, 'write')).toBe('ERR_PERMISSION_DENIED')
  })

  test('of giver and receiver that both ask are answered by one approval', async () => {
    const ask = [{ effect: 'ask', tool: 'pay' }] as const
    const { scope, kernel } = await giver({ rules: ask })
    const handoff = await scope.handoff({ to: 'analyst', budget: { usd: 1 }, instruction: 'x', rules: ask })
    const refusal = await refusalOf(handoff.scope.begin({ kind: 'tool', resource: 'pay', args: { amount: 1 } }))
    await kernel.approve({ agent: 'analyst', tool: 'pay', argsHash: refusal.details.argsHash!, by: 'boss', expiresInMs: 60_000 })
    await (await handoff.scope.begin({ kind: 'tool', resource: 'pay', args: { amount: 1 } })).settle({})
    expect((await refusalOf(handoff.scope.begin({ kind: 'tool', resource: 'pay', args: { amount: 1 } }))).code).toBe(
      'ERR_APPROVAL_REQUIRED',
    )
  })
})

describe('a handoff', () => {
  test('carries its message, and is in the trail and in the store', async () => {
    const { scope, store, kernel } = await giver()
    const texts = { instruction: 'Count.\n[/HANDOFF]', context: 'All of it.', constraints: 'Quickly.', expectedOutput: 'A number.' }
    const handoff = await scope.handoff({ to: 'analyst', budget: { usd: '0.50', calls: 3 }, ...texts })
    expect(parseHandoff(handoff.message)).toEqual({
      ...texts,
      id: handoff.id,
      from: 'orchestrator',
      to: 'analyst',
      budget: '$0.50, 3 calls',
    })
    const [record] = await store.read([`handoff/${handoff.id}`])
    expect(record?.value).toMatchObject({ from: 'orchestrator', to: 'analyst', task: 'report', budget: handoff.scope.budget })
    await handoff.close()
    const kinds = kernel.auditLines.map((text) => JSON.parse(text) as Record<string, unknown>)
    expect(kinds.find(({ action }) => action === 'handoff')).toMatchObject({ kind: 'intent', resource: 'analyst', agent: 'orchestrator' })
    expect(kinds.find(({ type }) => type === 'handoff-closed')).toMatchObject({ handoff: handoff.id })
    expect(kernel.auditLines.join()).not.toContain('All of it.')
  })

  test.each<[string, object, string]>([
    ['to itself', { to: 'orchestrator' }, 'cannot hand work to itself'],
    ['to nobody', { to: '' }, '`handoff.to`'],
    ['to a name that is none', { to: 'a/b' }, '`handoff.to`'],
    ['to a name without end', { to: 'x'.repeat(128) }, '100 characters'],
    ['without an instruction', { instruction: undefined }, '`instruction` of a handoff'],
    ['without a budget', { budget: {} }, 'limits nothing'],
    ['with a negative budget', { budget: { usd: -1 } }, '>= 0'],
    ['with a budget that is no number', { budget: { usd: Number.NaN } }, 'NaN'],
    ['with half a token', { budget: { tokens: 0.5 } }, 'whole number'],
    ['with a rule that is none', { rules: [{ effect: 'permit', tool: 'x' }] }, 'rules[0].effect'],
    ['with a field that is none', { deadline: 1 }, '`deadline` is not a field'],
    ['with a text of 2 MB', { context: 'x'.repeat(2_000_000) }, '1048576 characters'],
  ])('%s is refused, and leaves nothing', async (_, change, message) => {
    const { scope, store } = await giver()
    await expect(scope.handoff({ to: 'analyst', budget: { usd: 1 }, instruction: 'x', ...change })).rejects.toThrow(message)
    expect(await keys(store, 'handoff/')).toEqual([])
    expect(await line(store, 'acme', 'usd')).toMatchObject({ kids: 0 })
  })

  test('twenty deep ends at the eighth level, with a clear error', async () => {
    const { scope } = await giver()
    const deeper = async (from: Scope, depth: number): Promise<number> =>
      deeper((await from.handoff({ to: `agent-${depth}`, budget: { usd: 1 / 2 ** depth }, instruction: 'x' })).scope, depth + 1)
    await expect(deeper(scope, 0)).rejects.toThrow('at most 8 levels deep')
  })

  test('has a budget that nobody can declare', async () => {
    const { scope, store } = await giver()
    const { budget } = (await scope.handoff({ to: 'analyst', budget: { usd: 1 }, instruction: 'x' })).scope
    const declaration = open({ store, budgets: { ...BUDGETS, [budget]: { usd: 5, revision: 2 } } })
    await expect(declaration).rejects.toThrow('is the allotment of a handoff')
  })

  test('that is closed by many at once is closed once', async () => {
    const { scope, store } = await giver({ store: fileStore(temporaryDirectory(), { durability: 'os' }) })
    const handoff = await scope.handoff({ to: 'analyst', budget: { usd: 2 }, instruction: 'x' })
    await spend(handoff.scope, 0.5)
    const closings = await Promise.all(Array.from({ length: 8 }, () => handoff.close()))
    expect(new Set(closings.map((closing) => JSON.stringify(closing))).size).toBe(1)
    expect(await line(store, 'acme/report', 'usd')).toMatchObject({ kids: 0, spent: usd(0.5), free: usd(4.5) })
  })
})
