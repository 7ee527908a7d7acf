// What a hold says to whoever can still end its action.

import { afterEach, describe, expect, test, vi } from 'vitest'
import { openKernel, type Kernel, type KernelOptions } from '../../src/kernel/open-kernel.ts'
import { Refusal } from '../../src/lib/errors.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { until } from '../../src/testing/integration-bench.ts'

const WHY = { by: 'ada', reason: 'it loops' } as const
const CALL = { kind: 'model', resource: 'm', worst: { tokens: 10 } } as const

const open: Kernel[] = []
afterEach(async () => {
  for (const kernel of open.splice(0)) await kernel.close()
})

async function kernelOn(store: Store = memoryStore(), options: Partial<KernelOptions> = {}): Promise<Kernel> {
  const kernel = await openKernel({
    store,
    budgets: { acme: { tokens: 100 }, users: { tokens: 100 } },
    onEvent: () => undefined,
    ...options,
  })
  open.push(kernel)
  return kernel
}

const scopeOf = (kernel: Kernel) => kernel.scope({ agent: 'writer', task: 'report', budget: 'acme', also: ['users'] })

describe('the cut of a hold', () => {
  test('has the refusal of the stop as its reason', async () => {
    const kernel = await kernelOn()
    const hold = await scopeOf(kernel).begin(CALL)
    expect(hold.cut.aborted).toBe(false)
    await kernel.stop({ agent: 'writer', ...WHY })
    expect(hold.cut.aborted).toBe(true)
    expect(Refusal.isInstance(hold.cut.reason)).toBe(true)
    expect(hold.cut.reason).toMatchObject({ code: 'ERR_STOPPED' })
    await hold.charge('cut')
  })

  test('comes with the freeze of a budget beside its own, from another kernel, and when watch tells nothing', async () => {
    const store = memoryStore()
    const kernel = await kernelOn({ ...store, watch: () => () => undefined })
    const other = await kernelOn(store)
    const hold = await scopeOf(kernel).begin(CALL)
    const { cut } = hold
    await other.freeze('users', WHY)
    await until('it has looked', () => cut.aborted)
    expect(cut.reason).toMatchObject({ code: 'ERR_BUDGET_FROZEN' })
    await hold.charge('cut')
  })

  test('comes with a stop by another kernel when watch tells, whatever the timers do', async () => {
    vi.useFakeTimers({ toFake: ['setInterval'] })
    try {
      const store = memoryStore()
      const [kernel, other] = [await kernelOn(store), await kernelOn(store)]
      const hold = await scopeOf(kernel).begin(CALL)
      const { cut } = hold
      await other.stop({ everything: true, ...WHY })
      await until('it was told', () => cut.aborted)
      expect(cut.reason).toMatchObject({ code: 'ERR_STOPPED' })
      await hold.charge('cut')
    } finally {
      vi.useRealTimers()
    }
  })

  test('comes with a stop by another kernel when watch tells nothing, and nobody begins anything', async () => {
    const store = memoryStore()
    const kernel = await kernelOn({ ...store, watch: () => () => undefined })
    const hold = await scopeOf(kernel).begin(CALL)
    const { cut } = hold
    await (await kernelOn(store)).stop({ everything: true, ...WHY })
    await until('it has looked', () => cut.aborted)
    expect(cut.reason).toMatchObject({ code: 'ERR_STOPPED' })
    await hold.charge('cut')
  })

  test('does not come after the end of the hold, nor to one that is elsewhere', async () => {
    const kernel = await kernelOn()
    const [ended, elsewhere] = [
      await scopeOf(kernel).begin(CALL),
      await kernel.scope({ agent: 'reader', task: 't', budget: 'users' }).begin(CALL),
    ]
    const cuts = [ended.cut, elsewhere.cut]
    await ended.settle({ tokens: 1 })
    await kernel.stop({ budget: 'acme', ...WHY })
    expect(cuts.map(({ aborted }) => aborted)).toEqual([false, false])
    await elsewhere.release('not sent')
  })

  test('comes past the deadline too: the stream still runs', async () => {
    const kernel = await kernelOn(memoryStore(), { holdDeadlineMs: 10 })
    const hold = await scopeOf(kernel).begin(CALL)
    const { cut } = hold
    await until('its deadline has passed', () => hold.state === 'charged')
    await kernel.stop({ everything: true, ...WHY })
    expect(cut.aborted).toBe(true)
  })

  test('comes at once to who asks late', async () => {
    const kernel = await kernelOn()
    const hold = await scopeOf(kernel).begin(CALL)
    await kernel.stop({ everything: true, ...WHY })
    expect(hold.cut.reason).toMatchObject({ code: 'ERR_STOPPED' })
    await hold.charge('cut')
  })

  test('in observe mode comes with a stop, and not with a freeze', async () => {
    const kernel = await kernelOn(memoryStore(), { mode: 'observe' })
    const hold = await scopeOf(kernel).begin(CALL)
    const { cut } = hold
    await kernel.freeze('acme', WHY)
    await kernel.stop({ budget: 'users', ...WHY })
    expect(cut.reason).toMatchObject({ code: 'ERR_STOPPED' })
    await hold.charge('cut')
  })
})

describe('output in steps', () => {
  const stepped = { ...CALL, output: { tokens: 50, minTokens: 1, perToken: { tokens: 1 }, stepTokens: 20 } }

  test('holds one step, and grants the whole output, as far as a gate allows it', async () => {
    const gate = { name: 'short', decide: () => ({ verdict: 'allow', caps: { maxOutputTokens: 30 } }) as const }
    const kernel = await kernelOn(memoryStore(), { promise: 'bounded', gates: [gate] })
    const hold = await scopeOf(kernel).begin(stepped)
    expect(hold).toMatchObject({ amounts: { tokens: 30 }, caps: { maxOutputTokens: 30 } })
    await hold.release('not sent')
  })

  test('narrows the call to what is there when not even one step fits', async () => {
    const kernel = await kernelOn(memoryStore(), { promise: 'bounded', waitMs: 0 })
    const first = await scopeOf(kernel).begin({ ...CALL, worst: { tokens: 80 } })
    const hold = await scopeOf(kernel).begin(stepped)
    expect(hold).toMatchObject({ amounts: { tokens: 20 }, caps: { maxOutputTokens: 10 } })
    await Promise.all([first, hold].map((one) => one.release('not sent')))
  })

  test('are refused on a hard promise', async () => {
    await expect(scopeOf(await kernelOn()).begin(stepped)).rejects.toThrow(/bounded/)
  })
})
