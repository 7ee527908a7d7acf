// A bench for tests of the Agents SDK: a runner on the provider of a bench, and tools that note what they did.

import { OpenAIProvider, Runner, tool, type FunctionTool } from '@openai/agents'
import OpenAI from 'openai'
import { guardRunner, type GuardRunnerOptions } from '../../integrations/openai-agents.ts'
import type { Bench, BenchOptions } from '../../src/testing/integration-bench.ts'
import type { ProviderAnswer, ProviderRequest } from '../../src/testing/provider.ts'
import { agentsAdapter } from './openai-agents-adapters.ts'
import { onBench } from './bench.ts'

/** Runs a test on a bench, which must be in order when it ends. */
export function onAgentsBench(options: BenchOptions, run: (bench: Bench) => Promise<void>): Promise<void> {
  return onBench(options, run, agentsAdapter('agents', { wire: 'responses', by: 'runner', wrapped: false }))
}

/** A client of the SDK on the provider of a bench, without holdfast. */
export function clientOn({ provider }: Bench, maxRetries = 0): OpenAI {
  return new OpenAI({ apiKey: 'test', baseURL: provider.baseURL, maxRetries, logLevel: 'off' })
}

/** A runner without holdfast. */
export function runnerOn(bench: Bench, useResponses = true, maxRetries = 0): Runner {
  const modelProvider = new OpenAIProvider({ openAIClient: clientOn(bench, maxRetries), useResponses })
  return new Runner({ modelProvider, tracingDisabled: true })
}

/** A runner on the scope of a bench. */
export function guardedRunner(bench: Bench, options: GuardRunnerOptions = {}): Runner {
  return guardRunner(runnerOn(bench), bench.scope, options)
}

/** A tool that notes its calls. */
export function noting(name: string, ran: unknown[]): FunctionTool {
  return tool({
    name,
    description: name,
    strict: false,
    parameters: { type: 'object', properties: {}, additionalProperties: true, required: [] },
    execute: (args: unknown) => {
      ran.push(args)
      return `${name} is done`
    },
  }) as FunctionTool
}

/** What the tool calls of a conversation were answered with, by their id. */
export function outputsIn({ body }: ProviderRequest): readonly string[] {
  const items = body['input'] as { type?: string; output?: unknown }[]
  return items.flatMap(({ type, output }) =>
    type === 'function_call_output' ? [typeof output === 'string' ? output : JSON.stringify(output)] : [],
  )
}

/** Asks for these tools in its first turn, and answers in text afterwards. */
export function asking(toolCalls: NonNullable<ProviderAnswer['toolCalls']>): (request: ProviderRequest) => ProviderAnswer {
  return (request) => (outputsIn(request).length === 0 ? { toolCalls } : { text: 'Done.' })
}
