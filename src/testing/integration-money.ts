// Chapter `safety` of the integration suite: what is held, what is refused, what is settled. Nothing here can
// be waived.

import assert from 'node:assert/strict'
import { findRefusal, type Refusal } from '../index.ts'
import {
  INPUT_PRICE,
  OUTPUT_PRICE,
  capOf,
  errorOf,
  readAll,
  until,
  worstCaseOf,
  type Bench,
  type CallOptions,
  type IntegrationAdapter,
  type IntegrationCase,
} from './integration-bench.ts'
import type { ProviderAnswer } from './provider.ts'

const CALL: CallOptions = { prompt: 'Count the ships that lie in the harbour tonight.' }
const CAPPED: CallOptions = { ...CALL, maxOutputTokens: 50 }
/** Every bucket that has a price of its own. */
const MIXED: ProviderAnswer = {
  text: 'Nine, and a tenth far out.',
  usage: { inputTokens: 61, cachedTokens: 40, outputTokens: 77, reasoningTokens: 30 },
}

const settling: readonly IntegrationCase[] = [
  {
    name: 'safety: an answer is settled at what the provider bills, to the nano-dollar',
    async run({ open }) {
      const bench = await open({ answers: [MIXED] })
      assert.equal((await bench.calls.generate(CALL)).text, MIXED.text)
      assert.equal(bench.provider.bill().nanoUsd, 21 * 150 + 40 * 75 + 77 * 600)
      await assertSettled(bench)
    },
  },
  {
    name: 'safety: a stream is settled at what the provider bills, to the nano-dollar',
    async run({ open }) {
      const bench = await open({ answers: [MIXED] })
      assert.equal(await readAll(bench.calls.stream(CALL)), MIXED.text)
      await assertSettled(bench)
      assert.ok(bench.provider.bill().lines[0]!.completed)
    },
  },
  {
    name: 'safety: a stream that was read to its end is in the budget when its last piece has come',
    async run({ open }) {
      const bench = await open()
      await readAll(bench.calls.stream(CALL))
      const [line] = await bench.kernel.budgets('suite/run')
      assert.deepEqual([line!.out, line!.spent], [0, bench.provider.bill().nanoUsd])
    },
  },
  {
    name: 'safety: what is held while a call runs covers what the provider bills',
    async run({ open }) {
      const bench = await open({ answers: [{ delayMs: 100 }] })
      const call = bench.calls.generate(CALL)
      await until('the provider has the request', () => bench.provider.bill().billed === 1)
      const [line] = await bench.kernel.budgets('suite/run')
      assert.ok(line!.out + line!.spent >= bench.provider.bill().nanoUsd)
      await call
      await assertSettled(bench)
    },
  },
]

const refusing: readonly IntegrationCase[] = [
  {
    name: 'safety: a call that does not fit is refused before any HTTP, and its caller finds the refusal in the error',
    async run({ open }) {
      const bench = await open({ limit: 1, maxRetries: 2 })
      const refusal = findRefusal(await errorOf(() => bench.calls.generate(CALL)))
      assertRefused(bench, refusal, 'ERR_BUDGET_EXCEEDED')
      assert.equal(refusal?.details.budget?.budget, 'suite/run')
      assert.match(refusal.details.wouldPass ?? '', /raise `usd` of `suite\/run`/)
    },
  },
  {
    name: 'safety: a stream that does not fit is refused before any HTTP, and its caller can find the refusal',
    async run({ open, adapter }) {
      const bench = await open({ limit: 1, maxRetries: 2 })
      await bench.scope.enter(async () => {
        const error = await errorOf(() => readAll(bench.calls.stream(CALL)))
        assertRefused(bench, streamRefusal(adapter, bench, error), 'ERR_BUDGET_EXCEEDED')
      })
    },
  },
  {
    name: 'safety: a refusal is recorded once, however often the framework would retry',
    async run({ open }) {
      const bench = await open({ limit: 1, maxRetries: 2 })
      await errorOf(() => bench.calls.generate(CALL))
      assert.equal(bench.records('refused').length, 1)
    },
  },
  {
    name: 'safety: a model without a price is refused before any HTTP, with the line that mends it',
    async run({ open }) {
      const bench = await open()
      const refusal = findRefusal(await errorOf(() => bench.calls.generate({ ...CALL, model: 'harbour-master-1' })))
      assertRefused(bench, refusal, 'ERR_UNKNOWN_PRICE')
      assert.ok(refusal!.message.includes("openKernel({ prices: { 'harbour-master-1': { inputUsdPerMillion: "), refusal!.message)
    },
  },
  {
    name: 'safety: a call outside of any scope is refused before any HTTP, with the line to add',
    async run({ open }) {
      const bench = await open()
      const refusal = findRefusal(await errorOf(() => bench.connect({ scope: undefined }).generate(CALL)))
      assert.equal(refusal?.code, 'ERR_NO_SCOPE')
      assert.match(refusal.message, /scope\.enter/)
      assert.equal(bench.provider.bill().requests, 0)
    },
  },
  {
    name: 'safety: inside of scope.enter the innermost scope pays',
    async run({ open }) {
      const bench = await open()
      const calls = bench.connect({ scope: undefined })
      const other = bench.kernel.scope({ agent: 'suite-agent', task: 'inner', budget: 'suite/other' })
      await bench.scope.enter(async () => {
        await other.enter(() => calls.generate(CALL))
        assert.equal(await bench.spent('suite/run'), 0)
        assert.equal(await bench.spent('suite/other'), bench.provider.bill().nanoUsd)
        await readAll(calls.stream(CALL))
      })
      assert.equal(await bench.spent('suite/run'), await bench.spent('suite/other'))
      assert.equal(await bench.spent('suite'), bench.provider.bill().nanoUsd)
    },
  },
  {
    name: 'safety: a budget that another call used up refuses the next one of the same run, without HTTP',
    async run({ open }) {
      const worst = await worstCaseOf(open, CAPPED)
      const used = { inputTokens: worst.inputTokens, outputTokens: 50 }
      // What is left is a little, but less than one token in and one token out.
      const bench = await open({ limit: worst.fixed + 50 * OUTPUT_PRICE + INPUT_PRICE, answers: [{ usage: used }] })
      await bench.scope.enter(async () => {
        await bench.calls.generate(CAPPED)
        for (const call of [CAPPED, CALL]) {
          assert.equal(findRefusal(await errorOf(() => bench.calls.generate(call)))?.code, 'ERR_BUDGET_EXCEEDED')
        }
        assert.equal(bench.scope.refusal?.details.endsRun, true)
      })
      assert.equal(bench.provider.bill().requests, 1)
      await assertSettled(bench)
    },
  },
]

const clamping: readonly IntegrationCase[] = [
  {
    name: 'safety: a call without an output cap is sent with 8192 when that fits',
    async run({ open }) {
      const bench = await open()
      await bench.calls.generate(CALL)
      await readAll(bench.calls.stream(CALL))
      assert.deepEqual(bench.provider.requests().map(capOf), [8_192, 8_192])
    },
  },
  {
    name: 'safety: a call without an output cap is sent with as many tokens as fit',
    async run({ open }) {
      const { fixed } = await worstCaseOf(open, CALL)
      // One nano-dollar short of the 101st token.
      const bench = await open({ limit: fixed + 101 * OUTPUT_PRICE - 1 })
      await bench.calls.generate(CALL)
      assert.equal(capOf(bench.provider.requests()[0]), 100)
      await assertSettled(bench)
    },
  },
  {
    name: 'safety: fewer than 64 tokens are no answer, so what leaves room for 63 is refused',
    async run({ open }) {
      const { fixed } = await worstCaseOf(open, CALL)
      const enough = await open({ limit: fixed + 64 * OUTPUT_PRICE })
      await enough.calls.generate(CALL)
      assert.equal(capOf(enough.provider.requests()[0]), 64)
      const short = await open({ limit: fixed + 64 * OUTPUT_PRICE - 1 })
      assertRefused(short, findRefusal(await errorOf(() => short.calls.generate(CALL))), 'ERR_BUDGET_EXCEEDED')
    },
  },
  {
    name: 'safety: an output cap of the caller is sent as it is, and never shrunk',
    async run({ open }) {
      const { fixed, outputTokens } = await worstCaseOf(open, CAPPED)
      assert.equal(outputTokens, 50)
      const enough = await open({ limit: fixed + 50 * OUTPUT_PRICE })
      await enough.calls.generate(CAPPED)
      assert.equal(capOf(enough.provider.requests()[0]), 50)
      const short = await open({ limit: fixed + 50 * OUTPUT_PRICE - 1 })
      assertRefused(short, findRefusal(await errorOf(() => short.calls.generate(CAPPED))), 'ERR_BUDGET_EXCEEDED')
    },
  },
]

const concurrency: readonly IntegrationCase[] = [
  {
    name: 'safety: of 20 calls at once exactly those run that fit, and the bill never exceeds what is counted',
    async run({ open }) {
      const worst = await worstCaseOf(open, CAPPED)
      // Each call uses all that it holds, so no money comes back while the others try.
      const used = { inputTokens: worst.inputTokens, outputTokens: 50 }
      const price = worst.fixed + 50 * OUTPUT_PRICE
      const bench = await open({ limit: 7 * price + price - 1, answers: [{ usage: used, delayMs: 20 }] })
      const calls = Promise.all(Array.from({ length: 20 }, () => errorOf(() => bench.calls.generate(CAPPED))))
      const errors = await whileWatching(bench, calls)
      const refusals = errors.filter((error) => error !== undefined).map((error) => findRefusal(error)?.code)
      assert.equal(refusals.length, 13)
      assert.ok(refusals.every((code) => code === 'ERR_BUDGET_BUSY' || code === 'ERR_BUDGET_EXCEEDED'))
      const { requests, nanoUsd } = bench.provider.bill()
      assert.deepEqual([requests, nanoUsd], [7, 7 * price])
      await assertSettled(bench)
    },
  },
  {
    name: 'safety: 20 calls and streams at once on one budget are each settled at their own bill',
    async run({ open }) {
      const bench = await open({ answers: ({ index }) => ({ text: 'one two three', usage: { inputTokens: 20 + index, outputTokens: 3 } }) })
      const calls = Array.from({ length: 20 }, (_, index) =>
        index % 2 === 0 ? bench.calls.generate(CALL) : readAll(bench.calls.stream(CALL)),
      )
      await whileWatching(bench, Promise.all(calls))
      assert.equal(bench.provider.bill().billed, 20)
      await assertSettled(bench)
    },
  },
]

/** Money: what is held, refused, clamped and settled. */
export const moneyCases: readonly IntegrationCase[] = [...settling, ...refusing, ...clamping, ...concurrency]

/** Every billed request was settled from its own hold, and the sum is the bill. */
export async function assertSettled(bench: Bench): Promise<void> {
  const outcomes = (await bench.outcomes()).filter(({ used }) => 'usd' in used)
  const { billed, nanoUsd } = bench.provider.bill()
  assert.deepEqual(
    outcomes.filter(({ outcome }) => outcome !== 'released').map(({ outcome }) => outcome),
    Array.from({ length: billed }, () => 'settled'),
  )
  assert.equal(await bench.spent('suite'), nanoUsd)
}

/** Nothing was sent, and nothing is held or spent. */
function assertRefused(bench: Bench, refusal: Refusal | undefined, code: Refusal['code']): void {
  assert.equal(refusal?.code, code)
  assert.equal(bench.provider.bill().requests, 0, 'A refused call sends no HTTP.')
  assert.deepEqual(bench.records('outcome'), [])
}

/** The refusal of a stream, where its adapter says that it is. */
function streamRefusal({ streamRefusal: where }: IntegrationAdapter, { scope }: Bench, error: unknown): Refusal | undefined {
  return where === 'error' ? findRefusal(error) : scope.refusal
}

/** Compares the bill with the budget again and again until the calls are over: at no instant is more billed than counted. */
async function whileWatching<T>({ kernel, provider }: Bench, calls: Promise<T>): Promise<T> {
  const state = { over: false }
  const end = (): void => void (state.over = true)
  calls.then(end, end)
  while (!state.over) {
    // The bill first: what is billed now is counted now, and counted money stays counted.
    const { nanoUsd } = provider.bill()
    const lines = await kernel.budgets('suite/run')
    const counted = lines
      .filter(({ dimension }) => dimension === 'usd')
      .reduce((sum, line) => sum + line.spent + line.out + line.suspense, 0)
    assert.ok(nanoUsd <= counted, `Billed ${nanoUsd} while ${counted} was counted.`)
    await new Promise(setImmediate)
  }
  return calls
}
