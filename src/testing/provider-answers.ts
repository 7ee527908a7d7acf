// What the simulated provider says: how a scripted answer becomes text, tool calls and usage under the
// caps of a request, and how both OpenAI endpoints write that down; the other formats have files of their own.
// Nothing here touches a socket.

import { assertAmount } from '../lib/amounts.ts'
import { newId } from '../lib/ids.ts'
import type { ProviderAnswer, ProviderRequest, ProviderUsage } from './provider.ts'

/** An answer with every number settled: what is billed, and what is sent unless a fault prevents it. */
export interface Plan {
  readonly id: string
  readonly endpoint: ProviderRequest['endpoint']
  readonly body: Record<string, unknown>
  readonly model: string
  /** Unix time in seconds. */
  readonly created: number
  readonly n: number
  readonly text: string | undefined
  readonly calls: readonly { readonly name: string; readonly arguments: string }[]
  /** True when the cap ended the generation. */
  readonly cut: boolean
  readonly usage: Required<ProviderUsage>
  /** True when the client is told the usage. */
  readonly told: boolean
  readonly serviceTier: string
}

/** Most UTF-16 code units of text and arguments in one answer, over all choices. */
const MAX_ANSWER_LENGTH = 10_000_000
const MAX_TOOL_CALLS = 128
const MAX_TOKENS = 1_000_000_000
const MAX_CHOICES = 128
/** Most deltas that one text is streamed in. */
const MAX_PIECES = 500
const BYTES_PER_TOKEN = 4

/** An error in the format of the OpenAI API. */
export interface WireFault {
  readonly message: string
  readonly param?: string
  readonly code?: string
}

/** What an answer is written in. */
export interface AnswerWriter {
  /** The answer as the body of a response that is not streamed. */
  readonly bodyOf: (plan: Plan) => object
  /** The answer as the pieces of a stream. */
  readonly framesOf: (plan: Plan) => string[]
  /** Content type of a stream. */
  readonly streamType: string
  /** The body of an error. */
  readonly faultBodyOf: (status: number, fault: WireFault) => object
}

/** Finds what the real API would refuse with a 400, or nothing. */
export function faultOf(endpoint: ProviderRequest['endpoint'], body: Record<string, unknown>): WireFault | undefined {
  const input = endpoint === 'responses' ? 'input' : 'messages'
  if (typeof body['model'] !== 'string' || body['model'] === '') return { message: 'you must provide a model parameter', param: 'model' }
  if (!Array.isArray(body[input]) && (endpoint !== 'responses' || typeof body[input] !== 'string'))
    return { message: `Missing required parameter: '${input}'.`, param: input, code: 'missing_required_parameter' }
  for (const param of [...CAPS[endpoint], 'n']) {
    const value = body[param] ?? 1
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1 || (param === 'n' && value > MAX_CHOICES))
      return { message: `Invalid '${param}': expected a whole number above 0.`, param, code: 'invalid_value' }
  }
  // A guard that adds its own cap next to the caller's, or asks for usage without a stream, gets these
  // from the real API too; a simulation that let them pass would hide that.
  if (CAPS[endpoint].filter((param) => body[param] != null).length > 1)
    return {
      message: "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
      param: 'max_tokens',
      code: 'invalid_parameter_combination',
    }
  if (body['stream_options'] != null && body['stream'] !== true)
    return { message: "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param: 'stream_options' }
  return undefined
}

/** The members of a request that bound its output, by endpoint. */
const CAPS = {
  chat: ['max_completion_tokens', 'max_tokens'],
  responses: ['max_output_tokens'],
  messages: ['max_tokens'],
  google: [] as const,
} as const
const ID_PREFIXES = { chat: 'chatcmpl-', responses: 'resp_', messages: 'msg_', google: '' } as const

/** Tokens of a text as this provider counts them: a quarter of its UTF-8 bytes, rounded up. */
function tokensOf(text: string): number {
  return Math.ceil(Buffer.byteLength(text) / BYTES_PER_TOKEN)
}

/** The longest beginning of a text within so many tokens that ends between two characters. */
function cutTo(text: string, tokens: number): string {
  if (tokensOf(text) <= tokens) return text
  return text.slice(0, new TextEncoder().encodeInto(text, new Uint8Array(tokens * BYTES_PER_TOKEN)).read)
}

/**
 * Settles text, tool calls and usage of a request that {@link faultOf} found no fault with.
 *
 * @throws {RangeError} For an answer beyond 10,000,000 characters over all choices, more than 128 tool
 *   calls, or token counts beyond 1e9 or at odds with each other.
 * @throws {TypeError} For token counts that are not whole numbers.
 */
export function planAnswer(request: ProviderRequest, answer: ProviderAnswer): Plan {
  const { endpoint, body } = request
  const cap = Math.min(...CAPS[endpoint].map((param) => (body[param] as number | null | undefined) ?? Infinity))
  const n = endpoint === 'chat' ? ((body['n'] as number | null | undefined) ?? 1) : 1
  const made = generate(body, answer, cap)
  if (made.length * n > MAX_ANSWER_LENGTH)
    throw new RangeError(`Expected an answer of at most ${MAX_ANSWER_LENGTH} characters, got ${made.length * n}.`)
  const { usage, capped } = usageOf(request, answer, made.tokens * n, cap * n)
  const asked = (body['stream_options'] as { include_usage?: unknown } | null | undefined)?.include_usage === true
  return {
    id: `${ID_PREFIXES[endpoint]}${newId()}`,
    endpoint,
    body,
    model: String(body['model']),
    created: Math.floor(Date.now() / 1000),
    n,
    text: made.text,
    calls: made.calls,
    cut: made.cut || capped,
    usage,
    told: answer.usage !== 'omit' && (endpoint !== 'chat' || body['stream'] !== true || asked),
    serviceTier: answer.serviceTier ?? 'default',
  }
}

interface Generated {
  readonly text: string | undefined
  readonly calls: Plan['calls']
  readonly cut: boolean
  readonly tokens: number
  readonly length: number
}

function generate(body: Record<string, unknown>, answer: ProviderAnswer, cap: number): Generated {
  const planned = answer.toolCalls ?? []
  if (planned.length > MAX_TOOL_CALLS) throw new RangeError(`Expected at most ${MAX_TOOL_CALLS} tool calls, got ${planned.length}.`)
  const whole = answer.text ?? (planned.length > 0 ? undefined : echoOf(body))
  const text = whole === undefined ? undefined : cutTo(whole, cap)
  let cut = text !== whole
  let tokens = tokensOf(text ?? '')
  let length = text?.length ?? 0
  const calls: { name: string; arguments: string }[] = []
  for (const call of planned) {
    const left = cap - tokens - tokensOf(call.name)
    cut ||= left < 0
    if (cut) break
    const json = typeof call.arguments === 'string' ? call.arguments : JSON.stringify(call.arguments ?? {})
    const kept = cutTo(json, left)
    cut = kept !== json
    calls.push({ name: call.name, arguments: kept })
    tokens += tokensOf(call.name) + tokensOf(kept)
    length += call.name.length + kept.length
  }
  return { text, calls, cut, tokens, length }
}

function usageOf(
  { endpoint, body }: ProviderRequest,
  { usage }: ProviderAnswer,
  outputTokens: number,
  most: number,
): { usage: Required<ProviderUsage>; capped: boolean } {
  if (usage === undefined || usage === 'omit') {
    const inputTokens = tokensOf(JSON.stringify(endpoint === 'responses' ? body['input'] : body['messages']))
    return { usage: { inputTokens, cachedTokens: 0, outputTokens, reasoningTokens: 0 }, capped: false }
  }
  const full = { cachedTokens: 0, reasoningTokens: 0, ...usage }
  for (const [field, tokens] of Object.entries(full)) {
    assertAmount(`usage.${field}`, tokens)
    if (tokens > MAX_TOKENS) throw new RangeError(`Expected \`usage.${field}\` to be at most ${MAX_TOKENS}, got ${tokens}.`)
  }
  if (full.cachedTokens > full.inputTokens || full.reasoningTokens > full.outputTokens)
    throw new RangeError('Expected `usage.cachedTokens` within `inputTokens` and `reasoningTokens` within `outputTokens`.')
  // A real provider cannot generate past the cap, so a script cannot make this one do it.
  const kept = Math.min(full.outputTokens, most)
  return {
    usage: { ...full, outputTokens: kept, reasoningTokens: Math.min(full.reasoningTokens, kept) },
    capped: kept < full.outputTokens,
  }
}

/** The text of the last user message, or `ok` when it has none. */
function echoOf(body: Record<string, unknown>): string {
  const input = body['messages'] ?? body['input']
  if (typeof input === 'string') return input === '' ? 'ok' : input
  const content = (input as ({ role?: unknown; content?: unknown } | null)[]).findLast((item) => item?.role === 'user')?.content
  const parts = Array.isArray(content) ? (content as ({ text?: unknown } | null)[]).map((part) => part?.text) : [content]
  const text = parts.filter((part) => typeof part === 'string').join(' ')
  return text === '' ? 'ok' : text
}

/** Splits a text into at most 500 deltas at the ends of words. */
export function piecesOf(text: string): string[] {
  const words = text.match(/\S+\s*|\s+/g) ?? []
  const size = Math.ceil(words.length / MAX_PIECES)
  if (size <= 1) return words
  return Array.from({ length: Math.ceil(words.length / size) }, (_, at) => words.slice(at * size, (at + 1) * size).join(''))
}

/** The format of the OpenAI API, of both of its endpoints. */
export const openaiWriter: AnswerWriter = {
  bodyOf,
  framesOf,
  streamType: 'text/event-stream; charset=utf-8',
  faultBodyOf(status, { message, param, code }) {
    const type = status >= 500 ? 'server_error' : 'invalid_request_error'
    return { error: { message, type, param: param ?? null, code: code ?? null } }
  },
}

function bodyOf(plan: Plan): object {
  if (plan.endpoint === 'responses') return responseOf(plan, plan.cut ? 'incomplete' : 'completed', itemsOf(plan))
  const choice = (index: number): object => ({
    index,
    message: {
      role: 'assistant',
      content: plan.text ?? null,
      refusal: null,
      annotations: [],
      ...(plan.calls.length > 0 ? { tool_calls: plan.calls.map(chatCall) } : {}),
    },
    logprobs: null,
    finish_reason: finishOf(plan),
  })
  return {
    ...chatHead(plan, 'chat.completion'),
    choices: Array.from({ length: plan.n }, (_, index) => choice(index)),
    ...(plan.told ? { usage: chatUsage(plan) } : {}),
  }
}

/** Server-sent events, each ending in an empty line. */
function framesOf(plan: Plan): string[] {
  return plan.endpoint === 'chat' ? [...chatFrames(plan)] : [...responseFrames(plan)]
}

function finishOf({ cut, calls }: Plan): string {
  if (cut) return 'length'
  return calls.length > 0 ? 'tool_calls' : 'stop'
}

function chatHead({ id, created, model, serviceTier }: Plan, object: string): object {
  return { id, object, created, model, service_tier: serviceTier, system_fingerprint: 'fp_simulated' }
}

function chatCall(call: Plan['calls'][number]): object {
  return { id: `call_${newId()}`, type: 'function', function: call }
}

function chatUsage({ usage }: Plan): object {
  return {
    prompt_tokens: usage.inputTokens,
    completion_tokens: usage.outputTokens,
    total_tokens: usage.inputTokens + usage.outputTokens,
    prompt_tokens_details: { cached_tokens: usage.cachedTokens, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: usage.reasoningTokens,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  }
}

function* chatFrames(plan: Plan): Generator<string> {
  const head = chatHead(plan, 'chat.completion.chunk')
  const asked = (plan.body['stream_options'] as { include_usage?: unknown } | null | undefined)?.include_usage === true
  const chunk = (choices: readonly object[], usage: object | null = null): string =>
    `data: ${JSON.stringify({ ...head, choices, ...(asked ? { usage } : {}) })}\n\n`
  for (let index = 0; index < plan.n; index++) {
    const delta = (delta: object, reason: string | null = null): string => chunk([{ index, delta, logprobs: null, finish_reason: reason }])
    yield delta({ role: 'assistant', content: plan.text === undefined ? null : '', refusal: null })
    for (const content of piecesOf(plan.text ?? '')) yield delta({ content })
    for (const [at, call] of plan.calls.entries()) {
      yield delta({ tool_calls: [{ index: at, ...chatCall({ ...call, arguments: '' }) }] })
      for (const piece of piecesOf(call.arguments)) yield delta({ tool_calls: [{ index: at, function: { arguments: piece } }] })
    }
    yield delta({}, finishOf(plan))
  }
  if (plan.told) yield chunk([], chatUsage(plan))
  yield 'data: [DONE]\n\n'
}

function responseUsage({ usage }: Plan): object {
  return {
    input_tokens: usage.inputTokens,
    input_tokens_details: { cached_tokens: usage.cachedTokens, cache_write_tokens: 0 },
    output_tokens: usage.outputTokens,
    output_tokens_details: { reasoning_tokens: usage.reasoningTokens },
    total_tokens: usage.inputTokens + usage.outputTokens,
  }
}

function responseOf(plan: Plan, status: 'in_progress' | 'completed' | 'incomplete', output: readonly object[]): object {
  const { body } = plan
  return {
    id: plan.id,
    object: 'response',
    created_at: plan.created,
    status,
    background: false,
    error: null,
    incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
    instructions: body['instructions'] ?? null,
    max_output_tokens: body['max_output_tokens'] ?? null,
    metadata: body['metadata'] ?? {},
    model: plan.model,
    output,
    parallel_tool_calls: body['parallel_tool_calls'] ?? true,
    previous_response_id: body['previous_response_id'] ?? null,
    reasoning: { effort: null, summary: null },
    service_tier: plan.serviceTier,
    store: body['store'] ?? true,
    temperature: body['temperature'] ?? 1,
    text: body['text'] ?? { format: { type: 'text' } },
    tool_choice: body['tool_choice'] ?? 'auto',
    tools: body['tools'] ?? [],
    top_p: body['top_p'] ?? 1,
    truncation: body['truncation'] ?? 'disabled',
    usage: status !== 'in_progress' && plan.told ? responseUsage(plan) : null,
  }
}

interface MessageItem {
  readonly id: string
  readonly type: 'message'
  readonly status: string
  readonly role: 'assistant'
  readonly content: readonly [{ readonly type: 'output_text'; readonly text: string; readonly annotations: []; readonly logprobs: [] }]
}

interface CallItem {
  readonly id: string
  readonly type: 'function_call'
  readonly status: string
  readonly call_id: string
  readonly name: string
  readonly arguments: string
}

function itemsOf({ text, calls, cut }: Plan): (MessageItem | CallItem)[] {
  // The cap ends the last item; everything before it is whole.
  const statusOf = (at: number): string => (cut && at === calls.length - 1 ? 'incomplete' : 'completed')
  const items = calls.map((call, at): MessageItem | CallItem => ({
    id: `fc_${newId()}`,
    type: 'function_call',
    status: statusOf(at),
    call_id: `call_${newId()}`,
    ...call,
  }))
  if (text === undefined) return items
  const content: MessageItem['content'] = [{ type: 'output_text', text, annotations: [], logprobs: [] }]
  return [{ id: `msg_${newId()}`, type: 'message', status: statusOf(-1), role: 'assistant', content }, ...items]
}

function* responseFrames(plan: Plan): Generator<string> {
  let sequence = 0
  const event = (type: string, members: object): string =>
    `event: ${type}\ndata: ${JSON.stringify({ type, sequence_number: sequence++, ...members })}\n\n`
  const items = itemsOf(plan)
  const end = plan.cut ? 'incomplete' : 'completed'
  yield event('response.created', { response: responseOf(plan, 'in_progress', []) })
  yield event('response.in_progress', { response: responseOf(plan, 'in_progress', []) })
  for (const [at, item] of items.entries()) {
    const bare = item.type === 'message' ? { content: [] } : { arguments: '' }
    yield event('response.output_item.added', { output_index: at, item: { ...item, status: 'in_progress', ...bare } })
    const place = { item_id: item.id, output_index: at }
    yield* item.type === 'message' ? textEvents(item, { ...place, content_index: 0 }, event) : callEvents(item, place, event)
    yield event('response.output_item.done', { output_index: at, item })
  }
  yield event(`response.${end}`, { response: responseOf(plan, end, items) })
}

type WriteEvent = (type: string, members: object) => string

function* textEvents({ content: [part] }: MessageItem, place: object, event: WriteEvent): Generator<string> {
  yield event('response.content_part.added', { ...place, part: { ...part, text: '' } })
  for (const delta of piecesOf(part.text)) yield event('response.output_text.delta', { ...place, delta, logprobs: [] })
  yield event('response.output_text.done', { ...place, text: part.text, logprobs: [] })
  yield event('response.content_part.done', { ...place, part })
}

function* callEvents(item: CallItem, place: object, event: WriteEvent): Generator<string> {
  for (const delta of piecesOf(item.arguments)) yield event('response.function_call_arguments.delta', { ...place, delta })
  yield event('response.function_call_arguments.done', { ...place, name: item.name, arguments: item.arguments })
}
