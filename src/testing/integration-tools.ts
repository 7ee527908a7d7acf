// Chapter `tools` of the integration suite: what a model may do, and what it is told when it may not.

import assert from 'node:assert/strict'
import { findRefusal, type Rule } from '../index.ts'
import {
  INPUT_PRICE,
  OUTPUT_PRICE,
  errorOf,
  type Bench,
  type BenchOptions,
  type CallOptions,
  type IntegrationCase,
  type SuiteTools,
} from './integration-bench.ts'
import { assertSettled } from './integration-money.ts'
import type { ProviderAnswer } from './provider.ts'

const CALL: CallOptions = { prompt: 'Send the harbour master a note.', maxOutputTokens: 50 }
const ARGS = { to: 'harbour-master', text: 'Nine ships.' }
const ASKS: ProviderAnswer = { toolCalls: [{ name: 'send_note', arguments: ARGS }] }
const DONE: ProviderAnswer = { text: 'Done.' }
const RESULT = 'the note lies on the desk'

const ALLOWED: readonly Rule[] = [{ effect: 'allow', tool: 'send_note' }]
const DENIED: readonly Rule[] = [{ effect: 'deny', tool: 'send_note' }]
const deniedTo = (name: string): readonly Rule[] => [...ALLOWED, { effect: 'deny', tool: 'send_note', where: { to: name } }]
const ASKED: readonly Rule[] = [{ effect: 'ask', tool: 'send_note' }]

const permissions: readonly IntegrationCase[] = [
  {
    name: 'tools: an allowed tool runs with its arguments, and its result reaches the model',
    tools: true,
    async run({ open }) {
      const { bench, ran, text } = await runLoop(open, { rules: ALLOWED })
      assert.deepEqual(ran, [ARGS])
      assert.equal(text, DONE.text)
      assert.ok(nextTurn(bench).includes(RESULT))
      await assertSettled(bench)
    },
  },
  {
    name: 'tools: without rules every tool runs',
    tools: true,
    async run({ open }) {
      const { bench, ran } = await runLoop(open, {})
      assert.deepEqual(ran, [ARGS])
      assert.ok(nextTurn(bench).includes(RESULT))
    },
  },
  {
    name: 'tools: a denied tool does not run, and the model is told what to do, and nothing else',
    tools: true,
    async run({ open }) {
      const { bench, ran, text } = await runLoop(open, { rules: DENIED })
      assert.deepEqual(ran, [])
      assert.equal(text, DONE.text)
      assert.equal(bench.scope.refusal?.code, 'ERR_PERMISSION_DENIED')
      assertTold(bench)
      await assertSettled(bench)
    },
  },
  {
    name: 'tools: a tool that no rule names does not run',
    tools: true,
    async run({ open }) {
      const { bench, ran } = await runLoop(open, { rules: [{ effect: 'allow', tool: 'another_tool' }] })
      assert.deepEqual(ran, [])
      assertTold(bench)
    },
  },
  {
    name: 'tools: rules see the arguments',
    tools: true,
    async run({ open }) {
      const denied = await runLoop(open, { rules: deniedTo('harbour-master') })
      assert.deepEqual(denied.ran, [])
      const allowed = await runLoop(open, { rules: deniedTo('pilot') })
      assert.deepEqual(allowed.ran, [ARGS])
    },
  },
  {
    name: 'tools: a tool that needs approval does not run without it, and runs once with it',
    tools: true,
    async run({ open }) {
      const { bench, ran, again } = await runLoop(open, { rules: ASKED, answers: ({ index }) => (index % 2 === 0 ? ASKS : DONE) })
      assert.deepEqual(ran, [])
      const refusal = bench.scope.refusal
      assert.equal(refusal?.code, 'ERR_APPROVAL_REQUIRED')
      // Some frameworks stop here and ask their user; where the loop goes on, the model is told.
      if (bench.provider.bill().requests > 1) assertTold(bench)
      const { argsHash } = refusal.details
      bench.provider.reset()
      await bench.kernel.approve({ agent: 'suite-agent', tool: 'send_note', argsHash: argsHash!, by: 'operator', expiresInMs: 60_000 })
      await again()
      assert.deepEqual(ran, [ARGS])
      bench.provider.reset()
      await again()
      assert.deepEqual(ran, [ARGS], 'An approval is used up by the one call that it was for.')
    },
  },
  {
    name: 'tools: an approval of other arguments opens nothing',
    tools: true,
    async run({ open }) {
      const { bench, ran, again } = await runLoop(open, { rules: ASKED, answers: ({ index }) => (index % 2 === 0 ? ASKS : DONE) })
      bench.provider.reset()
      const argsHash = 'A'.repeat(43)
      await bench.kernel.approve({ agent: 'suite-agent', tool: 'send_note', argsHash, by: 'operator', expiresInMs: 60_000 })
      await again()
      assert.deepEqual(ran, [])
    },
  },
]

const counting: readonly IntegrationCase[] = [
  {
    name: 'tools: a tool with a counter runs as often as the budget says, and the model is told when it is used up',
    tools: true,
    async run({ open }) {
      const { bench, ran } = await runLoop(open, {
        counters: { notes: 2 },
        toolAmounts: { send_note: { notes: 1 } },
        answers: [ASKS, ASKS, ASKS, DONE],
      })
      assert.equal(ran.length, 2)
      assert.equal(await bench.spent('suite/run', 'notes'), 2)
      assert.equal(bench.scope.refusal?.details.budget?.dimension, 'notes')
      assertTold(bench)
    },
  },
  {
    name: 'tools: a tool that throws is counted, since it may have done its work',
    tools: true,
    async run({ open }) {
      const bench = await open({ counters: { notes: 2 }, toolAmounts: { send_note: { notes: 1 } }, answers: [ASKS, DONE] })
      let ran = 0
      const tools: SuiteTools = {
        async send_note() {
          ran += 1
          throw new Error('the desk is on fire')
        },
      }
      // Some frameworks end the loop with the error, others show it to the model.
      const error = await errorOf(() => bench.calls.runTools!({ ...CALL, tools }))
      assert.equal(findRefusal(error), undefined)
      assert.equal(ran, 1)
      assert.equal(await bench.spent('suite/run', 'notes'), 1)
    },
  },
  {
    name: 'tools: every turn of a loop is held and settled by itself',
    tools: true,
    async run({ open }) {
      const { bench } = await runLoop(open, { answers: [ASKS, ASKS, DONE] })
      assert.equal(bench.provider.bill().billed, 3)
      await assertSettled(bench)
    },
  },
  {
    name: 'tools: a loop ends at the turn that does not fit, and its caller finds the refusal',
    tools: true,
    async run({ open }) {
      const probe = await runLoop(open, { answers: [ASKS, DONE] })
      const held = probe.bench.records('intent').map(({ amounts }) => (amounts as { usd: number }).usd)
      // The first turn uses all that it holds; what is left is too little for any other.
      const used = { inputTokens: (held[0]! - 50 * OUTPUT_PRICE) / INPUT_PRICE, outputTokens: 50 }
      const bench = await open({ limit: held[0]! + INPUT_PRICE, answers: [{ ...ASKS, usage: used }, DONE] })
      const ran: unknown[] = []
      const error = await errorOf(() => bench.calls.runTools!({ ...CALL, tools: recording(ran) }))
      assert.equal(findRefusal(error)?.code, 'ERR_BUDGET_EXCEEDED')
      assert.equal(ran.length, 1)
      assert.equal(bench.provider.bill().requests, 1)
      await assertSettled(bench)
    },
  },
]

/** Permissions and counters of tools. */
export const toolCases: readonly IntegrationCase[] = [...permissions, ...counting]

interface Loop {
  readonly bench: Bench
  /** Arguments of the calls that ran. */
  readonly ran: unknown[]
  readonly text: string
  /** The same loop once more. */
  readonly again: () => Promise<string>
}

async function runLoop(open: (options?: BenchOptions) => Promise<Bench>, options: BenchOptions): Promise<Loop> {
  const bench = await open({ answers: [ASKS, DONE], ...options })
  const ran: unknown[] = []
  const again = (): Promise<string> => bench.calls.runTools!({ ...CALL, tools: recording(ran) })
  return { bench, ran, text: await again(), again }
}

function recording(ran: unknown[]): SuiteTools {
  return {
    async send_note(args) {
      ran.push(args)
      return RESULT
    },
  }
}

/** What the model read in the last turn. */
function nextTurn({ provider }: Bench): string {
  const { body } = provider.requests().at(-1)!
  return JSON.stringify(body['messages'] ?? body['input'] ?? body['contents'])
}

/** The model read the refusal's text for it, and no id, limit, hash or name of ours. */
function assertTold(bench: Bench): void {
  const refusal = bench.scope.refusal!
  const read = nextTurn(bench)
  assert.ok(read.includes(JSON.stringify(refusal.toModelMessage()).slice(1, -1)), `The model is told why: ${read}`)
  const { argsHash, wouldPass } = refusal.details
  const secrets = [argsHash, wouldPass, refusal.message, 'suite-agent', 'suite-task', 'suite/run', 'ERR_', bench.kernel.boot]
  for (const secret of secrets) if (secret !== undefined) assert.ok(!read.includes(secret), `The model reads ${secret}: ${read}`)
}
