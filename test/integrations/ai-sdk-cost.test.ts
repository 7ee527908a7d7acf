// What the middleware of the AI SDK counts by itself, without a guard under it: options of OpenAI's provider that
// change what a call may cost, parts of an answer that say what it did cost, and what is recorded of errors.

import { createOpenAI } from '@ai-sdk/openai'
import type { LanguageModelV4, SharedV4ProviderOptions } from '@ai-sdk/provider'
import { generateText, isStepCount, streamText, tool, wrapLanguageModel, type ModelMessage, type ToolSet } from 'ai'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { createCallCounter } from '../../integrations/ai-sdk/answer.ts'
import { guardFetch, holdfastMiddleware } from '../../integrations/ai-sdk.ts'
import { memoryStore, openKernel, type Kernel, type KernelOptions, type Scope } from '../../src/index.ts'
import { errorOf, readAll } from '../../src/testing/integration-bench.ts'

const MODEL = 'gpt-4o-mini'
const CONTEXT = 128_000
const price = (factor: number) => ({
  inputUsdPerMillion: 0.15 * factor,
  outputUsdPerMillion: 0.6 * factor,
  toolUsdPerThousand: { web_search: 10, mcp: 1 },
  contextWindow: CONTEXT,
})
const PRICES = { [MODEL]: price(1), [`${MODEL}@priority`]: price(2), 'o3-mini': price(1) }
/** Nano-USD of 100 tokens in and 10 out, in the default tier. */
const TOKENS_COST = 100 * 150 + 10 * 600

type Json = Readonly<Record<string, unknown>>

interface Desk {
  readonly kernel: Kernel
  readonly scope: Scope
  readonly events: string[]
  /** Bodies of the requests that were sent. */
  readonly sent: Json[]
  readonly openai: ReturnType<typeof createOpenAI>
  /** With the middleware. */
  readonly guarded: (model: LanguageModelV4) => LanguageModelV4
  readonly spent: () => Promise<number>
  readonly records: (kind: string) => readonly Json[]
}

/** A kernel, and a provider that is answered for by a function: bodies in order, the last one again and again. */
async function onDesk(
  answers: readonly (Json | Response | Error)[],
  run: (desk: Desk) => Promise<void>,
  { name, guard = false, ...options }: Partial<KernelOptions> & { name?: string; guard?: boolean } = {},
): Promise<void> {
  const events: string[] = []
  const budgets = { acme: { usd: 1 } }
  const onEvent: KernelOptions['onEvent'] = ({ type, message }) => void events.push(`${type}: ${message}`)
  const kernel = await openKernel({ store: memoryStore(), budgets, prices: PRICES, onEvent, ...options })
  const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
  const sent: Json[] = []
  const answer: typeof globalThis.fetch = async (_input, init) => {
    sent.push(JSON.parse(init!.body as string) as Json)
    const next = answers[Math.min(sent.length, answers.length) - 1]!
    if (next instanceof Error) throw next
    return next instanceof Response ? next.clone() : Response.json(next)
  }
  const fetch = guard ? guardFetch(scope, { fetch: answer }) : answer
  const openai = createOpenAI({ apiKey: 'test', baseURL: 'http://provider.invalid/v1', fetch, ...(name === undefined ? {} : { name }) })
  try {
    await run({
      kernel,
      scope,
      events,
      sent,
      openai,
      guarded: (model) => wrapLanguageModel({ model, middleware: holdfastMiddleware(scope) }),
      spent: async () => (await kernel.budgets())[0]!.spent,
      records: (kind) => kernel.auditLines.map((line) => JSON.parse(line) as Json).filter((record) => record['kind'] === kind),
    })
    expect((await kernel.budgets()).map(({ out, balanced }) => ({ out, balanced }))).toEqual([{ out: 0, balanced: true }])
  } finally {
    await kernel.close()
  }
}

const MESSAGE = {
  type: 'message',
  id: 'msg_1',
  role: 'assistant',
  status: 'completed',
  content: [{ type: 'output_text', text: 'hi', annotations: [] }],
}
const search = (id: string, type = 'search') => ({
  type: 'web_search_call',
  id,
  status: 'completed',
  action: { type, query: 'q', url: 'u', pattern: 'p' },
})
const MCP_CALL = { type: 'mcp_call', id: 'mcp_1', name: 'look', server_label: 'docs', arguments: '{}', output: 'x', status: 'completed' }

const responseOf = (output: readonly unknown[], more: Json = {}) => ({
  id: 'resp_1',
  object: 'response',
  created_at: 1,
  status: 'completed',
  model: MODEL,
  output,
  error: null,
  incomplete_details: null,
  usage: { input_tokens: 100, output_tokens: 10, total_tokens: 110 },
  ...more,
})

const CHAT = {
  id: 'chatcmpl-1',
  object: 'chat.completion',
  created: 1,
  model: MODEL,
  choices: [{ index: 0, message: { role: 'assistant', content: 'hi' }, finish_reason: 'stop' }],
  usage: { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 },
}

/** The same answer as a stream of Responses. */
function streamOf(response: ReturnType<typeof responseOf>): Response {
  const items = response.output.flatMap((item, output_index) => [
    { type: 'response.output_item.added', output_index, item },
    { type: 'response.output_item.done', output_index, item },
  ])
  const created = { type: 'response.created', response: { ...response, output: [], usage: null } }
  const events = [created, ...items, { type: 'response.completed', response }]
  const text = events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join('')
  return new Response(text, { headers: { 'content-type': 'text/event-stream' } })
}

const CALL = { prompt: 'x', maxRetries: 0, maxOutputTokens: 20 }

describe('fees of hosted tools', () => {
  const output = [search('ws_1'), search('ws_2'), search('ws_3', 'open_page'), MESSAGE]
  const providerOptions = { openai: { maxToolCalls: 3 } }

  test.each([
    ['its own name', 'web_search'],
    ['a name that the caller gave it', 'look_up'],
  ])('are settled from the content, under %s, as the wire counts them', async (_, name) => {
    for (const guard of [false, true]) {
      await onDesk(
        [responseOf(output)],
        async ({ guarded, openai, spent, events }) => {
          const tools = { [name]: openai.tools.webSearch() } as ToolSet
          await generateText({ ...CALL, model: guarded(openai(MODEL)), tools, providerOptions })
          expect(await spent()).toBe(TOKENS_COST + 2 * 10_000_000)
          expect(events).toEqual([])
        },
        { guard },
      )
    }
  })

  test.each([false, true])('are settled from the parts of a stream, with the guard below or without (%j)', (guard) =>
    onDesk(
      [streamOf(responseOf(output))],
      async ({ guarded, openai, spent, events }) => {
        const tools = { web_search: openai.tools.webSearch() } as ToolSet
        await readAll(streamText({ ...CALL, model: guarded(openai(MODEL)), tools, providerOptions }).textStream)
        expect(await spent()).toBe(TOKENS_COST + 2 * 10_000_000)
        expect(events).toEqual([])
      },
      { guard },
    ),
  )

  test('of an MCP server count whichever of its tools ran, and an approval that is asked for is no call', () => {
    const asked = { type: 'mcp_approval_request', id: 'mcpr_1', name: 'drop', server_label: 'docs', arguments: '{}' }
    return onDesk([responseOf([MCP_CALL, asked])], async ({ guarded, openai, spent }) => {
      const tools = { mcp: openai.tools.mcp({ serverLabel: 'docs', serverUrl: 'https://docs.invalid' }) } as ToolSet
      await generateText({ ...CALL, model: guarded(openai(MODEL)), tools, providerOptions })
      expect(await spent()).toBe(TOKENS_COST + 1_000_000)
    })
  })

  test('are charged at worst when a provider does not say how often they ran, and an event says why', () =>
    onDesk([responseOf([MESSAGE])], async ({ guarded, openai, spent, records, events }) => {
      const foreign = {
        search: { type: 'provider', id: 'elsewhere.web_search', args: {}, inputSchema: z.object({}) },
      } as unknown as ToolSet
      await generateText({ ...CALL, model: guarded(openai(MODEL)), tools: foreign, providerOptions })
      expect(await spent()).toBe((records('intent')[0]!['amounts'] as { usd: number }).usd)
      expect(events.join()).toContain('how often its hosted tools ran')
    }))
})

test('fees of hosted tools are counted once where the usage itself says how often they ran', () => {
  const counter = createCallCounter([{ type: 'provider', id: 'anthropic.web_search_20250305', name: 'web_search', args: {} }])
  const call = { type: 'tool-call', toolCallId: '1', toolName: 'web_search', providerExecuted: true }
  counter.see(call)
  expect(counter.calls({ raw: { server_tool_use: { web_search_requests: 1 } } })).toEqual({})
  expect(counter.calls({ raw: {} })).toBeUndefined()
  expect(counter.calls(undefined)).toBeUndefined()
})

describe('an output cap in the provider options', () => {
  const options = { prompt: 'x', maxRetries: 0, providerOptions: { openai: { maxCompletionTokens: 1_000 } } }
  const heldFor = (records: Desk['records']): unknown => (records('intent')[0]!['amounts'] as Json)['tokens']

  test('is the cap that is held for, and stays where the caller put it', () =>
    onDesk([CHAT], async ({ guarded, openai, sent, records }) => {
      await generateText({ ...options, model: guarded(openai.chat(MODEL)) })
      expect(sent[0]).toMatchObject({ max_completion_tokens: 1_000 })
      expect(sent[0]).not.toHaveProperty('max_tokens')
      expect(heldFor(records)).toBeLessThan(1_000 + 2_000)
    }))

  test('is held for where it is larger than maxOutputTokens, since reasoning models take it', () =>
    onDesk([CHAT], async ({ guarded, openai, sent, records }) => {
      await generateText({ ...options, maxOutputTokens: 50, model: guarded(openai.chat('o3-mini')) })
      expect(sent[0]).toMatchObject({ max_completion_tokens: 1_000 })
      expect(heldFor(records)).toBeGreaterThan(1_000)
    }))

  test('is refused when it does not fit, before anything is sent', () =>
    onDesk(
      [CHAT],
      async ({ guarded, openai, sent, scope }) => {
        await errorOf(() => generateText({ ...options, model: guarded(openai.chat(MODEL)) }))
        expect(scope.refusal?.code).toBe('ERR_BUDGET_EXCEEDED')
        expect(sent).toEqual([])
      },
      { budgets: { acme: { usd: '0.0005' } } },
    ))

  test('that is no number of tokens is refused, and recorded', () =>
    onDesk([CHAT], async ({ guarded, openai, sent, records }) => {
      await errorOf(() =>
        generateText({ ...options, providerOptions: { openai: { maxCompletionTokens: 0 } }, model: guarded(openai.chat(MODEL)) }),
      )
      expect(sent).toEqual([])
      expect(records('refused')).toMatchObject([{ code: 'ERR_UNMETERED', resource: MODEL }])
    }))

  test('a prediction is held as output on top, since its rejected tokens are billed', () =>
    onDesk([CHAT], async ({ guarded, openai, records }) => {
      const content = 'y'.repeat(4_000)
      const usdOf = async (openaiOptions: SharedV4ProviderOptions[string]) => {
        await generateText({ ...CALL, model: guarded(openai.chat(MODEL)), providerOptions: { openai: openaiOptions } })
        return (records('intent').at(-1)!['amounts'] as { usd: number }).usd
      }
      const without = await usdOf({ user: content })
      expect(await usdOf({ prediction: { type: 'content', content } })).toBeGreaterThan(without + 4_000 * 600)
    }))
})

describe('an item that is sent back by its id', () => {
  test('counts as the context window: reasoning of the step before, which may be longer than its summary', () =>
    onDesk(
      [
        responseOf([
          { type: 'reasoning', id: 'rs_1', summary: [] },
          { type: 'function_call', id: 'fc_1', call_id: 'call_1', name: 'look', arguments: '{}', status: 'completed' },
        ]),
        responseOf([MESSAGE]),
      ],
      async ({ guarded, openai, sent, records }) => {
        const tools = { look: tool({ inputSchema: z.object({}), execute: async () => 'ok' }) }
        await generateText({ ...CALL, model: guarded(openai('o3-mini')), tools, stopWhen: isStepCount(2) })
        expect(sent[1]!['input']).toContainEqual({ type: 'item_reference', id: 'rs_1' })
        const [first, second] = records('intent').map(({ amounts }) => (amounts as { tokens: number }).tokens)
        expect(first).toBeLessThan(CONTEXT)
        expect(second).toBe(CONTEXT + 20)
      },
    ))
})

describe('options under another name', () => {
  test.each(['openai', 'azure'])('of %s are read: a previous response counts as the context window', (name) =>
    onDesk(
      [responseOf([MESSAGE])],
      async ({ guarded, openai, sent, records }) => {
        const providerOptions = { [name]: { previousResponseId: 'resp_0' } }
        await generateText({ ...CALL, model: guarded(openai(MODEL)), providerOptions })
        expect(sent[0]).toHaveProperty('previous_response_id', 'resp_0')
        expect((records('intent')[0]!['amounts'] as Json)['tokens']).toBe(CONTEXT + 20)
      },
      { name },
    ),
  )
})

describe('the service tier that answered', () => {
  const dear = { service_tier: 'priority' }

  test.each(['responses', 'chat'] as const)('is what is settled (%s)', (wire) =>
    onDesk([wire === 'chat' ? { ...CHAT, ...dear } : responseOf([MESSAGE], dear)], async ({ guarded, openai, spent }) => {
      await generateText({ ...CALL, model: guarded(openai[wire](MODEL)) })
      expect(await spent()).toBe(2 * TOKENS_COST)
    }),
  )

  test('is what is settled (a stream)', () =>
    onDesk([streamOf(responseOf([MESSAGE], dear))], async ({ guarded, openai, spent }) => {
      await readAll(streamText({ ...CALL, model: guarded(openai(MODEL)) }).textStream)
      expect(await spent()).toBe(2 * TOKENS_COST)
    }))

  test('is charged at worst when it has no price, and an event names it', () =>
    onDesk([responseOf([MESSAGE], { service_tier: 'ultrafast' })], async ({ guarded, openai, records, events }) => {
      await generateText({ ...CALL, model: guarded(openai(MODEL)) })
      expect(records('outcome')).toMatchObject([{ outcome: 'charged', assumed: true }])
      expect(events.join()).toContain('`ultrafast`')
    }))
})

describe('what is recorded', () => {
  test('of an error is its name, code and status, and not its message, which may quote keys and prompts', () => {
    const secret = Object.assign(new TypeError('invalid header "Bearer sk-SECRET"'), { code: 'ERR_INVALID_CHAR' })
    const refused = Response.json({ error: { message: 'cannot process: my PRIVATE prompt' } }, { status: 500 })
    return onDesk([secret, refused], async ({ guarded, openai, kernel, records }) => {
      for (const _ of [1, 2]) await errorOf(() => generateText({ ...CALL, model: guarded(openai(MODEL)) }))
      expect(records('outcome').map(({ reason }) => reason)).toEqual([
        expect.stringContaining('TypeError ERR_INVALID_CHAR'),
        expect.stringMatching(/AI_APICallError.* 500/),
      ])
      expect(kernel.auditLines.join()).not.toMatch(/SECRET|PRIVATE/)
    })
  })

  test('of an answer without usage is the charge first, so that it stands whatever becomes of the report', () =>
    onDesk([responseOf([MESSAGE], { usage: null })], async ({ openai, records, scope }) => {
      const endedAtReport: number[] = []
      const listening: Scope = Object.create(scope, {
        report: { value: () => void endedAtReport.push(records('outcome').length) },
      }) as Scope
      const model = wrapLanguageModel({ model: openai(MODEL), middleware: holdfastMiddleware(listening) })
      await generateText({ ...CALL, model })
      expect(endedAtReport).toEqual([1])
    }))

  test('of an answer that would cost more than any amount can be is the worst case, and its caller gets it', () => {
    const usage = { input_tokens: 2 ** 52, output_tokens: 1, total_tokens: 2 ** 52 + 1 }
    return onDesk([responseOf([MESSAGE], { usage })], async ({ guarded, openai, records }) => {
      expect((await generateText({ ...CALL, model: guarded(openai(MODEL)) })).text).toBe('hi')
      expect(records('outcome')).toMatchObject([{ outcome: 'charged', assumed: true }])
    })
  })

  test('of a request without a bound is a refusal, which its run remembers', () =>
    onDesk([responseOf([MESSAGE])], ({ guarded, openai, scope, records, sent }) =>
      scope.enter(async () => {
        const tools = { web_search: openai.tools.webSearch() } as ToolSet
        const seen: unknown[] = []
        const result = streamText({ ...CALL, model: guarded(openai(MODEL)), tools, onError: ({ error }) => void seen.push(error) })
        await result.consumeStream()
        expect(scope.refusal).toMatchObject({
          code: 'ERR_UNMETERED',
          details: { resource: MODEL, wouldPass: expect.any(String) as string },
        })
        expect(seen).toEqual([scope.refusal])
        expect(records('refused')).toMatchObject([{ code: 'ERR_UNMETERED', agent: 'a', task: 't', budget: 'acme', resource: MODEL }])
        expect(sent).toEqual([])
      }),
    ))
})

describe('observe mode', () => {
  const image = { type: 'file' as const, mediaType: 'image/png', data: new Uint8Array([137, 80, 78, 71]) }
  const messages: ModelMessage[] = [{ role: 'user', content: [image] }]
  const unbounded = { mode: 'observe', prices: { [MODEL]: { inputUsdPerMillion: 1, outputUsdPerMillion: 1 } } } as const

  test.each(['generateText', 'streamText'])('lets a request without a bound through %s as it is, unheld, and says so', (how) =>
    onDesk(
      [how === 'streamText' ? streamOf(responseOf([MESSAGE])) : responseOf([MESSAGE])],
      async ({ guarded, openai, sent, records, events }) => {
        const options = { messages, maxRetries: 0, model: guarded(openai(MODEL)) }
        await (how === 'streamText' ? readAll(streamText(options).textStream) : generateText(options))
        expect(sent).toHaveLength(1)
        expect(sent[0]).not.toHaveProperty('max_output_tokens')
        expect(records('intent')).toEqual([])
        expect(events.join()).toMatch(/would-refuse: .*maxInputTokens/)
      },
      unbounded,
    ),
  )
})
