// Every beginning has its end: of a kernel on a store that hangs, of an intent that came to nothing, of a hold whose
// use is beyond counting, of a take that a copy of this process had made.

import { describe, expect, test, vi } from 'vitest'
import { line, open, take } from '../budget/bench.ts'
import { asking, declare, ledgerOf } from '../budget/ledger-bench.ts'
import { HoldfastError } from '../../src/lib/errors.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { faultyStore, type Fault } from '../../src/testing/faulty-store.ts'
import type { Kernel } from '../../src/kernel/open-kernel.ts'
import type { Gate, Verdict } from '../../src/waist/gate.ts'

const BUDGETS = { acme: { tokens: 10 } }
const gate = (decide: Gate['decide']): Gate => ({ name: 'mine', decide })
const endsOf = (kernel: Kernel) => {
  const all = kernel.auditLines.map((one) => JSON.parse(one) as Record<string, unknown>)
  const ends = all.filter(({ kind }) => kind === 'outcome' || kind === 'refused')
  return all
    .filter(({ kind }) => kind === 'intent')
    .map((i) => ends.filter(({ hold }) => hold === i['hold']).map((e) => e['outcome'] ?? e['code']))
}
const stale = { verdict: 'allow', fragment: { check: [{ key: 'ticket/x', version: 7 }] } } as const

test('close ends although the store never answers', async () => {
  const real = memoryStore()
  let hanging = false
  const apply: Store['apply'] = (batches) => (hanging ? new Promise<never>(() => undefined) : real.apply(batches))
  const { kernel } = await open({ store: { ...real, apply }, budgets: BUDGETS })
  await take(kernel, 'acme', { tokens: 4 })
  hanging = true
  await kernel.close()
  expect(JSON.parse(kernel.auditLines.at(-1)!)).toMatchObject({ kind: 'close', unsent: 1 })
}, 40_000)

test('close ends although the store goes away in the middle of it, and says so', async () => {
  const real = memoryStore()
  let away = false
  const list: Store['list'] = async (...asked) => {
    if (away) throw new HoldfastError('ERR_STORE', 'the server was restarted')
    return real.list(...asked)
  }
  const { kernel, events } = await open({ store: { ...real, list }, budgets: BUDGETS })
  away = true
  await kernel.close()
  expect(events.filter(({ type }) => type === 'trouble')).toMatchObject([
    { message: expect.stringContaining('the server was restarted') as string },
  ])
  expect(JSON.parse(kernel.auditLines.at(-1)!)).toMatchObject({ kind: 'close' })
})

describe('an intent has its end', () => {
  test('when a gate throws as it is asked again', async () => {
    let asked = 0
    const { kernel } = await open({
      budgets: BUDGETS,
      gates: [
        gate((): Verdict => {
          if (asked++ > 0) throw new Error('broken')
          return stale
        }),
      ],
    })
    await expect(take(kernel, 'acme', { tokens: 1 })).rejects.toThrow('broken')
    expect(endsOf(kernel)).toEqual([['released']])
  })
  test('when the part of a gate never holds', async () => {
    const { kernel } = await open({ budgets: BUDGETS, gates: [gate(() => stale)] })
    await expect(take(kernel, 'acme', { tokens: 1 })).rejects.toMatchObject({ code: 'ERR_STORE' })
    expect(endsOf(kernel)).toEqual([['released']])
  })
  test('when it is aborted while its gates are asked again', async () => {
    const caller = new AbortController()
    let asked = 0
    const { kernel } = await open({
      budgets: BUDGETS,
      gates: [
        gate(() => {
          if (asked++ > 0) caller.abort(new Error('left'))
          return stale
        }),
      ],
    })
    await expect(take(kernel, 'acme', { tokens: 1 }, { signal: caller.signal })).rejects.toThrow('left')
    expect(endsOf(kernel)).toEqual([['released']])
  })
  test('when observe mode lets it pass a gate, and the store then refuses it', async () => {
    const real = memoryStore()
    let takes = 0
    const apply: Store['apply'] = async (batches) => {
      if (batches.some(({ set }) => set?.some(({ key }) => key.startsWith('hold/'))) && ++takes === 2) throw new Error('away')
      return real.apply(batches)
    }
    const counter = gate(() => ({ verdict: 'allow', fragment: { add: [{ key: 'rate/x', by: 1, max: 0 }] } }))
    const { kernel } = await open({ store: { ...real, apply }, budgets: BUDGETS, mode: 'observe', gates: [counter] })
    await expect(take(kernel, 'acme', { tokens: 1 })).rejects.toThrow('away')
    expect(endsOf(kernel)).toEqual([['released']])
  })
})

test('in observe mode, a check of `with` that fails in the second commit is ERR_CONFLICT too', async () => {
  const real = memoryStore()
  let takes = 0
  const apply: Store['apply'] = async (batches) => {
    // Somebody writes between the commit that the counter refused and the one without it.
    if (batches.some(({ set }) => set?.some(({ key }) => key.startsWith('hold/'))) && ++takes === 2)
      await real.apply([{ set: [{ key: 'mine/x', value: 1 }] }])
    return real.apply(batches)
  }
  const counter = gate(() => ({ verdict: 'allow', fragment: { add: [{ key: 'rate/x', by: 1, max: 0 }] } }))
  const { kernel } = await open({ store: { ...real, apply }, budgets: BUDGETS, mode: 'observe', gates: [counter] })
  const asked = take(kernel, 'acme', { tokens: 1 }, { with: { check: [{ key: 'mine/x', version: 0 }] } })
  await expect(asked).rejects.toMatchObject({ code: 'ERR_CONFLICT' })
})

test('use near 2^53 ends a second hold too', async () => {
  const { kernel, store } = await open({ budgets: { acme: { tokens: 100 } } })
  const holds = [await take(kernel, 'acme', { tokens: 10 }), await take(kernel, 'acme', { tokens: 10 })]
  for (const hold of holds) await hold.settle({ tokens: Number.MAX_SAFE_INTEGER })
  await vi.waitFor(() => expect(kernel.pendingReports).toBe(0), { timeout: 30_000 })
  expect(await line(store, 'acme')).toMatchObject({ out: 0, spent: 20, frozen: expect.any(String) })
}, 40_000)

test('a copy that gives back what it could not take leaves the hold of the other one', async () => {
  const real = memoryStore()
  await declare(real, BUDGETS)
  const plan: Fault[] = []
  const store = faultyStore(real, plan)
  const copy = ledgerOf(store)
  await copy.end(await copy.take(asking('warm', 'acme', { tokens: 1 })), { tokens: 0 }, 'settle')
  await ledgerOf(real).take(asking('one', 'acme', { tokens: 6 }))
  plan[store.happened.length] = 'lose-request'
  await expect(copy.take(asking('one', 'acme', { tokens: 4 }))).rejects.toMatchObject({ code: 'ERR_STORE' })
  await new Promise((resolve) => setTimeout(resolve, 200))
  expect(await line(real, 'acme')).toMatchObject({ out: 6, free: 4 })
})
