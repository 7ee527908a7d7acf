// Tools that the provider executes: the gates are asked before they are offered, since nobody can stop a call of one.

import { createOpenAI } from '@ai-sdk/openai'
import { generateText, streamText, tool, type ToolSet } from 'ai'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { findRefusal, guardProvider } from '../../integrations/ai-sdk.ts'
import type { KernelOptions, Rule, Scope } from '../../src/index.ts'
import { errorOf } from '../../src/testing/integration-bench.ts'
import { collect } from './adapters.ts'
import { MODEL, atDesk, startServer } from './ai-sdk-desk.ts'

type Json = Readonly<Record<string, unknown>>

const ANSWER = {
  id: 'resp_1',
  object: 'response',
  created_at: 1,
  status: 'completed',
  model: MODEL,
  output: [
    {
      type: 'message',
      id: 'msg_1',
      role: 'assistant',
      status: 'completed',
      content: [{ type: 'output_text', text: 'hi', annotations: [] }],
    },
  ],
  error: null,
  incomplete_details: null,
  usage: { input_tokens: 100, output_tokens: 10, total_tokens: 110 },
}
const PRICED = { inputUsdPerMillion: '0.15', outputUsdPerMillion: '0.6', contextWindow: 128_000, toolUsdPerThousand: { web_search: 10 } }

interface Place {
  readonly scope: Scope
  readonly sent: Json[]
  readonly call: {
    model: ReturnType<ReturnType<typeof createOpenAI>>
    tools: ToolSet
    prompt: string
    maxRetries: number
    providerOptions: { openai: { maxToolCalls: number } }
  }
  readonly events: string[]
}

async function atPlace(
  rules: readonly Rule[] | undefined,
  run: (place: Place) => Promise<void>,
  more: Partial<KernelOptions> = {},
): Promise<void> {
  const sent: Json[] = []
  const server = await startServer((_path, body) => (sent.push(body), ANSWER))
  const openai = createOpenAI({ apiKey: 'test', baseURL: server.baseURL })
  const tools: ToolSet = {
    search: openai.tools.webSearch({}),
    look: tool({ inputSchema: z.object({}), execute: async () => 'ships' }),
  }
  const options = { prices: { [MODEL]: PRICED }, ...(rules === undefined ? {} : { rules }), ...more }
  try {
    await atDesk(options, async ({ scope, events }) => {
      const model = guardProvider(openai, scope)(MODEL)
      await run({
        scope,
        sent,
        events,
        call: { model, tools, prompt: 'hi', maxRetries: 0, providerOptions: { openai: { maxToolCalls: 2 } } },
      })
    })
  } finally {
    await server.close()
  }
}

const typesOf = (body: Json | undefined) => (body?.['tools'] as { type: string }[] | undefined)?.map(({ type }) => type)

describe('a tool that the provider executes', () => {
  test.each([
    ['there are no rules', undefined],
    ['a rule allows it', [{ effect: 'allow', tool: 'search' }]],
  ] as const)('is offered where %s', (_, rules) =>
    atPlace(rules, async ({ call, sent }) => {
      const { warnings } = await generateText(call)
      expect(typesOf(sent[0])).toEqual(['web_search', 'function'])
      expect(warnings).toEqual([])
    }),
  )

  test.each([
    ['no rule allows it', []],
    [
      'a rule denies it',
      [
        { effect: 'deny', tool: 'search' },
        { effect: 'allow', tool: '*' },
      ],
    ],
    ['a rule wants a person to be asked', [{ effect: 'ask', tool: 'search' }]],
    ['a rule allows it with arguments only, which nobody knows yet', [{ effect: 'allow', tool: 'search', where: { query: 'ships' } }]],
  ] as const)('is not offered where %s, and a warning says so', (_, rules) =>
    atPlace(rules, async ({ call, sent, scope }) => {
      const { warnings } = await generateText(call)
      expect(typesOf(sent[0])).toEqual(['function'])
      expect(warnings).toEqual([{ type: 'other', message: expect.stringContaining('`search` was not offered') as string }])
      expect(scope.refusal?.details.resource).toBe('search')
    }),
  )

  test('that is the only one leaves a call without tools', () =>
    atPlace([], async ({ call, sent }) => {
      await generateText({ ...call, tools: { search: call.tools['search']! } })
      expect([sent[0]!['tools'], sent[0]!['tool_choice']]).toEqual([undefined, undefined])
    }))

  test.each([
    ['by its name', { type: 'tool', toolName: 'search' }],
    ['as any', 'required'],
  ] as const)('that is demanded %s and may not be offered refuses the call, before anything is paid', (_, toolChoice) =>
    atPlace([], async ({ call, sent }) => {
      const error = await errorOf(() => generateText({ ...call, tools: { search: call.tools['search']! }, toolChoice }))
      expect(findRefusal(error)?.code).toBe('ERR_PERMISSION_DENIED')
      expect(sent).toEqual([])
    }),
  )

  test('is offered in observe mode, and an event says that it would not have been', () =>
    atPlace(
      [],
      async ({ call, sent }) => {
        await generateText(call)
        expect(typesOf(sent[0])).toEqual(['web_search', 'function'])
      },
      { mode: 'observe' },
    ))

  test('is not offered to a stream either, whose first part warns of it', () =>
    atDesk({ rules: [] }, async ({ scope, openai, provider }) => {
      const result = streamText({ model: guardProvider(openai, scope)(MODEL), tools: { search: openai.tools.webSearch({}) }, prompt: 'hi' })
      await collect(result.stream)
      expect(provider.requests()[0]!.body['tools']).toBe(undefined)
      expect(await result.warnings).toMatchObject([{ type: 'other' }])
    }))
})
