// Fields by which a server does more than its format says, and what they cost: searches, presets, caches.

import { describe, expect, test } from 'vitest'
import { PRICE, attempt, openSite } from './wire-site.ts'

const CAPS = { max_tokens: 10, messages: [] }

describe('a switch for more than the format says is refused', () => {
  const formats = [
    ['chat/completions', CAPS],
    ['completions', { prompt: 'hello', max_tokens: 10 }],
    ['responses', { input: 'hello', max_output_tokens: 20 }],
    ['messages', CAPS],
  ] as const
  const on = { models: ['m-2'], preset: 'mine', plugins: [{ id: 'web' }], enable_search: true, data_sources: [{ type: 'azure_search' }] }
  const off = { models: [], preset: null, plugins: [], enable_search: false, data_sources: [] }

  test.each(
    formats.flatMap(([path, body]) => Object.entries(on).map(([field, value]) => [field, path, { ...body, [field]: value }] as const)),
  )('%s of %s', async (field, path, body) => {
    const { refusal, reached } = await attempt(await openSite({ 'm-1': PRICE }), `https://openrouter.ai/api/v1/${path}`, {
      model: 'm-1',
      ...body,
    })
    expect([refusal?.code, reached]).toEqual(['ERR_UNMETERED', []])
    expect(refusal?.message).toContain(field)
  })

  test.each(formats)('and one that is off passes: %s', async (path, body) => {
    const { reached } = await attempt(await openSite({ 'm-1': PRICE }), `https://openrouter.ai/api/v1/${path}`, {
      model: 'm-1',
      ...body,
      ...off,
    })
    expect(reached.length).toBe(1)
  })
})

test.each([
  ['a cache of Gemini', { extra_body: { google: { cached_content: 'cachedContents/1' } } }, true],
  ['a cache of Gemini without a wrapping', { google: { cached_content: 'cachedContents/1' } }, true],
  ['no cache', { extra_body: { google: { thinking_config: {} } } }, false],
])('%s named in a chat is held as what it may have', async (_, more, isNamed) => {
  const site = await openSite({ 'm-1': PRICE })
  const url = 'https://generativelanguage.googleapis.com/v1beta/openai/chat/completions'
  await attempt(site, url, { model: 'm-1', ...CAPS, ...more })
  const { amounts } = site.records('intent')[0] as { amounts: { usd: number } }
  expect(amounts.usd > PRICE.contextWindow! * 100).toBe(isNamed)
})
