// Files of prices, prices for models that nobody knows, and where the record says that a price came from.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createOpenAI } from '@ai-sdk/openai'
import { generateText, wrapLanguageModel } from 'ai'
import OpenAI from 'openai'
import { afterAll, describe, expect, test } from 'vitest'
import { holdfastMiddleware } from '../../integrations/ai-sdk.ts'
import { guardAgent } from '../../integrations/langchain.ts'
import { wrapOpenAI } from '../../integrations/openai.ts'
import { findRefusal, memoryStore, openKernel, readPrices, type Kernel, type PriceOverride, type Scope } from '../../src/index.ts'
import { editionOf, formatPriceFile, MAX_PRICE_FILE_LENGTH, parsePriceFile } from '../../src/metering/price-file.ts'
import { loadPrices } from '../../src/metering/prices.ts'
import { startProvider, type ProviderAnswer } from '../../src/testing/provider.ts'
import { UnseenModel, answerUsing } from '../integrations/langchain-bench.ts'

const folder = mkdtempSync(join(tmpdir(), 'holdfast-prices-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const CHEAP: PriceOverride = { inputUsdPerMillion: 1, outputUsdPerMillion: 2 }
const DEAR: PriceOverride = { inputUsdPerMillion: 50, outputUsdPerMillion: 200, asOf: '2026-11-20' }

function file(text: string, name = 'prices.json'): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}

describe('a price file', () => {
  test('is read into prices that name it and its version', async () => {
    const text = formatPriceFile({ version: 3, prices: { 'my-model': { ...CHEAP, asOf: '2026-11-20' }, other: CHEAP } })
    const overrides = await readPrices(file(text))
    const prices = await loadPrices({ overrides })
    expect(prices.find('my-model')?.source).toBe('override prices.json@3 2026-11-20')
    expect(prices.find('other')?.source).toBe('override prices.json@3')
  })

  test('has the same text whatever the order of its prices', () => {
    const texts = [
      { a: CHEAP, b: DEAR },
      { b: DEAR, a: CHEAP },
    ].map((prices) => formatPriceFile({ version: 1, prices }))
    expect(texts[0]).toBe(texts[1])
    expect(parsePriceFile(texts[0]!, 'x')).toEqual({ format: 1, version: 1, prices: { a: CHEAP, b: DEAR } })
  })

  test('keeps the edition that a price names itself', () => {
    expect(editionOf({ format: 1, version: 2, prices: { a: { ...CHEAP, version: 'contract 7' } } }, 'f')).toMatchObject({
      a: { version: 'contract 7' },
    })
  })

  test.each<[string, string, string]>([
    ['no JSON', '{"secret": ', 'is not JSON'],
    ['a list', '[]', 'must be an object'],
    ['no format', '{"version":1,"prices":{}}', '`format: 1`'],
    ['a newer format', '{"format":2,"version":1,"prices":{}}', 'has format 2'],
    ['no version', '{"format":1,"prices":{}}', '`version`'],
    ['a version of 0', '{"format":1,"version":0,"prices":{}}', '`version`'],
    ['a version in words', '{"format":1,"version":"one","prices":{}}', '`version`'],
    ['no prices', '{"format":1,"version":1}', '`prices`'],
    ['a field of another name', '{"format":1,"version":1,"prices":{},"price":{}}', '`price`'],
    ['a price of null', '{"format":1,"version":1,"prices":{"m":null}}', "prices['m']"],
    [
      'a price below zero',
      '{"format":1,"version":1,"prices":{"m":{"inputUsdPerMillion":-1,"outputUsdPerMillion":1}}}',
      'inputUsdPerMillion',
    ],
    ['a price of another name', '{"format":1,"version":1,"prices":{"m":{"input":1,"outputUsdPerMillion":1}}}', "prices['m'].input"],
    ['an edition without a name', '{"format":1,"version":1,"prices":{"m":{"usdPerImage":1,"version":""}}}', "prices['m'].version"],
    ['more than it may hold', ' '.repeat(MAX_PRICE_FILE_LENGTH + 1), 'longer than'],
  ])('with %s is refused, naming the file and the field', async (_, text, message) => {
    const path = file(text, 'bad.json')
    const fault = await readPrices(path).catch((error: unknown) => error as Error)
    expect(fault).toBeInstanceOf(Error)
    expect((fault as Error).message).toContain(path)
    expect((fault as Error).message).toContain(message)
    expect((fault as Error).message).not.toContain('secret')
  })

  test('that is not there is an error of the system', async () => {
    await expect(readPrices(join(folder, 'none.json'))).rejects.toMatchObject({ code: 'ENOENT' })
  })
})

describe('a price for models that nobody knows', () => {
  const overrides = { '*': DEAR, 'ollama/*': { ...CHEAP, version: 'ours' }, mine: CHEAP }

  test('is used for them, and says so', async () => {
    const prices = await loadPrices({ overrides })
    expect(prices.find('nobody-knows-me')?.source).toBe('pessimistic 2026-11-20')
    expect(prices.find('nobody-knows-me', 'openai')?.rates.tokens.inputTokens?.pico).toBe(50_000_000n)
  })

  test('of one provider is used for its models', async () => {
    const prices = await loadPrices({ overrides })
    expect(prices.find('llama3.2', 'ollama')?.source).toBe('pessimistic ours')
    expect(prices.find('llama3.2', 'ollama.chat')?.source).toBe('pessimistic ours')
  })

  test('is never used for one that is known, nor for a dearer tier of it', async () => {
    const prices = await loadPrices({ overrides })
    expect(prices.find('gpt-4o', 'openai')?.source).toContain('genai-prices')
    expect(prices.find('mine')?.source).toBe('override')
    expect(prices.find('gpt-5.5@priority', 'openai')).toBeUndefined()
    expect(prices.find('mine@priority')).toBeUndefined()
    expect(prices.find('gpt-5.5@flex', 'openai')?.source).toContain('genai-prices')
    expect(prices.find('nobody-knows-me@priority')?.source).toBe('pessimistic 2026-11-20')
  })

  test('is not there unless it is given', async () => {
    expect((await loadPrices({ overrides: { mine: CHEAP } })).find('nobody-knows-me')).toBeUndefined()
  })

  test('is checked like any other', async () => {
    await expect(loadPrices({ overrides: { '*': { inputUsdPerMillion: 1 } } })).rejects.toThrow("prices['*']")
  })
})

/** A kernel and a provider, and the records of one call. */
async function recordsOf(
  call: (site: { readonly baseURL: string; readonly scope: Scope }) => Promise<unknown>,
  { prices = {}, answer = {} }: { readonly prices?: Readonly<Record<string, PriceOverride>>; readonly answer?: ProviderAnswer } = {},
): Promise<{ readonly intents: readonly object[]; readonly outcomes: readonly object[]; readonly fault: unknown }> {
  const provider = await startProvider({ script: () => answer })
  const kernel: Kernel = await openKernel({ store: memoryStore(), budgets: { acme: { usd: 1 } }, prices, onEvent: () => undefined })
  try {
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
    const fault = await call({ baseURL: provider.baseURL, scope }).then(
      () => undefined,
      (error: unknown) => error,
    )
    const records = kernel.auditLines.map((line) => JSON.parse(line) as Record<string, unknown>)
    const ofKind = (kind: string) => records.filter((record) => record['kind'] === kind)
    return { intents: ofKind('intent'), outcomes: ofKind('outcome'), fault }
  } finally {
    await kernel.close()
    await provider.close()
  }
}

const PATHS: readonly (readonly [string, (model: string) => Parameters<typeof recordsOf>[0]])[] = [
  [
    'the transport guard',
    (model) =>
      ({ baseURL, scope }) =>
        wrapOpenAI(new OpenAI({ apiKey: 'test', baseURL, maxRetries: 0 }), scope).chat.completions.create({
          model,
          messages: [{ role: 'user', content: 'hi' }],
          max_tokens: 20,
        }),
  ],
  [
    'the middleware of the AI SDK',
    (model) =>
      ({ baseURL, scope }) =>
        generateText({
          model: wrapLanguageModel({ model: createOpenAI({ apiKey: 'test', baseURL }).chat(model), middleware: holdfastMiddleware(scope) }),
          prompt: 'hi',
          maxOutputTokens: 20,
          maxRetries: 0,
        }),
  ],
  [
    'the adapter of LangChain',
    (model) =>
      ({ scope }) =>
        guardAgent({ model: new UnseenModel({ model, maxTokens: 20, answer: () => answerUsing(10, 5) }), scope }).invoke({
          messages: [{ role: 'user', content: 'hi' }],
        }),
  ],
]

describe.each(PATHS)('the records of %s', (_, call) => {
  test.each([
    ['gpt-4o-mini', /^genai-prices \d+\.\d+\.\d+ openai\/gpt-4o-mini$/],
    ['mine', /^override prices\.json@3 2026-11-20$/],
    ['nobody-knows-me', /^pessimistic prices\.json@3 2026-11-20$/],
  ])('name the price of %s, with its version, before the call and after it', async (model, source) => {
    const prices = editionOf({ format: 1, version: 3, prices: { mine: { ...CHEAP, asOf: '2026-11-20' }, '*': DEAR } }, 'prices.json')
    const { intents, outcomes, fault } = await recordsOf(call(model), { prices })
    expect(fault).toBeUndefined()
    expect(intents).toMatchObject([{ priceSource: expect.stringMatching(source) as unknown }])
    expect(outcomes).toMatchObject([{ outcome: 'settled', priceSource: expect.stringMatching(source) as unknown }])
  })

  test('are refused without a price, with the line that gives one', async () => {
    const { outcomes, fault } = await recordsOf(call('nobody-knows-me'))
    expect(findRefusal(fault)).toMatchObject({ code: 'ERR_UNKNOWN_PRICE' })
    expect(findRefusal(fault)?.message).toContain("openKernel({ prices: { 'nobody-knows-me': {")
    expect(outcomes).toEqual([])
  })
})

test('a charge at worst is traced to its price by its intent', async () => {
  const { intents, outcomes } = await recordsOf(PATHS[0]![1]('mine'), { prices: { mine: CHEAP }, answer: { usage: 'omit' } })
  expect(outcomes).toMatchObject([{ outcome: 'charged', assumed: true, hold: (intents[0] as { hold: string }).hold }])
  expect(intents).toMatchObject([{ priceSource: 'override' }])
})
