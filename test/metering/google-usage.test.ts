// Usage of Gemini models: bodies as Google documents them, in buckets whose sum is Google's own total.

import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { addGoogleSearches, countGoogleSearches, readGoogleUsage } from '../../src/metering/usage/google.ts'
import { NOTHING_USED, totalTokens } from '../../src/metering/usage/totals.ts'

describe('the usage of a Gemini answer', () => {
  // https://ai.google.dev/api/tokens (2026-11-22), the comments of the first example.
  test('of a short prompt is input and output', () => {
    const usage = readGoogleUsage({ promptTokenCount: 11, candidatesTokenCount: 73, totalTokenCount: 84 })
    expect(usage).toEqual({ ...NOTHING_USED, inputTokens: 11, outputTokens: 73 })
  })

  // https://github.com/googleapis/python-genai/issues/782 (2026-11-22): a thinking model that met its cap has no candidates.
  test('of an answer that only thought is all reasoning', () => {
    const usage = readGoogleUsage({
      promptTokenCount: 3_470,
      totalTokenCount: 5_469,
      promptTokensDetails: [{ modality: 'TEXT', tokenCount: 3_470 }],
      thoughtsTokenCount: 1_999,
    })
    expect(usage).toEqual({ ...NOTHING_USED, inputTokens: 3_470, reasoningTokens: 1_999 })
  })

  // https://googleapis.github.io/js-genai/release_docs/classes/types.GenerateContentResponseUsageMetadata.html (2026-11-22)
  test('has cached tokens inside of the prompt, and thoughts beside the candidates', () => {
    const usage = readGoogleUsage({
      promptTokenCount: 4_096,
      cachedContentTokenCount: 3_000,
      cacheTokensDetails: [{ modality: 'TEXT', tokenCount: 3_000 }],
      candidatesTokenCount: 40,
      thoughtsTokenCount: 60,
      totalTokenCount: 4_196,
      trafficType: 'ON_DEMAND',
    })
    expect(usage).toEqual({ ...NOTHING_USED, inputTokens: 1_096, cacheReadTokens: 3_000, outputTokens: 40, reasoningTokens: 60 })
  })

  test('has what tools brought on the input side, beside the prompt', () => {
    const usage = readGoogleUsage({
      promptTokenCount: 20,
      toolUsePromptTokenCount: 5_000,
      candidatesTokenCount: 30,
      totalTokenCount: 5_050,
    })
    expect(usage).toEqual({ ...NOTHING_USED, inputTokens: 5_020, outputTokens: 30 })
  })

  test('counts audio as audio, and images and videos as the text that they cost', () => {
    const usage = readGoogleUsage({
      promptTokenCount: 1_000,
      promptTokensDetails: [
        { modality: 'TEXT', tokenCount: 10 },
        { modality: 'AUDIO', tokenCount: 390 },
        { modality: 'VIDEO', tokenCount: 342 },
        { modality: 'IMAGE', tokenCount: 258 },
      ],
      cachedContentTokenCount: 500,
      cacheTokensDetails: [
        { modality: 'AUDIO', tokenCount: 200 },
        { modality: 'VIDEO', tokenCount: 300 },
      ],
      candidatesTokenCount: 100,
      candidatesTokensDetails: [{ modality: 'AUDIO', tokenCount: 80 }],
      totalTokenCount: 1_100,
    })
    expect(usage).toEqual({
      ...NOTHING_USED,
      inputTokens: 310,
      cacheReadTokens: 300,
      inputAudioTokens: 390,
      outputTokens: 20,
      outputAudioTokens: 80,
      outputImageTokens: 0,
    })
  })

  test('tells images out from text where the answer does', () => {
    const report = { promptTokenCount: 10, candidatesTokenCount: 1_300, thoughtsTokenCount: 30, totalTokenCount: 1_340 }
    const candidatesTokensDetails = [
      { modality: 'IMAGE', tokenCount: 1_290 },
      { modality: 'TEXT', tokenCount: 10 },
    ]
    const told = readGoogleUsage({ ...report, candidatesTokensDetails })
    expect(told).toEqual({ ...NOTHING_USED, inputTokens: 10, outputTokens: 10, reasoningTokens: 30, outputImageTokens: 1_290 })
    expect(readGoogleUsage(report)).toEqual({ ...NOTHING_USED, inputTokens: 10, outputTokens: 1_300, reasoningTokens: 30 })
  })

  test.each([
    ['nothing', undefined],
    ['a list', []],
    ['no total', { promptTokenCount: 1, candidatesTokenCount: 1 }],
    ['only a total', { totalTokenCount: 12 }],
    ['zeros', { promptTokenCount: 0, candidatesTokenCount: 0, totalTokenCount: 0 }],
    ['a total that is more than its parts', { promptTokenCount: 5, candidatesTokenCount: 5, totalTokenCount: 11 }],
    ['thoughts that are counted twice', { promptTokenCount: 5, candidatesTokenCount: 9, thoughtsTokenCount: 4, totalTokenCount: 22 }],
    ['a negative count', { promptTokenCount: -5, candidatesTokenCount: 15, totalTokenCount: 10 }],
    ['half a token', { promptTokenCount: 5.5, candidatesTokenCount: 5.5, totalTokenCount: 11 }],
    ['a count as text', { promptTokenCount: '5', candidatesTokenCount: 5, totalTokenCount: 10 }],
    ['more cached than asked', { promptTokenCount: 5, cachedContentTokenCount: 6, candidatesTokenCount: 5, totalTokenCount: 10 }],
    ['more audio than input', { promptTokenCount: 5, promptTokensDetails: [{ modality: 'AUDIO', tokenCount: 6 }], totalTokenCount: 5 }],
    ['details that are no list', { promptTokenCount: 5, promptTokensDetails: { AUDIO: 5 }, totalTokenCount: 5 }],
    ['details that are no objects', { promptTokenCount: 5, promptTokensDetails: ['AUDIO'], totalTokenCount: 5 }],
  ])('that is %s is none', (_, usage) => {
    expect(readGoogleUsage(usage)).toBeUndefined()
  })

  test('is, whatever is reported, either none or exactly the total', () => {
    const tokens = fc.oneof(fc.nat(50), fc.constant(undefined), fc.constant(null))
    const details = fc.array(fc.record({ modality: fc.constantFrom('TEXT', 'AUDIO', 'IMAGE'), tokenCount: tokens }), { maxLength: 3 })
    const report = fc.record(
      {
        promptTokenCount: tokens,
        cachedContentTokenCount: tokens,
        candidatesTokenCount: tokens,
        thoughtsTokenCount: tokens,
        toolUsePromptTokenCount: tokens,
        totalTokenCount: fc.nat(150),
        promptTokensDetails: details,
        cacheTokensDetails: details,
        candidatesTokensDetails: details,
      },
      { requiredKeys: [] },
    )
    const honest = report.map((one) => ({
      ...one,
      totalTokenCount:
        (one.promptTokenCount ?? 0) + (one.candidatesTokenCount ?? 0) + (one.thoughtsTokenCount ?? 0) + (one.toolUsePromptTokenCount ?? 0),
    }))
    fc.assert(
      fc.property(fc.oneof(report, honest), (one) => {
        const usage = readGoogleUsage(one)
        expect([undefined, one.totalTokenCount]).toContain(usage && totalTokens(usage))
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('searches of a Gemini answer', () => {
  const searched = (...webSearchQueries: unknown[]) => [{ groundingMetadata: { webSearchQueries } }]
  const queriesOf = (...candidates: unknown[]): Set<string> => {
    const queries = new Set<string>()
    for (const one of candidates) addGoogleSearches(queries, one)
    return queries
  }

  test('are counted by query from Gemini 3 on, each once, and empty ones not', () => {
    const queries = queriesOf(searched('ships', 'tides', ''), searched('ships'))
    expect(countGoogleSearches(queries, 'gemini-3-flash-preview')).toEqual({ web_search: 2 })
  })

  test('are one for the prompt before Gemini 3', () => {
    expect(countGoogleSearches(queriesOf(searched('ships', 'tides')), 'gemini-2.5-flash')).toEqual({ web_search: 1 })
  })

  test('are counted by query for a model that nobody knows', () => {
    expect(countGoogleSearches(queriesOf(searched('ships', 'tides')), undefined)).toEqual({ web_search: 2 })
  })

  test.each([['none'], [searched()], [[{ groundingMetadata: null }]], [[null]], [undefined]])('are none in %j', (candidates) => {
    expect(countGoogleSearches(queriesOf(candidates), 'gemini-3-flash-preview')).toEqual({})
  })
})
