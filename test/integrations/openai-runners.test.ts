// Loops of tools in the OpenAI SDK: `runTools`, and the runners among its helpers.

import OpenAI from 'openai'
import { ResponsesToolRunner } from 'openai/helpers/responses-tool-runner'
import { describe, expect, test } from 'vitest'
import { guardRunnerFunctions, wrapOpenAI, type WrapOpenAIOptions } from '../../integrations/openai.ts'
import { findRefusal } from '../../src/index.ts'
import { SUITE_MODEL, errorOf, type Bench, type BenchOptions } from '../../src/testing/integration-bench.ts'
import { onBench } from './bench.ts'
import { asking, outputsIn } from './openai-agents-bench.ts'

const PARAMETERS = { type: 'object' as const, properties: {}, additionalProperties: true }
const EIGHT = Array.from({ length: 8 }, (_, nth) => ({ name: 'send', arguments: { nth } }))
const toolAmounts = { send: { emails: 1 } }

function withClient(options: BenchOptions, wrap: WrapOpenAIOptions, run: (bench: Bench, client: OpenAI) => Promise<void>): Promise<void> {
  return onBench(options, (bench) =>
    run(bench, wrapOpenAI(new OpenAI({ apiKey: 'test', baseURL: bench.provider.baseURL, logLevel: 'off' }), bench.scope, wrap)),
  )
}

describe('runTools', () => {
  test('of eight calls in one turn on a counter of six, six run, and each is answered', async () => {
    const answers = ({ index }: { index: number }) => (index === 0 ? { toolCalls: EIGHT } : { text: 'Done.' })
    await withClient({ counters: { emails: 6 }, answers }, { toolAmounts }, async (bench, client) => {
      const ran: unknown[] = []
      const send = { name: 'send', description: 'sends', parameters: PARAMETERS, function: (args: string) => (ran.push(args), 'sent') }
      const runner = client.chat.completions.runTools({
        model: SUITE_MODEL,
        messages: [{ role: 'user', content: 'Send eight.' }],
        tools: [{ type: 'function', function: send }],
      })
      expect(await runner.finalContent()).toBe('Done.')
      expect(ran).toHaveLength(6)
      const messages = bench.provider.requests().at(-1)!.body['messages'] as { role: string; content: string }[]
      const answered = messages.filter(({ role }) => role === 'tool').map(({ content }) => content)
      expect([answered.length, answered.filter((content) => content === 'sent').length]).toEqual([8, 6])
    })
  })
})

describe('a ResponsesToolRunner', () => {
  const functionsOf = (ran: unknown[]) => [
    {
      tool: { type: 'function' as const, name: 'send', parameters: PARAMETERS, strict: false },
      execute: (args: Record<string, unknown>) => (ran.push(args), 'sent'),
    },
  ]
  const params = { model: SUITE_MODEL, input: 'Send eight.', store: false }

  test('with guarded functions, on a wrapped client, runs six of eight calls on a counter of six, and each is answered', async () => {
    await withClient({ counters: { emails: 6 }, answers: asking(EIGHT) }, {}, async (bench, client) => {
      const ran: unknown[] = []
      const functions = guardRunnerFunctions(functionsOf(ran), bench.scope, toolAmounts)
      const response = await new ResponsesToolRunner({ functions }).run(client, params)
      expect(response.output_text).toBe('Done.')
      expect(ran).toHaveLength(6)
      const outputs = outputsIn(bench.provider.requests().at(-1)!)
      expect([outputs.length, outputs.filter((output) => output === 'sent').length]).toEqual([8, 6])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    })
  })

  test('ends when its model is refused, with an error that hides why: the scope has the refusal', async () => {
    await withClient({ limit: 1 }, {}, async (bench, client) => {
      const runner = new ResponsesToolRunner({ functions: guardRunnerFunctions(functionsOf([]), bench.scope) })
      const error = await errorOf(() => runner.run(client, params))
      expect([error instanceof Error, findRefusal(error)]).toEqual([true, undefined])
      expect(bench.scope.refusal?.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(bench.provider.bill().requests).toBe(0)
    })
  })
})

describe('what has no method of its own', () => {
  test('is held when it is posted by hand, and refused where it cannot be metered', async () => {
    await withClient({}, {}, async (bench, client) => {
      await client.post('/responses', { body: { model: SUITE_MODEL, input: 'hello', max_output_tokens: 20 } })
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
      const error = await errorOf(() => client.post('/decisions', { body: { model: SUITE_MODEL, input: 'hello' } }))
      expect(findRefusal(error)?.code).toBe('ERR_UNMETERED')
    })
  })
})
