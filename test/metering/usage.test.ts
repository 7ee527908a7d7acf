import * as fc from 'fast-check'
import { describe, expect, it, test } from 'vitest'
import { readAiSdkUsage } from '../../src/metering/usage/ai-sdk.ts'
import { readChatUsage, readResponsesUsage } from '../../src/metering/usage/openai.ts'
import { NOTHING_USED, totalInputTokens, totalTokens } from '../../src/metering/usage/totals.ts'
import type { Usage } from '../../src/waist/price.ts'

const buckets = (usage: Usage): number[] => Object.values(usage).filter((value) => typeof value === 'number')

const tokens = fc.integer({ min: 0, max: 1_000_000 })

/** Parts of one side that add up to its total. */
const parts = fc.record({
  text: tokens,
  cached: tokens,
  write: tokens,
  long: tokens,
  audio: tokens,
  output: tokens,
  reasoning: tokens,
  spoken: tokens,
})

type Parts = typeof parts extends fc.Arbitrary<infer T> ? T : never

const inputOf = (p: Parts): number => p.text + p.cached + p.write + p.long + p.audio
const outputOf = (p: Parts): number => p.output + p.reasoning + p.spoken

const openAiUsage = (p: Parts, input: string, output: string): Record<string, unknown> => ({
  [input]: inputOf(p),
  [`${input}_details`]: {
    cached_tokens: p.cached,
    audio_tokens: p.audio,
    cache_write_tokens: p.write + p.long,
    cache_write_tokens_details: { ttl_30m_tokens: p.write, ttl_12h_tokens: p.long },
  },
  [output]: outputOf(p),
  [`${output}_details`]: { reasoning_tokens: p.reasoning, audio_tokens: p.spoken },
  total_tokens: inputOf(p) + outputOf(p),
})

const expected = (p: Parts): Usage => ({
  inputTokens: p.text,
  cacheReadTokens: p.cached,
  cacheWrite5mTokens: p.write,
  cacheWrite1hTokens: p.long,
  outputTokens: p.output,
  reasoningTokens: p.reasoning,
  inputAudioTokens: p.audio,
  outputAudioTokens: p.spoken,
  toolCalls: {},
})

describe('OpenAI chat completions', () => {
  const gpt4o = {
    prompt_tokens: 2006,
    completion_tokens: 300,
    total_tokens: 2306,
    prompt_tokens_details: { cached_tokens: 1920, audio_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: 0, audio_tokens: 0, accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 },
  }

  it('takes cached tokens out of the prompt that includes them', () => {
    expect(readChatUsage(gpt4o)).toEqual({ ...NOTHING_USED, inputTokens: 86, cacheReadTokens: 1920, outputTokens: 300 })
  })

  it('refuses more cached tokens than the prompt has', () => {
    expect(readChatUsage({ ...gpt4o, prompt_tokens_details: { cached_tokens: 2007 } })).toBeUndefined()
  })

  it('takes reasoning out of the completion that includes it', () => {
    const usage = { prompt_tokens: 20, completion_tokens: 500, total_tokens: 520, completion_tokens_details: { reasoning_tokens: 448 } }
    expect(readChatUsage(usage)).toEqual({ ...NOTHING_USED, inputTokens: 20, outputTokens: 52, reasoningTokens: 448 })
  })

  it('refuses more reasoning than the completion has, when the total does not say that it came on top', () => {
    const usage = { prompt_tokens: 20, completion_tokens: 5, completion_tokens_details: { reasoning_tokens: 448 } }
    expect(readChatUsage(usage)).toBeUndefined()
    expect(readChatUsage({ ...usage, total_tokens: 25 })).toBeUndefined()
  })

  it('adds the reasoning that xAI leaves out of the completion, as its total shows', () => {
    const usage = { prompt_tokens: 32, completion_tokens: 9, total_tokens: 135, completion_tokens_details: { reasoning_tokens: 94 } }
    expect(readChatUsage(usage)).toEqual({ ...NOTHING_USED, inputTokens: 32, outputTokens: 9, reasoningTokens: 94 })
  })

  it('refuses a total that is neither the sum nor the sum with reasoning', () => {
    expect(readChatUsage({ prompt_tokens: 32, completion_tokens: 9, total_tokens: 134 })).toBeUndefined()
    expect(readChatUsage({ prompt_tokens: 32, completion_tokens: 9, total_tokens: 40 })).toBeUndefined()
  })

  it('separates audio on both sides', () => {
    const usage = {
      prompt_tokens: 120,
      completion_tokens: 260,
      total_tokens: 380,
      prompt_tokens_details: { cached_tokens: 0, audio_tokens: 100, text_tokens: 20 },
      completion_tokens_details: { reasoning_tokens: 0, audio_tokens: 200, text_tokens: 60 },
    }
    expect(readChatUsage(usage)).toEqual({
      ...NOTHING_USED,
      inputTokens: 20,
      inputAudioTokens: 100,
      outputTokens: 60,
      outputAudioTokens: 200,
    })
  })

  it('counts cached audio once, as audio', () => {
    const details = { cached_tokens: 80, audio_tokens: 100, cached_tokens_details: { audio_tokens: 60, text_tokens: 20 } }
    const usage = readChatUsage({ prompt_tokens: 130, completion_tokens: 1, prompt_tokens_details: details })
    expect(usage).toEqual({ ...NOTHING_USED, inputTokens: 10, cacheReadTokens: 20, inputAudioTokens: 100, outputTokens: 1 })
  })

  it('refuses more cached audio than there is in the cache', () => {
    const details = { cached_tokens: 50, audio_tokens: 60, cached_tokens_details: { audio_tokens: 60 } }
    expect(readChatUsage({ prompt_tokens: 130, completion_tokens: 1, prompt_tokens_details: details })).toBeUndefined()
  })

  it('reads embeddings, which have no output, by their total', () => {
    expect(readChatUsage({ prompt_tokens: 8, total_tokens: 8 })).toEqual({ ...NOTHING_USED, inputTokens: 8 })
  })

  it('refuses a prompt whose completion got lost', () => {
    expect(readChatUsage({ prompt_tokens: 8 })).toBeUndefined()
    expect(readChatUsage({ prompt_tokens: 8, total_tokens: 20 })).toBeUndefined()
  })

  it('takes null details as absent', () => {
    const usage = {
      prompt_tokens: 3,
      completion_tokens: 4,
      total_tokens: null,
      prompt_tokens_details: null,
      completion_tokens_details: null,
    }
    expect(readChatUsage(usage)).toEqual({ ...NOTHING_USED, inputTokens: 3, outputTokens: 4 })
  })

  it('counts searches that a gateway reports', () => {
    const usage = { prompt_tokens: 3, completion_tokens: 4, server_tool_use: { web_search_requests: 2, web_fetch_requests: 1 } }
    expect(readChatUsage(usage)?.toolCalls).toEqual({ web_search: 2 })
  })

  it.each([-1, 1.5, Number.NaN, '2'])('refuses a count of searches of %j', (requests) => {
    expect(readChatUsage({ prompt_tokens: 3, completion_tokens: 4, server_tool_use: { web_search_requests: requests } })).toBeUndefined()
  })
})

describe('what is not usage', () => {
  test.each([undefined, null, 7, 'usage', [], {}, { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 }])('chat: %j', (usage) => {
    expect(readChatUsage(usage)).toBeUndefined()
  })

  test.each([undefined, null, 7, [], {}, { input_tokens: 0, output_tokens: 0, total_tokens: 0 }])('responses: %j', (usage) => {
    expect(readResponsesUsage(usage)).toBeUndefined()
  })

  const none = { total: undefined, noCache: undefined, cacheRead: undefined, cacheWrite: undefined }
  const zero = { inputTokens: { total: 0, noCache: 0 }, outputTokens: { total: 0 } }
  const unmeasured = { inputTokens: none, outputTokens: { total: undefined, text: undefined, reasoning: undefined } }
  test.each([undefined, null, 7, {}, { inputTokens: 3, outputTokens: 4 }, unmeasured, zero])('AI SDK: %j', (usage) => {
    expect(readAiSdkUsage(usage)).toBeUndefined()
  })

  const unusable = fc.oneof(fc.integer({ max: -1 }), fc.constantFrom(Number.NaN, Infinity, -Infinity, 0.5, 2 ** 53, '12', '', true, {}, []))
  test.each(['prompt_tokens', 'completion_tokens', 'total_tokens'])('a %s that is not a whole number >= 0', (field) => {
    fc.assert(
      fc.property(unusable, (value) => {
        expect(readChatUsage({ prompt_tokens: 5, completion_tokens: 5, total_tokens: 10, [field]: value })).toBeUndefined()
      }),
    )
  })

  test.each(['cached_tokens', 'audio_tokens', 'cache_write_tokens'])('a %s that is not a whole number >= 0', (field) => {
    fc.assert(
      fc.property(unusable, (value) => {
        expect(readChatUsage({ prompt_tokens: 5, completion_tokens: 5, prompt_tokens_details: { [field]: value } })).toBeUndefined()
      }),
    )
  })

  test('details that are not an object', () => {
    expect(readChatUsage({ prompt_tokens: 5, completion_tokens: 5, prompt_tokens_details: 'none' })).toBeUndefined()
    expect(readChatUsage({ prompt_tokens: 5, completion_tokens: 5, completion_tokens_details: [1] })).toBeUndefined()
  })
})

describe('OpenAI Responses', () => {
  const usage = {
    input_tokens: 9000,
    input_tokens_details: { cached_tokens: 4096, cache_write_tokens: 2048 },
    output_tokens: 1200,
    output_tokens_details: { reasoning_tokens: 1024 },
    total_tokens: 10_200,
  }
  const read = {
    ...NOTHING_USED,
    inputTokens: 2856,
    cacheReadTokens: 4096,
    cacheWrite5mTokens: 2048,
    outputTokens: 176,
    reasoningTokens: 1024,
  }

  it('separates cache reads, cache writes and reasoning', () => {
    expect(readResponsesUsage(usage)).toEqual(read)
  })

  it('puts twelve-hour writes into the long bucket, and writes of unsaid lifetime with them', () => {
    const details = { ...usage.input_tokens_details, cache_write_tokens_details: { ttl_30m_tokens: 1000, ttl_12h_tokens: 1000 } }
    const written = readResponsesUsage({ ...usage, input_tokens_details: details })
    expect(written).toMatchObject({ cacheWrite5mTokens: 1000, cacheWrite1hTokens: 1048 })
  })

  it('refuses lifetimes of more tokens than were written', () => {
    const details = { ...usage.input_tokens_details, cache_write_tokens_details: { ttl_30m_tokens: 1500, ttl_12h_tokens: 1000 } }
    expect(readResponsesUsage({ ...usage, input_tokens_details: details })).toBeUndefined()
  })

  it('counts the hosted tools that ran, and not the functions the caller answers', () => {
    const output = [
      { type: 'reasoning', id: 'rs_1', summary: [] },
      { type: 'web_search_call', id: 'ws_1', status: 'completed', action: { type: 'search', query: 'holdfast' } },
      { type: 'web_search_call', id: 'ws_2', status: 'completed', action: { type: 'search', query: 'hold fast' } },
      { type: 'web_search_call', id: 'ws_3', status: 'completed', action: { type: 'open_page', url: 'https://example.com' } },
      { type: 'file_search_call', id: 'fs_1', status: 'completed', queries: ['a'] },
      { type: 'code_interpreter_call', id: 'ci_1', code: '1+1', container_id: 'c' },
      { type: 'mcp_call', id: 'mcp_1', name: 'x', server_label: 'y', arguments: '{}' },
      { type: 'function_call', call_id: 'call_1', name: 'f', arguments: '{}' },
      { type: 'message', role: 'assistant', content: [{ type: 'output_text', text: 'done' }] },
    ]
    const toolCalls = { web_search: 2, file_search: 1, code_interpreter: 1, mcp: 1 }
    expect(readResponsesUsage(usage, output)).toEqual({ ...read, toolCalls })
  })

  it('refuses an output in which calls cannot be counted', () => {
    expect(readResponsesUsage(usage, 'web_search_call')).toBeUndefined()
    expect(readResponsesUsage(usage, null)).toEqual(read)
  })

  it('adds the orchestration tokens that Sakana bills beside the rest', () => {
    const fugu = {
      input_tokens: 20,
      output_tokens: 7,
      total_tokens: 63,
      input_tokens_details: { cached_tokens: 2, orchestration_input_tokens: 30, orchestration_input_cached_tokens: 3 },
      output_tokens_details: { orchestration_output_tokens: 6 },
    }
    expect(readResponsesUsage(fugu)).toEqual({ ...NOTHING_USED, inputTokens: 45, cacheReadTokens: 5, outputTokens: 13 })
    expect(readResponsesUsage({ ...fugu, total_tokens: 66 })).toBeUndefined()
  })
})

describe('AI SDK', () => {
  const openai = {
    inputTokens: { total: 9000, noCache: 2856, cacheRead: 4096, cacheWrite: 2048 },
    outputTokens: { total: 1200, text: 176, reasoning: 1024 },
    raw: {
      input_tokens: 9000,
      input_tokens_details: { cached_tokens: 4096, cache_write_tokens: 2048 },
      output_tokens: 1200,
      output_tokens_details: { reasoning_tokens: 1024 },
    },
  }
  const anthropic = {
    inputTokens: { total: 12_010, noCache: 10, cacheRead: 8000, cacheWrite: 4000 },
    outputTokens: { total: 600, text: undefined, reasoning: undefined },
    raw: {
      input_tokens: 10,
      cache_creation_input_tokens: 4000,
      cache_read_input_tokens: 8000,
      cache_creation: { ephemeral_5m_input_tokens: 1000, ephemeral_1h_input_tokens: 3000 },
      output_tokens: 600,
      server_tool_use: { web_search_requests: 3, web_fetch_requests: 2 },
      service_tier: 'standard',
    },
  }

  it('reads an OpenAI model', () => {
    expect(readAiSdkUsage(openai)).toEqual(readResponsesUsage(openai.raw))
  })

  it('reads an Anthropic model: lifetimes of cache writes and searches come from raw', () => {
    expect(readAiSdkUsage(anthropic)).toEqual({
      ...NOTHING_USED,
      inputTokens: 10,
      cacheReadTokens: 8000,
      cacheWrite5mTokens: 1000,
      cacheWrite1hTokens: 3000,
      outputTokens: 600,
      toolCalls: { web_search: 3 },
    })
    expect(readAiSdkUsage(anthropic, { web_search: 1, mcp: 2 })?.toolCalls).toEqual({ web_search: 3, mcp: 2 })
  })

  it('refuses an Anthropic model whose lifetimes exceed what was written', () => {
    const raw = { ...anthropic.raw, cache_creation: { ephemeral_5m_input_tokens: 1001, ephemeral_1h_input_tokens: 3000 } }
    expect(readAiSdkUsage({ ...anthropic, raw })).toBeUndefined()
  })

  it('reads audio of Google models by modality', () => {
    const google = {
      inputTokens: { total: 300, noCache: 250, cacheRead: 50, cacheWrite: undefined },
      outputTokens: { total: 90, text: 30, reasoning: 60 },
      raw: {
        promptTokenCount: 300,
        promptTokensDetails: [
          { modality: 'TEXT', tokenCount: 100 },
          { modality: 'AUDIO', tokenCount: 200 },
        ],
        cacheTokensDetails: [{ modality: 'AUDIO', tokenCount: 50 }],
      },
    }
    expect(readAiSdkUsage(google)).toEqual({
      ...NOTHING_USED,
      inputTokens: 100,
      inputAudioTokens: 200,
      outputTokens: 30,
      reasoningTokens: 60,
    })
    expect(readAiSdkUsage({ ...google, raw: { promptTokensDetails: 'AUDIO' } })).toBeUndefined()
  })

  it('makes do with parts when a provider gives no totals', () => {
    const usage = { inputTokens: { noCache: 5, cacheRead: 6 }, outputTokens: { text: 7, reasoning: 8 } }
    const read = readAiSdkUsage(usage)
    expect(read).toEqual({ ...NOTHING_USED, inputTokens: 5, cacheReadTokens: 6, outputTokens: 7, reasoningTokens: 8 })
  })

  it('refuses parts larger than their totals, and totals that are missing with their parts', () => {
    const output = { total: 10 }
    expect(readAiSdkUsage({ inputTokens: { total: 10, noCache: 8, cacheRead: 3 }, outputTokens: output })).toBeUndefined()
    expect(readAiSdkUsage({ inputTokens: { total: 10, cacheRead: 11 }, outputTokens: output })).toBeUndefined()
    expect(readAiSdkUsage({ inputTokens: { total: 10 }, outputTokens: { total: 10, text: 5, reasoning: 6 } })).toBeUndefined()
    expect(readAiSdkUsage({ inputTokens: { cacheRead: 10 }, outputTokens: output })).toBeUndefined()
    expect(readAiSdkUsage({ inputTokens: { total: 10 }, outputTokens: { reasoning: 10 } })).toBeUndefined()
    expect(readAiSdkUsage({ inputTokens: { total: 10 }, outputTokens: output, raw: { total_tokens: 25 } })).toBeUndefined()
  })
})

describe('for any usage that adds up', () => {
  const some = parts.filter((p) => inputOf(p) + outputOf(p) > 0)

  test('chat and Responses give back exactly the disjoint parts, which sum to the total', () => {
    fc.assert(
      fc.property(some, (p) => {
        for (const usage of [
          readChatUsage(openAiUsage(p, 'prompt_tokens', 'completion_tokens')),
          readResponsesUsage(openAiUsage(p, 'input_tokens', 'output_tokens')),
        ]) {
          expect(usage).toEqual(expected(p))
          expect(totalTokens(usage!)).toBe(inputOf(p) + outputOf(p))
          expect(totalInputTokens(usage!)).toBe(inputOf(p))
        }
      }),
    )
  })

  test('the AI SDK gives back exactly the disjoint parts, which sum to the total', () => {
    fc.assert(
      fc.property(some, (p) => {
        const usage = readAiSdkUsage({
          inputTokens: { total: inputOf(p), noCache: p.text + p.audio, cacheRead: p.cached, cacheWrite: p.write + p.long },
          outputTokens: { total: outputOf(p), text: p.output + p.spoken, reasoning: p.reasoning },
          raw: openAiUsage(p, 'prompt_tokens', 'completion_tokens'),
        })
        expect(usage).toEqual(expected(p))
      }),
    )
  })
})

describe('for any numbers at all', () => {
  const number = fc.oneof(tokens, fc.integer({ min: -5, max: 5 }), fc.constantFrom(undefined, null, 1.5, Number.NaN, '7'))
  const wild = fc.record({
    prompt_tokens: number,
    completion_tokens: number,
    total_tokens: fc.oneof(fc.constant(undefined), number),
    prompt_tokens_details: fc.record({ cached_tokens: number, audio_tokens: number, cache_write_tokens: number }),
    completion_tokens_details: fc.record({ reasoning_tokens: number, audio_tokens: number }),
  })

  test('a reading has no negative or broken bucket, and sums to what the provider said; anything else is refused', () => {
    fc.assert(
      fc.property(wild, (usage) => {
        const read = readChatUsage(usage)
        if (read === undefined) return
        for (const bucket of buckets(read)) expect(Number.isSafeInteger(bucket) && bucket >= 0).toBe(true)
        const sum =
          ((usage.prompt_tokens as number | undefined | null) ?? 0) + ((usage.completion_tokens as number | undefined | null) ?? 0)
        expect(totalTokens(read)).toBe(usage.total_tokens ?? sum)
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('what the AI SDK passes on in raw', () => {
  const usage = (raw: object) => ({
    inputTokens: { total: 10, noCache: 10, cacheRead: 0, cacheWrite: 0 },
    outputTokens: { total: 5, text: 5, reasoning: 0 },
    raw,
  })

  test.each([
    ['xAI, in ticks', { cost_in_usd_ticks: 37_756_000 }, 3_775_600],
    ['OpenRouter, in dollars', { cost: 0.0025, is_byok: false }, 2_500_000],
    ['nobody', {}, undefined],
  ])('is the cost that is stated by %s', (_, raw, nano) => {
    expect(readAiSdkUsage(usage(raw))?.statedNanoUsd).toBe(nano)
  })

  test('is no measurement when the cost is none', () => {
    expect(readAiSdkUsage(usage({ cost_in_usd_ticks: -1 }))).toBeUndefined()
  })
})
