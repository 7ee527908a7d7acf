// Chapter `safety` of the integration suite, when things go wrong: retries, broken answers, callers that leave.
// Every HTTP attempt has a hold of its own, and each hold ends once: with the answer's own usage, with nothing
// where a provider does not bill, at worst where nobody can know.

import assert from 'node:assert/strict'
import { findRefusal } from '../index.ts'
import {
  OUTPUT_PRICE,
  errorOf,
  readAll,
  until,
  worstCaseOf,
  type Bench,
  type CallOptions,
  type IntegrationCase,
  type Outcome,
} from './integration-bench.ts'
import { assertSettled } from './integration-money.ts'
import { startProvider } from './provider.ts'

const CALL: CallOptions = { prompt: 'Count the ships that lie in the harbour tonight.', maxOutputTokens: 50 }
const LONG = 'Nine ships lie in the harbour, and a tenth one waits far out until the tide comes in again.'

const retries: readonly IntegrationCase[] = [
  {
    name: 'safety: of a 429 and its retry the first is released and the second settled, each from a hold of its own',
    async run({ open }) {
      const bench = await open({ answers: [{ status: 429 }, {}], maxRetries: 1 })
      await bench.calls.generate(CALL)
      assertEnds(await bench.outcomes(), 'released', 'settled')
      await assertSettled(bench)
    },
  },
  {
    name: 'safety: of a 500 and its retry the first is charged at worst and marked assumed, the second settled',
    async run({ open }) {
      const bench = await open({ answers: [{ status: 500 }, {}], maxRetries: 1 })
      await bench.calls.generate(CALL)
      const [first, second] = assertEnds(await bench.outcomes(), 'charged', 'settled')
      assert.equal(first!.assumed, true)
      assert.equal(second!.used['usd'], bench.provider.bill().nanoUsd)
    },
  },
  {
    name: 'safety: an error that was billed all the same is covered',
    async run({ open }) {
      const bench = await open({ answers: [{ fault: 'error-but-billed' }, {}], maxRetries: 1 })
      await bench.calls.generate(CALL)
      assertEnds(await bench.outcomes(), 'charged', 'settled')
      assert.equal(bench.provider.bill().billed, 2)
    },
  },
  {
    name: 'safety: a connection that breaks before the answer is charged at worst, and its retry has a hold of its own',
    async run({ open }) {
      const bench = await open({ answers: [{ fault: 'drop-before-headers' }, {}], maxRetries: 1 })
      await bench.calls.generate(CALL)
      assertEnds(await bench.outcomes(), 'charged', 'settled')
    },
  },
  {
    name: 'safety: a request that never left this machine costs nothing',
    async run({ open }) {
      const bench = await open()
      const gone = await startProvider()
      await gone.close()
      const error = await errorOf(() => bench.connect({ baseURL: gone.baseURL }).generate(CALL))
      assert.notEqual(error, undefined)
      assertEnds(await bench.outcomes(), 'released')
      assert.equal(await bench.spent(), 0)
    },
  },
  {
    name: 'safety: an error that no provider bills costs nothing',
    async run({ open }) {
      const bench = await open({ answers: [{ status: 403 }], maxRetries: 2 })
      const error = await errorOf(() => bench.calls.generate(CALL))
      assert.equal(findRefusal(error), undefined)
      assert.notEqual(error, undefined)
      assertEnds(await bench.outcomes(), 'released')
      assert.equal(await bench.spent(), 0)
    },
  },
  {
    name: 'safety: a retry that does not fit any more is refused, and its caller finds the refusal in the error',
    async run({ open }) {
      const { fixed } = await worstCaseOf(open, CALL)
      const bench = await open({ limit: fixed + 50 * OUTPUT_PRICE + 1_000, answers: [{ status: 500 }, {}], maxRetries: 1 })
      const error = await errorOf(() => bench.calls.generate(CALL))
      assert.equal(findRefusal(error)?.code, 'ERR_BUDGET_EXCEEDED')
      assert.equal(bench.provider.bill().requests, 1)
      assertEnds(await bench.outcomes(), 'charged')
    },
  },
  {
    name: 'safety: when every attempt fails, every attempt is charged',
    async run({ open }) {
      const bench = await open({ answers: [{ fault: 'error-but-billed' }], maxRetries: 1 })
      const error = await errorOf(() => bench.calls.generate(CALL))
      assert.notEqual(error, undefined)
      assert.equal(findRefusal(error), undefined)
      assertEnds(await bench.outcomes(), 'charged', 'charged')
    },
  },
]

const brokenAnswers: readonly IntegrationCase[] = [
  {
    name: 'safety: an answer without usage reaches its caller, is charged at worst, and the operator is told the fix',
    async run({ open }) {
      const bench = await open({ answers: [{ text: LONG, usage: 'omit' }] })
      assert.equal((await bench.calls.generate(CALL)).text, LONG)
      await assertAssumed(bench)
    },
  },
  {
    name: 'safety: a stream without usage reaches its caller, is charged at worst, and the operator is told the fix',
    async run({ open }) {
      const bench = await open({ answers: [{ text: LONG, usage: 'omit' }] })
      assert.equal(await readAll(bench.calls.stream(CALL)), LONG)
      await assertAssumed(bench)
    },
  },
  {
    name: 'safety: a page of HTML in place of an answer is charged at worst',
    async run({ open }) {
      const bench = await open({ answers: [{ errorBody: '<html>Welcome to the harbour Wi-Fi.</html>', contentType: 'text/html' }] })
      await errorOf(() => bench.calls.generate(CALL))
      assertEnds(await bench.outcomes(), 'charged')
      await errorOf(() => readAll(bench.calls.stream(CALL)))
      assertEnds(await bench.outcomes(), 'charged', 'charged')
    },
  },
  {
    name: 'safety: an answer that is cut in the middle is charged at worst',
    async run({ open }) {
      const bench = await open({ answers: [{ text: LONG, fault: 'drop-mid-stream' }] })
      assert.notEqual(await errorOf(() => bench.calls.generate(CALL)), undefined)
      assertEnds(await bench.outcomes(), 'charged')
    },
  },
  {
    name: 'safety: a stream that breaks off is charged at worst, once',
    async run({ open }) {
      const bench = await open({ answers: [{ text: LONG, fault: 'drop-mid-stream' }] })
      await errorOf(() => readAll(bench.calls.stream(CALL)))
      assertEnds(await bench.outcomes(), 'charged')
    },
  },
  {
    name: 'safety: a stream with a broken event ends its hold once',
    async run({ open, adapter }) {
      const bench = await open({ answers: [{ text: LONG, fault: 'malformed-sse' }] })
      await errorOf(() => readAll(bench.calls.stream(CALL)))
      await assertLeft(bench, adapter.drains)
    },
  },
  {
    name: 'safety: half of a JSON answer is charged at worst',
    async run({ open }) {
      const bench = await open({ answers: [{ text: LONG, fault: 'malformed-sse' }] })
      assert.notEqual(await errorOf(() => bench.calls.generate(CALL)), undefined)
      assertEnds(await bench.outcomes(), 'charged')
    },
  },
  {
    name: 'safety: an answer that never comes is charged at worst when the framework gives up',
    async run({ open }) {
      const bench = await open({ answers: [{ fault: 'hang' }], timeoutMs: 1_000, drainMs: 100 })
      const error = await errorOf(() => bench.calls.generate(CALL))
      assert.notEqual(error, undefined)
      assert.equal(findRefusal(error), undefined)
      assertEnds(await bench.outcomes(), 'charged')
    },
  },
]

const leaving: readonly IntegrationCase[] = [
  {
    name: 'safety: a call that is aborted before it begins sends nothing and holds nothing',
    async run({ open }) {
      const bench = await open()
      const signal = AbortSignal.abort()
      await errorOf(() => bench.calls.generate({ ...CALL, signal }))
      await errorOf(() => readAll(bench.calls.stream({ ...CALL, signal })))
      assert.equal(bench.provider.bill().requests, 0)
      assert.deepEqual(bench.records('intent'), [])
    },
  },
  {
    name: 'safety: a call that is aborted while its answer is awaited ends its hold once',
    async run({ open, adapter }) {
      const bench = await open({ answers: [{ delayMs: 250 }] })
      const leaver = new AbortController()
      const call = errorOf(() => bench.calls.generate({ ...CALL, signal: leaver.signal }))
      await until('the provider has the request', () => bench.provider.bill().billed === 1)
      leaver.abort()
      const error = await call
      assert.notEqual(error, undefined)
      assert.equal(findRefusal(error), undefined)
      await assertLeft(bench, adapter.drains)
    },
  },
  {
    name: 'safety: a stream that is aborted in the middle ends its hold once',
    async run({ open, adapter }) {
      const bench = await open({ answers: [{ text: LONG, chunkDelayMs: 5 }] })
      const leaver = new AbortController()
      await errorOf(async () => {
        for await (const piece of bench.calls.stream({ ...CALL, signal: leaver.signal })) if (piece !== '') leaver.abort()
      })
      await assertLeft(bench, adapter.drains)
    },
  },
  {
    name: 'safety: a stream that is left early ends its hold once',
    async run({ open, adapter: { drains, leavesByBreak } }) {
      const bench = await open({ answers: [{ text: LONG, chunkDelayMs: 5 }], ...(leavesByBreak ? {} : { holdDeadlineMs: 300 }) })
      for await (const piece of bench.calls.stream(CALL)) if (piece !== '') break
      await assertLeft(bench, drains && leavesByBreak)
    },
  },
  {
    name: 'safety: an abort after the answer changes nothing',
    async run({ open }) {
      const bench = await open()
      const leaver = new AbortController()
      await bench.calls.generate({ ...CALL, signal: leaver.signal })
      await readAll(bench.calls.stream({ ...CALL, signal: leaver.signal }))
      leaver.abort()
      await assertSettled(bench)
    },
  },
  {
    name: 'safety: ten callers that leave at different moments leave ten holds that end once each',
    async run({ open, adapter: { drains, leavesByBreak } }) {
      const bench = await open({ answers: [{ text: LONG, chunkDelayMs: 2 }], ...(leavesByBreak ? {} : { holdDeadlineMs: 500 }) })
      const leaveAfter = async (count: number): Promise<void> => {
        let pieces = 0
        for await (const _ of bench.calls.stream(CALL)) if (++pieces > count) break
      }
      await Promise.all(Array.from({ length: 10 }, (_, count) => leaveAfter(count)))
      assert.equal(new Set((await bench.outcomes()).map(({ hold }) => hold)).size, 10)
      if (drains && leavesByBreak) await assertSettled(bench)
    },
  },
]

/** Money when things go wrong. */
export const faultCases: readonly IntegrationCase[] = [...retries, ...brokenAnswers, ...leaving]

/** Holds ended like this, in this order, and no two ends are of one hold. */
function assertEnds(outcomes: readonly Outcome[], ...expected: readonly Outcome['outcome'][]): readonly Outcome[] {
  assert.deepEqual(
    outcomes.map(({ outcome }) => outcome),
    expected,
  )
  assert.equal(new Set(outcomes.map(({ hold }) => hold)).size, outcomes.length, 'Each attempt has a hold of its own.')
  return outcomes
}

/** The caller left, or was left alone: one hold, at the bill where somebody read on to the usage, else at worst. */
async function assertLeft(bench: Bench, drained: boolean): Promise<void> {
  const outcomes = await bench.outcomes()
  const { billed, nanoUsd } = bench.provider.bill()
  assert.deepEqual([billed, new Set(outcomes.map(({ hold }) => hold)).size], [1, 1])
  const { outcome, used } = outcomes.at(-1)!
  assert.ok(outcome === 'settled' || (outcome === 'charged' && !drained), `It is ${outcome}.`)
  if (outcome === 'settled') assert.equal(used['usd'], nanoUsd)
}

async function assertAssumed(bench: Bench): Promise<void> {
  const [end] = assertEnds(await bench.outcomes(), 'charged')
  assert.equal(end!.assumed, true)
  const told = bench.events.filter(({ type }) => type === 'assumed')
  assert.equal(told.length, 1)
  assert.match(told[0]!.message, /without usage.*(?:include_usage|includeUsage)/)
}
