// The Redis store passes the store suite on both drivers and on a cluster. What it does with lost answers, lost
// data and servers that refuse is in redis-trouble.test.ts.

import { Cluster, Redis } from 'ioredis'
import { createClient } from 'redis'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { newId } from '../../src/lib/ids.ts'
import type { RedisClient } from '../../src/stores/redis/client.ts'
import { redisStore } from '../../src/stores/redis.ts'
import type { Store } from '../../src/stores/store.ts'
import { testStore } from '../../src/testing/store-suite.ts'
import { DURABLE, startRedis, startRedisCluster } from './redis-server.ts'
import { requireServer } from './servers.ts'

/** A server, and a client of it that a test brings along. */
interface Site {
  readonly connect: () => Promise<{ readonly client: RedisClient; readonly end: () => void }>
  readonly stop: () => Promise<void>
}

async function ioredisSite(): Promise<Site> {
  const server = await startRedis(DURABLE)
  return {
    stop: () => server.stop(),
    async connect() {
      const client = new Redis(server.port, '127.0.0.1')
      return { client, end: () => client.disconnect() }
    },
  }
}

async function nodeRedisSite(): Promise<Site> {
  const server = await startRedis(DURABLE)
  return {
    stop: () => server.stop(),
    async connect() {
      const client = await createClient({ url: `redis://127.0.0.1:${server.port}` }).connect()
      return { client, end: () => client.destroy() }
    },
  }
}

async function clusterSite(): Promise<Site> {
  const cluster = await startRedisCluster()
  return {
    stop: () => cluster.stop(),
    async connect() {
      const client = new Cluster(cluster.ports.map((port) => ({ host: '127.0.0.1', port })))
      return { client, end: () => client.disconnect() }
    },
  }
}

const SITES = { 'redis (ioredis)': ioredisSite, 'redis (node-redis)': nodeRedisSite, 'redis (ioredis cluster)': clusterSite }

describe.runIf(requireServer('redis-server', 'the Redis store'))('redis', () => {
  for (const [name, start] of Object.entries(SITES)) {
    describe(`on ${name}`, () => {
      let site: Site
      const ends: (() => void)[] = []
      const prefixes = new Map<Store, string>()
      beforeAll(async () => {
        site = await start()
      })
      afterAll(async () => {
        for (const end of ends) end()
        await site.stop()
      })

      const open = async (prefix: string): Promise<Store> => {
        const { client, end } = await site.connect()
        ends.push(end)
        const store = await redisStore(client, { prefix })
        prefixes.set(store, prefix)
        return store
      }
      testStore(test, {
        name,
        create: async () => ({ store: await open(newId()) }),
        second: async ({ store }) => open(prefixes.get(store)!),
        reopen: async ({ store }) => open(prefixes.get(store)!),
        async destroy() {
          for (const end of ends.splice(0)) end()
        },
      })
    })
  }
})
