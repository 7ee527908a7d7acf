// Requests that look free to a guard and are not: paths and methods that a server reads in another way.

import { describe, expect, test } from 'vitest'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { wireOf } from '../../integrations/wires/table.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import { PRICE, attempt, openSite } from './wire-site.ts'

describe('a path that a server may read in another way', () => {
  test.each([
    ['dots before an encoded slash', '/v1/conversations/..%2Fresponses'],
    ['in lower case', '/v1/conversations/..%2fresponses'],
    ['a backslash', '/v1/conversations/..%5Cresponses'],
    ['encoded twice', '/v1/conversations/..%252Fresponses'],
    ['a question mark before a free ending', '/v1beta/models/m-1:generateContent%3Fa:countTokens'],
    ['a parameter', '/v1beta/models/m-1:generateContent;a:countTokens'],
  ])('is not free: %s', async (_, path) => {
    const site = await openSite({ 'm-1': PRICE })
    const { reached, refusal } = await attempt(site, `http://127.0.0.1${path}`, { model: 'm-1', input: 'hello' })
    expect([refusal?.code, reached]).toEqual(['ERR_UNMETERED', []])
  })

  test('what can be metered is metered all the same', () => {
    expect(wireOf('POST', '/v1beta/models/a%2Fb:generateContent')).toHaveProperty('bound')
    expect(wireOf('POST', '/v1/conversations/conv_1')).toBe('free')
  })
})

describe('a method that a header replaces', () => {
  test.each(['x-http-method-override', 'X-HTTP-Method', 'x-method-override'])('by %s is refused', async (header) => {
    const { refusal, reached } = await send('DELETE', { [header]: 'POST' })
    expect([refusal, reached]).toEqual(['ERR_UNMETERED', 0])
  })

  test('by itself passes', async () => {
    expect(await send('DELETE', { 'x-http-method-override': 'delete' })).toEqual({ refusal: undefined, reached: 1 })
  })

  async function send(method: string, headers: Record<string, string>) {
    const site = await openSite({ 'm-1': PRICE })
    let reached = 0
    const fetch: typeof globalThis.fetch = async () => {
      reached += 1
      return Response.json({})
    }
    const init = { method, headers, body: JSON.stringify({ model: 'm-1', messages: [] }) }
    const response = await guardFetch(site.scope, { fetch })('http://127.0.0.1/v1/chat/completions', init)
    return { refusal: findRefusal({ responseBody: await response.text() })?.code, reached }
  }
})

describe('what is free at OpenAI and spends at Mistral', () => {
  test.each(['conversations', 'conversations/conv_1', 'moderations'])('%s', async (path) => {
    const site = await openSite({})
    const at = (host: string) => attempt(site, `https://${host}/v1/${path}`, { inputs: 'hello' })
    expect((await at('api.mistral.ai')).refusal?.code).toBe('ERR_UNMETERED')
    expect((await at('api.openai.com')).reached.length).toBe(1)
  })
})
