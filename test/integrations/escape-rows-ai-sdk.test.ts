// Rows of docs/escapes.md about the AI SDK that no other test has: messages that arrive during a run, and agents that
// a chat of a user interface runs.

import { createOpenAI } from '@ai-sdk/openai'
import { DirectChatTransport, ToolLoopAgent, experimental_createSteering, generateText, isStepCount } from 'ai'
import { expect, test } from 'vitest'
import { guardSettings } from '../../integrations/ai-sdk.ts'
import { SUITE_MODEL, type Bench } from '../../src/testing/integration-bench.ts'
import { endsOf, onBench } from './bench.ts'

const modelOf = ({ provider }: Bench) => createOpenAI({ apiKey: 'none', baseURL: provider.baseURL }).chat(SUITE_MODEL)

test('a step that a message of steering adds to a run is held like any other', () =>
  onBench({}, async (bench) => {
    const steering = experimental_createSteering()
    const settings = guardSettings(bench.scope, {
      model: modelOf(bench),
      prompt: 'hello',
      maxOutputTokens: 50,
      maxRetries: 0,
      stopWhen: isStepCount(3),
      experimental_steering: steering,
      onStepStart: () => {
        if (bench.provider.bill().requests === 0) void steering.steer('And the cutters?', { id: 'once' })
      },
    })
    await generateText(settings)
    expect(bench.provider.bill().requests).toBe(2)
    expect(await endsOf(bench)).toEqual(['settled', 'settled'])
  }))

test('an agent behind a transport of a chat is held like any other', () =>
  onBench({}, async (bench) => {
    const agent = new ToolLoopAgent(guardSettings(bench.scope, { model: modelOf(bench), maxOutputTokens: 50, maxRetries: 0 }))
    const stream = await new DirectChatTransport({ agent }).sendMessages({
      trigger: 'submit-message',
      chatId: 'c',
      messageId: undefined,
      messages: [{ id: 'm', role: 'user', parts: [{ type: 'text', text: 'hello' }] }],
      abortSignal: undefined,
    })
    for await (const _ of stream);
    expect(await endsOf(bench)).toEqual(['settled'])
  }))
