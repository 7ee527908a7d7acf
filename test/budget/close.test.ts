// The end of a kernel. Proves that nothing stays held that no one owns: what is open is charged, whoever has it;
// what is on its way is given back; what comes after is refused; and the records of the process are gone.

import { describe, expect, test } from 'vitest'
import { keys, line, open, take } from './bench.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { temporaryDirectory } from '../stores/journal.ts'
import { verifyAudit } from '../../src/audit/verify.ts'

const BUDGETS = { acme: { tokens: 100 } }

describe('closing a kernel', () => {
  test('charges what is still held, also what an HTTP attempt has claimed, and removes the records of the process', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS })
    await take(kernel, 'acme', { tokens: 10 })
    const claimed = await take(kernel, 'acme', { tokens: 20 })
    claimed.claim()
    const settled = await take(kernel, 'acme', { tokens: 30 })
    await settled.settle({ tokens: 1 })
    await kernel.close()
    expect(await line(store, 'acme')).toMatchObject({ spent: 31, assumed: 30, out: 0, suspense: 0, free: 69 })
    expect([...(await keys(store, 'process/')), ...(await keys(store, 'renewed/')), ...(await keys(store, 'hold/'))]).toEqual([])
  })

  test('twice, or from two places at once, happens once, and both wait for its end', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS })
    await take(kernel, 'acme', { tokens: 10 })
    const ends = [kernel.close(), kernel.close(), kernel[Symbol.asyncDispose]()]
    await ends[1]
    expect(await line(store, 'acme')).toMatchObject({ spent: 10, assumed: 10, out: 0 })
    await Promise.all(ends)
    await kernel.close()
    expect(await line(store, 'acme')).toMatchObject({ spent: 10, assumed: 10, out: 0 })
  })

  test('leaves the holds of another kernel in the same process alone', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS })
    const { kernel: other } = await open({ store })
    const hold = await take(other, 'acme', { tokens: 10 })
    await kernel.close()
    expect(await line(store, 'acme')).toMatchObject({ out: 10 })
    await hold.settle({ tokens: 3 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 3, free: 97 })
  })

  test('gives back what was being taken, and whoever asked is told ERR_CLOSED', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS })
    const takes = Array.from({ length: 10 }, () => take(kernel, 'acme', { tokens: 5 }))
    const closing = kernel.close()
    for (const one of await Promise.allSettled(takes)) expect(one).toMatchObject({ status: 'rejected', reason: { code: 'ERR_CLOSED' } })
    await closing
    expect(await line(store, 'acme')).toMatchObject({ free: 100, out: 0, spent: 0, suspense: 0 })
    expect([...(await keys(store, 'hold/')), ...(await keys(store, 'process/'))]).toEqual([])
  })

  test('waits for a take that the store is working on, and gives it back on the record', async () => {
    const real = memoryStore()
    const [arrived, answered] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const apply: Store['apply'] = async (batches) => {
      const answer = await real.apply(batches)
      if (!batches.some(({ set }) => set?.some(({ key }) => key.startsWith('hold/')))) return answer
      arrived.resolve()
      await answered.promise
      return answer
    }
    const { kernel, events } = await open({ store: { ...real, apply }, budgets: BUDGETS })
    const taking = take(kernel, 'acme', { tokens: 5 })
    await arrived.promise
    const closing = kernel.close()
    answered.resolve()
    await expect(taking).rejects.toMatchObject({ code: 'ERR_CLOSED' })
    await closing
    expect(await line(real, 'acme')).toMatchObject({ free: 100, out: 0, spent: 0 })
    expect([...(await keys(real, 'hold/')), ...(await keys(real, 'process/'))]).toEqual([])
    expect(kernel.auditLines.map((one) => (JSON.parse(one) as { kind: string }).kind)).toEqual(['open', 'intent', 'outcome', 'close'])
    expect(events).toEqual([])
  })

  test('ends the wait of whoever stands in line for money', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS, waitMs: 600_000 })
    await take(kernel, 'acme', { tokens: 100 })
    const waits = [take(kernel, 'acme', { tokens: 5 }), take(kernel, 'acme', { tokens: 5 })]
    await new Promise((resolve) => setTimeout(resolve, 20))
    const closing = kernel.close()
    for (const one of await Promise.allSettled(waits))
      expect(one).toMatchObject({ status: 'rejected', reason: { code: 'ERR_CLOSED', message: 'This kernel is closed.' } })
    await closing
    expect(await line(store, 'acme')).toMatchObject({ free: 0, out: 0, spent: 100, assumed: 100 })
  })

  test('with a store that is away keeps the records, so that the others know what to look for; what was charged arrives later', async () => {
    const real = memoryStore()
    let away = false
    const store: Store = { ...real, apply: (batches) => (away ? Promise.reject(new Error('away')) : real.apply(batches)) }
    const { kernel } = await open({ store, budgets: BUDGETS })
    await take(kernel, 'acme', { tokens: 10 })
    away = true
    await kernel.close()
    expect(kernel.pendingReports).toBe(1)
    expect(await line(real, 'acme')).toMatchObject({ out: 10 })
    expect(await keys(real, 'process/')).toEqual([`process/${kernel.boot}`])
    away = false
    await expect.poll(() => kernel.pendingReports, { timeout: 15_000 }).toBe(0)
    expect(await line(real, 'acme')).toMatchObject({ out: 0, spent: 10, assumed: 10 })
  })

  test('is written to the chain, which is whole', async () => {
    const data = temporaryDirectory()
    const { kernel, store } = await open({ budgets: BUDGETS, data })
    await take(kernel, 'acme', { tokens: 10 })
    await kernel.close()
    expect(await verifyAudit(data, store)).toEqual([{ chain: kernel.boot, ok: true, records: expect.any(Number), beyondHead: 0 }])
  })
})

describe('after its close a kernel', () => {
  test('takes nothing, decides nothing, approves nothing and sweeps nothing: ERR_CLOSED', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS })
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
    await kernel.close()
    const approval = { agent: 'a', tool: 't', argsHash: 'x'.repeat(43), by: 'me', expiresInMs: 1_000 }
    const action = { kind: 'tool', resource: 'x', worst: { tokens: 1 } }
    for (const use of [
      () => scope.begin(action),
      () => scope.run(action, async () => 'never'),
      () => scope.decide(action),
      () => kernel.approve(approval),
      () => kernel.sweep(),
    ])
      await expect(use()).rejects.toMatchObject({ code: 'ERR_CLOSED' })
    expect(await line(store, 'acme')).toMatchObject({ free: 100 })
    expect(await keys(store, 'approval/')).toEqual([])
  })

  test('still corrects what its close had to charge: the answer that comes late was paid for', async () => {
    const { kernel, store } = await open({ budgets: BUDGETS })
    const attempt = (await take(kernel, 'acme', { tokens: 10 })).claim()!
    await kernel.close()
    await attempt.settle({ tokens: 2 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 2, assumed: 0, free: 98 })
  })
})
