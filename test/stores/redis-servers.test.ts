// The Redis store on servers that refuse, that forget, and that say little about themselves: what it promises is what
// it found out, and every refusal says what to do. And who watches is woken, whatever becomes of the connection.

import { mkdirSync, writeFileSync } from 'node:fs'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { Cluster, Redis, type RedisOptions } from 'ioredis'
import { createClient, createCluster } from 'redis'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { sleep } from '../../src/lib/clock.ts'
import { newId } from '../../src/lib/ids.ts'
import type { RedisClient } from '../../src/stores/redis/client.ts'
import { redisStore, type RedisStoreOptions } from '../../src/stores/redis.ts'
import type { Batch, Store } from '../../src/stores/store.ts'
import { startProxy } from './redis-proxy.ts'
import { DURABLE, freePort, startRedis, startRedisCluster, type RedisServer, type RedisServerOptions } from './redis-server.ts'
import { requireServer } from './servers.ts'

const ONE: Batch = { add: [{ key: 'k/n', by: 1 }] }

let shared: RedisServer

function connect(options: RedisOptions & { readonly port: number }): Redis {
  const client = new Redis(options.port, '127.0.0.1', options as RedisOptions & { replyMapping?: 'legacy' })
  client.on('error', () => {})
  onTestFinished(() => client.disconnect())
  return client
}

async function openStore(client: RedisClient | number = shared.port, options: RedisStoreOptions = {}): Promise<Store> {
  const store = await redisStore(typeof client === 'number' ? connect({ port: client }) : client, { prefix: newId(), ...options })
  onTestFinished(() => store.close())
  return store
}

async function ownServer(options: RedisServerOptions = DURABLE): Promise<RedisServer> {
  const server = await startRedis(options)
  onTestFinished(() => server.stop())
  return server
}

/** By a message: each time sooner than the poll would, unless this machine has other things to do. */
async function expectWoken(store: Store, changed: Store): Promise<void> {
  let woken = 0
  const stop = store.watch('k/', () => (woken += 1))
  await sleep(300)
  const times: number[] = []
  for (let round = 0; round < 5; round++) {
    woken = 0
    const at = performance.now()
    await changed.apply([ONE])
    await expect.poll(() => woken, { timeout: 10_000, interval: 5 }).toBeGreaterThan(0)
    times.push(performance.now() - at)
  }
  stop()
  expect(Math.min(...times)).toBeLessThan(500)
}

function failure(code: string, text: string): object {
  return { code, message: expect.stringContaining(text) as string }
}

describe.runIf(requireServer('redis-server', 'the Redis store (servers)'))('redis', () => {
  beforeAll(async () => {
    shared = await startRedis(DURABLE)
  })
  afterAll(() => shared.stop())

  describe('refusals', () => {
    test('what is no client of Redis, a prefix with braces and a time out of bounds are mistakes of the caller', async () => {
      await expect(redisStore({} as never)).rejects.toThrow(TypeError)
      for (const prefix of ['', 'a}b', '{', 'a\n', 'x'.repeat(201)])
        await expect(openStore(shared.port, { prefix })).rejects.toThrow(TypeError)
      for (const timeoutMs of [0, Number.NaN, 60_001]) await expect(openStore(shared.port, { timeoutMs })).rejects.toThrow(RangeError)
    })

    test('a server that is not there is ERR_STORE that says so, for each driver', async () => {
      const server = await ownServer()
      await server.kill()
      await expect(openStore(server.port, { timeoutMs: 1_000 })).rejects.toMatchObject(failure('ERR_STORE', 'ECONNREFUSED'))
      await expect(openStore(connect({ port: server.port, retryStrategy: () => null }))).rejects.toMatchObject({ code: 'ERR_STORE' })
      await expect(openStore(createClient())).rejects.toMatchObject(failure('ERR_STORE', 'the client is not connected'))
    })

    test('a wrong password and a missing one are ERR_STORE that says so', async () => {
      const server = await ownServer({ ...DURABLE, requirepass: 'right' })
      await expect(openStore(server.port)).rejects.toMatchObject(failure('ERR_STORE', 'asks for a password'))
      await expect(openStore(connect({ port: server.port, password: 'wrong' }))).rejects.toMatchObject(failure('ERR_STORE', 'password'))
      await openStore(connect({ port: server.port, password: 'right' }))
    })

    test('a lazy client is connected by the first call', async () => {
      const store = await openStore(connect({ port: shared.port, lazyConnect: true }))
      expect(await store.apply([ONE])).toMatchObject({ outcome: 'applied' })
    })

    test('a server that is too old is refused with the version that is needed', async () => {
      const [, version] = /redis_version:(\S+)/.exec(String(await shared.command('INFO', 'server')))!
      const proxy = await startProxy(shared.port)
      onTestFinished(() => proxy.stop())
      proxy.replace(`redis_version:${version}`, `redis_version:${'5.0.14.111'.slice(0, version!.length)}`)
      await expect(openStore(proxy.port)).rejects.toMatchObject(failure('ERR_STORE', 'Redis 6.2 or later'))
    })

    test('a replica is refused, and so is a primary that becomes one', async () => {
      const primary = await ownServer()
      const store = await openStore(primary.port)
      const replica = await ownServer({ ...DURABLE, replicaof: ['127.0.0.1', String(primary.port)] })
      await expect
        .poll(async () => String(await replica.command('INFO', 'replication')), { timeout: 20_000 })
        .toContain('master_link_status:up')
      await expect(openStore(replica.port)).rejects.toMatchObject(failure('ERR_STORE', 'is a replica'))
      await primary.command('REPLICAOF', '127.0.0.1', String(shared.port))
      await expect(store.apply([ONE])).rejects.toMatchObject(failure('ERR_STORE', 'is a replica'))
    })

    test('a server without memory left is ERR_STORE_FULL, applies nothing, lets read, and goes on once it has some', async () => {
      const server = await ownServer()
      const store = await openStore(server.port)
      await store.apply([ONE])
      await server.command('CONFIG', 'SET', 'maxmemory', '1')
      await expect(store.apply([ONE, ONE])).rejects.toMatchObject(failure('ERR_STORE_FULL', 'maxmemory'))
      await expect(openStore(server.port)).rejects.toMatchObject(failure('ERR_STORE_FULL', 'maxmemory'))
      expect(await store.read(['k/n'])).toMatchObject([{ value: 1, version: 1 }])
      await server.command('CONFIG', 'SET', 'maxmemory', '0')
      expect(await store.apply([ONE])).toMatchObject({ results: [{ version: 2, values: [2] }] })
    })

    test('a server that cannot save refuses, and says so', async () => {
      const server = await ownServer({ save: '900 1', 'enable-protected-configs': 'yes' })
      const store = await openStore(server.port)
      mkdirSync(join(server.directory, 'taken.rdb'))
      await server.command('CONFIG', 'SET', 'dbfilename', 'taken.rdb')
      await server.command('BGSAVE')
      await expect.poll(async () => String(await server.command('INFO', 'persistence'))).toContain('rdb_last_bgsave_status:err')
      await expect(store.apply([ONE])).rejects.toMatchObject(failure('ERR_STORE', 'cannot save'))
    })

    test('a server that wants replicas is waited for, and then refused with what it said', async () => {
      const server = await ownServer()
      const store = await openStore(server.port, { timeoutMs: 1_000 })
      await server.command('CONFIG', 'SET', 'min-replicas-to-write', '1')
      await expect(store.apply([ONE])).rejects.toMatchObject(failure('ERR_STORE', 'NOREPLICAS'))
      await server.command('CONFIG', 'SET', 'min-replicas-to-write', '0')
      expect(await store.apply([ONE])).toMatchObject({ results: [{ values: [1] }] })
    })

    test('a server that is busy with a script is waited for', async () => {
      const server = await ownServer({ ...DURABLE, 'lua-time-limit': '50' })
      const store = await openStore(server.port)
      const busy = connect({ port: server.port })
        .eval('while true do end', 0)
        .catch(() => {})
      await sleep(100)
      const answer = store.apply([ONE])
      await sleep(200)
      await server.command('SCRIPT', 'KILL')
      await busy
      expect(await answer).toMatchObject({ results: [{ values: [1] }] })
    })

    test('a server that is loading its data is waited for', async () => {
      const server = await ownServer({ ...DURABLE, 'key-load-delay': '200', 'loading-process-events-interval-bytes': '1024' })
      const client = connect({ port: server.port, enableReadyCheck: false })
      const store = await openStore(client, { timeoutMs: 20_000 })
      await server.command('EVAL', "for i = 1, 3000 do redis.call('SET', KEYS[1] .. i, i) end", '1', 'other')
      await server.kill()
      const started = server.start()
      const heard: unknown[] = []
      const asking = setInterval(() => void client.get('x').catch((error: Error) => heard.push(error.message)), 20)
      expect(await store.apply([ONE])).toMatchObject({ results: [{ values: [1] }] })
      clearInterval(asking)
      await started
      expect(heard.join()).toContain('LOADING')
    })

    test('a user who may not run what the store needs is refused at opening, and nothing is made', async () => {
      const server = await ownServer()
      await server.command('ACL', 'SETUSER', 'narrow', 'on', '>p', '~*', '&*', '+@all', '-zadd')
      await server.command('ACL', 'SETUSER', 'none', 'on', '>p', '~*', '&*', '+@all', '-evalsha', '-eval')
      for (const [username, said] of [['narrow', "can't run this command"] as const, ['none', 'may not run'] as const]) {
        const client = connect({ port: server.port, username, password: 'p' })
        await expect(openStore(client)).rejects.toMatchObject(failure('ERR_STORE', said))
      }
      expect(await server.command('DBSIZE')).toBe(0)
    })

    test('a node of a cluster is refused without a cluster client', async () => {
      const cluster = await startRedisCluster()
      onTestFinished(() => cluster.stop())
      const refused = await Promise.allSettled(cluster.ports.map((port) => openStore(port, { prefix: 'a' })))
      const reasons = refused.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []))
      expect(reasons).toMatchObject([failure('ERR_STORE', 'Pass a cluster client'), failure('ERR_STORE', 'Pass a cluster client')])
    })
  })

  describe('capabilities', () => {
    const RISKS = { needs: expect.any(String) as string, risk: expect.any(String) as string }
    const short = (setting: string, found?: string): object => ({ setting, ...(found === undefined ? {} : { found }), ...RISKS })

    const SETTINGS: readonly (readonly [options: RedisServerOptions, durable: string, shortfalls: readonly object[] | undefined])[] = [
      [DURABLE, 'disk', undefined],
      [{ appendonly: 'yes', appendfsync: 'everysec' }, 'os', [short('appendfsync', 'everysec')]],
      [{ appendonly: 'yes', appendfsync: 'no' }, 'none', [short('appendfsync', 'no')]],
      [{ appendonly: 'no', appendfsync: 'always' }, 'none', [short('appendonly', 'no')]],
      [{ ...DURABLE, 'no-appendfsync-on-rewrite': 'yes' }, 'os', [short('no-appendfsync-on-rewrite', 'yes')]],
      [{ ...DURABLE, 'maxmemory-policy': 'allkeys-lru' }, 'disk', [short('maxmemory-policy', 'allkeys-lru')]],
      [{ ...DURABLE, 'maxmemory-policy': 'volatile-ttl', maxmemory: '100mb' }, 'disk', [short('maxmemory-policy', 'volatile-ttl')]],
      [{ ...DURABLE, 'rename-command': ['CONFIG', ''] }, 'none', [short('appendfsync'), short('no-appendfsync-on-rewrite')]],
    ]
    for (const [options, durable, shortfalls] of SETTINGS) {
      test(`a server with ${JSON.stringify(options)} is durable: ${durable}, and its shortfalls are named`, async () => {
        const server = await ownServer(options)
        const { port } = server
        const expected = { shared: 'network', durable, ...(shortfalls === undefined ? {} : { shortfalls }) }
        expect((await openStore(port)).capabilities).toEqual(expected)
        const client = await createClient({ url: `redis://127.0.0.1:${port}` }).connect()
        onTestFinished(() => client.destroy())
        expect((await openStore(client)).capabilities).toEqual(expected)
      })
    }

    test('what a user may not read is a shortfall without a finding', async () => {
      const server = await ownServer()
      await server.command('ACL', 'SETUSER', 'plain', 'on', '>p', '~*', '&*', '+@all', '-config')
      await server.command('ACL', 'SETUSER', 'blind', 'on', '>p', '~*', '&*', '+@all', '-config', '-info')
      const plain = await openStore(connect({ port: server.port, username: 'plain', password: 'p' }))
      expect(plain.capabilities.shortfalls).toEqual([short('appendfsync'), short('no-appendfsync-on-rewrite')])
      const blind = await openStore(connect({ port: server.port, username: 'blind', password: 'p', enableReadyCheck: false }))
      const settings = ['redis_version', 'appendonly', 'appendfsync', 'no-appendfsync-on-rewrite', 'maxmemory-policy', 'connected_slaves']
      expect(blind.capabilities).toEqual({ shared: 'network', durable: 'none', shortfalls: settings.map((setting) => short(setting)) })
    })

    test('a replica that could be promoted is a shortfall', async () => {
      const primary = await ownServer()
      const replica = await ownServer({ ...DURABLE, replicaof: ['127.0.0.1', String(primary.port)] })
      await expect
        .poll(async () => String(await replica.command('INFO', 'replication')), { timeout: 20_000 })
        .toContain('master_link_status:up')
      expect((await openStore(primary.port)).capabilities.shortfalls).toEqual([short('connected_slaves', '1')])
    })

    test('a client that asks Sentinels for its server may be sent to another one, which is a shortfall', async () => {
      const primary = await ownServer()
      const configuration = join(primary.directory, 'sentinel.conf')
      const port = await freePort()
      writeFileSync(configuration, `port ${port}\nbind 127.0.0.1\nsentinel monitor us 127.0.0.1 ${primary.port} 1\n`)
      const sentinel = spawn('redis-server', [configuration, '--sentinel'], { stdio: 'ignore' })
      onTestFinished(async () => {
        sentinel.kill('SIGKILL')
        await once(sentinel, 'exit')
      })
      const client = new Redis({ sentinels: [{ host: '127.0.0.1', port }], name: 'us' })
      client.on('error', () => {})
      onTestFinished(() => client.disconnect())
      const store = await openStore(client)
      expect(store.capabilities.shortfalls).toEqual([short('sentinel', 'yes')])
      expect(await store.apply([ONE])).toMatchObject({ outcome: 'applied' })
    })

    test('of a cluster the weakest server counts, for both drivers', async () => {
      const cluster = await startRedisCluster()
      onTestFinished(() => cluster.stop())
      const rootNodes = cluster.ports.map((port) => ({ host: '127.0.0.1', port }))
      const one = new Cluster(rootNodes)
      onTestFinished(() => one.disconnect())
      const other = createCluster({ rootNodes: rootNodes.map((socket) => ({ socket })) }).on('error', () => {})
      await other.connect()
      onTestFinished(() => other.destroy())
      for (const client of [one, other]) expect((await openStore(client)).capabilities).toEqual({ shared: 'network', durable: 'disk' })
      await cluster.servers[1]!.command('CONFIG', 'SET', 'appendfsync', 'everysec')
      for (const client of [one, other]) {
        const store = await openStore(client)
        expect(store.capabilities).toEqual({ shared: 'network', durable: 'os', shortfalls: [short('appendfsync', 'everysec')] })
        expect(await store.apply([ONE])).toMatchObject({ results: [{ values: [1] }] })
        expect(await store.list('k/', { limit: 9 })).toMatchObject([{ key: 'k/n', value: 1 }])
        await expectWoken(store, store)
      }
    })
  })

  describe('clients', () => {
    test('a client that puts something in front of all keys has a store of its own', async () => {
      const [plain, prefixed] = [
        await openStore(connect({ port: shared.port }), { prefix: 'same' }),
        connect({ port: shared.port, keyPrefix: 'app:' }),
      ]
      const other = await openStore(prefixed, { prefix: 'same' })
      expect(other.id).not.toBe(plain.id)
      const { promise, resolve } = Promise.withResolvers<void>()
      onTestFinished(other.watch('k/', resolve))
      await sleep(100)
      expect(await other.apply([ONE])).toMatchObject({ results: [{ values: [1] }] })
      await promise
      expect(await plain.read(['k/n'])).toEqual([null])
    })

    test('a script that the server has dropped is sent again', async () => {
      const store = await openStore()
      await store.apply([ONE])
      await shared.command('SCRIPT', 'FLUSH')
      expect(await store.apply([ONE])).toMatchObject({ results: [{ values: [2] }] })
    })

    test('closing a store leaves the client open, and ends the connection that listens', async () => {
      const server = await ownServer()
      const listeners = async (): Promise<number> =>
        String(await server.command('CLIENT', 'LIST', 'TYPE', 'pubsub'))
          .split('\n')
          .filter(Boolean).length
      const node = await createClient({ url: `redis://127.0.0.1:${server.port}` }).connect()
      onTestFinished(() => node.destroy())
      const io = connect({ port: server.port })
      for (const client of [io, node]) {
        const store = await openStore(client)
        const stops = ['a', 'b'].map((prefix) => store.watch(prefix, () => {}))
        await expect.poll(listeners).toBe(1)
        stops[0]!()
        await sleep(50)
        expect(await listeners()).toBe(1)
        stops[1]!()
        await expect.poll(listeners).toBe(0)
        store.watch('c', () => {})
        await expect.poll(listeners).toBe(1)
        await store.close()
        await expect.poll(listeners).toBe(0)
      }
      expect([await io.ping(), await node.ping()]).toEqual(['PONG', 'PONG'])
    })
  })

  describe('watching', () => {
    test('a listener whose connection was cut wakes when it is back, and again at the next change', async () => {
      const server = await ownServer()
      const store = await openStore(server.port)
      const other = await openStore(server.port, { prefix: store.name.slice('redis {holdfast:'.length, -1) })
      let woken = 0
      onTestFinished(store.watch('k/', () => (woken += 1)))
      await expect.poll(() => woken).toBeGreaterThan(0)
      await sleep(100)
      await server.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
      woken = 0
      // Nothing has changed, so this is not the poll.
      await expect.poll(() => woken, { timeout: 10_000 }).toBeGreaterThan(0)
      await expectWoken(store, other)
    })

    test('who watches one prefix is not woken for another, and of many keys everyone is', async () => {
      const store = await openStore()
      let woken = 0
      onTestFinished(store.watch('k/', () => (woken += 1)))
      await sleep(100)
      await store.read([])
      woken = 0
      await store.apply([{ set: [{ key: 'other', value: 1 }] }])
      await sleep(50)
      expect(woken).toBe(0)
      await store.apply([{ set: Array.from({ length: 65 }, (_, index) => ({ key: `many/${index}`, value: 1 })) }])
      await expect.poll(() => woken, { timeout: 10_000 }).toBeGreaterThan(0)
    })

    test('who may not listen is woken by the poll, and who may not publish commits all the same', async () => {
      const server = await ownServer()
      await server.command('ACL', 'SETUSER', 'deaf', 'on', '>p', '~*', 'resetchannels', '+@all')
      const store = await openStore(connect({ port: server.port, username: 'deaf', password: 'p' }))
      let woken = 0
      onTestFinished(store.watch('k/', () => (woken += 1)))
      await sleep(300)
      woken = 0
      expect(await store.apply([ONE])).toMatchObject({ outcome: 'applied' })
      await expect.poll(() => woken, { timeout: 20_000 }).toBeGreaterThan(0)
    })

    for (const driver of ['ioredis', 'redis']) {
      test(`a watch keeps no process alive (${driver})`, async () => {
        const open =
          driver === 'redis'
            ? `const client = await (await import('redis')).createClient({ url }).connect(); const end = () => client.destroy()`
            : `const client = new (await import('ioredis')).Redis(url); const end = () => client.disconnect()`
        const script = `
          import { redisStore } from './src/stores/redis.ts'
          const url = 'redis://127.0.0.1:${shared.port}'
          ${open}
          const store = await redisStore(client, { prefix: 'alive-${driver}' })
          await new Promise((resolve) => store.watch('k/', resolve))
          await new Promise((resolve) => setTimeout(resolve, 100))
          console.log('woken')
          end()`
        const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
        onTestFinished(() => void child.kill('SIGKILL'))
        const said = once(child.stdout, 'data')
        const ended = once(child, 'exit')
        expect(String((await said)[0])).toBe('woken\n')
        const at = performance.now()
        expect(await ended).toEqual([0, null])
        expect(performance.now() - at).toBeLessThan(30_000)
      })
    }
  })
})
