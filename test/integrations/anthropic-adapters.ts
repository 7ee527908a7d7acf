// The Anthropic wire as the integration suite sees it: the SDK, the AI SDK and LangChain, each written as a user of
// it would write it.

import { createAnthropic } from '@ai-sdk/anthropic'
import Anthropic from '@anthropic-ai/sdk'
import { ChatAnthropic } from '@langchain/anthropic'
import { wrapLanguageModel, type LanguageModel } from 'ai'
import { guardFetch, holdfastMiddleware } from '../../integrations/ai-sdk.ts'
import { wrapAnthropic, guardFunctions } from '../../integrations/anthropic.ts'
import { SUITE_MODEL, type CallOptions, type Calls, type Site, type SuiteTools } from '../../src/testing/integration-bench.ts'
import { collect, defined } from './adapters.ts'
import { hinting } from './langchain-adapters.ts'

const OBJECT = { type: 'object' as const, properties: {}, additionalProperties: true }

/** An Anthropic client on a site, with or without holdfast. */
export function anthropicOn({ guarded, scope, baseURL, maxRetries, timeoutMs, drainMs, toolAmounts }: Site): Anthropic {
  const root = baseURL.replace(/\/v1$/, '')
  const client = new Anthropic(defined({ apiKey: 'test', baseURL: root, maxRetries, timeout: timeoutMs, logLevel: 'off' as const }))
  return guarded ? wrapAnthropic(client, scope, defined({ drainMs, toolAmounts })) : client
}

/** The type wants a cap, and the API too; the suite also looks at what a guard makes of a request that has none. */
const bodyOf = ({ prompt, model = SUITE_MODEL, maxOutputTokens }: CallOptions) => ({
  ...(defined({ max_tokens: maxOutputTokens }) as { max_tokens: number }),
  model,
  messages: [{ role: 'user' as const, content: prompt }],
})

const textOf = (content: readonly { readonly type: string }[]): string =>
  content.flatMap((block) => ('text' in block ? [String(block.text)] : [])).join('')

/** `messages.create` of the SDK. */
export function messagesCalls(client: Anthropic): Omit<Calls, 'runTools'> {
  const openStream = (options: CallOptions) =>
    client.messages.create({ ...bodyOf(options), stream: true }, defined({ signal: options.signal }))
  return {
    async generate(options) {
      const message = await client.messages.create(bodyOf(options), defined({ signal: options.signal }))
      return { text: textOf(message.content), raw: message }
    },
    async *stream(options) {
      for await (const event of await openStream(options))
        if (event.type === 'content_block_delta' && event.delta.type === 'text_delta') yield event.delta.text
    },
    async parts(options) {
      return collect(await openStream(options))
    },
  }
}

/** The same with `beta.messages.toolRunner`, which sends its whole conversation each turn, as it does under holdfast. */
export function runnerCalls(client: Anthropic): Calls {
  return {
    ...messagesCalls(client),
    async runTools({ tools, ...options }) {
      const runnable = Object.entries(tools).map(([name, run]) => ({
        name,
        description: name,
        input_schema: OBJECT,
        parse: (input: unknown) => input as Record<string, unknown>,
        run,
      }))
      const runner = client.beta.messages.toolRunner(
        { ...bodyOf(options), tools: runnable, thread: false },
        defined({ signal: options.signal }),
      )
      return textOf((await runner.runUntilDone()).content)
    },
  }
}

/** The same with the `messages.stream` helper, and a tool loop written by hand. */
export function helperCalls(client: Anthropic, { guarded, scope, toolAmounts }: Site): Calls {
  const openStream = (options: CallOptions) => client.messages.stream(bodyOf(options), defined({ signal: options.signal }))
  return {
    ...messagesCalls(client),
    async *stream(options) {
      for await (const event of openStream(options))
        if (event.type === 'content_block_delta' && event.delta.type === 'text_delta') yield event.delta.text
    },
    async parts(options) {
      return collect(openStream(options))
    },
    async runTools({ tools, ...options }) {
      const functions: SuiteTools = guarded ? guardFunctions(scope, tools, toolAmounts) : tools
      const { messages, ...rest } = bodyOf(options)
      const turns: Anthropic.MessageParam[] = [...messages]
      const declared = Object.keys(tools).map((name) => ({ name, description: name, input_schema: OBJECT }))
      for (;;) {
        const { role, content } = await client.messages.create(
          { ...rest, messages: turns, tools: declared },
          defined({ signal: options.signal }),
        )
        turns.push({ role, content })
        const asked = content.filter((block) => block.type === 'tool_use')
        if (asked.length === 0) return textOf(content)
        const results: Anthropic.ToolResultBlockParam[] = []
        for (const { id, name, input } of asked)
          results.push({ type: 'tool_result', tool_use_id: id, content: await functions[name]!(input as Record<string, unknown>) })
        turns.push({ role: 'user', content: results })
      }
    },
  }
}

/**
 * These frameworks put a cap of their own into each request that has none. It is taken out above the guard, so that
 * the suite can look at what the guard does without one.
 */
function withoutCap(fetch: typeof globalThis.fetch, { maxOutputTokens }: Partial<CallOptions>): typeof globalThis.fetch {
  if (maxOutputTokens !== undefined) return fetch
  return async (input, init) => {
    const { max_tokens: _theirs, ...body } = JSON.parse(init!.body as string) as Record<string, unknown>
    return fetch(input, { ...init!, body: JSON.stringify(body) })
  }
}

function fetchOn({ guarded, scope, drainMs }: Site, send: typeof globalThis.fetch = fetch): typeof globalThis.fetch {
  return guarded ? guardFetch(scope, { drainMs, fetch: send }) : send
}

/** A model of the AI SDK on the Anthropic wire. */
export function aiSdkModel(site: Site, options: CallOptions, middleware: boolean): LanguageModel {
  const fetch = middleware ? fetchOn(site) : withoutCap(fetchOn(site), options)
  const model = createAnthropic({ apiKey: 'test', baseURL: site.baseURL, fetch })(options.model ?? SUITE_MODEL)
  return site.guarded && middleware ? wrapLanguageModel({ model, middleware: holdfastMiddleware(site.scope) }) : model
}

/** A model of LangChain on the Anthropic wire, with the guard under it. */
export function langChainModel(site: Site, { model = SUITE_MODEL, ...options }: Partial<CallOptions>): ChatAnthropic {
  const { baseURL, maxRetries, timeoutMs } = site
  const fetch = withoutCap(fetchOn(site, hinting), options)
  return new ChatAnthropic({
    model,
    apiKey: 'test',
    anthropicApiUrl: baseURL.replace(/\/v1$/, ''),
    maxRetries,
    clientOptions: { fetch, logLevel: 'off', ...defined({ timeout: timeoutMs }) },
    ...defined({ maxTokens: options.maxOutputTokens }),
  })
}
