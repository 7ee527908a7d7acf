// What a call of the AI SDK may cost, read from its parameters alone: where a cap, a tier or a limit may stand, and
// what a provider will send as the mere name of something that it has.

import type { LanguageModelV4CallOptions } from '@ai-sdk/provider'
import { describe, expect, test } from 'vitest'
import { boundPrompt, capped } from '../../integrations/ai-sdk/prompt.ts'

const MODEL = 'gpt-4o-mini'

describe('an output cap in the provider options', () => {
  test('is clamped to a gate’s cap in whatever field a provider may read', () => {
    const params = (more: Partial<LanguageModelV4CallOptions>): LanguageModelV4CallOptions => ({ prompt: [], ...more })
    const azure = { azure: { maxCompletionTokens: 900, user: 'u' }, openai: { maxCompletionTokens: 10 }, other: { max_tokens: 900 } }
    expect(capped({ provider: 'azure.chat', modelId: MODEL }, params({ providerOptions: azure, maxOutputTokens: 70 }), 50)).toEqual({
      prompt: [],
      providerOptions: { azure: { maxCompletionTokens: 50, user: 'u' }, openai: { maxCompletionTokens: 10 }, other: { max_tokens: 900 } },
      maxOutputTokens: 50,
    })
    // What this provider does with an option is not known, so the cap is where all of them look.
    expect(
      capped({ provider: 'my-gateway.chat', modelId: MODEL }, params({ providerOptions: { myGateway: { max_tokens: 900, n: 1 } } }), 50),
    ).toEqual({
      prompt: [],
      providerOptions: { myGateway: { n: 1 } },
      maxOutputTokens: 50,
    })
    // A model on OpenAI does not read the options of Azure: its cap would be none.
    const elsewhere = params({ providerOptions: { azure: { maxCompletionTokens: 10 } } })
    expect(capped({ provider: 'openai.chat', modelId: MODEL }, elsewhere, 50).maxOutputTokens).toBe(50)
    expect(boundPrompt({ provider: 'openai.chat', modelId: MODEL }, elsewhere).facts.caps).toEqual({ maxOutputTokens: undefined })
  })
})

describe('an item that is sent back by its id', () => {
  const named = (
    model: { provider: string },
    prompt: LanguageModelV4CallOptions['prompt'],
    more: Partial<LanguageModelV4CallOptions> = {},
  ) => boundPrompt({ modelId: MODEL, ...model }, { prompt, ...more }).facts.named
  const RESPONSES = { provider: 'openai.responses' }
  const item = { openai: { itemId: 'it_1' } }
  const says = (...content: unknown[]) => [{ role: 'assistant', content }] as LanguageModelV4CallOptions['prompt']
  const call = { type: 'tool-call', toolCallId: 'c', toolName: 'look', input: {} }
  const result = { type: 'tool-result', toolCallId: 'c', toolName: 'look', output: { type: 'text', value: 'ok' } }

  test.each([
    ['reasoning', says({ type: 'reasoning', text: '', providerOptions: item })],
    ['text', says({ type: 'text', text: 'a', providerOptions: item })],
    ['a call that the provider ran', says({ ...call, providerExecuted: true, providerOptions: item })],
    ['what the provider’s tool found', says(result)],
    [
      'the answer to a request for approval',
      [
        { role: 'tool', content: [{ type: 'tool-approval-response', approvalId: 'a', approved: true }] },
      ] as LanguageModelV4CallOptions['prompt'],
    ],
    ['an item of Azure', says({ type: 'text', text: 'a', providerOptions: { azure: { itemId: 'it_1' } } })],
  ])('counts as the context window: %s', (_, prompt) => {
    expect(named(RESPONSES, prompt)).toBe(true)
    // A chat completion has no references.
    expect(named({ provider: 'openai.chat' }, prompt)).toBe(false)
  })

  test('is sent as it is, and counts as its bytes: a call of the caller’s own tool and its result, and what has no id', () => {
    expect(named(RESPONSES, says({ ...call, providerOptions: item }))).toBe(false)
    expect(named(RESPONSES, [{ role: 'tool', content: [result] }] as LanguageModelV4CallOptions['prompt'])).toBe(false)
    expect(named(RESPONSES, says({ type: 'text', text: 'a' }, { type: 'reasoning', text: 'b' }))).toBe(false)
  })

  test('with the store off texts and encrypted reasoning are sent as they are; what hosted tools did is the provider’s all the same', () => {
    const off = { providerOptions: { openai: { store: false } } }
    const sealed = { openai: { itemId: 'rs_1', reasoningEncryptedContent: 'gAAAA' } }
    expect(named(RESPONSES, says({ type: 'text', text: 'a', providerOptions: item }), off)).toBe(false)
    expect(named(RESPONSES, says({ type: 'reasoning', text: '', providerOptions: sealed }), off)).toBe(false)
    expect(named(RESPONSES, says({ type: 'reasoning', text: '', providerOptions: item }), off)).toBe(true)
    expect(named(RESPONSES, says(result), off)).toBe(true)
    // Azure's options stand in for OpenAI's there, and leave the store on.
    const half = { providerOptions: { openai: { store: false }, azure: {} } }
    expect(named({ provider: 'azure.responses' }, says({ type: 'text', text: 'a', providerOptions: item }), half)).toBe(true)
  })
})

describe('options under several names', () => {
  test('a limit for hosted tools counts only where every place that may be read has it', () => {
    const limit = (providerOptions: LanguageModelV4CallOptions['providerOptions'], provider = 'azure.responses') =>
      boundPrompt({ modelId: MODEL, provider }, { prompt: [], ...(providerOptions === undefined ? {} : { providerOptions }) }).facts
        .maxToolCalls
    expect(limit({ azure: { maxToolCalls: 2 }, openai: { maxToolCalls: 5 } })).toBe(5)
    expect(limit({ azure: { user: 'u' }, openai: { maxToolCalls: 5 } })).toBeUndefined()
    expect(limit({ azure: { user: 'u' }, openai: { maxToolCalls: 5 } }, 'openai.responses')).toBe(5)
    expect(limit(undefined)).toBeUndefined()
  })

  test('the dearer of two service tiers is what is held for', () => {
    const tier = (providerOptions: NonNullable<LanguageModelV4CallOptions['providerOptions']>) =>
      boundPrompt({ modelId: MODEL, provider: 'azure.responses' }, { prompt: [], providerOptions }).serviceTier
    expect(tier({ azure: { serviceTier: 'default' }, openai: { serviceTier: 'priority' } })).toBe('priority')
    expect(tier({ azure: { serviceTier: 'flex' } })).toBe('flex')
  })
})
