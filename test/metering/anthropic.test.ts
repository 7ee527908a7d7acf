import * as fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { findRefusal, type Refusal } from '../../src/lib/errors.ts'
import { costNanoUsd, loadPrices } from '../../src/metering/prices.ts'
import { readAnthropicUsage } from '../../src/metering/usage/anthropic.ts'
import { readAiSdkUsage } from '../../src/metering/usage/ai-sdk.ts'
import { NOTHING_USED, totalTokens } from '../../src/metering/usage/totals.ts'
import { boundAnthropicRequest, MAX_SERVER_TURNS } from '../../src/metering/worst-case/anthropic.ts'
import { worstAmounts, type BoundOptions, type RequestBound } from '../../src/metering/worst-case/bound.ts'
import type { ModelPrice } from '../../src/waist/price.ts'

// Typed from https://platform.claude.com/docs/en/build-with-claude/prompt-caching (looked up 2026-11-22).
const CACHED = {
  input_tokens: 2048,
  cache_read_input_tokens: 1800,
  cache_creation_input_tokens: 248,
  output_tokens: 503,
  cache_creation: { ephemeral_5m_input_tokens: 148, ephemeral_1h_input_tokens: 100 },
}
// Typed from https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool (looked up 2026-11-22).
const SEARCHED = {
  input_tokens: 105,
  output_tokens: 6039,
  cache_read_input_tokens: 7123,
  cache_creation_input_tokens: 7345,
  server_tool_use: { web_search_requests: 1 },
}
// Typed from https://platform.claude.com/docs/en/build-with-claude/compaction (looked up 2026-11-22).
const COMPACTED = {
  input_tokens: 23_000,
  output_tokens: 1_000,
  iterations: [
    { type: 'compaction', input_tokens: 180_000, output_tokens: 3_500 },
    { type: 'message', input_tokens: 23_000, output_tokens: 1_000 },
  ],
}

describe('the usage of an answer', () => {
  test('has cached tokens beside its input tokens, not in them', () => {
    expect(readAnthropicUsage(CACHED)).toEqual({
      ...NOTHING_USED,
      inputTokens: 2048,
      cacheReadTokens: 1800,
      cacheWrite5mTokens: 148,
      cacheWrite1hTokens: 100,
      outputTokens: 503,
    })
    expect(totalTokens(readAnthropicUsage(CACHED)!)).toBe(2048 + 1800 + 248 + 503)
  })

  test('counts web searches, which have a fee, and no fetched pages, which have none', () => {
    expect(readAnthropicUsage(SEARCHED)?.toolCalls).toEqual({ web_search: 1 })
    expect(readAnthropicUsage({ ...SEARCHED, server_tool_use: { web_search_requests: 0, web_fetch_requests: 3 } })?.toolCalls).toEqual({})
  })

  test('has a write whose lifetime is not said among the long ones, if any other is long', () => {
    const partly = { ...CACHED, cache_creation: { ephemeral_5m_input_tokens: 0, ephemeral_1h_input_tokens: 100 } }
    expect(readAnthropicUsage(partly)).toMatchObject({ cacheWrite5mTokens: 0, cacheWrite1hTokens: 248 })
    const { cache_creation: _, ...unsaid } = CACHED
    expect(readAnthropicUsage(unsaid)).toMatchObject({ cacheWrite5mTokens: 248, cacheWrite1hTokens: 0 })
  })

  test('has thinking within its output', () => {
    const thought = { ...CACHED, output_tokens_details: { thinking_tokens: 500 } }
    expect(readAnthropicUsage(thought)).toMatchObject({ outputTokens: 3, reasoningTokens: 500 })
    expect(readAnthropicUsage({ ...CACHED, output_tokens_details: { thinking_tokens: 504 } })).toBeUndefined()
  })

  test('has what a compaction used on top, which its own numbers leave out', () => {
    expect(readAnthropicUsage(COMPACTED)).toEqual({ ...NOTHING_USED, inputTokens: 203_000, outputTokens: 4_500 })
  })

  test.each(['advisor_message', 'fallback_message', 'something_new', undefined])(
    'with an iteration of another model, or of an unknown kind, is none (%s)',
    (type) => expect(readAnthropicUsage({ ...COMPACTED, iterations: [{ ...COMPACTED.iterations[1], type }] })).toBeUndefined(),
  )

  test('takes nulls for zeros, as the API writes them', () => {
    const nulls = {
      input_tokens: 10,
      output_tokens: 5,
      cache_creation_input_tokens: null,
      cache_read_input_tokens: null,
      cache_creation: null,
      server_tool_use: null,
      output_tokens_details: null,
      iterations: null,
    }
    expect(readAnthropicUsage(nulls)).toEqual({ ...NOTHING_USED, inputTokens: 10, outputTokens: 5 })
  })

  test.each([
    undefined,
    null,
    'text',
    [],
    {},
    { input_tokens: 10 },
    { output_tokens: 10 },
    { input_tokens: 0, output_tokens: 0 },
    { input_tokens: -1, output_tokens: 5 },
    { input_tokens: 1.5, output_tokens: 5 },
    { input_tokens: '10', output_tokens: 5 },
    { ...CACHED, cache_read_input_tokens: Number.NaN },
    { ...CACHED, cache_creation: { ephemeral_5m_input_tokens: 456, ephemeral_1h_input_tokens: 100 } },
    { ...CACHED, server_tool_use: 'many' },
    { ...CACHED, server_tool_use: { web_search_requests: -1 } },
    { ...CACHED, output_tokens_details: 'many' },
    { ...COMPACTED, iterations: 'many' },
    { ...COMPACTED, iterations: [{ type: 'compaction', input_tokens: 'x', output_tokens: 1 }] },
  ])('is none where it cannot be trusted: %j', (usage) => expect(readAnthropicUsage(usage)).toBeUndefined())

  test('is what the AI SDK makes of the same report', () => {
    const total = 2048 + 1800 + 248
    const inputTokens = { total, noCache: 2048, cacheRead: 1800, cacheWrite: 248 }
    const sdk = { inputTokens, outputTokens: { total: 503, text: 503, reasoning: undefined }, raw: CACHED }
    expect(readAiSdkUsage(sdk)).toEqual(readAnthropicUsage(CACHED))
  })
})

const WINDOW = { contextWindow: 200_000 }
const hello = { model: 'claude-haiku-4-5', max_tokens: 100, messages: [{ role: 'user', content: 'Hello' }] }
const bound = (extra: object = {}, options: BoundOptions = {}, betas: readonly string[] = []): RequestBound =>
  boundAnthropicRequest({ ...hello, ...extra }, 500, options, betas)
const says = (content: unknown, options?: BoundOptions): RequestBound => bound({ messages: [{ role: 'user', content }] }, options)
const withTool = (tool: object, options: BoundOptions = WINDOW): RequestBound => bound({ tools: [tool] }, options)

function refusalOf(run: () => unknown): Refusal | undefined {
  try {
    run()
    return undefined
  } catch (error) {
    return findRefusal(error)
  }
}

function refused(run: () => unknown): string {
  const refusal = refusalOf(run)
  expect(refusal).toMatchObject({ code: 'ERR_UNMETERED', details: { wouldPass: expect.any(String) as string } })
  return refusal!.message
}

describe('a request that says everything itself', () => {
  test('has no more input tokens than bytes, and its own cap', () => {
    expect(bound()).toEqual({
      model: 'claude-haiku-4-5',
      inputTokens: 500,
      outputTokensPerChoice: 100,
      capSet: true,
      choices: 1,
      named: false,
      hostedTools: [],
      inputAudio: false,
      outputAudio: false,
    })
    expect(bound({ max_tokens: undefined })).toMatchObject({ capSet: false, outputTokensPerChoice: 8_192 })
  })

  test('may be long: text, thinking, calls, results, documents of text and search results are all in its bytes', () => {
    const text = { type: 'text', text: 'a', cache_control: { type: 'ephemeral', ttl: '1h' } }
    const blocks = [
      text,
      { type: 'thinking', thinking: '', signature: 'EqQB' },
      { type: 'redacted_thinking', data: 'EqQB' },
      { type: 'tool_use', id: '1', name: 'f', input: {} },
      { type: 'tool_result', tool_use_id: '1', content: 'b' },
      { type: 'tool_result', tool_use_id: '1', content: [text] },
      { type: 'server_tool_use', id: '2', name: 'web_search', input: {} },
      { type: 'web_search_tool_result', tool_use_id: '2', content: [{ type: 'web_search_result', encrypted_content: 'EqQB' }] },
      { type: 'document', source: { type: 'text', data: 'c' } },
      { type: 'document', source: { type: 'content', content: [text] } },
      { type: 'search_result', source: 's', title: 't', content: [text] },
    ]
    expect(bound({ system: [text], messages: [{ role: 'user', content: blocks }] })).toMatchObject({ named: false, inputTokens: 500 })
  })

  test('has the prompts that Anthropic adds for tools and for a format of the output on top', () => {
    expect(withTool({ name: 'f', input_schema: {} }).inputTokens).toBe(1_524)
    expect(withTool({ type: 'custom', name: 'f', input_schema: {} }).inputTokens).toBe(1_524)
    expect(withTool({ type: 'bash_20250124', name: 'bash' }).inputTokens).toBe(1_524 + 2_048)
    expect(withTool({ type: 'computer_toolset_20260801' }).inputTokens).toBe(1_524 + 8_192)
    expect(bound({ output_config: { format: { type: 'json_schema', schema: {} } } }).inputTokens).toBe(1_524)
    expect(bound({ output_config: { effort: 'low' } }).inputTokens).toBe(500)
  })

  test('may think beyond its cap where its budget does, as interleaved thinking may', () => {
    expect(bound({ thinking: { type: 'enabled', budget_tokens: 99 } }).outputTokensPerChoice).toBe(100)
    expect(bound({ thinking: { type: 'enabled', budget_tokens: 4_000 } }).outputTokensPerChoice).toBe(4_100)
  })

  test.each([0, -1, 1.5, '100'])('has no bound with the cap %j', (max_tokens) => expect(() => bound({ max_tokens })).toThrow(/max_tokens/))
})

describe('a request that names what cannot be counted here', () => {
  const image = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'iVBOR' } }
  const file = { type: 'document', source: { type: 'file', file_id: 'file_1' } }
  const pdf = { type: 'document', source: { type: 'base64', media_type: 'application/pdf', data: 'JVBER' } }

  test.each([
    [[image]],
    [[file]],
    [[pdf]],
    [[{ type: 'document', source: { type: 'url', url: 'https://example.org/a.pdf' } }]],
    [[{ type: 'container_upload', file_id: 'file_1' }]],
    [[{ type: 'something_new' }]],
    [[{ type: 'tool_result', tool_use_id: '1', content: [image] }]],
    [[{ type: 'web_fetch_tool_result', content: { type: 'web_fetch_result', content: pdf } }]],
    [[{ type: 'document', source: { type: 'content', content: [image] } }]],
    [[{ type: 'tool_search_tool_result', content: {} }]],
    [[{ type: 'tool_addition', tool: { type: 'tool_reference', name: 'f' } }]],
  ])('counts as the whole context window: %j', (content) => {
    expect(says(content, WINDOW)).toMatchObject({ named: true, inputTokens: 200_000 })
    expect(says(content, { maxInputTokens: 3_000 }).inputTokens).toBe(3_000)
    expect(refused(() => says(content))).toContain('context window')
  })

  test('counts as a million tokens where the beta for that is on', () => {
    const messages = [{ role: 'user', content: [image] }]
    expect(bound({ messages }, WINDOW, ['context-1m-2025-08-07']).inputTokens).toBe(1_000_000)
    expect(bound({ messages }, WINDOW, ['files-api-2025-04-14']).inputTokens).toBe(200_000)
    expect(bound({ messages }, { contextWindow: 2_000_000 }, ['context-1m-2025-08-07']).inputTokens).toBe(2_000_000)
  })
})

describe('server tools', () => {
  const search = { type: 'web_search_20250305', name: 'web_search', max_uses: 5 }

  test('make a request many turns, each of which reads the context and may put out the cap', () => {
    const searching = { named: true, inputTokens: 200_000 * MAX_SERVER_TURNS, choices: MAX_SERVER_TURNS }
    expect(withTool(search)).toMatchObject({ ...searching, hostedTools: ['web_search'], maxToolCalls: 5 })
    for (const tool of [
      { type: 'web_fetch_20250910', name: 'web_fetch' },
      { type: 'tool_search_tool_bm25_20251119', name: 'tool_search_tool_bm25' },
      { type: 'mcp_toolset', mcp_server_name: 'm' },
    ])
      expect(withTool(tool)).toMatchObject({ ...searching, hostedTools: [] })
    expect(bound({ mcp_servers: [{ type: 'url', url: 'https://example.org' }] }, WINDOW)).toMatchObject({ ...searching, hostedTools: [] })
    expect(bound({ tools: [search] }, { maxInputTokens: 9_000 }).inputTokens).toBe(9_000)
  })

  test('need a limit where they have a fee, or may have one', () => {
    expect(refused(() => withTool({ ...search, max_uses: undefined }))).toContain('Set `max_uses`')
    expect(refused(() => withTool({ type: 'something_20290101', name: 's' }))).toContain('`something`')
    expect(withTool({ type: 'something_20290101', name: 's', max_uses: 2 })).toMatchObject({ hostedTools: ['something'], maxToolCalls: 2 })
    expect(() => withTool({ ...search, max_uses: -1 })).toThrow(RangeError)
  })

  test('are seen where a message adds them in the middle of a conversation', () => {
    const tool_addition = { type: 'tool_addition', tool: { type: 'tool_definition', definition: search } }
    expect(says([tool_addition], WINDOW)).toMatchObject({ hostedTools: ['web_search'], choices: MAX_SERVER_TURNS })
    const plain = { type: 'tool_addition', tool: { type: 'tool_definition', definition: { name: 'f', input_schema: {} } } }
    expect(says([plain]).named).toBe(false)
  })

  test('that run code count once for each request, unless a tool beside them makes that free', () => {
    const execution = { type: 'code_execution_20260521', name: 'code_execution' }
    expect(withTool(execution)).toMatchObject({ hostedTools: ['code_execution'], maxToolCalls: 1 })
    expect(bound({ container: { skills: [{ skill_id: 'pptx' }] } }, WINDOW).hostedTools).toEqual(['code_execution'])
    const beside = (type: string): RequestBound => bound({ tools: [execution, { type, name: 'web_fetch' }] }, WINDOW)
    expect(beside('web_fetch_20260209').hostedTools).toEqual([])
    expect(beside('web_fetch_20250910').hostedTools).toEqual(['code_execution'])
  })
})

describe('what has no bound is refused', () => {
  test.each([
    ['fallbacks', { fallbacks: 'default' }],
    ['thread', { thread: { type: 'continue', previous_message_id: 'msg_1' } }],
    ['Compaction', { compaction: { type: 'summarize' } }],
    ['Compaction', { context_management: { edits: [{ type: 'compact_20260112' }] } }],
    ['Compaction', { context_management: { edits: [{ type: 'something_new' }] } }],
    ['advisor', { tools: [{ type: 'advisor_20260301', name: 'advisor', model: 'claude-opus-5', max_uses: 1 }] }],
    ['model', { model: '' }],
  ])('%s: %j', (named, extra) => expect(refused(() => bound(extra, WINDOW))).toContain(named))

  test('and what only clears the context, or begins a thread, is not', () => {
    expect(bound({ context_management: { edits: [{ type: 'clear_tool_uses_20250919' }] } }).named).toBe(false)
    expect(bound({ thread: { type: 'create' } }).named).toBe(false)
  })
})

describe('the worst case in money', () => {
  let price: ModelPrice
  beforeAll(async () => {
    price = (await loadPrices()).find('claude-haiku-4-5', 'anthropic')!
  })

  /** Nano-USD with all of its output. */
  const worst = (request: RequestBound): number => {
    const { fixed, perOutputToken } = worstAmounts(request, price)
    return fixed['usd']! + perOutputToken['usd']! * request.outputTokensPerChoice
  }

  test('takes all input for writes to the dearest cache, and covers every usage that fits', () => {
    // 500 tokens at twice the price of input, 100 at that of output: 1 and 5 USD per million.
    expect(worst(bound())).toBe(500 * 2_000 + 100 * 5_000)
    const most = { ...NOTHING_USED, cacheWrite1hTokens: 500, outputTokens: 100 }
    expect(costNanoUsd(price, most)).toBe(worst(bound()))
  })

  test('is not exceeded by any usage within the window, the cap and the limit of a request with server tools', () => {
    const tokens = fc.integer({ min: 0, max: 50_000 })
    const turn = fc.record({ fresh: tokens, read: tokens, short: tokens, long: tokens, output: fc.integer({ min: 1, max: 700 }) })
    const turns = fc.array(turn, { minLength: 1, maxLength: MAX_SERVER_TURNS })
    const property = fc.property(turns, fc.integer({ min: 0, max: 4 }), (list, searches) => {
      const sum = (field: keyof (typeof list)[number]): number => list.reduce((all, one) => all + one[field], 0)
      const usage = readAnthropicUsage({
        input_tokens: sum('fresh'),
        cache_read_input_tokens: sum('read'),
        cache_creation_input_tokens: sum('short') + sum('long'),
        cache_creation: { ephemeral_5m_input_tokens: sum('short'), ephemeral_1h_input_tokens: sum('long') },
        output_tokens: sum('output'),
        server_tool_use: { web_search_requests: searches },
      })!
      const search = { type: 'web_search_20250305', name: 'web_search', max_uses: 4 }
      expect(costNanoUsd(price, usage)).toBeLessThanOrEqual(worst(bound({ tools: [search], max_tokens: 700 }, WINDOW)))
    })
    fc.assert(property)
  })

  test('has the fee of each search that is allowed', () => {
    const one = { type: 'web_search_20250305', name: 'web_search', max_uses: 1 }
    const [few, many] = [one, { ...one, max_uses: 5 }].map((tool) => worst(withTool(tool)))
    expect(many! - few!).toBe(4 * 10_000_000)
  })

  test('lacks the fee for the execution of code until its price has one', () => {
    const request = withTool({ type: 'code_execution_20260521', name: 'code_execution' })
    expect(refused(() => worst(request))).toContain("toolUsdPerThousand: { 'code_execution': 0 }")
    const rates = { ...price.rates, tools: { code_execution: 50_000_000_000n } }
    expect(worstAmounts(request, { ...price, rates }).fixed['usd']).toBe(2_000_000 * 2_000 + 50_000_000)
  })
})
