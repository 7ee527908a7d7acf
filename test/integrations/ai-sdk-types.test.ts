// The types of guarded settings, as a user writes them: what the SDK infers without holdfast it infers with it. The
// compiler checks them; the tests only run what it has checked.

import { Output, ToolLoopAgent, generateText, isStepCount, streamText, tool } from 'ai'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardSettings } from '../../integrations/ai-sdk.ts'
import { MODEL, atDesk } from './ai-sdk-desk.ts'

const add = tool({ inputSchema: z.object({ a: z.number() }), execute: async ({ a }) => a + 1 })
const ASKS = { toolCalls: [{ name: 'add', arguments: { a: 1 } }] }

describe('the types of guarded settings', () => {
  test('of generateText: messages, tools and their inputs, choices of tools, what callbacks see', () =>
    atDesk({ answers: [ASKS, { text: 'two' }] }, async ({ scope, openai }) => {
      const seen: number[] = []
      const { steps } = await generateText(
        guardSettings(scope, {
          model: openai.chat(MODEL),
          maxOutputTokens: 50,
          messages: [{ role: 'user', content: [{ type: 'text', text: 'add' }] }],
          tools: { add },
          activeTools: ['add'],
          toolChoice: { type: 'tool', toolName: 'add' },
          toolApproval: { add: ({ a }) => (a > 1 ? 'denied' : undefined) },
          stopWhen: [isStepCount(2)],
          prepareStep: ({ stepNumber, steps: before }) => ({ toolChoice: stepNumber === before.length ? 'auto' : 'none' }),
          onStepEnd: ({ toolCalls }) => void seen.push(toolCalls.length),
        }),
      )
      const inputs: number[] = steps.flatMap(({ toolCalls }) => toolCalls.flatMap((call) => (call.dynamic === true ? [] : [call.input.a])))
      expect([inputs, seen]).toEqual([[1], [1, 0]])
    }))

  test('of streamText with an output: its shape', () =>
    atDesk({ answers: [{ text: '{"ships":9}' }] }, async ({ scope, openai }) => {
      const output = Output.object({ schema: z.object({ ships: z.number() }) })
      const result = streamText(guardSettings(scope, { model: openai.chat(MODEL), prompt: 'how many?', output, onError: () => {} }))
      await result.consumeStream()
      const { ships }: { ships: number } = await result.output
      expect(ships).toBe(9)
    }))

  test('of an agent: its tools, and the options that prepareCall is given', () =>
    atDesk({ answers: [ASKS, { text: 'two' }] }, async ({ scope, openai, provider }) => {
      const agent = new ToolLoopAgent(
        guardSettings(scope, {
          model: openai.chat(MODEL),
          tools: { add },
          callOptionsSchema: z.object({ manner: z.string() }),
          prepareCall: ({ options, ...rest }) => ({ ...rest, instructions: options.manner }),
        }),
      )
      const { toolCalls, text } = await agent.generate({ prompt: 'add', options: { manner: 'Be brief.' } })
      const named: readonly 'add'[] = toolCalls.flatMap((call) => (call.dynamic === true ? [] : [call.toolName]))
      expect([text, named]).toEqual(['two', ['add']])
      expect(JSON.stringify(provider.requests()[0]!.body)).toContain('Be brief.')
    }))
})
