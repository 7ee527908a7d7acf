// The integration contract over Gemini models: the SDK of Google, and clients by hand for both forms of a stream.

import assert from 'node:assert/strict'
import { describe, expect, test } from 'vitest'
import { errorOf, readAll, type IntegrationAdapter } from '../../src/testing/integration-bench.ts'
import { testIntegration } from '../../src/testing/integration-suite.ts'
import { casesOf, endsOf, onBench } from './bench.ts'
import { GOOGLE_SDK, byHand } from './google-bench.ts'

const BROKEN_STREAM = { text: 'Nine ships, and a tenth one far out.', fault: 'malformed-sse' } as const
const CALL = { prompt: 'Count the ships.', maxOutputTokens: 50 }
const BROKEN = 'safety: a stream with a broken event ends its hold once'
const ARRAY = byHand('array')

describe.concurrent('the integration contract over Gemini', () => {
  testIntegration(test, byHand('sse'))
})

/** The cases of an adapter without the one that is another one for it. */
function mostCases(adapter: IntegrationAdapter): [string, () => Promise<void>][] {
  return [...casesOf(adapter)].filter(([name]) => name !== BROKEN)
}

describe.concurrent('the integration contract over Gemini, streams as JSON arrays', () => {
  test.each(mostCases(ARRAY))('%s', async (_, run) => {
    await expect(run()).resolves.toBeUndefined()
  })

  // An event says where it ends; an object that lost its brace takes the rest of the array with it.
  test('safety: a stream with a broken object is charged at worst, since nothing behind it can be told apart', () =>
    onBench(
      { answers: [BROKEN_STREAM] },
      async (bench) => {
        await errorOf(() => readAll(bench.calls.stream(CALL)))
        assert.deepEqual(await endsOf(bench), ['charged'])
      },
      ARRAY,
    ))
})

describe.concurrent('the integration contract over the Google Gen AI SDK', () => {
  test.each(mostCases(GOOGLE_SDK))('%s', async (_, run) => {
    await expect(run()).resolves.toBeUndefined()
  })

  // The SDK throws, and leaves the rest of the stream where it is: nobody reads it, nobody cancels it.
  test('safety: a stream with a broken event ends its hold once, at its deadline', () =>
    onBench(
      { answers: [BROKEN_STREAM], holdDeadlineMs: 300 },
      async (bench) => {
        assert.notEqual(await errorOf(() => readAll(bench.calls.stream(CALL))), undefined)
        assert.deepEqual(await endsOf(bench), ['charged'])
      },
      GOOGLE_SDK,
    ))
})
