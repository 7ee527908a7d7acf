// Models of the Agents SDK: what is held, what is repeated, what is bounded, and what the SDK itself sees of it.

import {
  Agent,
  MaxTurnsExceededError,
  OpenAIChatCompletionsModel,
  OpenAIProvider,
  OpenAIResponsesModel,
  Runner,
  handoff,
  tool,
  webSearchTool,
  type InputGuardrail,
  type ModelSettings,
} from '@openai/agents'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { guardAgent, guardModel, guardModelProvider, guardRunner, wrapOpenAI } from '../../integrations/openai-agents.ts'
import { findRefusal } from '../../src/index.ts'
import { SUITE_MODEL, errorOf, type Bench } from '../../src/testing/integration-bench.ts'
import { collect } from './adapters.ts'
import { endsOf } from './bench.ts'
import { asking, clientOn, guardedRunner, noting, onAgentsBench, runnerOn } from './openai-agents-bench.ts'

const agentOf = (more: object = {}) => new Agent({ name: 'suite-agent', model: SUITE_MODEL, modelSettings: { maxTokens: 50 }, ...more })
const RETRYING: ModelSettings = { maxTokens: 50, retry: { maxRetries: 2, backoff: { initialDelayMs: 1 }, policy: () => true } }
const chatRunner = (bench: Bench, maxRetries: number, wrapped: boolean): Runner => {
  const client = clientOn(bench, maxRetries)
  const modelProvider = new OpenAIProvider({ openAIClient: wrapped ? wrapOpenAI(client) : client, useResponses: false })
  return guardRunner(new Runner({ modelProvider, tracingDisabled: true }), bench.scope)
}

/** Reads to the end, and aborts on the way. */
async function leaveAfter(events: number, stream: AsyncIterable<unknown>, leaving: AbortController): Promise<void> {
  const iterator = stream[Symbol.asyncIterator]()
  for (let read = 1; (await iterator.next()).done !== true; read++) if (read === events) leaving.abort()
}

describe('a refusal', () => {
  test.each([true, false])(
    'is thrown as itself before any HTTP, and no retry policy repeats it (useResponses: %s)',
    async (useResponses) => {
      await onAgentsBench({ limit: 1 }, async (bench) => {
        const runner = guardRunner(runnerOn(bench, useResponses, 2), bench.scope)
        let asked = 0
        const modelSettings = { ...RETRYING, retry: { ...RETRYING.retry, policy: () => ++asked > 0 } }
        const error = await errorOf(() => runner.run(agentOf({ modelSettings }), 'hello'))
        expect(asked).toBe(0)
        expect(error).toBe(findRefusal(error))
        expect(error).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED', status: 402 })
        expect(bench.records('refused')).toHaveLength(1)
        expect(bench.provider.bill().requests).toBe(0)
      })
    },
  )

  test('ends a stream, and the promise that it is completed', async () => {
    await onAgentsBench({ limit: 1 }, async (bench) => {
      const stream = await guardedRunner(bench).run(agentOf(), 'hello', { stream: true })
      const error = await errorOf(() => collect(stream))
      expect(findRefusal(error)?.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(findRefusal(await errorOf(() => stream.completed))?.code).toBe('ERR_BUDGET_EXCEEDED')
    })
  })
})

describe('a model call that is repeated', () => {
  test.each([true, false])('by modelSettings.retry takes a hold for each attempt (useResponses: %s)', async (useResponses) => {
    await onAgentsBench({ answers: [{ status: 500 }, {}] }, async (bench) => {
      await guardRunner(runnerOn(bench, useResponses), bench.scope).run(agentOf({ modelSettings: RETRYING }), 'hello')
      expect(await endsOf(bench)).toEqual(['charged', 'settled'])
    })
  })

  test('is not, where its HTTP cannot be seen, since one hold pays for one attempt', async () => {
    await onAgentsBench({ answers: [{ status: 500 }, {}] }, async (bench) => {
      await errorOf(() => chatRunner(bench, 2, false).run(agentOf(), 'hello'))
      expect(bench.provider.bill().requests).toBe(1)
      expect(await endsOf(bench)).toEqual(['charged'])
    })
  })

  test('is, under a client of wrapOpenAI, with a hold for each attempt', async () => {
    await onAgentsBench({ answers: [{ status: 500 }, {}] }, async (bench) => {
      await chatRunner(bench, 2, true).run(agentOf(), 'hello')
      expect(await endsOf(bench)).toEqual(['charged', 'settled'])
    })
  })

  test('is not by such a client, where its own caller forbids it', async () => {
    await onAgentsBench({ answers: [{ status: 500 }, {}] }, async (bench) => {
      await errorOf(() => chatRunner(bench, 0, true).run(agentOf(), 'hello'))
      expect(bench.provider.bill().requests).toBe(1)
    })
  })
})

describe('a chat model on any client', () => {
  test.each([false, true])('is held, capped and settled from the usage of the SDK (stream: %s)', async (stream) => {
    await onAgentsBench({}, async (bench) => {
      const runner = chatRunner(bench, 0, false)
      if (stream) await collect(await runner.run(agentOf({ modelSettings: {} }), 'hello', { stream: true }))
      else await runner.run(agentOf({ modelSettings: {} }), 'hello')
      expect(bench.provider.requests()[0]!.body['max_tokens']).toBeGreaterThan(0)
      expect(await endsOf(bench)).toEqual(['settled'])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    })
  })

  test('is charged at worst when its stream is left', async () => {
    await onAgentsBench({ answers: [{ text: 'word '.repeat(40), chunkDelayMs: 2 }] }, async (bench) => {
      const leaving = new AbortController()
      const stream = await chatRunner(bench, 0, false).run(agentOf(), 'hello', { stream: true, signal: leaving.signal })
      await leaveAfter(3, stream, leaving)
      expect(await endsOf(bench)).toEqual(['charged'])
      expect(await bench.spent()).toBeGreaterThanOrEqual(bench.provider.bill().nanoUsd)
    })
  })

  test('sends no cap above the one that was granted, wherever it stands', async () => {
    await onAgentsBench({}, async (bench) => {
      await chatRunner(bench, 0, false).run(agentOf({ modelSettings: { providerData: { max_completion_tokens: 40 } } }), 'hello')
      expect(bench.provider.requests()[0]!.body).toMatchObject({ max_completion_tokens: 40 })
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    })
  })

  test('with hosted tools is refused, since no answer would say how often they ran', async () => {
    await onAgentsBench({}, async (bench) => {
      const error = await errorOf(() => chatRunner(bench, 0, false).run(agentOf({ tools: [webSearchTool()] }), 'hello'))
      expect(findRefusal(error)?.code).toBe('ERR_UNMETERED')
      expect(bench.provider.bill().requests).toBe(0)
    })
  })
})

describe('a stream that is left', () => {
  test('is read to its usage under a model of Responses, while the loop of the SDK ends quietly', async () => {
    await onAgentsBench({ answers: [{ text: 'word '.repeat(40), chunkDelayMs: 2 }] }, async (bench) => {
      const leaving = new AbortController()
      const stream = await guardedRunner(bench).run(agentOf(), 'hello', { stream: true, signal: leaving.signal })
      await leaveAfter(3, stream, leaving)
      expect(await endsOf(bench)).toEqual(['settled'])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    })
  })
})

describe('hosted tools', () => {
  test('without a limit are refused, and with one, too, as long as their fee is not known', async () => {
    await onAgentsBench({}, async (bench) => {
      const runner = guardedRunner(bench, { maxInputTokens: 1_000 })
      const error = await errorOf(() => runner.run(agentOf({ tools: [webSearchTool()] }), 'hello'))
      expect(findRefusal(error)?.message).toContain('max_tool_calls')
      const modelSettings = { maxTokens: 50, providerData: { max_tool_calls: 2 } }
      const limited = await errorOf(() => runner.run(agentOf({ tools: [webSearchTool()], modelSettings }), 'hello'))
      expect(findRefusal(limited)?.message).toContain('No fee is known for the hosted tool `web_search`')
      expect(bench.provider.bill().requests).toBe(0)
    })
  })
})

describe('a Model that is set on an agent', () => {
  const models = {
    responses: (bench: Bench) => new OpenAIResponsesModel(clientOn(bench), SUITE_MODEL),
    'named chat': (bench: Bench) =>
      guardModel(new OpenAIChatCompletionsModel(clientOn(bench), SUITE_MODEL), bench.scope, { model: SUITE_MODEL }),
  }

  test.each(Object.entries(models))('is held (%s), also on an agent that is handed to', async (_name, modelOf) => {
    await onAgentsBench({ limit: 1 }, async (bench) => {
      const runner = guardedRunner(bench)
      const error = await errorOf(() => runner.run(agentOf({ model: modelOf(bench) }), 'hello'))
      expect(findRefusal(error)?.code).toBe('ERR_BUDGET_EXCEEDED')
      const other = new Agent({ name: 'other', model: modelOf(bench) })
      const first = guardAgent(agentOf({ handoffs: [handoff(other)] }), bench.scope)
      const next = (first.handoffs[0] as { agent: Agent }).agent
      expect(findRefusal(await errorOf(() => runnerOn(bench).run(next, 'hello')))?.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(bench.provider.bill().requests).toBe(0)
    })
  })

  test('is held where it is set on the runner', async () => {
    await onAgentsBench({ limit: 1 }, async (bench) => {
      const model = new OpenAIResponsesModel(clientOn(bench), SUITE_MODEL)
      const runner = guardRunner(new Runner({ model, tracingDisabled: true }), bench.scope)
      const error = await errorOf(() => runner.run(new Agent({ name: 'any' }), 'hello'))
      expect(findRefusal(error)?.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(bench.provider.bill().requests).toBe(0)
    })
  })

  test('and does not tell its name has to be given one', async () => {
    await onAgentsBench({}, async (bench) => {
      const model = new OpenAIChatCompletionsModel(clientOn(bench), SUITE_MODEL)
      await expect(guardedRunner(bench).run(agentOf({ model }), 'hello')).rejects.toThrow("guardModel(model, scope, { model: 'gpt-…' })")
    })
  })
})

describe('the compaction of a session', () => {
  test('on a wrapped client is refused, since it cannot be metered', async () => {
    await onAgentsBench({}, async (bench) => {
      const client = wrapOpenAI(clientOn(bench), bench.scope)
      const error = await errorOf(() => client.responses.compact({ model: SUITE_MODEL, input: 'hello' }))
      expect(findRefusal(error)?.code).toBe('ERR_UNMETERED')
      expect(bench.provider.bill().requests).toBe(0)
    })
  })
})

describe('a runner without a scope of its own', () => {
  test('takes that of scope.enter, and inside of a tool the one that was entered there', async () => {
    await onAgentsBench({ answers: asking([{ name: 'delegate', arguments: {} }]) }, async (bench) => {
      const runner = guardRunner(runnerOn(bench))
      const given = await bench.scope.handoff({ to: 'other', instruction: 'Go.', budget: { usd: 0.1 } })
      const inner = guardModelProvider(runnerOn(bench).config.modelProvider)
      const delegate = tool({
        name: 'delegate',
        description: '',
        parameters: z.object({}),
        execute: () => given.scope.enter(async () => (await new Runner({ modelProvider: inner }).run(agentOf(), 'Go.')).finalOutput ?? ''),
      })
      await bench.scope.enter(() => runner.run(agentOf({ tools: [delegate] }), 'hello'))
      const { spent } = await given.close()
      expect(spent['usd']).toBe(bench.provider.bill().lines[1]!.nanoUsd)
      expect(findRefusal(await errorOf(() => runner.run(agentOf(), 'hello')))?.code).toBe('ERR_NO_SCOPE')
    })
  })
})

describe('what the SDK sees', () => {
  test('is the model with all of its members', async () => {
    await onAgentsBench({}, async (bench) => {
      const model = new OpenAIResponsesModel(clientOn(bench), SUITE_MODEL)
      const guarded = guardModel(model, bench.scope)
      expect(guarded).toBeInstanceOf(OpenAIResponsesModel)
      expect(guarded.supportsPromptModelSelection).toBe(true)
      const args = { error: Object.assign(new Error('busy'), { status: 500 }), stream: false, attempt: 1, request: {} as never }
      expect(guarded.getRetryAdvice(args)).toEqual(model.getRetryAdvice(args))
      const provider = new OpenAIProvider({ openAIClient: clientOn(bench) })
      const guardedProvider = guardModelProvider(provider, bench.scope)
      expect(await guardedProvider.getModel(SUITE_MODEL)).toBe(await guardedProvider.getModel(SUITE_MODEL))
      await guardedProvider.close()
    })
  })

  test('is a structured output like any other', async () => {
    await onAgentsBench({ answers: [{ text: '{"ships":9}' }] }, async (bench) => {
      const outputType = z.object({ ships: z.number() })
      const { finalOutput } = await guardedRunner(bench).run(new Agent({ name: 'counter', model: SUITE_MODEL, outputType }), 'hello')
      expect(finalOutput).toEqual({ ships: 9 })
    })
  })

  test('is its own limit of turns, with what was spent until then', async () => {
    await onAgentsBench({ answers: [{ toolCalls: [{ name: 'look', arguments: {} }] }] }, async (bench) => {
      const ran: unknown[] = []
      const run = guardedRunner(bench).run(agentOf({ tools: [noting('look', ran)] }), 'hello', { maxTurns: 2 })
      await expect(run).rejects.toThrow(MaxTurnsExceededError)
      expect(await endsOf(bench)).toContain('settled')
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    })
  })

  test('is its own guardrail, beside a model call that is paid', async () => {
    await onAgentsBench({}, async (bench) => {
      const guardrail: InputGuardrail = { name: 'no', execute: async () => ({ tripwireTriggered: true, outputInfo: {} }) }
      const error = await errorOf(() => guardedRunner(bench).run(agentOf({ inputGuardrails: [guardrail] }), 'hello'))
      expect((error as Error).name).toBe('InputGuardrailTripwireTriggered')
      expect(await bench.spent()).toBeGreaterThanOrEqual(bench.provider.bill().nanoUsd)
    })
  })

  test('is one run of the scope, in which a refusal that ends the work stands for what comes after it', async () => {
    await onAgentsBench({ counters: { calls: 1 }, answers: asking([{ name: 'look', arguments: {} }]) }, async (bench) => {
      const ran: unknown[] = []
      const error = await errorOf(() => guardedRunner(bench).run(agentOf({ tools: [noting('look', ran)] }), 'hello'))
      expect(findRefusal(error)?.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(ran).toHaveLength(1)
      expect(bench.provider.bill().requests).toBe(1)
    })
  })
})
