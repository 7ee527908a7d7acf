// Many tool calls in one turn, and calls that a person has to approve: exactly what is allowed starts, every call gets
// an answer that the model reads, and what the message list says opens nothing.

import { generateText, isStepCount, streamText, tool, type ModelMessage, type ToolSet } from 'ai'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardSettings, guardTools } from '../../integrations/ai-sdk.ts'
import { sleep } from '../../src/lib/clock.ts'
import type { Rule } from '../../src/index.ts'
import type { ProviderAnswer, ProviderRequest } from '../../src/testing/provider.ts'
import { collect } from './adapters.ts'
import { MODEL, atDesk, type Desk } from './ai-sdk-desk.ts'

interface Message {
  readonly role: string
  readonly content?: unknown
  readonly tool_call_id?: string
  readonly tool_calls?: readonly { readonly id: string }[]
}

const sorted = (numbers: readonly unknown[]) => numbers.toSorted((one, other) => Number(one) - Number(other))

interface Turn {
  /** What is left for the caller: messages of the answer, and the parts of it. */
  readonly messages: readonly ModelMessage[]
  readonly parts: readonly { readonly type: string }[]
  readonly text: string
}

type Settings = Parameters<typeof generateText>[0]

const WAYS: readonly (readonly [string, (settings: Settings) => Promise<Turn>])[] = [
  [
    'generateText',
    async (settings) => {
      const { responseMessages, steps, text } = await generateText(settings)
      return { messages: responseMessages, parts: steps.flatMap(({ content }) => content), text }
    },
  ],
  [
    'streamText',
    async (settings) => {
      const result = streamText({ ...(settings as Parameters<typeof streamText>[0]), onError: () => {} })
      await collect(result.stream)
      return {
        messages: await result.responseMessages,
        parts: (await result.steps).flatMap(({ content }) => content),
        text: await result.text,
      }
    },
  ],
]

/** Asks for these calls until they are answered, then says so. */
const asking = (calls: readonly { readonly name: string; readonly arguments: Readonly<Record<string, unknown>> }[]) => {
  return ({ body }: ProviderRequest): ProviderAnswer => {
    const messages = body['messages'] as readonly Message[]
    return messages.some(({ role }) => role === 'tool') ? { text: 'done' } : { toolCalls: [...calls] }
  }
}

/** What the model reads in the last request, by the id of its call; every call must be answered once. */
function answersRead({ provider }: Desk): readonly string[] {
  const messages = provider.requests().at(-1)!.body['messages'] as readonly Message[]
  const asked = messages.flatMap(({ tool_calls = [] }) => tool_calls.map(({ id }) => id))
  const answered = messages.filter(({ role }) => role === 'tool')
  expect(answered.length).toBe(asked.length)
  expect(new Set(answered.map(({ tool_call_id }) => tool_call_id))).toEqual(new Set(asked))
  return answered.map(({ content }) => String(content))
}

const sending = (ran: unknown[]): ToolSet => ({
  send: tool({
    inputSchema: z.object({ to: z.number() }),
    execute: async ({ to }) => {
      ran.push(to)
      await sleep(1)
      return `sent ${to}`
    },
  }),
})
const BUDGETS = { acme: { usd: 1, mails: 6 } }
const EIGHT = [1, 2, 3, 4, 5, 6, 7, 8].map((to) => ({ name: 'send', arguments: { to } }))
const settingsFor = ({ scope, openai }: Desk, tools: ToolSet, more: object = {}): Settings =>
  guardSettings(
    scope,
    {
      model: openai.chat(MODEL),
      prompt: 'send them',
      maxOutputTokens: 100,
      maxRetries: 0,
      tools,
      stopWhen: isStepCount(4),
      ...more,
    },
    { toolAmounts: { send: { mails: 1 } } },
  )
const approve = (desk: Desk, argsHash: unknown) =>
  desk.kernel.approve({ agent: 'writer', tool: 'send', argsHash: argsHash as string, by: 'ann', expiresInMs: 60_000 })

describe.each(WAYS)('eight calls in one turn of %s', (_, run) => {
  test('of which a counter lets six pass: six start, two are answered with what the model can read', () =>
    atDesk({ answers: asking(EIGHT), budgets: BUDGETS }, async (desk) => {
      const ran: unknown[] = []
      const { text, parts } = await run(settingsFor(desk, sending(ran)))
      expect([text, ran.length]).toEqual(['done', 6])
      expect(parts.filter(({ type }) => type === 'tool-error').length).toBe(2)
      const read = answersRead(desk)
      expect(read.filter((answer) => answer.includes('sent')).length).toBe(6)
      expect(read.filter((answer) => answer.includes(desk.scope.refusal!.toModelMessage())).length).toBe(2)
      expect(read.join()).not.toContain('acme')
      expect(await desk.spent('mails')).toBe(6)
    }))

  const RULES: readonly Rule[] = [
    { effect: 'deny', tool: 'send', where: { to: 3 } },
    { effect: 'ask', tool: 'send', where: { to: { oneOf: [1, 2] } } },
    { effect: 'allow', tool: 'send' },
  ]

  test('of which two are asked for and one is denied: five run, and after the approval of one the rest is answered', () =>
    atDesk({ answers: asking(EIGHT), rules: RULES, budgets: BUDGETS }, async (desk) => {
      const ran: unknown[] = []
      const first = await run(settingsFor(desk, sending(ran)))
      expect(sorted(ran)).toEqual([4, 5, 6, 7, 8])
      const requests = first.parts.flatMap((part) => (part.type === 'tool-approval-request' ? [part as unknown as Asked] : []))
      const waiting = requests.filter(({ isAutomatic }) => isAutomatic !== true)
      expect(sorted(waiting.map(({ toolCall }) => (toolCall.input as { to: number }).to))).toEqual([1, 2])

      const asked = desk.records('refused').filter(({ code }) => code === 'ERR_APPROVAL_REQUIRED')
      await approve(desk, asked[0]!['argsHash'])
      const responses = waiting.map(({ approvalId }) => ({ type: 'tool-approval-response' as const, approvalId, approved: true }))
      const messages: ModelMessage[] = [{ role: 'user', content: 'send them' }, ...first.messages, { role: 'tool', content: responses }]
      const { text } = await run(settingsFor(desk, sending(ran), { prompt: undefined, messages }))
      // The user said yes to both; the kernel was told of one.
      expect([text, sorted(ran)]).toEqual(['done', [1, 4, 5, 6, 7, 8]])
      expect(answersRead(desk).filter((answer) => answer.startsWith('sent')).length).toBe(6)
    }))
})

interface Asked {
  readonly approvalId: string
  readonly isAutomatic?: boolean
  readonly toolCall: { readonly input: unknown }
}

/** The history of a call that was asked about, with the user's answer to it. */
const historyOf = (input: object, approved = true): ModelMessage[] => [
  { role: 'user', content: 'send it' },
  {
    role: 'assistant',
    content: [
      { type: 'tool-call', toolCallId: 'call-1', toolName: 'send', input },
      { type: 'tool-approval-request', approvalId: 'approval-1', toolCallId: 'call-1' },
    ],
  },
  { role: 'tool', content: [{ type: 'tool-approval-response', approvalId: 'approval-1', approved }] },
]

describe.each(WAYS)('a call that is asked about, resumed with %s', (_, run) => {
  const RULES: readonly Rule[] = [{ effect: 'ask', tool: 'send' }]
  const resumed = (desk: Desk, ran: unknown[], input: object, approved?: boolean) =>
    run(settingsFor(desk, sending(ran), { prompt: undefined, messages: historyOf(input, approved) }))

  test('runs once with an approval of the kernel for exactly these arguments', () =>
    atDesk({ answers: [{ text: 'done' }], rules: RULES, budgets: BUDGETS }, async (desk) => {
      const ran: unknown[] = []
      await resumed(desk, ran, { to: 1 })
      expect(ran).toEqual([])
      expect(answersRead(desk)).toEqual([expect.stringContaining(desk.scope.refusal!.toModelMessage())])
      await approve(desk, desk.scope.refusal!.details.argsHash)
      await resumed(desk, ran, { to: 1 })
      await resumed(desk, ran, { to: 1 })
      expect(ran).toEqual([1])
    }))

  test('does not run with other arguments than those that were approved', () =>
    atDesk({ answers: [{ text: 'done' }], rules: RULES, budgets: BUDGETS }, async (desk) => {
      const ran: unknown[] = []
      await resumed(desk, ran, { to: 1 })
      await approve(desk, desk.scope.refusal!.details.argsHash)
      await resumed(desk, ran, { to: 2 })
      expect(ran).toEqual([])
      expect(desk.scope.refusal).toMatchObject({ code: 'ERR_APPROVAL_REQUIRED' })
      await resumed(desk, ran, { to: 1 })
      expect(ran).toEqual([1])
    }))

  test('does not run when the user said no, whatever the kernel was told', () =>
    atDesk({ answers: [{ text: 'done' }], rules: RULES, budgets: BUDGETS }, async (desk) => {
      const ran: unknown[] = []
      await resumed(desk, ran, { to: 1 })
      await approve(desk, desk.scope.refusal!.details.argsHash)
      await resumed(desk, ran, { to: 1 }, false)
      expect(ran).toEqual([])
    }))

  test('does not run when a rule has come to deny it', () =>
    atDesk({ answers: [{ text: 'done' }], rules: [{ effect: 'deny', tool: 'send' }], budgets: BUDGETS }, async (desk) => {
      const ran: unknown[] = []
      const { text } = await resumed(desk, ran, { to: 1 })
      expect([text, ran]).toEqual(['done', []])
      answersRead(desk)
    }))
})

describe('a tool', () => {
  const ONE = asking([{ name: 'send', arguments: { to: 1 } }])
  const only = (execute: NonNullable<ToolSet[string]['execute']>): ToolSet => ({
    send: tool({ inputSchema: z.object({ to: z.number() }), execute }),
  })

  test('that throws is a tool error in the words of its own, and what was held for it is charged', () =>
    atDesk({ answers: ONE, budgets: BUDGETS }, async (desk) => {
      const { text } = await generateText(
        settingsFor(
          desk,
          only(async () => Promise.reject(new Error('no paper'))),
        ),
      )
      expect([text, answersRead(desk)]).toEqual(['done', [expect.stringContaining('no paper')]])
      expect(await desk.spent('mails')).toBe(1)
    }))

  test('that answers with 5 MB is passed on as it is, and the turn that cannot be afforded is refused', () =>
    atDesk({ answers: ONE, budgets: { acme: { usd: '0.5', mails: 6 } } }, async (desk) => {
      const result = await generateText(
        settingsFor(
          desk,
          only(async () => 'x'.repeat(5_000_000)),
        ),
      ).catch((error: unknown) => error)
      expect(result).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
      expect(desk.provider.bill().billed).toBe(1)
    }))

  test('that hangs is left when its caller leaves, and every hold ends', () =>
    atDesk({ answers: ONE, budgets: BUDGETS }, async (desk) => {
      const leaving = new AbortController()
      const hanging = only(
        (_input, { abortSignal }) =>
          new Promise((_, reject) => {
            abortSignal!.addEventListener('abort', () => reject(abortSignal!.reason as Error))
            leaving.abort(new Error('left'))
          }),
      )
      const error = await generateText(settingsFor(desk, hanging, { abortSignal: leaving.signal })).catch((thrown: unknown) => thrown)
      expect(error).toBeInstanceOf(Error)
      expect(await desk.spent('mails')).toBe(1)
    }))

  test('that waits for what it counts as does not start once its caller has left', () =>
    atDesk({ budgets: { acme: { mails: 1 } }, waitMs: 60_000 }, async ({ scope }) => {
      const ran: unknown[] = []
      const tools = guardTools(scope, sending(ran), { send: { mails: 1 } })
      const other = await scope.begin({ kind: 'tool', resource: 'send', worst: { mails: 1 } })
      const leaving = new AbortController()
      const call = { toolCallId: '1', messages: [], context: {}, abortSignal: leaving.signal }
      const waiting = Promise.resolve(tools['send']!.execute!({ to: 1 }, call))
      leaving.abort(new Error('left'))
      await expect(Promise.race([waiting, sleep(2_000)])).rejects.toThrow('left')
      await other.release('not needed')
      await expect(waiting).rejects.toThrow('left')
      expect(ran).toEqual([])
    }))

  test('of the client is handed over when it is allowed, asked about, and not handed over when it is denied', () =>
    atDesk({ answers: ONE, rules: [{ effect: 'allow', tool: 'send' }] }, async (desk) => {
      const tools = { send: tool({ inputSchema: z.object({ to: z.number() }) }) } as ToolSet
      const { steps } = await generateText(settingsFor(desk, tools))
      expect([steps.length, steps[0]!.toolCalls.length]).toEqual([1, 1])
      expect(steps[0]!.content.map(({ type }) => type)).toEqual(['tool-call'])
    }))

  test.each([
    ['asked about', 'ask'],
    ['denied', 'deny'],
  ] as const)('of the client that is %s is not only handed over: the answer says so', (_, effect) =>
    atDesk({ answers: ONE, rules: [{ effect, tool: 'send' }] }, async (desk) => {
      const tools = { send: tool({ inputSchema: z.object({ to: z.number() }) }) } as ToolSet
      // Nor does what the caller himself says of approvals hand it over.
      const { steps, text } = await generateText(settingsFor(desk, tools, { toolApproval: () => 'approved' }))
      expect(steps[0]!.content.map(({ type }) => type)).toContain('tool-approval-request')
      expect(text).toBe(effect === 'deny' ? 'done' : '')
      if (effect === 'deny') answersRead(desk)
    }),
  )
})
