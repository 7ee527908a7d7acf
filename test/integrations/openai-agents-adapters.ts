// The Agents SDK as the integration suite sees it: a runner, an agent and its tools, as a user of the SDK would write them.

import { Agent, OpenAIProvider, Runner, tool, type ModelProvider, type Tool } from '@openai/agents'
import OpenAI from 'openai'
import { guardAgent, guardModelProvider, guardRunner, wrapOpenAI } from '../../integrations/openai-agents.ts'
import {
  SUITE_MODEL,
  type CallOptions,
  type Calls,
  type IntegrationAdapter,
  type Site,
  type SuiteTools,
} from '../../src/testing/integration-bench.ts'
import { collect, defined } from './adapters.ts'

/** How the SDK is put under holdfast. */
export interface AgentsForm {
  readonly wire: 'chat' | 'responses'
  /** `runner` is `guardRunner`, `parts` the guarded provider and agent in a runner of the SDK's. */
  readonly by: 'runner' | 'parts'
  /** Whether the client below is of `wrapOpenAI`. */
  readonly wrapped: boolean
}

const OBJECT = { type: 'object' as const, properties: {}, additionalProperties: true as const, required: [] as string[] }

/** Tools of the suite as those of the SDK. */
export function agentsTools(tools: SuiteTools): Tool[] {
  return Object.entries(tools).map(([name, run]) =>
    tool({
      name,
      description: name,
      parameters: OBJECT,
      strict: false,
      execute: (args) => run(args as Readonly<Record<string, unknown>>),
      errorFunction: null,
    }),
  )
}

/** A provider of the SDK on a site. */
export function providerOf(
  { baseURL, maxRetries, timeoutMs, guarded, scope, drainMs }: Site,
  { wire, wrapped }: AgentsForm,
): OpenAIProvider {
  const client = new OpenAI(defined({ apiKey: 'test', baseURL, maxRetries, timeout: timeoutMs, logLevel: 'off' as const }))
  const openAIClient = guarded && wrapped ? wrapOpenAI(client, scope, { drainMs }) : client
  return new OpenAIProvider({ openAIClient, useResponses: wire === 'responses' })
}

/** Runners of the SDK. */
export function agentsCalls(site: Site, form: AgentsForm): Calls {
  const { guarded, scope, drainMs, toolAmounts } = site
  const holdfast = defined({ drainMs, toolAmounts })
  const provider = providerOf(site, form)
  const runnerOn = (modelProvider: ModelProvider) => new Runner({ modelProvider, tracingDisabled: true })
  const runner = guarded
    ? form.by === 'runner'
      ? guardRunner(runnerOn(provider), scope, holdfast)
      : runnerOn(guardModelProvider(provider, scope, { drainMs }))
    : runnerOn(provider)
  const agentOf = ({ model = SUITE_MODEL, maxOutputTokens }: CallOptions, tools: SuiteTools = {}) => {
    const modelSettings = defined({ maxTokens: maxOutputTokens })
    const agent = new Agent({ name: 'suite-agent', model, modelSettings, tools: agentsTools(tools) })
    return guarded && form.by === 'parts' ? guardAgent(agent, scope, holdfast) : agent
  }
  // One turn: of an answer that is none the SDK asks again.
  const once = ({ signal }: CallOptions) => ({ maxTurns: 1, ...defined({ signal }) })
  const open = (options: CallOptions) => runner.run(agentOf(options), options.prompt, { ...once(options), stream: true })
  async function* events(options: CallOptions): AsyncGenerator {
    const stream = await open(options)
    yield* stream
    await stream.completed
  }
  return {
    async generate(options) {
      const result = await runner.run(agentOf(options), options.prompt, once(options))
      return {
        text: result.finalOutput ?? '',
        raw: { responses: result.rawResponses, items: result.newItems.map((item) => item.toJSON()) },
      }
    },
    async *stream(options) {
      for await (const event of events(options)) {
        const { type, data } = event as { type: string; data?: { type: string; delta: string } }
        if (type === 'raw_model_stream_event' && data!.type === 'output_text_delta') yield data!.delta
      }
    },
    async parts(options) {
      return (await collect(events(options))).map((event) => JSON.parse(JSON.stringify(event)) as unknown)
    },
    async runTools({ tools, ...options }) {
      const result = await runner.run(agentOf(options, tools), options.prompt, defined({ signal: options.signal }))
      return result.finalOutput ?? ''
    },
  }
}

/** The adapter of one way to use the SDK. */
export function agentsAdapter(name: string, form: AgentsForm): IntegrationAdapter {
  const drains = form.wire === 'responses' || form.wrapped
  return { name, streamRefusal: 'error', drains, leavesByBreak: true, connect: (site) => agentsCalls(site, form) }
}
