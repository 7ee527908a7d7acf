// The most that a chat completion or a request to Responses can use, read from its body.

import { asFields, type Fields } from '../usage/disjoint.ts'
import { asList, bodyFields } from './body.ts'
import { namesCache, refuseSwitches } from './switches.ts'
import { boundFacts, uncounted, type BoundOptions, type RequestBound, type RequestFacts } from './bound.ts'

/** Most choices in one request; the largest `n` that OpenAI documents. */
export const MAX_CHOICES = 128

/** What a walk through a request has found. */
interface Found {
  named: boolean
  inputAudio: boolean
  readonly hosted: Set<string>
}

/**
 * Bounds a chat completion of the OpenAI API.
 *
 * Its answers do not say how often a hosted tool ran, so a request with one could not be settled: refused.
 *
 * @param body The parsed JSON of the request.
 * @param bytes Length of that JSON as it is sent, in UTF-8 bytes. Byte-level tokenizers make no more tokens.
 * @throws {Refusal} `ERR_UNMETERED` when something in it has no bound, saying what to set.
 * @throws {TypeError | RangeError} When a cap or a number of choices is not one that a provider accepts.
 */
export function boundChatRequest(body: unknown, bytes: number, options: BoundOptions = {}): RequestBound {
  const fields = bodyFields(body)
  refuseSwitches(fields)
  const found: Found = { named: namesCache(fields), inputAudio: false, hosted: new Set() }
  for (const message of asList(fields['messages'])) scanMessage(message, found)
  scanTools(fields['tools'], found)
  // Fields of OpenAI and xAI that switch a search on.
  for (const field of ['web_search_options', 'search_parameters']) if (fields[field] != null) found.hosted.add('web_search')
  const facts = factsOf(fields, found)
  if (found.hosted.size > 0) throw uncounted(facts.model, facts.hostedTools)
  const { max_tokens, max_completion_tokens } = fields
  const choices = readChoices(fields['n'])
  return boundFacts(
    { ...facts, caps: { max_tokens, max_completion_tokens }, choices, predicts: fields['prediction'] != null },
    bytes,
    options,
  )
}

/**
 * Bounds a request to the OpenAI Responses API.
 *
 * Hosted tools make one request many turns, each of which reads the context again: their bound is
 * `max_tool_calls`, and a request without it is refused. What a stored `prompt` adds in tools is not seen.
 *
 * @param body The parsed JSON of the request.
 * @param bytes Length of that JSON as it is sent, in UTF-8 bytes. Byte-level tokenizers make no more tokens.
 * @throws {Refusal} `ERR_UNMETERED` when something in it has no bound, saying what to set.
 * @throws {TypeError | RangeError} When a cap is not one that a provider accepts.
 */
export function boundResponsesRequest(body: unknown, bytes: number, options: BoundOptions = {}): RequestBound {
  const fields = bodyFields(body)
  refuseSwitches(fields)
  const found: Found = { named: false, inputAudio: false, hosted: new Set() }
  for (const item of asList(fields['input'])) scanItem(item, found)
  scanTools(fields['tools'], found)
  if (['previous_response_id', 'conversation', 'prompt', 'context_management'].some((field) => fields[field] != null)) found.named = true
  const { max_output_tokens, max_tool_calls } = fields
  return boundFacts({ ...factsOf(fields, found), caps: { max_output_tokens }, maxToolCalls: max_tool_calls }, bytes, options)
}

/** What both formats say in the same words. */
function factsOf(fields: Fields, { named, inputAudio, hosted }: Found): Omit<RequestFacts, 'caps'> {
  const { model, tools, modalities } = fields
  return {
    model: typeof model === 'string' ? model : '',
    named,
    hostedTools: [...hosted],
    hasTools: asList(tools).length > 0,
    inputAudio,
    outputAudio: asList(modalities).includes('audio'),
  }
}

/** A number that a provider will reject still gets a bound; one that no provider documents is a mistake of the caller. */
function readChoices(n: unknown): number {
  const choices = n ?? 1
  if (typeof choices !== 'number' || !(Math.abs(choices) <= MAX_CHOICES))
    throw new TypeError(`Expected \`n\` to be a number of choices up to ${MAX_CHOICES}, got \`${JSON.stringify(n)?.slice(0, 40)}\`.`)
  return Math.max(1, Math.ceil(choices))
}

// Lists of what is known to be text, since a kind of content that is new tomorrow must not count as free.
const WIRE_TEXT_PARTS = new Set(['text', 'input_text', 'output_text', 'refusal', 'summary_text', 'reasoning_text'])

function scanMessage(message: unknown, found: Found): void {
  const fields = asFields(message)
  scanContent(fields?.['content'], found)
  if (fields?.['audio'] == null) return
  // An assistant's earlier answer in audio, sent back by its id.
  found.named = true
  found.inputAudio = true
}

function scanContent(content: unknown, found: Found): void {
  for (const part of asList(content)) {
    if (typeof part === 'string') continue
    const type = asFields(part)?.['type']
    if (typeof type !== 'string' || !WIRE_TEXT_PARTS.has(type)) found.named = true
    if (type === 'input_audio') found.inputAudio = true
  }
}

function scanItem(item: unknown, found: Found): void {
  const fields = asFields(item)
  switch (fields?.['type']) {
    case undefined:
    case 'message':
      if (typeof fields?.['role'] !== 'string') found.named = true
      return scanContent(fields?.['content'], found)
    case 'function_call':
    case 'custom_tool_call':
      return
    case 'function_call_output':
    case 'custom_tool_call_output':
      return scanContent(fields?.['output'], found)
    case 'additional_tools':
      return scanTools(fields?.['tools'], found)
    case 'reasoning':
      // Encrypted reasoning is longer than its tokens; reasoning by id is only a name.
      if (typeof fields?.['encrypted_content'] !== 'string' && asList(fields?.['content']).length === 0) found.named = true
      return
    default:
      found.named = true
  }
}

function scanTools(tools: unknown, found: Found): void {
  for (const tool of asList(tools)) {
    const type = asFields(tool)?.['type']
    if (type === 'function' || type === 'custom') continue
    found.hosted.add(typeof type === 'string' ? hostedName(type) : 'unknown')
  }
}

/** The name that calls of a tool have in an answer: `web_search_preview_2025_03_11` makes `web_search_call` items. */
export function hostedName(type: string): string {
  const name = type.replace(/_\d{4}_\d{2}_\d{2}$/, '').replace(/_preview$/, '')
  return name === 'computer_use' ? 'computer' : name.slice(0, 64)
}
