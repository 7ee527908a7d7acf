// A kernel whose data directory was deleted while it runs: what needs the chain fails and says so; what the store can
// still answer, it answers.

import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { open, refusalOf, take } from '../budget/bench.ts'
import { temporaryDirectory } from '../stores/journal.ts'
import type { KernelEvent } from '../../src/kernel/events.ts'
import { openKernel } from '../../src/kernel/open-kernel.ts'
import { fileStore } from '../../src/stores/file.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'

const REMOVED = { code: 'ERR_STORE', message: expect.stringMatching(/^The audit chain .* was removed while in use: .* open another one/) }

/** A kernel that has refused for money before, so that it asks before it writes; whoever opens it closes it. */
async function refusing(data: string, store: Store = memoryStore()) {
  const events: KernelEvent[] = []
  const onEvent = (event: KernelEvent): void => void events.push(event)
  const budgets = { acme: { tokens: 100 } }
  const kernel = await openKernel({ store, data, budgets, waitMs: 0, leasing: 'off', onEvent, promise: 'bounded' })
  await refusalOf(take(kernel, 'acme', { tokens: 101 }))
  return { kernel, events }
}

test('a refusal for money is still that refusal, and the operator learns that nothing of it is on record', async () => {
  const data = temporaryDirectory()
  const { kernel, events } = await refusing(data)
  const held = await take(kernel, 'acme', { tokens: 10 })
  await refusalOf(take(kernel, 'acme', { tokens: 91 }))
  expect(events).toEqual([])
  rmSync(data, { recursive: true })
  // Looking for dead processes is done once in a second.
  const told = () => refusalOf(take(kernel, 'acme', { tokens: 91 })).then(() => events.map(({ type }) => type))
  await expect.poll(told, { timeout: 20_000 }).toContain('trouble')
  expect(await refusalOf(take(kernel, 'acme', { tokens: 91 }))).toMatchObject({ code: 'ERR_BUDGET_BUSY' })
  expect(await refusalOf(take(kernel, 'acme', { tokens: 101 }))).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
  const { message } = events.find(({ type }) => type === 'trouble')!
  expect(message).toContain(`${join(data, 'chains')} cannot be read, so what dead processes have left stays as it is`)
  expect(message).toContain('Put the data directory back, or close this kernel and open another one.')
  expect(events.find(({ type }) => type === 'audit-gap')!.message).toContain('was removed while in use')
  await held.settle({ tokens: 4 })
  await expect(kernel.close()).rejects.toMatchObject(REMOVED)
})

test('nothing begins any more, also when a directory is there again; what was paid for comes into the books', async () => {
  const data = temporaryDirectory()
  const { kernel } = await refusing(data)
  const held = await take(kernel, 'acme', { tokens: 10 })
  rmSync(data, { recursive: true })
  await expect(take(kernel, 'acme', { tokens: 1 })).rejects.toMatchObject(REMOVED)
  mkdirSync(join(data, 'chains'), { recursive: true })
  await expect(take(kernel, 'acme', { tokens: 1 })).rejects.toMatchObject(REMOVED)
  await held.settle({ tokens: 4 })
  expect(await kernel.budgets()).toMatchObject([{ spent: 4, out: 0, suspense: 0, free: 96 }])
  await kernel.sweep()
  await expect(kernel.close()).rejects.toMatchObject(REMOVED)
})

test('with its directory there, the same kernel begins and refuses, and no trouble is told', async () => {
  const { kernel, events } = await refusing(temporaryDirectory())
  await (await take(kernel, 'acme', { tokens: 10 })).settle({ tokens: 4 })
  expect(await refusalOf(take(kernel, 'acme', { tokens: 101 }))).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
  await kernel.close()
  expect(events).toEqual([])
})

test('where the store lay in it too, the store says that it was removed, and nothing is a bare ENOENT', async () => {
  const data = temporaryDirectory()
  const { kernel } = await refusing(data, fileStore(data, { durability: 'os' }))
  rmSync(data, { recursive: true })
  const message = expect.stringMatching(/was removed while in use/)
  for (const tokens of [1, 101]) await expect(take(kernel, 'acme', { tokens })).rejects.toMatchObject({ code: 'ERR_STORE', message })
  expect(existsSync(data)).toBe(false)
  await expect(kernel.close()).rejects.toMatchObject({ code: 'ERR_STORE' })
})

test('a kernel that never had a directory looks for no one', async () => {
  const { kernel, events } = await open({ budgets: { acme: { tokens: 100 } } })
  expect(await refusalOf(take(kernel, 'acme', { tokens: 101 }))).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
  expect(events).toEqual([])
})
