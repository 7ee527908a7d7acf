// `holdfast prices`, run as a program in a folder of its own, and what a kernel makes of the file that it writes.

import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import type { PriceListJson } from '../../src/cli/prices-list.ts'
import type { PriceJson } from '../../src/cli/prices-show.ts'
import type { PricesCheckJson } from '../../src/cli/prices-check.ts'
import type { PricesSetJson } from '../../src/cli/prices-set.ts'
import { perMillion, rateWords, unitWords, usdOf } from '../../src/cli/price-words.ts'
import { readPrices } from '../../src/index.ts'
import { listedModels } from '../../src/metering/listed-models.ts'
import { loadPrices } from '../../src/metering/prices.ts'
import { cli, newData, removeData, type Run } from './cli-bench.ts'

afterAll(removeData)

const FILE = 'holdfast.prices.json'

/** An empty folder, and the command line in it. */
function place(): {
  readonly folder: string
  readonly prices: (...args: readonly string[]) => Promise<Run>
  readonly json: <T>(...args: readonly string[]) => Promise<T>
} {
  const folder = dirname(newData())
  const prices = (...args: readonly string[]): Promise<Run> => cli(['prices', ...args], { cwd: folder })
  return { folder, prices, json: async <T>(...args: readonly string[]) => JSON.parse((await prices(...args, '--json')).stdout) as T }
}

describe('list', () => {
  test('shows the models of the list that have a price, by a part of their name', async () => {
    const { prices } = place()
    const { code, stdout, stderr } = await prices('list', 'OpenAI/gpt-image-1')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^MODEL +IN +OUT +OTHER +SOURCE$/m)
    expect(stdout).toMatch(/^openai\/gpt-image-1 +\$10\.00 +\$40\.00 +genai-prices 0\.1\.8 openai\/gpt-image-1$/m)
    expect(await prices('list', 'no-such-thing')).toEqual({ code: 0, stdout: 'No such model.\n', stderr: '' })
  })

  test('as JSON has exact dollars, null where nothing is billed by tokens, and prices of your own first', async () => {
    const { prices, json } = place()
    await prices('set', 'my-whisper', '--per-audio-minute', '0.003', '--as-of', '2026-11-20')
    const { models } = await json<PriceListJson>('list', 'whisper')
    expect(models[0]).toEqual({
      model: 'my-whisper',
      inputUsdPerMillion: null,
      outputUsdPerMillion: null,
      other: ['$0.003 per minute of audio'],
      source: `override ${FILE}@1 2026-11-20`,
    })
    expect(models).toContainEqual(expect.objectContaining({ model: 'groq/whisper-large-v3', other: ['$0.111 per hour of audio'] }))
    expect(models.every(({ model }) => model.includes('whisper'))).toBe(true)
  })

  test('names every model of the list in a way that show and check find again', async () => {
    const { json } = place()
    const { models } = await json<PriceListJson>('list')
    const all = await listedModels()
    expect(models.length).toBeGreaterThan(1_000)
    expect(models.length).toBeLessThanOrEqual(all.length)
    const { models: checked } = await json<PricesCheckJson>('check', ...models.slice(0, 200).map(({ model }) => model))
    expect(checked.filter(({ fix }) => fix !== undefined)).toEqual([])
  })
})

describe('show', () => {
  test('has every bucket with its tiers, the fees, the context window, the source and an example', async () => {
    const { prices } = place()
    const { code, stdout } = await prices('show', 'gpt-5.5')
    expect(code).toBe(0)
    expect(stdout).toMatch(/^input +\$5\.00, above 271,999: \$10\.00 per million tokens$/m)
    expect(stdout).toMatch(/^read from the cache +\$0\.50, above 271,999: \$1\.00 per million tokens$/m)
    expect(stdout).toMatch(/^tool web_search +\$10\.00 per thousand calls$/m)
    expect(stdout).toMatch(/^context window +1,000,000 tokens$/m)
    expect(stdout).toMatch(/^source +genai-prices 0\.1\.8 openai\/gpt-5\.5$/m)
    expect(stdout).toMatch(/^1,000 in and 1,000 out +\$0\.035$/m)
    expect(stdout).not.toMatch(/images/)
  })

  test('as JSON says what 1,000 tokens in and out cost in nano-USD, and tells images from text where they differ', async () => {
    const { json } = place()
    expect(await json<PriceJson>('show', 'gpt-image-1.5', '--provider', 'azure.images')).toMatchObject({
      model: 'gpt-image-1.5',
      provider: 'azure.images',
      tokens: { inputTokens: { usdPerMillion: '8.00', tiers: [] }, inputTextTokens: { usdPerMillion: '5.00' } },
      units: {},
      usdPerRequest: '0.00',
      exampleNanoUsd: 40_000_000,
    })
    expect(await json<PriceJson>('show', 'openai/whisper-1')).toMatchObject({
      units: { audioMs: { usd: '0.36', per: 3_600_000 } },
      exampleNanoUsd: null,
    })
    expect((await json<PriceJson>('show', 'gpt-5.5')).tokens?.inputTokens).toEqual({
      usdPerMillion: '5.00',
      tiers: [{ above: 271_999, usdPerMillion: '10.00' }],
    })
  })

  test('says when a price is about to change', async () => {
    const { prices, json } = place()
    expect((await prices('show', 'deepseek/deepseek-v4-pro')).stdout).toMatch(/^changes +within the next 24 hours/m)
    expect((await json<PriceJson>('show', 'gpt-4o')).changes).toBe(false)
  })

  test('of a model without a price ends with 1 and the line that gives one', async () => {
    const { prices } = place()
    const { code, stdout, stderr } = await prices('show', 'nope')
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toContain("openKernel({ prices: { 'nope': {")
    const asJson = await prices('show', 'nope', '--json')
    expect(JSON.parse(asJson.stdout)).toEqual({ model: 'nope' })
    expect(JSON.parse(asJson.stderr)).toMatchObject({ error: { code: 'ERR_UNKNOWN_PRICE' } })
  })
})

describe('check', () => {
  test('ends with 0 when every model has a price, and with 1 and a line for each that has none', async () => {
    const { prices, json } = place()
    expect(await prices('check', 'gpt-4o', 'anthropic/claude-opus-4-8')).toMatchObject({ code: 0, stderr: '' })
    const { code, stdout, stderr } = await prices('check', 'gpt-4o', 'nope', 'nope')
    expect({ code, stderr }).toEqual({ code: 1, stderr: 'holdfast: 1 of 2 models has no price.\n' })
    expect(stdout).toMatch(/^nope +no price\. Add it: openKernel\(\{ prices: \{ 'nope': /m)
    expect(await json<PricesCheckJson>('check', 'gpt-4o')).toEqual({
      models: [{ model: 'gpt-4o', source: 'genai-prices 0.1.8 openai/gpt-4o' }],
    })
  })

  test('reads names from a file, without comments', async () => {
    const { folder, prices, json } = place()
    writeFileSync(join(folder, 'models.txt'), '# ours\ngpt-4o\n\n  nope # not yet\n')
    const { models } = await json<PricesCheckJson>('check', '--from', 'models.txt')
    expect(models.map(({ model }) => model)).toEqual(['gpt-4o', 'nope'])
    expect(await prices('check', '--from', 'none.txt')).toMatchObject({ code: 1 })
  })

  test('of an unknown model passes once it, or everything unknown, has a price of its own', async () => {
    const { prices, json } = place()
    await prices('set', 'nope', '--input', '1', '--output', '2')
    expect((await prices('check', 'nope')).code).toBe(0)
    expect((await prices('check', 'nobody')).code).toBe(1)
    await prices('set', '*', '--input', '50', '--output', '200')
    const { models } = await json<PricesCheckJson>('check', 'nobody', 'openai/gpt-4o')
    expect(models.map(({ source }) => source?.split(' ')[0])).toEqual(['pessimistic', 'genai-prices'])
  })

  test('without a name checks the price file, and names what is wrong with it', async () => {
    const { folder, prices } = place()
    expect((await prices('check')).stderr).toContain('ENOENT')
    await prices('set', 'mine', '--input', '1', '--output', '2')
    expect(await prices('check')).toEqual({ code: 0, stdout: `${FILE}: version 1, 1 price, all sound.\n`, stderr: '' })
    writeFileSync(join(folder, FILE), '{"format":1,"version":1,"prices":{"mine":{"inputUsdPerMillion":-1,"outputUsdPerMillion":1}}}')
    const { code, stderr } = await prices('check', '--json')
    expect(code).toBe(1)
    expect(JSON.parse(stderr)).toMatchObject({
      error: {
        code: 'ERR_PRICE_FILE',
        message: expect.stringMatching(/holdfast\.prices\.json.*prices\['mine'\]\.inputUsdPerMillion/) as unknown,
      },
    })
  })
})

describe('set', () => {
  test('writes a file that a kernel reads, and raises its version with every change', async () => {
    const { folder, prices, json } = place()
    expect(await prices('set', 'mine', '--input', '$1.25', '--output', '10', '--cache-read', '0.125', '--as-of', '2026-11-20')).toEqual({
      code: 0,
      stdout: `mine: $1.25 in, $10.00 out per million tokens\n${FILE} is at version 1.\n`,
      stderr: '',
    })
    const second = await json<PricesSetJson>(
      'set',
      'dall-e-3',
      '--per-image',
      '0.12',
      '--fee',
      'web_search=10',
      '--context-window',
      '9',
      '--max-output',
      '4',
    )
    expect(second).toMatchObject({
      version: 2,
      price: { usdPerImage: '0.12', toolUsdPerThousand: { web_search: '10' }, contextWindow: 9, maxOutputTokens: 4 },
    })
    const overrides = await readPrices(join(folder, FILE))
    const mine = (await loadPrices({ overrides })).find('mine')
    expect(mine?.source).toBe(`override ${FILE}@2 2026-11-20`)
    expect(mine?.rates.tokens.cacheReadTokens?.pico).toBe(125_000n)
    expect(readdirSync(folder)).toEqual([FILE])
  })

  test('replaces the price of a model as a whole, and no other', async () => {
    const { folder, prices } = place()
    await prices('set', 'a', '--input', '1', '--output', '2', '--cache-read', '0.5')
    await prices('set', 'b', '--input', '3', '--output', '4')
    await prices('set', 'a', '--input', '5', '--output', '6')
    const { a, b } = await readPrices(join(folder, FILE))
    expect(a).toMatchObject({ inputUsdPerMillion: '5', outputUsdPerMillion: '6' })
    expect(a).not.toHaveProperty('cacheReadUsdPerMillion')
    expect(b).toMatchObject({ inputUsdPerMillion: '3' })
  })

  test.each([
    [['mine'], 'inputUsdPerMillion'],
    [['mine', '--input', '1'], 'outputUsdPerMillion'],
    [['mine', '--input', '1', '--output', 'two'], 'outputUsdPerMillion'],
    [['mine', '--input', '1', '--output', '-2'], 'outputUsdPerMillion'],
    [['mine', '--input', '1', '--output', '2', '--as-of', 'today'], 'asOf'],
    [['mine', '--input', '1', '--output', '2', '--fee', 'web_search'], 'no fee'],
    [['mine', '--input', '1', '--output', '2', '--fee', 'a=1', '--fee', 'a=2'], 'given twice'],
    [['mine', '--input', '1', '--output', '2', '--context-window', '1.5'], 'no whole number'],
    [['', '--input', '1', '--output', '2'], 'name of a model'],
    [[], "missing required argument 'model'"],
  ])('with %j is a wrong command line, and writes nothing', async (args, message) => {
    const { folder, prices } = place()
    const { code, stderr } = await prices('set', ...args)
    expect({ code, files: readdirSync(folder) }).toEqual({ code: 2, files: [] })
    expect(stderr).toContain(message)
  })

  test('leaves a file alone that it does not understand', async () => {
    const { folder, prices } = place()
    writeFileSync(join(folder, FILE), '{"format":2,"version":1,"prices":{}}')
    const { code, stderr } = await prices('set', 'mine', '--input', '1', '--output', '2')
    expect(code).toBe(1)
    expect(stderr).toContain('has format 2')
    expect(readFileSync(join(folder, FILE), 'utf8')).toContain('"format":2')
    expect(readdirSync(folder)).toEqual([FILE])
  })

  test('loses no price to another change at the same time', async () => {
    const { folder, prices } = place()
    const names = ['a', 'b', 'c', 'd', 'e']
    const runs = await Promise.all(names.map((name) => prices('set', name, '--input', '1', '--output', '2')))
    const done = names.filter((_, index) => runs[index]!.code === 0)
    expect(done.length).toBeGreaterThan(0)
    expect(Object.keys(await readPrices(join(folder, FILE))).sort()).toEqual(done)
    for (const { code, stderr } of runs.filter((run) => run.code !== 0))
      expect([code, stderr]).toEqual([1, expect.stringContaining('another change is under way')])
  })

  test('waits for nobody: while another change is under way it is refused, and says what to do after a crash', async () => {
    const { folder, prices } = place()
    writeFileSync(join(folder, `${FILE}.new`), 'half')
    const { code, stderr } = await prices('set', 'mine', '--input', '1', '--output', '2', '--json')
    expect([code, readFileSync(join(folder, `${FILE}.new`), 'utf8'), existsSync(join(folder, FILE))]).toEqual([1, 'half', false])
    expect(JSON.parse(stderr)).toMatchObject({
      error: { code: 'ERR_PRICE_FILE', message: expect.stringContaining('If none is, remove it.') as unknown },
    })
  })

  test('keeps the rights of the file, and a link to it', async () => {
    const { folder, prices } = place()
    mkdirSync(join(folder, 'shared'))
    const real = join(folder, 'shared', 'prices.json')
    symlinkSync(real, join(folder, FILE))
    writeFileSync(real, '{"format":1,"version":7,"prices":{}}')
    chmodSync(real, 0o600)
    expect((await prices('set', 'mine', '--input', '1', '--output', '2')).stdout).toContain('version 8')
    expect([statSync(real).mode & 0o777, readdirSync(join(folder, 'shared'))]).toEqual([0o600, ['prices.json']])
    expect(Object.keys(await readPrices(join(folder, FILE)))).toEqual(['mine'])
  })

  test('of another file is used by who names that file, and by nobody else', async () => {
    const { folder, prices } = place()
    await prices('set', 'mine', '--input', '1', '--output', '2', '--file', 'other.json')
    expect(existsSync(join(folder, FILE))).toBe(false)
    expect((await prices('check', 'mine')).code).toBe(1)
    expect((await prices('check', 'mine', '--file', 'other.json')).code).toBe(0)
    expect((await prices('list', '--file', 'none.json')).stderr).toContain('ENOENT')
  })
})

describe('prices in words', () => {
  test('are exact, with two decimals or more', () => {
    expect([usdOf(0n), usdOf(1n), usdOf(360_000_000_000n), usdOf(12_340_000_000_000n)]).toEqual(['0.00', '0.000000000001', '0.36', '12.34'])
    expect([perMillion(20_000n), perMillion(1n), perMillion(10_000_000n)]).toEqual(['0.02', '0.000001', '10.00'])
    expect(rateWords({ pico: 1_000_000n, tiers: [{ above: 200_000, pico: 2_000_000n }] })).toBe('$1.00, above 200,000: $2.00')
    expect(unitWords('audioMs', { pico: 7n, per: 5 })).toBe('$0.000000000007 per 5 audioMs')
  })
})
