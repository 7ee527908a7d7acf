// The Responses API of OpenAI, and of who speaks it.

import { boundResponsesRequest } from '../../src/metering/worst-case/openai.ts'
import { readResponsesUsage } from '../../src/metering/usage/openai.ts'
import { eventOf, finding, modelInBody, type Body, type Finding, type Wire } from './wire.ts'

const LAST_EVENT = /"type":\s*"response\.(?:completed|incomplete|failed)"/

/** `POST …/responses`. */
export const responses: Wire = {
  name: 'responses',
  modelOf: modelInBody,
  bound: ({ body, bytes }, options) => boundResponsesRequest(body, bytes, options),
  prepare: (body, cap) => (cap === undefined ? body : { ...body, max_output_tokens: cap }),
  isStream: ({ body }) => body['stream'] === true,
  findIn,
  events() {
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
        if (!LAST_EVENT.test(data)) return true
        ended = true
        const response = eventOf(data)?.['response']
        if (typeof response === 'object' && response !== null) found = findIn(response as Body) ?? found
        return true
      },
    }
  },
}

function findIn({ usage, output, id, service_tier: tier }: Body): Finding | undefined {
  return finding(readResponsesUsage(usage, output), id, tier)
}
