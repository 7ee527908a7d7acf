// How processes of a test find the Redis server that they share: by a file in their directory.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { redisStore } from '../../src/stores/redis.ts'
import type { Store } from '../../src/stores/store.ts'

/** Says to the processes of a directory where their server is. */
export function placeRedis(directory: string, port: number): void {
  writeFileSync(join(directory, 'redis-port'), String(port))
}

/** Opens the store of a directory; its client ends with it. */
export async function openRedis(directory: string): Promise<Store> {
  const client = new Redis(Number(readFileSync(join(directory, 'redis-port'), 'utf8')), '127.0.0.1')
  // A server that is away for a while is what the test is about; the store says what came of it.
  client.on('error', () => {})
  const store = await redisStore(client)
  return {
    ...store,
    async close() {
      await store.close()
      client.disconnect()
    },
  }
}
