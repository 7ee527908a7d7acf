// Which hold pays for an attempt when a framework runs it: real clients and their queues, retries and fallbacks under an
// adapter that holds around each call. What leaves is counted once, whoever runs it in whose context.

import { AsyncLocalStorage } from 'node:async_hooks'
import { RunnableLambda } from '@langchain/core/runnables'
import type { AIMessageChunk } from '@langchain/core/messages'
import type { ChatOpenAIFields } from '@langchain/openai'
import OpenAI from 'openai'
import { describe, expect, test } from 'vitest'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { withAmbient } from '../../src/lib/ambient.ts'
import { errorOf, SUITE_MODEL, until, type Bench } from '../../src/testing/integration-bench.ts'
import { endsOf, onBench } from './bench.ts'
import { rawModel } from './langchain-bench.ts'

const WORST = { usd: 1_000_000, tokens: 100_000, calls: 1 }
const ACTION = { kind: 'model', resource: SUITE_MODEL, worst: WORST }

/** What an adapter does around one call: a hold, the call in its context, and its own count with the id of the answer. */
async function adapted<T extends { readonly id?: string | undefined }>(bench: Bench, call: () => Promise<T>): Promise<T> {
  const hold = await bench.scope.begin(ACTION)
  try {
    const answer = await withAmbient({ hold }, call)
    const line = bench.provider.bill().lines.find(({ id }) => id === answer.id)!
    const tokens = line.inputTokens + line.outputTokens
    await hold.settle({ usd: line.nanoUsd, tokens, calls: 1 }, { responseId: line.id })
    return answer
  } catch (error) {
    await hold.charge('the framework failed')
    throw error
  }
}

const guardedModel = (bench: Bench, more: ChatOpenAIFields = {}, fetch: typeof globalThis.fetch = guardFetch(bench.scope)) =>
  rawModel(bench, { configuration: { baseURL: bench.provider.baseURL, fetch }, ...more })

const clientOn = (bench: Bench, maxRetries = 0): OpenAI =>
  new OpenAI({ apiKey: 'test', baseURL: bench.provider.baseURL, maxRetries, logLevel: 'off', fetch: guardFetch(bench.scope) })

const HELLO = { model: SUITE_MODEL, messages: [{ role: 'user' as const, content: 'hello there' }], max_tokens: 20 }

/** Every call was paid for once: what is spent is what was billed. */
async function paidOnce(bench: Bench): Promise<readonly [number, number]> {
  return [await bench.spent(), bench.provider.bill().nanoUsd]
}

const countOf = (ends: readonly string[], outcome: string): number => ends.filter((end) => end === outcome).length

describe('of calls that a framework runs', () => {
  test('in a queue of one, in the context of another call, each is paid once, and holds that nobody claimed go back', () =>
    onBench({}, async (bench) => {
      const model = guardedModel(bench, { maxConcurrency: 1 })
      await Promise.all(['a', 'b', 'c', 'd'].map((text) => adapted(bench, () => model.invoke(text))))
      const [spent, billed] = await paidOnce(bench)
      expect([spent, bench.provider.bill().billed]).toEqual([billed, 4])
      const ends = await endsOf(bench)
      // LangChain's queue runs the other three in the context of the first, whose hold is claimed already.
      expect([countOf(ends, 'settled'), countOf(ends, 'released')]).toEqual([4, 3])
    }))

  test('at the same time in one context, one claims its hold and the others take their own', () =>
    onBench({}, async (bench) => {
      const model = guardedModel(bench)
      const hold = await bench.scope.begin(ACTION)
      await withAmbient({ hold }, () => Promise.all([model.invoke('a'), model.invoke('b'), model.invoke('c')]))
      const [spent, billed] = await paidOnce(bench)
      expect([spent, hold.state, await endsOf(bench)]).toEqual([billed, 'settled', ['settled', 'settled', 'settled']])
    }))

  test('inside of another, each claims the hold that is nearest', () =>
    onBench({}, async (bench) => {
      const client = clientOn(bench)
      await adapted(bench, async () => {
        await adapted(bench, async () => client.chat.completions.create(HELLO))
        return client.chat.completions.create(HELLO)
      })
      const [spent, billed] = await paidOnce(bench)
      expect([spent, await endsOf(bench)]).toEqual([billed, ['settled', 'settled']])
    }))

  test('in a chain that calls a model many times under one hold, each is paid once', () =>
    onBench({}, async (bench) => {
      const model = guardedModel(bench)
      const chain = RunnableLambda.from(async (text: string): Promise<AIMessageChunk> => {
        await model.invoke(text)
        await model.batch(['x', 'y'], { maxConcurrency: 1 })
        return model.invoke(text)
      })
      await adapted(bench, () => chain.invoke('hello'))
      const [spent, billed] = await paidOnce(bench)
      expect([spent, bench.provider.bill().billed]).toEqual([billed, 4])
    }))

  test('again after an error, the first attempt ends the hold of the adapter, and the retry has its own', () =>
    onBench({ answers: [{ status: 500 }, {}] }, async (bench) => {
      await adapted(bench, async () => clientOn(bench, 1).chat.completions.create(HELLO))
      expect(await endsOf(bench)).toEqual(['charged', 'settled'])
      const [spent, billed] = await paidOnce(bench)
      expect(spent).toBe(billed + WORST.usd)
    }))

  test('again by a fallback, each attempt ends one hold', () =>
    onBench({ answers: [{ status: 400 }, {}] }, async (bench) => {
      const model = guardedModel(bench).withFallbacks([guardedModel(bench)])
      await adapted(bench, () => model.invoke('hello'))
      const [spent, billed] = await paidOnce(bench)
      expect([spent, await endsOf(bench)]).toEqual([billed, ['released', 'settled']])
    }))

  test('until every attempt has failed, every attempt is charged, and the adapter adds nothing', () =>
    onBench({ answers: [{ status: 500 }] }, async (bench) => {
      await errorOf(() => adapted(bench, async () => clientOn(bench, 2).chat.completions.create(HELLO)))
      expect(await endsOf(bench)).toEqual(['charged', 'charged', 'charged'])
    }))

  test('where its context was lost, it takes its own hold, and that of the adapter goes back', () =>
    onBench({}, async (bench) => {
      const outside = AsyncLocalStorage.snapshot()
      const guarded = guardFetch(bench.scope)
      const model = guardedModel(bench, {}, (url, init) => outside(() => guarded(url, init)))
      await adapted(bench, () => model.invoke('hello'))
      const [spent, billed] = await paidOnce(bench)
      expect([spent, (await endsOf(bench)).toSorted()]).toEqual([billed, ['released', 'settled']])
    }))

  test('after the hold around them has ended, they take their own', () =>
    onBench({}, async (bench) => {
      const client = clientOn(bench)
      let late!: Promise<unknown>
      let go!: () => void
      const gone = new Promise<void>((resolve) => (go = resolve))
      await adapted(bench, async () => {
        late = gone.then(() => client.chat.completions.create(HELLO))
        return client.chat.completions.create(HELLO)
      })
      go()
      await late
      await until('both are settled', async () => (await endsOf(bench)).length === 2)
      const [spent, billed] = await paidOnce(bench)
      expect([spent, await endsOf(bench)]).toEqual([billed, ['settled', 'settled']])
    }))

  test('after a hold that was given up unclaimed, they take their own', () =>
    onBench({}, async (bench) => {
      const hold = await bench.scope.begin(ACTION)
      await hold.release('the framework changed its mind')
      await withAmbient({ hold }, async () => clientOn(bench).chat.completions.create(HELLO))
      const [spent, billed] = await paidOnce(bench)
      expect([spent, await endsOf(bench)]).toEqual([billed, ['released', 'settled']])
    }))
})
