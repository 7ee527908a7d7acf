// How the simulated provider writes an answer down in the Messages format of Anthropic, streamed or not.
// Format: https://platform.claude.com/docs/en/build-with-claude/streaming (looked up 2026-11-22). Unlike the real one it
// takes a request without `max_tokens`, so that the cap which a guard adds can be told from none.

import { newId } from '../lib/ids.ts'
import { piecesOf, type AnswerWriter, type Plan, type WireFault } from './provider-answers.ts'

/** Writes answers of `POST /v1/messages`. */
export const messagesWriter: AnswerWriter = {
  bodyOf: messageOf,
  framesOf: messageFramesOf,
  streamType: 'text/event-stream; charset=utf-8',
  faultBodyOf: messagesErrorOf,
}

function messageOf(plan: Plan): object {
  return { ...headOf(plan), content: blocksOf(plan), stop_reason: stopOf(plan), stop_sequence: null, usage: usageOf(plan) }
}

/** The input is reported at the start, the output at its end. */
function messageFramesOf(plan: Plan): string[] {
  const event = (type: string, members: object = {}): string => `event: ${type}\ndata: ${JSON.stringify({ type, ...members })}\n\n`
  const started = { ...usageOf(plan), output_tokens: plan.told ? 1 : 0, output_tokens_details: null }
  const frames = [
    event('message_start', { message: { ...headOf(plan), content: [], stop_reason: null, stop_sequence: null, usage: started } }),
    event('ping'),
  ]
  for (const [index, block] of blocksOf(plan).entries()) {
    const bare = block.type === 'text' ? { ...block, text: '' } : { ...block, input: {} }
    const text = block.type === 'text' ? block.text : plan.calls[index - (plan.text === undefined ? 0 : 1)]!.arguments
    frames.push(event('content_block_start', { index, content_block: bare }))
    for (const piece of piecesOf(text)) {
      const delta = block.type === 'text' ? { type: 'text_delta', text: piece } : { type: 'input_json_delta', partial_json: piece }
      frames.push(event('content_block_delta', { index, delta }))
    }
    frames.push(event('content_block_stop', { index }))
  }
  const { output_tokens, output_tokens_details } = usageOf(plan)
  const usage = { output_tokens, output_tokens_details }
  return [...frames, event('message_delta', { delta: { stop_reason: stopOf(plan), stop_sequence: null }, usage }), event('message_stop')]
}

function messagesErrorOf(status: number, { message }: WireFault): object {
  const types: Readonly<Record<number, string>> = { 400: 'invalid_request_error', 429: 'rate_limit_error', 529: 'overloaded_error' }
  const type = types[status] ?? (status >= 500 ? 'api_error' : 'invalid_request_error')
  return { type: 'error', error: { type, message }, request_id: null }
}

function headOf({ id, model }: Plan): object {
  return { id, type: 'message', role: 'assistant', model }
}

type Block =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'tool_use'; readonly id: string; readonly name: string; readonly input: unknown }

function blocksOf({ text, calls }: Plan): readonly Block[] {
  const asked = calls.map(({ name, arguments: args }): Block => ({ type: 'tool_use', id: `toolu_${newId()}`, name, input: parsed(args) }))
  return text === undefined ? asked : [{ type: 'text', text }, ...asked]
}

/** Arguments that were cut or are broken by script: as text, where the real one leaves an object that is not complete. */
function parsed(args: string): unknown {
  try {
    return JSON.parse(args)
  } catch {
    return args
  }
}

function stopOf({ cut, calls }: Plan): string {
  if (cut) return 'max_tokens'
  return calls.length > 0 ? 'tool_use' : 'end_turn'
}

/** The real one always has this object; where nothing is told, its counts are zero. */
function usageOf({ told, usage, serviceTier }: Plan) {
  const { inputTokens, cachedTokens, outputTokens, reasoningTokens } = usage
  const of = (tokens: number): number => (told ? tokens : 0)
  return {
    input_tokens: of(inputTokens - cachedTokens),
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: of(cachedTokens),
    cache_creation: { ephemeral_5m_input_tokens: 0, ephemeral_1h_input_tokens: 0 },
    output_tokens: of(outputTokens),
    output_tokens_details: { thinking_tokens: of(reasoningTokens) },
    server_tool_use: null,
    service_tier: serviceTier === 'default' ? 'standard' : serviceTier,
    inference_geo: 'not_available',
  }
}
