// What a user of the Agents SDK and of the Anthropic SDK sees of guarded things: their own types, inferred as without
// holdfast; and agents that are run by the SDK's own `run()`.

import type Anthropic from '@anthropic-ai/sdk'
import {
  Agent,
  OpenAIProvider,
  type Runner,
  run,
  setDefaultModelProvider,
  setTracingDisabled,
  type Model,
  type OpenAIResponsesModel,
} from '@openai/agents'
import { describe, expect, expectTypeOf, test } from 'vitest'
import { z } from 'zod'
import { wrapAnthropic } from '../../integrations/anthropic.ts'
import { guardAgent, guardModel, guardModelProvider, guardRunner } from '../../integrations/openai-agents.ts'
import { SUITE_MODEL } from '../../src/testing/integration-bench.ts'
import { endsOf } from './bench.ts'
import { clientOn, onAgentsBench } from './openai-agents-bench.ts'

describe('the types of what is guarded', () => {
  test('are those of what was given', () => {
    const Ships = z.object({ ships: z.number() })
    const agent = new Agent<{ user: string }, typeof Ships>({ name: 'clerk', outputType: Ships })
    expectTypeOf(guardAgent<typeof agent>).returns.toEqualTypeOf(agent)
    expectTypeOf(guardRunner<Runner>).returns.toEqualTypeOf<Runner>()
    expectTypeOf(guardModel<OpenAIResponsesModel>).returns.toEqualTypeOf<OpenAIResponsesModel>()
    expectTypeOf<OpenAIResponsesModel>().toExtend<Model>()
    expectTypeOf(guardModelProvider<OpenAIProvider>).returns.toEqualTypeOf<OpenAIProvider>()
    expectTypeOf(wrapAnthropic<Anthropic>).returns.toEqualTypeOf<Anthropic>()
    // What is inferred from arguments, and from results.
    const asked = (runner: Runner) => guardRunner(runner).run(guardAgent(agent), 'hello')
    type Output = Awaited<ReturnType<typeof asked>>['finalOutput']
    expectTypeOf<Output>().toEqualTypeOf<{ ships: number } | undefined>()
    const message = (client: Anthropic) =>
      wrapAnthropic(client).messages.create({ model: SUITE_MODEL, max_tokens: 20, messages: [{ role: 'user', content: 'hello' }] })
    expectTypeOf<Awaited<ReturnType<typeof message>>['usage']>().toEqualTypeOf<Anthropic.Usage>()
  })
})

describe('run() of the SDK', () => {
  test('holds the calls of an agent whose model is a name by the provider that is set as its default', async () => {
    setTracingDisabled(true)
    await onAgentsBench({}, async (bench) => {
      setDefaultModelProvider(guardModelProvider(new OpenAIProvider({ openAIClient: clientOn(bench) }), bench.scope))
      const agent = guardAgent(new Agent({ name: 'clerk', model: SUITE_MODEL }), bench.scope)
      await run(agent, 'hello')
      expect(await endsOf(bench)).toEqual(['settled'])
    })
  })
})
