// The worst case of an AI SDK call, from its parameters: what a provider makes of them is not visible here, so
// the bound leaves room for the wire format of any.

import type { LanguageModelV4CallOptions, LanguageModelV4Message } from '@ai-sdk/provider'
import { priceKey, type RequestFacts } from '../../src/metering/worst-case/bound.ts'
import { hostedName } from '../../src/metering/worst-case/openai.ts'

/** Room for field names and brackets that a provider adds, in bytes, and as a part of the whole. */
const WIRE_BYTES = 1_024
const WIRE_SHARE = 0.25

/** Parts of a prompt that are text on the wire; whatever is not listed may cost more tokens than it has bytes. */
const PROMPT_TEXT_PARTS = new Set(['text', 'reasoning', 'tool-call', 'tool-result', 'tool-approval-response'])

/** Provider options that refer to what the provider has, or let it add to the context. */
const OPAQUE_OPTIONS = ['previousResponseId', 'conversation', 'contextManagement', 'compactionTrigger']

/** Provider options that beat `maxOutputTokens`; OpenAI-compatible providers pass on what they do not know. */
const CAP_OPTIONS: readonly string[] = ['maxCompletionTokens', 'max_completion_tokens', 'max_tokens', 'max_output_tokens']

/** Chat models of OpenAI itself, which read one such option and answer 400 when both caps are on the wire. */
const OPENAI_CHAT = /^(?:openai|azure)[\w-]*\.chat$/

/** Models whose format has no references to items that the provider has stored. */
const WITHOUT_REFERENCES = /\.(?:chat|completion|messages)$/

type Fields = Readonly<Record<string, unknown>>

/** A model, as far as its name says what it reads. */
export interface NamedModel {
  readonly modelId: string
  /** As the AI SDK names it, such as `openai.responses`. */
  readonly provider: string
}

/** What bounds a call. */
export interface PromptBound {
  /** What was asked, to be hashed. */
  readonly text: string
  /** At least as many as the request has on the wire. */
  readonly bytes: number
  readonly facts: RequestFacts
  readonly serviceTier: string | undefined
}

/** Reads the parameters of a call. */
export function boundPrompt(model: NamedModel, params: LanguageModelV4CallOptions): PromptBound {
  const { prompt, tools = [], responseFormat, providerOptions } = params
  // Files are bounded by the context window; their bytes would only make a long text for the hash.
  const text = JSON.stringify({ prompt, tools, responseFormat, providerOptions }, (_key, value: unknown) =>
    value instanceof Uint8Array ? `${value.length} bytes` : value,
  )
  const bytes = Buffer.byteLength(text)
  const read = optionsRead(model, params)
  const any = (field: string): boolean => read.some((options) => options[field] != null)
  const hosted = tools.flatMap((tool) => (tool.type === 'function' ? [] : hostedNameOf(tool.id)))
  const facts = {
    model: model.modelId,
    caps: capsOf(model, params),
    maxToolCalls: leastLimited(openaiOptions(model, params).map((options) => options['maxToolCalls'])),
    named: OPAQUE_OPTIONS.some(any) || prompt.some((message) => isOpaque(message, model, params)),
    hostedTools: [...new Set(hosted)],
    hasTools: tools.length > 0,
    predicts: any('prediction'),
  }
  return { text, bytes: wireBytes(bytes), facts, serviceTier: dearestTier(model.modelId, read) }
}

/** At least as many bytes as a provider's request has that is made from so many bytes of parameters. */
export function wireBytes(bytes: number): number {
  return bytes + Math.ceil(bytes * WIRE_SHARE) + WIRE_BYTES
}

/** The name under which a provider's tool is counted; none for OpenAI's `custom`, whose calls the caller answers. */
export function hostedNameOf(id: string): readonly string[] {
  const type = id.slice(id.indexOf('.') + 1)
  return type === 'custom' ? [] : [hostedName(type)]
}

/** The parameters to send: no cap in them, wherever a provider looks for one, is above `cap` tokens. */
export function capped(model: NamedModel, params: LanguageModelV4CallOptions, cap: number): LanguageModelV4CallOptions {
  const { maxOutputTokens, providerOptions, ...rest } = params
  if (providerOptions === undefined || optionCaps(model, params).length === 0) return { ...params, maxOutputTokens: cap }
  const stays = OPENAI_CHAT.test(model.provider)
  const clamped = Object.entries(providerOptions).map(([name, options]) => {
    if (!isRead(model, name)) return [name, options] as const
    const fields = Object.entries(options).flatMap(([field, value]) => {
      if (!CAP_OPTIONS.includes(field) || value == null) return [[field, value] as const]
      return stays && typeof value === 'number' ? [[field, Math.min(value, cap)] as const] : []
    })
    return [name, Object.fromEntries(fields)] as const
  })
  const sent = { ...rest, providerOptions: Object.fromEntries(clamped) }
  // Where nobody knows whether the option is read, the cap moves to where every provider reads it.
  if (!stays) return { ...sent, maxOutputTokens: cap }
  return maxOutputTokens === undefined ? sent : { ...sent, maxOutputTokens: Math.min(maxOutputTokens, cap) }
}

function capsOf(model: NamedModel, params: LanguageModelV4CallOptions): Fields {
  const { maxOutputTokens } = params
  // Not sent where `maxOutputTokens` is, see `capped`.
  const inOptions = maxOutputTokens !== undefined && !OPENAI_CHAT.test(model.provider) ? [] : optionCaps(model, params)
  return { maxOutputTokens, ...Object.fromEntries(inOptions) }
}

/** Caps in the provider options, each with the place where it stands. */
function optionCaps(model: NamedModel, { providerOptions = {} }: LanguageModelV4CallOptions): readonly (readonly [string, unknown])[] {
  const fields = OPENAI_CHAT.test(model.provider) ? ['maxCompletionTokens'] : CAP_OPTIONS
  return Object.entries(providerOptions)
    .filter(([name]) => isRead(model, name))
    .flatMap(([name, options]) => fields.map((field) => [`providerOptions.${name}.${field}`, options[field]] as const))
    .filter(([, cap]) => cap != null)
}

/** All that the model may read. */
function optionsRead(model: NamedModel, { providerOptions = {} }: LanguageModelV4CallOptions): readonly Fields[] {
  return Object.entries(providerOptions).flatMap(([name, options]) => (isRead(model, name) ? [options] : []))
}

/** Those for OpenAI's API. Models on Azure read the first of the two, or both merged; so the worse of both counts. */
function openaiOptions(model: NamedModel, { providerOptions = {} }: LanguageModelV4CallOptions): readonly Fields[] {
  return ['azure', 'openai'].flatMap((name) => {
    const options = providerOptions[name]
    return options !== undefined && isRead(model, name) ? [options] : []
  })
}

function isRead({ provider }: NamedModel, name: string): boolean {
  // A provider that is called `my-gateway` reads `myGateway`, too.
  const plain = (text: string): string => text.replaceAll(/[-_]/g, '').toLowerCase()
  return name === 'openai' || (name === 'azure' && provider.includes('azure')) || plain(name) === plain(provider.split('.', 1)[0]!)
}

/** A limit that is not in every place may be in none that is read. */
function leastLimited(limits: readonly unknown[]): unknown {
  if (limits.some((limit) => limit == null)) return undefined
  return limits.reduce((most, limit) => (typeof limit === 'number' && limit <= Number(most) ? most : limit), limits[0])
}

function dearestTier(modelId: string, read: readonly Fields[]): string | undefined {
  const tiers = read.flatMap(({ serviceTier, service_tier }) => [serviceTier, service_tier]).filter((tier) => typeof tier === 'string')
  return tiers.find((tier) => priceKey(modelId, tier) !== modelId) ?? tiers[0]
}

function isOpaque({ role, content }: LanguageModelV4Message, model: NamedModel, params: LanguageModelV4CallOptions): boolean {
  if (typeof content === 'string') return false
  const options = openaiOptions(model, params)
  const stored = options.length === 0 || options.some(({ store }) => store !== false)
  const hosted = new Set((params.tools ?? []).flatMap((tool) => (tool.type === 'function' ? [] : tool.name)))
  return content.some((part) => {
    if (!PROMPT_TEXT_PARTS.has(part.type)) return true
    // A tool's result may be made of parts itself, files among them.
    if (part.type === 'tool-result' && part.output.type === 'content') return true
    return !WITHOUT_REFERENCES.test(model.provider) && isReference(role, part, stored, hosted)
  })
}

type Part = Exclude<LanguageModelV4Message['content'], string>[number]

/**
 * Whether a part may be sent as the id of something that the provider has: an item that it stored, or what one
 * of its own tools did. It may be longer than what the client was shown of it, as reasoning always is.
 */
function isReference(role: string, part: Part, stored: boolean, hosted: ReadonlySet<string>): boolean {
  const items = Object.values(part.providerOptions ?? {}).filter(({ itemId }) => itemId != null)
  switch (part.type) {
    case 'text':
      return stored && items.length > 0
    case 'reasoning':
      // Encrypted, it is longer than its tokens.
      return items.some(({ reasoningEncryptedContent: sealed }) => stored || typeof sealed !== 'string')
    case 'tool-call':
      return part.providerExecuted === true || hosted.has(part.toolName)
    case 'tool-result':
      // What hosted tools found is the assistant's; what the caller's own tools did is sent as it is.
      return role === 'assistant' || hosted.has(part.toolName)
    default:
      return true
  }
}
