// The Messages API of Anthropic, and of who speaks it.

import { boundAnthropicRequest, paysForCodeExecution } from '../../src/metering/worst-case/anthropic.ts'
import { readAnthropicUsage } from '../../src/metering/usage/anthropic.ts'
import { eventOf, finding, type Body, type Finding, type Wire } from './wire.ts'

/** Events with usage, and the end; a cheap look that spares parsing the others. */
const KEY_EVENT = /"type":\s*"message_(?:start|delta|stop)"/

/** `POST …/v1/messages`. */
export const messages: Wire = {
  name: 'anthropic-messages',
  modelOf: ({ body }) => ({ id: String(body['model']), serviceTier: tierOf(undefined, body) }),
  bound: ({ body, bytes, headers }, options) => boundAnthropicRequest(body, bytes, options, betasOf(headers)),
  prepare: (body, cap) => (cap === undefined ? body : { ...body, max_tokens: cap }),
  isStream: ({ body }) => body['stream'] === true,
  findIn: ({ id, usage }, original) => findInUsage(usage, id, original),
  events(original) {
    let id: unknown
    let usage: Body = {}
    let stopped = false
    let counted = false
    let ended = false
    let found: Finding | undefined
    return {
      get found() {
        return found
      },
      get ended() {
        return ended
      },
      look(data) {
        if (!KEY_EVENT.test(data)) return true
        const { type, message, delta, usage: newer } = eventOf(data) ?? {}
        if (type === 'message_start') {
          const started = asBody(message)
          id = started['id']
          usage = asBody(started['usage'])
        } else if (type === 'message_delta') {
          // Its numbers are sums up to here, so the last of each stands; the one with the reason to stop is complete.
          usage = { ...usage, ...withoutNulls(asBody(newer)) }
          stopped ||= asBody(delta)['stop_reason'] != null
          // The output that the start of an answer counts is what there is before it has begun.
          counted ||= asBody(newer)['output_tokens'] != null
          if (stopped && counted) found = findInUsage(usage, id, original) ?? found
        } else if (type === 'message_stop') ended = true
        return true
      },
    }
  },
}

function findInUsage(reported: unknown, id: unknown, original: Body): Finding | undefined {
  const usage = readAnthropicUsage(reported)
  if (usage === undefined) return undefined
  // Billed by time, and counted by nobody: one call where the request pays for it, whatever the answer says.
  const { code_execution: _counted, ...others } = usage.toolCalls
  const toolCalls = paysForCodeExecution(original) ? { ...others, code_execution: 1 } : others
  return finding({ ...usage, toolCalls }, id, tierOf(asBody(reported), original))
}

/**
 * What makes a call cost more or less than the model's price, as the key of that price has it: `fast-mode`, `us`,
 * `fast-mode+us`, `priority`. What the answer does not say is as the request asked.
 *
 * @returns Without an answer `undefined` for the ordinary price, and with one `standard`.
 * @see https://platform.claude.com/docs/en/build-with-claude/fast-mode (looked up 2026-11-22)
 * @see https://platform.claude.com/docs/en/manage-claude/data-residency (looked up 2026-11-22)
 */
function tierOf(usage: Body | undefined, asked: Body): string | undefined {
  const speed = usage?.['speed'] ?? asked['speed'] ?? 'standard'
  const geo = usage?.['inference_geo'] ?? asked['inference_geo'] ?? 'global'
  // What a request says of its tier is whom it lets serve it, not a price.
  const tier = usage?.['service_tier'] ?? 'standard'
  const parts = [
    ...(tier === 'standard' ? [] : [wordOf(tier)]),
    ...(speed === 'standard' ? [] : [`${wordOf(speed)}-mode`]),
    ...(geo === 'global' || geo === 'not_available' ? [] : [wordOf(geo)]),
  ]
  return parts.length > 0 ? parts.join('+') : usage && 'standard'
}

/** What is no word has no price under any name. */
function wordOf(value: unknown): string {
  return typeof value === 'string' ? value : 'unknown'
}

/** What the `anthropic-beta` header lists. */
export function betasOf(headers: Headers): readonly string[] {
  return (headers.get('anthropic-beta') ?? '').split(',').map((beta) => beta.trim())
}

function asBody(value: unknown): Body {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Body) : {}
}

function withoutNulls(fields: Body): Body {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null))
}
