// Forms of agents, requests and models: what the hold of a call covers, and what the guard leaves as it was.

import { AIMessage, HumanMessage, ToolMessage } from '@langchain/core/messages'
import { Command, MemorySaver } from '@langchain/langgraph'
import { AzureChatOpenAI } from '@langchain/openai'
import { createAgent, humanInTheLoopMiddleware, providerStrategy, tool, toolStrategy } from 'langchain'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardModel, type ApprovalRequest } from '../../integrations/langchain.ts'
import { boundCall } from '../../integrations/langchain/request.ts'
import { readLangChainUsage } from '../../integrations/langchain/answer.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import { SUITE_MODEL, errorOf } from '../../src/testing/integration-bench.ts'
import { assertSettled } from '../../src/testing/integration-money.ts'
import { endsOf, onBench } from './bench.ts'
import { adding, agentOn, ASKS, DONE, HI, rawModel, texts, TURNS } from './langchain-bench.ts'

const part = z.object({
  x: z.number().describe('a "number" \n of things'),
  y: z.enum(['a', 'ü']).optional(),
  z: z.array(z.string().nullable()),
})
const large = z.object(Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`field_${index}`, part])))
const FORMATS = { none: undefined, provider: providerStrategy(large), tool: toolStrategy(large) }

describe('the hold of a call', () => {
  test.each(
    (['chat', 'responses'] as const).flatMap((wire) => (['none', 'provider', 'tool'] as const).map((format) => [wire, format] as const)),
  )('covers what is on the wire, so that there is one hold for each call (%s, response format: %s)', (wire, format) =>
    onBench({ answers: [{ text: '{}' }] }, async (bench) => {
      const responseFormat = FORMATS[format]
      const agent = agentOn(bench, {
        model: rawModel(bench, { useResponsesApi: wire === 'responses' }),
        tools: [adding(), tool(async () => 'x', { name: 'large', description: 'a "large"\n one'.repeat(20), schema: large })],
        systemPrompt: 'ÄÖÜ "quoted"\n'.repeat(50),
        ...(responseFormat === undefined ? {} : { responseFormat }),
      })
      const messages = [
        new HumanMessage('x"\\\n'.repeat(500)),
        new AIMessage({ content: '', tool_calls: [{ id: 'c1', name: 'large', args: { a: '"'.repeat(300), n: { m: ['\\'] } } }] }),
        new ToolMessage({ content: '🚢'.repeat(200), tool_call_id: 'c1' }),
        new HumanMessage('go on'),
      ]
      // The answer does not fit the schema, which is paid all the same.
      await errorOf(() => agent.invoke({ messages }))
      expect(await endsOf(bench)).toEqual(['settled'])
      await assertSettled(bench)
    }),
  )

  test.each(['chat', 'responses'])('covers every turn of a loop (%s)', (wire) =>
    onBench({ answers: [{ toolCalls: [...ASKS.toolCalls!, ...ASKS.toolCalls!] }, ASKS, DONE] }, async (bench) => {
      await agentOn(bench, { model: rawModel(bench, { useResponsesApi: wire === 'responses' }), tools: [adding()] }).invoke(HI)
      expect(bench.provider.bill().billed).toBe(3)
      expect((await endsOf(bench)).every((end) => end === 'settled')).toBe(true)
      await assertSettled(bench)
    }),
  )

  const image = new HumanMessage({ content: [{ type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }] })

  test('with an image in it needs a context window, or the word of the user', () =>
    onBench({}, async (bench) => {
      const error = await errorOf(() => agentOn(bench).invoke({ messages: [image] }))
      expect(findRefusal(error)).toMatchObject({ code: 'ERR_UNMETERED', message: expect.stringContaining('maxInputTokens') })
      await agentOn(bench, { holdfast: { maxInputTokens: 2_000 } }).invoke({ messages: [image] })
      expect(bench.records('intent')).toMatchObject([{ amounts: { usd: 2_000 * 150 + 50 * 600 } }])
      expect(await endsOf(bench)).toEqual(['settled'])
    }))

  test.each([
    ['an earlier response by its id', { modelKwargs: { previous_response_id: 'resp_1' } }, {}],
    ['reasoning by its id', {}, { additional_kwargs: { reasoning: { type: 'reasoning', id: 'rs_1', summary: [] } } }],
    ['what a hosted tool found', {}, { response_metadata: { output: [{ type: 'web_search_call', id: 'ws_1' }] } }],
    ['a sound', {}, { additional_kwargs: { audio: { id: 'audio_1' } } }],
  ])('counts as the context window: %s', (_, fields, message) => {
    const model = rawModel({ provider: { baseURL: 'http://localhost' } } as never, { useResponsesApi: true, ...fields })
    const messages = [new AIMessage({ content: 'x', ...message })]
    expect(boundCall(model, { messages }).facts.named).toBe(true)
    expect(
      boundCall(rawModel({ provider: { baseURL: 'http://localhost' } } as never), { messages: [new AIMessage('x')] }).facts.named,
    ).toBe(false)
  })

  test('of a hosted tool without a limit is refused', () =>
    onBench({}, async (bench) => {
      const error = await errorOf(() => agentOn(bench, { tools: [{ type: 'web_search' }] }).invoke(HI))
      expect(findRefusal(error)).toMatchObject({ code: 'ERR_UNMETERED', message: expect.stringContaining('max_tool_calls') })
      expect(bench.provider.bill().requests).toBe(0)
    }))
})

test('usage that does not add up is no usage', () => {
  expect(readLangChainUsage({ input_tokens: 3, output_tokens: 2, total_tokens: 5, input_token_details: { cache_read: 1 } })).toMatchObject({
    inputTokens: 2,
    cacheReadTokens: 1,
    outputTokens: 2,
  })
  for (const usage of [
    undefined,
    {},
    { input_tokens: 0, output_tokens: 0, total_tokens: 0 },
    { input_tokens: 3, output_tokens: 2, total_tokens: 9 },
  ])
    expect(readLangChainUsage(usage)).toBeUndefined()
})

describe('an agent', () => {
  test('has the nodes that it has without holdfast, with tools and without', () =>
    onBench({}, async (bench) => {
      for (const tools of [[], [adding()]]) {
        const nodes = (agent: { graph: { getGraph(): { nodes: object } } }): readonly string[] => Object.keys(agent.graph.getGraph().nodes)
        expect(nodes(agentOn(bench, { tools }))).toEqual(nodes(createAgent({ model: rawModel(bench), tools })))
      }
    }))

  test('stays guarded by withConfig, as one run', () =>
    onBench({ answers: [ASKS, ASKS, DONE], counters: { calls: 3 } }, async (bench) => {
      const agent = agentOn(bench, { tools: [adding()], holdfast: { toolAmounts: { add: { calls: 1 } } } }).withConfig({ tags: ['x'] })
      expect(await errorOf(() => agent.invoke(HI))).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED', details: { latched: true } })
    }))

  test('asks about two calls at once, and runs each that was approved', () =>
    onBench(
      {
        answers: [{ toolCalls: [1, 2].map((a) => ({ name: 'add', arguments: { a, b: 2 } })) }, DONE],
        rules: [{ effect: 'ask', tool: 'add' }],
      },
      async (bench) => {
        const agent = agentOn(bench, { tools: [adding()], checkpointer: new MemorySaver(), holdfast: { ask: 'interrupt' } })
        const config = { configurable: { thread_id: '1' } }
        const { __interrupt__: asked } = (await agent.invoke(HI, config)) as unknown as Record<
          string,
          { id: string; value: ApprovalRequest }[]
        >
        expect(asked).toHaveLength(2)
        const { agent: who, tool: name, argsHash } = asked![1]!.value
        await bench.kernel.approve({ agent: who, tool: name, argsHash, by: 'ann', expiresInMs: 60_000 })
        const resume = Object.fromEntries(asked!.map(({ id }) => [id, true]))
        const answers = texts(await agent.invoke(new Command({ resume }) as never, config)).filter(([type]) => type === 'tool')
        expect(answers[0]![1]).toContain('approval of a person')
        expect(answers[1]).toEqual(['tool', '4'])
      },
    ))

  test('whose user edits a call in review has the edited call asked about', () =>
    onBench({ answers: TURNS, rules: [{ effect: 'allow', tool: 'add', where: { a: { max: 5 } } }] }, async (bench) => {
      const middleware = [humanInTheLoopMiddleware({ interruptOn: { add: { allowedDecisions: ['edit'] } } } as never)]
      const agent = agentOn(bench, { tools: [adding()], checkpointer: new MemorySaver(), middleware })
      const config = { configurable: { thread_id: '1' } }
      await agent.invoke(HI, config)
      const edited = { type: 'edit', editedAction: { name: 'add', args: { a: 99, b: 1 } } }
      const result = texts(await agent.invoke(new Command({ resume: { decisions: [edited] } }) as never, config))
      expect(result.find(([type]) => type === 'tool')![1]).toContain('You may not do this')
    }))
})

test('AzureChatOpenAI is guarded like ChatOpenAI', () =>
  onBench({}, async (bench) => {
    const urls: string[] = []
    // The deployment is what is billed, whatever model it is said to be: here it is named after its model.
    const model = new AzureChatOpenAI({
      model: SUITE_MODEL,
      azureOpenAIApiKey: 'test',
      azureOpenAIApiInstanceName: 'harbour',
      azureOpenAIApiDeploymentName: SUITE_MODEL,
      azureOpenAIApiVersion: '2024-10-21',
      maxRetries: 0,
      configuration: {
        fetch: (input, init) => {
          urls.push(input instanceof Request ? input.url : input.toString())
          return fetch(`${bench.provider.baseURL}/chat/completions`, init)
        },
      },
    })
    await agentOn(bench, { model }).invoke(HI)
    await guardModel(model, bench.scope)
      .withConfig({ stop: ['x'] })
      .invoke('hello there')
    expect(urls[1]).toContain(`/deployments/${SUITE_MODEL}/chat/completions`)
    expect(await endsOf(bench)).toEqual(['settled', 'settled'])
    await assertSettled(bench)
  }))
