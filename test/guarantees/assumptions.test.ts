// The promise of the ledger stands under assumptions. For each of them, what happens when it does not hold: shown
// with the real kernel and a real bill, so that nobody has to guess how bad it gets. And every test that a page names
// beside a claim is there, and runs.

import { readFileSync, readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { memoryStore, openKernel, type Kernel, type KernelEvent, type Scope, type Store } from '../../src/index.ts'
import { startProvider, type SimulatedProvider } from '../../src/testing/provider.ts'
import { asking, ledgerOf } from '../budget/ledger-bench.ts'
import { SWITCHED_OFF, TEST_ID, faultOf, isRunning } from '../named-tests.ts'

const LIMIT_USD = '0.001'
const LIMIT = 1_000_000
const BODY = { model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'hello' }], max_completion_tokens: 100 }

let provider: SimulatedProvider
let kernel: Kernel
let scope: Scope
let events: KernelEvent[]

async function open(store: Store, prices = {}): Promise<void> {
  events = []
  kernel = await openKernel({ store, budgets: { acme: { usd: LIMIT_USD } }, prices, waitMs: 0, onEvent: (event) => events.push(event) })
  scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
}

const post = (send: typeof fetch): Promise<Response> =>
  send(`${provider.baseURL}/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(BODY),
  })

async function accounted(): Promise<number> {
  const [line] = await kernel.budgets('acme')
  return line!.spent + line!.suspense + line!.out
}

describe('assumptions of the promise', () => {
  beforeEach(async () => {
    provider = await startProvider({ script: () => ({ text: 'word '.repeat(90), usage: { inputTokens: 30, outputTokens: 90 } }) })
    await open(memoryStore())
  })
  afterEach(async () => {
    await kernel.close()
    await provider.close()
  })

  test('with all of them, the bill never exceeds what is accounted for, nor that the limit', async () => {
    const send = guardFetch(scope)
    let status = 200
    while (status === 200) status = (await post(send)).status
    expect(status).toBe(402)
    expect(provider.bill().nanoUsd).toBeGreaterThan(LIMIT / 2)
    expect(provider.bill().nanoUsd).toBe(await accounted())
    expect(await accounted()).toBeLessThanOrEqual(LIMIT)
  })

  test('A1: a store that loses what it acknowledged gives the same money out again', async () => {
    const store = memoryStore()
    const forgetful: Store = {
      ...store,
      apply: async (batches) => ({ outcome: 'applied', results: batches.map(() => ({ outcome: 'ok', version: 1, values: [] })) }),
    }
    await kernel.close()
    await open(store)
    await kernel.close()
    await open(forgetful)
    const send = guardFetch(scope)
    for (let calls = 0; calls < 40; calls++) await post(send)
    expect(provider.bill().nanoUsd).toBeGreaterThan(LIMIT)
    expect(await accounted()).toBe(0)
  })

  test('A2: a price below the real one breaks the limit unseen; a use beyond the bound is recorded and freezes the tree', async () => {
    await kernel.close()
    await open(memoryStore(), { 'gpt-4o-mini': { inputUsdPerMillion: '0.015', outputUsdPerMillion: '0.06' } })
    await post(guardFetch(scope))
    expect(provider.bill().nanoUsd).toBeGreaterThan(await accounted())

    const hold = await scope.begin({ kind: 'model', resource: 'm', worst: { usd: 900_000 } })
    await hold.settle({ usd: 2_000_000 })
    expect(events.map(({ type }) => type)).toContain('overrun')
    expect((await kernel.budgets())[0]!.over).toBeGreaterThan(0)
    await expect(scope.begin({ kind: 'model', resource: 'm', worst: { usd: 1 } })).rejects.toMatchObject({ code: 'ERR_BUDGET_FROZEN' })
  })

  test('A3: a process that was copied spends a hold that was open then twice, by at most that hold', async () => {
    const hold = await scope.begin({ kind: 'model', resource: 'gpt-4o-mini', worst: { usd: 80_000 } })
    await post(fetch)
    await post(fetch)
    const [line] = provider.bill().lines
    await hold.settle({ usd: line!.nanoUsd })
    expect(provider.bill().nanoUsd - (await accounted())).toBe(line!.nanoUsd)
    expect(provider.bill().nanoUsd - (await accounted())).toBeLessThanOrEqual(80_000)
  })

  test('A4: a second take under an id that is in use is ERR_STORE and holds nothing, so two holds never share one', async () => {
    const hold = await scope.begin({ kind: 'model', resource: 'm', worst: { usd: 10 } })
    const copy = ledgerOf(kernel.store, kernel.boot)
    for (const usd of [10, 20]) {
      await expect(copy.take(asking(hold.id, 'acme', { usd }))).rejects.toMatchObject({
        code: 'ERR_STORE',
        message: expect.stringContaining('written by somebody else'),
      })
    }
    expect((await kernel.budgets('acme'))[0]).toMatchObject({ out: 10, free: LIMIT - 10 })
    await hold.settle({ usd: 7 })
    expect((await kernel.budgets('acme'))[0]).toMatchObject({ out: 0, spent: 7, free: LIMIT - 7 })
    // With its hold the id is free again, and whoever takes it then takes money of its own.
    await copy.take(asking(hold.id, 'acme', { usd: 20 }))
    expect((await kernel.budgets('acme'))[0]).toMatchObject({ out: 20, spent: 7, free: LIMIT - 27 })
  })

  test('A5: a hold that is settled before its call is over is not there for what comes after', async () => {
    const hold = await scope.begin({ kind: 'model', resource: 'gpt-4o-mini', worst: { usd: 80_000 } })
    await hold.settle({ usd: 0 })
    await post(fetch)
    expect(provider.bill().nanoUsd).toBeGreaterThan(await accounted())
  })

  test('A6: amounts that are not whole numbers up to 2^53 - 1 are refused before anything is held', async () => {
    for (const usd of [2 ** 53, 0.5, -1, Number.NaN])
      await expect(scope.begin({ kind: 'model', resource: 'm', worst: { usd } })).rejects.toThrow(/usd/)
    expect(await accounted()).toBe(0)
  })

  test('A7: what does not pass the kernel is on the bill and nowhere else', async () => {
    await post(fetch)
    expect(provider.bill().nanoUsd).toBeGreaterThan(0)
    expect(await accounted()).toBe(0)
  })

  test('A8: an operator who says that nothing was used gives back what is on the bill, and the trail says who that was', async () => {
    const hold = await scope.begin({ kind: 'model', resource: 'gpt-4o-mini', worst: { usd: 80_000 } })
    await post(fetch)
    await hold.charge('nobody knows')
    expect(provider.bill().nanoUsd).toBeLessThanOrEqual(await accounted())
    await kernel.correct({ process: kernel.boot, hold: hold.id, used: { usd: 0 }, by: 'eve', reason: 'It looked free.' })
    expect(provider.bill().nanoUsd).toBeGreaterThan(await accounted())
    expect(kernel.auditLines.filter((record) => record.includes('"by":"eve"')).length).toBeGreaterThan(0)
  })
})

const ROOT = resolve(import.meta.dirname, '../..')
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8')
const PAGES = ['README.md', ...readdirSync(join(ROOT, 'docs')).map((name) => `docs/${name}`)]
describe('every test that a page names', () => {
  const named = PAGES.flatMap((page) => [...read(page).matchAll(TEST_ID)].map(([, file = '', name]) => ({ page, file, name })))

  test.each(PAGES)('exists and is not switched off: %s', (page) => {
    const wrong = named.filter((one) => one.page === page).flatMap(({ file, name }) => faultOf(file, name) ?? [])
    expect(wrong).toEqual([])
  })

  test('is looked for: a name that is no test, is left out, or stands in a comment is found', () => {
    const text = `
      test('runs here', () => {})
      test.each([1])('runs %i times', () => {})
      test.runIf(available)(
        'needs a server', () => {})
      test.runIf(flags !== undefined)('runs at times', () => {})
      describe('a group', () => {})
      // test('was here', () => {})
      expect('a text').toBe(1)`
    const found = ['runs here', 'runs %i', 'needs a server', 'runs at times', 'a group', 'was here', 'a text', 'nowhere']
    expect(found.filter((name) => isRunning(text, name))).toEqual(['runs here', 'runs %i', 'needs a server'])
    const off = ['.skip', '.skip.each([1])', '.only', '.skipIf(true)', '.todo'].map((modifier) => `test${modifier}('x'`)
    expect(off.filter((one) => !SWITCHED_OFF.test(one))).toEqual([])
    expect(SWITCHED_OFF.test("test.each([1])('x', { timeout: 1 }")).toBe(false)
  })
})

describe('docs/distributed.md', () => {
  const rows = read('docs/distributed.md')
    .split('\n')
    .filter((line) => /^\| (?!-)/.test(line))
    .map((line) => ({ line, last: line.split(' | ').at(-1)!.replace(/ ?\|$/, '').trim() }))
    .filter(({ last }) => last !== 'test')

  test('has a test in every row, or says that there is none', () => {
    expect(rows.length).toBeGreaterThan(50)
    const bare = rows.filter(
      ({ line, last }) => !/`(?:test|src\/testing)\//.test(last) && !/^No(?:t| test|thing)/.test(last) && !isLater(line),
    )
    expect(bare.map(({ line }) => line)).toEqual([])
  })

  test('names no test in a row that belongs to later work', () => {
    const later = rows.filter(({ line }) => isLater(line))
    expect(later.length).toBeGreaterThan(4)
    expect(later.filter(({ line }) => /`(?:test|src\/testing)\//.test(line)).map(({ line }) => line)).toEqual([])
  })
})

const isLater = (line: string): boolean => /later, not in this version/i.test(line)
