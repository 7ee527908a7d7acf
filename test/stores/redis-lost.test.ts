// What the Redis store makes of answers that are lost, late or never come, and of data that is lost. A wire between
// client and server is cut at the worst moment; drivers send scripts again by themselves, and nothing may be
// applied twice, or after its caller was told that its outcome is unknown.

import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { sleep } from '../../src/lib/clock.ts'
import { newId } from '../../src/lib/ids.ts'
import type { RedisClient } from '../../src/stores/redis/client.ts'
import { redisStore, type RedisStoreOptions } from '../../src/stores/redis.ts'
import type { Batch, GroupResult, Store } from '../../src/stores/store.ts'
import { startProxy, type Proxy } from './redis-proxy.ts'
import { DURABLE, startRedis, type RedisServer } from './redis-server.ts'
import { requireServer } from './servers.ts'

const ONE: Batch = { add: [{ key: 'k/n', by: 1 }] }

let server: RedisServer

/** Opens a store over a client of ioredis; both end with the test. */
async function openStore({ port = server.port, ...options }: RedisStoreOptions & { readonly port?: number } = {}): Promise<Store> {
  const client = new Redis(port, '127.0.0.1')
  client.on('error', () => {})
  onTestFinished(() => client.disconnect())
  const store = await redisStore(client, { prefix: newId(), ...options })
  onTestFinished(() => store.close())
  return store
}

async function wire(): Promise<Proxy> {
  const proxy = await startProxy(server.port)
  onTestFinished(() => proxy.stop())
  return proxy
}

async function countOf(store: Store): Promise<number> {
  return Number((await store.read(['k/n']))[0]?.value ?? 0)
}

function keyOf({ name }: Store, key: string): string {
  return `${name.slice('redis '.length)}:${key}`
}

function appliedAs(count: number): Partial<GroupResult> {
  return { outcome: 'applied', results: [{ outcome: 'ok', version: count, values: [count] }] }
}

describe.runIf(requireServer('redis-server', 'the Redis store (lost answers)'))('redis', () => {
  beforeAll(async () => {
    server = await startRedis(DURABLE)
  })
  afterAll(() => server.stop())

  describe('lost answers', () => {
    const drivers: Readonly<Record<string, (port: number) => Promise<RedisClient & { destroy?(): void; disconnect(): unknown }>>> = {
      'ioredis, which sends again': async (port) => new Redis(port, '127.0.0.1'),
      'ioredis, told not to send again': async (port) => new Redis({ port, host: '127.0.0.1', autoResendUnfulfilledCommands: false }),
      'ioredis, told to give up at once': async (port) => new Redis({ port, host: '127.0.0.1', maxRetriesPerRequest: 0 }),
      'node-redis': async (port) =>
        createClient({ url: `redis://127.0.0.1:${port}` })
          .on('error', () => {})
          .connect(),
    }
    for (const [name, connect] of Object.entries(drivers)) {
      test(`${name}: a connection that is cut before the answer loses none and applies none twice`, async () => {
        const proxy = await wire()
        const client = await connect(proxy.port)
        onTestFinished(() => void (client.destroy?.() ?? client.disconnect()))
        const store = await redisStore(client, { prefix: newId(), timeoutMs: 3_000 })
        for (let count = 1; count <= 4; count++) {
          proxy.cutNextAnswer()
          expect(await store.apply([ONE])).toMatchObject(appliedAs(count))
        }
        expect(proxy.cuts).toBe(4)
        expect(await countOf(store)).toBe(4)
      })
    }

    test('control: the driver does send a script again that the server has run', async () => {
      const proxy = await wire()
      const client = new Redis(proxy.port, '127.0.0.1')
      onTestFinished(() => client.disconnect())
      await client.ping()
      proxy.cutNextAnswer()
      expect(await client.eval("return redis.call('INCR', KEYS[1])", 1, newId())).toBe(2)
    })

    test('an answer that never comes is unknown in time, and is found out by the next call', async () => {
      const proxy = await wire()
      const store = await openStore({ port: proxy.port, timeoutMs: 1_000 })
      proxy.mute(true)
      const startedAt = performance.now()
      const answer = await store.apply([ONE])
      expect(answer).toMatchObject({ outcome: 'unknown', cause: { message: expect.stringContaining('no answer in time') as string } })
      expect(performance.now() - startedAt).toBeLessThan(10_000)
      await expect(store.read(['k/n'])).rejects.toMatchObject({ code: 'ERR_STORE' })
      proxy.mute(false)
      expect(await countOf(await openStore({ prefix: prefixOf(store) }))).toBe(1)
    })

    test('a connection that stays cut after the script was sent is unknown, with its cause', async () => {
      const proxy = await wire()
      const store = await openStore({ port: proxy.port, timeoutMs: 1_000 })
      proxy.mute(true)
      const answer = store.apply([ONE])
      await sleep(100)
      await proxy.down()
      expect(await answer).toMatchObject({ outcome: 'unknown', cause: expect.any(Error) as Error })
      await proxy.up()
      proxy.mute(false)
      expect(await countOf(store)).toBe(1)
    })

    test('a refusal that answers a second sending says nothing about the first', async () => {
      const own = await startRedis(DURABLE)
      onTestFinished(() => own.stop())
      const proxy = await startProxy(own.port)
      onTestFinished(() => proxy.stop())
      const store = await openStore({ port: proxy.port, timeoutMs: 3_000 })
      proxy.mute(true)
      const answer = store.apply([ONE])
      await sleep(50)
      await own.command('CONFIG', 'SET', 'requirepass', 'new')
      await proxy.down()
      proxy.mute(false)
      await proxy.up()
      expect(await answer).toMatchObject({ outcome: 'unknown' })
    })

    test('a store leaves no listeners on the client of its caller', async () => {
      const client = new Redis(server.port, '127.0.0.1')
      onTestFinished(() => client.disconnect())
      const count = (): number => client.eventNames().reduce((sum, event) => sum + client.listenerCount(event), 0)
      const before = count()
      const store = await redisStore(client, { prefix: newId() })
      await store.apply([ONE])
      await store.close()
      expect(count()).toBe(before)
      await server.command('DEL', keyOf(store, 'meta'))
      await expect(redisStore(client, { prefix: prefixOf(store) })).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
      expect(count()).toBe(before)
    })

    test('a group that was never sent is refused with ERR_STORE, and never applied', async () => {
      const proxy = await wire()
      const store = await openStore({ port: proxy.port, timeoutMs: 1_000 })
      await proxy.down()
      await sleep(50)
      await expect(store.apply([ONE])).rejects.toMatchObject({
        code: 'ERR_STORE',
        message: expect.stringContaining('cannot be reached') as string,
      })
      await proxy.up()
      await expect.poll(() => countOf(store), { timeout: 10_000 }).toBe(0)
      expect(await store.apply([ONE])).toMatchObject(appliedAs(1))
    })

    test('a group that arrives after it was called unknown is not applied, whoever looks', async () => {
      const proxy = await wire()
      const store = await openStore({ port: proxy.port, timeoutMs: 1_000 })
      const other = await openStore({ prefix: prefixOf(store) })
      await store.apply([ONE])
      proxy.hold(true)
      expect(await store.apply([ONE])).toMatchObject({ outcome: 'unknown' })
      proxy.hold(false)
      await sleep(100)
      expect([await countOf(other), await countOf(store)]).toEqual([1, 1])
    })

    test('a group that was called unknown stays as its client has read it, though its time is not over', async () => {
      const proxy = await wire()
      // Else the driver would send it once more, before the read.
      const client = new Redis({ port: proxy.port, host: '127.0.0.1', autoResendUnfulfilledCommands: false })
      onTestFinished(() => client.disconnect())
      const store = await redisStore(client, { prefix: newId(), timeoutMs: 1_500 })
      await store.apply([ONE])
      // Behind a clock that was ahead time goes at half its speed, and so the latest time of a group is twice as far away.
      const ahead = String((await store.now()) + 3_600_000)
      const [seconds] = (await server.command('TIME')) as [string]
      await server.command('HSET', keyOf(store, 'meta'), 'time', ahead, 'clock', `${seconds}000`)
      await store.now()
      proxy.hold(true)
      const answer = store.apply([ONE])
      await sleep(50)
      const late = proxy.orphan()
      expect(await answer).toMatchObject({ outcome: 'unknown' })
      proxy.hold(false)
      expect(await countOf(store)).toBe(1)
      late.deliver()
      await sleep(50)
      expect(await countOf(await openStore({ prefix: prefixOf(store) }))).toBe(1)
    })

    test('a server that hangs is unknown in time, and does not apply the group when it goes on', async () => {
      const own = await startRedis(DURABLE)
      onTestFinished(() => own.stop())
      const store = await openStore({ port: own.port, timeoutMs: 1_000 })
      await store.apply([ONE])
      own.signal('SIGSTOP')
      const startedAt = performance.now()
      expect(await store.apply([ONE])).toMatchObject({ outcome: 'unknown' })
      expect(performance.now() - startedAt).toBeLessThan(10_000)
      own.signal('SIGCONT')
      expect(await countOf(await openStore({ port: own.port, prefix: prefixOf(store) }))).toBe(1)
      expect(await store.apply([ONE])).toMatchObject(appliedAs(2))
    })

    test('a group that arrives after a later one is not applied, though its time is not over', async () => {
      const proxy = await wire()
      const store = await openStore({ port: proxy.port })
      await store.apply([ONE])
      proxy.hold(true)
      const answer = store.apply([ONE])
      await sleep(50)
      await server.command('SET', (await keysOf(store, 'client:*'))[0]!, `0000000000000009${'x'.repeat(16)}["ok"]`)
      proxy.hold(false)
      expect(await answer).toMatchObject({ outcome: 'unknown', cause: { message: expect.stringContaining('(stale)') as string } })
      expect(await countOf(store)).toBe(1)
      expect(await store.apply([ONE])).toMatchObject(appliedAs(2))
    })

    test('an answer that arrived while this process was too busy to read it is read', async () => {
      const store = await openStore({ timeoutMs: 1_000 })
      const answer = store.apply([ONE])
      await sleep(20)
      const again = store.apply([ONE])
      await new Promise((resolve) => setImmediate(resolve))
      for (const until = performance.now() + 1_500; performance.now() < until;);
      expect(await answer).toMatchObject(appliedAs(1))
      expect(await again).toMatchObject(appliedAs(2))
    })

    test('a client that the server has forgotten applies nothing under its old name, and goes on under a new one', async () => {
      const store = await openStore()
      await server.command('DEL', ...(await keysOf(store, 'client:*')))
      expect(await store.apply([ONE])).toMatchObject({ outcome: 'unknown' })
      expect(await countOf(store)).toBe(0)
      expect(await store.apply([ONE])).toMatchObject(appliedAs(1))
    })

    test('a copy of a process that counts on from the same number is not given the answer of the other', async () => {
      const store = await openStore()
      const [client] = await keysOf(store, 'client:*')
      await server.command('SET', client!, `0000000000000001${'y'.repeat(16)}["ok",1,1,[[7]]]`)
      expect(await store.apply([ONE])).toMatchObject({ outcome: 'unknown' })
      expect(await store.apply([ONE])).toMatchObject(appliedAs(1))
    })

    test('the server remembers one answer for each client, under a time, and no money under one', async () => {
      const store = await openStore()
      for (let count = 1; count <= 50; count++) await store.apply([ONE])
      await store.apply([{ set: [{ key: 'k/soon', value: 1, expiresAtMs: (await store.now()) + 60_000 }] }])
      const times = await Promise.all((await keysOf(store, '*')).map(async (key) => [key.split(':')[2], await server.command('PTTL', key)]))
      expect(times.filter(([, ttl]) => ttl !== -1)).toEqual([['client', expect.any(Number)]])
      expect(times.map(([key]) => String(key)).sort()).toEqual(['cells', 'client', 'expiries', 'index', 'meta'])
    })
  })

  describe('lost data', () => {
    const uses: readonly ((store: Store) => Promise<unknown>)[] = [
      (store) => store.apply([ONE]),
      (store) => store.read(['k/n']),
      (store) => store.list('', { limit: 1 }),
      (store) => store.now(),
      (store) => store.holds!([]),
    ]

    async function expectDamage(store: Store, what: string): Promise<void> {
      for (const use of uses) {
        await expect(use(store)).rejects.toMatchObject({ code: 'ERR_DAMAGE', message: expect.stringContaining(what) as string })
      }
    }

    for (const first of uses.keys()) {
      test(`a store whose data was flushed is damaged and stays so, and is not made anew (${first})`, async () => {
        const store = await openStore()
        await store.apply([ONE])
        await server.command('FLUSHALL')
        await expect(uses[first]!(store)).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
        await expectDamage(store, 'it is gone')
        expect(await keysOf(store, '*')).toEqual([])
        // Another store in its place is not this one.
        const other = await openStore({ prefix: prefixOf(store) })
        expect(other.id).not.toBe(store.id)
        await expectDamage(store, 'it is gone')
      })
    }

    test('a store in whose place another one was made is damaged', async () => {
      const store = await openStore()
      await store.apply([ONE])
      await server.command('FLUSHALL')
      const other = await openStore({ prefix: prefixOf(store) })
      await expectDamage(store, 'another store was made in its place')
      expect(await other.holds!([{ segment: 0, bytes: 1, hash: store.id }])).toEqual(['no'])
    })

    for (const part of ['cells', 'index', 'meta']) {
      test(`a store that has lost its ${part} is damaged for those who have it open and for those who open it`, async () => {
        const store = await openStore()
        await store.apply([ONE])
        await server.command('DEL', keyOf(store, part))
        await expectDamage(store, part === 'meta' ? 'it is gone' : 'changed or removed')
        await expect(openStore({ prefix: prefixOf(store) })).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
      })
    }

    test('a single entry that something else removed or added is damage', async () => {
      for (const command of ['HDEL', 'HSET'] as const) {
        const store = await openStore()
        await store.apply([ONE, { set: [{ key: 'k/other', value: 1 }] }])
        await server.command(command, keyOf(store, 'cells'), ...(command === 'HDEL' ? ['k/n'] : ['k/foreign', '[1,0,7]']))
        await expectDamage(store, 'changed or removed')
        expect(await keysOf(store, 'meta')).toHaveLength(1)
      }
    })

    test('a key that something else overwrote is damage', async () => {
      for (const part of ['cells', 'index', 'meta']) {
        const store = await openStore()
        await store.apply([ONE])
        await server.command('SET', keyOf(store, part), 'mine')
        await expectDamage(store, 'overwritten')
        expect(await server.command('GET', keyOf(store, part))).toBe('mine')
      }
    })

    test('a server that comes back with an older snapshot is damage for who has seen more', async () => {
      const own = await startRedis({ appendonly: 'no' })
      onTestFinished(() => own.stop())
      const store = await openStore({ port: own.port })
      await store.apply([ONE])
      await own.command('SAVE')
      const answer = await store.apply([ONE])
      await own.kill()
      await own.start()
      await expectDamage(store, 'went back from version 2 to 1')
      const reopened = await openStore({ port: own.port, prefix: prefixOf(store) })
      const heads = [(answer as { head?: never }).head!, { segment: 0, bytes: 1, hash: store.id }, { segment: 1, bytes: 1, hash: store.id }]
      expect(await reopened.holds!(heads)).toEqual(['no', 'yes', 'unknown'])
    })

    test('a server that comes back without the data is damage also for a read whose first answer was lost', async () => {
      const own = await startRedis({ appendonly: 'no' })
      onTestFinished(() => own.stop())
      const store = await openStore({ port: own.port })
      await store.apply([ONE])
      own.signal('SIGSTOP')
      const [read, applied] = [store.read(['k/n']), store.apply([ONE])]
      await sleep(50)
      await own.kill()
      await own.start()
      await expect(read).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
      // Whether it was applied before the data was lost, nobody can say; that nothing more can be is certain.
      const cause = { cause: { code: 'ERR_DAMAGE' } }
      expect(await applied).toMatchObject({ outcome: 'unknown', cause })
      await expect(store.apply([ONE])).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
    })

    test('a newer format is refused with what to do', async () => {
      const store = await openStore()
      await server.command('HSET', keyOf(store, 'meta'), 'format', '2')
      const refused = { code: 'ERR_STORE', message: expect.stringContaining('format 2; this version of holdfast reads format 1') as string }
      await expect(store.apply([ONE])).rejects.toMatchObject(refused)
      await expect(openStore({ prefix: prefixOf(store) })).rejects.toMatchObject(refused)
    })
  })

  describe('time', () => {
    test('behind a clock that was an hour ahead, time goes on at half its speed', async () => {
      const store = await openStore()
      const ahead = (await store.now()) + 3_600_000
      const [seconds] = (await server.command('TIME')) as [string, string]
      await server.command('HSET', keyOf(store, 'meta'), 'time', String(ahead), 'clock', String(Number(seconds) * 1_000))
      const started = performance.now()
      const from = await store.now()
      await sleep(200)
      const passed = (await store.now()) - from
      expect(from).toBeGreaterThanOrEqual(ahead)
      expect(passed).toBeGreaterThanOrEqual(95)
      expect(passed).toBeLessThanOrEqual((performance.now() - started) / 2 + 2)
    })

    test('time that a client has seen does not run back when the clock does', async () => {
      const store = await openStore()
      await store.apply([ONE])
      const now = await store.now()
      await server.command('HSET', keyOf(store, 'meta'), 'time', String(now + 10_000), 'clock', String(now + 10_000))
      const ahead = await store.now()
      expect(ahead).toBeGreaterThanOrEqual(now + 10_000)
      await server.command('HSET', keyOf(store, 'meta'), 'time', '0', 'clock', '0')
      expect(await store.now()).toBeGreaterThanOrEqual(ahead)
    })

    test('what has expired is removed by later groups, a bounded number at a time', async () => {
      const store = await openStore()
      const soon = (await store.now()) + 1_000
      await store.apply([{ set: Array.from({ length: 300 }, (_, index) => ({ key: `k/${index}`, value: 1, expiresAtMs: soon })) }])
      while ((await store.now()) < soon) await sleep(5)
      const left: unknown[] = []
      for (let round = 0; round < 4; round++) {
        await store.apply([ONE])
        left.push(await server.command('HLEN', keyOf(store, 'cells')))
      }
      expect(left).toEqual([173, 45, 1, 1])
      expect(await server.command('EXISTS', keyOf(store, 'expiries'))).toBe(0)
    })
  })
})

function prefixOf({ name }: Store): string {
  return name.slice('redis {holdfast:'.length, -1)
}

async function keysOf(store: Store, pattern: string): Promise<string[]> {
  return (await server.command('KEYS', keyOf(store, pattern))) as string[]
}
