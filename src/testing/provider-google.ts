// The simulated provider in the words of the Gemini API: how a request to `generateContent` is read, and how a
// planned answer is written down. Nothing here touches a socket.
// Source: https://ai.google.dev/api/generate-content (2026-11-22)

import type { AnswerWriter, Plan } from './provider-answers.ts'

/** A call of a Gemini model, as its URL has it. */
export interface GoogleCall {
  /** The same request in the words of Responses, which the rest of the provider knows. */
  read(body: Record<string, unknown>): Record<string, unknown>
  readonly writer: AnswerWriter
}

/** The call that a request makes by its URL; `undefined` when it is none of a Gemini model. */
export function googleCallOf(method: string | undefined, url: string): GoogleCall | undefined {
  const { pathname, searchParams } = URL.parse(url, 'http://127.0.0.1') ?? new URL('http://127.0.0.1')
  const [, name, action] =
    /^\/v1(?:beta)?(?:\/projects\/[^/]+\/locations\/[^/]+\/publishers\/google)?\/models\/([^/:]+):(generateContent|streamGenerateContent)$/.exec(
      pathname,
    ) ?? []
  if (method !== 'POST' || name === undefined) return undefined
  const model = decodeURIComponent(name)
  const inEvents = searchParams.get('alt') === 'sse'
  return {
    read: (body) => readRequest(model, action === 'streamGenerateContent', body),
    writer: {
      bodyOf: (plan) => chunkOf(plan, [...textParts(plan), ...callParts(plan)], true),
      framesOf: (plan) => (inEvents ? eventFrames(plan) : arrayFrames(plan)),
      streamType: inEvents ? 'text/event-stream' : 'application/json; charset=UTF-8',
      faultBodyOf: (status, { message }) => ({ error: { code: status, message, status: STATUS_NAMES[status] ?? 'UNKNOWN' } }),
    },
  }
}

const STATUS_NAMES: Readonly<Record<number, string>> = {
  400: 'INVALID_ARGUMENT',
  403: 'PERMISSION_DENIED',
  404: 'NOT_FOUND',
  429: 'RESOURCE_EXHAUSTED',
  500: 'INTERNAL',
  503: 'UNAVAILABLE',
}

type Fields = Readonly<Record<string, unknown>>

function readRequest(model: string, stream: boolean, { contents, generationConfig }: Fields): Record<string, unknown> {
  const { maxOutputTokens, candidateCount } = (generationConfig ?? {}) as Fields
  return {
    model,
    stream,
    ...(Array.isArray(contents) ? { input: (contents as Fields[]).map(itemOf) } : {}),
    ...(maxOutputTokens == null ? {} : { max_output_tokens: maxOutputTokens }),
    // Of more than one candidate nothing is simulated; `0` makes it a 400.
    ...(candidateCount == null || candidateCount === 1 ? {} : { n: 0 }),
  }
}

function itemOf({ role, parts }: Fields): Fields {
  return { role: role ?? 'user', content: Array.isArray(parts) ? (parts as Fields[]).map(({ text, ...rest }) => ({ ...rest, text })) : [] }
}

function textParts({ text }: Plan): Fields[] {
  return text === undefined ? [] : [{ text }]
}

/** Arguments that were cut are no JSON object, and Gemini sends none of the call then. */
function callParts({ calls }: Plan): Fields[] {
  return calls.flatMap(({ name, arguments: text }) => {
    try {
      return [{ functionCall: { name, args: JSON.parse(text) as unknown } }]
    } catch {
      return []
    }
  })
}

function chunkOf(plan: Plan, parts: readonly Fields[], last: boolean): object {
  const whole = callParts(plan).length === plan.calls.length
  const reason = plan.cut ? 'MAX_TOKENS' : whole ? 'STOP' : 'MALFORMED_FUNCTION_CALL'
  const usage = plan.told ? { usageMetadata: usageOf(plan, last) } : {}
  return {
    candidates: [{ content: { parts, role: 'model' }, ...(last ? { finishReason: reason } : {}), index: 0 }],
    ...usage,
    modelVersion: plan.model,
    responseId: plan.id,
  }
}

/** What is used so far: everything that was asked, and of the answer one token until it has ended. */
function usageOf({ usage: { inputTokens, cachedTokens, outputTokens, reasoningTokens } }: Plan, last: boolean): object {
  const candidates = last ? outputTokens - reasoningTokens : Math.min(1, outputTokens - reasoningTokens)
  const thoughts = last ? reasoningTokens : 0
  return {
    promptTokenCount: inputTokens,
    ...(cachedTokens > 0
      ? { cachedContentTokenCount: cachedTokens, cacheTokensDetails: [{ modality: 'TEXT', tokenCount: cachedTokens }] }
      : {}),
    ...(candidates > 0 ? { candidatesTokenCount: candidates } : {}),
    ...(thoughts > 0 ? { thoughtsTokenCount: thoughts } : {}),
    totalTokenCount: inputTokens + candidates + thoughts,
    promptTokensDetails: [{ modality: 'TEXT', tokenCount: inputTokens }],
  }
}

function chunksOf(plan: Plan): string[] {
  const words = (plan.text ?? '').match(/\S+\s*|\s+/g) ?? []
  const size = Math.max(1, Math.ceil(words.length / 500))
  const pieces = Array.from({ length: Math.ceil(words.length / size) }, (_, at) => words.slice(at * size, (at + 1) * size).join(''))
  const bodies = pieces.map((text) => chunkOf(plan, [{ text }], false))
  return [...bodies, chunkOf(plan, callParts(plan), true)].map((body) => JSON.stringify(body))
}

function eventFrames(plan: Plan): string[] {
  return chunksOf(plan).map((chunk) => `data: ${chunk}\r\n\r\n`)
}

function arrayFrames(plan: Plan): string[] {
  const chunks = chunksOf(plan)
  return [...chunks.map((chunk, at) => `${at === 0 ? '[' : '\n,\r\n'}${chunk}`), '\n]\n']
}
