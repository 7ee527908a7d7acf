// A provider that says to slow down: the account that pays is paused for everybody who counts on it.

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import { memoryStore, openKernel } from '../../src/index.ts'
import { SUITE_MODEL, until } from '../../src/testing/integration-bench.ts'

/** A server that answers like this, and a kernel with an account that its calls count on. */
async function site(status: number, headers: Readonly<Record<string, string>>) {
  const server = createServer((request, response) => {
    request.resume().on('end', () => response.writeHead(status, { 'content-type': 'application/json', ...headers }).end('{"error":{}}'))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const store = memoryStore()
  const budgets = { acme: { usd: 10 }, account: { windows: [{ per: 'minute', tokens: 1_000_000, calls: 500 }] } } as const
  const kernel = await openKernel({ store, budgets, waitMs: 0 })
  onTestFinished(async () => {
    await kernel.close()
    server.close()
  })
  const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme', also: ['account'] })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/chat/completions`
  const body = JSON.stringify({ model: SUITE_MODEL, messages: [{ role: 'user', content: 'hello' }], max_tokens: 20 })
  const post = (options: Parameters<typeof guardFetch>[1]) => guardFetch(scope, options)(url, { method: 'POST', body })
  const pausedUntil = async (): Promise<number | undefined> =>
    ((await store.read(['budget/account']))[0]!.value as { pausedUntilMs?: number }).pausedUntilMs
  const paused = (): readonly string[] => kernel.auditLines.filter((line) => line.includes('"type":"paused"'))
  return { kernel, store, post, pausedUntil, paused }
}

describe('an answer that says to slow down', () => {
  test.each<[number, Record<string, string>, number]>([
    [429, { 'retry-after': '7' }, 7_000],
    [429, { 'retry-after-ms': '1500', 'retry-after': '9' }, 1_500],
    [503, { 'retry-after': '2' }, 2_000],
    [429, { 'retry-after': new Date(Date.now() + 600_000).toUTCString() }, 590_000],
  ])('%i with %j pauses the account', async (status, headers, leastMs) => {
    const { store, post, pausedUntil, paused } = await site(status, headers)
    const before = await store.now()
    expect((await post({ account: 'account' })).status).toBe(status)
    let untilMs: number | undefined
    await until('it is paused', async () => (untilMs = await pausedUntil()) !== undefined)
    expect(untilMs!).toBeGreaterThanOrEqual(before + leastMs)
    expect(paused()).toEqual([expect.stringContaining('"budget":"account"')])
    const refused = await post({ account: 'account' })
    expect(refused.status).toBe(402)
    expect(findRefusal({ responseBody: await refused.text() })).toMatchObject({ code: 'ERR_BUDGET_BUSY', details: { retryAtMs: untilMs } })
  })

  test.each<[string, number, Record<string, string>, object]>([
    ['of another status', 500, { 'retry-after': '7' }, { account: 'account' }],
    ['that does not say for how long', 429, {}, { account: 'account' }],
    ['with a time that is none', 429, { 'retry-after': 'soon' }, { account: 'account' }],
    ['with a time that is over', 429, { 'retry-after': '-5' }, { account: 'account' }],
    ['where no account is named', 429, { 'retry-after': '7' }, {}],
  ])('%s pauses nothing', async (_, status, headers, options) => {
    const { post, paused, pausedUntil } = await site(status, headers)
    await post(options)
    expect((await post(options)).status).toBe(status)
    expect(paused()).toEqual([])
    expect(await pausedUntil()).toBe(undefined)
  })
})
