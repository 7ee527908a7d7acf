// What becomes of answers that nobody waits for any more, and of holds whose deadline passes: each ends, once, and
// what is known later corrects it.

import { describe, expect, test } from 'vitest'
import { createDrains } from '../../integrations/transport/drains.ts'
import type { GuardOptions } from '../../integrations/transport/guard-fetch.ts'
import { sleep } from '../../src/lib/clock.ts'
import { errorOf, until, type Bench } from '../../src/testing/integration-bench.ts'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { chatBody, endsOf, onBench, poster } from './bench.ts'
import { openTap } from './tap.ts'

const SLOW = { text: 'one two three four five six seven eight', chunkDelayMs: 30 } as const

async function leaveAfterFirst(bench: Bench, options: GuardOptions): Promise<void> {
  const response = await poster(bench, options)(chatBody({ stream: true }))
  const reader = response.body!.getReader()
  await reader.read()
  await reader.cancel()
}

describe('an answer whose caller left', () => {
  test('is read to its usage', () =>
    onBench({ answers: [SLOW] }, async (bench) => {
      await leaveAfterFirst(bench, {})
      expect(await endsOf(bench)).toEqual(['settled'])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))

  test('is cut and charged at worst when no drains are allowed', () =>
    onBench({ answers: [SLOW] }, async (bench) => {
      await leaveAfterFirst(bench, { maxDrains: 0 })
      expect(await endsOf(bench)).toEqual(['charged'])
      expect(bench.provider.bill().lines[0]!.completed).toBe(false)
    }))

  test('is cut and charged at worst when it takes longer than drainMs', () =>
    onBench({ answers: [{ ...SLOW, chunkDelayMs: 100 }] }, async (bench) => {
      await leaveAfterFirst(bench, { drainMs: 30 })
      expect(await endsOf(bench)).toEqual(['charged'])
      expect(bench.provider.bill().lines[0]!.completed).toBe(false)
    }))

  test('is read on by at most maxDrains at a time, and there is room again afterwards', () =>
    onBench({ answers: [SLOW] }, async (bench) => {
      const post = poster(bench, { maxDrains: 2 })
      const readers = await Promise.all(Array.from({ length: 5 }, async () => (await post(chatBody({ stream: true }))).body!.getReader()))
      await Promise.all(readers.map((reader) => reader.read()))
      for (const reader of readers) await reader.cancel()
      expect((await endsOf(bench)).toSorted()).toEqual(['charged', 'charged', 'charged', 'settled', 'settled'])
      const again = (await post(chatBody({ stream: true }))).body!.getReader()
      await again.read()
      await again.cancel()
      expect((await endsOf(bench)).filter((outcome) => outcome === 'settled')).toHaveLength(3)
    }))

  test('by an abort ends the reading at once, with the reason, and is read to its usage', () =>
    onBench({ answers: [SLOW] }, async (bench) => {
      const leaver = new AbortController()
      const response = await poster(bench)(chatBody({ stream: true }), { signal: leaver.signal })
      const reader = response.body!.getReader()
      await reader.read()
      const pending = reader.read().then(() => reader.read())
      leaver.abort(new Error('I have to go'))
      await expect(pending).rejects.toThrow('I have to go')
      expect(await endsOf(bench)).toEqual(['settled'])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))

  test('before it came is read whole, as a stream too', () =>
    onBench({ answers: [{ delayMs: 250 }] }, async (bench) => {
      for (const stream of [false, true]) {
        const leaver = new AbortController()
        const call = errorOf(() => poster(bench)(chatBody({ stream }), { signal: leaver.signal }))
        const { billed } = bench.provider.bill()
        await until('it is billed', () => bench.provider.bill().billed === billed + 1)
        leaver.abort()
        expect(await call).toMatchObject({ name: 'AbortError' })
      }
      expect(await endsOf(bench)).toEqual(['settled', 'settled'])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))

  test('is charged when the kernel closes meanwhile, and corrected in the budget when its usage comes', () =>
    // The chain is closed by then, so the operator is told that it lacks the correction.
    onBench({ answers: [SLOW], expected: ['audit-gap'] }, async (bench) => {
      await leaveAfterFirst(bench, {})
      await bench.kernel.close()
      const [line] = await bench.kernel.budgets('suite/run')
      expect(line!.out).toBe(0)
      expect(line!.spent).toBeGreaterThan(bench.provider.bill().nanoUsd)
      await until('the budget has the real use', async () => (await bench.spent()) === bench.provider.bill().nanoUsd)
    }))
})

describe('what onAbort says of a caller who left', () => {
  const call = { method: 'POST', body: chatBody({ stream: true }) }

  test.each([
    ['drain', false, 'settled'],
    ['charge', true, 'charged'],
  ] as const)('%s: the socket is cut: %s, and the call is %s', (onAbort, isCut, end) =>
    onBench({}, async (bench) => {
      const tap = await openTap()
      const response = await guardFetch(bench.scope, { onAbort })(`${tap.baseURL}/chat/completions`, call)
      tap.answers[0]!.say('one')
      const reader = response.body!.getReader()
      await reader.read()
      await reader.cancel()
      if (isCut) await until('the socket is closed', () => tap.answers[0]!.isCut)
      else tap.answers[0]!.finish()
      expect(await endsOf(bench)).toEqual([end])
      expect(tap.answers[0]!.isCut).toBe(isCut)
    }),
  )

  test('charge: before the answer came too, and whatever its fetch does with the signal', () =>
    onBench({ answers: [{ delayMs: 200 }] }, async (bench) => {
      let asks = 0
      // One that never answers, and does not listen to its signal.
      const deaf: typeof fetch = () => {
        asks += 1
        return new Promise(() => undefined)
      }
      for (const fetch of [globalThis.fetch, deaf]) {
        const leaver = new AbortController()
        const { billed } = bench.provider.bill()
        const asked = errorOf(() => poster(bench, { onAbort: 'charge', fetch })(chatBody(), { signal: leaver.signal }))
        await until('it was sent', () => asks > 0 || bench.provider.bill().billed === billed + 1)
        leaver.abort()
        expect(await asked).toMatchObject({ name: 'AbortError' })
      }
      expect(await endsOf(bench)).toEqual(['charged', 'charged'])
    }))

  test('drain: 32 are read on at once, and the 33rd is cut and charged', () =>
    onBench({}, async (bench) => {
      const tap = await openTap()
      const guarded = guardFetch(bench.scope)
      const readers = []
      for (let count = 0; count < 33; count++) {
        const response = await guarded(`${tap.baseURL}/chat/completions`, call)
        tap.answers[count]!.say('one')
        const reader = response.body!.getReader()
        await reader.read()
        readers.push(reader)
      }
      for (const reader of readers) await reader.cancel()
      await until('the last is cut', () => tap.answers[32]!.isCut)
      expect(tap.answers.filter(({ isCut }) => isCut)).toHaveLength(1)
      for (const answer of tap.answers.slice(0, 32)) answer.finish()
      expect((await endsOf(bench)).toSorted()).toEqual(['charged', ...Array.from({ length: 32 }, () => 'settled')])
    }))
})

describe('an error that answers a caller who left before', () => {
  test.each([
    [429, 'released'],
    [500, 'charged'],
  ])('%i ends the hold by its status alone, and its body is not read', (status, end) =>
    onBench({}, async (bench) => {
      let cancelled = false
      const leaver = new AbortController()
      const body = new ReadableStream<Uint8Array>({ cancel: () => void (cancelled = true) })
      const fetch = async (): Promise<Response> => {
        leaver.abort(new Error('I have to go'))
        return new Response(body, { status })
      }
      await expect(poster(bench, { fetch })(chatBody(), { signal: leaver.signal })).rejects.toThrow('I have to go')
      expect(await endsOf(bench)).toEqual([end])
      await until('its body is given back', () => cancelled)
    }),
  )

  test('and whose body breaks off breaks nothing else', () =>
    onBench({}, async (bench) => {
      const unhandled = listenForUnhandled()
      const leaver = new AbortController()
      const fetch = async (): Promise<Response> => {
        leaver.abort(new Error('I have to go'))
        const body = new ReadableStream<Uint8Array>({ start: (controller) => controller.error(new Error('the line is dead')) })
        return new Response(body, { status: 429 })
      }
      await expect(poster(bench, { fetch })(chatBody(), { signal: leaver.signal })).rejects.toThrow('I have to go')
      expect(await endsOf(bench)).toEqual(['released'])
      expect(await unhandled()).toEqual([])
    }))
})

/** Collects promises that are rejected for nobody, which would end a process. */
function listenForUnhandled(): () => Promise<readonly unknown[]> {
  const reasons: unknown[] = []
  const listener = (reason: unknown): unknown => reasons.push(reason)
  process.on('unhandledRejection', listener)
  return async () => {
    // They are reported after the microtasks of a turn.
    await sleep(20)
    process.off('unhandledRejection', listener)
    return reasons
  }
}

describe('a drain', () => {
  test('that fails by itself cuts the upstream, and there is room again', async () => {
    const drains = createDrains(1, 60_000)
    const upstream = new AbortController()
    let gaveUp = false
    const work = async (): Promise<void> => {
      throw new RangeError('an event without end')
    }
    drains.run(upstream, work, async () => void (gaveUp = true))
    await until('it is over', () => drains.running === 0)
    expect([upstream.signal.aborted, gaveUp]).toEqual([true, true])
  })

  test('that cannot even be given up is rejected for nobody', async () => {
    const unhandled = listenForUnhandled()
    const drains = createDrains(1, 60_000)
    const fail = async (): Promise<void> => {
      throw new Error('no')
    }
    drains.run(new AbortController(), fail, fail)
    expect(await unhandled()).toEqual([])
    expect(drains.running).toBe(0)
  })
})

describe('a deadline that passes', () => {
  test('during a stream charges at worst, and the usage that comes later corrects it', () =>
    onBench({ answers: [SLOW], holdDeadlineMs: 30 }, async (bench) => {
      const response = await poster(bench)(chatBody({ stream: true }))
      await response.text()
      expect(await endsOf(bench)).toEqual(['charged', 'settled'])
      const [line] = await bench.kernel.budgets('suite/run')
      expect([line!.spent, line!.assumed]).toEqual([bench.provider.bill().nanoUsd, 0])
    }))

  test('before an error that is not billed is corrected to nothing, and the caller gets the error', () =>
    onBench({ answers: [{ status: 429, delayMs: 100 }], holdDeadlineMs: 30 }, async (bench) => {
      expect((await poster(bench)(chatBody())).status).toBe(429)
      expect(await endsOf(bench)).toEqual(['charged', 'released'])
      expect(await bench.spent()).toBe(0)
    }))

  test('ends the hold of a stream that nobody reads', () =>
    onBench({ answers: [SLOW], holdDeadlineMs: 30 }, async (bench) => {
      const response = await poster(bench)(chatBody({ stream: true }))
      await until('the deadline has passed', () => bench.records('outcome').length === 1)
      expect(await endsOf(bench)).toEqual(['charged'])
      await response.body!.cancel()
      await until('its usage has come', async () => (await bench.spent()) === bench.provider.bill().nanoUsd)
      expect(await endsOf(bench)).toEqual(['charged', 'settled'])
    }))
})
