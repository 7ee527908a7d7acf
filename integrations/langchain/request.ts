// The worst case of a model call of `createAgent`, from its request: what a chat model makes of it on the wire is not
// visible here, so the bound leaves room for the wire format of any.

import { toJsonSchema } from '@langchain/core/utils/json_schema'
import type { BaseMessage } from '@langchain/core/messages'
import { Refusal } from '../../src/lib/errors.ts'
import { type BoundOptions, type RequestFacts } from '../../src/metering/worst-case/bound.ts'
import { hostedName } from '../../src/metering/worst-case/openai.ts'
import { isOpenAiLike } from './shared.ts'

/** Room for field names and brackets that a provider adds, in bytes, and as a part of the whole. */
const WIRE_BYTES = 1_024
const WIRE_SHARE = 0.25

/** Parts of a message that are text on the wire, or not on it at all; whatever is not listed may cost more than its bytes. */
const TEXT_PARTS = new Set([
  'text',
  'text-plain',
  'reasoning',
  'thinking',
  'refusal',
  'tool_call',
  'tool_use',
  'function_call',
  'output_text',
])

/** Items of an answer that are sent back as they are, when it is part of the history. */
const PLAIN_ITEMS = new Set(['message', 'function_call', 'custom_tool_call'])

/** Fields of a request that refer to what the provider has. */
const OPAQUE_FIELDS = ['previous_response_id', 'conversation', 'prompt', 'context_management']
/** Fields of a request that switch a search on. */
const SEARCH_FIELDS = ['web_search_options', 'search_parameters', 'plugins']

/** Fields of `modelSettings` that may cap the output of some model; those of `@langchain/openai` read none of them. */
const CAP_SETTINGS = ['max_tokens', 'max_completion_tokens', 'max_output_tokens', 'maxTokens', 'maxOutputTokens']

type Fields = Readonly<Record<string, unknown>>

/** What is read of the request of `wrapModelCall`. */
export interface BoundableRequest {
  readonly messages: readonly BaseMessage[]
  readonly systemMessage?: BaseMessage | undefined
  /** Where other middleware changed it, the message is still the old one. */
  readonly systemPrompt?: unknown
  readonly tools?: readonly unknown[]
  readonly toolChoice?: unknown
  readonly responseFormat?: unknown
  readonly modelSettings?: unknown
}

/** What bounds a call. */
export interface CallBound {
  readonly modelId: string
  readonly serviceTier: string | undefined
  /** What was asked, to be hashed. */
  readonly text: string
  /** At least as many as the request has on the wire, in UTF-8. */
  readonly bytes: number
  readonly facts: RequestFacts
}

/** Reads the request of a model call. */
export function boundCall(model: object, request: BoundableRequest): CallBound {
  const params = paramsOf(model, request.modelSettings)
  const { systemMessage, systemPrompt } = request
  const messages = systemMessage === undefined ? request.messages : [systemMessage, ...request.messages]
  const prompt = systemPrompt === systemMessage?.text ? undefined : systemPrompt
  const tools = (request.tools ?? []).map(wireTool)
  const format = wireFormat(request.responseFormat)
  const text = JSON.stringify(
    { messages: messages.map(wireMessage), prompt, tools, toolChoice: request.toolChoice, format, params },
    (_key, value) => (value instanceof Uint8Array ? `${value.length} bytes` : (value as unknown)),
  )
  const bytes = new TextEncoder().encode(text).length
  const hosted = [
    ...tools.flatMap(({ type }) => (type === 'function' || type === 'custom' ? [] : [hostedName(String(type))])),
    ...(SEARCH_FIELDS.some((field) => params[field] != null) ? ['web_search'] : []),
  ]
  const { model: name, service_tier: tier, n, modalities } = params
  const { model: own, modelName } = model as Fields
  // One that has no name, such as a fake, goes by its class: a price can be given under that.
  const modelId = [name, own, modelName, model.constructor.name].find((id) => typeof id === 'string' && id !== '') ?? ''
  return {
    modelId: modelId as string,
    serviceTier: typeof tier === 'string' ? tier : undefined,
    text,
    bytes: bytes + Math.ceil(bytes * WIRE_SHARE) + WIRE_BYTES,
    facts: {
      model: modelId as string,
      caps: capsOf(model, params, request.modelSettings),
      maxToolCalls: params['max_tool_calls'],
      named: OPAQUE_FIELDS.some((field) => params[field] != null) || messages.some((message) => isOpaque(message, params)),
      hostedTools: [...new Set(hosted)],
      hasTools: tools.length > 0,
      predicts: params['prediction'] != null,
      choices: typeof n === 'number' ? Math.max(1, Math.ceil(n)) : 1,
      inputAudio: messages.some((message) => partsOf(message).some(({ type }) => type === 'input_audio' || type === 'audio')),
      outputAudio: Array.isArray(modalities) && modalities.includes('audio'),
    },
  }
}

/**
 * For a model that cannot be given a cap: the most that it puts out by itself, whatever the settings of the call say.
 *
 * @throws {Refusal} `ERR_UNMETERED` when nobody knows that.
 */
export function withOwnMaximum(facts: RequestFacts, { maxOutputTokens, contextWindow }: BoundOptions): RequestFacts {
  if ((facts.caps['maxTokens'] ?? facts.caps['maxOutputTokens']) != null) return facts
  const most = maxOutputTokens ?? contextWindow
  if (most !== undefined) return { ...facts, caps: { maxOutputTokens: most } }
  const wouldPass = 'add `maxOutputTokens` to the price of the model'
  throw new Refusal('ERR_UNMETERED', `\`${facts.model}\` cannot be given an output cap, and its own is not known: ${wouldPass}.`, {
    wouldPass,
  })
}

/** The settings of a call, where a model may read them, with no larger output cap than what was granted. */
export function clampedSettings(settings: unknown, granted: number): Fields | undefined {
  if (settings == null) return undefined
  const larger = Object.entries(settings).filter(([field, cap]) => CAP_SETTINGS.includes(field) && typeof cap === 'number' && cap > granted)
  return { ...settings, ...Object.fromEntries(larger.map(([field]) => [field, granted])) }
}

/** What the model sends beside messages and tools, as it says itself; settings of the call are in it. */
function paramsOf(model: object, settings: unknown): Fields {
  const { invocationParams } = model as { invocationParams?: (options: unknown) => unknown }
  if (!isOpenAiLike(model) || invocationParams === undefined) return (settings ?? {}) as Fields
  const sent = Object.entries(settings ?? {}).filter(([field]) => !CAP_SETTINGS.includes(field))
  return { ...Object.fromEntries(sent), ...(invocationParams.call(model, settings ?? {}) as Fields) }
}

/** Caps of output tokens, in every place where a model or its provider may look for one. */
function capsOf(model: object, params: Fields, settings: unknown): Fields {
  const { max_tokens, max_completion_tokens, max_output_tokens } = params
  if (isOpenAiLike(model)) return { max_tokens, max_completion_tokens, max_output_tokens }
  const asked = Object.entries(settings ?? {}).filter(([field]) => CAP_SETTINGS.includes(field))
  const own = { maxTokens: limitOf(model, 'maxTokens'), maxOutputTokens: limitOf(model, 'maxOutputTokens') }
  return { ...Object.fromEntries(asked.map(([field, cap]) => [`modelSettings.${field}`, cap])), ...own }
}

/** In LangChain -1 stands for no limit. */
function limitOf(model: object, field: string): unknown {
  const limit = (model as Fields)[field]
  return limit === -1 ? undefined : limit
}

function wireMessage(message: BaseMessage): Fields {
  const { tool_calls, invalid_tool_calls, tool_call_id } = message as BaseMessage & Fields
  const { tool_calls: raw, ...kwargs } = message.additional_kwargs
  const calls = (Array.isArray(tool_calls) ? tool_calls : []) as readonly Fields[]
  return {
    type: message.getType(),
    name: message.name,
    content: message.content,
    // Arguments are sent as text that has JSON in it, which is longer than the JSON.
    calls: calls.length > 0 ? calls.map(({ id, name, args }) => ({ id, name, args: JSON.stringify(args) })) : raw,
    invalid_tool_calls,
    tool_call_id,
    kwargs,
    output: outputOf(message),
  }
}

/** The items of an earlier answer of the Responses API, which are sent back. */
function outputOf({ response_metadata: metadata }: BaseMessage): readonly Fields[] | undefined {
  const output = (metadata as Fields | undefined)?.['output']
  return Array.isArray(output) ? (output as readonly Fields[]) : undefined
}

/** A tool as far as its length and its kind go. What it is called with is its schema, written as JSON Schema. */
function wireTool(tool: unknown): Fields {
  const { name, description, schema, type, extras } = tool as Fields
  const defined = (extras as Fields | undefined)?.['providerToolDefinition'] as Fields | undefined
  if (defined !== undefined) return defined
  // As its provider has it: with its own words for what it is called with.
  if (schema === undefined) return typeof type === 'string' ? (tool as Fields) : { type: 'function', ...(tool as Fields) }
  return { type: 'function', function: { name, description, parameters: schemaOf(schema) } }
}

function wireFormat(format: unknown): unknown {
  if (format == null || typeof format !== 'object') return format
  if (Array.isArray(format)) return format.map(wireFormat)
  // A strategy of LangChain has its schema inside; everything else is one.
  const { schema, ...rest } = format as Fields
  return schema !== undefined && !('~standard' in format) ? { ...rest, schema: schemaOf(schema) } : schemaOf(format)
}

function schemaOf(schema: unknown): unknown {
  try {
    return toJsonSchema(schema as Parameters<typeof toJsonSchema>[0])
  } catch {
    // What cannot be written as JSON Schema cannot be sent as one, either: the model itself will say so.
    return undefined
  }
}

function partsOf({ content }: BaseMessage): readonly Fields[] {
  return Array.isArray(content)
    ? ((content as readonly unknown[]).filter((part) => typeof part === 'object' && part !== null) as Fields[])
    : []
}

/** Whether a message has something in it that the client cannot count. */
function isOpaque(message: BaseMessage, params: Fields): boolean {
  if (partsOf(message).some(({ type }) => typeof type !== 'string' || !TEXT_PARTS.has(type))) return true
  const { audio, reasoning } = message.additional_kwargs as Fields
  if (audio != null) return true
  const isResponses = 'max_output_tokens' in params
  return isResponses && [...(outputOf(message) ?? []), ...(reasoning == null ? [] : [reasoning as Fields])].some(isReference)
}

/** Reasoning by its id is longer than what the client was shown of it; what hosted tools found is, too. */
function isReference({ type, encrypted_content: sealed }: Fields): boolean {
  if (type === 'reasoning' || type === undefined) return typeof sealed !== 'string'
  return typeof type !== 'string' || !PLAIN_ITEMS.has(type)
}
