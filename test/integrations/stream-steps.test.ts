// Output that is held in steps, as it comes: only where the promise is bounded, never more than a step ahead, and cut
// where the next step does not fit.

import { describe, expect, onTestFinished, test } from 'vitest'
import { guardFetch, type GuardOptions } from '../../integrations/transport/guard-fetch.ts'
import { openKernel, type Kernel } from '../../src/kernel/open-kernel.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { SUITE_MODEL, until } from '../../src/testing/integration-bench.ts'
import type { Scope } from '../../src/waist/scope.ts'
import { chatBody, replaying } from './bench.ts'
import { DONE, deltaEvent, openTap, usageEvent } from './tap.ts'

const STEP = 100
const CAP = 1_000
const OUTPUT = 600

interface Site {
  readonly kernel: Kernel
  readonly scope: Scope
}

/** A kernel whose budget has so many tokens. */
async function siteOf(tokens: number, promise: 'hard' | 'bounded' = 'bounded'): Promise<Site> {
  const prices = { [SUITE_MODEL]: { inputUsdPerMillion: '0.15', outputUsdPerMillion: '0.6' } }
  const kernel = await openKernel({ store: memoryStore(), budgets: { acme: { tokens, usd: 9, calls: 9 } }, promise, prices, waitMs: 0 })
  onTestFinished(() => kernel.close())
  return { kernel, scope: kernel.scope({ agent: 'writer', task: 'report', budget: 'acme' }) }
}

const recordsOf = ({ auditLines }: Kernel, kind: string): readonly Readonly<Record<string, unknown>>[] =>
  auditLines.map((line) => JSON.parse(line) as Record<string, unknown>).filter((record) => record['kind'] === kind)

const post = (scope: Scope, url: string, options: GuardOptions, more: object = {}): Promise<Response> =>
  guardFetch(scope, { outputStepTokens: STEP, ...options })(`${url}/chat/completions`, {
    method: 'POST',
    body: chatBody({ stream: true, max_tokens: CAP, ...more }),
  })

const streamOf = (...events: readonly string[]): GuardOptions => ({ fetch: replaying(events.map((event) => Buffer.from(event))) })

async function spentOf({ kernel }: Site) {
  await until('all of it has ended', async () => {
    await kernel.flush()
    return (await kernel.budgets()).every(({ out }) => out === 0)
  })
  const lines = await kernel.budgets('acme')
  return Object.fromEntries(lines.map(({ dimension, spent }) => [dimension, spent]))
}

const bytes = Buffer.byteLength(chatBody({ stream: true, max_tokens: CAP }))

describe('output that is held in steps', () => {
  test('begins with its input and one step, and sends the whole cap', async () => {
    const tap = await openTap()
    const { kernel, scope } = await siteOf(10_000)
    const response = await post(scope, tap.baseURL, {})
    const [intent] = recordsOf(kernel, 'intent') as readonly { readonly amounts: { readonly tokens: number; readonly calls: number } }[]
    expect(intent!.amounts).toMatchObject({ calls: 1 })
    expect(intent!.amounts.tokens).toBeLessThan(bytes + 50 + STEP)
    expect(intent!.amounts.tokens).toBeGreaterThanOrEqual(bytes + STEP)
    expect(tap.answers[0]!.body).toMatchObject({ max_tokens: CAP })
    tap.answers[0]!.finish()
    await response.text()
  })

  test('holds the next step when half of the last is left, each text once, and settles across them to the token', async () => {
    const site = await siteOf(10_000)
    const text = 'x'.repeat(60)
    const events = [...Array.from({ length: 5 }, () => deltaEvent(text)), usageEvent(290), DONE]
    const response = await post(site.scope, 'http://127.0.0.1:9/v1', streamOf(...events))
    expect(await response.text()).toBe([...events.slice(0, 5), DONE].join(''))
    // 300 bytes have come: 100 at first, and a step more at 60, 180 and 300.
    expect(recordsOf(site.kernel, 'intent')).toHaveLength(4)
    expect(await spentOf(site)).toEqual({ tokens: 295, usd: 5 * 150 + 290 * OUTPUT, calls: 1 })
    expect(recordsOf(site.kernel, 'outcome').map(({ outcome }) => outcome)).toEqual(['settled', 'settled', 'settled', 'settled'])
  })

  test('never holds more than its cap, however much text comes', async () => {
    const site = await siteOf(100_000)
    const events = [...Array.from({ length: 40 }, () => deltaEvent('ä'.repeat(60))), usageEvent(900), DONE]
    await (await post(site.scope, 'http://127.0.0.1:9/v1', streamOf(...events))).text()
    expect(recordsOf(site.kernel, 'intent')).toHaveLength(CAP / STEP)
    expect(await spentOf(site)).toMatchObject({ tokens: 905 })
  })

  test('counts what tools and reasoning say too, as bytes of what is said', async () => {
    const site = await siteOf(100_000)
    const delta = { tool_calls: [{ index: 0, function: { arguments: '"'.repeat(90) } }], reasoning_content: 'ö'.repeat(45) }
    const event = `data: ${JSON.stringify({ choices: [{ index: 0, delta }] })}\n\n`
    await (await post(site.scope, 'http://127.0.0.1:9/v1', streamOf(event, usageEvent(90), DONE))).text()
    // 180 bytes: the first step and two more.
    expect(recordsOf(site.kernel, 'intent')).toHaveLength(3)
  })

  test('is cut when the next step does not fit: with that refusal, its connection closed, and all steps charged', async () => {
    const tap = await openTap()
    const site = await siteOf(bytes + 250)
    const response = await post(site.scope, tap.baseURL, {})
    for (let count = 0; count < 4; count++) tap.answers[0]!.say('x'.repeat(60))
    await expect(response.text()).rejects.toMatchObject({ code: 'ERR_BUDGET_BUSY', details: { budget: { dimension: 'tokens' } } })
    await until('its socket is closed', () => tap.answers[0]!.isCut)
    const spent = await spentOf(site)
    expect(spent['tokens']).toBeLessThanOrEqual(bytes + 250)
    expect(spent['tokens']).toBeGreaterThan(bytes + STEP)
    expect(new Set(recordsOf(site.kernel, 'outcome').map(({ outcome }) => outcome))).toEqual(new Set(['charged']))
    // Its own first steps might have come back.
    expect(site.scope.refusal?.code).toBe('ERR_BUDGET_BUSY')
  })

  test('goes on growing while it is read for a caller who left', async () => {
    const tap = await openTap()
    const site = await siteOf(10_000)
    const reader = (await post(site.scope, tap.baseURL, {})).body!.getReader()
    tap.answers[0]!.say('x'.repeat(10))
    await reader.read()
    await reader.cancel()
    for (let count = 0; count < 5; count++) tap.answers[0]!.say('x'.repeat(60))
    await until('it has grown', () => recordsOf(site.kernel, 'intent').length === 4)
    tap.answers[0]!.finish(300)
    expect(await spentOf(site)).toMatchObject({ tokens: 305 })
  })

  test('that used more than was held is an overrun of its last step, never clamped', async () => {
    const site = await siteOf(10_000)
    await (await post(site.scope, 'http://127.0.0.1:9/v1', streamOf(deltaEvent('x'), usageEvent(700), DONE))).text()
    expect(await spentOf(site)).toMatchObject({ tokens: 705 })
  })

  test('of a call that is no stream, all is held from the start', async () => {
    const { kernel, scope } = await siteOf(10_000)
    const answer = { id: 'x', choices: [], usage: { prompt_tokens: 5, completion_tokens: 2, total_tokens: 7 } }
    const fetch = replaying([Buffer.from(JSON.stringify(answer))], 'application/json')
    await (await post(scope, 'http://127.0.0.1:9/v1', { fetch }, { stream: false })).text()
    const [intent] = recordsOf(kernel, 'intent') as readonly { readonly amounts: { readonly tokens: number } }[]
    expect(intent!.amounts.tokens).toBeGreaterThanOrEqual(bytes + CAP - 50)
  })

  test('is a TypeError that says why where the promise is hard: at once, or with the first call', async () => {
    const { scope, kernel } = await siteOf(10_000, 'hard')
    expect(() => guardFetch(scope, { outputStepTokens: STEP })).toThrow(/promise: 'bounded'/)
    let sent = 0
    const fetch = async (): Promise<Response> => new Response(String((sent += 1)))
    const guarded = guardFetch(() => scope, { outputStepTokens: STEP, fetch })
    const call = guarded('http://127.0.0.1:9/v1/chat/completions', { method: 'POST', body: chatBody({ stream: true }) })
    await expect(call).rejects.toThrow(TypeError)
    expect(sent).toBe(0)
    expect(recordsOf(kernel, 'intent')).toEqual([])
  })
})

describe('options of streams that cannot be understood', () => {
  test.each([
    [{ onAbort: 'leave' }, /onAbort/],
    [{ maxDrains: -1 }, /maxDrains/],
    [{ maxDrains: 1_001 }, /maxDrains/],
    [{ drainMs: 0.5 }, /drainMs/],
    [{ drainMs: '30' }, /drainMs/],
    [{ outputStepTokens: 63 }, /outputStepTokens/],
  ])('%j is refused before anything is sent', async (options, message) => {
    const { scope } = await siteOf(100)
    expect(() => guardFetch(scope, options as GuardOptions)).toThrow(message)
  })
})
