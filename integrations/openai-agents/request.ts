// The worst case of a request of the Agents SDK whose HTTP cannot be seen: what its model makes of it is not visible
// here, so the bound leaves room for the wire format.

import type { ModelRequest, ModelSettings } from '@openai/agents'
import { priceKey, unmetered, type RequestFacts } from '../../src/metering/worst-case/bound.ts'

/** Room for field names and brackets that a model adds, in bytes, and as a part of the whole. */
const WIRE_BYTES = 1_024
const WIRE_SHARE = 0.25

/** Output caps that stand where a model passes on what it is given. They beat `maxTokens` in a chat completion. */
const CAPS: readonly string[] = ['max_tokens', 'max_completion_tokens', 'max_output_tokens']

/** Where the SDK takes fields of the body from, beside the settings themselves. */
const BODIES = ['extraBody', 'extra_body'] as const

/** Parts that are text on the wire; whatever is not listed may cost more tokens than it has bytes. */
const TEXT_PARTS = new Set(['input_text', 'output_text', 'text', 'refusal', 'reasoning_text', 'summary_text'])
const TEXT_ITEMS = new Set(['message', 'function_call', 'function_call_result'])

/** Tools whose calls the application answers with code of its own, which the SDK declares as functions. */
const FUNCTION_TOOLS = new Set(['function'])

type Fields = Readonly<Record<string, unknown>>

/** What bounds a call. */
export interface CallBound {
  /** What was asked, to be hashed. */
  readonly text: string
  /** At least as many as the request has on the wire. */
  readonly bytes: number
  readonly facts: RequestFacts
}

/**
 * Reads a request.
 *
 * @throws {Refusal} `ERR_UNMETERED` for hosted tools: their answers are only counted where the HTTP is seen.
 */
export function boundRequest(model: string, request: ModelRequest): CallBound {
  const { systemInstructions, input, tools, handoffs, outputType, prompt, modelSettings, previousResponseId, conversationId } = request
  const { retry: _retry, ...settings } = modelSettings
  const text = JSON.stringify({ systemInstructions, input, tools, handoffs, outputType, prompt, settings })
  const bytes = Buffer.byteLength(text)
  const bodies = bodiesOf(modelSettings)
  const any = (...fields: string[]): boolean => bodies.some((body) => fields.some((field) => body[field] != null))
  const hosted = tools.filter(({ type }) => !FUNCTION_TOOLS.has(type)).map(({ name }) => name)
  const searches = any('web_search_options', 'search_parameters', 'plugins')
  return {
    text,
    bytes: bytes + Math.ceil(bytes * WIRE_SHARE) + WIRE_BYTES,
    facts: {
      model,
      caps: Object.fromEntries([['maxTokens', modelSettings.maxTokens], ...capsIn(bodies)]),
      named:
        previousResponseId != null ||
        conversationId != null ||
        prompt != null ||
        modelSettings.contextManagement != null ||
        any('previous_response_id', 'conversation', 'prompt', 'context_management', 'input', 'messages') ||
        (typeof input !== 'string' && input.some(isOpaque)),
      hostedTools: assertNone(
        [...hosted, ...(searches ? ['web_search'] : []), ...(any('tools') ? ['tools of `providerData`'] : [])],
        model,
      ),
      hasTools: tools.length + handoffs.length > 0,
      predicts: any('prediction'),
      choices: choicesOf(bodies),
    },
  }
}

/** The settings to send: no cap in them, wherever a model looks for one, is above `cap` tokens. */
export function cappedSettings(settings: ModelSettings, cap: number): ModelSettings {
  const { providerData, maxTokens } = settings
  if (capsIn(bodiesOf(settings)).length === 0) return { ...settings, maxTokens: cap }
  const bodies = BODIES.flatMap((name) => {
    const body = asFields((providerData as Fields)[name])
    return body === undefined ? [] : [[name, withCap(body, cap)] as const]
  })
  return {
    ...settings,
    ...(maxTokens === undefined ? {} : { maxTokens: Math.min(maxTokens, cap) }),
    providerData: { ...withCap(providerData as Fields, cap), ...Object.fromEntries(bodies) },
  }
}

/** A cap stays in the field where it stands, since some models know only that one. */
function withCap(fields: Fields, cap: number): object {
  const clamped = CAPS.filter((name) => fields[name] != null).map((name) => [name, Math.min(Number(fields[name]), cap)])
  return { ...fields, ...Object.fromEntries(clamped) }
}

function bodiesOf({ providerData }: ModelSettings): readonly Fields[] {
  const fields = asFields(providerData)
  return fields === undefined ? [] : [fields, ...BODIES.map((name) => asFields(fields[name])).filter((body) => body !== undefined)]
}

function capsIn(bodies: readonly Fields[]): (readonly [string, unknown])[] {
  return bodies.flatMap((body, index) => CAPS.map((cap) => [`${index}.${cap}`, body[cap]] as const).filter(([, value]) => value != null))
}

/** As many as the largest `n` asks for; a number that no provider takes is an error of its own there. */
function choicesOf(bodies: readonly Fields[]): number {
  const asked = bodies.flatMap(({ n }) => (typeof n === 'number' && Number.isFinite(n) ? [Math.ceil(n)] : []))
  return Math.max(1, ...asked)
}

function assertNone(hosted: readonly string[], model: string): readonly string[] {
  if (hosted.length === 0) return []
  throw unmetered(
    `\`${model}\` would use hosted tools (${hosted.join(', ')}), and how often it did is not said where its HTTP is not seen`,
    'Use the Responses API over HTTP: new OpenAIProvider({ useResponses: true })',
  )
}

function isOpaque(item: unknown): boolean {
  const { type = 'message', content, output } = item as { type?: string; content?: unknown; output?: unknown }
  if (!TEXT_ITEMS.has(type)) return true
  const parts = [content, output].flatMap((value) =>
    Array.isArray(value) ? (value as unknown[]) : typeof value === 'object' ? [value] : [],
  )
  return parts.some((part) => part != null && !TEXT_PARTS.has(String(asFields(part)?.['type'])))
}

function asFields(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined
}

/** The service tier that a request asks for; the dearest where it says several. */
export function tierOf(model: string, settings: ModelSettings): string | undefined {
  const tiers = bodiesOf(settings).flatMap(({ service_tier: tier }) => (typeof tier === 'string' ? [tier] : []))
  return tiers.find((tier) => priceKey(model, tier) !== model) ?? tiers[0]
}
