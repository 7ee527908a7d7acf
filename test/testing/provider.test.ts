import { createOpenAI } from '@ai-sdk/openai'
import { generateText, isStepCount, streamText, tool } from 'ai'
import OpenAI from 'openai'
import { describe, expect, onTestFinished, test } from 'vitest'
import { z } from 'zod'
import { scriptOf, startProvider, type ProviderAnswer, type ProviderOptions, type SimulatedProvider } from '../../src/testing/provider.ts'

const MODEL = 'gpt-4o-mini'
const HELLO = [{ role: 'user', content: 'hello there' }] as const satisfies OpenAI.ChatCompletionMessageParam[]
const HELLO_TOKENS = Math.ceil(JSON.stringify(HELLO).length / 4)
const ADD = { name: 'add', description: 'Adds.', parameters: { type: 'object', properties: { a: { type: 'number' } } } }
const CHAT_TOOLS = [{ type: 'function', function: ADD }] as const satisfies OpenAI.ChatCompletionTool[]
const RESPONSE_TOOLS = [{ type: 'function', ...ADD, strict: false }] as const satisfies OpenAI.Responses.Tool[]
const CALLS: ProviderAnswer = { toolCalls: [{ a: 1, b: 'two words' }, { a: 2 }].map((args) => ({ name: 'add', arguments: args })) }
const LONG = 'one two three four five six seven eight nine ten'

async function start(options?: ProviderOptions | ProviderAnswer[]): Promise<{ provider: SimulatedProvider; client: OpenAI }> {
  const provider = await startProvider(Array.isArray(options) ? { script: scriptOf(options) } : options)
  onTestFinished(() => provider.close())
  return { provider, client: new OpenAI({ apiKey: 'test', baseURL: provider.baseURL, maxRetries: 0, logLevel: 'off' }) }
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = []
  for await (const item of items) list.push(item)
  return list
}

function post(provider: SimulatedProvider, body: string, path = '/chat/completions'): Promise<Response> {
  return fetch(provider.baseURL + path, { method: 'POST', body })
}

function contentOf({ output }: OpenAI.Responses.Response): unknown[] {
  return output.map((item) => {
    if (item.type === 'function_call') return [item.name, JSON.parse(item.arguments), item.call_id.startsWith('call_')]
    return item.type === 'message' ? item.content.map((part) => (part.type === 'output_text' ? part.text : part.type)) : item.type
  })
}

const chat = { model: MODEL, messages: [...HELLO] }
const streamed = { ...chat, stream: true, stream_options: { include_usage: true } } as const

describe('chat completions with the openai SDK', () => {
  test('an answer echoes the last user message and its usage is what is billed', async () => {
    const { provider, client } = await start()
    const answer = await client.chat.completions.create(chat)
    expect(answer.choices[0]).toMatchObject({ finish_reason: 'stop', message: { role: 'assistant', content: 'hello there' } })
    expect(answer.usage).toMatchObject({ prompt_tokens: HELLO_TOKENS, completion_tokens: 3, total_tokens: HELLO_TOKENS + 3 })
    const nanoUsd = HELLO_TOKENS * 150 + 3 * 600
    expect(provider.bill()).toMatchObject({ requests: 1, billed: 1, nanoUsd })
    const [line] = provider.bill().lines
    expect(line).toMatchObject({ id: answer.id, endpoint: 'chat', model: MODEL, outputTokens: 3, nanoUsd, completed: true })
    expect(Math.abs(Date.now() - line!.at)).toBeLessThan(10_000)
  })

  test('a stream reports usage in a last chunk without choices, and null before it, only when asked', async () => {
    const { provider, client } = await start([{ text: LONG }])
    const chunks = await all(await client.chat.completions.create(streamed))
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')).toBe(LONG)
    expect(chunks.filter((chunk) => chunk.choices[0]?.delta.content).length).toBe(10)
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { prompt_tokens: HELLO_TOKENS, completion_tokens: 12 } })
    expect(chunks.slice(0, -1).every((chunk) => chunk.usage === null && chunk.choices.length === 1)).toBe(true)
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1)

    const silent = await all(await client.chat.completions.create({ ...chat, stream: true }))
    expect(silent.some((chunk) => 'usage' in chunk)).toBe(false)
    expect(silent.at(-1)?.choices[0]?.finish_reason).toBe('stop')
    const { lines, nanoUsd } = provider.bill()
    expect(lines).toMatchObject([true, false].map((completed) => ({ completed, nanoUsd: nanoUsd / 2 })))
  })

  test('tool calls arrive whole, streamed or not, each with an id of its own', async () => {
    const { client } = await start([CALLS])
    const plain = await client.chat.completions.create({ ...chat, tools: [...CHAT_TOOLS] })
    const stream = client.chat.completions.stream({ ...chat, tools: [...CHAT_TOOLS] })
    const ids = new Set<string | undefined>()
    for (const { choices } of [plain, await stream.finalChatCompletion()]) {
      expect(choices[0]).toMatchObject({ finish_reason: 'tool_calls', message: { content: null } })
      const calls = (choices[0]?.message.tool_calls ?? []).map((call) => {
        if (call.type !== 'function') throw new Error(`Expected a function call, got ${call.type}.`)
        ids.add(/^call_.+/.exec(call.id)?.[0])
        return [call.function.name, JSON.parse(call.function.arguments)]
      })
      expect(calls).toEqual(CALLS.toolCalls?.map((call) => [call.name, call.arguments]))
    }
    expect(ids.size).toBe(4)
  })

  test('the tool runner of the SDK goes through its loop', async () => {
    const { provider, client } = await start([{ toolCalls: [{ name: 'add', arguments: { a: 1 } }] }, { text: 'done' }])
    const run = client.chat.completions.runTools({
      ...chat,
      tools: [{ type: 'function', function: { ...ADD, function: () => 'seven', parse: JSON.parse } }],
    })
    expect(await run.finalContent()).toBe('done')
    expect(provider.requests().map(({ index, endpoint }) => `${endpoint} ${index}`)).toEqual(['chat 0', 'chat 1'])
    expect(JSON.stringify(provider.requests()[1]?.body)).toContain('seven')
  })

  test('n choices multiply the output', async () => {
    const { provider, client } = await start([{ text: LONG }])
    const plain = await client.chat.completions.create({ ...chat, n: 3 })
    expect(plain.choices.map(({ index, message }) => [index, message.content])).toEqual([0, 1, 2].map((index) => [index, LONG]))
    const chunks = await all(await client.chat.completions.create({ ...streamed, n: 3 }))
    expect(chunks.at(-1)?.usage?.completion_tokens).toBe(36)
    expect(provider.bill().lines.map(({ outputTokens }) => outputTokens)).toEqual([36, 36])
  })
})

describe('responses with the openai SDK', () => {
  const ask = { model: MODEL, input: 'hello there' }

  test('an answer carries its text, its usage and the id on the bill', async () => {
    const { provider, client } = await start({ prices: { input: 1, cachedInput: 2, output: 3 } })
    const answer = await client.responses.create(ask)
    expect(answer).toMatchObject({ status: 'completed', output_text: 'hello there', incomplete_details: null })
    expect(answer.usage).toMatchObject({ input_tokens: 4, output_tokens: 3, total_tokens: 7 })
    expect(provider.bill()).toMatchObject({ nanoUsd: 13, lines: [{ id: answer.id, endpoint: 'responses', completed: true }] })
  })

  test('a stream has events in the order of the API with rising sequence numbers', async () => {
    const { provider, client } = await start([{ text: 'one two', toolCalls: [{ name: 'add', arguments: { a: 1 } }] }])
    const events = await all(await client.responses.create({ ...ask, stream: true, tools: [...RESPONSE_TOOLS] }))
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, at) => at))
    const message =
      'output_item.added content_part.added output_text.delta output_text.delta output_text.done content_part.done output_item.done'
    const call = 'output_item.added function_call_arguments.delta function_call_arguments.done output_item.done'
    expect(events.map(({ type }) => type.replace('response.', '')).join(' ')).toBe(`created in_progress ${message} ${call} completed`)
    expect(events.at(-1)).toMatchObject({ response: { status: 'completed', usage: { output_tokens: 5 } } })
    expect(provider.bill().lines[0]?.completed).toBe(true)
  })

  test('the stream helper of the SDK assembles the answer that is not streamed', async () => {
    const { client } = await start([{ text: LONG, ...CALLS }])
    const plain = await client.responses.create({ ...ask, tools: [...RESPONSE_TOOLS] })
    const built = await client.responses.stream({ ...ask, tools: [...RESPONSE_TOOLS] }).finalResponse()
    expect(contentOf(plain)).toEqual([[LONG], ['add', { a: 1, b: 'two words' }, true], ['add', { a: 2 }, true]])
    expect(contentOf(built)).toEqual(contentOf(plain))
    expect(built.usage).toEqual(plain.usage)
    expect(built.id).not.toBe(plain.id)
  })
})

describe('the cap of a request', () => {
  test('cuts the text of chat completions and bounds the bill', async () => {
    const { provider, client } = await start([{ text: LONG }])
    for (const cap of [{ max_tokens: 2 }, { max_completion_tokens: 2 }]) {
      const plain = await client.chat.completions.create({ ...chat, ...cap, n: 2 })
      expect(plain.choices.map((choice) => [choice.finish_reason, choice.message.content])).toEqual(
        Array.from({ length: 2 }, () => ['length', LONG.slice(0, 8)]),
      )
      const chunks = await all(await client.chat.completions.create({ ...streamed, ...cap }))
      expect(chunks.at(-2)?.choices[0]?.finish_reason).toBe('length')
    }
    expect(provider.bill().lines.map(({ outputTokens }) => outputTokens)).toEqual([4, 2, 4, 2])
  })

  test('ends a response as incomplete, streamed or not', async () => {
    const { provider, client } = await start([{ text: LONG }])
    const cut = { model: MODEL, input: 'hi', max_output_tokens: 2 }
    const incomplete = { status: 'incomplete', incomplete_details: { reason: 'max_output_tokens' }, usage: { output_tokens: 2 } }
    expect(await client.responses.create(cut)).toMatchObject({ ...incomplete, output_text: LONG.slice(0, 8) })
    const events = await all(await client.responses.create({ ...cut, stream: true }))
    expect(events.at(-1)).toMatchObject({ type: 'response.incomplete', response: incomplete })
    expect(provider.bill().lines.map(({ outputTokens }) => outputTokens)).toEqual([2, 2])
  })

  test('binds scripted usage and the arguments of tools too, and never splits a character', async () => {
    const { provider, client } = await start([
      { text: 'short', usage: { inputTokens: 10, cachedTokens: 4, outputTokens: 900, reasoningTokens: 800 } },
      { toolCalls: [{ name: 'add', arguments: { text: LONG } }] },
      { text: 'a€€€€' },
      { text: LONG, toolCalls: [{ name: 'add', arguments: {} }] },
    ])
    const answers = []
    for (let at = 0; at < 4; at++) answers.push(await client.chat.completions.create({ ...chat, max_completion_tokens: 3 }))
    expect(answers.map(({ choices: [choice] }) => choice?.finish_reason)).toEqual(['length', 'length', 'length', 'length'])
    expect(answers[0]?.usage).toMatchObject({ prompt_tokens_details: { cached_tokens: 4 }, completion_tokens: 3 })
    expect(answers[0]?.usage?.completion_tokens_details?.reasoning_tokens).toBe(3)
    expect(answers[1]?.choices[0]?.message.tool_calls).toMatchObject([{ function: { name: 'add', arguments: '{"text":' } }])
    expect(answers[2]?.choices[0]?.message.content).toBe('a€€€')
    expect(answers[3]?.choices[0]?.message.tool_calls).toBeUndefined()
    expect(provider.bill().lines[0]?.nanoUsd).toBe(6 * 150 + 4 * 75 + 3 * 600)
    expect(provider.bill().lines.every(({ outputTokens }) => outputTokens <= 3)).toBe(true)
  })
})

describe('the AI SDK', () => {
  const tools = { add: tool({ description: 'Adds.', inputSchema: z.object({ a: z.number() }), execute: ({ a }) => a + 1 }) }
  const script = [{ toolCalls: [{ name: 'add', arguments: { a: 1 } }] }, { text: LONG }] satisfies ProviderAnswer[]

  async function model(api: 'chat' | 'responses', answers: ProviderAnswer[]) {
    const { provider } = await start(answers)
    const openai = createOpenAI({ apiKey: 'test', baseURL: provider.baseURL })
    return { provider, settings: { model: api === 'chat' ? openai.chat(MODEL) : openai(MODEL), prompt: 'hi', tools, maxRetries: 0 } }
  }

  test.each(['chat', 'responses'] as const)(
    '%s: a tool loop ends in the text, its usage is what is billed, streamed or not',
    async (api) => {
      for (const ask of [generateText, streamText]) {
        const { provider, settings } = await model(api, script)
        const run = ask({ ...settings, stopWhen: isStepCount(3) })
        const { text, steps } = 'then' in run ? await run : { text: await run.text, steps: await run.steps }
        expect(text).toBe(LONG)
        expect(steps[0]?.toolResults).toMatchObject([{ toolName: 'add', output: 2 }])
        const { lines } = provider.bill()
        expect(lines).toMatchObject([
          { endpoint: api, completed: true },
          { endpoint: api, completed: true },
        ])
        expect(steps.map(({ usage }) => [usage.inputTokens, usage.outputTokens])).toEqual(
          lines.map(({ inputTokens, outputTokens }) => [inputTokens, outputTokens]),
        )
      }
    },
  )

  test.each(['chat', 'responses'] as const)('%s: a capped answer finishes for its length, streamed or not', async (api) => {
    const { provider, settings } = await model(api, [{ text: LONG, serviceTier: 'flex' }])
    const capped = { ...settings, maxOutputTokens: 2 }
    expect(await generateText(capped)).toMatchObject({ finishReason: 'length', text: LONG.slice(0, 8), usage: { outputTokens: 2 } })
    const run = streamText(capped)
    expect([await run.text, await run.finishReason]).toEqual([LONG.slice(0, 8), 'length'])
    expect(provider.bill().lines.map(({ outputTokens }) => outputTokens)).toEqual([2, 2])
  })

  test.each(['chat', 'responses'] as const)('%s: omitted usage is billed all the same', async (api) => {
    const { provider, settings } = await model(api, [{ text: LONG, usage: 'omit' }])
    expect((await generateText(settings)).usage.outputTokens).toBeUndefined()
    const run = streamText(settings)
    expect(await run.text).toBe(LONG)
    expect((await run.usage).outputTokens).toBeUndefined()
    const line = { outputTokens: 12, completed: false }
    expect(provider.bill().lines).toMatchObject([line, line])
  })
})

/** Every way to ask, each reading its answer to the end. */
const WAYS: Record<string, (client: OpenAI) => Promise<unknown>> = {
  chat: (client) => client.chat.completions.create(chat),
  'chat stream': async (client) => all(await client.chat.completions.create(streamed)),
  responses: (client) => client.responses.create({ model: MODEL, input: 'hi' }),
  'responses stream': async (client) => all(await client.responses.create({ model: MODEL, input: 'hi', stream: true })),
}

describe.each(Object.entries(WAYS))('faults of %s', (_, ask) => {
  test.each(['drop-before-headers', 'drop-mid-stream', 'malformed-sse', 'error-but-billed'] as const)(
    '%s fails at the client and is billed in full',
    async (fault) => {
      const { provider, client } = await start([{ text: LONG, fault }, { text: LONG }])
      await expect(ask(client)).rejects.toThrow(fault === 'error-but-billed' ? /500/ : /./)
      await ask(client)
      const { lines } = provider.bill()
      expect(lines.map(({ completed }) => completed)).toEqual([false, true])
      expect(lines[0]?.nanoUsd).toBe(lines[1]?.nanoUsd)
    },
  )

  test('a hanging request is billed, and closing the provider ends it', async () => {
    const { provider, client } = await start([{ fault: 'hang' }])
    const failure = ask(client).catch((error: unknown) => error)
    await expect.poll(() => provider.bill().billed).toBe(1)
    await provider.close()
    expect(await failure).toMatchObject({ message: 'Connection error.' })
    expect(provider.bill().lines[0]?.completed).toBe(false)
  })

  test('errors bill nothing', async () => {
    const { provider, client } = await start([{ status: 429 }, { status: 503, errorBody: 'busy', contentType: 'text/plain' }])
    await expect(ask(client)).rejects.toMatchObject({ status: 429, type: 'invalid_request_error' })
    await expect(ask(client)).rejects.toMatchObject({ status: 503 })
    expect(provider.bill()).toEqual({ requests: 2, billed: 0, nanoUsd: 0, lines: [] })
  })
})

describe('a client that gives up', () => {
  test('pays for the whole stream that it left', async () => {
    const { provider, client } = await start([{ text: LONG, chunkDelayMs: 20 }])
    for await (const chunk of await client.chat.completions.create(streamed)) if (chunk.choices[0]?.delta.content) break
    expect(provider.bill()).toMatchObject({ billed: 1, lines: [{ outputTokens: 12, completed: false }] })
    await new Promise((resolve) => setTimeout(resolve, 400))
    expect(provider.bill().lines[0]?.completed).toBe(false)
  })

  test('has the first half of a stream that drops', async () => {
    const { client } = await start([{ text: LONG, fault: 'drop-mid-stream' }])
    const words: unknown[] = []
    const stream = await client.chat.completions.create(streamed)
    const reading = async (): Promise<void> => {
      for await (const chunk of stream) words.push(chunk.choices[0]?.delta.content)
    }
    await expect(reading()).rejects.toThrow('terminated')
    expect(words.join('')).toBe('one two three four five six ')
  })

  test('pays for each attempt that times out', async () => {
    const { provider, client } = await start([{ delayMs: 60_000 }])
    const patient = client.withOptions({ maxRetries: 1, timeout: 100 })
    await expect(patient.chat.completions.create(chat)).rejects.toThrow('timed out')
    expect(provider.bill()).toMatchObject({ requests: 2, billed: 2 })
  })
})

describe('the server', () => {
  test('refuses what the API refuses, bills nothing for it and does not run the script', async () => {
    const { provider } = await start({ script: () => expect.unreachable() })
    const bad = [{ n: 0 }, { n: 129 }, { max_tokens: 0.5 }, { max_tokens: 1, max_completion_tokens: 1 }, { stream_options: {} }]
    for (const body of ['{', '[]', '{}', { messages: [] }, { model: MODEL }, ...bad.map((members) => ({ ...chat, ...members }))]) {
      const answer = await post(provider, typeof body === 'string' ? body : JSON.stringify(body))
      expect([answer.status, await answer.json()]).toMatchObject([400, { error: { type: 'invalid_request_error' } }])
    }
    expect(provider.bill()).toMatchObject({ requests: 10, billed: 0 })
    expect(provider.requests()).toEqual([])
  })

  test('lists models, and knows no other paths', async () => {
    const { provider, client } = await start()
    expect((await client.models.list()).data.map(({ id }) => id)).toContain(MODEL)
    expect((await post(provider, '{}', '/rerank')).status).toBe(404)
    expect((await fetch(`${provider.baseURL}/responses`)).status).toBe(404)
    expect(provider.bill().requests).toBe(0)
  })

  test('answers 413 to a body over 10 MB, and logs at most 64 MB of bodies', async () => {
    const { provider } = await start([{ text: 'ok' }])
    expect((await post(provider, ' '.repeat(10_000_001))).status).toBe(413)
    const large = JSON.stringify({ model: MODEL, messages: [{ role: 'user', content: 'x'.repeat(9_900_000) }] })
    for (let at = 0; at < 8; at++) expect((await post(provider, large)).status).toBe(200)
    expect(provider.requests().map(({ index }) => index)).toEqual([2, 3, 4, 5, 6, 7])
    expect(provider.bill()).toMatchObject({ requests: 9, billed: 8 })
  })

  test('logs at most 10,000 requests', async () => {
    const { provider } = await start({ script: () => ({ status: 404 }) })
    const body = JSON.stringify(chat)
    for (let sent = 0; sent < 10_050; sent += 50)
      await Promise.all(Array.from({ length: 50 }, async () => (await post(provider, body)).text()))
    expect(provider.requests().length).toBe(10_000)
    expect(provider.requests().at(-1)?.index).toBe(10_049)
  })

  test('answers a script that fails, or gives what cannot be, with a 422 that is not retried', async () => {
    const broken: ProviderAnswer[] = [
      { status: 99 },
      { delayMs: -1 },
      { chunkDelayMs: Number.NaN },
      { text: 'x'.repeat(10_000_001) },
      { usage: { inputTokens: 1, cachedTokens: 2, outputTokens: 1 } },
      { usage: { inputTokens: 1.5, outputTokens: 1 } },
      { usage: { inputTokens: 1e10, outputTokens: 1 } },
      { toolCalls: Array.from({ length: 129 }, () => ({ name: 'add', arguments: {} })) },
    ]
    const { provider, client } = await start(broken)
    for (const _ of broken) {
      const asked = client.withOptions({ maxRetries: 2 }).chat.completions.create(chat)
      await expect(asked).rejects.toMatchObject({ status: 422, code: 'script_error' })
    }
    expect(provider.bill()).toMatchObject({ requests: broken.length, billed: 0 })
  })

  test('repeats the last answer of a script and starts over after a reset', async () => {
    const { provider, client } = await start([{ text: 'one' }, { text: 'two' }])
    const next = async () => (await client.chat.completions.create(chat)).choices[0]?.message.content
    expect([await next(), await next(), await next()]).toEqual(['one', 'two', 'two'])
    provider.reset()
    expect(provider.bill()).toEqual({ requests: 0, billed: 0, nanoUsd: 0, lines: [] })
    expect(await next()).toBe('one')
    expect(provider.requests()[0]?.headers.authorization).toBe('Bearer test')
    expect(() => scriptOf([])).toThrow('at least one')
  })

  test('breaks exactly one event of a malformed stream and sends the rest', async () => {
    const { provider } = await start([{ text: LONG, fault: 'malformed-sse' }])
    const events = (await (await post(provider, JSON.stringify(streamed))).text())
      .split('\n\n')
      .map((event) => event.slice('data: '.length))
    const [broken] = events.splice(Math.floor((events.length - 1) / 2), 1)
    expect(() => JSON.parse(broken!) as unknown).toThrow(SyntaxError)
    expect(events.splice(-2)).toEqual(['[DONE]', ''])
    expect(events.map((event) => JSON.parse(event) as unknown).at(-1)).toMatchObject({ usage: { completion_tokens: 12 } })
  })

  test('serves an HTML page with status 200 for nothing', async () => {
    const { provider } = await start([{ errorBody: '<html>', contentType: 'text/html' }])
    const answer = await post(provider, JSON.stringify(chat))
    expect([answer.status, answer.headers.get('content-type'), await answer.text()]).toEqual([200, 'text/html', '<html>'])
    expect(provider.bill().billed).toBe(0)
  })

  test('refuses prices that are not whole numbers, and can be closed twice', async () => {
    await expect(startProvider({ prices: { input: 0.5, cachedInput: 0, output: 0 } })).rejects.toThrow('prices.input')
    const { provider } = await start()
    await provider.close()
    await provider.close()
    await expect(post(provider, '{}')).rejects.toThrow('fetch failed')
  })
})
