// The worst case of a request to a Gemini model: what bounds it, and what has no bound and is refused.

import { describe, expect, test } from 'vitest'
import { Refusal } from '../../src/lib/errors.ts'
import type { BoundOptions, RequestBound } from '../../src/metering/worst-case/bound.ts'
import { boundGoogleRequest } from '../../src/metering/worst-case/google.ts'

const MODEL = 'gemini-2.5-flash'
const CONTENTS = [{ role: 'user', parts: [{ text: 'How many ships lie in the harbour?' }] }]

function boundOf(more: object = {}, options: BoundOptions = {}, model = MODEL): RequestBound {
  const body = { contents: CONTENTS, ...more }
  return boundGoogleRequest(model, body, Buffer.byteLength(JSON.stringify(body)), options)
}

function refusalOf(more: object, options: BoundOptions = {}, model = MODEL): string {
  try {
    boundOf(more, options, model)
  } catch (error) {
    if (Refusal.isInstance(error)) return `${error.code} ${error.message}`
    throw error
  }
  return 'it has a bound'
}

const KNOWN = { contextWindow: 1_048_576 }

describe('the bound of a request to Gemini', () => {
  test('is its bytes on the input side, and its own cap', () => {
    const bound = boundOf({ generationConfig: { maxOutputTokens: 200 }, systemInstruction: { parts: [{ text: 'Be short.' }] } })
    expect(bound).toMatchObject({ model: MODEL, outputTokensPerChoice: 200, capSet: true, choices: 1, named: false, hostedTools: [] })
    expect(bound.inputTokens).toBeGreaterThan(100)
  })

  test('is the default cap where it sets none', () => {
    expect(boundOf()).toMatchObject({ outputTokensPerChoice: 8_192, capSet: false })
    expect(boundOf({ generationConfig: null }, { defaultMaxOutputTokens: 500 })).toMatchObject({
      outputTokensPerChoice: 500,
      capSet: false,
    })
  })

  test('is its cap whatever budget the thoughts have, since they end at the cap, too', () => {
    const generationConfig = { maxOutputTokens: 300, thinkingConfig: { thinkingBudget: 24_576, includeThoughts: true } }
    expect(boundOf({ generationConfig })).toMatchObject({ outputTokensPerChoice: 300, choices: 1 })
  })

  test('is that of every candidate', () => {
    expect(boundOf({ generationConfig: { maxOutputTokens: 10, candidateCount: 4 } })).toMatchObject({
      outputTokensPerChoice: 10,
      choices: 4,
    })
  })

  test('finds fields in snake_case, too, as Google does', () => {
    const bound = boundOf({ generation_config: { max_output_tokens: 70, candidate_count: 3 } })
    expect(bound).toMatchObject({ outputTokensPerChoice: 70, capSet: true, choices: 3 })
    expect(boundOf({ cached_content: 'cachedContents/1' }, KNOWN).named).toBe(true)
    expect(boundOf({ contents: [{ parts: [{ file_data: { file_uri: 'x', mime_type: 'audio/mp3' } }] }] }, KNOWN).inputAudio).toBe(true)
  })

  test.each([
    ['a config', { generationConfig: { maxOutputTokens: 1 }, generation_config: { maxOutputTokens: 9_000 } }],
    ['a cap', { generationConfig: { maxOutputTokens: 1, max_output_tokens: 9_000 } }],
  ])('is none for %s in both spellings: nobody says which one counts', (_, more) => {
    expect(() => boundOf(more)).toThrow(TypeError)
  })

  test.each([
    ['an image', { contents: [{ parts: [{ inlineData: { mimeType: 'image/png', data: 'aGk=' } }] }] }],
    ['a file', { contents: [{ parts: [{ fileData: { fileUri: 'https://example.com/a.pdf', mimeType: 'application/pdf' } }] }] }],
    ['a cache', { cachedContent: 'cachedContents/abc' }],
    ['a picture that a function returns', { contents: [{ parts: [{ functionResponse: { name: 'look', response: {}, parts: [{}] } }] }] }],
    ['a part that nobody knows', { contents: [{ parts: [{ hologram: 'x' }] }] }],
    ['a field that nobody knows', { memory: 'sessions/1' }],
    ['a computer to use', { tools: [{ computerUse: { environment: 'ENVIRONMENT_BROWSER' } }] }],
  ])('is the context window for %s, or what the caller says', (_, more) => {
    expect(boundOf(more, KNOWN)).toMatchObject({ named: true, inputTokens: 1_048_576 })
    expect(boundOf(more, { maxInputTokens: 5_000 })).toMatchObject({ named: true, inputTokens: 5_000 })
    expect(refusalOf(more)).toMatch(/ERR_UNMETERED .*Set `maxInputTokens`/)
  })

  test('counts what a client calls and sends back by its bytes', () => {
    const contents = [
      ...CONTENTS,
      { role: 'model', parts: [{ functionCall: { name: 'look', args: { at: 'pier 4' } }, thoughtSignature: 'c2lnbmVk' }] },
      { role: 'user', parts: [{ functionResponse: { name: 'look', response: { output: 'two ships' } } }] },
    ]
    const tools = [{ functionDeclarations: [{ name: 'look', description: 'Looks.' }] }]
    const body = { contents, tools }
    expect(boundOf(body)).toMatchObject({ named: false, inputTokens: Buffer.byteLength(JSON.stringify(body)) })
  })

  test('knows audio on both sides', () => {
    const audio = [{ parts: [{ inlineData: { mimeType: 'audio/wav', data: 'aGk=' } }] }]
    expect(boundOf({ contents: audio }, KNOWN)).toMatchObject({ inputAudio: true, outputAudio: false })
    expect(boundOf({ generationConfig: { responseModalities: ['AUDIO'] } })).toMatchObject({ inputAudio: false, outputAudio: true })
    expect(boundOf({ generationConfig: { speechConfig: {} } }).outputAudio).toBe(true)
  })

  test.each([
    [MODEL, { responseModalities: ['TEXT', 'IMAGE'] }],
    [MODEL, { responseModalities: 'IMAGE' }],
    [MODEL, { responseModalities: ['HOLOGRAM'] }],
    [MODEL, { responseFormat: [{ video: {} }] }],
    ['gemini-2.5-flash-image', {}],
    ['gemini-3-pro-image-preview', { temperature: 0 }],
  ])('is none where %s draws under %j', (model, generationConfig) => {
    expect(refusalOf({ generationConfig }, KNOWN, model)).toMatch(/ERR_UNMETERED .*responseModalities: \['TEXT'\]/)
    expect(refusalOf({ generationConfig: { responseModalities: ['TEXT'] } }, KNOWN, model)).toBe('it has a bound')
  })

  test.each(['googleSearch', 'googleSearchRetrieval', 'google_search', 'urlContext'])(
    'is none for %s without a limit of the caller',
    (tool) => {
      expect(refusalOf({ tools: [{ [tool]: {} }] }, KNOWN)).toMatch(/ERR_UNMETERED .*Set `maxInputTokens`/)
      expect(refusalOf({ tools: [{ [tool]: {} }] }, { maxInputTokens: 50_000 })).toBe('it has a bound')
    },
  )

  test('has one search before Gemini 3, and as many as the caller says from then on', () => {
    const tools = [{ googleSearch: {} }]
    expect(boundOf({ tools }, { maxInputTokens: 9_000 })).toMatchObject({
      hostedTools: ['web_search'],
      maxToolCalls: 1,
      inputTokens: 9_000,
    })
    const three = 'gemini-3-flash-preview'
    expect(boundOf({ tools }, { maxInputTokens: 9_000, maxToolCalls: 5 }, three)).toMatchObject({ maxToolCalls: 5 })
    expect(boundOf({ tools }, { maxInputTokens: 9_000 }, three)).not.toHaveProperty('maxToolCalls')
  })

  test.each(['codeExecution', 'googleMaps', 'fileSearch', 'retrieval', 'mcpServers', 'enterpriseWebSearch', 'tomorrow'])(
    'is none for %s, whatever the caller says',
    (tool) => {
      const allowed = { ...KNOWN, maxInputTokens: 50_000, maxToolCalls: 1 }
      expect(refusalOf({ tools: [{ [tool]: {} }] }, allowed)).toMatch(new RegExp(`ERR_UNMETERED .*\`${tool}\`.*function of your own`))
    },
  )

  test.each(['routingConfig', 'modelSelectionConfig'])('is none where %s lets Google choose the model', (field) => {
    expect(refusalOf({ generationConfig: { [field]: {} } }, KNOWN)).toMatch(/ERR_UNMETERED .*price is not known/)
  })

  test.each([
    [{ generationConfig: { maxOutputTokens: 0 } }],
    [{ generationConfig: { maxOutputTokens: -1 } }],
    [{ generationConfig: { maxOutputTokens: '100' } }],
    [{ generationConfig: { candidateCount: 1_000 } }],
    [{ generationConfig: { candidateCount: 'four' } }],
    [{ generationConfig: 'short' }],
  ])('is none for %j, which Google takes neither', (more) => {
    expect(() => boundOf(more)).toThrow(/^Expected `/)
  })
})
