// Chat completions, as OpenAI defines them and most others speak them.

import { boundChatRequest } from '../../src/metering/worst-case/openai.ts'
import { readChatUsage } from '../../src/metering/usage/openai.ts'
import { eventOf, finding, modelInBody, type Body, type Finding, type Wire } from './wire.ts'

/** `POST …/chat/completions`. */
export const chat: Wire = {
  name: 'chat',
  modelOf: modelInBody,
  bound: ({ body, bytes }, options) => boundChatRequest(body, bytes, options),
  prepare(body, cap, capField) {
    const capped = cap === undefined ? body : { ...withoutCaps(body), [capField]: cap }
    if (body['stream'] !== true || asksForUsage(body)) return capped
    return { ...capped, stream_options: { ...(body['stream_options'] as Body | null | undefined), include_usage: true } }
  },
  isStream: ({ body }) => body['stream'] === true,
  findIn,
  events(original) {
    let found: Finding | undefined
    let ended = false
    return {
      get found() {
        return found
      },
      get ended() {
        return ended
      },
      look(data) {
        ended ||= data === '[DONE]'
        // A cheap look that spares parsing the others.
        if (!data.includes('"usage"') || /"usage":\s*null/.test(data)) return true
        const event = eventOf(data)
        if (event === undefined) return true
        found = findIn(event) ?? found
        const { choices } = event
        return asksForUsage(original) || !Array.isArray(choices) || choices.length > 0
      },
    }
  },
}

function findIn({ usage, id, service_tier: tier }: Body): Finding | undefined {
  return finding(readChatUsage(usage), id, tier)
}

function asksForUsage(body: Body): boolean {
  return (body['stream_options'] as Body | null | undefined)?.['include_usage'] === true
}

function withoutCaps({ max_tokens: _old, max_completion_tokens: _new, ...rest }: Body): Body {
  return rest
}
