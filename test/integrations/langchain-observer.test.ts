// Chat models that start inside of a guarded run and have no guard under them: in a tool, in a middleware, in a node. A
// budget that they could pass by would not be one, so they are refused before their HTTP.

import { HumanMessage, type AIMessage } from '@langchain/core/messages'
import { FakeListChatModel } from '@langchain/core/utils/testing'
import { END, MessagesAnnotation, START, StateGraph } from '@langchain/langgraph'
import { OpenAI } from '@langchain/openai'
import {
  createAgent,
  createMiddleware,
  llmToolSelectorMiddleware,
  openAIModerationMiddleware,
  summarizationMiddleware,
  toolEmulatorMiddleware,
} from 'langchain'
import { describe, expect, test } from 'vitest'
import {
  guardAgent,
  guardFetch,
  guardModel,
  holdfastMiddleware,
  type GuardAgentOptions,
  type ListedMiddleware,
} from '../../integrations/langchain.ts'
import { guardGraph } from '../../integrations/langgraph.ts'
import { memoryStore, openKernel, type KernelEvent, type KernelOptions } from '../../src/index.ts'
import { findRefusal, Refusal } from '../../src/lib/errors.ts'
import { errorOf, SUITE_MODEL, type Bench } from '../../src/testing/integration-bench.ts'
import { startProvider } from '../../src/testing/provider.ts'
import { endsOf, onBench } from './bench.ts'
import { chatModel, langChainTools } from './langchain-adapters.ts'
import { adding, agentOn, answerUsing, ASKS, DONE, fieldsOf, HI, rawModel, texts, TURNS, UnseenModel } from './langchain-bench.ts'

const RULES = { rules: [{ effect: 'allow', tool: 'add' } as const] }
/** It goes past the budget, and an event says so. */
const PASSED_BY = { expected: ['escape'] as const }
/** Long enough for a summary. */
const LONG = { messages: Array.from({ length: 30 }, (_, index) => new HumanMessage(`ship ${index}`)) }

const escapesOf = ({ events }: Bench) => events.filter(({ type }) => type === 'escape')
const summing = (model: unknown) =>
  summarizationMiddleware({ model, trigger: { messages: 20 }, keep: { messages: 5 } } as never) as ListedMiddleware
const selecting = (model: unknown) => llmToolSelectorMiddleware({ model, maxTools: 1 } as never) as ListedMiddleware
const TWO_TOOLS = () => ({ tools: [adding(), ...langChainTools({ look: async () => 'x' })] })

describe('a model that nobody guarded, in a guarded agent', () => {
  test.each([
    ['summarizationMiddleware', (bench: Bench) => ({ middleware: [summing(rawModel(bench))] }), LONG],
    ['llmToolSelectorMiddleware', (bench: Bench) => ({ ...TWO_TOOLS(), middleware: [selecting(rawModel(bench))] }), HI],
  ] as const)('is refused before its HTTP in %s, and so is the run', (_name, options, input) =>
    onBench({}, async (bench) => {
      const error = await errorOf(() => agentOn(bench, options(bench) as Partial<GuardAgentOptions>).invoke(input as never))
      expect(findRefusal(error)).toMatchObject({ code: 'ERR_UNMETERED', details: { wouldPass: 'guardModel(model, scope) around it' } })
      expect(findRefusal(error)?.message).toContain("for one that costs nothing, such as a fake of your tests, set `onUnguarded: 'report'`")
      expect(bench.provider.bill().requests).toBe(0)
      expect(bench.records('refused')).toHaveLength(1)
    }),
  )

  test.each([
    ['summarizationMiddleware', (model: unknown) => ({ middleware: [summing(model)] }), LONG],
    ['llmToolSelectorMiddleware', (model: unknown) => ({ ...TWO_TOOLS(), middleware: [selecting(model)] }), HI],
  ] as const)('is held in %s when it is guarded', (_name, options, input) =>
    onBench({ answers: [{ text: '{"tools":["add"]}' }, DONE] }, async (bench) => {
      const agent = agentOn(bench, options(guardModel(rawModel(bench), bench.scope)) as Partial<GuardAgentOptions>)
      expect(texts(await agent.invoke(input as never)).at(-1)).toEqual(['ai', 'done'])
      expect(await endsOf(bench)).toEqual(['settled', 'settled'])
      expect(escapesOf(bench)).toEqual([])
    }),
  )

  test.each([true, false])('is refused in toolEmulatorMiddleware, as the answer of the tool that it plays (guarded: %s)', (guarded) =>
    onBench({ answers: [ASKS, DONE, DONE], ...RULES }, async (bench) => {
      const model = guarded ? guardModel(rawModel(bench), bench.scope) : rawModel(bench)
      const middleware = [toolEmulatorMiddleware({ tools: ['add'], model })]
      const result = await agentOn(bench, { tools: [adding()], middleware }).invoke(HI)
      expect(texts(result).at(-1)).toEqual(['ai', 'done'])
      expect(bench.provider.bill().requests).toBe(guarded ? 3 : 2)
      expect(bench.records('refused')).toHaveLength(guarded ? 0 : 1)
    }),
  )

  test.each(['invoke', 'stream', 'batch', 'withConfig', 'bindTools', 'callbacks'] as const)(
    'is refused in a tool, whose answer says so to the model (%s)',
    (way) =>
      onBench({ answers: TURNS, ...RULES }, async (bench) => {
        const inner = rawModel(bench)
        const ask = {
          invoke: () => inner.invoke('inside'),
          stream: async () => {
            for await (const _ of await inner.stream('inside'));
          },
          batch: () => inner.batch(['inside']),
          withConfig: () => inner.withConfig({ stop: ['x'] }).invoke('inside'),
          bindTools: () => inner.bindTools([adding()]).invoke('inside'),
          // Callbacks of its own do not take it out of the run.
          callbacks: () => inner.invoke('inside', { callbacks: [] }),
        }
        const result = await agentOn(bench, { tools: [adding(async () => (await ask[way](), 'never'))] }).invoke(HI)
        expect(texts(result)[2]![1]).not.toContain('never')
        expect(texts(result).at(-1)).toEqual(['ai', 'done'])
        expect(bench.provider.bill().requests).toBe(2)
        expect(bench.records('refused')).toMatchObject([{ code: 'ERR_UNMETERED' }])
      }),
  )

  test.each(['stream', 'streamEvents', 'withConfig'] as const)('is refused in a tool of an agent that is run by %s', (method) =>
    onBench({ answers: TURNS, ...RULES }, async (bench) => {
      const inner = rawModel(bench)
      const agent = agentOn(bench, { tools: [adding(async () => (await inner.invoke('inside')).text)] })
      if (method === 'withConfig') await agent.withConfig({ tags: ['x'] }).invoke(HI)
      else for await (const _ of method === 'stream' ? await agent.stream(HI) : agent.streamEvents(HI, { version: 'v2' }));
      expect(bench.provider.bill().requests).toBe(2)
      expect(bench.records('refused')).toMatchObject([{ code: 'ERR_UNMETERED' }])
    }),
  )

  test('is refused in an agent of its own that nobody guarded, called by a tool', () =>
    onBench({ answers: TURNS, ...RULES }, async (bench) => {
      const inner = createAgent({ model: rawModel(bench) })
      await agentOn(bench, { tools: [adding(async () => texts(await inner.invoke(HI)).at(-1)![1])] }).invoke(HI)
      expect(bench.provider.bill().requests).toBe(2)
    }))

  test('is refused when it completes text and is no chat model', () =>
    onBench({ answers: TURNS, ...RULES }, async (bench) => {
      const inner = new OpenAI({ model: 'gpt-3.5-turbo-instruct', apiKey: 'test', configuration: { baseURL: bench.provider.baseURL } })
      await agentOn(bench, { tools: [adding(async () => inner.invoke('inside'))] }).invoke(HI)
      expect(bench.provider.bill().requests).toBe(2)
    }))

  test('runs outside of the budget under `report`, and the operator is told so once', () =>
    onBench({ answers: TURNS, ...RULES, ...PASSED_BY }, async (bench) => {
      const other = await startProvider()
      const inner = rawModel({ ...bench, provider: other })
      const tools = [adding(async () => `${(await inner.invoke('one')).text} ${(await inner.invoke('two')).text}`)]
      await agentOn(bench, { tools, onUnguarded: 'report' }).invoke(HI)
      expect(other.bill().requests).toBe(2)
      await other.close()
      expect(escapesOf(bench)).toHaveLength(1)
      expect(escapesOf(bench)[0]!.message).toContain(`\`ChatOpenAI\` (\`${SUITE_MODEL}\`)`)
    }))

  test('is refused though a middleware catches the refusal: the next call of the agent ends the run', () =>
    onBench({}, async (bench) => {
      const inner = rawModel(bench)
      const catching = createMiddleware({
        name: 'catching',
        beforeModel: async () => {
          await inner.invoke('inside').catch(() => undefined)
        },
      })
      expect(await errorOf(() => agentOn(bench, { middleware: [catching] }).invoke(HI))).toBeInstanceOf(Refusal)
      expect(bench.provider.bill().requests).toBe(0)
    }))
})

describe('a model is not refused in a guarded agent', () => {
  test.each([
    [
      'a guarded fetch of its own',
      (bench: Bench) => rawModel(bench, { configuration: { ...fieldsOf(rawModel(bench)).configuration, fetch: guardFetch(bench.scope) } }),
    ],
    ['guardModel, another package', (bench: Bench) => guardModel(new UnseenModel({ maxTokens: 50 }), bench.scope)],
    ['guardModel, bound tools', (bench: Bench) => guardModel(rawModel(bench), bench.scope).bindTools([adding()])],
    ['guardModel, after bindTools', (bench: Bench) => guardModel(rawModel(bench).bindTools([adding()]), bench.scope)],
    ['guardModel, with retries', (bench: Bench) => guardModel(rawModel(bench), bench.scope).withRetry({ stopAfterAttempt: 2 })],
  ] as const)('that has %s', (_name, made) =>
    onBench({ answers: TURNS, ...RULES }, async (bench) => {
      const inner = made(bench)
      const tools = [adding(async () => (await inner.invoke('inside')).text)]
      expect(texts(await agentOn(bench, { tools }).invoke(HI))[2]).toEqual(['tool', 'done'])
      // Two calls of the agent, the tool, and the model in it.
      expect(await endsOf(bench)).toEqual(['settled', 'settled', 'settled', 'settled'])
      expect(escapesOf(bench)).toEqual([])
    }),
  )

  test.each([
    [
      'the middleware of holdfast',
      (bench: Bench) => createAgent({ model: rawModel(bench), middleware: [holdfastMiddleware(bench.scope, { tools: false })] }),
    ],
    ['guardAgent', (bench: Bench) => agentOn(bench)],
    [
      'guardAgent, and a scope of its own',
      (bench: Bench) => agentOn(bench, { scope: bench.kernel.scope({ agent: 'other', task: 'other', budget: 'suite/other' }) }),
    ],
  ] as const)('that is the model of an agent inside of it, guarded by %s', (_name, made) =>
    onBench({ answers: TURNS, ...RULES }, async (bench) => {
      const inner = made(bench)
      const tools = [adding(async () => texts(await inner.invoke(HI)).at(-1)![1])]
      expect(texts(await agentOn(bench, { tools }).invoke(HI))[2]).toEqual(['tool', 'done'])
      expect(bench.records('refused')).toEqual([])
    }),
  )

  test('of a kernel that only observes: it runs, and events say what would have been', async () => {
    const provider = await startProvider()
    const events: KernelEvent[] = []
    const kernel = await openKernel({
      store: memoryStore(),
      budgets: { acme: { usd: 1 } },
      mode: 'observe',
      onEvent: (event) => events.push(event),
    })
    const scope = kernel.scope({ agent: 'clerk', task: 'ships', budget: 'acme' })
    const summary = summing(chatModel({ baseURL: provider.baseURL, maxRetries: 0 }, { maxOutputTokens: 50 }))
    await guardAgent({ model: chatModel({ baseURL: provider.baseURL, maxRetries: 0 }, {}), scope, middleware: [summary] }).invoke(
      LONG as never,
    )
    expect(provider.bill().requests).toBe(2)
    expect(events.map(({ type }) => type)).toContain('escape')
    await kernel.close()
    await provider.close()
  })

  test('that is a fake of LangChain for tests, which calls nobody', () =>
    onBench({ answers: TURNS, ...RULES }, async (bench) => {
      const inner = new FakeListChatModel({ responses: ['made up'] })
      const tools = [adding(async () => (await inner.invoke('inside')).text)]
      expect(texts(await agentOn(bench, { tools }).invoke(HI))[2]).toEqual(['tool', 'made up'])
    }))

  test.each([{}, { maxTokens: 50 }])('that is the agent’s own, of another package (%j)', (fields) =>
    onBench({}, async (bench) => {
      const model = new UnseenModel({ ...fields, answer: () => answerUsing(20, 50) })
      expect(texts(await agentOn(bench, { model: model as never }).invoke(HI)).at(-1)).toEqual(['ai', 'done'])
      expect(escapesOf(bench)).toEqual([])
    }),
  )

  test('that is a fake as the agent’s own, once it has a price by the name of its class; before, it is refused by that name', async () => {
    const asked = async (prices: KernelOptions['prices']): Promise<unknown> => {
      await using kernel = await openKernel({ store: memoryStore(), budgets: { acme: { usd: 1 } }, ...(prices && { prices }) })
      const scope = kernel.scope({ agent: 'clerk', task: 'ships', budget: 'acme' })
      const agent = guardAgent({ model: new FakeListChatModel({ responses: ['made up'] }), scope })
      return await agent.invoke(HI).then(texts, String)
    }
    expect(await asked(undefined)).toContain('`FakeListChatModel` cannot be given an output cap')
    const free = { inputUsdPerMillion: '0', outputUsdPerMillion: '0', maxOutputTokens: 100 }
    expect(await asked({ FakeListChatModel: free })).toContainEqual(['ai', 'made up'])
  })

  test('that is asked after the run, outside of it', () =>
    onBench({ answers: [DONE] }, async (bench) => {
      const other = await startProvider()
      await agentOn(bench).invoke(HI)
      await rawModel({ ...bench, provider: other }).invoke('hi')
      expect(other.bill().requests).toBe(1)
      await other.close()
      expect(escapesOf(bench)).toEqual([])
    }))
})

describe('a moderation by middleware', () => {
  test('sends through the guard of the model that it is given', () =>
    onBench({}, async (bench) => {
      const model = guardModel(rawModel(bench), bench.scope)
      const middleware = [openAIModerationMiddleware({ model, checkOutput: false }) as ListedMiddleware]
      await agentOn(bench, { middleware }).invoke(HI)
      // Moderation is free, so what is held and billed is the answer alone.
      expect(bench.provider.bill().billed).toBe(1)
      expect(await endsOf(bench)).toEqual(['settled'])
    }))
})

describe('a model in a node of a guarded graph', () => {
  const graphOf = (model: { invoke(messages: unknown, config: unknown): Promise<AIMessage> }) =>
    new StateGraph(MessagesAnnotation)
      .addNode('ask', async ({ messages }, config) => ({ messages: [await model.invoke(messages, config)] }), {
        retryPolicy: { maxAttempts: 3, initialInterval: 1, logWarning: false, retryOn: () => true },
      })
      .addEdge(START, 'ask')
      .addEdge('ask', END)
      .compile()

  test('that nobody guarded is refused before its HTTP, and not retried', () =>
    onBench({}, async (bench) => {
      const error = await errorOf(() => guardGraph(graphOf(rawModel(bench) as never), bench.scope).invoke(HI))
      expect(error).toMatchObject({ code: 'ERR_UNMETERED' })
      expect(bench.provider.bill().requests).toBe(0)
      expect(bench.records('refused')).toHaveLength(1)
    }))

  test('may be caught by its node, and ends nothing: an agent after it goes on', () =>
    onBench({ answers: [DONE] }, async (bench) => {
      const raw = rawModel(bench)
      const agent = createAgent({ model: rawModel(bench), middleware: [holdfastMiddleware(bench.scope, { tools: false })] })
      const graph = new StateGraph(MessagesAnnotation)
        .addNode('ask', async ({ messages }, config) => {
          await raw.invoke(messages, config).catch(() => undefined)
          return {}
        })
        .addNode('agent', agent.graph)
        .addEdge(START, 'ask')
        .addEdge('ask', 'agent')
        .addEdge('agent', END)
        .compile()
      expect((await guardGraph(graph, bench.scope).invoke(HI)).messages.at(-1)?.text).toBe('done')
      expect([bench.provider.bill().requests, bench.records('refused').length]).toEqual([1, 1])
    }))

  test('runs when it is guarded, and under `report`', () =>
    onBench({ answers: [DONE], ...PASSED_BY }, async (bench) => {
      const other = await startProvider()
      await guardGraph(graphOf(guardModel(rawModel(bench), bench.scope) as never), bench.scope).invoke(HI)
      expect(escapesOf(bench)).toEqual([])
      const raw = rawModel({ ...bench, provider: other })
      await guardGraph(graphOf(raw as never), bench.scope, { onUnguarded: 'report' }).invoke(HI)
      expect(escapesOf(bench)).toHaveLength(1)
      expect(other.bill().requests).toBe(1)
      await other.close()
    }))
})
