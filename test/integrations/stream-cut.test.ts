// Streams that are cut in the middle, by a stop, a freeze or a gate: their caller reads a typed end, whichever framework
// is between, and the call is drained or charged.

import { createOpenAI } from '@ai-sdk/openai'
import { ChatOpenAI } from '@langchain/openai'
import { streamText } from 'ai'
import type { createAgent } from 'langchain'
import OpenAI from 'openai'
import { describe, expect, test } from 'vitest'
import { wrapLanguageModel } from 'ai'
import { guardFetch, holdfastMiddleware } from '../../integrations/ai-sdk.ts'
import { guardAgent } from '../../integrations/langchain.ts'
import { wrapOpenAI } from '../../integrations/openai.ts'
import type { GuardOptions } from '../../integrations/transport/guard-fetch.ts'
import { openKernel } from '../../src/kernel/open-kernel.ts'
import { findRefusal, Refusal } from '../../src/lib/errors.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { SUITE_MODEL, readAll, until, type Bench } from '../../src/testing/integration-bench.ts'
import type { Denial } from '../../src/waist/gate.ts'
import { chatBody, endsOf, onBench } from './bench.ts'
import { openTap, type Tap, type TappedAnswer } from './tap.ts'

const WHY = { by: 'ada', reason: 'it loops' } as const
const stopAll = (bench: Bench) => bench.kernel.stop({ everything: true, ...WHY })
const PRICE = 5 * 150 + 2 * 600

/** Posts a streamed call through a guard to a tap, and reads its first delta. */
async function begun(bench: Bench, tap: Tap, options: GuardOptions = {}) {
  const guarded = guardFetch(bench.scope, options)
  const response = await guarded(`${tap.baseURL}/chat/completions`, { method: 'POST', body: chatBody({ stream: true }) })
  const answer = tap.answers.at(-1)!
  answer.say('one')
  const reader = response.body!.getReader()
  await reader.read()
  return { answer, reader }
}

const rest = async (reader: ReadableStreamDefaultReader<Uint8Array>): Promise<unknown> => {
  try {
    while (!(await reader.read()).done);
    return undefined
  } catch (error) {
    return error
  }
}

describe('a stream under way', () => {
  test('is cut by a stop that covers it: its reader is told so, the answer is read on to its usage', () =>
    onBench({}, async (bench) => {
      const { answer, reader } = await begun(bench, await openTap())
      const reading = rest(reader)
      await bench.kernel.stop({ budget: 'suite', ...WHY })
      const error = await reading
      expect(Refusal.isInstance(error)).toBe(true)
      expect(error).toMatchObject({ code: 'ERR_STOPPED', details: { stop: { budget: 'suite' } } })
      expect(bench.scope.refusal?.code).toBe('ERR_STOPPED')
      expect(answer.isCut).toBe(false)
      answer.finish()
      expect(await endsOf(bench)).toEqual(['settled'])
      expect(await bench.spent()).toBe(PRICE)
      expect(bench.records('event').filter(({ type }) => type === 'cut')).toMatchObject([{ code: 'ERR_STOPPED', agent: 'suite-agent' }])
    }))

  test('goes on when the stop covers something else', () =>
    onBench({}, async (bench) => {
      const { answer, reader } = await begun(bench, await openTap())
      await bench.kernel.stop({ agent: 'somebody-else', ...WHY })
      await bench.kernel.stop({ budget: 'suite/run2', ...WHY })
      answer.finish()
      expect(await rest(reader)).toBeUndefined()
      expect(bench.scope.refusal).toBeUndefined()
      expect(await endsOf(bench)).toEqual(['settled'])
    }))

  test('is cut and its connection closed where the worst case is to be charged', () =>
    onBench({}, async (bench) => {
      const { answer, reader } = await begun(bench, await openTap(), { onAbort: 'charge' })
      await stopAll(bench)
      expect(await rest(reader)).toMatchObject({ code: 'ERR_STOPPED' })
      await until('its socket is closed', () => answer.isCut)
      expect(await bench.outcomes()).toMatchObject([{ outcome: 'charged', reason: 'the stream was cut: ERR_STOPPED' }])
    }))

  test('is cut when its budget, or one above it, is frozen; by whichever kernel', () =>
    onBench({}, async (bench) => {
      const { answer, reader } = await begun(bench, await openTap())
      const reading = rest(reader)
      const other = await openKernel({ store: bench.kernel.store, onEvent: () => undefined })
      await other.freeze('suite', WHY)
      expect(await reading).toMatchObject({ code: 'ERR_BUDGET_FROZEN' })
      answer.finish()
      expect(await endsOf(bench)).toEqual(['settled'])
      await other.close()
    }))

  test('that has had its last event is not cut any more', () =>
    onBench({}, async (bench) => {
      const { answer, reader } = await begun(bench, await openTap())
      answer.finish()
      await until('it is settled', () => bench.records('outcome').length === 1)
      await stopAll(bench)
      expect(await rest(reader)).toBeUndefined()
      expect(bench.scope.refusal).toBeUndefined()
      expect(await endsOf(bench)).toEqual(['settled'])
    }))

  test('that has been left is read on, whatever is stopped meanwhile', () =>
    onBench({}, async (bench) => {
      const { answer, reader } = await begun(bench, await openTap())
      await reader.cancel()
      await stopAll(bench)
      expect(answer.isCut).toBe(false)
      answer.finish()
      expect(await endsOf(bench)).toEqual(['settled'])
    }))

  test('that begins as it is stopped is cut at once', () =>
    onBench({}, async (bench) => {
      const tap = await openTap()
      const sending: typeof fetch = async (input, init) => {
        await stopAll(bench)
        return fetch(input, init)
      }
      const guarded = guardFetch(bench.scope, { fetch: sending, onAbort: 'charge' })
      const response = await guarded(`${tap.baseURL}/chat/completions`, { method: 'POST', body: chatBody({ stream: true }) })
      await expect(response.text()).rejects.toMatchObject({ code: 'ERR_STOPPED' })
      expect(await endsOf(bench)).toEqual(['charged'])
    }))

  test('is no matter for a call that is no stream: it is paid for anyway, and its caller gets it', () =>
    onBench({ answers: [{ text: 'done', delayMs: 100 }] }, async (bench) => {
      const answer = bench.calls.generate({ prompt: 'hello' })
      await until('it is billed', () => bench.provider.bill().billed === 1)
      await stopAll(bench)
      expect((await answer).text).toBe('done')
      await expect(bench.calls.generate({ prompt: 'hello' })).rejects.toMatchObject({ status: 402 })
    }))
})

describe('a gate of the user', () => {
  test('ends the stream that it let pass, with its own denial, once; and is told when the stream has ended', async () => {
    const tap = await openTap()
    const watched = new Set<(denial: Denial) => void>()
    const gate = {
      name: 'consent',
      decide: () => ({ verdict: 'allow' }) as const,
      watch(_action: unknown, cut: (denial: Denial) => void) {
        watched.add(cut)
        return () => void watched.delete(cut)
      },
    }
    const kernel = await openKernel({ store: memoryStore(), budgets: { acme: { usd: 1 } }, gates: [gate] })
    const scope = kernel.scope({ agent: 'writer', task: 'report', budget: 'acme' })
    const post = (): Promise<Response> =>
      guardFetch(scope)(`${tap.baseURL}/chat/completions`, { method: 'POST', body: chatBody({ stream: true }) })
    const response = await post()
    expect(watched.size).toBe(1)
    for (const cut of watched) {
      cut({ verdict: 'deny', reason: 'ann has withdrawn her consent' })
      cut({ verdict: 'deny', reason: 'and again' })
    }
    await expect(response.text()).rejects.toMatchObject({ code: 'ERR_PERMISSION_DENIED', message: 'ann has withdrawn her consent' })
    expect(scope.refusal?.message).toBe('ann has withdrawn her consent')
    tap.answers[0]!.finish()
    await until('it is settled', () => watched.size === 0)
    const whole = await post()
    tap.answers[1]!.finish()
    expect(await whole.text()).toContain('[DONE]')
    expect(watched.size).toBe(0)
    await kernel.close()
  })

  test('that cannot watch cuts at once: nothing runs past a gate that cannot answer', async () => {
    const tap = await openTap()
    const gate = {
      name: 'broken',
      decide: () => ({ verdict: 'allow' }) as const,
      watch: () => {
        throw new Error('no connection')
      },
    }
    const kernel = await openKernel({ store: memoryStore(), budgets: { acme: { usd: 1 } }, gates: [gate] })
    const guarded = guardFetch(kernel.scope({ agent: 'writer', task: 'report', budget: 'acme' }), { onAbort: 'charge' })
    const response = await guarded(`${tap.baseURL}/chat/completions`, { method: 'POST', body: chatBody({ stream: true }) })
    await expect(response.text()).rejects.toMatchObject({ code: 'ERR_PERMISSION_DENIED' })
    await kernel.close()
  })
})

/** Says something, stops everything once the framework has it, and lets the answer end. */
async function stopMidway(bench: Bench, tap: Tap, pieces: AsyncIterable<string>): Promise<{ text: string; error: unknown }> {
  let text = ''
  let answer: TappedAnswer | undefined
  const speaking = until('it was asked', () => (answer = tap.answers.at(-1)) !== undefined).then(() => answer!.say('one'))
  try {
    for await (const piece of pieces) {
      if (piece === '') continue
      text += piece
      await stopAll(bench)
    }
    return { text, error: undefined }
  } catch (error) {
    return { text, error }
  } finally {
    await speaking
    answer!.finish()
  }
}

describe('a caller whose stream was cut knows it', () => {
  test('of the OpenAI SDK: the loop throws the refusal', () =>
    onBench({}, async (bench) => {
      const tap = await openTap()
      const client = wrapOpenAI(new OpenAI({ apiKey: 'test', baseURL: tap.baseURL, maxRetries: 2, logLevel: 'off' }), bench.scope)
      const stream = await client.chat.completions.create({
        model: SUITE_MODEL,
        max_completion_tokens: 20,
        messages: [{ role: 'user', content: 'hello' }],
        stream: true,
      })
      const pieces = async function* () {
        for await (const chunk of stream) yield chunk.choices[0]!.delta.content ?? ''
      }
      const { text, error } = await stopMidway(bench, tap, pieces())
      expect(text).toBe('one')
      expect(findRefusal(error)?.code).toBe('ERR_STOPPED')
      expect(tap.answers).toHaveLength(1)
      expect(await endsOf(bench)).toEqual(['settled'])
    }))

  test.each([
    ['the transport guard', true, false, 'settled'],
    ['the middleware alone', false, true, 'charged'],
    ['both', true, true, 'settled'],
  ])('of streamText of the AI SDK, under %s: onError and scope.refusal have it', (_, guard, middleware, end) =>
    onBench({}, async (bench) => {
      const tap = await openTap()
      const openai = createOpenAI({ apiKey: 'test', baseURL: tap.baseURL, ...(guard ? { fetch: guardFetch(bench.scope) } : {}) })
      const bare = openai.chat(SUITE_MODEL)
      const model = middleware ? wrapLanguageModel({ model: bare, middleware: holdfastMiddleware(bench.scope) }) : bare
      const errors: unknown[] = []
      const { textStream } = streamText({ model, prompt: 'hello', maxOutputTokens: 20, onError: ({ error }) => void errors.push(error) })
      const { text, error } = await stopMidway(bench, tap, textStream)
      expect(text).toBe('one')
      expect(bench.scope.refusal?.code).toBe('ERR_STOPPED')
      expect([error, ...errors].map((one) => findRefusal(one)?.code)).toContain('ERR_STOPPED')
      expect(tap.answers).toHaveLength(1)
      expect(await endsOf(bench)).toEqual([end])
    }),
  )

  test('of a model of LangChain: the loop throws the refusal, and nothing is tried again', () =>
    onBench({}, async (bench) => {
      const tap = await openTap()
      const model = new ChatOpenAI({
        model: SUITE_MODEL,
        apiKey: 'test',
        maxTokens: 20,
        configuration: { baseURL: tap.baseURL, fetch: guardFetch(bench.scope) },
      })
      // Its `stream` waits for the first piece.
      const pieces = async function* () {
        for await (const { text } of await model.stream('hello')) yield text
      }
      const { text, error } = await stopMidway(bench, tap, pieces())
      expect(text).toBe('one')
      expect(findRefusal(error)?.code).toBe('ERR_STOPPED')
      expect(tap.answers).toHaveLength(1)
      expect(await endsOf(bench)).toEqual(['settled'])
    }))

  test('of an agent of LangChain: the stream of its messages throws the refusal', () =>
    onBench({}, async (bench) => {
      const tap = await openTap()
      const model = new ChatOpenAI({ model: SUITE_MODEL, apiKey: 'test', maxTokens: 20, configuration: { baseURL: tap.baseURL } })
      const agent: ReturnType<typeof createAgent> = guardAgent({ model, scope: bench.scope, tools: [] }) as never
      const pieces = async function* () {
        const stream = await agent.stream({ messages: [{ role: 'user', content: 'hello' }] }, { streamMode: 'messages' })
        for await (const part of stream as AsyncIterable<readonly [{ readonly text?: string }]>) yield part[0].text ?? ''
      }
      const { text, error } = await stopMidway(bench, tap, pieces())
      expect(text).toBe('one')
      expect(findRefusal(error)?.code).toBe('ERR_STOPPED')
      expect(tap.answers).toHaveLength(1)
      expect(await endsOf(bench)).toEqual(['settled'])
    }))

  test('and in the twin that nobody stops, each of them reads to the end', () =>
    onBench({}, async (bench) => {
      const tap = await openTap()
      const openai = createOpenAI({ apiKey: 'test', baseURL: tap.baseURL, fetch: guardFetch(bench.scope) })
      const model = wrapLanguageModel({ model: openai.chat(SUITE_MODEL), middleware: holdfastMiddleware(bench.scope) })
      const reading = readAll(streamText({ model, prompt: 'hello', maxOutputTokens: 20 }).textStream)
      await until('it was asked', () => tap.answers.length === 1)
      tap.answers[0]!.say('one two')
      tap.answers[0]!.finish()
      expect(await reading).toBe('one two')
      expect(bench.scope.refusal).toBeUndefined()
    }))
})
