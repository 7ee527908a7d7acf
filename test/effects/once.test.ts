// Effects under a receipt: at most once, whoever resumes them, and the result comes back without running anything.

import { describe, expect, test } from 'vitest'
import { keys, line, open, refusalOf } from '../budget/bench.ts'
import type { KernelEvent } from '../../src/kernel/events.ts'
import type { KernelOptions } from '../../src/kernel/open-kernel.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { faultyStore } from '../../src/testing/faulty-store.ts'
import { until } from '../../src/testing/integration-bench.ts'

const SEND = { kind: 'tool', resource: 'send', args: { to: 'ann' }, worst: { sends: 1 } }

async function scopeOn(store: Store = memoryStore(), options: Partial<KernelOptions> = {}) {
  const { kernel } = await open({ store, budgets: { acme: { sends: 10 } }, ...options })
  return { store, kernel, scope: kernel.scope({ agent: 'clerk', task: 'letters', budget: 'acme' }) }
}

describe('an effect under a receipt', () => {
  test('runs once, and whoever comes later gets its result without running or paying', async () => {
    const { scope, store } = await scopeOn()
    let sent = 0
    const send = async () => ({ message: ++sent })
    expect(await scope.once('letter 1', SEND, send)).toEqual({ outcome: 'ran', result: { message: 1 } })
    // Another kernel on the same store: a resumed process.
    const later = (await scopeOn(store)).scope
    for (const again of [scope, later])
      expect(await again.once('letter 1', SEND, send)).toEqual({ outcome: 'done', result: { message: 1 } })
    expect(await scope.once('letter 2', SEND, send)).toEqual({ outcome: 'ran', result: { message: 2 } })
    expect(await line(store, 'acme', 'sends')).toMatchObject({ spent: 2 })
  })

  test('runs once when many ask at the same time', async () => {
    const { store } = await scopeOn()
    const scopes = await Promise.all(Array.from({ length: 4 }, async () => (await scopeOn(store)).scope))
    let sent = 0
    const outcomes = await Promise.all(
      Array.from({ length: 12 }, (_, index) => scopes[index % 4]!.once('one', SEND, async () => ++sent).then(({ outcome }) => outcome)),
    )
    expect(sent).toBe(1)
    expect(outcomes.filter((outcome) => outcome === 'ran')).toHaveLength(1)
    expect(await line(store, 'acme', 'sends')).toMatchObject({ spent: 1, out: 0 })
  })

  test('that began without a known end is unknown from then on, unless it says that running it twice does no harm', async () => {
    const { scope, store } = await scopeOn()
    await expect(scope.once('x', SEND, () => Promise.reject(new Error('broke off')))).rejects.toThrow('broke off')
    expect(await scope.once('x', SEND, async () => 'again')).toEqual({ outcome: 'unknown' })
    expect(await line(store, 'acme', 'sends')).toMatchObject({ spent: 1, assumed: 1 })
    expect(await scope.once('x', SEND, async () => 'again', { idempotent: true })).toEqual({ outcome: 'ran', result: 'again' })
    expect(await scope.once('x', SEND, async () => 'third')).toEqual({ outcome: 'done', result: 'again' })
  })

  test('that ended with an error which says that nothing happened may still run', async () => {
    const { scope, store } = await scopeOn()
    const interrupted = new Error('waits for a person')
    const undone = (error: unknown): boolean => error === interrupted
    await expect(scope.once('x', SEND, () => Promise.reject(interrupted), { undone })).rejects.toBe(interrupted)
    expect(await keys(store, 'receipt/')).toEqual([])
    expect(await scope.once('x', SEND, async () => 'now')).toEqual({ outcome: 'ran', result: 'now' })
  })

  test('that is refused leaves no receipt, and can run when it fits', async () => {
    const { scope, store } = await scopeOn()
    expect((await refusalOf(scope.once('x', { ...SEND, worst: { sends: 11 } }, async () => 'sent'))).code).toBe('ERR_BUDGET_EXCEEDED')
    expect(await keys(store, 'receipt/')).toEqual([])
    expect(await scope.once('x', SEND, async () => 'sent')).toEqual({ outcome: 'ran', result: 'sent' })
  })

  test('that never started, since the store lost every reply, is not taken for begun', async () => {
    const memory = memoryStore()
    await open({ store: memory, budgets: { acme: { sends: 10 } } })
    const { kernel } = await open({ store: memory })
    await (await kernel.scope({ agent: 'a', task: 't', budget: 'acme' }).begin(SEND)).release('warm')
    const { kernel: unlucky } = await open({
      store: faultyStore(memory, ['none', ...Array.from({ length: 6 }, () => 'lose-reply' as const)]),
    })
    const scope = unlucky.scope({ agent: 'clerk', task: 'letters', budget: 'acme' })
    await expect(scope.once('x', SEND, async () => 'sent')).rejects.toMatchObject({ code: 'ERR_STORE' })
    expect(await scope.once('x', SEND, async () => 'sent')).toEqual({ outcome: 'ran', result: 'sent' })
  })

  test('whose receipt cannot be completed has run: its caller keeps the result, and the receipt is completed later', async () => {
    const memory = memoryStore()
    let away = false
    const apply: Store['apply'] = (batches) => (away ? Promise.reject(new Error('away')) : memory.apply(batches))
    const events: KernelEvent[] = []
    const { scope, kernel } = await scopeOn({ ...memory, apply }, { onEvent: (event) => events.push(event) })
    let sent = 0
    const send = async () => {
      away = true
      return ++sent
    }
    // `undone` is about errors of the effect, and not about those of the store.
    expect(await scope.once('x', SEND, send, { undone: () => true })).toEqual({ outcome: 'ran', result: 1 })
    expect(events.filter(({ type }) => type === 'trouble')).toEqual([
      { type: 'trouble', message: expect.stringContaining('has run') as string },
    ])
    expect(await scope.once('x', SEND, send)).toEqual({ outcome: 'unknown' })
    away = false
    await until('nothing waits', () => kernel.pendingReports === 0)
    expect(await scope.once('x', SEND, send)).toEqual({ outcome: 'done', result: 1 })
    expect([sent, await line(memory, 'acme', 'sends')]).toEqual([1, expect.objectContaining({ spent: 1, out: 0 })])
  })

  test('whose receipt is completed later does not write over that of a newer run', async () => {
    const memory = memoryStore()
    let away = false
    const apply: Store['apply'] = (batches) => (away ? Promise.reject(new Error('away')) : memory.apply(batches))
    const { scope, kernel } = await scopeOn({ ...memory, apply })
    const away1 = async () => {
      away = true
      return 'first'
    }
    await scope.once('x', SEND, away1, { idempotent: true })
    const { scope: other } = await scopeOn(memory)
    expect(await other.once('x', SEND, async () => 'second', { idempotent: true })).toEqual({ outcome: 'ran', result: 'second' })
    away = false
    await until('nothing waits', () => kernel.pendingReports === 0)
    expect(await scope.once('x', SEND, away1)).toEqual({ outcome: 'done', result: 'second' })
  })

  test('whose result throws when it is read has run all the same', async () => {
    const { scope } = await scopeOn()
    const result = {
      get broken(): never {
        throw new Error('not now')
      },
    }
    expect((await scope.once('x', SEND, async () => result)).outcome).toBe('ran')
    expect(await scope.once('x', SEND, async () => result)).toEqual({ outcome: 'done' })
  })

  test('that waits for money is left when its signal is aborted: nothing runs, and no receipt is left', async () => {
    const { scope, store } = await scopeOn(memoryStore(), { waitMs: 5_000 })
    const hold = await scope.begin({ ...SEND, worst: { sends: 10 } })
    let sent = 0
    const waiting = scope.once('x', SEND, async () => ++sent, { signal: AbortSignal.timeout(20) })
    await expect(waiting).rejects.toMatchObject({ name: 'TimeoutError' })
    await hold.release('over')
    expect([sent, await keys(store, 'receipt/')]).toEqual([0, []])
  })

  test('keeps a result of 64 KB, the hash of a larger one, and nothing of what is no JSON', async () => {
    const { scope } = await scopeOn()
    const results = { small: 'x'.repeat(60_000), large: 'x'.repeat(70_000), none: new Map() }
    for (const [name, result] of Object.entries(results)) await scope.once(name, SEND, async () => result)
    expect(await scope.once('small', SEND, async () => 'again')).toEqual({ outcome: 'done', result: results.small })
    for (const name of ['large', 'none']) expect(await scope.once(name, SEND, async () => 'again')).toEqual({ outcome: 'done' })
  })

  test('whose own work meets a conflict throws that conflict, and is not taken for done by another', async () => {
    const { scope, kernel } = await scopeOn()
    const board = kernel.blackboard(scope)
    await board.commit(await board.propose({ set: { k: 1 } }))
    const conflicting = scope.once('x', SEND, async () => board.commit(await board.propose({ set: { k: 2 } })))
    expect((await refusalOf(conflicting)).details.conflict).toMatchObject({ key: 'k' })
  })
})
