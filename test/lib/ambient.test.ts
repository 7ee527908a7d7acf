// What a task carries follows it through awaits, timers and streams, ends with it, never leaks into another one,
// and is the same for two copies of the package.

import { EventEmitter } from 'node:events'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type * as Ambient from '../../src/lib/ambient.ts'
import { ambient, withAmbient } from '../../src/lib/ambient.ts'

const [scope, run, hold] = [{ is: 'scope' }, { is: 'run' }, { is: 'hold' }]

async function secondCopy(): Promise<typeof Ambient> {
  const file = '../../src/lib/ambient.ts'
  return (await import(`${file}?copy=2`)) as typeof Ambient
}

describe('the ambient fields', () => {
  test('are empty outside of any task', () => {
    expect(ambient()).toEqual({})
  })

  test('lie on top of each other, and go with the function that they were set for', () => {
    const seen = withAmbient({ scope, run }, () => {
      const inner = withAmbient({ run: hold, hold }, () => ambient())
      return [inner, ambient()]
    })
    expect(seen).toEqual([
      { scope, run: hold, hold },
      { scope, run },
    ])
    expect(ambient()).toEqual({})
  })

  test('go also when the function throws, or its promise rejects', async () => {
    expect(() =>
      withAmbient({ scope }, () => {
        throw new Error('sync')
      }),
    ).toThrow('sync')
    await expect(withAmbient({ scope }, () => Promise.reject(new Error('async')))).rejects.toThrow('async')
    expect(ambient()).toEqual({})
  })

  test('follow across await, timers, microtasks, immediates, ticks and promises', async () => {
    const seen = await withAmbient({ scope }, async () => {
      const found = [ambient()]
      await Promise.resolve()
      found.push(ambient())
      await setTimeout(1)
      found.push(ambient())
      await setImmediate()
      found.push(ambient())
      found.push(await new Promise((resolve) => queueMicrotask(() => resolve(ambient()))))
      found.push(await new Promise((resolve) => process.nextTick(() => resolve(ambient()))))
      found.push(...(await Promise.all([setTimeout(1).then(ambient), setImmediate().then(ambient)])))
      for await (const _ of timed(2)) found.push(ambient())
      return found
    })
    expect(seen).toEqual(Array.from({ length: 10 }, () => ({ scope })))
  })

  test('belong to the task that starts a timer, not to what runs when it fires', async () => {
    const started = withAmbient({ scope }, () => setTimeout(1).then(ambient))
    expect(await withAmbient({ scope: run }, () => started)).toEqual({ scope })
  })

  test('are those of the task that emits an event, not of the one that listens', () => {
    const events = new EventEmitter()
    const seen: unknown[] = []
    withAmbient({ scope }, () => events.on('event', () => seen.push(ambient())))
    events.emit('event')
    withAmbient({ run }, () => events.emit('event'))
    expect(seen).toEqual([{}, { run }])
  })

  test('never leak between a hundred tasks that run at once', async () => {
    const seen = await Promise.all(
      Array.from({ length: 100 }, (_, index) =>
        withAmbient({ scope: { index } }, async () => {
          await setTimeout(index % 7)
          const outer = ambient().scope
          const inner = await withAmbient({ run: { index } }, async () => {
            await setTimeout(index % 3)
            return ambient()
          })
          return [outer, inner, ambient()]
        }),
      ),
    )
    expect(seen).toEqual(seen.map((_, index) => [{ index }, { scope: { index }, run: { index } }, { scope: { index } }]))
  })
})

describe('two copies of the package', () => {
  test('carry the same, in both directions', async () => {
    const copy = await secondCopy()
    expect(copy.ambient).not.toBe(ambient)
    expect(withAmbient({ scope }, () => copy.ambient())).toEqual({ scope })
    expect(copy.withAmbient({ scope, run }, () => withAmbient({ hold }, () => copy.ambient()))).toEqual({ scope, run, hold })
    expect([ambient(), copy.ambient()]).toEqual([{}, {}])
  })
})

async function* timed(count: number): AsyncGenerator<number> {
  for (let index = 0; index < count; index++) {
    await setTimeout(1)
    yield index
  }
}
