// Calls of an SDK that has no adapter: here one that speaks the Converse format of Bedrock to a server of the test.

import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { findRefusal, heldCall, type HeldCallOptions } from '../../integrations/model-call.ts'
import { NOTHING_USED } from '../../src/metering/usage/totals.ts'
import { memoryStore, openKernel, type Kernel, type Scope } from '../../src/index.ts'

const MODEL = 'anthropic.claude-test'
const REQUEST = { messages: [{ role: 'user', content: [{ text: 'hello' }] }], inferenceConfig: { maxTokens: 100 } }
const OPTIONS: HeldCallOptions = { model: MODEL, provider: 'aws', request: REQUEST, maxOutputTokens: 100, usage: 'converse' }
/** Nano-USD of the answer: 10 tokens in, 20 out. */
const COST = 10 * 3_000 + 20 * 15_000

interface Site {
  readonly kernel: Kernel
  readonly scope: Scope
  readonly asked: () => number
  /** What a client of AWS would do. */
  readonly converse: () => Promise<unknown>
  readonly spent: () => Promise<number>
}

async function openSite(usd: string, answer: (outgoing: ServerResponse) => void): Promise<Site> {
  let requests = 0
  const server = createServer((incoming, outgoing) => {
    requests += 1
    incoming.resume().on('end', () => answer(outgoing))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const kernel = await openKernel({
    store: memoryStore(),
    budgets: { acme: { usd } },
    prices: { [MODEL]: { inputUsdPerMillion: 3, outputUsdPerMillion: 15, cacheWriteUsdPerMillion: '3.75' } },
    onEvent: () => undefined,
  })
  onTestFinished(async () => {
    await kernel.close()
    server.closeAllConnections()
    server.close()
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/model/${MODEL}/converse`
  return {
    kernel,
    scope: kernel.scope({ agent: 'a', task: 't', budget: 'acme' }),
    asked: () => requests,
    async converse() {
      const response = await fetch(url, { method: 'POST', body: JSON.stringify(REQUEST) })
      if (!response.ok) throw Object.assign(new Error('the service says no'), { statusCode: response.status })
      return response.json()
    },
    async spent() {
      await kernel.flush()
      return (await kernel.budgets('acme'))[0]!.spent
    },
  }
}

const answering =
  (usage: unknown) =>
  (outgoing: ServerResponse): void =>
    void outgoing.end(JSON.stringify({ output: {}, usage }))
const USAGE = { inputTokens: 10, outputTokens: 20, totalTokens: 30 }

describe('a call of an SDK without an adapter', () => {
  test('is held at its worst case, and settled from its answer, with the source of its price', async () => {
    const { scope, kernel, converse, spent } = await openSite('1', answering(USAGE))
    expect(await heldCall(scope, OPTIONS, converse)).toMatchObject({ usage: USAGE })
    expect(await spent()).toBe(COST)
    const records = kernel.auditLines.map((line) => JSON.parse(line) as Record<string, unknown>)
    const intent = records.find(({ kind }) => kind === 'intent') as { amounts: { usd: number }; outputTokens: number }
    expect(intent).toMatchObject({ resource: MODEL, outputTokens: 100 })
    expect(intent.amounts.usd).toBeGreaterThan(100 * 15_000)
    expect(records.find(({ kind }) => kind === 'outcome')).toMatchObject({ outcome: 'settled', priceSource: 'override' })
  })

  test('that does not fit is refused, and nothing is sent', async () => {
    const { scope, asked, converse } = await openSite('0.001', answering(USAGE))
    const error = await heldCall(scope, OPTIONS, converse).catch((thrown: unknown) => thrown)
    expect([findRefusal(error)?.code, asked()]).toEqual(['ERR_BUDGET_EXCEEDED', 0])
  })

  test.each([[undefined], [{ inputTokens: -1, outputTokens: 2, totalTokens: 1 }], [{ ...USAGE, totalTokens: 99 }]])(
    'whose answer says %j is charged at worst',
    async (usage) => {
      const { scope, converse, spent } = await openSite('1', answering(usage))
      await heldCall(scope, OPTIONS, converse)
      expect(await spent()).toBeGreaterThan(100 * 15_000)
    },
  )

  test('takes a reader of its own', async () => {
    const { scope, converse, spent } = await openSite('1', answering({ in: 10, out: 20 }))
    const usage: HeldCallOptions['usage'] = () => ({ ...NOTHING_USED, inputTokens: 10, outputTokens: 20 })
    await heldCall(scope, { ...OPTIONS, usage }, converse)
    expect(await spent()).toBe(COST)
  })

  test.each([
    [400, 0],
    [503, 1],
  ])('that fails with %i costs %i times its worst case, and its error is the SDK’s own', async (status, times) => {
    const { scope, converse, spent } = await openSite('1', (outgoing) => void outgoing.writeHead(status).end())
    await expect(heldCall(scope, OPTIONS, converse)).rejects.toMatchObject({ statusCode: status })
    expect((await spent()) > 0).toBe(times === 1)
  })

  test('of a caller who has left is not made', async () => {
    const { scope, asked, converse, spent } = await openSite('1', answering(USAGE))
    await expect(heldCall(scope, { ...OPTIONS, signal: AbortSignal.abort(new Error('left')) }, converse)).rejects.toThrow('left')
    expect([asked(), await spent()]).toEqual([0, 0])
  })

  test.each([-1, 0, 1.5, Number.NaN])('with an output cap of %d is refused as unmetered, and nothing is sent', async (maxOutputTokens) => {
    const { scope, asked, converse } = await openSite('1', answering(USAGE))
    const error = await heldCall(scope, { ...OPTIONS, maxOutputTokens }, converse).catch((thrown: unknown) => thrown)
    expect([findRefusal(error)?.code, asked()]).toEqual(['ERR_UNMETERED', 0])
  })

  test('that names what is not in its request is held for the most input that its caller states', async () => {
    const { scope, kernel, converse } = await openSite('10', answering(USAGE))
    await heldCall(scope, { ...OPTIONS, maxInputTokens: 100_000 }, converse)
    const intent = kernel.auditLines.map((line) => JSON.parse(line) as Record<string, unknown>).find(({ kind }) => kind === 'intent')
    expect((intent!['amounts'] as { usd: number }).usd).toBeGreaterThanOrEqual(100_000 * 3_000)
  })
})
