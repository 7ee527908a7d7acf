// Two ways to a Gemini model as the integration suite sees them: the Google Gen AI SDK with a `fetch` of holdfast, and
// a client that a user wrote with `fetch` alone.

import { GoogleGenAI, type Content, type GenerateContentParameters, type Part } from '@google/genai'
import { guardFunctions } from '../../integrations/openai.ts'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { SUITE_MODEL, type CallOptions, type Calls, type IntegrationAdapter, type Site } from '../../src/testing/integration-bench.ts'
import { collect, defined } from './adapters.ts'
import { PRICE, openSite, type WireSite } from './wire-site.ts'

/** The Gemini model that most tests call. */
export const MODEL = 'gemini-2.5-flash'
/** Where the Gemini API is; tests never get there. */
export const ROOT = 'https://generativelanguage.googleapis.com'
/** A small request. */
export const BODY = { contents: [{ role: 'user', parts: [{ text: 'Count the ships.' }] }], generationConfig: { maxOutputTokens: 50 } }
/** Opens a site on which {@link MODEL} has a price. */
export const openGemini = (): Promise<WireSite> => openSite({ [MODEL]: PRICE })

/** What an answer of 20 tokens of input has used. */
export const usageOf = (candidatesTokenCount: number, thoughtsTokenCount = 0) => ({
  promptTokenCount: 20,
  candidatesTokenCount,
  thoughtsTokenCount,
  totalTokenCount: 20 + candidatesTokenCount + thoughtsTokenCount,
})

const chunk = (text: string, more: object = {}) => ({ candidates: [{ content: { parts: [{ text }], role: 'model' }, index: 0, ...more }] })
/** Three chunks of one answer, each with what was used so far: braces and quotes in its text, and multibyte characters. */
export const CHUNKS = [
  { ...chunk('Neun "Schiffe" {'), usageMetadata: usageOf(3) },
  { ...chunk('\\ und ein Kutter: ⛵'), usageMetadata: usageOf(9) },
  { ...chunk(' draußen.', { finishReason: 'STOP' }), usageMetadata: usageOf(12, 5), modelVersion: MODEL, responseId: 'r-1' },
]
/** What they cost at {@link PRICE}, nano-USD. */
export const COST = 20 * 150 + 17 * 600

const OBJECT = { type: 'object', properties: {} }

/** Where the simulated provider answers in the words of Gemini. */
export function googleRoot({ baseURL }: { readonly baseURL: string }): string {
  return baseURL.replace(/\/v1$/, '')
}

/** A client of the Google Gen AI SDK on a site, with or without holdfast. */
export function googleClientOf(site: Site): GoogleGenAI {
  const { guarded, scope, maxRetries, timeoutMs, drainMs } = site
  const httpOptions = defined({
    baseUrl: googleRoot(site),
    timeout: timeoutMs,
    retryOptions: { attempts: maxRetries + 1, initialDelay: 0.001, jitter: 0 },
    fetch: guarded ? guardFetch(scope, { drainMs }) : undefined,
  })
  return new GoogleGenAI({ apiKey: 'test', httpOptions })
}

function parametersOf({ prompt, model = SUITE_MODEL, maxOutputTokens, signal }: CallOptions): GenerateContentParameters {
  const config = defined({ maxOutputTokens, abortSignal: signal })
  return { model, contents: prompt, ...(Object.keys(config).length === 0 ? {} : { config }) }
}

/** Asks again and again with what the functions returned, until the model asks for none. */
async function loop(
  { scope, guarded, toolAmounts }: Site,
  { tools, ...options }: Parameters<NonNullable<Calls['runTools']>>[0],
  ask: (contents: Content[]) => Promise<readonly Part[]>,
): Promise<string> {
  const functions = guarded ? guardFunctions(scope, tools, toolAmounts) : tools
  const contents: Content[] = [{ role: 'user', parts: [{ text: options.prompt }] }]
  for (;;) {
    const parts = [...(await ask(contents))]
    const asked = parts.flatMap(({ functionCall }) => (functionCall === undefined ? [] : [functionCall]))
    if (asked.length === 0) return parts.map(({ text }) => text ?? '').join('')
    const answers: Part[] = []
    for (const { name, args } of asked)
      answers.push({ functionResponse: { name: name!, response: { output: await functions[name!]!(args ?? {}) } } })
    contents.push({ role: 'model', parts }, { role: 'user', parts: answers })
  }
}

const declarationsOf = (tools: object): object[] => [
  { functionDeclarations: Object.keys(tools).map((name) => ({ name, description: name, parametersJsonSchema: OBJECT })) },
]

/** The SDK retries what is answered with an error, but no connection that broke: a user's own loop does. */
async function retried<T>({ maxRetries }: Site, call: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await call()
    } catch (error) {
      if (!(error instanceof TypeError) || attempt >= maxRetries) throw error
    }
  }
}

function sdkCalls(site: Site): Calls {
  const { models } = googleClientOf(site)
  return {
    async generate(options) {
      const answer = await retried(site, () => models.generateContent(parametersOf(options)))
      return { text: answer.text ?? '', raw: answer }
    },
    async *stream(options) {
      for await (const chunk of await models.generateContentStream(parametersOf(options))) yield chunk.text ?? ''
    },
    async parts(options) {
      return collect(await models.generateContentStream(parametersOf(options)))
    },
    runTools: (options) =>
      loop(site, options, async (contents) => {
        const { config, ...rest } = parametersOf(options)
        const answer = await models.generateContent({ ...rest, contents, config: { ...config, tools: declarationsOf(options.tools) } })
        return answer.candidates?.[0]?.content?.parts ?? []
      }),
  }
}

/** `generateContent` of the Google Gen AI SDK. */
export const GOOGLE_SDK: IntegrationAdapter = {
  name: 'google genai',
  streamRefusal: 'error',
  drains: true,
  // The SDK lets go of the body of a stream that its caller leaves, and cancels nothing.
  leavesByBreak: false,
  connect: sdkCalls,
}

/** An answer, as far as the client by hand reads it. */
interface Answer {
  readonly candidates?: readonly { readonly content?: { readonly parts?: readonly Part[] } }[]
}

function textOf({ candidates }: Answer): string {
  return (candidates?.[0]?.content?.parts ?? []).map(({ text }) => text ?? '').join('')
}

/** How the client by hand takes its streams: as events, or as one JSON array in pieces. */
export type StreamForm = 'sse' | 'array'

/** A stream of chunks as JSON, one for each push; the last push may leave a rest, which is an answer cut off. */
async function* chunksOf(body: ReadableStream<Uint8Array>, form: StreamForm): AsyncGenerator<Answer> {
  const reader = body.getReader()
  const decoder = new TextDecoder()
  let text = ''
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) break
      text += decoder.decode(value, { stream: true })
      const pieces = text.split(form === 'sse' ? /\r?\n\r?\n/ : /\n,\r\n|\n\]\n/)
      text = pieces.pop()!
      for (const piece of pieces) yield JSON.parse(piece.replace(form === 'sse' ? /^data: / : /^\[/, '')) as Answer
    }
    if (text.trim() !== '') throw new Error('The stream ended in the middle of a chunk.')
  } finally {
    await reader.cancel()
  }
}

function handCalls(site: Site, form: StreamForm): Calls {
  const { guarded, scope, drainMs, maxRetries, timeoutMs } = site
  const send = guarded ? guardFetch(scope, { drainMs }) : fetch
  async function post(
    { prompt, model = SUITE_MODEL, maxOutputTokens, signal }: CallOptions,
    method: string,
    more: object = {},
  ): Promise<Response> {
    const generationConfig = maxOutputTokens === undefined ? {} : { generationConfig: { maxOutputTokens } }
    const signals = [signal, timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs)].filter((one) => one !== undefined)
    for (let attempt = 0; ; attempt++) {
      try {
        const response = await send(`${googleRoot(site)}/v1beta/models/${model}:${method}`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', 'x-goog-api-key': 'test' },
          body: JSON.stringify({ contents: [{ role: 'user', parts: [{ text: prompt }] }], ...generationConfig, ...more }),
          signal: AbortSignal.any(signals),
        })
        if (response.ok) return response
        const retryable = response.status === 429 || response.status >= 500
        if (!retryable || attempt >= maxRetries) throw Object.assign(new Error(`status ${response.status}`), await response.json())
      } catch (error) {
        if (!(error instanceof TypeError) || attempt >= maxRetries) throw error
      }
    }
  }
  const open = async (options: CallOptions) => {
    const response = await post(options, form === 'sse' ? 'streamGenerateContent?alt=sse' : 'streamGenerateContent')
    return chunksOf(response.body!, form)
  }
  return {
    async generate(options) {
      const answer = (await (await post(options, 'generateContent')).json()) as Answer
      return { text: textOf(answer), raw: answer }
    },
    async *stream(options) {
      for await (const chunk of await open(options)) yield textOf(chunk)
    },
    async parts(options) {
      return collect(await open(options))
    },
    runTools: (options) =>
      loop(site, options, async (contents) => {
        const answer = (await (await post(options, 'generateContent', { contents, tools: declarationsOf(options.tools) })).json()) as Answer
        return answer.candidates?.[0]?.content?.parts ?? []
      }),
  }
}

/** The adapter of a client by hand. */
export function byHand(form: StreamForm): IntegrationAdapter {
  return {
    name: `gemini by hand (${form})`,
    streamRefusal: 'error',
    drains: true,
    leavesByBreak: true,
    connect: (site) => handCalls(site, form),
  }
}
