// Handoffs of the Agents SDK with money of their own: moved before an agent takes over, spent by it alone, back when it is done.

import { Agent, OpenAIProvider, RunContext, Runner, handoff } from '@openai/agents'
import { describe, expect, test } from 'vitest'
import { guardAgent, guardRunner, wrapOpenAI } from '../../integrations/openai-agents.ts'
import { findRefusal, type Rule } from '../../src/index.ts'
import { SUITE_MODEL, errorOf } from '../../src/testing/integration-bench.ts'
import type { ProviderAnswer, ProviderRequest } from '../../src/testing/provider.ts'
import { collect } from './adapters.ts'
import { clientOn, guardedRunner, noting, onAgentsBench } from './openai-agents-bench.ts'

const SETTINGS = { maxTokens: 50 }
const agentOf = (name: string, more: object = {}) =>
  new Agent({ name, model: SUITE_MODEL, modelSettings: SETTINGS, instructions: `You are ${name}.`, ...more })
const at = (request: ProviderRequest): string => String(request.body['instructions'])
const namesOf = ({ body }: ProviderRequest): readonly string[] => ((body['tools'] ?? []) as { name: string }[]).map(({ name }) => name)
const transfer = (to: string): ProviderAnswer => ({ toolCalls: [{ name: `transfer_to_${to}`, arguments: {} }] })

/** Triage hands to billing, which answers. */
const toBilling = (request: ProviderRequest): ProviderAnswer => (at(request).includes('billing') ? { text: 'Paid.' } : transfer('billing'))

describe('an agent that work is handed to', () => {
  test('spends from what was moved for it, and what is left comes back when the run ends', async () => {
    await onAgentsBench({ answers: toBilling }, async (bench) => {
      const triage = agentOf('triage', { handoffs: [agentOf('billing')] })
      const runner = guardedRunner(bench, { handoffs: { billing: { budget: { usd: 0.2, calls: 5 } } } })
      const { finalOutput, lastAgent } = await runner.run(triage, 'Pay.')
      expect([finalOutput, lastAgent?.name]).toEqual(['Paid.', 'billing'])
      const outcomes = await bench.outcomes()
      const [first, second] = outcomes.filter(({ used }) => (used['usd'] ?? 0) > 0)
      expect(first!.budget).toBe('suite/run')
      expect(second!.budget).toMatch(/^suite\/run\/billing-/)
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
      expect(bench.records('event').filter(({ type }) => type === 'handoff-closed')).toHaveLength(1)
    })
  })

  test('cannot spend more than that', async () => {
    await onAgentsBench({ answers: toBilling }, async (bench) => {
      const triage = agentOf('triage', { handoffs: [agentOf('billing')] })
      const runner = guardedRunner(bench, { handoffs: { billing: { budget: { usd: '0.000001' } } } })
      const error = await errorOf(() => runner.run(triage, 'Pay.'))
      expect(findRefusal(error)?.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(bench.provider.bill().requests).toBe(1)
    })
  })

  test('that has no budget of its own spends from that of who handed over', async () => {
    await onAgentsBench({ answers: toBilling }, async (bench) => {
      await guardedRunner(bench).run(agentOf('triage', { handoffs: [agentOf('billing')] }), 'Pay.')
      expect((await bench.outcomes()).map(({ budget }) => budget)).toEqual(['suite/run', 'suite/run'])
    })
  })

  test('works under its own rules, beside those that bind who handed over', async () => {
    const answers = (request: ProviderRequest): ProviderAnswer => {
      if (!at(request).includes('billing')) return transfer('billing')
      return JSON.stringify(request.body['input']).includes('"call_id"') && request.index > 1
        ? { text: 'Done.' }
        : { toolCalls: [{ name: 'pay', arguments: {} }] }
    }
    await onAgentsBench({ answers }, async (bench) => {
      const paid: unknown[] = []
      const rules: readonly Rule[] = [{ effect: 'deny', tool: 'pay' }]
      const triage = agentOf('triage', { handoffs: [agentOf('billing', { tools: [noting('pay', paid)] })] })
      await guardedRunner(bench, { handoffs: { billing: { budget: { usd: 0.2 }, rules } } }).run(triage, 'Pay.')
      expect(paid).toEqual([])
      await guardedRunner(bench, { handoffs: { billing: { budget: { usd: 0.2 } } } }).run(triage, 'Pay.')
    })
  })

  test('gets its budget in a stream, too, and gives back what is left when that is over', async () => {
    await onAgentsBench({ answers: toBilling }, async (bench) => {
      const triage = agentOf('triage', { handoffs: [agentOf('billing')] })
      const runner = guardedRunner(bench, { handoffs: { billing: { budget: { usd: 0.2 } } } })
      const stream = await runner.run(triage, 'Pay.', { stream: true })
      await collect(stream)
      await stream.completed
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
      const paths = (await bench.outcomes()).filter(({ used }) => (used['usd'] ?? 0) > 0).map(({ budget }) => budget.split('-')[0])
      expect(paths).toEqual(['suite/run', 'suite/run/billing'])
    })
  })

  test('hands back to who goes on with the budget that it had', async () => {
    const answers = (request: ProviderRequest): ProviderAnswer => {
      if (at(request).includes('billing')) return transfer('triage')
      return request.index === 0 ? transfer('billing') : { text: 'All done.' }
    }
    await onAgentsBench({ answers }, async (bench) => {
      const triage = agentOf('triage')
      const billing = agentOf('billing', { handoffs: [triage] })
      triage.handoffs = [billing]
      const runner = guardedRunner(bench, { handoffs: { billing: { budget: { usd: 0.2 } } } })
      const { finalOutput } = await runner.run(triage, 'Pay.')
      expect(finalOutput).toBe('All done.')
      const paths = (await bench.outcomes()).filter(({ used }) => (used['usd'] ?? 0) > 0).map(({ budget }) => budget.split('-')[0])
      expect(paths).toEqual(['suite/run', 'suite/run/billing', 'suite/run'])
    })
  })
})

describe('a client that was wrapped for another scope', () => {
  test.each([false, true])('pays from that one, and the same answer is not paid twice (stream: %s)', async (stream) => {
    const answers = ({ body }: ProviderRequest): ProviderAnswer =>
      JSON.stringify(body['messages']).includes('You are billing.') ? { text: 'Paid.' } : transfer('billing')
    await onAgentsBench({ answers }, async (bench) => {
      const openAIClient = wrapOpenAI(clientOn(bench), bench.scope)
      const modelProvider = new OpenAIProvider({ openAIClient, useResponses: false })
      const handoffs = { billing: { budget: { usd: 0.2 } } }
      const runner = guardRunner(new Runner({ modelProvider, tracingDisabled: true }), bench.scope, { handoffs })
      const triage = agentOf('triage', { handoffs: [agentOf('billing')] })
      if (stream) {
        const run = await runner.run(triage, 'Pay.', { stream: true })
        await collect(run)
        await run.completed
      } else await runner.run(triage, 'Pay.')
      expect(bench.provider.bill().requests).toBe(2)
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    })
  })
})

describe('a call that fails on a client that was wrapped for another scope', () => {
  test('is charged once, on that one', async () => {
    const answers = ({ index }: ProviderRequest): ProviderAnswer => (index === 0 ? transfer('billing') : { status: 500 })
    await onAgentsBench({ answers }, async (bench) => {
      const modelProvider = new OpenAIProvider({ openAIClient: wrapOpenAI(clientOn(bench), bench.scope), useResponses: false })
      const handoffs = { billing: { budget: { usd: 0.2 } } }
      const runner = guardRunner(new Runner({ modelProvider, tracingDisabled: true }), bench.scope, { handoffs })
      await errorOf(() => runner.run(agentOf('triage', { handoffs: [agentOf('billing')] }), 'Pay.'))
      const charged = (await bench.outcomes()).filter(({ outcome }) => outcome === 'charged')
      expect(charged.map(({ budget }) => budget)).toEqual(['suite/run'])
    })
  })
})

describe('a handoff that does not fit', () => {
  test('is not made: the agent stays, is told why, and is not offered it again', async () => {
    const answers = (request: ProviderRequest): ProviderAnswer => (request.index === 0 ? transfer('billing') : { text: 'I do it myself.' })
    await onAgentsBench({ answers }, async (bench) => {
      let made = 0
      const billing = handoff(agentOf('billing'), { onHandoff: () => void made++ })
      const runner = guardedRunner(bench, { handoffs: { billing: { budget: { usd: 5 } } } })
      const { finalOutput, lastAgent } = await runner.run(agentOf('triage', { handoffs: [billing] }), 'Pay.')
      expect([finalOutput, lastAgent?.name, made]).toEqual(['I do it myself.', 'triage', 0])
      const [first, second] = bench.provider.requests()
      expect(namesOf(first!)).toEqual(['transfer_to_billing'])
      expect(namesOf(second!)).toEqual([])
      expect(at(second!)).toContain(bench.scope.refusal!.toModelMessage())
      expect((await bench.outcomes()).filter(({ budget }) => budget !== 'suite/run')).toEqual([])
    })
  })

  test('is offered again in the next run, and its onHandoff runs when it is made', async () => {
    await onAgentsBench({ answers: toBilling }, async (bench) => {
      let made = 0
      const billing = handoff(agentOf('billing'), { onHandoff: () => void made++ })
      const triage = agentOf('triage', { handoffs: [billing] })
      const handoffs = { billing: { budget: { usd: 0.5 } } }
      const runner = guardedRunner(bench, { handoffs })
      await runner.run(triage, 'Pay.')
      await runner.run(triage, 'Pay.')
      expect(made).toBe(2)
    })
  })
})

describe('a run that was paused in the middle of a handoff', () => {
  test('goes on with a budget of its own again', async () => {
    const answers = (request: ProviderRequest): ProviderAnswer => {
      if (!at(request).includes('billing')) return transfer('billing')
      return JSON.stringify(request.body['input']).includes('pay is done')
        ? { text: 'Paid.' }
        : { toolCalls: [{ name: 'pay', arguments: {} }] }
    }
    await onAgentsBench({ answers }, async (bench) => {
      const paid: unknown[] = []
      const pay = Object.assign(noting('pay', paid), { needsApproval: async () => true })
      const triage = agentOf('triage', { handoffs: [agentOf('billing', { tools: [pay] })] })
      const runner = guardedRunner(bench, { handoffs: { billing: { budget: { usd: 0.2 } } } })
      const { state, interruptions } = await runner.run(triage, 'Pay.')
      expect(bench.records('event').filter(({ type }) => type === 'handoff-closed')).toHaveLength(1)
      state.approve(interruptions[0]!)
      const { finalOutput } = await runner.run(triage, state)
      expect([finalOutput, paid]).toEqual(['Paid.', [{}]])
      const budgets = (await bench.outcomes()).map(({ budget }) => budget).filter((budget) => budget.includes('billing'))
      expect(new Set(budgets).size).toBe(2)
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    })
  })
})

describe('a circle of agents', () => {
  test('is a circle of guarded agents, and the given ones stay as they are', async () => {
    await onAgentsBench({}, async ({ scope }) => {
      const [one, two] = [agentOf('one'), agentOf('two')]
      one.handoffs = [two]
      two.handoffs = [handoff(one)]
      const guarded = guardAgent(one, scope)
      const [next] = await guarded.getEnabledHandoffs(new RunContext())
      const [back] = await next!.agent.getEnabledHandoffs(new RunContext())
      expect(next!.agent).not.toBe(two)
      expect(back!.agent).toBe(guarded)
      expect(one.handoffs).toEqual([two])
    })
  })
})
