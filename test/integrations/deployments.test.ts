// Deployments of Azure: a path names what is billed.

import { describe, expect, test } from 'vitest'
import { PRICE, attempt, openSite } from './wire-site.ts'

const DEAR = { ...PRICE, inputUsdPerMillion: 15, outputUsdPerMillion: 60 }
const CAPS = { max_tokens: 10, messages: [] }

describe('a deployment of Azure is what is billed, not the model of the body', () => {
  test.each([
    ['chat/completions', CAPS],
    ['chat/completions/', CAPS],
    ['completions', { prompt: 'hello', max_tokens: 10 }],
    ['embeddings', { input: 'hello' }],
    ['responses', { input: 'hello', max_output_tokens: 20 }],
  ])('%s', async (path, body) => {
    const site = await openSite({ 'cheap-1': PRICE, 'dear-1': DEAR })
    for (const base of ['openai/deployments', 'OpenAI/Deployments', 'gateway/deployments'])
      await attempt(site, `https://x.openai.azure.com/${base}/dear-1/${path}`, { model: 'cheap-1', ...body })
    expect(site.records('intent').map(({ resource }) => resource)).toEqual(['dear-1', 'dear-1', 'dear-1'])
  })

  test('an embedding that names no model passes', async () => {
    const site = await openSite({ 'dear-1': DEAR })
    const { reached } = await attempt(site, 'https://x.openai.azure.com/openai/deployments/dear-1/embeddings', { input: 'hello' })
    expect(reached).toEqual(['{"input":"hello"}'])
  })
})
