import * as fc from 'fast-check'
import { beforeAll, describe, expect, it, test } from 'vitest'
import { findRefusal } from '../../src/lib/errors.ts'
import { costNanoUsd, loadPrices } from '../../src/metering/prices.ts'
import { totalTokens } from '../../src/metering/usage/totals.ts'
import type { ModelPrice, Prices, Usage } from '../../src/waist/price.ts'
import { priceKey, worstAmounts, type BoundOptions, type RequestBound } from '../../src/metering/worst-case/bound.ts'
import { boundChatRequest, boundResponsesRequest } from '../../src/metering/worst-case/openai.ts'

const refused = (run: () => unknown): string => {
  try {
    run()
  } catch (error) {
    const refusal = findRefusal(error)
    expect(refusal?.code).toBe('ERR_UNMETERED')
    expect(refusal?.details.wouldPass).toBeDefined()
    return refusal!.message
  }
  throw new Error('Nothing was refused.')
}

const window = { contextWindow: 128_000 }
const hello = { model: 'gpt-4o', messages: [{ role: 'user', content: 'Hello' }] }
const chat = (extra: object, options?: BoundOptions): RequestBound => boundChatRequest({ ...hello, ...extra }, 500, options)
const says = (content: unknown, options?: BoundOptions): RequestBound => chat({ messages: [{ role: 'user', content }] }, options)
const respond = (extra: object, options?: BoundOptions): RequestBound =>
  boundResponsesRequest({ model: 'gpt-4o', input: 'Hello', ...extra }, 500, options)

let prices: Prices
let gpt4o: ModelPrice
beforeAll(async () => {
  prices = await loadPrices()
  gpt4o = prices.find('gpt-4o', 'openai')!
})

describe('a request that says everything itself', () => {
  it('has no more input tokens than bytes', () => {
    expect(chat({})).toEqual({
      model: 'gpt-4o',
      inputTokens: 500,
      outputTokensPerChoice: 8_192,
      capSet: false,
      choices: 1,
      named: false,
      hostedTools: [],
      inputAudio: false,
      outputAudio: false,
    })
  })

  it('may be long: text parts, refusals, function tools, tool results and encrypted reasoning are all in its bytes', () => {
    const tools = [
      { type: 'function', function: { name: 'f' } },
      { type: 'custom', custom: { name: 'c' } },
    ]
    expect(says([{ type: 'text', text: 'a' }]).named).toBe(false)
    expect(chat({ tools }).inputTokens).toBe(500)
    const input = [
      { role: 'user', content: [{ type: 'input_text', text: 'a' }] },
      {
        type: 'message',
        role: 'assistant',
        content: [
          { type: 'output_text', text: 'b' },
          { type: 'refusal', refusal: 'c' },
        ],
      },
      { type: 'function_call', call_id: '1', name: 'f', arguments: '{}' },
      { type: 'function_call_output', call_id: '1', output: 'd' },
      { type: 'custom_tool_call_output', call_id: '1', output: [{ type: 'input_text', text: 'e' }] },
      { type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: 'gAAAA' },
    ]
    expect(respond({ input })).toMatchObject({ named: false, inputTokens: 500 })
  })

  it('has the tool prompt of Claude on top, and no other model has', () => {
    const tools = [{ type: 'function', function: { name: 'f' } }]
    expect(chat({ model: 'claude-opus-4-8', tools }).inputTokens).toBe(1_524)
    expect(chat({ model: 'claude-opus-4-8' }).inputTokens).toBe(500)
  })

  it('may be answered in audio', () => {
    expect(chat({ modalities: ['text', 'audio'] }).outputAudio).toBe(true)
  })

  it.each([null, 'x', 7, []])('is not a body of %j', (body) => {
    expect(() => boundChatRequest(body, 500)).toThrow(TypeError)
    expect(() => boundResponsesRequest(body, 500)).toThrow(TypeError)
  })

  it.each([-1, 1.5, Number.NaN, '500'])('is not %j bytes long', (bytes) => {
    expect(() => boundChatRequest(hello, bytes as number)).toThrow(/bytes/)
  })

  it('is refused without a model', () => {
    expect(refused(() => boundChatRequest({ messages: [] }, 10))).toContain('Set `model`')
    expect(refused(() => boundResponsesRequest({ prompt: { id: 'pmpt_1' } }, 10, window))).toContain('Set `model`')
  })
})

describe('a request that only names part of its input', () => {
  const parts: [string, unknown][] = [
    ['an image by its URL', { type: 'image_url', image_url: { url: 'https://example.com/a.png' } }],
    ['an image as a data URL', { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }],
    ['audio', { type: 'input_audio', input_audio: { data: 'AAAA', format: 'wav' } }],
    ['a file', { type: 'file', file: { file_id: 'file-1' } }],
    ['a kind of part that is new tomorrow', { type: 'hologram', id: 'h_1' }],
    ['a part without a type', { image: 'x' }],
  ]
  it.each(parts)('fills the context window with %s', (_, part) => {
    expect(says([{ type: 'text', text: 'a' }, part], window)).toMatchObject({ named: true, inputTokens: 128_000 })
  })

  const fields: [string, object][] = [
    ['a previous response', { previous_response_id: 'resp_1' }],
    ['a conversation', { conversation: { id: 'conv_1' } }],
    ['a stored prompt', { prompt: { id: 'pmpt_1' } }],
    ['context management', { context_management: [{ type: 'compaction' }] }],
    ['an image', { input: [{ role: 'user', content: [{ type: 'input_image', image_url: 'data:image/png;base64,AAAA' }] }] }],
    ['a file', { input: [{ role: 'user', content: [{ type: 'input_file', file_id: 'file-1' }] }] }],
    ['a screenshot as a tool result', { input: [{ type: 'function_call_output', output: [{ type: 'input_image', file_id: 'file-1' }] }] }],
    ['an item by its id', { input: [{ type: 'item_reference', id: 'msg_1' }] }],
    ['reasoning by its id', { input: [{ type: 'reasoning', id: 'rs_1', summary: [] }] }],
    ['a search of an earlier answer', { input: [{ type: 'web_search_call', id: 'ws_1' }] }],
    ['something that is no item', { input: [{}, 'x'] }],
  ]
  it.each(fields)('fills the context window with %s', (_, extra) => {
    expect(respond(extra, window)).toMatchObject({ named: true, inputTokens: 128_000 })
  })

  it('takes an earlier answer in audio for audio', () => {
    const messages = [{ role: 'assistant', audio: { id: 'audio_1' } }]
    expect(chat({ messages }, window)).toMatchObject({ named: true, inputAudio: true })
    expect(says([parts[2]![1]], window).inputAudio).toBe(true)
    expect(says([parts[0]![1]], window).inputAudio).toBe(false)
  })

  it('has the input that its operator vouches for', () => {
    expect(respond({ previous_response_id: 'resp_1' }, { ...window, maxInputTokens: 9_000 }).inputTokens).toBe(9_000)
    expect(respond({}, { ...window, maxInputTokens: 9_000 }).inputTokens).toBe(500)
  })

  it('has as much input as it has bytes when those are more than the window', () => {
    expect(boundResponsesRequest({ model: 'gpt-4o', previous_response_id: 'resp_1' }, 200_000, window).inputTokens).toBe(200_000)
  })

  it('may hold sound where the model charges for it', () => {
    const named = says([parts[0]![1]], { maxInputTokens: 1_000 })
    expect(worstAmounts(named, prices.find('gpt-realtime', 'openai')).fixed['usd']).toBe(1_000 * 32_000)
    expect(worstAmounts(chat({}), prices.find('gpt-realtime', 'openai')).fixed['usd']).toBe(500 * 5_000)
    expect(worstAmounts(named, gpt4o).fixed['usd']).toBe(1_000 * 2_500)
  })

  it('is refused when the context window is not known, saying what to set', () => {
    const message = refused(() => respond({ previous_response_id: 'resp_1' }))
    expect(message).toContain('maxInputTokens')
    expect(message).toContain('contextWindow')
    expect(refused(() => says([parts[0]![1]]))).toContain('maxInputTokens')
  })
})

describe('output', () => {
  it.each([
    ['the cap of the request', { max_completion_tokens: 77 }, {}, 77, true],
    ['the larger of two caps', { max_completion_tokens: 77, max_tokens: 99 }, {}, 99, true],
    ['a cap beyond the model, as it was set', { max_tokens: 9_999 }, { maxOutputTokens: 4_096 }, 9_999, true],
    ['8,192 without a cap', { max_tokens: null }, {}, 8_192, false],
    ['the model where that is less', {}, { maxOutputTokens: 4_096 }, 4_096, false],
    ['the configured default', {}, { maxOutputTokens: 4_096, defaultMaxOutputTokens: 1_000 }, 1_000, false],
  ])('is bound by %s', (_, extra, options, cap, capSet) => {
    expect(chat(extra, options)).toMatchObject({ outputTokensPerChoice: cap, capSet })
  })

  it('of Responses is bound by its own field', () => {
    expect(respond({ max_output_tokens: 64 })).toMatchObject({ outputTokensPerChoice: 64, capSet: true })
    expect(respond({ max_tokens: 64 })).toMatchObject({ outputTokensPerChoice: 8_192, capSet: false })
  })

  it.each([0, -1, 1.5, '100', Number.NaN, true])('has no cap of %j, which some servers take for none', (cap) => {
    expect(() => chat({ max_tokens: cap })).toThrow(/max_tokens/)
    expect(() => respond({ max_output_tokens: cap })).toThrow(/max_output_tokens/)
  })

  it.each([
    [{ n: 3 }, 3],
    [{ n: null }, 1],
    [{ n: 0 }, 1],
    [{ n: -3 }, 1],
    [{ n: 1.5 }, 2],
  ])('is multiplied for %j', (extra, choices) => {
    expect(chat(extra).choices).toBe(choices)
  })

  it.each([129, -129, Infinity, Number.NaN, '2', [2]])('is not asked for %j times', (n) => {
    expect(() => chat({ n })).toThrow(TypeError)
  })

  it('may be exceeded by the rejected tokens of a prediction, which are held as output on top', () => {
    const bound = chat({ prediction: { type: 'content', content: 'x' }, max_tokens: 10 })
    expect(bound.predictedTokens).toBe(500)
    expect(worstAmounts(bound, gpt4o).fixed).toEqual({ usd: 500 * 2_500 + 500 * 10_000, tokens: 1_000, calls: 1 })
    expect(worstAmounts(chat({ max_tokens: 10 }), gpt4o).fixed).toEqual({ usd: 500 * 2_500, tokens: 500, calls: 1 })
  })
})

describe('hosted tools', () => {
  const search = { tools: [{ type: 'function', name: 'f' }, { type: 'web_search_preview_2025_03_11' }] }

  it('are bound by max_tool_calls: one more turn over the whole window for each', () => {
    const bound = respond({ ...search, max_tool_calls: 3 }, window)
    expect(bound).toMatchObject({ named: true, hostedTools: ['web_search'], maxToolCalls: 3, inputTokens: 4 * 128_000 })
    expect(worstAmounts(bound, gpt4o).fixed['usd']).toBe(4 * 128_000 * 2_500 + 3 * 10_000_000)
  })

  it('are refused without it', () => {
    expect(refused(() => respond(search, { ...window, maxInputTokens: 10 }))).toContain('max_tool_calls')
    expect(refused(() => respond({ ...search, max_tool_calls: null }, window))).toContain('max_tool_calls')
    expect(() => respond({ ...search, max_tool_calls: -1 }, window)).toThrow(/max_tool_calls/)
  })

  it('are refused when they arrive inside the input, as well', () => {
    expect(refused(() => respond({ input: [{ type: 'additional_tools', tools: [{ type: 'mcp' }] }] }, window))).toContain('mcp')
  })

  it('are refused without a fee in the price, naming the line to add', () => {
    const bound = respond({ tools: [{ type: 'mcp' }], max_tool_calls: 3 }, window)
    expect(refused(() => worstAmounts(bound, gpt4o))).toContain("toolUsdPerThousand: { 'mcp': 0 }")
    expect(worstAmounts(bound, undefined).fixed).toEqual({ tokens: 512_000, calls: 1 })
  })

  it('are refused with a fee and no limit, whoever made the bound', () => {
    const bound = { ...respond({ ...search, max_tool_calls: 3 }, window) }
    delete (bound as { maxToolCalls?: number }).maxToolCalls
    expect(refused(() => worstAmounts(bound, gpt4o))).toContain('maxToolCalls')
  })

  it.each([
    ['a tool that is none of ours', { tools: [{ type: 'web_search' }] }],
    ['a tool without a type', { tools: [{}] }],
    ['search options', { web_search_options: {} }],
    ['a model that searches', { model: 'gpt-4o-search-preview' }],
    ['a model that searches online', { model: 'openai/gpt-4o:online' }],
  ])('are refused in a chat completion: %s', (_, extra) => {
    expect(refused(() => chat(extra, window))).toContain('Responses API')
  })
})

describe('the worst amounts', () => {
  it('are at the dearest input rate, cache writes included', () => {
    const opus = prices.find('claude-opus-4-8')!
    const { fixed, perOutputToken } = worstAmounts(chat({ model: 'claude-opus-4-8', n: 2 }), opus)
    expect(fixed).toEqual({ usd: 500 * 10_000, tokens: 500, calls: 1 })
    expect(perOutputToken).toEqual({ usd: 2 * 25_000, tokens: 2 })
  })

  it('are at the tier that the input can reach, and not at one beyond', () => {
    const price = prices.find('gpt-5.5', 'openai')!
    const short = boundChatRequest(hello, 271_999)
    const long = boundChatRequest(hello, 272_000)
    expect(worstAmounts(short, price)).toMatchObject({ fixed: { usd: 271_999 * 5_000 }, perOutputToken: { usd: 30_000 } })
    expect(worstAmounts(long, price)).toMatchObject({ fixed: { usd: 272_000 * 10_000 }, perOutputToken: { usd: 45_000 } })
  })

  it('are at the dearest hour', async () => {
    const list = await loadPrices({ now: () => Date.parse('2026-11-20T12:00:00Z') })
    const { fixed } = worstAmounts(chat({}), list.find('deepseek-v4-pro', 'deepseek'))
    expect(fixed['usd']).toBe(500 * 1_320)
  })

  it('hold audio at its own rate, and have no price where it has none', () => {
    const realtime = prices.find('gpt-realtime', 'openai')!
    const spoken = chat({ modalities: ['audio'] })
    expect(worstAmounts(spoken, realtime).perOutputToken['usd']).toBe(64_000)
    expect(worstAmounts(spoken, gpt4o).fixed).toEqual({ tokens: 500, calls: 1 })
    const heard = says([{ type: 'input_audio' }], { maxInputTokens: 1_000 })
    expect(worstAmounts(heard, realtime).fixed['usd']).toBe(1_000 * 32_000)
    expect(worstAmounts(heard, gpt4o).fixed['usd']).toBeUndefined()
  })

  it('have no price for output of a model that has none', () => {
    const amounts = worstAmounts(chat({}), prices.find('text-embedding-3-small', 'openai'))
    expect(amounts).toEqual({ fixed: { tokens: 500, calls: 1 }, perOutputToken: { tokens: 1 } })
  })

  it('are refused beyond 2^53 - 1', () => {
    const bound = { ...chat({}), inputTokens: Number.MAX_SAFE_INTEGER }
    expect(() => worstAmounts(bound, gpt4o)).toThrow(RangeError)
    expect(() => worstAmounts({ ...bound, predictedTokens: 1 }, undefined)).toThrow(RangeError)
  })
})

describe('the name of a price', () => {
  it.each([undefined, null, '', 'auto', 'default', 'flex'])('is the model for the service tier %j', (tier) => {
    expect(priceKey('gpt-5.5', tier)).toBe('gpt-5.5')
  })

  it.each([
    ['priority', 'gpt-5.5@priority'],
    ['fast', 'gpt-5.5@priority'],
    ['scale', 'gpt-5.5@scale'],
    ['ultrafast', 'gpt-5.5@ultrafast'],
    ['a tier of tomorrow', 'gpt-5.5@a tier of tomorrow'],
  ])('has the service tier %j in it, and so no price until one is declared', (tier, key) => {
    expect(priceKey('gpt-5.5', tier)).toBe(key)
    expect(prices.find(key, 'openai')).toBeUndefined()
  })
})

/** Weights that share an amount out among buckets, some of it left unused. */
const shares = (count: number): fc.Arbitrary<number[]> =>
  fc.array(fc.integer({ min: 0, max: 5 }), { minLength: count + 1, maxLength: count + 1 })
const share = (amount: number, weights: number[]): number[] => {
  const sum = Math.max(
    1,
    weights.reduce((total, weight) => total + weight, 0),
  )
  return weights.map((weight) => Math.floor((amount * weight) / sum))
}

describe('for any usage within its bound', () => {
  const models: [string, string][] = [
    ['openai', 'gpt-4o'],
    ['openai', 'gpt-4o-mini'],
    ['openai', 'gpt-5.5'],
    ['openai', 'gpt-5.6-sol'],
    ['openai', 'o3'],
    ['openai', 'gpt-realtime'],
    ['anthropic', 'claude-opus-4-8'],
    ['anthropic', 'claude-sonnet-4-5'],
    ['google', 'gemini-2.5-pro'],
    ['perplexity', 'sonar'],
    ['perplexity', 'sonar-deep-research'],
  ]
  test.each(models)('the cost and the tokens on %s/%s stay within the worst amounts', (provider, model) => {
    const price = prices.find(model, provider)!
    const audio = price.rates.tokens.inputAudioTokens !== undefined
    const hostedTools = ['web_search', 'file_search'].filter((tool) => tool in price.rates.tools)
    const bounds = fc.record({
      inputTokens: fc.oneof(fc.integer({ min: 1, max: 2_000 }), fc.integer({ min: 100_000, max: 1_000_000 })),
      outputTokensPerChoice: fc.integer({ min: 1, max: 128_000 }),
      choices: fc.integer({ min: 1, max: 8 }),
      maxToolCalls: fc.integer({ min: 0, max: 10 }),
      predictedTokens: fc.constantFrom(0, 0, 700),
    })
    const property = fc.property(bounds, shares(5), shares(3), shares(2), (limits, inputs, outputs, tools) => {
      const bound: RequestBound = { ...chat({}), ...limits, hostedTools, inputAudio: audio, outputAudio: audio }
      const [text = 0, read = 0, short = 0, long = 0, heard = 0] = share(bound.inputTokens, inputs)
      const room = bound.choices * (bound.outputTokensPerChoice + (bound.predictedTokens ?? 0))
      const [written = 0, thought = 0, spoken = 0] = share(room, outputs)
      const calls = share(limits.maxToolCalls, tools)
      const usage: Usage = {
        inputTokens: text,
        cacheReadTokens: read,
        cacheWrite5mTokens: short,
        cacheWrite1hTokens: long,
        outputTokens: written,
        reasoningTokens: thought,
        inputAudioTokens: audio ? heard : 0,
        outputAudioTokens: audio ? spoken : 0,
        toolCalls: Object.fromEntries(hostedTools.map((tool, index) => [tool, calls[index]!])),
      }
      const { fixed, perOutputToken } = worstAmounts(bound, price)
      const worst = (dimension: string): number => fixed[dimension]! + perOutputToken[dimension]! * bound.outputTokensPerChoice
      expect(costNanoUsd(price, usage)).toBeLessThanOrEqual(worst('usd'))
      expect(totalTokens(usage)).toBeLessThanOrEqual(worst('tokens'))
    })
    fc.assert(property, { numRuns: 300 })
  })

  test('one token more than the bound can cost more than the worst amounts', () => {
    const bound = chat({ max_tokens: 1 })
    const { fixed, perOutputToken } = worstAmounts(bound, gpt4o)
    const usage = {
      inputTokens: 501,
      cacheReadTokens: 0,
      cacheWrite5mTokens: 0,
      cacheWrite1hTokens: 0,
      outputTokens: 1,
      reasoningTokens: 0,
    }
    const cost = costNanoUsd(gpt4o, { ...usage, inputAudioTokens: 0, outputAudioTokens: 0, toolCalls: {} })
    expect(cost).toBeGreaterThan(fixed['usd']! + perOutputToken['usd']!)
  })
})
