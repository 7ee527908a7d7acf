// A hard budget is opened only on a store that keeps what it has acknowledged, as far as its server can be asked.

import { describe, expect, test } from 'vitest'
import { open } from '../budget/bench.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Shortfall, Store } from '../../src/stores/store.ts'
import type { KernelOptions } from '../../src/kernel/open-kernel.ts'

const EVERYSEC = { setting: 'appendfsync', found: 'everysec', needs: 'always', risk: 'A crash loses a second.' }
const UNREAD = { setting: 'appendonly', needs: 'yes', risk: 'A restart loses everything.' }
const DESCRIBED = { setting: 'standbys', needs: 'the names of all', risk: 'A failover loses.' }

const lacking = (...shortfalls: Shortfall[]): Store => ({
  ...memoryStore(),
  capabilities: { shared: 'network', durable: 'os', shortfalls },
})
const opening = (store: Store, options: Partial<KernelOptions> = {}) => open({ store, budgets: { acme: { usd: 1 } }, ...options })

describe('a store that can lose what it acknowledged', () => {
  test('is refused, naming the setting, what it must be, what can happen, and the other promise', async () => {
    const error = await opening(lacking(EVERYSEC)).catch((reason: unknown) => reason as Error)
    expect(error).toMatchObject({ code: 'ERR_PROMISE' })
    for (const part of ['`appendfsync` is "everysec"', 'must be "always"', 'loses a second', "promise: 'bounded'"])
      expect((error as Error).message).toContain(part)
  })

  test('is opened as bounded, which is on record', async () => {
    const { kernel } = await opening(lacking(EVERYSEC, UNREAD), { promise: 'bounded' })
    expect(JSON.parse(kernel.auditLines[0]!)).toMatchObject({ kind: 'open', promise: 'bounded' })
  })

  test('is refused as well when a setting could not be read, unless somebody states it; then that is on record', async () => {
    await expect(opening(lacking(UNREAD))).rejects.toThrow("assume: { 'appendonly': 'yes' }")
    const { kernel } = await opening(lacking(UNREAD, DESCRIBED), { assume: { appendonly: 'yes', standbys: 'one, two' } })
    expect(JSON.parse(kernel.auditLines[0]!)).toMatchObject({ promise: 'hard', assume: { appendonly: 'yes', standbys: 'one, two' } })
  })

  test('cannot be talked out of what it says, nor with a value that would not do', async () => {
    await expect(opening(lacking(EVERYSEC), { assume: { appendfsync: 'always' } })).rejects.toThrow(TypeError)
    await expect(opening(lacking(UNREAD), { assume: { appendonly: 'no' } })).rejects.toMatchObject({ code: 'ERR_PROMISE' })
    await expect(opening(lacking(UNREAD), { assume: { appendonly: '' } })).rejects.toThrow('`assume.appendonly`')
    await expect(opening(lacking(UNREAD), { promise: 'soft' as 'hard' })).rejects.toThrow("`promise` must be 'hard' or 'bounded'")
  })
})

test('a store without shortfalls keeps a hard budget', async () => {
  const { kernel } = await opening(memoryStore())
  expect(JSON.parse(kernel.auditLines[0]!)).toMatchObject({ promise: 'hard' })
})
