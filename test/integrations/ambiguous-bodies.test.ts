// Bodies that two servers would read in two ways: what was bounded has to be what is read.

import { describe, expect, test } from 'vitest'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import { PRICE, openProvider, openSite } from './wire-site.ts'

const MESSAGES = '"messages":[{"role":"user","content":"hello: \\"there\\""}]'

async function post(body: string) {
  const [site, provider] = [await openSite({ 'm-1': PRICE }), await openProvider()]
  const response = await guardFetch(site.scope)(`${provider.baseURL}/chat/completions`, { method: 'POST', body })
  const refusal = findRefusal({ responseBody: await response.text() })
  return { refusal, sent: provider.requests().length, ends: site.ends().map(([outcome]) => outcome) }
}

describe('a body with two readings', () => {
  test.each([
    ['a cap twice, the small one last', `{"model":"m-1","max_tokens":100000,"max_tokens":10,${MESSAGES}}`, 'twice'],
    ['a cap twice, once in escapes', `{"model":"m-1","max_\\u0074okens":100000,"max_tokens":10,${MESSAGES}}`, 'twice'],
    ['a field twice deep inside', `{"model":"m-1","max_tokens":10,${MESSAGES},"stream_options":{"a":[{"b":1,"b":2}]}}`, 'twice'],
    ['a cap in capitals beside the real one', `{"model":"m-1","max_tokens":10,"MAX_TOKENS":100000,${MESSAGES}}`, 'another case'],
    ['a number of choices in capitals', `{"model":"m-1","max_tokens":10,"N":100,${MESSAGES}}`, 'another case'],
    ['a cap with the sign of Kelvin for its k', `{"model":"m-1","max_tokens":10,"max_to\\u212aens":100000,${MESSAGES}}`, 'another case'],
  ])('is refused, and nothing is sent: %s', async (_, body, why) => {
    const { refusal, sent } = await post(body)
    expect(refusal?.code).toBe('ERR_UNMETERED')
    expect(refusal?.message).toContain(why)
    expect(sent).toBe(0)
  })
})

describe('a body with one reading', () => {
  test.each([
    ['as SDKs write it', JSON.stringify({ model: 'm-1', max_tokens: 10, messages: [{ role: 'user', content: 'a: "b"' }] })],
    ['with spaces, escapes and exponents', `{ "model" : "m-1",\n"max_\\u0074okens": 1e1, ${MESSAGES} }`],
    ['with a member of any name', `{"__proto__":{"n":1},"model":"m-1","max_tokens":10,"sessionId":"A:b",${MESSAGES}}`],
  ])('is sent as it was written: %s', async (_, body) => {
    const { refusal, sent, ends } = await post(body)
    expect([refusal, sent, ends]).toEqual([undefined, 1, ['settled']])
  })
})

test('a body that can be read and not be written is refused before anything is held for it', async () => {
  const { refusal, sent, ends } = await post(`{"model":"m-1","x":${'['.repeat(50_000)}${']'.repeat(50_000)},${MESSAGES}}`)
  expect(refusal?.message).toContain('nested too deeply')
  expect([sent, ends]).toEqual([0, []])
})
