// The frameworks as the integration suite sees them. Each adapter is written as a user of the framework would
// write it, down to the naive `choices[0]!`.

import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { generateText, isStepCount, jsonSchema, streamText, tool, wrapLanguageModel, type LanguageModel, type ToolSet } from 'ai'
import OpenAI from 'openai'
import { guardFetch, guardProvider, guardSettings, guardTools, holdfastMiddleware, toolApproval } from '../../integrations/ai-sdk.ts'
import { guardFunctions, wrapOpenAI } from '../../integrations/openai.ts'
import {
  SUITE_MODEL,
  type CallOptions,
  type Calls,
  type IntegrationAdapter,
  type Site,
  type SuiteTools,
} from '../../src/testing/integration-bench.ts'

type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> }

/** Options without the members that are undefined, as exact optional properties want them. */
export function defined<T extends object>(options: T): Defined<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Defined<T>
}

/** Everything that a sequence yields. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = []
  for await (const item of items) list.push(item)
  return list
}

const OBJECT = { type: 'object' as const, properties: {}, additionalProperties: true }

/** An OpenAI client on a site, with or without holdfast. */
export function clientOf({ guarded, scope, baseURL, maxRetries, timeoutMs, drainMs, toolAmounts }: Site): OpenAI {
  const client = new OpenAI(defined({ apiKey: 'test', baseURL, maxRetries, timeout: timeoutMs, logLevel: 'off' as const }))
  return guarded ? wrapOpenAI(client, scope, defined({ drainMs, toolAmounts })) : client
}

const chatBodyOf = ({ prompt, model = SUITE_MODEL, maxOutputTokens }: CallOptions) =>
  defined({ model, messages: [{ role: 'user' as const, content: prompt }], max_completion_tokens: maxOutputTokens })

const responsesBodyOf = ({ prompt, model = SUITE_MODEL, maxOutputTokens }: CallOptions) =>
  defined({ model, input: prompt, max_output_tokens: maxOutputTokens })

/** Chat completions of the OpenAI SDK, on any client. */
export function chatCalls(client: OpenAI): Calls {
  const openStream = (options: CallOptions) =>
    client.chat.completions.create({ ...chatBodyOf(options), stream: true }, defined({ signal: options.signal }))
  return {
    async generate(options) {
      const completion = await client.chat.completions.create(chatBodyOf(options), defined({ signal: options.signal }))
      return { text: completion.choices[0]!.message.content ?? '', raw: completion }
    },
    async *stream(options) {
      for await (const chunk of await openStream(options)) yield chunk.choices[0]!.delta.content ?? ''
    },
    async parts(options) {
      return collect(await openStream(options))
    },
    async runTools({ tools, ...options }) {
      const runnable = Object.entries(tools).map(([name, run]) => ({
        type: 'function' as const,
        function: {
          name,
          description: name,
          parameters: OBJECT,
          parse: (text: string) => JSON.parse(text) as Record<string, unknown>,
          function: run,
        },
      }))
      const runner = client.chat.completions.runTools({ ...chatBodyOf(options), tools: runnable }, defined({ signal: options.signal }))
      return (await runner.finalContent()) ?? ''
    },
  }
}

/** Responses of the OpenAI SDK, with a tool loop written by hand. */
export function responsesCalls(client: OpenAI, { guarded, scope, toolAmounts }: Site): Calls {
  const openStream = (options: CallOptions) =>
    client.responses.create({ ...responsesBodyOf(options), stream: true }, defined({ signal: options.signal }))
  return {
    async generate(options) {
      const response = await client.responses.create(responsesBodyOf(options), defined({ signal: options.signal }))
      return { text: response.output_text, raw: response }
    },
    async *stream(options) {
      for await (const event of await openStream(options)) if (event.type === 'response.output_text.delta') yield event.delta
    },
    async parts(options) {
      return collect(await openStream(options))
    },
    async runTools({ tools, ...options }) {
      const functions: SuiteTools = guarded ? guardFunctions(scope, tools, toolAmounts) : tools
      const input: OpenAI.Responses.ResponseInput = [{ role: 'user', content: options.prompt }]
      const declared = Object.keys(tools).map((name) => ({ type: 'function' as const, name, parameters: OBJECT, strict: false }))
      for (;;) {
        const response = await client.responses.create(
          { ...responsesBodyOf(options), input, tools: declared },
          defined({ signal: options.signal }),
        )
        input.push(...(response.output as OpenAI.Responses.ResponseInput))
        const asked = response.output.filter((item) => item.type === 'function_call')
        if (asked.length === 0) return response.output_text
        for (const { name, arguments: args, call_id } of asked) {
          const output = await functions[name]!(JSON.parse(args) as Record<string, unknown>)
          input.push({ type: 'function_call_output', call_id, output })
        }
      }
    },
  }
}

/** How the AI SDK is put under holdfast. */
export interface AiSdkForm {
  /** `compatible`: a provider of `createOpenAICompatible`. */
  readonly wire: 'chat' | 'responses' | 'compatible'
  /** What guards the model: middleware of its own, its provider, the settings of the call, or only the transport guard. */
  readonly by: 'middleware' | 'provider' | 'settings' | 'guard'
  /** Whether the transport guard is below it. */
  readonly guard: boolean
  readonly approval: boolean
}

/** A model of the AI SDK on a site. */
export function modelOf({ guarded, scope, baseURL, drainMs }: Site, { wire, by, guard }: AiSdkForm, id: string): LanguageModel {
  const options = { apiKey: 'test', baseURL, ...(guarded && guard ? { fetch: guardFetch(scope, { drainMs }) } : {}) }
  const overall = <P extends object>(provider: P): P => (guarded && by === 'provider' ? guardProvider(provider, scope) : provider)
  const model =
    wire === 'compatible'
      ? overall(createOpenAICompatible({ ...options, name: 'own', includeUsage: true }))(id)
      : overall(createOpenAI(options))[wire](id)
  return guarded && by === 'middleware' ? wrapLanguageModel({ model, middleware: holdfastMiddleware(scope) }) : model
}

/** `generateText` and `streamText` of the AI SDK. */
export function aiSdkCalls(site: Site, form: Pick<AiSdkForm, 'approval' | 'by'>, model: (options: CallOptions) => LanguageModel): Calls {
  const { guarded, scope, maxRetries, timeoutMs, toolAmounts } = site
  const bySettings = guarded && form.by === 'settings'
  const settled = <S extends object>(settings: S): S => (bySettings ? guardSettings(scope, settings, defined({ toolAmounts })) : settings)
  const optionsOf = (options: CallOptions) => ({
    model: model(options),
    prompt: options.prompt,
    maxRetries,
    ...defined({ maxOutputTokens: options.maxOutputTokens, abortSignal: options.signal, timeout: timeoutMs }),
  })
  // `streamText` swallows errors, and prints them unless it is told where to put them.
  const openStream = (options: CallOptions) => streamText(settled({ ...optionsOf(options), onError: () => {} }))
  return {
    async generate(options) {
      const { text, content, finishReason, usage, warnings, response, providerMetadata } = await generateText(settled(optionsOf(options)))
      return { text, raw: { text, content, finishReason, usage, warnings, response, providerMetadata } }
    },
    async *stream(options) {
      yield* openStream(options).textStream
    },
    async parts(options) {
      return collect(openStream(options).stream)
    },
    async runTools({ tools, ...options }) {
      const declared: ToolSet = Object.fromEntries(
        Object.entries(tools).map(([name, run]) => [
          name,
          tool({ description: name, inputSchema: jsonSchema<Record<string, unknown>>(OBJECT), execute: (args) => run(args) }),
        ]),
      )
      const { text } = await generateText(
        settled({
          ...optionsOf(options),
          tools: guarded && !bySettings ? guardTools(scope, declared, toolAmounts) : declared,
          ...(guarded && form.approval ? { toolApproval: toolApproval(scope) } : {}),
          stopWhen: isStepCount(8),
        }),
      )
      return text
    },
  }
}

/** The adapter of one way to use the AI SDK. */
export function aiSdkAdapter(name: string, form: AiSdkForm): IntegrationAdapter {
  const connect = (site: Site): Calls => aiSdkCalls(site, form, ({ model }) => modelOf(site, form, model ?? SUITE_MODEL))
  return { name, streamRefusal: 'scope', drains: form.guard, leavesByBreak: false, connect }
}
