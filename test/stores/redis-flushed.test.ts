// A Redis whose data was flushed while nobody had the store open. Nothing on the server tells a store that is gone from
// one that never was: only somebody else can. A data directory can; and so can kernels that declare no budgets, since
// they find none.

import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newId } from '../../src/lib/ids.ts'
import { openKernel, type Kernel, type KernelOptions } from '../../src/kernel/open-kernel.ts'
import { redisStore } from '../../src/stores/redis.ts'
import { refusalOf, take } from '../budget/bench.ts'
import { temporaryDirectory } from './journal.ts'
import { DURABLE, startRedis, type RedisServer } from './redis-server.ts'
import { requireServer } from './servers.ts'

const BUDGETS = { acme: { tokens: 100 } }

let server: RedisServer

/** Opens a kernel as a process of its own would, uses it, and closes all of it. */
async function inKernel<T>(prefix: string, options: Partial<KernelOptions>, use: (kernel: Kernel) => Promise<T>): Promise<T> {
  const client = new Redis(server.port, '127.0.0.1')
  try {
    const store = await redisStore(client, { prefix })
    const kernel = await openKernel({ waitMs: 0, leasing: 'off', onEvent: () => {}, ...options, store })
    try {
      return await use(kernel)
    } finally {
      await kernel.close()
      await store.close()
    }
  } finally {
    client.disconnect()
  }
}

const spend = async (kernel: Kernel): Promise<void> => (await take(kernel, 'acme', { tokens: 60 })).settle({ tokens: 60 })

describe.runIf(requireServer('redis-server', 'the Redis store (flushed)'))('a store that was flushed while nobody had it open', () => {
  beforeAll(async () => {
    server = await startRedis(DURABLE)
  })
  afterAll(() => server.stop())

  async function flushed(options: Partial<KernelOptions> = {}): Promise<string> {
    const prefix = newId()
    await inKernel(prefix, { budgets: BUDGETS, ...options }, spend)
    await inKernel(prefix, options, async (kernel) => {
      expect(await refusalOf(take(kernel, 'acme', { tokens: 60 }))).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
    })
    await server.command('FLUSHALL')
    return prefix
  }

  test('is made anew, with all limits free, by a kernel that declares its budgets and has no data directory', async () => {
    const prefix = await flushed()
    await inKernel(prefix, { budgets: BUDGETS }, async (kernel) => {
      await spend(kernel)
      expect(await kernel.budgets()).toMatchObject([{ limit: 100, spent: 60 }])
    })
  })

  test('gives nothing to a kernel that declares no budgets: it finds none, and refuses everything', async () => {
    const prefix = await flushed()
    for (const again of [1, 2]) {
      await inKernel(prefix, {}, async (kernel) => {
        await expect(take(kernel, 'acme', { tokens: again })).rejects.toMatchObject({ code: 'ERR_UNKNOWN_BUDGET' })
        expect(await kernel.budgets()).toEqual([])
      })
    }
  })

  test('is ERR_DAMAGE for a kernel with the data directory of one that has used it, whatever it declares', async () => {
    const data = temporaryDirectory()
    const prefix = await flushed({ data })
    for (const options of [{ data }, { data, budgets: BUDGETS }]) {
      await expect(inKernel(prefix, options, spend)).rejects.toMatchObject({
        code: 'ERR_DAMAGE',
        message: expect.stringContaining('has lost writes that it acknowledged'),
      })
    }
    await expect(inKernel(prefix, { data: temporaryDirectory(), budgets: BUDGETS }, spend)).resolves.toBeUndefined()
  })
})
