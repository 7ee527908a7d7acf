// Chapter `parallel` of the integration suite: a model that asks for many calls in one turn, and callers that come all at
// once. Whatever is refused, every pending call is answered, since providers turn down a turn with a call left open.

import assert from 'node:assert/strict'
import { findRefusal, type Rule } from '../index.ts'
import { errorOf, type Bench, type BenchOptions, type CallOptions, type IntegrationCase, type SuiteTools } from './integration-bench.ts'
import { assertSettled } from './integration-money.ts'
import type { ProviderAnswer } from './provider.ts'

const CALL: CallOptions = { prompt: 'Send a note to everybody.', maxOutputTokens: 500 }
const EVERYBODY = Array.from({ length: 8 }, (_, index) => `pilot-${index}`)
const ASKS: ProviderAnswer = { toolCalls: EVERYBODY.map((to) => ({ name: 'send_note', arguments: { to } })) }
const DONE: ProviderAnswer = { text: 'Done.' }
const LARGE = 5 * 1024 * 1024

const rule = (effect: Rule['effect'], to: number): Rule => ({ effect, tool: 'send_note', where: { to: `pilot-${to}` } })
const ALLOWED: Rule = { effect: 'allow', tool: 'send_note' }

/** Many calls at once. */
export const parallelCases: readonly IntegrationCase[] = [
  {
    name: 'parallel: with a counter of 6 and 8 calls in one turn exactly 6 run, and all 8 are answered',
    tools: true,
    async run({ open }) {
      const { bench, ran } = await runTurn(open, { counters: { notes: 6 }, toolAmounts: { send_note: { notes: 1 } } })
      assert.equal(ran.length, 6)
      assert.equal(new Set(ran).size, 6, 'No call runs twice.')
      assert.equal(await bench.spent('suite/run', 'notes'), 6)
      assertAllAnswered(bench)
      await assertSettled(bench)
    },
  },
  {
    name: 'parallel: of 8 calls in one turn 1 is denied, 7 run, and all 8 are answered',
    tools: true,
    async run({ open }) {
      const { bench, ran } = await runTurn(open, { rules: [ALLOWED, rule('deny', 3)] })
      assert.deepEqual(
        ran.toSorted(),
        EVERYBODY.filter((to) => to !== 'pilot-3'),
      )
      assertAllAnswered(bench)
    },
  },
  {
    name: 'parallel: of 8 calls in one turn 2 need approval and 1 is denied: the other 5 run',
    tools: true,
    async run({ open }) {
      const { bench, ran } = await runTurn(open, { rules: [ALLOWED, rule('ask', 1), rule('ask', 6), rule('deny', 3)] })
      assert.deepEqual(ran.toSorted(), ['pilot-0', 'pilot-2', 'pilot-4', 'pilot-5', 'pilot-7'])
      // A framework that stops here asks its user first, and the turn is not over.
      if (bench.provider.bill().requests > 1) assertAllAnswered(bench)
    },
  },
  {
    name: 'parallel: a result of 5 MB reaches the model, and what its turn costs is held first',
    tools: true,
    async run({ open }) {
      const bench = await open({ limit: 5_000_000_000, answers: [{ toolCalls: [{ name: 'read_log', arguments: {} }] }, DONE] })
      const tools: SuiteTools = { read_log: async () => 'x'.repeat(LARGE) }
      await bench.calls.runTools!({ ...CALL, tools })
      assert.ok(JSON.stringify(bench.provider.requests().at(-1)!.body).length > LARGE)
      await assertSettled(bench)
    },
  },
  {
    name: 'parallel: a tool that hangs is left when its caller aborts, and what was held for it is counted',
    tools: true,
    async run({ open }) {
      const bench = await open({ counters: { notes: 9 }, toolAmounts: { send_note: { notes: 1 } }, answers: [ASKS, DONE] })
      const controller = new AbortController()
      let release = (): void => undefined
      const hanging = new Promise<string>((resolve) => (release = () => resolve('late')))
      const tools: SuiteTools = {
        async send_note() {
          controller.abort()
          return hanging
        },
      }
      const running = errorOf(() => bench.calls.runTools!({ ...CALL, tools, signal: controller.signal }))
      // Some frameworks leave a tool that runs, others wait for it.
      setTimeout(release, 200)
      await running
      release()
      assert.ok((await bench.spent('suite/run', 'notes')) >= 1)
      assert.equal(findRefusal(await running), undefined)
    },
  },
  {
    name: 'parallel: of 1,000 calls at once on a budget for 10 exactly 10 leave',
    async run({ open }) {
      const bench = await open({ counters: { calls: 10 } })
      const errors = await Promise.all(
        Array.from({ length: 1_000 }, (_, index) => errorOf(() => bench.calls.generate({ prompt: `call ${index}`, maxOutputTokens: 20 }))),
      )
      assert.equal(errors.filter((error) => error === undefined).length, 10)
      assert.equal(
        errors.filter((error) => findRefusal(error)?.code === 'ERR_BUDGET_EXCEEDED' || findRefusal(error)?.code === 'ERR_BUDGET_BUSY')
          .length,
        990,
      )
      assert.equal(bench.provider.bill().requests, 10)
      await assertSettled(bench)
    },
  },
]

/** Runs one turn with eight calls; returns to whom notes were sent. */
async function runTurn(
  open: (options?: BenchOptions) => Promise<Bench>,
  options: BenchOptions,
): Promise<{ readonly bench: Bench; readonly ran: readonly string[] }> {
  const bench = await open({ answers: [ASKS, DONE], ...options })
  const ran: string[] = []
  const tools: SuiteTools = {
    async send_note({ to }) {
      ran.push(String(to))
      return `the note to ${String(to)} lies on the desk`
    },
  }
  await bench.calls.runTools!({ ...CALL, tools })
  return { bench, ran }
}

/** The next turn has a result for each of the eight calls. */
function assertAllAnswered({ provider }: Bench): void {
  assert.equal(provider.requests().length, 2, 'The loop went on to the next turn.')
  const answered = answeredIn(provider.requests()[1]!.body)
  assert.equal(new Set(answered).size, EVERYBODY.length, `Every call is answered: ${JSON.stringify(answered)}`)
}

/** Ids of calls for which a request has a result, in whatever wire format; where calls have no id, a number each. */
function answeredIn(value: unknown, found: unknown[] = []): readonly unknown[] {
  if (typeof value !== 'object' || value === null) return found
  const {
    role,
    type,
    tool_call_id: chat,
    call_id: responses,
    tool_use_id: anthropic,
    functionResponse: google,
  } = value as Record<string, unknown>
  if (role === 'tool') found.push(chat)
  if (type === 'function_call_output') found.push(responses)
  if (type === 'tool_result') found.push(anthropic)
  if (google !== undefined) found.push(found.length)
  for (const member of Object.values(value)) answeredIn(member, found)
  return found
}
