// Ids of calls in the background that a provider gives out twice.

import { expect, test } from 'vitest'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { PRICE, openSite } from './wire-site.ts'

test('of two calls with one id the first is charged at worst, and the second settled by the answer', async () => {
  const site = await openSite({ 'm-1': PRICE })
  const fetch: typeof globalThis.fetch = async (_, init) => {
    const usage = { input_tokens: 10, output_tokens: 10, total_tokens: 20 }
    if (init?.method === 'POST') return Response.json({ id: 'resp_1', status: 'queued', usage: null })
    return Response.json({ id: 'resp_1', status: 'completed', usage, output: [] })
  }
  const guarded = guardFetch(site.scope, { fetch })
  const url = 'http://127.0.0.1/v1/responses'
  const body = JSON.stringify({ model: 'm-1', input: 'hello', background: true, max_output_tokens: 20 })
  for (let call = 0; call < 2; call++) await (await guarded(url, { method: 'POST', body })).text()
  for (let poll = 0; poll < 2; poll++) await (await guarded(`${url}/resp_1`, { method: 'GET' })).text()
  expect(site.ends().map(([outcome]) => outcome)).toEqual(['charged', 'settled'])
})
